"""The guard: what a run may delete, archive or overwrite before a person is asked."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable

import msgspec

from fairlead.model.common import counted
from fairlead.model.syncpolicy import APPROVE, Guard
from fairlead.state import codec
from fairlead.state.base import Commit, Store
from fairlead.worker.session import Session

APPROVALS = "approvals"
"""Fact in the store: how many approvals were used."""

EMPTIED = "emptied"
"""Fact in the store: the systems that a person said are empty, until that was done, comma separated."""


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
            f"{writes} deletes and overwrites are held back (limit {limit}): look at them with `fairlead held list`, "
            f"then approve with the annotation {APPROVE}={plan}, or raise spec.deletes.guard",
            writes,
        )

    @classmethod
    def of_planned(cls, plan: str, writes: int, limit: int) -> Halt:
        """A planning run that finds such: it works on a copy of the state, where nothing is held under that id."""
        return cls(
            plan,
            f"{writes} deletes and overwrites would be held back (limit {limit}): the plan names them; approve them "
            "when a run halts, or raise spec.deletes.guard",
            writes,
        )

    @classmethod
    def of_empty(cls, plan: str, system: str, known: int) -> Halt:
        """A system that had records suddenly has none."""
        return cls(
            plan,
            f"{system} reads as empty, and had {counted(known, 'record')}: nothing was deleted. If {system} is "
            f"really empty, approve with the annotation {APPROVE}={plan}; else mend its access, object or filter",
            known,
        )


def limit_of(guard: Guard, records: int) -> int:
    """How many deletes and overwrites may go out: the smaller of both bounds, but one record where any is allowed."""
    share = max(1, math.ceil(records * guard.max_percent / 100)) if guard.max_percent else 0
    return min(guard.max_records, share)


async def limit_in(store: Store, systems: Iterable[str], guard: Guard) -> int:
    """`limit_of` the records that the system has that has most of them; to count them takes long."""
    return limit_of(guard, max([await store.known(system) for system in systems], default=0))


async def plan_of(store: Store) -> str:
    """The id of the plan that all held writes are: another one when one of them is, or its values are."""
    digest = _digest(store, await _times(store))
    async for page in store.held():
        for item in page:
            write = item.write
            what = (item.record, item.system, write.operation, write.guarded, sorted(write.values.items()))
            digest.update(b"\n" + codec.dump(what))
    return digest.hexdigest()


def _digest(store: Store, times: int) -> hashlib.blake2b:
    """With the policy's key, since anyone may see the id: without it no guess of a value can be tested."""
    return hashlib.blake2b(str(times).encode(), key=store.key[:64], digest_size=6, person=b"fairlead/plan")


async def _times(store: Store) -> int:
    """How many approvals were used: part of each plan, so that none of them releases the same thing twice."""
    return int(await store.meta(APPROVALS) or 0)


class Gate:
    """What one run may delete and overwrite, all of it counted together. An approval is good for one plan, once.

    Args:
        session: of the policy.
        approved: the id of the plan that a person released.
    """

    def __init__(self, session: Session, approved: str) -> None:
        self._session = session
        self._store = session.store
        self._approved = approved
        self._released = 0
        self._asked_limit: int | None = None

    async def admits(self, deletes: int) -> bool:
        """Lets deletes go that a person asked for and did not approve as more than the guard allows, if they are not.

        The limit is that of the first such question of the run: what was deleted since then makes it no smaller.
        """
        if self._asked_limit is None:
            self._asked_limit = await self._limit()
        if self._released + deletes > self._asked_limit:
            return False
        self._released += deletes
        return True

    async def open(self, held: int) -> Halt | None:
        """Lets every held write go, in one transaction, while they are few enough or approved; else why not.

        A planning run lets them go in any case. What the systems have is counted only here: that takes long.

        Args:
            held: how many are held now.
        """
        allowed = await self._limit()
        plan = await plan_of(self._store) if self._released + held > allowed else ""
        approved = plan == self._approved and plan != ""
        told = Halt.of_planned if self._session.planning else Halt.of
        halt = told(plan, held, allowed) if plan and not approved else None
        if halt is None or self._session.planning:
            used: dict[str, str | None] = {APPROVALS: str(await _times(self._store) + 1)} if approved else {}
            await self._store.commit(Commit(released=True, meta=used))
            self._released += held
        return halt

    async def _limit(self) -> int:
        return await limit_in(self._store, self._session.systems, self._session.policy.spec.deletes.guard)

    # --- a system that reads as empty ---

    async def empty(self, system: str) -> Halt | None:
        """Why a system that had records and has none suddenly must wait: it is more often an accident than a wish.

        Nothing when a person said that it is empty. That is remembered until all that is missing there was looked at,
        so that a worker that dies asks nobody again.
        """
        known, emptied = await self._store.known(system), await self.emptied()
        if known == 0 or system in emptied:
            return None
        digest = _digest(self._store, await _times(self._store))
        digest.update(f"\nempty/{system}/{known}".encode())
        if digest.hexdigest() != self._approved:
            return Halt.of_empty(digest.hexdigest(), system, known)
        facts: dict[str, str | None] = {APPROVALS: str(await _times(self._store) + 1)}
        await self._store.commit(Commit(meta={**facts, EMPTIED: ",".join(sorted({*emptied, system}))}))
        return None

    async def emptied(self) -> set[str]:
        """Systems that are empty, as a person said."""
        return set(filter(None, (await self._store.meta(EMPTIED) or "").split(",")))

    async def settle(self, system: str) -> None:
        """All that is missing in an emptied system was looked at."""
        emptied = await self.emptied() - {system}
        await self._store.commit(Commit(meta={EMPTIED: ",".join(sorted(emptied)) or None}))
