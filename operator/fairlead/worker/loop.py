"""Loop: one policy, run after run, until it is told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import msgspec
import structlog

from fairlead.model.health import Measured
from fairlead.model.syncpolicy import APPROVE, ENFORCE_REQUESTED_AT, REQUESTED_AT, RESYNC_REQUESTED_AT, Mode, SyncPolicy
from fairlead.state.base import Commit, StateError
from fairlead.worker import report
from fairlead.worker.hosting import Host
from fairlead.worker.planning import Plan
from fairlead.worker.run import MET, Kind, Run, RunReport
from fairlead.worker.schedule import Schedule
from fairlead.worker.session import Session

log = structlog.get_logger()

RESYNCED = "resynced"
"""Fact in the store: epoch seconds of the last resync that read every system."""

RESYNC_HANDLED = "resync-handled"
"""Fact in the store: the last request for a resync that was answered, so that one made while no worker ran is too."""

ENFORCE_HANDLED = "enforce-handled"
"""Fact in the store: the last request to enforce that was answered."""

ASKED_INTERVAL = 1.0
"""Seconds between looks for what a person asks of the worker."""

Listener = Callable[["PolicyLoop", "RunReport | None"], Awaitable[None]]


class PolicyLoop:
    """Runs one policy. `listeners` are told after every run; of one that could not be ended they get None.

    An error that nobody foresaw ends the run in which it came up, and no other policy of the process: what was stored
    is whole, and the next run begins with it as after a crash.

    Attributes:
        measured: what the last run measured.
        plan: what the last run would have written, in mode Plan.
        running: the run that is going on.
        ran: the first run has ended, or there will be none.
        helping: the worker that leads this policy, where this one only helps.
        predecessor: asked when this worker begins to run the policy: what the last one measured, as far as is known.
    """

    def __init__(self, policy: SyncPolicy, host: Host, listeners: list[Listener] | None = None) -> None:
        self.policy = policy
        self.measured = Measured()
        self.plan: Plan | None = None
        self.running: Run | None = None
        self.ran = asyncio.Event()
        self.helping = ""
        self.predecessor: Callable[[], Awaitable[Measured | None]] | None = None
        self._host = host
        self.listeners = listeners or []
        self._schedule = Schedule(policy.spec.trigger)
        self._wake = asyncio.Event()
        self._requested: Kind | None = None
        self._last_start: float | None = None
        self._annotations = dict(policy.metadata.annotations)

    def request(self, kind: Kind = Kind.CHANGES) -> None:
        """Asks for a run as soon as the current one has ended."""
        self._requested = Kind.RESYNC if Kind.RESYNC in (kind, self._requested) else kind
        self._wake.set()

    def forget_error(self) -> None:
        """Another worker uses the state now: that is none of the policy's troubles."""
        self.measured = msgspec.structs.replace(self.measured, error=None)

    async def tell(self, error: StateError) -> None:
        """Says that the state cannot be used, where that is found without a run."""
        self.measured = report.broken(self.measured, error)
        for listener in self.listeners:
            await listener(self, None)

    def levers(self, annotations: dict[str, str]) -> None:
        """Takes the policy's annotations as they are now; a new request runs at once."""
        before, self._annotations = self._annotations, dict(annotations)
        resyncs = (RESYNC_REQUESTED_AT, ENFORCE_REQUESTED_AT)
        if any(annotations.get(name, "") not in (before.get(name), "") for name in resyncs):
            self.request(Kind.RESYNC)
        elif any(annotations.get(name, "") not in (before.get(name), "") for name in (REQUESTED_AT, APPROVE)):
            self.request()

    async def work(self, stop: asyncio.Event) -> None:
        """Runs until `stop`; a run that has begun ends with its current batch."""
        try:
            if self.predecessor is not None:
                self.measured = await self.predecessor() or self.measured
            while not stop.is_set():
                await self._pause(stop)
                if not stop.is_set():
                    await self.run_once(stop=stop)
                self.ran.set()
        finally:
            self.ran.set()

    async def _pause(self, stop: asyncio.Event) -> None:
        """Waits for the next run, which begins early when a person asks for something."""
        timeout = 0.0 if self._requested else self._schedule.wait(self._host.clock(), self._last_start)
        woken = [asyncio.ensure_future(self._wake.wait()), asyncio.ensure_future(stop.wait())]
        try:
            while timeout > 0 and not await self._host.asked(self.policy):
                done, _ = await asyncio.wait(
                    woken, timeout=min(timeout, ASKED_INTERVAL), return_when=asyncio.FIRST_COMPLETED
                )
                timeout = 0.0 if done else timeout - ASKED_INTERVAL
        finally:
            for task in woken:
                task.cancel()
            await asyncio.gather(*woken, return_exceptions=True)
        self._wake.clear()

    async def run_once(
        self, kind: Kind | None = None, *, stop: asyncio.Event | None = None, enforce: bool = False
    ) -> RunReport | None:
        """One run; None when it could not be ended. `enforce` goes with a resync (`worker.enforcing`)."""
        stopping = stop.is_set if stop else lambda: False
        self._last_start = self._host.clock()
        annotations = self._annotations
        requested, self._requested = kind or self._requested, None
        finished = None
        try:
            finished = await self._run(requested, annotations, stopping, enforce=enforce)
        except StateError as error:
            self.measured = report.broken(self.measured, error)
        except Exception as error:  # whatever it is: see above
            log.exception("run failed", policy=self.policy.id)
            await self._host.shut(self.policy)
            self.measured = report.failed(self.measured, error)
        finally:
            self.running = None
        for listener in self.listeners:
            await listener(self, finished)
        return finished

    async def _run(
        self, requested: Kind | None, annotations: dict[str, str], stopping: Callable[[], bool], *, enforce: bool
    ) -> RunReport:
        planning = self.policy.spec.mode is Mode.PLAN
        self.plan = Plan() if planning else None
        async with self._host.session(self.policy, self.plan) as session:
            resynced = await session.store.meta(RESYNCED)
            asked = annotations.get(RESYNC_REQUESTED_AT, "")
            begun = resynced or await session.store.meta(MET)  # a first run, and no part of one, has read everything
            if asked and begun and asked != await session.store.meta(RESYNC_HANDLED):
                requested = Kind.RESYNC
            decided = annotations.get(ENFORCE_REQUESTED_AT, "")
            if decided and resynced and decided != await session.store.meta(ENFORCE_HANDLED):
                requested, enforce = Kind.RESYNC, True
            kind = requested or self._schedule.kind(self._host.clock(), float(resynced) if resynced else None)
            approved = annotations.get(APPROVE, "")
            self.running = Run(session, kind, approved=approved, stopping=stopping, enforce=enforce)
            before = await session.store.counts() if planning else None
            finished = await self.running.run()
            finished.tally.planned = self.plan.count if self.plan else 0
            whole = kind is Kind.RESYNC or resynced is None
            if whole and finished.good:
                await session.store.commit(Commit(meta={RESYNCED: str(finished.started)}))
            if whole and asked and not finished.stopped:
                await session.store.commit(Commit(meta={RESYNC_HANDLED: asked}))
            if whole and decided and finished.good:
                await session.store.commit(Commit(meta={ENFORCE_HANDLED: decided}))
            await self._measure(session, finished, annotations)
            if before:  # what the plan would create or delete is in its own copy of the state
                self.measured = msgspec.structs.replace(self.measured, records=before.records)
        return finished

    async def _measure(self, session: Session, finished: RunReport, annotations: dict[str, str]) -> None:
        counts = await session.store.counts()
        history = await session.store.history(report.HISTORY)
        self.measured = msgspec.structs.replace(
            report.measured(self.measured, self.policy.metadata.generation, finished, counts, history),
            last_handled_request_at=annotations.get(REQUESTED_AT, ""),
            last_handled_resync_request_at=annotations.get(RESYNC_REQUESTED_AT, ""),
            last_handled_enforce_request_at=await self._enforced(session, annotations),
        )

    async def _enforced(self, session: Session, annotations: dict[str, str]) -> str:
        """The last request to enforce that was answered."""
        return (await session.store.meta(ENFORCE_HANDLED) or "") if ENFORCE_REQUESTED_AT in annotations else ""


