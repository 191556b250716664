"""Delivery: intents become native writes, and what came of them becomes the next transaction.

Every write is conditional. An update or delete is judged on the record as it is just before (`judging`); a create is
preceded by a look for the record, unless the system was read from end to end in this very run. So a batch may be sent
again after a crash: what was already done is recognised, and nothing is done twice.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from copy import copy
from itertools import repeat

from fairlead.connectors.base import NativeWrite, Outcome
from fairlead.connectors.base import Operation as NativeOperation
from fairlead.engine.canonical import ContractError
from fairlead.engine.case import Observation, Operation, Side
from fairlead.engine.fingerprint import field, replaced
from fairlead.engine.image import is_image_of
from fairlead.engine.mapping import Mapping as FieldMapping
from fairlead.model.connector import ErrorClass
from fairlead.state.base import Intent, Recollection, StateError, Undelivered
from fairlead.transport.failure import Failure
from fairlead.transport.fence import keep_within
from fairlead.worker.archiving import NOT_ARCHIVED, active_after, archive_values, archived_side
from fairlead.worker.crossing import Crossing
from fairlead.worker.judging import Judge, proceed
from fairlead.worker.matching import Matching
from fairlead.worker.parcel import Parcel, Share
from fairlead.worker.session import Session
from fairlead.worker.settlement import HELD, UNCERTAIN, Settlement, attempts_of, is_uncertain
from fairlead.worker.tally import Note, Tally, place_of
from fairlead.worker.twins import Twins, unlinkable
from fairlead.worker.written import Written

BATCH = 1000
"""Most writes handed to a connector at once."""

_FIRST_BACKOFF = 5.0
_LONGEST_BACKOFF = 600.0
_LOST_FOREVER = (ErrorClass.INVALID, ErrorClass.CONFLICT)


class Delivery:
    """Sends one batch of intents, systems side by side.

    Args:
        session: the policy.
        tally: counts what is done.
        memories: what is remembered of every record of the batch.
        matching: knows what dead letters hold.
        written: takes note of what is done.
        scanned: the systems read from end to end in this run.
        down: systems that failed as a whole in this run, to which nothing more is sent; added to.
        recovering: the batch may have been sent before.
        journal: under which number the batch is there.
    """

    def __init__(
        self,
        session: Session,
        tally: Tally,
        memories: Mapping[int, Recollection],
        matching: Matching,
        written: Written,
        *,
        scanned: AbstractSet[str] = frozenset(),
        down: dict[str, Failure],
        recovering: bool = False,
        journal: int = 0,
    ) -> None:
        self._session = session
        self._journal = journal
        self._tally = tally
        self._memories = memories
        self._matching = matching
        self._written = written
        self._scanned = scanned
        self._down = down
        self.recovering = recovering
        self._uid = session.policy.metadata.uid
        self.settlement = Settlement()
        self._crossing = Crossing(session, tally, memories, self.settlement)
        self._judge = Judge(session, self._crossing, written)
        self._twins = Twins(session, memories, self._crossing)

    async def send(self, intents: Sequence[Intent]) -> Settlement:
        """Sends the intents and says what came of each.

        Raises:
            StateError: the state cannot be used; the batch is still in the journal.
        """
        groups: dict[str, list[Intent]] = {}
        for intent in intents:
            groups.setdefault(intent.system, []).append(intent)
        try:
            async with asyncio.TaskGroup() as tasks:
                for system, group in groups.items():
                    tasks.create_task(self._send_to(system, group))
        except* StateError as errors:
            raise errors.exceptions[0] from None
        return self.settlement

    async def _send_to(self, system: str, intents: Sequence[Intent]) -> None:
        keep_within(self._session.fence)
        by_operation: dict[Operation, list[Intent]] = {operation: [] for operation in Operation}
        for intent in intents:
            by_operation[intent.write.operation].append(intent)
        for operation, chosen in by_operation.items():
            for start in range(0, len(chosen), BATCH):
                batch = chosen[start : start + BATCH]
                if self._session.sharing is None:
                    await self.deliver(system, operation, batch)
                else:
                    await self._session.sharing.send(self, self._share(system, operation), batch)

    def _share(self, system: str, operation: Operation) -> Share:
        return Share(self._journal, system, operation, [], system in self._scanned, self.recovering)

    async def deliver(self, system: str, operation: Operation, batch: Sequence[Intent]) -> None:
        """Sends writes of one kind to one system from here."""
        try:
            await self._send_batch(system, operation, batch)
        except Failure as failure:
            self._down[system] = failure
            for intent in self.settlement.left_of(batch):
                message = UNCERTAIN if self._may_be_done(intent) else failure.message
                self._fail([intent], failure.error, message, failure.retry_after)

    def again(self) -> Delivery:
        """The same, for writes of the batch that may have been sent before."""
        other = copy(self)
        other.recovering = True
        return other

    def take_in(self, system: str, parcel: Parcel) -> None:
        """Adds what came of writes that another worker sent."""
        self.settlement.take_in(parcel.settlement)
        self._written.entries += parcel.audit
        self._tally.of(system).add(parcel.tally)
        for note in parcel.notes:
            self._tally.note(note)
        if self._session.references is not None:
            self._session.references.take_in(parcel.read, parcel.orphans)
        if parcel.failure is not None:
            self._down.setdefault(system, parcel.failure)

    async def _send_batch(self, system: str, operation: Operation, batch: Sequence[Intent]) -> None:
        if system in self._down:
            raise self._down[system]
        batch = await self._crossing.begin(system, operation, batch)
        if not batch:
            return
        if operation is Operation.CREATE:
            batch = await self._not_there_yet(system, batch)
        sendable, writes = self._natives(system, operation, batch)
        if not writes:
            return
        outcomes = await self._session.systems[system].write(writes)
        stored = [self._stored(system, outcome) for outcome in outcomes]
        stored = await self._crossing.told(system, sendable, stored)
        if operation is Operation.ARCHIVE:
            await self._settle_archived(system, sendable, outcomes, stored)
            return
        if operation is not Operation.DELETE:
            await self._read_back(system, sendable, outcomes, stored)
        if operation is Operation.CREATE:
            self._settle_created(system, sendable, outcomes, stored)
        else:
            self._settle(system, operation, sendable, outcomes, stored)

    # --- before the write ---

    def _natives(
        self, system: str, operation: Operation, batch: Sequence[Intent]
    ) -> tuple[Sequence[Intent], list[NativeWrite]]:
        """What can be sent, in the system's own attributes; what its mapping cannot express is a dead letter."""
        native, mapping = _NATIVE[operation], self._session.rules.systems[system].mapping
        if operation is Operation.CREATE and mapping.copies:
            values = mapping.copied([self._crossing.values(intent) for intent in batch])
            names = [self._name(intent) for intent in batch]
            return batch, list(
                map(NativeWrite, repeat(native), repeat(None), values, repeat(None), repeat(proceed), names)
            )
        sendable, writes = [], []
        for intent in batch:
            try:
                writes.append(self._native(intent, native, mapping))
                sendable.append(intent)
            except ContractError as error:
                self._fail([intent], ErrorClass.INVALID, str(error))
        return sendable, writes

    def _name(self, intent: Intent) -> str:
        return f"{self._uid}/{intent.record}/{intent.system}"

    def _native(self, intent: Intent, operation: NativeOperation, mapping: FieldMapping) -> NativeWrite:
        side = self._memories[intent.record].sides.get(intent.system)
        key, version = (side.key, side.version) if side else (None, None)
        if self._session.keeps_values:
            version = None  # it would spare the reading, and then nobody knew what was replaced
        archives = intent.write.operation is Operation.ARCHIVE
        values = archive_values(mapping) if archives else mapping.write(self._crossing.values(intent))
        return NativeWrite(operation, key, values, version, self._judge.check(intent, side), self._name(intent))

    async def _not_there_yet(self, system: str, batch: Sequence[Intent]) -> Sequence[Intent]:
        """Creates whose record the system has not; those it has become first meetings.

        Where the system was just read from end to end, only what a dead letter holds is looked for, and what its filter
        may exclude.
        """
        held = await self._matching.held(batch)
        if not self._session.capabilities(system).find:
            return self._not_in_doubt(batch, held)
        whole = not self._session.rules.systems[system].mapping.selective
        known = system in self._scanned and not self.recovering and whole
        doubtful = [intent for intent in batch if intent.record in held] if known else batch
        there = await self._twins.find(system, doubtful, again=self.recovering) if doubtful else {}
        if not there:
            return batch
        fresh = []
        for intent in batch:
            found = there.get(intent.record, {})
            if not found:
                fresh.append(intent)
                continue
            observation = next(iter(found.values()))
            if len(found) == 1 and observation is not None:
                self.settlement.reread.setdefault(intent.record, {})[system] = observation
            else:
                self._fail([intent], ErrorClass.INVALID, unlinkable(found))
        return fresh

    def _not_in_doubt(self, batch: Sequence[Intent], held: AbstractSet[int]) -> list[Intent]:
        """A system that cannot be searched is trusted to refuse duplicates.

        But a create whose answer was lost is never repeated blindly, and one whose match keys a dead letter holds waits
        for that.
        """
        sure = []
        for intent in batch:
            if self._may_be_done(intent) and (self.recovering or intent.system not in self._scanned):
                self._fail([intent], ErrorClass.INVALID, UNCERTAIN)
            elif intent.record in held:
                self._fail([intent], ErrorClass.INVALID, HELD)
            else:
                sure.append(intent)
        return sure

    def _may_be_done(self, intent: Intent) -> bool:
        """Whether a create may have arrived before: that is not forgotten because its system is down now."""
        before = self._memories[intent.record].pending.get(intent.system)
        told = before is not None and is_uncertain(before)
        searched = self._session.capabilities(intent.system).find
        return intent.write.operation is Operation.CREATE and (self.recovering or told) and not searched

    # --- after the write ---

    async def _read_back(
        self, system: str, intents: Sequence[Intent], outcomes: Sequence[Outcome], stored: list[Observation | None]
    ) -> None:
        """Reads what was written where the system did not tell: else its own spelling of it would come as an edit.

        What is there and can not have been made of what was written is an edit of this very moment, left to the feed.
        """
        silent = {o.key: n for n, o in enumerate(outcomes) if o.error is None and o.raw is None and o.stored is None}
        keys = [key for key in silent if key is not None]
        if not keys:
            return
        try:
            page = await self._session.systems[system].fetch(keys)
        except Failure:
            return  # it is read with the next changes
        for observation in (await self._session.read(system, page)).observed.values():
            position = silent[observation.record.key]
            if is_image_of(self._session.kinds, intents[position].write.values, observation.record.values):
                stored[position] = observation

    def _settle(
        self,
        system: str,
        operation: Operation,
        intents: Sequence[Intent],
        outcomes: Sequence[Outcome],
        stored: Sequence[Observation | None],
    ) -> None:
        done, settlement, noted = 0, self.settlement, bool(self._session.decider.bases.fields)
        for intent, outcome, there in zip(intents, outcomes, stored, strict=True):
            if outcome.error is None or (operation is Operation.DELETE and outcome.error is ErrorClass.GONE):
                side = self._side_after(intent, outcome, there)
                settlement.sides.setdefault(intent.record, {})[system] = side
                if system in self._memories[intent.record].pending:
                    settlement.delivered.append((intent.record, system))
                self._crossing.complete([intent])
                if side is not None and (noted or there is not None):
                    self._note_values(intent, there)
                self._note_written(intent, outcome, there)
                if intent.write.keeps_away:
                    settlement.away.setdefault(intent.record, set()).add(system)
                done += 1
            else:
                self._unsettled(intent, outcome, there)
        _count(self._tally.of(system), operation, done)

    def _settle_created(
        self,
        system: str,
        intents: Sequence[Intent],
        outcomes: Sequence[Outcome],
        stored: Sequence[Observation | None],
    ) -> None:
        """What came of creates. There may be millions of them, so that nothing is asked of each that some need only."""
        created, settlement, memories = [], self.settlement, self._memories
        sides = self._created_sides(system, intents, outcomes, stored)
        noted = bool(self._session.decider.bases.fields)
        for intent, outcome, there, side in zip(intents, outcomes, stored, sides, strict=True):
            if outcome.error is not None:
                self._unsettled(intent, outcome, there)
                continue
            created.append(intent)
            settlement.sides.setdefault(intent.record, {})[system] = side
            if system in memories[intent.record].pending:
                settlement.delivered.append((intent.record, system))
            if noted or there is not None:
                self._note_values(intent, there)
        self._crossing.complete(created)
        self._written.created(system, created)
        _count(self._tally.of(system), Operation.CREATE, len(created))

    def _note_written(self, intent: Intent, outcome: Outcome, stored: Observation | None) -> None:
        """Creates are noted as one (`_settle_created`)."""
        before = self._memories[intent.record].pending.get(intent.system)
        unsure = self.recovering or (before is not None and before.attempts > 0)
        if intent.write.operation is Operation.UPDATE:
            self._written.updated(intent, stored, unsure=unsure)
        elif intent.write.ends:
            self._written.ended(intent, unsure=unsure, gone=outcome.error is not None)

    async def _settle_archived(
        self,
        system: str,
        intents: Sequence[Intent],
        outcomes: Sequence[Outcome],
        stored: Sequence[Observation | None],
    ) -> None:
        """Archived records stay where they are, apart; what does not read as archived afterwards must be told."""
        active, done = await active_after(self._session, system, outcomes), 0
        for intent, outcome, there in zip(intents, outcomes, stored, strict=True):
            if outcome.error not in (None, ErrorClass.GONE):
                self._unsettled(intent, outcome, there)
            elif outcome.key in active:
                self._fail([intent], ErrorClass.INVALID, NOT_ARCHIVED)
            else:
                before = self._memories[intent.record].sides[system]
                side = archived_side(self._session, system, before, outcome)
                self.settlement.sides.setdefault(intent.record, {})[system] = side
                self.settlement.away.setdefault(intent.record, set()).add(system)
                self.settlement.delivered.append((intent.record, system))
                self._note_written(intent, outcome, None)
                done += 1
        _count(self._tally.of(system), Operation.ARCHIVE, done)

    def _note_values(self, intent: Intent, stored: Observation | None) -> None:
        """Old values for the rules that need them, and the fields that the system stores in its own way."""
        written = intent.write.values
        if self._session.decider.bases.fields:
            created = intent.write.operation is Operation.CREATE
            names = self._session.rules.systems[intent.system].readable if created else written
            there = stored.record.values if stored else written
            said = {name: there.get(name) for name in names}
            self.settlement.said.setdefault(intent.record, {})[intent.system] = said
        if stored is not None:
            self.settlement.compare(intent.system, intent.record, written, stored, self._session.kinds)

    def _side_after(self, intent: Intent, outcome: Outcome, stored: Observation | None) -> Side | None:
        write, before = intent.write, self._memories[intent.record].sides.get(intent.system)
        if write.operation is Operation.DELETE:
            return None
        assert before is not None
        slots = {name: self._session.rules.fields[name].field.slot for name in write.values}
        if stored is None:
            prints = {slots[name]: self._session.print_of(name, value) for name, value in write.values.items()}
            return Side(before.key, None, replaced(before.prints, prints, self._width), None)
        prints = {slot: field(stored.prints, slot) for slot in slots.values()}
        after = replaced(before.prints, prints, self._width)
        # Another field may have been edited there meanwhile: then the feed must look at this row again, and the version
        # of the row must not vouch for what was not seen.
        whole = after == stored.prints
        return Side(before.key, stored.row if whole else None, after, outcome.version if whole else None)

    @property
    def _width(self) -> int:
        return len(self._session.rules.fields)

    def _created_sides(
        self,
        system: str,
        intents: Sequence[Intent],
        outcomes: Sequence[Outcome],
        stored: Sequence[Observation | None],
    ) -> list[Side]:
        """What is remembered of new records: as stored where the system told, as written elsewhere."""
        reader = self._session.readers[system]
        unknown = iter(reader.prints([intent.write.values for intent in intents if intent.prints is None]))
        written = [next(unknown) if intent.prints is None else intent.prints for intent in intents]
        # What the filter excludes or the contract refuses as it is stored must be looked at again.
        odd = [o.stored is not None and there is None for o, there in zip(outcomes, stored, strict=True)]
        rows = reader.rows_of([None if strange else o.raw for o, strange in zip(outcomes, odd, strict=True)])
        return [
            Side(o.key or "", row, there.prints if there else prints, o.version)
            for o, row, there, prints in zip(outcomes, rows, stored, written, strict=True)
        ]

    def _stored(self, system: str, outcome: Outcome) -> Observation | None:
        if outcome.stored is None:
            return None
        return self._session.readers[system].single(outcome.key or "", outcome.stored, outcome.version, outcome.raw)

    def _unsettled(self, intent: Intent, outcome: Outcome, current: Observation | None) -> None:
        assert outcome.error is not None
        if outcome.error is ErrorClass.CONFLICT and current is not None and current.record.key:
            self.settlement.reread.setdefault(intent.record, {})[intent.system] = current
        elif outcome.error is ErrorClass.GONE and intent.write.operation is Operation.UPDATE:
            self.settlement.missing.setdefault(intent.record, set()).add(intent.system)
        elif outcome.uncertain and not self._session.capabilities(intent.system).find:
            self._fail([intent], ErrorClass.INVALID, UNCERTAIN)
        else:
            self._fail([intent], outcome.error, outcome.message, outcome.retry_after)

    def _fail(
        self, intents: Iterable[Intent], error: ErrorClass, message: str, retry_after: float | None = None
    ) -> None:
        """Keeps writes that did not arrive: to be tried later, or as dead letters."""
        now = self._session.clock()
        for intent in intents:
            memory = self._memories.get(intent.record)
            before = memory.pending.get(intent.system) if memory else None
            attempts = attempts_of(before, message)
            self._tally.of(intent.system).failed += 1
            name = place_of(memory, intent.system)
            self._tally.note(Note("NotDelivered", name, "", f"{error.value}: {message}", ""))
            self.settlement.undelivered.append(
                Undelivered(
                    record=intent.record,
                    system=intent.system,
                    write=self._crossing.whole(intent),
                    since=before.since if before else now,
                    not_before=now + (retry_after if retry_after is not None else backoff(attempts)),
                    attempts=attempts,
                    error=error.value,
                    message=message,
                    dead=error in _LOST_FOREVER,
                    run=intent.run,
                )
            )


_NATIVE = {
    Operation.CREATE: NativeOperation.CREATE,
    Operation.UPDATE: NativeOperation.UPDATE,
    Operation.ARCHIVE: NativeOperation.UPDATE,
    Operation.DELETE: NativeOperation.DELETE,
}


def backoff(attempts: int) -> float:
    """Seconds until the next attempt: exponential with full jitter, as AWS' architecture blog describes it."""
    ceiling = min(_LONGEST_BACKOFF, _FIRST_BACKOFF * 2.0 ** min(attempts - 1, 16))
    return random.uniform(0, ceiling)  # noqa: S311 - spreads load, guards nothing


def _count(tally: object, operation: Operation, done: int) -> None:
    name = f"{operation.value.lower()}d"
    setattr(tally, name, getattr(tally, name) + done)
