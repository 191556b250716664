"""Plain edits: what needs no weighing is decided at once, and everything else is left to the rules.

Three systems, `crm` (the system of record), `erp` and `shop`, agree that `x` is "old" and `y` is "kept".
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from fairlead.engine.case import Case, Decision, Operation, Write
from fairlead.engine.edits import PlainEdits
from fairlead.model.record import Value
from support.simulation import START, Desk, spec_of

SYSTEMS = ("crm", "erp", "shop")
OLD: dict[str, Value] = {"x": "old", "y": "kept"}
NEW: dict[str, Value] = {"x": "new", "y": "kept"}


def decided(desk: Desk, case: Case) -> Decision | None:
    return PlainEdits(desk.rules, desk.decider.bases).decide(case)


def edited(desk: Desk, editor: str = "erp", **more: Any) -> Case:
    """One system says now that `x` is "new"."""
    return desk.case(desk.agreed(**OLD), {editor: desk.read(editor, **NEW)}, **more)


def desk_of(*systems: Any, **spec: Any) -> Desk:
    return Desk(spec_of(systems or SYSTEMS, **spec))


# --- what is decided ---


@pytest.mark.parametrize("editor", SYSTEMS)
def test_an_edit_goes_to_all_others(editor: str) -> None:
    desk = desk_of()
    decision = decided(desk, edited(desk, editor))
    assert decision is not None
    assert decision.writes == {other: desk.update(editor, x="new") for other in SYSTEMS if other != editor}


def test_what_was_edited_is_remembered_and_nothing_else_of_the_decision_is_filled() -> None:
    desk = desk_of("crm", "erp")
    sides = {**desk.agreed(**OLD), "erp": msgspec.structs.replace(desk.side("erp", **NEW), row=2)}
    assert decided(desk, edited(desk)) == Decision(sides=sides, writes={"crm": desk.update("erp", x="new")})


def test_several_fields_go_in_one_write() -> None:
    desk = desk_of("crm", "erp")
    decision = decided(desk, desk.case(desk.agreed(**OLD), {"crm": desk.read("crm", x="new", y="new")}))
    assert decision is not None
    assert decision.writes == {"erp": desk.update("crm", x="new", y="new")}


def test_an_edit_has_the_time_that_its_system_gives() -> None:
    desk = desk_of("crm", "erp")
    decision = decided(desk, desk.case(desk.agreed(**OLD), {"crm": desk.read("crm", START, **NEW)}))
    assert decision is not None
    assert decision.writes == {"erp": desk.update("crm", START, x="new")}


def test_a_field_has_the_time_of_its_own_where_it_has_one() -> None:
    desk, later = desk_of("crm", "erp"), START + timedelta(hours=1)
    observation = desk.read("crm", START, x="new", y="new")
    record = msgspec.structs.replace(observation.record, times={"x": later, "y": None})
    observation = msgspec.structs.replace(observation, record=record)
    decision = decided(desk, desk.case(desk.agreed(**OLD), {"crm": observation}))
    assert decision is not None
    assert decision.writes["erp"].modified == {"x": later}


def test_an_edit_goes_where_the_field_is_and_may_be_written() -> None:
    desk = desk_of("crm", {"name": "erp", "access": "ReadOnly"}, {"name": "shop", "fields": {"y": "y"}}, "web")
    decision = decided(desk, edited(desk, "crm"))
    assert decision is not None
    assert decision.writes == {"web": desk.update("crm", x="new")}


def test_an_edit_goes_where_the_record_is() -> None:
    desk = desk_of()
    sides = desk.agreed(**OLD)
    del sides["shop"]
    decision = decided(desk, desk.case(sides, {"erp": desk.read("erp", **NEW)}))
    assert decision is not None
    assert decision.writes == {"crm": desk.update("erp", x="new")}


def test_a_row_that_says_the_same_as_before_is_remembered_as_it_reads_now() -> None:
    desk = desk_of("crm", "erp")
    sides = {**desk.agreed(**OLD), "erp": msgspec.structs.replace(desk.side("erp", **OLD), row=2)}
    case = desk.case(desk.agreed(**OLD), {"erp": desk.read("erp", **OLD)})
    assert decided(desk, case) == Decision(sides=sides)


def test_old_values_are_kept_for_the_rules_that_need_them() -> None:
    desk = desk_of("crm", "erp", onConflict="Merge")
    decision = decided(desk, edited(desk, bases={"x": {desk.print_of("x", "old"): "old"}}))
    assert decision is not None
    assert decision.bases["x"] == {desk.print_of("x", "old"): "old", desk.print_of("x", "new"): "new"}


# --- what is left to the rules ---


@pytest.mark.parametrize(
    ("editor", "spec"),
    [
        ("erp", {"edits": "SystemOfRecordOnly"}),
        ("crm", {"edits": "SystemOfRecordOnly"}),
        ("erp", {"whenEmpty": "Keep"}),
        ("erp", {"fields": {"x": {"systemOfRecordWhen": {"when": "record.y == 'kept'", "then": "erp"}}}}),
        ("web", {}),
        ("log", {}),
    ],
    ids=[
        "one may edit",
        "the one that may edit",
        "no value is no edit",
        "who owns it depends",
        "WriteOnly",
        "ReadOnly",
    ],
)
def test_where_a_rule_says_more_of_an_edit_it_is_weighed(editor: str, spec: Any) -> None:
    desk = desk_of("crm", "erp", {"name": "web", "access": "WriteOnly"}, {"name": "log", "access": "ReadOnly"}, **spec)
    assert decided(desk, edited(desk, editor)) is None


def test_a_rule_of_another_field_is_none_of_this_one() -> None:
    desk = desk_of("crm", "erp", fields={"y": {"edits": "SystemOfRecordOnly"}})
    assert decided(desk, edited(desk)) is not None


@pytest.mark.parametrize(
    "more",
    [
        {"frozen": frozenset({"y"})},
        {"create_in": frozenset({"shop"})},
        {"deleted": frozenset({"shop"})},
        {"away": frozenset({"shop"})},
        {"pending": {"shop": Write(Operation.UPDATE, {"y": "late"}, {"y": "crm"})}},
    ],
    ids=["a field waits for a person", "it is to be created", "it was deleted", "it is away", "a write is on its way"],
)
def test_where_more_is_to_be_said_of_the_record_it_is_weighed(more: Any) -> None:
    desk = desk_of()
    assert decided(desk, edited(desk, **more)) is None


def test_what_several_systems_say_is_weighed() -> None:
    desk = desk_of("crm", "erp")
    observed = {"crm": desk.read("crm", **NEW), "erp": desk.read("erp", **OLD)}
    assert decided(desk, desk.case(desk.agreed(**OLD), observed)) is None


def test_a_record_that_is_met_is_weighed() -> None:
    desk = desk_of("crm", "erp")
    assert decided(desk, desk.case({"crm": desk.side("crm", **OLD)}, {"erp": desk.read("erp", **NEW)})) is None


def test_an_edit_of_a_field_on_which_systems_differed_is_weighed() -> None:
    desk = desk_of()
    sides = {**desk.agreed(**OLD), "shop": desk.side("shop", x="other", y="kept")}
    assert decided(desk, desk.case(sides, {"erp": desk.read("erp", **NEW)})) is None


@pytest.mark.parametrize("unseen", ["crm", "erp"])
def test_an_edit_of_a_field_that_was_not_seen_everywhere_is_weighed(unseen: str) -> None:
    desk = desk_of("crm", "erp")
    sides = {**desk.agreed(**OLD), unseen: desk.unseen(unseen)}
    assert decided(desk, desk.case(sides, {"erp": desk.read("erp", **NEW)})) is None


def test_a_field_of_which_nothing_can_be_said_is_weighed() -> None:
    desk = desk_of("crm", "erp")
    observation = desk.read("erp", **NEW)
    record = msgspec.structs.replace(observation.record, values={"y": "kept"})
    observation = msgspec.structs.replace(observation, record=record)
    assert decided(desk, desk.case(desk.agreed(**OLD), {"erp": observation})) is None
