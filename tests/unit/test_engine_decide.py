"""What a decision is made of: a person's choice, owners that depend on the record, writes that are on their way.

Three systems, `crm` (the system of record), `erp` and `shop`, hold one record with the fields `x` and `y`.
"""

from __future__ import annotations

from typing import Any

import pytest

from fairlead.engine.arbiter import CHOSEN
from fairlead.engine.case import Choice, Decision, Finding, FindingKind
from fairlead.model.record import Value
from support.simulation import Desk, spec_of

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


# --- an owner that cannot be told ---

FAILS = "record.x > 'E'"
NULL = "a value is null or of a type that does not fit; guard it, or convert it with string(x)"
WHY_NOT = f"systemOfRecordWhen: {FAILS!r} failed: {NULL}"


def ownerless(*systems: Any, when: str = FAILS) -> Desk:
    return desk_of(*systems, fields={"y": {"systemOfRecordWhen": {"when": when, "then": "erp"}}})


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
