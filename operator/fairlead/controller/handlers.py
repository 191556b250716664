"""The watches: kopf tells what happened, and `sources` decides what follows. Nothing here lists or watches Secrets.

Only raw events: kopf's other handlers keep their state in annotations of the user's resources.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import kopf

from fairlead.controller.manifests import MANAGED_BY, POLICY_LABEL
from fairlead.controller.sources import Sources
from fairlead.kube.kinds import (
    CONFIG_MAP,
    CONNECTION,
    CONNECTOR,
    DEPLOYMENT,
    PERSISTENT_VOLUME_CLAIM,
    ROLE,
    ROLE_BINDING,
    SERVICE_ACCOUNT,
    SYNC_POLICY,
    Kind,
    Object,
)

DECLARED = (CONNECTION, CONNECTOR, SYNC_POLICY)
OWNED = (SERVICE_ACCOUNT, ROLE, ROLE_BINDING, PERSISTENT_VOLUME_CLAIM, CONFIG_MAP, DEPLOYMENT)

_SELECTOR = ",".join([*(f"{name}={value}" for name, value in MANAGED_BY.items()), POLICY_LABEL])


def watched(kind: Kind, found: Object) -> bool:
    """Whether an event about this object is to be expected."""
    labels = found["metadata"].get("labels", {})
    ours = labels.items() >= MANAGED_BY.items() and POLICY_LABEL in labels
    return kind in DECLARED or (kind in OWNED and ours)


def register(registry: kopf.OperatorRegistry, settings: kopf.OperatorSettings, sources: Sources) -> None:
    """One raw watch per kind. Of the owned kinds the API server sends only what carries the operator's labels."""
    for kind in DECLARED:
        _watch(registry, kind, sources.declared)
    for kind in OWNED:
        settings.watching.label_selectors[kind.group, _version(kind), kind.plural] = _SELECTOR
        _watch(registry, kind, sources.owned)


def _watch(registry: kopf.OperatorRegistry, kind: Kind, source: Callable[[Kind, str | None, Object], None]) -> None:
    @kopf.on.event(kind.group, _version(kind), kind.plural, registry=registry, id=f"watch-{kind.plural}")
    async def handle(*, event: Any, **_: Any) -> None:
        source(kind, event["type"], event["object"])


def _version(kind: Kind) -> str:
    return kind.api_version.rpartition("/")[2]
