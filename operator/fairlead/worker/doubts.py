"""Doubts: records that wait because it is not sure which record they are, and the records that they may be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum

import msgspec

from fairlead.engine.case import Operation
from fairlead.state.base import UNLINKABLE, DeadLetter, Recollection, Store, Undelivered
from fairlead.state.place import Place, reservation
from fairlead.worker.matching import in_doubt, places_of
from fairlead.worker.settlement import HELD, UNCERTAIN


class Why(StrEnum):
    """What is not sure."""

    AMBIGUOUS = "Ambiguous"
    DUPLICATE = "Duplicate"
    NO_MATCH_KEY = "NoMatchKey"
    UNCERTAIN = "Uncertain"
    HELD = "Held"
    UNLINKABLE = "Unlinkable"
    SHARED = "Shared"
    SPLIT = "Split"


class Doubt(msgspec.Struct, frozen=True):
    """One record that waits.

    Attributes:
        lacks: the system in which it is not created meanwhile; empty for what is no record yet.
        candidates: the places of each record that it may be.
        since: epoch seconds, None where that is not known.
    """

    place: Place
    why: Why
    message: str
    lacks: str = ""
    candidates: tuple[tuple[Place, ...], ...] = ()
    since: float | None = None

    @property
    def order(self) -> tuple[Place, str, str]:
        """In which doubts are listed."""
        return (self.place, self.why.value, self.lacks)


async def doubts(store: Store) -> list[Doubt]:
    """All that is in doubt now, in the order of system and key."""
    letters = await store.dead_letters()
    creates = [item async for page in store.walk_failed() for item in page if item.write.operation is Operation.CREATE]
    sharing = await in_doubt(store, await store.sharing())
    numbers = {n for letter in letters for n in letter.candidates} | {item.record for item in creates}
    numbers |= sharing.keys() | {n for its in sharing.values() for n in its}
    memories = await store.recall(sorted(n for n in numbers if n > 0))
    known = _Known(letters, memories)
    told = [known.letter(letter) for letter in letters if letter.reason in _OF_MATCHING]
    told += [found for item in creates if (found := known.create(item)) is not None]
    told += [doubt for record, others in sharing.items() for doubt in known.shared(record, others)]
    told += await _split(store)
    return sorted(told, key=lambda doubt: doubt.order)


class _Known:
    """Records and dead letters by their numbers."""

    def __init__(self, letters: Iterable[DeadLetter], memories: Mapping[int, Recollection]) -> None:
        self._memories = memories
        self._letters = {reservation(letter.system, letter.key): (letter.system, letter.key) for letter in letters}

    def _places(self, number: int) -> tuple[Place, ...]:
        if number < 0:
            return (self._letters[number],) if number in self._letters else ()
        return tuple(sorted(places_of(self._memories[number]))) if number in self._memories else ()

    def _candidates(self, numbers: Iterable[int]) -> tuple[tuple[Place, ...], ...]:
        return tuple(sorted(places for number in numbers if (places := self._places(number))))

    def letter(self, letter: DeadLetter) -> Doubt:
        """A record that could not be taken in."""
        place, candidates = (letter.system, letter.key), self._candidates(letter.candidates)
        return Doubt(place, Why(letter.reason), letter.message, "", candidates, letter.since)

    def create(self, item: Undelivered) -> Doubt | None:
        """A create that was given up because the record may be there; None for another reason."""
        why = _why(item.message)
        if why is None or item.record not in self._memories:
            return None
        return Doubt(self._places(item.record)[0], why, item.message, item.system, (), item.since)

    def shared(self, record: int, others: Iterable[int]) -> Iterable[Doubt]:
        """A record that is not created where another one may be it."""
        candidates, places = self._candidates(others), self._places(record)
        lacks = sorted({system for group in candidates for system, _ in group} - {system for system, _ in places})
        return [Doubt(places[0], Why.SHARED, _SHARED, system, candidates) for system in lacks]


_OF_MATCHING = (Why.AMBIGUOUS, Why.DUPLICATE, Why.NO_MATCH_KEY)
_SHARED = "has a match value in common with another record, which may be it: link them, or split it off"
_SPLIT = "was split off: link it with its record there, or create it with --create"


def _why(message: str) -> Why | None:
    if message == UNCERTAIN:
        return Why.UNCERTAIN
    if message == HELD:
        return Why.HELD
    return Why.UNLINKABLE if message.startswith(UNLINKABLE) else None


async def _split(store: Store) -> list[Doubt]:
    """Halves of a split that are lacking where the other half is."""
    told: list[Doubt] = []
    for one, other in await store.divided():
        first, second = await _record_at(store, one), await _record_at(store, other)
        if first is not None and second is not None:
            told += [*_halves(one, first, second), *_halves(other, second, first)]
    return list({doubt.order: doubt for doubt in told}.values())


def _halves(place: Place, mine: Recollection, its: Recollection) -> Iterable[Doubt]:
    lacks = (mine.away & its.sides.keys()) - mine.sides.keys()
    return [Doubt(place, Why.SPLIT, _SPLIT, system, (tuple(sorted(places_of(its))),)) for system in sorted(lacks)]


async def _record_at(store: Store, place: Place) -> Recollection | None:
    (record,) = (await store.lookup(place[0], [place[1]])).records
    return (await store.recall([record])).get(record) if record is not None else None
