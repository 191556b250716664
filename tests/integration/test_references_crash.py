"""A worker whose policy refers to another one, and that dies at any transaction boundary, loses and doubles nothing."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from fairlead.model.syncpolicy import SyncPolicy
from fairlead.state.base import Commit
from fairlead.state.sqlite import SQLiteStore
from fairlead.worker.loop import PolicyLoop
from fairlead.worker.run import Kind
from support.trade import Trade

LAST = 18
"""More commits than any of the runs below makes: the run that is to die there is asserted to live."""


class Died(BaseException):
    """The process is gone."""


@pytest.fixture
async def trade(tmp_path: Path) -> AsyncIterator[Trade]:
    made = Trade(tmp_path)
    yield made
    await made.close()


async def die_in(trade: Trade, policy: SyncPolicy, nth: int, *, after: bool) -> None:
    """A run in which the worker dies just before or just after its nth commit, if it makes so many."""
    left, real = nth, SQLiteStore.commit

    async def commit(store: SQLiteStore, commit: Commit) -> None:
        nonlocal left
        left -= 1
        if left == 0 and not after:
            raise Died
        await real(store, commit)
        if left == 0:
            raise Died

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SQLiteStore, "commit", commit)
        with contextlib.suppress(Died, BaseExceptionGroup):
            await PolicyLoop(policy, trade.host).run_once(Kind.RESYNC)
    await trade.host.close()
    assert nth < LAST or left > 0


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("required", [False, True], ids=["optional", "required"])
@pytest.mark.parametrize("nth", range(1, LAST + 1))
async def test_children_that_wait_survive_a_death(trade: Trade, nth: int, required: bool, after: bool) -> None:
    sales: Any = trade.sales(required=required)
    for email in ("a@x", "b@x"):
        trade.crm.add("customer", email=email)
    trade.crm.add("sale", number="1", customer=trade.crm.customer("a@x"))
    trade.erp.add("sale", number="1", customer=trade.erp.add("customer", email="a@x"), note="theirs")
    trade.crm.add("sale", number="2", customer=trade.crm.customer("b@x"))
    await die_in(trade, sales, nth, after=after)
    await trade.run(trade.customers())
    await die_in(trade, sales, nth, after=after)
    await trade.run(sales, sales)
    assert trade.crm.sales() == trade.erp.sales() == {"1": "a@x", "2": "b@x"}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("nth", range(1, LAST + 1))
async def test_references_that_are_moved_survive_a_death(trade: Trade, nth: int, after: bool) -> None:
    for email in ("a@x", "b@x"):
        trade.crm.add("customer", email=email)
    for number in ("1", "2", "3"):
        trade.crm.add("sale", number=number, customer=trade.crm.customer("a@x"))
    await trade.run(trade.customers(), trade.sales())
    trade.crm.edit("sale", "number = '1'", customer=trade.crm.customer("b@x"))
    trade.erp.edit("sale", "number = '2'", customer=trade.erp.customer("b@x"))
    trade.crm.remove("sale", "number = '3'")
    await trade.host.close()
    await die_in(trade, trade.sales(), nth, after=after)
    await trade.run(trade.sales(), trade.sales(), kind=Kind.RESYNC)
    assert trade.crm.sales() == trade.erp.sales() == {"1": "b@x", "2": "b@x"}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("nth", range(1, LAST + 1))
async def test_an_edit_of_which_a_part_waits_survives_a_death(trade: Trade, nth: int, after: bool) -> None:
    trade.crm.add("sale", number="1", customer=trade.crm.add("customer", email="a@x"), note="n")
    await trade.run(trade.customers(), trade.sales())
    trade.erp.database.execute("CREATE TRIGGER no BEFORE INSERT ON customer BEGIN SELECT RAISE(ABORT, 'closed'); END")
    trade.crm.edit("sale", "number = '1'", customer=trade.crm.add("customer", email="b@x"), note="flows")
    await trade.run(trade.customers())
    await trade.host.close()
    await die_in(trade, trade.sales(), nth, after=after)
    await trade.run(trade.sales())
    query = "SELECT email, note FROM sale JOIN customer ON customer.id = customer"
    assert trade.erp.database.execute(query).fetchall() == [("a@x", "flows")]
    trade.erp.database.execute("DROP TRIGGER no")
    await trade.run(trade.customers(), kind=Kind.RESYNC)
    await trade.host.close()
    await die_in(trade, trade.sales(), nth, after=after)
    await trade.run(trade.sales())
    assert trade.erp.database.execute(query).fetchall() == [("b@x", "flows")]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("nth", range(1, LAST + 1))
async def test_a_circle_survives_a_death(trade: Trade, nth: int, after: bool) -> None:
    properties = {"email": {"type": "string"}, "boss": {"type": ["string", "null"]}}
    people = trade.policy(
        "people", "customer", properties, required=["email"], fields={"boss": {"references": "people"}}
    )
    ada = trade.crm.add("customer", email="ada@x")
    trade.crm.edit("customer", "email = 'ada@x'", boss=trade.crm.add("customer", email="bob@x", boss=ada))
    await die_in(trade, people, nth, after=after)
    await trade.run(people, people)
    assert trade.crm.linked("boss") == trade.erp.linked("boss") == {"ada@x": "bob@x", "bob@x": "ada@x"}
