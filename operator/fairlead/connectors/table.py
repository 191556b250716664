"""Table: how a table is read whole, and what changed of it: the same for every database.

Rows come on pages, each the answer to one short statement: no transaction of ours holds up an application.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Protocol

import msgspec

from fairlead.connectors.base import Page
from fairlead.connectors.feed import Cursor, Key, Moment, Value, scanned
from fairlead.model.problem import near
from fairlead.transport.failure import Misconfigured

PAGE = 5000
"""Most rows in one page."""

PAGE_BYTES = 4_000_000
"""About the most bytes in one page: wide rows come on shorter pages."""

FIRST = 250
"""Most rows in the first page, when nothing is known of their width."""


class Names(msgspec.Struct, frozen=True):
    """The columns that a policy uses of a table: the key, those that it maps, and the modification time."""

    key: str
    paths: tuple[str, ...]
    modified: str | None


class CursorPage(Page, Protocol):
    """A page whose cursor is set once it is known to be the last."""

    cursor: str | None


class Part(msgspec.Struct, frozen=True):
    """What one statement read, in order.

    Attributes:
        page: the rows.
        size: about how many bytes they take.
        more: whether there may be more rows after them.
        time: the modification time of the last row.
        key: its key.
    """

    page: CursorPage
    size: int = 0
    more: bool = False
    time: Value = None
    key: Key = None


class Source(Protocol):
    """How one database reads a table. At most `limit` rows at once; `last` is what was read before, if anything."""

    timed: bool
    """Whether there is a modification column."""
    first: int
    """Rows to ask for at first."""

    async def moment(self) -> Moment:
        """The time, and the transactions that are running."""
        ...

    async def newest(self) -> tuple[Value, Key]:
        """The greatest modification time, and the greatest key of those rows that have none."""
        ...

    async def by_key(self, last: Part | None, limit: int) -> Part:
        """Rows in the order of keys."""
        ...

    async def by_time(self, after: Value, last: Part | None, limit: int) -> Part:
        """Rows with a modification time after one, in the order of times and keys."""
        ...

    async def untimed(self, after: Key, last: Part | None, limit: int) -> Part:
        """Rows without modification time whose key is after one, in the order of keys."""
        ...

    def nothing(self) -> CursorPage:
        """A page without rows."""
        ...


async def scan(source: Source) -> AsyncIterator[Page]:
    """See `System.scan`."""
    cursor = await checkpoint(source)
    async for part in _parts(source.by_key, source.first):
        if not part.more:
            part.page.cursor = cursor
        yield part.page


async def checkpoint(source: Source) -> str | None:
    """Where the changes begin that a scan may miss which begins after this; None without a feed."""
    if not source.timed:
        return None
    began = await source.moment()
    top, null_top = await source.newest()
    return scanned(top, _growing(null_top), began, await source.moment()).text()


async def changes(source: Source, cursor: str) -> AsyncIterator[Page]:
    """See `System.changes`."""
    began = await source.moment()
    position = Cursor.parse(cursor).resumed(began)
    top, null_top = position.top, position.null_top
    async for part in _parts(lambda last, limit: source.by_time(position.after, last, limit), source.first):
        if part.page.keys:
            top = part.time
            yield part.page
    async for part in _parts(lambda last, limit: source.untimed(position.null_after, last, limit), source.first):
        if part.page.keys:
            null_top = _growing(part.key)
            yield part.page
    reached = position.moved(top, null_top, began, await source.moment()).text()
    if reached != cursor:
        end = source.nothing()
        end.cursor = reached
        yield end


def _growing(key: Key) -> Key:
    """A key that new rows exceed. Others settle nothing: rows without a time are then all read by each run."""
    return key if isinstance(key, int) else None


async def _parts(read: Callable[[Part | None, int], Awaitable[Part]], first: int) -> AsyncIterator[Part]:
    """Everything, part by part."""
    last, limit = None, first
    while last is None or last.more:
        last = await read(last, limit)
        yield last
        limit = page_size(len(last.page.keys), last.size, limit)


def page_size(rows: int, size: int, current: int) -> int:
    """Rows of the next page, after one of `rows` rows that took `size` bytes; grows at most fourfold."""
    if rows == 0:
        return current
    return max(1, min(PAGE, current * 4, PAGE_BYTES * rows // max(size, 1)))


def names_of(
    table: str,
    existing: Sequence[str],
    primary: Sequence[str],
    *,
    paths: Sequence[str],
    key: str | None,
    modified: str | None,
) -> Names:
    """The columns to use.

    Args:
        table: its name, for messages.
        existing: the table's columns.
        primary: those of its primary key.
        paths: the columns that the policy maps.
        key: the column declared to identify a record.
        modified: the column declared to hold the time of the last change.

    Raises:
        Misconfigured: a column does not exist, or there is no key of one column.
    """
    for name in (*paths, *(name for name in (key, modified) if name)):
        require_column(table, name, existing)
    found = key or _primary(table, primary)
    return Names(found, tuple(sorted(set(paths))) or (found,), modified)


def require_column(table: str, name: str, existing: Sequence[str]) -> None:
    """Raises Misconfigured when the table has no such column."""
    if name not in existing:
        raise Misconfigured(f"table {table} has no column {name!r}{near(name, existing)}", reason="ColumnNotFound")


def _primary(table: str, primary: Sequence[str]) -> str:
    if len(primary) == 1:
        return primary[0]
    if primary:
        raise Misconfigured(
            f"the primary key of table {table} has {len(primary)} columns ({', '.join(primary)}), and a record is "
            "identified by one: name a unique column in the policy's systems[].key",
            reason="KeyNotFound",
        )
    raise Misconfigured(
        f"table {table} has no primary key: name a unique column in the policy's systems[].key", reason="KeyNotFound"
    )


def not_unique(table: str, key: str) -> Misconfigured:
    """The failure that a declared key is when several rows have it."""
    return Misconfigured(
        f"column {key!r} of table {table} is not unique: name another one in the policy's systems[].key",
        reason="KeyNotUnique",
    )
