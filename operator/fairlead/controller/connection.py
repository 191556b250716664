"""Reconciles a Connection: asks its system how it is, and says so in its status."""

from __future__ import annotations

import asyncio
import random
from base64 import b64decode
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from fairlead.connectors.base import Health
from fairlead.connectors.registry import SQL, connect
from fairlead.controller.catalog import Catalog
from fairlead.controller.conditions import (
    Condition,
    Reason,
    Verdict,
    connection_conditions,
    failed_probe,
    now_text,
    since,
)
from fairlead.controller.events import NORMAL, WARNING, Recorder
from fairlead.controller.inventory import Inventory, Key, KnownConnection, connection_state, decode_connection
from fairlead.controller.manifests import ca_config_maps
from fairlead.kube.client import Kube
from fairlead.kube.kinds import CONFIG_MAP, CONNECTION, SECRET, Kind, Object
from fairlead.model.common import seconds
from fairlead.model.connection import Connection, ConnectionReason
from fairlead.model.connector import ErrorClass
from fairlead.model.syncpolicy import REQUESTED_AT, SUSPEND_REASON
from fairlead.transport.failure import Failure, Misconfigured, Transient
from fairlead.transport.secrets import MappingSecrets

SOON = 3.0
"""Seconds after which a ready system that did not answer once is asked again, before that counts."""

_COUNTERS_EVERY = 10.0
"""Seconds between two status writes that only bring figures up to date."""

_REQUEST_LIMIT = 256
_LIMITS = {Reason.INVALID_SPEC}


class Pulse(msgspec.Struct):
    """What the last probe found, while this process runs.

    Attributes:
        due: when the next probe is wanted, in the event loop's time.
        generation: the spec that was probed.
        secrets: resourceVersions of the Secrets and ConfigMaps that were used; a rotation changes it.
        request: the value of requested-at that was acted on.
        missed: how often in a row the system did not answer.
    """

    due: float = 0.0
    generation: int = 0
    secrets: str = ""
    request: str = ""
    missed: int = 0
    verdict: Verdict | None = None
    health: Health | None = None
    probed: str = ""


