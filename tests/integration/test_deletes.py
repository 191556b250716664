"""Deletes, archiving, and records that come back: the real worker over systems in memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fairlead.testing.memory_system import Traits
from fairlead.transport.failure import Transient
from fairlead.worker.run import Kind, Outcome
from support.town import Town

ARCHIVE = {"set": {"state": "archived"}}
ARCHIVED = {"action": "Archive", "guard": {"maxRecords": 100, "maxPercent": 100}}


@pytest.fixture
def town_of(tmp_path: Path) -> Callable[..., Town]:
    return lambda *names, **spec: Town(tmp_path, *(names or ("crm", "erp")), **spec)


def archiving(town: Town) -> Town:
    """Every system archives."""
    for name in town.systems:
        town.redeclare(name, archive=ARCHIVE)
    return town


@pytest.fixture
def archive_of(town_of: Callable[..., Town]) -> Callable[..., Town]:
    return lambda *names, **deletes: archiving(town_of(*names, deletes={**ARCHIVED, **deletes}))


async def agreed(town: Town, *emails: str) -> Town:
    """The records are everywhere, and some more that the guard counts by."""
    for email in (*(emails or ("a@x",)), "y@x", "z@x"):
        town.add("crm", email, name="old")
    await town.agree()
    return town


def said(town: Town, attribute: str = "name") -> dict[str, object]:
    """System → what it says of a@x, where it has that."""
    found = {name: town.values(name, attribute) for name in town.systems}
    return {name: values["a@x"] for name, values in found.items() if "a@x" in values}


# --- archiving ---


async def test_a_delete_archives_the_record_elsewhere(archive_of) -> None:
    town = await agreed(archive_of("crm", "erp", "shop"))
    town.remove("crm", "a@x")
    report = await town.run()
    assert said(town, "state") == {"erp": "archived", "shop": "archived"}
    assert town.audit == [("Archived", "", "FromSystemOfRecord", "crm")]
    assert (report.tally.counts()["archived"], report.tally.counts()["deleted"]) == (2, 0)


async def test_an_archived_record_is_neither_synced_nor_created_again(archive_of) -> None:
    town = await agreed(archive_of())
    town.remove("crm", "a@x")
    await town.run()
    town.edit("erp", "a@x", name="a note for the archive")
    for kind in (Kind.CHANGES, Kind.RESYNC):
        report = await town.run(kind)
        assert sum(report.tally.counts()[n] for n in ("created", "updated", "archived", "deleted", "conflicts")) == 0
    assert said(town) == {"erp": "a note for the archive"}


async def test_an_archived_record_that_is_changed_back_returns_everywhere(archive_of) -> None:
    town = await agreed(archive_of())
    town.remove("crm", "a@x")
    await town.run()
    town.edit("erp", "a@x", state="active", name="back")
    await town.run()
    assert said(town) == {"crm": "back", "erp": "back"}
    assert ("Recreated", "", "UpdateWins", "crm") in town.audit


async def test_a_record_that_is_created_again_is_linked_to_the_archived_one_which_stays(archive_of) -> None:
    town = await agreed(archive_of())
    town.remove("crm", "a@x")
    await town.run()
    town.add("crm", "a@x", name="second")
    await town.run(Kind.RESYNC)
    assert said(town) == {"crm": "second", "erp": "old"}
    assert ("StaysAway", "", "back in crm", "erp") in town.audit
    town.edit("erp", "a@x", state="active")
    await town.run()
    assert said(town) == {"crm": "second", "erp": "second"}


async def test_what_somebody_archives_takes_no_part_and_changes_nothing_elsewhere(archive_of) -> None:
    town = await agreed(archive_of())
    town.edit("erp", "a@x", state="Archived ", name="gone")
    town.edit("crm", "a@x", name="new")
    await town.run()
    assert said(town) == {"crm": "new", "erp": "gone"}


async def test_an_archived_record_that_is_deleted_is_forgotten(archive_of) -> None:
    town = await agreed(archive_of(propagate="FromAny"))
    town.remove("crm", "a@x")
    await town.run()
    town.remove("erp", "a@x")
    await town.run()
    town.add("erp", "a@x", name="new")
    await town.run()
    assert said(town) == {"crm": "new", "erp": "new"}


async def test_the_guard_counts_what_would_be_archived(archive_of) -> None:
    town = await agreed(archive_of(guard={"maxRecords": 0}))
    town.remove("crm", "a@x")
    halted = await town.run()
    assert (halted.outcome, said(town, "state")) == (Outcome.HALTED, {"erp": None})
    assert halted.halt is not None
    await town.run(approved=halted.halt.plan)
    assert said(town, "state") == {"erp": "archived"}


async def test_an_edit_meanwhile_wins_over_archiving(archive_of) -> None:
    town = await agreed(archive_of())
    town.remove("crm", "a@x")
    town.edit("erp", "a@x", name="edited")
    await town.run()
    assert (said(town), said(town, "state")["erp"]) == ({"crm": "edited", "erp": "edited"}, None)


@pytest.mark.parametrize("tells", [True, False])
async def test_a_system_that_does_not_keep_what_archives_says_so(archive_of, tells: bool) -> None:
    town = await agreed(archive_of())
    town["erp"].traits = Traits(tells=tells)
    town["erp"].stored = lambda path, value: "inactive" if path == "state" else value
    town.remove("crm", "a@x")
    report = await town.run()
    (note,) = [note for note in report.tally.notes if note.kind == "NotDelivered"]
    assert "does not read as archived" in note.rule
    await town.run()
    assert said(town) == {"erp": "old"}


async def test_archiving_waits_for_a_system_that_is_down(archive_of) -> None:
    town = await agreed(archive_of("crm", "erp", "shop"))
    town["erp"].down = Transient("erp is down")
    town.remove("crm", "a@x")
    await town.run()
    assert said(town, "state") == {"erp": None, "shop": "archived"}
    town["erp"].down = None
    await town.run()
    assert said(town, "state") == {"erp": "archived", "shop": "archived"}


# --- a record leaves the filter ---


@pytest.mark.parametrize("owner", ["crm", "erp"])
@pytest.mark.parametrize(
    ("on_leave", "expected"),
    [
        ("Keep", {"crm": None, "erp": None, "shop": None}),
        ("Archive", {"crm": None, "erp": "archived", "shop": "archived"}),
        ("Delete", {"crm": None}),
    ],
)
async def test_what_leaves_a_filter_does_elsewhere_as_declared(
    town_of, owner: str, on_leave: str, expected: Any
) -> None:
    town = archiving(town_of("crm", "erp", "shop", systemOfRecord=owner))
    town.redeclare("crm", archive=ARCHIVE, filter="note != 'lost'", onLeave=on_leave)
    await agreed(town)
    town.edit("crm", "a@x", note="lost")
    await town.run()
    assert said(town, "state") == expected


@pytest.mark.parametrize(("on_leave", "name"), [("Keep", "back"), ("Archive", "old"), ("Delete", "back")])
async def test_what_is_inside_the_filter_again_returns(town_of, on_leave: str, name: str) -> None:
    town = archiving(town_of())
    town.redeclare("crm", archive=ARCHIVE, filter="note != 'lost'", onLeave=on_leave)
    await agreed(town)
    town.edit("crm", "a@x", note="lost")
    await town.run()
    town.edit("crm", "a@x", note="won", name="back")
    await town.run()
    assert said(town) == {"crm": "back", "erp": name}


async def test_an_edit_elsewhere_outlives_a_record_that_left_its_filter(town_of) -> None:
    town = town_of()
    town.redeclare("crm", filter="note != 'lost'", onLeave="Delete")
    await agreed(town)
    town.edit("crm", "a@x", note="lost")
    town.edit("erp", "a@x", name="edited")
    await town.run()
    await town.run(Kind.RESYNC)
    assert said(town) == {"crm": "old", "erp": "edited"}


async def test_what_our_own_write_puts_outside_a_filter_did_not_leave(town_of) -> None:
    town = town_of()
    town.redeclare("erp", filter="note != 'lost'", onLeave="Delete")
    await agreed(town)
    town.add("crm", "b@x", note="lost")
    town.edit("crm", "a@x", note="lost")
    for kind in (Kind.CHANGES, Kind.CHANGES, Kind.RESYNC):
        await town.run(kind)
    assert (said(town, "note"), sorted(town.values("crm"))) == (
        {"crm": "lost", "erp": "lost"}, ["a@x", "b@x", "y@x", "z@x"]
    )  # fmt: skip


async def test_what_left_the_filter_and_is_deleted_then_changes_nothing_elsewhere(town_of) -> None:
    town = town_of()
    town.redeclare("crm", filter="note != 'lost'")
    await agreed(town)
    town.edit("crm", "a@x", note="lost")
    await town.run()
    town.remove("crm", "a@x")
    await town.run()
    assert said(town) == {"erp": "old"}


async def test_a_write_under_way_to_a_record_that_left_the_filter_is_dropped(town_of, tmp_path: Path) -> None:
    town = town_of()
    town.redeclare("crm", filter="note != 'private'")
    await agreed(town)
    town["crm"].down = Transient("down")
    town.edit("erp", "a@x", name="from the ERP")
    await town.run()
    town["crm"].down = None
    town.edit("crm", "a@x", note="private")
    await town.run()
    with sqlite3.connect(tmp_path / "state.db") as state:
        assert state.execute("SELECT count(*) FROM pending").fetchone() == (0,)


# --- the guard, and approvals ---


async def halted_plan(town: Town, *removed: str) -> str:
    """The plan of a run that halts at these deletes."""
    for email in removed:
        town.remove("crm", email)
    report = await town.run()
    assert (report.outcome, report.halt is not None) == (Outcome.HALTED, True)
    return report.halt.plan if report.halt else ""


MANY = tuple(f"{number}@x" for number in range(8))
GUARDED = {"guard": {"maxRecords": 2, "maxPercent": 100}}


async def test_an_approval_releases_what_its_plan_named_and_nothing_else(town_of) -> None:
    town = await agreed(town_of(deletes=GUARDED), *MANY)
    plan = await halted_plan(town, *MANY[:3])
    town.remove("crm", MANY[3])
    report = await town.run(approved=plan)
    assert (report.outcome, len(town["erp"].records)) == (Outcome.HALTED, len(MANY) + 2)
    assert report.halt is not None
    await town.run(approved=report.halt.plan)
    assert set(town.values("erp")) == {*MANY[4:], "y@x", "z@x"}


async def test_a_plan_is_another_one_when_any_of_many_writes_is(town_of) -> None:
    town = await agreed(town_of(deletes=GUARDED), *MANY)
    plan = await halted_plan(town, *MANY[:6])
    town.edit("erp", MANY[5], name="edited, so it lives on")
    town.remove("crm", MANY[6])
    report = await town.run(approved=plan)
    assert (report.outcome, len(town["erp"].records)) == (Outcome.HALTED, len(MANY) + 2)


async def test_an_overwrite_goes_out_with_the_value_that_was_approved_only(town_of) -> None:
    town = town_of(deletes={"guard": {"maxRecords": 1, "maxPercent": 100}})
    for email in MANY[:3]:
        town.add("crm", email, name="approved")
        town.add("erp", email, name="of the ERP")
    shown = await town.run()
    town.edit("crm", MANY[0], name="another")
    changed = await town.run(approved=shown.halt.plan)
    assert set(town.values("erp").values()) == {"of the ERP"}
    again = await town.run()
    assert (changed.outcome, again.halt) == (Outcome.HALTED, changed.halt)
    await town.run(approved=again.halt.plan)
    assert town.values("erp") == dict(zip(MANY[:3], ("another", "approved", "approved"), strict=True))


async def test_an_approval_is_used_once(town_of) -> None:
    town = await agreed(town_of(deletes=GUARDED), *MANY)
    plan = await halted_plan(town, *MANY[:3])
    await town.run(approved=plan)
    for email in MANY[:3]:
        town.add("crm", email)
    await town.run(approved=plan)
    for email in MANY[:3]:
        town.remove("crm", email)
    report = await town.run(approved=plan)
    assert (report.outcome, len(town["erp"].records)) == (Outcome.HALTED, len(MANY) + 2)


async def test_a_worker_that_dies_while_an_approved_plan_goes_out_asks_nobody_again(town_of) -> None:
    town = await agreed(town_of(deletes=GUARDED), *MANY)
    plan = await halted_plan(town, *MANY[:5])
    town["erp"].down = Transient("erp is down")
    await town.run(approved=plan)
    town["erp"].down = None
    report = await town.run()
    assert (report.outcome, len(town["erp"].records)) == (Outcome.SUCCEEDED, 5)


@pytest.mark.parametrize("changes", [True, False], ids=["a feed", "no feed"])
async def test_one_approval_lets_an_emptied_system_be_empty(town_of, changes: bool) -> None:
    town = await agreed(town_of("crm", "erp", "shop", deletes=GUARDED), *MANY)
    town["crm"].traits = Traits(changes=changes, deletions=False)
    for email in town.values("crm"):
        town.remove("crm", str(email))
    halted = await town.run(Kind.RESYNC)
    again = await town.run()
    assert (halted.outcome, again.outcome, len(town["erp"].records)) == (Outcome.HALTED, Outcome.HALTED, 10)
    assert (halted.halt and halted.halt.plan) == (again.halt and again.halt.plan)
    assert again.halt is not None
    released = await town.run(approved=again.halt.plan)
    assert (released.outcome, town["erp"].records, town["shop"].records) == (Outcome.SUCCEEDED, {}, {})
    for email in MANY:
        town.add("crm", email)
    await town.run()
    for email in MANY:
        town.remove("crm", email)
    assert (await town.run(Kind.RESYNC, approved=again.halt.plan)).outcome is Outcome.HALTED


async def test_an_emptied_system_needs_no_second_approval_after_a_worker_died(town_of) -> None:
    town = await agreed(town_of(deletes=GUARDED), *MANY)
    town["crm"].traits = Traits(changes=False)
    for email in town.values("crm"):
        town.remove("crm", str(email))
    halted = await town.run()
    assert halted.halt is not None
    asked = iter(range(100))
    await town.run(approved=halted.halt.plan, stopping=lambda: next(asked) >= 1)
    report = await town.run()
    assert (report.outcome, town["erp"].records) == (Outcome.SUCCEEDED, {})


async def test_a_system_that_is_back_is_guarded_again(town_of) -> None:
    town = await agreed(town_of(deletes=GUARDED), *MANY)
    town["crm"].traits = Traits(changes=False)
    rows = dict(town["crm"].records)
    for key in rows:
        town["crm"].remove(key)
    halted = await town.run()
    assert halted.halt is not None
    town["crm"].add(*reversed(next(iter(rows.items()))))
    report = await town.run(approved=halted.halt.plan)
    assert (report.outcome, len(town["erp"].records)) == (Outcome.HALTED, 10)


# --- records that vanish where deletes are not repeated ---


async def test_records_that_vanish_elsewhere_are_written_nowhere_and_linked_again_when_they_are_back(town_of) -> None:
    town = await agreed(town_of(deletes=GUARDED), *MANY)
    town["erp"].traits = Traits(changes=False)
    rows = dict(town["erp"].records)
    for key in list(rows)[:7]:
        town["erp"].remove(key)
    report = await town.run()
    assert (report.outcome, len(town["crm"].records)) == (Outcome.SUCCEEDED, 10)
    town.edit("crm", MANY[0], name="edited meanwhile")
    await town.run()
    for key in list(rows)[:7]:
        town["erp"].add(rows[key], key)
    await town.run()
    assert (
        town.values("erp") == town.values("crm") == {**dict.fromkeys(rows_of(rows), "old"), MANY[0]: "edited meanwhile"}
    )


def rows_of(rows: dict[str, dict[str, object]]) -> list[object]:
    return [row["email"] for row in rows.values()]


# --- a system that is away ---


@pytest.mark.parametrize(
    ("days", "name"), [(89, "edited in the ERP"), (91, "old")], ids=["shorter than tombstones last", "longer"]
)
async def test_a_system_that_was_away_longer_than_tombstones_last_is_first_met_again(
    town_of, days: int, name: str
) -> None:
    town = await agreed(town_of())
    town["erp"].down = Transient("erp is down")
    town.edit("erp", "a@x", name="edited in the ERP")
    for _ in range(days):
        town.now += 86400 - 3600
        await town.run()
    town["erp"].down = None
    report = await town.run()
    assert (said(town), report.outcome) == ({"crm": name, "erp": name}, Outcome.SUCCEEDED)
    assert len(town["erp"].records) == 3
    assert (("Overwritten", "name", "firstSync: SystemOfRecordWins", "crm") in town.audit) is (days > 90)
    assert (await town.run(Kind.RESYNC)).tally.counts()["updated"] == 0
