"""PostgreSQL: COPY for whole tables, one transaction per batch of writes (psycopg 3)."""

from __future__ import annotations

import asyncio
import ipaddress
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, cast
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec
import orjson
import psycopg
from psycopg import errors, sql

from fairlead.connectors import copytext
from fairlead.connectors.base import Attribute, Capabilities, Health, NativeWrite, Operation, Outcome, Page, Verdict
from fairlead.connectors.table import LOOKBACK, PAGE, Columns, Cursor, near, require_columns
from fairlead.model.common import seconds
from fairlead.model.connection import Connection
from fairlead.model.connector import ErrorClass
from fairlead.model.record import MISSING, Native
from fairlead.transport.failure import AuthRejected, Failure, Misconfigured, Transient
from fairlead.transport.secrets import Secrets

CONNECT_TIMEOUT = 10
STATEMENT_TIMEOUT = 300
"""Seconds."""

_SETTINGS = (
    "-c TimeZone=UTC -c DateStyle=ISO -c IntervalStyle=iso_8601 -c extra_float_digits=1 -c bytea_output=hex "
    f"-c statement_timeout={STATEMENT_TIMEOUT}s -c lock_timeout=30s -c idle_in_transaction_session_timeout=120s"
)

_OPTIONS = frozenset({"sslmode", "application_name", "connect_timeout", "target_session_attrs"})

_INSERT_AT_ONCE = 20
"""From this many creates on, COPY is quicker than single statements."""

AsyncConnection = psycopg.AsyncConnection[tuple[Any, ...]]


