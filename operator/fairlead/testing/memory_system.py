"""A system in memory that keeps the contract of `connectors.base`, and does so in the worst way it is told to.

For tests of what stands on the contract. Nothing in it happens by chance: page borders, faults, late feeds and what
users do in the middle of a call are all chosen by the test.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import msgspec
import orjson

from fairlead.connectors.base import Attribute, Capabilities, Health, NativeWrite, Operation, Outcome, Page, Verdict
from fairlead.model.connection import Limits
from fairlead.model.connector import ErrorClass
from fairlead.model.record import MISSING, Native
from fairlead.transport.failure import Failure, Misconfigured, Throttled, Transient

_ABSENT = ["\0absent"]


class Fault(StrEnum):
    """What goes wrong with one call.

    Transient, Throttled: nothing is done. Partial: of a batch only the first write is done, the others fail. Refused:
    the first write is invalid. Lost: everything is done, and of no write is the answer known. HungUp: everything is
    done, then the call fails as a whole (but creates in a system without `find` are Lost). Repeated: a page comes
    twice, as it was the first time. Skipped: a page of the feed does not come, and the next one
    does; a scan gives every record, or nobody could tell what is new.
    """

    TRANSIENT = "Transient"
    THROTTLED = "Throttled"
    PARTIAL = "Partial"
    REFUSED = "Refused"
    LOST = "Lost"
    HUNG_UP = "HungUp"
    REPEATED = "Repeated"
    SKIPPED = "Skipped"


class Traits(msgspec.Struct, frozen=True, repr_omit_defaults=True):
    """What kind of system it is.

    Attributes:
        changes, deletions, find: see `Capabilities`.
        versions: it has ETags, and compares them itself: a write with the current one is not judged again.
        tells: the answer to a write holds the record.
        modified: it has modification times.
        timed: attributes whose own last change it keeps, in one called as `time_path` says.
        page: records on a page.
        backwards: lists begin with the newest record, and feeds with the last entry of a page.
        unique: attributes of which no two records have the same value; a create of such a one meets the record.
        skew: how far its clock is ahead.
        reuses: its greatest key is given again once the record that had it is gone, as SQLite does.
    """

    changes: bool = True
    deletions: bool = True
    find: bool = True
    versions: bool = False
    tells: bool = True
    modified: bool = True
    timed: tuple[str, ...] = ()
    page: int = 1000
    backwards: bool = False
    unique: tuple[str, ...] = ()
    skew: timedelta = timedelta()
    reuses: bool = False


class Row(msgspec.Struct, frozen=True):
    """A record as it is stored."""

    number: int
    values: Mapping[str, object]
    version: int
    modified: datetime


def time_path(path: str) -> str:
    """Where a system that keeps the time of an attribute's own last change has it."""
    return f"{path}_changed"


def _as_is(_: str, value: object) -> object:
    return value


def _welcome(_: Mapping[str, object]) -> str:
    return ""


def _never(_: str) -> None:
    return None


