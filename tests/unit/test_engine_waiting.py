"""One field that waits for a person: what ends it, and what is still to be read or told."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from fairlead.engine.case import FindingKind
from support.field import OneField, told
from support.simulation import START

WRITE_ONLY = {"name": "shop", "access": "WriteOnly"}
OWNED = {"edits": "SystemOfRecordOnly"}
REVIEW = {"firstSync": "Review"}


def waiting(x: OneField, *views: Any, competing: set[str] | None = None) -> dict[str, Any] | None:
    """It waits since `crm` and `erp` disagreed."""
    return x.weigh(*views, frozen=True, competing=competing if competing is not None else {"crm", "erp"})


def test_it_waits_while_those_who_competed_disagree() -> None:
    x = OneField(onConflict="Manual")
    found = waiting(x, x.same("crm", "crm's"), x.seen("erp", "erp's"), x.seen("shop", "crm's"))
    assert found == {"waits": {"crm": "crm's"}}


def test_it_ends_when_they_agree_and_says_so() -> None:
    x = OneField(onConflict="Manual")
    found = waiting(x, x.same("crm", "crm's"), x.edited("erp", "crm's", before="erp's"), x.same("shop", "old"))
    values = {"crm": "crm's", "erp": "crm's", "shop": "old"}
    assert found == {
        "stands": ("crm", "crm's"),
        "goes_to": ("shop",),
        "told": [told(FindingKind.RESOLVED, "agreement", "crm", **values)],
    }


def test_an_owner_that_says_nothing_ends_nothing_where_nothing_overwrites_nothing() -> None:
    x = OneField(whenEmpty="Keep")
    edits = [x.edited(name, f"{name}'s", before="old") for name in ("erp", "shop")]
    found = waiting(x, x.same("crm", None), *edits, competing={"crm", "erp", "shop"})
    assert found is not None
    assert (found["stands"], found["goes_to"]) == (("erp", "erp's"), ("crm", "shop"))


def test_the_value_they_agree_on_comes_from_one_that_was_read() -> None:
    x = OneField("crm", "erp", onConflict="Manual")
    found = waiting(x, x.seen("crm", "crm's"), x.edited("erp", "crm's", before="erp's"))
    assert found == {
        "stands": ("erp", "crm's"),
        "told": [told(FindingKind.RESOLVED, "agreement", "erp", erp="crm's")],
    }


def test_what_their_agreement_overwrites_is_read_first() -> None:
    x = OneField(onConflict="Manual")
    found = waiting(x, x.same("crm", "crm's"), x.same("erp", "crm's"), x.seen("shop", "old"))
    assert found == {"needs": "shop"}


def test_another_that_is_edited_meanwhile_competes_too() -> None:
    x = OneField(onConflict="Manual")
    found = waiting(x, x.same("crm", "crm's"), x.same("erp", "crm's"), x.edited("shop", "shop's"))
    assert found == {"waits": {"crm": "crm's", "erp": "crm's", "shop": "shop's"}}


def test_without_a_memory_of_who_competed_all_must_agree() -> None:
    x = OneField(onConflict="Manual")
    views = x.same("crm", "crm's"), x.same("erp", "crm's"), x.same("shop", "old")
    assert waiting(x, *views, competing=set()) == {"waits": {"crm": "crm's", "erp": "crm's", "shop": "old"}}


def test_where_nobody_is_left_who_competed_all_must_agree() -> None:
    x = OneField("crm", "erp", onConflict="Manual")
    found = waiting(x, x.same("crm", "crm's"), x.same("erp", "erp's"), competing={"gone"})
    assert found == {"waits": {"crm": "crm's", "erp": "erp's"}}


def test_where_the_record_is_nowhere_any_more_it_ends() -> None:
    x = OneField(onConflict="Manual")
    assert waiting(x) == {"told": [told(FindingKind.RESOLVED, "agreement", "")]}


def test_an_edit_that_does_not_count_does_not_keep_it_waiting() -> None:
    x = OneField("crm", "erp", WRITE_ONLY, onConflict="Manual")
    found = waiting(x, x.same("crm", "crm's"), x.same("erp", "crm's"), x.edited("shop", "mine"))
    values = {"crm": "crm's", "erp": "crm's", "shop": "mine"}
    assert found == {
        "stands": ("crm", "crm's"),
        "goes_to": ("shop",),
        "told": [
            told(FindingKind.RESOLVED, "agreement", "crm", **values),
        ],
    }


def test_it_ends_where_the_policy_names_an_only_editor_by_now() -> None:
    x = OneField("crm", "erp", **OWNED)
    found = waiting(x, x.same("crm", "crm's"), x.same("erp", "erp's"))
    assert found == {
        "stands": ("crm", "crm's"),
        "goes_to": ("erp",),
        "told": [told(FindingKind.RESOLVED, "edits: SystemOfRecordOnly", "crm", crm="crm's", erp="erp's")],
    }


def test_the_agreement_of_others_does_not_count_against_an_only_editor() -> None:
    x = OneField(**OWNED)
    found = waiting(x, x.same("crm", "crm's"), x.same("erp", "erp's"), x.same("shop", "erp's"), competing={"erp"})
    assert found is not None
    assert (found["stands"], found["goes_to"]) == (("crm", "crm's"), ("erp", "shop"))


def test_the_only_editors_value_is_read_before_it_is_restored() -> None:
    x = OneField("crm", "erp", **OWNED)
    assert waiting(x, x.seen("crm", "crm's"), x.same("erp", "erp's")) == {"needs": "crm"}


def test_it_ends_where_a_rule_decides_by_now_once_all_are_read() -> None:
    x = OneField("crm", "erp", onConflict="Priority", priority=["erp", "crm"])
    assert waiting(x, x.same("crm", "crm's"), x.seen("erp", "erp's")) == {"needs": "erp"}
    assert waiting(x, x.same("crm", "crm's"), x.same("erp", "erp's")) == {
        "stands": ("erp", "erp's"),
        "goes_to": ("crm",),
        "told": [told(FindingKind.RESOLVED, "onConflict: Priority", "erp", crm="crm's", erp="erp's")],
    }


def test_the_latest_wins_by_when_it_is_read_again() -> None:
    x = OneField("crm", "erp", onConflict="LatestWins")
    later = x.edited("erp", "erp's", at=START + timedelta(minutes=1))
    found = waiting(x, x.edited("crm", "crm's", at=START), later)
    assert found is not None
    assert (found["stands"], found["told"][0].rule) == (("erp", "erp's"), "onConflict: LatestWins")


def test_all_who_competed_are_read_though_one_says_what_another_does() -> None:
    x = OneField(onConflict="LatestWins")
    views = x.same("crm", "crm's"), x.same("erp", "erp's"), x.seen("shop", "crm's")
    assert waiting(x, *views, competing={"crm", "erp", "shop"}) == {"needs": "shop"}


def test_no_value_that_they_agree_on_empties_nothing_where_empty_values_are_kept() -> None:
    x = OneField(onConflict="Manual", whenEmpty="Keep")
    found = waiting(x, x.same("crm", ""), x.same("erp", ""), x.same("shop", "old"))
    assert found == {
        "stands": ("crm", ""),
        "told": [told(FindingKind.RESOLVED, "agreement", "crm", crm="", erp="", shop="old")],
    }


def test_it_waits_on_where_the_rule_of_now_cannot_decide_either() -> None:
    x = OneField("crm", "erp", onConflict="Expression", onConflictExpression="values.nobody")
    found = waiting(x, x.same("crm", "crm's"), x.same("erp", "erp's"))
    assert found == {"waits": {"crm": "crm's", "erp": "erp's"}}


def test_a_merge_needs_old_values_so_it_waits_on() -> None:
    x = OneField("crm", "erp", onConflict="Merge")
    assert waiting(x, x.same("crm", "crm's"), x.seen("erp", "erp's")) == {"waits": {"crm": "crm's"}}


# --- firstSync: Review ---


def test_what_is_reviewed_waits_for_a_system_that_is_met_though_it_is_never_a_source() -> None:
    x = OneField("crm", WRITE_ONLY, **REVIEW)
    found = waiting(x, x.same("crm", "crm's"), x.met("shop", "shop's"), competing={"crm"})
    assert found == {"waits": {"crm": "crm's", "shop": "shop's"}}


def test_what_is_reviewed_waits_for_a_system_that_competed_though_it_is_never_a_source() -> None:
    x = OneField("crm", WRITE_ONLY, **REVIEW)
    found = waiting(x, x.same("crm", "crm's"), x.same("shop", "shop's"), competing={"crm", "shop"})
    assert found == {"waits": {"crm": "crm's", "shop": "shop's"}}


def test_what_is_reviewed_does_not_wait_for_a_system_that_never_competed() -> None:
    x = OneField("crm", "erp", WRITE_ONLY, **REVIEW)
    found = waiting(x, x.same("crm", "new"), x.same("erp", "new"), x.same("shop", "shop's"))
    values = {"crm": "new", "erp": "new", "shop": "shop's"}
    assert found == {
        "stands": ("crm", "new"),
        "goes_to": ("shop",),
        "told": [told(FindingKind.RESOLVED, "agreement", "crm", **values)],
    }


def test_what_is_reviewed_is_decided_by_no_rule() -> None:
    x = OneField("crm", "erp", **REVIEW)
    assert waiting(x, x.same("crm", "crm's"), x.same("erp", "erp's")) == {"waits": {"crm": "crm's", "erp": "erp's"}}


def test_what_is_reviewed_waits_though_it_has_an_only_editor() -> None:
    x = OneField("crm", "erp", **REVIEW, **OWNED)
    assert waiting(x, x.same("crm", "crm's"), x.same("erp", "erp's")) == {"waits": {"crm": "crm's", "erp": "erp's"}}


# --- a system that is met while it waits ---


def test_a_filled_value_that_is_met_meanwhile_competes_under_every_rule_of_a_first_meeting() -> None:
    for first_sync in ("SystemOfRecordWins", "FillEmptyOnly", "Review"):
        x = OneField(onConflict="Manual", firstSync=first_sync)
        found = waiting(x, x.same("crm", "one"), x.edited("erp", "one", before="two"), x.met("shop", "shop's"))
        assert found == {"waits": {"crm": "one", "erp": "one", "shop": "shop's"}}


def test_it_ends_when_what_was_met_agrees_too() -> None:
    x = OneField("crm", "erp2", onConflict="Manual")
    found = waiting(x, x.same("crm", "one"), x.met("erp2", "one"), competing={"crm", "erp"})
    assert found == {
        "stands": ("crm", "one"),
        "told": [told(FindingKind.RESOLVED, "agreement", "crm", crm="one", erp2="one")],
    }


def test_an_empty_value_that_is_met_meanwhile_is_filled_by_the_agreement() -> None:
    x = OneField(onConflict="Manual")
    found = waiting(x, x.same("crm", "one"), x.edited("erp", "one", before="two"), x.met("shop", None))
    assert found is not None
    assert (found["stands"], found["goes_to"]) == (("crm", "one"), ("shop",))


def test_what_a_rule_overwrites_where_it_was_just_met_is_for_the_guard() -> None:
    x = OneField(onConflict="Priority", priority=["erp", "crm", "shop"])
    found = waiting(x, x.same("crm", "one"), x.same("erp", "two"), x.met("shop", "shop's"))
    values = {"erp": "two", "crm": "one", "shop": "shop's"}
    assert found == {
        "stands": ("erp", "two"),
        "goes_to": ("crm", "shop"),
        "overwritten": {"shop"},
        "told": [told(FindingKind.RESOLVED, "onConflict: Priority", "erp", **values)],
    }


def test_what_is_overwritten_where_edits_do_not_count_and_it_was_just_met_is_for_the_guard() -> None:
    x = OneField("crm", "erp", WRITE_ONLY, onConflict="Manual")
    found = waiting(x, x.same("crm", "one"), x.edited("erp", "one", before="two"), x.met("shop", "shop's"))
    assert found is not None
    assert (found["goes_to"], found["overwritten"]) == (("shop",), {"shop"})