class PostgresDatabase:
    """One PostgreSQL database: a bounded set of connections, shared by every policy that uses the Connection."""

    def __init__(self, connection: Connection, secrets: Secrets) -> None:
        self._connection = connection
        self._secrets = secrets
        self._slots = asyncio.Semaphore(max(2, connection.spec.limits.concurrency))
        self._idle: list[AsyncConnection] = []
        self._files: list[Any] = []

    @asynccontextmanager
    async def session(self) -> AsyncIterator[AsyncConnection]:
        """A connection of one's own; failures of the database are raised as `Failure`s."""
        async with self._slots:
            connection = None
            try:
                connection = await self._take()
                yield connection
            except psycopg.Error as error:
                raise _failure(error, self._where) from None
            finally:
                await self._give_back(connection)

    async def _take(self) -> AsyncConnection:
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed and not connection.broken:
                return connection
        return await psycopg.AsyncConnection.connect(**self._parameters(), autocommit=True)

    async def _give_back(self, connection: AsyncConnection | None) -> None:
        if connection is None or connection.closed:
            return
        idle = connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        if idle and len(self._idle) < 4:
            self._idle.append(connection)
        else:
            await connection.close()

    @property
    def _where(self) -> str:
        parts = urlsplit(self._connection.spec.url)
        return f"{parts.hostname or 'localhost'}:{parts.port or 5432}{parts.path}"

    def _parameters(self) -> dict[str, Any]:
        """Libpq's parameters. Without another word a remote server must prove its name: `sslmode=verify-full`."""
        parts = urlsplit(self._connection.spec.url)
        if parts.username or parts.password:
            raise Misconfigured("spec.url holds credentials: put them into a Secret and use auth.basic")
        options = dict(parse_qsl(parts.query))
        unknown = sorted(options.keys() - _OPTIONS)
        if unknown:
            raise Misconfigured(f"spec.url has options that Fairlead does not know: {', '.join(unknown)}")
        basic = self._connection.spec.auth.basic if self._connection.spec.auth else None
        parameters: dict[str, Any] = {
            "host": parts.hostname or "localhost",
            "port": parts.port or 5432,
            "dbname": unquote(parts.path.lstrip("/")),
            "connect_timeout": CONNECT_TIMEOUT,
            "options": _SETTINGS,
            "application_name": "fairlead",
            "sslmode": "disable" if _local(parts.hostname) else "verify-full",
            **self._trust(),
            **options,
        }
        if basic:
            parameters["user"] = self._secrets.get(basic.username.secret_key_ref)
            parameters["password"] = self._secrets.get(basic.password.secret_key_ref)
        return parameters

    def _trust(self) -> dict[str, str]:
        """The roots to verify against: the CA bundle, else the system's."""
        tls = self._connection.spec.tls
        if tls is None or tls.ca_bundle is None:
            return {} if _local(urlsplit(self._connection.spec.url).hostname) else {"sslrootcert": "system"}
        ref = tls.ca_bundle.secret_key_ref or tls.ca_bundle.config_map_key_ref
        assert ref is not None
        bundle = tempfile.NamedTemporaryFile("w", suffix=".pem")  # noqa: SIM115 - libpq reads it at each connect
        bundle.write(self._secrets.get(ref))
        bundle.flush()
        self._files = [bundle]
        return {"sslrootcert": bundle.name, "sslmode": "verify-full"}

    async def open(
        self, object_name: str, *, paths: Sequence[str], key: str | None, modified: str | None
    ) -> PostgresTable:
        """See `Client.open`."""
        return await PostgresTable.open(self, object_name, paths, key, modified)

    async def probe(self) -> Health:
        """See `Client.probe`."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        async with asyncio.timeout(seconds(self._connection.spec.probe.timeout)), self.session() as connection:
            await connection.execute("SELECT 1")
        return Health(loop.time() - started)

    async def close(self) -> None:
        """Closes every idle connection."""
        while self._idle:
            await self._idle.pop().close()


class _Column(msgspec.Struct, frozen=True):
    name: str
    type: str
    scale: int | None


class CopyPage:
    """Rows as COPY lines; split and decoded only where they are looked at."""

    def __init__(
        self,
        columns: Sequence[_Column],
        raws: Sequence[bytes],
        *,
        modified: Sequence[str | None] | None = None,
        deleted: Sequence[str] = (),
        cursor: str | None = None,
    ) -> None:
        self._columns = columns
        self._position = {item.name: n for n, item in enumerate(columns)}
        self._modified = modified
        self.raws = raws
        self.keys = [copytext.unescaped(raw.partition(b"\t")[0].decode()) for raw in raws]
        self.deleted = deleted
        self.cursor = cursor

    def columns(self, indices: Sequence[int], paths: Sequence[str]) -> list[list[object]]:
        """See `Page.columns`."""
        whole = len(indices) == len(self.raws)
        texts = copytext.split(self.raws if whole else [self.raws[i] for i in indices], len(self._columns))
        found: list[list[object]] = []
        for path in paths:
            n = self._position.get(path)
            if n is None:
                found.append([MISSING] * len(indices))
            else:
                found.append(copytext.column(texts[n], copytext.decoder(self._columns[n].type)))
        return found

    def rows(self, indices: Sequence[int]) -> list[Native]:
        """See `Page.rows`."""
        names = [item.name for item in self._columns]
        return [dict(zip(names, row, strict=True)) for row in zip(*self.columns(indices, names), strict=True)]

    def versions(self, indices: Sequence[int]) -> list[str | None]:
        """A table has no versions: writes compare the row itself, in their transaction."""
        return [None] * len(indices)

    def modified(self, indices: Sequence[int]) -> list[object]:
        """See `Page.modified`."""
        return [self._modified[i] if self._modified else None for i in indices]


class PostgresTable:
    """A table or view. See `connectors.base.System`."""

    def __init__(self, database: PostgresDatabase, table: str, names: Columns, types: Mapping[str, _Column]) -> None:
        self._shared = database
        self._name = table
        self._table = sql.Identifier(*table.split("."))
        self._names = names
        self._types = types
        self._columns = [types[name] for name in names.all]
        self._select = sql.SQL(", ").join(map(sql.Identifier, names.all))
        self._key = sql.Identifier(names.key)
        self._key_type = _type(types[names.key].type)

    @classmethod
    async def open(
        cls, database: PostgresDatabase, table: str, paths: Sequence[str], key: str | None, modified: str | None
    ) -> PostgresTable:
        """Opens a table for the columns that a policy maps.

        Raises:
            Misconfigured: no such table or column, or no single-column key.
        """
        async with database.session() as connection:
            types, primary = await _describe(connection, table)
        if key is None and len(primary) != 1:
            raise Misconfigured(
                f"table {table} has no single-column primary key: name a unique column in systems[].key",
                reason="KeyNotFound",
            )
        names = Columns(key or primary[0], tuple(sorted(paths)), modified)
        require_columns(table, names, list(types))
        return cls(database, table, names, types)

    @property
    def capabilities(self) -> Capabilities:
        """See `System.capabilities`."""
        return Capabilities(create=True, update=True, delete=True, changes=self._names.modified is not None, find=True)

    # --- reads ---

    async def scan(self) -> AsyncIterator[Page]:
        """Streams one COPY: a single statement sees one snapshot, and memory stays at a page."""
        cursor = await self._settled_cursor()
        query = sql.SQL("COPY (SELECT {} FROM {}) TO STDOUT").format(self._select, self._table)
        lines: list[bytes] = []
        async with self._shared.session() as connection, connection.cursor() as reader, reader.copy(query) as copy:
            async for line in copy:
                lines.append(bytes(line)[:-1])
                if len(lines) == PAGE:
                    yield CopyPage(self._columns, lines)
                    lines = []
        yield CopyPage(self._columns, lines, cursor=cursor)

    async def changes(self, cursor: str) -> AsyncIterator[Page]:
        """See `System.changes`."""
        position = sure = Cursor.parse(cursor)
        horizon = await self._horizon()
        more = True
        while more:
            condition, values = self._since(position)
            raws, modified = await self._rows(condition, values, limit=PAGE)
            more = len(raws) == PAGE
            if not raws:
                return
            keys = [copytext.unescaped(raw.partition(b"\t")[0].decode()) for raw in raws]
            pairs = list(zip(modified, keys, strict=True))
            sure = sure.past(pairs, horizon)
            position = position.past(pairs, datetime.max.replace(tzinfo=horizon.tzinfo))
            text = sure.text()
            yield CopyPage(self._columns, raws, modified=modified, cursor=text if text != cursor else None)

    def _since(self, cursor: Cursor) -> tuple[sql.Composed, list[Any]]:
        modified = sql.Identifier(self._names.modified or "")
        kind = _type(self._types[self._names.modified or ""].type)
        newer, values = sql.SQL("{} IS NOT NULL").format(modified), list[Any]()
        if cursor.modified is not None:
            newer = sql.SQL("({m}, {k}) > (%s::{mt}, %s::{kt})").format(
                m=modified, k=self._key, mt=kind, kt=self._key_type
            )
            values += [cursor.modified, cursor.key]
        fresh = sql.SQL("{} IS NULL").format(modified)
        if cursor.null_key is not None:
            fresh += sql.SQL(" AND {} > %s::{}").format(self._key, self._key_type)
            values.append(cursor.null_key)
        order = sql.SQL(" ORDER BY {}, {}").format(modified, self._key)
        return sql.SQL("WHERE {} OR ({})").format(newer, fresh) + order, values

    async def _horizon(self) -> datetime:
        """Rows older than this are all visible: the look-back, or the start of the oldest transaction still open."""
        async with self._shared.session() as connection:
            row = await (
                await connection.execute(
                    "SELECT least(now() - %s, (SELECT min(xact_start) FROM pg_stat_activity "
                    "WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid()))",
                    (LOOKBACK,),
                )
            ).fetchone()
        assert row is not None
        return cast("datetime", row[0])

    async def _settled_cursor(self) -> str | None:
        if self._names.modified is None:
            return None
        horizon = await self._horizon()
        modified, kind = sql.Identifier(self._names.modified), self._types[self._names.modified].type
        bound = (
            sql.SQL(" AND {} < %s").format(modified) if kind in ("timestamptz", "timestamp", "date") else sql.SQL("")
        )
        newest = sql.SQL(
            "SELECT {m}::text, {k}::text FROM {t} WHERE {m} IS NOT NULL{b} ORDER BY {m} DESC, {k} DESC LIMIT 1"
        )
        nulls = sql.SQL("SELECT max({k})::text FROM {t} WHERE {m} IS NULL")
        names = {"m": modified, "k": self._key, "t": self._table}
        async with self._shared.session() as connection:
            values = (horizon,) if kind in ("timestamptz", "timestamp", "date") else ()
            pair = await (await connection.execute(newest.format(b=bound, **names), values)).fetchone()
            null_key = await (await connection.execute(nulls.format(**names))).fetchone()
        last, key = pair or (None, None)
        return Cursor(last, key, null_key[0] if null_key else None).text()

    async def _rows(
        self, condition: sql.Composable, values: Sequence[Any], limit: int | None = None
    ) -> tuple[list[bytes], list[str | None]]:
        """Lines of the rows that meet a condition, and their modification times as text."""
        modified = sql.Identifier(self._names.modified) if self._names.modified else sql.SQL("NULL")
        bound = sql.SQL(" LIMIT {}").format(limit) if limit else sql.SQL("")
        async with self._shared.session() as connection:
            literals = [sql.Literal(value) for value in values]
            where = sql.SQL(condition.as_string(connection).replace("%s", "{}")).format(*literals)
            query = sql.SQL("COPY (SELECT {}, {} FROM {} {}{}) TO STDOUT").format(
                self._select, modified, self._table, where, bound
            )
            async with connection.cursor() as reader, reader.copy(query) as copy:
                lines = [bytes(line)[:-1].rpartition(b"\t") async for line in copy]
        return [line[0] for line in lines], [None if line[2] == b"\\N" else line[2].decode() for line in lines]

    async def fetch(self, keys: Sequence[str]) -> Page:
        """See `System.fetch`."""
        condition = sql.SQL("WHERE {} = ANY(%s::{}[])").format(self._key, self._key_type)
        raws, modified = await self._rows(condition, [list(keys)])
        page = CopyPage(self._columns, raws, modified=modified)
        here = set(page.keys)
        page.deleted = [key for key in keys if key not in here]
        return page

    async def find(self, path: str, values: Sequence[object]) -> Page:
        """See `System.find`."""
        kind = _type(self._types[path].type)
        condition = sql.SQL("WHERE {} = ANY(%s::{}[])").format(sql.Identifier(path), kind)
        raws, modified = await self._rows(condition, [[str(value) for value in values]])
        return CopyPage(self._columns, raws, modified=modified)

    # --- writes ---

    async def write(self, writes: Sequence[NativeWrite]) -> list[Outcome]:
        """See `System.write`: one transaction a batch; a row that is refused is set aside, and the rest goes on."""
        for attempt in range(3):
            try:
                async with self._shared.session() as connection, connection.transaction():
                    if writes and writes[0].operation is Operation.CREATE:
                        return await self._create(connection, writes)
                    return await self._change(connection, writes)
            except Transient:
                if attempt == 2:
                    raise
        raise AssertionError

    async def _create(self, connection: AsyncConnection, writes: Sequence[NativeWrite]) -> list[Outcome]:
        names = sorted({name for write in writes for name in write.values})
        uniform = all(len(write.values) == len(names) for write in writes)
        if uniform and self._names.key in names and len(writes) >= _INSERT_AT_ONCE:
            try:
                async with connection.transaction():
                    return await self._copy_in(connection, names, writes)
            except psycopg.Error as error:
                if not _of_a_row(error):
                    raise
        return [await self._create_one(connection, write) for write in writes]

    async def _copy_in(
        self, connection: AsyncConnection, names: Sequence[str], writes: Sequence[NativeWrite]
    ) -> list[Outcome]:
        columns = {name: [write.values[name] for write in writes] for name in names}
        texts = {name: copytext.encoded_column(column) for name, column in columns.items()}
        data = "\n".join(map("\t".join, zip(*texts.values(), strict=True))).encode()
        query = sql.SQL("COPY {} ({}) FROM STDIN").format(self._table, sql.SQL(", ").join(map(sql.Identifier, names)))
        async with connection.cursor() as cursor, cursor.copy(query) as copy:
            await copy.write(data + b"\n")
        raws = self._predicted(columns, texts, len(writes))
        keys = columns[self._names.key]
        return [Outcome(key=str(key), raw=raw) for key, raw in zip(keys, raws, strict=True)]

    def _predicted(
        self, columns: Mapping[str, list[Any]], texts: Mapping[str, list[str]], count: int
    ) -> list[bytes] | list[None]:
        """The lines as which new rows will be read, where every type allows to say so."""
        found = []
        for item in self._columns:
            column = None
            if item.name in columns:
                column = copytext.predicted_column(columns[item.name], texts[item.name], item.type, item.scale)
            if column is None:
                return [None] * count
            found.append(column)
        return [line.encode() for line in map("\t".join, zip(*found, strict=True))]

    async def _create_one(self, connection: AsyncConnection, write: NativeWrite) -> Outcome:
        names = list(write.values)
        query = sql.SQL("INSERT INTO {} ({}) VALUES ({}) ON CONFLICT DO NOTHING RETURNING {}").format(
            self._table,
            sql.SQL(", ").join(map(sql.Identifier, names)),
            sql.SQL(", ").join(sql.Placeholder() * len(names)),
            self._returning,
        )
        try:
            async with connection.transaction():
                rows = await (
                    await connection.execute(query, [self._adapted(n, write.values[n]) for n in names])
                ).fetchall()
        except psycopg.Error as error:
            return self._refused(error, write)
        return self._outcome(rows[0]) if rows else await self._there_already(connection, write)

    async def _there_already(self, connection: AsyncConnection, write: NativeWrite) -> Outcome:
        """The row that a unique constraint found: by each of the table's unique columns that the write fills."""
        rows = await (
            await connection.execute(
                "SELECT a.attname FROM pg_index i "
                "JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0] "
                "WHERE i.indisunique AND i.indnatts = 1 AND i.indrelid = %s::regclass",
                (self._table.as_string(connection),),
            )
        ).fetchall()
        for (name,) in rows:
            if write.values.get(name) is not None:
                query = sql.SQL("SELECT {} FROM {} WHERE {} = %s").format(
                    self._returning, self._table, sql.Identifier(name)
                )
                found = await (await connection.execute(query, (self._adapted(name, write.values[name]),))).fetchall()
                if found:
                    return self._outcome(found[0], ErrorClass.CONFLICT, "exists already")
        return Outcome(ErrorClass.INVALID, f"{self._name} refuses the row as a duplicate of one that was not found")

    async def _change(self, connection: AsyncConnection, writes: Sequence[NativeWrite]) -> list[Outcome]:
        query = sql.SQL("SELECT {} FROM {} WHERE {} = ANY(%s::{}[]) FOR UPDATE").format(
            self._returning, self._table, self._key, self._key_type
        )
        rows = await (await connection.execute(query, ([write.key for write in writes],))).fetchall()
        current = {str(self._outcome(row).key): row for row in rows}
        outcomes: list[Outcome | None] = [self._judged(write, current.get(write.key or "")) for write in writes]
        todo = [n for n, outcome in enumerate(outcomes) if outcome is None]
        try:
            async with connection.transaction():
                done = await self._change_all(connection, [writes[n] for n in todo])
        except psycopg.Error as error:
            if not _of_a_row(error):
                raise
            done = [await self._change_one(connection, writes[n]) for n in todo]
        for n, outcome in zip(todo, done, strict=True):
            outcomes[n] = outcome
        return [outcome for outcome in outcomes if outcome is not None]

    def _judged(self, write: NativeWrite, row: tuple[Any, ...] | None) -> Outcome | None:
        if row is None:
            return Outcome(ErrorClass.GONE, f"no row with this key in {self._name}", key=write.key)
        verdict = write.check(self._native(row))
        if verdict is Verdict.CONFLICT:
            return self._outcome(row, ErrorClass.CONFLICT, "edited meanwhile")
        return self._outcome(row) if verdict is Verdict.DONE else None

    async def _change_all(self, connection: AsyncConnection, writes: Sequence[NativeWrite]) -> list[Outcome]:
        """All of them in one round trip (pipeline mode)."""
        cursors = []
        async with connection.pipeline():
            for write in writes:
                query, values = self._statement(write)
                cursors.append(await connection.execute(query, values))
        return [self._changed(w, await c.fetchall()) for w, c in zip(writes, cursors, strict=True)]

    async def _change_one(self, connection: AsyncConnection, write: NativeWrite) -> Outcome:
        query, values = self._statement(write)
        try:
            async with connection.transaction():
                return self._changed(write, await (await connection.execute(query, values)).fetchall())
        except psycopg.Error as error:
            return self._refused(error, write)

    def _statement(self, write: NativeWrite) -> tuple[sql.Composed, list[Any]]:
        where = sql.SQL("WHERE {} = %s::{}").format(self._key, self._key_type)
        if write.operation is Operation.DELETE:
            return sql.SQL("DELETE FROM {} {} RETURNING {}").format(self._table, where, self._returning), [write.key]
        sets = sql.SQL(", ").join(sql.SQL("{} = %s").format(sql.Identifier(name)) for name in write.values)
        query = sql.SQL("UPDATE {} SET {} {} RETURNING {}").format(self._table, sets, where, self._returning)
        return query, [*(self._adapted(name, value) for name, value in write.values.items()), write.key]

    def _changed(self, write: NativeWrite, rows: Sequence[tuple[Any, ...]]) -> Outcome:
        if write.operation is Operation.DELETE:
            return Outcome(key=write.key)
        return self._outcome(rows[0]) if rows else Outcome(ErrorClass.GONE, "no row with this key", key=write.key)

    @property
    def _returning(self) -> sql.Composed:
        """Columns as text, so that what is returned is what COPY would read."""
        return sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(item.name)) for item in self._columns)

    def _native(self, row: Sequence[str | None]) -> Native:
        found: dict[str, object] = {}
        for item, text in zip(self._columns, self._texts(row), strict=True):
            decode = copytext.decoder(item.type)
            found[item.name] = text if text is None or decode is None else decode(text)
        return found

    def _raw(self, row: Sequence[str | None]) -> bytes:
        return "\t".join("\\N" if text is None else copytext.escaped(text) for text in self._texts(row)).encode()

    def _texts(self, row: Sequence[str | None]) -> list[str | None]:
        """A row as COPY prints it: a cast prints `true` where COPY prints `t`."""
        return [t if t is None or c.type != "bool" else t[0] for c, t in zip(self._columns, row, strict=True)]

    def _outcome(self, row: Sequence[Any], error: ErrorClass | None = None, message: str = "") -> Outcome:
        return Outcome(error, message, key=str(row[0]), raw=self._raw(row), stored=self._native(row))

    def _adapted(self, name: str, value: Any) -> Any:
        kind = self._types[name].type if name in self._types else ""
        if isinstance(value, list | dict) and kind in ("json", "jsonb", "text", "varchar"):
            return orjson.dumps(value, default=str).decode()
        return str(value) if kind in ("text", "varchar") and value is not None else value

    def _refused(self, error: psycopg.Error, write: NativeWrite) -> Outcome:
        if not _of_a_row(error):
            raise error
        return Outcome(ErrorClass.INVALID, f"{self._name} refuses the row: {_primary(error)}", key=write.key)

    async def attributes(self) -> Sequence[Attribute]:
        """See `System.attributes`."""
        return [Attribute(item.name, item.type) for item in self._types.values()]

    async def close(self) -> None:
        """The database is shared; it closes with its Connection."""


