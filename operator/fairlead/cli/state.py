"""`fairlead state export`, `fairlead state import` and `fairlead forget`: what a person does to a policy's memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import BinaryIO

import msgspec

from fairlead.cli.place import Place, Target, at_place, closing, tell
from fairlead.model.problem import near
from fairlead.state.base import StateError
from fairlead.worker.exit import OK

_CHUNK = 1 << 20
"""Bytes of lines that are read at once."""


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


def forget(target: Target, record: str) -> int:
    """Erases the record `SYSTEM/KEY` from the policy's state for good."""
    system, _, key = record.partition("/")

    async def erase(place: Place) -> int:
        layout, policy = place.layout, place.policy.id
        if not key:
            raise StateError(f"--record takes SYSTEM/KEY, for example {min(layout.systems)}/17")
        if system not in layout.systems:
            raise StateError(f"--record: {system!r} is no system of {policy}{near(system, layout.systems)}")
        store = place.stores.of(place.policy)
        async with closing(store):
            await store.open(layout)
            await store.unlock(place.keys())
            keys = [f"{name}/{key}" for name, key in sorted(await store.erase(system, key))]
        tell(f"forgot {', '.join(keys)} of {policy}: what the systems hold is theirs, and is not taken in again")
        return OK

    return at_place(target, erase)


async def _lines(source: BinaryIO) -> AsyncIterator[bytes]:
    while lines := await asyncio.to_thread(source.readlines, _CHUNK):
        for line in lines:
            yield line
