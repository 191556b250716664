"""What `fairlead run` says of its runs, and how often."""

from __future__ import annotations

import asyncio
import io
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from rich.console import Console

from fairlead.cli.progress import Progress, described
from fairlead.cli.telling import Machines, People, done_by, sentence
from fairlead.engine.case import FindingKind
from fairlead.model.health import WorkerError
from fairlead.transport.failure import Failure, Transient
from fairlead.worker.guard import Halt
from fairlead.worker.hosting import Host
from fairlead.worker.loop import PolicyLoop
from fairlead.worker.run import Kind, Outcome, Run, RunReport
from fairlead.worker.tally import Note, SystemTally, Tally
from support.policies import policy_of

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
QUIET = Tally()
BUSY = Tally(systems={"crm": SystemTally(read=1200, changed=1200), "erp": SystemTally(read=3, created=1200, failed=1)})
REVERTED = Note("Reverted", "crm/1 = erp/7", "credit", "edits: SystemOfRecordOnly", "erp")


@pytest.fixture
def loop(tmp_path: Path) -> PolicyLoop:
    return PolicyLoop(policy_of([{"name": "crm"}, {"name": "erp"}]), Host({}, {}, cast("Any", None), tmp_path))


def report(tally: Tally = QUIET, halt: Halt | None = None, **failures: Failure) -> RunReport:
    outcome = Outcome.PARTIAL if failures else Outcome.SUCCEEDED
    return RunReport("r1", Kind.CHANGES, 0.0, 1.0, outcome, tally, failures, halt)


def told(loop: PolicyLoop, *reports: RunReport | None) -> list[str]:
    out = io.StringIO()
    people = People(Console(file=out, width=200), lambda: NOON)
    for each in reports:
        people.tell(loop, each)
    return out.getvalue().splitlines()


def test_a_run_that_did_nothing_is_not_told(loop: PolicyLoop) -> None:
    assert told(loop, report(), report()) == []


def test_a_run_is_told_system_by_system(loop: PolicyLoop) -> None:
    assert told(loop, report(BUSY)) == ["12:00:00  customers  crm: 1,200 changed; erp: 1,200 created, 1 failed"]


def test_what_a_person_may_want_to_know_is_told_in_words(loop: PolicyLoop) -> None:
    tally = Tally(systems=BUSY.systems, notes=[REVERTED])
    assert told(loop, report(tally))[1:] == [
        "          edit of credit of crm/1 = erp/7 reverted to erp's value (edits: SystemOfRecordOnly)"
    ]


def test_many_notes_are_cut_and_counted(loop: PolicyLoop) -> None:
    lines = told(loop, report(Tally(notes=[REVERTED] * 50)))
    assert (len(lines), lines[-1].strip()) == (22, "… and 30 more like these; --log json names up to 100")


def test_trouble_is_told_when_it_begins_when_it_changes_and_when_it_ends(loop: PolicyLoop) -> None:
    down, other = report(erp=Transient("no route")), report(erp=Transient("refused"))
    assert told(loop, down, down, other, report(), report()) == [
        "12:00:00  customers  Partial",
        "          erp: no route",
        "12:00:00  customers  Partial",
        "          erp: refused",
        "12:00:00  customers  Succeeded",
        "          works again",
    ]


def test_a_halt_is_told_with_how_to_release_it(loop: PolicyLoop) -> None:
    lines = told(loop, report(halt=Halt.of("abc", 7, 5)))
    assert "fairlead.dev/approve=abc" in lines[1]


def test_a_state_that_cannot_be_used_is_told(loop: PolicyLoop) -> None:
    loop.measured = msgspec.structs.replace(loop.measured, error=WorkerError("StateFull", "no space is left"))
    assert told(loop, None, None) == ["12:00:00  customers  Failed", "          StateFull: no space is left"]


def test_what_systems_say_is_no_markup(loop: PolicyLoop) -> None:
    assert told(loop, report(erp=Transient("[red]x[/red] [/nothing]")))[1].strip() == "erp: [red]x[/red] [/nothing]"


@pytest.mark.parametrize(
    "kind", [*(kind.value for kind in FindingKind), "DeadLetter", "NotDelivered", "WaitingForParent", "Refused"]
)
def test_every_kind_of_note_has_words(kind: str) -> None:
    assert kind not in sentence(Note(kind, "crm/1", "name", "the rule", "erp"))


@pytest.mark.parametrize(
    ("kind", "rule", "expected"),
    [
        ("Overwritten", "FromAny", "name of crm/1 went nowhere: the record ended (deletes.propagate: FromAny)"),
        ("Overwritten", "onLeave: Delete", "name of crm/1 went nowhere: the record ended (onLeave: Delete)"),
        (
            "Conflict",
            "onUpdateConflict: DeleteWins",
            "edit of name of crm/1 went nowhere: the record ended (onUpdateConflict: DeleteWins)",
        ),
        (
            "Overwritten",
            "firstSync: SystemOfRecordWins",
            "name of crm/1 overwritten: erp's value stands (firstSync: SystemOfRecordWins)",
        ),
        ("Deleted", "FromAny", "crm/1 deleted in erp, and so everywhere (deletes.propagate: FromAny)"),
        (
            "Archived",
            "onLeave: Archive",
            "crm/1 takes part in erp no longer, and so was archived elsewhere (onLeave: Archive)",
        ),
    ],
)
def test_a_record_that_ended_is_told_so_and_no_value_to_stand(kind: str, rule: str, expected: str) -> None:
    assert expected == sentence(Note(kind, "crm/1", "name", rule, "erp"))


