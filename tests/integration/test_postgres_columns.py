"""What columns of PostgreSQL can hold: what is written is read, and what does not fit is refused alone."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from fairlead.connectors.postgres import PostgresDatabase
from fairlead.model.connector import ErrorClass
from fairlead.testing.connector import update
from support.sql import create, errors, opened, postgres_client, raws, rows


@pytest.fixture
def client(database: str) -> PostgresDatabase:
    """Closed by `opened`."""
    return postgres_client(database)


WIDE = """
CREATE TYPE mood AS ENUM ('sad', 'so so', 'happy');
CREATE DOMAIN email AS varchar(40) CHECK (value LIKE '%@%');
CREATE TABLE wide(id int PRIMARY KEY, flag boolean, small smallint, big bigint, amount numeric(12,2), free numeric,
  single real, double float8, fixed char(6), short varchar(10), words text, feeling mood, mail email, at timestamptz,
  local timestamp, coarse timestamptz(0), day date, clock time, span interval, plain json, doc jsonb, data bytea,
  tags text[], grid int[], moods mood[], ident uuid, host inet, price money)
"""
VALUES: dict[str, tuple[object, object]] = {  # column: what is written, what is read
    "flag": (True, True),
    "small": (-5, -5),
    "big": (2**62, 2**62),
    "amount": (Decimal("12.5"), Decimal("12.50")),
    "free": (Decimal("0.1234567890123456789"), Decimal("0.1234567890123456789")),
    "single": (Decimal("1.1"), 1.1),
    "double": (Decimal("0.1"), 0.1),
    "fixed": ("ab", "ab"),
    "short": ("ab\tc", "ab\tc"),
    "words": ("a \\ 'b' \"c\"\n\N{SHIP}", "a \\ 'b' \"c\"\n\N{SHIP}"),
    "feeling": ("so so", "so so"),
    "mail": ("a@b", "a@b"),
    "at": ("2026-01-31T12:00:00.5Z", datetime(2026, 1, 31, 12, 0, 0, 500_000, tzinfo=UTC)),
    "local": ("2026-01-31T12:00:00Z", datetime(2026, 1, 31, 12, 0)),  # noqa: DTZ001 - the column has no zone
    "coarse": ("2026-01-31T12:00:00.6Z", datetime(2026, 1, 31, 12, 0, 1, tzinfo=UTC)),
    "day": ("2026-01-31", date(2026, 1, 31)),
    "clock": ("12:30:00", "12:30:00"),
    "span": ("P1DT2H", "P1DT2H"),
    "plain": ({"a": [1, Decimal("0.10")]}, {"a": [1, Decimal("0.10")]}),
    "doc": ({"b": None, "a": [1, "x", True, Decimal("1.5")]}, {"a": [1, "x", True, Decimal("1.5")], "b": None}),
    "data": ("aGk=", b"hi"),
    "tags": (["a", 'b "c"', "d\\e", "", "NULL", "{f,g}"], ["a", 'b "c"', "d\\e", "", "NULL", "{f,g}"]),
    "grid": ([[1, 2], [3, None]], [[1, 2], [3, None]]),
    "moods": (["sad", "so so"], ["sad", "so so"]),
    "ident": ("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    "host": ("10.0.0.1", "10.0.0.1"),
    "price": ("12.50", "$12.50"),
}


@pytest.mark.parametrize("count", [1, 25])
@pytest.mark.parametrize("name", VALUES)
async def test_a_value_is_read_as_it_was_written(
    admin: psycopg.Connection[Any], client: PostgresDatabase, name: str, count: int
) -> None:
    admin.execute(WIDE)
    written, read = VALUES[name]
    async with opened(client, "wide", name) as system:
        outcomes = await system.write([create({"id": n, name: written}) for n in range(count)])
        outcomes += await system.write([create({"id": count + n, name: None}) for n in range(count)])
        found, now = await rows(system), await raws(system)
    assert errors(outcomes) == [None] * 2 * count
    assert [row[name] for row in found.values()] == [read] * count + [None] * count
    assert {outcome.raw for outcome in outcomes} - {None} <= set(now.values())


async def test_all_columns_at_once_are_read_as_they_were_written(
    admin: psycopg.Connection[Any], client: PostgresDatabase
) -> None:
    admin.execute(WIDE)
    async with opened(client, "wide", *VALUES) as system:
        values = {name: written for name, (written, _) in VALUES.items()}
        await system.write([create({"id": 1}), create({"id": 2, **values})])
        (outcome,) = await system.write([update("1", values)])
        found, now = await rows(system), await raws(system)
    assert found == {key: {name: read for name, (_, read) in VALUES.items()} for key in ("1", "2")}
    assert (outcome.raw, outcome.stored, now["1"]) == (now["1"], found["1"], now["2"])


@pytest.mark.parametrize("name", VALUES)
async def test_records_are_found_by_values_of_every_type(
    admin: psycopg.Connection[Any], client: PostgresDatabase, name: str
) -> None:
    admin.execute(WIDE)
    written, _ = VALUES[name]
    async with opened(client, "wide", name) as system:
        await system.write([create({"id": 1, name: written}), create({"id": 2, name: None})])
        stored = (await rows(system))["1"][name]
        page = await system.find(name, [stored if name in ("coarse", "plain") else written])
    assert page.keys == ["1"]


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("small", 70_000, "out of range"),
        ("amount", Decimal("1e12"), "overflow"),
        ("short", "12345678901", "too long"),
        ("feeling", "angry", "invalid input value for enum"),
        ("mail", "no address", "check constraint"),
        ("day", "2026-02-30", "out of range"),
        ("tags", "no list", "takes a list"),
        ("words", ["a"], "takes one value"),
        ("words", "nul \0", "NUL"),
        ("doc", {"a": "nul \0"}, "NUL"),
        ("data", "no base64!", "base64"),
        ("ident", "no uuid", "invalid input syntax"),
    ],
)
async def test_a_value_that_does_not_fit_is_refused_alone_and_not_repeated(
    admin: psycopg.Connection[Any], client: PostgresDatabase, column: str, value: object, said: str
) -> None:
    admin.execute(WIDE)
    async with opened(client, "wide", column) as system:
        made = await system.write([create({"id": n, column: value if n == 7 else None}) for n in range(20)])
        changed = await system.write([update("1", {column: value}), update("2", {column: None})])
    assert [n for n, outcome in enumerate(made) if outcome.error is ErrorClass.INVALID] == [7]
    assert errors(changed) == ["Invalid", None]
    for outcome in (made[7], changed[0]):
        assert said in outcome.message
        assert str(value) not in outcome.message


async def test_what_python_cannot_express_stays_text(admin: psycopg.Connection[Any], client: PostgresDatabase) -> None:
    admin.execute(WIDE)
    admin.execute(
        "INSERT INTO wide(id, at, day) VALUES (1, 'infinity', '-infinity'), (2, '0044-03-15 BC', '20000-01-01'), "
        "(3, '2026-01-31 12:00+02', '2026-01-31')"
    )
    async with opened(client, "wide", "at", "day") as system:
        found = await rows(system)
    assert found == {
        "1": {"at": "infinity", "day": "-infinity"},
        "2": {"at": "0044-03-15 00:00:00+00 BC", "day": "20000-01-01"},
        "3": {"at": datetime(2026, 1, 31, 10, tzinfo=UTC), "day": date(2026, 1, 31)},
    }


async def test_arrays_that_do_not_begin_at_one_are_lists_all_the_same(
    admin: psycopg.Connection[Any], client: PostgresDatabase
) -> None:
    admin.execute(WIDE)
    admin.execute("INSERT INTO wide(id, grid) VALUES (1, '[0:1]={7,8}'), (2, '{}'), (3, '{{1},{2}}')")
    async with opened(client, "wide", "grid") as system:
        assert [row["grid"] for row in (await rows(system)).values()] == [[7, 8], [], [[1], [2]]]


async def test_text_that_holds_what_separates_fields_is_read_as_it_is(
    admin: psycopg.Connection[Any], client: PostgresDatabase
) -> None:
    admin.execute("CREATE TABLE t(id int PRIMARY KEY, a text, b text)")
    texts = ["\x1f", "\x1e", "\x02", "a\x1fb", "\x1e\x1e", "\x02\x1f\x1e", ""]
    async with opened(client, "t", "a", "b") as system:
        outcomes = await system.write([create({"id": n, "a": text, "b": None}) for n, text in enumerate(texts)])
        outcomes += await system.write(
            [create({"id": 100 + n, "a": text, "b": text}) for n, text in enumerate(texts * 3)]
        )
        found, now = await rows(system), await raws(system)
        fetched = await system.fetch(list(found))
    assert [row["a"] for row in found.values()] == texts * 4
    assert len(set(now.values())) == 2 * len(texts)
    assert now == dict(zip(fetched.keys, fetched.raws, strict=True))
    assert all(outcome.raw in (None, now[outcome.key or ""]) for outcome in outcomes)


async def test_wide_rows_come_on_short_pages(admin: psycopg.Connection[Any], client: PostgresDatabase) -> None:
    admin.execute("CREATE TABLE t(id int PRIMARY KEY, v text)")
    admin.execute("INSERT INTO t SELECT i, repeat('x', 100000) FROM generate_series(1, 500) i; ANALYZE t")
    async with opened(client, "t", "v") as system:
        sizes = [sum(map(len, page.raws)) async for page in system.scan()]
    assert (sum(sizes), max(sizes[1:]) < 6_000_000) == (50_000_000, True)
