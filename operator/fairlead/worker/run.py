"""Run: one pass over a policy. Replay what a crash left, read changes, decide, write, commit.

The order of one batch, with one transaction at each arrow:
read a page → decide → **journal the writes, remember what was read, move the checkpoint** → write →
**remember what was written, drop the journal**. A crash before the first arrow reads the page again; after it, the
journal is replayed, and every write in it is conditional (`delivery`). The checkpoint of a system that is read from end
to end moves later, when what is missing there was confirmed: else a crash would leave a delete behind it.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from contextlib import aclosing
from enum import StrEnum

import msgspec

from fairlead.connectors.base import Page
from fairlead.state.base import Commit, Intent, Undelivered
from fairlead.state.history import RunRecord
from fairlead.state.marks import Marks
from fairlead.transport.failure import Failure
from fairlead.worker.absence import Absence
from fairlead.worker.adoption import Adoption
from fairlead.worker.batch import Batch
from fairlead.worker.delivery import BATCH
from fairlead.worker.enforcing import Enforcement
from fairlead.worker.guard import Gate, Halt
from fairlead.worker.handling import Scope
from fairlead.worker.intake import LACKING, Intake
from fairlead.worker.missing import missing
from fairlead.worker.reading import ahead, differing
from fairlead.worker.rematching import PUT_OFF, WAITS, Rematching
from fairlead.worker.requests import Requests
from fairlead.worker.revision import revise
from fairlead.worker.revival import Revival
from fairlead.worker.sending import Scans, Sending, Stopped
from fairlead.worker.session import Session
from fairlead.worker.tally import Note, Tally

MET = "met"
"""Fact in the store: the systems whose every record was met, comma separated."""


class Kind(StrEnum):
    """What a run reads."""

    CHANGES = "Changes"
    RESYNC = "Resync"


class Outcome(StrEnum):
    """How a run ended."""

    SUCCEEDED = "Succeeded"
    PARTIAL = "Partial"
    HALTED = "Halted"
    FAILED = "Failed"


class RunReport(msgspec.Struct):
    """What a run did. Times are epoch seconds.

    Attributes:
        failures: system → why it could not be used, for those that could not.
        halt: what the guard held back, None when nothing.
        stopped: it ended before its end, because the worker was told to stop.
    """

    id: str
    kind: Kind
    started: float
    ended: float
    outcome: Outcome
    tally: Tally
    failures: dict[str, Failure]
    halt: Halt | None = None
    stopped: bool = False

    @property
    def good(self) -> bool:
        """Whether it did all that it was to do."""
        return not self.failures and not self.stopped

    @property
    def message(self) -> str:
        """One line for the history."""
        if self.halt:
            return self.halt.message
        told = [f"{name}: {failure.message}" for name, failure in sorted(self.failures.items())]
        return "; ".join([*told, *(["stopped before its end: the next run goes on"] if self.stopped else [])])


class Run:
    """One pass.

    Args:
        session: the policy, open.
        kind: RESYNC compares every record.
        approved: the plan that a person released.
        stopping: asked between two batches; where it says so, the run ends there.
        enforce: applies the system of record's values to what already differs.
    """

    def __init__(
        self,
        session: Session,
        kind: Kind,
        *,
        approved: str = "",
        stopping: Callable[[], bool] = lambda: False,
        enforce: bool = False,
    ) -> None:
        self.id = f"{int(session.clock()):x}-{secrets.token_hex(3)}"
        self._session = session
        self._store = session.store
        self._kind = kind
        self._gate = Gate(session, approved)
        self._enforces = enforce
        self._stopping = stopping
        self._absence = Absence(session)
        self.tally = Tally()
        self._down: dict[str, Failure] = {}
        self._scanned: set[str] = set()
        self._intake = Intake(session, self.tally, self.id, self._down)
        self._adoption = Adoption(session, self.tally, self._intake.waits, self._read_again, self._send_again)
        self._marks: dict[str, Marks] = {}
        self._ends: dict[str, str] = {}
        """Checkpoints of systems that were read from end to end. They hold once it is known what is missing there."""
        self._halt: Halt | None = None
        self._lacking = False
        """Whether a system was read from end to end, and what others lack of it was not created since."""
        scans = Scans(self._scanned, self._marks)
        self._sending = Sending(session, self.tally, self.id, self._intake, self._adoption, self._down, scans, stopping)

    async def run(self) -> RunReport:
        """Does the pass. Failures of systems are reported, not raised.

        Raises:
            StateError: the state cannot be used; nothing was lost.
        """
        started = self._session.clock()
        for name in self._session.systems:
            self.tally.of(name)  # also of a system that has nothing new
        try:
            await self._pass()
        except Stopped:
            return await self._finish(started, stopped=True)
        return await self._finish(started)

    async def _pass(self) -> None:
        await revise(self._store, self._session.rules, self._session.policy.references())
        met = set(filter(None, (await self._store.meta(MET) or "").split(",")))
        met -= await self._absence.end()
        await self._intake.prepare(met)
        self._lacking = await self._store.meta(LACKING) is not None
        await self._sending.prepare()
        self._down.update(await self._session.open())
        await self._rematch()
        await self._sending.replay()
        scope = Scope(self._session, self._intake, self.tally, self.id, self._gate)
        await Requests(scope, self._sending.send).take_up()
        await self._adoption.run()
        revival = Revival(self._session, self._send_again, self._intake.waits)
        await revival.by_policy()
        if self._kind is Kind.RESYNC:
            await self._store.clear_ambiguity()
            self._intake.matching.forget_ambiguity()
        await self._retry()
        await self._read_waiting()
        for system in self._order():
            await self._read(system)
            self._intake.read.add(system)
        if self._intake.returning:
            self._intake.read.clear()
            await self._read_waiting()
            self._intake.read.update(self._session.systems)
        await self._adoption.run()
        await revival.by_answer(self._down)
        await self._retry(dead=self._kind is Kind.RESYNC)  # by now a create whose answer was lost has been met
        await self._delete_missing()
        if self._intake.meets and (self._lacking or self._intake.incomplete):
            await self._complete()
        await self._adoption.run()
        await self._absence.heard(name for name in self._session.systems if name not in self._down)
        if self._enforces:
            await Enforcement(self._session, self._intake).run(self._sending.send)
        await self._guard()

    async def _rematch(self) -> None:
        """Gives known records their match keys by other rules; until all have them, nothing unknown is met."""
        rematching = Rematching(self._session, self._intake.matching, self._down, self._stopping)
        self._intake.meets = await rematching.run(self._intake.next_record)
        if not self._intake.meets:
            self.tally.note(Note(PUT_OFF, ", ".join(sorted(self._down)), "", WAITS, ""))

    def _order(self) -> list[str]:
        """The system of record last: what it alone has can then be created everywhere at once."""
        last = self._session.rules.system_of_record
        return [*(name for name in self._session.systems if name != last), last]

    # --- what the last run left ---

    async def _retry(self, *, dead: bool = False) -> None:
        """Tries again what is due, and dead letters where asked; creates only where everything new was met."""
        seen: set[tuple[int, str]] = set()
        waits, after = self._intake.waits, None
        while due := await self._store.undelivered(
            due=self._session.clock(), dead=dead, without=self._down, after=after, limit=BATCH
        ):
            fresh = [i for i in due if (i.record, i.system) not in seen and not waits(i.record, i.system, i.write)]
            seen |= {(item.record, item.system) for item in fresh}
            if fresh:
                await self._send_again(fresh)
            else:
                after = due[-1]  # what waits for something else holds up none that come after it

    async def _read_waiting(self) -> None:
        """Reads again what could not be decided, now that what it waited for may be there."""
        for system in self._session.systems:
            last = ""
            while system not in self._down and (keys := await self._store.waiting(system, last)):
                last = keys[-1]
                await self._read_again(system, keys)

    async def _send_again(self, items: Sequence[Undelivered]) -> None:
        memories = await self._store.recall([item.record for item in items])
        batch = Batch(memories=memories)
        batch.intents = [
            Intent(item.record, item.system, item.write, run=item.run or self.id)
            for item in items
            if item.record in memories
        ]
        await self._sending.send(batch)

    async def _read_again(self, system: str, keys: Sequence[str]) -> None:
        """Reads waiting records by id, now that what they waited for may be there."""
        for start in range(0, len(keys), BATCH):
            chunk = keys[start : start + BATCH]
            batch = Batch()
            batch.commit.arrived += [(system, key) for key in chunk]
            self._adoption.ends(system, chunk, batch.commit)
            try:
                page = await self._session.systems[system].fetch(chunk)
                await self._take_all(system, page, batch)
            except Failure as failure:
                self._down[system] = failure
                return

    # --- reading ---

    async def _read(self, system: str) -> None:
        """Takes in a system's changes, or everything where it must be met, has no feed, or a resync asks."""
        rule = self._session.rules.systems[system]
        cursor = None
        if system in self._down:
            return
        if not self._intake.meets and not await self._store.known(system):
            return  # all that it has is unknown, and would wait
        if self._kind is Kind.CHANGES and system in self._intake.met:
            if not rule.reads:
                return
            if self._session.capabilities(system).changes:
                cursor = await self._store.checkpoint(system)
        self._intake.begin(system)
        try:
            await (self._scan(system) if cursor is None else self._changes(system, cursor))
        except Failure as failure:
            self._down[system] = failure

    async def _changes(self, system: str, cursor: str) -> None:
        async with aclosing(ahead(self._session.systems[system].changes(cursor))) as pages:
            async for page in pages:
                await self._take_changed(system, page)

    async def _scan(self, system: str) -> None:
        marks = self._marks[system] = Marks(expected=self._intake.next_record)
        self._intake.matching.begin(system)
        read = 0
        async with aclosing(ahead(self._session.systems[system].scan())) as pages:
            async for page in pages:
                read += len(page.keys)
                self._intake.matching.met(system, page.keys)
                marks.add(await self._take_changed(system, page))
        empty = await self._gate.empty(system) if read == 0 else None
        if empty is not None:
            self._halt = empty
            del self._marks[system]
            self._intake.met.discard(system)  # it is scanned by every run from now on, until that is answered
            await self._store.commit(Commit(meta={MET: ",".join(sorted(self._intake.met))}))
            return
        self._scanned.add(system)
        self.tally.of(system).whole = True
        self._intake.met.add(system)
        self._lacking = True
        await self._store.commit(Commit(meta={MET: ",".join(sorted(self._intake.met)), LACKING: "yes"}))

    async def _take_changed(self, system: str, page: Page) -> list[int]:
        """Takes in those records of a page that differ from what was last seen; returns all the known ones.

        The page was read while the one before was worked on: what was written or read anew meanwhile is read again.
        """
        later = self._intake.turn_page()
        rows = self._session.readers[system].rows(page)
        known = await self._store.lookup(system, page.keys)
        self.tally.of(system).read += len(page.keys)
        changed = differing(known, rows) | self._intake.matching.known_letters(system, page.keys, known.records)
        stale = {i: page.keys[i] for i, record in changed.items() if record in later}
        if page.deleted:  # what is told to be there as well is as reading it by id says
            gone = set(page.deleted)
            stale |= {i: key for i, key in enumerate(page.keys) if key in gone}
        changed = {i: record for i, record in changed.items() if i not in stale}
        batch = Batch()
        batch.commit.waiting += [(system, key) for key in stale.values()]
        if page.cursor is not None:
            (self._ends if system in self._marks else batch.commit.checkpoints)[system] = page.cursor
        records = [record for record in known.records if record is not None]
        if changed or stale or page.deleted or batch.commit.checkpoints:
            records += await self._take(system, page, changed, rows, batch)
        await self._read_again(system, list(stale.values()))
        return records

    async def _take_all(self, system: str, page: Page, batch: Batch) -> None:
        """Takes in every record of a page, whether it differs from what was seen or not."""
        known = await self._store.lookup(system, page.keys)
        await self._take(system, page, dict(enumerate(known.records)), self._session.readers[system].rows(page), batch)

    async def _take(
        self, system: str, page: Page, found: dict[int, int | None], rows: list[int], batch: Batch
    ) -> list[int]:
        there = set(page.keys) if page.deleted else ()
        if deleted := [key for key in page.deleted if key not in there]:
            await self._end(system, deleted)
        if found:
            self.tally.of(system).last_change = self._session.clock()
            await self._intake.take(system, page, found, rows, batch)
        await self._sending.send(batch)
        if given := self._intake.reuse.take():
            await self._end(system, given)
            await self._read_again(system, given)
        return list(batch.memories)

    async def _end(self, system: str, keys: Sequence[str]) -> None:
        """Records are gone from a system: an own batch, as what was deleted and created again must not meet itself."""
        gone = Batch()
        await self._intake.endings.gone(system, keys, gone)
        await self._sending.send(gone)

    async def _delete_missing(self) -> None:
        """What a scan did not find is confirmed by id, then gone: pages may shift while a list is read."""
        emptied = await self._gate.emptied() if self._scanned else set()
        for system in sorted(self._scanned):
            self._intake.approved = system in emptied
            try:
                await self._confirm_missing(system)
            except Failure as failure:
                self._down[system] = failure
                continue
            finally:
                self._intake.approved = False
            if system in self._ends:
                await self._store.commit(Commit(checkpoints={system: self._ends[system]}))
            if system in emptied:
                await self._gate.settle(system)

    async def _confirm_missing(self, system: str) -> None:
        async for page in self._store.unmarked(system, self._marks[system]):
            for start in range(0, len(page), BATCH):
                await self._confirm_gone(system, [key for _, key in page[start : start + BATCH]])
        letters = self._intake.matching.unmet(system)
        for start in range(0, len(letters), BATCH):
            await self._confirm_gone(system, letters[start : start + BATCH])

    async def _confirm_gone(self, system: str, keys: Sequence[str]) -> None:
        page = await self._session.systems[system].fetch(keys)
        await self._take_all(system, page, Batch())

    async def _complete(self) -> None:
        """Creates what is missing: of what was asked for, and of all that a scan met in one system only.

        The scan may have been that of an earlier run, which did not come to this, or not with every system.
        """
        for target in self._session.systems:
            if target not in self._intake.met or not self._session.creates_in(target):
                continue
            await self._create(target, sorted(self._intake.incomplete))
            if not self._lacking or target in self._down:
                continue
            async for records in self._store.lacking(target):
                await self._create(target, records)
        if self._down.keys().isdisjoint(self._intake.met):
            await self._store.commit(Commit(meta={LACKING: None}))

    async def _create(self, target: str, records: Sequence[int]) -> None:
        await self._sending.send(await missing(self._session, self._intake, target, records))

    # --- the guard and the end ---

    async def _guard(self) -> None:
        """Releases held deletes and overwrites while they are few enough or approved; else halts.

        What is found deleted while they are sent is held as well: all of a run is counted together.
        """
        held = 0 if self._halt else (await self._store.counts()).held
        while held:
            self._halt = await self._gate.open(held) or self._halt
            if self._halt and not self._session.planning:  # a plan names what is held back, too
                return
            await self._retry()
            held = (await self._store.counts()).held

    async def _finish(self, started: float, *, stopped: bool = False) -> RunReport:
        ended = max(started, self._session.clock())  # a clock that is set back makes no run shorter than nothing
        outcome = self._outcome(stopped)
        report = RunReport(self.id, self._kind, started, ended, outcome, self.tally, self._down, self._halt, stopped)
        for system, failure in self._down.items():
            tally = self.tally.of(system)
            tally.reason, tally.message = failure.reason or failure.error.value, failure.message
        await self._adoption.count()
        counts = self.tally.counts()
        await self._store.record_run(
            RunRecord(self.id, self._kind, started, ended, report.outcome, report.message, counts)
        )
        return report

    def _outcome(self, stopped: bool) -> Outcome:
        if self._halt:
            return Outcome.HALTED
        if not self._down:
            return Outcome.PARTIAL if stopped else Outcome.SUCCEEDED
        return Outcome.FAILED if len(self._down) == len(self._session.systems) else Outcome.PARTIAL
