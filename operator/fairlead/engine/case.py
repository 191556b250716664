"""What a decision is made of, and what it is: plain data in, plain data out."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import msgspec

from fairlead.model.record import Record, Value

EDIT = "edit"
"""The rule of a value that was edited in one system, and spreads."""

UNDO = "undo"
"""Begins the rule of what undoes a run, whose id follows."""

UNDONE = "(undone)"
"""Stands for a system where a value comes from before a run that was undone."""


class Operation(StrEnum):
    """What a write does to a record in a system."""

    CREATE = "Create"
    UPDATE = "Update"
    ARCHIVE = "Archive"
    DELETE = "Delete"


class Side(msgspec.Struct, frozen=True, gc=False):
    """What is remembered of one record in one system.

    Attributes:
        key: native id.
        row: fingerprint of the native row last read or written; None when it must be looked at again.
        prints: fingerprints of all the policy's fields; UNSEEN where this system has none.
        version: what a conditional write sends back.
    """

    key: str
    row: int | None
    prints: bytes
    version: str | None = None


class Observation(msgspec.Struct, frozen=True, gc=False):
    """One system's record as it was just read. What `record.values` leaves out has the print that was seen before."""

    record: Record
    prints: bytes
    row: int | None

    def side(self) -> Side:
        """What to remember of it."""
        return Side(self.record.key, self.row, self.prints, self.record.version)


class Write(msgspec.Struct, frozen=True, gc=False):
    """One record to be written to one system: an intent until it is settled.

    Attributes:
        values: canonical values; all that the system maps for a create, what changes for an update.
        origins: field → the system whose value this is. A decision that meets an undelivered write weighs it as
            that system's change.
        modified: field → when its origin says the record changed, for LatestWins; absent where the origin has no time.
        earlier: field → fingerprints of values that an undelivered write held before. Its answer may have been lost
            after it arrived, so finding one of them is no edit.
        guarded: field names whose filled value a first meeting overwrites; they count against the guard, as deletes do.
        unsure: field names of which an earlier value may have arrived: it was sent, and its answer was lost.
        rules: field, or nothing for the whole record → the rule that decided, where it is not `EDIT`.
    """

    operation: Operation
    values: dict[str, Value] = {}
    origins: dict[str, str] = {}
    modified: dict[str, datetime] = {}
    guarded: tuple[str, ...] = ()
    earlier: dict[str, tuple[bytes, ...]] = {}
    unsure: tuple[str, ...] = ()
    rules: dict[str, str] = {}

    @property
    def ends(self) -> bool:
        """Whether the record takes no part in the system any more once this is written."""
        return self.operation in (Operation.DELETE, Operation.ARCHIVE)

    @property
    def keeps_away(self) -> bool:
        """Whether a delete is to last: the record lives on elsewhere, and is not to be created again."""
        return self.operation is Operation.DELETE and self.rules.get("", "").startswith(f"{UNDO} ")

    @property
    def halts(self) -> bool:
        """Whether the guard counts this write before it may go out."""
        return self.ends or bool(self.guarded)


class FindingKind(StrEnum):
    """What a person may want to know of a decision."""

    CONFLICT = "Conflict"
    REVERTED = "Reverted"
    OVERWRITTEN = "Overwritten"
    FROZEN = "Frozen"
    RESOLVED = "Resolved"
    REPAIRED = "Repaired"
    KEPT = "Kept"
    DELETED = "Deleted"
    ARCHIVED = "Archived"
    STAYS_AWAY = "StaysAway"
    DELETE_NOT_SPREAD = "DeleteNotSpread"
    RECREATED = "Recreated"
    LOSSY_FIELD = "LossyField"
    CLOCK_SKEW = "ClockSkew"
    LINKED = "Linked"
    SPLIT = "Split"
    REPLACED = "Replaced"


class Finding(msgspec.Struct, frozen=True, gc=False):
    """Why a value stands: for `explain` and the audit.

    Attributes:
        field: the field, or empty for the whole record.
        rule: the rule that decided, in the words of the CRD.
        winner: the system whose value stands; empty when nobody's does yet.
        values: what each system said, where it was read.
    """

    kind: FindingKind
    field: str
    rule: str
    winner: str
    values: dict[str, Value] = {}


class Case(msgspec.Struct, gc=False):
    """One record, as remembered and as it reads now.

    Attributes:
        sides: what is remembered, by system.
        away: systems where the record was deleted, is archived, left the filter or was split off: nothing flows there.
        pending: undelivered writes, by system.
        frozen: fields that wait for a person.
        competing: frozen field → the systems whose values wait; without them every system must agree to end it.
        observed: what was read now, by system.
        deleted: systems where the record is gone now.
        left: those of `deleted` where it only left the filter, and by `onLeave` is to end elsewhere.
        create_in: systems that are to get the record if they have it not.
        read_at: when this was read (aware, UTC).
        unsure: systems whose undelivered write may have arrived: it was sent, and its answer is not known.
        bases: field → fingerprint → the value, of those that are kept (`engine.bases`).
    """

    sides: dict[str, Side]
    observed: dict[str, Observation]
    read_at: datetime
    away: frozenset[str] = frozenset()
    pending: dict[str, Write] = {}
    frozen: frozenset[str] = frozenset()
    competing: dict[str, frozenset[str]] = {}
    deleted: frozenset[str] = frozenset()
    left: frozenset[str] = frozenset()
    create_in: frozenset[str] = frozenset()
    unsure: frozenset[str] = frozenset()
    bases: dict[str, dict[bytes, Value]] = {}


class Choice(msgspec.Struct, frozen=True):
    """What a person chose for a frozen field.

    Attributes:
        origin: whose value it is; `arbiter.CHOSEN` for a value of no system.
        said: the values that waited, by system.
        rule: who chose, and how, for the audit.
    """

    field: str
    origin: str
    value: Value
    said: dict[str, Value]
    rule: str


def sides_of(case: Case) -> dict[str, Side]:
    """The sides of a case, with what was read now."""
    sides = dict(case.sides)
    for system, observation in case.observed.items():
        fresh, before = observation.side(), sides.get(system)
        if before is not None and fresh.version is None and before.version is not None:
            fresh = msgspec.structs.replace(fresh, version=before.version)
        sides[system] = fresh
    return sides


class Decision(msgspec.Struct, gc=False):
    """What is to be remembered and written.

    Attributes:
        needs: systems that must be read first; when there are any, nothing else is decided.
        sides: what to remember from now on.
        away: as in Case, from now on.
        writes: every write that is to be undelivered from now on, those still pending included.
        frozen: field → the competing values, for every field that waits for a person from now on.
        findings: why.
        bases: as in Case, from now on.
    """

    sides: dict[str, Side] = {}
    away: frozenset[str] = frozenset()
    writes: dict[str, Write] = {}
    frozen: dict[str, dict[str, Value]] = {}
    findings: tuple[Finding, ...] = ()
    needs: frozenset[str] = frozenset()
    bases: dict[str, dict[bytes, Value]] = {}
