"""A person who was forgotten stays so, whatever comes by: doubles, copies, references, and what a person asks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from fairlead.state.audit import AuditEntry, AuditQuery
from fairlead.state.base import Commit
from fairlead.state.place import reservation
from fairlead.state.requests import Link
from fairlead.state.sqlite import SQLiteStore
from fairlead.testing.memory_system import Traits
from fairlead.worker.run import Kind
from fairlead.worker.twins import FORGOTTEN
from support.town import Town
from support.trade import Trade


@pytest.fixture
def town_of(tmp_path: Path) -> Callable[..., Town]:
    return lambda *names, **spec: Town(tmp_path, *(names or ("crm", "erp")), **spec)


def person(email: str, **values: object) -> dict[str, Any]:
    return {"email": email, "name": None, "note": None, **values}


# --- who comes back under another key ---


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize(
    "traits", [Traits(), Traits(changes=False), Traits(find=False, unique=("email",))], ids=["feed", "scan", "unique"]
)
async def test_a_new_record_is_not_linked_with_what_was_forgotten_and_no_copy_is_made(
    town_of, traits: Traits, kind: Kind
) -> None:
    town = town_of()
    town["erp"].traits = traits
    town["crm"].add(person("a@x", name="Ada"), "A1")
    await town.run()
    await town.forget("crm", "A1")
    before = dict(town["erp"].records)
    town["crm"].add(person("a@x", name="Ada again"), "A2")
    await town.run(kind)
    assert (town["erp"].records, town["crm"].records["A2"]) == (before, person("a@x", name="Ada again"))
    (failed,) = await town.failed()
    assert failed.message == FORGOTTEN


async def test_a_new_record_is_created_once_what_was_forgotten_is_deleted(town_of) -> None:
    town = town_of()
    town["crm"].add(person("a@x", name="Ada"), "A1")
    await town.run()
    await town.forget("crm", "A1")
    town["crm"].add(person("a@x", name="Ada again"), "A2")
    await town.run()
    (key,) = town["erp"].records
    town["erp"].remove(key)
    await town.run(Kind.RESYNC)
    assert list(town["erp"].records.values()) == [person("a@x", name="Ada again")]


# --- a record that became a dead letter ---


async def test_a_record_that_a_link_makes_a_duplicate_is_traced_and_forgotten_with_its_audit(
    town_of, tmp_path: Path
) -> None:
    town = town_of()
    town["erp"].add(person("a@x", note="one"), "B1")
    town["erp"].add(person("a@x", note="two"), "B2")
    town["crm"].add(person("a@x", name="crm's"), "A")
    await town.run()
    store = SQLiteStore(tmp_path / "state.db")
    async with town.beside() as reader:
        layout = await reader.join([])
        (number,) = (await reader.lookup("erp", ["B1"])).records
    await store.open(layout)
    said = AuditEntry(1.0, "r", number, "note", "Conflict", "", "erp", {"erp": "long ago"})
    await store.commit(Commit(audit=[said], tombstones=[("crm", "A0", number)]))
    await store.close()
    await town.asked(Link(("crm", "A"), ("erp", "B2")))
    letter = reservation("erp", "B1")
    async with town.beside() as reader:
        (told,) = await reader.audit(AuditQuery(records=(letter,)))
        assert await reader.tombstones("crm", ["A0"]) == {"A0": letter}
    rule = "asked for by ada: another key of erp was linked"
    assert (told.entry.kind, told.entry.rule, told.entry.values) == ("Replaced", rule, {"erp": "B1"})
    await town.forget("erp", "B1")
    async with town.beside() as reader:
        left = b"".join([lines async for lines in reader.export()])
        assert [word for word in (b"long ago", b"B1", b"A0") if word in left] == []
        assert (await reader.lookup("erp", ["B2"])).records != [None]


# --- who is referred to ---


@pytest.fixture
async def trade(tmp_path: Path) -> AsyncIterator[Trade]:
    made = Trade(tmp_path)
    yield made
    await made.close()


async def orphans(trade: Trade, policy: Any) -> list[tuple[str, str, str]]:
    """(system, field, parent) of references that lead nowhere."""
    async with trade.host.session(policy) as session:
        return [
            (each.system, each.field, each.parent)
            for system in ("crm", "erp")
            async for page in session.store.orphans(system)
            for each in page
        ]


async def test_what_refers_to_a_forgotten_record_goes_on_and_does_not_keep_its_key(trade: Trade) -> None:
    customer = trade.crm.add("customer", email="a@x")
    trade.crm.add("sale", number="1", customer=customer)
    customers, sales = trade.customers(), trade.sales(required=False)
    await trade.run(customers, sales)
    async with trade.host.session(customers) as session:
        await session.store.erase([("crm", str(customer))])
    trade.crm.edit("sale", "number = '1'", note="new")
    trade.crm.add("sale", number="2", customer=customer, note="two")
    await trade.run(customers, sales)
    notes = dict(trade.erp.database.execute("SELECT number, note FROM sale ORDER BY number"))
    assert notes == {"1": "new", "2": "two"}
    assert {parent for _, _, parent in await orphans(trade, sales)} == {""}
    trade.crm.edit("sale", "number = '2'", customer=trade.crm.add("customer", email="b@x"))
    await trade.run(customers, sales)
    assert trade.erp.sales()["2"] == "b@x"


async def test_what_waited_for_a_record_that_is_forgotten_lets_go_of_its_key(trade: Trade) -> None:
    customers, sales = trade.customers(), trade.sales(required=False)
    trade.crm.add("sale", number="1", customer=17)
    await trade.run(customers, sales)
    assert await orphans(trade, sales) == [("crm", "customer", "17")]
    async with trade.host.session(customers) as session:
        await session.store.erase([("crm", "17")], unseen=True)
    await trade.run(customers, sales)
    assert await orphans(trade, sales) == [("crm", "customer", "")]
