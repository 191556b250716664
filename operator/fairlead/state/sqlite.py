"""State in one SQLite file (WAL), for one worker: no server, and a copy of the file is a backup."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from itertools import chain
from pathlib import Path
from typing import IO, Any, ParamSpec, TypeVar

import orjson

from fairlead.state.base import Known, StateError
from fairlead.state.history import RunRecord
from fairlead.state.sql import SQLStore
from fairlead.state.sql_base import finished
from fairlead.state.sqlite_file import TYPES, attached, connected, copied, locked, rewritten, state_error
from fairlead.state.tables import Clear, Drop, Put, Query, Row, Step, on_conflict

P = ParamSpec("P")
T = TypeVar("T")

_VALUES = 2000
"""Bound to one INSERT of many rows; a row has hundreds at most."""


class SQLiteStore(SQLStore):
    """See `state.base.Store`. `path` is the file; `path.lock` beside it keeps a second worker out.

    A `scratch` store is a copy of the file as it is now, in a temporary one that ends with it: for plans.
    """

    # CROSS JOIN: the planner must not scan the table for every page
    TEXTS = "json_each(?) j CROSS JOIN"
    NUMBERS = TEXTS
    TYPES = TYPES

    def __init__(self, path: Path, *, scratch: bool = False) -> None:
        super().__init__()
        self._path = path
        self._scratch = scratch
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="state")
        self._lock: IO[str] | None = None
        self._database: sqlite3.Connection | None = None

    async def _run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs a blocking call in the store's own thread."""
        loop = asyncio.get_running_loop()
        return await finished(loop.run_in_executor(self._thread, lambda: self._guarded(call, *args, **kwargs)))

    def _guarded(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return call(*args, **kwargs)
        except (sqlite3.Error, OSError) as error:
            raise state_error(error, self._path) from error

    @property
    def _db(self) -> sqlite3.Connection:
        if self._database is None:
            raise StateError(f"state {self._path} is not open")
        return self._database

    # --- open and close ---

    async def _acquire(self) -> None:
        await self._run(self._connect)

    def _connect(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if self._scratch:
            self._database = copied(self._path)
        else:
            self._lock = locked(self._path)
            self._database = connected(self._path)

    async def _attach(self) -> None:
        self._database = await self._run(attached, self._path)

    async def _release(self) -> None:
        await self._run(self._disconnect)

    def _disconnect(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    async def close(self) -> None:
        """See `Store.close`."""
        await super().close()
        self._thread.shutdown(wait=False)

    # --- nothing is left in the file of what was deleted from it ---

    async def record_run(self, run: RunRecord) -> None:
        """See `Store.record_run`."""
        await super().record_run(run)
        await self._run(self._empty_log)

    async def _sweep(self) -> None:
        await self._run(self._rewrite)

    def _rewrite(self) -> None:
        """`secure_delete` overwrites what is deleted, but not what was left where a page was split or merged."""
        if not self._scratch:
            rewritten(self._db, self._path.parent)
            if self._empty_log():
                raise StateError(f"state {self._path} is being read: end other commands and copies of it")

    def _empty_log(self) -> bool:
        """The log holds pages as they were before values in them were overwritten.

        Returns:
            Whether that has to wait for somebody who reads them.
        """
        ((busy, _, _),) = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return bool(busy)

    # --- queries and transactions ---

    async def _fetch(self, *queries: Query) -> list[list[Row]]:
        return await self._run(lambda: [self._execute(query).fetchall() for query in queries])

    def _execute(self, query: Query) -> sqlite3.Cursor:
        return self._db.execute(query.text, [_json(v) if isinstance(v, list) else v for v in query.values])

    async def lookup(self, system: str, keys: Sequence[str]) -> Known:
        """See `Store.lookup`: in one row, since SQLite lets go of the interpreter's lock, and takes it, for every row.

        No planner turns around a LEFT JOIN, so the lists are in the order of keys.
        """
        n = self._rows.slots[system]
        lists = f"SELECT json_group_array(r.id), json_group_array(r.r{n})"
        found = await self._one(f"{lists} FROM json_each(?) j LEFT JOIN record r ON r.k{n} = j.value", list(keys))
        records, rows = found or ("[]", "[]")
        return Known(orjson.loads(records), orjson.loads(rows))

    async def _apply(self, steps: Sequence[Step]) -> None:
        await self._run(self._do_all, steps)

    def _do_all(self, steps: Sequence[Step]) -> None:
        if self._db.in_transaction:
            self._do(steps)
            return
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._do(steps)
            self._db.execute("COMMIT")
        except BaseException:
            self._rollback()
            raise

    def _do(self, steps: Sequence[Step]) -> None:
        for step in steps:
            if isinstance(step, Query):
                self._execute(step)
            elif isinstance(step, Put):
                self._put(step)
            else:
                self._db.executemany(_changing(step), step.rows)

    def _put(self, step: Put) -> None:
        """Inserts many rows with each statement.

        SQLite lets go of the interpreter's lock, and takes it, once for each: that costs a third of an insert, and much
        more while another thread works.
        """
        start, size = 0, _VALUES // len(step.columns)
        while left := len(step.rows) - start:
            # powers of two: each number of rows is a statement of its own, and the last 128 are kept prepared
            count = size if left >= size else 1 << left.bit_length() - 1
            rows = step.rows[start : start + count]
            self._db.execute(_inserting(step, count), list(chain.from_iterable(rows)))
            start += count

    def _rollback(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[None]:
        await self._run(self._db.execute, "BEGIN IMMEDIATE")
        try:
            yield
            await self._run(self._db.execute, "COMMIT")
        except BaseException:
            await self._run(self._rollback)
            raise


def _changing(step: Drop | Clear) -> str:
    where = " AND ".join(f"{column} = ?" for column in step.by)
    if isinstance(step, Clear):
        return f"UPDATE {step.table.name} SET {step.column} = NULL WHERE {where}"
    return f"DELETE FROM {step.table.name} WHERE {where}"


def _inserting(step: Put, count: int) -> str:
    row = f"({', '.join('?' * len(step.columns))})"
    values = ", ".join([row] * count)
    return f"INSERT INTO {step.table.name}({', '.join(step.columns)}) VALUES {values}{on_conflict(step)}"


def _json(values: list[Any]) -> str:
    return orjson.dumps(values).decode()
