"""References between policies: an order's customer is the same one in every system, whatever its id there is."""

import asyncio
import base64
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from fairlead.engine.rules import compile_rules
from fairlead.model.health import PolicyReason, conclude
from fairlead.model.syncpolicy import Mode, SyncPolicy
from fairlead.state.audit import AuditQuery
from fairlead.state.base import Commit, Conflict
from fairlead.state.requests import ResolveConflicts, Undo, mark_of, request
from fairlead.state.sqlite import SQLiteStore
from fairlead.testing.store import LAYOUT
from fairlead.testing.store.sample import all_conflicts
from fairlead.worker.loop import PolicyLoop, parents_first, work_all
from fairlead.worker.reversal import Reversals
from fairlead.worker.revision import revise
from fairlead.worker.run import Kind, RunReport
from support.simulation import spec_of
from support.specpage import page
from support.trade import Trade, run_of


@pytest.fixture
async def trade(tmp_path: Path) -> AsyncIterator[Trade]:
    made = Trade(tmp_path)
    yield made
    await made.close()


def written(report: RunReport) -> int:
    """Writes that a run sent."""
    counts = report.tally.counts()
    return counts["created"] + counts["updated"] + counts["deleted"]


def waiting(report: RunReport) -> list[tuple[str, str]]:
    """(record, field) of what a run told to be waiting."""
    return [(note.record, note.field) for note in report.tally.notes if note.kind == "WaitingForParent"]


# --- translation ---


async def test_a_reference_is_written_as_the_id_that_its_record_has_in_each_system(trade: Trade) -> None:
    customer = trade.crm.add("customer", email="a@x")
    trade.crm.add("sale", number="1", customer=customer)
    await trade.run(trade.customers(), trade.sales())
    assert trade.erp.customer("a@x").startswith("K-")
    assert trade.erp.sales() == {"1": "a@x"}


async def test_references_that_mean_the_same_record_are_in_agreement(trade: Trade) -> None:
    customer, theirs = trade.crm.add("customer", email="a@x"), trade.erp.add("customer", email="a@x")
    trade.crm.add("sale", number="1", customer=customer)
    trade.erp.add("sale", number="1", customer=theirs)
    _, report = await trade.run(trade.customers(), trade.sales())
    assert (written(report), report.tally.notes) == (0, [])
    assert [written(report) for report in await trade.run(trade.customers(), trade.sales())] == [0, 0]


@pytest.mark.parametrize("there", ["crm", "erp"])
async def test_a_reference_that_is_changed_in_any_system_is_changed_in_the_other(trade: Trade, there: str) -> None:
    for email in ("a@x", "b@x"):
        trade.crm.add("customer", email=email)
    trade.crm.add("sale", number="1", customer=trade.crm.customer("a@x"))
    await trade.run(trade.customers(), trade.sales())
    system = getattr(trade, there)
    system.edit("sale", "number = '1'", customer=system.customer("b@x"))
    _, report = await trade.run(trade.customers(), trade.sales())
    assert (trade.crm.sales(), trade.erp.sales()) == ({"1": "b@x"}, {"1": "b@x"})
    assert written(report) == 1
    assert [written(report) for report in await trade.run(trade.customers(), trade.sales())] == [0, 0]


async def test_a_reference_that_is_emptied_is_emptied_everywhere(trade: Trade) -> None:
    trade.crm.add("sale", number="1", customer=trade.crm.add("customer", email="a@x"))
    await trade.run(trade.customers(), trade.sales(required=False))
    trade.erp.edit("sale", "number = '1'", customer=None)
    await trade.run(trade.customers(), trade.sales(required=False))
    assert trade.crm.sales() == {"1": None}


async def test_two_systems_that_chose_different_records_are_a_conflict_as_of_any_field(trade: Trade) -> None:
    for email in ("a@x", "b@x", "c@x"):
        trade.crm.add("customer", email=email)
    trade.crm.add("sale", number="1", customer=trade.crm.customer("a@x"))
    await trade.run(trade.customers(), trade.sales())
    trade.crm.edit("sale", "number = '1'", customer=trade.crm.customer("b@x"))
    trade.erp.edit("sale", "number = '1'", customer=trade.erp.customer("c@x"))
    _, report = await trade.run(trade.customers(), trade.sales())
    assert (trade.erp.sales(), report.tally.conflicts) == ({"1": "b@x"}, 1)


