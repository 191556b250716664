"""What becomes of a record that is gone, or returns, in some system (`deletes`, `onLeave`).

Three systems, `crm` (the system of record), `erp` and `shop`, hold one record with the fields `x` and `y`.
"""

from __future__ import annotations

from typing import Any

import pytest

from fairlead.engine.case import Decision, Finding, FindingKind, Observation, Operation, Write
from support.simulation import Desk, spec_of

SYSTEMS = ("crm", "erp", "shop")
SPREAD = "FromSystemOfRecord"
CRM = frozenset({"crm"})


def desk_of(*systems: Any, **spec: Any) -> Desk:
    return Desk(spec_of(systems or SYSTEMS, **spec))


def end(operation: Operation = Operation.DELETE, rule: str = SPREAD, **earlier: tuple[bytes, ...]) -> Write:
    return Write(operation, rules={"": rule}, earlier=earlier)


def as_before(desk: Desk, *systems: str) -> dict[str, Observation]:
    return {system: desk.read(system, x="old", y="old") for system in systems}


# --- it ends everywhere ---


@pytest.mark.parametrize(
    ("action", "operation", "kind"),
    [("Delete", Operation.DELETE, FindingKind.DELETED), ("Archive", Operation.ARCHIVE, FindingKind.ARCHIVED)],
)
def test_a_delete_in_the_system_of_record_ends_it_in_all_others(
    action: str, operation: Operation, kind: FindingKind
) -> None:
    desk = desk_of(deletes={"action": action})
    decision = desk.decide(desk.agreed(x="old", y="old"), deleted=CRM)
    assert decision == Decision(
        sides={name: desk.side(name, x="old", y="old") for name in ("erp", "shop")},
        away=CRM,
        writes=dict.fromkeys(("erp", "shop"), end(operation)),
        findings=(Finding(kind, "", SPREAD, "crm"),),
    )


@pytest.mark.parametrize(
    ("on_leave", "operation", "kind"),
    [("Delete", Operation.DELETE, FindingKind.DELETED), ("Archive", Operation.ARCHIVE, FindingKind.ARCHIVED)],
)
def test_what_left_a_filter_ends_elsewhere_and_is_met_anew_where_it_left(
    on_leave: str, operation: Operation, kind: FindingKind
) -> None:
    desk = desk_of({"name": "crm", "onLeave": on_leave}, "erp", deletes={"propagate": "Never"})
    sides = desk.agreed(x="old", y="old")
    decision = desk.decide(sides, deleted=CRM, left=CRM)
    rule = f"onLeave: {on_leave}"
    assert decision == Decision(
        sides={"crm": Desk.emptied(sides["crm"]), "erp": sides["erp"]},
        away=CRM,
        writes={"erp": end(operation, rule)},
        findings=(Finding(kind, "", rule, "crm"),),
    )


def test_where_one_rule_says_archive_and_another_says_delete_it_is_archived() -> None:
    desk = desk_of("crm", {"name": "erp", "onLeave": "Archive"}, "shop")
    left = frozenset({"erp"})
    decision = desk.decide(desk.agreed(x="old", y="old"), deleted=CRM | left, left=left)
    assert decision.writes == {"shop": end(Operation.ARCHIVE)}
    assert decision.findings == (Finding(FindingKind.ARCHIVED, "", SPREAD, "crm"),)


def test_a_record_is_not_deleted_where_it_takes_no_part() -> None:
    desk = desk_of()
    decision = desk.decide(desk.agreed(x="old", y="old"), deleted=CRM, away=frozenset({"erp"}))
    assert decision.writes == {"shop": end()}
    assert decision.away == {"crm", "erp"}


def test_a_delete_where_it_took_no_part_any_more_changes_nothing() -> None:
    desk = desk_of()
    sides = desk.agreed(x="old", y="old")
    decision = desk.decide(sides, deleted=CRM, away=CRM)
    assert (decision.writes, decision.away) == ({}, CRM)
    assert decision.sides == {name: sides[name] for name in ("erp", "shop")}


def test_a_field_waits_on_until_the_record_has_ended() -> None:
    desk, alone = desk_of(), desk_of("crm", {"name": "erp", "access": "ReadOnly"})
    waits = desk.decide(desk.agreed(x="old", y="old"), deleted=CRM, frozen=frozenset({"x"}))
    ended = alone.decide(alone.agreed(x="old", y="old"), deleted=CRM, frozen=frozenset({"x"}))
    assert (waits.frozen, ended.frozen) == ({"x": {}}, {})


