"""What is predicted of PostgreSQL's prints is what PostgreSQL prints, and what it prints is read as it was written."""

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairlead.connectors.postgres_text import NULL, SETTINGS, Column, decoded, written
from fairlead.engine.canonical import kind_of

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
TIMES = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)).map(  # noqa: DTZ001 - the zone comes next
    lambda moment: moment.replace(tzinfo=UTC).isoformat().replace("+00:00", "Z")
)
NUMBERS = st.decimals(-(10**9), 10**9, places=2).map(lambda n: int(n) if n == int(n) else n.normalize())
EXACT = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**30), max_value=10**30).map(
    lambda n: int(n) if n == int(n) and abs(n) < 2**63 else n
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
STRING, NUMBER = {"type": "string"}, {"type": "number"}
TYPES: dict[str, tuple[Column, st.SearchStrategy[Any], dict[str, Any]]] = {
    "text": (Column("v", "text", "text"), TEXT, STRING),
    "varchar(5)": (Column("v", "varchar", "character varying", limit=9), TEXT, STRING),
    "name": (Column("v", "name", "name"), st.text("abü", max_size=70), STRING),
    "char(8)": (Column("v", "bpchar", "bpchar", limit=12), st.text("ab ", max_size=8), STRING),
    "int4": (Column("v", "int4", "integer"), st.integers(-(2**31), 2**31 - 1), NUMBER),
    "int8": (Column("v", "int8", "bigint"), st.integers(-(2**63), 2**63 - 1), NUMBER),
    "numeric": (Column("v", "numeric", "numeric"), EXACT, NUMBER),
    "numeric(12,2)": (Column("v", "numeric", "numeric", limit=(12 << 16 | 2) + 4), NUMBERS, NUMBER),
    "numeric(12,0)": (Column("v", "numeric", "numeric", limit=(12 << 16) + 4), NUMBERS, NUMBER),
    "float8": (Column("v", "float8", "double precision"), NUMBERS, NUMBER),
    "float4": (Column("v", "float4", "real"), NUMBERS, NUMBER),
    "bool": (Column("v", "bool", "boolean"), st.booleans(), {"type": "boolean"}),
    "timestamptz": (Column("v", "timestamptz", "timestamp with time zone"), TIMES, {**STRING, "format": "date-time"}),
    "timestamp": (Column("v", "timestamp", "timestamp without time zone"), TIMES, {**STRING, "format": "date-time"}),
    "timestamptz(0)": (
        Column("v", "timestamptz", "timestamp with time zone", limit=0),
        TIMES,
        {**STRING, "format": "date-time"},
    ),
    "date": (Column("v", "date", "date"), st.dates().map(str), {**STRING, "format": "date"}),
    "uuid": (Column("v", "uuid", "uuid"), st.uuids().map(str) | st.uuids().map(lambda u: str(u).upper()), STRING),
    "json": (Column("v", "json", "json"), JSON, {}),
    "jsonb": (Column("v", "jsonb", "jsonb"), JSON, {}),
    "text[]": (Column("v", "text", "text[]", array=True), st.lists(TEXT, max_size=3), {"type": "array"}),
    "bytea": (Column("v", "bytea", "bytea"), st.binary(max_size=6).map(lambda b: kind_of(STRING).canonical(b)), STRING),
}


@pytest.fixture(scope="module")
def server(postgres: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection with the connector's settings."""
    options = " ".join(f"-c {name}={value}" for name, value in SETTINGS.items())
    with psycopg.connect(postgres, options=options, autocommit=True) as connection:
        yield connection


def printed(server: psycopg.Connection[Any], kind: str, texts: list[str | None]) -> list[str | None] | None:
    """What the server prints of what it stored; None when it refuses some of it."""
    server.execute("DROP TABLE IF EXISTS pg_temp.printed")
    server.execute(f"CREATE TEMP TABLE printed(v {kind})")
    cast = kind.partition("(")[0] if not kind.startswith("char(") else "bpchar"
    query = f"INSERT INTO printed SELECT x::{cast} FROM unnest(%s::text[]) AS x RETURNING v::text"
    try:
        return [row[0] for row in server.execute(query, (texts,))]
    except psycopg.DataError:
        return None


@pytest.mark.parametrize("kind", TYPES)
def test_prints_are_as_predicted_and_mean_what_was_written(server: psycopg.Connection[Any], kind: str) -> None:
    column, strategy, schema = TYPES[kind]
    canonical = kind_of(schema)

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.none() | strategy, min_size=1, max_size=8))
    def holds(values: list[Any]) -> None:
        found = written(column, values)
        prints = printed(server, kind, found.texts)
        if prints is None:
            return
        assert found.prints in (None, [NULL if item is None else item for item in prints])
        read = canonical.canonical_column(decoded(column, [NULL if item is None else item for item in prints]))
        if found.exact:
            assert read == canonical.canonical_column(values)

    holds()


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("text", ["a", "", None]),
        ("int8", [1, None]),
        ("numeric(12,2)", [Decimal("1.5"), 2]),
        ("timestamptz", ["2026-01-31T12:00:00.5Z"]),
        ("date", ["2026-01-31"]),
        ("bool", [True, False]),
        ("json", [{"a": 1}]),
    ],
)
def test_ordinary_values_are_predicted(kind: str, values: list[Any]) -> None:
    assert written(TYPES[kind][0], values).prints is not None
