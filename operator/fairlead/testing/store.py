"""Conformance suite of `state.base.Store`: what every store must do.

Inherit from `StoreSuite` and give it two fixtures: `again` makes the same store each time it is called, `elsewhere`
another one, which may be of another kind:

    class TestMyStore(StoreSuite):
        @pytest.fixture
        def again(self, tmp_path) -> Callable[[], Store]:
            return lambda: MyStore(tmp_path / "state")

        @pytest.fixture
        def elsewhere(self, tmp_path) -> Callable[[], Store]:
            return lambda: MyStore(tmp_path / "other")

The tests need pytest with pytest-asyncio in auto mode.
"""
# ruff: noqa: ARG002, D102 - a test's name is its sentence, and assert is what it says

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from datetime import UTC, datetime
from decimal import Decimal

import msgspec
import pytest

from fairlead.engine.case import Operation, Side, Write
from fairlead.engine.fingerprint import WIDTH
from fairlead.model.record import Value
from fairlead.state.base import (
    STALE,
    AuditEntry,
    Commit,
    Conflict,
    Counts,
    DeadLetter,
    Found,
    Intent,
    Layout,
    Recollection,
    RunRecord,
    StateError,
    StateKeyWrong,
    StateLocked,
    Store,
    SystemLayout,
    Undelivered,
    reservation,
)

LAYOUT = Layout(
    ("email", "name"),
    {
        "crm": SystemLayout("crm/customers", {"email": "email", "name": "name"}),
        "erp": SystemLayout("erp/customer", {"email": "mail"}),
    },
    kept=("name",),
)
ALL = frozenset(LAYOUT.systems)


def prints(*fields: int) -> bytes:
    """Fingerprints by number; 0 is unseen."""
    return b"".join(number.to_bytes(WIDTH, "big") for number in fields)


def recollection(record: int, **sides: Side) -> Recollection:
    """A record with these sides."""
    return Recollection(record, sides)


def update(**values: str) -> Write:
    """An update that came from the CRM."""
    return Write(Operation.UPDATE, dict(values), dict.fromkeys(values, "crm"))


KEY, OTHER_KEY = b"k" * 32, b"o" * 32

WITH_VALUES = Commit(
    journal={1: [Intent(1, "erp", update(name="in the journal"))]},
    pending=[Undelivered(1, "erp", update(name="undelivered"), 1.0, message="refused 'undelivered'")],
    frozen=[Conflict(1, "name", {"crm": "x", "erp": "y"}, 1.0)],
    dead=[DeadLetter("crm", "a", "ContractBroken", "bad 'value'", 1.0)],
    audit=[AuditEntry(1.0, "r1", 1, "name", "Conflict", "onConflict: Manual", "", {"crm": "audited"})],
)
"""One of everything that holds values."""


async def values_of(store: Store) -> tuple[object, ...]:
    """What a store says of them."""
    pending = await store.undelivered(due=1e12, dead=True)
    return (await store.journal(), pending, await store.conflicts(), await store.dead_letters())


async def fill(store: Store) -> None:
    """Puts something of every kind into a store; some of it sealed."""
    sides = {"crm": Side("a\n\u2028", -(2**63), prints(5, 6), "v1"), "erp": Side("1", None, prints(7, 0))}
    bases: dict[str, dict[bytes, Value]] = {"name": {prints(6): ["old", Decimal("0.10")], prints(8): None}}
    apart = Recollection(2, {"crm": Side("b", 2**63 - 1, prints(5, 6))}, frozenset({"erp"}))
    await store.record_run(RunRecord("r1", "Changes", 1.5, 2.5, "Succeeded", "", {"read": 3}))
    await store.erase("crm", "somebody")
    await store.unlock([KEY])
    await store.commit(WITH_VALUES)
    await store.commit(
        Commit(
            records=[Recollection(1, sides, bases=bases), apart, recollection(3, crm=Side("c", 1, prints(1, 2)))],
            matches=[(-(2**63), 1), (5, 2), (5, reservation("crm", "x"))],
            tombstones=[("erp", "t", 9)],
            waiting=[("crm", "w")],
            checkpoints={"crm": "c1"},
            meta={"met": "crm", STALE: None},
        )
    )


