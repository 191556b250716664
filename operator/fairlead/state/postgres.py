"""State in a schema of a PostgreSQL database: it outlives nodes and volumes, and is backed up with the rest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeAlias, TypeVar

import psycopg
from psycopg.pq import TransactionStatus

from fairlead.state.base import Commit, StateError, StateFull
from fairlead.state.history import RunRecord
from fairlead.state.postgres_failure import state_error
from fairlead.state.postgres_schema import (
    FENCE,
    TYPES,
    AsyncConnection,
    attach,
    compact,
    confirm,
    copy,
    prepare,
    quoted,
    return_to,
    sweep,
    take_over,
)
from fairlead.state.postgres_succession import oust, outlast
from fairlead.state.postgres_text import ELEMENTS, Array
from fairlead.state.sql import SQLStore
from fairlead.state.sql_base import finished
from fairlead.state.tables import Clear, Drop, Put, Query, Row, Step, Table, Type, on_conflict
from fairlead.transport.failure import Failure

T = TypeVar("T")
Cursor: TypeAlias = "psycopg.AsyncCursor[Row]"

PATIENCE = 180.0
"""Seconds after which a call that the server should have ended long ago is given up."""

SWEEPING = 3600.0
"""The same, of writing every table anew."""

_FEW = 5_000
"""Rows that may be stored, and replaced, without the tables being written anew."""


class PostgresStore(SQLStore):
    """See `state.base.Store`.

    One connection, on which calls are made one at a time. When it breaks, reading goes on over a new one, unless
    another worker took over meanwhile; a transaction that broke is given up, and its run with it.

    Args:
        connect: makes a connection in autocommit mode, without prepared statements.
        schema: see `postgres_schema.schema_name`.
        where: the server and database, for messages.
        scratch: works on a copy of the schema as it is now, in temporary tables: for plans.
    """

    TEXTS = "(SELECT value, place - 1 AS key FROM unnest(?::text[]) WITH ORDINALITY u(value, place)) j JOIN"
    NUMBERS = "(SELECT value, place - 1 AS key FROM unnest(?::bigint[]) WITH ORDINALITY u(value, place)) j JOIN"
    TYPES = TYPES

    def __init__(
        self, connect: Callable[[], Awaitable[AsyncConnection]], schema: str, where: str, *, scratch: bool = False
    ) -> None:
        super().__init__()
        self._connect = connect
        self._schema = schema
        self._name = f"{schema} on {where}"
        self._scratch = scratch
        self._connection: AsyncConnection | None = None
        self._epoch = ""
        self._stored = 0
        self._within = False
        self._turn = asyncio.Lock()

    # --- open and close ---

    async def _acquire(self) -> None:
        await finished(self._guarded(self._begin()))

    async def _begin(self) -> None:
        connection = self._connection = await self._connected()
        if self._scratch:
            await copy(connection, self._schema, self._name)
        else:
            await oust(connection, self._schema)
            self._epoch = await take_over(connection, self._schema, self._name)
            await outlast(connection, self._schema)

    @property
    def epoch(self) -> str:
        """Under which this writer stores."""
        return self._epoch

    async def _attach(self) -> None:
        await finished(self._guarded(self._begin_beside()))

    async def _begin_beside(self) -> None:
        self._connection = await self._connected()
        await attach(self._connection, self._schema, self._name)

    async def _connected(self) -> AsyncConnection:
        connection = await self._connect()
        try:
            await prepare(connection, "pg_temp" if self._scratch else f"{quoted(self._schema)}, pg_temp")
        except BaseException:
            await connection.close()
            raise
        return connection

    async def _release(self) -> None:
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    async def _sweep(self) -> None:
        if not self._scratch:
            await self._call(lambda connection: sweep(connection, self._schema), again=False, patience=SWEEPING)

    # --- what was replaced takes no room ---

    async def commit(self, commit: Commit) -> None:
        """See `Store.commit`."""
        await super().commit(commit)
        self._stored += len(commit.records)

    async def record_run(self, run: RunRecord) -> None:
        """See `Store.record_run`."""
        await super().record_run(run)
        if self._stored > _FEW and self._stored > (await self.counts()).records and not self._scratch:
            await self._make_room()

    async def _make_room(self) -> None:
        try:
            await self._call(lambda connection: compact(connection, self._schema), again=False, patience=SWEEPING)
        except StateFull:
            pass  # it takes room to make room: not before as much was stored again
        except StateError:
            return  # the next run tries again, or says what it is
        self._stored = 0

    # --- a connection that may break ---

    async def _guarded(self, work: Awaitable[T], patience: float = PATIENCE) -> T:
        try:
            async with asyncio.timeout(patience):
                return await work
        except psycopg.Error as error:
            raise state_error(error, self._name) from None
        except Failure as failure:
            raise StateError(f"state {self._name}: {failure.message}") from None
        except TimeoutError:
            raise StateError(f"state {self._name} does not answer in time; the next run tries again") from None

    async def _call(
        self, work: Callable[[AsyncConnection], Awaitable[T]], *, again: bool, patience: float = PATIENCE
    ) -> T:
        """What `work` returns; `again` says that it may be begun anew where the connection breaks in it."""
        return await finished(self._in_turn(work, again, patience))

    async def _in_turn(self, work: Callable[[AsyncConnection], Awaitable[T]], again: bool, patience: float) -> T:
        async with self._turn:
            return await self._tried(work, again, patience)

    async def _tried(self, work: Callable[[AsyncConnection], Awaitable[T]], again: bool, patience: float) -> T:
        if self._connection is None:
            raise StateError(f"state {self._name} is not open")
        connection = self._connection if not self._connection.closed else await self._resumed()
        try:
            return await self._guarded(work(connection), patience)
        except StateError:
            if connection.pgconn.transaction_status == TransactionStatus.ACTIVE:
                await connection.close()  # given up in the middle: nothing can follow on it
            if not connection.closed or self._within:
                raise
            connection = await self._resumed()  # or another worker took over, which is the better thing to say
            if not again:
                raise
        return await self._guarded(work(connection), patience)

    async def _resumed(self) -> AsyncConnection:
        """A new connection to go on over, if nobody took over; an open transaction is lost with the old one."""
        if self._scratch or self._within:
            raise StateError(f"state {self._name} broke the connection; nothing was lost, and the next run goes on")
        connection = await self._guarded(self._connected())
        try:
            if not self._joined:
                await self._guarded(return_to(connection, self._schema, self._name, self._epoch))
        except BaseException:
            await connection.close()
            raise
        self._connection = connection
        return connection

    # --- queries and transactions ---

    async def _fetch(self, *queries: Query) -> list[list[Row]]:
        return await self._call(lambda connection: _rows(connection, queries), again=True)

    async def _apply(self, steps: Sequence[Step]) -> None:
        if self._within:
            await self._call(lambda connection: _do(connection, steps), again=False)
        elif steps:
            await self._call(lambda connection: self._commit(connection, steps), again=False)

    async def _commit(self, connection: AsyncConnection, steps: Sequence[Step]) -> None:
        try:
            await self._begun(connection)
            await _do(connection, steps)
            await connection.execute("COMMIT")
        except BaseException:
            await _roll_back(connection)
            raise

    async def _begun(self, connection: AsyncConnection) -> None:
        async with connection.pipeline():
            await connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
            fence = None if self._scratch or self._joined else await connection.execute(FENCE)
        if fence is not None:
            confirm(await fence.fetchone(), self._epoch, self._name)

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[None]:
        await self._call(self._begun, again=True)
        self._within = True
        try:
            yield
            await self._call(lambda connection: connection.execute("COMMIT"), again=False)
        except BaseException:
            await finished(self._given_up())
            raise
        finally:
            self._within = False

    async def _given_up(self) -> None:
        if self._connection is not None:
            await _roll_back(self._connection)


async def _roll_back(connection: AsyncConnection) -> None:
    """Ends a transaction without effect; a connection on which that fails is closed, to the same end."""
    if connection.closed or connection.pgconn.transaction_status == TransactionStatus.IDLE:
        return
    try:
        async with asyncio.timeout(10):
            await connection.execute("ROLLBACK")
    except (psycopg.Error, TimeoutError):
        await connection.close()


async def _rows(connection: AsyncConnection, queries: Sequence[Query]) -> list[list[Row]]:
    if len(queries) == 1:
        return [await (await _execute(connection, queries[0])).fetchall()]
    async with connection.pipeline():
        cursors = [await _execute(connection, query) for query in queries]
    return [await cursor.fetchall() for cursor in cursors]


async def _do(connection: AsyncConnection, steps: Sequence[Step]) -> None:
    async with connection.pipeline():
        for step in steps:
            if isinstance(step, Query):
                await _execute(connection, step)
            else:
                await connection.execute(*(_insert(step) if isinstance(step, Put) else _change(step)))


async def _execute(connection: AsyncConnection, query: Query) -> Cursor:
    values = [_list(value) if isinstance(value, list) else value for value in query.values]
    return await connection.execute(query.text.replace("?", "%s"), values)


def _list(values: list[Any]) -> Array:
    return Array(Type.INTEGER if values and isinstance(values[0], int) else Type.TEXT, values)


def _insert(step: Put) -> tuple[str, list[Array]]:
    rows: Sequence[Row] = step.rows
    if step.replace:  # one statement cannot replace a row twice
        places = [step.columns.index(name) for name in step.table.key]
        rows = list({tuple(row[place] for place in places): row for row in rows}.values())
    source, values = _arrays(step.table, step.columns, rows)
    return f"INSERT INTO {step.table.name}({', '.join(step.columns)}) SELECT * FROM {source}{on_conflict(step)}", values


def _change(step: Drop | Clear) -> tuple[str, list[Array]]:
    name = step.table.name
    where = " AND ".join(f"{name}.{column} = gone.{column}" for column in step.by)
    source, values = _arrays(step.table, step.by, step.rows)
    gone = f"{source} AS gone({', '.join(step.by)}) WHERE {where}"
    if isinstance(step, Clear):
        return f"UPDATE {name} SET {step.column} = NULL FROM {gone}", values
    return f"DELETE FROM {name} USING {gone}", values


def _arrays(table: Table, columns: Sequence[str], rows: Sequence[Row]) -> tuple[str, list[Array]]:
    """Rows as one array per column: thousands in one statement."""
    kinds = [table.columns[name] for name in columns]
    source = f"unnest({', '.join(f'%s::{ELEMENTS[kind]}[]' for kind in kinds)})"
    return source, [Array(kind, column) for kind, column in zip(kinds, zip(*rows, strict=True), strict=True)]
