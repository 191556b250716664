"""Endings: records that take no part in a system any more: they are gone, were archived, or left its filter."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

import msgspec

from fairlead.engine.case import Case, Side
from fairlead.engine.fingerprint import UNSEEN, WIDTH
from fairlead.model.syncpolicy import OnLeave
from fairlead.state.base import Recollection
from fairlead.worker.batch import Batch
from fairlead.worker.matching import Matching
from fairlead.worker.session import Session

Recall: TypeAlias = "Callable[[Iterable[int], Batch], Awaitable[dict[int, Recollection]]]"
Decide: TypeAlias = "Callable[[dict[int, Case], dict[int, Recollection], Batch], Awaitable[None]]"


class Endings:
    """Takes in what ends, in one run.

    Args:
        session: the policy.
        matching: the run's.
        recall: gives what is remembered of records, with what their batch has decided already.
        decide: decides cases (`Intake.decide`).
    """

    def __init__(self, session: Session, matching: Matching, recall: Recall, decide: Decide) -> None:
        self._session = session
        self._store = session.store
        self._matching = matching
        self._recall = recall
        self._decide = decide

    async def leave(self, system: str, records: Mapping[int, int | None], batch: Batch) -> None:
        """Records (and the fingerprints of their rows) that pass the system's filter no longer, or are archived."""
        if not records:
            return
        memories = await self._recall(records, batch)
        ends = self._ends(system)
        leaving = {r: m for r, m in memories.items() if ends and _took_part(self._session.case(m, {}), system)}
        cases = {
            record: self._session.case(memory, {}, deleted=frozenset({system}), left=frozenset({system}))
            for record, memory in leaving.items()
        }
        await self._decide(cases, leaving, batch)
        for record, memory in memories.items():
            if record in leaving or (memory.sides[system].row == records[record] and system in memory.away):
                continue
            side = self._unseen(memory.sides[system].key, records[record])
            sides = {**memory.sides, system: side}
            bases = self._session.decider.bases.kept(memory.bases, sides, {})
            pending = {name: item for name, item in memory.pending.items() if name != system}
            away = memory.away | {system}
            after = msgspec.structs.replace(memory, sides=sides, away=away, pending=pending, bases=bases)
            batch.commit.delivered += [(record, system)] if system in memory.pending else []
            batch.commit.records.append(after)
            batch.memories[record] = after

    def left(self, system: str, case: Case) -> None:
        """A record that a decision needs to see passes the system's filter no longer, or is archived."""
        if self._ends(system) and _took_part(case, system):
            case.deleted, case.left = case.deleted | {system}, case.left | {system}
            return
        case.sides = {**case.sides, system: self._unseen(case.sides[system].key, None)}
        case.pending = {name: write for name, write in case.pending.items() if name != system}
        case.away |= {system}

    def _ends(self, system: str) -> bool:
        return self._session.rules.systems[system].on_leave is not OnLeave.KEEP

    def _unseen(self, key: str, row: int | None) -> Side:
        return Side(key, row, bytes(WIDTH * len(self._session.rules.fields)) or UNSEEN)

    async def gone(self, system: str, keys: Sequence[str], batch: Batch) -> None:
        """Keys that do not exist in the system any more."""
        known = await self._store.lookup(system, keys)
        self._matching.alive(system, keys, batch.commit)
        if self._session.references is not None:
            self._session.references.gone(system, keys)
        records = {record for record in known.records if record is not None}
        if records:
            self._matching.look_again(batch.commit)
        memories = await self._recall(records, batch)
        cases = {
            record: self._session.case(memory, {}, deleted=frozenset({system})) for record, memory in memories.items()
        }
        await self._decide(cases, memories, batch)


def _took_part(case: Case, system: str) -> bool:
    """Whether the record passed the filter when it was last read or written there, and is not to end there anyway.

    What was just written, and is excluded for that, did not leave: the value is another system's.
    """
    ending = system in case.pending and case.pending[system].ends
    return case.sides[system].row is not None and system not in case.away and not ending