class MemorySystem:
    """One Connection to a system with one object. See `connectors.base.Client`.

    Attributes:
        name: of the object.
        traits: what kind of system it is; may be replaced at any time.
        stored: (attribute, value) → what becomes of the value when it is written: a system that truncates or rounds.
        refuses: values of a write → why they are refused, empty when they are not.
        moment: called before and after everything that is done, with a word for it. It may act as a user, or raise.
        faults: number of the call → what goes wrong with it. Calls are counted in `calls`: each page, look-up and batch
            of writes is one.
        down: every call fails with this.
        lagging: the feed shows nothing new until `catch_up`.
    """

    def __init__(
        self,
        name: str = "things",
        traits: Traits | None = None,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        stored: Callable[[str, object], object] = _as_is,
        refuses: Callable[[Mapping[str, object]], str] = _welcome,
    ) -> None:
        self.name = name
        self.traits = traits or Traits()
        self.stored = stored
        self.refuses = refuses
        self.moment: Callable[[str], object] = _never
        self.faults: dict[int, Fault] = {}
        self.calls = 0
        self.down: Failure | None = None
        self.lagging = False
        self.writes: list[NativeWrite] = []
        """Every write that was done, in order."""
        self._clock = clock
        self._rows: dict[str, Row] = {}
        self._last = 0
        self._feed: list[str] = []
        self._late: list[str] = []

    # --- what users do ---

    @property
    def records(self) -> dict[str, dict[str, object]]:
        """Key → attributes of every record."""
        return {key: dict(row.values) for key, row in self._rows.items()}

    def row(self, key: str) -> Row | None:
        """A record as it is stored."""
        return self._rows.get(key)

    def add(self, values: Mapping[str, object], key: str | None = None) -> str:
        """Adds a record; its key."""
        if self.traits.reuses:
            self._last = max((row.number for row in self._rows.values()), default=0)
        self._last += 1
        key = key or str(self._last)
        self._store(key, self._last, values, 1)
        return key

    def edit(self, key: str, values: Mapping[str, object]) -> None:
        """Changes some attributes of a record."""
        row = self._rows[key]
        self._store(key, row.number, {**row.values, **values}, row.version + 1)

    def remove(self, key: str) -> None:
        """Deletes a record."""
        del self._rows[key]
        self._tell(key)

    def holders(self, path: str, value: object) -> list[str]:
        """Keys of the records whose attribute has a value."""
        return [key for key, row in self._rows.items() if row.values.get(path) == value]

    def catch_up(self, *, backwards: bool = False) -> None:
        """Lets the feed show what it held back, the last first when `backwards`."""
        self._feed += reversed(self._late) if backwards else self._late
        self._late = []
        self.lagging = False

    def _store(self, key: str, number: int, values: Mapping[str, object], version: int) -> None:
        now, before = self._clock() + self.traits.skew, self._rows.get(key)
        kept = {path: self.stored(path, value) for path, value in values.items()}
        for path in self.traits.timed:
            same = before is not None and kept.get(path) == before.values.get(path)
            kept[time_path(path)] = before.values[time_path(path)] if before and same else now.isoformat()
        self._rows[key] = Row(number, kept, version, now)
        self._tell(key)

    def _tell(self, key: str) -> None:
        (self._late if self.lagging else self._feed).append(key)

    # --- Client ---

    async def open(
        self, object_name: str, *, paths: Sequence[str], key: str | None, modified: str | None
    ) -> MemoryObject:
        """See `Client.open`. Key and modification time are known."""
        del key, modified
        await self.call("open", counted=False)
        if object_name != self.name:
            raise Misconfigured(f"there is no {object_name}", reason="ObjectNotFound")
        return MemoryObject(self, sorted(set(paths)))

    def limit(self, limits: Limits) -> None:
        """See `Client.limit`. There is no budget."""

    async def probe(self) -> Health:
        """See `Client.probe`."""
        started = asyncio.get_running_loop().time()
        await self.call("probe", counted=False)
        return Health(max(asyncio.get_running_loop().time() - started, 1e-9))

    async def close(self) -> None:
        """See `Client.close`; what is stored stays."""

    async def call(self, word: str, *, counted: bool = True) -> Fault | None:
        """Begins a call: others may act first. What is to go wrong with it later is returned.

        Raises:
            Failure: it fails before anything is done.
        """
        self.moment(word)
        await asyncio.sleep(0)
        if self.down is not None:
            raise self.down
        if not counted:
            return None
        self.calls += 1
        fault = self.faults.get(self.calls)
        if fault is Fault.TRANSIENT:
            raise Transient(f"{self.name}: connection reset")
        if fault is Fault.THROTTLED:
            raise Throttled(f"{self.name}: too many requests", retry_after=1.0)
        return fault

    # --- reading, without waiting ---

    def after(self, last: int | None) -> list[str]:
        """The keys on the next page of a list, after the record with this number."""
        rows = sorted(self._rows.items(), key=lambda item: item[1].number, reverse=self.traits.backwards)
        if last is not None:
            rows = [(k, row) for k, row in rows if (row.number < last) is self.traits.backwards and row.number != last]
        return [key for key, _ in rows[: self.traits.page]]

    def entries(self, position: int) -> list[str]:
        """The keys on the next page of the feed."""
        return self._feed[position : position + self.traits.page]

    @property
    def position(self) -> int:
        """Where the feed ends."""
        return len(self._feed)

    # --- writing, without waiting ---

    def apply(self, write: NativeWrite, paths: Sequence[str]) -> Outcome:
        """Does one write, on its conditions."""
        refusal = "" if write.operation is Operation.DELETE else self.refuses(write.values)
        if refusal:
            return Outcome(ErrorClass.INVALID, refusal, key=write.key)
        if write.operation is Operation.CREATE:
            return self._create(write, paths)
        key = write.key or ""
        row = self._rows.get(key)
        if row is None:
            return Outcome(ErrorClass.GONE, "no such record", key=key)
        if not (self.traits.versions and write.version == str(row.version)):
            verdict = write.check(dict(row.values))
            if verdict is not Verdict.PROCEED:
                error = ErrorClass.CONFLICT if verdict is Verdict.CONFLICT else None
                return self._outcome(key, paths, error, "edited meanwhile" if error else "", tell=True)
        self.writes.append(write)
        if write.operation is Operation.DELETE:
            self.remove(key)
            return Outcome(key=key)
        self.edit(key, write.values)
        return self._outcome(key, paths)

    def _create(self, write: NativeWrite, paths: Sequence[str]) -> Outcome:
        for path in self.traits.unique:
            for key in self.holders(path, self.stored(path, write.values.get(path))):
                return self._outcome(key, paths, ErrorClass.CONFLICT, "exists already", tell=True)
        self.writes.append(write)
        return self._outcome(self.add(write.values), paths)

    def _outcome(
        self, key: str, paths: Sequence[str], error: ErrorClass | None = None, message: str = "", *, tell: bool = False
    ) -> Outcome:
        row = self._rows[key]
        version = str(row.version) if self.traits.versions else None
        if not (self.traits.tells or tell):
            return Outcome(error, message, key, version)
        return Outcome(error, message, key, version, raw_of(row, paths), dict(row.values))


