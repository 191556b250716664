"""What is said of a resource that the API server took and this operator cannot read."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from fairlead.controller.conditions import Reason, Type, stamp
from fairlead.kube.client import Kube
from fairlead.kube.kinds import Kind, Object
from fairlead.model.problem import InvalidResource


async def tell_unreadable(kube: Kube, kind: Kind, found: Object, error: InvalidResource) -> None:
    """Writes so into its status, once. It was declared for CRDs that are newer than the operator, or older.

    Raises:
        ApiFailure: the API server refused or did not answer.
    """
    metadata, before = found["metadata"], found["status"].get("conditions", ())
    message = f"{error}: this operator ({kind.api_version}) cannot read it; are operator and CRDs of one release?"
    drafts = [
        (each, holds, Reason.INVALID_SPEC, message) for each, holds in ((Type.READY, False), (Type.STALLED, True))
    ]
    conditions = msgspec.to_builtins(stamp(drafts, before, metadata["generation"], datetime.now(UTC)))
    if conditions != before:
        summary = {"status": str(Reason.INVALID_SPEC)}
        status = {"observedGeneration": metadata["generation"], "conditions": conditions, "summary": summary}
        await kube.apply_status(kind, metadata["namespace"], metadata["name"], status)
