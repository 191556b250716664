"""Which records a store says are the same, are not, and were."""
# ruff: noqa: D102 - a test's name is its sentence, and assert is what it says

from __future__ import annotations

from collections.abc import Callable

import msgspec

from fairlead.engine.case import Side
from fairlead.state.audit import AuditEntry, AuditQuery, created
from fairlead.state.base import Commit, DeadLetter, Store
from fairlead.state.layout import Layout
from fairlead.state.place import reservation
from fairlead.testing.store.sample import LAYOUT, all_letters, prints, recollection

A, B, C = ("crm", "a"), ("erp", "1"), ("erp", "a")


def audited(record: int, value: str, at: float = 1.0) -> AuditEntry:
    """An entry that holds a value."""
    return AuditEntry(at, "r1", record, "name", "Conflict", "", "crm", {"crm": value})


async def exported(store: Store) -> bytes:
    """All that a store holds."""
    return b"".join([lines async for lines in store.export()])


class IdentityTests:
    """What is not the same, what was, and what may be."""

    async def test_two_places_are_apart_for_each_other_until_they_are_together(self, store: Store) -> None:
        assert await store.apart([A, B]) == {}
        await store.commit(Commit(apart=[(A, B), (C, A)]))
        await store.commit(Commit(apart=[(B, A)]))
        assert await store.apart([A, B, ("erp", "a"), ("crm", "1")]) == {A: {B, C}, B: {A}, C: {A}}
        await store.commit(Commit(together=[(B, A)]))
        assert await store.apart([A, B]) == {A: {C}}

    async def test_a_system_that_is_removed_takes_along_what_is_apart_from_it(self, again: Callable[[], Store]) -> None:
        both = again()
        await both.open(LAYOUT)
        await both.commit(Commit(apart=[(A, B)]))
        await both.close()
        alone = again()
        await alone.open(Layout(LAYOUT.fields, {"crm": LAYOUT.systems["crm"]}))
        assert await alone.apart([A, B]) == {}
        await alone.close()

    async def test_a_side_moves_from_one_record_to_another_in_one_transaction(self, store: Store) -> None:
        crm, erp = Side("a", 1, prints(1, 2)), Side("1", 2, prints(1, 0))
        await store.commit(Commit(records=[recollection(1, crm=crm, erp=erp)]))
        await store.commit(Commit(records=[recollection(1, crm=crm), recollection(2, erp=erp)]))
        assert [r.sides for r in (await store.recall([1, 2])).values()] == [{"crm": crm}, {"erp": erp}]
        await store.commit(Commit(forget=[2], records=[recollection(1, crm=crm, erp=erp)]))
        assert {n: r.sides for n, r in (await store.recall([1, 2])).items()} == {1: {"crm": crm, "erp": erp}}

    async def test_what_was_deleted_of_a_merged_record_was_of_the_other(self, store: Store) -> None:
        await store.commit(Commit(tombstones=[("erp", "t", 2)]))
        await store.commit(Commit(merged=[(2, 1, 5.0)]))
        assert await store.tombstones("erp", ["t"]) == {"t": 1}

    async def test_the_number_of_a_merged_record_is_never_used_again(self, store: Store) -> None:
        await store.commit(Commit(records=[recollection(1, crm=Side("a", 1, prints(1, 2)))], merged=[(7, 1, 5.0)]))
        assert await store.next_record() == 8

    async def test_who_is_erased_is_erased_from_what_was_merged_too(self, store: Store) -> None:
        await store.commit(
            Commit(
                records=[recollection(1, crm=Side("a", 1, prints(1, 2)))],
                audit=[audited(1, "one"), audited(2, "two"), audited(3, "three"), audited(4, "nobody")],
                merged=[(3, 2, 4.0), (2, 1, 5.0)],
                apart=[(A, B)],
            )
        )
        await store.erase([A])
        found = await exported(store)
        assert [word for word in (b"one", b"two", b"three", b"nobody") if word in found] == [b"nobody"]
        assert await store.apart([A, B]) == {}

    async def test_who_is_erased_is_erased_from_what_it_was_parted_from_until_then(self, store: Store) -> None:
        before, after = audited(1, "common", 4.0), audited(1, "the other's", 6.0)
        await store.commit(
            Commit(
                records=[recollection(2, erp=Side("1", 1, prints(1, 0)))],
                audit=[before, after, audited(2, "own", 6.0)],
                parted=[(2, 1, 5.0)],
            )
        )
        await store.erase([B])
        found = await exported(store)
        assert [word for word in (b"common", b"the other's", b"own") if word in found] == [b"the other's"]

    async def test_what_a_record_was_is_told_as_long_as_it_was(self, store: Store) -> None:
        await store.commit(Commit(merged=[(3, 2, 4.0), (2, 1, 5.0)], parted=[(6, 1, 7.0)]))
        await store.commit(Commit(merged=[(8, 1, 9.0)]))
        assert [await store.former(record) for record in (1, 6, 8)] == [
            {2: 5.0, 3: 4.0, 8: 9.0},
            {1: 7.0, 2: 5.0, 3: 4.0},
            {},
        ]

    async def test_who_is_erased_takes_along_nobody_that_came_to_what_it_was_parted_from_later(
        self, store: Store
    ) -> None:
        await store.commit(
            Commit(
                records=[recollection(6, erp=Side("1", 1, prints(1, 0)))],
                audit=[audited(8, "somebody", 6.0)],
                parted=[(6, 1, 7.0)],
                merged=[(8, 1, 9.0)],
            )
        )
        await store.erase([B])
        assert b"somebody" in await exported(store)

    async def test_the_audit_tells_of_what_a_record_was_until_it_was_something_else(self, store: Store) -> None:
        before, after = audited(2, "before", 4.0), audited(2, "after", 6.0)
        many = created(3.0, "r", "erp", "", [2, 9])
        await store.commit(Commit(audit=[audited(1, "own", 7.0), before, after, many]))
        found = await store.audit(AuditQuery(records=(1,), former=((2, 5.0),)))
        assert [each.entry for each in found] == [many, before, audited(1, "own", 7.0)]

    async def test_what_was_is_forgotten_with_its_audit(self, store: Store) -> None:
        await store.commit(Commit(merged=[(2, 1, 5.0)], audit=[audited(2, "old", 4.0)]))
        await store.expire(6.0)
        assert b'"former"' not in await exported(store)

    async def test_a_dead_letter_knows_its_candidates(self, store: Store) -> None:
        letter = DeadLetter("crm", "a", "Ambiguous", "which?", 1.0, (4, -9))
        await store.commit(Commit(dead=[letter]))
        await store.commit(Commit(dead=[msgspec.structs.replace(letter, candidates=(5,))]))
        assert [found.candidates for found in await all_letters(store)] == [(5,)]

    async def test_what_is_apart_is_told_once_each(self, store: Store) -> None:
        await store.commit(Commit(apart=[(B, A), (A, C)]))
        assert sorted([pair async for pairs in store.divided() for pair in pairs]) == [(A, B), (A, C)]

    async def test_records_that_share_a_match_key_are_told(self, store: Store) -> None:
        await store.commit(Commit(matches=[(5, 1), (5, 2), (6, 2), (7, 3), (8, 4), (8, reservation("crm", "x"))]))
        assert [page async for page in store.sharing()] == [[1, 2, 4]]

    async def test_new_records_that_share_a_match_key_are_told(self, store: Store) -> None:
        records = [recollection(record, crm=Side(str(record), 1, prints(1, 2))) for record in (1, 2, 3)]
        await store.commit(Commit(records=records, matches=[(5, 1), (6, 2), (7, 3), (7, 2)]))
        await store.commit(Commit(matches=[(5, 1), (6, 1)]))
        assert [page async for page in store.sharing()] == [[1, 2, 3]]
