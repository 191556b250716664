"""Writes in the making: what a write says of each field, and what it keeps of what it replaces."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from fairlead.engine.case import Operation, Write
from fairlead.engine.fields import Verdict
from fairlead.engine.rules import compile_rules
from fairlead.engine.view import View
from fairlead.engine.writes import only, permitted, with_field, with_sources, without
from fairlead.model.record import Value
from support.simulation import START, spec_of

LATER = START + timedelta(hours=1)


def view(system: str, value: Value, modified: datetime | None = None) -> View:
    return View(system, True, b"seen", b"now", True, value, modified)


def verdict(value: Value, at: datetime | None = None, *, overwritten: str = "", rule: str = "edit") -> Verdict:
    """The value of `crm` stands."""
    return Verdict(view("crm", value, at), ("erp",), frozenset(filter(None, [overwritten])), reason=rule)


PENDING = Write(
    Operation.UPDATE,
    values={"x": 1, "y": 2},
    origins={"x": "shop", "y": "shop"},
    modified={"x": START, "y": START},
    guarded=("x", "y"),
    earlier={"x": (b"x",), "y": (b"y",)},
    unsure=("x", "y"),
    rules={"x": "x's", "y": "y's"},
)


# --- the first field ---


def test_a_write_begins_with_one_field_and_what_is_said_of_it() -> None:
    found = with_field(None, "x", verdict("new", START, overwritten="erp", rule="why"), "erp", (b"was",), unsure=True)
    assert found == Write(
        Operation.UPDATE,
        values={"x": "new"},
        origins={"x": "crm"},
        modified={"x": START},
        guarded=("x",),
        earlier={"x": (b"was",)},
        unsure=("x",),
        rules={"x": "why"},
    )


def test_a_write_says_nothing_that_goes_without_saying() -> None:
    found = with_field(None, "x", verdict("new", overwritten="shop"), "erp", (), unsure=False)
    assert found == Write(Operation.UPDATE, values={"x": "new"}, origins={"x": "crm"})


# --- another field ---


def test_another_field_joins_the_write() -> None:
    first = Write(Operation.UPDATE, values={"y": 2}, origins={"y": "shop"}, modified={"y": START}, guarded=("y",))
    found = with_field(first, "x", verdict("new", LATER, overwritten="erp", rule="why"), "erp", (b"was",), unsure=True)
    assert found == Write(
        Operation.UPDATE,
        values={"y": 2, "x": "new"},
        origins={"y": "shop", "x": "crm"},
        modified={"y": START, "x": LATER},
        guarded=("y", "x"),
        earlier={"x": (b"was",)},
        unsure=("x",),
        rules={"x": "why"},
    )


# --- a field that was in it already ---


def test_what_replaces_a_field_leaves_nothing_of_it_but_that_the_guard_counts_it() -> None:
    found = with_field(PENDING, "x", verdict("new"), "erp", (), unsure=False)
    assert found == Write(
        Operation.UPDATE,
        values={"x": "new", "y": 2},
        origins={"x": "crm", "y": "shop"},
        modified={"y": START},
        guarded=("x", "y"),
        earlier={"y": (b"y",)},
        unsure=("y",),
        rules={"y": "y's"},
    )


def test_what_replaces_a_field_keeps_what_may_have_arrived_of_it_and_is_counted_once() -> None:
    found = with_field(PENDING, "x", verdict("new", overwritten="erp", rule="why"), "erp", (b"x", b"1"), unsure=True)
    assert (found.guarded, found.earlier, found.unsure, found.rules) == (
        ("x", "y"),
        {"x": (b"x", b"1"), "y": (b"y",)},
        ("y", "x"),
        {"x": "why", "y": "y's"},
    )


def test_a_create_stays_a_create() -> None:
    create = Write(Operation.CREATE, values={"x": 1}, origins={"x": "shop"})
    found = with_field(create, "x", verdict("new"), "erp", (), unsure=False)
    assert found == Write(Operation.CREATE, values={"x": "new"}, origins={"x": "crm"})


# --- sources ---


def test_sources_bring_their_values_and_times_and_say_nothing_of_the_rest() -> None:
    sources = {"y": view("crm", 3, LATER), "z": view("erp", 4), "x": view("erp", None)}
    assert with_sources(PENDING, sources) == Write(
        Operation.UPDATE,
        values={"x": None, "y": 3, "z": 4},
        origins={"x": "erp", "y": "crm", "z": "erp"},
        modified={"y": LATER},
        guarded=("x", "y"),
        earlier={"x": (b"x",), "y": (b"y",)},
        unsure=("x", "y"),
        rules={"x": "x's", "y": "y's"},
    )


# --- parts ---


def test_a_part_of_a_write_says_what_the_whole_says_of_these_fields() -> None:
    assert only(PENDING, {"y", "z"}) == Write(
        Operation.UPDATE,
        values={"y": 2},
        origins={"y": "shop"},
        modified={"y": START},
        guarded=("y",),
        earlier={"y": (b"y",)},
        unsure=("y",),
        rules={"y": "y's"},
    )


def test_a_part_of_a_write_goes_on_to_tell_what_decided_about_the_whole_record() -> None:
    whole = Write(Operation.CREATE, {"x": 1, "y": 2}, rules={"": "undo r1"})
    assert only(whole, {"y"}) == Write(Operation.CREATE, {"y": 2}, rules={"": "undo r1"})


def test_a_mapping_without_some_names_has_the_others() -> None:
    assert without({"x": 1, "y": 2}, {"y", "z"}) == {"x": 1}


# --- what is permitted ---

UPDATE, CREATE = Write(Operation.UPDATE, {"x": 1, "y": 2}), Write(Operation.CREATE, {"x": 1, "y": 2})
ENDS = [Write(Operation.DELETE), Write(Operation.ARCHIVE)]
X_IS_READ = {"name": "erp", "fields": {"x": {"read": "x"}, "y": "y"}}


@pytest.mark.parametrize(
    ("erp", "write", "left"),
    [
        *(({"name": "erp"}, write, write) for write in (UPDATE, CREATE, *ENDS)),
        *(({"name": "erp", "access": "ReadOnly"}, write, None) for write in (UPDATE, CREATE, *ENDS)),
        (X_IS_READ, UPDATE, Write(Operation.UPDATE, {"y": 2})),
        (X_IS_READ, CREATE, Write(Operation.CREATE, {"y": 2})),
        (X_IS_READ, Write(Operation.UPDATE, {"x": 1}), None),
        ({"name": "erp", "fields": {"y": "y"}}, Write(Operation.CREATE, {"x": 1}), None),
    ],
)
def test_of_a_write_is_left_what_the_rules_permit(erp: dict[str, Any], write: Write, left: Write | None) -> None:
    assert permitted(write, compile_rules(spec_of(("crm", erp))).systems["erp"]) == left
