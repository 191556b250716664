"""Words: what came of all that persons asked, as far as invariants must know it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from fairlead.engine.case import EDIT, UNDO, FindingKind
from fairlead.state.audit import OLD, AuditEntry, AuditQuery, WriteKind, created_records
from fairlead.state.base import DISCARDED
from fairlead.state.place import Place
from fairlead.state.requests import Link, ResolveConflicts, Split, Undo
from support.histories import InlineStore, items, parts
from support.persons import Persons


class Words(msgspec.Struct):
    """What persons said. Values are as `parts` leaves them.

    Attributes:
        families: record → the numbers of all that it was one with.
        apart: (record, field) of which systems differ since an undo.
        discarded: (record, system, field) that is not written any more; the field is empty for the whole record.
        chosen: values that ended a conflict.
        given: those of them that a person thought up.
        undone: values that an undo replaced.
        linked: pairs of places that were linked, of which nothing else was said since.
        haunted: records that share a match value with one that is nowhere, and that waits as a dead letter.
        open: requests that have no answer.
        not_undone: (record, system) of deletes of undos that the undone run had not created.
    """

    families: dict[int, frozenset[int]] = {}
    apart: set[tuple[int, str]] = set()
    discarded: set[tuple[int, str, str]] = set()
    chosen: set[object] = set()
    given: set[object] = set()
    undone: set[object] = set()
    linked: list[tuple[Place, Place]] = []
    haunted: set[int] = set()
    open: list[str] = []
    not_undone: list[tuple[int, str]] = []

    def numbers(self, record: int) -> frozenset[int]:
        """All numbers that the record has, or had."""
        return self.families.get(record, frozenset((record,)))

    def differ(self, record: int, field: str) -> bool:
        """Whether systems may differ in a field since an undo."""
        return any((number, field) in self.apart for number in self.numbers(record))

    def given_up(self, record: int, system: str, field: str) -> bool:
        """Whether a write was discarded."""
        its = [(number, system) for number in self.numbers(record)]
        return any((*each, name) in self.discarded for each in its for name in (field, ""))


async def words_of(store: InlineStore, persons: Persons) -> Words:
    """What came of all that was asked."""
    words = Words()
    if not persons.asked:
        return words
    words.haunted = await _haunted(store)
    words.families = _families(await store._all("SELECT record, other FROM former"))
    answers = {request.id: await store.answer(request.id) for request in persons.asked}
    words.open = [request for request, answer in answers.items() if answer is None]
    for request in persons.asked:
        answer, demand = answers[request.id], request.demand
        if answer is None or not answer.done:
            continue
        if isinstance(demand, Link | Split):
            places = {demand.one, demand.other} if isinstance(demand, Link) else {demand.place}
            words.linked = [pair for pair in words.linked if places.isdisjoint(pair)]
            words.linked += [(demand.one, demand.other)] if isinstance(demand, Link) else []
        elif isinstance(demand, ResolveConflicts) and demand.value:
            words.given |= items(msgspec.json.decode(demand.value))
    entries = [each.entry for each in reversed(await store.audit(AuditQuery(), limit=1_000_000))]
    undone = {request.demand.run for request in persons.asked if isinstance(request.demand, Undo)}
    updates = [each for each in entries if each.run in undone and each.kind == WriteKind.UPDATED]
    before: dict[tuple[str, int, str], set[str]] = {}
    for each in updates:
        before.setdefault((each.run, each.record, each.field), set()).add(str(each.values.get(OLD)))
    words.apart = {(each.record, each.field) for each in updates if each.rule != EDIT}
    words.apart |= {key[1:] for key, olds in before.items() if len(olds) > 1}  # each has its own back, spelling and all
    taken = {(_taken_back(e), e.record, e.field, e.system) for e in entries if _taken_back(e)}
    fields = {its[:3] for its in taken}
    words.apart |= {  # where it was made nobody knows what was there before
        (e.record, e.field)
        for e in updates
        if (e.run, e.record, e.field) in fields and (e.run, e.record, e.field, e.winner) not in taken
    }
    for entry in entries:
        _weigh(entry, entries, words)
    return words


def _taken_back(entry: AuditEntry) -> str:
    """The run that an undo's write takes back; nothing for what is none."""
    whole = entry.system and entry.rule.startswith(f"{UNDO} ")
    return entry.rule.removeprefix(f"{UNDO} ").partition(",")[0] if whole else ""


def _weigh(entry: AuditEntry, entries: list[AuditEntry], words: Words) -> None:
    values = entry.values.values() if entry.kind != WriteKind.CREATED else ()
    said = {part for value in values for part in parts(value)}
    if entry.kind == FindingKind.RESOLVED:
        words.chosen |= said
    elif entry.kind == DISCARDED:
        words.discarded |= {(entry.record, system, entry.field) for system in entry.values}
    elif entry.system and entry.rule.startswith(f"{UNDO} "):
        words.undone |= said
        run = _taken_back(entry)
        its = [each for each in entries if each.run == run and each.system == entry.system]
        created = [record for each in its if each.kind == WriteKind.CREATED for record in created_records(each)]
        if entry.kind == WriteKind.DELETED and entry.record not in created:
            words.not_undone.append((entry.record, entry.system))


async def _haunted(store: InlineStore) -> set[int]:
    sharing = [record async for page in store.sharing() for record in page]
    keys = await store.match_keys(sharing)
    memories = await store.recall(list(keys))
    nowhere = {key for record, memory in memories.items() if not memory.sides for key in keys[record]}
    return {record for record, its in keys.items() if nowhere.intersection(its)}


def _families(pairs: list[Any]) -> Mapping[int, frozenset[int]]:
    found: dict[int, frozenset[int]] = {}
    for one, other in pairs:
        both = found.get(one, frozenset((one,))) | found.get(other, frozenset((other,)))
        found |= dict.fromkeys(both, both)
    return found
