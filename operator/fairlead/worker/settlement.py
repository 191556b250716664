"""Settlement: what came of a batch of writes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from fairlead.engine.canonical import Kind
from fairlead.engine.case import FindingKind, Observation, Side
from fairlead.model.record import Value
from fairlead.state.audit import AuditEntry
from fairlead.state.base import UNLINKABLE, Commit, Intent, Recollection, Store, Undelivered
from fairlead.worker.tally import Note, Tally

WRITTEN = "(written)"
"""Stands for a system in the audit of a lossy field: what was written there."""

_LOSSY = "lossy"
"""Fact in the store: the fields that were reported, as `system/field`, comma separated."""

STORES_OTHERWISE = "stores it otherwise than it was written: that counts as seen, and is not written again"
"""Of a system: what is told of a field that loses something there."""


UNCERTAIN = (
    "the answer to this create was lost and the system cannot be searched: look there whether the record "
    "exists, then resync"
)


HELD = "a record that is a dead letter has the same match values, and may be this one: mend that first"


class Lossy(msgspec.Struct, frozen=True):
    """One system stored one field otherwise than it was written."""

    system: str
    field: str
    record: int
    written: Value
    stored: Value


class Settlement(msgspec.Struct):
    """What came of a batch.

    Attributes:
        sides: record → system → what is remembered now; None where the record was deleted.
        away: record → systems where it takes no part any more: archived there, or its copy deleted.
        said: record → system → the values that the fingerprints in `sides` were taken of.
        delivered: (record, system) of writes that are done.
        undelivered: writes that must be tried again, or are dead letters.
        reread: record → system → the record as it is now: to be decided again.
        missing: record → systems where the record turned out to be gone.
        lossy: (system, field) → the first value that was stored otherwise than it was written.
    """

    sides: dict[int, dict[str, Side | None]] = {}
    away: dict[int, set[str]] = {}
    said: dict[int, dict[str, Mapping[str, Value]]] = {}
    delivered: list[tuple[int, str]] = []
    undelivered: list[Undelivered] = []
    reread: dict[int, dict[str, Observation]] = {}
    missing: dict[int, set[str]] = {}
    lossy: dict[tuple[str, str], Lossy] = {}

    def left_of(self, intents: Iterable[Intent]) -> list[Intent]:
        """Those of which nothing came yet."""
        told = {(item.record, item.system) for item in self.undelivered}
        for found in (self.sides, self.reread, self.missing):
            told |= {(record, system) for record, its in found.items() for system in its}
        return [intent for intent in intents if (intent.record, intent.system) not in told]

    def forget(self, record: int) -> None:
        """The record is nowhere any more."""
        for found in (self.sides, self.reread, self.missing):
            found.pop(record, None)
        self.undelivered = [item for item in self.undelivered if item.record != record]

    def add_changed(self, other: Settlement) -> None:
        """Adds what another batch found changed, and so must be decided again."""
        for record, observed in other.reread.items():
            self.reread.setdefault(record, {}).update(observed)
        for record, systems in other.missing.items():
            self.missing.setdefault(record, set()).update(systems)

    def take_in(self, other: Settlement) -> None:
        """Adds what came of other writes of the same batch."""
        self.add_changed(other)
        for record, sides in other.sides.items():
            self.sides.setdefault(record, {}).update(sides)
        for record, said in other.said.items():
            self.said.setdefault(record, {}).update(said)
        for record, systems in other.away.items():
            self.away.setdefault(record, set()).update(systems)
        self.delivered += other.delivered
        self.undelivered += other.undelivered
        self.lossy = {**other.lossy, **self.lossy}

    def compare(
        self, system: str, record: int, written: Mapping[str, Value], stored: Observation, kinds: Kinds
    ) -> None:
        """Notes the fields that were stored otherwise than they were written."""
        for name, value in written.items():
            there = stored.record.values.get(name)
            if there == value or name not in stored.record.values or (system, name) in self.lossy:
                continue
            if kinds[name].print_bytes(there) != kinds[name].print_bytes(value):
                self.lossy[system, name] = Lossy(system, name, record, value, there)

    def waiting(
        self, intents: Iterable[Intent], memories: Mapping[int, Recollection], now: float, *, recovering: bool
    ) -> list[Undelivered]:
        """Writes that are decided anew. One that may have arrived before still counts as tried."""
        found: list[Undelivered] = []
        for intent in intents if self.reread or self.missing else ():
            record, system = intent.record, intent.system
            if system in self.reread.get(record, ()) or system in self.missing.get(record, ()):
                before = memories[record].pending.get(system)
                attempts = max(before.attempts if before and may_be_done(before) else 0, int(recovering))
                found.append(Undelivered(record, system, intent.write, now, attempts=attempts, run=intent.run))
        return found


Kinds = Mapping[str, Kind]


async def lossy_fields(store: Store) -> frozenset[str]:
    """`SYSTEM/FIELD` of all that was reported as lossy."""
    return frozenset(filter(None, (await store.meta(_LOSSY) or "").split(",")))


class LossyFields:
    """Reports each lossy field of a policy once, however many runs meet it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: set[str] = set()

    async def prepare(self) -> None:
        """Learns what was reported."""
        self._known = set(await lossy_fields(self._store))

    def report(self, found: Iterable[Lossy], commit: Commit, tally: Tally, run: str, now: float) -> None:
        """Adds what is new to the transaction."""
        for item in found:
            name = f"{item.system}/{item.field}"
            if name in self._known:
                continue
            self._known.add(name)
            commit.meta[_LOSSY] = ",".join(sorted(self._known))
            rule = f"{item.system} {STORES_OTHERWISE}"
            tally.note(Note(FindingKind.LOSSY_FIELD, item.system, item.field, rule, item.system))
            values = {WRITTEN: item.written, item.system: item.stored}
            kind = FindingKind.LOSSY_FIELD.value
            commit.audit.append(AuditEntry(now, run, item.record, item.field, kind, rule, item.system, values))


def may_be_done(item: Undelivered | None) -> bool:
    """Whether a write that is open, if one is, may have arrived: it was tried, and its system did not refuse it."""
    if item is None:
        return False
    found = item.message.startswith(UNLINKABLE)  # at the first try: it was never sent
    refused = item.dead and item.message != UNCERTAIN and not (found and item.attempts > 1)
    return item.attempts > 0 and not refused and not item.discarded


def attempts_of(before: Undelivered | None, message: str) -> int:
    """How often a write was tried, now that it failed with this message, too.

    What was found in its place was not sent: however often that is seen, it counts as one, and does not become a write
    that `may_be_done`.
    """
    attempts = before.attempts if before else 0
    sent = not message.startswith(UNLINKABLE) or may_be_done(before)
    return attempts + 1 if sent else 1


def is_uncertain(item: Undelivered) -> bool:
    """Whether a create may have happened, in a system that cannot be searched: only a scan can tell."""
    return item.message == UNCERTAIN
