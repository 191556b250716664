"""Erasing a person, in SQL: nothing of a record remains in any table but numbers, and a fingerprint of its keys."""

from __future__ import annotations

import math
import re
import time
from abc import abstractmethod
from collections.abc import AsyncIterator, Collection, Sequence
from hashlib import blake2b
from typing import TypeVar

import msgspec

from fairlead.state.base import UNLINKABLE, Commit, DeadLetter, StateError, Undelivered
from fairlead.state.erasure import Erasure, named_by
from fairlead.state.place import Place, naming, reservation
from fairlead.state.requests import FORGOTTEN, Answer, Request, without, without_names
from fairlead.state.sql_memory import NUMBERED, SQLMemory
from fairlead.state.tables import ANSWER, ERASED, PENDING, REQUEST, Drop, Put, Query, Row

Message = TypeVar("Message", Undelivered, DeadLetter)

_NO_VALUES = b"{}"


class _Person(msgspec.Struct):
    """What is erased: places, and the numbers of records and (negative, see `reservation`) of dead letters."""

    places: set[Place]
    numbers: set[int] = set()
    unknown: list[Place] = []


class SQLErasing(SQLMemory):
    """The part of `state.base.Store` that forgets a person."""

    def __init__(self) -> None:
        super().__init__()
        self._anybody_erased: bool | None = None
        """None before it was looked up."""

    async def erase(self, places: Sequence[Place], keep: Collection[Place] = (), *, unseen: bool = False) -> Erasure:
        """See `Store.erase`."""
        async with self._transaction():
            person = await self._person(places)
            if person.unknown and not unseen:
                return Erasure(unknown=tuple(person.unknown))
            doubtful = [each async for each in self._doubtful(person) if (each.system, each.key) not in keep]
            if doubtful:
                return Erasure(doubtful=tuple(doubtful))
            ended = await self._erase(person)
        self._record_count, self._anybody_erased = None, True
        try:
            await self._sweep()
        except StateError as error:
            raise StateError(
                f"it is forgotten, but what was deleted may still be read in free space of the state ({error}): give "
                "the same command again"
            ) from None
        return Erasure(frozenset(person.places), tuple(ended))

    @abstractmethod
    async def _sweep(self) -> None:
        """Overwrites what was deleted."""

    # --- who it is ---

    async def _person(self, places: Sequence[Place]) -> _Person:
        person = _Person(set(places))
        for system, key in places:
            (record,) = (await self.lookup(system, [key])).records
            if record is None:
                record = (await self.tombstones(system, [key])).get(key)
            if record is not None:
                person.numbers.add(record)
            elif not await self._one(_MENTIONED, *(system, key) * 3) and not await self.erased(system, [key]):
                person.unknown.append((system, key))
        for memory in (await self.recall(sorted(person.numbers))).values():
            person.places |= {(name, side.key) for name, side in memory.sides.items()}
        person.numbers |= {reservation(*place) for place in person.places}
        for number in sorted(person.numbers):
            person.places |= {(row[0], row[1]) for row in await self._all(_BURIED, number)}
        person.numbers |= {reservation(*place) for place in person.places}
        return person

    async def _doubtful(self, person: _Person) -> AsyncIterator[DeadLetter]:
        """Dead letters that may be the person, too: they would be taken in as somebody new."""
        keys = await self.match_keys(sorted(person.numbers))
        shared = await self.candidates(sorted({key for its in keys.values() for key in its}))
        holders = {number for its in shared.values() for number in its}
        async for letters in self.walk_letters(discarded=True):
            for letter in letters:
                place = (letter.system, letter.key)
                may_be = reservation(*place) in holders or not person.numbers.isdisjoint(letter.candidates)
                if may_be and place not in person.places:
                    yield letter

    # --- table by table ---

    async def _erase(self, person: _Person) -> list[Request]:
        places, numbers = sorted(person.places), sorted(person.numbers)
        commit = Commit(meta={NUMBERED: str(await self.next_record() - 1)}, forget=numbers)
        commit.revived = commit.alive = commit.arrived = commit.adopted = places
        commit.checkpoints = {system: None for system, key in places if named_by(await self.checkpoint(system), key)}
        marks: list[Row] = [(mark,) for place in places for mark in self._marks(*place)]
        await self._apply([*self._rows.steps(commit, 0.0), Put(ERASED, ("mark",), marks, ())])
        await self._apply([query for place in places for query in _hanging_on(place)])
        for number in numbers:
            await self._erase_audit(number)
        await self._erase_intents(person.numbers)
        await self._erase_messages(places)
        await self._erase_answers(places)
        return await self._erase_requests(person)

    async def _erase_audit(self, record: int) -> None:
        """Drops the values of a record's audit, and of those that it was, as long as it was."""
        old = "UPDATE audit SET body = ? WHERE record = ? AND lowest IS NULL AND at <= ?"
        numbers = {record: math.inf, **await self.former(record)}
        await self._apply([Query(old, (_NO_VALUES, number, until)) for number, until in numbers.items()])

    async def _erase_intents(self, records: Collection[int]) -> None:
        for number, batch in (await self.journal()).items():
            rest = [intent for intent in batch if intent.record not in records]
            if len(rest) < len(batch):
                await self._apply(self._rows.steps(Commit(settled=[number]), 0.0))
                await self._apply(self._rows.steps(Commit(journal={number: rest} if rest else {}), 0.0))

    async def _erase_messages(self, places: Sequence[Place]) -> None:
        """What is said of other records may name the key of one that they matched."""
        keys = {system: naming(key for name, key in places if name == system) for system, _ in places}
        columns = tuple(PENDING.columns)[len(PENDING.key) :]
        async for rows in self._walk(PENDING, columns, "dead = 1"):
            writes = [item for item in map(self._rows.undelivered, rows) if item.message.startswith(UNLINKABLE)]
            commit = Commit(pending=[_scrubbed(item, keys[item.system]) for item in writes if item.system in keys])
            await self._apply(self._rows.steps(commit, 0.0))
        async for letters in self.walk_letters(discarded=True):
            named = [letter for letter in letters if letter.candidates and letter.system in keys]
            commit = Commit(dead=[_scrubbed(each, keys[each.system]) for each in named])
            await self._apply(self._rows.steps(commit, 0.0))

    async def _erase_answers(self, places: Sequence[Place]) -> None:
        async for rows in self._walk(ANSWER, ("at", "body")):
            answers = [(old, without_names(old, places)) for old in map(self._rows.answer, rows)]
            await self._answer_anew([new for old, new in answers if new != old])

    async def _answer_anew(self, answers: Sequence[Answer]) -> None:
        await self._apply([Query("DELETE FROM answer WHERE id = ?", (each.request,)) for each in answers])
        await self._apply(self._rows.steps(Commit(answers=list(answers)), 0.0))

    async def _erase_requests(self, person: _Person) -> list[Request]:
        """Takes out what open requests say of the person; those that say nothing else are answered, and returned."""
        ended: list[Request] = []
        async for rows in self._walk(REQUEST, ("at", "body")):
            for asked in map(self._rows.request, rows):
                rest = without(asked, person.numbers, person.places)
                if rest is None:
                    ended.append(asked)
                elif rest != asked:
                    await self._apply([Query("DELETE FROM request WHERE id = ?", (asked.id,)), self._rows.asking(rest)])
        now = time.time()
        await self._answer_anew([Answer(asked.id, now, refused=(FORGOTTEN,)) for asked in ended])
        return ended

    # --- what is not taken in again ---

    async def erased(self, system: str, keys: Sequence[str]) -> frozenset[str]:
        """See `Store.erased`."""
        if self._anybody_erased is None:
            self._anybody_erased = await self._one("SELECT 1 FROM erased LIMIT 1") is not None
        if not self._anybody_erased or not keys:
            return frozenset()
        by_mark = {mark: key for key in keys for mark in self._marks(system, key)}
        query = f"SELECT e.mark FROM {self.NUMBERS} erased e ON e.mark = j.value"
        return frozenset(by_mark[row[0]] for row in await self._all(query, list(by_mark)))

    async def readmit(self, places: Sequence[Place]) -> frozenset[Place]:
        """See `Store.readmit`."""
        async with self._transaction():
            known = [(system, key) for system, key in places if await self.erased(system, [key])]
            marks: list[Row] = [(mark,) for place in known for mark in self._marks(*place)]
            await self._apply([Drop(ERASED, ERASED.key, marks), *self._rows.steps(Commit(waiting=known), 0.0)])
        self._anybody_erased = None
        return frozenset(known)

    def _marks(self, system: str, key: str) -> set[int]:
        """What is left of an erased key: fingerprints, of what the policy calls its system and of which that is.

        Either may become another one, and the system goes on to have the person.
        """
        layout = self._rows.layout.systems.get(system)
        names = [system] if layout is None else [system, f"\x00{layout.identity}"]
        return {self._mark(f"{name}\x00{key}") for name in names}

    def _mark(self, text: str) -> int:
        digest = blake2b(text.encode(), key=self._key, person=b"fairlead/erased", digest_size=8).digest()
        return int.from_bytes(digest, "big", signed=True)


def _hanging_on(place: Place) -> list[Query]:
    """Forgets what is apart from a place, and lets what refers to it be read again: it may be of another policy."""
    system, key = place
    refers = "FROM orphan WHERE system = ? AND parent = ?"
    again = f"SELECT DISTINCT system, key {refers} ON CONFLICT(system, key) DO NOTHING"
    return [
        Query("DELETE FROM apart WHERE key = ? AND system = ?", (key, system)),
        Query("DELETE FROM apart WHERE other_key = ? AND other_system = ?", (key, system)),
        Query(f"INSERT INTO waiting(system, key) {again}", (system, key)),
        Query(f"DELETE {refers}", (system, key)),
    ]


def _scrubbed(item: Message, names: re.Pattern[str]) -> Message:
    return msgspec.structs.replace(item, message=names.sub("(forgotten)", item.message))


_MENTIONED = " UNION ALL ".join(
    f"SELECT 1 FROM {table} WHERE system = ? AND key = ?" for table in ("dead", "waiting", "orphan")
)
_BURIED = "SELECT system, key FROM tombstone WHERE record = ?"
