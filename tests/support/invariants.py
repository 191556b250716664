"""What must hold once users and faults have stopped and the worker came to rest, whatever happened before."""

from __future__ import annotations

from typing import Any

from fairlead.connectors.base import Operation
from fairlead.engine.rules import FieldRule
from fairlead.model.syncpolicy import ConflictRule, Edits, FirstSync, WhenEmpty
from fairlead.state.base import Recollection
from fairlead.testing.store.sample import all_letters
from fairlead.worker.doubts import Doubt, doubts
from fairlead.worker.matching import places_of
from fairlead.worker.reading import StoredPage
from support.histories import OUT, InlineStore, Replay, audited, core
from support.words import Words, words_of

EXTRA = 3
"""Rounds that a history may need to come to rest."""


async def check(replay: Replay) -> None:
    """Everything below."""
    rounds = await replay.rest()
    assert rounds <= EXTRA + 1, f"comes to rest only after {rounds} rounds"
    assert replay.over_guard == [], "deletes passed the guard"
    session = await replay._open()
    store = session.store
    assert isinstance(store, InlineStore)
    assert await store.journal() == {}, "the journal is not empty at rest"
    letters = {(letter.system, letter.key) for letter in await all_letters(store)}
    memories = await replay.memories()
    nothing_is_created_twice(replay, letters)
    every_record_is_known(replay, memories, letters)
    what_is_remembered_is_true(replay, memories, letters)
    entries, words = await audited(store), await words_of(store, replay.persons)
    every_system_agrees(replay, [m for m in memories if not _returned(replay, m, entries, words)], words)
    every_record_is_everywhere(
        replay, memories, [each async for page in doubts(store) for each in page] if replay.persons.asked else [], words
    )
    the_only_editor_takes_nobodys_value(replay, words)
    conflicts_are_won_as_their_rule_says(replay, entries)
    await no_value_is_lost_silently(replay, words)
    await what_a_person_asked_is_done_once(replay, words)
    assert replay.echoes == [], "what we wrote came back as a change"


def nothing_is_created_twice(replay: Replay, letters: set[tuple[str, str]]) -> None:
    for name, system in replay.systems.items():
        found: dict[Any, list[str]] = {}
        for key, row in system.records.items():
            found.setdefault(core(row["m"]), []).append(key)
        for thing, keys in found.items():
            rule = replay.rules.systems[name]
            if replay.persons.copies[str(thing)]:
                single = [key for key in keys if (name, key) not in letters]
                assert len(single) <= 1 + replay.persons.copies[str(thing)], f"{name} has {thing} too often"
                continue
            if not system.traits.find and rule.mapping.selective:
                continue  # nobody can know what the filter excludes
            blind = not system.traits.find and (not rule.reads or name in replay.skipped)
            unavoidable = blind or (name, str(thing)) in replay.raced
            told = unavoidable and len(keys) == 2 and any((name, key) in letters for key in keys)
            assert len(keys) == 1 or told, f"{name} has {thing} twice"


def every_record_is_known(replay: Replay, memories: list[Recollection], letters: set[tuple[str, str]]) -> None:
    known = {(name, side.key) for memory in memories for name, side in memory.sides.items()}
    for name, system in replay.systems.items():
        rule = replay.rules.systems[name]
        for key, row in system.records.items():
            excluded = (rule.mapping.selective and row.get("x") == OUT) or rule.mapping.is_archived(row)
            assert (name, key) in known or (name, key) in letters or excluded, f"nobody knows {name}/{key}"


def what_is_remembered_is_true(replay: Replay, memories: list[Recollection], letters: set[tuple[str, str]]) -> None:
    for memory in memories:
        for name, side in memory.sides.items():
            row = replay.systems[name].records.get(side.key)
            assert row is not None, f"{name}/{side.key} is remembered and gone"
            if name in memory.away or (name, side.key) in letters:
                continue  # of a dead letter, nothing counts as seen until a person mends it
            assert replay.session is not None
            reader = replay.session.readers[name]
            observed = reader.read(StoredPage([side.key], [row], [None]), [0], [None]).observed[0]
            assert observed.prints == side.prints, f"{name}/{side.key} is remembered otherwise than it is"


def every_system_agrees(replay: Replay, memories: list[Recollection], words: Words) -> None:
    rules = replay.rules
    if rules.first_sync is FirstSync.FILL_EMPTY_ONLY:
        return
    for memory in memories:
        for name, rule in rules.fields.items():
            if name in memory.frozen or name == "m" or words.differ(memory.record, name):
                continue
            rows = {
                s: replay.systems[s].records[side.key].get(name)
                for s, side in memory.sides.items()
                if s not in memory.away and s not in memory.pending and rules.systems[s].maps(name)
                if not words.given_up(memory.record, s, name)
            }
            rows = {s: v or None for s, v in rows.items()}  # a first meeting lets nothing and an empty text be
            values = {core(v) for s, v in rows.items() if name in rules.systems[s].writable}
            readers = {s: core(v) for s, v in rows.items() if rules.systems[s].reads}
            if not any(readers.values()):  # a first meeting overwrites no filled value with none
                values = {core(v) for s, v in rows.items() if s in readers and name in rules.systems[s].writable}
            if rule.when_empty is WhenEmpty.KEEP:
                values -= {None, ""}
            if any(name not in rules.systems[s].writable for s in readers):
                continue  # one that is never written may differ from the others for good
            owners = owners_of(rule) if rule.edits is Edits.SYSTEM_OF_RECORD_ONLY else set()
            if owners and not all(map(readers.get, owners)):
                continue  # the owner says nothing, and nobody else may
            assert len(values) <= 1, (name, rows)
            for owner in owners:
                assert values <= {readers[owner]}, (name, rows, "the owner's value does not stand")


