"""A field gets another type while values of the old one still wait: nothing stops, and nothing of it is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fairlead.transport.failure import Transient
from fairlead.worker.run import Outcome
from support.desk import OneRecord

SYSTEMS: dict[str, dict[str, Any]] = {"crm": {}, "erp": {}}


def desk_of(path: Path, **spec: Any) -> OneRecord:
    return OneRecord(path / "state.db", {"x": {"type": "integer"}}, SYSTEMS, **spec)


def declare_texts(desk: OneRecord, **spec: Any) -> None:
    """From now on `x` is a text."""
    desk.retype({"x": {"type": "string"}})
    desk.policy = desk.policy_of(SYSTEMS, **spec)


async def test_an_update_that_waits_arrives_as_what_its_origin_says_now(tmp_path: Path) -> None:
    desk = desk_of(tmp_path)
    desk.enter("crm", x=1)
    await desk.run()
    desk.systems["erp"].down = Transient("erp is down")
    desk.enter("crm", x=2)
    await desk.run()
    declare_texts(desk)
    desk.systems["erp"].down = None
    reports = [await desk.run(), await desk.run()]
    assert [report.outcome for report in reports] == [Outcome.SUCCEEDED, Outcome.SUCCEEDED]
    assert desk.values("x") == {"crm": 2, "erp": "2"}


async def test_a_create_that_waits_arrives_as_what_its_origin_says_now(tmp_path: Path) -> None:
    desk = desk_of(tmp_path)
    desk.systems["erp"].down = Transient("erp is down")
    desk.enter("crm", x=1)
    await desk.run()
    declare_texts(desk)
    desk.systems["erp"].down = None
    reports = [await desk.run(), await desk.run()]
    assert [report.outcome for report in reports] == [Outcome.SUCCEEDED, Outcome.SUCCEEDED]
    assert desk.values("x") == {"crm": 1, "erp": "1"}


async def test_a_conflict_that_waits_goes_on_waiting(tmp_path: Path) -> None:
    manual = {"onConflict": "Manual"}
    desk = desk_of(tmp_path, **manual)
    desk.enter("crm", x=1)
    await desk.run()
    desk.enter("crm", x=2)
    desk.enter("erp", x=3)
    await desk.run()
    declare_texts(desk, **manual)
    reports = [await desk.run(), await desk.run()]
    assert [report.outcome for report in reports] == [Outcome.SUCCEEDED, Outcome.SUCCEEDED]
    assert (await desk.frozen(), desk.values("x")) == (["x"], {"crm": 2, "erp": 3})
