"""What a decision is made of: a person's choice, owners that depend on the record, writes that are on their way.

Three systems, `crm` (the system of record), `erp` and `shop`, hold one record with the fields `x` and `y`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from fairlead.engine.arbiter import CHOSEN
from fairlead.engine.case import Choice, Decision, Finding, FindingKind, Observation, Operation, Write
from fairlead.engine.decide import Decider
from fairlead.engine.fingerprint import UNSEEN, replaced
from fairlead.model.record import Record, Value
from support.simulation import PRINTS, START, Desk, spec_of

SYSTEMS = ("crm", "erp", "shop")


def desk_of(*systems: Any, **spec: Any) -> Desk:
    return Desk(spec_of(systems or SYSTEMS, **spec))


# --- a person's choice ---

SAID: dict[str, Value] = {"crm": "crm's", "erp": "erp's"}


def chosen(*choices: Choice, **more: Any) -> Decision:
    """`x` and `y` wait: `crm` and `erp` disagree on both, and `shop` is as it was before."""
    desk = desk_of(onConflict="Manual")
    sides = {
        "crm": desk.side("crm", x="crm's", y="crm's"),
        "erp": desk.side("erp", x="erp's", y="erp's"),
        "shop": desk.side("shop", x="old", y="old"),
    }
    return desk.decider.resolve(desk.case(sides, frozen=frozenset({"x", "y"}), **more), choices)


def test_what_a_person_chose_goes_wherever_it_is_not() -> None:
    write = desk_of().update("crm", rule="ada: keep crm", x="crm's")
    decision = chosen(Choice("x", "crm", "crm's", SAID, "ada: keep crm"))
    assert decision.writes == {"erp": write, "shop": write}


def test_what_a_person_chose_is_told_with_what_it_was_chosen_from() -> None:
    decision = chosen(Choice("x", "crm", "crm's", SAID, "ada: keep crm"))
    assert decision.findings == (Finding(FindingKind.RESOLVED, "x", "ada: keep crm", "crm", SAID),)


def test_a_value_that_a_person_gave_goes_everywhere_and_is_no_systems() -> None:
    write = desk_of().update(CHOSEN, rule="ada: a value given", x="both")
    decision = chosen(Choice("x", CHOSEN, "both", SAID, "ada: a value given"))
    assert decision.writes == dict.fromkeys(SYSTEMS, write)
    assert decision.findings[0].values == {**SAID, CHOSEN: "both"}


def test_the_fields_that_a_person_did_not_decide_wait_on() -> None:
    assert chosen(Choice("x", "crm", "crm's", SAID, "ada: keep crm")).frozen == {"y": {}}


def test_a_person_decides_several_fields_at_once() -> None:
    decision = chosen(Choice("x", "crm", "crm's", SAID, "ada: x"), Choice("y", "erp", "erp's", SAID, "ada: y"))
    assert {system: write.values for system, write in decision.writes.items()} == {
        "crm": {"y": "erp's"},
        "erp": {"x": "crm's"},
        "shop": {"x": "crm's", "y": "erp's"},
    }
    assert decision.frozen == {}


def test_what_was_remembered_stays_so_when_a_person_decides() -> None:
    desk = desk_of()
    decision = chosen(Choice("x", "crm", "crm's", SAID, "ada: keep crm"))
    assert decision.sides == {
        "crm": desk.side("crm", x="crm's", y="crm's"),
        "erp": desk.side("erp", x="erp's", y="erp's"),
        "shop": desk.side("shop", x="old", y="old"),
    }


# --- owners that depend on the record ---

BY_X = {"y": {"systemOfRecordWhen": {"when": "record.x == 'EU'", "then": "erp"}}}
"""`erp` owns `y` of what is in the EU, `crm` of all else."""


def regional(*systems: Any, **spec: Any) -> Desk:
    return desk_of(*systems, fields=BY_X, **spec)


@pytest.mark.parametrize(("x", "owner"), [("EU", "erp"), ("US", "crm"), (None, "crm")])
def test_the_owner_is_as_the_record_says(x: Value, owner: str) -> None:
    desk = regional()
    observed = {name: desk.read(name, x=x, y=name) for name in SYSTEMS}
    decision = desk.decide(desk.agreed(x=x, y="old"), observed)
    assert {write.values["y"] for write in decision.writes.values()} == {owner}


def test_the_system_of_record_is_read_to_know_who_owns_a_field() -> None:
    desk = regional()
    decision = desk.decide(desk.agreed(x="EU", y="old"), {"erp": desk.read("erp", x="EU", y="new")})
    assert decision == Decision(needs=frozenset({"crm"}))


def test_the_record_is_as_the_system_of_record_says_it_now() -> None:
    desk = regional("crm", "erp")
    observed = {"crm": desk.read("crm", x="EU", y="crm"), "erp": desk.read("erp", x="US", y="erp")}
    decision = desk.decide(desk.agreed(x="EU", y="old"), observed)
    assert decision.writes["crm"].values["y"] == "erp"


def test_the_record_is_as_the_system_of_record_says_it_though_it_was_never_seen_there() -> None:
    desk = regional("crm", "erp", firstSync="SystemOfRecordWins")
    observed = {"crm": desk.read("crm", x="EU", y="crm"), "erp": desk.read("erp", x="US", y="erp")}
    decision = desk.decide({"erp": desk.side("erp", x="US", y="erp")}, observed)
    assert decision.writes["crm"].values["y"] == "erp"


@pytest.mark.parametrize("away", [frozenset(), frozenset({"crm"})], ids=["nowhere", "deleted there"])
def test_where_the_system_of_record_has_it_not_the_first_by_priority_says_how_the_record_is(
    away: frozenset[str],
) -> None:
    desk = regional(priority=["crm", "shop", "erp"])
    sides = desk.agreed(x="EU", y="old")
    if not away:
        del sides["crm"]
    decision = desk.decide(sides, {"erp": desk.read("erp", x="EU", y="new")}, away=away)
    assert decision == Decision(needs=frozenset({"shop"}))


def test_a_system_whose_changes_do_not_count_does_not_say_how_the_record_is() -> None:
    desk = regional("crm", {"name": "erp", "access": "WriteOnly"}, "shop")
    sides = desk.agreed(x="EU", y="old")
    del sides["crm"]
    decision = desk.decide(sides, {"shop": desk.read("shop", x="EU", y="new")})
    assert {name: write.values for name, write in decision.writes.items()} == {"erp": {"y": "new"}}


def test_where_no_system_is_left_that_is_read_nobody_owns_the_field() -> None:
    desk = regional("crm", {"name": "erp", "access": "WriteOnly"})
    decision = desk.decide({"erp": desk.side("erp", x="EU", y="old")}, {"erp": desk.read("erp", x="EU", y="new")})
    assert (decision.writes, decision.findings, decision.needs) == ({}, (), frozenset())


def test_whoever_may_own_a_field_may_keep_a_record_by_an_edit_of_it() -> None:
    desk = desk_of("crm", "erp", fields={"y": {**BY_X["y"], "edits": "SystemOfRecordOnly"}})
    observed = {"erp": desk.read("erp", x="EU", y="new")}
    decision = desk.decide(desk.agreed(x="EU", y="old"), observed, deleted=frozenset({"crm"}))
    assert [finding.kind for finding in decision.findings] == [FindingKind.RECREATED]


def test_a_first_meeting_is_the_same_whoever_owns_the_field() -> None:
    desk = regional("crm", "erp", firstSync="FillEmptyOnly")
    observed = {name: desk.read(name, x="EU", y=name) for name in ("crm", "erp")}
    decision = desk.decide({name: desk.unseen(name) for name in observed}, observed)
    assert (decision.writes, decision.findings) == ({}, ())


@pytest.mark.parametrize(("x", "owner"), [("EU", "erp"), ("US", "crm"), (None, "crm")])
def test_a_new_copy_gets_what_the_owner_says(x: Value, owner: str) -> None:
    desk = regional(firstSync="FillEmptyOnly")
    sides = {name: desk.side(name, x=x, y=name) for name in ("crm", "erp")}
    copy, seen = frozenset({"shop"}), {"erp": desk.read("erp", x=x, y="erp")}
    assert desk.decide(sides, seen, create_in=copy) == Decision(needs=frozenset({"crm"}))
    decision = desk.decide(sides, {**seen, "crm": desk.read("crm", x=x, y="crm")}, create_in=copy)
    assert decision.writes["shop"].values == {"x": x, "y": owner}


def test_to_make_a_copy_without_such_a_field_nothing_is_read() -> None:
    shop = {"name": "shop", "fields": {"x": "x"}}
    desk = desk_of("crm", "erp", shop, fields={**BY_X, "x": {"systemOfRecord": "erp"}})
    sides = {name: desk.side(name, x="EU", y="old") for name in ("crm", "erp")}
    decision = desk.decide(sides, {"erp": desk.read("erp", x="EU", y="old")}, create_in=frozenset({"shop"}))
    assert decision.writes == {"shop": Write(Operation.CREATE, {"x": "EU"}, {"x": "erp"})}


# --- an owner that cannot be told ---

FAILS = "record.x > 'E'"
NULL = "a value is null or of a type that does not fit; guard it, or convert it with string(x)"
WHY_NOT = f"systemOfRecordWhen: {FAILS!r} failed: {NULL}"


def ownerless(*systems: Any, when: str = FAILS, **spec: Any) -> Desk:
    return desk_of(*systems, **spec, fields={"y": {"systemOfRecordWhen": {"when": when, "then": "erp"}}})


@pytest.mark.parametrize(
    ("when", "why"),
    [(FAILS, WHY_NOT), ("record.y", "systemOfRecordWhen: 'record.y' gives neither true nor false")],
    ids=["it fails", "it gives text"],
)
def test_a_change_waits_for_a_person_when_the_owner_cannot_be_told(when: str, why: str) -> None:
    desk = ownerless("crm", "erp", when=when)
    observed = {name: desk.read(name, x=None, y=name) for name in ("crm", "erp")}
    decision = desk.decide(desk.agreed(x=None, y="old"), observed)
    said: dict[str, Value] = {"crm": "crm", "erp": "erp"}
    assert (decision.frozen, decision.writes) == ({"y": said}, {})
    assert decision.findings == (Finding(FindingKind.FROZEN, "y", why, "", said),)


def test_every_value_is_read_before_a_field_without_an_owner_waits() -> None:
    desk = ownerless("crm", "erp")
    decision = desk.decide(desk.agreed(x=None, y="old"), {"crm": desk.read("crm", x=None, y="new")})
    assert decision == Decision(needs=frozenset({"erp"}))


def test_where_the_systems_agree_nobody_is_asked_who_owns_the_field() -> None:
    desk = ownerless("crm", "erp", {"name": "shop", "access": "WriteOnly"})
    observed = {name: desk.read(name, x=None, y="new") for name in ("crm", "erp")}
    decision = desk.decide(desk.agreed(x=None, y="old"), observed)
    assert (decision.writes, decision.frozen) == ({"shop": desk.update("crm", y="new")}, {})


def test_a_field_that_waits_already_for_want_of_an_owner_is_not_told_again() -> None:
    desk = ownerless("crm", "erp")
    observed = {"crm": desk.read("crm", x=None, y="newer"), "erp": desk.read("erp", x=None, y="old")}
    sides = {"crm": desk.side("crm", x=None, y="new"), "erp": desk.side("erp", x=None, y="old")}
    decision = desk.decide(sides, observed, frozen=frozenset({"y"}))
    assert (decision.frozen, decision.findings) == ({"y": {"crm": "newer", "erp": "old"}}, ())


def test_where_the_owner_cannot_be_told_a_new_copy_gets_what_the_other_one_says() -> None:
    desk = ownerless(firstSync="FillEmptyOnly")
    observed = {name: desk.read(name, x=None, y=name) for name in ("crm", "erp")}
    sides = {name: desk.side(name, x=None, y=name) for name in observed}
    decision = desk.decide(sides, observed, create_in=frozenset({"shop"}))
    assert decision.writes["shop"].values["y"] == "crm"


# --- what is not known of a record ---


def without_x(desk: Desk, system: str) -> dict[str, Observation]:
    """The record as it reads in a system where `x` refers to what is not known yet: its values leave that out."""
    observation = desk.read(system, x="old", y="old")
    record = msgspec.structs.replace(observation.record, values={"y": "old"})
    return {system: msgspec.structs.replace(observation, record=record)}


def test_a_field_of_which_nothing_can_be_said_now_is_as_it_was_seen() -> None:
    desk = desk_of("crm", "erp")
    observed = {**without_x(desk, "crm"), "erp": desk.read("erp", x="new", y="old")}
    decision = desk.decide(desk.agreed(x="old", y="old"), observed)
    assert decision.writes == {"crm": desk.update("erp", x="new")}


def test_a_field_of_which_nothing_was_ever_said_takes_no_part() -> None:
    desk = desk_of("crm", "erp", "shop")
    crm = without_x(desk, "crm")["crm"]
    crm = msgspec.structs.replace(crm, prints=replaced(crm.prints, {0: UNSEEN}, 2))
    sides = {**desk.agreed(x="old", y="old"), "crm": crm.side()}
    decision = desk.decide(sides, {"crm": crm, "erp": desk.read("erp", x="new", y="old")})
    assert decision.writes == {"shop": desk.update("erp", x="new")}


def test_where_it_is_not_known_who_disagreed_every_system_must_agree() -> None:
    desk = desk_of(onConflict="Manual")
    sides = {**desk.agreed(x="new", y="old"), "shop": desk.side("shop", x="old", y="old")}
    observed = {name: desk.read(name, x="new", y="old") for name in ("crm", "erp")}
    decision = desk.decide(sides, observed, frozen=frozenset({"x"}))
    assert (set(decision.frozen), decision.writes) == ({"x"}, {})


@pytest.mark.parametrize(("source", "rule"), [("x", "edit"), ({"read": "x"}, "access: ReadOnly")])
def test_a_value_that_the_editor_never_saw_is_told_with_whether_he_could(source: Any, rule: str) -> None:
    desk = desk_of({"name": "crm", "fields": {"x": source, "y": "y"}}, "erp")
    sides = {"crm": desk.side("crm", x="old", y="old"), "erp": desk.side("erp", x="erp's", y="old")}
    observed = {"crm": desk.read("crm", x="new", y="old"), "erp": desk.read("erp", x="erp's", y="old")}
    decision = desk.decide(sides, observed)
    assert decision.findings == (Finding(FindingKind.OVERWRITTEN, "x", rule, "crm", {"crm": "new", "erp": "erp's"}),)


# --- times ---


def test_a_fields_own_time_counts_before_that_of_its_record() -> None:
    desk = desk_of("crm", "erp", onConflict="LatestWins")
    observed = {name: desk.read(name, START, x=name, y="old") for name in ("crm", "erp")}
    record = msgspec.structs.replace(observed["crm"].record, times={"x": START - timedelta(hours=1)})
    observed["crm"] = msgspec.structs.replace(observed["crm"], record=record)
    decision = desk.decide(desk.agreed(x="old", y="old"), observed)
    assert decision.writes == {"crm": desk.update("erp", START, "onConflict: LatestWins", x="erp")}


def test_what_is_created_is_as_old_as_the_record_or_its_field() -> None:
    desk = desk_of("crm", {"name": "erp", "fields": {"x": "x"}})
    record = Record("1", {"x": "1", "y": "2"}, None, START, {"y": None})
    bare = Record("2", {"x": "3", "y": "4"})
    assert desk.decider.creates("crm", [record, bare], "erp") == [
        Write(Operation.CREATE, {"x": "1"}, {"x": "crm"}, {"x": START}),
        Write(Operation.CREATE, {"x": "3"}, {"x": "crm"}),
    ]


# --- a resync that enforces ---


def test_a_resync_that_enforces_writes_the_owners_value_over_all_that_differs() -> None:
    desk = desk_of("crm", "erp", firstSync="FillEmptyOnly")
    observed = {name: desk.read(name, x=name, y="old") for name in ("crm", "erp")}
    case = desk.case({name: desk.unseen(name) for name in observed}, observed)
    decision = Decider(desk.rules, PRINTS, enforces=True).decide(case)
    assert decision.writes["erp"].values == {"x": "crm"}
    assert decision.findings == (
        Finding(FindingKind.OVERWRITTEN, "x", "resync --enforce", "crm", {"crm": "crm", "erp": "erp"}),
    )
