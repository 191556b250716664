"""Identity: a person says that two records are the same, or that one is two.

Nothing is decided here about values. A side that comes to a record is remembered as unseen and read again in the same
run, so that what differs is a first meeting (`spec.firstSync`), with its guard and its audit. A side that leaves takes
along what was seen there, so that later edits are edits; no copy is made in its place, unless that is asked for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from fairlead.engine.case import FindingKind, Operation, Side
from fairlead.engine.fingerprint import UNSEEN, WIDTH, replaced
from fairlead.engine.writes import only
from fairlead.state.audit import AuditEntry
from fairlead.state.base import Commit, Conflict, DeadLetter, Recollection, Undelivered
from fairlead.state.place import Place, reservation
from fairlead.state.requests import Link, Request, Split
from fairlead.transport.failure import Failure
from fairlead.worker.batch import Batch
from fairlead.worker.handling import Handled, Scope
from fairlead.worker.matching import duplicate_of, places_of
from fairlead.worker.tally import Note


class Refused(Exception):
    """It cannot be done; the message says why, and what to do. Nothing was changed."""


class Subject(msgspec.Struct):
    """What a person named.

    Attributes:
        memory: its record; where it has none, a new one without a number.
        keys: the match keys of the record.
        known: whether it has a record.
        letter: what it is as a dead letter.
    """

    place: Place
    memory: Recollection
    keys: list[int]
    known: bool
    letter: DeadLetter | None


async def link(scope: Scope, request: Request, demand: Link, batch: Batch) -> Handled:
    """See `state.requests.Link`."""
    return await _handled(Identity(scope, request.by, batch.commit).link(demand.one, demand.other))


async def split(scope: Scope, request: Request, demand: Split, batch: Batch) -> Handled:
    """See `state.requests.Split`."""
    return await _handled(Identity(scope, request.by, batch.commit).split(demand.place, create=demand.create))


class Identity:
    """Changes which records are the same, in one commit."""

    def __init__(self, scope: Scope, by: str, commit: Commit) -> None:
        self._scope = scope
        self._session = scope.session
        self._store = scope.store
        self._matching = scope.intake.matching
        self._by = by
        self._commit = commit
        self._now = scope.session.clock()

    # --- two are one ---

    async def link(self, one: Place, other: Place) -> None:
        """Two places are the same record.

        Raises:
            Refused: they are not, or cannot be.
        """
        if one[0] == other[0]:
            raise Refused(
                f"{_name(one)} and {_name(other)} are both in {one[0]}: merge the two there; to say which of them is "
                "the record, link that one with its record in another system"
            )
        kept, joined = self._in_order(await self._subject(one), await self._subject(other))
        if kept.known and kept.memory.record == joined.memory.record:
            raise Refused(f"{_name(one)} and {_name(other)} are one record already")
        replaced_side = self._replaced(kept, joined)
        if not kept.known:
            kept.memory.record = self._scope.intake.take_number()
        await self._demote_lone_twins([kept, joined])
        record = self._join(kept, joined, without=replaced_side)
        if replaced_side:
            place = replaced_side, kept.memory.sides[replaced_side].key
            self._demote(place, record.sides[replaced_side].key, record)
        self._adopt([kept, joined], record)
        self._tell(FindingKind.LINKED, record, record.sides)
        self._matching.look_again(self._commit)
        self._scope.intake.complete(record.record, self._commit)

    def _in_order(self, one: Subject, other: Subject) -> tuple[Subject, Subject]:
        """First the one whose number and memory are kept: it may have creates under way, which are known by it."""
        priority = self._session.rules.priority

        def rank(subject: Subject) -> tuple[bool, bool, int]:
            creating = any(
                i.attempts and i.write.operation is Operation.CREATE for i in subject.memory.pending.values()
            )
            return (not subject.known, not creating, min(map(priority.index, subject.memory.sides)))

        kept, joined = sorted((one, other), key=rank)
        return kept, joined

    def _replaced(self, kept: Subject, joined: Subject) -> str:
        """The system in which `joined` takes the place of another key of the record; empty when it takes none.

        Raises:
            Refused: both records have something there.
        """
        common = sorted(kept.memory.sides.keys() & joined.memory.sides.keys())
        if not common:
            return ""
        if not joined.known:
            return common[0]
        system = common[0]
        mine, its = (_name((system, subject.memory.sides[system].key)) for subject in (kept, joined))
        raise Refused(
            f"they are two records that both have a side in {system}, {mine} and {its}: split one of these two off "
            "first, link again, and then delete in that system what is too much"
        )

    def _join(self, kept: Subject, joined: Subject, *, without: str) -> Recollection:
        """Remembers the two as one: `joined` is met anew."""
        memory, other, commit = kept.memory, joined.memory, self._commit
        anew = {system: self._unseen(side) for system, side in other.sides.items()}
        mine = {s: side if kept.known else self._unseen(side) for s, side in memory.sides.items() if s != without}
        sides = {**mine, **anew}
        bases = self._session.decider.bases.kept(memory.bases, sides, {})
        apart = memory.away & mine.keys()  # archived there, or outside the filter: it goes on to take no part
        away = (memory.away | other.away) - sides.keys() | apart
        after = Recollection(memory.record, sides, away, bases=bases)
        commit.records.append(after)
        commit.delivered += [
            (i.record, s) for s, i in memory.pending.items() if s == without or not _goes_on(i, sides.keys())
        ]
        creates = [i for s, i in other.pending.items() if _is_create(i) and s not in {*sides, *memory.pending}]
        commit.pending += [msgspec.structs.replace(item, record=memory.record) for item in creates]
        commit.frozen += [_competing(memory.frozen.get(n), c, memory.record) for n, c in other.frozen.items()]
        commit.together += [(p, q) for p in places_of(memory) for q in places_of(other)]
        if joined.known:
            commit.forget.append(other.record)
            commit.merged.append((other.record, memory.record, self._now))
        return after

    def _adopt(self, subjects: Sequence[Subject], record: Recollection) -> None:
        """The record is found by all that they were found by; those that were none are no dead letters any more."""
        for subject in subjects:
            self._commit.matches += [(key, record.record) for key in subject.keys]
            if subject.letter is not None and not subject.known:
                self._matching.alive(subject.place[0], [subject.place[1]], self._commit)
        unread = [(system, side.key) for system, side in record.sides.items() if side.row is None]
        self._commit.waiting += unread

    async def _demote_lone_twins(self, subjects: Sequence[Subject]) -> None:
        """A person chose a duplicate: what stood in its way, and is linked with nothing, is the duplicate now."""
        chosen = dict(subject.place for subject in subjects if not subject.known)
        letters = [s.letter for s in subjects if not s.known and s.letter is not None]
        numbers = {r for letter in letters for r in letter.candidates if r > 0}
        twins = await self._store.recall(sorted(numbers - {subject.memory.record for subject in subjects}))
        for twin in twins.values():
            if len(twin.sides) == 1 and chosen.keys() >= twin.sides.keys():
                self._retire(twin, chosen, subjects[0].memory)

    def _retire(self, twin: Recollection, chosen: Mapping[str, str], instead: Recollection) -> None:
        """A record is a dead letter from now on, to which what was said of it, and deleted of it, belongs."""
        (place,), commit = places_of(twin), self._commit
        letter = reservation(*place)
        commit.forget.append(twin.record)
        commit.merged.append((twin.record, letter, self._now))
        rule = f"asked for by {self._by}: another key of {place[0]} was linked"
        commit.audit.append(
            AuditEntry(self._now, self._scope.run, letter, "", FindingKind.REPLACED.value, rule, "", dict([place]))
        )
        self._demote(place, chosen[place[0]], instead)

    def _demote(self, place: Place, chosen: str, record: Recollection) -> None:
        """A place is a dead letter, in the words in which it is told when the same run reads it again: once."""
        self._matching.refuse(*place, *duplicate_of(chosen), self._commit, [record.record])

    # --- one is two ---

    async def split(self, place: Place, *, create: bool) -> None:
        """A place is a record of its own.

        Raises:
            Refused: it is already, or cannot be.
        """
        subject = await self._subject(place)
        if not subject.known:
            record = await self._take_in(subject, create=create)
        elif len(subject.memory.sides) > 1:
            record = await self._part(subject, create=create)
        else:
            record = self._release(subject, create=create)
        self._tell(FindingKind.SPLIT, record, {place[0]: record.sides[place[0]]})
        self._matching.look_again(self._commit)
        if create:
            self._scope.intake.complete(record.record, self._commit)

    async def _take_in(self, subject: Subject, *, create: bool) -> Recollection:
        """A dead letter becomes a record, whatever it matches."""
        system = subject.place[0]
        others = await self._what_it_matches(subject)
        away = {name for name, _ in others} if others else set(self._session.systems)
        sides = {system: self._unseen(subject.memory.sides[system])}
        record = Recollection(
            self._scope.intake.take_number(), sides, frozenset() if create else frozenset(away - {system})
        )
        self._commit.records.append(record)
        self._commit.apart += [(subject.place, other) for other in others]
        self._adopt([subject], record)
        return record

    async def _what_it_matches(self, subject: Subject) -> list[Place]:
        found = await self._store.candidates(subject.keys)
        numbers = {number for its in found.values() for number in its}
        numbers |= set(subject.letter.candidates) if subject.letter else set()
        memories = await self._store.recall(sorted(number for number in numbers if number > 0))
        letters = [place for place in self._matching.letters if self._matching.number(*place) in numbers]
        places = {place for memory in memories.values() for place in places_of(memory)}
        return sorted((places | set(letters)) - {subject.place})

    async def _part(self, subject: Subject, *, create: bool) -> Recollection:
        """A side leaves its record, and takes along what was seen there."""
        memory, commit = subject.memory, self._commit
        system = subject.place[0]
        rest = {name: side for name, side in memory.sides.items() if name != system}
        kept = self._session.decider.bases.kept
        own = self._met_anew({system: memory.sides[system]}, _maybe_written(memory, system))
        apart = memory.away & {system}  # archived there, or outside the filter: it goes on to take no part
        away = apart if create else memory.away - {system} | rest.keys() | apart
        parted = Recollection(self._scope.intake.take_number(), own, away, bases=kept(memory.bases, own, {}))
        rest = self._without_its_writes(memory, system, rest)
        rest = self._without_its_conflicts(memory, system, rest)
        away = memory.away if create else memory.away | {system}
        commit.records += [Recollection(memory.record, rest, away, bases=kept(memory.bases, rest, {})), parted]
        commit.matches += [(key, parted.record) for key in subject.keys]
        commit.apart += [(subject.place, other) for other in _at(rest)]
        commit.parted.append((parted.record, memory.record, self._now))
        if create:
            self._scope.intake.complete(memory.record, self._commit)
        return parted

    def _without_its_writes(self, memory: Recollection, system: str, rest: dict[str, Side]) -> dict[str, Side]:
        """Drops what was under way to the side that leaves, or from there.

        Whether a value from there has arrived with the others is not told apart: they meet in these fields anew.
        """
        commit, stray = self._commit, set[str]()
        for target, item in memory.pending.items():
            names = {name for name, origin in item.write.origins.items() if origin == system}
            kept = item.write.values.keys() - names
            if target == system:
                commit.delivered.append((memory.record, target))
                continue
            stray |= names
            if not names or (_is_create(item) and item.attempts):
                continue  # a create that may have arrived is found by what it holds
            if kept and not _is_create(item):
                commit.pending.append(msgspec.structs.replace(item, write=only(item.write, kept)))
            else:
                commit.delivered.append((memory.record, target))
                self._scope.intake.complete(memory.record, self._commit)
        return self._met_anew(rest, stray)

    def _without_its_conflicts(self, memory: Recollection, system: str, rest: dict[str, Side]) -> dict[str, Side]:
        """The conflicts in which the side that leaves took part: where only one is left of those, it meets the others.

        What it says waited for a person, and so went nowhere.
        """
        ended = set[str]()
        for name, conflict in memory.frozen.items():
            values = {s: value for s, value in conflict.values.items() if s != system}
            if len(values) > 1:
                self._commit.frozen.append(msgspec.structs.replace(conflict, values=values))
            else:
                self._commit.thawed.append((memory.record, name))
                ended.add(name)
        return self._met_anew(rest, ended if len(rest) > 1 else ())

    def _met_anew(self, rest: dict[str, Side], names: Collection[str]) -> dict[str, Side]:
        """Sides that meet in some fields as if for the first time, in this run."""
        if not names:
            return rest
        fields = self._session.rules.fields
        slots = {fields[name].field.slot: UNSEEN for name in names if name in fields}
        self._commit.waiting += _at(rest)
        width = len(fields)
        return {
            name: msgspec.structs.replace(side, row=None, version=None, prints=replaced(side.prints, slots, width))
            for name, side in rest.items()
        }

    def _release(self, subject: Subject, *, create: bool) -> Recollection:
        """A record that has one side: it outlives what it was linked with, and is created where that is asked for.

        Raises:
            Refused: neither is to be done.
        """
        memory, commit = subject.memory, self._commit
        doomed = [i for i in memory.pending.values() if i.write.ends]
        if not doomed and not (create and memory.away):
            more = "; with --create it is created in the systems that lack it" if memory.away else ""
            raise Refused(f"{_name(subject.place)} is a record of its own already{more}")
        commit.delivered += [(item.record, item.system) for item in doomed]
        away = memory.away & memory.sides.keys() if create else memory.away
        record = msgspec.structs.replace(memory, away=away)
        commit.records.append(record)
        return record

    # --- shared ---

    async def _subject(self, place: Place) -> Subject:
        """What is known of a place, which is seen to be there.

        Raises:
            Refused: it is not there, or cannot be taken in.
        """
        system, key = place
        if system not in self._session.systems:
            raise Refused(f"{system!r} is no system of this policy")
        try:
            page = await self._session.systems[system].fetch([key])
        except Failure as failure:
            raise Refused(f"{system} cannot be read now ({failure.message}): ask again when it can be") from None
        if key not in page.keys:
            raise Refused(f"there is no {_name(place)}")
        letter = await self._letter(place)
        (record,) = (await self._store.lookup(system, [key])).records
        if record is not None:
            memory = (await self._store.recall([record]))[record]
            keys = (await self._store.match_keys([record])).get(record, [])
            return Subject(place, memory, keys, known=True, letter=letter)
        if await self._store.erased(system, [key]):
            raise Refused(f"{_name(place)} was forgotten, and is not taken in again")
        reading = await self._session.read(system, page)
        if not reading.observed:
            why = "is excluded by the system's filter" if reading.left else "breaks the policy's schema"
            raise Refused(f"{_name(place)} {why}: mend that first")
        (observation,) = reading.observed.values()
        keys = self._matching.keys([observation.record.values])[0]
        return Subject(place, Recollection(0, {system: observation.side()}), keys, known=False, letter=letter)

    async def _letter(self, place: Place) -> DeadLetter | None:
        if place not in self._matching.letters:
            return None
        return next(iter(await self._store.dead_letters([place])), None)

    def _unseen(self, side: Side) -> Side:
        unseen = bytes(WIDTH * len(self._session.rules.fields)) or UNSEEN
        return Side(side.key, None, unseen)

    def _tell(self, kind: FindingKind, record: Recollection, sides: Mapping[str, Side]) -> None:
        rule, values = f"asked for by {self._by}", {system: side.key for system, side in sorted(sides.items())}
        self._commit.audit.append(
            AuditEntry(self._now, self._scope.run, record.record, "", kind.value, rule, "", {**values})
        )
        self._scope.tally.note(Note(kind.value, " = ".join(map(_name, values.items())), "", rule, ""))


async def _handled(work: object) -> Handled:
    try:
        await work  # type: ignore[misc]
    except Refused as refusal:
        return Handled(0, [str(refusal)])
    return Handled(1)


def _name(place: Place) -> str:
    return "/".join(place)


def _at(sides: Mapping[str, Side]) -> list[Place]:
    return [(system, side.key) for system, side in sides.items()]


def _is_create(item: Undelivered) -> bool:
    return item.write.operation is Operation.CREATE


def _maybe_written(memory: Recollection, system: str) -> set[str]:
    """The fields that may hold there what was sent, and whose answer was lost: finding that is no edit."""
    item = memory.pending.get(system)
    if item is None or item.write.operation is not Operation.UPDATE:
        return set()
    return {*item.write.values, *item.write.earlier} if item.attempts else set(item.write.unsure)


def _goes_on(item: Undelivered, there: Iterable[str]) -> bool:
    """Whether a write is still wanted once the record has sides in the systems `there`."""
    return item.write.operation is Operation.UPDATE or (_is_create(item) and item.system not in set(there))


def _competing(mine: Conflict | None, its: Conflict, record: int) -> Conflict:
    """One conflict of both records' values."""
    if mine is None:
        return msgspec.structs.replace(its, record=record)
    return Conflict(record, its.field, {**its.values, **mine.values}, min(mine.since, its.since))
