"""Crossing: one batch of writes whose references become native ids on the way to a system (see `worker.references`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from fairlead.engine.case import Observation, Operation, Side, Write
from fairlead.model.record import Value
from fairlead.state.base import Intent, Recollection, Undelivered
from fairlead.state.referring import WAITING_FOR_PARENT
from fairlead.worker.references import Outgoing, References, Translation
from fairlead.worker.session import Session
from fairlead.worker.settlement import Settlement
from fairlead.worker.tally import Note, Tally, place_of

NEVER = 9e15
"""Epoch seconds: a write that waits for a parent is not due by time."""


class Crossing:
    """Of one delivery. Without references everything is as it was decided."""

    def __init__(
        self, session: Session, tally: Tally, memories: Mapping[int, Recollection], settlement: Settlement
    ) -> None:
        self._session = session
        self._references = session.references
        self._tally = tally
        self._memories = memories
        self._settlement = settlement
        self._values: dict[tuple[int, str], Mapping[str, Value]] = {}
        self._whole: dict[tuple[int, str], Write] = {}
        self._later: dict[tuple[int, str], Write] = {}
        self._meanings: dict[str, Translation] = {}

    async def begin(self, system: str, operation: Operation, batch: Sequence[Intent]) -> Sequence[Intent]:
        """What of a batch can go out; the rest waits."""
        references = self._references
        if references is None or not references.of(system):
            return batch
        outgoing = await references.outgoing(system, batch)
        for intent, name in outgoing.waiting:
            self._wait(intent, name, references)
        whole = {intent.record: intent.write for intent in batch}
        for record, write in outgoing.later.items():
            self._whole[record, system], self._later[record, system] = whole[record], write
        self._values |= {(record, system): values for record, values in outgoing.values.items()}
        if operation is not Operation.CREATE:
            await self._learn(system, operation, outgoing, references)
        return outgoing.intents

    async def _learn(self, system: str, operation: Operation, outgoing: Outgoing, references: References) -> None:
        """What the references that are there now mean, for the look at each record just before it is changed."""
        names = set(references.of(system))
        dated = self._session.rules.systems[system].dated
        judged = [
            intent
            for intent in outgoing.intents
            if operation is not Operation.UPDATE or names & (intent.write.values.keys() | dated)
        ]
        sides = [self._memories[intent.record].sides.get(system) for intent in judged]
        keys = [side.key for side in sides if side is not None]
        if not keys:
            return
        page = await self._session.systems[system].fetch(keys)
        reader = self._session.readers[system]
        reading = reader.read(page, range(len(page.keys)), reader.rows(page))
        found = await references.translation(system, [o.record.values for o in reading.observed.values()])
        self._meanings[system] = found

    def values(self, intent: Intent) -> Mapping[str, Value]:
        """The values of a write as its system is told them."""
        return (
            self._values.get((intent.record, intent.system), intent.write.values)
            if self._values
            else intent.write.values
        )

    def seen(self, system: str, observation: Observation) -> Observation:
        """What is there just before a write, with the references that were there when the batch began."""
        if self._references is None:
            return observation
        return self._references.resolved(system, observation, self._meanings.get(system, {}))

    async def told(
        self, system: str, intents: Sequence[Intent], stored: Sequence[Observation | None]
    ) -> list[Observation | None]:
        """What a system told of the records after a write; an unknown reference counts as what was seen."""
        references = self._references
        if references is None or not references.of(system):
            return list(stored)
        found = await references.translation(system, [there.record.values for there in stored if there is not None])
        resolved: list[Observation | None] = []
        for intent, there in zip(intents, stored, strict=True):
            if there is None:
                resolved.append(None)
                continue
            side: Side | None = self._memories[intent.record].sides.get(system)
            resolved.append(references.as_seen(system, references.noted(system, there, found), side))
        return resolved

    def whole(self, intent: Intent) -> Write:
        """What was decided, where less than that went out."""
        return self._whole.get((intent.record, intent.system), intent.write)

    def complete(self, intents: Sequence[Intent]) -> None:
        """Remembers what is still to be written to records that were written to; a deleted one waits for nothing."""
        if self._references is None:
            return
        for intent in intents:
            if intent.write.operation is Operation.DELETE:
                side = self._memories[intent.record].sides.get(intent.system)
                self._references.gone(intent.system, [side.key] if side is not None else [])
            write = self._later.get((intent.record, intent.system))
            if write is not None:
                self._leave(intent, write, min(write.values), self._references)

    def _leave(self, intent: Intent, write: Write, name: str, references: References) -> None:
        """The rest of a write is done, and this waits; after a create it is a new write, and no old one goes on."""
        if intent.write.operation is Operation.CREATE:
            self._settlement.undelivered.append(self._undelivered(intent, write, name))
        else:
            self._wait(msgspec.structs.replace(intent, write=write), name, references)

    def _wait(self, intent: Intent, name: str, references: References) -> None:
        memory = self._memories.get(intent.record)
        before = memory.pending.get(intent.system) if memory else None
        if before is None or before.error != WAITING_FOR_PARENT:
            place = place_of(memory, intent.system)
            self._tally.note(Note(WAITING_FOR_PARENT, place, name, f"references: {references.parents[name]}", ""))
        item = self._undelivered(intent, intent.write, name)
        if before is not None:
            item = msgspec.structs.replace(item, since=before.since, attempts=before.attempts)
        self._settlement.undelivered.append(item)

    def _undelivered(self, intent: Intent, write: Write, name: str) -> Undelivered:
        message = f"waits until the record that {name} refers to is in {intent.system}"
        now = self._session.clock()
        where, why = (intent.record, intent.system), WAITING_FOR_PARENT
        return Undelivered(*where, write, now, NEVER, error=why, message=message, run=intent.run)