# --- what a delete takes along ---


def test_a_value_that_was_never_known_where_it_was_deleted_is_read_and_told() -> None:
    desk = desk_of("crm", "erp")
    sides = {"crm": desk.side("crm", x="old", y="old"), "erp": desk.side("erp", x="erp's", y="old")}
    assert desk.decide(sides, deleted=CRM) == Decision(needs=frozenset({"erp"}))
    decision = desk.decide(sides, {"erp": desk.read("erp", x="erp's", y="old")}, deleted=CRM)
    assert decision.findings == (
        Finding(FindingKind.OVERWRITTEN, "x", SPREAD, "crm", {"erp": "erp's"}),
        Finding(FindingKind.DELETED, "", SPREAD, "crm"),
    )


@pytest.mark.parametrize("deleted", ["seen", "unseen"])
def test_what_was_never_seen_is_read_and_told(deleted: str) -> None:
    desk = desk_of("crm", "erp")
    crm = desk.side("crm", x="old", y="old") if deleted == "seen" else desk.unseen("crm")
    sides = {"crm": crm, "erp": desk.unseen("erp")}
    assert desk.decide(sides, deleted=CRM) == Decision(needs=frozenset({"erp"}))
    decision = desk.decide(sides, {"erp": desk.read("erp", x="erp's")}, deleted=CRM)
    assert decision.findings == (
        Finding(FindingKind.OVERWRITTEN, "x", SPREAD, "crm", {"erp": "erp's"}),
        Finding(FindingKind.DELETED, "", SPREAD, "crm"),
    )


@pytest.mark.parametrize("spec", [{"deletes": {"action": "Archive"}}, {}], ids=["it is archived", "it is empty"])
def test_what_an_end_does_not_take_along_is_not_read(spec: dict[str, Any]) -> None:
    desk = desk_of("crm", "erp", **spec)
    sides = {"crm": desk.side("crm", x="old", y="old"), "erp": desk.side("erp", x="erp's" if spec else "", y="old")}
    decision = desk.decide(sides, deleted=CRM)
    assert (list(decision.writes), len(decision.findings)) == (["erp"], 1)


def test_a_value_that_a_write_would_have_replaced_is_not_read_and_the_write_may_have_arrived() -> None:
    desk = desk_of("crm", "erp")
    sides = {"crm": desk.side("crm", x="2", y="old"), "erp": desk.side("erp", x="0", y="old")}
    known = desk.print_of("y", "y's")
    waiting = Write(
        Operation.UPDATE, {"x": "2"}, {"x": "crm"}, earlier={"x": (desk.print_of("x", "1"),), "y": (known,)}
    )
    decision = desk.decide(sides, deleted=CRM, pending={"erp": waiting})
    both = (desk.print_of("x", "1"), desk.print_of("x", "2"))
    assert decision.writes == {"erp": end(x=both, y=(known,))}


def test_of_a_create_that_was_on_its_way_nothing_may_have_been_there_before() -> None:
    desk = desk_of("crm", "erp")
    create = Write(Operation.CREATE, {"x": "old"}, {"x": "crm"})
    decision = desk.decide(desk.agreed(x="old", y="old"), deleted=CRM, pending={"erp": create})
    assert decision.writes == {"erp": end()}


def test_what_a_delete_wins_over_is_told() -> None:
    desk = desk_of("crm", "erp", {"name": "shop", "access": "WriteOnly"}, deletes={"onUpdateConflict": "DeleteWins"})
    observed = {"erp": desk.read("erp", x="erp's", y="old"), "shop": desk.read("shop", x="old", y="shop's")}
    pending = {"crm": desk.update("erp", x="older", y="erp's")}
    decision = desk.decide(desk.agreed(x="old", y="old"), observed, deleted=CRM, pending=pending)
    rule = "onUpdateConflict: DeleteWins"
    assert decision.findings == (
        Finding(FindingKind.CONFLICT, "x", rule, "crm", {"erp": "erp's"}),
        Finding(FindingKind.CONFLICT, "y", rule, "crm", {"erp": "erp's"}),
        Finding(FindingKind.OVERWRITTEN, "y", SPREAD, "crm", {"shop": "shop's"}),
        Finding(FindingKind.DELETED, "", SPREAD, "crm"),
    )