@pytest.mark.parametrize(
    ("choice", "done", "after"),
    [({"keep": "erp"}, 1, "c@x"), ({"value": '"17"'}, 0, None), ({"value": "null"}, 1, None)],
)
async def test_a_person_decides_by_a_system_not_by_an_id(
    trade: Trade, choice: dict[str, str], done: int, after: str | None
) -> None:
    for email in ("a@x", "b@x", "c@x"):
        trade.crm.add("customer", email=email)
    trade.crm.add("sale", number="1", customer=trade.crm.customer("a@x"))
    manual = trade.sales(required=False, fields={"customer": {"references": "customers", "onConflict": "Manual"}})
    await trade.run(trade.customers(), manual)
    trade.crm.edit("sale", "number = '1'", customer=trade.crm.customer("b@x"))
    trade.erp.edit("sale", "number = '1'", customer=trade.erp.customer("c@x"))
    await trade.run(manual)
    async with trade.host.session(manual) as session:
        conflicts = tuple((c.record, c.field, mark_of(c.values)) for c in await all_conflicts(session.store))
        asked = request("ada", ResolveConflicts(conflicts, **choice))
        await session.store.ask(asked)
    await trade.run(manual)
    async with trade.host.session(manual) as session:
        answer = await session.store.answer(asked.id)
    assert answer is not None
    assert (len(conflicts), answer.done) == (1, done)
    if done:
        assert trade.crm.sales() == trade.erp.sales() == {"1": after}
    else:
        assert "name the system whose value to keep" in str(answer.refused)
        assert (trade.crm.sales(), trade.erp.sales()) == ({"1": "b@x"}, {"1": "c@x"})


async def test_a_moved_reference_is_undone_in_every_system(trade: Trade) -> None:
    trade.values["seal"] = {"key": base64.b64encode(b"k" * 32).decode()}
    trade.state = {"state": {"encryptionKey": {"secretKeyRef": {"name": "seal", "key": "key"}}}}
    for email in ("a@x", "b@x"):
        trade.crm.add("customer", email=email)
    trade.crm.add("sale", number="1", customer=trade.crm.customer("a@x"))
    await trade.run(trade.customers(), trade.sales())
    trade.crm.edit("sale", "number = '1'", customer=trade.crm.customer("b@x"))
    (report,) = await trade.run(trade.sales())
    assert trade.erp.sales() == {"1": "b@x"}
    async with trade.host.session(trade.sales()) as session:
        (shown,) = await Reversals(session.rules, session.store, report.id).of([1])
        await session.store.ask(request("ada", Undo(report.id, "undone", ((1, shown.mark),))))
    await trade.run(trade.sales())
    assert trade.crm.sales() == trade.erp.sales() == {"1": "a@x"}


async def test_a_deleted_record_takes_no_reference_along(trade: Trade) -> None:
    customer = trade.crm.add("customer", email="a@x")
    for number in ("1", "2"):
        trade.crm.add("sale", number=number, customer=customer)
    await trade.run(trade.customers(), trade.sales())
    trade.crm.remove("sale", "number = '1'")
    (report,) = await trade.run(trade.sales(), kind=Kind.RESYNC)
    assert (report.tally.counts()["deleted"], trade.erp.sales()) == (1, {"2": "a@x"})


async def test_records_are_matched_by_what_they_refer_to(trade: Trade) -> None:
    match = [{"fields": ["customer", "note"]}]
    customer, theirs = trade.crm.add("customer", email="a@x"), trade.erp.add("customer", email="a@x")
    trade.crm.add("sale", number="1", note="n", customer=customer)
    trade.erp.add("sale", number="one", note="n", customer=theirs)
    await trade.run(trade.customers(), trade.sales(match=match))
    assert (trade.crm.sales(), trade.erp.sales()) == ({"1": "a@x"}, {"1": "a@x"})


# --- waiting ---


async def test_a_child_waits_for_a_parent_that_is_not_known_yet_and_is_no_dead_letter(trade: Trade) -> None:
    trade.crm.add("sale", number="1", customer=trade.crm.add("customer", email="a@x"), note="n")
    loop = PolicyLoop(trade.sales(), trade.host)
    report = await run_of(loop)
    assert waiting(report) == [("crm/1", "customer"), ("erp/(new, from crm/1)", "customer")]
    assert (trade.erp.sales(), report.tally.dead, loop.measured.waiting) == ({}, 0, 1)
    told = conclude(loop.measured, Mode.ENFORCE)
    assert (told.ready, told.reason) == (True, PolicyReason.CATCHING_UP)
    assert "1 record with a reference to a record that its policy does not know" in told.message


