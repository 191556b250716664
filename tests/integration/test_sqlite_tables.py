"""What a table of SQLite can be, and what its columns can hold."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest

from fairlead.connectors.base import Attribute
from fairlead.connectors.sqlite import SQLiteDatabase
from fairlead.engine.canonical import ContractError, kind_of
from fairlead.model.connector import ErrorClass
from fairlead.testing.connector import deletion, update
from fairlead.transport.failure import Misconfigured
from support.policies import connection_of
from support.sql import create, cursor_of, errors, feed, opened, raws, rows


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "app.db"


@pytest.fixture
def owner(path: Path) -> Iterator[sqlite3.Connection]:
    """The application whose file it is."""
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        yield database


@pytest.fixture
def client(path: Path) -> SQLiteDatabase:
    """Closed by `opened`."""
    return SQLiteDatabase(connection_of("db", f"sqlite:///{path}"))


# --- which rows, and which key ---


async def test_a_key_of_two_columns_is_named_and_one_must_be_chosen(
    owner: sqlite3.Connection, client: SQLiteDatabase
) -> None:
    owner.execute("CREATE TABLE t(a, b, n INTEGER UNIQUE, v TEXT, PRIMARY KEY (a, b))")
    owner.execute("INSERT INTO t VALUES (1, 2, 3, 'v')")
    with pytest.raises(Misconfigured, match=r"2 columns \(a, b\).*systems\[\]\.key") as caught:
        await client.open("t", paths=["v"], key=None, modified=None)
    assert caught.value.reason == "KeyNotFound"
    async with opened(client, "t", "v", key="n") as system:
        assert list(await rows(system)) == ["3"]


async def test_a_declared_key_must_be_unique(owner: sqlite3.Connection, client: SQLiteDatabase) -> None:
    owner.executescript("CREATE TABLE t(n INTEGER, v TEXT); INSERT INTO t VALUES (1, 'a'), (1, 'b')")
    with pytest.raises(Misconfigured, match="no primary key"):
        await client.open("t", paths=["v"], key=None, modified=None)
    async with opened(client, "t", "v", key="n") as system:
        with pytest.raises(Misconfigured, match="'n' of table t is not unique") as caught:
            await rows(system)
    assert caught.value.reason == "KeyNotUnique"


async def test_rows_without_a_key_are_passed_over(owner: sqlite3.Connection, client: SQLiteDatabase) -> None:
    owner.executescript("CREATE TABLE t(k TEXT PRIMARY KEY, v TEXT); INSERT INTO t VALUES ('a', 'v'), (NULL, 'w')")
    async with opened(client, "t", "v") as system:
        assert await rows(system) == {"a": {"v": "v"}}


@pytest.mark.parametrize("declared", ["INTEGER", "TEXT", "", "REAL", "NUMERIC", "VARCHAR(20)", "BLOB"])
@pytest.mark.parametrize("form", ["'k' || i", "i", "i + 0.5", "cast(i AS TEXT)"])
async def test_a_key_may_be_of_any_type_but_bytes(
    owner: sqlite3.Connection, client: SQLiteDatabase, declared: str, form: str
) -> None:
    if declared == "INTEGER" and form in ("'k' || i", "i + 0.5"):
        declared = "INT"  # the other is the row's own number
    owner.execute(f"CREATE TABLE t(k {declared} PRIMARY KEY, v TEXT)")
    series = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 600)"
    owner.execute(f"INSERT INTO t {series} SELECT {form}, 'v' FROM n")
    async with opened(client, "t", "v") as system:
        keys = list(await rows(system))
        page = await system.fetch(keys)
        outcomes = await system.write([update(key, {"v": "w"}) for key in keys[:50]])
        outcomes += await system.write([deletion(key) for key in keys[50:60]])
        left = await rows(system)
    assert (len(set(keys)), set(page.keys), errors(outcomes), len(left)) == (600, set(keys), [None] * 60, 590)


async def test_a_key_of_bytes_is_refused(owner: sqlite3.Connection, client: SQLiteDatabase) -> None:
    owner.executescript("CREATE TABLE t(k BLOB PRIMARY KEY, v TEXT); INSERT INTO t VALUES (x'00ff', 'v')")
    async with opened(client, "t", "v") as system:
        with pytest.raises(Misconfigured, match=r"binary data.*systems\[\]\.key") as caught:
            await rows(system)
    assert caught.value.reason == "KeyNotFound"


async def test_names_may_be_any_text(owner: sqlite3.Connection, client: SQLiteDatabase) -> None:
    owner.execute('CREATE TABLE "a ""t; --"("the key" INTEGER PRIMARY KEY, "select" TEXT, "a.b" TEXT UNIQUE)')
    async with opened(client, 'a "t; --', "select", "a.b") as system:
        outcomes = await system.write([create({"the key": n, "select": "v", "a.b": str(n)}) for n in range(3)])
        assert errors(outcomes) == [None] * 3
        assert (await system.find("a.b", ["1"])).keys == ["1"]


async def test_a_view_is_only_read(owner: sqlite3.Connection, client: SQLiteDatabase) -> None:
    owner.executescript("CREATE TABLE base(id INTEGER PRIMARY KEY, v TEXT); INSERT INTO base VALUES (1, 'v')")
    owner.execute("CREATE VIEW shown AS SELECT id, upper(v) AS v FROM base")
    async with opened(client, "shown", "v", key="id") as system:
        able = system.capabilities
        assert (await rows(system), able.create, able.update, able.delete) == ({"1": {"v": "V"}}, False, False, False)
        with pytest.raises(Misconfigured, match=r"is a view.*access: ReadOnly") as caught:
            await system.write([update("1", {"v": "x"})])
    assert caught.value.reason == "ReadOnly"


async def test_attributes_tell_what_can_be_written(owner: sqlite3.Connection, client: SQLiteDatabase) -> None:
    owner.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, v VARCHAR(5) NOT NULL, w TEXT AS (v || '!'))")
    async with opened(client, "t", "v", "w") as system:
        found = await system.attributes()
        (outcome,) = await system.write([create({"v": "a"})])
        with pytest.raises(Misconfigured, match="computes column 'w' itself") as caught:
            await system.write([update("1", {"w": "x"})])
    assert found == [
        Attribute("id", "integer", writable=True, nullable=True),
        Attribute("v", "varchar(5)", writable=True, nullable=False),
        Attribute("w", "text", writable=False, nullable=True),
    ]
    assert (outcome.key, outcome.stored, caught.value.reason) == ("1", {"v": "a", "w": "a!"}, "ReadOnlyColumn")


# --- what the database does to a row ---


async def test_what_a_trigger_makes_of_a_row_is_told(owner: sqlite3.Connection, client: SQLiteDatabase) -> None:
    owner.executescript(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT, w TEXT DEFAULT 'd');"
        "CREATE TRIGGER shout AFTER INSERT ON t BEGIN UPDATE t SET v = upper(v) WHERE id = new.id; END"
    )
    async with opened(client, "t", "v", "w") as system:
        outcomes = await system.write([create({"v": "a"}), create({"v": "b"})])
        assert [outcome.stored for outcome in outcomes] == [{"v": "A", "w": "d"}, {"v": "B", "w": "d"}]
        assert {outcome.key: outcome.raw for outcome in outcomes} == await raws(system)


@pytest.mark.parametrize("kind", ["ABORT", "FAIL", "ROLLBACK"])
async def test_a_trigger_that_refuses_a_row_leaves_the_others_alone(
    owner: sqlite3.Connection, client: SQLiteDatabase, kind: str
) -> None:
    owner.executescript(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT);"
        f"CREATE TRIGGER censor BEFORE INSERT ON t WHEN new.v = 'bad' BEGIN SELECT RAISE({kind}, 'censored'); END"
    )
    async with opened(client, "t", "v") as system:
        outcomes = await system.write([create({"id": n, "v": "bad" if n == 3 else "a"}) for n in range(6)])
        assert list(await rows(system)) == ["0", "1", "2", "4", "5"]
    assert errors(outcomes) == [None, None, None, "Invalid", None, None]
    assert "censored" in outcomes[3].message


async def test_a_constraint_that_is_checked_at_the_end_refuses_its_row_alone(
    owner: sqlite3.Connection, client: SQLiteDatabase
) -> None:
    owner.executescript(
        "CREATE TABLE company(id INTEGER PRIMARY KEY); INSERT INTO company VALUES (1);"
        "CREATE TABLE t(id INTEGER PRIMARY KEY, c INTEGER REFERENCES company(id) DEFERRABLE INITIALLY DEFERRED)"
    )
    async with opened(client, "t", "c") as system:
        outcomes = await system.write([create({"id": n, "c": 2 if n == 3 else 1}) for n in range(6)])
        assert (errors(outcomes)[3], list(await rows(system))) == ("Invalid", ["0", "1", "2", "4", "5"])


async def test_a_duplicate_in_two_columns_is_the_row_that_has_both(
    owner: sqlite3.Connection, client: SQLiteDatabase
) -> None:
    owner.executescript(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT, b TEXT, UNIQUE (a, b));"
        "INSERT INTO t VALUES (1, 'x', 'y'), (2, 'x', 'z')"
    )
    async with opened(client, "t", "a", "b") as system:
        outcomes = await system.write([create({"a": "x", "b": "z"}), create({"a": "w", "b": "z"})])
    assert [(outcome.error, outcome.key) for outcome in outcomes] == [(ErrorClass.CONFLICT, "2"), (None, "3")]


async def test_a_duplicate_that_cannot_be_shown_is_refused(owner: sqlite3.Connection, client: SQLiteDatabase) -> None:
    owner.executescript("CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT); CREATE UNIQUE INDEX low ON t(lower(v));")
    owner.execute("INSERT INTO t VALUES (1, 'A')")
    async with opened(client, "t", "v") as system:
        outcomes = await system.write([create({"v": "a"}), create({"v": "b"})])
    assert errors(outcomes) == ["Invalid", None]


# --- what columns hold ---


@pytest.mark.parametrize(
    ("declared", "written", "read"),
    [
        ("TEXT", "a\t'b' \"c\" \\ \n\0 \N{SHIP}", "a\t'b' \"c\" \\ \n\0 \N{SHIP}"),
        ("NUMERIC", Decimal("12.50"), 12.5),
        ("NUMERIC(12,2)", Decimal(13), 13),
        ("TEXT", Decimal("12.5000000000000000001"), "12.5000000000000000001"),
        ("INTEGER", -(2**63), -(2**63)),
        ("BOOLEAN", True, 1),
        ("DATETIME", "2026-01-31T12:00:00Z", "2026-01-31T12:00:00Z"),
        ("BLOB", "AP8=", b"\x00\xff"),
        ("JSON", {"a": [1, Decimal("0.10"), None]}, {"a": [1, Decimal("0.10"), None]}),
        ("JSON", "text", "text"),
        ("TEXT", ["a", "b"], '["a","b"]'),
        ("TEXT", None, None),
    ],
)
async def test_a_value_is_read_as_it_was_written(
    owner: sqlite3.Connection, client: SQLiteDatabase, declared: str, written: object, read: object
) -> None:
    owner.execute(f"CREATE TABLE t(id INTEGER PRIMARY KEY, v {declared})")
    async with opened(client, "t", "v") as system:
        (outcome,) = await system.write([create({"id": 1, "v": written})])
        assert (await rows(system), await raws(system)) == ({"1": {"v": read}}, {"1": outcome.raw})
        assert outcome.stored == {"v": read}


@pytest.mark.parametrize(
    ("declared", "value", "said"),
    [
        ("INTEGER", 2**64, "too large"),
        ("BLOB", "no base64!", "base64"),
        ("INTEGER CHECK (v < 5)", 7, "CHECK constraint failed"),
    ],
)
async def test_a_value_that_does_not_fit_is_refused_alone(
    owner: sqlite3.Connection, client: SQLiteDatabase, declared: str, value: object, said: str
) -> None:
    owner.execute(f"CREATE TABLE t(id INTEGER PRIMARY KEY, v {declared})")
    async with opened(client, "t", "v") as system:
        outcomes = await system.write([create({"id": n, "v": value if n == 1 else None}) for n in range(3)])
    assert (errors(outcomes), said in outcomes[1].message) == ([None, "Invalid", None], True)


async def test_a_text_that_is_none_is_refused_by_every_contract_and_its_neighbours_are_read(
    owner: sqlite3.Connection, client: SQLiteDatabase
) -> None:
    owner.executescript("CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT)")
    owner.execute("INSERT INTO t VALUES (1, 'good'), (2, cast(x'ff00' AS TEXT))")
    async with opened(client, "t", "v") as system:
        found = await rows(system)
        again = await raws(system)
    assert (found["1"], len(set(again.values()))) == ({"v": "good"}, 2)
    with pytest.raises(ContractError, match="must be text"):
        kind_of({"type": "string"}).canonical(found["2"]["v"])


async def test_a_column_may_hold_values_of_several_types(owner: sqlite3.Connection, client: SQLiteDatabase) -> None:
    owner.executescript(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, v); INSERT INTO t VALUES (1, 5), (2, '5'), (3, 5.5), (4, x'35')"
    )
    async with opened(client, "t", "v") as system:
        found = await rows(system)
        assert len(set((await raws(system)).values())) == 4
        assert (await system.find("v", ["5"])).keys == ["1", "2"]
    assert [row["v"] for row in found.values()] == [5, "5", 5.5, b"5"]


@pytest.mark.parametrize(
    ("declared", "value"),
    [
        ("TEXT", "a"),
        ("NUMERIC", Decimal("12.50")),
        ("INTEGER", 5),
        ("", Decimal("1.5")),
        ("BOOLEAN", True),
        ("REAL", 2),
    ],
)
async def test_records_are_found_by_values_of_every_type(
    owner: sqlite3.Connection, client: SQLiteDatabase, declared: str, value: object
) -> None:
    owner.execute(f"CREATE TABLE t(id INTEGER PRIMARY KEY, v {declared})")
    async with opened(client, "t", "v") as system:
        await system.write([create({"id": 1, "v": value}), create({"id": 2, "v": None})])
        assert (await system.find("v", [value, None])).keys == ["1"]


@pytest.mark.parametrize(
    "times", [("2026-01-31", "2026-02-01"), ("2026-01-31 12:00", "2026-01-31 12:01"), (1_700_000_000, 1_700_000_001)]
)
async def test_a_modification_time_may_have_any_form_that_sorts(
    owner: sqlite3.Connection, client: SQLiteDatabase, times: tuple[object, object]
) -> None:
    owner.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT, changed)")
    owner.execute("INSERT INTO t VALUES (1, 'a', ?)", (times[0],))
    async with opened(client, "t", "v", modified="changed") as system:
        cursor = await cursor_of(system)
        owner.execute("INSERT INTO t VALUES (2, 'b', ?)", (times[1],))
        assert "2" in (await feed(system, cursor))[0]
