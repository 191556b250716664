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
        there = bool(owned.found) or await _is_there(kube, kind, manifest)
        found = await kube.apply(kind, manifest, force=there)
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
    """An object was deleted, or is not the policy's; returns whether it was until now.

    Args:
        entry: the policy's.
        kind: the object's.
        version: of the event; an object that was applied again since is not lost.
    """
    owned = entry.owned.setdefault(kind.name, Owned())
    if version < owned.version:
        return False
    known, owned.found, owned.version = bool(owned.found), "", version
    if kind is DEPLOYMENT:
        entry.rollout = Rollout()
    return known


async def remove(kube: Kube, kind: Kind, namespace: str, name: str, uid: str) -> None:
    """Deletes an object if the one with this uid owns it.

    Raises:
        ApiFailure: it may work later.
    """
    found = await kube.get(kind, namespace, name)
    if found is not None and owner(found) == uid:
        await kube.delete(kind, namespace, name, uid=found["metadata"]["uid"])


def owner(found: Object) -> str:
    """The uid of the object that controls this one; empty when there is none."""
    references = found["metadata"].get("ownerReferences", ())
    return next((str(each["uid"]) for each in references if each.get("controller")), "")


def _roll(entry: Policy, now: Rollout) -> bool:
    changed = entry.rollout != now
    entry.rollout = now
    return changed


async def _is_there(kube: Kube, kind: Kind, manifest: Object) -> bool:
    """Whether the policy has this object already; one that belongs to somebody else is left alone.

    Server-side apply would not ask: it refuses only fields that others set to something else.
    """
    metadata = manifest["metadata"]
    found = await kube.get(kind, metadata["namespace"], metadata["name"])
    if found is not None and owner(found) != owner(manifest):
        message = f"a {kind.name} {metadata['name']} exists and is not this policy's: delete it or rename the policy"
        raise Refused(Obstacle(Reason.APPLY_REFUSED, message))
    return found is not None