def _returned(replay: Replay, memory: Recollection, entries: list[dict[str, Any]], words: Words) -> bool:
    """Whether a record came back to a system that deleted it, while one that is never written says otherwise."""
    numbers = words.numbers(memory.record)
    back = any(entry["kind"] == "Recreated" and entry["record"] in numbers for entry in entries)
    return back and any(not replay.rules.systems[system].writes for system in memory.sides)


def every_record_is_everywhere(
    replay: Replay, memories: list[Recollection], doubted: list[Doubt], words: Words
) -> None:
    for memory in memories:
        sources = [s for s in memory.sides if replay.rules.systems[s].reads and s not in memory.away]
        ended = any(s not in memory.sides and replay.rules.deletes_spread_from(s) for s in memory.away)
        if not sources or ended:
            continue
        for name, rule in replay.rules.systems.items():
            there = name in memory.sides or name in memory.away or name in memory.pending
            if rule.creates and not there and not _in_doubt(memory, name, doubted, words):
                raise AssertionError(f"record {memory.record} of {memory.sides.keys()} never came to {name}")


def _in_doubt(memory: Recollection, system: str, doubted: list[Doubt], words: Words) -> bool:
    """Whether a person is told that the record may be another one, or one that is nowhere may be it."""
    places = set(places_of(memory))
    mine = any(doubt.place in places and doubt.lacks for doubt in doubted)
    its = [candidate for doubt in doubted if doubt.place[0] == system for candidate in doubt.candidates]
    return mine or any(places.intersection(candidate) for candidate in its) or memory.record in words.haunted


def the_only_editor_takes_nobodys_value(replay: Replay, words: Words) -> None:
    """Where only the system of record may edit a field, it is never given what another system says, but by a person."""
    for name, write in replay.writes():
        if write.operation is not Operation.UPDATE or not replay.rules.systems[name].reads:
            continue
        for field, value in write.values.items():
            if field not in replay.rules.fields:
                continue  # what archives is nobody's value
            rule = replay.rules.fields[field]
            owned = rule.edits is Edits.SYSTEM_OF_RECORD_ONLY and owners_of(rule) == {name}
            said = (name, core(value)) in replay.typed or core(value) in words.chosen | words.undone
            assert not owned or said, f"{name} owns {field}, and was given {value}"


def conflicts_are_won_as_their_rule_says(replay: Replay, entries: list[dict[str, Any]]) -> None:
    """The system of record wins if it takes part, else the first by priority; the last edit; `Manual` nobody.

    Who owned a field at the time, where that depends on the record, is not known any more: any owner may win then.
    """
    for entry in entries:
        if entry["kind"] != "Conflict" or not entry["rule"].startswith("onConflict: "):
            continue
        winners = {_winner(replay, rule, entry) for rule in rules_of(replay.rules.fields[entry["field"]])}
        assert entry["winner"] in winners or "" in winners, (entry, "is not won as its rule says")
        on_conflict = replay.rules.fields[entry["field"]].on_conflict
        assert on_conflict is not ConflictRule.MANUAL, (entry, "a person was to decide")


def _winner(replay: Replay, rule: FieldRule, entry: dict[str, Any]) -> str:
    """Who wins a conflict; empty where only the engine can tell."""
    ranked = [s for s in rule.priority if s in entry["values"]]
    if rule.on_conflict is ConflictRule.SYSTEM_OF_RECORD_WINS:
        return next((s for s in ranked if s == rule.system_of_record), ranked[0])
    if rule.on_conflict is ConflictRule.PRIORITY:
        return ranked[0]
    times = {s: replay.typed.get((s, core(entry["values"][s])), set()) for s in ranked}
    timed = all(rule.field.name in replay.systems[s].traits.timed and len(times[s]) == 1 for s in ranked)
    skewed = any(replay.systems[s].traits.skew for s in ranked)
    chosen = bool(replay.persons.asked) and "by priority" in entry["rule"]  # what a person chose has no time
    if rule.on_conflict is ConflictRule.LATEST_WINS and timed and not (skewed or chosen):
        return max(ranked, key=lambda s: max(times[s]))
    return ""


def rules_of(rule: FieldRule) -> list[FieldRule]:
    """The rule, and the one that holds where its condition is met."""
    return [rule, *([rule.condition.then] if rule.condition else [])]


def owners_of(rule: FieldRule) -> set[str]:
    """The systems that may own the field."""
    return {each.system_of_record for each in rules_of(rule)}


async def no_value_is_lost_silently(replay: Replay, words: Words) -> None:
    lost = (replay.entered | words.given) - replay.standing() - replay.silenced - words.undone
    if lost:
        lost -= await replay.told()
    assert lost == set(), f"lost: {lost}"


async def what_a_person_asked_is_done_once(replay: Replay, words: Words) -> None:
    assert words.open == [], "a request was never answered"
    assert words.not_undone == [], "an undo deleted what the run had not created"
    store = (await replay._open()).store
    for one, other in words.linked:
        records = [(await store.lookup(system, [key])).records[0] for system, key in (one, other)]
        there = [key in replay.systems[system].records for system, key in (one, other)]
        assert not all(there) or records[0] == records[1] or None in records, f"{one} and {other} were linked"
