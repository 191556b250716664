"""Turns what the watches tell into visits, and drops what changes nothing (controller-runtime: sources, predicates)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from fairlead.controller.conditions import since
from fairlead.controller.heartbeat import Heartbeat
from fairlead.controller.inventory import Inventory, Key
from fairlead.controller.levers import PREFIX
from fairlead.controller.manifests import POLICY_LABEL
from fairlead.controller.ownership import lose, observe, owner
from fairlead.controller.syncpolicy import measured_of
from fairlead.kube.kinds import CONNECTION, CONNECTOR, SYNC_POLICY, Kind, Object
from fairlead.model.common import seconds

DELETED = "DELETED"


class Sources:
    """What every event does to the inventory and the work queue.

    Args:
        inventory: what is known.
        heartbeat: hears every event.
        requeue: asks for a visit.
    """

    def __init__(self, inventory: Inventory, heartbeat: Heartbeat, requeue: Callable[[Key], None]) -> None:
        self._inventory = inventory
        self._heartbeat = heartbeat
        self._requeue = requeue
        self._signatures: dict[Key, int] = {}

    def declared(self, kind: Kind, type_: str | None, found: Object) -> None:
        """A Connection, SyncPolicy or Connector came, changed or went."""
        self._heartbeat.heard(kind, found)
        key = Key(kind.name, found["metadata"].get("namespace", ""), found["metadata"]["name"])
        if type_ == DELETED:
            self._signatures.pop(key, None)
            self._requeue(key)
            return
        signature = _SIGNATURES[kind.name](found)
        if self._signatures.get(key) != signature:
            self._signatures[key] = signature
            self._requeue(key)

    def owned(self, kind: Kind, type_: str | None, found: Object) -> None:
        """Something that runs a policy came, changed or went."""
        self._heartbeat.heard(kind, found)
        metadata = found["metadata"]
        place = (metadata["namespace"], metadata.get("labels", {}).get(POLICY_LABEL, ""))
        entry = self._inventory.policies.get(place)
        if entry is None:
            return
        if type_ == DELETED or owner(found) != entry.uid:
            matters = lose(entry, kind, int(metadata["resourceVersion"]))
        else:
            matters = observe(entry, kind, found)
        if matters:
            self._requeue(Key(SYNC_POLICY.name, *place))


def _connection_signature(found: Object) -> int:
    return hash((_intent(found),))


def _policy_signature(found: Object) -> int:
    """Changes when a visit may conclude something else; not with every figure that a worker reports."""
    measured = measured_of(found)
    age = since(measured.last_sync_time, datetime.now(UTC))
    fresh = age < seconds(found["spec"]["staleAfter"])
    counts = (measured.conflicts, measured.dead_letters, measured.pending > 0, measured.planned > 0)
    systems = tuple((each.name, each.reachable, each.reason, each.message) for each in measured.systems)
    handled = (measured.last_handled_request_at, measured.last_handled_resync_request_at)
    told = (measured.observed_generation, counts, systems, handled, measured.halted, measured.error)
    return hash((_intent(found), fresh, msgspec.json.encode(told)))


def _intent(found: Object) -> tuple[Any, ...]:
    """What people change: the spec, the levers, deletion."""
    metadata = found["metadata"]
    annotations = metadata.get("annotations", {})
    levers = tuple(sorted((name, value) for name, value in annotations.items() if name.startswith(PREFIX)))
    return (metadata["uid"], metadata["generation"], metadata.get("deletionTimestamp"), levers)


_SIGNATURES: dict[str, Callable[[Object], int]] = {
    CONNECTION.name: _connection_signature,
    CONNECTOR.name: _connection_signature,
    SYNC_POLICY.name: _policy_signature,
}
