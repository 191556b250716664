"""PostgreSQL and SQLite keep the contract of systems, whatever others do with the tables meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from fairlead.connectors import feed as feeds
from fairlead.connectors import postgres_session, sqlite
from fairlead.connectors.base import Verdict
from fairlead.model.connector import ErrorClass
from fairlead.testing.connector import PATHS, SystemSuite, deletion, person, update
from support.sql import PostgresWorld, SQLiteWorld, create, cursor_of, errors, feed, postgres_client, raws, rows


class TestSQLite(SystemSuite):
    RECORDS = 6000

    @pytest.fixture
    async def world(self, tmp_path: Path) -> AsyncIterator[SQLiteWorld]:
        made = SQLiteWorld(tmp_path / "app.db")
        yield made
        await made.close()


class TestPostgres(SystemSuite):
    RECORDS = 6000

    @pytest.fixture
    async def world(self, database: str) -> AsyncIterator[PostgresWorld]:
        made = PostgresWorld(database)
        yield made
        await made.close()


@pytest.fixture
async def postgres_world(database: str) -> AsyncIterator[PostgresWorld]:
    made = PostgresWorld(database)
    yield made
    await made.close()


@pytest.fixture
async def sqlite_world(tmp_path: Path) -> AsyncIterator[SQLiteWorld]:
    made = SQLiteWorld(tmp_path / "app.db")
    yield made
    await made.close()


@pytest.fixture(params=["postgres", "sqlite"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[PostgresWorld | SQLiteWorld]:
    """Each of both databases."""
    postgres = request.param == "postgres"
    made = PostgresWorld(request.getfixturevalue("database")) if postgres else SQLiteWorld(tmp_path / "app.db")
    yield made
    await made.close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read settles at once."""
    monkeypatch.setattr(feeds, "LOOKBACK", 0.0)


def customer(number: int, **values: object) -> dict[str, object]:
    return {"id": number, "email": f"{number}@x.com", "name": "n", **values}


# --- writing ---


@pytest.mark.parametrize(
    "text",
    ["tab\there", "line\nbreak", "back\\slash", "\\N", "ümläut 漢字 🚢", "'quoted' \"twice\"", "", "\x1f\x1e\x02"],
)
async def test_text_is_written_and_read_as_it_is(world: PostgresWorld | SQLiteWorld, text: str) -> None:
    system = await world.client.open("customer", paths=PATHS, key=None, modified=None)
    outcomes = await system.write([create(customer(n, name=text)) for n in range(30)])
    assert [row["name"] for row in (await rows(system)).values()] == [text] * 30
    assert outcomes[0].raw in (None, (await raws(system))["0"])


async def test_a_duplicate_in_a_big_batch_is_a_conflict_with_the_row_that_is_there(
    world: PostgresWorld | SQLiteWorld,
) -> None:
    await world.insert([{"email": "107@x.com", "name": "there", "note": None}])
    system = await world.client.open("customer", paths=PATHS, key=None, modified=None)
    outcomes = await system.write([create(customer(100 + n)) for n in range(30)])
    assert [n for n, error in enumerate(errors(outcomes)) if error] == [7]
    assert (outcomes[7].error, (outcomes[7].stored or {})["name"]) == (ErrorClass.CONFLICT, "there")


async def test_a_message_of_a_refused_row_holds_no_value(world: PostgresWorld | SQLiteWorld) -> None:
    (key,) = await world.insert([person(1)])
    system = await world.client.open("customer", paths=PATHS, key=None, modified=None)
    await world.insert([{"email": "secret@example.org", "name": "x", "note": None}])
    (outcome,) = await system.write([update(key, {"email": "secret@example.org"})])
    assert (outcome.error, "secret" in outcome.message, "email" in outcome.message) == (ErrorClass.INVALID, False, True)


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


async def test_a_row_that_stays_locked_does_not_stop_its_neighbours(
    postgres_world: PostgresWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_session, "LOCK_TIMEOUT", 1)
    keys = await postgres_world.insert([person(n) for n in range(3)])
    system = await postgres_world.client.open("customer", paths=PATHS, key=None, modified=None)
    with postgres_world.database.transaction():
        postgres_world.sql("SELECT FROM customer WHERE id = %s FOR UPDATE", (int(keys[1]),))
        outcomes = await system.write([update(key, {"name": "new"}) for key in keys])
    assert errors(outcomes) == [None, "Transient", None]


async def test_a_batch_of_creates_that_meets_a_row_not_yet_committed_is_told_to_come_again(
    postgres_world: PostgresWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_session, "LOCK_TIMEOUT", 1)
    client = postgres_client(postgres_world.database.info.dsn, spec={"retry": {"maxAttempts": 1}})
    system = await client.open("customer", paths=PATHS, key=None, modified=None)
    with postgres_world.database.transaction():
        postgres_world.sql("INSERT INTO customer(email) VALUES ('2@x.com')")
        outcomes = await system.write([create(customer(n)) for n in range(1, 4)])
    await client.close()
    assert (errors(outcomes), outcomes[0].uncertain) == (["Transient"] * 3, False)


