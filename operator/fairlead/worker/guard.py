"""The guard: what a run may delete or overwrite before a person is asked."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import msgspec

from fairlead.model.syncpolicy import APPROVE, Guard


class Halt(msgspec.Struct, frozen=True):
    """Writes that wait for a person, under the id by which they are approved."""

    plan: str
    message: str
    writes: int

    @classmethod
    def of(cls, plan: str, writes: int, limit: int) -> Halt:
        """A run that would delete or overwrite more than the guard allows."""
        return cls(
            plan,
            f"{writes} deletes and overwrites are held back (limit {limit}): look at them with `fairlead run --plan`, "
            f"then approve with the annotation {APPROVE}={plan}, or raise spec.deletes.guard",
            writes,
        )

    @classmethod
    def of_empty(cls, plan: str, system: str, known: int) -> Halt:
        """A system that had records suddenly has none."""
        return cls(
            plan,
            f"{system} reads as empty although {known} records are known there: nothing was deleted. If {system} is "
            f"really empty, approve with the annotation {APPROVE}={plan}; else mend its access, object or filter",
            known,
        )


def limit_of(guard: Guard, records: int) -> int:
    """How many deletes and overwrites may go out: the smaller of both bounds, but one record where any is allowed."""
    share = max(1, math.ceil(records * guard.max_percent / 100)) if guard.max_percent else 0
    return min(guard.max_records, share)


def plan_id(parts: Sequence[str]) -> str:
    """An id that changes when what would be done does."""
    return hashlib.blake2b("\n".join(sorted(parts)).encode(), digest_size=6).hexdigest()
