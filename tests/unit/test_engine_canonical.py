"""What two systems mean when they say the same thing differently, by the type that the schema gives a field."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.engine.canonical import NULL, ContractError, Kind, form_of, is_empty, kind_of
from fairlead.model.record import MISSING, Value

STRING = {"type": "string"}
NUMBER = {"type": "number"}
MONEY = {"type": "number", "multipleOf": 0.01}
INTEGER = {"type": "integer"}
BOOLEAN = {"type": "boolean"}
TIME = {"type": "string", "format": "date-time"}
DAY = {"type": "string", "format": "date"}
LIST = {"type": "array", "items": {"type": "string"}}
SET = {"type": "array", "items": {"type": "string"}, "uniqueItems": True}
OBJECT = {"type": "object", "properties": {"since": DAY, "size": NUMBER}}
ANY: dict[str, Any] = {}
SECONDS = {**TIME, "x-precision": "Seconds"}
BINARY = {"type": "string", "contentEncoding": "base64"}
NESTED = {"type": "object", "properties": {"a": STRING, "b": {"type": ["string", "null"]}, "c": {}}}

ZONE = timezone(timedelta(hours=1))


def canonical(schema: dict[str, Any], native: Any) -> Value:
    return kind_of(schema).canonical(native)


@pytest.mark.parametrize(
    ("schema", "native", "expected"),
    [
        (STRING, "plain", "plain"),
        (STRING, "Zoe\u0308", "Zo\u00eb"),  # composed and decomposed letters are one
        (STRING, " kept ", " kept "),
        (STRING, 7, "7"),
        (STRING, 12.50, "12.5"),
        (STRING, Decimal("12.50"), "12.50"),
        (STRING, True, "true"),
        (STRING, False, "false"),
        (STRING, date(2026, 1, 31), "2026-01-31"),
        (STRING, b"\x00\xff", "AP8="),
        (NUMBER, "12.50", Decimal("12.5")),
        (NUMBER, 12.5, Decimal("12.5")),
        (NUMBER, Decimal("12.500"), Decimal("12.5")),
        (NUMBER, " 12 ", 12),
        (NUMBER, 12.0, 12),
        (NUMBER, "1e3", 1000),
        (NUMBER, -0.0, 0),
        (NUMBER, Decimal("-0.00"), 0),
        (NUMBER, 12, 12),
        (NUMBER, Decimal(12), 12),
        (NUMBER, Decimal("42.00"), 42),
        (NUMBER, Decimal("0.50"), Decimal("0.5")),
        (NUMBER, Decimal("1E+3"), 1000),
        (NUMBER, Decimal("1.5E+3"), 1500),
        (NUMBER, "0." + "1" * 40, Decimal("0." + "1" * 40)),
        (NUMBER, "1e-1000", Decimal("1e-1000")),
        (NUMBER, Decimal("1." + "1" * 1000), Decimal("1." + "1" * 1000)),
        (NUMBER, 0.1 + 0.2, Decimal("0.30000000000000004")),
        (NUMBER, 2**64, Decimal(2**64)),  # more than JSON encoders know
        (MONEY, 0.1 + 0.2, Decimal("0.3")),  # a float's noise is no amount
        (MONEY, 19.999999999999996, 20),
        (MONEY, Decimal("0.30000000000000004"), Decimal("0.3")),
        (MONEY, "0.010000001", Decimal("0.010000001")),
        (MONEY, "12.345", Decimal("12.345")),  # a finer amount is kept: the contract refuses it
        (INTEGER, "42", 42),
        (INTEGER, 42, 42),
        (INTEGER, 2**63 - 1, 2**63 - 1),
        (INTEGER, -(2**63), -(2**63)),
        (INTEGER, 2**63, Decimal(2**63)),
        (INTEGER, 42.0, 42),
        (INTEGER, Decimal("42.00"), 42),
        (BOOLEAN, True, True),
        (BOOLEAN, "Yes", True),
        (BOOLEAN, "f", False),
        (BOOLEAN, 0, False),
        (BOOLEAN, Decimal(1), True),
        (BOOLEAN, 0.0, False),
        (TIME, "2026-01-01T01:00:00+01:00", "2026-01-01T00:00:00Z"),
        (TIME, "2026-01-01 00:00:00", "2026-01-01T00:00:00Z"),  # no zone is UTC
        (TIME, "2026-01-01t00:00:00z", "2026-01-01T00:00:00Z"),
        (TIME, "2026-01-01T00:00:00.000Z", "2026-01-01T00:00:00Z"),
        (TIME, "2026-01-01T00:00:00.1234567Z", "2026-01-01T00:00:00.123456Z"),
        (TIME, datetime(2026, 1, 1, 1, tzinfo=ZONE), "2026-01-01T00:00:00Z"),
        (TIME, date(2026, 1, 1), "2026-01-01T00:00:00Z"),
        (SECONDS, "2026-01-01T01:00:59.999+01:00", "2026-01-01T00:00:59Z"),  # what is finer is no difference
        ({**TIME, "x-precision": "Minutes"}, "2026-01-01T00:00:59Z", "2026-01-01T00:00:00Z"),
        ({**TIME, "x-precision": "Milliseconds"}, "1999-12-31T23:59:59.9999Z", "1999-12-31T23:59:59.999000Z"),
        (BINARY, b"\x00\xff\xfe", "AP/+"),
        (BINARY, "AP/+", "AP/+"),
        (BINARY, "AP_-", "AP/+"),  # the alphabet of URLs
        (BINARY, "AP\n8", "AP8="),  # lines, and no padding
        (BINARY, "AP8==", "AP8="),  # or too much of it
        (BINARY, "AAAX", "AAAX"),
        (
            NESTED,
            {"a": None, "b": None, "c": None},
            {"b": None, "c": None},
        ),  # null, where the schema has none, is missing
        (DAY, "2026-01-31", "2026-01-31"),
        (DAY, "2026-01-31T23:00:00-05:00", "2026-01-31"),  # the day that was written
        (DAY, " 2026-01-31t23:00:00z ", "2026-01-31"),
        (DAY, date(2026, 1, 31), "2026-01-31"),
        (DAY, datetime(2026, 1, 31, 23, tzinfo=UTC), "2026-01-31"),
        (LIST, ("b", "a", "b"), ["b", "a", "b"]),
        (SET, ["b", "a", "b"], ["a", "b"]),
        (LIST, [None, 1], [None, "1"]),
        (OBJECT, {"since": "2026-01-31", "size": "1.0", "more": 2.0}, {"since": "2026-01-31", "size": 1, "more": 2}),
        (ANY, {"a": [1.0, True, None, "x"]}, {"a": [1, True, None, "x"]}),
        (ANY, "12", "12"),
        (ANY, ("x", 1), ["x", 1]),
        (ANY, datetime(2026, 1, 1, 1, tzinfo=ZONE), "2026-01-01T00:00:00Z"),
        (ANY, date(2026, 1, 31), "2026-01-31"),
        ({"type": "array"}, ["1", 1.0], ["1", 1]),  # items of any kind
        ({"type": "object"}, {"a": 1.0, 2: None}, {"a": 1, "2": None}),
        ({"type": "object", "properties": {"a": True, "b": STRING}}, {"a": None, "b": None}, {"a": None}),
        ({"type": ["string", "integer"]}, 5.0, 5),
        ({"type": ["string", "null"]}, 5, "5"),
    ],
)
def test_a_native_value_becomes_what_the_schema_says(schema: dict[str, Any], native: Any, expected: Value) -> None:
    assert repr(canonical(schema, native)) == repr(expected)  # which tells 1 from true, and 12.5 from 12.50


@pytest.mark.parametrize("schema", [STRING, NUMBER, INTEGER, BOOLEAN, TIME, DAY, LIST, SET, OBJECT, ANY])
def test_null_and_missing_are_both_no_value(schema: dict[str, Any]) -> None:
    assert (canonical(schema, None), canonical(schema, MISSING)) == (None, None)


@pytest.mark.parametrize(
    ("schema", "native", "message"),
    [
        (STRING, {}, "must be text, not an object"),
        (STRING, ["x"], "must be text, not a list"),
        (STRING, ("x",), "must be text, not a list"),
        (STRING, object(), "must be text, not what it is"),
        (STRING, "half \ud83d", "must be text without half characters (lone surrogates)"),
        (STRING, float("nan"), "must be a finite number"),
        (NUMBER, "ten", "must be a number"),
        (NUMBER, True, "must be a number, not true or false"),
        (NUMBER, "Infinity", "must be a finite number"),
        (NUMBER, "1e1000", "must have at most 1000 digits before and after the point"),
        (NUMBER, "1e2000", "must have at most 1000 digits before and after the point"),
        (NUMBER, "1e-2000", "must have at most 1000 digits before and after the point"),
        (NUMBER, Decimal("0." + "1" * 1001), "must have at most 1000 digits before and after the point"),
        (NUMBER, [], "must be a number, not a list"),
        (INTEGER, "4.5", "must be a whole number"),
        (INTEGER, True, "must be a number, not true or false"),
        (BOOLEAN, "maybe", "must be true or false"),
        (BOOLEAN, 2, "must be true or false"),
        (BOOLEAN, 0.5, "must be true or false"),
        (TIME, "yesterday", "must be a date-time such as 2026-01-31T12:00:00Z (RFC 3339)"),
        (TIME, 1767225600, "must be a date-time, not a number"),
        (TIME, "0001-01-01T00:00:00+01:00", "must be a date-time between the years 1 and 9999 in UTC"),
        (DAY, "31.01.2026", "must be a date such as 2026-01-31"),
        (DAY, "2026-01-31 and so on", "must be a date such as 2026-01-31"),
        (DAY, 20260131, "must be a date such as 2026-01-31"),
        (BINARY, "a", "must be base64 (RFC 4648)"),
        (BINARY, "ä===", "must be base64 (RFC 4648)"),
        (BINARY, "=AP8", "must be base64 (RFC 4648)"),
        (BINARY, "AP+/!!!!", "must be base64 (RFC 4648)"),
        (BINARY, 5, "must be base64, not a number"),
        (LIST, "a;b", "must be a list, not text"),
        (OBJECT, [1], "must be an object, not a list"),
        (OBJECT, {"size": "big"}, "must be a number"),
    ],
)
def test_a_value_that_cannot_be_what_the_schema_says_is_refused_without_being_shown(
    schema: dict[str, Any], native: Any, message: str
) -> None:
    with pytest.raises(ContractError) as refused:
        canonical(schema, native)
    assert str(refused.value) == message


@pytest.mark.parametrize(
    ("schema", "one", "other"),
    [
        (NUMBER, "12.50", 12.5),
        (NUMBER, 10**30, "1e30"),
        (TIME, "2026-01-01T01:00:00+01:00", datetime(2026, 1, 1, tzinfo=UTC)),
        (SET, ["b", "a"], ["a", "b", "b"]),
        (OBJECT, {"size": 1, "x": 2}, {"x": 2.0, "size": "1.00"}),
        (ANY, {"a": 1, "b": 2}, {"b": 2, "a": 1}),
    ],
)
def test_equal_values_have_one_encoding(schema: dict[str, Any], one: Any, other: Any) -> None:
    kind = kind_of(schema)
    assert kind.print_bytes(kind.canonical(one)) == kind.print_bytes(kind.canonical(other))


@pytest.mark.parametrize(
    ("schema", "one", "other"),
    [
        (STRING, "", None),
        (STRING, "\x00null", None),
        (STRING, "a", "A"),
        (LIST, ["a", "b"], ["b", "a"]),
        (LIST, [], None),
        (LIST, ["a,b"], ["a", "b"]),
        (ANY, 1, "1"),
        (ANY, True, 1),
        (NUMBER, "0.1", "0.10000000000000001"),
    ],
)
def test_different_values_have_different_encodings(schema: dict[str, Any], one: Any, other: Any) -> None:
    kind = kind_of(schema)
    assert kind.print_bytes(kind.canonical(one)) != kind.print_bytes(kind.canonical(other))


@pytest.mark.parametrize(
    ("value", "empty"), [(None, True), ("", True), ([], True), ({}, True), (0, False), (False, False), (" ", False)]
)
def test_no_value_and_nothing_in_it_are_empty(value: Value, empty: bool) -> None:
    assert is_empty(value) is empty


@pytest.mark.parametrize(
    ("schema", "native", "encoding"),
    [
        (STRING, "Zo\u00eb", b"Zo\xc3\xab"),
        (NUMBER, 12.0, b"12"),
        (NUMBER, "12.50", b"12.5"),
        (NUMBER, "1e-7", b"0.0000001"),
        (INTEGER, "42", b"42"),
        (BOOLEAN, "yes", b"t"),
        (BOOLEAN, "no", b"f"),
        (TIME, "2026-01-01T01:00:00.5+01:00", b"2026-01-01T00:00:00.500000Z"),
        (SECONDS, "2026-01-01T01:00:00.5+01:00", b"2026-01-01T00:00:00Z"),
        (DAY, "2026-01-31", b"2026-01-31"),
        (BINARY, b"\x00\xff", b"AP8="),
        (SET, ["b", "a"], b'["a","b"]'),
        (ANY, {"b": 2**64, "a": [True, None, 0.5]}, b'{"a":[true,null,0.5],"b":18446744073709551616}'),
        (ANY, None, b"\xff"),
    ],
)
def test_encodings_stay_as_they_are(schema: dict[str, Any], native: Any, encoding: bytes) -> None:
    """State holds fingerprints of them: after another encoding every record would read as changed."""
    kind = kind_of(schema)
    assert kind.print_bytes(kind.canonical(native)) == encoding


@pytest.mark.parametrize(
    ("schema", "name"),
    [
        (STRING, "string"), (NUMBER, "number"), (MONEY, "number"), (INTEGER, "integer"), (BOOLEAN, "boolean"),
        (TIME, "date-time"), (SECONDS, "date-time"), (DAY, "date"), (BINARY, "binary"), (LIST, "array"),
        (OBJECT, "object"), (ANY, "any"), ({"type": ["string", "integer"]}, "any"),
        ({"type": ["null", "string"]}, "string"),
    ],
)  # fmt: skip
def test_a_kind_has_the_name_of_its_type(schema: dict[str, Any], name: str) -> None:
    assert kind_of(schema).name == name


@pytest.mark.parametrize(("schema", "unique"), [(LIST, False), (SET, True)])
def test_a_list_knows_its_items_and_whether_it_is_a_set(schema: dict[str, Any], unique: bool) -> None:
    kind = kind_of(schema)
    assert (kind.item is not None and kind.item.name, kind.unique) == ("string", unique)


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The process runs nine hours east of UTC."""
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "JST-9")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("native", ["2026-01-01T00:00:00", "2026-01-01T01:00:00+01:00", date(2026, 1, 1)])
def test_a_time_is_the_same_wherever_the_process_runs(native: Any) -> None:
    assert canonical(TIME, native) == "2026-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("schema", "column"),
    [
        (STRING, []),
        (STRING, [None, None]),
        (STRING, ["a", None, "b"]),
        (STRING, ["a", MISSING, "e\u0301"]),
        (STRING, ["a", 1, True]),
        (INTEGER, [None, None]),
        (INTEGER, [1, None, 2]),
        (INTEGER, [2**63, None]),
        (INTEGER, [1, -(2**63) - 1]),
        (INTEGER, [1, "2", MISSING]),
        (NUMBER, [1, 2]),
        (NUMBER, [1, 2.5, "3.50", None]),
        (BOOLEAN, [True, None, False]),
        (BOOLEAN, [True, "no", 1]),
        (SET, [["b", "a"], None, MISSING]),
    ],
)
def test_a_column_is_what_its_values_are_one_by_one(schema: dict[str, Any], column: list[Any]) -> None:
    kind = kind_of(schema)
    values = [kind.canonical(native) for native in column]
    found = kind.canonical_column(column)
    assert (repr(found), kind.encoded_column(found)) == (repr(values), [kind.print_bytes(value) for value in values])


