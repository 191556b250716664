"""Histories that once went wrong, each named after what did. `tests/property/test_worker_machine.py` found them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fairlead.testing.memory_system import Traits
from support.histories import FIELDS, Act, Doing, Replay, Setting
from support.invariants import check

RUN = ("run", Doing())


async def played(
    tmp_path: Path,
    *acts: Act,
    systems: Sequence[Any] = ("a", "b"),
    traits: dict[str, Traits] | None = None,
    **spec: Any,
) -> Replay:
    """What came of a history, at rest and after every invariant was checked. The first system is that of record."""
    named = [s if isinstance(s, dict) else {"name": s} for s in systems]
    replay = Replay(Setting(tuple(named), traits or {}, {}, spec), tmp_path / "state.db")
    try:
        await replay.play(acts)
        await check(replay)
    finally:
        await replay.stop()
    return replay


def shown(replay: Replay, field: str) -> dict[str, list[object]]:
    """System → the value of a field in each of its records."""
    return {name: [row.get(field) for row in system.records.values()] for name, system in replay.systems.items()}


async def test_a_record_that_left_its_last_system_while_it_was_met_is_created_nowhere(tmp_path: Path) -> None:
    removed = Doing(meanwhile={4: (("remove", "b", "t0"),)})
    replay = await played(tmp_path, ("add", "b", "t0", FIELDS), ("run", removed))
    assert shown(replay, "m") == {"a": [], "b": []}


async def test_an_edit_in_a_write_only_system_that_a_delete_takes_along_is_told(tmp_path: Path) -> None:
    systems = ("a", {"name": "b", "access": "WriteOnly"})
    acts = [("add", "a", "t0", FIELDS), RUN, ("remove", "a", "t0"), ("edit", "b", "t0", "x", "new")]
    replay = await played(tmp_path, *acts, systems=systems)
    assert {(f["kind"], f["field"]) for f in replay.findings} == {("Overwritten", "x"), ("Deleted", "")}
