"""Doubts: records that wait because it is not sure which record they are, and the records that they may be."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
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

    def concerns(self, place: Place) -> bool:
        """Whether it is of this place, or this place may be the record."""
        return place == self.place or any(place in candidate for candidate in self.candidates)


async def doubts(store: Store) -> AsyncIterator[list[Doubt]]:
    """All that is in doubt now, in pages, in no order. A doubt may come twice.

    Only the places of dead letters are held throughout, about 300 bytes of each: others name them by number.
    """
    letters: dict[int, Place] = {}
    async for page in store.walk_letters(discarded=True):
        letters |= {reservation(letter.system, letter.key): (letter.system, letter.key) for letter in page}
    async for page in store.walk_letters():
        known = await _Known.of(store, letters, {n for letter in page for n in letter.candidates})
        yield [known.letter(letter) for letter in page if letter.reason in _OF_MATCHING]
    async for items in store.walk_failed():
        creates = [item for item in items if item.write.operation is Operation.CREATE]
        known = await _Known.of(store, letters, {item.record for item in creates})
        yield [found for item in creates if (found := known.create(item)) is not None]
    async for records in store.sharing():
        sharing = await in_doubt(store, records)
        numbers = sharing.keys() | {n for its in sharing.values() for n in its}
        known = await _Known.of(store, letters, numbers)
        yield [doubt for record, others in sharing.items() for doubt in known.shared(record, others)]
    async for pairs in store.divided():
        yield await _split(store, pairs)


def ordered(found: Iterable[Doubt]) -> list[Doubt]:
    """Each doubt once, in the order of system and key."""
    once = {doubt.order: doubt for doubt in found}
    return [once[order] for order in sorted(once)]


class _Known:
    """Records and dead letters by their numbers."""

    def __init__(self, letters: Mapping[int, Place], memories: Mapping[int, Recollection]) -> None:
        self._memories = memories
        self._letters = letters

    @classmethod
    async def of(cls, store: Store, letters: Mapping[int, Place], numbers: Iterable[int]) -> _Known:
        """Knows the records among some numbers."""
        records = sorted(n for n in numbers if n > 0)
        return cls(letters, await store.recall(records) if records else {})

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
        why, places = _why(item.message), self._places(item.record)
        if why is None or not places:  # one that is nowhere any more is no more than a dead letter
            return None
        return Doubt(places[0], why, item.message, item.system, (), item.since)

    def shared(self, record: int, others: Iterable[int]) -> Iterable[Doubt]:
        """A record that is not created where another one may be it."""
        candidates, places = self._candidates(others), self._places(record)
        if not places:
            return []
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


async def _split(store: Store, pairs: Iterable[tuple[Place, Place]]) -> list[Doubt]:
    """Halves of a split that are lacking where the other half is."""
    told: list[Doubt] = []
    for one, other in pairs:
        first, second = await _record_at(store, one), await _record_at(store, other)
        if first is not None and second is not None:
            told += [*_halves(one, first, second), *_halves(other, second, first)]
    return told


def _halves(place: Place, mine: Recollection, its: Recollection) -> Iterable[Doubt]:
    lacks = (mine.away & its.sides.keys()) - mine.sides.keys()
    return [Doubt(place, Why.SPLIT, _SPLIT, system, (tuple(sorted(places_of(its))),)) for system in sorted(lacks)]


async def _record_at(store: Store, place: Place) -> Recollection | None:
    (record,) = (await store.lookup(place[0], [place[1]])).records
    return (await store.recall([record])).get(record) if record is not None else None
