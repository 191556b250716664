"""A store in SQL: the whole contract, over three things that each database does in its own way.

Those are: queries in one go (`_fetch`), the steps of one transaction (`_apply`), and one transaction around several
of both (`_transaction`).
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import ClassVar, TypeVar

import msgspec

from fairlead.state.base import (
    STALE,
    Commit,
    Conflict,
    Counts,
    DeadLetter,
    Found,
    Intent,
    Layout,
    Recollection,
    RunRecord,
    Undelivered,
)
from fairlead.state.layout import converted
from fairlead.state.rows import Rows, place_of, run_of, run_row
from fairlead.state.seal import MARK, OPEN, Seal, wrong_key
from fairlead.state.tables import RUN, SEALED, Query, Row, Step, Table, Type, side_columns, whole

T = TypeVar("T")

PAGE = 2000
"""Records in one page of a walk over the store."""

_MARKED_PAGE = 20_000
_MANY = 10_000
_SEALED_PAGE = 500
_SEALED_WITH = "sealed"
"""Fact: the ids of the keys that bodies may be sealed with."""

_RUNS = 100
_TICK = 0.001
_TOMBSTONE_SECONDS = 90 * 86400.0
_DROPPED_WITH_SYSTEM = ("checkpoint", "tombstone", "pending", "dead", "waiting")


class SQLStore(ABC):
    """See `state.base.Store`.

    Attributes:
        TEXTS, NUMBERS: SQL that makes rows `j(key, value)` of a list, `key` counting from 0, and joins what follows to
            them by its index: in their order, without a scan.
        TYPES: the database's names of column types.
    """

    TEXTS: ClassVar[str]
    NUMBERS: ClassVar[str]
    TYPES: ClassVar[dict[Type, str]]

    def __init__(self) -> None:
        self._key = b""
        self._rows = Rows(Layout((), {}), {}, Seal((), b""))

    @property
    def key(self) -> bytes:
        """See `Store.key`."""
        return self._key

    # --- what a database does in its own way ---

    @abstractmethod
    async def _acquire(self) -> None:
        """Connects, keeps others out, and makes the tables where there are none."""

    @abstractmethod
    async def _release(self) -> None:
        """Undoes `_acquire`; may be called at any time."""

    @abstractmethod
    async def _fetch(self, *queries: Query) -> list[list[Row]]:
        """The rows of each query."""

    @abstractmethod
    async def _apply(self, steps: Sequence[Step]) -> None:
        """Does all steps or none, in the open transaction where there is one."""

    @abstractmethod
    def _transaction(self) -> AbstractAsyncContextManager[None]:
        """A transaction around what is fetched and applied inside; an exception ends it without effect."""

    # --- open and close ---

    async def open(self, layout: Layout) -> frozenset[str]:
        """See `Store.open`."""
        try:
            await self._acquire()
            return await self._adopt(layout)
        except BaseException:
            await self._release()
            raise

    async def close(self) -> None:
        """See `Store.close`."""
        await self._release()

    async def _adopt(self, layout: Layout) -> frozenset[str]:
        facts: dict[str, str] = dict(
            await self._all("SELECT name, value FROM meta WHERE name IN ('layout', 'slots', 'key', 'stale')")
        )
        old = msgspec.json.decode(facts["layout"], type=Layout) if "layout" in facts else Layout((), {})
        slots = msgspec.json.decode(facts.get("slots", "{}"), type=dict[str, int])
        stale = frozenset(filter(None, facts.get(STALE, "").split(","))) & layout.systems.keys()
        self._key = bytes.fromhex(facts.get("key") or secrets.token_hex(32))
        if old == layout and facts:
            self._rows = Rows(layout, slots, Seal((), self._key))
            return stale
        async with self._transaction():
            return await self._reshape(old, layout, slots, stale)

    async def _reshape(self, old: Layout, new: Layout, slots: dict[str, int], stale: frozenset[str]) -> frozenset[str]:
        """Brings what is remembered into a new layout; returns the systems whose records must be read anew."""
        kept = {n for n, s in new.systems.items() if n in old.systems and old.systems[n].identity == s.identity}
        for name in old.systems.keys() - kept:
            await self._apply(self._drop_system(name, slots.pop(name)))
        for name in new.systems.keys() - kept:
            slots[name] = next(n for n in itertools.count() if n not in slots.values())
            await self._apply(self._add_system(slots[name]))
        seal = Seal((), self._key)
        before = Rows(Layout(old.fields, {n: old.systems[n] for n in new.systems if n in kept}), slots, seal)
        self._rows = Rows(new, slots, seal)
        if kept:
            await self._convert(before)
        stale |= frozenset(
            n for n in new.systems if n not in kept or old.fields != new.fields or old.systems[n] != new.systems[n]
        )
        layout, numbers = msgspec.json.encode(new).decode(), msgspec.json.encode(slots).decode()
        facts: dict[str, str | None] = {"key": self._key.hex(), "slots": numbers, "layout": layout}
        facts[STALE] = ",".join(sorted(stale))
        await self._apply(self._rows.steps(Commit(checkpoints=dict.fromkeys(stale), meta=facts), time.time()))
        return stale

    def _add_system(self, slot: int) -> list[Step]:
        columns = side_columns(slot).items()
        return [
            *(Query(f"ALTER TABLE record ADD COLUMN {name} {self.TYPES[kind]}") for name, kind in columns),
            Query(f"CREATE UNIQUE INDEX record_k{slot} ON record(k{slot}) WHERE k{slot} IS NOT NULL"),
        ]

    def _drop_system(self, name: str, slot: int) -> list[Step]:
        """Forgets one system's side of every record; its own data is not touched."""
        return [
            Query(f"DROP INDEX record_k{slot}"),
            *(Query(f"ALTER TABLE record DROP COLUMN {column}") for column in side_columns(slot)),
            Query(f"UPDATE record SET away = away & {~(1 << slot)} WHERE (away >> {slot}) & 1 = 1"),
            *(Query(f"DELETE FROM {table} WHERE system = ?", (name,)) for table in _DROPPED_WITH_SYSTEM),
        ]

    async def _convert(self, before: Rows) -> None:
        old, new = before.layout, self._rows.layout
        query = f"SELECT {before.record_columns} FROM record r WHERE r.id > ? ORDER BY r.id LIMIT {PAGE}"
        async for rows in self._pages(query):
            items = [before.recollection(row) for row in rows]
            for item in items:
                item.sides = {name: converted(side, name, old, new) for name, side in item.sides.items()}
            await self._apply([self._rows.records(items)])

    # --- keys ---

    async def unlock(self, keys: Sequence[bytes]) -> None:
        """See `Store.unlock`."""
        seal = Seal(keys, self._key)
        used = (await self.meta(_SEALED_WITH) or OPEN).split()
        if not keys and used != [OPEN] and not await self._holds_sealed():
            used = []
        if strange := [name for name in used if not seal.knows(name)]:
            raise wrong_key(strange[0])
        self._rows.seal = seal
        if used == [seal.id]:
            return
        # A crash below leaves bodies of either kind: both stay named until all are sealed with the newest key.
        await self.commit(Commit(meta={_SEALED_WITH: " ".join(sorted({*used, seal.id}))}))
        for table in SEALED:
            await self._seal_anew(table)
        await self.commit(Commit(meta={_SEALED_WITH: seal.id}))

    async def _holds_sealed(self) -> bool:
        found = [f"SELECT 1 FROM {table.name} WHERE substr(body, 1, 1) = ? LIMIT 1" for table in SEALED]
        return any(await self._fetch(*(Query(text, (MARK,)) for text in found)))

    async def _seal_anew(self, table: Table) -> None:
        key, size, seal = ", ".join(table.key), len(table.key), self._rows.seal
        query = f"SELECT {key}, {', '.join(table.place)}, body FROM {table.name} WHERE substr(body, 1, ?) <> ?"
        update = f"UPDATE {table.name} SET body = ? WHERE {' AND '.join(f'{name} = ?' for name in table.key)}"
        after, last = "", ()
        while rows := await self._all(
            f"{query}{after} ORDER BY {key} LIMIT {_SEALED_PAGE}", len(seal.prefix), seal.prefix, *last
        ):
            steps: list[Step] = []
            for row in rows:
                place = place_of(table, row[size:-1])
                steps.append(Query(update, (seal.close(seal.open(row[-1], place), place), *row[:size])))
            await self._apply(steps)
            after, last = f" AND ({key}) > ({', '.join('?' * size)})", rows[-1][:size]

    async def expire(self, before: float) -> None:
        """See `Store.expire`."""
        old = f"SELECT id FROM audit WHERE at < ? ORDER BY at LIMIT {_MANY}"
        while await self._one("SELECT 1 FROM audit WHERE at < ? LIMIT 1", before):
            await self._apply([Query(f"DELETE FROM audit WHERE id IN ({old})", (before,))])
        if await self._one("SELECT 1 FROM run WHERE started < ? LIMIT 1", before):
            await self._apply([Query("DELETE FROM run WHERE started < ?", (before,))])

    # --- reads ---

    async def _all(self, text: str, *values: object) -> list[Row]:
        return (await self._fetch(Query(text, values)))[0]

    async def _one(self, text: str, *values: object) -> Row | None:
        return next(iter(await self._all(text, *values)), None)

    async def _pages(self, query: str) -> AsyncIterator[list[Row]]:
        """Pages of a query that takes the last id it gave."""
        last = 0
        while rows := await self._all(query, last):
            yield rows
            last = rows[-1][0]

    async def lookup(self, system: str, keys: Sequence[str]) -> list[Found | None]:
        """See `Store.lookup`."""
        n = self._rows.slots[system]
        found: list[Found | None] = [None] * len(keys)
        query = f"SELECT j.key, r.id, r.r{n} FROM {self.TEXTS} record r ON r.k{n} = j.value"
        for position, record, row in await self._all(query, list(keys)):
            found[position] = Found(record, row)
        return found

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
        return found

    async def candidates(self, matches: Sequence[int]) -> dict[int, list[int]]:
        """See `Store.candidates`."""
        query = f"SELECT m.key, m.record FROM {self.NUMBERS} match m ON m.key = j.value"
        return _grouped(await self._all(query, list(matches)))

    async def match_keys(self, records: Sequence[int]) -> dict[int, list[int]]:
        """See `Store.match_keys`."""
        query = f"SELECT m.record, m.key FROM {self.NUMBERS} match m ON m.record = j.value"
        return _grouped(await self._all(query, list(records)))

    async def tombstones(self, system: str, keys: Sequence[str]) -> dict[str, int]:
        """See `Store.tombstones`."""
        query = f"SELECT t.key, t.record FROM {self.TEXTS} tombstone t ON t.system = ? AND t.key = j.value"
        return dict(await self._all(query, list(keys), system))

    async def checkpoint(self, system: str) -> str | None:
        """See `Store.checkpoint`."""
        row = await self._one("SELECT cursor FROM checkpoint WHERE system = ?", system)
        return row[0] if row else None

    async def next_record(self) -> int:
        """See `Store.next_record`."""
        tables = " UNION ALL ".join(
            f"SELECT max({column}) AS n FROM {table}"
            for table, column in (("record", "id"), ("tombstone", "record"), ("audit", "record"))
        )
        row = await self._one(f"SELECT max(n) FROM ({tables}) m")
        journaled = [intent.record for batch in (await self.journal()).values() for intent in batch]
        return 1 + max((row and row[0]) or 0, *journaled, 0)

    async def journal(self) -> dict[int, list[Intent]]:
        """See `Store.journal`."""
        rows = await self._all("SELECT id, body FROM journal ORDER BY id")
        return {row[0]: self._rows.intents(row) for row in rows}

    async def undelivered(
        self, *, due: float | None = None, dead: bool = False, held: bool = False, limit: int = 1000
    ) -> list[Undelivered]:
        """See `Store.undelivered`."""
        values: tuple[float | None, ...] = ()
        if held:
            where = "p.held = 1 ORDER BY p.since, p.record"
        else:
            which = f"(p.not_before <= ? OR p.since > ?) {'OR p.dead = 1' if dead else 'AND p.dead = 0'}"
            where, values = f"p.held = 0 AND ({which}) ORDER BY p.attempts, p.not_before, p.record", (due, due)
        rows = await self._all(f"SELECT {_PENDING} FROM pending p WHERE {where} LIMIT {limit}", *values)
        return list(map(self._rows.undelivered, rows))

    async def lacking(self, system: str) -> AsyncIterator[list[int]]:
        """See `Store.lacking`."""
        n = self._rows.slots[system]
        where = f"id > ? AND k{n} IS NULL AND (away >> {n}) & 1 = 0"
        async for rows in self._pages(f"SELECT id FROM record WHERE {where} ORDER BY id LIMIT {PAGE}"):
            yield [row[0] for row in rows]

    async def unmarked(self, system: str, marks: bytearray) -> AsyncIterator[list[tuple[int, str]]]:
        """See `Store.unmarked`."""
        n = self._rows.slots[system]
        query = f"SELECT id, k{n} FROM record WHERE id > ? AND k{n} IS NOT NULL ORDER BY id LIMIT {_MARKED_PAGE}"
        async for rows in self._pages(query):
            page = [(i, key) for i, key in rows if i >> 3 >= len(marks) or not marks[i >> 3] >> (i & 7) & 1]
            if page:
                yield page

    async def waiting(self, system: str) -> list[str]:
        """See `Store.waiting`."""
        rows = await self._all(f"SELECT key FROM waiting WHERE system = ? ORDER BY key LIMIT {_MANY}", system)
        return [row[0] for row in rows]

    async def dead_letters(self) -> list[DeadLetter]:
        """See `Store.dead_letters`."""
        columns = "system, key, reason, body, since"
        rows = await self._all(f"SELECT {columns} FROM dead ORDER BY since, key LIMIT {_MANY}")
        return list(map(self._rows.dead_letter, rows))

    async def conflicts(self) -> list[Conflict]:
        """See `Store.conflicts`."""
        rows = await self._all(f"SELECT {_CONFLICT} FROM conflict c ORDER BY c.since, c.record LIMIT {_MANY}")
        return list(map(self._rows.conflict, rows))

    async def known(self, system: str) -> int:
        """See `Store.known`."""
        row = await self._one(f"SELECT count(k{self._rows.slots[system]}) FROM record")
        return row[0] if row else 0

    async def counts(self) -> Counts:
        """See `Store.counts`."""
        row = await self._one(
            "SELECT (SELECT count(*) FROM record), count(*) FILTER (WHERE dead = 0 AND held = 0), "
            "count(*) FILTER (WHERE held = 1), count(*) FILTER (WHERE dead = 1) + (SELECT count(*) FROM dead), "
            "(SELECT count(*) FROM conflict) FROM pending"
        )
        assert row is not None
        return Counts(*row)

    async def meta(self, name: str) -> str | None:
        """See `Store.meta`."""
        row = await self._one("SELECT value FROM meta WHERE name = ?", name)
        return row[0] if row else None

    async def history(self, limit: int) -> list[RunRecord]:
        """See `Store.history`."""
        return [run_of(row[0]) for row in await self._all("SELECT body FROM run ORDER BY started DESC LIMIT ?", limit)]

    # --- writes ---

    async def commit(self, commit: Commit) -> None:
        """See `Store.commit`."""
        await self._apply(self._rows.steps(commit, time.time()))

    async def record_run(self, run: RunRecord) -> None:
        """See `Store.record_run`."""
        newest = await self._one("SELECT max(started) FROM run WHERE id <> ?", run.id)
        after = (newest[0] or 0.0) + _TICK if newest else 0.0  # the newest, although the clock may be set back
        kept = f"SELECT id FROM run ORDER BY started DESC LIMIT {_RUNS}"
        await self._apply(
            [
                whole(RUN, [run_row(run, max(run.started, after))]),
                Query(f"DELETE FROM run WHERE id NOT IN ({kept})"),
                Query("DELETE FROM tombstone WHERE at < ?", (time.time() - _TOMBSTONE_SECONDS,)),
            ]
        )

    async def clear_ambiguity(self) -> None:
        """See `Store.clear_ambiguity`."""
        await self._apply(
            [
                Query("DELETE FROM match WHERE record < 0"),
                Query("DELETE FROM dead WHERE reason IN ('Ambiguous', 'Duplicate')"),
            ]
        )


_PENDING = "p.record, p.system, p.body, p.since, p.not_before, p.attempts, p.error, p.dead, p.held"
_CONFLICT = "c.record, c.field, c.body, c.since"


def _grouped(rows: Sequence[Row]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for one, other in rows:
        found.setdefault(one, []).append(other)
    return found


async def finished(work: Awaitable[T]) -> T:
    """The result of work that goes on to its end when its caller is cancelled, who waits for that."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # looked at, so that it is not reported as forgotten
        raise
