"""The data contract: which records break it, and what is said of them."""

from __future__ import annotations

import contextlib
import sys
from decimal import Decimal
from typing import Any

import pytest

from fairlead.engine.contract import Contract
from fairlead.model.record import Value

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["email"],
    "properties": {
        "email": {"type": "string", "format": "email"},
        "name": {"type": "string", "maxLength": 5},
        "credit": {"type": "number", "multipleOf": 0.01, "maximum": 1000},
        "tags": {"type": "array", "items": {"type": "string", "pattern": "^[a-z]+$"}},
        "note": {"type": "string"},
    },
}
FIELDS = frozenset(SCHEMA["properties"])


def broken(
    *records: dict[str, Value], schema: dict[str, Any] = SCHEMA, mapped: frozenset[str] = FIELDS
) -> dict[int, str]:
    whole = [dict.fromkeys(mapped) | record for record in records]
    return Contract(schema).broken(whole, mapped)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"email": "a@x.com", "name": "short", "credit": Decimal("12.34"), "tags": ["a"]}, None),
        ({"email": None}, "field email is required and has no value"),
        ({"email": "hunter2"}, "field email breaks 'format: email' of the policy's schema"),
        ({"email": "a@x.com", "name": "hunter2"}, "field name breaks 'maxLength: 5' of the policy's schema"),
        (
            {"email": "a@x.com", "credit": Decimal("0.001")},
            "field credit breaks 'multipleOf: 0.01' of the policy's schema",
        ),
        ({"email": "a@x.com", "credit": Decimal(10**30)}, "field credit breaks 'maximum: 1000' of the policy's schema"),
        (
            {"email": "a@x.com", "tags": ["a", "hunter2"]},
            "field tags.1 breaks 'pattern: ^[a-z]+$' of the policy's schema",
        ),
    ],
)
def test_what_breaks_the_contract_is_named_without_its_value(values: dict[str, Value], message: str | None) -> None:
    assert broken(values) == ({} if message is None else {0: message})


def test_a_record_that_breaks_it_is_found_among_others() -> None:
    good: dict[str, Value] = {"email": "a@x.com"}
    assert set(broken(good, {"email": "no"}, good, {"email": None})) == {1, 3}


def test_a_field_that_a_system_does_not_map_is_not_missing_there() -> None:
    assert broken({"name": "a"}, mapped=frozenset({"name"})) == {}


def test_no_value_breaks_no_constraint_but_required() -> None:
    assert broken({"email": "a@x.com", "name": None, "tags": None}) == {}


def test_a_schema_of_types_alone_needs_no_second_look() -> None:
    plain = {"type": "object", "properties": {"name": {"type": "string", "description": "who"}}}
    assert broken({"name": "x" * 1000}, schema=plain, mapped=frozenset({"name"})) == {}


@pytest.mark.parametrize(
    ("whole", "values", "message"),
    [
        ({"dependentRequired": {"a": ["b"]}}, {"a": "1"}, 'breaks \'dependentRequired: {"a": ["b"]}\' of the schema'),
        ({"additionalProperties": False}, {"a": "1", "b": "2"}, None),
        (
            {"anyOf": [{"required": ["a"]}, {"required": ["b"]}]},
            {},
            'breaks \'anyOf: [{"required": ["a"]}, {"required": ["b"]}]\' of the schema',
        ),
        (
            {"if": {"properties": {"a": {"const": "x"}}, "required": ["a"]}, "then": {"required": ["b"]}},
            {"a": "x"},
            "breaks 'required: [\"b\"]' of the schema",
        ),
    ],
)
def test_rules_over_the_whole_record_hold_too(
    whole: dict[str, Any], values: dict[str, Value], message: str | None
) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}, **whole}
    assert broken(values, schema=schema, mapped=frozenset("ab")) == ({} if message is None else {0: message})


def test_a_schema_without_properties_still_requires() -> None:
    found = broken({"a": None}, schema={"type": "object", "required": ["a"]}, mapped=frozenset("a"))
    assert found == {0: "field a is required and has no value"}


def test_references_inside_the_schema_are_followed() -> None:
    schema = {
        "type": "object",
        "$defs": {"code": {"type": "string", "maxLength": 2}},
        "properties": {"country": {"$ref": "#/$defs/code"}},
    }
    found = broken({"country": "GBR"}, schema=schema, mapped=frozenset({"country"}))
    assert found == {0: "field country breaks 'maxLength: 2' of the policy's schema"}


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ({"enum": ["größe", "breite"]}, """enum: ["größe", "breite"]"""),
        ({"const": "a" * 60}, f"const: {'a' * 60}"),
        ({"const": "a" * 61}, "const"),
        ({"enum": [f"country {number}" for number in range(100)]}, "enum"),
    ],
)
def test_a_rule_is_told_as_it_is_written_and_a_long_one_by_its_keyword(rule: dict[str, Any], told: str) -> None:
    schema = {"type": "object", "properties": {"it": {"type": "string", **rule}}}
    found = broken({"it": "hunter2"}, schema=schema, mapped=frozenset({"it"}))
    assert found == {0: f"field it breaks '{told}' of the policy's schema"}


def test_a_costly_pattern_does_not_hold_a_page_up() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": "^(a+)+$"}}}
    assert broken({"a": "a" * 50_000 + "!"}, schema=schema, mapped=frozenset("a")) == {
        0: "field a breaks 'pattern: ^(a+)+$' of the policy's schema"
    }


@pytest.mark.parametrize(
    ("schema", "assured"),
    [
        ({"type": "string"}, True),
        ({"type": ["string", "null"], "description": "a name"}, True),
        ({"type": "string", "format": "date-time", "x-precision": "Seconds"}, True),
        ({"type": "string", "format": "date-time", "x-precision": "Seconds", "description": "d", "title": "t"}, True),
        ({"description": "anything"}, True),
        ({"type": "string", "format": "email"}, False),
        ({"format": "date"}, False),
        ({"type": ["string", "integer"]}, False),
        ({"type": "string", "minLength": 1}, False),
        (False, False),
    ],
)
def test_what_conversion_assures_needs_no_validator(
    schema: object, assured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jsonschema_rs", None)  # it cannot be imported
    contract = Contract({"type": "object", "title": "t", "description": "d", "properties": {"it": schema}})
    with contextlib.nullcontext() if assured else pytest.raises(ImportError):
        assert contract.broken([{"it": None}], frozenset({"it"})) == {}


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("email", "a@x.com", None),
        ("email", None, "is no value, which the schema requires"),
        ("name", None, None),
        ("name", "short", None),
        ("name", "hunter2", "breaks 'maxLength: 5' of the policy's schema"),
        ("tags", ["a", "hunter2"], "breaks 'pattern: ^[a-z]+$' of the policy's schema"),
        ("note", "anything", None),
    ],
)
def test_what_is_wrong_with_one_value_is_told_without_it(field: str, value: Value, message: str | None) -> None:
    assert Contract(SCHEMA).field_error(field, value) == message


def test_one_value_breaks_no_rule_about_other_fields() -> None:
    contract = Contract({**SCHEMA, "dependentRequired": {"name": ["note"]}})
    assert contract.field_error("name", "Ada") is None


def test_one_value_of_a_schema_of_types_alone_needs_no_validator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jsonschema_rs", None)  # it cannot be imported
    assert Contract({"properties": {"name": {"type": "string"}}}).field_error("name", "Ada") is None
