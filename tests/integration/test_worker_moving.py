"""A system is another object from now on: nothing that was meant for the old one is sent, nor decided meanwhile."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fairlead.model.syncpolicy import FirstSync
from fairlead.testing.memory_system import MemorySystem, Traits
from fairlead.worker.run import Outcome
from support.desk import OneRecord

SYSTEMS: dict[str, dict[str, Any]] = {"crm": {}, "erp": {}}
MOVED: dict[str, dict[str, Any]] = {"crm": {}, "erp": {"connection": "another"}}
ALL = {"maxRecords": 100, "maxPercent": 100}


class Died(Exception):
    """The worker, in the middle of a write."""


def desk_of(path: Path, **spec: Any) -> OneRecord:
    return OneRecord(path / "state.db", {"x": {"type": "string"}}, SYSTEMS, **spec)


async def dying(desk: OneRecord) -> None:
    """A run that journals its writes to erp, and sends none of them."""

    def die(moment: str) -> None:
        if moment == "write":
            raise Died

    desk.systems["erp"].moment = die
    with pytest.RaisesGroup(Died):
        await desk.run()


def move(desk: OneRecord, *records: dict[str, Any], **spec: Any) -> None:
    """From now on erp is another object, with these records."""
    desk.systems["erp"] = MemorySystem("things", Traits(), clock=lambda: datetime.fromtimestamp(desk.now, UTC))
    for record in records:
        desk.systems["erp"].add(record)
    desk.policy = desk.policy_of(MOVED, **spec)


async def test_a_delete_of_what_was_there_deletes_nothing_and_stops_no_run(tmp_path: Path) -> None:
    desk = desk_of(tmp_path)
    desk.enter("crm", x="old")
    await desk.run()
    desk.delete("crm")
    await dying(desk)
    move(desk, {"id": 1, "x": "old"})
    assert [(await desk.run()).outcome for _ in range(2)] == [Outcome.SUCCEEDED] * 2
    assert (desk.values("x"), desk.systems["erp"].writes) == ({"erp": "old"}, [])


async def test_an_update_of_what_was_there_is_told_as_nobodys_delete(tmp_path: Path) -> None:
    spec = {"deletes": {"propagate": "FromAny", "onUpdateConflict": "DeleteWins", "guard": ALL}}
    desk = desk_of(tmp_path, **spec)
    desk.enter("crm", x="old")
    await desk.run()
    desk.enter("crm", x="new")
    await dying(desk)
    move(desk, **spec)
    assert [(await desk.run()).outcome for _ in range(2)] == [Outcome.SUCCEEDED] * 2
    assert (desk.values("x"), await desk.audit()) == ({"crm": "new", "erp": "new"}, [])


async def test_a_create_is_done_in_the_new_object(tmp_path: Path) -> None:
    desk = desk_of(tmp_path)
    desk.enter("crm", x="new")
    await dying(desk)
    move(desk)
    assert [(await desk.run()).outcome for _ in range(2)] == [Outcome.SUCCEEDED] * 2
    assert desk.values("x") == {"crm": "new", "erp": "new"}


@pytest.mark.parametrize("first_sync", FirstSync)
async def test_a_conflict_waits_on_for_what_a_system_says_that_got_another_name(
    tmp_path: Path, first_sync: FirstSync
) -> None:
    spec = {"fields": {"x": {"onConflict": "Manual"}}, "firstSync": first_sync.value}
    desk = desk_of(tmp_path, **spec)
    desk.enter("crm", x="old")
    await desk.run()
    desk.enter("crm", x="one")
    desk.enter("erp", x="two")
    await desk.run()
    desk.systems["erp2"] = desk.systems.pop("erp")
    desk.policy = desk.policy_of({"crm": {}, "erp2": {}}, **spec)
    assert [(await desk.run()).outcome for _ in range(2)] == [Outcome.SUCCEEDED] * 2
    assert (desk.values("x"), await desk.frozen()) == ({"crm": "one", "erp2": "two"}, ["x"])
    desk.enter("crm", x="two")
    assert (await desk.run()).outcome is Outcome.SUCCEEDED
    assert (desk.values("x"), await desk.frozen()) == ({"crm": "two", "erp2": "two"}, [])


@pytest.mark.parametrize("first_sync", FirstSync)
async def test_a_system_that_joins_a_conflict_is_not_overwritten_by_the_agreement_of_the_others(
    tmp_path: Path, first_sync: FirstSync
) -> None:
    spec = {"fields": {"x": {"onConflict": "Manual"}}, "firstSync": first_sync.value}
    desk = desk_of(tmp_path, **spec)
    desk.enter("crm", x="old")
    await desk.run()
    desk.enter("crm", x="one")
    desk.enter("erp", x="two")
    await desk.run()
    desk.systems["shop"] = MemorySystem("things", Traits(), clock=lambda: datetime.fromtimestamp(desk.now, UTC))
    desk.systems["shop"].add({"id": 1, "x": "three"})
    desk.policy = desk.policy_of({**SYSTEMS, "shop": {}}, **spec)
    await desk.run()
    desk.enter("erp", x="one")
    await desk.run()
    assert (desk.values("x"), await desk.frozen()) == ({"crm": "one", "erp": "one", "shop": "three"}, ["x"])
