"""What is said about who wins beyond a name: expressions, merges, owners that depend on the record."""

from __future__ import annotations

from typing import Any

import pytest

from fairlead.model.bundle import decode
from fairlead.model.check import check_policy
from support import manifests
from support.manifests import with_values, without

PLACE = "spec.fields.name"
CONNECTIONS = {
    f"default/{each['metadata']['name']}": decode("Connection", each)
    for each in (manifests.connection(), without(manifests.database(), "spec.auth"))
}
CONNECTORS = {"shop": decode("Connector", manifests.full_connector())}
POLICY = with_values(
    manifests.policy(),
    {
        "spec.schema.properties.credit": {"type": "number"},
        "spec.schema.properties.tags": {"type": ["array", "null"], "items": {"type": "string"}},
        **{f"spec.systems.{n}.fields.{name}": name for n in (0, 1) for name in ("credit", "tags")},
    },
)


def told(change: dict[str, Any]) -> list[str]:
    policy = decode("SyncPolicy", with_values(POLICY, change))
    return [str(problem) for problem in check_policy(policy, CONNECTIONS, CONNECTORS, [])]


def expression(source: str, field: str = "name") -> dict[str, Any]:
    return {"spec.fields": {field: {"onConflict": "Expression", "onConflictExpression": source}}}


def owned(when: str, then: str = "erp", **more: str) -> dict[str, Any]:
    return {"spec.fields": {"name": {"systemOfRecordWhen": {"when": when, "then": then, **more}}}}