class MemoryObject:
    """The object of a `MemorySystem`, open for some attributes. See `connectors.base.System`."""

    def __init__(self, system: MemorySystem, paths: Sequence[str]) -> None:
        self._system = system
        self._paths = paths

    @property
    def capabilities(self) -> Capabilities:
        """See `System.capabilities`."""
        traits = self._system.traits
        return Capabilities(
            create=True,
            update=True,
            delete=True,
            changes=traits.changes,
            deletions=traits.deletions,
            find=traits.find,
        )

    async def scan(self) -> AsyncIterator[Page]:
        """See `System.scan`. A record that is added meanwhile is on it or in the feed, or both."""
        position = self._system.position
        last: int | None = None
        while True:
            fault = await self._system.call("scan")
            keys = self._system.after(last)
            rest = len(keys) == self._system.traits.page
            cursor = None if rest or not self._system.traits.changes else str(position)
            page = self._page(keys, cursor=cursor)
            last = page.last
            for _ in range(2 if fault is Fault.REPEATED else 1):
                yield page
            if not rest:
                return

    async def changes(self, cursor: str) -> AsyncIterator[Page]:
        """See `System.changes`."""
        position = int(cursor)
        while True:
            fault = await self._system.call("changes")
            entries = self._system.entries(position)
            if not entries:
                return
            position += len(entries)
            page = self._page(self._ordered(entries), cursor=str(position))
            if not self._system.traits.deletions:
                page.deleted = []
            for _ in range(_TIMES.get(fault, 1)):
                yield page

    def _ordered(self, entries: Sequence[str]) -> list[str]:
        return list(dict.fromkeys(reversed(entries) if self._system.traits.backwards else entries))

    async def fetch(self, keys: Sequence[str]) -> Page:
        """See `System.fetch`."""
        await self._system.call("fetch")
        return self._page(keys)

    async def find(self, path: str, values: Sequence[object]) -> Page:
        """See `System.find`."""
        await self._system.call("find")
        wanted = [self._system.stored(path, value) for value in values]
        return self._page(dict.fromkeys(key for value in wanted for key in self._system.holders(path, value)))

    def _page(self, keys: Iterable[str], cursor: str | None = None) -> MemoryPage:
        rows = {key: self._system.row(key) for key in keys}
        return MemoryPage(
            {key: row for key, row in rows.items() if row is not None},
            self._paths,
            self._system.traits,
            deleted=[key for key, row in rows.items() if row is None],
            cursor=cursor,
        )

    async def write(self, writes: Sequence[NativeWrite]) -> list[Outcome]:
        """See `System.write`. Others may act between any two writes."""
        fault = await self._system.call("write")
        outcomes = []
        for number, write in enumerate(writes):
            if fault is Fault.PARTIAL and number > 0:
                outcomes.append(Outcome(ErrorClass.TRANSIENT, "connection reset", key=write.key))
                continue
            if fault is Fault.REFUSED and number == 0:
                outcomes.append(Outcome(ErrorClass.INVALID, "refused", key=write.key))
                continue
            self._system.moment("before")
            outcomes.append(self._system.apply(write, self._paths))
            self._system.moment("after")
            await asyncio.sleep(0)
        blind = writes[0].operation is Operation.CREATE and not self._system.traits.find if writes else False
        if fault is Fault.HUNG_UP and not blind:
            raise Transient(f"{self._system.name}: hung up")
        return [_lost(write) for write in writes] if fault in (Fault.LOST, Fault.HUNG_UP) else outcomes

    async def attributes(self) -> Sequence[Attribute]:
        """See `System.attributes`."""
        await self._system.call("attributes", counted=False)
        return [Attribute(path, "any") for path in self._paths]

    async def close(self) -> None:
        """See `System.close`."""


