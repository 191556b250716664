"""Dead letters at a person's request: tried again, or given up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from fairlead.engine.case import Operation, Write
from fairlead.model.record import Value
from fairlead.state.audit import AuditEntry
from fairlead.state.base import DISCARDED, DeadLetter, Recollection, Undelivered
from fairlead.state.place import reservation
from fairlead.state.requests import DiscardDeadLetters, Request, RetryDeadLetters
from fairlead.worker.batch import Batch
from fairlead.worker.handling import Handled, Scope, named
from fairlead.worker.settlement import UNCERTAIN, is_uncertain

_NONE = "is no dead letter any more"


async def retry(scope: Scope, _request: Request, demand: RetryDeadLetters, batch: Batch) -> Handled:
    """What is asked for is due at once: this run writes, or reads, it again."""
    found = await _Found.of(scope, demand)
    for memory, item in found.writes:
        if is_uncertain(item):
            found.handled.done -= 1
            found.handled.refused.append(f"the write of {named(memory)} to {item.system}: {UNCERTAIN}")
        else:
            batch.commit.pending.append(msgspec.structs.replace(item, dead=False, not_before=0.0))
    batch.commit.waiting += [(letter.system, letter.key) for letter in found.letters]
    return found.handled


async def discard(scope: Scope, request: Request, demand: DiscardDeadLetters, batch: Batch) -> Handled:
    """What is asked for is given up: only a change of the record brings it back. The audit keeps what is lost."""
    found = await _Found.of(scope, demand)
    commit, now = batch.commit, scope.session.clock()

    def note(record: int, name: str, why: str, values: Mapping[str, Value]) -> None:
        rule = f"{request.by}: {why}"
        commit.audit.append(AuditEntry(now, scope.run, record, name, DISCARDED, rule, "", dict(values)))

    for _, item in found.writes:
        for name, value in item.write.values.items():
            note(item.record, name, item.error, {item.system: value})
        if not item.write.values:
            note(item.record, "", item.error, {})
        if item.write.operation is Operation.CREATE:  # else the next scan would find that it is missing, and create it
            gone = Write(Operation.CREATE)
            commit.pending.append(msgspec.structs.replace(item, write=gone, error=DISCARDED, message=""))
        else:
            commit.delivered.append((item.record, item.system))
    for letter in found.letters:
        scope.intake.matching.discard(letter, commit)
        note(reservation(letter.system, letter.key), "", letter.reason, {letter.system: letter.key})
    return found.handled


class _Found(msgspec.Struct):
    """Those of the dead letters that are asked for which there are."""

    writes: list[tuple[Recollection, Undelivered]] = []
    letters: list[DeadLetter] = []
    handled: Handled = msgspec.field(default_factory=Handled)

    @classmethod
    async def of(cls, scope: Scope, demand: RetryDeadLetters | DiscardDeadLetters) -> _Found:
        found = cls()
        memories = await scope.store.recall(sorted({record for record, _ in demand.writes}))
        for record, system in demand.writes:
            found.add_write(memories.get(record), system)
        await found.add_letters(scope, demand.records)
        found.handled.done = len(found.writes) + len(found.letters)
        return found

    def add_write(self, memory: Recollection | None, system: str) -> None:
        item = memory.pending.get(system) if memory else None
        if memory is None or item is None or not item.dead or item.discarded:
            where = named(memory) if memory else "a record that is gone"
            self.handled.refused.append(f"the write of {where} to {system} {_NONE}")
        else:
            self.writes.append((memory, item))

    async def add_letters(self, scope: Scope, places: Sequence[tuple[str, str]]) -> None:
        self.letters = [letter for letter in await scope.store.dead_letters(places) if not letter.discarded]
        there = {(letter.system, letter.key) for letter in self.letters}
        self.handled.refused += [f"{'/'.join(place)} {_NONE}" for place in dict.fromkeys(places) if place not in there]
