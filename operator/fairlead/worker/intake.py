"""Intake: changed records become decisions. What must be remembered and what must be written is collected in a `Batch`.

Three kinds of records come in: known ones (decide), unknown ones (meet: link, create, or leave for a person), and ones
that end (`endings`). A decision may need a record of another system first: they are fetched for the whole page at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from fairlead.connectors.base import Page
from fairlead.engine.arbiter import CLOCK_TOLERANCE
from fairlead.engine.case import Case, Decision, FindingKind, Observation, Operation, Write
from fairlead.engine.decide import Decider
from fairlead.model.record import Value
from fairlead.state.audit import AuditEntry
from fairlead.state.base import Commit, Conflict, Intent, Recollection, Undelivered
from fairlead.transport.failure import Failure
from fairlead.worker.batch import Batch
from fairlead.worker.endings import Endings
from fairlead.worker.matching import Matching, first_match, in_the_way
from fairlead.worker.newcomers import creates, hold_creates, remembered
from fairlead.worker.reuse import Reuse
from fairlead.worker.session import Session
from fairlead.worker.settlement import is_uncertain, may_be_done
from fairlead.worker.tally import FORGOTTEN, PASSED_OVER, Note, Tally, skewed

LACKING = "lacking"
"""Fact in the store: some systems may lack records that were met in others, and a run did not come to create them."""

_NONE: frozenset[int] = frozenset()
_NOWHERE: frozenset[str] = frozenset()


class Intake:
    """Takes in what one run reads."""

    def __init__(self, session: Session, tally: Tally, run: str, down: dict[str, Failure]) -> None:
        self._session = session
        self._store = session.store
        self._tally = tally
        self._run = run
        self._down = down
        self._next_record = 0
        self.matching = Matching(session, tally)
        self.reuse = Reuse(session, self.matching)
        self.endings = Endings(session, self.matching, self._recall, self.decide)
        self.met: set[str] = set()
        """Systems whose every record was met at least once: only there may records be created."""
        self.read: set[str] = set()
        """Systems that need not be waited for in this run: what is new there has been met."""
        self.unlinked: set[tuple[int, str]] = set()
        """(record, system) of records that are there, and could not be linked yet: they must not be created there."""
        self.incomplete: set[int] = set()
        """Records that are to be created in the systems that lack them, although nothing of them changed."""
        self._reading = ""
        self._learnt: set[int] = set()
        self.approved = False
        """What is decided now goes out although the guard counts it: a person said so."""
        self.passed_over: set[str] = set()
        """Systems with records that are there, and not known, because a person was erased."""
        self.meets = True
        """Whether what is unknown is met: not while known records cannot be found by their match keys."""
        self.returning = False
        """Some of `unlinked` can be linked as soon as they are read again."""

    async def prepare(self, met: Iterable[str]) -> None:
        """Learns where record numbers go on."""
        self._next_record = await self._store.next_record()
        await self.matching.prepare()
        self.met = set(met)

    def begin(self, system: str) -> None:
        """A system is read from now on, page by page."""
        self._reading, self._learnt = system, set()

    def turn_page(self) -> set[int]:
        """The records of which something newer than the page at hand may be known: since the one before was at hand."""
        learnt, self._learnt = self._learnt, set()
        return learnt

    def learnt(self, system: str, records: Iterable[int]) -> None:
        """Records were written to a system, or read from it."""
        if system == self._reading:
            self._learnt.update(records)

    def complete(self, record: int, commit: Commit) -> None:
        """A record is to be created in the systems that lack it, by this run; by the next one if this one dies."""
        self.incomplete.add(record)
        commit.meta[LACKING] = "yes"

    def take_number(self) -> int:
        """A record number that was never used."""
        return self._take_numbers(1)[0]

    def _take_numbers(self, count: int) -> range:
        self._next_record += count
        return range(self._next_record - count, self._next_record)

    @property
    def next_record(self) -> int:
        """The first record number that is free."""
        return self._next_record

    # --- a page ---

    async def take(
        self, system: str, page: Page, found: Mapping[int, int | None], rows: Sequence[int], batch: Batch
    ) -> None:
        """Takes in some records of a page: `found` says by index which record has their key."""
        keys = page.keys
        latest = {keys[i]: i for i in found}
        if len(latest) < len(found):  # a list that tells a record twice: the later one is the newer one in a feed
            found = {i: found[i] for i in latest.values()}
        found = self.matching.without_discarded(system, keys, found, rows)
        found = await self._without_erased(system, keys, found)
        reading = await self._session.read(system, page, list(found), rows)
        record_of = {i: record for i, record in found.items() if record is not None}
        for i, message in reading.broken.items():
            self.matching.refuse(system, keys[i], "ContractBroken", message, batch.commit, row=rows[i])
        unmet = {keys[i]: values for i, values in reading.refused.items() if i not in record_of}
        for key, its in zip(unmet, self.matching.keys(list(unmet.values())), strict=True):
            self.matching.hold(system, key, its, batch.commit)
        await self.endings.leave(system, {record_of[i]: rows[i] for i in reading.left if i in record_of}, batch)
        self._note_skew(system, reading.observed.values())
        known = {record_of[i]: o for i, o in reading.observed.items() if i in record_of}
        await self._decide_known(system, known, batch)
        unknown = [o for i, o in reading.observed.items() if i not in record_of]
        if unknown:
            await self._meet(system, unknown, batch)
        self._tally.of(system).changed += len(known) + len(unknown)

    async def _without_erased(
        self, system: str, keys: Sequence[str], found: Mapping[int, int | None]
    ) -> Mapping[int, int | None]:
        """A person who was erased is not taken in again."""
        erased = await self._store.erased(system, [keys[i] for i, record in found.items() if record is None])
        if not erased:
            return found
        self.passed_over.add(system)
        tally = self._tally.of(system)
        if not tally.passes_over:
            tally.passes_over = True
            self._tally.note(Note(FORGOTTEN, system, "", PASSED_OVER, ""))
        return {i: record for i, record in found.items() if keys[i] not in erased}

    def _note_skew(self, system: str, observed: Iterable[Observation]) -> None:
        """Tells of a clock that is ahead: its times decide nothing (`LatestWins`)."""
        if not self._session.compares_times:
            return
        times = [at for o in observed for at in (o.record.modified, *o.record.times.values()) if at is not None]
        ahead = max(times, default=self._session.now()) - self._session.now()
        tally = self._tally.of(system)
        if ahead > CLOCK_TOLERANCE:
            if not tally.skew:
                self._tally.note(Note(FindingKind.CLOCK_SKEW, system, "", skewed(ahead.total_seconds()), ""))
            tally.skew = max(tally.skew, ahead.total_seconds())

    async def _decide_known(self, system: str, known: dict[int, Observation], batch: Batch) -> None:
        if not known:
            return
        memories = await self._recall(known, batch)
        moved = self.matching.moved(system, [(memory, known[r]) for r, memory in memories.items()])
        if moved and not self.meets:
            self._put_off(system, [each.observation for each in moved], batch)
            memories = {r: m for r, m in memories.items() if r not in {each.memory.record for each in moved}}
        elif moved:
            taken = await self.reuse.among(system, moved, lambda records: self._recall(records, batch), batch.commit)
            self.matching.follow([each for each in moved if each.memory.record not in taken], batch.commit)
            memories = {record: memory for record, memory in memories.items() if record not in taken}
        back = self._targets(system)  # where a record that takes part again is to be created, too
        cases = {
            r: self._session.case(m, {system: known[r]}, create_in=back if system in m.away else frozenset())
            for r, m in memories.items()
        }
        self.matching.alive(system, [known[record].record.key for record in memories], batch.commit)
        await self.decide(cases, memories, batch)

    async def _recall(self, records: Iterable[int], batch: Batch) -> dict[int, Recollection]:
        """What is remembered, with what this batch has decided already."""
        wanted = list(records)
        stored = await self._store.recall([record for record in wanted if record not in batch.memories])
        return {r: batch.memories.get(r) or stored[r] for r in wanted if r in batch.memories or r in stored}

    # --- decisions ---

    async def decide(
        self,
        cases: dict[int, Case],
        memories: dict[int, Recollection],
        batch: Batch,
        decider: Decider | None = None,
    ) -> None:
        """Decides cases, fetching what they need; a case whose system cannot be read waits."""
        decider = decider or self._session.decider
        for _ in range(len(self._session.systems) + 1):
            needs: dict[str, list[int]] = {}
            for record, case in list(cases.items()):
                decision = decider.decide(case)
                for system in decision.needs:
                    needs.setdefault(system, []).append(record)
                if not decision.needs:
                    self.apply(memories[record], decision, batch)
                    del cases[record]
            if not needs:
                return
            for system, records in needs.items():
                await self.fetch_into(system, [r for r in records if r in cases], cases, batch)
        self._wait(cases, batch)

    async def fetch_into(self, system: str, records: Sequence[int], cases: dict[int, Case], batch: Batch) -> None:
        """Reads records of cases by id in one system, where each of them is; those that cannot be read wait."""
        keys = {cases[record].sides[system].key: record for record in records}
        try:
            if system in self._down:
                raise self._down[system]
            page = await self._session.systems[system].fetch(list(keys))
        except Failure as failure:
            self._down[system] = failure
            self._wait({record: cases.pop(record) for record in records}, batch)
            return
        reading = await self._session.read(system, page)
        for observation in reading.observed.values():
            case = cases[keys[observation.record.key]]
            case.observed = {**case.observed, system: self._session.as_seen(system, observation, case.sides[system])}
        here = {observation.record.key for observation in reading.observed.values()}
        gone, left = set(page.deleted), {page.keys[i] for i in reading.left}
        for key, record in keys.items():
            if key in gone:
                cases[record].deleted |= {system}
            elif key in left:
                self.endings.left(system, cases[record])
            elif key not in here:
                self._wait({record: cases.pop(record)}, batch)

    async def look_again(
        self, reread: Mapping[int, Mapping[str, Observation]], cases: dict[int, Case], batch: Batch
    ) -> None:
        """Reads records whose edit a write came upon, where rules look at times: its answer tells none."""
        if not self._session.compares_times:
            return
        timeless: dict[str, list[int]] = {}
        for record, observed in reread.items():
            for system, observation in observed.items():
                if record in cases and observation.record.modified is None and system in cases[record].sides:
                    timeless.setdefault(system, []).append(record)
        for system, records in timeless.items():
            await self.fetch_into(system, [record for record in records if record in cases], cases, batch)

    def _wait(self, cases: Mapping[int, Case], batch: Batch) -> None:
        """Remembers to read again what could not be decided; nothing of it counts as seen."""
        for record, case in cases.items():
            self.unlinked |= {(record, system) for system in case.observed if system not in case.sides}
            batch.commit.waiting += [(system, o.record.key) for system, o in case.observed.items()]
            batch.commit.waiting += [(s, case.sides[s].key) for s in case.deleted if s in case.sides]

    def apply(self, memory: Recollection, decision: Decision, batch: Batch) -> None:
        """Adds a decision to the transaction, and its writes to what goes out after it."""
        now, commit, record = self._session.clock(), batch.commit, memory.record
        if decision.sides.get(self._reading) is not memory.sides.get(self._reading):
            self._learnt.add(record)
        removed = {s: side for s, side in memory.sides.items() if s not in decision.sides}
        commit.tombstones += [(system, side.key, record) for system, side in removed.items()]
        frozen = {n: self._conflict(memory, n, values, now) for n, values in decision.frozen.items()}
        after = Recollection(record, decision.sides, decision.away, {}, frozen, decision.bases)
        for system, write in decision.writes.items():
            self._queue(memory, system, write, after, batch, now)
        commit.delivered += [(record, s) for s in memory.pending if s not in after.pending]
        commit.frozen += [c for name, c in frozen.items() if memory.frozen.get(name) != c]
        commit.thawed += [(record, name) for name in memory.frozen if name not in frozen]
        self._note_findings(memory, decision, batch, now)
        batch.memories[record] = after
        if decision.sides or decision.writes:
            commit.records.append(after)
        else:
            _forget(record, commit)

    def _queue(
        self,
        memory: Recollection,
        system: str,
        write: Write,
        after: Recollection,
        batch: Batch,
        now: float,
    ) -> None:
        """A write goes out with its batch, unless the guard counts it, or the same record may be new there as well."""
        before = memory.pending.get(system)
        if before is not None and before.write == write and not before.dead:
            after.pending[system] = before  # nothing new: it keeps its place and its back-off
            return
        if before is not None and is_uncertain(before) and write.operation is Operation.CREATE:
            _keep(msgspec.structs.replace(before, write=write, run=self._run), after, batch)
        elif (held := write.halts and not self.approved) or self.waits(memory.record, system, write):
            _keep(Undelivered(memory.record, system, write, now, held=held, run=self._run), after, batch)
        else:
            if before is not None and write.operation is Operation.CREATE and may_be_done(before):
                # It goes out, and that it may be there already is not forgotten.
                _keep(msgspec.structs.replace(before, write=write, run=self._run), after, batch)
            batch.intents.append(Intent(memory.record, system, write, run=self._run))

    def waits(self, record: int, system: str, write: Write) -> bool:
        """Whether a write is a create that must wait: the same record may be, or is, in that system.

        Or in one that is not read yet, and says something else: a copy would speak for the system that it is made in.
        """
        if write.operation is not Operation.CREATE:
            return False
        return not self._may_create(system) or self.may_be_there(record, system)

    def _may_create(self, system: str) -> bool:
        """Whether what is new was met in a system, and in all others but the one that is being read."""
        return (
            self.meets and system in self.read and self.read.issuperset(self._session.systems.keys() - {self._reading})
        )

    def may_be_there(self, record: int, system: str) -> bool:
        """Whether what is there, and could not be linked, may be or is this record."""
        return (record, system) in self.unlinked or self.matching.may_be_there(record, system)

    def _conflict(self, memory: Recollection, name: str, values: dict[str, Value], now: float) -> Conflict:
        before = memory.frozen.get(name)
        if before is None:
            self._tally.conflicts += 1
            return Conflict(memory.record, name, values, now)
        return Conflict(memory.record, name, {**before.values, **values}, before.since)

    def _note_findings(self, memory: Recollection, decision: Decision, batch: Batch, now: float) -> None:
        if not decision.findings:
            return
        record = memory.record
        sides = {**memory.sides, **decision.sides}
        name = " = ".join(f"{system}/{side.key}" for system, side in sorted(sides.items()))
        for f in decision.findings:
            self._tally.note(Note(f.kind.value, name, f.field, f.rule, f.winner))
            if f.kind is FindingKind.CONFLICT:
                self._tally.conflicts += 1
            elif f.kind is FindingKind.OVERWRITTEN:
                self._tally.overwritten += 1
            batch.commit.audit.append(
                AuditEntry(now, self._run, record, f.field, f.kind.value, f.rule, f.winner, f.values)
            )

    # --- first meeting ---

    async def _meet(self, system: str, unknown: Sequence[Observation], batch: Batch) -> None:
        """Links records that are known elsewhere, takes new ones in, and leaves what is not sure to a person."""
        references = self._session.references
        if references is not None:
            unknown = [observation for observation in unknown if not references.unmatchable(system, observation)]
        if not self.meets:
            self._put_off(system, unknown, batch)
            return
        unknown = await self._returned(system, unknown, batch)
        keys = self.matching.keys([o.record.values for o in unknown])
        candidates = await self.matching.candidates((key for its in keys for key in its), batch.commit)
        memories = await self._recall({r for rs in candidates.values() for r in rs if r > 0}, batch)
        gone = await self.matching.drop_stale(
            in_the_way(system, keys, candidates, memories), system, candidates, batch.commit
        )
        barred = await self.matching.barred(system, [o.record.key for o in unknown], memories)
        cases: dict[int, Case] = {}
        create_in = self._targets(system)
        alone, doubtful = self.matching.alone(keys, candidates)
        self._take_new(system, [unknown[n] for n in alone], [keys[n] for n in alone], create_in, batch)
        for n in doubtful:
            observation, its = unknown[n], keys[n]
            key = observation.record.key
            apart = barred.get(key, _NONE)
            matching = first_match(its, candidates, apart | {self.matching.number(system, key)})
            trouble = self.matching.trouble(system, its, matching, memories, cases)
            if len(matching) == 1 and matching[0] in gone and system in memories[matching[0]].sides:
                self._meet_later(system, key, memories[matching[0]], batch)
            elif trouble is not None:
                self._refuse(system, observation, trouble, its, matching, memories, batch)
            elif matching:
                self.matching.alive(system, [key], batch.commit)
                others = self.matching.learn(matching[0], its, candidates, batch.commit)
                there = {name for other in others if other in memories for name in memories[other].sides}
                cases[matching[0]] = self._session.case(
                    memories[matching[0]], {system: observation}, create_in=create_in - there
                )
            else:
                away = frozenset(name for other in apart for name in memories[other].sides)
                targets = create_in - away
                (new,) = self._take_new(system, [observation], [its], targets, batch, away=away - {system})
                memories[new.record] = new
                for match in its:
                    candidates.setdefault(match, []).append(new.record)
        await self.decide(cases, memories, batch)

    def _put_off(self, system: str, observed: Sequence[Observation], batch: Batch) -> None:
        """Leaves to a later run what may be a record that cannot be found by its match keys now."""
        batch.commit.waiting += [(system, observation.record.key) for observation in observed]

    def _meet_later(self, system: str, key: str, memory: Recollection, batch: Batch) -> None:
        """A record that was deleted and created again: both are read again, and the delete is decided first."""
        batch.commit.waiting += [(system, memory.sides[system].key), (system, key)]
        self.unlinked.add((memory.record, system))
        self.returning = True

    def _targets(self, system: str) -> frozenset[str]:
        if not self._session.rules.systems[system].reads:
            return frozenset()
        return frozenset(
            s for s in self._session.systems if s != system and s in self.met and self._session.creates_in(s)
        )

    def _refuse(
        self,
        system: str,
        observation: Observation,
        trouble: tuple[str, str],
        keys: Sequence[int],
        matching: Sequence[int],
        memories: dict[int, Recollection],
        batch: Batch,
    ) -> None:
        reason, message = trouble
        key = observation.record.key
        self.matching.refuse(system, key, reason, message, batch.commit, matching, observation.row)
        alone = reason == "Duplicate" and matching[0] in memories and len(memories[matching[0]].sides) == 1
        # While nothing is linked yet, the next system must not be linked to either by chance.
        self.matching.hold(system, key, keys if alone else (), batch.commit)

    def _take_new(
        self,
        system: str,
        observed: Sequence[Observation],
        keys: Sequence[Sequence[int]],
        create_in: frozenset[str],
        batch: Batch,
        *,
        away: frozenset[str] = _NOWHERE,
    ) -> list[Recollection]:
        """Records that nothing known is the same as, a page of them at once, and their match keys."""
        self.matching.alive(system, [observation.record.key for observation in observed], batch.commit)
        memories = remembered(self._session, system, observed, self._take_numbers(len(observed)), away)
        batch.memories.update((memory.record, memory) for memory in memories)
        batch.commit.records += memories
        batch.commit.matches += [(key, m.record) for m, its in zip(memories, keys, strict=True) for key in its]
        targets = self._session.decider.creatable(system, create_in)
        at_once = [target for target in targets if self._may_create(target)]
        batch.intents += creates(self._session, system, observed, memories, at_once, self._run)
        for target in targets:
            if target not in at_once:
                batch.commit.pending += hold_creates(self._session, system, observed, memories, target, self._run)
        return memories

    async def _returned(self, system: str, unknown: Sequence[Observation], batch: Batch) -> list[Observation]:
        """Keys that were deleted before: a stale page must not bring them back, a real return starts anew."""
        buried = await self._store.tombstones(system, [o.record.key for o in unknown])
        if not buried:
            return list(unknown)
        page = await self._session.systems[system].fetch(list(buried))
        here = set(page.keys)
        batch.commit.revived += [(system, key) for key in buried if key in here]
        return [o for o in unknown if o.record.key not in buried or o.record.key in here]


def _forget(record: int, commit: Commit) -> None:
    """The record exists nowhere any more, nor is it on its way anywhere; its tombstones stay."""
    commit.records = [memory for memory in commit.records if memory.record != record]
    commit.matches = [(key, owner) for key, owner in commit.matches if owner != record]
    commit.forget.append(record)


def _keep(item: Undelivered, after: Recollection, batch: Batch) -> None:
    after.pending[item.system] = item
    batch.commit.pending.append(item)
