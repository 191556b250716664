"""Enforcing: a resync that applies the system of record's values to what already differs.

A rule that changed decides from now on. What systems said before stays as it is, and may differ for good; here it is
met anew, field by field, and only the owner's value counts. Fields that wait for a person, and values on their way, are
left alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

import msgspec

from fairlead.engine.case import Case, Side
from fairlead.engine.decide import Decider
from fairlead.engine.fingerprint import UNSEEN, field, replaced
from fairlead.state.base import Recollection
from fairlead.worker.batch import Batch
from fairlead.worker.intake import Intake
from fairlead.worker.session import Session


class Enforcement:
    """Decides anew about the records of which systems say different things."""

    def __init__(self, session: Session, intake: Intake) -> None:
        self._session = session
        self._intake = intake
        self._rules = session.rules

    async def run(self, send: Callable[[Batch], Awaitable[None]]) -> None:
        """Decides page by page; `send` commits a batch and writes it."""
        decider = Decider(self._rules, self._session.prints, enforces=True)
        async for records in self._session.store.differing():
            memories, batch = await self._session.store.recall(records), Batch()
            cases, groups = self._cases(memories.values()), dict[str, list[int]]()
            for record, case in cases.items():
                groups.setdefault(self._reader(case), []).append(record)
            for system, its in groups.items():
                await self._intake.fetch_into(system, its, cases, batch)
            await self._intake.decide(cases, memories, batch, decider)
            await send(batch)

    def _cases(self, memories: Iterable[Recollection]) -> dict[int, Case]:
        """The records of which systems say different things, as if they had never said them."""
        found = {}
        for memory in memories:
            slots = self._differing(memory)
            if slots:
                case = self._session.case(memory, {})
                found[memory.record] = msgspec.structs.replace(case, sides=self._unseen(memory, slots))
        return found

    def _reader(self, case: Case) -> str:
        """The system that such a record is read in first."""
        order = (self._rules.system_of_record, *self._rules.priority)
        return next(name for name in order if name in case.sides and name not in case.away)

    def _differing(self, memory: Recollection) -> list[int]:
        moving = {name for item in memory.pending.values() for name in item.write.values} | memory.frozen.keys()
        sides = {name: side for name, side in memory.sides.items() if name not in memory.away}
        slots = []
        for name, rule in self._rules.fields.items():
            slot = rule.field.slot
            said = {field(side.prints, slot) for s, side in sides.items() if self._rules.systems[s].maps(name)}
            if len(said) > 1 and name not in moving:
                slots.append(slot)
        return slots

    def _unseen(self, memory: Recollection, slots: Iterable[int]) -> dict[str, Side]:
        unseen, width = dict.fromkeys(slots, UNSEEN), len(self._rules.fields)
        return {
            name: msgspec.structs.replace(side, prints=replaced(side.prints, unseen, width))
            for name, side in memory.sides.items()
        }