async def _describe(connection: AsyncConnection, table: str) -> tuple[dict[str, _Column], list[str]]:
    """Columns of a table, and its primary key."""
    name = sql.Identifier(*table.split(".")).as_string(connection)
    known = await (await connection.execute("SELECT to_regclass(%s)::oid", (name,))).fetchone()
    if known is None or known[0] is None:
        tables = await (
            await connection.execute(
                "SELECT table_schema || '.' || table_name FROM information_schema.tables "
                "WHERE table_schema NOT IN ('pg_catalog', 'information_schema') LIMIT 1000"
            )
        ).fetchall()
        hint = near(table if "." in table else f"public.{table}", [row[0] for row in tables])
        raise Misconfigured(f"there is no table {table!r}{hint}", reason="ObjectNotFound")
    columns = await (
        await connection.execute(
            "SELECT a.attname, t.typname, CASE WHEN t.typname = 'numeric' AND a.atttypmod > 0 "
            "THEN (a.atttypmod - 4) & 65535 END FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid "
            "WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
            (known[0],),
        )
    ).fetchall()
    primary = await (
        await connection.execute(
            "SELECT a.attname FROM pg_index i "
            "JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey) "
            "WHERE i.indrelid = %s AND i.indisprimary",
            (known[0],),
        )
    ).fetchall()
    return {row[0]: _Column(*row) for row in columns}, [row[0] for row in primary]


