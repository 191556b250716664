"""What the tests of a store put into it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from decimal import Decimal

from fairlead.engine.case import Operation, Side, Write
from fairlead.engine.fingerprint import WIDTH
from fairlead.model.record import Value
from fairlead.state.audit import AuditEntry
from fairlead.state.base import (
    STALE,
    Commit,
    Conflict,
    DeadLetter,
    Intent,
    Recollection,
    Store,
    Undelivered,
)
from fairlead.state.history import RunRecord
from fairlead.state.layout import Layout, SystemLayout
from fairlead.state.place import reservation
from fairlead.state.referring import Orphan
from fairlead.state.requests import Answer, Request, RetryDeadLetters

LAYOUT = Layout(
    ("email", "name"),
    {
        "crm": SystemLayout("crm/customers", {"email": "email", "name": "name"}),
        "erp": SystemLayout("erp/customer", {"email": "mail"}),
    },
    kept=("name",),
)
ALL = frozenset(LAYOUT.systems)


def prints(*fields: int) -> bytes:
    """Fingerprints by number; 0 is unseen."""
    return b"".join(number.to_bytes(WIDTH, "big") for number in fields)


def recollection(record: int, **sides: Side) -> Recollection:
    """A record with these sides."""
    return Recollection(record, sides)


def update(**values: str) -> Write:
    """An update that came from the CRM."""
    return Write(Operation.UPDATE, dict(values), dict.fromkeys(values, "crm"))


KEY, OTHER_KEY = b"k" * 32, b"o" * 32

WITH_VALUES = Commit(
    journal={1: [Intent(1, "erp", update(name="in the journal"))]},
    pending=[Undelivered(1, "erp", update(name="undelivered"), 1.0, message="refused 'undelivered'")],
    frozen=[Conflict(1, "name", {"crm": "x", "erp": "y"}, 1.0)],
    dead=[DeadLetter("crm", "a", "ContractBroken", "bad 'value'", 1.0, (3,))],
    audit=[AuditEntry(1.0, "r1", 1, "name", "Conflict", "onConflict: Manual", "", {"crm": "audited"})],
)
"""One of everything that holds values."""


async def all_letters(store: Store) -> list[DeadLetter]:
    """Every dead letter of a record that could not be taken in, discarded ones among them."""
    return [letter async for page in store.walk_letters(discarded=True) for letter in page]


async def all_conflicts(store: Store) -> list[Conflict]:
    """Every conflict."""
    return [conflict async for page in store.walk_conflicts() for conflict in page]


async def values_of(store: Store) -> tuple[object, ...]:
    """What a store says of them."""
    pending = await store.undelivered(due=1e12, dead=True)
    return (await store.journal(), pending, await all_conflicts(store), await all_letters(store))


ASKED = Request("0001", 1.25, "ada", RetryDeadLetters(((1, "erp"),), (("crm", "a"),)))


async def fill(store: Store) -> None:
    """Puts something of every kind into a store; some of it sealed."""
    sides = {"crm": Side("a\n\u2028", -(2**63), prints(5, 6), "v1"), "erp": Side("1", None, prints(7, 0))}
    bases: dict[str, dict[bytes, Value]] = {"name": {prints(6): ["old", Decimal("0.10")], prints(8): None}}
    apart = Recollection(2, {"crm": Side("b", 2**63 - 1, prints(5, 6))}, frozenset({"erp"}))
    await store.record_run(RunRecord("r1", "Changes", 1.5, 2.5, "Succeeded", "", {"read": 3}))
    await store.erase([("crm", "somebody")], unseen=True)
    await store.unlock([KEY])
    await store.commit(WITH_VALUES)
    await store.ask(ASKED)
    await store.commit(Commit(answers=[Answer("an earlier request", 1.5, 2, ("not 'this'",))]))
    await store.commit(
        Commit(
            records=[Recollection(1, sides, bases=bases), apart, recollection(3, crm=Side("c", 1, prints(1, 2)))],
            matches=[(-(2**63), 1), (5, 2), (5, reservation("crm", "x"))],
            tombstones=[("erp", "t", 9)],
            waiting=[("crm", "w")],
            orphans=[Orphan("crm", "a", "name", "9")],
            apart=[(("crm", "b"), ("erp", "1"))],
            merged=[(8, 1, 1.5)],
            checkpoints={"crm": "c1"},
            meta={"met": "crm", STALE: None},
        )
    )


async def streamed(lines: Iterable[bytes]) -> AsyncIterator[bytes]:
    """Line by line, as a file is read."""
    for line in b"".join(lines).splitlines(keepends=True):
        yield line