async def test_values_that_fill_different_columns_are_written_together(world: PostgresWorld | SQLiteWorld) -> None:
    keys = await world.insert([person(n) for n in range(3)])
    system = await world.client.open("customer", paths=PATHS, key=None, modified=None)
    writes = [update(keys[0], {"name": "A"}), update(keys[1], {"email": "B"}), update(keys[2], {"name": "C"})]
    await system.write(writes)
    found = await rows(system)
    assert [found[keys[0]]["name"], found[keys[1]]["email"], found[keys[2]]["name"]] == ["A", "B", "C"]


async def test_one_refused_update_in_a_big_batch_costs_only_itself(world: PostgresWorld | SQLiteWorld) -> None:
    keys = await world.insert([person(n) for n in range(100)])
    system = await world.client.open("customer", paths=PATHS, key=None, modified=None)
    writes = [update(key, {"email": None if key == keys[37] else f"new-{key}"}) for key in keys]
    outcomes = await system.write(writes)
    assert [n for n, error in enumerate(errors(outcomes)) if error] == [37]
    assert [row["email"] for row in (await rows(system)).values()].count("p37@example.org") == 1


async def test_an_empty_batch_is_nothing(world: PostgresWorld | SQLiteWorld) -> None:
    system = await world.client.open("customer", paths=PATHS, key=None, modified=None)
    assert await system.write([]) == []


# --- single records ---


async def test_keys_that_the_key_cannot_hold_are_not_there(world: PostgresWorld | SQLiteWorld) -> None:
    (key,) = await world.insert([person(1)])
    system = await world.client.open("customer", paths=PATHS, key=None, modified=None)
    page = await system.fetch(["no-number", key, "99999999999999999999"])
    assert (list(page.keys), list(page.deleted)) == ([key], ["no-number", "99999999999999999999"])


async def test_values_that_the_column_cannot_hold_are_found_nowhere(world: PostgresWorld | SQLiteWorld) -> None:
    (key,) = await world.insert([person(1)])
    system = await world.client.open("customer", paths=["id"], key=None, modified=None)
    assert list((await system.find("id", ["x", int(key), None, "y"])).keys) == [key]


# --- the feed ---


async def test_a_row_that_is_committed_after_a_scan_is_not_lost(postgres_world: PostgresWorld) -> None:
    system = await postgres_world.client.open("customer", paths=PATHS, key=None, modified="changed")
    with psycopg.connect(postgres_world.database.info.dsn, password="") as late:
        late.execute("INSERT INTO customer(email, changed) VALUES ('late@x.com', now())")
        await postgres_world.insert([person(1)])
        cursor = await cursor_of(system)
    assert "1" in (await feed(system, cursor))[0]


@pytest.mark.parametrize("sees", [True, False], ids=["who sees transactions", "who sees only their numbers"])
async def test_a_row_that_is_committed_late_is_not_lost_by_the_feed(
    postgres_world: PostgresWorld, database: str, quick: None, sees: bool
) -> None:
    user = f"plain_{postgres_world.database.info.dbname}"
    postgres_world.sql(f"CREATE ROLE {user} LOGIN; GRANT SELECT ON customer TO {user}")
    client = postgres_world.client if sees else postgres_client(database, user=user)
    system = await client.open("customer", paths=PATHS, key=None, modified="changed")
    cursor = await cursor_of(system)
    with psycopg.connect(database) as late:
        late.execute("INSERT INTO customer(email) VALUES ('late@x.com')")
        for n in range(3):
            await postgres_world.insert([person(n)])
            keys, cursor = await feed(system, cursor)
            assert keys[-1] == str(n + 2)
    assert "1" in (await feed(system, cursor))[0]
    await client.close()
    postgres_world.sql(f"DROP OWNED BY {user}; DROP ROLE {user}")


async def test_the_feed_ends_when_nothing_changes(world: PostgresWorld | SQLiteWorld, quick: None) -> None:
    await world.insert([person(n) for n in range(3)])
    system = await world.client.open("customer", paths=PATHS, key=None, modified="changed")
    cursor = await cursor_of(system)
    for _ in range(3):
        await asyncio.sleep(1.1)  # a value stands for its second
        _, cursor = await feed(system, cursor)
    assert [page async for page in system.changes(cursor)] == []


async def test_rows_without_a_time_are_told_until_their_key_is_settled(
    world: PostgresWorld | SQLiteWorld, quick: None
) -> None:
    system = await world.client.open("customer", paths=PATHS, key=None, modified="changed")
    cursor = await cursor_of(system)
    world.sql("INSERT INTO customer(id, email, changed) VALUES (5, 'a', NULL), (6, 'b', NULL)")
    first, cursor = await feed(system, cursor)
    _, cursor = await feed(system, cursor)
    world.sql("INSERT INTO customer(id, email, changed) VALUES (7, 'c', NULL)")
    assert (first, (await feed(system, cursor))[0]) == (["5", "6"], ["7"])


