"""Crew: a worker among those that share its policy. One leads, the others deliver what it shares out.

Whoever leads does all that a single worker does: it alone reads, decides, and stores. When nobody leads, because the
leader ended, died or slept for too long, whoever comes first does.
"""

from __future__ import annotations

import asyncio

import structlog

from fairlead.state.base import StateError, StateLocked
from fairlead.state.postgres import PostgresStore
from fairlead.state.postgres_crew import BEAT, PostgresCrew
from fairlead.worker.helping import Helper, within
from fairlead.worker.hosting import Host
from fairlead.worker.loop import PolicyLoop
from fairlead.worker.run import RunReport
from fairlead.worker.session import Session
from fairlead.worker.sharing import Sharing

log = structlog.get_logger()

_AGAIN = 1.0
"""Seconds after which it is looked again who leads."""


class Crew:
    """This worker. Its `observe` is a listener of the loop that it leads with.

    Args:
        members: where it meets the others.
        host: opens the policy.
    """

    def __init__(self, members: PostgresCrew, host: Host) -> None:
        self._members = members
        self._host = host
        self._leave = asyncio.Event()
        self.leads = False
        """Whether this worker leads."""
        self.sharing: Sharing | None = None
        """What it shares out, while it leads."""
        self.helper: Helper | None = None
        """What it delivers, while it helps."""
        host.lead = self
        self._tells = False
        self._error = ""
        self._refused = False

    async def work(self, loop: PolicyLoop, stop: asyncio.Event) -> None:
        """Leads or helps until `stop`."""
        beats = asyncio.create_task(self._beats())
        told = asyncio.create_task(self._leave_at(stop))
        try:
            while not stop.is_set():
                try:
                    await self._turn(loop, stop)
                except StateError as error:
                    await self._troubled(loop, error)
                    await within(_AGAIN, stop.wait())
        finally:
            for task in (beats, told):
                task.cancel()
            await asyncio.gather(beats, told, return_exceptions=True)
            await self._members.close()

    async def _turn(self, loop: PolicyLoop, stop: asyncio.Event) -> None:
        standing = await self._members.look()
        if standing.leader:
            await self._help(loop, standing.leader, standing.epoch, stop)
        elif await self._opened(loop):
            log.info("leads", policy=loop.policy.id)
            loop.helping = ""
            self._leave.clear()
            if not stop.is_set():
                await loop.work(self._leave)
            await self._resign(loop)
        else:
            await within(_AGAIN, stop.wait())

    @property
    def tells(self) -> bool:
        """Whether this worker says how the policy is: as the one that leads, or that found no state to begin with."""
        fence = self._members.fence
        return self._tells and not (self.leads and fence is not None and not fence.open)

    async def _troubled(self, loop: PolicyLoop, error: StateError) -> None:
        """The state cannot be used. Who helped leaves it to the one that led to tell that."""
        if str(error) == self._error:  # told when it begins
            return
        self._error = str(error)
        if loop.helping:
            log.warning("state unavailable", reason=error.reason, message=str(error))
        else:
            self._tells = True
            await loop.tell(error)

    # --- leading ---

    async def _opened(self, loop: PolicyLoop) -> bool:
        """Whether this worker leads now; not when somebody else holds the state."""
        try:
            async with self._host.session(loop.policy):
                self._error, self._refused = "", False
                return True
        except StateLocked as locked:
            if self._refused:  # not by another member that began to lead at the same time
                await self._troubled(loop, locked)
            self._refused = True
            return False

    async def before(self) -> None:
        """See `Lead.before`: whatever this worker was, it is a new member."""
        await self._members.leave()

    async def begin(self, session: Session) -> None:
        """See `Lead.begin`."""
        assert isinstance(session.store, PostgresStore)
        await self._members.lead(session.store.epoch)
        session.fence = self._members.fence
        session.sharing = self.sharing = Sharing(self._members, session.store)
        self.leads = self._tells = True

    async def observe(self, loop: PolicyLoop, report: RunReport | None) -> None:
        """Stops leading once another worker does, or may do so."""
        error = loop.measured.error
        taken = report is None and error is not None and error.reason == StateLocked.reason
        fence = self._members.fence
        if taken and self.leads:
            loop.forget_error()
            self._tells = False
        if taken or fence is None or not fence.open:
            self._tells = self._tells and report is None  # a database that is down is told by who led last
            self._leave.set()

    async def _resign(self, loop: PolicyLoop) -> None:
        self.leads, self.sharing = False, None
        await self._host.shut(loop.policy)
        await self._members.leave()
        log.info("leads no more", policy=loop.policy.id)

    def counts(self) -> dict[str, int]:
        """What came of shares since this worker began to lead or to help."""
        if self.sharing is not None:
            return {"by_others": self.sharing.shared, "retaken": self.sharing.retaken}
        return {"delivered": self.helper.delivered, "lost": self.helper.lost} if self.helper else {}

    # --- helping ---

    async def _help(self, loop: PolicyLoop, leader: str, epoch: str, stop: asyncio.Event) -> None:
        session = await self._host.assist(loop.policy)
        log.info("helps", policy=loop.policy.id, leader=leader)
        loop.helping, self._error, self._refused, self._tells = leader, "", False, False
        self.helper = Helper(self._members, session, self._host.referring, epoch)
        try:
            await self._members.join()
            await self.helper.help(stop)
        finally:
            self.helper = None
            await session.store.close()
            await self._members.leave()

    # --- signs of life ---

    async def _beats(self) -> None:
        while True:
            await asyncio.sleep(BEAT)
            try:
                if not await self._members.beat() and self.leads:
                    self._leave.set()
                if self.helper is not None:
                    self.helper.notice(await self._members.look())
            except StateError as error:  # when it lasts, the fence closes by itself
                log.warning("no sign of life", message=str(error))

    async def _leave_at(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._leave.set()
