"""Reading: a page of native records becomes observations in canonical form."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from datetime import UTC, datetime
from itertools import repeat
from typing import TypeVar

import msgspec

from fairlead.connectors.base import Page
from fairlead.engine.canonical import ContractError, kind_of
from fairlead.engine.case import Observation
from fairlead.engine.fingerprint import Fingerprints
from fairlead.engine.mapping import Mapping
from fairlead.engine.rules import Rules, SystemRule
from fairlead.model.record import Native, Record, Value, attribute
from fairlead.state.base import Known

T = TypeVar("T")

_INSTANT = kind_of({"type": "string", "format": "date-time"})


class Reading(msgspec.Struct):
    """What some records of a page say, by their index in it.

    Attributes:
        observed: records that are in order.
        left: records that the system's filter excludes.
        broken: records that break the contract, with what is wrong.
        refused: what can be read of those of `broken`, canonical, so that nothing is matched past them.
    """

    observed: dict[int, Observation] = {}
    left: list[int] = []
    broken: dict[int, str] = {}
    refused: dict[int, dict[str, Value]] = {}


class Reader:
    """Reads one system's records for one policy."""

    def __init__(self, rule: SystemRule, rules: Rules, prints: Fingerprints, *, times: bool) -> None:
        self.rule = rule
        self._mapping: Mapping = rule.mapping
        self._contract = rules.contract
        self._mapped = rule.readable
        self._prints = prints
        self._width = len(rules.fields)
        self._slots = [field.slot for field in self._mapping.fields]
        self._names = [field.name for field in self._mapping.fields]
        self._shape = zlib.crc32(self._mapping.declaration.encode())
        self._terms = zlib.crc32(self._contract.declaration.encode())
        self._times = times

    def rows(self, page: Page) -> list[int]:
        """The fingerprint of each native row of the page; all are others under another contract."""
        return self._rows(page.raws)

    def _rows(self, raws: Iterable[bytes]) -> list[int]:
        return [row ^ self._terms for row in self._prints.rows(raws, self._shape)]

    def whatever_contract(self, row: int | None) -> int | None:
        """What stands for a row under any contract, of its fingerprint under this one."""
        return None if row is None else row ^ self._terms

    def row(self, raw: bytes | None) -> int | None:
        """The fingerprint of one native row, where it is known."""
        return self.rows_of([raw])[0]

    def rows_of(self, raws: Sequence[bytes | None]) -> list[int | None]:
        """The fingerprints of native rows, where they are known."""
        known = iter(self._rows([raw for raw in raws if raw is not None]))
        return [None if raw is None else next(known) for raw in raws]

    def read(self, page: Page, indices: Sequence[int], rows: Sequence[int | None]) -> Reading:
        """Observations of the records at `indices`; `rows` holds the fingerprint of every record of the page."""
        passing = self._mapping.passing(page, indices)
        inside = set(passing)
        reading = Reading(left=[i for i in indices if i not in inside] if len(passing) < len(indices) else [])
        readable, columns = self._columns(page, passing, reading)
        if not readable:
            return reading
        records = list(map(dict, map(zip, repeat(self._names), zip(*columns, strict=True))))
        for position, message in self._contract.broken(records, self._mapped).items():
            reading.broken[readable[position]] = message
            reading.refused[readable[position]] = records[position]
        prints = self._prints.fields(self._encoded(columns), self._slots, self._width)
        keys, modified = [page.keys[i] for i in readable], self._modified(page, readable)
        read = (Record, keys, records, page.versions(readable), modified)
        times = self._field_times(page, readable)
        made = map(*read, times) if times else map(*read)
        observed = map(Observation, made, prints, [rows[i] for i in readable])
        reading.observed = dict(zip(readable, observed, strict=True))
        for i in reading.broken:
            reading.observed.pop(i, None)
        return reading

    def single(self, key: str, native: Native, version: str | None, raw: bytes | None) -> Observation | None:
        """One native record; None when it breaks the contract, or the filter excludes it."""
        return self.read(StoredPage([key], [native], [version]), [0], [self.row(raw)]).observed.get(0)

    def excluded(self, page: Page, indices: Sequence[int]) -> list[tuple[str, dict[str, Value]]]:
        """(key, canonical values) of records whatever the filter says, as far as they can be read."""
        reading = Reading()
        readable, columns = self._columns(page, list(indices), reading)
        rows = (dict(zip(self._names, row, strict=True)) for row in zip(*columns, strict=True))
        found = reading.refused | dict(zip(readable, rows, strict=True))
        return [(page.keys[i], found[i]) for i in indices]

    def _columns(self, page: Page, indices: list[int], reading: Reading) -> tuple[list[int], list[list[Value]]]:
        """Canonical columns of what can be read; the rest becomes `broken`. A page is read whole when it can be."""
        if not indices:
            return [], []
        try:
            return indices, self._mapping.read(page, indices)
        except ContractError:
            pass
        readable: list[int] = []
        columns: list[list[Value]] = [[] for _ in self._names]
        for i in indices:
            try:
                row = self._mapping.read(page, [i])
            except ContractError as error:
                reading.broken[i] = str(error)
                reading.refused[i] = self._mapping.legible(page, i)
                continue
            readable.append(i)
            for column, value in zip(columns, row, strict=True):
                column.extend(value)
        return readable, columns

    def _encoded(self, columns: Sequence[Sequence[Value]]) -> list[list[bytes]]:
        fields = zip(self._mapping.fields, columns, strict=True)
        return [field.kind.encoded_column(column) for field, column in fields]

    def prints(self, values: Sequence[dict[str, Value]]) -> list[bytes]:
        """Fingerprints of canonical records; a mapped field that is absent counts as "no value"."""
        columns = [[record.get(name) for record in values] for name in self._names]
        return self._prints.fields(self._encoded(columns), self._slots, self._width)

    def _modified(self, page: Page, indices: Sequence[int]) -> list[datetime | None]:
        if not self._times:
            return [None] * len(indices)
        return [_moment(native) for native in page.modified(indices)]

    def _field_times(self, page: Page, indices: list[int]) -> list[dict[str, datetime | None]]:
        """Per record, the times of the fields that have their own; nothing where no field has."""
        fields = self._mapping.times
        if not self._times or not fields:
            return []
        columns = [[_moment(native) for native in column] for column in page.columns(indices, list(fields.values()))]
        return [dict(zip(fields, times, strict=True)) for times in zip(*columns, strict=True)]


