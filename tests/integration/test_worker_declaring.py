"""The policy's schema, fields or filters are declared otherwise, while people go on working: nobody's edit is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fairlead.testing.memory_system import Traits
from fairlead.worker.run import Kind, Outcome
from support.desk import OneRecord

SYSTEMS: dict[str, dict[str, Any]] = {"crm": {}, "erp": {}}
SHORT = {"type": "string", "maxLength": 5}
LONG = {"type": "string", "maxLength": 50}
OUTSIDE = {"filter": "x != 'out'"}

DECLARED: dict[str, dict[str, Any]] = {
    "described": {"x": {**SHORT, "description": "A short text."}},
    "wider": {"x": LONG},
    "the same in another order": {"x": dict(reversed(SHORT.items()))},
    "with a field in front": {"a": {"type": "string"}, "id": {"type": "integer"}, "x": SHORT},
    "with the fields in another order": {"x": SHORT, "id": {"type": "integer"}},
}


async def agreed(path: Path, systems: Any = SYSTEMS, *, schema: Any = SHORT, **spec: Any) -> OneRecord:
    """Both systems have the record, and agree."""
    desk = OneRecord(path / "state.db", {"x": schema}, systems, **spec)
    desk.enter("crm", x="old")
    await desk.run()
    await desk.run()
    return desk


@pytest.mark.parametrize("declared", DECLARED.values(), ids=DECLARED)
async def test_an_edit_that_no_run_has_seen_stays_an_edit(tmp_path: Path, declared: dict[str, Any]) -> None:
    desk = await agreed(tmp_path)
    desk.enter("erp", x="new")
    desk.declare(declared)
    desk.policy = desk.policy_of(SYSTEMS)
    await desk.run()
    assert desk.values("x") == {"crm": "new", "erp": "new"}


@pytest.mark.parametrize("declared", DECLARED.values(), ids=DECLARED)
async def test_values_that_differ_since_they_met_go_on_to_differ(tmp_path: Path, declared: dict[str, Any]) -> None:
    differ = {"firstSync": "FillEmptyOnly"}
    desk = OneRecord(tmp_path / "state.db", {"x": SHORT}, SYSTEMS, **differ)
    desk.enter("crm", x="one")
    desk.enter("erp", x="two")
    await desk.run()
    desk.declare(declared)
    desk.policy = desk.policy_of(SYSTEMS, **differ)
    for kind in Kind:
        await desk.run(kind)
    assert (desk.values("x"), await desk.audit()) == ({"crm": "one", "erp": "two"}, [])


async def test_what_was_too_long_arrives_once_the_schema_takes_it(tmp_path: Path) -> None:
    desk = await agreed(tmp_path)
    desk.enter("erp", x="a long text")
    await desk.run()
    desk.declare({"x": LONG})
    desk.policy = desk.policy_of(SYSTEMS)
    await desk.run()
    assert desk.values("x") == {"crm": "a long text", "erp": "a long text"}


async def test_what_a_narrower_schema_does_not_take_any_more_is_found_before_it_is_edited(tmp_path: Path) -> None:
    desk = await agreed(tmp_path, schema=LONG)
    desk.enter("crm", x="a long text")
    await desk.run()
    desk.declare({"x": SHORT})
    desk.policy = desk.policy_of(SYSTEMS)
    report = await desk.run()
    assert [note.record for note in report.tally.notes if note.kind == "DeadLetter"] == ["erp/1", "crm/1"]


@pytest.mark.parametrize("find", [True, False], ids=["can be searched", "cannot be searched"])
async def test_what_a_filter_excluded_is_met_before_its_like_is_created(tmp_path: Path, find: bool) -> None:
    traits = {name: Traits(find=find) for name in SYSTEMS}
    desk = OneRecord(tmp_path / "state.db", {"x": SHORT}, {"crm": OUTSIDE, "erp": {}}, traits=traits)
    desk.enter("crm", x="out")
    await desk.run()
    desk.policy = desk.policy_of(SYSTEMS)
    desk.enter("erp", x="mine")
    await desk.run()
    assert [len(system.records) for system in desk.systems.values()] == [1, 1]


async def test_what_a_new_filter_excludes_leaves_with_the_next_run(tmp_path: Path) -> None:
    desk = OneRecord(tmp_path / "state.db", {"x": SHORT}, SYSTEMS)
    desk.enter("crm", x="out")
    await desk.run()
    desk.policy = desk.policy_of({"crm": {**OUTSIDE, "onLeave": "Delete"}, "erp": {}})
    assert (await desk.run()).outcome is Outcome.SUCCEEDED
    assert desk.values("x") == {"crm": "out"}
