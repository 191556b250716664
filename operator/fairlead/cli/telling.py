"""Telling: what `fairlead run` says of each run, while it goes on working."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
import orjson
from rich.console import Console
from rich.markup import escape

from fairlead.cli.words import Wording, in_full
from fairlead.engine.case import EDIT
from fairlead.worker.loop import PolicyLoop
from fairlead.worker.run import Outcome, RunReport
from fairlead.worker.tally import Note, Tally

NOTES_SHOWN = 20
"""Notes of one run that people are shown."""

_INDENT = " " * 10

_WORDS = Wording(
    {
        "Conflict": "conflict on {field} of {record}: {winner}'s value stands ({rule})",
        "Reverted": "edit of {field} of {record} reverted to {winner}'s value ({rule})",
        "Overwritten": "{field} of {record} overwritten: {winner}'s value stands ({rule})",
        "Frozen": "conflict on {field} of {record} waits for a person ({rule})",
        "Resolved": "conflict on {field} of {record} is resolved ({rule})",
        "Repaired": "{field} of {record} repaired with {winner}'s value ({rule})",
        "Kept": "{field} of {record} was emptied and stays filled elsewhere ({rule})",
        "Deleted": "{record} deleted in {winner}, and so everywhere ({rule})",
        "Archived": "{record} deleted in {winner}, and so archived elsewhere ({rule})",
        "StaysAway": "{record} is {rule}, and stays in {winner} as it is until it takes part there again",
        "DeleteNotSpread": "{record} deleted in {winner}, and kept elsewhere ({rule})",
        "Recreated": "{record} was edited while {winner} deleted it: it comes back ({rule})",
        "DeadLetter": "{record} is a dead letter: {rule}",
        "NotDelivered": "{record} could not be written: {rule}",
        "Linked": "{record} is one record now, {rule}",
        "Split": "{record} is a record of its own now, {rule}",
        "Replaced": "{record} is no record any more, {rule}",
        "WaitingForParent": "{field} of {record} refers to a record that is not there yet: it waits ({rule})",
        "LossyField": "field {field}: {rule}",
        "ClockSkew": "{record}: {rule}",
        "Rematching": "{record} cannot be read: {rule}",
        "Forgotten": "{record}: {rule}",
        "Refused": "{winner} asked to {record}; refused: {rule}",
    },
    ended={
        "Conflict": "edit of {field} of {record} went nowhere: the record ended ({rule})",
        "Overwritten": "{field} of {record} went nowhere: the record ended ({rule})",
    },
    left={
        "Deleted": "{record} takes part in {winner} no longer, and so was deleted everywhere ({rule})",
        "Archived": "{record} takes part in {winner} no longer, and so was archived elsewhere ({rule})",
    },
)

_HELD = Wording(
    {
        "Overwritten": "{field} of {record} is to be overwritten with {winner}'s value, and is held back ({rule})",
        "Deleted": "{record} deleted in {winner}: to be deleted everywhere, and held back ({rule})",
        "Archived": "{record} deleted in {winner}: to be archived elsewhere, and held back ({rule})",
    },
    ended={
        "Conflict": "edit of {field} of {record} is to go nowhere: that the record ends is held back ({rule})",
        "Overwritten": "{field} of {record} is to go nowhere: that the record ends is held back ({rule})",
    },
    left={
        "Deleted": "{record} takes part in {winner} no longer: to be deleted everywhere, and held back ({rule})",
        "Archived": "{record} takes part in {winner} no longer: to be archived elsewhere, and held back ({rule})",
    },
)
"""What is said where the guard halted the run."""

_SENT = (EDIT, "access: ReadOnly")
"""Rules by which something is overwritten that the guard holds back in no run."""


def sentence(note: Note, *, halted: bool = False) -> str:
    """A note in words. In a run that halted, what the guard counts is not done."""
    words = _WORDS.of(note.kind, note.rule, "{kind}: {field} of {record}: {rule}")
    if halted and note.rule not in _SENT:
        words = _HELD.of(note.kind, note.rule, words)
    return words.format(**{**msgspec.to_builtins(note), "rule": in_full(note.rule)})


def done_by(tally: Tally) -> str:
    """What a run did, system by system; empty when it did nothing."""
    return counted_by_system(tally, "changed", "created", "updated", "archived", "deleted", "failed")


def counted_by_system(tally: Tally, *names: str) -> str:
    """`crm: 40,000 read; erp: 20,000 read, 3 failed`: these counts, where they are not 0."""
    found = []
    for system, its in tally.systems.items():
        parts = [f"{getattr(its, name):,} {name}" for name in names if getattr(its, name)]
        if parts:
            found.append(f"{system}: {', '.join(parts)}")
    return "; ".join(found)


class People:
    """Tells people: a line for each run that did something, and what they may want to know of it.

    Trouble that lasts is told when it begins, when it changes and when it ends, not by every run.
    """

    def __init__(self, out: Console, now: Callable[[], datetime] = lambda: datetime.now().astimezone()) -> None:
        self._out = out
        self._now = now
        self._trouble: dict[str, str] = {}

    def tell(self, loop: PolicyLoop, report: RunReport | None) -> None:
        """Tells of a run; None stands for one that could not be ended."""
        error = loop.measured.error
        trouble = report.message if report else f"{error.reason}: {error.message}" if error else ""
        before, self._trouble[loop.policy.id] = self._trouble.get(loop.policy.id, ""), trouble
        done, notes = (done_by(report.tally), report.tally.notes) if report else ("", [])
        if done and loop.plan is not None:
            done = f"planned, and not done: {done}"
        if not (done or notes or trouble != before):
            return
        name = escape(loop.policy.metadata.name)
        outcome = report.outcome.value if report else "Failed"
        self._out.print(f"[dim]{self._now():%H:%M:%S}[/dim]  [bold]{name}[/bold]  {escape(done or outcome)}")
        for note in notes[:NOTES_SHOWN]:
            self._line(sentence(note, halted=bool(report and report.halt)))
        if len(notes) > NOTES_SHOWN:
            self._line(f"… and {len(notes) - NOTES_SHOWN} more like these; --log json names up to 100")
        if trouble != before:
            self._line(trouble or "works again", "yellow" if trouble else "green")

    def _line(self, text: str, style: str | None = None) -> None:
        self._out.print(_INDENT + text, style=style, markup=False)


class Machines:
    """Tells machines: one JSON object a run, on a line of standard output."""

    def __init__(self, out: Console) -> None:
        self._out = out

    def tell(self, loop: PolicyLoop, report: RunReport | None) -> None:
        """Tells of a run; None stands for one that could not be ended."""
        about = {"time": datetime.now(UTC).isoformat(), "event": "run", "policy": loop.policy.id}
        self._out.out(orjson.dumps(about | _facts(loop, report)).decode(), highlight=False)


def _facts(loop: PolicyLoop, report: RunReport | None) -> dict[str, object]:
    if report is None:
        error = loop.measured.error
        return {"outcome": Outcome.FAILED.value, "message": f"{error.reason}: {error.message}" if error else ""}
    return {
        "run": report.id,
        "kind": report.kind.value,
        "outcome": report.outcome.value,
        "message": report.message,
        "seconds": round(report.ended - report.started, 3),
        "counts": report.tally.counts(),
        "notes": [msgspec.to_builtins(note) for note in report.tally.notes],
    }
