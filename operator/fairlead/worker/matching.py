"""Matching: which known records a new one may be, and the dead letters that nothing is matched past.

A record that cannot be taken in keeps its match keys, under a number of its own: else its twin in another system would
be met as if it were new, and created a second time. Once it is mended, what waited for it is looked at again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import chain

import msgspec

from fairlead.connectors.base import Page
from fairlead.engine.case import Case, Observation
from fairlead.engine.fingerprint import field
from fairlead.model.record import Value
from fairlead.state.base import DISCARDED, Commit, DeadLetter, Intent, Recollection, Store
from fairlead.state.place import Place, reservation
from fairlead.transport.failure import Failure
from fairlead.worker.session import Session
from fairlead.worker.tally import Note, Tally

Candidates = dict[int, list[int]]
"""Match key → the records that have it, and (negative) the dead letters that hold it."""

_WAITS_FOR_OTHERS = ("Ambiguous", "Duplicate")


class Moved(msgspec.Struct, frozen=True):
    """A known record whose match fields are others than they were, and its match keys now."""

    memory: Recollection
    observation: Observation
    keys: list[int]


class Matching:
    """The match keys of one run."""

    def __init__(self, session: Session, tally: Tally) -> None:
        self._session = session
        self._store = session.store
        self._rules = session.rules.match
        self._tally = tally
        self._letters: dict[Place, tuple[str, str]] = {}
        self._discarded: dict[Place, int | None] = {}
        """Dead letters that a person gave up, and the fingerprint of the row that is passed over."""
        self._unmet: dict[str, set[str]] = {}
        """Of each system that is read from end to end: the keys of dead letters that it was not met with yet."""
        self._claims: dict[Place, Sequence[int]] = {}
        self._claimed: dict[tuple[int, str], set[str]] = {}
        fields = {session.rules.fields[name].field for rule in self._rules.rules for name in rule.fields}
        self._slots = sorted(field.slot for field in fields)

    async def prepare(self) -> None:
        """Learns which dead letters there are. A run holds all: 300 bytes of each, 1,000 of one with candidates."""
        said: dict[tuple[str, str], tuple[str, str]] = {}  # most of them say the same
        async for letters in self._store.walk_letters(discarded=True):
            for x in letters:
                why = x.reason, x.message
                self._letters[x.system, x.key] = said.setdefault(why, why)
                if x.discarded:
                    self._discarded[x.system, x.key] = x.row
                self._claim((x.system, x.key), x.candidates)

    def keys(self, values: Sequence[Mapping[str, Value]]) -> list[list[int]]:
        """The match keys of each record, in the order of the policy's rules."""
        return self._rules.keys(values, self._session.prints)

    # --- dead letters ---

    def refuse(
        self,
        system: str,
        key: str,
        reason: str,
        message: str,
        commit: Commit,
        candidates: Sequence[int] = (),
        row: int | None = None,
    ) -> None:
        """A record cannot be taken in; it is told once. The arguments are those of `DeadLetter`."""
        if self._letters.get((system, key)) != (reason, message):
            self._letters[system, key] = (reason, message)
            self._tally.dead += 1
            said = message if reason == "ContractBroken" else f"{reason}: {message}"
            self._tally.note(Note("DeadLetter", f"{system}/{key}", "", said, ""))
        self._claim((system, key), candidates)
        row = self._session.readers[system].whatever_contract(row)
        commit.dead.append(DeadLetter(system, key, reason, message, self._session.clock(), tuple(candidates), row))

    def discard(self, letter: DeadLetter, commit: Commit) -> None:
        """A person gave a dead letter up; what it holds it goes on to hold."""
        place = letter.system, letter.key
        self._letters[place], self._discarded[place] = (DISCARDED, letter.message), letter.row
        commit.dead.append(msgspec.structs.replace(letter, reason=DISCARDED))

    def without_discarded(
        self, system: str, keys: Sequence[str], found: Mapping[int, int | None], rows: Sequence[int]
    ) -> Mapping[int, int | None]:
        """What is to be taken in: not what a person gave up and did not change since."""
        if not self._discarded:
            return found
        stands_for = self._session.readers[system].whatever_contract
        return {i: hit for i, hit in found.items() if self._discarded.get((system, keys[i])) != stands_for(rows[i])}

    def known_letters(self, system: str, keys: Sequence[str], records: Sequence[int | None]) -> dict[int, int]:
        """Index → record of dead letters that are known: one that was put back to what it was differs in nothing."""
        if not self._letters:
            return {}
        pairs = enumerate(zip(keys, records, strict=True))
        return {i: record for i, (key, record) in pairs if record is not None and (system, key) in self._letters}

    def _claim(self, place: Place, candidates: Sequence[int]) -> None:
        system, key = place
        for record in self._claims.pop(place, ()):
            self._claimed[record, system].discard(key)
        if candidates:
            self._claims[place] = candidates
        for record in candidates:
            self._claimed.setdefault((record, system), set()).add(key)

    def may_be_there(self, record: int, system: str) -> bool:
        """Whether a dead letter of the system may be this record: then it must not be created there."""
        return bool(self._claimed.get((record, system)))

    def forget_ambiguity(self) -> None:
        """What dead letters may be is found again, by a scan of everything."""
        self._claims, self._claimed = {}, {}

    def hold(self, system: str, key: str, keys: Iterable[int], commit: Commit) -> None:
        """Keeps these match keys for a dead letter, in place of those that it held before."""
        number = reservation(system, key)
        commit.forget.append(number)
        commit.matches += [(match, number) for match in keys]

    def alive(self, system: str, keys: Sequence[str], commit: Commit) -> None:
        """These are no dead letters any more; what they held up is read again by the next run."""
        if not self._letters:
            return
        mended = [key for key in keys if self._letters.pop((system, key), None)]
        for key in mended:
            self._claim((system, key), ())
        commit.alive += [(system, key) for key in mended]
        commit.forget += [reservation(system, key) for key in mended]
        if mended:
            self.look_again(commit)

    def look_again(self, commit: Commit) -> None:
        """Reads again what was refused for the sake of another record."""
        commit.waiting += [place for place, (reason, _) in self._letters.items() if reason in _WAITS_FOR_OTHERS]

    def begin(self, system: str) -> None:
        """A system is read from end to end from now on."""
        self._unmet[system] = {key for name, key in self._letters if name == system}

    def met(self, system: str, keys: Sequence[str]) -> None:
        """What that reading has come upon."""
        self._unmet[system].difference_update(keys)

    def unmet(self, system: str) -> list[str]:
        """Dead letters that it has not come upon: what they are of may be gone."""
        return sorted(key for key in self._unmet[system] if (system, key) in self._letters)

    @property
    def letters(self) -> Collection[Place]:
        """The dead letters."""
        return self._letters.keys()

    def reason(self, place: Place) -> str:
        """Why a dead letter is one."""
        return self._letters[place][0]

    def number(self, system: str, key: str) -> int:
        """Under which a record holds match keys as a dead letter; 0 when it is none."""
        return reservation(system, key) if (system, key) in self._letters else 0

    async def held(self, intents: Sequence[Intent]) -> set[int]:
        """Records to be created whose match keys a dead letter holds."""
        if not self._letters:
            return set()
        keys = self.keys([intent.write.values for intent in intents])
        found = await self._store.candidates(sorted({key for its in keys for key in its}))
        taken = {key for key, records in found.items() if min(records) < 0}
        return {intent.record for intent, its in zip(intents, keys, strict=True) if taken.intersection(its)}

    def trouble(
        self,
        system: str,
        keys: Sequence[int],
        matching: Sequence[int],
        memories: Mapping[int, Recollection],
        cases: Mapping[int, Case],
    ) -> tuple[str, str] | None:
        """Why a record cannot be met: (reason, message), or None."""
        if not keys and self._rules:
            return "NoMatchKey", "has no value in any match field: fill one, or add a rule to spec.match"
        if len(matching) > 1:
            return "Ambiguous", f"matches {len(matching)} records: make the match fields unique, or narrow spec.match"
        if not matching:
            return None
        memory = memories.get(matching[0])
        if memory is None:
            return "Ambiguous", "matches a record that is a dead letter itself: mend that one"
        twin = memory.sides.get(system) or (
            cases[matching[0]].observed[system].record if matching[0] in cases else None
        )
        return duplicate_of(twin.key) if twin else None

    async def barred(
        self, system: str, keys: Sequence[str], memories: Mapping[int, Recollection]
    ) -> dict[str, frozenset[int]]:
        """Key → those of `memories` that a person said it is not."""
        if not memories:
            return {}
        apart = await self._store.apart([(system, key) for key in keys])
        return {
            key: frozenset(r for r, memory in memories.items() if others.intersection(places_of(memory)))
            for (_, key), others in apart.items()
        }

    # --- candidates ---

    def alone(self, keys: Sequence[Sequence[int]], candidates: Candidates) -> tuple[list[int], list[int]]:
        """Positions of the records of a page that nothing known may be, nor another of the page, and of the others."""
        counted = Counter(chain.from_iterable(keys))
        doubtful = {key for key, times in counted.items() if times > 1} | candidates.keys()
        alone: list[int] = []
        others: list[int] = []
        for position, its in enumerate(keys):
            sure = (its or not self._rules) and doubtful.isdisjoint(its)
            (alone if sure else others).append(position)
        return alone, others

    def moved(self, system: str, known: Sequence[tuple[Recollection, Observation]]) -> list[Moved]:
        """Known records whose match fields changed, or could not be read when the match rules did."""
        changed = [
            (memory, there)
            for memory, there in known
            if (system, there.record.key) in self._letters or self._differs(memory, system, there)
        ]
        keys = self.keys([there.record.values for _, there in changed])
        return [Moved(memory, there, its) for (memory, there), its in zip(changed, keys, strict=True)]

    def follow(self, moved: Sequence[Moved], commit: Commit) -> None:
        """Adds the match keys of known records whose match fields changed.

        Old keys stay until someone else has them: a system that is met later may still hold the old value.
        """
        commit.matches += [(key, each.memory.record) for each in moved for key in each.keys]
        if moved:
            self.look_again(commit)

    def _differs(self, memory: Recollection, system: str, observation: Observation) -> bool:
        side = memory.sides.get(system)
        return side is not None and any(field(side.prints, n) != field(observation.prints, n) for n in self._slots)

    def learn(self, record: int, keys: Iterable[int], candidates: Candidates, commit: Commit) -> set[int]:
        """A record is found from now on by all that its new side is found by, not only by what they met by.

        Returns:
            The others that are found by some of it: they may be the same record in another system.
        """
        others: set[int] = set()
        for key in keys:
            owners = candidates.setdefault(key, [])
            if record not in owners:
                owners.append(record)
                commit.matches.append((key, record))
            if len(owners) > 1:
                others.update(owners)
        return others - {record}

    async def candidates(self, keys: Iterable[int], commit: Commit) -> Candidates:
        """What is known under match keys, with what this commit has decided already."""
        ended = set(commit.forget)
        stored = await self._store.candidates(sorted(set(keys)))
        found = {key: [record for record in records if record not in ended] for key, records in stored.items()}
        for key, record in commit.matches:
            found.setdefault(key, []).append(record)
        return found

    async def drop_stale(
        self, doubtful: Mapping[int, Recollection], prefer: str, candidates: Candidates, commit: Commit
    ) -> set[int]:
        """Drops keys that records had once and have no more, so that another record may have them now.

        Args:
            doubtful: records that stand in the way, by number.
            prefer: the system in which they are read, where they are in it.
            candidates: changed in place.
            commit: added to.

        Returns:
            Those records that are gone from where they were looked for.
        """
        gone: set[int] = set()
        readers: dict[str, dict[str, int]] = {}
        for record, memory in doubtful.items():
            system = prefer if prefer in memory.sides else next(iter(sorted(memory.sides)), None)
            if system is not None:
                readers.setdefault(system, {})[memory.sides[system].key] = record
        for system, records in readers.items():
            for record, keys in (await self._keys_now(system, records, gone)).items():
                stale = [key for key, found in candidates.items() if record in found and key not in keys]
                commit.unmatched += [(key, record) for key in stale]
                for key in stale:
                    candidates[key] = [other for other in candidates[key] if other != record]
        return gone

    async def _keys_now(self, system: str, records: Mapping[str, int], gone: set[int]) -> dict[int, list[int]]:
        """Record → its match keys as it reads now; those that cannot be read are left out; `gone` is added to."""
        try:
            page: Page = await self._session.systems[system].fetch(list(records))
        except Failure:
            return {}  # then it stands in the way until it can be read
        gone |= {records[key] for key in page.deleted}
        reading = await self._session.read(system, page)
        values = {o.record.key: o.record.values for o in reading.observed.values()}
        keys = self.keys(list(values.values()))
        return {records[key]: its for key, its in zip(values, keys, strict=True)}


