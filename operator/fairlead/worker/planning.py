"""Planning: the same run, on a copy of the state, with systems that only take note of what would be written.

They go on as if it had been written: a write is judged on the record as it is, and whoever reads the record later in
the run finds what was planned for it. Else the old value would look like an edit of this very moment.
"""

from __future__ import annotations

import pickle
import sqlite3
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import TypeVar

import msgspec
import orjson

from fairlead.connectors.base import Attribute, Capabilities, NativeWrite, Operation, Outcome, Page, System, Verdict
from fairlead.model.connector import ErrorClass
from fairlead.model.record import MISSING, Native, attribute, with_attributes

T = TypeVar("T")

SAMPLE = 1000
"""Planned writes kept one by one; the rest is only counted."""

_NOTHING: Native = {}

_NEW = "(new "
"""Begins the key of a record that would be created."""


class PlannedWrite(msgspec.Struct, frozen=True):
    """One write that Enforce would send. Values are left out: a plan may be shown to anyone."""

    system: str
    operation: str
    key: str
    attributes: tuple[str, ...]


class Plan(msgspec.Struct):
    """What a run would write."""

    writes: list[PlannedWrite] = []
    count: int = 0


class _Planned:
    """What would be written to one system: key → attributes, or None of a record that would be deleted.

    In a file without a name, for a plan may be as long as the data.
    """

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.execute("CREATE TABLE planned(key TEXT PRIMARY KEY, body BLOB) WITHOUT ROWID")
        self._any = False

    def of(self, keys: Sequence[str]) -> dict[str, Native | None]:
        """What is planned for some of these records."""
        if not self._any:
            return {}
        found = "SELECT key, body FROM planned WHERE key IN (SELECT value FROM json_each(?))"
        rows = self._db.execute(found, (orjson.dumps(list(keys)).decode(),))
        return {key: None if body is None else pickle.loads(body) for key, body in rows}  # noqa: S301 - from `add`

    def add(self, key: str, values: Native | None) -> None:
        """Adds to what is planned for a record."""
        before = self.of([key]).get(key)
        body = None if values is None else pickle.dumps({**(before or {}), **values})
        self._db.execute("INSERT OR REPLACE INTO planned VALUES (?, ?)", (key, body))
        self._any = True

    def close(self) -> None:
        """The file ends."""
        self._db.close()


class PlannedPage:
    """A page as it would read if what is planned had been written. See `connectors.base.Page`.

    Args:
        page: as it reads.
        planned: key → what would be written to it, None where it would be deleted.
        new: those that are not on the page.
    """

    def __init__(self, page: Page, planned: Mapping[str, Native | None], new: Sequence[str] = ()) -> None:
        gone = {key: None for key in page.keys if planned.get(key, _NOTHING) is None}
        self._page = page
        self._kept = [i for i, key in enumerate(page.keys) if key not in gone]
        self.keys: Sequence[str] = [*(page.keys[i] for i in self._kept), *new]
        self._planned = [planned.get(key) or _NOTHING for key in self.keys]
        self.raws: Sequence[bytes] = [
            b"" if self._is_other(i) else page.raws[self._kept[i]] for i in range(len(self.keys))
        ]
        self.deleted: Sequence[str] = [*page.deleted, *gone]
        self.cursor = page.cursor

    def _is_other(self, index: int) -> bool:
        return index >= len(self._kept) or self._planned[index] is not _NOTHING

    def _real(self, indices: Sequence[int]) -> list[int]:
        return [self._kept[i] for i in indices if i < len(self._kept)]

    def _filled(self, indices: Sequence[int], found: Iterable[T], new: T) -> list[T]:
        real = iter(found)
        return [next(real) if i < len(self._kept) else new for i in indices]

    def rows(self, indices: Sequence[int]) -> list[Native]:
        """See `Page.rows`."""
        rows = self._filled(indices, self._page.rows(self._real(indices)), {})
        return [with_attributes(row, self._planned[i]) for i, row in zip(indices, rows, strict=True)]

    def columns(self, indices: Sequence[int], paths: Sequence[str]) -> list[list[object]]:
        """See `Page.columns`."""
        columns = [self._filled(indices, column, MISSING) for column in self._page.columns(self._real(indices), paths)]
        other = [position for position, i in enumerate(indices) if self._is_other(i)]
        for position, row in zip(other, self.rows([indices[position] for position in other]), strict=True):
            for path, column in zip(paths, columns, strict=True):
                column[position] = attribute(row, path)
        return columns

    def versions(self, indices: Sequence[int]) -> list[str | None]:
        """See `Page.versions`."""
        return self._filled(indices, self._page.versions(self._real(indices)), None)

    def modified(self, indices: Sequence[int]) -> list[object]:
        """See `Page.modified`."""
        return self._filled(indices, self._page.modified(self._real(indices)), None)


