"""A state that is opened for another layout."""
# ruff: noqa: D102 - a test's name is its sentence, and assert is what it says

from __future__ import annotations

from collections.abc import Callable

import msgspec

from fairlead.engine.case import Side
from fairlead.state.base import REMATCH, STALE, Commit, Recollection, Store
from fairlead.state.layout import Layout, SystemLayout
from fairlead.state.place import reservation
from fairlead.testing.store.sample import (
    ALL,
    LAYOUT,
    prints,
)


class LayoutTests:
    """A changed policy makes void what it must, and nothing else."""

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

    async def test_match_keys_of_other_rules_are_dropped_but_for_those_of_dead_letters(
        self, again: Callable[[], Store]
    ) -> None:
        store, held = again(), reservation("erp", "7")
        await store.open(msgspec.structs.replace(LAYOUT, match={"by email": ("email",)}))
        records = [Recollection(1, {"crm": Side("a", 1, prints(5, 6))})]
        await store.commit(Commit(records=records, matches=[(5, 1), (6, 1), (7, held)], checkpoints={"crm": "c"}))
        await store.commit(Commit(meta={STALE: None}))
        await store.close()
        store = again()
        stale = await store.open(msgspec.structs.replace(LAYOUT, match={"by name": ("name",)}))
        found = await store.match_keys([1]), await store.match_keys([held]), await store.meta(REMATCH)
        assert (found, stale, await store.checkpoint("crm")) == (({}, {held: [7]}, "-1"), frozenset(), "c")
        await store.close()

    async def test_match_keys_of_a_field_that_is_mapped_otherwise_are_dropped(self, again: Callable[[], Store]) -> None:
        store, layout = again(), msgspec.structs.replace(LAYOUT, match={"by email": ("email",)})
        await store.open(layout)
        records = [Recollection(1, {"crm": Side("a", 1, prints(5, 6))})]
        await store.commit(Commit(records=records, matches=[(5, 1)]))
        await store.close()
        crm = SystemLayout("crm/customers", {"email": "mail", "name": "name"})
        store = again()
        await store.open(msgspec.structs.replace(layout, systems={**LAYOUT.systems, "crm": crm}))
        assert (await store.match_keys([1]), await store.meta(REMATCH)) == ({}, "-1")
        await store.close()

    async def test_match_keys_of_the_same_rules_stay(self, again: Callable[[], Store]) -> None:
        rules = {"by email": ("email",), "by name": ("name",)}
        store, layout = again(), msgspec.structs.replace(LAYOUT, match=rules)
        await store.open(layout)
        records = [Recollection(1, {"erp": Side("1", 1, prints(5, 0))})]
        await store.commit(Commit(records=records, matches=[(5, 1)]))
        await store.close()
        swapped = {name: rules[name] for name in reversed(rules)}
        store = again()
        await store.open(msgspec.structs.replace(layout, systems={"erp": LAYOUT.systems["erp"]}, match=swapped))
        assert (await store.match_keys([1]), await store.meta(REMATCH)) == ({1: [5]}, None)
        await store.close()

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

    async def test_what_is_read_otherwise_is_read_anew_and_not_forgotten(self, again: Callable[[], Store]) -> None:
        crm = msgspec.structs.replace(LAYOUT.systems["crm"], reading="another filter")
        store, stale = await self.reopened(again, Layout(LAYOUT.fields, {**LAYOUT.systems, "crm": crm}))
        assert (await store.recall([1]))[1].sides["crm"] == Side("a", 1, prints(5, 6))
        assert (stale, await store.checkpoint("crm")) == (frozenset({"crm"}), None)
        await store.close()

    async def test_fingerprints_that_were_salted_otherwise_mean_nothing(self, again: Callable[[], Store]) -> None:
        store, stale = await self.reopened(again, msgspec.structs.replace(LAYOUT, salted="otherwise"))
        side = (await store.recall([1]))[1].sides["crm"]
        assert (side, stale) == (Side("a", None, prints(0, 0)), ALL)
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
