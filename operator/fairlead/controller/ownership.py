"""Brings the objects that run a policy to what they should be, and writes nothing that is already so."""

from __future__ import annotations

from fairlead.controller.conditions import Obstacle, Reason, Rollout
from fairlead.controller.inventory import Owned, Policy, fingerprint, rollout
from fairlead.controller.manifests import digest
from fairlead.kube.client import Kube
from fairlead.kube.failure import ApiFailure
from fairlead.kube.kinds import DEPLOYMENT, Kind, Object


class Refused(Exception):
    """The API server will not take an object, however often it is asked."""

    def __init__(self, obstacle: Obstacle) -> None:
        super().__init__(obstacle.message)
        self.obstacle = obstacle


async def settle(kube: Kube, entry: Policy, kind: Kind, manifest: Object) -> bool:
    """Applies a manifest unless it was applied before and nobody touched the object since.

    Returns:
        Whether somebody else had changed or deleted what was applied before.

    Raises:
        Refused: the content is refused, or an object of this name belongs to somebody else.
        ApiFailure: it may work later.
    """
    owned, wanted = entry.owned.setdefault(kind.name, Owned()), digest(manifest)
    if owned.wanted == wanted and owned.found and owned.found == owned.settled:
        return False
    drifted = bool(owned.settled) and owned.found != owned.settled
    try:
        found = await _apply(kube, kind, manifest, ours=bool(owned.found))
    except ApiFailure as failure:
        if failure.refused:
            raise Refused(
                Obstacle(Reason.APPLY_REFUSED, f"{failure}; see the operator's rights and quotas")
            ) from failure
        raise
    observe(entry, kind, found)
    owned.wanted, owned.settled = wanted, owned.found
    return drifted


def observe(entry: Policy, kind: Kind, found: Object) -> bool:
    """Takes over what was seen of an object; returns whether the policy should be looked at again.

    What is older than what is known already is not looked at: an answer to an apply overtakes the watch.
    """
    owned = entry.owned.setdefault(kind.name, Owned())
    version = int(found["metadata"]["resourceVersion"])
    if version < owned.version:
        return False
    owned.version, owned.found = version, fingerprint(kind, found)
    rolled = kind is DEPLOYMENT and _roll(entry, rollout(found))
    return rolled or owned.found != owned.settled


def lose(entry: Policy, kind: Kind, version: int) -> bool:
    """An object was deleted, or is no longer the policy's; returns whether the policy should be looked at again.

    Args:
        entry: the policy's.
        kind: the object's.
        version: of the event; an object that was applied again since is not lost.
    """
    owned = entry.owned.setdefault(kind.name, Owned())
    if version < owned.version:
        return False
    owned.found, owned.version = "", version
    if kind is DEPLOYMENT:
        entry.rollout = Rollout()
    return bool(owned.settled)


def owner(found: Object) -> str:
    """The uid of the object that controls this one; empty when there is none."""
    references = found["metadata"].get("ownerReferences", ())
    return next((str(each["uid"]) for each in references if each.get("controller")), "")


def _roll(entry: Policy, now: Rollout) -> bool:
    changed = entry.rollout != now
    entry.rollout = now
    return changed


async def _apply(kube: Kube, kind: Kind, manifest: Object, *, ours: bool) -> Object:
    """Takes fields back from others only where the object is known to be the policy's own."""
    try:
        return await kube.apply(kind, manifest, force=ours)
    except ApiFailure as failure:
        if ours or failure.status != 409:
            raise
    metadata = manifest["metadata"]
    there = await kube.get(kind, metadata["namespace"], metadata["name"])
    if there is not None and owner(there) != owner(manifest):
        message = f"a {kind.name} {metadata['name']} exists and is not this policy's: delete it or rename the policy"
        raise Refused(Obstacle(Reason.APPLY_REFUSED, message))
    return await kube.apply(kind, manifest, force=True)