@pytest.mark.parametrize(
    "change",
    [
        expression("values[systems[0]]"),
        expression("has(values.crm) ? values.crm : base"),
        expression("modified.crm > modified.erp ? values.crm : values.erp"),
        expression("systems.map(s, values[s])[0]"),
        expression("math.greatest(values.crm, values['erp'])", "credit"),
        {"spec.onConflict": "Expression", "spec.onConflictExpression": "base"},
        {"spec.fields": {"name": {"onConflict": "Expression"}}, "spec.onConflictExpression": "base"},
        {"spec.fields": {n: {"onConflict": "Merge"} for n in ("name", "tags")}},
        {"spec.fields": {"credit": {"onConflict": "Merge", "merge": "Delta"}}},
        {"spec.onConflict": "Merge", "spec.fields": {"credit": {"merge": "Delta"}}},
        owned("record.email.endsWith('.eu')"),
        owned("has(record.email) && record['name'] != null", then="erp", otherwise="crm"),
        {
            "spec.fields": {"name": {"onConflict": "LatestWins"}},
            "spec.systems.0.fields.name": {"path": "name", "modified": "name_changed"},
            "spec.systems.1.fields.name": {"read": "name", "write": {"name": "name"}, "modified": "name_changed"},
        },
    ],
)
def test_what_is_written_well_has_no_problem(change: dict[str, Any]) -> None:
    assert told(change) == []


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "no CEL": (expression("values["), "spec.fields.name.onConflictExpression: is not CEL: "),
    "an unknown variable": (
        expression("valeus.crm"),
        f"{PLACE}.onConflictExpression: uses 'valeus', which is no variable of a conflict: did you mean 'values'?",
    ),
    "an unknown function": (
        expression("newest(values)"),
        f"{PLACE}.onConflictExpression: calls an unknown function 'newest'; known are ",
    ),
    "an unknown system": (
        expression("values.crn"),
        f"{PLACE}.onConflictExpression: no system is named 'crn': did you mean 'crm'?",
    ),
    "an unknown system by key": (
        expression("modified['eer'] != null ? values.crm : base"),
        f"{PLACE}.onConflictExpression: no system is named 'eer': did you mean 'erp'?",
    ),
    "another type": (
        expression("values.crm > values.erp", "credit"),
        (
            "spec.fields.credit.onConflictExpression: gives true or false where credit is number: "
            "convert it, for example with string(x)"
        ),
    ),
    "another type by the policy": (
        {"spec.onConflict": "Expression", "spec.onConflictExpression": "systems"},
        "spec.onConflictExpression: gives a list where email is string: convert it, for example with string(x)",
    ),
    "an expression without a use": (
        {"spec.fields": {"name": {"onConflictExpression": "base"}}},
        f"{PLACE}.onConflictExpression: is not used: write onConflict: Expression, or leave it out",
    ),
    "a policy's expression without a use": (
        {"spec.onConflictExpression": "base"},
        "spec.onConflictExpression: is used nowhere: write onConflict: Expression, or leave it out",
    ),
    "a number that counts nothing": (
        {"spec.fields": {"credit": {"onConflict": "Merge"}}},
        (
            "spec.fields.credit.onConflict: credit is a number: write merge: Delta where it counts something, "
            "else another onConflict"
        ),
    ),
    "what cannot be merged": (
        {"spec.schema.properties.name": {"type": "boolean"}, "spec.fields": {"name": {"onConflict": "Merge"}}},
        (
            f"{PLACE}.onConflict: values of name cannot be merged: only lists, plain text and counting numbers can; "
            "write another onConflict"
        ),
    ),
    "a time that cannot be merged": (
        {
            "spec.schema.properties.name": {"type": "string", "format": "date-time"},
            "spec.onConflict": "Merge",
            "spec.fields": {"credit": {"onConflict": "Manual"}},
        },
        (
            "spec.onConflict: values of name cannot be merged: only lists, plain text and counting numbers can; "
            "write another onConflict"
        ),
    ),
    "a delta of text": (
        {"spec.fields": {"name": {"onConflict": "Merge", "merge": "Delta"}}},
        f"{PLACE}.merge: only numbers have deltas, and name is none: leave it out",
    ),
    "a delta that is not merged": (
        {"spec.fields": {"credit": {"merge": "Delta"}}},
        "spec.fields.credit.merge: is not used: write onConflict: Merge, or leave it out",
    ),
    "a condition on a field that is none": (
        owned("record.emial == 'x'"),
        f"{PLACE}.systemOfRecordWhen.when: the schema has no field 'emial': did you mean 'email'?",
    ),
    "a condition on another variable": (
        owned("email == 'x'"),
        f"{PLACE}.systemOfRecordWhen.when: uses 'email', which is no variable: write record.<field>; known are record",
    ),
    "a condition on what its system does not map": (
        {**owned("record.vip"), "spec.schema.properties.vip": {"type": "boolean"}, "spec.systems.1.fields.vip": "vip"}
        | {"spec.fields.vip": {"systemOfRecord": "erp"}},
        (
            f"{PLACE}.systemOfRecordWhen.when: crm is asked for vip, which it does not map: "
            "map it there, or ask for another field"
        ),
    ),
    "a condition that is none": (
        owned("record.email"),
        f"{PLACE}.systemOfRecordWhen.when: gives text, not true or false: compare it with something",
    ),
    "an owner that does not map the field": (
        {**owned("record.email == 'x'"), "spec.systems.1.fields": {"email": "email", "credit": "c", "tags": "t"}},
        (
            f"{PLACE}.systemOfRecordWhen.then: erp owns name but does not map it: map it there, "
            "or name another system in fields.name.systemOfRecord"
        ),
    ),
    "an owner that is not read": (
        {**owned("record.email == 'x'", "crm", otherwise="erp"), "spec.systems.1.access": "WriteOnly"},
        (
            f"{PLACE}.systemOfRecordWhen.otherwise: erp owns name but is WriteOnly: give it access ReadWrite, "
            "or name another system"
        ),
    ),
    "a precision that is none": (
        {"spec.schema.properties.name": {"type": "string", "format": "date-time", "x-precision": "Hours"}},
        "spec.schema.properties.name.x-precision: must be one of Minutes, Seconds, Milliseconds",
    ),
    "a precision of text": (
        {"spec.schema.properties.name": {"type": "string", "x-precision": "Seconds"}},
        "spec.schema.properties.name.x-precision: is only for times: write format: date-time, or leave it out",
    ),
    "a path of times that is none": (
        {"spec.systems.0.fields.name": {"path": "name", "modified": " "}},
        "spec.systems[0].fields.name: a path has 1 to 256 characters",
    ),
}


@pytest.mark.parametrize(("change", "expected"), BROKEN.values(), ids=BROKEN.keys())
def test_what_is_broken_is_told_what_to_write(change: dict[str, Any], expected: str) -> None:
    (message,) = told(change)
    assert message.startswith(expected)


def test_an_expression_that_could_take_long_is_not_tried() -> None:
    assert told(expression("lists.range(1000000000).map(x, x)", "credit")) == []


def test_latest_wins_still_needs_a_time_where_a_field_has_none_of_its_own() -> None:
    change = {
        "spec.fields": {"name": {"onConflict": "LatestWins"}},
        "spec.systems.0.fields.name": {"path": "name", "modified": "name_changed"},
    }
    wanted = "LatestWins on name compares times: name the attribute that holds it in modified"
    assert told(change) == [f"spec.systems[1]: {wanted}"]