async def test_a_child_goes_as_soon_as_its_parent_is_there_without_a_resync(trade: Trade) -> None:
    trade.crm.add("sale", number="1", customer=trade.crm.add("customer", email="a@x"))
    await trade.run(trade.sales())
    _, report = await trade.run(trade.customers(), trade.sales())
    assert (trade.erp.sales(), report.tally.waiting, report.kind) == ({"1": "a@x"}, 0, Kind.CHANGES)
    assert [written(report) for report in await trade.run(trade.customers(), trade.sales())] == [0, 0]


async def test_a_known_child_that_is_given_an_unknown_parent_keeps_its_old_one_elsewhere_until_then(
    trade: Trade,
) -> None:
    trade.crm.add("sale", number="1", customer=trade.crm.add("customer", email="a@x"))
    await trade.run(trade.customers(), trade.sales())
    trade.crm.edit("sale", "number = '1'", customer=trade.crm.add("customer", email="b@x"), note="flows")
    await trade.run(trade.sales())
    assert trade.erp.sales() == {"1": "a@x"}
    assert trade.erp.database.execute("SELECT note FROM sale").fetchall() == [("flows",)]
    await trade.run(trade.customers(), trade.sales())
    assert (trade.crm.sales(), trade.erp.sales()) == ({"1": "b@x"}, {"1": "b@x"})


async def test_a_child_whose_parent_is_not_in_the_target_yet_waits_for_that(trade: Trade) -> None:
    trade.crm.add("sale", number="1", customer=trade.crm.add("customer", email="a@x"))
    blocked = "CREATE TRIGGER no BEFORE INSERT ON customer BEGIN SELECT RAISE(ABORT, 'closed'); END"
    trade.erp.database.execute(blocked)
    _, report = await trade.run(trade.customers(), trade.sales())
    assert waiting(report) == [("erp/(new, from crm/1)", "customer")]
    assert (trade.erp.sales(), report.tally.waiting) == ({}, 0)
    trade.erp.database.execute("DROP TRIGGER no")
    parents = PolicyLoop(trade.customers(), trade.host)
    await run_of(parents, Kind.RESYNC)
    await trade.run(trade.sales())
    assert trade.erp.sales() == {"1": "a@x"}


async def give_a_parent_that_is_kept_out(trade: Trade) -> None:
    """A sale is given another customer, who is not to be created in the ERP yet, and another note, in one edit."""
    customers = [trade.crm.add("customer", email=email) for email in ("a@x", "c@x")]
    trade.crm.add("sale", number="1", customer=customers[0], note="n")
    await trade.run(trade.customers(), trade.sales())
    keep_out(trade, "customer", "b@x")
    trade.crm.edit("sale", "number = '1'", customer=trade.crm.add("customer", email="b@x"), note="flows")


def keep_out(trade: Trade, table: str, key: str) -> None:
    """The ERP refuses to take this row in."""
    column = {"customer": "email", "sale": "number"}[table]
    when = f"BEFORE INSERT ON {table} WHEN new.{column} = '{key}' BEGIN SELECT RAISE(ABORT, 'closed'); END"
    trade.erp.database.execute(f"CREATE TRIGGER no_{table} {when}")


async def let_in(trade: Trade, table: str, *policies: SyncPolicy) -> None:
    """The ERP takes it in."""
    trade.erp.database.execute(f"DROP TRIGGER no_{table}")
    await trade.run(*policies, kind=Kind.RESYNC)


def note_of_the_sale(trade: Trade) -> str | None:
    """In the ERP."""
    found: str | None = trade.erp.database.execute("SELECT note FROM sale").fetchone()[0]
    return found


async def updates_told(trade: Trade) -> list[str]:
    """The fields of the sales that were updated, as the audit tells it, oldest first."""
    async with trade.host.session(trade.sales()) as session:
        return [a.entry.field for a in reversed(await session.store.audit(AuditQuery())) if a.entry.kind == "Updated"]


async def test_a_parent_that_is_not_in_the_target_yet_keeps_no_other_field_back(trade: Trade) -> None:
    await give_a_parent_that_is_kept_out(trade)
    _, report = await trade.run(trade.customers(), trade.sales())
    (key,) = trade.erp.database.execute("SELECT id FROM sale").fetchone()
    assert (trade.erp.sales(), note_of_the_sale(trade)) == ({"1": "a@x"}, "flows")
    assert waiting(report) == [(f"erp/{key}", "customer")]
    assert (written(report), await updates_told(trade)) == (1, ["note"])
    _, report = await trade.run(trade.customers(), trade.sales())
    assert (written(report), waiting(report)) == (0, [])
    await let_in(trade, "customer", trade.customers())
    (report,) = await trade.run(trade.sales())
    assert (trade.crm.sales(), trade.erp.sales()) == ({"1": "b@x"}, {"1": "b@x"})
    assert (written(report), await updates_told(trade)) == (1, ["note", "customer"])
    assert [written(report) for report in await trade.run(trade.customers(), trade.sales())] == [0, 0]


