"""Reconciles a Connection: has its system asked, and says in its status what was found."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from fairlead.connectors.base import Health
from fairlead.controller.conditions import Reason, Verdict, connection_conditions, since
from fairlead.controller.events import NORMAL, WARNING, Recorder
from fairlead.controller.inventory import Inventory, Key, KnownConnection, connection_state, decode_connection
from fairlead.controller.probe import Prober, Pulse
from fairlead.controller.unreadable import tell_unreadable
from fairlead.kube.client import Kube
from fairlead.kube.kinds import CONNECTION, SYNC_POLICY, Object
from fairlead.model.connection import Connection, ConnectionReason
from fairlead.model.problem import InvalidResource
from fairlead.model.syncpolicy import REQUESTED_AT, SUSPEND_REASON

COUNTERS_EVERY = 10.0
"""Least seconds between two status writes that only bring figures up to date."""

REQUEST_LIMIT = 256
"""Longest value of a lever; the status that acknowledges it takes no more."""

_REST = 600.0
"""Seconds between two visits of a Connection that is suspended or cannot be read."""


class ConnectionReconciler:
    """Level-triggered: looks at the Connection as it is now, probes when that is due, writes what changed.

    Args:
        kube: the API server.
        inventory: where policies find what is known of a Connection.
        recorder: posts Events.
        requeue: asks for a visit of another resource.
    """

    def __init__(self, kube: Kube, inventory: Inventory, recorder: Recorder, requeue: Callable[[Key], None]) -> None:
        self._kube = kube
        self._inventory = inventory
        self._recorder = recorder
        self._requeue = requeue
        self._prober = Prober(kube, inventory)
        self._pulses: dict[tuple[str, str], Pulse] = {}

    async def reconcile(self, key: Key) -> float | None:
        """One visit.

        Returns:
            Seconds until the next; None when the Connection is gone.

        Raises:
            ApiFailure: the API server refused or did not answer.
        """
        found = await self._kube.get(CONNECTION, key.namespace, key.name)
        if found is None:
            self._forget(key)
            return None
        try:
            connection = decode_connection(found).connection
        except InvalidResource as error:
            await tell_unreadable(self._kube, CONNECTION, found, error)
            return _REST
        verdict, pulse = await self._verdict(key, found, connection)
        status = self._status(found, connection, verdict, pulse)
        await self._write(found, connection, status)
        self._publish(key, connection, status)
        return _REST if connection.spec.suspend else max(pulse.due - asyncio.get_running_loop().time(), 0.1)

    async def _verdict(self, key: Key, found: Object, connection: Connection) -> tuple[Verdict, Pulse]:
        place = (key.namespace, key.name)
        if connection.spec.suspend:
            self._pulses[place] = Pulse()
            return _suspended(found), self._pulses[place]
        pulse = self._pulses.setdefault(place, Pulse())
        before = _told(found)
        await self._prober.look(connection, pulse, _request(found), was_ready=before.ready)
        return pulse.verdict or before, pulse

    def _status(self, found: Object, connection: Connection, verdict: Verdict, pulse: Pulse) -> Object:
        left = pulse.health.budget_left if pulse.health else None
        generation, before = connection.metadata.generation, found["status"].get("conditions", ())
        conditions = connection_conditions(verdict, left, generation, before, datetime.now(UTC))
        users = len(self._inventory.users(connection.metadata.namespace, connection.metadata.name))
        status: Object = {
            "observedGeneration": generation,
            "conditions": msgspec.to_builtins(conditions),
            "summary": {"status": str(verdict.reason), "usedBy": users, **_figures(pulse.health)},
        }
        times = {"lastProbeTime": pulse.probed, "lastHandledRequestAt": pulse.request}
        kept = {name: value or found["status"].get(name) for name, value in times.items()}
        return status | {name: value for name, value in kept.items() if value}

    async def _write(self, found: Object, connection: Connection, status: Object) -> None:
        before: Mapping[str, Any] = found["status"]
        if not worth_writing(before, status, datetime.now(UTC)):
            return
        metadata = connection.metadata
        await self._kube.apply_status(CONNECTION, metadata.namespace, metadata.name, status)
        await self._tell(connection, _ready(before), status["conditions"][0])

    async def _tell(self, connection: Connection, before: Mapping[str, Any], ready: Mapping[str, Any]) -> None:
        """An Event when the system comes or goes; a first good finding is no news."""
        if before.get("status", "True") == ready["status"]:
            return
        type_ = NORMAL if ready["status"] == "True" else WARNING
        await self._recorder.post(CONNECTION, connection.metadata, type_, ready["reason"], "Probe", ready["message"])

    def _publish(self, key: Key, connection: Connection, status: Object) -> None:
        """Policies that use the Connection are visited when it, or what is known of it, changed."""
        place = (key.namespace, key.name)
        state = connection_state(msgspec.structs.replace(connection, status=status))
        before, now = self._inventory.connections.get(place), KnownConnection(connection, state)
        self._inventory.connections[place] = now
        if before is None or (before.connection.spec, before.state) != (connection.spec, state):
            self._requeue_users(key)

    def _forget(self, key: Key) -> None:
        self._pulses.pop((key.namespace, key.name), None)
        if self._inventory.connections.pop((key.namespace, key.name), None):
            self._requeue_users(key)

    def _requeue_users(self, key: Key) -> None:
        for place in self._inventory.users(key.namespace, key.name):
            self._requeue(Key(SYNC_POLICY.name, *place))


def worth_writing(before: Mapping[str, Any], status: Mapping[str, Any], now: datetime) -> bool:
    """Whether a status says anything new; figures alone are new only after `COUNTERS_EVERY`."""
    if _lasting(before) != _lasting(status):
        return True
    return before != status and since(before.get("lastProbeTime"), now) >= COUNTERS_EVERY


def _lasting(status: Mapping[str, Any]) -> tuple[Any, ...]:
    """A status without its figures."""
    summary = status.get("summary", {})
    conditions = sorted(status.get("conditions", ()), key=lambda each: str(each["type"]))
    acknowledged = (status.get("observedGeneration"), status.get("lastHandledRequestAt"))
    return (conditions, summary.get("status"), summary.get("usedBy"), *acknowledged)


def _figures(health: Health | None) -> dict[str, str]:
    """What the columns LATENCY and LIMIT-LEFT print; nothing for a system that does not answer."""
    if health is None:
        return {}
    figures = {"latency": f"{max(1, round(health.latency * 1000))}ms"}
    if health.budget_left is not None:
        figures["limitLeft"] = f"{health.budget_left:.0%}"
    return figures


def _suspended(found: Object) -> Verdict:
    why = found["metadata"].get("annotations", {}).get(SUSPEND_REASON, "")
    message = "paused by spec.suspend" + (f": {why[:512]}" if why else "")
    return Verdict(ready=True, reason=ConnectionReason.SUSPENDED, message=message, paused=ConnectionReason.SUSPENDED)


def _told(found: Object) -> Verdict:
    """What the status said before this process probed. A system that was suspended is as good as never asked."""
    ready = _ready(found["status"])
    if not ready or ready["reason"] == ConnectionReason.SUSPENDED:
        return Verdict(ready=False, reason=Reason.NOT_PROBED, message="the system is being asked", reconciling=True)
    return Verdict(ready=ready["status"] == "True", reason=ready["reason"], message=ready["message"])


def _ready(status: Mapping[str, Any]) -> Mapping[str, Any]:
    return next((each for each in status.get("conditions", ()) if each["type"] == "Ready"), {})


def _request(found: Object) -> str:
    """The lever requested-at; a value too long to be acknowledged counts as none."""
    value = str(found["metadata"].get("annotations", {}).get(REQUESTED_AT, ""))
    return value if len(value) <= REQUEST_LIMIT else ""
