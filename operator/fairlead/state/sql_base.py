"""What every store in SQL is built on: three things that each database does in its own way, and how a layout changes.

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

from fairlead.state.base import REMATCH, STALE, Commit, StateError, StateMissing
from fairlead.state.layout import Layout, converted, rematched
from fairlead.state.rows import Rows
from fairlead.state.seal import OPEN, Seal, seal_as_used
from fairlead.state.tables import FOUND_BY, Query, Row, Step, Table, Type, side_columns

T = TypeVar("T")

PAGE = 2000
"""Records in one page of a walk over the store."""

SEALED_WITH = "sealed"
"""Fact: the ids of the keys that bodies may be sealed with."""

_WITHOUT_MATCH_KEYS = [
    Query("DELETE FROM match WHERE record > 0"),
    Query(f"UPDATE record SET {FOUND_BY} = NULL WHERE {FOUND_BY} IS NOT NULL"),
]
"""Those of dead letters stay until they are renewed: they tell which dead letters hold any."""

_DROPPED_WITH_SYSTEM = ("checkpoint", "tombstone", "pending", "dead", "waiting", "orphan", "apart")


class SQLBase(ABC):
    """A store that can be opened and asked.

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
        self._seen: dict[str, str] = {}
        self._record_count: int | None = None
        """How many records there are; None when that must be counted, which takes long."""
        self._newest = 0
        """No record that is stored has a greater number."""
        self._joined = False
        """Whether it was opened beside the worker that holds it."""

    @property
    def key(self) -> bytes:
        """See `Store.key`."""
        return self._key

    # --- what a database does in its own way ---

    @abstractmethod
    async def _acquire(self) -> None:
        """Connects, keeps others out, and makes the tables where there are none."""

    @abstractmethod
    async def _attach(self) -> None:
        """Connects beside whoever holds it, and makes nothing.

        Raises:
            StateMissing: there is nothing.
        """

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
        self._record_count = None
        try:
            await self._acquire()
            self._newest = await self._greatest()
            return await self._adopt(layout)
        except BaseException:
            await self._release()
            raise

    async def join(self, keys: Sequence[bytes]) -> Layout:
        """See `Store.join`."""
        self._joined = True
        try:
            await self._attach()
            self._rows = await self._as_it_is(keys)
        except BaseException:
            await self._release()
            raise
        return self._rows.layout

    async def peek(self) -> bool:
        """Opens a store as it is, to `look` where its records are, which needs no key; False while there is none.

        Raises:
            StateError: it cannot be read.
        """
        self._joined = True
        try:
            await self._attach()
        except StateMissing:
            await self._release()
            return False
        except BaseException:
            await self._release()
            raise
        return True

    async def _as_it_is(self, keys: Sequence[bytes]) -> Rows:
        facts: dict[str, str] = dict(await self._all("SELECT name, value FROM meta"))
        if "layout" not in facts:
            raise StateMissing("no worker has used this state yet")
        self._key = bytes.fromhex(facts["key"])
        seal = seal_as_used(keys, self._key, facts.get(SEALED_WITH, OPEN).split())
        layout = msgspec.json.decode(facts["layout"], type=Layout)
        return Rows(layout, msgspec.json.decode(facts["slots"], type=dict[str, int]), seal)

    async def close(self) -> None:
        """See `Store.close`."""
        await self._release()

    async def look(self) -> Layout | None:
        """The layout as it is now, for a store that another worker writes; None while there is none.

        What is the same layout is the same object, so that who asks before and after a look-up sees that it held.
        """
        facts: dict[str, str] = dict(
            await self._all("SELECT name, value FROM meta WHERE name IN ('layout', 'slots', 'key')")
        )
        if "layout" not in facts:
            return None
        if facts != self._seen:
            layout = msgspec.json.decode(facts["layout"], type=Layout)
            self._seen, self._key = facts, bytes.fromhex(facts["key"])
            self._rows = Rows(layout, msgspec.json.decode(facts["slots"], type=dict[str, int]), Seal((), self._key))
        return self._rows.layout

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
        shape = msgspec.structs.replace(old, systems={n: old.systems[n] for n in new.systems if n in kept})
        before = Rows(shape, slots, seal)
        self._rows = Rows(new, slots, seal)
        if kept:
            await self._convert(before)
        stale |= frozenset(
            n
            for n in new.systems
            if n not in kept or (old.fields, old.salted) != (new.fields, new.salted) or old.systems[n] != new.systems[n]
        )
        gained = set(new.kept) - set(old.kept)
        stale |= frozenset(name for name, system in new.systems.items() if gained & system.fields.keys())
        await self._apply([Query("DELETE FROM base WHERE field = ?", (f,)) for f in set(old.kept) - set(new.kept)])
        layout, numbers = msgspec.json.encode(new).decode(), msgspec.json.encode(slots).decode()
        facts: dict[str, str | None] = {"key": self._key.hex(), "slots": numbers, "layout": layout}
        facts[STALE] = ",".join(sorted(stale))
        if old.systems and rematched(old, new):
            await self._apply(_WITHOUT_MATCH_KEYS)
            facts[REMATCH] = "-1"
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
            Query("DELETE FROM apart WHERE other_system = ?", (name,)),
        ]

    async def _convert(self, before: Rows) -> None:
        old, new = before.layout, self._rows.layout
        query = f"SELECT {before.record_columns} FROM record r WHERE r.id > ? ORDER BY r.id LIMIT {PAGE}"
        async for rows in self._pages(query):
            items = [before.recollection(row) for row in rows]
            for item in items:
                item.sides = {name: converted(side, name, old, new) for name, side in item.sides.items()}
            await self._apply([self._rows.records(items)])

    # --- queries and facts ---

    async def meta(self, name: str) -> str | None:
        """See `Store.meta`."""
        row = await self._one("SELECT value FROM meta WHERE name = ?", name)
        return row[0] if row else None

    async def commit(self, commit: Commit) -> None:
        """See `Store.commit`."""
        if self._joined:
            raise StateError("this state was opened beside its worker: only the worker changes it")
        if commit.records or commit.forget:
            self._record_count = None
        before = self._newest
        # Moved before they are stored: another commit may come while this one is under way.
        self._newest = max([before, *(item.record for item in commit.records)])
        await self._apply(self._rows.steps(commit, time.time(), before))

    async def _greatest(self) -> int:
        row = await self._one("SELECT max(id) FROM record")
        return (row and row[0]) or 0

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

    async def _walk(
        self, table: Table, columns: Sequence[str], where: str = "1 = 1", *values: object
    ) -> AsyncIterator[list[Row]]:
        """Pages of a table in the order of its key: the key's columns, then those that are asked for."""
        key, size = ", ".join(table.key), len(table.key)
        query = f"SELECT {', '.join([*table.key, *columns])} FROM {table.name} WHERE {where}"
        after, last = "", ()
        while rows := await self._all(f"{query}{after} ORDER BY {key} LIMIT {PAGE // 4}", *values, *last):
            yield rows
            after, last = f" AND ({key}) > ({', '.join('?' * size)})", rows[-1][:size]


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
