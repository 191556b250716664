"""Sending: what a run decides is journaled, written, and settled.

The order of one batch, with one transaction at each arrow:
decide → **journal the writes, remember what was read, move the checkpoint** → write →
**remember what was written, drop the journal**. A large batch is journaled in parts, and each is settled on its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import msgspec

from fairlead.engine.case import Operation
from fairlead.engine.image import is_image_of
from fairlead.model.connector import ErrorClass
from fairlead.state.base import UNLINKABLE, Commit, Intent, Recollection, Undelivered
from fairlead.state.marks import Marks
from fairlead.transport.failure import Failure
from fairlead.worker.adoption import Adoption
from fairlead.worker.batch import Batch
from fairlead.worker.delivery import BATCH, Delivery
from fairlead.worker.intake import Intake
from fairlead.worker.session import Session
from fairlead.worker.settlement import LossyFields, Settlement, attempts_of, may_be_done
from fairlead.worker.tally import Note, Tally, place_of
from fairlead.worker.twins import FORGOTTEN
from fairlead.worker.written import Written

ROUNDS = 3
"""How often a record that changes under our hands is decided again in one run; then it waits for the next."""


_ANOTHER = "matches, but is another record; mend one of the two, then resync"


class Stopped(Exception):
    """The worker is told to stop; what was begun is whole, and the next run goes on from there."""


class Scans(msgspec.Struct):
    """What a run reads from end to end.

    Attributes:
        ended: the systems that were.
        marks: system → the records that were met in it.
        failed: (record, system) of creates that failed, and may have been done all the same, after the reading.
    """

    ended: set[str]
    marks: dict[str, Marks]
    failed: set[tuple[int, str]] = set()

    def known(self, intents: Sequence[Intent]) -> set[str]:
        """The systems of which was read whether these records are there."""
        if not self.failed:
            return self.ended
        return self.ended - {i.system for i in intents if (i.record, i.system) in self.failed}


class Sending:
    """Sends the batches of one run.

    Args:
        session: the policy.
        tally: counts what is done.
        run: its id.
        intake: decides again.
        adoption: stores what waits for records of other policies.
        down: systems that failed as a whole in this run; added to.
        scans: what was read from end to end; what is written meanwhile is marked.
        stopping: asked before each batch.
    """

    def __init__(
        self,
        session: Session,
        tally: Tally,
        run: str,
        intake: Intake,
        adoption: Adoption,
        down: dict[str, Failure],
        scans: Scans,
        stopping: Callable[[], bool],
    ) -> None:
        self._session = session
        self._store = session.store
        self._tally = tally
        self._run = run
        self._intake = intake
        self._adoption = adoption
        self._down = down
        self._scans = scans
        self._stopping = stopping
        self._lossy = LossyFields(session.store)
        self._journal_id = 0

    async def prepare(self) -> None:
        """Learns what was reported before."""
        await self._lossy.prepare()

    async def replay(self) -> None:
        """Sends again what may have been sent when the last worker stopped."""
        journal = await self._store.journal()
        if not journal:
            return
        self._journal_id = max(journal)
        memories = await self._store.recall(sorted({i.record for intents in journal.values() for i in intents}))
        alive = {
            number: [self._named(i) for i in intents if self._has_somewhere_to_go(i, memories.get(i.record))]
            for number, intents in journal.items()
        }
        # All parts, before anything is decided anew: a record may have writes in several of them.
        batch = Batch(Commit(journal=alive), memories=memories)
        await self.send(await self._write(batch, recovering=True))

    def _has_somewhere_to_go(self, intent: Intent, memory: Recollection | None) -> bool:
        """Whether what it was meant for is still there: a record to be created, or its side in the system.

        The system may have been taken out of the policy since, or be another object by now, where nothing that was
        decided for the one before means anything: that is met anew.
        """
        if memory is None or intent.system not in self._session.systems:
            return False
        return intent.write.operation is Operation.CREATE or intent.system in memory.sides

    def _named(self, intent: Intent) -> Intent:
        """With this run where it is not known which one decided it: an older version did not keep that."""
        return intent if intent.run else msgspec.structs.replace(intent, run=self._run)

    async def send(self, batch: Batch) -> None:
        """First arrow, writes, second arrow; records that changed meanwhile are decided again.

        Raises:
            Stopped: nothing of the batch was stored.
        """
        if self._stopping():
            raise Stopped
        await self._send(batch)

    async def _send(self, batch: Batch) -> None:
        for _ in range(ROUNDS):
            batch.commit.journal = self._journaled(batch.intents)
            self._adoption.note(batch.commit)
            await self._store.commit(batch.commit)
            if not batch.intents:
                return
            batch = await self._write(batch)
            if not batch.intents and batch.commit == Commit():
                return
        await self._park(batch)

    def _journaled(self, intents: list[Intent]) -> dict[int, list[Intent]]:
        """Intents in parts, each of which is written and settled on its own."""
        parts = [intents[start : start + BATCH] for start in range(0, len(intents), BATCH)]
        journal = dict(enumerate(parts, self._journal_id + 1))
        self._journal_id += len(parts)
        return journal

    async def _write(self, batch: Batch, *, recovering: bool = False) -> Batch:
        """Writes what is journaled; what came of one part is stored while the next one is written."""
        settlement, storing = Settlement(), None
        try:
            for number, journaled in batch.commit.journal.items():
                intents = [intent for intent in journaled if intent.record in batch.memories]
                written = Written(self._session.clock(), keeps_values=self._session.keeps_values)
                delivery = Delivery(
                    self._session,
                    self._tally,
                    batch.memories,
                    self._intake.matching,
                    written,
                    scanned=self._scans.known(intents) - self._intake.passed_over,
                    down=self._down,
                    recovering=recovering,
                    journal=number,
                )
                part = await delivery.send(intents)
                creates = [item for item in part.undelivered if item.write.operation is Operation.CREATE]
                self._scans.failed.update((item.record, item.system) for item in creates)
                reused = await self._reused(batch.memories, part, intents, again=recovering)
                commit = self._settled(batch.memories, intents, part, number, recovering=recovering)
                commit.audit += written.entries
                commit.revived += reused
                self._adoption.note(commit)
                if storing is not None:
                    await storing
                storing = asyncio.ensure_future(self._store.commit(commit))
                settlement.add_changed(part)
        finally:
            if storing is not None:
                await storing
        return await self._decide_again(settlement)

    async def _reused(
        self, memories: dict[int, Recollection], settlement: Settlement, intents: Sequence[Intent], *, again: bool
    ) -> list[tuple[str, str]]:
        """(system, native id) of created records whose id another record had: it was deleted there, so that goes first.

        What that changes is changed in `memories` too; of a record that is nowhere any more nothing is settled.
        """
        created = await self._created_before(memories, settlement, intents, again=again) if settlement.reread else {}
        for record, sides in settlement.sides.items():
            for system, side in sides.items():
                if side is not None and system not in memories[record].sides:
                    created.setdefault(system, {})[side.key] = record
        reused = []
        for system, owners in created.items():
            known = await self._store.lookup(system, list(owners))
            hits = zip(owners.items(), known.records, strict=True)
            former = [key for (key, owner), record in hits if record not in (None, owner)]
            if former:
                await self._end(system, former, memories, settlement)
                reused += [(system, key) for key in former]
        return reused

    async def _created_before(
        self, memories: dict[int, Recollection], settlement: Settlement, intents: Sequence[Intent], *, again: bool
    ) -> dict[str, dict[str, int]]:
        """System → native id → record, of creates that were met again just as they may have been done before.

        Not of those that a person said are another record.
        """
        found: dict[str, dict[str, int]] = {}
        for intent in intents:
            there = settlement.reread.get(intent.record, {}).get(intent.system)
            if there is None or intent.write.operation is not Operation.CREATE:
                continue
            doubtful = again or may_be_done(memories[intent.record].pending.get(intent.system))
            if doubtful and is_image_of(self._session.kinds, intent.write.values, there.record.values):
                found.setdefault(intent.system, {})[there.record.key] = intent.record
        for system, owners in found.items():
            barred = await self._intake.matching.barred(system, list(owners), memories)
            found[system] = {key: record for key, record in owners.items() if record not in barred.get(key, ())}
        return found

    async def _end(
        self, system: str, keys: Sequence[str], memories: dict[int, Recollection], settlement: Settlement
    ) -> None:
        """Takes in that records are gone from a system, in the middle of a batch."""
        gone = Batch()
        await self._intake.endings.gone(system, keys, gone)
        ended = [record for record in gone.memories if record in memories]
        await self._send(gone)  # even when the worker is to stop: what was written around it is not settled yet
        now = await self._store.recall(ended)
        memories.update(now)
        for record in set(ended).difference(now):
            del memories[record]
            settlement.forget(record)

    def _settled(
        self,
        memories: dict[int, Recollection],
        intents: Sequence[Intent],
        settlement: Settlement,
        settles: int,
        *,
        recovering: bool,
    ) -> Commit:
        commit = Commit(settled=[settles], delivered=settlement.delivered, pending=settlement.undelivered)
        bases = self._session.decider.bases
        learnt: dict[str, list[int]] = {system: [] for system in self._session.systems}
        commit.changed = frozenset().union(*settlement.sides.values())
        for record, sides in settlement.sides.items():
            memory = memories[record]
            merged = dict(memory.sides)
            for system, side in sides.items():
                learnt[system].append(record)
                if side is None:
                    commit.tombstones.append((system, merged.pop(system).key, record))
                else:
                    merged[system] = side
            kept = bases.kept(memory.bases, merged, settlement.said.get(record, {})) if bases.fields else {}
            away = memory.away | settlement.away[record] if record in settlement.away else memory.away
            frozen = memory.frozen
            if frozen and merged.keys() <= away:  # it takes part nowhere any more: nobody is to decide
                commit.thawed += [(record, name) for name in frozen]
                frozen = {}
            memory = Recollection(record, merged, away, memory.pending, frozen, kept)
            memories[record] = memory
            if merged:
                commit.records.append(memory)
            else:
                commit.forget.append(record)
        for system, records in learnt.items():
            self._intake.learnt(system, records)
            if system in self._scans.marks:
                self._scans.marks[system].add(records)  # what was written in this run is not missing from its scan
        now = self._session.clock()
        commit.pending += settlement.waiting(intents, memories, now, recovering=recovering)
        self._lossy.report(settlement.lossy.values(), commit, self._tally, self._run, now)
        return commit

    async def _decide_again(self, settlement: Settlement) -> Batch:
        """Records that were found edited, created or deleted when they were about to be written."""
        batch = Batch()
        records = settlement.reread.keys() | settlement.missing.keys()
        if not records:
            return batch
        memories = await self._store.recall(sorted(records))
        await self._refuse_taken(settlement, memories, batch)
        cases = {
            record: self._session.case(
                memory,
                settlement.reread.get(record, {}),
                deleted=frozenset(settlement.missing.get(record, ())),
            )
            for record, memory in memories.items()
        }
        await self._intake.look_again(settlement.reread, cases, batch)
        await self._intake.decide(cases, memories, batch)
        return batch

    async def _refuse_taken(self, settlement: Settlement, memories: dict[int, Recollection], batch: Batch) -> None:
        """A record that a create met is linked to one record only: for any other the create becomes a dead letter."""
        met: dict[str, list[tuple[str, int]]] = {}
        for record, memory in memories.items():
            for system, there in settlement.reread.get(record, {}).items():
                if system not in memory.sides:
                    met.setdefault(system, []).append((there.record.key, record))
        for system, pairs in met.items():
            keys, linked = [key for key, _ in pairs], set[str]()
            known, erased = await self._store.lookup(system, keys), await self._store.erased(system, keys)
            for (key, record), owner in zip(pairs, known.records, strict=True):
                if owner is None and key not in linked and key not in erased:
                    linked.add(key)
                    continue
                del settlement.reread[record][system]
                why = FORGOTTEN if key in erased else f"{UNLINKABLE}: {key} {_ANOTHER}"
                batch.commit.pending.append(self._refused(memories[record], system, why))
                if not settlement.reread[record] and record not in settlement.missing:
                    del memories[record]

    def _refused(self, memory: Recollection, system: str, message: str) -> Undelivered:
        item = memory.pending[system]
        self._tally.of(system).failed += 1
        error = ErrorClass.INVALID.value
        self._tally.note(Note("NotDelivered", place_of(memory, system), "", f"{error}: {message}", ""))
        attempts = attempts_of(item, message)
        return msgspec.structs.replace(item, attempts=attempts, dead=True, error=error, message=message)

    async def _park(self, batch: Batch) -> None:
        """Leaves to the next run what changes faster than it can be written."""
        now = self._session.clock()
        batch.commit.pending += [Undelivered(i.record, i.system, i.write, now, run=i.run) for i in batch.intents]
        await self._store.commit(batch.commit)
