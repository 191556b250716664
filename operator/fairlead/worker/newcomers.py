"""Newcomers: records that nothing known is the same as, a page of them at once.

A first copy is made of nothing else. There is nothing to weigh about them, whatever the rules are
(`Decider.creates`), so that a page costs a few passes over it, and no call for each record. `observed` are records of
one system, and `memories` what is remembered of each of them. `run` is the run that decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, repeat

from fairlead.engine.case import Observation, Write
from fairlead.state.base import Intent, Recollection, Undelivered
from fairlead.worker.session import Session


def remembered(
    session: Session, system: str, observed: Sequence[Observation], numbers: Sequence[int], away: frozenset[str]
) -> list[Recollection]:
    """What to remember of each, under numbers of their own; they are `away` from systems that they must not go to."""
    memories = [Recollection(number, {system: o.side()}, away) for number, o in zip(numbers, observed, strict=True)]
    bases = session.decider.bases
    for memory, observation in zip(memories, observed, strict=True) if bases.fields else ():
        memory.bases = bases.kept({}, memory.sides, {system: observation.record.values})
    return memories


def creates(
    session: Session,
    system: str,
    observed: Sequence[Observation],
    memories: Sequence[Recollection],
    targets: Sequence[str],
    run: str,
) -> Iterator[Intent]:
    """Their creates in other systems, those of a record side by side."""
    numbers = [memory.record for memory in memories]
    intents = []
    for target in targets:
        alike = session.alike(system, target)
        prints = [observation.prints for observation in observed] if alike else repeat(None, len(observed))
        writes = _writes(session, system, observed, target)
        intents.append(map(Intent, numbers, repeat(target), writes, prints, repeat(run)))
    return chain.from_iterable(zip(*intents, strict=True))


def hold_creates(
    session: Session,
    system: str,
    observed: Sequence[Observation],
    memories: Sequence[Recollection],
    target: str,
    run: str,
) -> list[Undelivered]:
    """Their creates in a system where they may be as well: they wait until it was read."""
    now = session.clock()
    for memory, write in zip(memories, _writes(session, system, observed, target), strict=True):
        memory.pending[target] = Undelivered(memory.record, target, write, now, run=run)
    return [memory.pending[target] for memory in memories]


def _writes(session: Session, system: str, observed: Sequence[Observation], target: str) -> list[Write]:
    return session.decider.creates(system, [observation.record for observation in observed], target)