# --- what holds for every value ---

TEXTS = st.text(max_size=8) | st.text("aeé\u0301\u0308 1", max_size=6)
NUMBERS = (
    st.integers(-(10**25), 10**25)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.decimals(-(10**9), 10**9, places=4)
)
INSTANTS = st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1), timezones=st.sampled_from([UTC, ZONE]))  # noqa: DTZ001
ANYTHING = st.recursive(
    st.none() | st.booleans() | TEXTS | NUMBERS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
NATIVES: list[tuple[dict[str, Any], st.SearchStrategy[Any]]] = [
    (STRING, TEXTS | NUMBERS | st.booleans()),
    (NUMBER, NUMBERS | NUMBERS.map(str)),
    (MONEY, NUMBERS | NUMBERS.map(str)),
    (INTEGER, st.integers() | st.integers(-(10**6), 10**6).map(float)),
    (BOOLEAN, st.sampled_from([True, False, "yes", "No", 1, 0, "t", 1.0])),
    (TIME, INSTANTS | INSTANTS.map(lambda at: at.isoformat())),
    (SECONDS, INSTANTS | INSTANTS.map(lambda at: at.isoformat())),
    (BINARY, st.binary(max_size=6)),
    (DAY, st.dates() | st.dates().map(str)),
    (LIST, st.lists(TEXTS | st.none(), max_size=4)),
    (SET, st.lists(TEXTS, max_size=4)),
    (OBJECT, st.fixed_dictionaries({}, optional={"since": st.dates(), "size": NUMBERS, "x": ANYTHING})),
    (NESTED, st.fixed_dictionaries({}, optional={"a": st.none() | TEXTS, "b": st.none() | TEXTS, "c": ANYTHING})),
    (ANY, ANYTHING),
]
CASES = st.sampled_from(NATIVES).flatmap(
    lambda case: st.tuples(st.just(kind_of(case[0])), case[1], st.none() | case[1])
)


def canonical_or_none(kind: Kind, native: Any) -> Value:
    try:
        return kind.canonical(native)
    except ContractError:
        return None


@given(st.decimals())
def test_a_number_is_the_same_as_its_text(number: Decimal) -> None:
    told = canonical_or_none(kind_of(NUMBER), number)
    assert repr(told) == repr(canonical_or_none(kind_of(NUMBER), str(number)))


@given(CASES)
def test_a_canonical_value_is_its_own_canonical_form(case: tuple[Kind, Any, Any]) -> None:
    kind, native, _ = case
    value = canonical_or_none(kind, native)
    again = kind.canonical(value)
    assert (again, type(again)) == (value, type(value))


@given(CASES)
def test_encodings_are_equal_exactly_when_values_are(case: tuple[Kind, Any, Any]) -> None:
    kind, one, other = case
    left, right = canonical_or_none(kind, one), canonical_or_none(kind, other)
    same = typed(left) == typed(right)
    assert (kind.print_bytes(left) == kind.print_bytes(right)) is same


def typed(value: Value) -> Any:
    """The value, so that `True` is not 1 when it is compared."""
    if isinstance(value, list):
        return [typed(item) for item in value]
    if isinstance(value, dict):
        return {name: typed(item) for name, item in value.items()}
    return (isinstance(value, bool), value)


@given(CASES)
def test_a_column_is_converted_as_its_values_are(case: tuple[Kind, Any, Any]) -> None:
    kind, one, other = case
    column = [value for value in (one, None, other) if value is None or canonical_or_none(kind, value) is not None]
    assert kind.canonical_column(column) == [kind.canonical(value) for value in column]


@given(CASES)
def test_no_value_is_told_from_every_value(case: tuple[Kind, Any, Any]) -> None:
    kind, native, _ = case
    value = canonical_or_none(kind, native)
    assert (kind.print_bytes(value) == NULL) is (value is None)


@pytest.mark.parametrize(
    ("schema", "foreign", "own"),
    [
        (STRING, 7, "7"),
        (STRING, ["a"], '["a"]'),
        (INTEGER, "7", 7),
        (NUMBER, "7", 7),
        (NUMBER, {"a": 7}, 7),
        (BOOLEAN, "t", True),
        (DAY, 7, "2026-01-31"),
    ],
)
def test_a_value_of_a_type_that_was_declared_before_is_unlike_every_value_of_now(
    schema: dict[str, Any], foreign: Value, own: Value
) -> None:
    kind = kind_of(schema)
    prints = kind.print_bytes(foreign), kind.print_bytes(own), NULL
    assert len({*prints}) == 3
    assert kind.encoded_column([foreign, own, None]) == list(prints)
    assert kind.encoded_column([foreign, own]) == list(prints[:2])


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_is_the_same_as_its_digits(number: float) -> None:
    told = canonical_or_none(kind_of(NUMBER), number)
    assert repr(told) == repr(canonical_or_none(kind_of(NUMBER), repr(number)))


@given(st.lists(st.none() | INSTANTS | INSTANTS.map(lambda at: at.isoformat().replace("+00:00", "Z"))))
def test_a_column_of_times_is_converted_as_its_values_are(column: list[Any]) -> None:
    kind = kind_of(TIME)
    assert kind.canonical_column(column) == [kind.canonical(value) for value in column]


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-01t00:00:00z",
        "2026-01-01 00:00:00Z",
        "2026-01-01T00:00:00-00:00",
        "2026-01-01T00:00:00.1Z",
        "2026-01-01T01:00:00.9999999Z",
        "2026-01-01T00:00:00,5Z",
        "2026-01-01T01:00:00+01:00",
        " 2026-01-01T00:00:00Z",
        "20260101T000000Z",
        "2026-01-01T00:00",
    ],
)
def test_a_column_of_times_in_whatever_spelling_is_converted_as_its_values_are(text: str) -> None:
    kind = kind_of(TIME)
    assert kind.canonical_column([text, None]) == [kind.canonical(text), None]


