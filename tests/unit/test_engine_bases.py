"""Which old values are kept: of fields whose rule needs them, as long as some system still shows them."""

from __future__ import annotations

from typing import Any

from fairlead.engine.case import Observation
from fairlead.model.record import Value
from support.simulation import Desk, spec_of

MERGED = {"x": {"onConflict": "Merge"}}
SHOP = {"name": "shop", "access": "WriteOnly"}


def desk_of(*systems: Any, **spec: Any) -> Desk:
    return Desk(spec_of(systems or ("crm", "erp"), **{"fields": MERGED, **spec}))


def kept(desk: Desk, *values: Value) -> dict[str, dict[bytes, Value]]:
    """Old values of `x`."""
    return {"x": {desk.print_of("x", value): value for value in values}}


def read(desk: Desk, system: str, x: Value) -> dict[str, Observation]:
    return {system: desk.read(system, x=x, y="y")}


def test_the_values_of_a_field_that_is_merged_are_kept_and_no_others() -> None:
    desk = desk_of()
    decision = desk.decide(desk.agreed(x="old", y="y"), read(desk, "crm", "new"), bases=kept(desk, "old"))
    assert decision.bases == kept(desk, "old", "new")


def test_a_value_that_no_system_shows_any_more_is_dropped() -> None:
    desk = desk_of()
    sides = {"crm": desk.side("crm", x="new", y="y"), "erp": desk.side("erp", x="old", y="y")}
    decision = desk.decide(sides, read(desk, "erp", "new"), bases=kept(desk, "new", "old"))
    assert decision.bases == kept(desk, "new")


def test_where_the_rules_need_no_old_value_none_is_kept() -> None:
    desk = desk_of(fields={})
    decision = desk.decide(desk.agreed(x="old", y="y"), read(desk, "crm", "new"), bases=kept(desk, "old"))
    assert (desk.decider.bases.fields, decision.bases) == ((), {})


def test_values_of_a_system_whose_changes_do_not_count_are_not_kept() -> None:
    desk = desk_of("crm", SHOP)
    sides = {"crm": desk.side("crm", x="old", y="y"), "shop": desk.side("shop", x="shop's", y="y")}
    decision = desk.decide(sides, read(desk, "shop", "shop's"), bases=kept(desk, "old", "shop's"))
    assert decision.bases == kept(desk, "old")


def test_of_a_system_that_has_not_the_field_nothing_is_kept() -> None:
    desk = desk_of("crm", {"name": "erp", "fields": {"y": "y"}})
    bases = desk.decider.bases.kept({}, desk.agreed(x="old", y="y"), {"erp": {"x": "old", "y": "y"}})
    assert bases == {}


def test_what_was_never_seen_has_no_old_value() -> None:
    desk = desk_of()
    bases = desk.decider.bases.kept(kept(desk, "old"), {"crm": desk.unseen("crm")}, {"crm": {"x": "old"}})
    assert bases == {}


def test_an_old_value_that_is_not_known_is_not_made_up() -> None:
    desk = desk_of()
    bases = desk.decider.bases.kept({}, desk.agreed(x="old", y="y"), {"erp": {"y": "y"}})
    assert bases == {}


def test_each_field_has_its_own_old_values() -> None:
    desk = desk_of(fields={"x": {"onConflict": "Merge"}, "y": {"onConflict": "Merge"}})
    bases = desk.decider.bases.kept({}, desk.agreed(x="same", y="same"), {"crm": {"x": "same", "y": "same"}})
    assert bases == {name: {desk.print_of(name, "same"): "same"} for name in ("x", "y")}


def test_old_values_are_kept_while_the_record_is_to_end_elsewhere() -> None:
    desk = desk_of()
    decision = desk.decide(desk.agreed(x="old", y="y"), deleted=frozenset({"crm"}), bases=kept(desk, "old"))
    assert decision.bases == kept(desk, "old")