async def test_what_is_edited_while_a_reference_waits_for_its_parent_flows(trade: Trade) -> None:
    await give_a_parent_that_is_kept_out(trade)
    await trade.run(trade.customers(), trade.sales())
    trade.crm.edit("sale", "number = '1'", note="later")
    await trade.run(trade.sales())
    assert (trade.erp.sales(), note_of_the_sale(trade)) == ({"1": "a@x"}, "later")
    trade.erp.edit("sale", "number = '1'", note="theirs")
    await trade.run(trade.sales())
    assert trade.crm.database.execute("SELECT note FROM sale").fetchall() == [("theirs",)]
    await let_in(trade, "customer", trade.customers())
    await trade.run(trade.sales())
    assert (trade.erp.sales(), note_of_the_sale(trade)) == ({"1": "b@x"}, "theirs")


async def test_a_rest_that_is_refused_takes_the_reference_that_waits_along(trade: Trade) -> None:
    await give_a_parent_that_is_kept_out(trade)
    closed = "CREATE TRIGGER no_update BEFORE UPDATE ON sale BEGIN SELECT RAISE(ABORT, 'closed'); END"
    trade.erp.database.execute(closed)
    _, report = await trade.run(trade.customers(), trade.sales())
    assert (report.tally.counts()["failed"], await updates_told(trade)) == (1, [])
    trade.erp.database.execute("DROP TRIGGER no_update")
    await trade.run(trade.sales(), kind=Kind.RESYNC)
    assert (trade.erp.sales(), note_of_the_sale(trade)) == ({"1": "a@x"}, "flows")
    await let_in(trade, "customer", trade.customers())
    await trade.run(trade.sales())
    assert trade.erp.sales() == {"1": "b@x"}


@pytest.mark.parametrize("known", [True, False], ids=["read before", "met by the write"])
async def test_an_edit_of_a_reference_for_which_another_waits_is_a_conflict_as_of_any_field(
    trade: Trade, known: bool
) -> None:
    await give_a_parent_that_is_kept_out(trade)
    await trade.run(trade.customers(), trade.sales())
    trade.erp.edit("sale", "number = '1'", customer=trade.erp.customer("c@x"))
    reports = await trade.run(trade.sales()) if known else []
    await let_in(trade, "customer", trade.customers())
    reports += await trade.run(trade.sales())
    assert sum(report.tally.conflicts for report in reports) == 1
    assert (trade.crm.sales(), trade.erp.sales()) == ({"1": "b@x"}, {"1": "b@x"})


@pytest.mark.parametrize("there", [True, False], ids=["update", "create"])
async def test_a_reference_whose_parent_is_there_does_not_wait_for_that_of_another(trade: Trade, there: bool) -> None:
    """Of two references of one record; a create waits for the one that it must not be without."""
    text, optional = {"type": "string"}, {"type": ["string", "null"]}
    needed = ["email"] if there else ["email", "favourite"]
    workers = trade.policy(
        "people",
        "customer",
        {"email": text, "boss": optional, "favourite": optional if there else text},
        required=needed,
        fields={"boss": {"references": "people"}, "favourite": {"references": "sales"}},
    )
    sales = trade.policy("sales", "sale", {"number": text}, required=["number"])
    sale = trade.crm.add("sale", number="1")
    boss = trade.crm.add("customer", email="b@x", favourite=sale)
    keep_out(trade, "customer", "b@x")
    keep_out(trade, "sale", "1")
    if there:
        trade.crm.add("customer", email="a@x")
        await trade.run(sales, workers)
        trade.crm.edit("customer", "email = 'a@x'", boss=boss, favourite=sale)
    else:
        trade.crm.add("customer", email="a@x", boss=boss, favourite=sale)
    await trade.run(sales, workers)
    await let_in(trade, "sale", sales)
    await trade.run(workers)
    query = "SELECT number, boss FROM customer JOIN sale ON sale.id = favourite WHERE customer.email = 'a@x'"
    assert trade.erp.database.execute(query).fetchall() == [("1", None)]
    await let_in(trade, "customer", workers)
    assert trade.erp.linked("boss")["a@x"] == "b@x"


async def test_what_waits_survives_a_restart(trade: Trade) -> None:
    trade.crm.add("sale", number="1", customer=trade.crm.add("customer", email="a@x"))
    await trade.run(trade.sales())
    await trade.host.close()
    _, report = await trade.run(trade.customers(), trade.sales())
    assert (trade.erp.sales(), report.tally.waiting) == ({"1": "a@x"}, 0)