def test_of_a_write_that_never_changed_its_mind_only_its_value_may_have_arrived() -> None:
    desk = desk_of("crm", "erp")
    sides = {"crm": desk.side("crm", x="new", y="old"), "erp": desk.side("erp", x="old", y="old")}
    decision = desk.decide(sides, deleted=CRM, pending={"erp": desk.update("crm", x="new")})
    assert decision.writes == {"erp": end(x=(desk.print_of("x", "new"),))}


def test_what_leaving_a_filter_takes_along_is_told_by_its_rule() -> None:
    desk = desk_of({"name": "crm", "onLeave": "Delete"}, "erp")
    sides = {"crm": desk.side("crm", x="old", y="old"), "erp": desk.side("erp", x="erp's", y="old")}
    decision = desk.decide(sides, {"erp": desk.read("erp", x="erp's", y="old")}, deleted=CRM, left=CRM)
    assert decision.findings[0] == Finding(FindingKind.OVERWRITTEN, "x", "onLeave: Delete", "crm", {"erp": "erp's"})


def test_what_is_gone_is_not_read_for_what_its_end_takes_along() -> None:
    desk = desk_of("crm", "erp")
    sides = {"crm": desk.side("crm", x="old", y="old"), "erp": desk.side("erp", x="erp's", y="old")}
    decision = desk.decide(sides, deleted=frozenset({"crm", "erp"}))
    assert decision == Decision(
        away=frozenset({"crm", "erp"}), findings=(Finding(FindingKind.DELETED, "", SPREAD, "crm"),)
    )


# --- while it is to end ---

DOOMED = {"erp": end(), "shop": end()}
"""Undelivered deletes of a record that was deleted in `crm`."""


def doomed(desk: Desk, observed: dict[str, Observation] | None = None, **more: Any) -> Decision:
    sides = {name: desk.side(name, x="old", y="old") for name in ("erp", "shop")}
    return desk.decide(more.pop("sides", sides), observed, away=CRM, **{"pending": DOOMED, **more})


def test_what_is_to_end_ends_though_it_is_read_again() -> None:
    desk = desk_of()
    decision = doomed(desk, as_before(desk, "erp"))
    assert (decision.writes, decision.findings, decision.away) == (DOOMED, (), CRM)


def test_what_is_to_end_and_is_deleted_by_a_user_is_not_deleted_again() -> None:
    decision = doomed(desk_of(), deleted=frozenset({"erp"}))
    assert (decision.writes, list(decision.sides)) == ({"shop": end()}, ["shop"])
    assert decision.away == {"crm", "erp"}


def test_an_edit_of_what_is_to_end_is_told_where_deletes_win() -> None:
    desk = desk_of(deletes={"onUpdateConflict": "DeleteWins"})
    decision = doomed(desk, {"erp": desk.read("erp", x="new", y="old")})
    assert decision.writes == DOOMED
    assert decision.findings == (
        Finding(FindingKind.CONFLICT, "x", "onUpdateConflict: DeleteWins", "", {"erp": "new"}),
    )


def test_an_edit_of_what_is_to_end_is_weighed_when_every_system_was_read() -> None:
    desk = desk_of()
    assert doomed(desk, {"erp": desk.read("erp", x="new", y="old")}) == Decision(needs=frozenset({"shop"}))


def test_an_edit_of_what_is_to_end_lets_it_live_on_and_it_comes_back_where_it_was_deleted() -> None:
    desk = desk_of()
    decision = doomed(desk, {"erp": desk.read("erp", x="new", y="old"), **as_before(desk, "shop")})
    assert decision.writes == {
        "crm": Write(Operation.CREATE, {"x": "new", "y": "old"}, {"x": "erp", "y": "erp"}),
        "shop": desk.update("erp", x="new"),
    }
    assert (decision.findings, decision.away) == (
        (Finding(FindingKind.RECREATED, "", "UpdateWins", "crm"),),
        frozenset(),
    )


def test_what_only_its_owner_may_edit_is_met_anew_when_it_lives_on() -> None:
    desk = desk_of(fields={"y": {"edits": "SystemOfRecordOnly"}})
    sides = {"erp": desk.side("erp", x="old", y="old"), "shop": desk.side("shop", x="old", y="shop's")}
    observed = {"erp": desk.read("erp", x="new", y="old"), "shop": desk.read("shop", x="old", y="shop's")}
    decision = doomed(desk, observed, sides=sides)
    assert decision.writes["shop"].values == {"x": "new", "y": "old"}
    assert decision.writes["shop"].guarded == ("y",)


