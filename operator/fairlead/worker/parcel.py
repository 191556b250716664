"""Parcels: what a leader hands to whoever delivers a share of its batch, and what comes back. Text in, text out."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from fairlead.engine.case import Observation, Operation, Side
from fairlead.model.connector import ErrorClass
from fairlead.model.record import Record
from fairlead.state import codec
from fairlead.state.audit import AuditEntry
from fairlead.state.base import StateError, Undelivered
from fairlead.state.referring import Orphan
from fairlead.transport.failure import BY_CLASS, Failure
from fairlead.worker.settlement import Lossy, Settlement
from fairlead.worker.tally import Note, SystemTally

_PARTS = 7
"""What a parcel consists of: by their number one of another version is told."""


class Share(msgspec.Struct, frozen=True):
    """A part of a batch of the journal; it names records and holds no values.

    Attributes:
        journal: the batch.
        records: whose writes these are.
        scanned: the system was read from end to end in this run.
        recovering: the batch may have been sent before.
    """

    journal: int
    system: str
    operation: Operation
    records: list[int]
    scanned: bool
    recovering: bool

    def dump(self) -> bytes:
        """As text."""
        return msgspec.json.encode(self)

    @classmethod
    def load(cls, body: bytes) -> Share:
        """What `dump` wrote."""
        return msgspec.json.decode(body, type=cls)


class Parcel(msgspec.Struct):
    """What came of a share.

    Attributes:
        failure: why the system cannot be used, None when it can.
        read, orphans: what was read or deleted, and which references of it lead nowhere yet (`References.take`).
    """

    settlement: Settlement
    tally: SystemTally
    notes: list[Note]
    audit: list[AuditEntry]
    failure: Failure | None
    read: list[tuple[str, str]] = []
    orphans: list[Orphan] = []

    def dump(self) -> bytes:
        """As text, which holds values."""
        failure = self.failure
        failed = failure and (failure.error, failure.message, failure.reason, failure.retry_after)
        notes = [msgspec.structs.astuple(note) for note in self.notes]
        audit = [msgspec.structs.astuple(entry) for entry in self.audit]
        orphans = [msgspec.structs.astuple(orphan) for orphan in self.orphans]
        tally = msgspec.structs.astuple(self.tally)
        return codec.dump([_settlement(self.settlement), tally, notes, audit, failed, self.read, orphans])

    @classmethod
    def load(cls, body: bytes) -> Parcel:
        """What `dump` wrote.

        Raises:
            StateError: another version wrote it, and what it may lack nobody would miss: the batch is to be sent again.
        """
        parts = codec.load(body)
        if len(parts) != _PARTS:
            raise StateError("a worker of another version delivered a share: what it sent is sent again")
        settlement, tally, notes, audit, failed, read, waits = parts
        failure = None
        if failed:
            error, message, reason, retry_after = failed
            failure = BY_CLASS[ErrorClass(error)](message, reason=reason, retry_after=retry_after)
        told, entries = [Note(*note) for note in notes], [AuditEntry(*entry) for entry in audit]
        seen, orphans = [(system, key) for system, key in read], [Orphan(*orphan) for orphan in waits]
        return cls(_to_settlement(settlement), SystemTally(*tally), told, entries, failure, seen, orphans)


def _settlement(it: Settlement) -> list[Any]:
    return [
        [(record, s, _side(side)) for record, sides in it.sides.items() for s, side in sides.items()],
        [(record, s, dict(values)) for record, said in it.said.items() for s, values in said.items()],
        it.delivered,
        [_undelivered(item) for item in it.undelivered],
        [(record, s, _observation(o)) for record, seen in it.reread.items() for s, o in seen.items()],
        [(record, sorted(systems)) for record, systems in it.missing.items()],
        [(record, sorted(systems)) for record, systems in it.away.items()],
        [msgspec.structs.astuple(lossy) for lossy in it.lossy.values()],
    ]


def _to_settlement(parts: list[Any]) -> Settlement:
    sides, said, delivered, undelivered, reread, missing, away, lossy = parts
    it = Settlement(
        delivered=[(record, system) for record, system in delivered],
        undelivered=[_to_undelivered(item) for item in undelivered],
        missing={record: set(systems) for record, systems in missing},
        away={record: set(systems) for record, systems in away},
        lossy={(item.system, item.field): item for item in (Lossy(*each) for each in lossy)},
    )
    for record, system, side in sides:
        it.sides.setdefault(record, {})[system] = _to_side(side)
    for record, system, values in said:
        it.said.setdefault(record, {})[system] = values
    for record, system, observation in reread:
        it.reread.setdefault(record, {})[system] = _to_observation(observation)
    return it


def _side(side: Side | None) -> Any:
    return side and (side.key, side.row, side.prints.hex(), side.version)


def _to_side(parts: Any) -> Side | None:
    if parts is None:
        return None
    key, row, prints, version = parts
    return Side(key, row, bytes.fromhex(prints), version)


def _undelivered(item: Undelivered) -> Any:
    return [codec.parts(value) if name == "write" else value for name, value in msgspec.structs.asdict(item).items()]


def _to_undelivered(parts: list[Any]) -> Undelivered:
    record, system, write, *rest = parts
    return Undelivered(record, system, codec.to_write(write), *rest)


def _observation(o: Observation) -> Any:
    it = o.record
    return (it.key, it.values, it.version, it.modified, it.times, o.prints.hex(), o.row)


def _to_observation(parts: list[Any]) -> Observation:
    key, values, version, modified, times, prints, row = parts
    record = Record(key, values, version, _moment(modified), {name: _moment(at) for name, at in times.items()})
    return Observation(record, bytes.fromhex(prints), row)


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
