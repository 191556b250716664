"""A policy, compiled: which rule holds for which field and system, and what is taken where nothing is said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fairlead.engine.expression import ExpressionError
from fairlead.engine.rules import FieldRule, Rules, SystemRule, compile_rules
from fairlead.model.syncpolicy import ConflictRule, Deletes, Edits, FirstSync, MergeMode, OnLeave, Propagate, WhenEmpty
from support.simulation import PRINTS, spec_of

SYSTEMS = ("crm", "erp", "shop")
WHEN = {"when": "record.y == 'b2b'", "then": "erp"}


def rules_of(*systems: Any, **spec: Any) -> Rules:
    return compile_rules(spec_of(systems or SYSTEMS, **spec))


def rule_of(**x: Any) -> FieldRule:
    """The rule of the field `x`, of which this is declared."""
    return rules_of(fields={"x": x}).fields["x"]


# --- the whole ---


def test_fields_and_systems_keep_their_declared_order() -> None:
    rules = rules_of("shop", "crm", named=["z", "x", "y"])
    assert (list(rules.fields), [rule.field.slot for rule in rules.fields.values()], list(rules.systems)) == (
        ["z", "x", "y"],
        [0, 1, 2],
        ["shop", "crm"],
    )


def test_a_field_is_of_the_kind_that_its_schema_declares() -> None:
    schema = {"type": "object", "properties": {"x": {"type": "integer"}, "y": {}}}
    fields = rules_of(schema=schema).fields
    assert [(name, rule.field.name, rule.field.kind.name) for name, rule in fields.items()] == [
        ("x", "x", "integer"),
        ("y", "y", "any"),
    ]


def test_a_schema_without_fields_makes_rules_without_fields() -> None:
    assert rules_of({"name": "crm", "fields": {}}, schema={"type": "object"}).fields == {}


def test_what_holds_for_all_records_is_as_declared() -> None:
    rules = rules_of(
        systemOfRecord="erp", firstSync="Review", deletes={"propagate": "Never"}, match=[{"fields": ["x"]}]
    )
    assert (rules.system_of_record, rules.first_sync, rules.deletes) == (
        "erp",
        FirstSync.REVIEW,
        Deletes(propagate=Propagate.NEVER),
    )


def test_match_keys_are_of_the_declared_fields() -> None:
    match = rules_of(match=[{"fields": ["x"]}, {"fields": ["y"]}]).match
    assert [rule.fields for rule in match.rules] == [("x",), ("y",)]
    assert [len(keys) for keys in match.keys([{"x": "1", "y": "2"}, {"x": "1", "y": None}], PRINTS)] == [2, 1]


def test_a_record_and_a_value_that_a_rule_makes_must_keep_the_schema() -> None:
    schema = {"type": "object", "properties": {"x": {"type": "string", "maxLength": 3}, "y": {"type": "string"}}}
    rules = rules_of(schema=schema, fields={"y": {"systemOfRecordWhen": WHEN}})
    broken = "breaks 'maxLength: 3' of the policy's schema"
    conditions = [rule.condition.then for rule in rules.fields.values() if rule.condition]
    contracts = [each.contract for each in (rules, *rules.fields.values(), *conditions)]
    assert [contract.field_error("x", "long") for contract in contracts] == [broken] * 4


# --- priority ---


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, ("crm", "erp", "shop")),
        ({"systemOfRecord": "shop"}, ("shop", "crm", "erp")),
        ({"priority": ["erp"]}, ("erp", "crm", "shop")),
        ({"priority": ["shop", "erp", "crm"]}, ("shop", "erp", "crm")),
    ],
)
def test_every_system_has_its_place_in_the_priority(spec: dict[str, Any], expected: tuple[str, ...]) -> None:
    rules = rules_of(**spec)
    assert (rules.priority, rules.fields["x"].priority) == (expected, expected)


def test_a_field_has_a_priority_of_its_own() -> None:
    rules = rules_of(priority=["erp"], fields={"x": {"priority": ["shop"]}})
    assert (rules.fields["x"].priority, rules.fields["y"].priority) == (("shop", "crm", "erp"), ("erp", "crm", "shop"))


def test_a_fields_owner_comes_first_where_no_priority_is_declared() -> None:
    assert rule_of(systemOfRecord="shop").priority == ("shop", "crm", "erp")


# --- what a field says goes before what the policy says ---


@pytest.mark.parametrize(
    ("asked", "of_field", "of_policy", "expected"),
    [
        (lambda rule: rule.on_conflict, {}, {}, ConflictRule.SYSTEM_OF_RECORD_WINS),
        (lambda rule: rule.on_conflict, {}, {"onConflict": "Manual"}, ConflictRule.MANUAL),
        (lambda rule: rule.on_conflict, {"onConflict": "Merge"}, {"onConflict": "Manual"}, ConflictRule.MERGE),
        (lambda rule: rule.edits, {}, {}, Edits.ANYWHERE),
        (lambda rule: rule.edits, {}, {"edits": "SystemOfRecordOnly"}, Edits.SYSTEM_OF_RECORD_ONLY),
        (lambda rule: rule.edits, {"edits": "Anywhere"}, {"edits": "SystemOfRecordOnly"}, Edits.ANYWHERE),
        (lambda rule: rule.when_empty, {}, {}, WhenEmpty.PROPAGATE),
        (lambda rule: rule.when_empty, {}, {"whenEmpty": "Keep"}, WhenEmpty.KEEP),
        (lambda rule: rule.when_empty, {"whenEmpty": "Propagate"}, {"whenEmpty": "Keep"}, WhenEmpty.PROPAGATE),
        (lambda rule: rule.system_of_record, {}, {"systemOfRecord": "erp"}, "erp"),
        (lambda rule: rule.system_of_record, {"systemOfRecord": "shop"}, {"systemOfRecord": "erp"}, "shop"),
    ],
)
def test_what_a_field_says_goes_before_what_the_policy_says(
    asked: Callable[[FieldRule], object], of_field: dict[str, Any], of_policy: dict[str, Any], expected: object
) -> None:
    rules = rules_of(**of_policy, fields={"x": of_field})
    assert asked(rules.fields["x"]) == expected


def expression_of(rules: Rules) -> str | None:
    expression = rules.fields["x"].expression
    return expression and expression.source


def test_the_expression_is_the_fields_else_the_policys_and_only_where_it_decides() -> None:
    policy = {"onConflict": "Expression", "onConflictExpression": "'policy'"}
    own = {"fields": {"x": {"onConflictExpression": "'field'"}}}
    found = [
        expression_of(rules_of(**policy)),
        expression_of(rules_of(**policy, **own)),
        expression_of(rules_of(**own)),
        expression_of(rules_of(**policy, fields={"x": {"onConflict": "Manual"}})),
    ]
    assert found == ["'policy'", "'field'", None, None]


def test_a_missing_expression_does_not_compile() -> None:
    with pytest.raises(ExpressionError) as refused:
        rules_of(onConflict="Expression")
    assert str(refused.value).startswith("''")


# --- merges ---


def number(**x: Any) -> FieldRule:
    schema = {"type": "object", "properties": {"x": {"type": "integer"}, "y": {"type": "string"}}}
    return rules_of(schema=schema, fields={"x": x}).fields["x"]


def test_a_number_is_merged_where_it_is_declared_to_count_something() -> None:
    counting, other = number(onConflict="Merge", merge="Delta"), number(onConflict="Merge")
    assert counting.merge is not None
    assert (counting.merge(1, 2, 3), counting.merge_mode) == (4, MergeMode.DELTA)
    assert (other.merge, other.merge_mode) == (None, None)


def test_what_another_rule_decides_is_not_merged() -> None:
    rule = number(merge="Delta")
    assert (rule.merge, rule.merge_mode) == (None, None)


# --- what a rule looks at ---


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({}, False),
        ({"onConflict": "Merge"}, True),
        ({"onConflict": "Expression", "onConflictExpression": "base"}, True),
        ({"onConflict": "Expression", "onConflictExpression": "modified.crm"}, False),
    ],
)
def test_old_values_are_kept_for_the_rules_that_need_them(rule: dict[str, Any], *, expected: bool) -> None:
    assert rule_of(**rule).keeps_base is expected


def test_no_old_value_is_kept_of_what_cannot_be_merged() -> None:
    assert number(onConflict="Merge").keeps_base is False


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({}, False),
        ({"onConflict": "LatestWins"}, True),
        ({"onConflict": "Expression", "onConflictExpression": "modified.crm"}, True),
        ({"onConflict": "Expression", "onConflictExpression": "base"}, False),
    ],
)
def test_times_are_compared_by_the_rules_that_look_at_them(rule: dict[str, Any], *, expected: bool) -> None:
    assert rule_of(**rule).compares_times is expected


# --- owners that depend on the record ---


def test_where_its_condition_is_met_another_rule_holds() -> None:
    rule = rule_of(systemOfRecordWhen={**WHEN, "otherwise": "shop"}, edits="SystemOfRecordOnly")
    assert rule.condition is not None
    assert (rule.system_of_record, rule.condition.then.system_of_record, rule.condition.when.source) == (
        "shop",
        "erp",
        "record.y == 'b2b'",
    )
    assert [each.edits for each in (rule, rule.condition.then)] == [Edits.SYSTEM_OF_RECORD_ONLY] * 2


def test_an_owner_outranks_the_others_in_its_own_rule() -> None:
    rule = rule_of(systemOfRecordWhen=WHEN)
    assert rule.condition is not None
    assert (rule.priority, rule.condition.then.priority) == (("crm", "erp", "shop"), ("erp", "crm", "shop"))


def test_where_its_condition_is_not_met_and_nothing_else_is_said_the_system_of_record_owns_it() -> None:
    assert rule_of(systemOfRecordWhen=WHEN).system_of_record == "crm"


def test_a_field_without_a_condition_has_one_rule() -> None:
    assert rule_of(systemOfRecord="erp").condition is None


# --- systems ---


def system_of(**declared: Any) -> SystemRule:
    return rules_of("crm", {"name": "erp", **declared}).systems["erp"]


@pytest.mark.parametrize(
    ("access", "reads", "writes"),
    [("ReadWrite", True, True), ("ReadOnly", True, False), ("WriteOnly", False, True)],
)
def test_access_says_what_may_be_done_with_a_system(access: str, *, reads: bool, writes: bool) -> None:
    rule = system_of(access=access)
    assert (rule.name, rule.reads, rule.writes, rule.creates, rule.deletes) == ("erp", reads, writes, writes, writes)
    assert rule.writable == (frozenset({"x", "y"}) if writes else frozenset())


def test_a_system_has_the_fields_that_it_maps_and_writes_those_that_can_be_written() -> None:
    rule = system_of(fields={"x": {"read": "a"}})
    assert (rule.readable, rule.writable, rule.maps("x"), rule.maps("y")) == (
        frozenset({"x"}),
        frozenset(),
        True,
        False,
    )
    assert [field.name for field in rule.mapping.fields] == ["x"]


def test_what_leaves_a_systems_filter_is_kept_where_nothing_else_is_said() -> None:
    assert (system_of().on_leave, system_of(onLeave="Archive").on_leave) == (OnLeave.KEEP, OnLeave.ARCHIVE)


# --- deletes ---


@pytest.mark.parametrize(
    ("propagate", "expected"),
    [("FromSystemOfRecord", [True, False]), ("FromAny", [True, True]), ("Never", [False, False])],
)
def test_deletes_spread_from_where_the_policy_says(propagate: str, expected: list[bool]) -> None:
    rules = rules_of(deletes={"propagate": propagate})
    assert [rules.deletes_spread_from(system) for system in ("crm", "erp")] == expected
