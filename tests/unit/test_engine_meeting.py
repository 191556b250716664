"""First meetings of one field: no base is known, so a difference is no change (`firstSync`)."""

from __future__ import annotations

from typing import Any

import pytest

from fairlead.engine.case import FindingKind
from support.field import OneField, told

WRITE_ONLY = {"name": "shop", "access": "WriteOnly"}
OWNED = {"edits": "SystemOfRecordOnly"}
FILL = {"firstSync": "FillEmptyOnly"}
REVIEW = {"firstSync": "Review"}
RULE = "firstSync: SystemOfRecordWins"


def overwritten(winner: str, rule: str = RULE, **values: Any) -> list[Any]:
    """What is told of values that are lost."""
    return [told(FindingKind.OVERWRITTEN, rule, winner, **values)]


# --- what must be read ---


def test_where_nothing_was_read_there_is_nothing_to_do() -> None:
    x = OneField("crm", "erp")
    assert x.weigh(x.seen("crm", "old"), x.never_read("erp")) is None


def test_a_system_that_was_never_read_is_read_first() -> None:
    x = OneField("crm", "erp")
    assert x.weigh(x.never_read("crm"), x.met("erp", "erp's")) == {"needs": "crm"}
    assert x.weigh(x.edited("crm", "new"), x.never_read("erp")) == {"needs": "erp"}


# --- firstSync: SystemOfRecordWins ---


def test_the_owners_value_stands_wherever_it_is() -> None:
    x = OneField("crm", "erp", "shop", fields={"x": {"systemOfRecord": "erp"}})
    found = x.weigh(x.met("crm", "crm's"), x.met("erp", "erp's"), x.met("shop", None))
    assert found == {
        "stands": ("erp", "erp's"),
        "goes_to": ("crm", "shop"),
        "overwritten": {"crm"},
        "told": overwritten("erp", erp="erp's", crm="crm's"),
        "reason": RULE,
    }


def test_where_the_owner_says_nothing_the_first_filled_value_by_priority_stands() -> None:
    x = OneField(priority=["crm", "shop", "erp"])
    found = x.weigh(x.met("crm", ""), x.met("shop", "shop's"), x.met("erp", None))
    assert found == {"stands": ("shop", "shop's"), "goes_to": ("crm", "erp"), "reason": RULE}


@pytest.mark.parametrize("value", ["theirs", None])
def test_where_all_say_the_same_there_is_nothing_to_do(value: str | None) -> None:
    x = OneField("crm", "erp")
    assert x.weigh(x.met("crm", value), x.met("erp", value)) is None


def test_a_write_only_system_says_nothing_of_its_own() -> None:
    x = OneField("crm", WRITE_ONLY)
    assert x.weigh(x.met("crm", None), x.met("shop", "shop's")) is None
    assert x.weigh(x.met("crm", "crm's"), x.met("shop", "shop's")) == {
        "stands": ("crm", "crm's"),
        "goes_to": ("shop",),
        "overwritten": {"shop"},
        "told": overwritten("crm", crm="crm's", shop="shop's"),
        "reason": RULE,
    }


# --- a system that comes later ---


def test_those_that_agreed_speak_with_one_voice_and_one_of_them_is_read() -> None:
    x = OneField()
    assert x.weigh(x.seen("crm", "old"), x.seen("erp", "old"), x.met("shop", "shop's")) == {"needs": "crm"}
    assert x.weigh(x.same("crm", "old"), x.seen("erp", "old"), x.met("shop", "shop's")) == {
        "stands": ("crm", "old"),
        "goes_to": ("shop",),
        "overwritten": {"shop"},
        "told": overwritten("crm", crm="old", shop="shop's"),
        "reason": RULE,
    }


def test_they_outrank_one_that_comes_later_though_their_owner_says_nothing() -> None:
    x = OneField()
    found = x.weigh(x.same("crm", ""), x.same("erp", "old"), x.met("shop", "shop's"))
    assert found is not None
    assert (found["stands"], found["goes_to"]) == (("erp", "old"), ("shop",))


def test_where_they_say_nothing_one_that_comes_later_fills_them() -> None:
    x = OneField()
    found = x.weigh(x.seen("crm", ""), x.seen("erp", None), x.met("shop", "shop's"))
    assert found == {"stands": ("shop", "shop's"), "goes_to": ("crm", "erp"), "reason": RULE}