def test_what_was_on_its_way_when_it_was_to_end_is_met_anew_when_it_lives_on() -> None:
    desk = desk_of()
    pending = {"erp": end(x=(desk.print_of("x", "crm's"),)), "shop": end()}
    sides = {"erp": desk.side("erp", x="old", y="old"), "shop": desk.side("shop", x="crm's", y="old")}
    observed = {"erp": desk.read("erp", x="old", y="new"), "shop": desk.read("shop", x="crm's", y="old")}
    decision = doomed(desk, observed, sides=sides, pending=pending)
    assert decision.writes["shop"].values == {"x": "old", "y": "new"}
    assert decision.writes["shop"].guarded == ("x",)


def test_an_edit_spreads_though_something_was_on_its_way_when_it_was_to_end() -> None:
    desk = desk_of()
    pending = {"erp": end(x=(desk.print_of("x", "crm's"),)), "shop": end()}
    observed = {"erp": desk.read("erp", x="new", y="old"), **as_before(desk, "shop")}
    decision = doomed(desk, observed, pending=pending)
    assert decision.writes["shop"] == desk.update("erp", x="new")


def test_what_differed_before_it_was_to_end_still_does_when_it_lives_on() -> None:
    desk = desk_of()
    sides = {"erp": desk.side("erp", x="erp's", y="old"), "shop": desk.side("shop", x="shop's", y="old")}
    observed = {"erp": desk.read("erp", x="erp's", y="new"), "shop": desk.read("shop", x="shop's", y="old")}
    assert doomed(desk, observed, sides=sides).writes["shop"] == desk.update("erp", y="new")


# --- it lives on ---


def test_a_delete_that_is_not_repeated_brings_the_record_back_nowhere() -> None:
    desk = desk_of()
    sides = {name: desk.side(name, x="old", y="old") for name in ("erp", "shop")}
    decision = desk.decide(sides, deleted=frozenset({"erp"}), away=CRM)
    assert (decision.writes, decision.away) == ({}, {"crm", "erp"})


def test_a_delete_that_is_not_repeated_ends_what_was_on_its_way_there_alone() -> None:
    desk = desk_of()
    sides = desk.agreed(x="old", y="old")
    pending = {"erp": desk.update("crm", x="new"), "shop": desk.update("crm", x="new")}
    decision = desk.decide(sides, deleted=frozenset({"erp"}), pending=pending, create_in=frozenset({"erp"}))
    assert decision == Decision(
        sides={name: sides[name] for name in ("crm", "shop")},
        away=frozenset({"erp"}),
        writes={"shop": desk.update("crm", x="new")},
        findings=(Finding(FindingKind.DELETE_NOT_SPREAD, "", SPREAD, "erp"),),
    )


def test_what_left_and_stays_elsewhere_is_remembered_without_its_values() -> None:
    desk = desk_of("crm", {"name": "erp", "onLeave": "Archive"}, "shop")
    sides = desk.agreed(x="old", y="old")
    erp = frozenset({"erp"})
    decision = desk.decide(sides, {"crm": desk.read("crm", x="new", y="old")}, deleted=erp, left=erp)
    assert decision.sides["erp"] == Desk.emptied(sides["erp"])
    assert decision.writes == {"shop": desk.update("crm", x="new")}


def test_an_edit_on_its_way_to_where_it_was_deleted_lets_it_live_on() -> None:
    desk = desk_of("crm", "erp")
    sides = {"crm": desk.side("crm", x="old", y="old"), "erp": desk.side("erp", x="new", y="old")}
    observed = {"erp": desk.read("erp", x="new", y="old")}
    decision = desk.decide(sides, observed, deleted=CRM, pending={"crm": desk.update("erp", x="new")})
    create = Write(Operation.CREATE, {"x": "new", "y": "old"}, {"x": "erp", "y": "erp"})
    assert decision.writes == {"crm": create}
    assert decision.findings == (Finding(FindingKind.RECREATED, "", "UpdateWins", "crm"),)


