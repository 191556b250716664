"""References of a policy that several workers share: what a helper comes upon is as well remembered as the leader's."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from fairlead.model.syncpolicy import SyncPolicy
from fairlead.worker.run import Kind, RunReport
from support.crew import handing
from support.trade import Trade


@pytest.fixture
async def trade(tmp_path: Path) -> AsyncIterator[Trade]:
    made = Trade(tmp_path)
    yield made
    await made.close()


async def run_shared(
    trade: Trade, policy: SyncPolicy, meanwhile: Callable[[], None] = lambda: None, kind: Kind | None = None
) -> RunReport:
    """A run whose writes are all sent by a helper."""
    async with handing(trade, policy, meanwhile):
        (report,) = await trade.run(policy, kind=kind)
    return report


async def test_a_reference_that_a_helper_finds_leading_nowhere_waits_and_spreads_once_its_record_is_known(
    trade: Trade,
) -> None:
    trade.crm.add("sale", number="1", customer=trade.crm.add("customer", email="a@x"), note="n")
    await trade.run(trade.customers(), trade.sales())
    trade.crm.edit("sale", "number = '1'", note="n2")
    report = await run_shared(trade, trade.sales(), lambda: trade.erp.edit("sale", "number = '1'", customer="K-new"))
    assert trade.erp.database.execute("SELECT note, customer FROM sale").fetchall() == [("n2", "K-new")]
    assert report.tally.waiting == 1
    assert [(note.kind, note.field) for note in report.tally.notes] == [("WaitingForParent", "customer")]
    trade.erp.add("customer", id="K-new", email="new@x")
    _, report = await trade.run(trade.customers(), trade.sales())
    assert (trade.crm.sales(), trade.erp.sales()) == ({"1": "new@x"}, {"1": "new@x"})
    assert report.tally.waiting == 0


async def test_a_record_that_a_helper_deletes_waits_no_more(trade: Trade) -> None:
    customer = trade.crm.add("customer", email="a@x")
    for number in ("1", "2"):
        trade.crm.add("sale", number=number, customer=customer)
        trade.erp.add("sale", number=number, customer="K-new")
    _, before = await trade.run(trade.customers(), trade.sales())
    trade.crm.remove("sale", "number = '1'")
    report = await run_shared(trade, trade.sales(), kind=Kind.RESYNC)
    assert (list(trade.erp.sales()), before.tally.waiting, report.tally.waiting) == (["2"], 2, 1)


async def test_what_a_helper_wrote_to_a_record_that_waits_leaves_it_waiting(trade: Trade) -> None:
    trade.crm.add("sale", number="1", customer=trade.crm.add("customer", email="a@x"), note="n")
    trade.erp.add("sale", number="1", customer="K-new", note="n")
    await trade.run(trade.customers(), trade.sales())
    trade.crm.edit("sale", "number = '1'", note="n2")
    report = await run_shared(trade, trade.sales())
    assert trade.erp.database.execute("SELECT note, customer FROM sale").fetchall() == [("n2", "K-new")]
    assert report.tally.waiting == 1