class ConnectionReconciler:
    """Level-triggered: looks at the Connection as it is now, probes when that is due, and writes what changed.

    Args:
        kube: the API server.
        inventory: where policies find what is known of a Connection.
        catalog: finds Connectors.
        recorder: posts Events.
        requeue: asks for a visit of another resource.
    """

    def __init__(
        self, kube: Kube, inventory: Inventory, catalog: Catalog, recorder: Recorder, requeue: Callable[[Key], None]
    ) -> None:
        self._kube = kube
        self._inventory = inventory
        self._catalog = catalog
        self._recorder = recorder
        self._requeue = requeue
        self._pulses: dict[tuple[str, str], Pulse] = {}

    async def reconcile(self, key: Key) -> float | None:
        """One visit; returns the seconds until the next. Raises ApiFailure when the API server does not play along."""
        found = await self._kube.get(CONNECTION, key.namespace, key.name)
        if found is None:
            self._forget(key)
            return None
        known = decode_connection(found)
        pulse = self._pulses.setdefault((key.namespace, key.name), Pulse())
        request = _request(found)
        await self._look(known.connection, pulse, request)
        status = self._status(found, known.connection, pulse, request)
        await self._write(found, known.connection, status)
        self._publish(key, known, status)
        return self._next(known.connection, pulse)

    async def _look(self, connection: Connection, pulse: Pulse, request: str) -> None:
        """Probes, if the system may be asked at all and there is a reason to ask it now."""
        generation = connection.metadata.generation
        if connection.spec.suspend:
            pulse.due, pulse.missed = 0.0, 0
            pulse.verdict = None
            return
        asked = generation != pulse.generation or request != pulse.request
        if not asked and pulse.verdict and _now() < pulse.due:
            return
        if generation != pulse.generation:
            pulse.missed = 0
        await self._probe(connection, pulse)
        pulse.generation, pulse.request, pulse.probed = generation, request, now_text(datetime.now(UTC))

    async def _probe(self, connection: Connection, pulse: Pulse) -> None:
        interval = seconds(connection.spec.probe.interval)
        try:
            health = await self._ask(connection, pulse)
        except Failure as failure:
            wait = self._failed(connection, pulse, failure)
            pulse.due = _now() + min(interval, wait)
            return
        pulse.missed, pulse.health = 0, health
        pulse.verdict = Verdict(
            ready=True, reason=ConnectionReason.AVAILABLE, message="the system answers and accepts the credentials"
        )
        pulse.due = _now() + interval * random.uniform(0.9, 1.1)  # noqa: S311 - jitter

    def _failed(self, connection: Connection, pulse: Pulse, failure: Failure) -> float:
        """One miss of a system that was ready is asked again soon; two in a row, or a clear no, count.

        Returns:
            Seconds until the next probe.
        """
        pulse.missed += 1
        known = self._inventory.connections.get((connection.metadata.namespace, connection.metadata.name))
        ready = pulse.verdict.ready if pulse.verdict else bool(known and known.state.ready)
        if failure.error is ErrorClass.TRANSIENT and ready and pulse.missed == 1:
            return SOON
        pulse.verdict, pulse.health = failed_probe(failure), None
        interval = seconds(connection.spec.probe.interval)
        return max(failure.retry_after or 0.0, interval * random.uniform(0.9, 1.1))  # noqa: S311 - jitter

    async def _ask(self, connection: Connection, pulse: Pulse) -> Health:
        """Raises Failure, also for a system that does not answer in time."""
        secrets = await self._secrets(connection, pulse)
        connector = await self._catalog.connector(connection.spec.connector)
        if connector is None and connection.spec.connector != SQL:
            raise Misconfigured(await self._catalog.unknown(connection.spec.connector), reason=Reason.INVALID_SPEC)
        connectors = {connector.metadata.name: connector} if connector else {}
        timeout = seconds(connection.spec.probe.timeout)
        client = connect(connection, connectors, secrets)
        try:
            async with asyncio.timeout(timeout):
                return await client.probe()
        except TimeoutError:
            raise Transient(f"no answer within probe.timeout ({connection.spec.probe.timeout})") from None
        finally:
            await client.close()

    async def _secrets(self, connection: Connection, pulse: Pulse) -> MappingSecrets:
        """The keys that the Connection names, and no others, of objects that are read by name."""
        namespace, values, versions = connection.metadata.namespace, {}, []
        refs = [*((SECRET, ref) for ref in connection.secret_refs()), *((CONFIG_MAP, r) for r in ca_config_maps(connection))]
        for kind, name in sorted({(kind, ref.name) for kind, ref in refs}, key=lambda pair: (pair[0].name, pair[1])):
            found = await self._kube.get(kind, namespace, name)
            keys = {ref.key for each, ref in refs if each is kind and ref.name == name}
            values.setdefault(name, {}).update(_values(kind, found, keys))
            versions.append(found["metadata"]["resourceVersion"] if found else "")
        pulse.secrets = ",".join(versions)
        return MappingSecrets(values)

    def _status(self, found: Object, connection: Connection, pulse: Pulse, request: str) -> Object:
        before: Mapping[str, Any] = found.get("status", {})
        verdict = pulse.verdict or _waiting(found, connection)
        left = pulse.health.budget_left if pulse.health else None
        conditions = connection_conditions(
            verdict, left, connection.metadata.generation, before.get("conditions", ()), datetime.now(UTC)
        )
        users = len(self._inventory.users(connection.metadata.namespace, connection.metadata.name))
        status: Object = {
            "observedGeneration": connection.metadata.generation,
            "conditions": msgspec.to_builtins(conditions),
            "summary": {"status": str(verdict.reason), "usedBy": users, **_figures(pulse.health)},
        }
        if pulse.probed:
            status["lastProbeTime"] = pulse.probed
        if request and pulse.request == request:
            status["lastHandledRequestAt"] = request
        return status

    async def _write(self, found: Object, connection: Connection, status: Object) -> None:
        before: Mapping[str, Any] = found.get("status", {})
        if not worth_writing(before, status, datetime.now(UTC)):
            return
        body = {
            "apiVersion": CONNECTION.api_version,
            "kind": CONNECTION.name,
            "metadata": {"name": connection.metadata.name, "namespace": connection.metadata.namespace},
            "status": status,
        }
        await self._kube.apply(CONNECTION, body, force=True, subresource="status")
        await self._tell(connection, before.get("conditions", ()), status["conditions"][0])

    async def _tell(self, connection: Connection, before: Any, ready: Mapping[str, Any]) -> None:
        """An Event when the system comes or goes; the first finding is no news unless it is bad."""
        old = next((each for each in before if each["type"] == "Ready"), None)
        if (old["status"] if old else "True") == ready["status"]:
            return
        type_ = NORMAL if ready["status"] == "True" else WARNING
        await self._recorder.post(CONNECTION, connection.metadata, type_, ready["reason"], "Probe", ready["message"])

    def _publish(self, key: Key, known: KnownConnection, status: Object) -> None:
        """Policies that use the Connection are visited when it, or what is known of it, changed."""
        place = (key.namespace, key.name)
        connection = msgspec.structs.replace(known.connection, status=status)
        now = KnownConnection(known.connection, connection_state(connection))
        before = self._inventory.connections.get(place)
        self._inventory.connections[place] = now
        if before is None or (before.connection.spec, before.state) != (now.connection.spec, now.state):
            self._requeue_users(key)

    def _forget(self, key: Key) -> None:
        self._pulses.pop((key.namespace, key.name), None)
        if self._inventory.connections.pop((key.namespace, key.name), None):
            self._requeue_users(key)

    def _requeue_users(self, key: Key) -> None:
        for name in self._inventory.users(key.namespace, key.name):
            self._requeue(Key("SyncPolicy", key.namespace, name))

    def _next(self, connection: Connection, pulse: Pulse) -> float:
        if connection.spec.suspend:
            return 600.0
        return max(pulse.due - _now(), 0.1)


def worth_writing(before: Mapping[str, Any], status: Mapping[str, Any], now: datetime) -> bool:
    """Whether a status says anything new; figures alone are new only after 10 seconds."""
    if {**before, "lastProbeTime": ""} == {**status, "lastProbeTime": ""} and before.get("lastProbeTime"):
        return since(before["lastProbeTime"], now) >= _COUNTERS_EVERY and before != status
    if _lasting(before) != _lasting(status):
        return True
    return since(before.get("lastProbeTime"), now) >= _COUNTERS_EVERY


def _lasting(status: Mapping[str, Any]) -> tuple[Any, ...]:
    """A status without its figures."""
    summary = status.get("summary", {})
    conditions = sorted(status.get("conditions", ()), key=lambda each: str(each["type"]))
    known = (status.get("observedGeneration"), status.get("lastHandledRequestAt"))
    return (conditions, summary.get("status"), summary.get("usedBy"), *known)