def duplicate_of(key: str) -> tuple[str, str]:
    """Why a record cannot be met whose record has another key of its system already: (reason, message)."""
    return "Duplicate", f"matches the same record as {key} of the same system: merge the two there"


def places_of(memory: Recollection) -> list[Place]:
    """Where a record is."""
    return [(system, side.key) for system, side in memory.sides.items()]


async def in_doubt(store: Store, records: Sequence[int]) -> dict[int, set[int]]:
    """Records that may be, where they are lacking, what another record or (negative) a dead letter is: and which.

    Two records that one system tells apart are two, whatever match keys they share.
    """
    keys = await store.match_keys(records)
    shared = await store.candidates(sorted({key for its in keys.values() for key in its}))
    others = {record: {o for key in its for o in shared[key]} - {record} for record, its in keys.items()}
    others = {record: its for record, its in others.items() if its}
    memories = await store.recall(sorted({r for pair in others.items() for r in (pair[0], *pair[1]) if r > 0}))
    apart = await store.apart([place for memory in memories.values() for place in places_of(memory)])
    doubts = {r: {o for o in its if _may_be_one(r, o, memories, apart)} for r, its in others.items()}
    return {record: its for record, its in doubts.items() if its}


def _may_be_one(
    record: int, other: int, memories: Mapping[int, Recollection], apart: Mapping[Place, frozenset[Place]]
) -> bool:
    """Whether two owners of a match key may be the same: no system tells them apart, nor did a person."""
    if record not in memories or other not in memories:
        return True  # a dead letter
    if not memories[record].sides.keys().isdisjoint(memories[other].sides):
        return False
    others = set(places_of(memories[other]))
    return not any(others.intersection(apart.get(place, ())) for place in places_of(memories[record]))


def first_match(keys: Sequence[int], candidates: Candidates, without: AbstractSet[int]) -> list[int]:
    """The candidates of the first match rule that has any, but for some."""
    found = ([r for r in candidates.get(key, ()) if r not in without] for key in keys)
    return next((sorted(set(records)) for records in found if records), [])


def in_the_way(
    system: str, keys: Sequence[Sequence[int]], candidates: Candidates, memories: Mapping[int, Recollection]
) -> dict[int, Recollection]:
    """Records that would make a new one a dead letter: of the same system already, or one of several that match."""
    found = {}
    for its in keys if memories else ():
        matching = [record for key in its for record in candidates.get(key, ()) if record in memories]
        for record in matching:
            if system in memories[record].sides or len(set(matching)) > 1:
                found[record] = memories[record]
    return found
