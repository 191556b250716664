"""A native id that a system gives again: SQLite does so with its greatest one, once the row that had it is gone."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from fairlead.worker.run import Kind, Outcome, Run
from support.policies import Book, open_session, policy_of
from support.stores import Place

HOUR = 3600.0


@pytest.fixture
async def books(tmp_path: Path) -> AsyncIterator[dict[str, Book]]:
    made = {name: Book(tmp_path, name) for name in ("crm", "erp")}
    yield made
    for book in made.values():
        await book.close()


class Worker:
    """Runs of one policy, an hour apart."""

    def __init__(self, books: dict[str, Book], place: Place, propagate: str) -> None:
        self._books, self._place = books, place
        deletes = {"propagate": propagate, "guard": {"maxRecords": 100, "maxPercent": 100}}
        self._policy = policy_of([{"name": "crm"}, {"name": "erp"}], deletes=deletes)
        self._now = 1_800_000_000.0

    async def run(self, kind: Kind = Kind.CHANGES, stopping: Callable[[], bool] = lambda: False) -> Outcome:
        self._now += HOUR
        store = self._place.store()
        clients = {name: book.client for name, book in self._books.items()}
        session = await open_session(self._policy, clients, store, lambda: self._now)
        try:
            return (await Run(session, kind, stopping=stopping).run()).outcome
        finally:
            await store.close()


async def give_up_an_id(worker: Worker, books: dict[str, Book]) -> None:
    """The CRM's greatest id is free again, unseen, and what is new in the ERP will get it."""
    crm, erp = books["crm"], books["erp"]
    crm.add("other@x")
    crm.add("old@x", name="Old")
    await worker.run()
    crm.remove("old@x")
    erp.add("new@x", name="New")


@pytest.mark.parametrize("propagate", ["FromAny", "Never"])
async def test_an_id_that_a_create_gets_was_free_so_whoever_had_it_is_deleted_there(
    books: dict[str, Book], place: Place, propagate: str
) -> None:
    worker = Worker(books, place, propagate)
    crm, erp = books["crm"], books["erp"]
    await give_up_an_id(worker, books)
    assert await worker.run() is Outcome.SUCCEEDED
    assert await worker.run(Kind.RESYNC) is Outcome.SUCCEEDED
    both = {"new@x": ("New", None, None), "other@x": (None, None, None)}
    left = {"old@x": ("Old", None, None)} if propagate == "Never" else {}
    assert (crm.all(), erp.all()) == (both, both | left)


async def test_what_has_such_an_id_is_kept_in_agreement_and_is_not_what_had_it(
    books: dict[str, Book], place: Place
) -> None:
    worker = Worker(books, place, "Never")
    crm, erp = books["crm"], books["erp"]
    await give_up_an_id(worker, books)
    await worker.run()
    crm.edit("new@x", name="Newer")
    erp.edit("old@x", name="Older")
    await worker.run()
    both = {"new@x": ("Newer", None, None), "other@x": (None, None, None)}
    assert (crm.all(), erp.all()) == (both, both | {"old@x": ("Older", None, None)})


async def test_a_worker_that_is_told_to_stop_just_then_ends_the_batch(books: dict[str, Book], place: Place) -> None:
    worker = Worker(books, place, "Never")
    crm = books["crm"]
    await give_up_an_id(worker, books)
    assert await worker.run(stopping=lambda: "new@x" in crm.all()) is Outcome.PARTIAL
    await worker.run()
    assert crm.all() == {"new@x": ("New", None, None), "other@x": (None, None, None)}


async def test_a_create_that_meets_another_records_unique_value_is_a_dead_letter_and_the_rest_goes_on(
    books: dict[str, Book], place: Place
) -> None:
    worker = Worker(books, place, "Never")
    crm, erp = books["crm"], books["erp"]
    crm.add("old@x", name="Old")
    await worker.run()
    erp.add("new@x", name="New")
    crm.database.execute("UPDATE customer SET email = 'new@x' WHERE email = 'old@x'")
    await worker.run()
    crm.add("next@x")
    assert await worker.run(Kind.RESYNC) is Outcome.SUCCEEDED
    apart = {"old@x": ("Old", None, None), "new@x": ("New", None, None), "next@x": (None, None, None)}
    assert (crm.all(), erp.all()) == ({"new@x": ("Old", None, None), "next@x": (None, None, None)}, apart)
    crm.database.execute("UPDATE customer SET email = 'old@x' WHERE email = 'new@x'")
    await worker.run(Kind.RESYNC)
    await worker.run()
    assert crm.all() == erp.all() == apart