async def test_a_new_row_without_a_time_is_told_whatever_its_key_is(postgres_world: PostgresWorld, quick: None) -> None:
    postgres_world.sql("CREATE TABLE thing(id text PRIMARY KEY, name text, changed timestamptz)")
    postgres_world.sql("INSERT INTO thing VALUES ('m', 'first', NULL)")
    system = await postgres_world.client.open("thing", paths=["name"], key=None, modified="changed")
    cursor = await cursor_of(system)
    for _ in range(3):
        _, cursor = await feed(system, cursor)
    postgres_world.sql("INSERT INTO thing VALUES ('a', 'second', NULL)")
    assert "a" in (await feed(system, cursor))[0]


async def test_a_row_from_the_future_does_not_hide_what_comes_before_it(
    world: PostgresWorld | SQLiteWorld, quick: None
) -> None:
    system = await world.client.open("customer", paths=PATHS, key=None, modified="changed")
    cursor = await cursor_of(system)
    world.sql("INSERT INTO customer(id, email, changed) VALUES (1000, 'a', '2999-01-01T00:00:00Z')")
    for _ in range(3):
        _, cursor = await feed(system, cursor)
    await world.insert([person(1)])
    assert len((await feed(system, cursor))[0]) == 2


async def test_a_row_at_the_end_of_time_does_not_hide_what_comes_before_it(
    postgres_world: PostgresWorld, quick: None
) -> None:
    system = await postgres_world.client.open("customer", paths=PATHS, key=None, modified="changed")
    cursor = await cursor_of(system)
    postgres_world.sql("INSERT INTO customer(email, changed) VALUES ('a', 'infinity'), ('b', '12000-01-01')")
    for _ in range(3):
        _, cursor = await feed(system, cursor)
    await postgres_world.insert([person(1)])
    assert "3" in (await feed(system, cursor))[0]


async def test_a_change_after_the_clock_was_set_back_is_not_lost(
    sqlite_world: SQLiteWorld, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = await sqlite_world.client.open("customer", paths=PATHS, key=None, modified="changed")
    sqlite_world.sql("INSERT INTO customer(email, changed) VALUES ('a', strftime('%Y-%m-%dT%H:%M:%SZ'))")
    cursor = await cursor_of(system)
    for _ in range(2):
        _, cursor = await feed(system, cursor)
    real = sqlite.time.time
    monkeypatch.setattr(sqlite.time, "time", lambda: real() - 3600)
    sqlite_world.sql("INSERT INTO customer(email, changed) VALUES ('b', strftime('%Y-%m-%dT%H:%M:%SZ', '-1 hour'))")
    assert "2" in (await feed(system, cursor))[0]


async def test_versions_that_grow_serve_as_well_as_times(world: PostgresWorld | SQLiteWorld, quick: None) -> None:
    world.sql("CREATE TABLE thing(id integer PRIMARY KEY, name text, version bigint)")
    world.sql("INSERT INTO thing VALUES (1, 'a', 20260131), (2, 'b', 20260132)")
    system = await world.client.open("thing", paths=["name"], key=None, modified="version")
    cursor = await cursor_of(system)
    for _ in range(2):
        _, cursor = await feed(system, cursor)
    world.sql("UPDATE thing SET version = 20260133 WHERE id = 1")
    assert (await feed(system, cursor))[0] == ["1"]


# --- the connection ---


async def test_a_connection_that_broke_at_rest_is_replaced(postgres_world: PostgresWorld) -> None:
    await postgres_world.insert([person(1)])
    system = await postgres_world.client.open("customer", paths=PATHS, key=None, modified=None)
    postgres_world.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'fairlead'")
    assert list(await rows(system)) == ["1"]


async def test_no_more_connections_are_opened_than_the_limit_says(postgres_world: PostgresWorld, database: str) -> None:
    client = postgres_client(database, spec={"limits": {"concurrency": 2}})
    system = await client.open("customer", paths=PATHS, key=None, modified=None)
    await asyncio.gather(*(system.fetch([str(n)]) for n in range(20)))
    ((count,),) = postgres_world.sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'fairlead'")
    await client.close()
    assert count <= 2


async def test_deletes_that_another_table_forbids_are_refused_alone(world: PostgresWorld | SQLiteWorld) -> None:
    keys = await world.insert([person(n) for n in range(3)])
    world.sql("CREATE TABLE bill(id integer PRIMARY KEY, customer bigint REFERENCES customer(id))")
    world.sql(f"INSERT INTO bill VALUES (1, {keys[1]})")
    system = await world.client.open("customer", paths=PATHS, key=None, modified=None)
    outcomes = await system.write([deletion(key) for key in keys])
    assert (errors(outcomes), list(await rows(system))) == ([None, "Invalid", None], [keys[1]])
