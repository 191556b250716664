"""Reconciles a SyncPolicy: checks it, keeps what runs it as it should be, and says how it is."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from fairlead.connectors.registry import SQL
from fairlead.controller.conditions import (
    ConnectionState,
    Obstacle,
    PolicyView,
    Reason,
    Rollout,
    judge,
    pausing,
    policy_conditions,
    revisit,
)
from fairlead.controller.events import NORMAL, WARNING, Recorder
from fairlead.controller.inventory import Inventory, Key, Owned, Policy, decode_connection
from fairlead.controller.levers import senseless
from fairlead.controller.manifests import Inputs, WorkerImage, owned_name, render, shared_limits
from fairlead.controller.ownership import Refused, remove, settle
from fairlead.controller.unreadable import tell_unreadable
from fairlead.kube.client import Kube
from fairlead.kube.kinds import CONNECTION, DEPLOYMENT, SYNC_POLICY, Object
from fairlead.model.bundle import decode
from fairlead.model.check import check_policy
from fairlead.model.checks.reference import apart
from fairlead.model.connection import Connection
from fairlead.model.connector import Connector
from fairlead.model.health import Measured
from fairlead.model.problem import InvalidResource
from fairlead.model.syncpolicy import SyncPolicy

RESYNC = 600.0
"""Seconds after which a policy is looked at although nothing was heard of it."""

REFUSED = 20.0
"""Seconds after which what the API server refused is tried again: nobody tells when the reason is gone."""

FOLD = 2.0
"""Seconds for which a change that concerns many others is allowed to collect more of its kind."""

_OWN = (
    "observedGeneration",
    "conditions",
    "summary",
    "lastHandledRequestAt",
    "lastHandledResyncRequestAt",
    "lastHandledEnforceRequestAt",
)
"""The parts of the status that are the operator's; `worker` is the worker's."""


class PolicyReconciler:
    """Level-triggered: reads the policy as it is now, plans, applies what differs.

    Args:
        kube: the API server.
        inventory: what is known of Connections, Connectors and other policies.
        recorder: posts Events.
        requeue: asks for a visit of another resource after some seconds.
        worker: the operator's settings for workers.
    """

    def __init__(
        self,
        kube: Kube,
        inventory: Inventory,
        recorder: Recorder,
        requeue: Callable[[Key, float], None],
        worker: WorkerImage,
    ) -> None:
        self._kube = kube
        self._inventory = inventory
        self._recorder = recorder
        self._requeue = requeue
        self._worker = worker

    async def reconcile(self, key: Key) -> float | None:
        """One visit. What cannot be read leaves the worker with its last good configuration.

        Returns:
            Seconds until the next; None when the policy is gone or going.

        Raises:
            ApiFailure: the API server refused or did not answer.
        """
        found = await self._kube.get(SYNC_POLICY, key.namespace, key.name)
        if found is None:
            self._concern(self._inventory.forget_policy(key.namespace, key.name))
            return None
        if "deletionTimestamp" in found["metadata"]:
            return None
        entry = self._enter(key, found)
        try:
            view = await self._view(found, entry)
        except InvalidResource as error:
            await tell_unreadable(self._kube, SYNC_POLICY, found, error)
            return RESYNC
        await self._write(found, view)
        await self._warn(entry, view)
        refused = view.obstacle is not None and view.obstacle.reason == Reason.APPLY_REFUSED
        limit = REFUSED if refused else RESYNC
        return min(limit * random.uniform(0.8, 1.2), revisit(view) or limit)  # noqa: S311 - spreads load

    def _enter(self, key: Key, found: Object) -> Policy:
        """The policy's entry; a new one for a policy that was deleted and created again."""
        entry = self._inventory.policy(key.namespace, key.name)
        uid = found["metadata"]["uid"]
        if entry.uid not in ("", uid):
            entry.owned = {}
        entry.uid = uid
        return entry

    async def _view(self, found: Object, entry: Policy) -> PolicyView:
        now = datetime.now(UTC)
        policy = decode("SyncPolicy", found)
        await self._look_for_connections(policy)
        self._concern(self._inventory.note_policy(policy))
        states = [self._state(policy, name) for name in sorted(policy.connections())]
        view = PolicyView(policy=policy, connections=states, measured=measured_of(found), now=now)
        obstacle = await self._run(view, entry)
        return msgspec.structs.replace(view, obstacle=obstacle, rollout=entry.rollout)

    async def _look_for_connections(self, policy: SyncPolicy) -> None:
        """Asks for those that no watch has told of yet: nobody is called missing who was not looked for.

        Raises:
            InvalidResource: one is there, but cannot be read.
        """
        for name in policy.connections():
            place = (policy.metadata.namespace, name)
            if place not in self._inventory.connections and (found := await self._kube.get(CONNECTION, *place)):
                self._inventory.connections[place] = decode_connection(found)

    async def _run(self, view: PolicyView, entry: Policy) -> Obstacle | None:
        """Brings what runs the policy to what it should be; returns what keeps it from being so.

        A policy that cannot be understood leaves the worker with its last good configuration; one that must not
        run, because a Connection is gone or another policy claims the same field, has its worker taken away.
        """
        if not all(each.found for each in view.connections):
            await self._halt(view.policy, entry)
            return None
        obstacle = await self._check(view.policy)
        if obstacle:
            if obstacle.reason == Reason.POLICY_OVERLAP:
                await self._halt(view.policy, entry)
            return obstacle
        try:
            await self._settle(view, entry)
        except Refused as refused:
            return refused.obstacle
        return None

    async def _settle(self, view: PolicyView, entry: Policy) -> None:
        drifted = [
            kind.name
            for kind, manifest in render(self._inputs(view))
            if await settle(self._kube, entry, kind, manifest)
        ]
        if drifted:
            note = (
                f"{', '.join(drifted)} {owned_name(view.policy.metadata.name)} was changed or deleted and is put right"
            )
            await self._recorder.post(SYNC_POLICY, view.policy.metadata, NORMAL, "DriftCorrected", "Apply", note)

    async def _halt(self, policy: SyncPolicy, entry: Policy) -> None:
        """Takes the worker away: it is drained. Its state stays."""
        metadata, owned = policy.metadata, entry.owned.get(DEPLOYMENT.name)
        if owned is None or owned.found:
            await remove(self._kube, DEPLOYMENT, metadata.namespace, owned_name(metadata.name), metadata.uid)
            entry.owned[DEPLOYMENT.name], entry.rollout = Owned(), Rollout()

    async def _check(self, policy: SyncPolicy) -> Obstacle | None:
        rivals = await self._rivals(policy)
        connections = {each.id: each for one in (policy, *rivals) for each in self._used(one)}
        connectors = {each.metadata.name: each for each in self._connectors(policy)}
        problems = check_policy(policy, connections, connectors, [*rivals, *await self._ancestors(policy)])
        problems += apart(policy)
        if not problems:
            return None
        return Obstacle(str(problems[0].reason), "; ".join(map(str, problems)))

    async def _rivals(self, policy: SyncPolicy) -> list[SyncPolicy]:
        """The policies that write to the same objects, as they are now: what was remembered may be gone."""
        rivals = []
        for place in sorted(self._inventory.rivals(policy.metadata.namespace, policy.metadata.name)):
            found = await self._kube.get(SYNC_POLICY, *place)
            if found is not None and "deletionTimestamp" not in found["metadata"]:
                rivals.append(decode("SyncPolicy", found))
        return rivals

    async def _ancestors(self, policy: SyncPolicy) -> list[SyncPolicy]:
        """The policies that its records refer to, and that those refer to, as they are now."""
        found: dict[str, SyncPolicy] = {}
        seen, names = {policy.metadata.name}, list(policy.references().values())
        while names:
            name = names.pop()
            there = None if name in seen else await self._kube.get(SYNC_POLICY, policy.metadata.namespace, name)
            seen.add(name)
            if there is not None and "deletionTimestamp" not in there["metadata"]:
                found[name] = decode("SyncPolicy", there)
                names += found[name].references().values()
        return list(found.values())

    def _state(self, policy: SyncPolicy, name: str) -> ConnectionState:
        known = self._inventory.connections.get((policy.metadata.namespace, name))
        return known.state if known else ConnectionState(name=name, found=False)

    def _inputs(self, view: PolicyView) -> Inputs:
        policy = view.policy
        return Inputs(
            policy=policy,
            connections=[self._share(policy, each) for each in self._used(policy)],
            connectors=self._connectors(policy),
            running=not pausing(view),
            worker=self._worker,
        )

    def _share(self, policy: SyncPolicy, connection: Connection) -> Connection:
        users = self._inventory.sharers(policy.metadata.namespace, connection.metadata.name)
        limits = shared_limits(connection.spec.limits, users, policy.workers)
        return msgspec.structs.replace(connection, spec=msgspec.structs.replace(connection.spec, limits=limits))

    def _used(self, policy: SyncPolicy) -> list[Connection]:
        places = [(policy.metadata.namespace, name) for name in sorted(policy.connections())]
        found = [self._inventory.connections.get(place) for place in places]
        return [each.connection for each in found if each]

    def _connectors(self, policy: SyncPolicy) -> list[Connector]:
        """The Connectors that its Connections name, presets too, so that the worker sees what was checked."""
        names = sorted({each.spec.connector for each in self._used(policy)} - {SQL})
        return [found for name in names if (found := self._inventory.connector(name))]

    async def _write(self, found: Object, view: PolicyView) -> None:
        before: Mapping[str, Any] = found["status"]
        status = policy_status(view, before)
        if _own(before) == _own(status):
            return
        metadata = view.policy.metadata
        await self._kube.apply_status(SYNC_POLICY, metadata.namespace, metadata.name, status)
        await self._tell(view, before.get("conditions", ()), status["conditions"])

    async def _tell(
        self, view: PolicyView, before: Iterable[Mapping[str, Any]], after: list[Mapping[str, Any]]
    ) -> None:
        """Events when delivery stops or goes on again, and when a person is needed."""
        old, new = _by_type(before), _by_type(after)
        ready, stalled = new["Ready"], new.get("Stalled")
        if stalled and old.get("Stalled", {}).get("reason") != stalled["reason"]:
            news, type_ = stalled, WARNING
        elif "Ready" in old and old["Ready"]["status"] != ready["status"]:
            news, type_ = ready, NORMAL if ready["status"] == "True" else WARNING
        else:
            return
        metadata = view.policy.metadata
        await self._recorder.post(SYNC_POLICY, metadata, type_, news["reason"], "Reconcile", news["message"])

    async def _warn(self, entry: Policy, view: PolicyView) -> None:
        """Says once that an annotation has no effect."""
        notes = senseless(view.policy.metadata.annotations, view.measured.halted)
        if entry.notes == notes:
            return
        for note in set(notes) - set(entry.notes):
            await self._recorder.post(SYNC_POLICY, view.policy.metadata, WARNING, "SenselessLever", "Reconcile", note)
        entry.notes = notes

    def _concern(self, keys: Iterable[Key]) -> None:
        for key in keys:
            self._requeue(key, FOLD)


