"""The audit in SQL: what was found and written, newest first."""

from __future__ import annotations

from collections.abc import Sequence

from fairlead.state.audit import Audited, AuditQuery
from fairlead.state.sql_base import SQLBase
from fairlead.state.tables import AUDIT, Query


class SQLAudit(SQLBase):
    """The part of `state.base.Store` that tells what happened."""

    async def audit(self, query: AuditQuery, *, before: int | None = None, limit: int = 500) -> list[Audited]:
        """See `Store.audit`."""
        found: dict[int, Audited] = {}
        where, values = _narrowed(query, before)
        end = f"{where} ORDER BY a.id DESC LIMIT {limit}"
        if not query.records:
            queries = [Query(f"SELECT {_COLUMNS} FROM audit a WHERE {end}", values)]
        else:
            numbers = (list(query.records), *values)
            queries = [  # entries about one record, and those about many
                Query(f"SELECT {_COLUMNS} FROM {self.NUMBERS} audit a ON {about} WHERE {end}", numbers)
                for about in ("a.record = j.value", "a.lowest <= j.value AND a.record > j.value")
            ] + [
                Query(f"SELECT {_COLUMNS} FROM audit a WHERE {about} AND a.at <= ? AND {end}", (*which, until, *values))
                for number, until in query.former
                for about, which in (("a.record = ?", (number,)), ("a.lowest <= ? AND a.record > ?", (number, number)))
            ]
        for rows in await self._fetch(*queries):
            found |= {row[0]: self._rows.audited(row) for row in rows}
        return [found[number] for number in sorted(found, reverse=True)[:limit]]

    async def audited(self, run: str, *, after: int, limit: int = 500) -> list[int]:
        """See `Store.audited`."""
        query = "SELECT DISTINCT record FROM audit WHERE run = ? AND record > ? AND lowest IS NULL ORDER BY record"
        return [row[0] for row in await self._all(f"{query} LIMIT {limit}", run, after)]

    async def names(self, records: Sequence[int]) -> dict[int, dict[str, str]]:
        """See `Store.names`."""
        slots = self._rows.slots
        keys = ", ".join(f"r.k{slots[name]}" for name in self._rows.layout.systems)
        alive, buried = await self._fetch(
            Query(f"SELECT r.id, {keys} FROM {self.NUMBERS} record r ON r.id = j.value", (list(records),)),
            Query(
                f"SELECT t.record, t.system, t.key FROM {self.NUMBERS} tombstone t ON t.record = j.value ORDER BY t.at",
                (list(records),),
            ),
        )
        names: dict[int, dict[str, str]] = {}
        for record, system, key in buried:
            names.setdefault(record, {})[system] = key
        for record, *its in alive:
            here = {name: key for name, key in zip(self._rows.layout.systems, its, strict=True) if key is not None}
            names[record] = {**names.get(record, {}), **here}
        return names


_COLUMNS = ", ".join(f"a.{name}" for name in AUDIT.columns)


def _narrowed(query: AuditQuery, before: int | None) -> tuple[str, tuple[object, ...]]:
    """A condition on `audit a`, and its values."""
    conditions: list[tuple[str, tuple[object, ...]]] = [("1 = 1", ())]
    if query.since:
        conditions.append(("a.at >= ?", (query.since,)))
    if before is not None:
        conditions.append(("a.id < ?", (before,)))
    if query.system:
        conditions.append(("(a.system = ? OR a.winner = ?)", (query.system, query.system)))
    exact = {"run": query.run, "field": query.field, "kind": query.kind}
    conditions += [(f"a.{name} = ?", (wanted,)) for name, wanted in exact.items() if wanted]
    return " AND ".join(text for text, _ in conditions), tuple(value for _, its in conditions for value in its)
