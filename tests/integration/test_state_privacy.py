"""What a state holds of people: nothing while systems agree, and nothing that can be read without the key when not."""

from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest

from fairlead.worker.loop import PolicyLoop
from fairlead.worker.run import Kind, Outcome
from support.hosted import ON_POSTGRES, SEALING, Hosted, outcome

PEOPLE = 25
STORES = pytest.mark.parametrize("store", [{}, ON_POSTGRES], ids=["SQLite", "Postgres"])
BAD = "Unmentionable Robert"


@pytest.fixture
async def hosted(tmp_path: Path, database: str) -> AsyncIterator[Hosted]:
    made = Hosted(tmp_path, database)
    made.values["sealing"] = {"keys": "a key of more than thirty-two characters"}
    yield made
    await made.close()


class Ward:
    """People with values that are seen nowhere else, all of which are remembered here."""

    def __init__(self, hosted: Hosted) -> None:
        self.hosted = hosted
        self.values: set[str] = set()

    def admit(self) -> None:
        for n in range(PEOPLE):
            values = {"name": f"Firstname{n} Lastname{n}", "credit": 271828.18 + n, "note": f"Diagnosis number {n}"}
            self.hosted.crm.add(f"person{n}@example.com", **values)
            self.values |= {f"person{n}@example.com", *map(str, values.values())}

    def edit(self, n: int, system: str, **values: str) -> None:
        getattr(self.hosted, system).edit(f"person{n}@example.com", **values)
        self.values |= set(values.values())

    def found(self, content: bytes) -> list[str]:
        return sorted(value for value in self.values if value.rstrip(".").encode() in content)


def content_of(hosted: Hosted, database: str) -> bytes:
    """Every byte of the state: the files as they are on disk, and every cell of every table."""
    files = [path.read_bytes() for path in sorted(hosted.state.glob("*"))] if hosted.state.exists() else []
    cells: list[bytes] = []
    with psycopg.connect(database) as reader:
        tables = reader.execute("SELECT schemaname, tablename FROM pg_tables WHERE schemaname LIKE 'fairlead%'")
        for schema, table in tables.fetchall():
            rows = reader.execute(f'SELECT * FROM "{schema}"."{table}"').fetchall()
            cells += [cell if isinstance(cell, bytes) else str(cell).encode() for row in rows for cell in row]
    assert bool(files) != bool(cells), "the state is in one place, and it is read"
    return b"\x00".join(files + cells)


async def refused_for_a_while(hosted: Hosted, ward: Ward, loop: PolicyLoop) -> None:
    """Values that the state has to hold from one run to the next, and then has to let go."""
    hosted.erp.database.execute(
        "CREATE TRIGGER later BEFORE UPDATE ON customer WHEN new.note LIKE 'Later%' "
        "BEGIN SELECT raise(ABORT, 'no'); END"
    )
    for n in range(PEOPLE // 2):
        ward.edit(n, "crm", note=f"Later than {n}" + "." * 300)
    await outcome(loop)
    assert loop.measured.dead_letters == PEOPLE // 2
    hosted.erp.database.execute("DROP TRIGGER later")
    loop.request(Kind.RESYNC)
    assert await outcome(loop) == Outcome.SUCCEEDED


async def healthy(hosted: Hosted, ward: Ward, loop: PolicyLoop) -> None:
    """People come, are edited on both sides, and leave."""
    ward.admit()
    assert await outcome(loop) == Outcome.SUCCEEDED
    for n in range(5):
        ward.edit(n, "crm", name=f"Married{n} Lastname{n}")
        ward.edit(n + 5, "erp", note=f"Second opinion {n}")
    hosted.crm.remove("person20@example.com")
    loop.request(Kind.RESYNC)
    assert await outcome(loop) == Outcome.SUCCEEDED
    await refused_for_a_while(hosted, ward, loop)
    assert hosted.crm.all() == hosted.erp.all()
    assert len(hosted.erp.all()) == PEOPLE - 1


@STORES
async def test_the_state_of_a_healthy_sync_holds_no_value(hosted: Hosted, database: str, store: dict[str, str]) -> None:
    ward = Ward(hosted)
    loop = hosted.loop(state=store)
    await healthy(hosted, ward, loop)
    assert ward.found(content_of(hosted, database)) == []
    await hosted.hosts[0].close()
    assert ward.found(content_of(hosted, database)) == []


@STORES
@pytest.mark.parametrize("sealed", [True, False], ids=["sealed", "open"])
async def test_a_sealed_state_with_every_trouble_holds_none_either(
    hosted: Hosted, database: str, store: dict[str, str], sealed: bool
) -> None:
    ward = Ward(hosted)
    rules = {"fields": {"note": {"onConflict": "Manual"}}}
    hosted.erp.database.executescript(
        "CREATE TRIGGER no BEFORE UPDATE ON customer WHEN new.name LIKE 'Unmentionable%' "
        f"BEGIN SELECT raise(ABORT, 'there is no {BAD} here'); END"
    )
    loop = hosted.loop(state={**store, **(SEALING if sealed else {})}, **rules)
    await healthy(hosted, ward, loop)
    ward.edit(10, "crm", note="Heard this")  # a conflict that waits
    ward.edit(10, "erp", note="Heard that")
    ward.edit(11, "crm", name="Winner of two")  # a conflict that is decided, and audited
    ward.edit(11, "erp", name="Loser of two")
    ward.edit(12, "crm", name=BAD)  # a write that is refused in words that repeat it
    ward.edit(13, "crm", name="Much too long " * 20)  # breaks the contract
    loop.request(Kind.RESYNC)
    await outcome(loop)
    assert (loop.measured.conflicts, loop.measured.dead_letters) == (1, 2)
    held = ["Heard that", "Heard this", "Loser of two", BAD, "Winner of two"]
    assert ward.found(content_of(hosted, database)) == ([] if sealed else held)