# --- what an expression makes ---


@pytest.mark.parametrize(
    ("schema", "made", "value"),
    [
        (STRING, "1", "1"),
        (STRING, None, None),
        (NUMBER, 1.5, Decimal("1.5")),
        (INTEGER, 2.0, 2),
        (BOOLEAN, False, False),
        (LIST, ["a"], ["a"]),
        (OBJECT, {"size": 1}, {"size": 1}),
        (DAY, "2026-01-31", "2026-01-31"),
        (TIME, datetime(2026, 1, 31, tzinfo=UTC), "2026-01-31T00:00:00Z"),
        (ANY, True, True),
    ],
)
def test_what_an_expression_makes_is_canonical(schema: dict[str, Any], made: Any, value: Value) -> None:
    assert kind_of(schema).made(made) == value


@pytest.mark.parametrize(
    ("schema", "made", "why"),
    [
        (STRING, 1, "must be text, not a number"),
        (STRING, False, "must be text, not true or false"),
        (NUMBER, "1", "must be a number, not text"),
        (INTEGER, True, "must be a number, not true or false"),
        (BOOLEAN, 1, "must be true or false, not a number"),
        (BOOLEAN, "true", "must be true or false, not text"),
        (LIST, "a", "must be a list, not text"),
        (SET, [1], "must be text, not a number"),
        (OBJECT, [], "must be an object, not a list"),
    ],
)
def test_what_an_expression_makes_is_no_other_spelling_of_the_type(schema: dict[str, Any], made: Any, why: str) -> None:
    with pytest.raises(ContractError) as refused:
        kind_of(schema).made(made)
    assert str(refused.value) == why


