"""Writes that are on their way: what they may have done, what replaces them, and which are not wanted any more.

`crm` (the system of record), `erp` and where it is named `shop` hold one record with the fields `x` and `y`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from fairlead.engine.case import Decision, FindingKind, Operation, Side, Write
from fairlead.model.record import Value
from support.simulation import START, Desk, spec_of

HOUR = timedelta(hours=1)


def desk_of(*systems: Any, **spec: Any) -> Desk:
    return Desk(spec_of(systems or ("crm", "erp"), **spec))


def sides_of(desk: Desk, **x: Value) -> dict[str, Side]:
    """Every system was last seen with its own `x`, and the same `y`."""
    return {system: desk.side(system, x=value, y="old") for system, value in x.items()}


def kinds(decision: Decision) -> list[FindingKind]:
    return [finding.kind for finding in decision.findings]


# --- what may have arrived ---


@pytest.mark.parametrize("values", [{"x": "2"}, {"y": "new"}], ids=["replaced", "not written any more"])
def test_a_value_that_was_on_its_way_before_is_no_edit(values: dict[str, Value]) -> None:
    desk = desk_of()
    write = msgspec.structs.replace(desk.update("crm", **values), earlier={"x": (desk.print_of("x", "1"),)})
    observed = {"erp": desk.read("erp", x="1", y="old")}
    decision = desk.decide(sides_of(desk, crm="2", erp="old"), observed, pending={"erp": write})
    assert (decision.writes, decision.findings) == ({"erp": write}, ())


def test_a_value_that_arrived_is_no_rival_of_a_newer_one() -> None:
    desk = desk_of()
    observed = {"crm": desk.read("crm", x="newer", y="old"), "erp": desk.read("erp", x="new", y="old")}
    pending = {"erp": desk.update("crm", x="new")}
    decision = desk.decide(sides_of(desk, crm="new", erp="old"), observed, pending=pending)
    assert (decision.writes["erp"].values, decision.findings) == ({"x": "newer"}, ())


@pytest.mark.parametrize(("sent", "read"), [({"shop"}, {"shop"}), (set(), set())], ids=["sent", "not sent"])
def test_what_may_have_arrived_is_read_before_a_conflict_drops_it(sent: set[str], read: set[str]) -> None:
    desk = desk_of("crm", "erp", {"name": "shop", "access": "WriteOnly"}, onConflict="Manual")
    observed = {"crm": desk.read("crm", x="crm's", y="old"), "erp": desk.read("erp", x="erp's", y="old")}
    sides, pending = sides_of(desk, crm="new", erp="new", shop="old"), {"shop": desk.update("crm", x="new")}
    decision = desk.decide(sides, observed, pending=pending, unsure=frozenset(sent))
    assert (decision.needs, decision.frozen.keys()) == (read, set() if read else {"x"})


def test_an_edit_goes_along_with_what_is_on_its_way() -> None:
    desk = desk_of()
    observed = {"crm": desk.read("crm", x="new", y="new")}
    sides = {"crm": desk.side("crm", x="old", y="new"), "erp": desk.side("erp", x="old", y="old")}
    decision = desk.decide(sides, observed, pending={"erp": desk.update("crm", y="new")})
    assert decision.writes == {"erp": desk.update("crm", y="new", x="new")}


def test_an_edit_of_another_field_than_what_is_on_its_way_spreads() -> None:
    desk = desk_of()
    write = desk.update("crm", y="new")
    observed = {"erp": desk.read("erp", x="erp's", y="old")}
    decision = desk.decide(sides_of(desk, crm="old", erp="old"), observed, pending={"erp": write})
    assert decision.writes == {"crm": desk.update("erp", x="erp's"), "erp": write}


@pytest.mark.parametrize(
    ("unsure", "told"), [(frozenset({"erp"}), []), (frozenset(), [FindingKind.CONFLICT])], ids=["sent", "not sent"]
)
def test_what_a_system_made_of_a_value_whose_answer_was_lost_is_no_edit(
    unsure: frozenset[str], told: list[FindingKind]
) -> None:
    desk = desk_of()
    write = desk.update("crm", x="A long name")
    observed = {"erp": desk.read("erp", x="A long", y="old")}
    sides = sides_of(desk, crm="A long name", erp="old")
    decision = desk.decide(sides, observed, pending={"erp": write}, unsure=unsure)
    assert (list(decision.writes), kinds(decision)) == (["erp"], told)


@pytest.mark.parametrize(("hours", "winner"), [(-1, "erp"), (1, "crm")])
def test_a_value_on_its_way_is_as_old_as_its_edit(hours: int, winner: str) -> None:
    desk = desk_of(onConflict="LatestWins")
    pending = {"erp": desk.update("crm", START - HOUR + hours * HOUR / 2, x="crm's")}
    observed = {"erp": desk.read("erp", START - HOUR, x="erp's", y="old")}
    decision = desk.decide(sides_of(desk, crm="crm's", erp="old"), observed, pending=pending)
    assert decision.findings[0].winner == winner


# --- what replaces it ---


def replaced(desk: Desk, value: Value, *earlier: Value, unsure: bool = False) -> Write:
    """The write to `erp` once `crm` says `value`, where "first" was on its way, and `earlier` ones before it."""
    before = {"x": tuple(desk.print_of("x", it) for it in earlier)} if earlier else {}
    write = msgspec.structs.replace(desk.update("crm", x="first"), earlier=before)
    decision = desk.decide(
        sides_of(desk, crm="first", erp="old"),
        {"crm": desk.read("crm", x=value, y="old")},
        pending={"erp": write},
        unsure=frozenset({"erp"} if unsure else ()),
        bases={"x": {desk.print_of("x", it): it for it in ("first", "old")}},
    )
    assert decision.writes["erp"].values == {"x": value}
    return decision.writes["erp"]


@pytest.mark.parametrize(
    ("value", "earlier", "remembered"),
    [
        ("second", (), ("first",)),
        ("second", ("zero",), ("zero", "first")),
        ("zero", ("zero",), ("first",)),
        ("second", tuple("12345678"), (*"2345678", "first")),
    ],
    ids=["one", "several", "what is written now is no earlier value", "no more than eight"],
)
def test_what_was_on_its_way_is_remembered_when_it_is_replaced(
    value: str, earlier: tuple[str, ...], remembered: tuple[str, ...]
) -> None:
    desk = desk_of()
    prints = tuple(desk.print_of("x", it) for it in remembered)
    assert replaced(desk, value, *earlier).earlier == {"x": prints}


@pytest.mark.parametrize("unsure", [True, False])
def test_it_is_remembered_whether_a_replaced_value_may_have_arrived(unsure: bool) -> None:
    assert replaced(desk_of(), "second", unsure=unsure).unsure == (("x",) if unsure else ())


@pytest.mark.parametrize("unsure", [True, False])
def test_for_a_merge_a_replaced_value_is_remembered_only_where_it_was_sent(unsure: bool) -> None:
    desk = desk_of(fields={"x": {"onConflict": "Merge"}})
    known = {"x": (desk.print_of("x", "first"),)} if unsure else {}
    assert replaced(desk, "second", unsure=unsure).earlier == known


def test_a_create_that_waits_gets_the_newest_value_and_no_earlier_one() -> None:
    desk = desk_of("crm", "shop")
    create = Write(Operation.CREATE, {"x": "first", "y": "old"}, {"x": "crm", "y": "crm"})
    observed = {"crm": desk.read("crm", x="second", y="old")}
    decision = desk.decide(sides_of(desk, crm="first"), observed, pending={"shop": create})
    assert decision.writes == {"shop": msgspec.structs.replace(create, values={"x": "second", "y": "old"})}


# --- what is still wanted ---


def test_what_arrived_of_a_write_is_not_written_again() -> None:
    desk = desk_of()
    observed = {"erp": desk.read("erp", x="new", y="old")}
    pending = {"erp": desk.update("crm", x="new", y="new")}
    decision = desk.decide({"crm": desk.side("crm", x="new", y="new"), "erp": desk.side("erp", x="old", y="old")},
                           observed, pending=pending)  # fmt: skip
    assert decision.writes == {"erp": desk.update("crm", y="new")}


def test_a_value_that_was_overtaken_is_not_written_where_the_newer_one_is_already() -> None:
    desk = desk_of()
    observed = {name: desk.read(name, x="second", y="old") for name in ("crm", "erp")}
    pending = {"erp": desk.update("crm", x="first")}
    assert desk.decide(sides_of(desk, crm="first", erp="old"), observed, pending=pending).writes == {}


@pytest.mark.parametrize(("value", "written"), [("", False), ("new", True)], ids=["no value", "a value"])
def test_no_value_on_its_way_does_not_empty_what_is_kept(value: Value, written: bool) -> None:
    desk = desk_of(whenEmpty="Keep")
    write = desk.update("crm", x=value)
    observed = {"erp": desk.read("erp", x="filled", y="new")}
    decision = desk.decide(sides_of(desk, crm=value, erp="filled"), observed, pending={"erp": write})
    assert decision.writes.get("erp") == (write if written else None)


def test_what_was_on_its_way_to_a_system_that_takes_no_part_is_dropped_and_the_rest_goes_on() -> None:
    desk = desk_of("crm", "erp", "shop", "web")
    create = Write(Operation.CREATE, {"x": "new", "y": "old"}, {"x": "crm", "y": "crm"})
    update = desk.update("crm", x="new")
    pending = {"gone": update, "erp": update, "web": create, "shop": update}
    decision = desk.decide(
        sides_of(desk, crm="new", erp="old", shop="old"),
        {"crm": desk.read("crm", x="new", y="old")},
        pending=pending,
        away=frozenset({"erp"}),
    )
    assert decision.writes == {"web": create, "shop": update}


def test_what_is_on_its_way_goes_on_to_a_system_where_the_record_is_back() -> None:
    desk = desk_of()
    update, erp = desk.update("crm", x="new"), frozenset({"erp"})
    observed = {"erp": desk.read("erp", x="old", y="old")}
    decision = desk.decide(sides_of(desk, crm="new", erp="old"), observed, pending={"erp": update}, away=erp)
    assert (decision.writes, decision.away) == ({"erp": update}, frozenset())


def test_a_create_of_what_turned_up_is_a_first_meeting() -> None:
    desk = desk_of("crm", "shop")
    create = Write(Operation.CREATE, {"x": "new", "y": "old"}, {"x": "crm", "y": "crm"})
    observed = {name: desk.read(name, x=x, y="old") for name, x in {"crm": "new", "shop": "shop's"}.items()}
    decision = desk.decide(sides_of(desk, crm="new"), observed, pending={"shop": create})
    assert (decision.writes["shop"].operation, decision.writes["shop"].guarded) == (Operation.UPDATE, ("x",))


# --- what is created ---


def test_a_record_is_created_only_where_it_is_not_and_where_something_of_it_may_be_written() -> None:
    desk = desk_of("crm", {"name": "calc", "fields": {"x": {"read": "x"}}}, "erp", "shop")
    create_in = frozenset({"calc", "erp", "shop"})
    observed = {"crm": desk.read("crm", x="old", y="old")}
    decision = desk.decide(sides_of(desk, crm="old", erp="old"), observed, create_in=create_in)
    assert decision.writes == {"shop": Write(Operation.CREATE, {"x": "old", "y": "old"}, {"x": "crm", "y": "crm"})}


def test_every_owner_is_read_before_a_record_is_created() -> None:
    desk = desk_of("crm", "erp", "pim", {"name": "shop", "fields": {"x": "x"}}, {"name": "web", "fields": {"y": "y"}},
                   fields={"x": {"systemOfRecord": "erp"}, "y": {"systemOfRecord": "pim"}})  # fmt: skip
    decision = desk.decide(
        sides_of(desk, crm="old", erp="old", pim="old"),
        {"crm": desk.read("crm", x="old", y="old")},
        create_in=frozenset({"shop", "web"}),
    )
    assert decision == Decision(needs=frozenset({"erp", "pim"}))


def test_a_new_copy_gets_what_is_on_its_way_elsewhere() -> None:
    desk = desk_of("crm", "erp", {"name": "shop", "fields": {"x": "x"}})
    write = desk.update("crm", x="new")
    observed = {"erp": desk.read("erp", x="old", y="old")}
    decision = desk.decide(
        sides_of(desk, crm="new", erp="old"), observed, pending={"erp": write}, create_in=frozenset({"shop"})
    )
    assert decision.writes == {"erp": write, "shop": Write(Operation.CREATE, {"x": "new"}, {"x": "crm"})}
