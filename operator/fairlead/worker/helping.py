"""Helping: delivers shares of the leader's batches, as the leader would itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TypeAlias

import structlog

from fairlead.engine.case import Operation
from fairlead.state.base import Intent, Recollection
from fairlead.state.postgres import PostgresStore
from fairlead.state.postgres_crew import Claim, PostgresCrew, Standing
from fairlead.transport.failure import Failure
from fairlead.transport.fence import keep_within
from fairlead.worker.delivery import Delivery
from fairlead.worker.matching import Matching
from fairlead.worker.parcel import Parcel, Share
from fairlead.worker.session import Session
from fairlead.worker.sharing import place
from fairlead.worker.tally import Tally
from fairlead.worker.written import Written

log = structlog.get_logger()

Referring: TypeAlias = AbstractAsyncContextManager[None]

_LOOK = 1.0
"""Seconds after which it is looked whether somebody still leads."""

_PAUSE = 10.0
"""Seconds for which a worker leaves shares to others that it could not deliver itself."""


class Helper:
    """One member that delivers while another one leads.

    Args:
        members: where shares are.
        session: the policy, beside the one that leads.
        refer: opens what the session's references are translated by.
        epoch: of the leader.
    """

    def __init__(
        self, members: PostgresCrew, session: Session, refer: Callable[[Session], Referring], epoch: str
    ) -> None:
        self._members = members
        self._session = session
        self._refer = refer
        self._epoch = epoch
        self._leader = True
        self._sends = False
        """Whether something of the share at hand may have been sent."""
        self.delivered = 0
        """Shares that it delivered."""
        self.lost = 0
        """Shares that it lost, because it was away for too long or another worker leads."""

    @property
    def _store(self) -> PostgresStore:
        assert isinstance(self._session.store, PostgresStore)
        return self._session.store

    def notice(self, standing: Standing) -> None:
        """Hears how things are: what was shared out by a leader that leads no more is not sent any further."""
        self._leader = bool(standing.leader) and standing.epoch == self._epoch
        if standing.epoch != self._epoch and (fence := self._members.fence) is not None:
            fence.close()

    async def help(self, stop: asyncio.Event) -> None:
        """Delivers until this leader leads no more, or `stop`. A share that was begun is ended.

        Raises:
            StateError: the state cannot be used.
        """
        while self._leader and not stop.is_set():
            fence = self._members.fence
            if fence is None or not fence.open:
                await self._members.join()
            claim = await self._members.claim()
            if claim is None:
                await self._members.heard(_LOOK)
                self.notice(await self._members.look())
            elif trouble := await self._trouble_with(claim):
                self.lost += 1
                log.warning("share not delivered", share=claim.id, message=trouble)
                await within(_PAUSE, stop.wait())
            else:
                self.delivered += 1

    async def _trouble_with(self, claim: Claim) -> str:
        """Delivers a share; why it could not, and gave it back, empty when it did.

        What was given back before anything was sent is in nobody's doubt: a create of it is no lost answer.
        """
        trouble, self._sends = "the state cannot be used", False
        try:
            trouble = await self._trouble(claim)
        finally:
            if trouble:
                await self._members.release(claim.id, sent=self._sends)
        return trouble

    async def _trouble(self, claim: Claim) -> str:
        share = Share.load(claim.body)
        fence = self._session.fence = self._members.fence
        intents = await self._intents(share)
        memories = await self._store.recall([intent.record for intent in intents])
        if len(memories) < len(share.records):
            return "its batch is settled"
        failures = await self._session.open(share.system)
        if share.system in failures:
            return f"{share.system}: {failures[share.system].message}"
        again = share.recovering or claim.attempts > 1
        sending, self._sends = self._sent(share, intents, memories, recovering=again), True
        parcel = await asyncio.create_task(sending)  # whose context, and the fence in it, ends with it
        if fence is None or not fence.open:
            return "this worker was away for too long, or another one leads"
        result = self._store.sealed(parcel.dump(), place(claim.id))
        if not await self._members.settle(claim.id, result):
            return "it belongs to another worker by now"
        return f"{share.system}: {parcel.failure.message}" if parcel.failure else ""

    async def _intents(self, share: Share) -> list[Intent]:
        """The writes of the share; none when the batch is settled."""
        records = set(share.records)
        batch = await self._store.intents(share.journal)
        found = [
            intent
            for intent in batch
            if intent.record in records and intent.system == share.system and intent.write.operation is share.operation
        ]
        return found if len(found) == len(records) else []

    async def _sent(
        self, share: Share, intents: Sequence[Intent], memories: Mapping[int, Recollection], *, recovering: bool
    ) -> Parcel:
        keep_within(self._session.fence)
        references = self._session.references
        if references is not None:
            references.watch()
        tally, down = Tally(), dict[str, Failure]()
        written = Written(self._session.clock(), keeps_values=self._session.keeps_values)
        matching = Matching(self._session, tally)
        if share.operation is Operation.CREATE:
            await matching.prepare()
        delivery = Delivery(
            self._session,
            tally,
            memories,
            matching,
            written,
            scanned={share.system} if share.scanned else set(),
            down=down,
            recovering=recovering,
            journal=share.journal,
        )
        async with self._refer(self._session):
            await delivery.deliver(share.system, share.operation, intents)
        settled, counted = delivery.settlement, tally.of(share.system)
        read, orphans = references.take() if references is not None else ([], [])
        return Parcel(settled, counted, tally.notes, written.entries, down.get(share.system), read, orphans)


async def within(seconds: float, wait: Awaitable[object]) -> None:
    """Waits for something, but not longer."""
    try:
        async with asyncio.timeout(seconds):
            await wait
    except TimeoutError:
        pass
