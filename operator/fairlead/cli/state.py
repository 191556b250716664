"""`fairlead state export`, `state import` and `forget`: what a person does to a policy's memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import BinaryIO

import msgspec

from fairlead.cli.place import Place, Refused, Target, at_place, closing, record_at, tell
from fairlead.state.base import REMATCH, DeadLetter, StateError, Store
from fairlead.state.erasure import Erasure
from fairlead.state.requests import kind_of
from fairlead.worker.exit import OK
from fairlead.worker.report import moment

_CHUNK = 1 << 20
"""Bytes of lines that are read at once."""

_UNSEEN = "With --unseen, what will have it is not taken in"

_UNMATCHED = (
    "nothing was forgotten: spec.match is another one than before, so it is not known yet which dead letters may be "
    "the same person: let the worker run once, and give the same command again"
)

_MOST = 20
"""Dead letters that are named."""


def export_state(target: Target, output: BinaryIO) -> int:
    """Writes a policy's state as it is now to `output`; a worker that runs is not disturbed."""

    async def export(place: Place) -> int:
        store = place.stores.of(place.policy, scratch=True)
        async with closing(store):
            fresh = await store.open(place.layout)
            counts = await store.counts()
            if fresh == place.layout.systems.keys() and not any(msgspec.structs.astuple(counts)):
                raise StateError(f"there is no state of {place.policy.id} to export: see --state and spec.state")
            async for lines in store.export():
                await asyncio.to_thread(output.write, lines)
            await asyncio.to_thread(output.flush)
        tell(f"exported {counts.records} records of {place.policy.id}")
        return OK

    return at_place(target, export)


def import_state(target: Target, source: BinaryIO) -> int:
    """Reads what `export` wrote from `source` into the policy's store, which must be empty."""

    async def restore(place: Place) -> int:
        store = place.stores.of(place.policy)
        async with closing(store):
            records = await store.restore(_lines(source))
        tell(f"imported {records} records of {place.policy.id}")
        return OK

    return at_place(target, restore)


def forget(target: Target, records: Sequence[str], keep: Sequence[str], *, unseen: bool) -> int:
    """Erases records `SYSTEM/KEY` from the policy's state for good; those of `keep` are somebody else."""

    async def erase(place: Place) -> int:
        named, others = _places(place, "--record", records), _places(place, "--keep", keep)
        async with _opened(place) as store:
            if await _unmatched(store, {*named, *others}):
                raise Refused(_UNMATCHED)
            erasure = await store.erase(named, others, unseen=unseen)
        if erasure.unknown:
            names = ", ".join(map("/".join, erasure.unknown))
            raise Refused(f"nothing is known of {names}, so nothing was forgotten: is the key right? {_UNSEEN}")
        if erasure.doubtful:
            raise Refused(_in_doubt(erasure.doubtful))
        _tell_forgotten(place.policy.id, erasure)
        return OK

    return at_place(target, erase)


def take_in(target: Target, records: Sequence[str]) -> int:
    """Lets records `SYSTEM/KEY` that were forgotten be taken in again."""

    async def readmit(place: Place) -> int:
        named = _places(place, "--take-in", records)
        async with _opened(place) as store:
            readmitted = await store.readmit(named)
        if readmitted:
            tell(f"the next run takes in {', '.join(map('/'.join, sorted(readmitted)))} of {place.policy.id}")
        if others := sorted(set(named) - readmitted):
            raise Refused(f"{', '.join(map('/'.join, others))}: was not forgotten")
        return OK

    return at_place(target, readmit)


@asynccontextmanager
async def _opened(place: Place) -> AsyncIterator[Store]:
    """The state as a worker has it; one that is not there is not made."""
    async with place.beside():
        pass
    store = place.stores.of(place.policy)
    async with closing(store):
        await store.open(place.layout)
        await store.unlock(place.keys())
        yield store


def _places(place: Place, option: str, names: Sequence[str]) -> list[tuple[str, str]]:
    return [record_at(place, name, option) for name in names]


async def _unmatched(store: Store, told: set[tuple[str, str]]) -> bool:
    """Whether dead letters besides those of `told` cannot be compared with known records by their match keys."""
    if await store.meta(REMATCH) is None:
        return False
    async for letters in store.walk_letters(discarded=True):
        if any((letter.system, letter.key) not in told for letter in letters):
            return True
    return False


def _in_doubt(letters: Sequence[DeadLetter]) -> str:
    lines = [f"{each.system}/{each.key} ({each.reason}) may be the same person" for each in letters[:_MOST]]
    more = [f"and {len(letters) - _MOST} more"] if len(letters) > _MOST else []
    say = (
        "nothing was forgotten: forget each of them too, with a further --record SYSTEM/KEY, or say that it is "
        "somebody else, with --keep SYSTEM/KEY"
    )
    return "\n".join([*lines, *more, say])


def _tell_forgotten(policy: str, erasure: Erasure) -> None:
    names = ["/".join(place) for place in sorted(erasure.places)]
    tell(f"forgot {', '.join(names)} of {policy}: what the systems hold is theirs, and is not taken in again")
    for asked in erasure.ended:
        tell(f"dropped an open request of {asked.by} ({kind_of(asked)}, {moment(asked.at)}): it was about nothing else")


async def _lines(source: BinaryIO) -> AsyncIterator[bytes]:
    while lines := await asyncio.to_thread(source.readlines, _CHUNK):
        for line in lines:
            yield line
