"""One field, as one system after another says something of it: what stands, where it goes, what is read and told first.

Conflicts are in `test_engine_disputes.py`, first meetings in `test_engine_meeting.py`, what waits for a person in
`test_engine_waiting.py`, whole records in `test_engine_rules.py`.
"""

from __future__ import annotations

from typing import Any

import pytest

from fairlead.engine.case import EDIT, FindingKind
from fairlead.engine.fields import Verdict
from support.field import OneField, told

READ_ONLY = {"name": "erp", "access": "ReadOnly"}
WRITE_ONLY = {"name": "shop", "access": "WriteOnly"}
OWNED = {"edits": "SystemOfRecordOnly"}
CONFLICT = "onConflict: SystemOfRecordWins"


# --- an edit ---


def test_an_edit_needs_no_reading_where_all_agreed_before() -> None:
    x = OneField()
    found = x.weigh(x.seen("crm", "old"), x.edited("erp", "new"), x.seen("shop", "old"))
    assert found == {"stands": ("erp", "new"), "goes_to": ("crm", "shop")}


def test_an_edit_does_not_go_where_its_value_is() -> None:
    x = OneField()
    found = x.weigh(x.seen("crm", "old"), x.edited("erp", "new"), x.seen("shop", "new"))
    assert found == {"stands": ("erp", "new"), "goes_to": ("crm",)}


def test_an_edit_to_what_the_others_say_goes_nowhere_and_nothing_is_read() -> None:
    x = OneField("crm", "erp")
    found = x.weigh(x.seen("crm", "new"), x.edited("erp", "new"))
    assert found == {"stands": ("erp", "new")}


def test_what_an_edit_overwrites_and_was_never_seen_where_it_was_entered_is_read_first() -> None:
    x = OneField()
    found = x.weigh(x.seen("crm", "old"), x.edited("erp", "new"), x.seen("shop", "shop's"))
    assert found == {"needs": "shop"}


def test_what_an_edit_overwrites_and_was_never_seen_where_it_was_entered_is_told() -> None:
    x = OneField()
    found = x.weigh(x.seen("crm", "old"), x.edited("erp", "new"), x.same("shop", "shop's"))
    assert found == {
        "stands": ("erp", "new"),
        "goes_to": ("crm", "shop"),
        "told": [told(FindingKind.OVERWRITTEN, "edit", "erp", erp="new", shop="shop's")],
    }


def test_of_two_systems_that_say_the_same_one_is_read() -> None:
    x = OneField()
    found = x.weigh(x.seen("crm", "theirs"), x.edited("erp", "new"), x.same("shop", "theirs"))
    assert found == {
        "stands": ("erp", "new"),
        "goes_to": ("crm", "shop"),
        "told": [told(FindingKind.OVERWRITTEN, "edit", "erp", erp="new", shop="theirs")],
    }


@pytest.mark.parametrize("empty", [None, ""])
@pytest.mark.parametrize("read", [True, False])
def test_filling_what_was_empty_overwrites_nothing(empty: str | None, *, read: bool) -> None:
    x = OneField()
    shop = x.same("shop", empty) if read else x.seen("shop", empty)
    found = x.weigh(x.seen("crm", "old"), x.edited("erp", "new"), shop)
    assert found == {"stands": ("erp", "new"), "goes_to": ("crm", "shop")}


def test_what_a_read_only_system_overwrites_without_having_seen_it_is_told() -> None:
    x = OneField("crm", READ_ONLY)
    found = x.weigh(x.same("crm", "crm's"), x.edited("erp", "new"))
    assert found == {
        "stands": ("erp", "new"),
        "goes_to": ("crm",),
        "told": [told(FindingKind.OVERWRITTEN, "access: ReadOnly", "erp", erp="new", crm="crm's")],
    }


def test_what_lost_in_a_read_only_system_was_not_seen_by_the_others() -> None:
    x = OneField("crm", READ_ONLY, "shop")
    views = x.edited("crm", "crm's"), x.edited("erp", "erp's", before="theirs")
    assert x.weigh(*views, x.seen("shop", "theirs")) == {"needs": "shop"}


def test_what_a_rival_replaced_knowingly_is_not_told() -> None:
    x = OneField()
    found = x.weigh(x.edited("crm", "crm's"), x.edited("erp", "erp's", before="theirs"), x.seen("shop", "theirs"))
    assert found == {
        "stands": ("crm", "crm's"),
        "goes_to": ("erp", "shop"),
        "told": [told(FindingKind.CONFLICT, CONFLICT, "crm", crm="crm's", erp="erp's")],
    }


