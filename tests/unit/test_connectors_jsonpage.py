"""Records of an API as a page."""

from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.connectors.jsonpage import JSONPage, Shape, assembled, dumped, getter
from fairlead.model.record import MISSING
from fairlead.transport.failure import Misconfigured

SHAPE = Shape("id", "meta.updated", ("email", "address.city"))


def page(*records: dict[str, Any], **more: Any) -> JSONPage:
    return JSONPage(SHAPE, SHAPE.keys(records, "GET /things"), records, **more)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("", {"a": {"b": {"c": 1}}, "n": None}),
        ("a", {"b": {"c": 1}}),
        ("a.b.c", 1),
        ("n", None),
        ("x", MISSING),
        ("a.x.c", MISSING),
        ("n.x", MISSING),
        ("a.b.c.d", MISSING),
    ],
)
def test_a_path_leads_into_a_document(path: str, value: Any) -> None:
    assert getter(path)({"a": {"b": {"c": 1}}, "n": None}) == value


@pytest.mark.parametrize("document", [None, [], "a", 17])
@pytest.mark.parametrize("path", ["a", "a.b"])
def test_nothing_is_found_in_what_is_no_object(path: str, document: Any) -> None:
    assert getter(path)(document) is MISSING


def test_values_are_assembled_at_their_paths() -> None:
    assert assembled({"a.b": 1, "a.c": None, "d": [2]}, "data.attributes") == {
        "data": {"attributes": {"a": {"b": 1, "c": None}, "d": [2]}}
    }


def test_what_is_assembled_is_found_again() -> None:
    values = {"a.b": 1, "a.c.d": "x", "e": None}
    assert {path: getter(path)(assembled(values)) for path in values} == values


@given(st.decimals(allow_nan=False, allow_infinity=False, places=4))
@settings(deadline=None)
def test_a_decimal_is_sent_with_all_its_digits(value: Decimal) -> None:
    text = dumped({"x": value}).decode().removeprefix('{"x":').removesuffix("}")
    assert Decimal(text).as_tuple() == value.as_tuple()


# --- keys ---


def test_a_key_may_be_a_text_or_a_whole_number() -> None:
    assert list(page({"id": "a"}, {"id": 17}).keys) == ["a", "17"]


@pytest.mark.parametrize("record", [{}, {"id": None}, {"id": ""}, {"id": True}, {"id": 1.5}, {"id": []}])
def test_a_record_without_a_key_is_told(record: dict[str, Any]) -> None:
    with pytest.raises(Misconfigured) as caught:
        page({"id": "a"}, record)
    assert (caught.value.reason, caught.value.message) == (
        "KeyNotFound",
        "a record of GET /things has no id at 'id': name the attribute that identifies a record in systems[].key",
    )


def test_where_a_key_comes_twice_the_later_record_counts() -> None:
    twice = page({"id": "a", "email": "old"}, {"id": "b"}, {"id": "a", "email": "new"}, etags=['"1"', '"2"', '"3"'])
    assert (list(twice.keys), twice.columns([0, 1], ["email"]), twice.versions([0, 1])) == (
        ["a", "b"],
        [["new", MISSING]],
        ['"3"', '"2"'],
    )


# --- what was read ---


def test_rows_and_columns_are_given_by_index() -> None:
    records = [{"id": "a", "email": "a@x", "address": {"city": "Ulm"}}, {"id": "b", "email": None}]
    both = page(*records)
    assert (both.rows([1, 0]), both.columns([1, 0], ["email", "address.city"])) == (
        [records[1], records[0]],
        [[None, "a@x"], [MISSING, "Ulm"]],
    )


def test_the_time_of_a_change_is_where_the_connector_says() -> None:
    assert page({"id": "a", "meta": {"updated": "2026-01-01"}}, {"id": "b"}).modified([0, 1]) == ["2026-01-01", None]


def test_without_a_modified_attribute_there_are_no_times() -> None:
    assert JSONPage(Shape("id", None, ()), ["a"], [{"id": "a"}]).modified([0]) == [None]


def test_versions_are_known_only_where_they_came_along() -> None:
    assert (page({"id": "a"}).versions([0]), page({"id": "a"}, etags=['"1"']).versions([0])) == ([None], ['"1"'])


# --- fingerprints of rows ---

MAPPED = st.sampled_from([None, "", "a", 0, False, 1, True, [], {}, {"x": 1}, MISSING])


def record(email: Any, city: Any, note: Any = "n") -> dict[str, Any]:
    found: dict[str, Any] = {"id": "a", "note": note}
    if email is not MISSING:
        found["email"] = email
    if city is not MISSING:
        found["address"] = {"city": city, "zip": note}
    return found


@given(MAPPED, MAPPED, MAPPED, MAPPED)
@settings(deadline=None)
def test_raws_are_equal_when_and_only_when_every_mapped_value_is(a: Any, b: Any, c: Any, d: Any) -> None:
    same = repr((a, b)) == repr((c, d))
    assert (SHAPE.raw(record(a, b, 1)) == SHAPE.raw(record(c, d, 2))) == same


@given(st.lists(st.dictionaries(st.sampled_from(["id", "email", "name"]), MAPPED)))
@settings(deadline=None)
def test_the_raws_of_a_page_are_those_of_its_records(records: list[dict[str, Any]]) -> None:
    records = [{name: value for name, value in each.items() if value is not MISSING} for each in records]
    shape = Shape("id", None, ["email", "name"])
    assert shape.raws(records) == [shape.raw(each) for each in records]


def test_the_order_of_attributes_is_no_difference() -> None:
    first, second = ({"email": {"a": 1, "b": 2}}, {"email": {"b": 2, "a": 1}})
    assert SHAPE.raw(first) == SHAPE.raw(second)


@given(st.recursive(st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(), st.lists))
@settings(deadline=None, max_examples=50)
def test_every_document_has_a_fingerprint(value: Any) -> None:
    try:
        parsed = orjson.loads(orjson.dumps({"email": value}))
    except TypeError:  # a lone surrogate, which no JSON holds
        return
    assert SHAPE.raw(parsed) == SHAPE.raw(dict(parsed))


# --- moments ---


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05+00:00"),
        ("2026-01-02T03:04:05.123456+02:00", "2026-01-02T03:04:05.123456+02:00"),
        ("2026-01-02T03:04:05", "2026-01-02T03:04:05+00:00"),
        ("yesterday", "None"),
        (1767225600, "None"),
        (None, "None"),
    ],
)
def test_a_moment_is_aware_or_unknown(value: Any, text: str) -> None:
    moment = SHAPE.moment({"meta": {"updated": value}})
    assert (moment.isoformat() if moment else "None") == text