async def test_a_child_that_is_edited_or_deleted_while_it_waits_waits_no_more(trade: Trade) -> None:
    known = trade.crm.add("customer", email="a@x")
    await trade.run(trade.customers())
    for number in ("1", "2"):
        trade.crm.add("sale", number=number, customer=999)
    (report,) = await trade.run(trade.sales())
    assert report.tally.waiting == 2
    trade.crm.edit("sale", "number = '1'", customer=known)
    trade.crm.remove("sale", "number = '2'")
    (report,) = await trade.run(trade.sales(), kind=Kind.RESYNC)
    assert (trade.erp.sales(), report.tally.waiting) == ({"1": "a@x"}, 0)


async def test_a_record_that_cannot_be_matched_yet_is_not_created_a_second_time(trade: Trade) -> None:
    match = [{"fields": ["customer", "note"]}]
    customer, theirs = trade.crm.add("customer", email="a@x"), trade.erp.add("customer", email="a@x")
    trade.crm.add("sale", number="1", note="n", customer=customer)
    trade.erp.add("sale", number="1", note="n", customer=theirs)
    await trade.run(trade.sales(match=match))
    await trade.run(trade.customers(), trade.sales(match=match))
    assert (trade.crm.sales(), trade.erp.sales()) == ({"1": "a@x"}, {"1": "a@x"})


async def test_a_plan_names_what_would_be_written(trade: Trade) -> None:
    trade.crm.add("sale", number="1", customer=trade.crm.add("customer", email="a@x"))
    await trade.run(trade.customers())
    loop = PolicyLoop(trade.sales(mode="Plan"), trade.host)
    await run_of(loop)
    assert loop.plan is not None
    assert [(write.system, write.attributes) for write in loop.plan.writes] == [("erp", ("customer", "note", "number"))]
    assert trade.erp.sales() == {}


async def test_the_policies_of_one_process_begin_with_the_parents(trade: Trade) -> None:
    trade.crm.add("sale", number="1", customer=trade.crm.add("customer", email="a@x"))
    stop, reports = asyncio.Event(), []

    async def note(loop: PolicyLoop, report: RunReport | None) -> None:
        assert report is not None
        reports.append((loop.policy.metadata.name, waiting(report)))
        if len(reports) == 2:
            stop.set()

    loops = [PolicyLoop(policy, trade.host, [note]) for policy in (trade.sales(), trade.customers())]
    async with asyncio.timeout(60):
        await work_all(loops, stop)
    assert reports == [("customers", []), ("sales", [])]
    assert trade.erp.sales() == {"1": "a@x"}


async def test_policies_that_refer_to_each_other_all_begin(trade: Trade) -> None:
    loops = [PolicyLoop(policy, trade.host) for policy in (trade.sales(), people(trade), trade.customers())]
    assert [loop.policy.metadata.name for loop in parents_first(loops)] == ["customers", "sales", "people"]
    round_trip = trade.customers(fields={"email": {"references": "sales"}})
    loops = [PolicyLoop(policy, trade.host) for policy in (trade.sales(), round_trip)]
    assert sorted(loop.policy.metadata.name for loop in parents_first(loops)) == ["customers", "sales"]


# --- a reference that may be empty, and cycles ---


async def test_an_optional_reference_is_filled_in_afterwards(trade: Trade) -> None:
    trade.crm.add("sale", number="1", customer=trade.crm.add("customer", email="a@x"))
    (report,) = await trade.run(trade.sales(required=False))
    assert (trade.erp.sales(), report.tally.waiting) == ({"1": None}, 1)
    _, report = await trade.run(trade.customers(), trade.sales(required=False))
    assert (trade.erp.sales(), report.tally.waiting) == ({"1": "a@x"}, 0)


def people(trade: Trade, **spec: Any) -> Any:
    properties = {"email": {"type": "string"}, "boss": {"type": ["string", "null"]}}
    return trade.policy(
        "people", "customer", properties, required=["email"], **{"fields": {"boss": {"references": "people"}}, **spec}
    )


async def test_records_that_refer_to_others_of_their_kind_are_there_after_one_run(trade: Trade) -> None:
    ada = trade.crm.add("customer", email="ada@x")
    bob = trade.crm.add("customer", email="bob@x", boss=ada)
    trade.crm.add("customer", email="cy@x", boss=bob)
    trade.crm.edit("customer", "email = 'ada@x'", boss=bob)
    await trade.run(people(trade))
    assert trade.erp.linked("boss") == {"ada@x": "bob@x", "bob@x": "ada@x", "cy@x": "bob@x"}
    (report,) = await trade.run(people(trade))
    assert (written(report), report.tally.waiting) == (0, 0)


