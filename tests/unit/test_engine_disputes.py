"""Conflicts of one field: what comes of them, and what is left to a person (each rule is in `test_engine_rules.py`)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from fairlead.engine.case import FindingKind
from support.field import OneField, outcome, told
from support.simulation import START

READ_ONLY = {"name": "erp", "access": "ReadOnly"}
WRITE_ONLY = {"name": "shop", "access": "WriteOnly"}
TAGS = {"type": "array", "items": {"type": "string"}, "uniqueItems": True}
HOUR = timedelta(hours=1)


# --- whose value stands ---


@pytest.mark.parametrize(("at", "winner"), [(START - HOUR, "crm"), (START + HOUR / 60, "erp")])
def test_the_latest_wins_over_what_is_on_its_way_only_where_it_is_later(at: Any, winner: str) -> None:
    x = OneField("crm", "erp", onConflict="LatestWins", priority=["erp", "crm"])
    coming = x.judge.pending_view("crm", "crm's", START)
    found = x.weigh(x.edited("erp", "erp's", at=at), x.seen("crm", "crm's"), undelivered={"erp": coming})
    assert found is not None
    assert [(f.rule, f.winner) for f in found["told"]] == [("onConflict: LatestWins", winner)]


def test_a_clock_that_is_ahead_is_told() -> None:
    x = OneField("crm", "erp", onConflict="LatestWins")
    found = x.weigh(x.edited("crm", "crm's", at=START), x.edited("erp", "erp's", at=START + HOUR))
    rule = "onConflict: LatestWins, by priority: the clock of erp is more than 5 minutes ahead"
    assert found is not None
    assert found["told"] == [told(FindingKind.CONFLICT, rule, "crm", crm="crm's", erp="erp's")]


def test_a_conflict_and_what_strayed_are_both_told() -> None:
    x = OneField("crm", "erp", WRITE_ONLY)
    found = x.weigh(x.edited("crm", "crm's"), x.edited("erp", "erp's"), x.edited("shop", "mine"))
    assert found == {
        "stands": ("crm", "crm's"),
        "goes_to": ("erp", "shop"),
        "told": [
            told(FindingKind.CONFLICT, "onConflict: SystemOfRecordWins", "crm", crm="crm's", erp="erp's"),
            told(FindingKind.REPAIRED, "access: WriteOnly", "crm", shop="mine"),
        ],
    }


# --- merges ---


def merging(*systems: Any) -> OneField:
    return OneField(*systems, kind=TAGS, onConflict="Merge")


def test_edits_are_merged_and_what_comes_of_it_goes_to_all() -> None:
    x = merging()
    found = x.weigh(
        x.edited("crm", ["a", "c"], before=["a"]),
        x.edited("erp", ["a", "e"], before=["a"]),
        x.seen("shop", ["a"]),
        bases={x.judge.print_of(["a"]): ["a"]},
    )
    values = {"crm": ["a", "c"], "erp": ["a", "e"], "(merged)": ["a", "c", "e"]}
    assert found == {
        "stands": ("(merged)", ["a", "c", "e"]),
        "goes_to": ("crm", "erp", "shop"),
        "told": [told(FindingKind.CONFLICT, "onConflict: Merge", "(merged)", **values)],
    }


def test_an_edit_of_a_writable_system_has_seen_the_others_and_is_not_merged_with_them() -> None:
    x = merging("crm", "erp")
    found = x.weigh(x.same("crm", ["c"]), x.edited("erp", ["a", "e"], before=["a"]))
    assert found == {
        "stands": ("erp", ["a", "e"]),
        "goes_to": ("crm",),
        "told": [told(FindingKind.OVERWRITTEN, "edit", "erp", erp=["a", "e"], crm=["c"])],
    }


def test_an_edit_of_a_read_only_system_is_merged_with_what_the_others_say() -> None:
    x = merging("crm", READ_ONLY)
    edit = x.edited("erp", ["a", "e"], before=["a"])
    found = x.weigh(x.same("crm", ["a", "c"]), edit, bases={x.judge.print_of(["a"]): ["a"]})
    values = {"erp": ["a", "e"], "crm": ["a", "c"], "(merged)": ["a", "c", "e"]}
    assert found == {
        "stands": ("(merged)", ["a", "c", "e"]),
        "goes_to": ("crm", "erp"),
        "told": [told(FindingKind.CONFLICT, "onConflict: Merge", "(merged)", **values)],
    }


def test_what_an_edit_of_a_read_only_system_is_merged_with_is_read_first() -> None:
    x = merging("crm", READ_ONLY)
    found = x.weigh(x.seen("crm", ["a", "c"]), x.edited("erp", ["a", "e"], before=["a"]))
    assert found == {"needs": "crm"}


def test_what_the_others_say_is_not_what_the_edited_system_says_itself() -> None:
    x = merging({"name": "crm", "access": "ReadOnly"}, "erp")
    edit = x.edited("crm", ["a", "c"], before=["a"])
    found = x.weigh(edit, x.same("erp", ["a", "e"]), bases={x.judge.print_of(["a"]): ["a"]})
    assert found is not None
    assert (found["stands"], found["goes_to"]) == (("(merged)", ["a", "c", "e"]), ("crm", "erp"))


def test_what_the_others_say_is_what_is_on_its_way_to_them() -> None:
    x = merging("crm", READ_ONLY, "shop")
    found = x.weigh(
        x.seen("crm", ["a", "c"]),
        x.edited("erp", ["a", "e"], before=["a"]),
        x.seen("shop", ["a"]),
        undelivered={"shop": x.coming("crm", ["a", "c"])},
        bases={x.judge.print_of(["a"]): ["a"]},
    )
    assert found is not None
    assert (found["stands"], found["goes_to"]) == (("(merged)", ["a", "c", "e"]), ("crm", "erp", "shop"))


def test_a_count_is_not_summed_where_it_may_be_in_what_was_read_already() -> None:
    x = OneField("crm", "erp", kind={"type": "integer"}, onConflict="Merge", fields={"x": {"merge": "Delta"}})
    views = x.seen("crm", 12), x.edited("erp", 15, before=10)
    asked = {"undelivered": {"erp": x.coming("crm", 12)}, "bases": {x.judge.print_of(10): 10}}
    sure, unsure = x.weigh(*views, **asked), x.weigh(*views, **asked, unsure={"erp"})
    assert sure is not None
    assert sure["stands"] == ("(merged)", 17)
    why = "onConflict: Merge: the answer to an earlier write to erp was lost, so its count is not sure"
    assert unsure == {"waits": {"erp": 15, "crm": 12}, "told": [told(FindingKind.FROZEN, why, "", erp=15, crm=12)]}


@pytest.mark.parametrize("others", [["a"], ["a", "e"]], ids=["as before the edit", "as the edit"])
def test_an_edit_of_a_read_only_system_spreads_where_the_others_say_nothing_else(others: list[str]) -> None:
    x = merging("crm", READ_ONLY, "shop")
    found = x.weigh(x.seen("crm", others), x.edited("erp", ["a", "e"], before=["a"]), x.seen("shop", ["a"]))
    goes_to = ("crm", "shop") if others == ["a"] else ("shop",)
    assert found == {"stands": ("erp", ["a", "e"]), "goes_to": goes_to}


def test_what_strayed_is_nothing_to_merge_with() -> None:
    x = merging({"name": "erp", "access": "ReadOnly"}, WRITE_ONLY)
    found = x.weigh(x.edited("erp", ["a", "e"], before=["a"]), x.edited("shop", ["mine"], before=["a"]))
    assert found == {
        "stands": ("erp", ["a", "e"]),
        "goes_to": ("shop",),
        "told": [told(FindingKind.REPAIRED, "access: WriteOnly", "erp", shop=["mine"])],
    }


def test_what_is_on_its_way_is_merged_into_what_was_edited() -> None:
    x = merging("crm", "erp")
    found = x.weigh(
        x.seen("crm", ["a", "c"]),
        x.edited("erp", ["a", "e"], before=["a"]),
        undelivered={"erp": x.coming("crm", ["a", "c"])},
        bases={x.judge.print_of(["a"]): ["a"]},
    )
    values = {"erp": ["a", "e"], "crm": ["a", "c"], "(merged)": ["a", "c", "e"]}
    assert found == {
        "stands": ("(merged)", ["a", "c", "e"]),
        "goes_to": ("crm", "erp"),
        "told": [told(FindingKind.CONFLICT, "onConflict: Merge", "(merged)", **values)],
    }


@pytest.mark.parametrize("coming", [["a"], ["a", "e"]], ids=["as before the edit", "as the edit"])
def test_what_is_on_its_way_and_says_nothing_else_is_not_merged(coming: list[str]) -> None:
    x = merging("crm", "erp")
    found = x.weigh(
        x.seen("crm", coming),
        x.edited("erp", ["a", "e"], before=["a"]),
        undelivered={"erp": x.coming("crm", coming)},
    )
    assert found == {"stands": ("erp", ["a", "e"]), **({"goes_to": ("crm",)} if coming == ["a"] else {})}


# --- what is left to a person ---


def test_what_a_rule_cannot_decide_waits_and_says_why() -> None:
    x = merging("crm", "erp")
    found = x.weigh(x.edited("crm", ["c"], before=["a"]), x.edited("erp", ["e"], before=["a"]))
    rule = "onConflict: Merge: the value before the edit in crm is not known"
    assert found == {
        "waits": {"crm": ["c"], "erp": ["e"]},
        "told": [told(FindingKind.FROZEN, rule, "", crm=["c"], erp=["e"])],
    }


def test_whoever_reads_the_field_competes_with_a_value_of_no_system() -> None:
    x = OneField("crm", "erp", WRITE_ONLY, onConflict="Manual")
    found = x.weigh(
        x.same("crm", "crm's"),
        x.edited("erp", "erp's"),
        x.same("shop", "shop's"),
        undelivered={"erp": x.coming("(merged)", "merged")},
    )
    values = {"erp": "erp's", "(merged)": "merged", "crm": "crm's"}
    assert found == {"waits": values, "told": [told(FindingKind.FROZEN, "onConflict: Manual", "", **values)]}


def test_whoever_competes_with_a_value_of_no_system_is_read_first() -> None:
    x = OneField("crm", "erp", onConflict="Manual")
    found = x.weigh(
        x.seen("crm", "crm's"), x.edited("erp", "erp's"), undelivered={"erp": x.coming("(merged)", "merged")}
    )
    assert found == {"needs": "crm"}


def test_a_persons_choice_goes_wherever_it_is_not() -> None:
    x = OneField()
    views = [x.seen("crm", "crm's"), x.same("erp", "erp's"), x.seen("shop", "erp's")]
    found = x.judge.chosen(views, "erp", "erp's", {"crm": "crm's", "erp": "as it was"}, "by ann")
    assert outcome(found) == {
        "stands": ("erp", "erp's"),
        "goes_to": ("crm",),
        "told": [told(FindingKind.RESOLVED, "by ann", "erp", crm="crm's", erp="erp's")],
    }


def test_a_choice_has_no_time_of_its_own() -> None:
    x = OneField()
    winner = x.judge.chosen([], "(chosen)", "new", {}, "by ann").winner
    assert winner == x.judge.pending_view("(chosen)", "new", None)
