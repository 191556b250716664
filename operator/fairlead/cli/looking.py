"""Looking: a command reads records from the systems as they are now, beside the worker; it writes nothing."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

from fairlead.cli.place import Place, tell
from fairlead.connectors.base import Client
from fairlead.connectors.registry import connect
from fairlead.model.record import Value
from fairlead.state.base import Store
from fairlead.state.place import Place as Where
from fairlead.transport.failure import Failure
from fairlead.worker.late import LateSystem, UnusableClient
from fairlead.worker.session import Session

_AT_ONCE = 500
"""Records of one call."""


@asynccontextmanager
async def looking(place: Place, store: Store) -> AsyncIterator[Session]:
    """The policy's session over an open store; systems are opened when they are first read."""
    clients: dict[str, Client] = {}
    rules, systems = place.rules, {}
    for spec in place.policy.spec.systems:
        if spec.connection not in clients:
            clients[spec.connection] = _client(place, spec.connection)
        systems[spec.name] = LateSystem(clients[spec.connection], spec, rules.systems[spec.name].mapping.paths)
    try:
        yield Session(place.policy, rules, systems, store, time.time)
    finally:
        for client in clients.values():
            await client.close()


def _client(place: Place, name: str) -> Client:
    try:
        connection = place.connections[f"{place.policy.metadata.namespace}/{name}"]
        return connect(connection, place.connectors, place.secrets)
    except Failure as failure:
        return UnusableClient(failure)


async def values_of(session: Session, wanted: Iterable[Where], fields: Sequence[str]) -> dict[Where, dict[str, Value]]:
    """What these fields of records are now; of a system that cannot be read, that is told, and nothing given."""
    by_system: dict[str, list[str]] = {}
    for system, key in dict.fromkeys(wanted):
        by_system.setdefault(system, []).append(key)
    found: dict[Where, dict[str, Value]] = {}
    for system, keys in by_system.items():
        try:
            for start in range(0, len(keys), _AT_ONCE):
                found |= await _read(session, system, keys[start : start + _AT_ONCE], fields)
        except Failure as failure:
            tell(f"{system} cannot be read now: {failure.message}")
    return found


async def _read(
    session: Session, system: str, keys: Sequence[str], fields: Sequence[str]
) -> dict[Where, dict[str, Value]]:
    page = await session.systems[system].fetch(keys)
    reading = await session.read(system, page)
    said = {observation.record.key: observation.record.values for observation in reading.observed.values()}
    said |= {page.keys[i]: values for i, values in reading.refused.items()}
    said |= dict(await session.excluded(system, page, reading.left))
    return {(system, key): {f: values[f] for f in fields if f in values} for key, values in said.items()}
