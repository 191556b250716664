"""Types that several resources share."""

from __future__ import annotations

import re
from typing import Any

import msgspec

_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

PRECISION = "x-precision"
"""Keyword of a date-time's schema: what is finer is no difference between systems."""

PRECISIONS = ("Minutes", "Seconds", "Milliseconds")


def seconds(duration: str) -> float:
    """Seconds of a duration like `500ms`, `1m30s` or `7d` (Go's notation, and days).

    Raises:
        ValueError: the text is not a duration.
    """
    if not _DURATION.fullmatch(duration):
        raise ValueError(f"{duration!r} is not a duration; write for example 500ms, 30s, 5m or 1h30m")
    return sum(float(n) * _SECONDS[unit] for n, unit in _DURATION_PART.findall(duration))


def counted(number: int, noun: str) -> str:
    """`1 record`, `2 records`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


class Spec(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Base of everything declared in YAML: immutable, camelCase, strict."""


class KeyRef(Spec, frozen=True, kw_only=True):
    """One key of a Secret or ConfigMap in the resource's own namespace."""

    name: str
    key: str


class SecretValue(Spec, frozen=True, kw_only=True):
    """A value that only a Secret holds."""

    secret_key_ref: KeyRef


class Metadata(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The part of Kubernetes' ObjectMeta that Fairlead reads."""

    name: str
    namespace: str = "default"
    generation: int = 1
    uid: str = ""
    resource_version: str = ""
    annotations: dict[str, str] = {}
    labels: dict[str, str] = {}
    deletion_timestamp: str | None = None


class Resource(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of the three kinds."""

    metadata: Metadata
    status: dict[str, Any] = {}

    @property
    def id(self) -> str:
        """`namespace/name`, as messages and work queues write it."""
        return f"{self.metadata.namespace}/{self.metadata.name}"