def test_edits_to_the_same_value_are_one_edit() -> None:
    x = OneField()
    found = x.weigh(x.seen("crm", "old"), x.edited("erp", "new"), x.edited("shop", "new"))
    assert found == {"stands": ("erp", "new"), "goes_to": ("crm",)}


# --- what is on its way ---


def test_what_is_on_its_way_from_a_system_without_the_record_is_told_where_it_is_replaced() -> None:
    x = OneField()
    found = x.weigh(x.edited("erp", "new"), x.seen("shop", "old"), undelivered={"shop": x.coming("crm", "crm's")})
    assert found == {
        "stands": ("erp", "new"),
        "goes_to": ("shop",),
        "told": [told(FindingKind.OVERWRITTEN, "edit", "erp", erp="new", crm="crm's")],
    }


def test_an_edit_replaces_what_is_on_its_way_and_tells_it() -> None:
    x = OneField()
    found = x.weigh(
        x.seen("crm", "crm's"),
        x.edited("erp", "new"),
        x.seen("shop", "old"),
        undelivered={"shop": x.coming("crm", "crm's")},
    )
    assert found == {
        "stands": ("erp", "new"),
        "goes_to": ("crm", "shop"),
        "told": [told(FindingKind.OVERWRITTEN, "edit", "erp", erp="new", crm="crm's")],
    }


def test_an_edit_is_not_written_again_where_its_value_is_on_its_way() -> None:
    x = OneField()
    found = x.weigh(
        x.seen("crm", "old"),
        x.edited("erp", "new"),
        x.seen("shop", "old"),
        undelivered={"shop": x.coming("erp", "new")},
    )
    assert found == {"stands": ("erp", "new"), "goes_to": ("crm",)}


def test_what_was_just_read_says_more_than_what_is_on_its_way() -> None:
    x = OneField()
    found = x.weigh(
        x.seen("crm", "old"),
        x.edited("erp", "new"),
        x.same("shop", "old"),
        undelivered={"shop": x.coming("erp", "new")},
    )
    assert found == {"stands": ("erp", "new"), "goes_to": ("crm", "shop")}


def test_what_is_on_its_way_to_the_system_that_was_edited_is_a_rival() -> None:
    x = OneField()
    found = x.weigh(
        x.seen("crm", "crm's"),
        x.edited("erp", "erp's"),
        x.seen("shop", "crm's"),
        undelivered={"erp": x.coming("crm", "crm's")},
    )
    assert found == {
        "stands": ("crm", "crm's"),
        "goes_to": ("erp",),
        "told": [told(FindingKind.CONFLICT, CONFLICT, "crm", erp="erp's", crm="crm's")],
    }


def test_what_one_of_those_that_were_edited_had_received_is_no_rival() -> None:
    x = OneField(priority=["shop", "erp", "crm"], onConflict="Priority")
    found = x.weigh(
        x.edited("crm", "crm's", before="shop's"),
        x.edited("erp", "erp's"),
        x.seen("shop", "shop's"),
        undelivered={"erp": x.coming("shop", "shop's")},
    )
    assert found == {
        "stands": ("erp", "erp's"),
        "goes_to": ("crm", "shop"),
        "told": [told(FindingKind.CONFLICT, "onConflict: Priority", "erp", crm="crm's", erp="erp's")],
    }


def test_a_newer_edit_of_the_same_system_replaces_what_is_on_its_way_from_it() -> None:
    x = OneField("crm", "erp")
    found = x.weigh(
        x.edited("crm", "second", before="first"),
        x.edited("erp", "erp's"),
        undelivered={"erp": x.coming("crm", "first")},
    )
    assert found == {
        "stands": ("crm", "second"),
        "goes_to": ("erp",),
        "told": [told(FindingKind.CONFLICT, CONFLICT, "crm", crm="second", erp="erp's")],
    }


# --- edits: SystemOfRecordOnly ---


def test_only_the_owner_is_read_for_what_is_restored() -> None:
    x = OneField(**OWNED)
    assert x.weigh(x.seen("crm", "old"), x.edited("erp", "mine"), x.seen("shop", "old")) == {"needs": "crm"}
    assert x.weigh(x.same("crm", "old"), x.edited("erp", "mine"), x.seen("shop", "old")) == {
        "stands": ("crm", "old"),
        "goes_to": ("erp",),
        "told": [told(FindingKind.REVERTED, "edits: SystemOfRecordOnly", "crm", crm="old", erp="mine")],
    }