def _moment(native: object) -> datetime | None:
    """A modification time in UTC; what cannot be read as one is no time, and decides nothing."""
    try:
        text = _INSTANT.canonical(native)
    except ContractError:
        return None
    return datetime.fromisoformat(text).astimezone(UTC) if isinstance(text, str) else None


class StoredPage:
    """Records that a write returned, as a page, so that they are read like any other."""

    def __init__(self, keys: Sequence[str], rows: Sequence[Native], versions: Sequence[str | None]) -> None:
        self.keys = keys
        self._rows = rows
        self._versions = versions
        self.raws: Sequence[bytes] = ()
        self.deleted: Sequence[str] = ()
        self.cursor: str | None = None

    def rows(self, indices: Sequence[int]) -> list[Native]:
        """See `Page.rows`."""
        return [self._rows[i] for i in indices]

    def columns(self, indices: Sequence[int], paths: Sequence[str]) -> list[list[object]]:
        """See `Page.columns`."""
        return [[attribute(self._rows[i], path) for i in indices] for path in paths]

    def versions(self, indices: Sequence[int]) -> list[str | None]:
        """See `Page.versions`."""
        return [self._versions[i] for i in indices]

    def modified(self, indices: Sequence[int]) -> list[object]:
        """See `Page.modified`: an answer to a write is now, which is no time of a change."""
        return [None] * len(indices)


def differing(known: Known, rows: Sequence[int]) -> dict[int, int | None]:
    """Index → record (None: a new one) of the rows that are not as they were last seen."""
    if known.rows == rows:
        return {}
    return {
        i: record
        for i, (record, row, before) in enumerate(zip(known.records, rows, known.rows, strict=True))
        if row != before
    }


async def ahead(pages: AsyncIterator[T]) -> AsyncGenerator[T, None]:
    """Reads one page ahead while the current one is worked on, and asks for it before that work begins."""
    following: asyncio.Task[T | None] = asyncio.ensure_future(_next(pages))
    try:
        while (page := await following) is not None:
            following = asyncio.ensure_future(_next(pages))
            await asyncio.sleep(0)  # it begins now: a system that works beside us would wait for our next await
            yield page
    finally:
        following.cancel()
        await asyncio.wait([following])
        if isinstance(pages, AsyncGenerator):
            await pages.aclose()


async def _next(pages: AsyncIterator[T]) -> T | None:
    return await anext(pages, None)
