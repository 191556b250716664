"""What the control plane remembers between visits: little per object, and never a Secret's value.

Truth is at the API server; everything here can be lost and is then found again by looking.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import msgspec
import yaml

from fairlead.connectors.registry import preset_documents
from fairlead.controller.conditions import ConnectionState, Rollout
from fairlead.kube.kinds import Kind, Object
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


class Policy(msgspec.Struct):
    """What others need to know of a policy, and what it owns."""

    uid: str = ""
    connections: frozenset[str] = frozenset()
    claims: frozenset[tuple[str, str]] = frozenset()
    """(Connection, object) of every system it writes to; those who share one may overlap."""
    active: bool = True
    signature: int = 0
    levers: int = 0
    owned: dict[str, Owned] = msgspec.field(default_factory=dict)
    rollout: Rollout = Rollout()


class KnownConnection(msgspec.Struct, frozen=True):
    """A Connection, and what its status says."""

    connection: Connection
    state: ConnectionState


class Inventory:
    """Resources by namespace and name, and who uses whom."""

    def __init__(self) -> None:
        self.policies: dict[tuple[str, str], Policy] = {}
        self.connections: dict[tuple[str, str], KnownConnection] = {}
        self.connectors: dict[str, Connector] = {}
        self._users: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
        self._claimants: defaultdict[tuple[str, str, str], set[str]] = defaultdict(set)

    def policy(self, namespace: str, name: str) -> Policy:
        """The entry of a policy, made when there is none."""
        return self.policies.setdefault((namespace, name), Policy())

    def note_policy(self, policy: SyncPolicy) -> set[Key]:
        """Takes over what others need to know of a policy; returns whom that concerns."""
        namespace, name = policy.metadata.namespace, policy.metadata.name
        entry = self.policy(namespace, name)
        connections = frozenset(system.connection for system in policy.spec.systems)
        claims = frozenset((each.connection, each.object) for each in policy.spec.systems if each.writes)
        active = not policy.spec.suspend
        if (entry.connections, entry.claims, entry.active) == (connections, claims, active):
            return set()
        concerned = self._concerned(namespace, name, entry)
        self._unlink(namespace, name, entry)
        entry.connections, entry.claims, entry.active = connections, claims, active
        self._link(namespace, name, entry)
        return concerned | self._concerned(namespace, name, entry)

    def forget_policy(self, namespace: str, name: str) -> set[Key]:
        """Drops a policy that is gone; returns whom that concerns."""
        entry = self.policies.pop((namespace, name), None)
        if entry is None:
            return set()
        self._unlink(namespace, name, entry)
        return self._concerned(namespace, name, entry)

    def users(self, namespace: str, connection: str) -> set[str]:
        """Names of the policies that use a Connection."""
        return self._users.get((namespace, connection), set())

    def sharers(self, namespace: str, connection: str) -> int:
        """How many workers share a Connection's budget: those of policies that are not suspended."""
        return sum(self.policies[namespace, name].active for name in self.users(namespace, connection))

    def rivals(self, namespace: str, name: str) -> set[str]:
        """Names of the policies that write to an object that this one writes to."""
        entry = self.policies.get((namespace, name), Policy())
        return self._claim_holders(namespace, entry) - {name}

    def connector(self, name: str) -> Connector | None:
        """The Connector resource of that name, else the packaged preset."""
        return self.connectors.get(name) or presets().get(name)

    def users_of_connector(self, connector: str) -> set[Key]:
        """The Connections that name a Connector."""
        return {
            Key("Connection", namespace, name)
            for (namespace, name), known in self.connections.items()
            if known.connection.spec.connector == connector
        }

    def _concerned(self, namespace: str, name: str, entry: Policy) -> set[Key]:
        """Its Connections (they count their users), those who share a budget with it, and its rivals."""
        keys = {Key("Connection", namespace, connection) for connection in entry.connections}
        policies = self._claim_holders(namespace, entry)
        for connection in entry.connections:
            known = self.connections.get((namespace, connection))
            if known and known.connection.spec.limits.requests_per_second is not None:
                policies = policies | self.users(namespace, connection)
        return keys | {Key("SyncPolicy", namespace, each) for each in policies - {name}}

    def _claim_holders(self, namespace: str, entry: Policy) -> set[str]:
        holders: set[str] = set()
        return holders.union(*(self._claimants.get((namespace, *claim), ()) for claim in entry.claims))

    def _link(self, namespace: str, name: str, entry: Policy) -> None:
        for connection in entry.connections:
            self._users[namespace, connection].add(name)
        for claim in entry.claims:
            self._claimants[namespace, claim[0], claim[1]].add(name)

    def _unlink(self, namespace: str, name: str, entry: Policy) -> None:
        for connection in entry.connections:
            _discard(self._users, (namespace, connection), name)
        for claim in entry.claims:
            _discard(self._claimants, (namespace, *claim), name)


def _discard(index: dict[Any, set[str]], key: Any, name: str) -> None:
    holders = index.get(key, set())
    holders.discard(name)
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
    texts = preset_documents().values()
    decoded = [msgspec.convert(yaml.load(text, Loader=yaml.CSafeLoader), Connector) for text in texts]
    return {each.metadata.name: each for each in decoded}


def decode_connection(found: Object) -> KnownConnection:
    """A Connection without the parts of it that nobody reads.

    Raises:
        msgspec.ValidationError: it does not fit the model.
    """
    connection = msgspec.convert(found, Connection)
    state = connection_state(connection)
    lean = msgspec.structs.replace(connection.metadata, annotations={}, labels={})
    return KnownConnection(msgspec.structs.replace(connection, metadata=lean, status={}), state)


def fingerprint(kind: Kind, found: Object) -> str:
    """Changes when somebody edits an object, not when a controller reports about it.

    A Deployment is judged by its spec and metadata, because its status changes its resourceVersion all the time; the
    annotation with the revision is the Deployment controller's own. Of other kinds every version counts.
    """
    metadata = found["metadata"]
    if kind.name != "Deployment":
        return str(metadata["resourceVersion"])
    return f"{hash(_edited(found)):x}"


def _edited(found: Object) -> bytes:
    metadata = found["metadata"]
    annotations = {k: v for k, v in metadata.get("annotations", {}).items() if not k.startswith("deployment.")}
    parts = (found["spec"], metadata.get("labels"), annotations, metadata.get("ownerReferences"))
    return msgspec.json.encode(parts, order="deterministic")


def rollout(found: Object) -> Rollout:
    """How far a Deployment is."""
    status, wanted = found.get("status", {}), found["spec"].get("replicas", 1)
    failing = [each for each in _conditions(status) if _blocks(each)]
    return Rollout(
        current=status.get("observedGeneration", 0) >= found["metadata"]["generation"]
        and status.get("updatedReplicas", 0) >= wanted,
        available=status.get("availableReplicas", 0) >= wanted,
        failed=any(each["reason"] == "ProgressDeadlineExceeded" for each in failing),
        message="; ".join(each.get("message", "") for each in failing),
    )


def _blocks(condition: dict[str, Any]) -> bool:
    if condition["type"] == "ReplicaFailure":
        return bool(condition["status"] == "True")
    return condition["type"] == "Progressing" and condition["status"] == "False"
