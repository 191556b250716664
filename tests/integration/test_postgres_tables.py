"""What a table of PostgreSQL can be, and what its columns can hold."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from fairlead.connectors.base import Attribute
from fairlead.connectors.postgres import PostgresDatabase
from fairlead.model.connector import ErrorClass
from fairlead.testing.connector import deletion, update
from fairlead.transport.failure import AuthRejected, Misconfigured
from support.sql import create, cursor_of, errors, feed, opened, postgres_client, raws, rows


@pytest.fixture
def client(database: str) -> PostgresDatabase:
    """Closed by `opened`."""
    return postgres_client(database)


@pytest.fixture
def user(admin: psycopg.Connection[Any]) -> Iterator[str]:
    """A user without any right."""
    name = f"user_{admin.info.dbname}"
    admin.execute(f"CREATE ROLE {name} LOGIN")
    yield name
    admin.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


# --- which rows, and which key ---


async def test_a_key_of_two_columns_is_named_and_one_must_be_chosen(
    admin: psycopg.Connection[Any], client: PostgresDatabase
) -> None:
    admin.execute(
        "CREATE TABLE t(a int, b int, n int UNIQUE, v text, PRIMARY KEY (a, b)); INSERT INTO t VALUES (1, 2, 3)"
    )
    with pytest.raises(Misconfigured, match=r"2 columns \(a, b\).*systems\[\]\.key") as caught:
        await client.open("t", paths=["v"], key=None, modified=None)
    assert caught.value.reason == "KeyNotFound"
    async with opened(client, "t", "v", key="n") as system:
        assert list(await rows(system)) == ["3"]


async def test_a_table_without_primary_key_needs_a_unique_column(
    admin: psycopg.Connection[Any], client: PostgresDatabase
) -> None:
    admin.execute("CREATE TABLE t(n int, v text); INSERT INTO t VALUES (1, 'a'), (1, 'b')")
    with pytest.raises(Misconfigured, match="no primary key") as caught:
        await client.open("t", paths=["v"], key=None, modified=None)
    assert caught.value.reason == "KeyNotFound"
    async with opened(client, "t", "v", key="n") as system:
        with pytest.raises(Misconfigured, match=r"'n' of table public\.t is not unique") as caught:
            await rows(system)
    assert caught.value.reason == "KeyNotUnique"


async def test_rows_without_a_key_are_passed_over(admin: psycopg.Connection[Any], client: PostgresDatabase) -> None:
    admin.execute("CREATE TABLE t(n int UNIQUE, v text); INSERT INTO t VALUES (1, 'a'), (NULL, 'b'), (NULL, 'c')")
    async with opened(client, "t", "v", key="n") as system:
        assert await rows(system) == {"1": {"v": "a"}}


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("text", "'k' || i"),
        ("uuid", "md5(i::text)::uuid"),
        ("numeric(10,2)", "i / 100.0"),
        ("char(8)", "i::text"),
        ("float8", "i / 7.0"),
        ("date", "date '2000-01-01' + i"),
    ],
)
async def test_a_key_may_be_of_any_type_that_has_an_order(
    admin: psycopg.Connection[Any], client: PostgresDatabase, kind: str, values: str
) -> None:
    admin.execute(f"CREATE TABLE t(k {kind} PRIMARY KEY, v text)")
    admin.execute(f"INSERT INTO t SELECT {values}, 'v' FROM generate_series(1, 2000) i")
    async with opened(client, "t", "v") as system:
        keys = list(await rows(system))
        page = await system.fetch(keys)
        outcomes = await system.write([update(key, {"v": "w"}) for key in keys[:50]])
    assert (len(set(keys)), set(page.keys), errors(outcomes)) == (2000, set(keys), [None] * 50)


async def test_names_may_be_any_text(admin: psycopg.Connection[Any], client: PostgresDatabase) -> None:
    admin.execute("""CREATE SCHEMA "My Schema"; CREATE TABLE "My Schema"."a %s ""t"(
        "the ""Key%" int PRIMARY KEY, "100% {}" text, "select" timestamptz DEFAULT now())""")
    paths = ["100% {}", "select", 'the "Key%']
    async with opened(client, 'My Schema.a %s "t', *paths, modified="select") as system:
        written = await system.write([create({'the "Key%': n, "100% {}": "v"}) for n in range(20)])
        cursor = await cursor_of(system)
        changed = await system.write([update("3", {"100% {}": "w"}), update("4", {"100% {}": "w"})])
        assert (errors(written), errors(changed)) == ([None] * 20, [None] * 2)
        assert len((await feed(system, cursor))[0]) == 20
        assert (await system.find("100% {}", ["w"])).keys == ["3", "4"]


async def test_a_view_is_read_and_written_through(admin: psycopg.Connection[Any], client: PostgresDatabase) -> None:
    admin.execute(
        "CREATE TABLE base(id int PRIMARY KEY, v text, hidden bool DEFAULT false);"
        "INSERT INTO base SELECT i, 'v' || i FROM generate_series(1, 1200) i;"
        "CREATE VIEW shown AS SELECT id, v FROM base WHERE NOT hidden"
    )
    async with opened(client, "shown", "v", key="id") as system:
        assert len(await rows(system)) == 1200
        outcomes = await system.write([update("1", {"v": "new"}), update("5000", {"v": "x"})])
        outcomes += await system.write([create({"id": 2000 + n, "v": "c"}) for n in range(12)])
        outcomes += await system.write([deletion("2")])
        assert errors(outcomes) == [None, "Gone", *[None] * 13]
    found = admin.execute("SELECT count(*), max(v) FILTER (WHERE id = 1) FROM base").fetchone()
    assert found == (1211, "new")


async def test_a_long_look_at_a_view_does_not_keep_others_from_writing(
    admin: psycopg.Connection[Any], database: str
) -> None:
    admin.execute("CREATE TABLE base(id int PRIMARY KEY, v text); CREATE VIEW shown AS SELECT * FROM base")
    admin.execute("INSERT INTO base SELECT i, 'v' FROM generate_series(1, 3000) i")
    client = postgres_client(database, spec={"limits": {"concurrency": 1}})
    async with opened(client, "shown", "v", key="id") as system:
        seen = 0
        async for page in system.scan():
            seen += len(page.keys)
            assert errors(await system.write([update(page.keys[0], {"v": "w"})])) == [None]
    assert seen == 3000


@pytest.mark.parametrize(
    "definition",
    ["VIEW s AS SELECT id, count(*) AS v FROM base GROUP BY id", "MATERIALIZED VIEW s AS SELECT id, v FROM base"],
)
async def test_what_takes_no_writes_says_so(
    admin: psycopg.Connection[Any], client: PostgresDatabase, definition: str
) -> None:
    admin.execute(f"CREATE TABLE base(id int PRIMARY KEY, v int); INSERT INTO base VALUES (1, 1); CREATE {definition}")
    async with opened(client, "s", "v", key="id") as system:
        able = system.capabilities
        assert (list(await rows(system)), able.create, able.update, able.delete) == (["1"], False, False, False)
        with pytest.raises(Misconfigured, match=r"takes no update.*access: ReadOnly") as caught:
            await system.write([update("1", {"v": 2})])
    assert caught.value.reason == "ReadOnly"


async def test_a_partitioned_table_is_one_table(admin: psycopg.Connection[Any], client: PostgresDatabase) -> None:
    admin.execute(
        "CREATE TABLE t(id int PRIMARY KEY, v text) PARTITION BY RANGE (id);"
        "CREATE TABLE low PARTITION OF t FOR VALUES FROM (0) TO (10);"
        "CREATE TABLE high PARTITION OF t FOR VALUES FROM (10) TO (20)"
    )
    async with opened(client, "t", "v") as system:
        outcomes = await system.write([create({"id": n, "v": "v"}) for n in range(21)])
        assert errors(outcomes) == [*[None] * 20, "Invalid"]
        assert await raws(system) == {str(n): outcomes[n].raw for n in range(20)}


async def test_row_level_security_decides_row_by_row(admin: psycopg.Connection[Any], database: str, user: str) -> None:
    admin.execute(
        "CREATE TABLE t(id int PRIMARY KEY, v text); ALTER TABLE t ENABLE ROW LEVEL SECURITY;"
        "INSERT INTO t VALUES (-1, 'secret');"
        f"CREATE POLICY p ON t USING (id > 0) WITH CHECK (id > 0 AND v <> 'bad'); GRANT ALL ON t TO {user}"
    )
    async with opened(postgres_client(database, user=user), "t", "v") as system:
        outcomes = await system.write([create({"id": n, "v": "bad" if n == 7 else "good"}) for n in range(1, 21)])
        changed = await system.write([update("-1", {"v": "x"}), update("1", {"v": "bad"}), update("2", {"v": "new"})])
        found = await rows(system)
    assert [n for n, outcome in enumerate(outcomes) if outcome.error is ErrorClass.INVALID] == [6]
    assert (len(found), errors(changed), found["2"]) == (19, ["Gone", "Invalid", None], {"v": "new"})


async def test_a_right_that_is_missing_is_named(admin: psycopg.Connection[Any], database: str, user: str) -> None:
    admin.execute("CREATE TABLE t(id int PRIMARY KEY, v text)")
    async with opened(postgres_client(database, user=user), "t", "v") as system:
        with pytest.raises(AuthRejected, match=r"permission denied for table t.*GRANT") as caught:
            await rows(system)
    assert caught.value.reason == "AuthFailed"


async def test_attributes_tell_what_can_be_written(admin: psycopg.Connection[Any], client: PostgresDatabase) -> None:
    admin.execute("CREATE TABLE t(id int PRIMARY KEY, v varchar(5), w text GENERATED ALWAYS AS (v || '!') STORED)")
    async with opened(client, "t", "v") as system:
        found = await system.attributes()
    assert found == [
        Attribute("id", "integer", writable=True, nullable=False),
        Attribute("v", "character varying", writable=True, nullable=True),
        Attribute("w", "text", writable=False, nullable=True),
    ]


# --- what the database does to a row ---


async def test_a_generated_column_is_read_and_never_written(
    admin: psycopg.Connection[Any], client: PostgresDatabase
) -> None:
    admin.execute("CREATE TABLE t(id int PRIMARY KEY, v text, w text GENERATED ALWAYS AS (v || '!') STORED)")
    async with opened(client, "t", "v", "w") as system:
        outcomes = await system.write([create({"id": n, "v": "a"}) for n in range(20)])
        assert [outcome.stored for outcome in outcomes] == [{"v": "a", "w": "a!"}] * 20
        assert await raws(system) == {str(n): outcomes[n].raw for n in range(20)}
        with pytest.raises(Misconfigured, match=r"computes column 'w' itself.*ReadOnly") as caught:
            await system.write([update("1", {"w": "x"})])
    assert caught.value.reason == "ReadOnlyColumn"


@pytest.mark.parametrize("count", [1, 40])
@pytest.mark.parametrize(
    "key", ["bigserial", "int GENERATED ALWAYS AS IDENTITY", "uuid DEFAULT gen_random_uuid()", "int DEFAULT 7"]
)
async def test_keys_that_the_table_gives_are_told(
    admin: psycopg.Connection[Any], client: PostgresDatabase, key: str, count: int
) -> None:
    admin.execute(f"CREATE TABLE t(id {key} PRIMARY KEY, v text)")
    async with opened(client, "t", "v") as system:
        outcomes = await system.write([create({"v": f"v{n}"}) for n in range(count)])
        done = [(outcome.key, {"v": f"v{n}"}) for n, outcome in enumerate(outcomes) if outcome.error is None]
        assert await rows(system) == dict(done)
    assert errors(outcomes) == [None, *(["Invalid" if key == "int DEFAULT 7" else None] * (count - 1))]


async def test_a_sequence_that_is_behind_makes_no_link_to_a_stranger(
    admin: psycopg.Connection[Any], client: PostgresDatabase
) -> None:
    admin.execute("CREATE TABLE t(id serial PRIMARY KEY, v text); INSERT INTO t VALUES (3, 'a stranger')")
    async with opened(client, "t", "v") as system:
        outcomes = await system.write([create({"v": f"v{n}"}) for n in range(20)])
    assert [n for n, outcome in enumerate(outcomes) if outcome.error is ErrorClass.INVALID] == [2]
    assert "set its sequence past the greatest key" in outcomes[2].message


async def test_keys_that_a_trigger_gives_are_told(admin: psycopg.Connection[Any], client: PostgresDatabase) -> None:
    admin.execute(
        "CREATE SEQUENCE numbers; CREATE TABLE t(id int PRIMARY KEY, v text UNIQUE);"
        "CREATE FUNCTION number() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN new.id = nextval('numbers') * 10; RETURN new; END $$;"
        "CREATE TRIGGER numbered BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION number();"
        "INSERT INTO t(v) VALUES ('v3')"
    )
    async with opened(client, "t", "v") as system:
        outcomes = await system.write([create({"v": f"v{n}"}) for n in range(20)])
        done = {outcome.key: {"v": f"v{n}"} for n, outcome in enumerate(outcomes)}
        assert await rows(system) == done
    assert [n for n, error in enumerate(errors(outcomes)) if error] == [3]


async def test_defaults_and_triggers_are_told_as_they_are_stored(
    admin: psycopg.Connection[Any], client: PostgresDatabase
) -> None:
    admin.execute(
        "CREATE TABLE t(id int PRIMARY KEY, v text, w text DEFAULT 'd');"
        "CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN new.v = upper(new.v); RETURN new; END $$;"
        "CREATE TRIGGER shouts BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION shout()"
    )
    async with opened(client, "t", "v", "w") as system:
        outcomes = await system.write([create({"id": n, "v": "a"}) for n in range(20)])
        (changed,) = await system.write([update("1", {"v": "b"})])
        found = await raws(system)
    assert [outcome.stored for outcome in outcomes] == [{"v": "A", "w": "d"}] * 20
    assert (changed.stored, changed.raw) == ({"v": "B", "w": "d"}, found["1"])


async def test_a_trigger_that_drops_rows_silently_is_noticed(
    admin: psycopg.Connection[Any], client: PostgresDatabase
) -> None:
    admin.execute(
        "CREATE TABLE t(id int PRIMARY KEY, v text); INSERT INTO t VALUES (100, 'a'), (101, 'a');"
        "CREATE FUNCTION censor() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN IF new.v = 'bad' THEN RETURN NULL; END IF; RETURN new; END $$;"
        "CREATE TRIGGER censored BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION censor()"
    )
    async with opened(client, "t", "v") as system:
        made = await system.write([create({"id": n, "v": "bad" if n == 4 else "a"}) for n in range(20)])
        changed = await system.write([update("100", {"v": "bad"}), update("101", {"v": "b"})])
    assert [n for n, outcome in enumerate(made) if outcome.error is ErrorClass.INVALID] == [4]
    assert (errors(changed), "triggers" in made[4].message) == (["Invalid", None], True)


# --- what is there already ---


@pytest.mark.parametrize("late", ["", " DEFERRABLE INITIALLY DEFERRED"])
async def test_a_duplicate_is_told_whenever_the_database_looks_for_it(
    admin: psycopg.Connection[Any], client: PostgresDatabase, late: str
) -> None:
    admin.execute(f"CREATE TABLE t(id int PRIMARY KEY, a int, b int, v text, UNIQUE (a, b){late})")
    admin.execute("INSERT INTO t VALUES (100, 1, 3, 'there'), (101, 1, 99, 'other')")
    async with opened(client, "t", "a", "b", "v") as system:
        outcomes = await system.write([create({"id": n, "a": 1, "b": n, "v": "new"}) for n in range(20)])
        changed = await system.write([update("100", {"b": 99}), update("101", {"v": "changed"})])
    assert [n for n, error in enumerate(errors(outcomes)) if error] == [3]
    assert (outcomes[3].error, outcomes[3].key) == (ErrorClass.CONFLICT, "100")
    assert errors(changed) == ["Invalid", None]


async def test_a_duplicate_that_cannot_be_shown_is_refused(
    admin: psycopg.Connection[Any], client: PostgresDatabase
) -> None:
    admin.execute("CREATE TABLE t(id int PRIMARY KEY, v text); CREATE UNIQUE INDEX ON t(lower(v))")
    admin.execute("INSERT INTO t VALUES (100, 'V3')")
    async with opened(client, "t", "v") as system:
        outcomes = await system.write([create({"id": n, "v": f"v{n}"}) for n in range(20)])
    assert [n for n, outcome in enumerate(outcomes) if outcome.error is ErrorClass.INVALID] == [3]
    assert "unique indexes over expressions" in outcomes[3].message


async def test_a_batch_that_is_all_there_is_told_so(admin: psycopg.Connection[Any], client: PostgresDatabase) -> None:
    admin.execute(
        "CREATE TABLE t(id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'there' FROM generate_series(0, 199) i"
    )
    async with opened(client, "t", "v") as system:
        outcomes = await system.write([create({"id": n, "v": "new"}) for n in range(200)])
    assert errors(outcomes) == ["Conflict"] * 200
    assert {outcome.stored["v"] for outcome in outcomes if outcome.stored} == {"there"}


# --- what changes under our hands ---


async def test_a_table_or_column_that_went_away_is_named(
    admin: psycopg.Connection[Any], client: PostgresDatabase
) -> None:
    admin.execute("CREATE TABLE t(id int PRIMARY KEY, v text)")
    async with opened(client, "t", "v") as system:
        admin.execute("ALTER TABLE t RENAME v TO w")
        with pytest.raises(Misconfigured, match=r"column target\.v does not exist") as column:
            await rows(system)
        admin.execute("DROP TABLE t")
        with pytest.raises(Misconfigured, match=r'relation "public\.t" does not exist') as table:
            await rows(system)
    assert (column.value.reason, table.value.reason) == ("ColumnNotFound", "ObjectNotFound")


async def test_a_table_that_nobody_sees_is_told_with_the_nearest_one(
    admin: psycopg.Connection[Any], client: PostgresDatabase
) -> None:
    admin.execute("CREATE SCHEMA sales; CREATE TABLE customers(id int PRIMARY KEY); CREATE TABLE sales.orders(id int)")
    for name, hint in (
        ("customer", "'customers'"),
        ("sales.order", "'sales.orders'"),
        ("a.b.c", "schema.table"),
        ("t.", "schema.table"),
    ):
        with pytest.raises(Misconfigured, match=hint) as caught:
            await client.open(name, paths=["id"], key=None, modified=None)
        assert caught.value.reason == "ObjectNotFound"
    await client.close()


async def test_a_database_whose_text_has_no_meaning_is_refused(admin: psycopg.Connection[Any], database: str) -> None:
    name = f"{admin.info.dbname}_ascii"
    admin.execute(f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
    client = postgres_client(database, dbname=name)
    try:
        with pytest.raises(Misconfigured, match="UTF8") as caught:
            await client.open("t", paths=["v"], key=None, modified=None)
    finally:
        await client.close()
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    assert caught.value.reason == "EncodingNotSupported"
