"""Turns what the watches tell into visits, and drops what changes nothing (controller-runtime: sources, predicates)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import structlog

from fairlead.controller.conditions import since
from fairlead.controller.heartbeat import DELETED, Heartbeat
from fairlead.controller.inventory import Inventory, Key
from fairlead.controller.levers import PREFIX
from fairlead.controller.manifests import SUFFIX, owned_name
from fairlead.controller.ownership import lose, observe, owner
from fairlead.controller.syncpolicy import FOLD, measured_of
from fairlead.kube.kinds import CONNECTION, CONNECTOR, SYNC_POLICY, Kind, Object
from fairlead.model.common import seconds

log = structlog.get_logger(__name__)


class Sources:
    """What every event does to the inventory and the work queue.

    Args:
        inventory: what is known.
        heartbeat: hears every event.
        requeue: asks for a visit after some seconds.
    """

    def __init__(self, inventory: Inventory, heartbeat: Heartbeat, requeue: Callable[[Key, float], None]) -> None:
        self._inventory = inventory
        self._heartbeat = heartbeat
        self._requeue = requeue
        self._signatures: dict[Key, int] = {}

    def declared(self, kind: Kind, type_: str | None, found: Object) -> None:
        """A Connection, SyncPolicy or Connector came, changed or went."""
        self._hear(kind, type_, found)
        if type_ == DELETED:
            key = _key(kind, found)
            self._signatures.pop(key, None)
            self._requeue(key, 0.0)
        else:
            self.known(kind, found)

    def known(self, kind: Kind, found: Object) -> None:
        """A Connection, SyncPolicy or Connector is there; it is visited unless it was with this very content."""
        key, signature = _key(kind, found), _SIGNATURES[kind.name](found)
        if self._signatures.get(key) != signature:
            self._signatures[key] = signature
            self._requeue(key, 0.0)

    def owned(self, kind: Kind, type_: str | None, found: Object) -> None:
        """Something that runs a policy came, changed or went."""
        self._hear(kind, type_, found)
        metadata = found["metadata"]
        place = (metadata["namespace"], metadata["name"].removesuffix(SUFFIX))
        entry = self._inventory.policies.get(place)
        if entry is None or owned_name(place[1]) != metadata["name"]:
            return
        if type_ == DELETED or owner(found) != entry.uid:
            matters = lose(entry, kind, int(metadata["resourceVersion"])) or type_ == DELETED
        else:
            matters = observe(entry, kind, found)
        if matters:
            self._requeue(Key(SYNC_POLICY.name, *place), 0.0)

    def _hear(self, kind: Kind, type_: str | None, found: Object) -> None:
        """After a gap everything is looked at again: what went meanwhile is not told of."""
        if self._heartbeat.heard(kind, type_, found):
            log.info("watch began anew", kind=kind.name)
            for key in self._inventory.doubt():
                self._requeue(key, FOLD)


def _key(kind: Kind, found: Object) -> Key:
    return Key(kind.name, found["metadata"].get("namespace", ""), found["metadata"]["name"])


def _connection_signature(found: Object) -> int:
    return hash((_intent(found),))


def _policy_signature(found: Object) -> int:
    """Changes when a visit may conclude something else; not with every figure that a worker reports."""
    measured = measured_of(found)
    age = since(measured.last_sync_time, datetime.now(UTC))
    fresh = age < seconds(found["spec"]["staleAfter"])
    counts = (measured.conflicts, measured.dead_letters, measured.pending > 0, measured.planned > 0)
    systems = tuple((each.name, each.reachable, each.reason, each.message) for each in measured.systems)
    handled = (
        measured.last_handled_request_at,
        measured.last_handled_resync_request_at,
        measured.last_handled_enforce_request_at,
    )
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
