"""Missing: copies of records in a system that lacks them."""

from __future__ import annotations

from collections.abc import Sequence

from fairlead.engine.case import Case
from fairlead.state.base import Recollection
from fairlead.worker.batch import Batch
from fairlead.worker.intake import Intake
from fairlead.worker.matching import in_doubt
from fairlead.worker.session import Session


async def missing(session: Session, intake: Intake, target: str, records: Sequence[int]) -> Batch:
    """Creates of those records that the system lacks, where it is sure that they are not there."""
    doubtful = await in_doubt(session.store, records)
    memories = await session.store.recall([record for record in records if record not in doubtful])
    cases: dict[int, Case] = {
        record: session.case(memory, {}, create_in=frozenset({target}))
        for record, memory in memories.items()
        if _lacks(session, target, memory) and not intake.may_be_there(record, target)
    }
    batch = Batch()
    await intake.decide(cases, memories, batch)
    return batch


def _lacks(session: Session, target: str, memory: Recollection) -> bool:
    """Whether it is neither there, nor on its way, nor away from there, and something can be read to create it of."""
    there = target in memory.sides or target in memory.away or target in memory.pending
    return not there and any(session.rules.systems[s].reads and s not in memory.away for s in memory.sides)