def measured_of(found: Object) -> Measured:
    """What the worker said last; nothing when it said nothing that can be read."""
    try:
        return msgspec.convert(found["status"].get("worker", {}), Measured)
    except msgspec.ValidationError:
        return Measured()


def policy_status(view: PolicyView, before: Mapping[str, Any]) -> Object:
    """What the operator says of a policy."""
    policy, measured = view.policy, view.measured
    conditions = policy_conditions(view, before.get("conditions", ()))
    systems = ",".join(system.name for system in policy.spec.systems)
    handled = {
        "lastHandledRequestAt": measured.last_handled_request_at,
        "lastHandledResyncRequestAt": measured.last_handled_resync_request_at,
        "lastHandledEnforceRequestAt": measured.last_handled_enforce_request_at,
    }
    return {
        "observedGeneration": policy.metadata.generation,
        "conditions": msgspec.to_builtins(conditions),
        "summary": {"status": str(judge(view).reason), "systems": systems},
        **{name: value for name, value in handled.items() if value},
    }


def _own(status: Mapping[str, Any]) -> dict[str, Any]:
    own = {name: status[name] for name in _OWN if name in status}
    return own | {"conditions": _by_type(status.get("conditions", ()))}


def _by_type(conditions: Iterable[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    return {each["type"]: each for each in conditions}
