"""Whatever is created, moved, deleted and run in whatever order: in the end both systems refer to the same records."""

import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from fairlead.model.syncpolicy import SyncPolicy
from fairlead.worker.run import Kind
from support.trade import Trade, Trader

STEPS = 14


@pytest.fixture
async def trade(tmp_path: Path) -> AsyncIterator[Trade]:
    made = Trade(tmp_path)
    yield made
    await made.close()


class Clerk:
    """Does something in one of the systems."""

    def __init__(self, trade: Trade, chance: random.Random, *, required: bool) -> None:
        self._systems = [trade.crm, trade.erp]
        self._chance = chance
        self._required = required
        self._count = 0

    def act(self) -> None:
        """One edit: whom a sale refers to is chosen among the customers that the system has by now."""
        system = self._chance.choice(self._systems)
        self._count += 1
        self._chance.choice([self._customer, self._sale, self._sale, self._move, self._move, self._remove])(system)

    def _customer(self, system: Trader) -> None:
        system.add("customer", email=f"{self._count}@x")

    def _sale(self, system: Trader) -> None:
        customer = self._any(system, "customer")
        if customer is not None:
            system.add("sale", number=str(self._count), customer=customer)

    def _move(self, system: Trader) -> None:
        sale, customer = self._any(system, "sale"), self._any(system, "customer")
        if not self._required and self._chance.random() < 0.2:
            customer = None
        elif customer is None:
            return
        system.database.execute("UPDATE sale SET customer = ? WHERE id = ?", (customer, sale))

    def _remove(self, _: Trader) -> None:
        crm = self._systems[0]
        table = self._chance.choice(["sale", "customer"])
        crm.database.execute(f"DELETE FROM {table} WHERE id = ?", (self._any(crm, table),))

    def _any(self, system: Trader, table: str) -> Any:
        rows = system.database.execute(f"SELECT id FROM {table} ORDER BY rowid").fetchall()
        return self._chance.choice(rows)[0] if rows else None


def leading_somewhere(system: Trader) -> dict[str, Any]:
    """Number → email of the sales whose customer is there, or is none: what leads nowhere may wait for ever."""
    return {number: email for number, email in system.sales().items() if email is None or "@" in str(email)}


async def settled(trade: Trade, *policies: SyncPolicy) -> int:
    """Runs until nothing is to be done; how much the last round wrote."""
    written = 0
    for _ in range(3):
        reports = await trade.run(*policies, kind=Kind.RESYNC)
        counts = [report.tally.counts() for report in reports]
        written = sum(each["created"] + each["updated"] + each["deleted"] for each in counts)
    return written


@pytest.mark.parametrize("required", [False, True], ids=["optional", "required"])
@pytest.mark.parametrize("seed", range(12))
async def test_both_systems_refer_to_the_same_records_in_the_end(trade: Trade, seed: int, required: bool) -> None:
    chance = random.Random(seed)  # noqa: S311 - the same histories every time
    clerk = Clerk(trade, chance, required=required)
    customers, sales = trade.customers(), trade.sales(required=required)
    for email in ("a@x", "b@x"):
        trade.crm.add("customer", email=email)
    for _ in range(STEPS):
        clerk.act()
        if chance.random() < 0.5:
            await trade.run(chance.choice([customers, sales]), kind=chance.choice([None, Kind.RESYNC]))
    for system in (trade.crm, trade.erp):  # a system that reads as empty halts the run
        system.add("customer", email="last@x")
        system.add("sale", number="last", customer=system.customer("last@x"))
    assert await settled(trade, customers, sales) == 0
    crm, erp = leading_somewhere(trade.crm), leading_somewhere(trade.erp)
    assert (crm.keys() - trade.erp.sales().keys(), erp.keys() - trade.crm.sales().keys()) == (set(), set())
    assert {n: crm[n] for n in crm.keys() & erp.keys()} == {n: erp[n] for n in crm.keys() & erp.keys()}
