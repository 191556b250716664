"""Tally: what a run has done so far, for progress, history, status and metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from fairlead.state.base import Recollection


class SystemTally(msgspec.Struct):
    """What happened with one system in one run."""

    read: int = 0
    changed: int = 0
    created: int = 0
    updated: int = 0
    archived: int = 0
    deleted: int = 0
    failed: int = 0
    last_change: float | None = None
    skew: float = 0.0
    """Seconds by which the system's clock is ahead, where that matters; 0 when it is right."""
    passes_over: bool = False
    """It has records that were forgotten, and are not taken in."""
    whole: bool = False
    """It was read from end to end."""
    reason: str = ""
    message: str = ""
    """Why the system could not be used, empty when it could."""

    def add(self, other: SystemTally) -> None:
        """Adds what another worker did in the same run."""
        for name in ("created", "updated", "archived", "deleted", "failed"):
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Note(msgspec.Struct, frozen=True):
    """Something a person may want to see while it happens. It names the record by its keys and holds no value.

    Of what was `REFUSED`, `record` is what a person asked for, `rule` why, and `winner` who asked.
    """

    kind: str
    record: str
    field: str
    rule: str
    winner: str


def place_of(memory: Recollection | None, system: str) -> str:
    """How a record is named in a system: SYSTEM/KEY, or by where else it is if it is still to be created there."""
    if memory is not None and system in memory.sides:
        return f"{system}/{memory.sides[system].key}"
    elsewhere = min((f"{name}/{side.key}" for name, side in memory.sides.items()), default="") if memory else ""
    return f"{system}/(new, from {elsewhere})" if elsewhere else f"{system}/(new)"


REFUSED = "Refused"
"""Kind of note: something that a person asked for was not done."""

FORGOTTEN = "Forgotten"
"""Reason, and kind of note, where a system has records that were forgotten."""

PASSED_OVER = (
    "it has records that were forgotten, and are not taken in: one that is somebody else by now is, after "
    "`fairlead forget --take-in SYSTEM/KEY`"
)
"""What is said of that."""


def skewed(seconds: float) -> str:
    """What is said of a clock that is ahead."""
    return (
        f"its clock is {int(seconds // 60)} minutes ahead, so its times decide nothing: LatestWins goes by priority "
        "until it is set right"
    )


NOTES = 100
"""Notes kept of one run; what was decided is in the audit as well."""


class Tally(msgspec.Struct):
    """What happened in one run."""

    systems: dict[str, SystemTally] = {}
    notes: list[Note] = []
    conflicts: int = 0
    dead: int = 0
    overwritten: int = 0
    planned: int = 0
    waiting: int = 0
    """Records that refer to one which its policy does not know yet."""

    def of(self, system: str) -> SystemTally:
        """The tally of one system."""
        return self.systems.setdefault(system, SystemTally())

    def note(self, note: Note) -> None:
        """Keeps a note, as long as there are few."""
        if len(self.notes) < NOTES:
            self.notes.append(note)

    def counts(self) -> dict[str, int]:
        """Totals, by the names that the status and the metrics use."""
        totals = {"conflicts": self.conflicts, "dead": self.dead, "planned": self.planned}
        for name in ("read", "changed", "created", "updated", "archived", "deleted", "failed"):
            totals[name] = sum(getattr(tally, name) for tally in self.systems.values())
        return totals