class MemoryPage:
    """See `connectors.base.Page`. It stays as it was read."""

    def __init__(
        self,
        rows: Mapping[str, Row],
        paths: Sequence[str],
        traits: Traits,
        *,
        deleted: Sequence[str] = (),
        cursor: str | None = None,
    ) -> None:
        self.keys: Sequence[str] = list(rows)
        self.raws: Sequence[bytes] = [raw_of(row, paths) for row in rows.values()]
        self.deleted = deleted
        self.cursor = cursor
        self._rows = list(rows.values())
        self.last = self._rows[-1].number if self._rows else None
        self._traits = traits

    def rows(self, indices: Sequence[int]) -> list[Native]:
        """See `Page.rows`."""
        return [dict(self._rows[i].values) for i in indices]

    def columns(self, indices: Sequence[int], paths: Sequence[str]) -> list[list[object]]:
        """See `Page.columns`."""
        return [[self._rows[i].values.get(path, MISSING) for i in indices] for path in paths]

    def versions(self, indices: Sequence[int]) -> list[str | None]:
        """See `Page.versions`."""
        return [str(self._rows[i].version) if self._traits.versions else None for i in indices]

    def modified(self, indices: Sequence[int]) -> list[object]:
        """See `Page.modified`."""
        return [self._rows[i].modified if self._traits.modified else None for i in indices]


_TIMES: dict[Fault | None, int] = {Fault.REPEATED: 2, Fault.SKIPPED: 0}
"""How often a page of the feed comes."""


def raw_of(row: Row, paths: Sequence[str]) -> bytes:
    """See `Page.raws`."""
    return orjson.dumps([row.values.get(path, _ABSENT) for path in paths], default=str)


def _lost(write: NativeWrite) -> Outcome:
    create = write.operation is Operation.CREATE
    return Outcome(ErrorClass.TRANSIENT, "no answer came", key=write.key, uncertain=create)
