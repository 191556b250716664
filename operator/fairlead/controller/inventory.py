"""What the control plane remembers between visits: little per object, and never a Secret's value.

Truth is at the API server; everything here can be lost and is then found again by looking.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import msgspec

from fairlead.connectors.registry import preset_documents
from fairlead.controller.conditions import ConnectionState, Rollout
from fairlead.kube.kinds import CONNECTION, CONNECTOR, DEPLOYMENT, PERSISTENT_VOLUME_CLAIM, SYNC_POLICY, Kind, Object
from fairlead.model.bundle import decode, preset
from fairlead.model.checks.overlap import Target, target_of
from fairlead.model.connection import Connection
from fairlead.model.connector import Connector
from fairlead.model.syncpolicy import SyncPolicy


class Key(NamedTuple):
    """What the work queue holds: a resource by kind and name."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


class Owned(msgspec.Struct):
    """One object that runs a policy.

    Attributes:
        found: what was seen last (see `fingerprint`); empty when it is not there.
        version: its resourceVersion.
        wanted: digest of the manifest applied last; empty when none was by this process.
        settled: the fingerprint that the apply left behind; another one means that somebody edited the object.
    """

    found: str = ""
    version: int = 0
    wanted: str = ""
    settled: str = ""


Place = tuple[str, str]
"""Namespace and name."""


class Policy(msgspec.Struct):
    """What others need to know of a policy, and what it owns."""

    uid: str = ""
    generation: int = 0
    connections: frozenset[str] = frozenset()
    claims: frozenset[Target] = frozenset()
    """What it writes to; policies that share one may overlap."""
    parents: frozenset[str] = frozenset()
    """The policies, in its namespace, whose records its own refer to."""
    workers: int = 1
    """How many run it: none while it is suspended."""
    notes: list[str] = []
    owned: dict[str, Owned] = msgspec.field(default_factory=dict)
    rollout: Rollout = Rollout()


class KnownConnection(msgspec.Struct, frozen=True):
    """A Connection, and what its status says."""

    connection: Connection
    state: ConnectionState


class Inventory:
    """Resources by namespace and name, and who uses whom."""

    def __init__(self) -> None:
        self.policies: dict[Place, Policy] = {}
        self.connections: dict[Place, KnownConnection] = {}
        self.connectors: dict[str, Connector] = {}
        self._users: defaultdict[Place, set[Place]] = defaultdict(set)
        self._claimants: defaultdict[Target, set[Place]] = defaultdict(set)
        self._children: defaultdict[Place, set[Place]] = defaultdict(set)

    def policy(self, namespace: str, name: str) -> Policy:
        """The entry of a policy, made when there is none."""
        return self.policies.setdefault((namespace, name), Policy())

    def note_policy(self, policy: SyncPolicy) -> set[Key]:
        """Takes over what others need to know of a policy; returns whom that concerns."""
        place = (policy.metadata.namespace, policy.metadata.name)
        entry = self.policy(*place)
        connections = policy.connections()
        claims, workers = self._claims(policy), 0 if policy.spec.suspend else policy.workers
        parents = frozenset(policy.references().values())
        renewed, entry.generation = entry.generation != policy.metadata.generation, policy.metadata.generation
        if (entry.connections, entry.claims, entry.parents, entry.workers) == (connections, claims, parents, workers):
            return _policies((self._holders(entry) | self._children.get(place, set())) - {place}) if renewed else set()
        concerned = self._concerned(place, entry)
        self._unlink(place, entry)
        entry.connections, entry.claims, entry.parents, entry.workers = connections, claims, parents, workers
        self._link(place, entry)
        return concerned | self._concerned(place, entry)

    def forget_policy(self, namespace: str, name: str) -> set[Key]:
        """Drops a policy that is gone; returns whom that concerns."""
        place = (namespace, name)
        entry = self.policies.pop(place, None)
        if entry is None:
            return set()
        self._unlink(place, entry)
        return self._concerned(place, entry)

    def doubt(self) -> list[Key]:
        """Forgets what was seen of the objects that run policies; returns everything that is to be looked at again."""
        for entry in self.policies.values():
            entry.owned = {}
        known = ((CONNECTOR.name, (("", name) for name in self.connectors)), (CONNECTION.name, self.connections))
        return [Key(kind, *place) for kind, places in (*known, (SYNC_POLICY.name, self.policies)) for place in places]

    def users(self, namespace: str, connection: str) -> set[Place]:
        """The policies that use a Connection."""
        return self._users.get((namespace, connection), set())

    def sharers(self, namespace: str, connection: str) -> int:
        """How many workers share a Connection's budget: those of policies that are not suspended."""
        return sum(self.policies[place].workers for place in self.users(namespace, connection))

    def rivals(self, namespace: str, name: str) -> set[Place]:
        """The policies that write to an object that this one writes to, through whatever Connection."""
        entry = self.policies.get((namespace, name), Policy())
        return self._holders(entry) - {(namespace, name)}

    def connector(self, name: str) -> Connector | None:
        """The Connector resource of that name, else the packaged preset."""
        return self.connectors.get(name) or presets().get(name)

    def users_of_connector(self, connector: str) -> set[Key]:
        """The Connections that name a Connector, and the policies that use those."""
        keys: set[Key] = set()
        for place, known in self.connections.items():
            if known.connection.spec.connector == connector:
                keys.add(Key(CONNECTION.name, *place))
                keys.update(Key(SYNC_POLICY.name, *user) for user in self.users(*place))
        return keys

    def _claims(self, policy: SyncPolicy) -> frozenset[Target]:
        namespace = policy.metadata.namespace
        known = [(self.connections.get((namespace, each.connection)), each) for each in policy.spec.systems]
        return frozenset(target_of(found.connection, each) for found, each in known if found and each.writes)

    def _concerned(self, place: Place, entry: Policy) -> set[Key]:
        """Its Connections (they count their users), who shares a budget with it, its rivals, and who refers to it."""
        namespace, _ = place
        policies = self._holders(entry) | self._children.get(place, set())
        for connection in entry.connections:
            known = self.connections.get((namespace, connection))
            if known and known.connection.spec.limits.requests_per_second is not None:
                policies |= self.users(namespace, connection)
        keys = {Key(CONNECTION.name, namespace, connection) for connection in entry.connections}
        return keys | _policies(policies - {place})

    def _holders(self, entry: Policy) -> set[Place]:
        holders: set[Place] = set()
        return holders.union(*(self._claimants.get(claim, ()) for claim in entry.claims))

    def _link(self, place: Place, entry: Policy) -> None:
        for connection in entry.connections:
            self._users[place[0], connection].add(place)
        for claim in entry.claims:
            self._claimants[claim].add(place)
        for parent in entry.parents:
            self._children[place[0], parent].add(place)

    def _unlink(self, place: Place, entry: Policy) -> None:
        for connection in entry.connections:
            _discard(self._users, (place[0], connection), place)
        for claim in entry.claims:
            _discard(self._claimants, claim, place)
        for parent in entry.parents:
            _discard(self._children, (place[0], parent), place)


