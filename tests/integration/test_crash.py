"""A worker that dies at any transaction boundary loses nothing and does nothing twice."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fairlead.state.base import Commit, Store
from fairlead.worker.run import Kind, Outcome, Run
from support.policies import Book, open_session, policy_of
from support.stores import Place

LAST = 26
"""More commits than any of the runs below makes: the run that is to die there is asserted to live."""


class Died(BaseException):
    """The process is gone."""


class Dying:
    """A store that dies just before or just after its nth commit."""

    def begin(self, nth: int, after: bool) -> None:
        self._left = nth
        self._after = after

    async def commit(self, commit: Commit) -> None:
        self._left -= 1
        if self._left == 0 and not self._after:
            raise Died
        await super().commit(commit)
        if self._left == 0:
            raise Died


@pytest.fixture
async def books(tmp_path: Path) -> AsyncIterator[dict[str, Book]]:
    made = {name: Book(tmp_path, name) for name in ("crm", "erp", "shop")}
    yield made
    for book in made.values():
        await book.close()


SYSTEMS = [{"name": "crm", "modified": "changed"}, {"name": "erp"}, {"name": "shop", "modified": "changed"}]


async def run(
    books: dict[str, Book], store: Store, kind: Kind, clock=lambda: 1_800_000_000.0, systems=SYSTEMS
) -> Outcome | None:
    """One run; None when the worker died in it."""
    policy = policy_of(systems)
    session = await open_session(policy, {name: book.client for name, book in books.items()}, store, clock)
    try:
        return (await Run(session, kind).run()).outcome
    except (Died, BaseExceptionGroup):
        return None
    finally:
        await store.close()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("nth", range(1, LAST + 1))
async def test_a_first_sync_that_dies_creates_every_record_once(books, place: Place, nth: int, after: bool) -> None:
    for n in range(5):
        books["crm"].add(f"crm{n}@x.com", name=f"C{n}")
        books["shop"].add(f"shop{n}@x.com", name=f"S{n}")
    books["erp"].add("crm0@x.com", name="other")
    lived = await run(books, place.store(Dying, nth, after), Kind.CHANGES)
    await run(books, place.store(), Kind.CHANGES)
    outcome = await run(books, place.store(), Kind.RESYNC)
    assert outcome is Outcome.SUCCEEDED
    assert nth < LAST or lived
    assert len(books["crm"].all()) == 10
    assert books["crm"].all() == books["erp"].all() == books["shop"].all()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("nth", range(1, LAST + 1))
async def test_edits_and_deletes_survive_a_death(books, place: Place, nth: int, after: bool) -> None:
    for n in range(6):
        books["crm"].add(f"{n}@x.com", name=f"N{n}")
    await run(books, place.store(), Kind.CHANGES)
    books["crm"].edit("0@x.com", name="crm")
    books["erp"].edit("1@x.com", name="erp")
    books["erp"].edit("0@x.com", note="erp")
    books["crm"].edit("2@x.com", name="crm wins")
    books["shop"].edit("2@x.com", name="shop loses")
    books["crm"].remove("3@x.com")
    books["shop"].add("new@x.com", name="new")
    lived = await run(books, place.store(Dying, nth, after), Kind.RESYNC)
    await run(books, place.store(), Kind.RESYNC)
    outcome = await run(books, place.store(), Kind.RESYNC)
    expected = {
        "0@x.com": ("crm", None, "erp"),
        "1@x.com": ("erp", None, None),
        "2@x.com": ("crm wins", None, None),
        "4@x.com": ("N4", None, None),
        "5@x.com": ("N5", None, None),
        "new@x.com": ("new", None, None),
    }
    assert outcome is Outcome.SUCCEEDED
    assert nth < LAST or lived
    assert [book.all() for book in books.values()] == [expected] * 3


class DyingBeforeItWrites:
    """A store that dies when writes are about to be sent."""

    def begin(self) -> None: ...

    async def commit(self, commit: Commit) -> None:
        await super().commit(commit)
        if commit.journal:
            raise Died


async def test_a_system_that_is_taken_out_after_a_death_gets_nothing_more(books, place: Place) -> None:
    books["crm"].add("a@x.com", name="A")
    await run(books, place.store(), Kind.CHANGES)
    books["crm"].edit("a@x.com", name="B")
    shop = books["shop"].all()
    assert await run(books, place.store(DyingBeforeItWrites), Kind.CHANGES) is None
    outcome = await run(books, place.store(), Kind.CHANGES, systems=SYSTEMS[:2])
    assert (outcome, books["erp"].all(), books["shop"].all()) == (Outcome.SUCCEEDED, books["crm"].all(), shop)