@pytest.mark.parametrize(
    ("kind", "rule", "expected"),
    [
        (
            "Deleted",
            "FromAny",
            "crm/1 deleted in erp: to be deleted everywhere, and held back (deletes.propagate: FromAny)",
        ),
        (
            "Archived",
            "FromAny",
            "crm/1 deleted in erp: to be archived elsewhere, and held back (deletes.propagate: FromAny)",
        ),
        (
            "Deleted",
            "onLeave: Delete",
            "crm/1 takes part in erp no longer: to be deleted everywhere, and held back (onLeave: Delete)",
        ),
        (
            "Archived",
            "onLeave: Archive",
            "crm/1 takes part in erp no longer: to be archived elsewhere, and held back (onLeave: Archive)",
        ),
        (
            "Overwritten",
            "firstSync: SystemOfRecordWins",
            "name of crm/1 is to be overwritten with erp's value, and is held back (firstSync: SystemOfRecordWins)",
        ),
        (
            "Overwritten",
            "resync --enforce",
            "name of crm/1 is to be overwritten with erp's value, and is held back (resync --enforce)",
        ),
        (
            "Overwritten",
            "FromAny",
            "name of crm/1 is to go nowhere: that the record ends is held back (deletes.propagate: FromAny)",
        ),
        (
            "Conflict",
            "onUpdateConflict: DeleteWins",
            "edit of name of crm/1 is to go nowhere: that the record ends is held back (onUpdateConflict: DeleteWins)",
        ),
    ],
)
def test_what_the_guard_holds_back_is_told_as_not_done(kind: str, rule: str, expected: str) -> None:
    assert expected == sentence(Note(kind, "crm/1", "name", rule, "erp"), halted=True)


@pytest.mark.parametrize(
    ("kind", "rule"),
    [
        ("Overwritten", "edit"),
        ("Overwritten", "access: ReadOnly"),
        ("Conflict", "LatestWins"),
        ("Reverted", "edits: SystemOfRecordOnly"),
        ("DeleteNotSpread", "Never"),
        ("Recreated", "UpdateWins"),
    ],
)
def test_what_a_halted_run_did_is_told_as_done(kind: str, rule: str) -> None:
    note = Note(kind, "crm/1", "name", rule, "erp")
    assert sentence(note) == sentence(note, halted=True)


def test_a_run_that_halted_tells_its_deletes_as_held_back(loop: PolicyLoop) -> None:
    tally = Tally(notes=[Note("Deleted", "crm/1", "", "FromAny", "erp")])
    assert told(loop, report(tally, Halt.of("abc", 7, 5)))[1].strip() == (
        "crm/1 deleted in erp: to be deleted everywhere, and held back (deletes.propagate: FromAny)"
    )


def test_what_a_person_asked_for_in_vain_is_told_with_who_asked_and_why() -> None:
    note = Note("Refused", "link crm/2 with erp/10", "", "there is no erp/10", "ada")
    assert sentence(note) == "ada asked to link crm/2 with erp/10; refused: there is no erp/10"


def test_what_a_run_did_names_nothing_that_it_did_not(loop: PolicyLoop) -> None:
    assert done_by(Tally(systems={"crm": SystemTally(read=5)})) == ""


@pytest.mark.parametrize(
    ("tally", "seconds", "text"),
    [
        (QUIET, 3.2, "00:03  connecting"),
        (BUSY, 65.0, "01:05  crm: 1,200 read; erp: 3 read, 1,200 created, 1 failed  (19 records read a second)"),
        (Tally(systems={"crm": SystemTally(read=1)}), 50.0, "00:50  crm: 1 read"),
    ],
)
def test_progress_is_what_was_read_and_written_so_far(tally: Tally, seconds: float, text: str) -> None:
    assert described(tally, seconds) == text


class Going:
    """A run that goes on."""

    def __init__(self, tally: Tally) -> None:
        self.tally = tally


async def test_a_run_that_lasts_is_told_now_and_then_where_there_is_no_terminal(
    loop: PolicyLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fairlead.cli.progress.PATIENCE", 0.0)
    out = io.StringIO()
    loop.running = cast("Run", Going(BUSY))
    async with Progress(Console(file=out, width=200), [loop], interval=0.05):
        await asyncio.sleep(0.3)
    lines = out.getvalue().splitlines()
    assert 2 <= len(lines) <= 6
    assert all("customers  00:00  crm: 1,200 read; erp: 3 read, 1,200 created, 1 failed" in line for line in lines)


async def test_a_run_that_is_over_soon_has_no_progress(loop: PolicyLoop) -> None:
    out = io.StringIO()
    loop.running = cast("Run", Going(BUSY))
    async with Progress(Console(file=out), [loop], interval=0.01):
        await asyncio.sleep(0.1)
    assert out.getvalue() == ""


def test_machines_are_told_of_every_run_in_one_line(loop: PolicyLoop) -> None:
    out = io.StringIO()
    machines = Machines(Console(file=out))
    loop.measured = msgspec.structs.replace(loop.measured, error=WorkerError("StateFull", "no space is left"))
    for each in (report(BUSY), None):
        machines.tell(loop, each)
    events = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [(event["event"], event["policy"], event["outcome"], event["message"]) for event in events] == [
        ("run", "default/customers", "Succeeded", ""),
        ("run", "default/customers", "Failed", "StateFull: no space is left"),
    ]
