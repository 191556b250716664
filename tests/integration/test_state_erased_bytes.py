"""Of a forgotten person no byte is left in what a store keeps on disk: files of SQLite, relations of PostgreSQL."""

import random

import psycopg

from fairlead.engine.case import Side
from fairlead.state.base import Commit, Conflict, Store
from fairlead.testing.store.erasing import CRM, DOUBLE, fill_with_a_person
from fairlead.testing.store.sample import LAYOUT, prints, recollection
from support.stores import InFile, InPostgres, Place

MANY = 3000


def on_disk(place: Place) -> bytes:
    """Everything that the store has written, but the server's own log."""
    if isinstance(place, InFile):
        return b"".join(path.read_bytes() for path in sorted(place.path.parent.glob("state.db*")))
    assert isinstance(place, InPostgres)
    with psycopg.connect(place.dsn, autocommit=True) as admin:
        admin.execute("CHECKPOINT")
        found = admin.execute(
            "SELECT pg_read_binary_file(pg_relation_filepath(c.oid)) FROM pg_class c "
            "WHERE c.relnamespace IN (SELECT oid FROM pg_namespace WHERE nspname = %s) AND c.relkind IN ('r', 'i') "
            "OR c.oid IN (SELECT reltoastrelid FROM pg_class t JOIN pg_namespace n ON n.oid = t.relnamespace "
            "WHERE n.nspname = %s)",
            (place.schema, place.schema),
        )
        return b"".join(row[0] for row in found)


def key(system: str, number: int) -> str:
    return f"{system}-{number * 2654435761 % 2**32:08x}-key"


async def grow(store: Store) -> None:
    """Records that come in no order, change their size and go: pages are split and merged."""
    chance = random.Random(7)  # noqa: S311 - the same every time
    numbers = list(range(1, MANY))
    chance.shuffle(numbers)
    for start in range(0, MANY, 100):
        sides = {n: {s: Side(key(s, n), n, prints(1, n)) for s in ("crm", "erp")} for n in numbers[start : start + 100]}
        await store.commit(
            Commit(
                records=[recollection(n, **its) for n, its in sides.items()],
                frozen=[Conflict(n, "name", {"crm": f"said-{n:06}" * chance.choice((1, 9, 400))}, 1.0) for n in sides],
            )
        )
    for _ in range(30):
        some = chance.sample(numbers, 100)
        versions = {n: "v" * chance.choice((1, 30, 90)) for n in some}
        sides = {n: {s: Side(key(s, n), n, prints(1, n), versions[n]) for s in ("crm", "erp")} for n in some}
        await store.commit(Commit(records=[recollection(n, **its) for n, its in sides.items()]))


async def test_no_byte_of_forgotten_persons_is_left_on_disk(place: Place) -> None:
    store = place.store()
    await store.open(LAYOUT)
    await grow(store)
    gone = [*range(5, MANY, 10)]
    await store.erase([("crm", key("crm", n)) for n in gone])
    content = on_disk(place)
    words = [word for n in gone for word in (key("crm", n), key("erp", n), f"said-{n:06}")]
    assert [word for word in words if word.encode() in content] == []
    assert key("crm", 1).encode() in content
    await store.close()


async def test_no_byte_of_a_person_in_every_table_is_left_on_disk(place: Place) -> None:
    store = place.store()
    await store.open(LAYOUT)
    await fill_with_a_person(store)
    if isinstance(place, InFile):
        assert b"PERSON" in on_disk(place)
    await store.erase([CRM, DOUBLE])
    assert b"PERSON" not in on_disk(place)
    assert b"somebody" in on_disk(place)
    await store.close()
