"""Rematching: where the match rules are others than before, known records are found by the new ones.

That comes before anything is read: an unknown record that came first would be taken for a new one, and copied to where
what it is stands already. So each known record is read by id, in one system, and in others only where they were last
seen to say something else in the match fields. While a record cannot be read, nothing unknown is met (`Intake.meets`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from fairlead.engine.fingerprint import UNSEEN, field
from fairlead.model.record import Value
from fairlead.state.base import DISCARDED, REMATCH, Commit, Recollection
from fairlead.state.place import Place, reservation
from fairlead.transport.failure import Failure
from fairlead.worker.delivery import BATCH
from fairlead.worker.matching import Matching
from fairlead.worker.sending import Stopped
from fairlead.worker.session import Session

PUT_OFF = "Rematching"
"""Kind of note, where known records cannot be found by the new match rules yet."""

WAITS = "what is new waits: spec.match is another one than before, and not every known record could be read since"

_HOLDING = (DISCARDED, "ContractBroken")
"""Reasons of dead letters that hold the match keys that they have by any rules."""


class Rematching:
    """Renews match keys, a page at a time; a worker that dies goes on where it was.

    Args:
        session: the policy.
        matching: the match keys of the run.
        down: systems that cannot be read; added to.
        stopping: asked before each page.
    """

    def __init__(
        self, session: Session, matching: Matching, down: dict[str, Failure], stopping: Callable[[], bool]
    ) -> None:
        self._session = session
        self._store = session.store
        self._matching = matching
        self._down = down
        self._stopping = stopping
        self._slots = {name: self._slots_in(rule.readable) for name, rule in session.rules.systems.items()}

    def _slots_in(self, mapped: Iterable[str]) -> list[int]:
        """Of the fields of those match rules by which a system's records can be found."""
        rules, mapped = self._session.rules, set(mapped)
        names = {name for rule in rules.match.rules if mapped.issuperset(rule.fields) for name in rule.fields}
        return sorted(rules.fields[name].field.slot for name in names)

    async def run(self, end: int) -> bool:
        """Renews what is left. All records have numbers below `end`.

        Returns:
            Whether nothing is left; else a system that was needed is down.

        Raises:
            Stopped: the worker is to stop; what was renewed stays so.
        """
        renewed = await self._store.meta(REMATCH)
        if renewed is None:
            return True
        last = int(renewed)
        try:
            if last < 0:
                await self._renew_letters()
                last = 0
            for first in range(last + 1, end, BATCH):
                await self._renew(range(first, min(first + BATCH, end)))
        except Failure:
            return False
        await self._store.commit(Commit(meta={REMATCH: None}))
        return True

    # --- records ---

    async def _renew(self, numbers: range) -> None:
        self._pause()
        memories = await self._store.recall(numbers)
        commit = Commit(meta={REMATCH: str(numbers[-1])})
        tried = set[tuple[int, str]]()
        told: dict[int, list[bytes]] = {record: [] for record in memories}
        while sources := self._sources(memories, tried, told):
            for system, owners in sources.items():
                found = await self._read(system, list(owners))
                if found is None:
                    continue  # where another system says the same, that one is asked
                tried |= {(record, system) for record in owners.values()}
                for key, prints in zip(found, self._session.readers[system].prints(list(found.values())), strict=True):
                    told[owners[key]].append(prints)
                keys = self._matching.keys(list(found.values()))
                commit.matches += [(match, owners[key]) for key, its in zip(found, keys, strict=True) for match in its]
        commit.matches = list(dict.fromkeys([*commit.matches, *self._on_their_way(memories)]))
        await self._store.commit(commit)

    def _on_their_way(self, memories: Mapping[int, Recollection]) -> list[tuple[int, int]]:
        """(match key, record) of those that are nowhere yet: an undo brings them back."""
        items = [each for memory in memories.values() if not memory.sides for each in memory.pending.values()]
        keys = self._matching.keys([item.write.values for item in items])
        return [(key, item.record) for item, its in zip(items, keys, strict=True) for key in its]

    def _sources(
        self, memories: Mapping[int, Recollection], tried: set[tuple[int, str]], told: Mapping[int, Sequence[bytes]]
    ) -> dict[str, dict[str, int]]:
        """System → native key → record, of those that are to be read next.

        Raises:
            Failure: one can be read only where that cannot be done now.
        """
        order, sources = self._order(), dict[str, dict[str, int]]()
        for record, memory in memories.items():
            left = (s for s in order if s in memory.sides and (record, s) not in tried)
            system = next((s for s in left if not self._is_told(s, memory, told[record])), None)
            if system is None:
                continue
            if system in self._down:
                raise self._down[system]
            sources.setdefault(system, {})[memory.sides[system].key] = record
        return sources

    def _order(self) -> list[str]:
        """Systems by which records can be found: the system of record first, those that are down last."""
        first = self._session.rules.system_of_record
        return sorted((s for s, slots in self._slots.items() if slots), key=lambda s: (s in self._down, s != first, s))

    def _is_told(self, system: str, memory: Recollection, told: Sequence[bytes]) -> bool:
        """Whether what a system was last seen to say in the match fields was read in another one."""
        seen = {slot: field(memory.sides[system].prints, slot) for slot in self._slots[system]}
        return UNSEEN not in seen.values() and any(
            all(field(prints, slot) == it for slot, it in seen.items()) for prints in told
        )

    # --- dead letters ---

    async def _renew_letters(self) -> None:
        letters = sorted(self._matching.letters)
        for system in self._session.systems:
            its = [place for place in letters if place[0] == system]
            for start in range(0, len(its), BATCH):
                await self._renew_some(system, await self._holding(its[start : start + BATCH]))
        await self._store.commit(Commit(meta={REMATCH: "0"}))

    async def _holding(self, letters: Sequence[Place]) -> list[str]:
        """The keys of those that hold match keys, by the old rules or by the new ones."""
        held = await self._store.match_keys([reservation(*place) for place in letters])
        return [p[1] for p in letters if reservation(*p) in held or self._matching.reason(p) in _HOLDING]

    async def _renew_some(self, system: str, keys: Sequence[str]) -> None:
        if not keys:
            return
        self._pause()
        found, commit = await self._read(system, keys), Commit()
        if found is None:
            raise self._down[system]
        for key, its in zip(found, self._matching.keys(list(found.values())), strict=True):
            self._matching.hold(system, key, its, commit)
        await self._store.commit(commit)

    # --- both ---

    async def _read(self, system: str, keys: Sequence[str]) -> dict[str, dict[str, Value]] | None:
        """Key → canonical values of those that are there and can be read; None when the system is down.

        Whatever becomes of a record, such as one outside the filter, is of no account here: it is known.
        """
        try:
            if system in self._down:
                raise self._down[system]
            page = await self._session.systems[system].fetch(keys)
        except Failure as failure:
            self._down[system] = failure
            return None
        found = dict(await self._session.excluded(system, page, range(len(page.keys))))
        return {key: found[key] for key in keys if key in found}

    def _pause(self) -> None:
        if self._stopping():
            raise Stopped
