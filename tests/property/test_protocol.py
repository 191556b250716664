"""Exhaustive: two systems, one record, all that users and one crash can do to the worker between any two awaits."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fairlead.connectors.base import NativeWrite, Outcome, Verdict
from fairlead.state.base import Commit
from fairlead.testing.memory_system import MemorySystem, Traits
from support.histories import InlineStore, Setting
from support.protocol import CREATE, DELETE, ENTER, GO_BACK, SCRATCH, Budget, Explored, UserAct, World, explore

ACTS = int(os.environ.get("FAIRLEAD_MODEL_ACTS", "2"))
"""How many acts are tried where there are many kinds of them; `make prove` tries three."""

THREE_AND_A_CRASH = Budget(edits=3, crashes=1)
SOME_AND_A_CRASH = Budget(edits=ACTS, crashes=1)
PLAIN = Traits(modified=False)


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="fairlead-", dir=SCRATCH))
    yield made
    shutil.rmtree(made)


async def explored(
    folder: Path, budget: Budget, *acts: UserAct, traits: Traits = PLAIN, agreed: bool = True, **spec: Any
) -> Explored:
    """How much was tried; fails where something is lost, doubled or echoed. `agreed`: both have the record already."""
    world = World(
        Setting(({"name": "a"}, {"name": "b"}), {"a": traits, "b": traits}, {}, spec), folder / "start.db", acts
    )
    world.begin([("a", CREATE)] if agreed else [("a", CREATE), ("b", CREATE)])
    for _ in range(2 * agreed):
        await world.try_run()
    return await explore(world, folder, budget)


@pytest.mark.parametrize("rule", ["SystemOfRecordWins", "Priority", "LatestWins", "Merge", "Expression", "Manual"])
async def test_three_edits_and_a_crash(folder: Path, rule: str) -> None:
    traits = Traits(modified=rule == "LatestWins")
    spec = {"onConflict": rule, "onConflictExpression": "values[systems[0]] + ' and more'"}
    assert (await explored(folder, THREE_AND_A_CRASH, ENTER, traits=traits, **spec)).states > 100


@pytest.mark.parametrize("traits", [Traits(changes=False, modified=False), Traits(versions=True, tells=False)])
async def test_systems_without_feed_or_with_versions_and_silent_answers(folder: Path, traits: Traits) -> None:
    assert (await explored(folder, SOME_AND_A_CRASH, ENTER, traits=traits)).states > 30


async def test_values_that_come_back(folder: Path) -> None:
    assert (await explored(folder, SOME_AND_A_CRASH, ENTER, GO_BACK)).states > 100


@pytest.mark.parametrize("propagate", ["FromSystemOfRecord", "FromAny", "Never"])
async def test_edits_deletes_and_a_crash(folder: Path, propagate: str) -> None:
    deletes = {"propagate": propagate, "guard": {"maxRecords": 100, "maxPercent": 100}}
    assert (await explored(folder, SOME_AND_A_CRASH, ENTER, DELETE, CREATE, deletes=deletes)).states > 100


async def test_a_first_meeting_with_edits_and_a_crash(folder: Path) -> None:
    budget = Budget(edits=ACTS - 1, crashes=1)
    assert (await explored(folder, budget, ENTER, DELETE, agreed=False)).states > 50


# --- it can fail ---


async def test_a_worker_that_keeps_no_journal_is_caught(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = InlineStore.commit

    async def without(self: InlineStore, commit_: Commit) -> None:
        await commit(self, msgspec.structs.replace(commit_, journal={}))

    monkeypatch.setattr(InlineStore, "commit", without)
    with pytest.raises(AssertionError):
        await explored(folder, Budget(edits=1, crashes=1), ENTER)


async def test_writes_without_conditions_are_caught(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    apply = MemorySystem.apply

    def blindly(self: MemorySystem, write: NativeWrite, paths: Any) -> Outcome:
        return apply(self, msgspec.structs.replace(write, check=lambda _: Verdict.PROCEED), paths)

    monkeypatch.setattr(MemorySystem, "apply", blindly)
    with pytest.raises(AssertionError, match="lost"):
        await explored(folder, Budget(edits=2, crashes=0), ENTER)
