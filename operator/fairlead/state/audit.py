"""The audit: why values stand, what was lost, and what was written where."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

import msgspec

from fairlead.model.record import Value


class AuditEntry(msgspec.Struct, frozen=True, gc=False):
    """Why a value stands, what was lost, or what was written; never rewritten.

    Attributes:
        at: epoch seconds.
        record: the record; where the entry is about many, the one with the greatest number.
        field: the field, or empty for whole records.
        kind: an `engine.case.FindingKind`, or of what was written (then `system` is given) a `WriteKind`.
        rule: the rule that decided, in the words of the CRD.
        winner: the system whose value it is; empty where that is nobody's.
        values: what each system said; of what was written `OLD` and `NEW`, as far as they are kept; of a delete the
            record as it was; of creates `RECORDS`.
        system: where it was written; empty for a finding.
        lowest: where the entry is about many records, the least of their numbers.
    """

    at: float
    run: str
    record: int
    field: str
    kind: str
    rule: str
    winner: str
    values: dict[str, Value]
    system: str = ""
    lowest: int | None = None


OLD, NEW, RECORDS = "old", "new", "records"
"""Names in the values of what was written."""


class WriteKind(StrEnum):
    """What was written to a system."""

    CREATED = "Created"
    UPDATED = "Updated"
    ARCHIVED = "Archived"
    DELETED = "Deleted"


class AuditQuery(msgspec.Struct, frozen=True):
    """Which entries of the audit: those that have all that is given.

    Attributes:
        records: numbers; entries about any of them.
        former: (number, epoch seconds): entries about that one until then are among them, too; see `Store.former`.
        system: where it was written, or whose value it is.
        since: epoch seconds.
    """

    run: str = ""
    records: tuple[int, ...] = ()
    field: str = ""
    system: str = ""
    kind: str = ""
    since: float = 0.0
    former: tuple[tuple[int, float], ...] = ()


class Audited(NamedTuple):
    """An entry and its number: a later one has a greater."""

    number: int
    entry: AuditEntry


def created(at: float, run: str, system: str, rule: str, records: Sequence[int]) -> AuditEntry:
    """One entry for all that a batch created in a system: a first copy costs next to nothing more."""
    ranges = _ranges(sorted(records))
    values: dict[str, Value] = {RECORDS: [[*each] for each in ranges]}
    return AuditEntry(at, run, ranges[-1][1], "", WriteKind.CREATED.value, rule, "", values, system, ranges[0][0])


def created_records(entry: AuditEntry) -> list[int]:
    """The records of such an entry, in order."""
    ranges = msgspec.convert(entry.values.get(RECORDS, []), list[tuple[int, int]])
    return [record for first, last in ranges for record in range(first, last + 1)]


def _ranges(numbers: Sequence[int]) -> list[list[int]]:
    """Numbers in order as [first, last] of each row of neighbours."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ranges
