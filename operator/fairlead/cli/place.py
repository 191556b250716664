"""Place: which policy a command is about, and where its state is; beside its worker, or in its place.

A worker's pod knows: `FAIRLEAD_CONFIG` and `FAIRLEAD_SECRETS` name the folders that the operator mounted there, and
`FAIRLEAD_STATE` that of the state files. So `kubectl exec` needs no arguments.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import msgspec

from fairlead.cli.choices import Output
from fairlead.cli.load import load_or_explain, secrets_of
from fairlead.engine.rules import Rules, compile_rules
from fairlead.model.bundle import Bundle
from fairlead.model.connection import Connection
from fairlead.model.connector import Connector
from fairlead.model.problem import near
from fairlead.model.syncpolicy import SyncPolicy
from fairlead.state.base import StateError, StateMissing, Store
from fairlead.state.layout import Layout
from fairlead.state.place import Place as Where
from fairlead.transport.secrets import DirectorySecrets, Secrets
from fairlead.worker.config import read_config
from fairlead.worker.exit import CALLED_WRONGLY, NEEDS_A_PERSON, STATE_UNUSABLE
from fairlead.worker.session import layout_of
from fairlead.worker.stores import Stores, encryption_keys

CONFIG, SECRETS = "FAIRLEAD_CONFIG", "FAIRLEAD_SECRETS"
"""Environment of a worker's pod."""


class Target(msgspec.Struct, frozen=True):
    """Whose state.

    Attributes:
        paths: the manifests; none stands for what `FAIRLEAD_CONFIG` names.
        policy: by `name` or `namespace/name`; empty where there is only one.
        state: the folder of the state files.
    """

    paths: Sequence[Path]
    policy: str
    state: Path


class Refused(Exception):
    """The command cannot do it; the message says why, and what to do. Nothing was changed.

    Attributes:
        code: the exit code of the command.
    """

    code: ClassVar[int] = NEEDS_A_PERSON


class Misused(Refused):
    """The options do not say what is meant, whatever the state is; the message says what they must."""

    code = CALLED_WRONGLY


class Place(NamedTuple):
    """A policy, and where its state and its systems are; `connections` and `connectors` as `hosting.Host` has."""

    policy: SyncPolicy
    stores: Stores
    secrets: Secrets
    connections: Mapping[str, Connection]
    connectors: Mapping[str, Connector]

    @property
    def rules(self) -> Rules:
        """The policy's rules."""
        return compile_rules(self.policy.spec)

    @property
    def layout(self) -> Layout:
        """The layout that a worker opens the state for."""
        return layout_of(self.policy, self.rules)

    def keys(self) -> tuple[bytes, ...]:
        """The keys that seal the state's values."""
        return encryption_keys(self.policy, self.secrets)

    @asynccontextmanager
    async def beside(self) -> AsyncIterator[Store]:
        """The policy's store, opened beside the worker that may hold it (`Store.join`)."""
        store = self.stores.of(self.policy)
        async with closing(store):
            try:
                await store.join(self.keys())
            except StateMissing as missing:
                raise StateMissing(f"{missing} of {self.policy.id}: see --state and spec.state") from None
            yield store


def parted(text: str) -> Where:
    """What SYSTEM/KEY names: a key may hold further slashes."""
    system, _, key = text.partition("/")
    return system, key


def record_at(place: Place, text: str, option: str = "") -> Where:
    """(system, native key) of a record that a person named, as the value of an option or else as an argument.

    Raises:
        Misused: it is not written so.
        Refused: the policy has no such system.
    """
    system, key = parted(text)
    if not (system and key):
        said = f"{option} takes" if option else f"{text!r} names no record: write"
        raise Misused(f"{said} SYSTEM/KEY, for example {place.policy.spec.systems[0].name}/17")
    require(place, "system", system, option)
    return system, key


def require(place: Place, kind: Literal["system", "field"], name: str, option: str = "") -> None:
    """Sees that a system or field that a person named is one of the policy's.

    Raises:
        Refused: it is not.
    """
    spec = place.policy.spec
    names = [system.name for system in spec.systems] if kind == "system" else list(spec.schema.get("properties", {}))
    require_known(name, names, f"{kind} of {place.policy.id}", option)


def require_known(name: str, names: Collection[str], what: str, option: str = "") -> None:
    """Sees that a person named one of `names`.

    Raises:
        Refused: it is none; the name that is meant is guessed.
    """
    if name not in names:
        said = f"{name!r} is no {what}{near(name, names)}"
        raise Refused(f"{option}: {said}" if option else said)


def at_place(target: Target, work: Callable[[Place], Awaitable[int]]) -> int:
    """The exit code of what a command does at its policy's place; what went wrong is told on standard error."""
    try:
        return asyncio.run(_at_place(target, work))
    except StateError as error:
        tell(str(error))
        return STATE_UNUSABLE
    except Refused as error:
        tell(str(error))
        return error.code
    except OSError as error:
        tell(f"{error.filename or 'standard input or output'}: {error.strerror}")
        return NEEDS_A_PERSON


async def _at_place(target: Target, work: Callable[[Place], Awaitable[int]]) -> int:
    place = at_pod(target) if not target.paths and CONFIG in os.environ else _among_files(target)
    if place is None:
        return NEEDS_A_PERSON
    try:
        return await work(place)
    finally:
        await place.stores.close()


def tell(message: str) -> None:
    """Tells something to people: on standard error, for standard output is for what was asked for."""
    print(message, file=sys.stderr)  # noqa: T201


@asynccontextmanager
async def closing(store: Store) -> AsyncIterator[None]:
    """Closes a store in the end."""
    try:
        yield
    finally:
        await store.close()


def at_pod(target: Target) -> Place:
    """The place that a worker's pod tells.

    Raises:
        Refused: another policy was named.
        FileNotFoundError: what the operator mounts there is not there.
    """
    config = read_config(Path(os.environ[CONFIG]))
    if target.policy not in ("", config.policy.id, config.policy.metadata.name):
        raise Refused(f"this is the pod of {config.policy.id}: leave --policy out")
    secrets = DirectorySecrets(Path(os.environ[SECRETS]))
    stores = Stores(config.connections, lambda _: secrets, target.state)
    return Place(config.policy, stores, secrets, config.connections, config.connectors)


def _among_files(target: Target) -> Place | None:
    """The place that manifests tell; None after what is wrong with them was told."""
    if not target.paths:
        raise Refused(
            f"name the manifests of the policy; only in a worker's pod ({CONFIG} is set there) none is needed"
        )
    bundle = load_or_explain(target.paths, Output.TABLE)
    if bundle is None:
        return None
    policy = _named(bundle, target.policy)
    stores = Stores(bundle.connections, lambda namespace: secrets_of(bundle, namespace), target.state)
    secrets = secrets_of(bundle, policy.metadata.namespace)
    return Place(policy, stores, secrets, bundle.connections, bundle.connectors)


def _named(bundle: Bundle, name: str) -> SyncPolicy:
    policies = list(bundle.policies.values())
    found = [policy for policy in policies if name in ("", policy.id, policy.metadata.name)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise Refused(f"there is no SyncPolicy {name!r}{near(name, [policy.id for policy in policies])}")
    ids = " or ".join(policy.id for policy in found)
    several = f"several SyncPolicies are named {name!r}: write {ids}" if name else f"name one with --policy: {ids}"
    raise Refused(several)