async def work_all(loops: Sequence[PolicyLoop], stop: asyncio.Event) -> None:
    """Runs several policies side by side until `stop`; those that others refer to begin first."""
    ordered = parents_first(loops)
    async with asyncio.TaskGroup() as tasks:
        for number, loop in enumerate(ordered):
            tasks.create_task(_work_after(_parents(loop, ordered[:number]), loop, stop), name=loop.policy.id)


async def _work_after(parents: Sequence[PolicyLoop], loop: PolicyLoop, stop: asyncio.Event) -> None:
    for parent in parents:
        await parent.ran.wait()
    await loop.work(stop)


def parents_first(loops: Sequence[PolicyLoop]) -> list[PolicyLoop]:
    """Every policy after those whose records its own refer to, as far as they do not refer to each other."""
    ordered: dict[str, PolicyLoop] = {}
    entered: set[str] = set()

    def place(loop: PolicyLoop) -> None:
        if loop.policy.id not in entered:
            entered.add(loop.policy.id)
            for parent in _parents(loop, loops):
                place(parent)
            ordered[loop.policy.id] = loop

    for loop in loops:
        place(loop)
    return list(ordered.values())


def _parents(loop: PolicyLoop, among: Sequence[PolicyLoop]) -> list[PolicyLoop]:
    ids = {f"{loop.policy.metadata.namespace}/{name}" for name in loop.policy.references().values()}
    return [each for each in among if each.policy.id in ids]