def test_an_edit_to_what_the_owner_says_is_not_reverted() -> None:
    x = OneField("crm", "erp", **OWNED)
    assert x.weigh(x.edited("crm", "new"), x.edited("erp", "new")) == {"stands": ("crm", "new")}


def test_an_empty_owner_reverts_nothing_where_empty_values_are_kept() -> None:
    x = OneField("crm", "erp", whenEmpty="Keep", **OWNED)
    found = x.weigh(x.same("crm", ""), x.edited("erp", "mine", before=""))
    assert found == {"told": [told(FindingKind.KEPT, "whenEmpty: Keep", "", crm="", erp="mine")]}


def test_where_the_owner_has_not_the_record_the_conflict_rule_holds() -> None:
    x = OneField(systemOfRecord="crm", **OWNED)
    assert x.weigh(x.edited("erp", "new"), x.seen("shop", "old")) == {"stands": ("erp", "new"), "goes_to": ("shop",)}


def test_an_edit_to_no_value_is_reverted_too_where_empty_values_are_kept() -> None:
    x = OneField("crm", "erp", whenEmpty="Keep", **OWNED)
    assert x.weigh(x.same("crm", "old"), x.edited("erp", "")) == {
        "stands": ("crm", "old"),
        "goes_to": ("erp",),
        "told": [told(FindingKind.REVERTED, "edits: SystemOfRecordOnly", "crm", crm="old", erp="")],
    }


def test_no_value_goes_nowhere_though_another_says_so_too_where_empty_values_are_kept() -> None:
    x = OneField(whenEmpty="Keep", **OWNED)
    found = x.weigh(x.edited("crm", ""), x.edited("erp", ""), x.seen("shop", "old"))
    assert found == {"stands": ("crm", "")}


# --- whenEmpty: Keep ---


def test_what_is_not_emptied_goes_where_it_is_not() -> None:
    x = OneField("crm", "erp", whenEmpty="Keep")
    assert x.weigh(x.edited("crm", "new"), x.seen("erp", "old")) == {"stands": ("crm", "new"), "goes_to": ("erp",)}


def test_what_is_emptied_is_kept_elsewhere_and_told() -> None:
    x = OneField("crm", "erp", whenEmpty="Keep")
    found = x.weigh(x.edited("crm", None), x.seen("erp", "old"))
    assert found == {"told": [told(FindingKind.KEPT, "whenEmpty: Keep", "", crm=None)]}


def test_what_is_empty_everywhere_else_may_be_emptied() -> None:
    x = OneField("crm", "erp", whenEmpty="Keep")
    found = x.weigh(x.edited("crm", None), x.seen("erp", ""))
    assert found == {"stands": ("crm", None), "goes_to": ("erp",)}


# --- access: WriteOnly ---


def test_what_strayed_is_overwritten_by_the_next_edit_and_told() -> None:
    x = OneField("crm", WRITE_ONLY)
    found = x.weigh(x.edited("crm", "new"), x.edited("shop", "mine"))
    assert found == {
        "stands": ("crm", "new"),
        "goes_to": ("shop",),
        "told": [told(FindingKind.REPAIRED, "access: WriteOnly", "crm", shop="mine")],
    }


def test_what_strayed_is_repaired_with_what_is_read_first() -> None:
    x = OneField("crm", "erp", WRITE_ONLY)
    assert x.weigh(x.seen("crm", "old"), x.seen("erp", "old"), x.edited("shop", "mine")) == {"needs": "crm"}
    assert x.weigh(x.same("crm", "old"), x.seen("erp", "other"), x.edited("shop", "mine")) == {
        "stands": ("crm", "old"),
        "goes_to": ("shop",),
        "told": [told(FindingKind.REPAIRED, "access: WriteOnly", "crm", shop="mine")],
    }


def test_what_strayed_is_repaired_with_what_is_on_its_way_to_the_others() -> None:
    x = OneField("crm", "erp", WRITE_ONLY)
    views = x.seen("crm", "new"), x.seen("erp", "old"), x.edited("shop", "mine")
    assert x.weigh(*views, undelivered={"erp": x.coming("crm", "new")}) == {
        "stands": ("crm", "new"),
        "goes_to": ("shop",),
        "told": [told(FindingKind.REPAIRED, "access: WriteOnly", "crm", shop="mine")],
    }