def _type(name: str) -> sql.SQL:
    """SQL text that comes from the database's own catalogue, or is composed already."""
    return sql.SQL(name)


def _local(host: str | None) -> bool:
    """Whether traffic stays on this machine or inside a cluster's own names, where servers seldom have certificates."""
    if host in (None, "localhost") or host.endswith((".svc", ".svc.cluster.local")):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _of_a_row(error: psycopg.Error) -> bool:
    """Whether the error is about the values of one row: integrity (class 23) or data (class 22)."""
    return isinstance(error, psycopg.IntegrityError | psycopg.DataError)


def _primary(error: psycopg.Error) -> str:
    """The server's message without DETAIL, which quotes values."""
    text = error.diag.message_primary or type(error).__name__
    constraint = error.diag.constraint_name
    return f"{error.diag.sqlstate}, constraint {constraint}" if constraint else f"{error.diag.sqlstate} {text}"


def _failure(error: psycopg.Error, where: str) -> Failure:
    text, said = str(error), error.diag.message_primary or ""
    rejected = errors.InvalidPassword | errors.InvalidAuthorizationSpecification
    for applies, kind, reason, message in (
        (
            isinstance(error, rejected) or "authentication" in text,
            AuthRejected,
            "AuthFailed",
            f"{where} rejects the user name or password: check the Secret",
        ),
        (
            isinstance(error, errors.InsufficientPrivilege),
            AuthRejected,
            "AuthFailed",
            f"{where}: {said}: grant it to Fairlead's user",
        ),
        (
            "database" in text and "does not exist" in text,
            Misconfigured,
            "DatabaseNotFound",
            f"there is no database at {where}: check spec.url",
        ),
        (
            "certificate" in text or "SSL" in text,
            Misconfigured,
            "TLSFailed",
            f"{where} does not prove who it is: set tls.caBundle to its authority",
        ),
        (
            "resolve" in text or "not known" in text,
            Misconfigured,
            "HostNotFound",
            f"the host of {where} does not resolve: check spec.url",
        ),
        ("refused" in text, Transient, "ConnectionRefused", f"{where} refuses connections: is the server running?"),
        (isinstance(error, errors.DiskFull), Transient, "DiskFull", f"no space is left at {where}"),
        (
            isinstance(error, psycopg.OperationalError | psycopg.InternalError),
            Transient,
            "Unavailable",
            f"{where} is not available: {said or type(error).__name__}",
        ),
    ):
        if applies:
            return kind(message, reason=reason)
    return Misconfigured(f"{where}: {said or type(error).__name__}", reason="UnexpectedAnswer")
