"""PostgreSQL and SQLite keep the contract of systems."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from fairlead.connectors.base import NativeWrite, Operation, Verdict
from fairlead.connectors.postgres import PostgresDatabase
from fairlead.connectors.sqlite import SQLiteDatabase
from fairlead.model.connector import ErrorClass
from fairlead.testing.connector import PATHS, SystemSuite, person, raws, update
from fairlead.transport.failure import AuthRejected, Failure, Misconfigured, Transient
from fairlead.transport.secrets import MappingSecrets
from support.policies import connection_of

LOGIN = {
    "basic": {
        "username": {"secretKeyRef": {"name": "db", "key": "user"}},
        "password": {"secretKeyRef": {"name": "db", "key": "password"}},
    }
}


class SQLWorld:
    """A `customer` table, used by others through a connection of their own."""

    object_name, key, modified, missing = "customer", None, "changed", "nowhere"
    refused: Mapping[str, object] = {"email": None}
    place = "?"

    def key_values(self, number: int) -> dict[str, object]:
        return {"id": 10_000 + number}

    def sql(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        raise NotImplementedError

    async def insert(self, records: Sequence[Mapping[str, str | None]]) -> list[str]:
        keys = []
        for record in records:
            query = f"INSERT INTO customer(email, name, note) VALUES ({self.place}, {self.place}, {self.place}) RETURNING id"
            keys.append(str(self.sql(query, (record["email"], record["name"], record["note"]))[0][0]))
        return keys

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
    def __init__(self, path: Path) -> None:
        self.database = sqlite3.connect(path, isolation_level=None, timeout=10)
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


class PostgresWorld(SQLWorld):
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


def postgres_client(dsn: str, *, password: str = "any", **change: str) -> PostgresDatabase:
    parts = conninfo_to_dict(dsn) | change
    url = f"postgresql://{parts['host']}:{parts['port']}/{parts['dbname']}"
    secrets = MappingSecrets({"db": {"user": parts["user"], "password": password}})
    return PostgresDatabase(connection_of("db", url, auth=LOGIN), secrets)


class TestSQLite(SystemSuite):
    RECORDS = 6000

    @pytest.fixture
    async def world(self, tmp_path: Path) -> AsyncIterator[SQLiteWorld]:
        made = SQLiteWorld(tmp_path / "app.db")
        yield made
        await made.client.close()
        made.database.close()


class TestPostgres(SystemSuite):
    RECORDS = 6000

    @pytest.fixture
    async def world(self, database: str) -> AsyncIterator[PostgresWorld]:
        made = PostgresWorld(database)
        yield made
        await made.client.close()
        made.database.close()


@pytest.fixture
async def postgres_world(database: str) -> AsyncIterator[PostgresWorld]:
    made = PostgresWorld(database)
    yield made
    await made.client.close()
    made.database.close()


def creation(number: int, **values: object) -> NativeWrite:
    whole = {"id": number, "email": f"{number}@x.com", "name": "n", **values}
    return NativeWrite(Operation.CREATE, None, whole, None, lambda _: Verdict.PROCEED, f"c{number}")


@pytest.mark.parametrize(
    "text", ["tab\there", "line\nbreak", "back\\slash", "\\N", "ümläut 漢字 🚢", "'quoted' \"twice\"", ""]
)
async def test_text_is_written_and_read_as_it_is(postgres_world: PostgresWorld, text: str) -> None:
    system = await postgres_world.client.open("customer", paths=PATHS, key=None, modified=None)
    outcomes = await system.write([creation(n, name=text) for n in range(30)])
    page = await system.fetch([outcomes[0].key or ""])
    assert page.columns([0], ["name"]) == [[text]]
    assert (await raws(postgres_world))["0"] == outcomes[0].raw


async def test_values_of_every_type_are_read_next_as_a_create_predicts(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute(
            "CREATE TABLE wide(id bigint PRIMARY KEY, amount numeric(12,2), free numeric, yes boolean, "
            "at timestamptz, day date, words varchar(20), doc jsonb, real float8)"
        )
    client = postgres_client(database)
    names = ("amount", "free", "yes", "at", "day", "words")
    system = await client.open("wide", paths=names, key=None, modified=None)
    from decimal import Decimal

    values = {
        "amount": Decimal("12.5"),
        "free": Decimal("0.1"),
        "yes": True,
        "at": "2026-01-31T12:00:00.5Z",
        "day": "2026-01-31",
        "words": "w",
    }
    outcomes = await system.write(
        [
            NativeWrite(Operation.CREATE, None, {"id": n, **values}, None, lambda _: Verdict.PROCEED, "c")
            for n in range(25)
        ]
    )
    page = [page async for page in system.scan()][0]
    assert [outcome.raw for outcome in outcomes] == list(page.raws)
    await client.close()


async def test_a_duplicate_in_a_big_batch_is_a_conflict_with_the_row_that_is_there(
    postgres_world: PostgresWorld,
) -> None:
    await postgres_world.insert([{"email": "7@x.com", "name": "there", "note": None}])
    system = await postgres_world.client.open("customer", paths=PATHS, key=None, modified=None)
    outcomes = await system.write([creation(100 + n, email=f"{n}@x.com") for n in range(30)])
    assert [n for n, outcome in enumerate(outcomes) if outcome.error] == [7]
    assert (outcomes[7].error, (outcomes[7].stored or {})["name"]) == (ErrorClass.CONFLICT, "there")


async def test_a_message_of_a_refused_row_holds_no_value(postgres_world: PostgresWorld) -> None:
    (key,) = await postgres_world.insert([person(1)])
    system = await postgres_world.client.open("customer", paths=PATHS, key=None, modified=None)
    await postgres_world.insert([{"email": "secret@example.org", "name": "x", "note": None}])
    (outcome,) = await system.write([update(key, {"email": "secret@example.org"})])
    assert (outcome.error, "secret" in outcome.message) == (ErrorClass.INVALID, False)


async def test_an_update_waits_for_another_session_and_sees_what_it_wrote(postgres_world: PostgresWorld) -> None:
    (key,) = await postgres_world.insert([person(1)])
    system = await postgres_world.client.open("customer", paths=PATHS, key=None, modified=None)
    judged: list[Any] = []
    with postgres_world.database.transaction():
        postgres_world.sql("UPDATE customer SET name = 'theirs' WHERE id = %s", (int(key),))
        writing = asyncio.create_task(
            system.write([update(key, {"name": "ours"}, verdict=Verdict.CONFLICT, judged=judged)])
        )
        await asyncio.sleep(0.2)
        assert judged == []
    (outcome,) = await writing
    assert (outcome.error, judged[0]["name"]) == (ErrorClass.CONFLICT, "theirs")


async def test_a_row_that_is_committed_late_is_not_lost(postgres_world: PostgresWorld) -> None:
    system = await postgres_world.client.open("customer", paths=PATHS, key=None, modified="changed")
    with psycopg.connect(postgres_world.database.info.dsn, password="") as late:
        late.execute("INSERT INTO customer(email, changed) VALUES ('late@x.com', now())")
        await postgres_world.insert([{"email": "early@x.com", "name": None, "note": None}])
        cursor = [page.cursor async for page in system.scan()][-1]
        assert cursor is not None
    emails = [
        email async for page in system.changes(cursor) for email in page.columns(range(len(page.keys)), ["email"])[0]
    ]
    assert "late@x.com" in emails


async def failure_of(client: PostgresDatabase) -> Failure:
    with pytest.raises(Failure) as caught:
        await client.probe()
    await client.close()
    return caught.value


async def test_a_database_that_does_not_exist_is_named(database: str) -> None:
    found = await failure_of(postgres_client(database, dbname="nowhere"))
    assert (type(found), found.reason) == (Misconfigured, "DatabaseNotFound")


async def test_a_server_that_is_not_there_may_come_back(database: str) -> None:
    found = await failure_of(postgres_client(database, port="1"))
    assert (type(found), found.reason) == (Transient, "ConnectionRefused")


async def test_a_host_that_does_not_resolve_is_told(database: str) -> None:
    found = await failure_of(postgres_client(database, host="no-such-host.invalid"))
    assert (type(found), found.reason) == (Misconfigured, "HostNotFound")


async def test_an_unknown_user_is_rejected(database: str) -> None:
    found = await failure_of(postgres_client(database, user="nobody_known"))
    assert (type(found), found.reason) == (AuthRejected, "AuthFailed")


async def test_credentials_in_the_url_are_refused_and_not_repeated() -> None:
    client = PostgresDatabase(connection_of("db", "postgresql://u:hunter2@127.0.0.1/x"), MappingSecrets({}))
    found = await failure_of(client)
    assert (type(found), "hunter2" in found.message) == (Misconfigured, False)


async def test_a_column_that_does_not_exist_is_named_with_the_nearest_one(postgres_world: PostgresWorld) -> None:
    with pytest.raises(Misconfigured, match="did you mean 'email'") as caught:
        await postgres_world.client.open("customer", paths=["emial"], key=None, modified=None)
    assert caught.value.reason == "ColumnNotFound"