def test_a_record_does_not_come_back_where_nothing_may_be_written() -> None:
    desk = desk_of({"name": "crm", "access": "ReadOnly"}, "erp")
    decision = desk.decide(desk.agreed(x="old", y="old"), {"erp": desk.read("erp", x="new", y="old")}, deleted=CRM)
    assert (decision.writes, decision.away) == ({}, CRM)


# --- it returns ---


def test_a_record_that_is_back_before_it_ended_elsewhere_is_met_anew() -> None:
    desk = desk_of("crm", "erp")
    sides = {"erp": desk.side("erp", x="erp's", y="old")}
    observed = {"crm": desk.read("crm", x="crm's", y="old"), "erp": desk.read("erp", x="erp's", y="old")}
    decision = desk.decide(sides, observed, away=CRM, pending={"erp": end()})
    assert decision.writes["erp"].values == {"x": "crm's"}
    assert decision.writes["erp"].guarded == ("x",)
    assert decision.away == frozenset()


def test_copies_that_were_edited_apart_while_it_was_to_end_meet_anew_when_it_is_back() -> None:
    desk = desk_of()
    sides = {"erp": desk.side("erp", x="erp's", y="old"), "shop": desk.side("shop", x="shop's", y="old")}
    values = {"crm": None, "erp": "erp's", "shop": "shop's"}
    observed = {name: desk.read(name, x=value, y="old") for name, value in values.items()}
    decision = desk.decide(sides, observed, away=CRM, pending=DOOMED)
    assert {name: write.values for name, write in decision.writes.items()} == {
        "crm": {"x": "erp's"},
        "shop": {"x": "erp's"},
    }


def test_a_record_that_is_back_is_created_again_wherever_its_delete_was_repeated() -> None:
    desk = desk_of(deletes={"propagate": "FromAny"})
    away = frozenset({"crm", "shop"})
    decision = desk.decide({"erp": desk.side("erp", x="old", y="old")}, as_before(desk, "crm", "erp"), away=away)
    create = Write(Operation.CREATE, {"x": "old", "y": "old"}, {"x": "crm", "y": "crm"})
    assert (decision.writes, decision.away) == ({"shop": create}, frozenset())
    assert decision.findings == (Finding(FindingKind.RECREATED, "", "UpdateWins", "shop"),)


def test_where_a_record_that_is_back_stays_away_is_told() -> None:
    desk = desk_of()
    away = frozenset({"crm", "shop"})
    decision = desk.decide(desk.agreed(x="old", y="old"), as_before(desk, "crm"), away=away)
    assert decision.findings == (Finding(FindingKind.STAYS_AWAY, "", "back in crm", "shop"),)
    assert decision.away == {"shop"}


def test_nothing_is_told_of_where_a_record_stays_away_while_it_is_not_back() -> None:
    desk = desk_of()
    decision = desk.decide(desk.agreed(x="old", y="old"), as_before(desk, "erp"), away=frozenset({"crm", "shop"}))
    assert (decision.findings, decision.away) == ((), {"crm", "shop"})


def test_a_record_that_ended_for_all_is_created_nowhere() -> None:
    desk = desk_of()
    sides = {"erp": desk.side("erp", x="old", y="old")}
    decision = desk.decide(sides, as_before(desk, "erp"), away=CRM, create_in=frozenset({"shop"}))
    assert decision.writes == {}


# --- an undo's delete is nobody's ---

UNDO = end(rule="undo 7")


def test_an_undos_delete_that_was_done_is_not_repeated() -> None:
    desk = desk_of()
    sides = desk.agreed(x="old", y="old")
    decision = desk.decide(sides, deleted=CRM, pending={"crm": UNDO})
    assert decision == Decision(sides={name: sides[name] for name in ("erp", "shop")}, away=CRM)


def test_an_undos_delete_dooms_no_other_copy() -> None:
    desk = desk_of()
    observed = {"erp": desk.read("erp", x="new", y="old")}
    decision = desk.decide(desk.agreed(x="old", y="old"), observed, pending={"crm": UNDO})
    assert decision.writes == {"crm": UNDO, "shop": desk.update("erp", x="new")}


def test_an_edit_of_what_an_undo_is_to_delete_keeps_it() -> None:
    desk = desk_of()
    observed = {"crm": desk.read("crm", x="new", y="old")}
    decision = desk.decide(desk.agreed(x="old", y="old"), observed, pending={"crm": UNDO})
    assert decision.writes == dict.fromkeys(("erp", "shop"), desk.update("crm", x="new"))