class PlanningSystem:
    """See `connectors.base.System`: reads are real, writes are noted and called done."""

    def __init__(self, name: str, system: System, plan: Plan) -> None:
        self._name = name
        self._system = system
        self._plan = plan
        self._planned = _Planned()
        self._new = 0

    @property
    def capabilities(self) -> Capabilities:
        """See `System.capabilities`."""
        return self._system.capabilities

    async def scan(self) -> AsyncIterator[Page]:
        """See `System.scan`."""
        async for page in self._system.scan():
            yield self._as_planned(page)

    async def changes(self, cursor: str) -> AsyncIterator[Page]:
        """See `System.changes`."""
        async for page in self._system.changes(cursor):
            yield self._as_planned(page)

    async def fetch(self, keys: Sequence[str]) -> Page:
        """See `System.fetch`."""
        new = [key for key in keys if key.startswith(_NEW)]
        page = await self._system.fetch([key for key in keys if not key.startswith(_NEW)])
        return self._as_planned(page, new)

    async def find(self, path: str, values: Sequence[object]) -> Page:
        """See `System.find`."""
        return self._as_planned(await self._system.find(path, values))

    def _as_planned(self, page: Page, new: Sequence[str] = ()) -> Page:
        planned = self._planned.of([*page.keys, *new])
        return PlannedPage(page, planned, [key for key in new if planned.get(key) is not None]) if planned else page

    async def write(self, writes: Sequence[NativeWrite]) -> list[Outcome]:
        """Notes the writes that would be sent."""
        keys = [write.key for write in writes if write.key is not None]
        there: dict[str, Native] = {}
        if keys:
            page = await self.fetch(keys)
            there = dict(zip(page.keys, page.rows(range(len(page.keys))), strict=True))
        return [self._outcome(write, there) for write in writes]

    def _outcome(self, write: NativeWrite, there: dict[str, Native]) -> Outcome:
        if write.key is None:
            self._new += 1
            key = f"{_NEW}{self._new})"
            self._note(write, key)
            self._planned.add(key, write.values)
            return Outcome(key=key)
        row = there.get(write.key)
        if row is None:
            return Outcome(ErrorClass.GONE, "no such record", key=write.key)
        verdict = write.check(row)
        if verdict is not Verdict.PROCEED:
            error = ErrorClass.CONFLICT if verdict is Verdict.CONFLICT else None
            return Outcome(error, "edited meanwhile" if error else "", write.key, stored=row)
        self._note(write, write.key)
        ends = write.operation is Operation.DELETE
        self._planned.add(write.key, None if ends else write.values)
        return Outcome(key=write.key, stored=None if ends else with_attributes(row, write.values))

    def _note(self, write: NativeWrite, key: str) -> None:
        self._plan.count += 1
        if len(self._plan.writes) < SAMPLE:
            planned = PlannedWrite(self._name, write.operation.value, key, tuple(sorted(write.values)))
            self._plan.writes.append(planned)

    async def attributes(self) -> Sequence[Attribute] | None:
        """See `System.attributes`."""
        return await self._system.attributes()

    async def close(self) -> None:
        """See `System.close`."""
        self._planned.close()
        await self._system.close()
