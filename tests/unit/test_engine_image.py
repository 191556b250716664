"""What systems that shorten, round or re-spell values make of them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.engine.canonical import Kind, kind_of
from fairlead.engine.image import is_image, is_image_of
from fairlead.model.record import Value

TEXT = kind_of({"type": "string"})
NUMBER = kind_of({"type": "number"})
TIME = kind_of({"type": "string", "format": "date-time"})
DAY = kind_of({"type": "string", "format": "date"})
BOOLEAN = kind_of({"type": "boolean"})
LIST = kind_of({"type": "array", "items": {"type": "string"}})
OBJECT = kind_of({"type": "object"})
ANY = kind_of({})


@pytest.mark.parametrize(
    ("kind", "written", "stored", "image"),
    [
        (TEXT, "Zoe Smith", "ZOE SMITH", True),
        (TEXT, "Zoe Smith", "Zoe S", True),
        (TEXT, " Zoe  Smith ", "Zoe Smith", True),
        (TEXT, "Straße", "STRASSE", True),
        (TEXT, "Zoe", "Zoe Smith", False),
        (TEXT, "Zoe", "Joe", False),
        (TEXT, "Zoe", "", False),
        (TEXT, "Zoe", None, False),
        (TEXT, "", None, True),  # an empty text that is stored as null
        (TEXT, "", "Zoe", False),
        (TEXT, None, "Zoe", False),
        (NUMBER, Decimal("12.345"), Decimal("12.34"), True),
        (NUMBER, Decimal("12.345"), Decimal("12.35"), True),
        (NUMBER, Decimal("12.5"), 13, True),
        (NUMBER, Decimal("12.5"), 12, True),
        (NUMBER, Decimal("12.345"), Decimal("12.36"), False),
        (NUMBER, 2**60 + 1, 2**60, True),  # a double
        (NUMBER, 10**15, 10**15 - 1, False),  # which a double holds
        (NUMBER, 10**30, 5, False),
        (NUMBER, 12, None, False),
        (NUMBER, 1999, 2000, False),
        (NUMBER, 12, 13, False),
        (NUMBER, 12, 0, False),
        (TIME, "2026-01-01T12:34:56.789000Z", "2026-01-01T12:34:56Z", True),
        (TIME, "2026-01-01T12:34:56.789000Z", "2026-01-01T12:34:57Z", True),
        (TIME, "2026-01-01T12:34:56Z", "2026-01-01T12:34:00Z", True),
        (TIME, "2026-01-01T12:34:56Z", "2026-01-01T00:00:00Z", True),
        (TIME, "2026-01-01T12:34:56Z", "2026-01-01T12:35:01Z", False),
        (TIME, "2026-01-01T12:34:56Z", "2026-01-01T13:00:00Z", False),  # nothing cuts to hours
        (TIME, "2026-01-01T12:34:56Z", "2026-01-01T00:10:00Z", False),
        (TIME, "2026-01-01T12:34:56Z", "2026-01-01T00:00:00.500000Z", False),
        (TIME, "2026-01-01T12:34:56Z", "2026-01-01T12:34:57Z", False),  # a whole second is no rounding
        (DAY, "2026-01-01", "2026-01-02", False),
        (BOOLEAN, True, False, False),
        (LIST, ["b", "a", "b"], ["a", "b"], True),
        (LIST, ["b", "a"], ["a", "b"], True),
        (LIST, ["one", "two"], ["ONE", "TWO"], True),
        (LIST, ["a", "b"], ["a"], False),
        (LIST, ["a"], ["a", "b"], False),
        (LIST, ["a"], None, False),
        (ANY, ["a"], ["b"], False),
        (ANY, True, 1, False),
        (OBJECT, {"a": 1}, {"a": 2}, False),
    ],
)
def test_less_of_a_value_is_an_image_and_another_value_is_none(
    kind: Kind, written: Value, stored: Value, image: bool
) -> None:
    assert is_image(kind, written, stored) is image


KINDS = {"name": TEXT, "credit": NUMBER}


@pytest.mark.parametrize(
    ("stored", "image"),
    [
        ({"name": "ZOE", "credit": 12}, True),
        ({"name": "ZOE", "credit": 15}, False),
        ({"name": "Joe", "credit": 12}, False),
        ({"name": "ZOE"}, True),  # a field that the system does not tell says nothing
        ({"name": "ZOE", "credit": 12, "more": "x"}, True),  # nor does one that was not written
        ({}, True),
    ],
)
def test_a_record_is_an_image_when_every_field_that_it_tells_is(stored: dict[str, Value], image: bool) -> None:
    assert is_image_of(KINDS, {"name": "Zoe", "credit": Decimal("12.3")}, stored) is image


VALUES: list[tuple[Kind, st.SearchStrategy[Any]]] = [
    (TEXT, st.none() | st.text(max_size=6)),
    (NUMBER, st.none() | st.integers() | st.decimals(allow_nan=False, allow_infinity=False)),
    (TIME, st.none() | st.datetimes()),
    (LIST, st.none() | st.lists(st.text(max_size=2), max_size=3)),
]
PAIRS = st.sampled_from(VALUES).flatmap(lambda case: st.tuples(st.just(case[0]), case[1], case[1]))


@given(PAIRS)
def test_every_value_is_its_own_image_and_any_two_can_be_compared(pair: tuple[Kind, Any, Any]) -> None:
    kind, native, other = pair
    try:
        value, second = kind.canonical(native), kind.canonical(other)
    except ValueError:
        return
    assert is_image(kind, value, value)
    assert is_image(kind, value, second) in (True, False)


@given(st.decimals(-(10**9), 10**9, places=6), st.integers(0, 5))
def test_a_number_that_was_rounded_is_an_image(number: Decimal, places: int) -> None:
    assert is_image(NUMBER, NUMBER.canonical(number), NUMBER.canonical(round(number, places)))
