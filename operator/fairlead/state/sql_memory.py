"""What runs remember, in SQL: records, and what is open about them."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Collection, Sequence
from itertools import chain, islice

from fairlead.engine.case import Side
from fairlead.engine.fingerprint import WIDTH
from fairlead.model.record import Value
from fairlead.state.base import (
    DISCARDED,
    LONGEST_OUTAGE,
    Commit,
    Conflict,
    DeadLetter,
    Intent,
    Known,
    Recollection,
    Undelivered,
)
from fairlead.state.history import Counts, RunRecord
from fairlead.state.marks import Marks
from fairlead.state.place import Place, reservation
from fairlead.state.referring import Orphan
from fairlead.state.requests import Answer, Request
from fairlead.state.rows import run_of, run_row
from fairlead.state.sql_base import PAGE, SQLBase
from fairlead.state.tables import APART, CONFLICT, DEAD, MATCH, ORPHAN, PENDING, RUN, Drop, Query, Row, Step, whole

NUMBERED = "numbered"
"""Fact in the store: the greatest number of a record when a person was erased: whoever referred to that one by it does
not refer to a new one."""

_MARKED_PAGE = 20_000
_RUNS = 100
_TICK = 0.001
_ANSWER_SECONDS = 86400.0


class SQLMemory(SQLBase):
    """The part of `state.base.Store` that runs need."""

    def __init__(self) -> None:
        super().__init__()
        self._any_apart: bool | None = None
        """None before it was looked up."""

    # --- reads ---

    async def lookup(self, system: str, keys: Sequence[str]) -> Known:
        """See `Store.lookup`."""
        n = self._rows.slots[system]
        known = Known([None] * len(keys), [None] * len(keys))
        query = f"SELECT j.key, r.id, r.r{n} FROM {self.TEXTS} record r ON r.k{n} = j.value"
        for position, record, row in await self._all(query, list(keys)):
            known.records[position], known.rows[position] = record, row
        return known

    async def recall(self, records: Sequence[int]) -> dict[int, Recollection]:
        """See `Store.recall`."""
        wanted, numbers = (list(records),), self.NUMBERS
        rows, pending, frozen = await self._fetch(
            Query(f"SELECT {self._rows.record_columns} FROM {numbers} record r ON r.id = j.value", wanted),
            Query(f"SELECT {_PENDING} FROM {numbers} pending p ON p.record = j.value", wanted),
            Query(f"SELECT {_CONFLICT} FROM {numbers} conflict c ON c.record = j.value", wanted),
        )
        found = {row[0]: self._rows.recollection(row) for row in rows}
        for item in map(self._rows.undelivered, pending):
            if item.record in found:
                found[item.record].pending = {**found[item.record].pending, item.system: item}
        for conflict in map(self._rows.conflict, frozen):
            if conflict.record in found:
                found[conflict.record].frozen = {**found[conflict.record].frozen, conflict.field: conflict}
        await self._recall_bases(found)
        return found

    async def _recall_bases(self, found: dict[int, Recollection]) -> None:
        if not self._rows.layout.kept or not found:
            return
        query = f"SELECT b.record, b.field, b.print, b.body FROM {self.NUMBERS} base b ON b.record = j.value"
        kept: dict[int, dict[str, dict[bytes, Value]]] = {}
        for record, field, fingerprint, value in map(self._rows.base, await self._all(query, list(found))):
            kept.setdefault(record, {}).setdefault(field, {})[fingerprint] = value
        for record, bases in kept.items():
            found[record].bases = bases

    async def places(self, system: str, records: Sequence[int]) -> dict[int, str | None]:
        """See `Store.places`."""
        query = f"SELECT r.id, r.k{self._rows.slots[system]} FROM {self.NUMBERS} record r ON r.id = j.value"
        return dict(await self._all(query, list(records)))

    async def candidates(self, matches: Sequence[int]) -> dict[int, list[int]]:
        """See `Store.candidates`."""
        wanted, numbers = (list(matches),), self.NUMBERS
        return _grouped(
            await self._fetch(
                Query(f"SELECT r.found_by, r.id FROM {numbers} record r ON r.found_by = j.value", wanted),
                Query(f"SELECT m.key, m.record FROM {numbers} match m ON m.key = j.value", wanted),
            )
        )

    async def match_keys(self, records: Sequence[int]) -> dict[int, list[int]]:
        """See `Store.match_keys`."""
        wanted, numbers = (list(records),), self.NUMBERS
        first = f"SELECT r.id, r.found_by FROM {numbers} record r ON r.id = j.value AND r.found_by IS NOT NULL"
        others = f"SELECT m.record, m.key FROM {numbers} match m ON m.record = j.value"
        return _grouped(await self._fetch(Query(first, wanted), Query(others, wanted)))

    async def tombstones(self, system: str, keys: Sequence[str]) -> dict[str, int]:
        """See `Store.tombstones`."""
        query = f"SELECT t.key, t.record FROM {self.TEXTS} tombstone t ON t.system = ? AND t.key = j.value"
        return dict(await self._all(query, list(keys), system))

    async def apart(self, places: Sequence[Place]) -> dict[Place, frozenset[Place]]:
        """See `Store.apart`."""
        if self._any_apart is None:
            self._any_apart = await self._one("SELECT 1 FROM apart LIMIT 1") is not None
        if not self._any_apart:
            return {}
        columns = "a.system, a.key, a.other_system, a.other_key"
        rows = await self._all(f"SELECT {columns} FROM {self.TEXTS} apart a ON a.key = j.value", [k for _, k in places])
        found: dict[Place, set[Place]] = {}
        for system, key, other_system, other_key in rows:
            found.setdefault((system, key), set()).add((other_system, other_key))
        return {place: frozenset(found[place]) for place in places if place in found}

    async def divided(self) -> AsyncIterator[list[tuple[Place, Place]]]:
        """See `Store.divided`."""
        async for rows in self._walk(APART, (), "(system, key) < (other_system, other_key)"):
            yield [((system, key), (other_system, other_key)) for key, system, other_key, other_system in rows]

    async def former(self, record: int) -> dict[int, float]:
        """See `Store.former`. What became a part of another one only after it was parted from this is none of it."""
        found, left = {record: math.inf}, [record]
        while left:
            number = left.pop()
            query = "SELECT other, until FROM former WHERE record = ? AND until <= ?"
            rows: dict[int, float] = dict(await self._all(query, number, found[number]))
            left += rows.keys() - found.keys()
            found = {**rows, **found}
        del found[record]
        return found

    async def heirs(self, records: Sequence[int]) -> dict[int, tuple[int, float]]:
        """See `Store.heirs`."""
        query = f"SELECT f.other, f.record, f.until FROM {self.NUMBERS} former f ON f.other = j.value ORDER BY f.until"
        return {other: (record, until) for other, record, until in await self._all(query, list(records))}

    async def sharing(self) -> AsyncIterator[list[int]]:
        """See `Store.sharing`."""
        every = "SELECT key, record FROM match UNION SELECT found_by, id FROM record WHERE found_by IS NOT NULL"
        shared = f"SELECT key FROM ({every}) k GROUP BY key HAVING count(*) > 1"
        owners = (
            f"SELECT DISTINCT record FROM ({every}) k WHERE record > ? AND key IN ({shared}) "
            f"ORDER BY record LIMIT {PAGE}"
        )
        async for rows in self._pages(owners):
            yield [row[0] for row in rows]

    async def checkpoint(self, system: str) -> str | None:
        """See `Store.checkpoint`."""
        row = await self._one("SELECT cursor FROM checkpoint WHERE system = ?", system)
        return row[0] if row else None

    async def next_record(self) -> int:
        """See `Store.next_record`."""
        tables = " UNION ALL ".join(f"SELECT max({column}) AS n FROM {table}" for table, column in _NUMBERED)
        row = await self._one(f"SELECT max(n) FROM ({tables}) m")
        journaled = [intent.record for batch in (await self.journal()).values() for intent in batch]
        return 1 + max((row and row[0]) or 0, *journaled, int(await self.meta(NUMBERED) or 0))

    async def journal(self) -> dict[int, list[Intent]]:
        """See `Store.journal`."""
        rows = await self._all("SELECT id, body FROM journal ORDER BY id")
        return {row[0]: self._rows.intents(row) for row in rows}

    async def intents(self, number: int) -> list[Intent]:
        """One batch of the journal; nothing when it is settled."""
        rows = await self._all("SELECT id, body FROM journal WHERE id = ?", number)
        return self._rows.intents(rows[0]) if rows else []

    async def undelivered(
        self,
        *,
        due: float | None = None,
        dead: bool = False,
        held: bool = False,
        without: Collection[str] = (),
        after: Undelivered | None = None,
        limit: int = 1000,
    ) -> list[Undelivered]:
        """See `Store.undelivered`."""
        values: tuple[float | str | None, ...] = ()
        if held:
            where, order = "p.held = 1", "p.since, p.record"
        else:
            which = "OR p.dead = 1) AND p.error <> ?" if dead else ") AND p.dead = 0"
            where, order = f"p.held = 0 AND (p.not_before <= ? OR p.since > ? {which}", _BY_ATTEMPTS
            values = (due, due, *((DISCARDED,) if dead else ()))
        where += " AND p.system <> ?" * len(without)
        last: tuple[float | str, ...] = ()
        if after is not None:
            where += f" AND ({_BY_ATTEMPTS}) > (?, ?, ?, ?)"
            last = (after.attempts, after.not_before, after.record, after.system)
        query = f"SELECT {_PENDING} FROM pending p WHERE {where} ORDER BY {order} LIMIT {limit}"
        rows = await self._all(query, *values, *without, *last)
        return list(map(self._rows.undelivered, rows))

    async def held(self) -> AsyncIterator[list[Undelivered]]:
        """See `Store.held`."""
        async for rows in self._walk(PENDING, tuple(PENDING.columns)[len(PENDING.key) :], "held = 1"):
            yield list(map(self._rows.undelivered, rows))

    async def differing(self) -> AsyncIterator[list[int]]:
        """See `Store.differing`."""
        own = " OR ".join(f"p{n} IS NOT NULL" for n in self._rows.slots.values())
        async for rows in self._pages(f"SELECT id FROM record WHERE id > ? AND ({own}) ORDER BY id LIMIT {PAGE}"):
            yield [row[0] for row in rows]

    async def lacking(self, system: str) -> AsyncIterator[list[int]]:
        """See `Store.lacking`."""
        n = self._rows.slots[system]
        where = f"id > ? AND k{n} IS NULL AND (away >> {n}) & 1 = 0"
        async for rows in self._pages(f"SELECT id FROM record WHERE {where} ORDER BY id LIMIT {PAGE}"):
            yield [row[0] for row in rows]

    async def unmarked(self, system: str, marks: Marks) -> AsyncIterator[list[tuple[int, str]]]:
        """See `Store.unmarked`. Where a scan met nearly all, nearly nothing is looked at."""
        n = self._rows.slots[system]
        query = f"SELECT r.id, r.k{n} FROM {self.NUMBERS} record r ON r.id = j.value AND r.k{n} IS NOT NULL"
        missing = marks.missing(await self._greatest())
        while numbers := list(islice(missing, _MARKED_PAGE)):
            page: list[tuple[int, str]] = [(record, key) for record, key in await self._all(query, numbers)]
            if page:
                yield page

    async def waiting(self, system: str, after: str = "") -> list[str]:
        """See `Store.waiting`."""
        query = f"SELECT key FROM waiting WHERE system = ? AND key > ? ORDER BY key LIMIT {PAGE}"
        return [row[0] for row in await self._all(query, system, after)]

    async def orphans(self, system: str) -> AsyncIterator[list[Orphan]]:
        """See `Store.orphans`."""
        async for rows in self._walk(ORPHAN, ("parent",), "system = ?", system):
            yield [Orphan(*row) for row in rows]

    async def orphaned(self) -> dict[str, int]:
        """See `Store.orphaned`."""
        return dict(await self._all("SELECT system, count(DISTINCT key) FROM orphan GROUP BY system"))

    async def undelivered_after(
        self, after: tuple[int, str] = (0, ""), *, error: str | None = None
    ) -> list[Undelivered]:
        """See `Store.undelivered_after`."""
        where, values = ("1 = 1", ()) if error is None else ("p.error = ?", (error,))
        where += " AND (p.record, p.system) > (?, ?)"
        query = f"SELECT {_PENDING} FROM pending p WHERE {where} ORDER BY p.record, p.system LIMIT {PAGE}"
        return list(map(self._rows.undelivered, await self._all(query, *values, *after)))

    async def dead_letters(self, places: Sequence[Place]) -> list[DeadLetter]:
        """See `Store.dead_letters`."""
        query = f"SELECT d.system, d.key, d.reason, d.body, d.since FROM {self.TEXTS} dead d ON d.key = j.value"
        found = map(self._rows.dead_letter, await self._all(query, list({key for _, key in places})))
        return [letter for letter in found if (letter.system, letter.key) in set(places)]

    async def walk_conflicts(self) -> AsyncIterator[list[Conflict]]:
        """See `Store.walk_conflicts`."""
        async for rows in self._walk(CONFLICT, ("body", "since")):
            yield list(map(self._rows.conflict, rows))

    async def walk_letters(self, *, discarded: bool = False) -> AsyncIterator[list[DeadLetter]]:
        """See `Store.walk_letters`."""
        which = () if discarded else ("reason <> ?", DISCARDED)
        async for rows in self._walk(DEAD, ("reason", "body", "since"), *which):
            yield list(map(self._rows.dead_letter, rows))

    async def walk_failed(self) -> AsyncIterator[list[Undelivered]]:
        """See `Store.walk_failed`."""
        columns = [name for name in PENDING.columns if name not in PENDING.key]
        async for rows in self._walk(PENDING, columns, "dead = 1 AND error <> ?", DISCARDED):
            yield list(map(self._rows.undelivered, rows))

    async def known(self, system: str) -> int:
        """See `Store.known`."""
        row = await self._one(f"SELECT count(k{self._rows.slots[system]}) FROM record")
        return row[0] if row else 0

    async def counts(self) -> Counts:
        """See `Store.counts`."""
        if self._record_count is None:
            counted = await self._one("SELECT count(*) FROM record")
            self._record_count = counted[0] if counted else 0
        row = await self._one(
            "SELECT count(*) FILTER (WHERE dead = 0 AND held = 0), count(*) FILTER (WHERE held = 1), "
            "count(*) FILTER (WHERE dead = 1 AND error <> ?) + (SELECT count(*) FROM dead WHERE reason <> ?), "
            "(SELECT count(*) FROM conflict) FROM pending",
            DISCARDED,
            DISCARDED,
        )
        assert row is not None
        return Counts(self._record_count, *row)

    async def history(self, limit: int) -> list[RunRecord]:
        """See `Store.history`."""
        return [run_of(row[0]) for row in await self._all("SELECT body FROM run ORDER BY started DESC LIMIT ?", limit)]

    # --- requests ---

    async def ask(self, request: Request) -> None:
        """See `Store.ask`."""
        await self._apply([self._rows.asking(request)])

    async def asked(self) -> bool:
        """See `Store.asked`."""
        return await self._one("SELECT 1 FROM request LIMIT 1") is not None

    async def requests(self, limit: int = 10) -> list[Request]:
        """See `Store.requests`."""
        rows = await self._all(f"SELECT id, at, body FROM request ORDER BY id LIMIT {limit}")
        return list(map(self._rows.request, rows))

    async def answer(self, request: str) -> Answer | None:
        """See `Store.answer`."""
        row = await self._one("SELECT id, at, body FROM answer WHERE id = ?", request)
        return self._rows.answer(row) if row else None

    # --- writes ---

    async def commit(self, commit: Commit) -> None:
        """See `Store.commit`."""
        await super().commit(commit)
        if commit.apart:
            self._any_apart = True

    async def record_run(self, run: RunRecord) -> None:
        """See `Store.record_run`."""
        newest = await self._one("SELECT max(started) FROM run WHERE id <> ?", run.id)
        after = (newest[0] or 0.0) + _TICK if newest else 0.0  # the newest, although the clock may be set back
        kept = f"SELECT id FROM run ORDER BY started DESC LIMIT {_RUNS}"
        await self._apply(
            [
                whole(RUN, [run_row(run, max(run.started, after))]),
                Query(f"DELETE FROM run WHERE id NOT IN ({kept})"),
                Query("DELETE FROM tombstone WHERE at < ?", (time.time() - LONGEST_OUTAGE,)),
                Query("DELETE FROM answer WHERE at < ?", (time.time() - _ANSWER_SECONDS,)),
            ]
        )

    async def unsee(self, system: str) -> None:
        """See `Store.unsee`."""
        n, nothing = self._rows.slots[system], bytes(WIDTH * max(1, len(self._rows.layout.fields)))
        there = f"r.id > ? AND r.k{n} IS NOT NULL ORDER BY r.id LIMIT {PAGE}"
        async with self._transaction():
            async for rows in self._pages(f"SELECT {self._rows.record_columns} FROM record r WHERE {there}"):
                items = [self._rows.recollection(row) for row in rows]
                for item in items:
                    item.sides = {**item.sides, system: Side(item.sides[system].key, None, nothing)}
                await self._apply([self._rows.records(items)])
            await self._apply([Query("DELETE FROM checkpoint WHERE system = ?", (system,))])

    async def clear_ambiguity(self) -> None:
        """See `Store.clear_ambiguity`."""
        discarded = await self._all("SELECT system, key FROM dead WHERE reason = ?", DISCARDED)
        keep = {reservation(system, key) for system, key in discarded}
        letters: list[Row] = [row for row in await self._all(_HOLDING) if row[0] not in keep]
        released: list[Step] = [Drop(MATCH, ("record",), letters)] if letters else []
        await self._apply([*released, Query("DELETE FROM dead WHERE reason IN ('Ambiguous', 'Duplicate')")])


_NUMBERED = (("record", "id"), ("tombstone", "record"), ("audit", "record"), ("former", "record"), ("former", "other"))
"""Where a record's number may stand, although all else is forgotten."""

_HOLDING = "SELECT DISTINCT record FROM match WHERE record < 0"
_BY_ATTEMPTS = "p.attempts, p.not_before, p.record, p.system"
_PENDING = "p.record, p.system, p.body, p.since, p.not_before, p.attempts, p.error, p.dead, p.held"
_CONFLICT = "c.record, c.field, c.body, c.since"


def _grouped(results: Sequence[Sequence[Row]]) -> dict[int, list[int]]:
    """First column → each of the second, once."""
    found: dict[int, dict[int, None]] = {}
    for one, other in chain.from_iterable(results):
        found.setdefault(one, {})[other] = None
    return {one: list(others) for one, others in found.items()}
