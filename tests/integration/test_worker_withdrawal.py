"""The rule that decided what the guard holds back holds no more: it is taken back, and the rule of now decides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fairlead.state.base import Commit, StateError
from fairlead.state.sqlite import SQLiteStore
from fairlead.worker.run import Kind, Outcome
from support.desk import OneRecord

ARCHIVE = {"archive": {"set": {"state": "archived"}}}
TWO: dict[str, dict[str, Any]] = {"crm": {}, "erp": {}}
THREE: dict[str, dict[str, Any]] = {"crm": {}, "erp": {}, "shop": {}}
LOST = "x != 'lost'"
ALL, NOTHING = ({"maxRecords": number, "maxPercent": 100} for number in (100, 0))


class Desk(OneRecord):
    """The record under a guard that lets nothing go, until it is raised."""

    def __init__(self, path: Path, systems: dict[str, dict[str, Any]], **spec: Any) -> None:
        super().__init__(path / "state.db", {"x": {"type": "string"}, "y": {"type": "string"}}, systems)
        self.declare(systems, **spec)

    def declare(self, systems: dict[str, dict[str, Any]], guard: dict[str, int] = NOTHING, **spec: Any) -> None:
        """What the policy says from now on."""
        self.policy = self.policy_of(systems, **{**spec, "deletes": {"guard": guard, **spec.get("deletes", {})}})

    async def ends(self, systems: dict[str, dict[str, Any]], **spec: Any) -> tuple[Outcome, Outcome]:
        """How a run ends under another policy, and the next one once the guard allows everything."""
        self.declare(systems, **spec)
        first = (await self.run()).outcome
        self.declare(systems, ALL, **spec)
        return first, (await self.run()).outcome


GOES_ON = (Outcome.SUCCEEDED, Outcome.SUCCEEDED)
HALTS = (Outcome.HALTED, Outcome.SUCCEEDED)


async def halted(desk: OneRecord) -> None:
    assert (await desk.run()).outcome is Outcome.HALTED


# --- deletes ---


async def deleted_in(tmp_path: Path, system: str, systems: dict[str, dict[str, Any]], **deletes: str) -> Desk:
    """A record that was deleted in one system, which the guard holds back in the others."""
    desk = Desk(tmp_path, systems, deletes=deletes)
    desk.enter("crm", x="old")
    await desk.run()
    desk.delete(system)
    await halted(desk)
    return desk


async def test_a_held_delete_is_not_done_where_no_delete_spreads_any_more(tmp_path: Path) -> None:
    desk = await deleted_in(tmp_path, "crm", TWO)
    assert await desk.ends(TWO, deletes={"propagate": "Never"}) == GOES_ON
    assert desk.values("x") == {"erp": "old"}


async def test_a_record_whose_held_delete_was_taken_back_is_no_longer_synced_where_it_was_deleted(
    tmp_path: Path,
) -> None:
    desk = await deleted_in(tmp_path, "crm", THREE)
    await desk.ends(THREE, deletes={"propagate": "Never"})
    desk.enter("erp", x="new")
    await desk.run(Kind.RESYNC)
    assert desk.values("x") == {"erp": "new", "shop": "new"}


async def test_what_was_edited_while_the_record_was_to_end_meets_what_the_others_say(tmp_path: Path) -> None:
    delete_wins = {"onUpdateConflict": "DeleteWins"}
    desk = await deleted_in(tmp_path, "crm", THREE, **delete_wins)
    desk.enter("erp", x="new")
    await halted(desk)
    assert await desk.ends(THREE, deletes={"propagate": "Never", **delete_wins}) == HALTS
    assert desk.values("x") == {"erp": "new", "shop": "new"}


async def test_a_held_delete_of_another_system_is_not_done_where_only_those_of_the_system_of_record_spread(
    tmp_path: Path,
) -> None:
    desk = await deleted_in(tmp_path, "erp", THREE, propagate="FromAny")
    assert await desk.ends(THREE, deletes={"propagate": "FromSystemOfRecord"}) == GOES_ON
    assert desk.values("x") == {"crm": "old", "shop": "old"}


async def test_a_held_delete_that_would_still_spread_stays_held(tmp_path: Path) -> None:
    desk = await deleted_in(tmp_path, "crm", TWO, propagate="FromAny")
    assert await desk.ends(TWO, deletes={"propagate": "FromSystemOfRecord"}) == HALTS
    assert desk.values("x") == {}


async def test_a_held_delete_is_an_archiving_where_the_policy_archives_by_now(tmp_path: Path) -> None:
    systems: dict[str, dict[str, Any]] = {"crm": {}, "erp": ARCHIVE}
    desk = await deleted_in(tmp_path, "crm", systems)
    assert await desk.ends(systems, deletes={"action": "Archive"}) == HALTS
    assert desk.systems["erp"].records["1"]["state"] == "archived"


# --- what left a filter ---


async def lost(tmp_path: Path) -> Desk:
    """A record that left crm's filter, for which it is to be deleted in erp, which the guard holds back."""
    desk = Desk(tmp_path, {"crm": {"filter": LOST, "onLeave": "Delete"}, "erp": {}})
    desk.enter("crm", x="old")
    await desk.run()
    desk.enter("crm", x="lost")
    await halted(desk)
    return desk


async def test_what_left_a_filter_stays_where_that_ends_nothing_any_more(tmp_path: Path) -> None:
    desk = await lost(tmp_path)
    assert await desk.ends({"crm": {"filter": LOST, "onLeave": "Keep"}, "erp": {}}) == GOES_ON
    assert desk.values("x") == {"crm": "lost", "erp": "old"}