def _policies(places: set[Place]) -> set[Key]:
    return {Key(SYNC_POLICY.name, *each) for each in places}


def _discard(index: dict[Any, set[Place]], key: Any, place: Place) -> None:
    holders = index.get(key, set())
    holders.discard(place)
    if not holders:
        index.pop(key, None)


def connection_state(connection: Connection) -> ConnectionState:
    """What a Connection's own status says. What was found of an older spec holds until the new one is probed."""
    name, suspended = connection.metadata.name, connection.spec.suspend
    ready = next((each for each in _conditions(connection.status) if each["type"] == "Ready"), None)
    if ready is None:
        return ConnectionState(name=name, suspended=suspended)
    return ConnectionState(
        name=name,
        ready={"True": True, "False": False}.get(ready["status"]),
        suspended=suspended,
        reason=ready["reason"],
        message=ready["message"],
    )


def _conditions(status: dict[str, Any]) -> Iterator[dict[str, Any]]:
    return iter(status.get("conditions") or ())


@cache
def presets() -> dict[str, Connector]:
    """The packaged Connectors by name."""
    return {name: preset(name, text) for name, text in preset_documents().items()}


def decode_connection(found: Object) -> KnownConnection:
    """A Connection without the parts of it that nobody reads.

    Raises:
        InvalidResource: it does not fit the model.
    """
    connection = decode("Connection", found)
    state = connection_state(connection)
    lean = msgspec.structs.replace(connection.metadata, annotations={}, labels={})
    return KnownConnection(msgspec.structs.replace(connection, metadata=lean, status={}), state)


def fingerprint(kind: Kind, found: Object) -> str:
    """Changes when somebody edits an object, not when a controller reports about it.

    A Deployment and a volume claim are judged by their spec and metadata, because their status changes their
    resourceVersion all the time; the annotations with a revision and about a volume, and the volume that was bound, are
    the cluster's controllers' own. Of other kinds every version counts.
    """
    metadata = found["metadata"]
    if kind not in (DEPLOYMENT, PERSISTENT_VOLUME_CLAIM):
        return str(metadata["resourceVersion"])
    return f"{hash(_edited(found)):x}"


_CONTROLLERS = ("deployment.", "pv.kubernetes.io/", "volume.kubernetes.io/", "volume.beta.kubernetes.io/")


def _edited(found: Object) -> bytes:
    metadata = found["metadata"]
    spec = {name: value for name, value in found["spec"].items() if name != "volumeName"}
    annotations = {k: v for k, v in metadata.get("annotations", {}).items() if not k.startswith(_CONTROLLERS)}
    parts = (spec, metadata.get("labels"), annotations, metadata.get("ownerReferences"))
    return msgspec.json.encode(parts, order="deterministic")


def rollout(found: Object) -> Rollout:
    """How far a Deployment is."""
    status, wanted = found.get("status", {}), found["spec"].get("replicas", 1)
    failing = [each for each in _conditions(status) if _blocks(each)]
    return Rollout(
        current=status.get("observedGeneration", 0) >= found["metadata"]["generation"]
        and status.get("updatedReplicas", 0) >= wanted,
        available=status.get("availableReplicas", 0) >= min(wanted, 1),  # one delivers, the others help
        failed=any(each["reason"] == "ProgressDeadlineExceeded" for each in failing),
        message="; ".join(each.get("message", "") for each in failing),
    )


def _blocks(condition: dict[str, Any]) -> bool:
    if condition["type"] == "ReplicaFailure":
        return bool(condition["status"] == "True")
    return bool(condition["type"] == "Progressing" and condition["status"] == "False")
