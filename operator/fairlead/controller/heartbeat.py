"""Whether the watches still hear: what the API server answered must, soon after, also come in as an event.

A watch that goes deaf looks like a quiet cluster. But every object that is read or written here carries a
resourceVersion, and the watch of its kind must deliver that version or a later one; if it does not, it is deaf.
"""

from __future__ import annotations

import time

import msgspec

from fairlead.kube.kinds import Kind, Object

PATIENCE = 120.0
"""Seconds after which an event that has not come in means that the watch is deaf."""


class _Ear(msgspec.Struct):
    heard: int = 0
    expected: int = 0
    since: float = 0.0


class Heartbeat:
    """Compares what was heard with what is known to have happened, for each watch: kind and namespace.

    Args:
        namespaces: those that are watched one by one; none when all are watched together.
    """

    def __init__(self, namespaces: tuple[str, ...] = ()) -> None:
        self._namespaces = namespaces
        self._ears: dict[tuple[str, str], _Ear] = {}

    def heard(self, kind: Kind, found: Object) -> None:
        """An event came in."""
        ear, version = self._ear(kind, found), _version(found)
        ear.heard = max(ear.heard, version)
        if ear.heard >= ear.expected:
            ear.since = 0.0

    def happened(self, kind: Kind, found: Object) -> None:
        """The API server showed an object that is watched."""
        ear, version = self._ear(kind, found), _version(found)
        if version > max(ear.heard, ear.expected):
            ear.expected = version
            ear.since = ear.since or time.monotonic()

    def deaf(self) -> list[str]:
        """The kinds whose watches have missed something for too long."""
        late = time.monotonic() - PATIENCE
        return sorted({kind for (kind, _), ear in self._ears.items() if 0.0 < ear.since < late})

    def _ear(self, kind: Kind, found: Object) -> _Ear:
        namespace = found["metadata"].get("namespace", "") if self._namespaces else ""
        return self._ears.setdefault((kind.name, namespace), _Ear())


def _version(found: Object) -> int:
    return int(found["metadata"]["resourceVersion"])
