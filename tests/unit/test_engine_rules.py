"""The rules of a policy, one by one: whose value stands, where it goes, and what is told (design, section 4).

Three systems, `crm` (the system of record), `erp` and `shop`, hold one record with the fields `x` and `y`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from fairlead.engine.case import Decision, FindingKind, Operation, Side, Write
from fairlead.model.record import Value
from support.simulation import START, Desk, spec_of

SYSTEMS = ("crm", "erp", "shop")


def desk_of(*systems: Any, **spec: Any) -> Desk:
    return Desk(spec_of(systems or SYSTEMS, **spec))


def agreed(desk: Desk, x: Value = "old", y: Value = "old") -> dict[str, Side]:
    """Every system was last seen with these values."""
    return desk.agreed(x=x, y=y)


def written(decision: Decision) -> dict[str, dict[str, Value]]:
    return {system: dict(write.values) for system, write in decision.writes.items()}


def told(decision: Decision) -> list[tuple[FindingKind, str, str, str]]:
    return [(f.kind, f.field, f.rule, f.winner) for f in decision.findings]


# --- what a change is ---


def test_no_change_is_nothing_to_do() -> None:
    desk = desk_of()
    decision = desk.decide(agreed(desk), {"crm": desk.read("crm", x="old", y="old")})
    assert (decision.writes, decision.findings) == ({}, ())


def test_one_change_goes_everywhere_else_and_only_the_changed_field_is_written() -> None:
    desk = desk_of()
    decision = desk.decide(agreed(desk), {"erp": desk.read("erp", x="new", y="old")})
    assert (written(decision), told(decision)) == ({"crm": {"x": "new"}, "shop": {"x": "new"}}, [])


def test_what_was_read_is_remembered() -> None:
    desk = desk_of()
    decision = desk.decide(agreed(desk), {"erp": desk.read("erp", x="new", y="old")})
    assert decision.sides == {
        "crm": desk.side("crm", x="old", y="old"),
        "erp": desk.read("erp", x="new", y="old").side(),
        "shop": desk.side("shop", x="old", y="old"),
    }


def test_changes_of_different_fields_in_different_systems_both_stand() -> None:
    desk = desk_of("crm", "erp")
    decision = desk.decide(
        agreed(desk), {"crm": desk.read("crm", x="crm", y="old"), "erp": desk.read("erp", x="old", y="erp")}
    )
    assert (written(decision), told(decision)) == ({"crm": {"y": "erp"}, "erp": {"x": "crm"}}, [])


def test_several_changes_to_the_same_value_are_agreement() -> None:
    desk = desk_of()
    decision = desk.decide(
        agreed(desk), {"crm": desk.read("crm", x="new", y="old"), "erp": desk.read("erp", x="new", y="old")}
    )
    assert (written(decision), told(decision)) == ({"shop": {"x": "new"}}, [])


def test_a_change_to_no_value_is_a_change() -> None:
    desk = desk_of("crm", "erp")
    decision = desk.decide(agreed(desk), {"crm": desk.read("crm", x=None, y="old")})
    assert written(decision) == {"erp": {"x": None}}


def test_a_field_that_a_system_does_not_map_is_not_written_there() -> None:
    desk = desk_of("crm", {"name": "erp", "fields": {"y": "y"}})
    decision = desk.decide(agreed(desk), {"crm": desk.read("crm", x="new", y="old")})
    assert decision.writes == {}


def test_a_computed_field_without_write_is_a_source_and_never_a_target() -> None:
    desk = desk_of("crm", {"name": "erp", "fields": {"x": {"read": "a"}, "y": "y"}})
    there = desk.decide(agreed(desk), {"crm": desk.read("crm", x="new", y="old")})
    here = desk.decide(agreed(desk), {"erp": desk.read("erp", x="new", y="old")})
    assert (written(there), written(here)) == ({}, {"crm": {"x": "new"}})


# --- onConflict ---


def conflict(desk: Desk, *, at: dict[str, Any] | None = None, **values: Value) -> Decision:
    """`x` was changed in these systems, to these values; `y` was changed by `erp` alone."""
    times = at or {}
    observed = {
        name: desk.read(name, times.get(name), x=value, y="erp's" if name == "erp" else "old")
        for name, value in values.items()
    }
    return desk.decide(agreed(desk), observed)


def test_system_of_record_wins() -> None:
    decision = conflict(desk_of(), crm="crm's", erp="erp's")
    assert {system: values["x"] for system, values in written(decision).items() if "x" in values} == {
        "erp": "crm's",
        "shop": "crm's",
    }
    assert told(decision) == [(FindingKind.CONFLICT, "x", "onConflict: SystemOfRecordWins", "crm")]
    assert decision.findings[0].values == {"crm": "crm's", "erp": "erp's"}  # what lost is not lost silently


def test_system_of_record_wins_gives_way_to_priority_where_it_did_not_change() -> None:
    decision = conflict(desk_of(priority=["crm", "shop", "erp"]), erp="erp's", shop="shop's")
    assert {values["x"] for values in written(decision).values() if "x" in values} == {"shop's"}


def test_a_field_has_its_own_system_of_record() -> None:
    decision = conflict(desk_of(fields={"x": {"systemOfRecord": "erp"}}), crm="crm's", erp="erp's")
    assert written(decision)["crm"]["x"] == "erp's"


def test_priority_decides_whoever_is_the_system_of_record() -> None:
    decision = conflict(desk_of(onConflict="Priority", priority=["shop", "erp", "crm"]), crm="crm's", erp="erp's")
    assert written(decision)["crm"]["x"] == "erp's"
    assert told(decision) == [(FindingKind.CONFLICT, "x", "onConflict: Priority", "erp")]


LATEST = {"onConflict": "LatestWins"}
HOUR = timedelta(hours=1)


def test_latest_wins() -> None:
    decision = conflict(desk_of(**LATEST), at={"crm": START - HOUR, "erp": START}, crm="crm's", erp="erp's")
    assert (written(decision)["crm"]["x"], decision.findings[0].winner) == ("erp's", "erp")


@pytest.mark.parametrize(
    ("at", "why"),
    [
        ({"crm": START, "erp": START}, ""),
        ({"crm": START}, ", by priority: erp gives no time"),
        ({}, ", by priority: crm gives no time"),
        (
            {"crm": START - HOUR, "erp": START + HOUR},
            ", by priority: the clock of erp is more than 5 minutes ahead",
        ),
    ],
    ids=["equal times", "one time missing", "no times", "a time in the future"],
)
def test_latest_wins_falls_back_to_priority_when_times_do_not_tell_and_says_so(at: dict[str, Any], why: str) -> None:
    decision = conflict(desk_of(**LATEST), at=at, crm="crm's", erp="erp's")
    assert written(decision)["erp"]["x"] == "crm's"
    assert told(decision) == [(FindingKind.CONFLICT, "x", f"onConflict: LatestWins{why}", "crm")]


def test_edits_are_as_new_as_the_record_where_rules_look_at_that_and_the_field_has_no_time_of_its_own() -> None:
    timed = {"name": "erp", "fields": {"x": {"path": "x", "modified": "x_at"}, "y": "y"}}
    rules = {"y": {"onConflict": "Priority"}}
    desk = desk_of({"name": "crm"}, timed, {"name": "shop", "access": "WriteOnly"}, fields=rules, **LATEST)
    assert {name: set(rule.dated) for name, rule in desk.rules.systems.items()} == {
        "crm": {"x"},
        "erp": set(),
        "shop": set(),
    }


def test_latest_wins_bears_a_clock_that_is_a_little_ahead() -> None:
    at = {"crm": START, "erp": START + timedelta(minutes=4)}
    assert conflict(desk_of(**LATEST), at=at, crm="crm's", erp="erp's").findings[0].winner == "erp"


def test_manual_freezes_the_field_and_the_rest_flows() -> None:
    decision = conflict(desk_of(onConflict="Manual"), crm="crm's", erp="erp's")
    assert decision.frozen == {"x": {"crm": "crm's", "erp": "erp's"}}
    assert written(decision) == {"crm": {"y": "erp's"}, "shop": {"y": "erp's"}}
    assert told(decision) == [(FindingKind.FROZEN, "x", "onConflict: Manual", "")]


def test_three_systems_with_three_values_are_one_conflict() -> None:
    decision = conflict(desk_of(), crm="1", erp="2", shop="3")
    assert {s: v["x"] for s, v in written(decision).items() if "x" in v} == {"erp": "1", "shop": "1"}
    assert [f.values for f in decision.findings] == [{"crm": "1", "erp": "2", "shop": "3"}]


# --- a field that waits for a person ---


def frozen(desk: Desk, observed: dict[str, Any]) -> Decision:
    """`x` waits since `crm` and `erp` disagreed on it; both values were seen."""
    sides = {**agreed(desk), "crm": desk.side("crm", x="crm's", y="old"), "erp": desk.side("erp", x="erp's", y="old")}
    return desk.decide(sides, observed, frozen=frozenset({"x"}), competing={"x": frozenset({"crm", "erp"})})


def test_a_frozen_field_stays_where_it_is_and_the_rest_flows() -> None:
    desk = desk_of(onConflict="Manual")
    decision = frozen(desk, {"crm": desk.read("crm", x="crm's", y="new")})
    assert (set(decision.frozen), written(decision)) == ({"x"}, {"erp": {"y": "new"}, "shop": {"y": "new"}})


def test_another_edit_of_a_frozen_field_is_kept_with_it() -> None:
    desk = desk_of(onConflict="Manual")
    decision = frozen(desk, {"crm": desk.read("crm", x="third", y="old")})
    assert (decision.frozen, written(decision)) == ({"x": {"crm": "third"}}, {})


def test_a_conflict_ends_when_those_who_disagreed_agree_and_the_value_goes_everywhere() -> None:
    desk = desk_of(onConflict="Manual")
    decision = frozen(desk, {"erp": desk.read("erp", x="crm's", y="old"), "crm": desk.read("crm", x="crm's", y="old"),
                             "shop": desk.read("shop", x="old", y="old")})  # fmt: skip
    assert (decision.frozen, written(decision)) == ({}, {"shop": {"x": "crm's"}})
    assert told(decision)[0][0] is FindingKind.RESOLVED


def test_a_conflict_that_ends_asks_for_what_it_overwrites() -> None:
    desk = desk_of(onConflict="Manual")
    decision = frozen(desk, {"erp": desk.read("erp", x="crm's", y="old")})
    assert decision.needs
    assert decision.needs <= {"crm", "shop"}


def test_a_conflict_ends_when_the_policy_has_another_rule_by_now() -> None:
    desk = desk_of(onConflict="SystemOfRecordWins")
    everything = {"crm": desk.read("crm", x="crm's", y="old"), "erp": desk.read("erp", x="erp's", y="old"),
                  "shop": desk.read("shop", x="old", y="old")}  # fmt: skip
    decision = frozen(desk, everything)
    assert (decision.frozen, written(decision)) == ({}, {"erp": {"x": "crm's"}, "shop": {"x": "crm's"}})


# --- edits: SystemOfRecordOnly ---

OWNED = {"fields": {"x": {"systemOfRecord": "erp", "edits": "SystemOfRecordOnly"}}}


def test_an_edit_elsewhere_is_reverted_and_told() -> None:
    desk = desk_of(**OWNED)
    observed = {"crm": desk.read("crm", x="mine", y="old"), "erp": desk.read("erp", x="old", y="old")}
    decision = desk.decide(agreed(desk), observed)
    assert written(decision) == {"crm": {"x": "old"}}
    assert told(decision) == [(FindingKind.REVERTED, "x", "edits: SystemOfRecordOnly", "erp")]
    assert decision.findings[0].values == {"crm": "mine", "erp": "old"}


def test_restoring_needs_the_owners_value_so_it_is_read_first() -> None:
    desk = desk_of(**OWNED)
    decision = desk.decide(agreed(desk), {"crm": desk.read("crm", x="mine", y="old")})
    assert (decision.needs, decision.writes) == (frozenset({"erp"}), {})


def test_the_owners_edit_goes_everywhere() -> None:
    desk = desk_of(**OWNED)
    decision = desk.decide(agreed(desk), {"erp": desk.read("erp", x="new", y="old")})
    assert (written(decision), told(decision)) == ({"crm": {"x": "new"}, "shop": {"x": "new"}}, [])


def test_the_owners_edit_beats_any_other_and_is_no_conflict() -> None:
    desk = desk_of(onConflict="Manual", **OWNED)
    decision = conflict(desk, crm="crm's", erp="erp's")
    assert (decision.frozen, written(decision)["crm"]["x"]) == ({}, "erp's")


# --- whenEmpty ---

KEEP = {"whenEmpty": "Keep"}


@pytest.mark.parametrize("empty", ["", None])
def test_an_emptied_field_is_kept_elsewhere(empty: Value) -> None:
    desk = desk_of(**KEEP)
    decision = desk.decide(agreed(desk), {"crm": desk.read("crm", x=empty, y="old")})
    assert (written(decision), told(decision)) == ({}, [(FindingKind.KEPT, "x", "whenEmpty: Keep", "")])


def test_an_emptied_field_is_no_rival_of_a_filled_one() -> None:
    decision = conflict(desk_of(**KEEP), crm="", erp="erp's")
    assert {s: v["x"] for s, v in written(decision).items() if "x" in v} == {"crm": "erp's", "shop": "erp's"}


def test_without_keep_an_emptied_field_is_emptied_everywhere() -> None:
    desk = desk_of()
    decision = desk.decide(agreed(desk), {"crm": desk.read("crm", x="", y="old")})
    assert written(decision) == {"erp": {"x": ""}, "shop": {"x": ""}}


# --- access ---


def test_a_read_only_system_is_a_source_and_never_a_target() -> None:
    desk = desk_of("crm", {"name": "erp", "access": "ReadOnly"})
    there = desk.decide(agreed(desk), {"crm": desk.read("crm", x="new", y="old")})
    here = desk.decide(agreed(desk), {"erp": desk.read("erp", x="new", y="old")})
    assert (written(there), written(here)) == ({}, {"crm": {"x": "new"}})


def test_a_write_only_system_is_a_target_and_never_a_source() -> None:
    desk = desk_of("crm", "erp", {"name": "shop", "access": "WriteOnly"})
    observed = {"crm": desk.read("crm", x="old", y="new"), "shop": desk.read("shop", x="mine", y="old")}
    decision = desk.decide(agreed(desk), observed)
    assert "x" not in written(decision)["erp"]
    assert written(decision)["shop"]["y"] == "new"


def test_what_was_edited_in_a_write_only_system_is_repaired_and_told() -> None:
    desk = desk_of("crm", {"name": "shop", "access": "WriteOnly"})
    observed = {"crm": desk.read("crm", x="old", y="old"), "shop": desk.read("shop", x="mine", y="old")}
    decision = desk.decide(agreed(desk), observed)
    assert written(decision) == {"shop": {"x": "old"}}
    assert told(decision) == [(FindingKind.REPAIRED, "x", "access: WriteOnly", "crm")]


# --- first meeting ---


def first(desk: Desk, **values: dict[str, Value]) -> Decision:
    """Linked records, of which no value was ever seen."""
    sides = {name: desk.unseen(name) for name in values}
    return desk.decide(sides, {name: desk.read(name, **its) for name, its in values.items()})


def test_at_a_first_meeting_the_owners_filled_value_stands_and_empty_sides_are_filled() -> None:
    decision = first(desk_of("crm", "erp"), crm={"x": "crm's", "y": None}, erp={"x": "erp's", "y": "erp's"})
    assert written(decision) == {"erp": {"x": "crm's"}, "crm": {"y": "erp's"}}
    assert told(decision) == [(FindingKind.OVERWRITTEN, "x", "firstSync: SystemOfRecordWins", "crm")]
    assert decision.findings[0].values == {"crm": "crm's", "erp": "erp's"}


def test_the_guard_counts_what_a_first_meeting_overwrites_and_not_what_it_fills() -> None:
    decision = first(desk_of("crm", "erp"), crm={"x": "crm's", "y": "crm's"}, erp={"x": "erp's", "y": None})
    assert decision.writes["erp"].guarded == ("x",)


def test_fill_empty_only_overwrites_nothing() -> None:
    desk = desk_of("crm", "erp", firstSync="FillEmptyOnly")
    decision = first(desk, crm={"x": "crm's", "y": None}, erp={"x": "erp's", "y": "erp's"})
    assert (written(decision), told(decision)) == ({"crm": {"y": "erp's"}}, [])


def test_false_that_was_seen_is_a_value_and_not_empty() -> None:
    schema = {"type": "object", "properties": {"x": {"type": "boolean"}, "y": {"type": "string"}}}
    desk = desk_of("crm", "erp", schema=schema, fields={"x": {"whenEmpty": "Keep"}})
    sides = {"crm": desk.side("crm", x=False, y="y"), "erp": desk.side("erp", x=False, y="y")}
    decision = desk.decide(sides, {"erp": desk.read("erp", x=None, y="y")})
    assert (written(decision), [f.kind for f in decision.findings]) == ({}, [FindingKind.KEPT])


def test_what_differed_at_a_first_meeting_and_was_left_is_no_change_later() -> None:
    desk = desk_of("crm", "erp", firstSync="FillEmptyOnly")
    observed = {"crm": desk.read("crm", x="crm's", y="y"), "erp": desk.read("erp", x="erp's", y="y")}
    after = desk.decide({name: desk.unseen(name) for name in observed}, observed)
    assert desk.decide(after.sides, observed).writes == {}


def test_a_third_system_meets_those_that_agreed_already() -> None:
    desk = desk_of()
    sides = {
        "crm": desk.side("crm", x="old", y="old"),
        "erp": desk.side("erp", x="old", y="old"),
        "shop": desk.unseen("shop"),
    }
    observed = {"crm": desk.read("crm", x="old", y="old"), "shop": desk.read("shop", x="shop's", y=None)}
    decision = desk.decide(sides, observed)
    assert written(decision) == {"shop": {"x": "old", "y": "old"}}
    assert decision.writes["shop"].guarded == ("x",)


# --- new records ---


def test_what_only_one_system_has_is_created_in_the_others() -> None:
    desk = desk_of("crm", "erp", {"name": "shop", "fields": {"y": "y"}})
    records = [desk.read("crm", x="1", y="2").record]
    created = {target: desk.decider.creates("crm", records, target) for target in ("erp", "shop")}
    assert created == {
        "erp": [Write(Operation.CREATE, {"x": "1", "y": "2"}, {"x": "crm", "y": "crm"})],
        "shop": [Write(Operation.CREATE, {"y": "2"}, {"y": "crm"})],
    }


def test_a_system_that_lacks_the_record_gets_what_it_says_now() -> None:
    desk = desk_of()
    sides = {name: side for name, side in agreed(desk).items() if name != "shop"}
    decision = desk.decide(sides, {"crm": desk.read("crm", x="new", y="old")}, create_in=frozenset({"shop"}))
    assert (decision.writes["shop"].operation, written(decision)["shop"]) == (
        Operation.CREATE,
        {"x": "new", "y": "old"},
    )


# --- deletes ---


def deleted(desk: Desk, *systems: str, observed: dict[str, Any] | None = None) -> Decision:
    return desk.decide(agreed(desk), observed, deleted=frozenset(systems))


def test_a_delete_in_the_system_of_record_spreads() -> None:
    decision = deleted(desk_of(), "crm")
    assert {s: w.operation for s, w in decision.writes.items()} == {"erp": Operation.DELETE, "shop": Operation.DELETE}
    assert told(decision) == [(FindingKind.DELETED, "", "FromSystemOfRecord", "crm")]


def test_a_delete_elsewhere_is_kept_where_it_happened() -> None:
    decision = deleted(desk_of(), "erp")
    assert (decision.writes, decision.away) == ({}, frozenset({"erp"}))
    assert told(decision) == [(FindingKind.DELETE_NOT_SPREAD, "", "FromSystemOfRecord", "erp")]


def test_from_any_spreads_every_delete() -> None:
    decision = deleted(desk_of(deletes={"propagate": "FromAny"}), "erp")
    assert set(decision.writes) == {"crm", "shop"}


def test_never_spreads_no_delete() -> None:
    decision = deleted(desk_of(deletes={"propagate": "Never"}), "crm")
    assert (decision.writes, decision.away) == ({}, frozenset({"crm"}))


def test_a_delete_is_not_repeated_where_nothing_may_be_written() -> None:
    decision = deleted(desk_of("crm", {"name": "erp", "access": "ReadOnly"}), "crm")
    assert decision.writes == {}


def test_update_wins_over_a_delete_and_the_record_comes_back() -> None:
    desk = desk_of()
    decision = deleted(desk, "crm", observed={"erp": desk.read("erp", x="edited", y="old")})
    assert {s: w.operation for s, w in decision.writes.items()} == {"crm": Operation.CREATE, "shop": Operation.UPDATE}
    assert written(decision)["crm"] == {"x": "edited", "y": "old"}
    assert (FindingKind.RECREATED, "", "UpdateWins", "crm") in told(decision)


def test_delete_wins_over_an_update_and_what_was_edited_is_told() -> None:
    desk = desk_of(deletes={"onUpdateConflict": "DeleteWins"})
    decision = deleted(desk, "crm", observed={"erp": desk.read("erp", x="edited", y="old")})
    assert {w.operation for w in decision.writes.values()} == {Operation.DELETE}
    assert (FindingKind.CONFLICT, "x", "onUpdateConflict: DeleteWins", "crm") in told(decision)


def test_an_edit_that_does_not_count_saves_no_record() -> None:
    desk = desk_of(fields={"x": {"edits": "SystemOfRecordOnly"}})
    decision = deleted(desk, "crm", observed={"erp": desk.read("erp", x="edited", y="old")})
    assert {w.operation for w in decision.writes.values()} == {Operation.DELETE}


def test_deletes_count_against_the_guard() -> None:
    assert all(write.halts for write in deleted(desk_of(), "crm").writes.values())


# --- what is still on its way ---


def test_an_undelivered_value_is_the_change_of_the_system_it_came_from() -> None:
    desk = desk_of("crm", "erp")
    sides = {"crm": desk.side("crm", x="crm's", y="old"), "erp": desk.side("erp", x="old", y="old")}
    decision = desk.decide(
        sides, {"erp": desk.read("erp", x="erp's", y="old")}, pending={"erp": desk.update("crm", x="crm's")}
    )
    assert (written(decision), decision.findings[0].winner) == ({"erp": {"x": "crm's"}}, "crm")


def test_what_came_back_as_our_own_echo_is_no_change() -> None:
    desk = desk_of("crm", "erp")
    sides = {"crm": desk.side("crm", x="new", y="old"), "erp": desk.side("erp", x="old", y="old")}
    decision = desk.decide(
        sides, {"erp": desk.read("erp", x="new", y="old")}, pending={"erp": desk.update("crm", x="new")}
    )
    assert (decision.writes, decision.findings) == ({}, ())


def test_a_newer_value_replaces_an_undelivered_one() -> None:
    desk = desk_of("crm", "erp")
    sides = {"crm": desk.side("crm", x="first", y="old"), "erp": desk.side("erp", x="old", y="old")}
    decision = desk.decide(
        sides, {"crm": desk.read("crm", x="second", y="old")}, pending={"erp": desk.update("crm", x="first")}
    )
    assert written(decision) == {"erp": {"x": "second"}}


def test_a_field_that_is_frozen_is_not_delivered_meanwhile() -> None:
    desk = desk_of(onConflict="Manual")
    sides = {**agreed(desk), "crm": desk.side("crm", x="crm's", y="old")}
    pending = {"erp": desk.update("crm", x="crm's"), "shop": desk.update("crm", x="crm's")}
    decision = desk.decide(sides, {"erp": desk.read("erp", x="erp's", y="old")}, pending=pending)
    assert (set(decision.frozen), decision.writes) == ({"x"}, {})


# --- everything twice ---


@pytest.mark.parametrize("rule", ["SystemOfRecordWins", "LatestWins", "Priority"])
def test_once_a_decision_is_applied_the_next_one_writes_nothing(rule: str) -> None:
    desk = desk_of(onConflict=rule)
    decision = conflict(desk, crm="crm's", erp="erp's")
    values = {"crm": {"x": "crm's", "y": "old"}, "erp": {"x": "erp's", "y": "erp's"}, "shop": {"x": "old", "y": "old"}}
    after = {name: its | written(decision).get(name, {}) for name, its in values.items()}
    sides = {name: desk.side(name, **its) for name, its in after.items()}
    again = desk.decide(sides, {name: desk.read(name, **its) for name, its in after.items()})
    assert (again.writes, again.findings) == ({}, ())
