"""Whether the watches still hear: what the API server answered must, soon after, also come in as an event.

A watch that goes deaf looks like a quiet cluster. But every object that is read or written here carries a
resourceVersion, and the watch of its kind must deliver that version or a later one; if it does not, it is deaf.
"""

from __future__ import annotations

import time

import msgspec

from fairlead.kube.kinds import Kind, Object

DELETED = "DELETED"

PATIENCE = 120.0
"""Seconds after which an event that has not come in means that the watch is deaf."""


class _Ear(msgspec.Struct):
    heard: int = 0
    expected: int = 0
    since: float = 0.0
    listed: set[int] = msgspec.field(default_factory=set)
    """Hashes of the uids that this watch has shown since it last began with a list."""


class Heartbeat:
    """Compares what was heard with what is known to have happened, for each watch: kind and namespace.

    Args:
        namespaces: those that are watched one by one; none when all are watched together.
    """

    def __init__(self, namespaces: tuple[str, ...] = ()) -> None:
        self._namespaces = namespaces
        self._ears: dict[tuple[str, str], _Ear] = {}

    def heard(self, kind: Kind, type_: str | None, found: Object) -> bool:
        """An event came in; its type is None for an object of the list with which a watch begins.

        Returns:
            Whether the watch has begun anew, because it was away for so long that the API server could not tell what
            it missed. Objects that were deleted meanwhile are never told of.
        """
        ear, version = self._ear(kind, found), _version(found)
        anew = _noted(ear, type_, hash(found["metadata"]["uid"]))
        ear.heard = max(ear.heard, version)
        if anew or ear.heard >= ear.expected:
            ear.expected, ear.since = ear.heard, 0.0
        return anew

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


def _noted(ear: _Ear, type_: str | None, uid: int) -> bool:
    """Keeps what is listed; what is listed twice begins another list."""
    if type_ == DELETED:
        ear.listed.discard(uid)
        return False
    anew = type_ is None and uid in ear.listed
    if anew:
        ear.listed.clear()
    ear.listed.add(uid)
    return anew


def _version(found: Object) -> int:
    return int(found["metadata"]["resourceVersion"])