async def test_records_that_are_on_both_sides_and_refer_to_each_other_are_linked(trade: Trade) -> None:
    for system in (trade.crm, trade.erp):
        system.add("customer", email="ada@x")
        system.add("customer", email="bob@x", boss=system.customer("ada@x"))
        system.edit("customer", "email = 'ada@x'", boss=system.customer("bob@x"))
    (report,) = await trade.run(people(trade))
    assert (written(report), report.tally.waiting) == (0, 0)
    trade.erp.edit("customer", "email = 'ada@x'", boss=None)
    await trade.run(people(trade))
    assert trade.crm.linked("boss") == {"ada@x": None, "bob@x": "ada@x"}


async def test_policies_that_refer_to_each_other_agree_after_two_runs_of_each(trade: Trade) -> None:
    favourites = {"email": {"type": "string"}, "favourite": {"type": "string"}}
    first = trade.policy(
        "customers", "customer", favourites, required=["email"], fields={"favourite": {"references": "sales"}}
    )
    second = trade.sales(required=False)
    customer = trade.crm.add("customer", email="a@x")
    sale = trade.crm.add("sale", number="1", customer=customer)
    trade.crm.edit("customer", "email = 'a@x'", favourite=sale)
    await trade.run(first, second, first, second)
    assert trade.erp.sales() == {"1": "a@x"}
    query = "SELECT number FROM customer JOIN sale ON sale.id = favourite"
    assert trade.erp.database.execute(query).fetchall() == [("1",)]
    assert [written(report) for report in await trade.run(first, second)] == [0, 0]


# --- parents that are deleted, merged, lost ---


async def test_a_child_of_a_deleted_parent_stays_as_its_systems_say(trade: Trade) -> None:
    customer = trade.crm.add("customer", email="a@x")
    trade.crm.add("customer", email="b@x")
    trade.crm.add("sale", number="1", customer=customer)
    await trade.run(trade.customers(), trade.sales())
    theirs = trade.erp.customer("a@x")
    trade.crm.remove("customer", "email = 'a@x'")
    trade.crm.edit("sale", "number = '1'", note="later")
    reports = await trade.run(trade.customers(), trade.sales(), kind=Kind.RESYNC)
    assert (trade.erp.customer("a@x"), reports[1].tally.waiting) == (None, 0)
    assert (trade.crm.sales(), trade.erp.sales()) == ({"1": customer}, {"1": theirs})
    trade.erp.edit("sale", "number = '1'", customer=trade.erp.customer("b@x"))
    await trade.run(trade.customers(), trade.sales())
    assert trade.crm.sales() == {"1": "b@x"}


async def test_children_that_a_system_moves_to_the_record_it_merged_theirs_into_are_moved_everywhere(
    trade: Trade,
) -> None:
    kept, merged = trade.crm.add("customer", email="a@x"), trade.crm.add("customer", email="b@x")
    trade.crm.add("sale", number="1", customer=merged)
    await trade.run(trade.customers(), trade.sales())
    trade.crm.edit("sale", f"customer = {merged}", customer=kept)
    trade.crm.remove("customer", "email = 'b@x'")
    await trade.run(trade.customers(), trade.sales(), kind=Kind.RESYNC)
    assert (trade.erp.sales(), trade.erp.customer("b@x")) == ({"1": "a@x"}, None)


async def test_a_lost_state_of_the_parents_moves_no_child(trade: Trade) -> None:
    for email in ("a@x", "b@x"):
        trade.crm.add("customer", email=email)
    trade.crm.add("sale", number="1", customer=trade.crm.customer("b@x"))
    await trade.run(trade.customers(), trade.sales())
    await trade.host.close()
    for path in (trade.folder / "state").glob("default.customers.db*"):
        path.unlink()
    trade.crm.edit("sale", "number = '1'", note="later")
    _, report = await trade.run(trade.customers(), trade.sales())
    assert (trade.crm.sales(), trade.erp.sales(), report.tally.conflicts) == ({"1": "b@x"}, {"1": "b@x"}, 0)
    trade.erp.edit("sale", "number = '1'", customer=trade.erp.customer("a@x"))
    await trade.run(trade.customers(), trade.sales())
    assert trade.crm.sales() == {"1": "a@x"}


async def test_a_lost_state_of_the_children_is_met_again_without_a_write(trade: Trade) -> None:
    trade.crm.add("sale", number="1", customer=trade.crm.add("customer", email="a@x"))
    await trade.run(trade.customers(), trade.sales())
    await trade.host.close()
    for path in (trade.folder / "state").glob("default.sales.db*"):
        path.unlink()
    assert [written(report) for report in await trade.run(trade.customers(), trade.sales())] == [0, 0]