# --- the form that values have ---

LINE = {"type": "object", "properties": {"a": NUMBER, "b": STRING}}
FORM = {"type": "array", "items": LINE}


@pytest.mark.parametrize(
    "other",
    [
        {**FORM, "description": "Lines.", "maxItems": 9},
        dict(reversed(FORM.items())),
        {**FORM, "items": {**LINE, "required": ["a"]}},
        {"type": "array", "items": {"type": "object", "properties": {"b": STRING, "a": NUMBER}}},
    ],
    ids=["described and bounded", "in another order", "bounded inside", "in another order inside"],
)
def test_values_keep_their_form(other: dict[str, Any]) -> None:
    assert form_of(other) == form_of(FORM)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (STRING, {"type": "integer"}),
        (STRING, BINARY),
        (STRING, DAY),
        (TIME, SECONDS),
        (NUMBER, MONEY),
        ({"type": "array"}, {"type": "array", "uniqueItems": True}),
        ({"type": "array"}, {"type": "array", "items": STRING}),
        ({"type": "object"}, {"type": "object", "properties": {"a": STRING}}),
        ({"type": "array", "items": STRING}, {"type": "array", "items": DAY}),
    ],
)
def test_values_get_another_form(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert form_of(one) != form_of(other)


def test_a_format_that_is_only_checked_changes_no_form() -> None:
    assert form_of({**STRING, "format": "email"}) == form_of(STRING)
