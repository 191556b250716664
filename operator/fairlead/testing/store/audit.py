"""The audit: what was found and written."""
# ruff: noqa: D102 - a test's name is its sentence, and assert is what it says

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest

from fairlead.engine.case import Side
from fairlead.model.record import Value
from fairlead.state.audit import NEW, OLD, AuditEntry, AuditQuery, created, created_records
from fairlead.state.base import Commit, StateKeyWrong, Store
from fairlead.testing.store.sample import KEY, LAYOUT, prints, recollection, streamed

CONFLICT = AuditEntry(1.0, "r1", 1, "name", "Conflict", "SystemOfRecordWins", "crm", {"crm": "x", "erp": "y"})
CREATED = created(1.5, "r1", "erp", "", [7, 3, 4, 5])


def updated(at: float, run: str, record: int, field: str, system: str, **values: Value) -> AuditEntry:
    """What a run wrote of a field that came from the CRM."""
    return AuditEntry(at, run, record, field, "Updated", "edit", "crm", values, system)


NAME = updated(2.0, "r2", 1, "name", "erp", old="x", new=Decimal("1.50"))
EMAIL = updated(3.0, "r2", 2, "email", "shop")
EVERYTHING = [CONFLICT, CREATED, NAME, EMAIL]


class AuditTests:
    """Entries are added, and found again by what they are about."""

    async def test_the_audit_only_grows_and_is_read_from_its_end(self, store: Store) -> None:
        await store.commit(Commit(audit=EVERYTHING[:2]))
        await store.commit(Commit(audit=[*EVERYTHING[2:], EMAIL]))
        found = await store.audit(AuditQuery())
        assert [each.entry for each in found] == [EMAIL, *reversed(EVERYTHING)]
        pages, before = [], None
        while page := await store.audit(AuditQuery(), before=before, limit=2):
            pages.append(len(page))
            before = page[-1].number
        assert pages == [2, 2, 1]
        assert await store.next_record() == 8

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            (AuditQuery(run="r2"), [EMAIL, NAME]),
            (AuditQuery(records=(1,)), [NAME, CONFLICT]),
            (AuditQuery(records=(4,)), [CREATED]),
            (AuditQuery(records=(7, 1)), [NAME, CREATED, CONFLICT]),
            (AuditQuery(records=(8,)), []),
            (AuditQuery(field="name", run="r1"), [CONFLICT]),
            (AuditQuery(system="erp"), [NAME, CREATED]),
            (AuditQuery(system="crm"), [EMAIL, NAME, CONFLICT]),
            (AuditQuery(kind="Created"), [CREATED]),
            (AuditQuery(since=2.0), [EMAIL, NAME]),
            (AuditQuery(since=2.5, kind="Conflict"), []),
        ],
    )
    async def test_entries_are_found_by_what_they_are_about(
        self, store: Store, query: AuditQuery, expected: list[AuditEntry]
    ) -> None:
        await store.commit(Commit(audit=EVERYTHING))
        assert [each.entry for each in await store.audit(query)] == expected

    async def test_pages_of_several_records_end_where_they_should(self, store: Store) -> None:
        await store.commit(Commit(audit=EVERYTHING))
        first = await store.audit(AuditQuery(records=(1, 5)), limit=2)
        rest = await store.audit(AuditQuery(records=(1, 5)), before=first[-1].number)
        assert [each.entry for each in (*first, *rest)] == [NAME, CREATED, CONFLICT]

    async def test_what_a_batch_created_is_one_entry(self, store: Store) -> None:
        await store.commit(Commit(audit=[CREATED]))
        (found,) = await store.audit(AuditQuery())
        assert created_records(found.entry) == [3, 4, 5, 7]
        assert created_records(CONFLICT) == []

    async def test_the_records_of_a_run_are_walked_in_order(self, store: Store) -> None:
        await store.commit(Commit(audit=[*EVERYTHING, updated(3.0, "r2", 9, "name", "erp")]))
        assert await store.audited("r2", after=0) == [1, 2, 9]
        assert await store.audited("r2", after=0, limit=1) == [1]
        assert await store.audited("r2", after=2) == [9]
        assert await store.audited("r3", after=0) == []

    async def test_records_have_the_names_that_they_had(self, store: Store) -> None:
        alive = recollection(1, crm=Side("a", 1, prints(1, 2)))
        buried = [("erp", "old", 1), ("crm", "b", 2), ("erp", "2", 2)]
        await store.commit(Commit(records=[alive], tombstones=buried))
        names = {1: {"crm": "a", "erp": "old"}, 2: {"crm": "b", "erp": "2"}}
        assert await store.names([1, 2, 3]) == names

    async def test_what_was_written_is_read_with_its_key_alone(self, again: Callable[[], Store]) -> None:
        first = again()
        await first.open(LAYOUT)
        await first.unlock([KEY])
        await first.commit(Commit(audit=EVERYTHING))
        await first.close()
        second = again()
        await second.open(LAYOUT)
        with pytest.raises(StateKeyWrong, match="add that key"):
            await second.audit(AuditQuery(run="r2"))
        await second.unlock([KEY])
        assert [each.entry for each in await second.audit(AuditQuery(run="r2"))] == [EMAIL, NAME]
        await second.close()

    async def test_the_audit_of_an_erased_person_holds_no_value_and_the_rest_stays(self, store: Store) -> None:
        deleted = AuditEntry(2.0, "r2", 7, "", "Deleted", "", "crm", {"name": "mine"}, "erp")
        other = AuditEntry(2.0, "r2", 3, "name", "Updated", "", "crm", {OLD: "a", NEW: "b"}, "erp")
        await store.commit(Commit(audit=[CREATED, deleted, other], tombstones=[("erp", "t", 7)]))
        await store.erase([("erp", "t")])
        found = [each.entry for each in await store.audit(AuditQuery())]
        assert [entry.values for entry in found] == [other.values, {}, CREATED.values]

    async def test_what_is_older_than_the_retention_goes(self, store: Store) -> None:
        await store.commit(Commit(audit=EVERYTHING))
        await store.expire(2.0)
        assert [each.entry for each in await store.audit(AuditQuery())] == [EMAIL, NAME]

    async def test_the_audit_moves_along(self, store: Store, elsewhere: Callable[[], Store]) -> None:
        await store.unlock([KEY])
        await store.commit(Commit(audit=EVERYTHING))
        exported = [lines async for lines in store.export()]
        second = elsewhere()
        await second.restore(streamed(exported))
        await second.unlock([KEY])
        assert [each.entry for each in await second.audit(AuditQuery())] == EVERYTHING[::-1]
        await second.close()
