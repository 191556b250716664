"""Dead letters at a person's request: tried again, or given up."""

from __future__ import annotations

import msgspec

from fairlead.state.requests import Request, RetryDeadLetters
from fairlead.worker.handling import Handled, Scope
from fairlead.worker.intake import Batch


async def retry(scope: Scope, _: Request, demand: RetryDeadLetters, batch: Batch) -> Handled:
    """What is asked for is due at once: this run writes, or reads, it again."""
    handled = Handled()
    memories = await scope.store.recall(sorted({record for record, _ in demand.writes}))
    for record, system in demand.writes:
        memory = memories.get(record)
        item = memory.pending.get(system) if memory else None
        if item is None or not item.dead:
            handled.refused.append(f"the write of record {record} to {system} is no dead letter any more")
            continue
        batch.commit.pending.append(msgspec.structs.replace(item, dead=False, not_before=0.0))
        handled.done += 1
    letters = {(letter.system, letter.key) for letter in await scope.store.dead_letters()} if demand.records else set()
    for place in demand.records:
        if place in letters:
            batch.commit.waiting.append(place)
            handled.done += 1
        else:
            handled.refused.append(f"{'/'.join(place)} is no dead letter any more")
    return handled