def test_an_owner_that_comes_later_overwrites_them_and_they_are_read_first() -> None:
    x = OneField()
    crm = x.met("crm", "crm's")
    assert x.weigh(crm, x.same("erp", "old"), x.seen("shop", "old")) == {"needs": "shop"}
    assert x.weigh(crm, x.same("erp", "old"), x.same("shop", "old")) == {
        "stands": ("crm", "crm's"),
        "goes_to": ("erp", "shop"),
        "overwritten": {"erp", "shop"},
        "told": overwritten("crm", crm="crm's", erp="old", shop="old"),
        "reason": RULE,
    }


def test_an_owner_that_comes_later_and_says_nothing_is_filled() -> None:
    x = OneField("crm", "erp")
    assert x.weigh(x.met("crm", None), x.seen("erp", "old")) == {"needs": "erp"}
    assert x.weigh(x.met("crm", None), x.same("erp", "old")) == {
        "stands": ("erp", "old"),
        "goes_to": ("crm",),
        "reason": RULE,
    }


def test_what_was_edited_among_them_is_what_they_say() -> None:
    x = OneField()
    found = x.weigh(x.edited("crm", "new"), x.seen("erp", "old"), x.met("shop", "shop's"))
    assert found == {
        "stands": ("crm", "new"),
        "goes_to": ("erp", "shop"),
        "overwritten": {"shop"},
        "told": overwritten("crm", crm="new", shop="shop's"),
        "reason": RULE,
    }


def test_what_was_edited_among_them_is_what_they_say_whoever_edited_it() -> None:
    x = OneField()
    found = x.weigh(x.seen("crm", "old"), x.edited("erp", "new"), x.met("shop", "shop's"))
    assert found is not None
    assert (found["stands"], found["goes_to"]) == (("erp", "new"), ("crm", "shop"))


def test_a_conflict_among_them_is_told_as_well() -> None:
    x = OneField()
    found = x.weigh(x.edited("crm", "crm's"), x.edited("erp", "erp's"), x.met("shop", "shop's"))
    conflict = told(FindingKind.CONFLICT, "onConflict: SystemOfRecordWins", "crm", crm="crm's", erp="erp's")
    assert found == {
        "stands": ("crm", "crm's"),
        "goes_to": ("erp", "shop"),
        "overwritten": {"shop"},
        "told": [conflict, *overwritten("crm", crm="crm's", shop="shop's")],
        "reason": RULE,
    }


def test_a_conflict_among_them_that_a_person_must_decide_waits() -> None:
    x = OneField(onConflict="Manual")
    found = x.weigh(x.edited("crm", "crm's"), x.edited("erp", "erp's"), x.met("shop", "shop's"))
    assert found is not None
    assert found["waits"] == {"crm": "crm's", "erp": "erp's"}


def test_what_was_edited_among_them_goes_on_where_the_one_that_comes_says_the_same() -> None:
    x = OneField()
    found = x.weigh(x.edited("crm", "new"), x.seen("erp", "old"), x.met("shop", "new"))
    assert found == {"stands": ("crm", "new"), "goes_to": ("erp",)}


def test_what_an_edit_overwrites_among_them_is_read_before_another_is_met() -> None:
    x = OneField()
    assert x.weigh(x.edited("crm", "new"), x.seen("erp", "erp's"), x.met("shop", "shop's")) == {"needs": "erp"}


def test_an_owner_that_comes_later_overwrites_what_was_edited_among_them() -> None:
    x = OneField()
    crm, erp = x.met("crm", "crm's"), x.edited("erp", "new")
    assert x.weigh(crm, erp, x.seen("shop", "old")) == {"needs": "shop"}
    assert x.weigh(crm, erp, x.same("shop", "old")) == {
        "stands": ("crm", "crm's"),
        "goes_to": ("erp", "shop"),
        "overwritten": {"erp", "shop"},
        "told": overwritten("crm", crm="crm's", erp="new", shop="old"),
        "reason": RULE,
    }


def test_what_was_emptied_among_them_is_filled_and_is_no_loss_that_the_guard_counts() -> None:
    x = OneField()
    found = x.weigh(x.met("crm", "crm's"), x.edited("erp", ""), x.seen("shop", "old"))
    assert found == {
        "stands": ("crm", "crm's"),
        "goes_to": ("erp", "shop"),
        "told": overwritten("crm", crm="crm's", erp=""),
        "reason": RULE,
    }


