"""Kubernetes Events: few, for what a person would want to know, and never one per record."""

from __future__ import annotations

from collections import OrderedDict
from datetime import UTC, datetime
from uuid import uuid4

import msgspec
import structlog

from fairlead.kube.client import Kube
from fairlead.kube.failure import ApiFailure
from fairlead.kube.kinds import EVENT, Kind, Object
from fairlead.model.common import Metadata

log = structlog.get_logger(__name__)

CONTROLLER = "fairlead.dev/operator"
NORMAL = "Normal"
WARNING = "Warning"

_REMEMBERED = 512
_NOTE_LIMIT = 1024
"""The API server's limit of an Event's note."""


class _Posted(msgspec.Struct):
    name: str
    first: str
    count: int = 1


class Recorder:
    """Posts Events; one that repeats becomes a series with a count instead of another Event.

    Args:
        kube: the API server.
        instance: who reports, for example the pod's name.
    """

    def __init__(self, kube: Kube, instance: str) -> None:
        self._kube = kube
        self._instance = instance
        self._posted: OrderedDict[tuple[str, str, str], _Posted] = OrderedDict()

    async def post(self, kind: Kind, about: Metadata, type_: str, reason: str, action: str, note: str) -> None:
        """Tells of `about`. An Event that cannot be posted is logged and lost: no reconcile fails for it."""
        posted = self._remember((about.uid, reason, note), about.name)
        event = _event(kind, about, posted)
        event |= {"type": type_, "reason": reason, "action": action, "note": note[:_NOTE_LIMIT]}
        event |= {"reportingController": CONTROLLER, "reportingInstance": self._instance}
        try:
            await self._kube.apply(EVENT, event, force=True)
        except ApiFailure as failure:
            log.warning("event not posted", about=f"{kind.name} {about.name}", reason=reason, error=str(failure))

    def _remember(self, key: tuple[str, str, str], name: str) -> _Posted:
        posted = self._posted.get(key)
        if posted:
            posted.count += 1
        else:
            posted = self._posted[key] = _Posted(f"{name}.{uuid4().hex[:16]}", _now())
        self._posted.move_to_end(key)
        if len(self._posted) > _REMEMBERED:
            self._posted.popitem(last=False)
        return posted


def _event(kind: Kind, about: Metadata, posted: _Posted) -> Object:
    namespace = about.namespace if kind.namespaced else "default"
    regarding = {"apiVersion": kind.api_version, "kind": kind.name, "name": about.name, "uid": about.uid}
    event: Object = {
        "apiVersion": EVENT.api_version,
        "kind": EVENT.name,
        "metadata": {"name": posted.name, "namespace": namespace},
        "eventTime": posted.first,
        "regarding": {**regarding, **({"namespace": namespace} if kind.namespaced else {})},
    }
    if posted.count > 1:
        event["series"] = {"count": posted.count, "lastObservedTime": _now()}
    return event


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