async def streamed(lines: Iterable[bytes]) -> AsyncIterator[bytes]:
    """Line by line, as a file is read."""
    for line in b"".join(lines).splitlines(keepends=True):
        yield line


class StoreSuite:
    """The tests."""

    @pytest.fixture
    async def store(self, again: Callable[[], Store]):  # type: ignore[no-untyped-def]  # noqa: ANN201
        made = again()
        await made.open(LAYOUT)
        yield made
        await made.close()

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

    async def test_what_must_be_met_is_said_until_someone_took_note(self, again: Callable[[], Store]) -> None:
        for _ in range(2):
            store = again()
            assert await store.open(LAYOUT) == ALL
            await store.close()

    async def test_keys_are_looked_up_in_order(self, store: Store) -> None:
        await store.commit(Commit(records=[recollection(1, crm=Side("a", 7, prints(1, 2)))]))
        assert await store.lookup("crm", ["x", "a"]) == [None, Found(1, 7)]
        assert await store.lookup("erp", ["a"]) == [None]

    async def test_a_key_is_text_whatever_it_looks_like(self, store: Store) -> None:
        await store.commit(Commit(records=[recollection(1, crm=Side("007", 7, prints(1, 2)))]))
        assert await store.lookup("crm", ["7", "007"]) == [None, Found(1, 7)]

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
        assert await store.dead_letters() == letters[1:]

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
        await store.commit(Commit(journal={7: [Intent(1, "erp", write)]}))
        assert await store.journal() == {7: [Intent(1, "erp", write)]}
        await store.commit(Commit(settled=[7]))
        assert await store.journal() == {}

    async def test_undelivered_writes_are_given_when_they_are_due(self, store: Store) -> None:
        waiting = Undelivered(
            1, "erp", update(name="x"), 10.0, not_before=50.0, attempts=2, error="Transient", message="m"
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
        assert await store.conflicts() == []

    async def test_records_that_a_system_lacks_are_walked_without_those_that_left_it(self, store: Store) -> None:
        both = recollection(1, crm=Side("a", 1, prints(1, 2)), erp=Side("1", 1, prints(1, 0)))
        lacking = recollection(2, crm=Side("b", 1, prints(1, 2)))
        left = Recollection(3, {"crm": Side("c", 1, prints(1, 2))}, frozenset({"erp"}))
        await store.commit(Commit(records=[both, lacking, left]))
        assert [page async for page in store.lacking("erp")] == [[2]]

    async def test_records_that_a_scan_did_not_mark_are_walked(self, store: Store) -> None:
        sides = {n: recollection(n, crm=Side(f"k{n}", 1, prints(1, 2))) for n in range(1, 20)}
        await store.commit(Commit(records=list(sides.values())))
        marks = bytearray(b"\xff\xff\x00")
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
        assert await store.dead_letters() == [DeadLetter("crm", "a", "ContractBroken", "second", 1.0)]
        await store.commit(Commit(alive=[("crm", "a")]))
        assert await store.dead_letters() == []

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

    async def test_the_audit_only_grows(self, store: Store) -> None:
        entry = AuditEntry(1.0, "r1", 1, "name", "Conflict", "onConflict: Manual", "", {"crm": "x"})
        await store.commit(Commit(audit=[entry]))
        await store.commit(Commit(audit=[entry]))
        assert await store.next_record() == 2

    # --- values that are sealed ---

    async def test_values_are_read_with_their_key_alone(self, again: Callable[[], Store]) -> None:
        first = again()
        await first.open(LAYOUT)
        await first.unlock([KEY])
        await first.commit(WITH_VALUES)
        expected = await values_of(first)
        await first.close()
        second = again()
        await second.open(LAYOUT)
        with pytest.raises(StateKeyWrong, match="add that key"):
            await values_of(second)
        await second.unlock([KEY])
        assert await values_of(second) == expected
        await second.close()

    async def test_old_values_are_sealed_with_the_rest(self, again: Callable[[], Store]) -> None:
        first = again()
        await first.open(LAYOUT)
        await first.commit(Commit(records=[Recollection(1, {}, bases={"name": {prints(6): "old value"}})]))
        await first.unlock([KEY])
        assert b"old value" not in b"".join([lines async for lines in first.export()])
        await first.close()
        second = again()
        await second.open(LAYOUT)
        with pytest.raises(StateKeyWrong, match="add that key"):
            await second.recall([1])
        await second.unlock([KEY])
        assert (await second.recall([1]))[1].bases == {"name": {prints(6): "old value"}}
        await second.close()

    async def test_a_wrong_or_lost_key_is_told_and_changes_nothing(self, store: Store) -> None:
        await store.unlock([KEY])
        await store.commit(WITH_VALUES)
        expected = await values_of(store)
        for keys in ([OTHER_KEY], []):
            with pytest.raises(StateKeyWrong, match="add that key"):
                await store.unlock(keys)
        await store.unlock([KEY])
        assert await values_of(store) == expected

    async def test_a_new_key_before_the_old_one_seals_everything_anew(self, store: Store) -> None:
        many = [Conflict(n, "name", {"crm": f"v{n}"}, float(n)) for n in range(10, 1300)]
        await store.commit(WITH_VALUES)
        await store.commit(Commit(frozen=many))
        expected = await values_of(store)
        for keys in ([KEY], [OTHER_KEY, KEY], [OTHER_KEY]):
            await store.unlock(keys)
            assert await values_of(store) == expected
        with pytest.raises(StateKeyWrong):
            await store.unlock([KEY])

    async def test_a_key_that_seals_nothing_may_go(self, store: Store) -> None:
        await store.unlock([KEY])
        await store.unlock([])
        await store.commit(WITH_VALUES)
        await store.unlock([OTHER_KEY])
        assert len(await store.conflicts()) == 1

    async def test_what_is_older_than_the_retention_goes_and_what_is_open_stays(self, store: Store) -> None:
        await store.commit(WITH_VALUES)
        await store.commit(Commit(records=[recollection(1, crm=Side("a", 1, prints(1, 2)))]))
        for started in (5.0, 15.0):
            await store.record_run(RunRecord(f"r{started}", "Changes", started, started, "Succeeded", "", {}))
        before = await values_of(store)
        await store.expire(10.0)
        assert await values_of(store) == before
        assert [run.started for run in await store.history(9)] == [15.0]
        assert (await store.known("crm"), await store.counts()) == (1, Counts(1, 1, 0, 1, 1))

    # --- erasing a person ---

    async def test_an_erased_person_leaves_no_value_and_nobody_else_is_touched(self, store: Store) -> None:
        sides = {"crm": Side("a", 1, prints(1, 2)), "erp": Side("1", 2, prints(1, 0))}
        other = recollection(2, crm=Side("b", 1, prints(3, 4)))
        kept = Intent(2, "erp", update(name="kept"))
        await store.commit(WITH_VALUES)
        await store.commit(
            Commit(
                records=[Recollection(1, sides), other],
                journal={2: [Intent(1, "erp", update(name="mine")), kept]},
                matches=[(5, 1), (6, 2)],
                tombstones=[("crm", "earlier", 1)],
                waiting=[("crm", "a"), ("crm", "b")],
            )
        )
        keys = await store.erase("erp", "1")
        assert keys == {("crm", "a"), ("crm", "earlier"), ("erp", "1")}
        assert await values_of(store) == ({1: [], 2: [kept]}, [], [], [])
        assert await store.recall([1, 2]) == {2: other}
        assert await store.candidates([5, 6]) == {6: [2]}
        assert await store.waiting("crm") == ["b"]
        assert b"audited" not in b"".join([lines async for lines in store.export()])

    async def test_an_erased_key_is_known_for_ever(self, again: Callable[[], Store]) -> None:
        store = again()
        await store.open(LAYOUT)
        assert await store.erased("crm", ["a", "b"]) == frozenset()
        await store.erase("crm", "a")
        assert await store.erased("crm", ["a", "b"]) == {"a"}
        assert await store.erased("erp", ["a"]) == frozenset()
        await store.close()
        reopened = again()
        await reopened.open(LAYOUT)
        assert await reopened.erased("crm", ["b", "a"]) == {"a"}
        await reopened.close()

    async def test_a_person_who_is_deleted_or_a_dead_letter_can_be_erased(self, store: Store) -> None:
        await store.commit(WITH_VALUES)
        await store.commit(Commit(tombstones=[("crm", "gone", 1)]))
        assert await store.erase("crm", "gone") == {("crm", "gone")}
        assert await store.tombstones("crm", ["gone"]) == {}
        assert await store.conflicts() == []
        assert await store.erase("crm", "a") == {("crm", "a")}
        assert await store.dead_letters() == []

    # --- moving to another store ---

    async def test_what_was_exported_can_be_imported_and_exported_again(
        self, again: Callable[[], Store], elsewhere: Callable[[], Store]
    ) -> None:
        first = again()
        await first.open(LAYOUT)
        await fill(first)
        exported = [lines async for lines in first.export()]
        key = first.key
        await first.close()
        second = elsewhere()
        assert await second.restore(streamed(exported)) == 3
        assert second.key == key
        assert b"".join([lines async for lines in second.export()]) == b"".join(exported)
        await second.close()
        reopened = elsewhere()
        assert await reopened.open(LAYOUT) == frozenset()
        assert await reopened.known("crm") == 3
        await reopened.unlock([KEY])
        assert len(await reopened.conflicts()) == 1
        await reopened.close()

    async def test_old_values_move_along(self, again: Callable[[], Store], elsewhere: Callable[[], Store]) -> None:
        layout = Layout(LAYOUT.fields, LAYOUT.systems, kept=("name",))
        side = Side("a", 1, prints(5, 6))
        record = Recollection(1, {"crm": side}, bases={"name": {prints(6): "old", prints(7): Decimal("1.50")}})
        first = again()
        await first.open(layout)
        await first.unlock([KEY])
        await first.commit(Commit(records=[record]))
        exported = [lines async for lines in first.export()]
        await first.close()
        second = elsewhere()
        await second.restore(streamed(exported))
        await second.unlock([OTHER_KEY, KEY])
        assert await second.recall([1]) == {1: record}
        await second.erase("crm", "a")
        assert await second.recall([1]) == {}
        await second.close()

    async def test_a_state_is_imported_into_an_empty_store_only(
        self, store: Store, elsewhere: Callable[[], Store]
    ) -> None:
        await fill(store)
        exported = [lines async for lines in store.export()]
        second = elsewhere()
        await second.open(LAYOUT)
        await second.record_run(RunRecord("r", "Changes", 1.0, 1.0, "Succeeded", "", {}))
        await second.close()
        second = elsewhere()
        with pytest.raises(StateError, match="not empty"):
            await second.restore(streamed(exported))
        await second.close()

    @pytest.mark.parametrize(
        ("spoil", "message"),
        [
            (lambda lines: lines[:0], "line 1 does not begin an exported state"),
            (lambda lines: [b"hello", *lines[1:]], "line 1 does not begin an exported state"),
            (lambda lines: [lines[0].replace(b'"version":1', b'"version":99'), *lines[1:]], "newer version"),
            (lambda lines: lines[:-1], "it was cut off"),
            (lambda lines: [*lines[:3], *lines[4:]], "holds .* lines, and does not"),
            (lambda lines: [*lines, lines[1]], "holds .* lines, and does not"),
            (lambda lines: [lines[0].replace(b'"erp":', b'"shop":'), *lines[1:]], "line 2 has a record that line 1"),
            (lambda lines: [*lines[:1], lines[1].replace(b'00"', b'"'), *lines[2:]], "line 2 has a record that line 1"),
            (lambda lines: [*lines[:2], b'{"type":"meta","name":"epoch","value":"0"}\n', *lines[3:]], "line 3 is not"),
            (lambda lines: [*lines[:2], b'{"type":"guess"}\n', *lines[3:]], "line 3 is not a line"),
            (lambda lines: [*lines[:2], b'{"type":"match","key":"5","record":1}\n', *lines[3:]], "line 3 is not a"),
        ],
    )
    async def test_a_file_that_is_not_whole_is_refused_as_a_whole(
        self,
        store: Store,
        elsewhere: Callable[[], Store],
        spoil: Callable[[list[bytes]], list[bytes]],
        message: str,
    ) -> None:
        await fill(store)
        lines = b"".join([lines async for lines in store.export()]).splitlines(keepends=True)
        second = elsewhere()
        with pytest.raises(StateError, match=message):
            await second.restore(streamed(spoil(lines)))
        await second.close()
        second = elsewhere()
        assert await second.open(LAYOUT) == ALL
        assert await second.counts() == Counts(0, 0, 0, 0, 0)
        await second.close()

    # --- another layout ---

    async def reopened(self, again: Callable[[], Store], layout: Layout) -> tuple[Store, frozenset[str]]:
        """A store with one record, opened again for another layout."""
        first = again()
        await first.open(LAYOUT)
        sides = {"crm": Side("a", 1, prints(5, 6)), "erp": Side("1", 2, prints(5, 0))}
        checkpoints: dict[str, str | None] = {"crm": "c", "erp": "e"}
        await first.commit(Commit(records=[Recollection(1, sides)], checkpoints=checkpoints, meta={STALE: None}))
        await first.close()
        second = again()
        return second, await second.open(layout)

    async def test_a_new_field_is_unseen_everywhere(self, again: Callable[[], Store]) -> None:
        crm = SystemLayout("crm/customers", {"name": "name", "phone": "phone", "email": "email"})
        layout = Layout(("name", "phone", "email"), {"crm": crm, "erp": LAYOUT.systems["erp"]})
        store, stale = await self.reopened(again, layout)
        side = (await store.recall([1]))[1].sides["crm"]
        assert (side.prints, side.row) == (prints(6, 0, 5), None)
        assert (stale, await store.checkpoint("crm")) == (ALL, None)
        await store.close()

    async def test_a_remapped_field_is_unseen_where_it_was_remapped(self, again: Callable[[], Store]) -> None:
        crm = SystemLayout("crm/customers", {"email": "email", "name": "full_name"})
        store, stale = await self.reopened(again, Layout(LAYOUT.fields, {"crm": crm, "erp": LAYOUT.systems["erp"]}))
        sides = (await store.recall([1]))[1].sides
        assert (sides["crm"].prints, sides["erp"].prints) == (prints(5, 0), prints(5, 0))
        assert (stale, await store.checkpoint("erp")) == (frozenset({"crm"}), "e")
        await store.close()

    async def test_a_field_whose_old_values_are_kept_from_now_on_is_read_anew_and_not_forgotten(
        self, again: Callable[[], Store]
    ) -> None:
        store, stale = await self.reopened(again, msgspec.structs.replace(LAYOUT, kept=("email", "name")))
        found = (await store.recall([1]))[1].sides
        assert (found["crm"], found["erp"]) == (Side("a", None, prints(5, 6)), Side("1", None, prints(5, 0)))
        assert (stale, await store.checkpoint("crm"), await store.checkpoint("erp")) == (ALL, None, None)
        await store.close()

    async def test_old_values_of_a_field_that_is_not_kept_any_more_are_gone(self, again: Callable[[], Store]) -> None:
        first = again()
        await first.open(LAYOUT)
        await first.commit(
            Commit(records=[Recollection(1, {}, bases={"name": {prints(6): "old"}})], meta={STALE: None})
        )
        await first.close()
        for layout in (msgspec.structs.replace(LAYOUT, kept=()), LAYOUT):
            store = again()
            await store.open(layout)
            assert (await store.recall([1]))[1].bases == {}
            await store.close()

    async def test_a_removed_system_is_forgotten_and_the_record_is_not(self, again: Callable[[], Store]) -> None:
        store, _ = await self.reopened(again, Layout(LAYOUT.fields, {"crm": LAYOUT.systems["crm"]}))
        assert set((await store.recall([1]))[1].sides) == {"crm"}
        await store.close()

    async def test_another_object_is_another_system(self, again: Callable[[], Store]) -> None:
        erp = SystemLayout("erp/another_table", {"email": "mail"})
        store, stale = await self.reopened(again, Layout(LAYOUT.fields, {"crm": LAYOUT.systems["crm"], "erp": erp}))
        assert (set((await store.recall([1]))[1].sides), stale) == ({"crm"}, frozenset({"erp"}))
        await store.close()