def test_what_is_kept_from_being_emptied_is_told_where_a_meeting_changes_nothing() -> None:
    x = OneField(whenEmpty="Keep")
    found = x.weigh(x.seen("crm", "old"), x.edited("erp", ""), x.met("shop", "old"))
    assert found == {"told": [told(FindingKind.KEPT, "whenEmpty: Keep", "", erp="")]}


# --- what is on its way meanwhile ---


def test_what_is_on_its_way_is_the_voice_of_those_that_agreed() -> None:
    x = OneField("crm", "erp")
    found = x.weigh(x.seen("crm", "crm's"), x.met("erp", "erp's"), undelivered={"erp": x.coming("crm", "crm's")})
    assert found == {
        "stands": ("crm", "crm's"),
        "goes_to": ("erp",),
        "overwritten": {"erp"},
        "told": overwritten("crm", crm="crm's", erp="erp's"),
        "reason": RULE,
    }


def test_the_voice_of_what_is_on_its_way_ranks_as_its_origin_does() -> None:
    x = OneField(fields={"x": {"systemOfRecord": "erp"}})
    found = x.weigh(x.met("erp", "erp's"), x.met("shop", None), undelivered={"shop": x.coming("crm", "crm's")})
    assert found == {"stands": ("erp", "erp's"), "goes_to": ("shop",), "reason": RULE}


def test_what_a_system_says_now_stands_before_what_is_on_its_way_from_it() -> None:
    x = OneField("crm", "erp")
    found = x.weigh(x.met("crm", "now"), x.met("erp", None), undelivered={"erp": x.coming("crm", "then")})
    assert found == {"stands": ("crm", "now"), "goes_to": ("erp",), "reason": RULE}


def test_what_is_on_its_way_from_an_only_editor_is_what_it_says() -> None:
    x = OneField("crm", "erp", **OWNED)
    found = x.weigh(x.seen("crm", "crm's"), x.met("erp", "erp's"), undelivered={"erp": x.coming("crm", "crm's")})
    assert found is not None
    assert (found["stands"], found["goes_to"]) == (("crm", "crm's"), ("erp",))


def test_what_is_on_its_way_is_not_written_again() -> None:
    x = OneField()
    crm, erp = x.met("crm", "crm's"), x.same("erp", "")
    found = x.weigh(crm, erp, x.seen("shop", ""), undelivered={"shop": x.coming("crm", "crm's")})
    assert found is not None
    assert found["goes_to"] == ("erp",)


@pytest.mark.parametrize(
    ("coming", "found"), [("theirs", {"stands": ("crm", "crm's"), "reason": RULE}), ("crm's", None)]
)
def test_a_copy_on_its_way_from_a_system_that_has_the_record_no_more_gets_what_is_said_now(
    coming: str, found: dict[str, Any] | None
) -> None:
    x = OneField()
    assert x.weigh(x.met("crm", "crm's"), undelivered={"shop": x.coming("erp", coming)}) == found


@pytest.mark.parametrize(
    ("there", "coming", "found"),
    [
        ("", "theirs", {"needs": "erp"}),
        ("theirs", None, {"stands": ("crm", "crm's"), "goes_to": ("erp", "shop"), "reason": RULE}),
    ],
    ids=["a value is on its way", "no value is on its way"],
)
def test_what_is_lost_in_a_system_is_what_is_on_its_way_there(
    there: str, coming: str | None, found: dict[str, Any]
) -> None:
    x = OneField()
    views = x.met("crm", "crm's"), x.seen("erp", there), x.same("shop", None)
    assert x.weigh(*views, undelivered={"erp": x.coming("shop", coming)}) == found


def test_what_was_just_read_is_lost_whatever_is_on_its_way() -> None:
    x = OneField()
    views = x.met("crm", "crm's"), x.same("erp", "theirs"), x.same("shop", None)
    assert x.weigh(*views, undelivered={"erp": x.coming("shop", None)}) == {
        "stands": ("crm", "crm's"),
        "goes_to": ("erp", "shop"),
        "overwritten": {"erp"},
        "told": overwritten("crm", crm="crm's", erp="theirs"),
        "reason": RULE,
    }