async def test_a_child_that_leads_nowhere_can_be_deleted(trade: Trade) -> None:
    for system in (trade.crm, trade.erp):
        for number in ("1", "2"):
            system.add("sale", number=number, customer=999, note="n")
    await trade.run(trade.customers(), trade.sales())
    trade.crm.remove("sale", "number = '1'")
    await trade.run(trade.sales(), kind=Kind.RESYNC)
    assert list(trade.erp.sales()) == ["2"]


async def test_a_child_that_leads_nowhere_in_one_system_can_be_deleted(trade: Trade) -> None:
    customer = trade.crm.add("customer", email="a@x")
    for number in ("1", "2"):
        trade.crm.add("sale", number=number, customer=customer)
        trade.erp.add("sale", number=number, customer=999)
    await trade.run(trade.customers(), trade.sales())
    trade.crm.remove("sale", "number = '1'")
    (report,) = await trade.run(trade.sales(), kind=Kind.RESYNC)
    assert (list(trade.erp.sales()), report.tally.waiting) == (["2"], 1)


async def test_a_reference_that_leads_nowhere_in_one_system_keeps_nothing_else_back(trade: Trade) -> None:
    trade.crm.add("sale", number="1", customer=trade.crm.add("customer", email="a@x"), note="n")
    trade.erp.add("sale", number="1", customer="K-new")
    _, report = await trade.run(trade.customers(), trade.sales())
    assert waiting(report) == [(f"erp/{trade.erp.database.execute('SELECT id FROM sale').fetchone()[0]}", "customer")]
    assert trade.erp.database.execute("SELECT note, customer FROM sale").fetchall() == [("n", "K-new")]
    trade.erp.edit("sale", "number = '1'", customer=trade.erp.customer("a@x"))
    _, report = await trade.run(trade.customers(), trade.sales())
    assert (written(report), report.tally.waiting) == (0, 0)


async def test_a_reference_that_leads_nowhere_in_one_system_is_met_once_it_is_understood(trade: Trade) -> None:
    trade.crm.add("sale", number="1", customer=trade.crm.add("customer", email="a@x"))
    trade.erp.add("sale", number="1", customer="K-new")
    await trade.run(trade.customers(), trade.sales())
    trade.crm.edit("sale", "number = '1'", customer=trade.crm.add("customer", email="b@x"))
    await trade.run(trade.customers(), trade.sales())
    assert trade.erp.sales() == {"1": "K-new"}
    trade.erp.add("customer", id="K-new", email="new@x")
    _, report = await trade.run(trade.customers(), trade.sales())
    assert (trade.erp.sales(), report.tally.overwritten) == ({"1": "b@x"}, 1)


async def test_a_child_that_was_given_an_unknown_parent_outlives_its_delete_elsewhere(trade: Trade) -> None:
    customer = trade.crm.add("customer", email="a@x")
    for number in ("1", "2"):
        trade.crm.add("sale", number=number, customer=customer)
    await trade.run(trade.customers(), trade.sales())
    trade.crm.remove("sale", "number = '1'")
    trade.erp.edit("sale", "number = '1'", customer="K-new")
    await trade.run(trade.sales(), kind=Kind.RESYNC)
    assert trade.erp.sales()["1"] == "K-new"
    trade.erp.add("customer", id="K-new", email="new@x")
    await trade.run(trade.customers(), trade.sales(), trade.sales())
    assert trade.crm.sales() == trade.erp.sales() == {"1": "new@x", "2": "a@x"}


# --- the declaration changes ---


async def test_what_waited_for_a_record_goes_as_plain_text_once_the_field_is_no_reference(trade: Trade) -> None:
    customer = trade.crm.add("customer", email="a@x")
    trade.erp.database.execute("CREATE TRIGGER no BEFORE INSERT ON customer BEGIN SELECT RAISE(ABORT, 'closed'); END")
    trade.crm.add("sale", number="1", customer=customer, note="n")
    await trade.run(trade.customers(), trade.sales())
    assert trade.erp.sales() == {}
    await trade.host.close()
    await trade.run(trade.sales(fields={}))
    assert (trade.erp.sales(), trade.crm.sales()) == ({"1": str(customer)}, {"1": "a@x"})


