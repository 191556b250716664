"""Each invariant of `support.invariants` can fail: the one meant for it catches a worker that is broken on purpose."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fairlead.connectors.base import Outcome
from fairlead.engine import merge
from fairlead.engine.arbiter import Arbiter
from fairlead.engine.case import Decision, Observation, Side
from fairlead.engine.edits import PlainEdits
from fairlead.engine.fields import FieldJudge
from fairlead.state import sql_base
from fairlead.state.base import Commit, Intent, Recollection
from fairlead.worker import guard
from fairlead.worker.delivery import Delivery
from fairlead.worker.intake import Intake
from fairlead.worker.session import Session
from support.histories import FIELDS, Act, Doing, InlineStore, Replay, Setting
from support.invariants import check

RUN = ("run", Doing())
BEGIN = (("add", "a", "t0", FIELDS), RUN)
EDITED = (*BEGIN, ("edit", "a", "t0", "x", "new"))
CONFLICT = (*EDITED, ("edit", "b", "t0", "x", "new"))

Breaks = Callable[[pytest.MonkeyPatch], None]


async def caught(tmp_path: Path, acts: tuple[Act, ...], **spec: Any) -> str:
    """What `check` says of a history between two systems; nothing when it is content."""
    setting = Setting(({"name": "a"}, {"name": "b"}), {}, {}, spec, "tags")
    replay = Replay(setting, tmp_path / "state.db")
    try:
        await replay.play(acts)
        await check(replay)
    except AssertionError as error:
        return str(error)
    finally:
        await replay.stop()
    return ""


def what_was_read_is_not_remembered(patch: pytest.MonkeyPatch) -> None:
    apply = Intake.apply

    def forgetful(self: Intake, memory: Recollection, decision: Decision, batch: Any) -> None:
        decision.sides = memory.sides or decision.sides
        apply(self, memory, decision, batch)

    patch.setattr(Intake, "apply", forgetful)


def the_guard_is_asleep(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(guard, "limit_of", lambda *_: 1_000_000)


def the_journal_is_never_dropped(patch: pytest.MonkeyPatch) -> None:
    commit = InlineStore.commit

    async def unsettled(self: InlineStore, batch: Commit) -> None:
        batch.settled = []
        await commit(self, batch)

    patch.setattr(InlineStore, "commit", unsettled)


def creates_are_not_looked_for(patch: pytest.MonkeyPatch) -> None:
    async def all_of_them(_self: Delivery, _system: str, batch: list[Intent]) -> list[Intent]:
        return batch

    patch.setattr(Delivery, "_not_there_yet", all_of_them)


def what_is_new_is_overlooked(patch: pytest.MonkeyPatch) -> None:
    async def overlook(*_: Any) -> None:
        pass

    patch.setattr(Intake, "_meet", overlook)


def what_was_written_is_not_remembered(patch: pytest.MonkeyPatch) -> None:
    def before(self: Delivery, intent: Intent, outcome: Outcome, stored: Observation | None) -> Side:
        side = self._memories[intent.record].sides[intent.system]
        return Side(side.key, stored.row if stored else None, side.prints, outcome.version)

    patch.setattr(Delivery, "_side_after", before)


def what_was_written_is_taken_for_an_edit(patch: pytest.MonkeyPatch) -> None:
    def before(self: Delivery, intent: Intent, _outcome: Outcome, _stored: Observation | None) -> Side:
        side = self._memories[intent.record].sides[intent.system]
        return Side(side.key, None, side.prints)

    patch.setattr(Delivery, "_side_after", before)


def edits_do_not_spread(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(PlainEdits, "_spread", lambda *_: {})


def the_owner_does_not_count(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(FieldJudge, "_owner", lambda *_: None)


def the_last_one_wins(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Arbiter, "owner_order", lambda self, view: -self.order(view))


def a_conflict_is_not_told(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Intake, "_note_findings", lambda *_: None)


def a_merge_forgets_what_one_added(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(merge, "_members", lambda _, left, right: left.keys() & right.keys())


def nothing_is_created(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Session, "creates_in", lambda *_: False)


def match_keys_stay_what_they_were(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sql_base, "rematched", lambda *_: False)


GUARD = {"propagate": "FromAny", "guard": {"maxRecords": 1, "maxPercent": 100}}
TWO_GONE = (("add", "a", "t0", ()), ("add", "a", "t1", ()), RUN, ("remove", "a", "t0"), ("remove", "a", "t1"), RUN)
AGAIN = (("edit", "b", "t0", "x", "new"), ("remove", "a", "t0"), ("add", "a", "t0", FIELDS))
REWORDED = (*BEGIN, ("reword",), *AGAIN)
OWNED = {"fields": {"x": {"edits": "SystemOfRecordOnly"}}}
TAGGED = (*BEGIN, ("edit", "a", "t0", "y", "new"), ("edit", "b", "t0", "y", "new"))


@pytest.mark.parametrize(
    ("broken", "acts", "spec", "said"),
    [
        (what_was_read_is_not_remembered, CONFLICT, {}, "never comes to rest"),
        (the_guard_is_asleep, TWO_GONE, {"deletes": GUARD}, "deletes passed the guard"),
        (the_journal_is_never_dropped, EDITED, {}, "the journal is not empty"),
        (what_is_new_is_overlooked, BEGIN, {}, "nobody knows a/1"),
        (what_was_written_is_not_remembered, EDITED, {}, "b/1 is remembered otherwise than it is"),
        (edits_do_not_spread, EDITED, {}, "x3-abc"),
        (nothing_is_created, BEGIN, {}, "never came to b"),
        (the_owner_does_not_count, (*BEGIN, ("edit", "b", "t0", "x", "new")), OWNED, "a owns x, and was given x3-abc"),
        (the_last_one_wins, CONFLICT, {}, "is not won as its rule says"),
        (a_conflict_is_not_told, CONFLICT, {}, "lost: {'x4'}"),
        (a_merge_forgets_what_one_added, TAGGED, {"onConflict": "Merge"}, "lost: {'y"),
        (match_keys_stay_what_they_were, REWORDED, {}, "has t0 twice"),
        (what_was_written_is_taken_for_an_edit, EDITED, {}, "what we wrote came back as a change"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
async def test_a_broken_worker_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: Breaks, acts: tuple[Act, ...], spec: Any, said: str
) -> None:
    assert await caught(tmp_path / "sound", acts, **spec) == ""
    broken(monkeypatch)
    assert said in await caught(tmp_path / "broken", acts, **spec)


async def test_a_create_that_is_repeated_after_a_death_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deaths = [(RUN, BEGIN[0], ("run", Doing(crash=moment))) for moment in range(1, 20)]
    assert {await caught(tmp_path / f"sound{n}", acts) for n, acts in enumerate(deaths)} == {""}
    creates_are_not_looked_for(monkeypatch)
    assert "b has t0 twice" in {await caught(tmp_path / f"{n}", acts) for n, acts in enumerate(deaths)}
