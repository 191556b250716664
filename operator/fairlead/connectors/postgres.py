"""PostgreSQL: a table or view as a system (psycopg 3)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import psycopg
from psycopg import sql

from fairlead.connectors import table
from fairlead.connectors.base import Attribute, Capabilities, Health, NativeWrite, Outcome, Page
from fairlead.connectors.feed import Key, Moment, Value
from fairlead.connectors.postgres_catalog import AsyncConnection, Relation, describe
from fairlead.connectors.postgres_failure import failure_of, is_of_a_row
from fairlead.connectors.postgres_page import TextPage, key_of, page_of_rows, page_of_text
from fairlead.connectors.postgres_query import MOMENT, Queries
from fairlead.connectors.postgres_session import STATEMENT_TIMEOUT, Row, Sessions, rows_of
from fairlead.connectors.postgres_text import Column, Unfit, text
from fairlead.connectors.postgres_write import Writer
from fairlead.connectors.table import (
    FIRST,
    PAGE_BYTES,
    Names,
    Part,
    names_of,
    not_unique,
    page_size,
    require_column,
)
from fairlead.model.common import seconds
from fairlead.model.connection import Connection, Limits
from fairlead.transport.failure import Transient
from fairlead.transport.secrets import Secrets

_MAY_WAIT = "SET idle_in_transaction_session_timeout = '1h'"
"""Between two pages of a cursor, whoever reads them may have to write them elsewhere."""


class PostgresDatabase:
    """One database. See `connectors.base.Client`."""

    def __init__(self, connection: Connection, secrets: Secrets) -> None:
        self._sessions = Sessions(connection, secrets)
        self._patience = seconds(connection.spec.probe.timeout)

    async def open(
        self, object_name: str, *, paths: Sequence[str], key: str | None, modified: str | None
    ) -> PostgresTable:
        """See `Client.open`."""
        relation = await self._sessions.run(lambda connection: describe(connection, object_name))
        names = names_of(object_name, list(relation.columns), relation.primary, paths=paths, key=key, modified=modified)
        return PostgresTable(self._sessions, relation, names)

    def limit(self, limits: Limits) -> None:
        """See `Client.limit`."""
        self._sessions.limit(limits)

    async def probe(self) -> Health:
        """See `Client.probe`."""
        started = time.monotonic()
        try:
            async with asyncio.timeout(self._patience):
                await self._sessions.once(lambda connection: connection.execute("SELECT 1"))
        except TimeoutError:
            raise Transient(
                f"{self._sessions.where} does not answer within probe.timeout ({self._patience:g} s)", reason="Timeout"
            ) from None
        return Health(time.monotonic() - started)

    async def close(self) -> None:
        """Closes the connections that are idle."""
        await self._sessions.close()


class PostgresTable:
    """One table or view. See `connectors.base.System` and `connectors.table.Source`."""

    def __init__(self, sessions: Sessions, relation: Relation, names: Names) -> None:
        self._sessions = sessions
        self._relation = relation
        self._queries = Queries(relation, names)
        self._writer = Writer(sessions, relation, self._queries)
        self._ordered = (names.key,) in relation.uniques
        self.timed = names.modified is not None
        self.first = max(1, min(FIRST, int(PAGE_BYTES / relation.width))) if relation.width else FIRST

    @property
    def capabilities(self) -> Capabilities:
        """See `System.capabilities`."""
        relation = self._relation
        return Capabilities(
            create=relation.inserts, update=relation.updates, delete=relation.deletes, changes=self.timed, find=True
        )

    async def attributes(self) -> Sequence[Attribute]:
        """See `System.attributes`."""
        return [
            Attribute(column.name, column.sql_type, writable=not column.generated, nullable=column.nullable)
            for column in self._relation.columns.values()
        ]

    async def close(self) -> None:
        """The connections are the database's."""

    # --- reading ---

    def scan(self) -> AsyncIterator[Page]:
        """See `System.scan`: by key where an index orders it, else as one statement gives the rows."""
        return table.scan(self) if self._ordered else self._streamed()

    def changes(self, cursor: str) -> AsyncIterator[Page]:
        """See `System.changes`."""
        return table.changes(self, cursor)

    async def moment(self) -> Moment:
        """See `Source.moment`."""
        ((now, oldest, running, following),) = await self._fetched(sql.SQL(MOMENT))
        return Moment(now, time.monotonic(), oldest, running, following)

    async def newest(self) -> tuple[Value, Key]:
        """See `Source.newest`."""
        queries = self._queries
        assert queries.modified is not None
        ((top, null_top),) = await self._fetched(queries.newest())
        return key_of(queries.modified, top), key_of(queries.key, null_top)

    async def by_key(self, last: Part | None, limit: int) -> Part:
        """See `Source.by_key`."""
        values = [] if last is None else [str(last.key)]
        return await self._part(self._queries.after_key(last is not None), values, limit)

    async def by_time(self, after: Value, last: Part | None, limit: int) -> Part:
        """See `Source.by_time`."""
        rest = self._queries.after_time(after is not None, last is not None)
        if last is not None:
            return await self._part(rest, [str(last.time), str(last.key)], limit)
        return await self._part(rest, [] if after is None else [str(after)], limit)

    async def untimed(self, after: Key, last: Part | None, limit: int) -> Part:
        """See `Source.untimed`."""
        key = after if last is None else last.key
        return await self._part(self._queries.untimed(key is not None), [] if key is None else [str(key)], limit)

    def nothing(self) -> TextPage:
        """See `Source.nothing`."""
        return TextPage(self._queries.columns, [], [])

    async def _part(self, rest: sql.Composable, values: Sequence[str], limit: int) -> Part:
        queries, bound = self._queries, [*values, limit]
        joined, plain = queries.joined(rest), queries.plain(rest)
        (whole,) = await self._sessions.run(lambda connection: rows_of(connection, joined, bound))
        found = page_of_text(queries.columns, [int(whole[0] or 0), int(whole[1] or 0), *whole[2:]], queries.modified)
        if found is None:
            rows = await self._sessions.run(lambda connection: rows_of(connection, plain, bound))
            found = self._page(rows), _size(rows)
        page, size = found
        if not page.keys:
            return Part(page)
        return Part(
            page, size, len(page.keys) >= limit, page.time(len(page.keys) - 1), key_of(queries.key, page.keys[-1])
        )

    def _page(self, rows: Sequence[Row]) -> TextPage:
        return page_of_rows(self._queries.columns, rows, self._queries.modified)

    async def _fetched(self, query: sql.SQL | sql.Composed) -> list[tuple[Any, ...]]:
        async def fetched(connection: AsyncConnection) -> list[tuple[Any, ...]]:
            return await (await connection.execute(query, ())).fetchall()

        return await self._sessions.run(fetched)

    async def _streamed(self) -> AsyncIterator[Page]:
        """All rows by a cursor, on a connection of its own: it stays open while others are needed for writing."""
        if await self._fetched(self._queries.doubled()):
            raise not_unique(f"{self._relation.schema}.{self._relation.name}", self._queries.key.name)
        cursor = await table.checkpoint(self)
        try:
            async with await self._sessions.connect() as connection:
                await connection.set_autocommit(False)
                await connection.execute(_MAY_WAIT)
                await connection.execute(self._queries.cursor(), ())
                limit, rows = self.first, await _next_rows(connection, self.first)
                while len(rows) >= limit:
                    yield self._page(rows)
                    limit = page_size(len(rows), _size(rows), limit)
                    rows = await _next_rows(connection, limit)
        except psycopg.Error as error:
            raise failure_of(error, self._sessions.where) from None
        except TimeoutError:
            raise Transient(f"{self._sessions.where} does not answer in time", reason="Timeout") from None
        page = self._page(rows)
        page.cursor = cursor
        yield page

    # --- single records ---

    async def fetch(self, keys: Sequence[str]) -> Page:
        """See `System.fetch`."""
        page = self._page(await self._among(self._queries.key, keys))
        here = set(page.keys)
        page.deleted = [key for key in keys if key not in here]
        return page

    async def find(self, path: str, values: Sequence[object]) -> Page:
        """See `System.find`."""
        require_column(self._relation.name, path, list(self._relation.columns))
        column = self._relation.columns[path]
        texts = [_held(column, value) for value in values]
        return self._page(await self._among(column, [item for item in texts if item is not None]))

    async def _among(self, column: Column, texts: Sequence[str]) -> list[Row]:
        """Rows that hold one of some values; one that the column's type cannot hold is in no row."""
        query = self._queries.plain(self._queries.among(column))

        async def rows(connection: AsyncConnection, some: list[str]) -> list[Row]:
            if not some:
                return []
            try:
                return await rows_of(connection, query, (some,))
            except psycopg.Error as error:
                if not is_of_a_row(error):
                    raise
            half = len(some) // 2
            return [*await rows(connection, some[:half]), *await rows(connection, some[half:])] if half else []

        return await self._sessions.run(lambda connection: rows(connection, list(dict.fromkeys(texts))))

    async def write(self, writes: Sequence[NativeWrite]) -> list[Outcome]:
        """See `System.write`."""
        return await self._writer.write(writes)


def _held(column: Column, item: object) -> str | None:
    """A value as text; None when the column holds no such value."""
    try:
        return text(column, item)
    except Unfit:
        return None


def _size(rows: Sequence[Row]) -> int:
    return sum(len(item) for row in rows for item in row if item)


async def _next_rows(connection: AsyncConnection, limit: int) -> list[Row]:
    async with asyncio.timeout(STATEMENT_TIMEOUT):
        return await rows_of(connection, sql.SQL("FETCH FORWARD {} FROM fairlead").format(limit), ())
