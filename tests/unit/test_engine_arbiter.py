"""Values that a rule makes of what systems say: expressions and merges, and when a person must decide instead."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from fairlead.engine.arbiter import COMPUTED, MERGED
from fairlead.engine.case import UNDONE, Decision, Finding, FindingKind
from fairlead.model.record import Value
from support.simulation import START, Desk, spec_of

NUMBER = {"type": "object", "properties": {"x": {"type": "number"}, "y": {"type": "string"}}}
SUM = {"fields": {"x": {"onConflict": "Merge", "merge": "Delta"}}, "schema": NUMBER}


def computed(source: str, *systems: Any, **spec: Any) -> Desk:
    rule = {"onConflict": "Expression", "onConflictExpression": source}
    return Desk(spec_of(systems or ("crm", "erp"), fields={"x": rule}, **spec))


def edited(
    desk: Desk, old: Value = "old", *, at: dict[str, datetime] | None = None, known: bool = True, **values: Value
) -> Decision:
    """`x` was changed to these values; the old one is `known` where the rule needs it."""
    times = at or {}
    observed = {name: desk.read(name, times.get(name), x=value, y="y") for name, value in values.items()}
    bases = {"x": {desk.print_of("x", old): old}} if known else {}
    return desk.decide(desk.agreed(x=old, y="y"), observed, bases=bases)


def stands(decision: Decision) -> tuple[str, dict[str, dict[str, Value]]]:
    """Whose value it is, and what is written where."""
    return decision.findings[0].winner, {name: write.values for name, write in decision.writes.items()}


def waits(decision: Decision) -> str:
    """The rule by which the field waits for a person."""
    assert (set(decision.frozen), decision.writes) == ({"x"}, {})
    return decision.findings[0].rule


# --- expressions ---


def test_an_expression_chooses_a_systems_value() -> None:
    assert stands(edited(computed("values.erp"), crm="1", erp="2")) == ("erp", {"crm": {"x": "2"}})


def test_an_expression_makes_a_value_of_its_own() -> None:
    decision = edited(computed("values.crm + '+' + values.erp"), crm="1", erp="2")
    assert stands(decision) == (COMPUTED, {"crm": {"x": "1+2"}, "erp": {"x": "1+2"}})
    assert decision.findings == (
        Finding(
            FindingKind.CONFLICT, "x", "onConflict: Expression", COMPUTED, {"crm": "1", "erp": "2", COMPUTED: "1+2"}
        ),
    )


def test_the_systems_of_an_expression_are_by_priority() -> None:
    desk = computed("systems[0] + ' ' + systems[1]", priority=["erp", "crm"])
    assert stands(edited(desk, crm="1", erp="2"))[1]["crm"] == {"x": "erp crm"}


@pytest.mark.parametrize("hours", [0, 2], ids=["utc", "another zone"])
def test_times_of_an_expression_are_utc_and_of_one_length(hours: int) -> None:
    zone = timezone(timedelta(hours=hours))
    at = {"crm": datetime(2025, 3, 4, 5 + hours, 6, 7, 89, tzinfo=zone), "erp": START.astimezone(UTC)}
    desk = computed("modified.crm + ' ' + modified.erp")
    values = stands(edited(desk, at=at, crm="1", erp="2"))[1]["crm"]
    assert values == {"x": "2025-03-04T05:06:07.000089Z 2026-01-01T00:00:00.000000Z"}


def test_an_expression_sees_where_a_system_gives_no_time() -> None:
    desk = computed("modified.crm == null ? values.erp : values.crm")
    assert stands(edited(desk, at={"erp": START}, crm="1", erp="2"))[0] == "erp"


def test_an_expression_sees_the_old_value() -> None:
    desk = computed("base + ' was it'")
    assert stands(edited(desk, crm="1", erp="2"))[1]["erp"] == {"x": "old was it"}


def test_a_number_that_an_expression_chooses_keeps_every_digit() -> None:
    long = Decimal("0.12345678901234567890123")
    assert stands(edited(computed("values.erp", schema=NUMBER), 1, crm=2, erp=long)) == ("erp", {"crm": {"x": long}})


def test_a_value_of_another_type_is_no_systems() -> None:
    schema = {"type": "object", "properties": {"x": {"type": "integer"}, "y": {"type": "string"}}}
    decision = edited(computed("values.crm == 1", schema=schema), 0, crm=1, erp=2)
    assert waits(decision) == "onConflict: Expression: what comes of it must be a number, not true or false"


@pytest.mark.parametrize(
    ("source", "known", "why"),
    [
        ("values.shop", True, "'values.shop' failed: an attribute is not there; guard it with has(a.b)"),
        ("base", False, "the value before the edit in crm is not known"),
        ("[values.crm]", True, "what comes of it must be text, not a list"),
        ("values.crm < values.erp", True, "what comes of it must be text, not true or false"),
        ("size(values)", True, "what comes of it must be text, not a number"),
        ("values.crm + values.erp", True, "what comes of it breaks 'maxLength: 3' of the policy's schema"),
    ],
    ids=["it fails", "no old value", "a list", "a comparison", "a count", "it breaks the contract"],
)
def test_what_an_expression_cannot_decide_waits_for_a_person_and_says_why(source: str, known: bool, why: str) -> None:
    schema = {"type": "object", "properties": {"x": {"type": "string", "maxLength": 3}, "y": {"type": "string"}}}
    decision = edited(computed(source, schema=schema), known=known, crm="11", erp="22")
    assert waits(decision) == f"onConflict: Expression: {why}"


def test_what_an_expression_makes_is_a_systems_if_one_says_the_same_and_then_the_first_by_priority() -> None:
    desk = computed("1.0", "crm", "erp", "shop", priority=["crm", "shop", "erp"], schema=NUMBER)
    assert stands(edited(desk, 0, crm=2, erp=1, shop=1)) == ("shop", {"crm": {"x": 1}})


def test_what_an_expression_makes_is_not_written_where_it_is_already() -> None:
    desk = computed("values.crm + values.erp", "crm", "erp", "shop")
    sides = {**desk.agreed(x="old", y="y"), "shop": desk.side("shop", x="12", y="y")}
    values = {"crm": "1", "erp": "2", "shop": "12"}
    decision = desk.decide(sides, {name: desk.read(name, x=x, y="y") for name, x in values.items()})
    assert sorted(decision.writes) == ["crm", "erp"]


# --- priority and times ---


def test_a_system_that_the_policy_has_no_more_comes_last() -> None:
    desk = Desk(spec_of(("crm", "erp"), onConflict="Priority"))
    observed = {"erp": desk.read("erp", x="new", y="y")}
    decision = desk.decide(desk.agreed(x="old", y="y"), observed, pending={"erp": desk.update("gone", x="gone's")})
    assert (decision.findings[0].winner, decision.findings[0].values) == ("erp", {"erp": "new", "gone": "gone's"})


@pytest.mark.parametrize(("ahead", "winner"), [(0, "erp"), (1, "crm")], ids=["borne", "a wrong clock"])
def test_a_clock_may_be_five_minutes_ahead_and_no_more(ahead: int, winner: str) -> None:
    desk = Desk(spec_of(("crm", "erp"), onConflict="LatestWins"))
    at = {"crm": START, "erp": START + timedelta(minutes=5, microseconds=ahead)}
    assert stands(edited(desk, at=at, crm="1", erp="2"))[0] == winner


# --- merges ---


def test_lines_that_were_changed_in_different_ways_wait_for_a_person() -> None:
    desk = Desk(spec_of(("crm", "erp"), fields={"x": {"onConflict": "Merge"}}))
    why = "the same lines were changed in different ways"
    assert waits(edited(desk, crm="1", erp="2")) == f"onConflict: Merge: {why}"


def test_a_merge_is_no_systems_value_unless_one_says_the_same() -> None:
    both = edited(Desk(spec_of(("crm", "erp"), **SUM)), 10, crm=11, erp=12)
    same = edited(Desk(spec_of(("crm", "erp"), **SUM)), 10, crm=10, erp=12)
    assert stands(both) == (MERGED, {"crm": {"x": 13}, "erp": {"x": 13}})
    assert {name: write.origins for name, write in same.writes.items()} == {"crm": {"x": "erp"}}


def test_what_a_merge_has_no_old_value_for_waits_for_a_person() -> None:
    decision = edited(Desk(spec_of(("crm", "erp"), **SUM)), 10, known=False, crm=11, erp=12)
    assert waits(decision) == "onConflict: Merge: the value before the edit in crm is not known"


def test_what_has_no_parts_waits_for_a_person() -> None:
    schema = {"type": "object", "properties": {"x": {"type": "boolean"}, "y": {"type": "string"}}}
    desk = Desk(spec_of(("crm", "erp"), fields={"x": {"onConflict": "Merge"}}, schema=schema))
    assert waits(edited(desk, None, crm=True, erp=False)) == "onConflict: Merge: values of this type cannot be merged"


def coming(desk: Desk, value: Value, *unsure: str, **now: Value) -> Decision:
    """`x` was 10; `crm` set it to a value that is on its way to `erp`, which changed meanwhile."""
    sides = {"crm": desk.side("crm", x=value, y="y"), "erp": desk.side("erp", x=10, y="y")}
    bases = {"x": {desk.print_of("x", it): it for it in (value, 10)}}
    observed = {name: desk.read(name, x=its, y="y") for name, its in now.items()}
    pending = {"erp": desk.update("crm", x=value)}
    return desk.decide(sides, observed, pending=pending, bases=bases, unsure=frozenset(unsure))


def test_a_sum_counts_what_was_on_its_way() -> None:
    desk = Desk(spec_of(("crm", "erp"), **SUM))
    assert stands(coming(desk, 15, erp=11)) == (MERGED, {"crm": {"x": 16}, "erp": {"x": 16}})


def test_what_an_undo_would_give_back_is_no_part_of_a_merge_of_later_edits() -> None:
    desk = Desk(spec_of(("crm", "erp"), **SUM))
    sides = {name: desk.side(name, x=10, y="y") for name in ("crm", "erp")}
    observed = {"crm": desk.read("crm", x=11, y="y"), "erp": desk.read("erp", x=12, y="y")}
    pending = {"crm": desk.update(UNDONE, x=7), "erp": desk.update(UNDONE, x=3)}
    decision = desk.decide(sides, observed, pending=pending, bases={"x": {desk.print_of("x", 10): 10}})
    assert stands(decision) == (MERGED, {"crm": {"x": 13}, "erp": {"x": 13}})


def test_a_sum_waits_for_a_person_where_it_is_not_known_what_arrived() -> None:
    decision = coming(Desk(spec_of(("crm", "erp"), **SUM)), 15, "erp", erp=11)
    why = "the answer to an earlier write to erp was lost, so its count is not sure"
    assert waits(decision) == f"onConflict: Merge: {why}"


def test_a_sum_waits_for_a_person_where_a_replaced_value_may_have_arrived() -> None:
    desk = Desk(spec_of(("crm", "erp"), **SUM))
    write = msgspec.structs.replace(desk.update("crm", x=15), unsure=("x",))
    sides = {"crm": desk.side("crm", x=15, y="y"), "erp": desk.side("erp", x=10, y="y")}
    bases = {"x": {desk.print_of("x", it): it for it in (15, 10)}}
    decision = desk.decide(sides, {"erp": desk.read("erp", x=11, y="y")}, pending={"erp": write}, bases=bases)
    assert set(decision.frozen) == {"x"}


def test_an_edit_where_nothing_is_ever_written_is_added_to_what_the_others_say() -> None:
    desk = Desk(spec_of(({"name": "crm", "fields": {"x": {"read": "x"}, "y": "y"}}, "erp"), **SUM))
    sides = {"crm": desk.side("crm", x=10, y="y"), "erp": desk.side("erp", x=20, y="y")}
    observed = {"crm": desk.read("crm", x=11, y="y"), "erp": desk.read("erp", x=20, y="y")}
    decision = desk.decide(sides, observed, bases={"x": {desk.print_of("x", 10): 10}})
    assert stands(decision) == (MERGED, {"erp": {"x": 21}})