async def test_a_field_that_becomes_a_reference_is_translated_from_then_on(trade: Trade) -> None:
    customer = trade.crm.add("customer", email="a@x")
    trade.crm.add("sale", number="1", customer=customer)
    await trade.run(trade.customers(), trade.sales(fields={}))
    assert trade.erp.sales() == {"1": str(customer)}
    await trade.host.close()
    await trade.run(trade.sales())
    assert trade.erp.sales() == {"1": str(customer)}
    trade.erp.edit("sale", "number = '1'", customer=trade.erp.customer("a@x"))
    (report,) = await trade.run(trade.sales())
    assert (trade.crm.sales(), trade.erp.sales(), written(report)) == ({"1": "a@x"}, {"1": "a@x"}, 0)


# --- the examples of docs/spec ---

BLOCK = re.compile(r"^```yaml reference\n(.*?)^```", re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("written_example", BLOCK.findall(page("SyncPolicy").read_text()))
async def test_an_example_does_what_it_says(trade: Trade, written_example: str) -> None:
    example = yaml.safe_load(written_example)
    systems = {"crm": trade.crm, "erp": trade.erp}
    for number, ids in enumerate(example["customers"]):
        for name, key in ids.items():
            systems[name].add("customer", id=key, email=f"{number}@x")
    for name, key in example["before"].items():
        systems[name].add("sale", number="1", customer=key)
    await trade.run(trade.customers(), trade.sales())
    for name, key in example["edits"].items():
        systems[name].edit("sale", "number = '1'", customer=key)
    _, report = await trade.run(trade.customers(), trade.sales())
    query = "SELECT customer FROM sale"
    found = {name: system.database.execute(query).fetchone()[0] for name, system in systems.items()}
    assert (found, report.tally.waiting) == (example["after"], example.get("waiting", 0))


async def test_a_reference_may_be_computed_for_a_system_that_wants_a_number(trade: Trade) -> None:
    sales = trade.sales()
    number = {"read": "string(customer)", "write": {"customer": "int(customer)"}}
    systems = list(sales.spec.systems)
    systems[0] = msgspec.structs.replace(systems[0], fields={**systems[0].fields, "customer": number})
    sales = msgspec.structs.replace(sales, spec=msgspec.structs.replace(sales.spec, systems=tuple(systems)))
    for email in ("a@x", "b@x"):
        trade.crm.add("customer", email=email)
    trade.crm.add("sale", number="1", customer=trade.crm.customer("a@x"))
    await trade.run(trade.customers(), sales)
    trade.erp.edit("sale", "number = '1'", customer=trade.erp.customer("b@x"))
    await trade.run(trade.customers(), sales)
    assert (trade.crm.sales(), trade.erp.sales()) == ({"1": "b@x"}, {"1": "b@x"})


# --- where the state is ---


async def test_workers_apart_translate_by_a_state_on_postgresql(tmp_path: Path, database: str) -> None:
    trade = Trade(tmp_path, database)
    trade.crm.add("sale", number="1", customer=trade.crm.add("customer", email="a@x"))
    parents, children = (trade.another_host(folder) for folder in ("one", "other"))
    trade.hosts += [parents, children]
    child = PolicyLoop(trade.sales(), children)
    await run_of(child)
    assert trade.erp.sales() == {}
    await run_of(PolicyLoop(trade.customers(), parents))
    await run_of(child)
    assert trade.erp.sales() == {"1": "a@x"}
    await trade.close()


async def test_a_page_of_children_costs_one_look_up_however_many_they_are(
    trade: Trade, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fairlead.state.directory import Directory

    customer = trade.crm.add("customer", email="a@x")
    for number in range(50):
        trade.crm.add("sale", number=str(number), customer=customer)
    await trade.run(trade.customers())
    asked: list[int] = []
    real = Directory.identities

    async def identities(self: Directory, connection: str, keys: list[str]) -> dict[str, str]:
        asked.append(len(keys))
        return await real(self, connection, keys)

    monkeypatch.setattr(Directory, "identities", identities)
    await trade.run(trade.sales())
    assert (len(trade.erp.sales()), asked[0]) == (50, 1)
    assert len(asked) <= 3


async def test_a_conflict_of_a_reference_that_means_something_else_now_ends_however_many_others_there_are(
    tmp_path: Path,
) -> None:
    store = SQLiteStore(tmp_path / "state.db")
    await store.open(LAYOUT)
    kept = [Conflict(n, "name", {"crm": "x", "erp": "y"}, 0.0) for n in range(1, 10_001)]
    await store.commit(Commit(frozen=[*kept, Conflict(1, "customer", {"crm": "r1", "erp": "r2"}, 1.0)]))
    rules = compile_rules(spec_of(("crm", "erp"), ("name", "customer")))
    await revise(store, rules, {"customer": "default/customers"})
    assert await all_conflicts(store) == kept
    await store.close()
