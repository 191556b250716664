"""What waits for records of other policies, and where records are."""
# ruff: noqa: D102 - a test's name is its sentence, and assert is what it says

from __future__ import annotations

from fairlead.engine.case import Side
from fairlead.state.base import Commit, Recollection, Store, Undelivered
from fairlead.state.directory import Directory, Own
from fairlead.state.referring import WAITING_FOR_PARENT, Orphan
from fairlead.testing.store.sample import LAYOUT, prints, recollection, update


class ReferringTests:
    """References to records, and records that are referred to."""

    async def test_a_record_is_where_its_sides_are(self, store: Store) -> None:
        both = recollection(1, crm=Side("a", 1, prints(1, 2)), erp=Side("1", 1, prints(1, 0)))
        await store.commit(Commit(records=[both, recollection(2, crm=Side("b", 1, prints(1, 2)))]))
        assert await store.places("erp", [1, 2, 3]) == {1: "1", 2: None}

    async def test_a_record_has_one_identity_in_every_system(self, store: Store) -> None:
        record = recollection(7, crm=Side("a", 1, prints(1, 2)), erp=Side("1", 1, prints(1, 0)))
        await store.commit(Commit(records=[record]))
        directory = Directory(Own(store, LAYOUT))
        in_crm, in_erp = await directory.identities("crm", ["a", "x"]), await directory.identities("erp", ["1"])
        assert (in_crm, in_crm["a"]) == ({"a": in_erp["1"]}, in_erp["1"])
        assert await directory.keys("erp", [in_crm["a"]]) == {in_crm["a"]: "1"}
        assert await directory.identities("shop", ["a"]) == {}

    async def test_an_identity_of_another_state_means_nothing(self, store: Store) -> None:
        await store.commit(Commit(records=[recollection(7, crm=Side("a", 1, prints(1, 2)))]))
        directory = Directory(Own(store, LAYOUT))
        assert await directory.keys("crm", ["7@0000000000000000", "8@", "nonsense"]) == {}

    async def test_a_deleted_record_keeps_its_identity_where_it_was_deleted(self, store: Store) -> None:
        sides = {"crm": Side("a", 1, prints(1, 2)), "erp": Side("1", 1, prints(1, 0))}
        await store.commit(Commit(records=[Recollection(7, sides)]))
        directory = Directory(Own(store, LAYOUT))
        before = await directory.identities("crm", ["a"])
        gone = Recollection(7, {"erp": sides["erp"]}, frozenset({"crm"}))
        await store.commit(Commit(records=[gone], tombstones=[("crm", "a", 7)]))
        assert await directory.identities("crm", ["a"]) == before
        assert await directory.keys("crm", [before["a"]]) == {before["a"]: None}

    async def test_orphans_wait_until_they_are_adopted(self, store: Store) -> None:
        orphans = [Orphan("crm", "a", "boss", "9"), Orphan("crm", "a", "team", "8"), Orphan("crm", "b", "boss", "9")]
        await store.commit(Commit(orphans=[*orphans, Orphan("erp", "1", "boss", "K")]))
        assert [page async for page in store.orphans("crm")] == [orphans]
        assert await store.orphaned() == {"crm": 2, "erp": 1}
        again = Orphan("crm", "a", "boss", "10")
        await store.commit(Commit(adopted=[("crm", "a"), ("erp", "1")], orphans=[again]))
        assert [page async for page in store.orphans("crm")] == [[again, orphans[2]]]
        assert await store.orphaned() == {"crm": 2}

    async def test_writes_that_wait_for_a_parent_are_not_due_and_are_walked(self, store: Store) -> None:
        item = Undelivered(2, "erp", update(name="x"), 1.0, not_before=9e15, error=WAITING_FOR_PARENT)
        other = Undelivered(1, "erp", update(name="x"), 1.0, error="Transient")
        await store.commit(Commit(pending=[item, other]))
        assert await store.undelivered(due=2.0) == [other]
        assert await store.undelivered_after(error=WAITING_FOR_PARENT) == [item]
        assert await store.undelivered_after() == [other, item]
        assert await store.undelivered_after((1, "erp")) == [item]
        assert await store.undelivered_after((2, "erp"), error=WAITING_FOR_PARENT) == []

    async def test_who_is_erased_waits_for_nobody(self, store: Store) -> None:
        await store.commit(Commit(orphans=[Orphan("crm", "a", "boss", "9")]))
        await store.erase([("crm", "a")])
        assert await store.orphaned() == {}
