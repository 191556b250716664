"""SQL databases for tests of their connectors: a `customer` table that others use beside Fairlead."""

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from fairlead.connectors.base import Client, NativeWrite, Operation, Outcome, System, Verdict
from fairlead.connectors.postgres import PostgresDatabase
from fairlead.connectors.sqlite import SQLiteDatabase
from fairlead.testing.connector import PATHS
from fairlead.transport.secrets import MappingSecrets
from support.policies import connection_of

LOGIN = {
    "basic": {
        "username": {"secretKeyRef": {"name": "db", "key": "user"}},
        "password": {"secretKeyRef": {"name": "db", "key": "password"}},
    }
}


class SQLWorld(ABC):
    """A `customer` table, used by others through a connection of their own. See `fairlead.testing.connector.World`."""

    object_name, key, modified, missing = "customer", None, "changed", "nowhere"
    refused: Mapping[str, object] = {"email": None}
    place = "?"

    def key_values(self, number: int) -> dict[str, object]:
        return {"id": 10_000 + number}

    @abstractmethod
    def sql(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows that a statement gives."""

    async def insert(self, records: Sequence[Mapping[str, str | None]]) -> list[str]:
        places = ", ".join([self.place] * 3)
        query = f"INSERT INTO customer(email, name, note) VALUES ({places}) RETURNING id"
        return [str(self.sql(query, (r["email"], r["name"], r["note"]))[0][0]) for r in records]

    async def update(self, key: str, values: Mapping[str, str | None]) -> None:
        sets = ", ".join(f"{name} = {self.place}" for name in values)
        self.sql(f"UPDATE customer SET {sets} WHERE id = {self.place}", (*values.values(), int(key)))

    async def delete(self, key: str) -> None:
        self.sql(f"DELETE FROM customer WHERE id = {self.place}", (int(key),))

    async def read(self, key: str) -> Mapping[str, Any] | None:
        rows = self.sql(f"SELECT email, name, note FROM customer WHERE id = {self.place}", (int(key),))
        return dict(zip((*PATHS, "note"), rows[0], strict=True)) if rows else None

    async def bring_back(self, key: str, record: Mapping[str, str | None]) -> None:
        query = f"INSERT INTO customer(id, email, name) VALUES ({self.place}, {self.place}, {self.place})"
        self.sql(query, (int(key), record["email"], record["name"]))


class SQLiteWorld(SQLWorld):
    """In a SQLite file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.database = sqlite3.connect(path, isolation_level=None, timeout=10)
        self.database.execute("PRAGMA synchronous = OFF")
        self.database.executescript(
            "CREATE TABLE customer(id INTEGER PRIMARY KEY, email TEXT NOT NULL UNIQUE, name TEXT, note TEXT, "
            "changed TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ')));"
            "CREATE INDEX customer_changed ON customer(changed);"
            "CREATE TRIGGER touched AFTER UPDATE ON customer BEGIN "
            "UPDATE customer SET changed = strftime('%Y-%m-%dT%H:%M:%fZ') WHERE id = new.id; END"
        )
        self.client = SQLiteDatabase(connection_of("db", f"sqlite:///{path}"))

    def sql(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self.database.execute(query, values).fetchall()

    async def close(self) -> None:
        await self.client.close()
        self.database.close()


class PostgresWorld(SQLWorld):
    """In a PostgreSQL database."""

    place = "%s"

    def __init__(self, dsn: str) -> None:
        self.database = psycopg.connect(dsn, autocommit=True)
        self.database.execute(
            "CREATE TABLE customer(id bigserial PRIMARY KEY, email text NOT NULL UNIQUE, name text, note text, "
            "changed timestamptz DEFAULT clock_timestamp());"
            "CREATE INDEX ON customer(changed);"
            "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN new.changed = clock_timestamp(); RETURN new; END $$;"
            "CREATE TRIGGER touched BEFORE UPDATE ON customer FOR EACH ROW EXECUTE FUNCTION touch()"
        )
        self.client = postgres_client(dsn)

    def sql(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        done = self.database.execute(query, values)
        return done.fetchall() if done.description else []

    async def close(self) -> None:
        await self.client.close()
        self.database.close()


def postgres_client(
    dsn: str,
    *,
    options: str = "",
    spec: Mapping[str, Any] | None = None,
    secret: Mapping[str, str] | None = None,
    **change: str,
) -> PostgresDatabase:
    """A client of a database; `change` replaces parts of its DSN, `spec` and `secret` add to the Connection's."""
    parts = conninfo_to_dict(dsn) | change
    url = f"postgresql://{parts['host']}:{parts['port']}/{parts['dbname']}{options}"
    values = {"user": str(parts["user"]), "password": "any", **(secret or {})}
    return PostgresDatabase(connection_of("db", url, auth=LOGIN, **(spec or {})), MappingSecrets({"db": values}))


@asynccontextmanager
async def opened(client: Client, table: str, *paths: str, **how: str | None) -> AsyncIterator[System]:
    """One table of a client that is closed afterwards."""
    try:
        yield await client.open(table, paths=paths, **{"key": None, "modified": None, **how})
    finally:
        await client.close()


def create(values: dict[str, object]) -> NativeWrite:
    """The create of a row."""
    return NativeWrite(Operation.CREATE, None, values, None, lambda _: Verdict.PROCEED, f"create-{values}")


async def rows(system: System) -> dict[str, dict[str, object]]:
    """Key → row, as a scan reads them."""
    return {
        key: row
        async for page in system.scan()
        for key, row in zip(page.keys, page.rows(range(len(page.keys))), strict=True)
    }


async def raws(system: System) -> dict[str, bytes]:
    """Key → raw, as a scan reads them."""
    return {key: raw async for page in system.scan() for key, raw in zip(page.keys, page.raws, strict=True)}


async def feed(system: System, cursor: str) -> tuple[list[str], str]:
    """Keys that the feed tells since a cursor, and the next cursor."""
    keys: list[str] = []
    async for page in system.changes(cursor):
        keys += page.keys
        cursor = page.cursor or cursor
    return keys, cursor


async def cursor_of(system: System) -> str:
    """The cursor at the end of a scan."""
    cursor = [page.cursor async for page in system.scan()][-1]
    assert cursor is not None
    return cursor


def errors(outcomes: Sequence[Outcome]) -> list[str | None]:
    """The class of each outcome's error."""
    return [outcome.error and outcome.error.value for outcome in outcomes]
