"""Values that are sealed, expire or are erased."""
# ruff: noqa: D102 - a test's name is its sentence, and assert is what it says

from __future__ import annotations

from collections.abc import Callable

import orjson
import pytest

from fairlead.engine.case import Side
from fairlead.state.audit import AuditEntry, AuditQuery
from fairlead.state.base import (
    DISCARDED,
    Commit,
    Conflict,
    DeadLetter,
    Intent,
    Recollection,
    StateKeyWrong,
    Store,
)
from fairlead.state.history import Counts, RunRecord
from fairlead.state.layout import Layout, SystemLayout
from fairlead.state.referring import Orphan
from fairlead.state.requests import Answer, Request, RetryDeadLetters
from fairlead.testing.store.sample import (
    KEY,
    LAYOUT,
    OTHER_KEY,
    WITH_VALUES,
    all_conflicts,
    all_letters,
    prints,
    recollection,
    update,
    values_of,
)


async def exported(store: Store) -> bytes:
    """All that a store holds."""
    return b"".join([lines async for lines in store.export()])


class PrivacyTests:
    """Values are read with their key alone, and go when they are to go."""

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
        assert len(await all_conflicts(store)) == 1

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

    async def test_the_retention_ends_exactly_when_it_is_over(self, store: Store) -> None:
        entries = [AuditEntry(at, "r1", 1, "name", "Conflict", "", "", {}) for at in (9.999, 10.0, 10.001)]
        await store.commit(Commit(audit=entries, answers=[Answer(f"{at}", at) for at in (9.999, 10.0, 10.001)]))
        await store.commit(Commit(merged=[(7, 1, 9.999), (8, 1, 10.0)]))
        await store.expire(10.0)
        assert [each.entry.at for each in await store.audit(AuditQuery())] == [10.001, 10.0]
        assert [await store.answer(at) is not None for at in ("9.999", "10.0", "10.001")] == [False, True, True]
        former = [line for line in (await exported(store)).splitlines() if b'"former"' in line]
        assert [orjson.loads(line)["other"] for line in former] == [8]

    async def test_nothing_that_is_open_is_ever_dropped_however_old_it_is(self, store: Store) -> None:
        request = Request("0001", 1.0, "ada", RetryDeadLetters(((1, "erp"),)))
        await store.commit(WITH_VALUES)
        await store.commit(
            Commit(
                records=[recollection(1, crm=Side("a", 1, prints(1, 2)))],
                waiting=[("crm", "w")],
                orphans=[Orphan("crm", "a", "name", "9")],
                apart=[(("crm", "a"), ("erp", "1"))],
                dead=[DeadLetter("crm", "given up", DISCARDED, "", 1.0)],
            )
        )
        await store.ask(request)
        before = await exported(store)
        await store.expire(9e15)
        await store.record_run(RunRecord("r", "Changes", 9e15, 9e15, "Succeeded", "", {}))
        gone = set(before.splitlines()) - set((await exported(store)).splitlines())
        assert {orjson.loads(line)["type"] for line in gone} == {"audit"}

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
        keys = (await store.erase([("erp", "1")])).places
        assert keys == {("crm", "a"), ("crm", "earlier"), ("erp", "1")}
        assert await values_of(store) == ({2: [kept]}, [], [], [])
        assert await store.recall([1, 2]) == {2: other}
        assert await store.candidates([5, 6]) == {6: [2]}
        assert await store.waiting("crm") == ["b"]
        assert b"audited" not in b"".join([lines async for lines in store.export()])

    async def test_an_erased_key_is_known_for_ever(self, again: Callable[[], Store]) -> None:
        store = again()
        await store.open(LAYOUT)
        assert await store.erased("crm", ["a", "b"]) == frozenset()
        await store.erase([("crm", "a")], unseen=True)
        assert await store.erased("crm", ["a", "b"]) == {"a"}
        assert await store.erased("erp", ["a"]) == frozenset()
        await store.close()
        crm, erp = LAYOUT.systems["crm"], LAYOUT.systems["erp"]
        moved = SystemLayout("crm2/customers", crm.fields)
        for name, declared in (("crm", crm), ("renamed", crm), ("crm", moved)):
            reopened = again()
            await reopened.open(Layout(LAYOUT.fields, {name: declared, "erp": erp}))
            assert await reopened.erased(name, ["b", "a"]) == {"a"}
            await reopened.close()

    async def test_no_other_record_gets_the_number_of_an_erased_one(self, store: Store) -> None:
        await store.commit(Commit(records=[recollection(n, crm=Side(f"{n}", 1, prints(1, 2))) for n in (1, 2, 3)]))
        await store.erase([("crm", "3")])
        await store.erase([("crm", "2")])
        assert await store.next_record() == 4

    async def test_a_person_who_is_deleted_or_a_dead_letter_can_be_erased(self, store: Store) -> None:
        await store.commit(WITH_VALUES)
        await store.commit(Commit(tombstones=[("crm", "gone", 1)]))
        assert (await store.erase([("crm", "gone")])).places == {("crm", "gone")}
        assert await store.tombstones("crm", ["gone"]) == {}
        assert await all_conflicts(store) == []
        assert (await store.erase([("crm", "a")])).places == {("crm", "a")}
        assert await all_letters(store) == []
