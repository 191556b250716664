"""What runs did, and what there is after them."""

from __future__ import annotations

import msgspec


class RunRecord(msgspec.Struct, frozen=True):
    """One run, for the history: times are epoch seconds."""

    id: str
    kind: str
    started: float
    ended: float
    outcome: str
    message: str
    counts: dict[str, int]


class Counts(msgspec.Struct, frozen=True):
    """What the store holds."""

    records: int
    pending: int
    held: int
    dead: int
    conflicts: int
