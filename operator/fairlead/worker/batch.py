"""Batch: what becomes one transaction, and what is written after it."""

from __future__ import annotations

import msgspec

from fairlead.state.base import Commit, Intent, Recollection


class Batch(msgspec.Struct):
    """One transaction in the making, and the writes that go out after it."""

    commit: Commit = msgspec.field(default_factory=Commit)
    intents: list[Intent] = []
    memories: dict[int, Recollection] = {}