# --- a system whose edits do not count was edited meanwhile ---


@pytest.mark.parametrize("rule", ["SystemOfRecordWins", "FillEmptyOnly"])
def test_what_strayed_is_repaired_at_a_meeting_and_the_guard_does_not_count_it(rule: str) -> None:
    x = OneField("crm", "erp", WRITE_ONLY, firstSync=rule)
    found = x.weigh(x.same("crm", "old"), x.met("erp", "old"), x.edited("shop", "mine"))
    assert found == {
        "stands": ("crm", "old"),
        "goes_to": ("shop",),
        "told": overwritten("crm", f"firstSync: {rule}", crm="old", shop="mine"),
        "reason": f"firstSync: {rule}",
    }


def test_where_a_meeting_changes_nothing_what_strayed_is_repaired_as_ever() -> None:
    x = OneField("crm", "erp", WRITE_ONLY, enforces=True, systemOfRecord="erp")
    found = x.weigh(x.same("crm", "old"), x.met("erp", None), x.edited("shop", "mine"))
    assert found == {
        "stands": ("crm", "old"),
        "goes_to": ("shop",),
        "told": [told(FindingKind.REPAIRED, "access: WriteOnly", "crm", shop="mine")],
    }


def test_an_edit_repairs_what_strayed_and_meets_the_one_that_comes() -> None:
    x = OneField("crm", "erp", WRITE_ONLY)
    found = x.weigh(x.edited("crm", "new"), x.met("erp", "erp's"), x.edited("shop", "mine"))
    assert found == {
        "stands": ("crm", "new"),
        "goes_to": ("shop", "erp"),
        "overwritten": {"erp"},
        "told": [
            told(FindingKind.REPAIRED, "access: WriteOnly", "crm", shop="mine"),
            *overwritten("crm", crm="new", erp="erp's"),
        ],
        "reason": RULE,
    }


# --- firstSync: FillEmptyOnly ---


def test_fill_empty_only_fills_and_overwrites_nothing() -> None:
    x = OneField(**FILL)
    found = x.weigh(x.met("crm", "crm's"), x.met("erp", "erp's"), x.met("shop", None))
    assert found == {"stands": ("crm", "crm's"), "goes_to": ("shop",), "reason": "firstSync: FillEmptyOnly"}


def test_fill_empty_only_lets_those_that_agreed_speak_before_an_owner_that_comes_later() -> None:
    x = OneField(**FILL)
    found = x.weigh(x.met("crm", "crm's"), x.same("erp", "old"), x.met("shop", None))
    assert found == {"stands": ("erp", "old"), "goes_to": ("shop",), "reason": "firstSync: FillEmptyOnly"}


def test_fill_empty_only_leaves_an_edit_as_it_is() -> None:
    x = OneField(**FILL)
    found = x.weigh(x.edited("crm", "new"), x.seen("erp", "old"), x.met("shop", "shop's"))
    assert found == {"stands": ("crm", "new"), "goes_to": ("erp",)}


# --- resync --enforce ---


def test_enforcing_lets_only_the_owners_filled_value_stand() -> None:
    x = OneField("crm", "erp", enforces=True)
    assert x.weigh(x.met("crm", ""), x.met("erp", "erp's")) is None
    assert x.weigh(x.met("crm", "crm's"), x.met("erp", "erp's")) == {
        "stands": ("crm", "crm's"),
        "goes_to": ("erp",),
        "overwritten": {"erp"},
        "told": overwritten("crm", "resync --enforce", crm="crm's", erp="erp's"),
        "reason": "resync --enforce",
    }


def test_enforcing_takes_nothing_from_an_owner_that_is_never_a_source() -> None:
    x = OneField(
        "crm", "erp", WRITE_ONLY, enforces=True, systemOfRecord="crm", fields={"x": {"systemOfRecord": "shop"}}
    )
    assert x.weigh(x.met("crm", "crm's"), x.met("erp", "erp's"), x.met("shop", "shop's")) is None


# --- edits: SystemOfRecordOnly ---


def test_an_only_editor_that_says_nothing_is_not_filled() -> None:
    x = OneField("crm", "erp", **OWNED)
    assert x.weigh(x.met("crm", ""), x.met("erp", "erp's")) is None


