"""What a store remembers."""
# ruff: noqa: ARG002, D102 - a test's name is its sentence, and assert is what it says

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from fairlead.engine.case import Operation, Side, Write
from fairlead.model.record import Value
from fairlead.state.base import (
    DISCARDED,
    STALE,
    Commit,
    Conflict,
    DeadLetter,
    Intent,
    Known,
    Recollection,
    StateLocked,
    Store,
    Undelivered,
)
from fairlead.state.history import Counts, RunRecord
from fairlead.state.marks import Marks
from fairlead.state.place import reservation
from fairlead.testing.store.sample import (
    ALL,
    LAYOUT,
    all_conflicts,
    all_letters,
    prints,
    recollection,
    update,
)


class MemoryTests:
    """What was committed is there, as it was, after a restart too."""

    async def test_a_new_store_says_that_every_system_must_be_met(self, again: Callable[[], Store]) -> None:
        made = again()
        assert await made.open(LAYOUT) == ALL
        await made.close()

    async def test_what_was_committed_is_there_after_a_restart(self, again: Callable[[], Store]) -> None:
        side = Side("k1", 77, prints(1, 2), "v1")
        first = again()
        await first.open(LAYOUT)
        key = first.key
        await first.commit(Commit(records=[recollection(1, crm=side)], checkpoints={"crm": "c1"}, meta={STALE: None}))
        await first.close()
        second = again()
        assert await second.open(LAYOUT) == frozenset()
        assert (await second.recall([1]))[1].sides == {"crm": side}
        assert (await second.checkpoint("crm"), second.key) == ("c1", key)
        await second.close()

    @pytest.mark.parametrize("count", [1, 2, 3, 165, 166, 167, 182, 333, 1001])
    async def test_any_number_of_records_in_one_commit_is_there(self, store: Store, count: int) -> None:
        sides = {number: Side(f"k{number}", number, prints(number, 2)) for number in range(1, count + 1)}
        for _ in range(2):  # new ones, and then the same
            await store.commit(Commit(records=[recollection(number, crm=side) for number, side in sides.items()]))
        found = await store.recall(list(sides))
        assert {number: memory.sides["crm"] for number, memory in found.items()} == sides

    async def test_what_must_be_met_is_said_until_someone_took_note(self, again: Callable[[], Store]) -> None:
        for _ in range(2):
            store = again()
            assert await store.open(LAYOUT) == ALL
            await store.close()

    async def test_keys_are_looked_up_in_order(self, store: Store) -> None:
        await store.commit(Commit(records=[recollection(1, crm=Side("a", 7, prints(1, 2)))]))
        assert await store.lookup("crm", ["x", "a"]) == Known([None, 1], [None, 7])
        assert await store.lookup("erp", ["a"]) == Known([None], [None])

    async def test_only_the_sides_that_changed_are_replaced_where_it_is_said_which(self, store: Store) -> None:
        before = recollection(1, crm=Side("a", 7, prints(1, 2)), erp=Side("b", 8, prints(1, 0)))
        after = recollection(1, crm=Side("a", 7, prints(1, 2)), erp=Side("c", 9, prints(3, 0), "v2"))
        new = recollection(2, crm=Side("d", 1, prints(4, 5)), erp=Side("e", 2, prints(4, 0)))
        await store.commit(Commit(records=[before]))
        await store.commit(Commit(records=[after, new], changed=frozenset({"erp"})))
        assert await store.recall([1, 2]) == {1: after, 2: new}
        alone = recollection(1, crm=after.sides["crm"])
        await store.commit(Commit(records=[alone], changed=frozenset({"erp"})))
        assert (await store.recall([1]), await store.lookup("erp", ["c"])) == ({1: alone}, Known([None], [None]))

    async def test_calls_that_overlap_are_done_in_their_order(self, store: Store) -> None:
        one, two = (Commit(records=[recollection(1, crm=Side("a", row, prints(1, 2)))]) for row in (7, 8))
        calls = store.commit(one), store.lookup("crm", ["a"]), store.commit(two), store.lookup("crm", ["a"])
        _, before, _, after = await asyncio.gather(*calls)
        assert (before, after) == (Known([1], [7]), Known([1], [8]))

    async def test_a_key_is_text_whatever_it_looks_like(self, store: Store) -> None:
        await store.commit(Commit(records=[recollection(1, crm=Side("007", 7, prints(1, 2)))]))
        assert await store.lookup("crm", ["7", "007"]) == Known([None, 1], [None, 7])

    async def test_sides_that_agree_and_sides_that_differ_come_back_as_they_were(self, store: Store) -> None:
        agree = recollection(1, crm=Side("a", 1, prints(5, 6)), erp=Side("1", 2, prints(5, 0)))
        differ = recollection(2, crm=Side("b", 1, prints(5, 6)), erp=Side("2", None, prints(9, 0)))
        await store.commit(Commit(records=[agree, differ]))
        found = await store.recall([1, 2, 3])
        assert {record: item.sides for record, item in found.items()} == {1: agree.sides, 2: differ.sides}

    async def test_a_record_is_replaced_as_a_whole(self, store: Store) -> None:
        await store.commit(
            Commit(records=[recollection(1, crm=Side("a", 1, prints(5, 6)), erp=Side("1", 2, prints(5, 0)))])
        )
        after = Recollection(1, {"crm": Side("a", 3, prints(7, 6))}, frozenset({"erp"}))
        await store.commit(Commit(records=[after]))
        found = (await store.recall([1]))[1]
        assert (found.sides, found.away) == (after.sides, after.away)

    async def test_old_values_come_and_go_with_their_record(self, store: Store) -> None:
        side = {"crm": Side("a", 1, prints(5, 6))}
        values: dict[bytes, Value] = {prints(6): {"a": [1, Decimal("0.10"), None]}, prints(7): None}
        await store.commit(Commit(records=[Recollection(1, side, bases={"name": values}), recollection(2)]))
        found = await store.recall([1, 2])
        assert [found[record].bases for record in (1, 2)] == [{"name": values}, {}]
        twice = [Recollection(1, side, bases={"name": {prints(8): text}}) for text in ("first", "last")]
        await store.commit(Commit(records=twice))
        assert (await store.recall([1]))[1].bases == {"name": {prints(8): "last"}}
        await store.commit(Commit(forget=[1]))
        await store.commit(Commit(records=[Recollection(1, side)]))
        assert (await store.recall([1]))[1].bases == {}

    async def test_record_numbers_are_never_used_again(self, store: Store) -> None:
        assert await store.next_record() == 1
        await store.commit(Commit(records=[recollection(4, crm=Side("a", 1, prints(1, 2)))]))
        await store.commit(Commit(forget=[4], tombstones=[("crm", "a", 4)]))
        assert await store.next_record() == 5

    async def test_a_match_key_finds_every_record_that_has_it(self, store: Store) -> None:
        await store.commit(Commit(matches=[(-5, 1), (-5, 2), (9, 3)]))
        found = await store.candidates([-5, 9, 10])
        assert {key: sorted(records) for key, records in found.items()} == {-5: [1, 2], 9: [3]}
        assert await store.match_keys([1, 3]) == {1: [-5], 3: [9]}

    async def test_a_match_key_is_dropped_from_one_record_alone(self, store: Store) -> None:
        await store.commit(Commit(matches=[(5, 1), (5, 2), (6, 1)]))
        await store.commit(Commit(unmatched=[(5, 1)]))
        assert await store.candidates([5, 6]) == {5: [2], 6: [1]}

    async def test_a_new_record_has_each_of_its_match_keys_once(self, store: Store) -> None:
        side = {"crm": Side("a", 1, prints(1, 2))}
        await store.commit(Commit(records=[Recollection(1, side)], matches=[(5, 1), (5, 1), (6, 1)]))
        await store.commit(Commit(records=[Recollection(1, side)], matches=[(5, 1), (7, 1)]))
        assert await store.candidates([5, 6, 7]) == {5: [1], 6: [1], 7: [1]}
        assert {r: sorted(keys) for r, keys in (await store.match_keys([1])).items()} == {1: [5, 6, 7]}

    async def test_a_match_key_that_a_record_had_from_the_first_is_dropped_as_any(self, store: Store) -> None:
        records = [Recollection(record, {"crm": Side(str(record), 1, prints(1, 2))}) for record in (1, 2, 3)]
        await store.commit(Commit(records=records, matches=[(5, 1), (5, 2), (5, 3)]))
        await store.commit(Commit(unmatched=[(5, 1)], forget=[2], matches=[(6, 1)]))
        assert await store.candidates([5, 6]) == {5: [3], 6: [1]}
        assert await store.match_keys([1, 2, 3]) == {1: [6], 3: [5]}

    async def test_a_dead_letter_holds_the_match_keys_that_it_has_now(self, store: Store) -> None:
        number = reservation("crm", "a")
        await store.commit(Commit(matches=[(5, number)]))
        await store.commit(Commit(forget=[number], matches=[(6, number)]))
        assert await store.candidates([5, 6]) == {6: [number]}

    async def test_ambiguity_is_cleared_with_its_dead_letters(self, store: Store) -> None:
        letters = [DeadLetter("crm", "a", "Ambiguous", "m", 1.0), DeadLetter("crm", "b", "ContractBroken", "m", 2.0)]
        await store.commit(Commit(matches=[(5, reservation("crm", "a")), (5, 1)], dead=letters))
        await store.clear_ambiguity()
        assert await store.candidates([5]) == {5: [1]}
        assert await all_letters(store) == letters[1:]

    async def test_a_tombstone_lasts_until_it_is_revived(self, store: Store) -> None:
        await store.commit(Commit(tombstones=[("crm", "a", 3)]))
        assert await store.tombstones("crm", ["a", "b"]) == {"a": 3}
        await store.commit(Commit(revived=[("crm", "a")]))
        assert await store.tombstones("crm", ["a"]) == {}

    async def test_the_journal_holds_writes_to_the_last_digit(self, store: Store) -> None:
        write = Write(
            Operation.UPDATE,
            {"credit": Decimal("12.3400000000000000001"), "tags": ["a", Decimal("0.5")], "none": None},
            {"credit": "crm"},
            {"credit": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)},
            ("credit",),
            {"credit": (prints(1), prints(2))},
            ("credit",),
        )
        intents = [Intent(1, "erp", write, run="one"), Intent(2, "erp", update(name="x"), run="other")]
        await store.commit(Commit(journal={7: intents}))
        assert await store.journal() == {7: intents}
        await store.commit(Commit(settled=[7]))
        assert await store.journal() == {}

    async def test_undelivered_writes_are_given_when_they_are_due(self, store: Store) -> None:
        waiting = Undelivered(
            1, "erp", update(name="x"), 10.0, not_before=50.0, attempts=2, error="Transient", message="m", run="r"
        )
        dead = Undelivered(2, "erp", update(name="y"), 10.0, dead=True)
        held = Undelivered(3, "erp", Write(Operation.DELETE), 10.0, held=True)
        await store.commit(Commit(pending=[waiting, dead, held]))
        assert await store.undelivered(due=49.0) == []
        assert await store.undelivered(due=50.0) == [waiting]
        assert sorted(u.record for u in await store.undelivered(due=50.0, dead=True)) == [1, 2]
        assert await store.undelivered(held=True) == [held]
        await store.commit(Commit(delivered=[(1, "erp")]))
        assert await store.undelivered(due=50.0) == []

    async def test_records_of_which_systems_say_different_things_are_walked(self, store: Store) -> None:
        agree = recollection(1, crm=Side("a", 1, prints(5, 6)), erp=Side("1", 2, prints(5, 0)))
        differ = recollection(2, crm=Side("b", 1, prints(5, 6)), erp=Side("2", None, prints(9, 0)))
        await store.commit(Commit(records=[agree, differ]))
        assert [page async for page in store.differing()] == [[2]]

    async def test_what_was_seen_in_one_system_is_forgotten_and_its_records_are_not(self, store: Store) -> None:
        both = recollection(1, crm=Side("a", 1, prints(5, 6), "v"), erp=Side("1", 2, prints(5, 0)))
        other = recollection(2, crm=Side("b", 1, prints(5, 6)))
        await store.commit(Commit(records=[both, other], checkpoints={"crm": "c", "erp": "e"}))
        await store.unsee("erp")
        found = await store.recall([1, 2])
        assert found[1].sides == {**both.sides, "erp": Side("1", None, prints(0, 0))}
        assert found[2].sides == other.sides
        assert (await store.checkpoint("crm"), await store.checkpoint("erp")) == ("c", None)

    async def test_what_the_guard_holds_is_walked_in_one_order_and_let_go_at_once(self, store: Store) -> None:
        def deletes(*, held: bool) -> list[Undelivered]:
            places = [(record, system) for record in (700, 1, 2) for system in ("erp", "crm")]
            return [Undelivered(record, name, Write(Operation.DELETE), 1.0, held=held) for record, name in places]

        apart = Undelivered(3, "erp", update(name="x"), 1.0)
        await store.commit(Commit(pending=[*deletes(held=True), apart]))
        found = [item async for page in store.held() for item in page]
        assert found == sorted(deletes(held=True), key=lambda item: (item.record, item.system))
        await store.commit(Commit(released=True))
        assert [page async for page in store.held()] == []
        assert {item.held for item in await store.undelivered(due=2.0)} == {False}

    async def test_writes_to_systems_that_cannot_be_reached_are_left_out(self, store: Store) -> None:
        waiting = [Undelivered(n, system, update(name="x"), 1.0) for n, system in enumerate(("crm", "erp"), start=1)]
        await store.commit(Commit(pending=waiting))
        assert await store.undelivered(due=9.0, without=["crm"]) == waiting[1:]
        assert await store.undelivered(due=9.0, without=["crm", "erp"]) == []

    async def test_what_waits_is_due_when_the_clock_was_set_back(self, store: Store) -> None:
        waiting = Undelivered(1, "erp", update(name="x"), 1000.0, not_before=1600.0)
        await store.commit(Commit(pending=[waiting]))
        assert await store.undelivered(due=1000.0) == []
        assert await store.undelivered(due=10.0) == [waiting]

    async def test_pending_writes_and_conflicts_are_part_of_what_is_recalled(self, store: Store) -> None:
        pending = Undelivered(1, "erp", update(name="x"), 10.0)
        conflict = Conflict(1, "name", {"crm": "x", "erp": "y"}, 11.0)
        record = recollection(1, crm=Side("a", 1, prints(1, 2)))
        await store.commit(Commit(records=[record], pending=[pending], frozen=[conflict]))
        found = (await store.recall([1]))[1]
        assert (found.pending, found.frozen) == ({"erp": pending}, {"name": conflict})
        await store.commit(Commit(thawed=[(1, "name")]))
        assert await all_conflicts(store) == []

    async def test_records_that_a_system_lacks_are_walked_without_those_that_left_it(self, store: Store) -> None:
        both = recollection(1, crm=Side("a", 1, prints(1, 2)), erp=Side("1", 1, prints(1, 0)))
        lacking = recollection(2, crm=Side("b", 1, prints(1, 2)))
        left = Recollection(3, {"crm": Side("c", 1, prints(1, 2))}, frozenset({"erp"}))
        await store.commit(Commit(records=[both, lacking, left]))
        assert [page async for page in store.lacking("erp")] == [[2]]

    async def test_records_that_a_scan_did_not_mark_are_walked(self, store: Store) -> None:
        sides = {n: recollection(n, crm=Side(f"k{n}", 1, prints(1, 2))) for n in range(1, 20)}
        await store.commit(Commit(records=list(sides.values())))
        marks = Marks(range(16))
        assert [page async for page in store.unmarked("crm", marks)] == [
            [(16, "k16"), (17, "k17"), (18, "k18"), (19, "k19")]
        ]

    async def test_keys_wait_until_they_arrive(self, store: Store) -> None:
        await store.commit(Commit(waiting=[("crm", "a"), ("crm", "a"), ("erp", "b")]))
        assert await store.waiting("crm") == ["a"]
        await store.commit(Commit(arrived=[("crm", "a")]))
        assert await store.waiting("crm") == []

    async def test_a_dead_letter_keeps_the_time_since_when_it_is_one(self, store: Store) -> None:
        await store.commit(Commit(dead=[DeadLetter("crm", "a", "ContractBroken", "first", 1.0)]))
        await store.commit(Commit(dead=[DeadLetter("crm", "a", "ContractBroken", "second", 9.0)]))
        assert await all_letters(store) == [DeadLetter("crm", "a", "ContractBroken", "second", 1.0)]
        await store.commit(Commit(alive=[("crm", "a")]))
        assert await all_letters(store) == []

    async def test_what_was_discarded_is_no_dead_letter_and_is_not_given_as_one(self, store: Store) -> None:
        dead = Undelivered(1, "erp", update(name="x"), 1.0, error="Invalid", dead=True)
        given_up = Undelivered(2, "erp", Write(Operation.CREATE), 1.0, error=DISCARDED, dead=True)
        letter = DeadLetter("crm", "a", "ContractBroken", "m", 1.0, row=-7)
        passed = DeadLetter("crm", "b", DISCARDED, "m", 1.0, row=7)
        await store.commit(Commit(pending=[dead, given_up], dead=[letter, passed]))
        assert await store.undelivered(due=9.0, dead=True) == [dead]
        assert [page async for page in store.walk_failed()] == [[dead]]
        assert [page async for page in store.walk_letters()] == [[letter]]
        assert await all_letters(store) == [letter, passed]
        assert await store.counts() == Counts(records=0, pending=0, held=0, dead=2, conflicts=0)

    async def test_what_was_discarded_holds_its_match_keys_when_ambiguity_is_cleared(self, store: Store) -> None:
        gone, kept = reservation("crm", "a"), reservation("crm", "b")
        letters = [DeadLetter("crm", "a", "Duplicate", "m", 1.0), DeadLetter("crm", "b", DISCARDED, "m", 1.0, row=7)]
        await store.commit(Commit(matches=[(5, gone), (5, kept), (5, 1)], dead=letters))
        await store.clear_ambiguity()
        assert {key: sorted(its) for key, its in (await store.candidates([5])).items()} == {5: sorted([kept, 1])}
        assert await all_letters(store) == letters[1:]

    async def test_conflicts_are_walked_in_pages(self, store: Store) -> None:
        many = [Conflict(n, "name", {"crm": f"v{n}"}, float(-n)) for n in range(1, 1200)]
        await store.commit(Commit(frozen=many))
        pages = [page async for page in store.walk_conflicts()]
        assert ([conflict for page in pages for conflict in page], len(pages) > 1) == (many, True)

    async def test_however_many_dead_letters_there_are_all_are_walked_and_each_is_found(self, store: Store) -> None:
        many = [DeadLetter("crm", f"{n:05}", "ContractBroken", "m", float(-n)) for n in range(10_500)]
        await store.commit(Commit(dead=many))
        assert await all_letters(store) == many
        assert await store.dead_letters([("crm", "10400"), ("erp", "10400"), ("crm", "x")]) == [many[10_400]]

    async def test_keys_that_wait_are_told_in_pages(self, store: Store) -> None:
        keys = [f"{n:05}" for n in range(10_500)]
        await store.commit(Commit(waiting=[("crm", key) for key in reversed(keys)]))
        found: list[str] = []
        while page := await store.waiting("crm", found[-1] if found else ""):
            found += page
        assert found == keys

    async def test_counts_are_of_what_is_there(self, store: Store) -> None:
        await store.commit(
            Commit(
                records=[recollection(1, crm=Side("a", 1, prints(1, 2)))],
                pending=[
                    Undelivered(1, "erp", update(name="x"), 1.0),
                    Undelivered(2, "erp", update(name="x"), 1.0, dead=True),
                    Undelivered(3, "erp", update(name="x"), 1.0, held=True),
                ],
                dead=[DeadLetter("crm", "z", "Duplicate", "m", 1.0)],
                frozen=[Conflict(1, "name", {}, 1.0)],
            )
        )
        assert await store.counts() == Counts(records=1, pending=1, held=1, dead=2, conflicts=1)
        assert (await store.known("crm"), await store.known("erp")) == (1, 0)
        await store.commit(Commit(records=[recollection(2, crm=Side("b", 1, prints(1, 2)))]))
        assert (await store.counts()).records == 2
        await store.commit(Commit(forget=[1, 2]))
        assert (await store.counts()).records == 0

    async def test_facts_are_kept_and_removed(self, store: Store) -> None:
        await store.commit(Commit(meta={"met": "crm"}))
        assert await store.meta("met") == "crm"
        await store.commit(Commit(meta={"met": None}))
        assert await store.meta("met") is None

    async def test_the_history_gives_the_newest_runs_first_and_ends_at_a_hundred(self, store: Store) -> None:
        for n in range(105):
            await store.record_run(RunRecord(f"r{n:03}", "Changes", float(n), n + 0.5, "Succeeded", "", {"read": n}))
        assert [run.id for run in await store.history(2)] == ["r104", "r103"]
        assert len(await store.history(1000)) == 100

    async def test_a_run_is_the_newest_although_the_clock_was_set_back(self, store: Store) -> None:
        for n, started in enumerate((1000.0, 2000.0, 5.0, 6.0)):
            await store.record_run(RunRecord(f"r{n}", "Changes", started, started, "Succeeded", "", {}))
        assert [(run.id, run.started) for run in await store.history(3)] == [("r3", 6.0), ("r2", 5.0), ("r1", 2000.0)]

    async def test_a_commit_that_fails_changes_nothing(self, store: Store) -> None:
        await store.commit(Commit(records=[recollection(1, crm=Side("a", 1, prints(1, 2)))]))
        twice = recollection(2, crm=Side("a", 1, prints(1, 2)))
        with pytest.raises(Exception):  # noqa: B017, PT011 - a key belongs to one record; how a store says so is its own
            await store.commit(Commit(records=[twice], checkpoints={"crm": "moved"}))
        assert (await store.checkpoint("crm"), await store.recall([2])) == (None, {})

    async def test_a_second_worker_is_kept_out(self, store: Store, again: Callable[[], Store]) -> None:
        other = again()
        with pytest.raises(StateLocked, match="another worker"):
            await other.open(LAYOUT)
