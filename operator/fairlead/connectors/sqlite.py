"""SQLite: one file, read and written in a thread of its own."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from urllib.parse import unquote, urlsplit

import orjson

from fairlead.connectors.base import Attribute, Capabilities, Health, NativeWrite, Operation, Outcome, Page, Verdict
from fairlead.connectors.table import LOOKBACK, PAGE, Columns, Cursor, TablePage, near, require_columns
from fairlead.model.connection import Connection
from fairlead.model.connector import ErrorClass
from fairlead.model.record import Native
from fairlead.transport.failure import Failure, Misconfigured, Transient

P = ParamSpec("P")
T = TypeVar("T")

TIMEOUT = 30.0
"""Seconds to wait for another writer, and for any one call."""


class SQLiteDatabase:
    """One SQLite file, shared by every policy of a process that uses the Connection."""

    def __init__(self, connection: Connection) -> None:
        self.path = _path(connection.spec.url)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sqlite")
        self._database: sqlite3.Connection | None = None

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs a call in the database's thread; a cancelled caller waits until it is whole."""
        loop = asyncio.get_running_loop()
        done = loop.run_in_executor(self._thread, lambda: self._guarded(call, *args, **kwargs))
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            await asyncio.wait([done])
            raise

    def _guarded(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return call(*args, **kwargs)
        except sqlite3.Error as error:
            raise _failure(error, self.path) from None

    @property
    def database(self) -> sqlite3.Connection:
        """The open database; only to be used in its thread."""
        if self._database is None:
            if not self.path.exists():
                raise Misconfigured(f"there is no SQLite file {self.path}", reason="DatabaseNotFound")
            self._database = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=TIMEOUT)
            self._database.execute("PRAGMA foreign_keys = ON")
        return self._database

    async def open(
        self, object_name: str, *, paths: Sequence[str], key: str | None, modified: str | None
    ) -> SQLiteTable:
        """See `Client.open`."""
        return await SQLiteTable.open(self, object_name, paths, key, modified)

    async def probe(self) -> Health:
        """See `Client.probe`."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        await self.run(lambda: self.database.execute("SELECT count(*) FROM sqlite_schema").fetchone())
        return Health(loop.time() - started)

    async def close(self) -> None:
        """Closes the file."""
        if self._database is not None:
            await self.run(self._database.close)
            self._database = None
        self._thread.shutdown(wait=False)


class SQLiteTable:
    """A table or view of a SQLite file. See `connectors.base.System`."""

    def __init__(self, database: SQLiteDatabase, table: str, columns: Columns, types: dict[str, str]) -> None:
        self._shared = database
        self._table = _quoted(table)
        self._name = table
        self._columns = columns
        self._types = types
        self._select = ", ".join(map(_quoted, columns.all))
        self._key = _quoted(columns.key)

    @classmethod
    async def open(
        cls, database: SQLiteDatabase, table: str, paths: Sequence[str], key: str | None, modified: str | None
    ) -> SQLiteTable:
        """Opens a table for the columns that a policy maps.

        Raises:
            Misconfigured: no such table or column, or no single-column key.
        """
        info = await database.run(_table_info, database, table)
        if not info:
            tables = await database.run(_tables, database)
            raise Misconfigured(f"{database.path} has no table {table!r}{near(table, tables)}", reason="ObjectNotFound")
        types = {name: kind.upper() for name, kind, _ in info}
        primary = [name for name, _, position in sorted(info, key=lambda row: row[2]) if position]
        if key is None and len(primary) != 1:
            raise Misconfigured(
                f"table {table} has no single-column primary key: name a unique column in systems[].key",
                reason="KeyNotFound",
            )
        columns = Columns(key or primary[0], tuple(sorted(paths)), modified)
        require_columns(table, columns, list(types))
        return cls(database, table, columns, types)

    @property
    def capabilities(self) -> Capabilities:
        """See `System.capabilities`."""
        return Capabilities(
            create=True, update=True, delete=True, changes=self._columns.modified is not None, find=True
        )

    async def scan(self) -> AsyncIterator[Page]:
        """Pages by key, each its own short read: no long transaction holds up the application."""
        cursor = await self._settled_cursor()
        last, more = None, True
        while more:
            where = f"WHERE {self._key} > ?" if last is not None else ""
            values = (last,) if last is not None else ()
            rows, modified = await self._rows(f"{where} ORDER BY {self._key} LIMIT {PAGE}", values)
            more = len(rows) == PAGE
            last = rows[-1][0] if rows else None
            yield TablePage(self._columns.all, rows, modified=modified, cursor=None if more else cursor)

    async def changes(self, cursor: str) -> AsyncIterator[Page]:
        """See `System.changes`."""
        position = sure = Cursor.parse(cursor)
        horizon = datetime.now(UTC) - LOOKBACK
        more = True
        while more:
            rows, modified = await self._rows(*self._since(position))
            more = len(rows) == PAGE
            if not rows:
                return
            pairs = [(None if m is None else str(m), str(row[0])) for m, row in zip(modified, rows, strict=True)]
            sure = sure.past(pairs, horizon)
            position = position.past(pairs, datetime.max.replace(tzinfo=UTC))
            text = sure.text()
            yield TablePage(self._columns.all, rows, modified=modified, cursor=text if text != cursor else None)

    def _since(self, cursor: Cursor) -> tuple[str, tuple[Any, ...]]:
        column = _quoted(self._columns.modified or "")
        key, modified = self._typed(self._columns.key), self._typed(self._columns.modified or "")
        newer, values = f"{column} IS NOT NULL", []
        if cursor.modified is not None:
            newer = f"({column}, {self._key}) > ({modified}, {key})"
            values += [cursor.modified, cursor.key]
        fresh = f"{column} IS NULL"
        if cursor.null_key is not None:
            fresh += f" AND {self._key} > {key}"
            values.append(cursor.null_key)
        return f"WHERE {newer} OR {fresh} ORDER BY {column}, {self._key} LIMIT {PAGE}", tuple(values)

    def _typed(self, column: str) -> str:
        """A placeholder that compares like the column: cursors are text, and SQLite orders numbers before text."""
        kind = self._types.get(column, "")
        return "CAST(? AS NUMERIC)" if any(word in kind for word in ("INT", "REAL", "NUM", "FLOA", "DEC")) else "?"

    async def _settled_cursor(self) -> str | None:
        if self._columns.modified is None:
            return None
        column, horizon = _quoted(self._columns.modified), datetime.now(UTC) - LOOKBACK
        query = (
            f"SELECT {column}, {self._key} FROM {self._table} WHERE {column} IS NOT NULL "
            f"ORDER BY {column} DESC, {self._key} DESC LIMIT {PAGE}"
        )
        newest = [(str(m), str(k)) for m, k in await self._shared.run(self._fetch, query, ())]
        nulls = f"SELECT max({self._key}) FROM {self._table} WHERE {column} IS NULL"
        null_key = (await self._shared.run(self._fetch, nulls, ()))[0][0]
        newest.reverse()
        cursor = Cursor(null_key=None if null_key is None else str(null_key))
        return cursor.past(newest, horizon).text()

    async def _rows(self, clause: str, values: Sequence[Any]) -> tuple[list[tuple[Any, ...]], list[Any]]:
        extra = f", {_quoted(self._columns.modified)}" if self._columns.modified else ", NULL"
        rows = await self._shared.run(self._fetch, f"SELECT {self._select}{extra} FROM {self._table} {clause}", values)
        return [row[:-1] for row in rows], [row[-1] for row in rows]

    def _fetch(self, query: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        return self._shared.database.execute(query, values).fetchall()

    async def fetch(self, keys: Sequence[str]) -> Page:
        """See `System.fetch`."""
        rows, modified = await self._among(self._columns.key, list(keys))
        here = {str(row[0]) for row in rows}
        gone = [key for key in keys if key not in here]
        return TablePage(self._columns.all, rows, modified=modified, deleted=gone)

    async def find(self, path: str, values: Sequence[object]) -> Page:
        """See `System.find`."""
        rows, modified = await self._among(path, list(values))
        return TablePage(self._columns.all, rows, modified=modified)

    async def _among(self, column: str, values: list[Any]) -> tuple[list[tuple[Any, ...]], list[Any]]:
        placeholder = self._typed(column).replace("?", "value")
        clause = f"WHERE {_quoted(column)} IN (SELECT {placeholder} FROM json_each(?))"
        return await self._rows(clause, (orjson.dumps(values, default=str).decode(),))

    async def write(self, writes: Sequence[NativeWrite]) -> list[Outcome]:
        """See `System.write`."""
        return await self._shared.run(self._write, writes)

    def _write(self, writes: Sequence[NativeWrite]) -> list[Outcome]:
        database = self._shared.database
        database.execute("BEGIN IMMEDIATE")
        try:
            outcomes = [self._write_one(write) for write in writes]
            database.execute("COMMIT")
        except BaseException:
            if database.in_transaction:
                database.execute("ROLLBACK")
            raise
        return outcomes

    def _write_one(self, write: NativeWrite) -> Outcome:
        """One write under its own savepoint: a row that the database refuses leaves the others alone."""
        database = self._shared.database
        database.execute("SAVEPOINT one")
        try:
            outcome = self._apply(write)
        except (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.InterfaceError, OverflowError) as error:
            database.execute("ROLLBACK TO one")
            outcome = self._refused(write, error)
        database.execute("RELEASE one")
        return outcome

    def _apply(self, write: NativeWrite) -> Outcome:
        if write.operation is Operation.CREATE:
            return self._create(write)
        current = self._current(self._columns.key, write.key)
        if current is None:
            return Outcome(ErrorClass.GONE, f"no row with this key in {self._name}", key=write.key)
        verdict = write.check(self._native(current))
        if verdict is Verdict.CONFLICT:
            return self._outcome(current, ErrorClass.CONFLICT, "edited meanwhile")
        if verdict is Verdict.DONE:
            return self._outcome(current)
        if write.operation is Operation.DELETE:
            self._shared.database.execute(f"DELETE FROM {self._table} WHERE {self._key} = ?", (current[0],))
            return Outcome(key=write.key)
        names = list(write.values)
        sets = ", ".join(f"{_quoted(name)} = ?" for name in names)
        values = [_adapted(write.values[name]) for name in names]
        query = f"UPDATE {self._table} SET {sets} WHERE {self._key} = ? RETURNING {self._select}"
        rows = self._shared.database.execute(query, (*values, current[0])).fetchall()
        return self._outcome(rows[0])

    def _create(self, write: NativeWrite) -> Outcome:
        names = list(write.values)
        columns, places = ", ".join(map(_quoted, names)), ", ".join("?" * len(names))
        query = f"INSERT INTO {self._table} ({columns}) VALUES ({places}) RETURNING {self._select}"
        values = [_adapted(write.values[name]) for name in names]
        return self._outcome(self._shared.database.execute(query, values).fetchall()[0])

    def _refused(self, write: NativeWrite, error: Exception) -> Outcome:
        """What a refused row means: a duplicate is a conflict with the row that is there."""
        if getattr(error, "sqlite_errorname", "") in ("SQLITE_CONSTRAINT_UNIQUE", "SQLITE_CONSTRAINT_PRIMARYKEY"):
            for column in str(error).rpartition(": ")[2].split(", "):
                name = column.rpartition(".")[2]
                current = self._current(name, _adapted(write.values.get(name)))
                if current is not None and write.operation is Operation.CREATE:
                    return self._outcome(current, ErrorClass.CONFLICT, "exists already")
        return Outcome(ErrorClass.INVALID, f"{self._name} refuses the row: {error}", key=write.key)

    def _current(self, column: str, value: Any) -> tuple[Any, ...] | None:
        query = f"SELECT {self._select} FROM {self._table} WHERE {_quoted(column)} = {self._typed(column)} LIMIT 1"
        rows = self._fetch(query, (value,))
        return rows[0] if rows else None

    def _native(self, row: Sequence[Any]) -> Native:
        return dict(zip(self._columns.all, row, strict=True))

    def _outcome(self, row: Sequence[Any], error: ErrorClass | None = None, message: str = "") -> Outcome:
        raw = orjson.dumps(row, default=str)
        return Outcome(error, message, key=str(row[0]), raw=raw, stored=self._native(row))

    async def attributes(self) -> Sequence[Attribute]:
        """See `System.attributes`."""
        return [Attribute(name, kind.lower()) for name, kind in self._types.items()]

    async def close(self) -> None:
        """The database is shared; it closes with its Connection."""


def _table_info(database: SQLiteDatabase, table: str) -> list[tuple[str, str, int]]:
    query = "SELECT name, type, pk FROM pragma_table_info(?)"
    return database.database.execute(query, (table,)).fetchall()


def _tables(database: SQLiteDatabase) -> list[str]:
    return [
        row[0] for row in database.database.execute("SELECT name FROM sqlite_schema WHERE type IN ('table', 'view')")
    ]


def _path(url: str) -> Path:
    """sqlite:///relative/file or sqlite:////absolute/file, as SQLAlchemy writes them."""
    parts = urlsplit(url)
    if parts.netloc or not parts.path.startswith("/"):
        raise Misconfigured("write sqlite:///relative/file or sqlite:////absolute/file", reason="InvalidSpec")
    return Path(unquote(parts.path[1:]))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _adapted(value: object) -> object:
    """SQLite has neither decimals nor lists: an amount is stored as the column's affinity makes of its digits."""
    if isinstance(value, Decimal):
        return str(value)
    return orjson.dumps(value).decode() if isinstance(value, list | dict) else value


def _failure(error: sqlite3.Error, path: Path) -> Failure:
    text, name = str(error), getattr(error, "sqlite_errorname", "") or ""
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return Transient(f"{path} is locked by another writer", reason="Locked")
    if name.startswith("SQLITE_FULL"):
        return Transient(f"no space is left for {path}: free some", reason="DiskFull")
    if name.startswith(("SQLITE_CANTOPEN", "SQLITE_NOTADB", "SQLITE_CORRUPT", "SQLITE_READONLY", "SQLITE_PERM")):
        return Misconfigured(f"{path} cannot be used: {text}", reason="DatabaseUnusable")
    return Misconfigured(f"{path}: {text}", reason="UnexpectedAnswer")