async def test_what_left_a_filter_stays_held_where_that_still_ends_it(tmp_path: Path) -> None:
    desk = await lost(tmp_path)
    assert await desk.ends({"crm": {"filter": LOST, "onLeave": "Delete"}, "erp": {}}, firstSync="Review") == HALTS
    assert desk.values("x") == {"crm": "lost"}


async def test_what_left_a_filter_is_archived_where_the_policy_archives_it_by_now(tmp_path: Path) -> None:
    desk = await lost(tmp_path)
    assert await desk.ends({"crm": {"filter": LOST, "onLeave": "Archive", **ARCHIVE}, "erp": ARCHIVE}) == HALTS
    assert desk.systems["erp"].records["1"]["state"] == "archived"


# --- what a first meeting overwrites ---


async def differing(tmp_path: Path, **more: str) -> Desk:
    """A record that met as two, whose overwriting in erp the guard holds back."""
    desk = Desk(tmp_path, TWO)
    desk.enter("crm", x="one", y="crm's")
    desk.enter("erp", x="two", **more)
    await halted(desk)
    return desk


@pytest.mark.parametrize(("first_sync", "frozen"), [("FillEmptyOnly", []), ("Review", ["x"])])
async def test_a_held_overwrite_is_not_done_where_a_first_meeting_overwrites_nothing_any_more(
    tmp_path: Path, first_sync: str, frozen: list[str]
) -> None:
    desk = await differing(tmp_path, y="crm's")
    assert await desk.ends(TWO, firstSync=first_sync) == GOES_ON
    assert (desk.values("x"), await desk.frozen()) == ({"crm": "one", "erp": "two"}, frozen)


async def test_what_is_filled_beside_an_overwrite_that_is_taken_back_is_still_filled(tmp_path: Path) -> None:
    desk = await differing(tmp_path)
    desk.declare(TWO, firstSync="FillEmptyOnly")
    assert (await desk.run()).outcome is Outcome.SUCCEEDED
    assert (desk.values("x"), desk.values("y")) == ({"crm": "one", "erp": "two"}, {"crm": "crm's", "erp": "crm's"})


async def test_an_edit_that_waits_in_the_same_write_goes_out_when_its_overwriting_is_taken_back(tmp_path: Path) -> None:
    desk = await differing(tmp_path, y="crm's")
    desk.enter("crm", y="new")
    await halted(desk)
    desk.declare(TWO, firstSync="FillEmptyOnly")
    assert (await desk.run()).outcome is Outcome.SUCCEEDED
    assert (desk.values("x"), desk.values("y")) == ({"crm": "one", "erp": "two"}, {"crm": "new", "erp": "new"})


async def test_a_held_overwrite_stays_held_where_only_deletes_are_decided_otherwise(tmp_path: Path) -> None:
    desk = await differing(tmp_path)
    assert await desk.ends(TWO, deletes={"propagate": "Never"}) == HALTS
    assert desk.values("x") == {"crm": "one", "erp": "one"}


OTHER_OWNERS: list[dict[str, Any]] = [
    {"systemOfRecord": "erp"},
    {"fields": {"x": {"systemOfRecord": "erp", "edits": "SystemOfRecordOnly"}}},
    {"fields": {"x": {"systemOfRecordWhen": {"when": "record.y != 'crm'", "then": "erp"}}}},
]


@pytest.mark.parametrize("owner", OTHER_OWNERS)
async def test_a_held_overwrite_is_not_done_where_another_system_owns_the_field_by_now(
    tmp_path: Path, owner: dict[str, Any]
) -> None:
    desk = await differing(tmp_path, y="crm's")
    assert await desk.ends(TWO, **owner) == HALTS
    assert desk.values("x") == {"crm": "two", "erp": "two"}


async def test_a_held_overwrite_stays_held_where_another_field_gets_another_owner(tmp_path: Path) -> None:
    desk = await differing(tmp_path, y="crm's")
    assert await desk.ends(TWO, fields={"y": {"systemOfRecord": "erp"}}) == HALTS
    assert desk.values("x") == {"crm": "one", "erp": "one"}


async def test_a_later_edit_spreads_after_an_overwrite_was_taken_back(tmp_path: Path) -> None:
    desk = await differing(tmp_path)
    await desk.ends(TWO, firstSync="FillEmptyOnly")
    desk.enter("crm", x="new")
    await desk.run()
    assert desk.values("x") == {"crm": "new", "erp": "new"}


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("number", range(2, 7))  # the first one is that of the opening
async def test_wherever_a_worker_dies_meanwhile_nothing_is_overwritten_and_the_person_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, done: bool
) -> None:
    desk = await differing(tmp_path)
    desk.declare(TWO, ALL, firstSync="Review")
    with monkeypatch.context() as patched:
        dying(patched, number, done=done)
        with pytest.raises(StateError):
            await desk.run()
        await desk.stop()
    reports = [await desk.run(), await desk.run()]
    assert [report.outcome for report in reports] == [Outcome.SUCCEEDED] * 2
    assert (desk.values("x"), await desk.frozen()) == ({"crm": "one", "erp": "two"}, ["x", "y"])


def dying(monkeypatch: pytest.MonkeyPatch, number: int, *, done: bool) -> None:
    """The worker dies with this commit: before it is done, or after."""
    commit, left = SQLiteStore.commit, iter(range(number, -100, -1))

    async def count(store: SQLiteStore, what: Commit) -> None:
        now = next(left)
        if now > 1 or (now == 1 and done):
            await commit(store, what)
        if now <= 1:
            raise StateError("the worker died")

    monkeypatch.setattr(SQLiteStore, "commit", count)
