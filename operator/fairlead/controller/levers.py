"""The annotations that people pull: which of them make sense, and what to say of those that do not."""

from __future__ import annotations

from collections.abc import Mapping

from fairlead.model.health import Halted
from fairlead.model.problem import near
from fairlead.model.syncpolicy import APPROVE, ENFORCE_REQUESTED_AT, REQUESTED_AT, RESYNC_REQUESTED_AT, SUSPEND_REASON

PREFIX = "fairlead.dev/"
VALUE_LIMIT = 256
"""Longest value of a request; the status that acknowledges it takes no more."""

_KNOWN = (REQUESTED_AT, RESYNC_REQUESTED_AT, ENFORCE_REQUESTED_AT, APPROVE, SUSPEND_REASON)


def levers(annotations: Mapping[str, str]) -> dict[str, str]:
    """The levers of a policy that mean something, in a stable order."""
    return {name: annotations[name] for name in sorted(_KNOWN) if _usable(name, annotations.get(name, ""))}


def senseless(annotations: Mapping[str, str], halted: Halted | None) -> list[str]:
    """One sentence for each annotation that has no effect, and what to write instead."""
    ours = {name: value for name, value in sorted(annotations.items()) if name.startswith(PREFIX)}
    return [note for name, value in ours.items() if (note := _note(name, value, halted))]


def _usable(name: str, value: str) -> bool:
    return bool(value.strip()) and (name == SUSPEND_REASON or len(value) <= VALUE_LIMIT)


def _note(name: str, value: str, halted: Halted | None) -> str:
    if name not in _KNOWN:
        return f"annotation {name} means nothing{near(name, _KNOWN)}"
    if not value.strip():
        return f"annotation {name} is empty: write anything new, for example the time"
    if not _usable(name, value):
        return f"annotation {name} has {len(value)} characters: write at most {VALUE_LIMIT}"
    if name == APPROVE and halted and value != halted.plan:
        return f"annotation {name} names a plan that is not waiting: write {halted.plan}"
    return ""