def test_what_strayed_to_what_the_others_say_is_left() -> None:
    x = OneField("crm", WRITE_ONLY)
    assert x.weigh(x.seen("crm", "new"), x.edited("shop", "new")) is None


def test_an_empty_value_repairs_nothing_where_empty_values_are_kept() -> None:
    x = OneField("crm", WRITE_ONLY, whenEmpty="Keep")
    assert x.weigh(x.same("crm", ""), x.edited("shop", "mine", before="")) is None


def test_where_nobody_else_has_the_record_nothing_is_repaired() -> None:
    x = OneField("crm", WRITE_ONLY)
    assert x.weigh(x.edited("shop", "mine")) is None


# --- what the record says ---


def test_what_is_on_its_way_is_what_the_record_says() -> None:
    x = OneField()
    coming = {"shop": x.coming("erp", "second"), "crm": x.coming("erp", "first")}
    assert x.judge.agreed([x.same("erp", "old")], coming) == coming["crm"]
    assert x.judge.copied([x.same("erp", "old")], {"crm": x.coming("erp", None)}) == x.coming("erp", None)


@pytest.mark.parametrize(
    ("values", "agreed"),
    [
        ({"crm": "crm's", "erp": "erp's", "shop": "shop's"}, "erp"),
        ({"crm": "crm's", "erp": None, "shop": "shop's"}, "crm"),
        ({"crm": "", "shop": "shop's"}, "shop"),
        ({"crm": None, "erp": None}, "erp"),
    ],
    ids=["its owner's", "the first filled one's by priority", "a filled one's", "its owner's where all are empty"],
)
def test_the_record_says_what_its_owner_says(values: dict[str, Any], agreed: str) -> None:
    x = OneField(fields={"x": {"systemOfRecord": "erp", "priority": ["crm", "shop"]}})
    views = [x.seen(system, value) for system, value in values.items()]
    found = x.judge.agreed(views, {})
    assert (found and found.system) == agreed


def test_the_only_editor_says_what_the_record_says_and_a_copy_gets_more_than_nothing() -> None:
    x = OneField(WRITE_ONLY, "crm", "erp", systemOfRecord="crm", **OWNED)
    views = [x.same("shop", "mine"), x.same("crm", ""), x.same("erp", "erp's")]
    assert (x.judge.agreed(views, {}), x.judge.copied(views, {})) == (views[1], views[2])


def test_without_its_only_editor_the_record_says_what_the_others_say() -> None:
    x = OneField(**OWNED)
    views = [x.same("erp", "erp's"), x.same("shop", "shop's")]
    assert x.judge.agreed(views, {}) == views[0]


def test_where_nobody_is_read_the_record_says_nothing() -> None:
    x = OneField("crm", WRITE_ONLY)
    views = [x.same("shop", "mine")]
    assert (x.judge.agreed(views, {}), x.judge.copied(views, {})) == (None, None)


# --- what others ask of it ---


def test_an_edit_counts_where_the_field_may_be_edited() -> None:
    anywhere, owned = OneField(), OneField(**OWNED)
    asked = [(x, system) for x in (anywhere, owned) for system in ("crm", "erp")]
    assert [x.judge.counts(x.same(system, "new")) for x, system in asked] == [True, True, True, False]


@pytest.mark.parametrize(
    ("when", "there", "value", "spared"),
    [
        ("Keep", "there", "", True),
        ("Keep", "", None, False),
        ("Keep", "there", "new", False),
        ("Propagate", "there", "", False),
    ],
)
def test_an_empty_value_spares_a_filled_one(when: str, there: str, value: str | None, *, spared: bool) -> None:
    assert OneField(whenEmpty=when).judge.spares(there, value) is spared


def test_a_field_is_filled_where_it_is_or_was_when_last_seen() -> None:
    x = OneField()
    views = [x.same("crm", "a"), x.seen("crm", "a"), x.same("crm", ""), x.seen("crm", ""), x.seen("crm", None)]
    found = [x.judge.fills(view) for view in [*views, x.never_read("crm")]]
    assert found == [True, True, False, False, False, False]


def test_the_rule_of_a_verdict_is_that_of_its_last_finding() -> None:
    first, last = told(FindingKind.CONFLICT, "first", "crm"), told(FindingKind.OVERWRITTEN, "last", "crm")
    assert [Verdict().rule, Verdict(reason="why").rule, Verdict(findings=(first, last)).rule] == [EDIT, "why", "last"]
