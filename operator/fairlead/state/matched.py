"""What of a store's contract is about which records are the same."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from fairlead.state.place import Place


class Matched(Protocol):
    """Match keys, what a person said is not the same, and what was deleted. A part of `state.base.Store`."""

    async def candidates(self, matches: Sequence[int]) -> dict[int, list[int]]:
        """Match key → the records that have it, and the dead letters that hold it (see `reservation`)."""
        ...

    async def match_keys(self, records: Sequence[int]) -> dict[int, list[int]]:
        """Record → its match keys."""
        ...

    async def apart(self, places: Sequence[Place]) -> dict[Place, frozenset[Place]]:
        """Those of `places` that are not the same record as some others, and which; quick where there are none."""
        ...

    def divided(self) -> AsyncIterator[list[tuple[Place, Place]]]:
        """All pairs of places that are apart, each once, in pages."""
        ...

    async def former(self, record: int) -> dict[int, float]:
        """What the record was before: number → until when (epoch seconds) what the audit tells of it is about this one.

        Those that were merged into it, and what it was parted from.
        """
        ...

    async def heirs(self, records: Sequence[int]) -> dict[int, tuple[int, float]]:
        """Those of `records` that are a part of another one since, or of which one was parted: (that one, when)."""
        ...

    def sharing(self) -> AsyncIterator[list[int]]:
        """Records of whose match keys another record, or a dead letter, has one, in pages; takes long."""
        ...

    async def tombstones(self, system: str, keys: Sequence[str]) -> dict[str, int]:
        """Those of `keys` that were deleted, with their old record."""
        ...
