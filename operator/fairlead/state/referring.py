"""The part of a store that references need: where records are, and what waits for records of other policies."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from fairlead.state.base import Undelivered

WAITING_FOR_PARENT = "WaitingForParent"
"""`Undelivered.error` of a write that waits for a record of another policy; such a one is not due by time."""


class Orphan(msgspec.Struct, frozen=True):
    """A field that refers to a record which the policy it belongs to does not know (`worker.references`).

    Attributes:
        system, key: where it was read.
        parent: the native key that it refers to, in the same system; empty where that record was forgotten.
    """

    system: str
    key: str
    field: str
    parent: str


class Referring(Protocol):
    """See `state.base.Store`."""

    async def places(self, system: str, records: Sequence[int]) -> dict[int, str | None]:
        """The native key of these records in a system, None where it has not the record.

        Those that do not exist are left out.
        """
        ...

    def orphans(self, system: str) -> AsyncIterator[list[Orphan]]:
        """A system's references to records that are not known yet, in pages."""
        ...

    async def orphaned(self) -> dict[str, int]:
        """System → how many of its records refer to one that is not known yet; those without any are left out."""
        ...

    async def undelivered_after(
        self, after: tuple[int, str] = (0, ""), *, error: str | None = None
    ) -> list[Undelivered]:
        """Undelivered writes of a (record, system) after this one, in that order: a page of them at most.

        Args:
            after: the last one of the page before.
            error: only those with this one.
        """
        ...
