"""`fairlead state export`, `fairlead state import` and `fairlead forget`: what a person does to a policy's memory."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec

from fairlead.cli.choices import Output
from fairlead.cli.load import load_or_explain, secrets_of
from fairlead.engine.rules import compile_rules
from fairlead.model.bundle import Bundle
from fairlead.model.problem import near
from fairlead.model.syncpolicy import SyncPolicy
from fairlead.state.base import Layout, StateError, Store
from fairlead.worker.session import layout_of
from fairlead.worker.stores import Stores, encryption_keys

OK, NEEDS_A_PERSON, STATE_UNUSABLE = 0, 1, 3

_CHUNK = 1 << 20
"""Bytes of lines that are read at once."""


class Target(msgspec.Struct, frozen=True):
    """Whose state: the manifests, the policy by `name` or `namespace/name`, and the folder of the state files."""

    paths: Sequence[Path]
    policy: str
    state: Path


class _Place(NamedTuple):
    """A policy among what was declared with it, and where its state is."""

    bundle: Bundle
    policy: SyncPolicy
    stores: Stores

    @property
    def layout(self) -> Layout:
        return layout_of(self.policy, compile_rules(self.policy.spec))

    def keys(self) -> tuple[bytes, ...]:
        return encryption_keys(self.policy, secrets_of(self.bundle, self.policy.metadata.namespace))


def export_state(target: Target, output: BinaryIO) -> int:
    """Writes a policy's state as it is now to `output`; a worker that runs is not disturbed."""

    async def export(place: _Place) -> str:
        store = place.stores.of(place.policy, scratch=True)
        async with _closing(store):
            fresh = await store.open(place.layout)
            counts = await store.counts()
            if fresh == place.layout.systems.keys() and not any(msgspec.structs.astuple(counts)):
                raise StateError(f"there is no state of {place.policy.id} to export: see --state and spec.state")
            async for lines in store.export():
                await asyncio.to_thread(output.write, lines)
            await asyncio.to_thread(output.flush)
        return f"exported {counts.records} records of {place.policy.id}"

    return _run(target, export)


def import_state(target: Target, source: BinaryIO) -> int:
    """Reads what `export` wrote from `source` into the policy's store, which must be empty."""

    async def restore(place: _Place) -> str:
        store = place.stores.of(place.policy)
        async with _closing(store):
            records = await store.restore(_lines(source))
        return f"imported {records} records of {place.policy.id}"

    return _run(target, restore)


def forget(target: Target, record: str) -> int:
    """Erases the record `SYSTEM/KEY` from the policy's state for good."""
    system, _, key = record.partition("/")

    async def erase(place: _Place) -> str:
        layout, policy = place.layout, place.policy.id
        if not key:
            raise StateError(f"--record takes SYSTEM/KEY, for example {min(layout.systems)}/17")
        if system not in layout.systems:
            raise StateError(f"--record: {system!r} is no system of {policy}{near(system, layout.systems)}")
        store = place.stores.of(place.policy)
        async with _closing(store):
            await store.open(layout)
            await store.unlock(place.keys())
            keys = [f"{name}/{key}" for name, key in sorted(await store.erase(system, key))]
        return f"forgot {', '.join(keys)} of {policy}: what the systems hold is theirs, and is not taken in again"

    return _run(target, erase)


def _run(target: Target, work: Callable[[_Place], Awaitable[str]]) -> int:
    """Does something with a policy's state, and tells on standard error what came of it."""
    bundle = load_or_explain(target.paths, Output.TABLE)
    policy = _policy(bundle, target.policy) if bundle else None
    if bundle is None or policy is None:
        return NEEDS_A_PERSON
    try:
        told = asyncio.run(_with_stores(bundle, policy, target.state, work))
    except StateError as error:
        _tell(str(error))
        return STATE_UNUSABLE
    except OSError as error:
        _tell(f"standard input or output: {error.strerror}")
        return NEEDS_A_PERSON
    _tell(told)
    return OK


async def _with_stores(
    bundle: Bundle, policy: SyncPolicy, folder: Path, work: Callable[[_Place], Awaitable[str]]
) -> str:
    stores = Stores(bundle.connections, lambda namespace: secrets_of(bundle, namespace), folder)
    try:
        return await work(_Place(bundle, policy, stores))
    finally:
        await stores.close()


def _tell(message: str) -> None:
    print(message, file=sys.stderr)  # noqa: T201 - standard output is for the state


def _policy(bundle: Bundle, name: str) -> SyncPolicy | None:
    """The policy of that name; None after it was told that there is none, or several."""
    found = [policy for policy in bundle.policies.values() if name in (policy.id, policy.metadata.name)]
    if len(found) == 1:
        return found[0]
    ids = [policy.id for policy in bundle.policies.values()]
    several = f"several SyncPolicies are named {name!r}: write {' or '.join(policy.id for policy in found)}"
    _tell(several if found else f"there is no SyncPolicy {name!r}{near(name, ids)}")
    return None


@asynccontextmanager
async def _closing(store: Store) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await store.close()


async def _lines(source: BinaryIO) -> AsyncIterator[bytes]:
    while lines := await asyncio.to_thread(source.readlines, _CHUNK):
        for line in lines:
            yield line