def test_an_only_editor_outranks_every_other_whatever_the_priority() -> None:
    x = OneField("crm", "erp", fields={"x": {"systemOfRecord": "erp", "priority": ["crm", "erp"], **OWNED}})
    found = x.weigh(x.met("crm", "crm's"), x.same("erp", "erp's"))
    assert found == {
        "stands": ("erp", "erp's"),
        "goes_to": ("crm",),
        "overwritten": {"crm"},
        "told": overwritten("erp", erp="erp's", crm="crm's"),
        "reason": RULE,
    }


def test_an_only_editor_that_comes_later_overwrites_those_that_agreed() -> None:
    x = OneField(**OWNED)
    found = x.weigh(x.met("crm", "crm's"), x.same("erp", "old"), x.same("shop", "old"))
    assert found is not None
    assert (found["stands"], found["goes_to"]) == (("crm", "crm's"), ("erp", "shop"))


# --- firstSync: Review ---


def review(**values: Any) -> dict[str, Any]:
    """A person decides between these."""
    return {"waits": values, "told": [told(FindingKind.FROZEN, "firstSync: Review", "", **values)]}


def test_review_asks_a_person_where_those_that_are_met_differ() -> None:
    x = OneField("crm", "erp", **REVIEW)
    assert x.weigh(x.met("crm", "crm's"), x.met("erp", "erp's")) == review(crm="crm's", erp="erp's")


def test_review_asks_a_person_before_a_value_is_filled() -> None:
    x = OneField("crm", "erp", **REVIEW)
    assert x.weigh(x.met("crm", "crm's"), x.met("erp", None)) == review(crm="crm's", erp=None)


def test_review_asks_nobody_where_all_say_the_same_or_nothing() -> None:
    x = OneField("crm", "erp", **REVIEW)
    assert x.weigh(x.met("crm", "same"), x.met("erp", "same")) is None
    assert x.weigh(x.met("crm", ""), x.met("erp", None)) is None


def test_review_reads_what_those_that_agreed_say_first() -> None:
    x = OneField(**REVIEW)
    erp, shop = x.seen("erp", "old"), x.met("shop", "shop's")
    assert x.weigh(x.seen("crm", "old"), erp, shop) == {"needs": "crm"}
    assert x.weigh(x.same("crm", "old"), erp, shop) == review(shop="shop's", crm="old")


def test_review_hears_a_system_that_is_never_a_source() -> None:
    x = OneField("crm", "erp", WRITE_ONLY, **REVIEW)
    crm, erp = x.same("crm", "old"), x.met("erp", "old")
    assert x.weigh(crm, erp, x.seen("shop", "shop's")) == {"needs": "shop"}
    assert x.weigh(crm, erp, x.same("shop", "shop's")) == review(erp="old", crm="old", shop="shop's")


def test_review_does_not_hear_what_strayed_and_repairs_it() -> None:
    x = OneField("crm", "erp", WRITE_ONLY, **REVIEW)
    found = x.weigh(x.same("crm", "old"), x.met("erp", "old"), x.edited("shop", "mine"))
    assert found == {
        "stands": ("crm", "old"),
        "goes_to": ("shop",),
        "told": [told(FindingKind.REPAIRED, "access: WriteOnly", "crm", shop="mine")],
    }


def test_review_does_not_hear_what_an_edit_replaces() -> None:
    x = OneField(**REVIEW)
    found = x.weigh(x.edited("crm", "new"), x.seen("erp", "old"), x.met("shop", "new"))
    assert found == {"stands": ("crm", "new"), "goes_to": ("erp",)}


def test_review_of_a_value_of_no_system_lets_whoever_reads_the_field_compete() -> None:
    x = OneField(**REVIEW)
    crm, erp, shop = x.met("crm", "crm's"), x.seen("erp", "old"), x.same("shop", "old")
    coming = {"erp": x.coming("(merged)", "merged")}
    assert x.weigh(crm, erp, shop, undelivered=coming) == {"needs": "erp"}
    found = x.weigh(crm, x.same("erp", "old"), shop, undelivered=coming)
    assert found == review(crm="crm's", **{"(merged)": "merged"}, erp="old", shop="old")


def test_review_of_systems_of_which_none_is_a_source_hears_those_alone() -> None:
    x = OneField("crm", WRITE_ONLY, **REVIEW)
    assert x.weigh(x.met("shop", "shop's")) is None
