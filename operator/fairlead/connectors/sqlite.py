"""SQLite: a table or view of a file as a system."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec

from fairlead.connectors import table
from fairlead.connectors.base import Attribute, Capabilities, Health, NativeWrite, Outcome, Page
from fairlead.connectors.feed import Key, Moment, Value
from fairlead.connectors.sqlite_page import Column, RowPage
from fairlead.connectors.sqlite_query import Queries
from fairlead.connectors.sqlite_session import File
from fairlead.connectors.sqlite_write import Writer
from fairlead.connectors.table import FIRST, Names, Part, names_of, not_unique, require_column
from fairlead.model.connection import Connection, Limits
from fairlead.model.problem import near
from fairlead.transport.failure import Misconfigured

_COLUMNS = 'SELECT name, upper(type), hidden = 0, "notnull" = 0, pk FROM pragma_table_xinfo(?) ORDER BY cid'
_UNIQUE = """
SELECT (SELECT group_concat(i.name, '/') FROM pragma_index_info(l.name) i) FROM pragma_index_list(?) l
WHERE l."unique" AND NOT l.partial
"""


class SQLiteDatabase:
    """One file. See `connectors.base.Client`."""

    def __init__(self, connection: Connection) -> None:
        self._file = File(connection)

    async def open(
        self, object_name: str, *, paths: Sequence[str], key: str | None, modified: str | None
    ) -> SQLiteTable:
        """See `Client.open`."""
        described = await self._file.run(lambda database: _described(database, object_name))
        if not described.columns:
            hint = near(object_name, described.others)
            raise Misconfigured(f"{self._file.path} has no table {object_name!r}{hint}", reason="ObjectNotFound")
        names = names_of(
            object_name, list(described.columns), described.primary, paths=paths, key=key, modified=modified
        )
        return SQLiteTable(self._file, object_name, described, names)

    def limit(self, limits: Limits) -> None:
        """See `Client.limit`. A file of this machine is not spared."""

    async def probe(self) -> Health:
        """See `Client.probe`."""
        started = time.monotonic()
        await self._file.run(lambda database: database.execute("SELECT count(*) FROM sqlite_schema").fetchone())
        return Health(time.monotonic() - started)

    async def close(self) -> None:
        """Closes the file."""
        await self._file.close()


class Described(msgspec.Struct, frozen=True):
    """What a file tells of a table; `columns` is empty when it has none of this name.

    Attributes:
        columns: by name, in order.
        primary: the columns of the primary key.
        uniques: columns that a unique index orders, alone.
        view: whether it is no table.
        others: names of the tables and views that there are, for a hint.
    """

    columns: dict[str, Column]
    primary: tuple[str, ...]
    uniques: frozenset[str]
    view: bool
    others: tuple[str, ...]


def _described(database: sqlite3.Connection, name: str) -> Described:
    found = database.execute(_COLUMNS, (name,)).fetchall()
    objects = database.execute("SELECT name, type FROM sqlite_schema WHERE type IN ('table', 'view')").fetchall()
    primary = tuple(row[0] for row in sorted(found, key=lambda row: row[4]) if row[4])
    uniques = {row[0] for row in database.execute(_UNIQUE, (name,))} | ({primary[0]} if len(primary) == 1 else set())
    return Described(
        columns={row[0]: Column(row[0], row[1], bool(row[2]), bool(row[3])) for row in found},
        primary=primary,
        uniques=frozenset(uniques),
        view=any(kind == "view" and other.lower() == name.lower() for other, kind in objects),
        others=tuple(other for other, _ in objects if not other.startswith("sqlite_")),
    )


class SQLiteTable:
    """One table or view. See `connectors.base.System` and `connectors.table.Source`."""

    first = FIRST

    def __init__(self, file: File, name: str, described: Described, names: Names) -> None:
        self._file = file
        self._name = name
        self._described = described
        self._queries = Queries(name, described.columns, names)
        self._writer = Writer(self._queries)
        self.timed = names.modified is not None

    @property
    def capabilities(self) -> Capabilities:
        """See `System.capabilities`. Views are only read."""
        able = not self._described.view
        return Capabilities(create=able, update=able, delete=able, changes=self.timed, find=True)

    async def attributes(self) -> Sequence[Attribute]:
        """See `System.attributes`."""
        return [
            Attribute(column.name, column.type.lower(), writable=column.writable, nullable=column.nullable)
            for column in self._described.columns.values()
        ]

    async def close(self) -> None:
        """The file is the database's."""

    # --- reading ---

    async def scan(self) -> AsyncIterator[Page]:
        """See `System.scan`."""
        if self._queries.key.name not in self._described.uniques and await self._rows(self._queries.doubled, ()):
            raise not_unique(self._name, self._queries.key.name)
        async for page in table.scan(self):
            yield page

    def changes(self, cursor: str) -> AsyncIterator[Page]:
        """See `System.changes`."""
        return table.changes(self, cursor)

    async def moment(self) -> Moment:
        """See `Source.moment`. Only one transaction writes at a time, so what it wrote is always the newest."""
        now = time.time()
        return Moment(now, time.monotonic(), oldest=now)

    async def newest(self) -> tuple[Value, Key]:
        """See `Source.newest`."""
        ((top, null_top),) = await self._rows(self._queries.newest, ())
        return _value(top), null_top

    async def by_key(self, last: Part | None, limit: int) -> Part:
        """See `Source.by_key`."""
        return await self._part(self._queries.by_key(last=last is not None), [last.key] if last else [], limit)

    async def by_time(self, after: Value, last: Part | None, limit: int) -> Part:
        """See `Source.by_time`."""
        query = self._queries.by_time(settled=after is not None, last=last is not None)
        return await self._part(query, [last.time, last.key] if last else [] if after is None else [after], limit)

    async def untimed(self, after: Key, last: Part | None, limit: int) -> Part:
        """See `Source.untimed`."""
        key = last.key if last else after
        return await self._part(self._queries.untimed(last=key is not None), [] if key is None else [key], limit)

    def nothing(self) -> RowPage:
        """See `Source.nothing`."""
        return RowPage(self._queries.columns, [])

    async def _part(self, query: str, values: Sequence[Any], limit: int) -> Part:
        page, last = await self._file.run(lambda database: self._page(database, query, (*values, limit)))
        more = len(page.keys) >= limit
        return Part(page, sum(map(len, page.raws)), more, *last)

    def _page(
        self, database: sqlite3.Connection, query: str, values: Sequence[Any]
    ) -> tuple[RowPage, tuple[Value, Key]]:
        """The page of a query, and time and key of its last row."""
        rows = database.execute(query, values).fetchall()
        if any(isinstance(row[-1], bytes) for row in rows):
            raise Misconfigured(
                f"column {self._queries.key.name!r} of table {self._name} holds binary data, which identifies no "
                "record: name a column of text or numbers in the policy's systems[].key",
                reason="KeyNotFound",
            )
        return RowPage(self._queries.columns, rows), (_value(rows[-1][-2]), rows[-1][-1]) if rows else (None, None)

    async def _rows(self, query: str, values: Sequence[Any]) -> list[Any]:
        return await self._file.run(lambda database: database.execute(query, values).fetchall())

    # --- single records ---

    async def fetch(self, keys: Sequence[str]) -> Page:
        """See `System.fetch`."""
        page = await self._among(self._queries.key, keys)
        here = set(page.keys)
        page.deleted = [key for key in keys if key not in here]
        return page

    async def find(self, path: str, values: Sequence[object]) -> Page:
        """See `System.find`."""
        require_column(self._name, path, list(self._described.columns))
        return await self._among(self._described.columns[path], [value for value in values if value is not None])

    async def _among(self, column: Column, values: Sequence[object]) -> RowPage:
        query, parameters = self._queries.among(column, values)
        page, _ = await self._file.run(lambda database: self._page(database, query, parameters))
        return page

    async def write(self, writes: Sequence[NativeWrite]) -> list[Outcome]:
        """See `System.write`."""
        if not writes:
            return []
        if self._described.view:
            raise Misconfigured(
                f"{self._name} is a view, which takes no {writes[0].operation.value.lower()}: name the table beneath "
                "it, or use access: ReadOnly",
                reason="ReadOnly",
            )
        return await self._file.run(lambda database: self._writer.write(database, writes))


def _value(found: Any) -> Value:
    """A modification time as it goes into a cursor."""
    return found if isinstance(found, str | int | float) else None
