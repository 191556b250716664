"""Asks a Connection's system how it is, no more often and no more stubbornly than is good for it."""

from __future__ import annotations

import asyncio
import random
from base64 import b64decode
from datetime import UTC, datetime

import msgspec

from fairlead.connectors.base import Health
from fairlead.connectors.registry import SQL, connect
from fairlead.controller.conditions import Verdict, failed_probe, now_text
from fairlead.controller.inventory import Inventory
from fairlead.controller.manifests import ca_config_maps
from fairlead.kube.client import Kube
from fairlead.kube.kinds import CONFIG_MAP, SECRET, Kind, Object
from fairlead.model.common import KeyRef, seconds
from fairlead.model.connection import Connection, ConnectionReason
from fairlead.model.connector import Connector, ErrorClass
from fairlead.transport.failure import Failure, Transient
from fairlead.transport.secrets import MappingSecrets

SOON = 3.0
"""Seconds after which a ready system that did not answer once is asked again, before that counts."""

PATIENCE = 900.0
"""Longest wait, in seconds, before rejected credentials are tried again unchanged: systems lock accounts."""


class Pulse(msgspec.Struct):
    """What is known of one Connection while this process runs.

    Attributes:
        due: when the next look is wanted, in the event loop's time.
        patience: until when rejected credentials are not tried again unless they change, in the event loop's time.
        generation: the spec that was probed.
        connector: the Connector that was used, if one is.
        secrets: resourceVersions of the Secrets and ConfigMaps that the last probe used; a rotation changes it.
        request: the value of requested-at that was acted on.
        missed: how often in a row the probe failed.
        verdict: what the last probe that counts found; None before it.
        health: what the last good probe measured.
        probed: when the system was last asked, RFC 3339.
    """

    due: float = 0.0
    patience: float = 0.0
    generation: int = 0
    connector: Connector | None = None
    secrets: str = ""
    request: str = ""
    missed: int = 0
    verdict: Verdict | None = None
    health: Health | None = None
    probed: str = ""


class Prober:
    """Probes Connections, with the Secrets that they name read afresh.

    Args:
        kube: where Secrets are read by name, never listed.
        inventory: where Connectors are found.
    """

    def __init__(self, kube: Kube, inventory: Inventory) -> None:
        self._kube = kube
        self._inventory = inventory

    async def look(self, connection: Connection, pulse: Pulse, request: str, *, was_ready: bool) -> None:
        """Probes when that is due, or at once for a new spec, Connector or request; keeps what was found in `pulse`.

        Args:
            connection: as it is now.
            pulse: what is known of it.
            request: the value of the annotation requested-at.
            was_ready: what its status said, for a process that has not probed it yet.
        """
        connector = self._connector(connection)
        asked = (pulse.generation, pulse.connector, pulse.request)
        fresh = asked != (connection.metadata.generation, connector, request)
        if not fresh and _now() < pulse.due:
            return
        values, versions = await self._secrets(connection)
        interval = seconds(connection.spec.probe.interval) * _jitter()
        pulse.due = _now() + interval
        if not fresh and versions == pulse.secrets and _now() < pulse.patience:
            return
        if fresh or versions != pulse.secrets:
            pulse.missed = 0
        pulse.generation, pulse.connector, pulse.request = connection.metadata.generation, connector, request
        pulse.secrets = versions
        await self._probe(connection, pulse, MappingSecrets(values), was_ready=was_ready)

    async def _probe(self, connection: Connection, pulse: Pulse, secrets: MappingSecrets, *, was_ready: bool) -> None:
        try:
            health = await self._ask(connection, secrets)
        except Failure as failure:
            _failed(connection, pulse, failure, was_ready=pulse.verdict.ready if pulse.verdict else was_ready)
        else:
            pulse.missed, pulse.patience, pulse.health, pulse.verdict = 0, 0.0, health, _AVAILABLE
        pulse.probed = now_text(datetime.now(UTC))

    async def _ask(self, connection: Connection, secrets: MappingSecrets) -> Health:
        """Raises Failure, also for a system that does not answer in time."""
        connector = self._connector(connection)
        client = connect(connection, {connection.spec.connector: connector} if connector else {}, secrets)
        try:
            async with asyncio.timeout(seconds(connection.spec.probe.timeout)):
                return await client.probe()
        except TimeoutError:
            limit = connection.spec.probe.timeout
            raise Transient(f"{connection.spec.url} did not answer within probe.timeout ({limit})") from None
        finally:
            await client.close()

    def _connector(self, connection: Connection) -> Connector | None:
        name = connection.spec.connector
        return None if name == SQL else self._inventory.connector(name)

    async def _secrets(self, connection: Connection) -> tuple[dict[str, dict[str, str]], str]:
        """The keys that the Connection names and no others, and the versions of the objects that hold them."""
        bundles = [(CONFIG_MAP, ref) for ref in ca_config_maps(connection)]
        values: dict[str, dict[str, str]] = {}
        versions = []
        for kind, ref in [*((SECRET, ref) for ref in connection.secret_refs()), *bundles]:
            found = await self._kube.get(kind, connection.metadata.namespace, ref.name)
            if found:
                values.setdefault(ref.name, {}).update(_value(kind, ref, found))
            versions.append(found["metadata"]["resourceVersion"] if found else "")
        return values, ",".join(versions)


_AVAILABLE = Verdict(
    ready=True, reason=ConnectionReason.AVAILABLE, message="the system answers and accepts the credentials"
)


def _failed(connection: Connection, pulse: Pulse, failure: Failure, *, was_ready: bool) -> None:
    """One miss of a ready system is asked again soon; a second in a row, or a clear no, counts."""
    pulse.missed += 1
    if failure.error is ErrorClass.TRANSIENT and was_ready and pulse.missed == 1:
        pulse.due = min(pulse.due, _now() + SOON * _jitter())
        return
    pulse.verdict, pulse.health = failed_probe(failure), None
    pulse.due = max(pulse.due, _now() + (failure.retry_after or 0.0))
    if failure.error is ErrorClass.AUTH:
        wait = seconds(connection.spec.probe.interval) * 2.0 ** min(pulse.missed - 1, 30)
        pulse.patience = _now() + min(PATIENCE, wait)


def _value(kind: Kind, ref: KeyRef, found: Object) -> dict[str, str]:
    """The one key, decoded; nothing when it is not there."""
    value = found.get("data", {}).get(ref.key)
    if value is None:
        return {}
    return {ref.key: b64decode(value).decode(errors="replace") if kind is SECRET else value}


def _jitter() -> float:
    return random.uniform(0.9, 1.1)  # noqa: S311 - spreads load, hides nothing


def _now() -> float:
    return asyncio.get_running_loop().time()
