"""A resync that a person asks for by annotation is done once, whenever the worker comes to it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fairlead.model.syncpolicy import RESYNC_REQUESTED_AT
from fairlead.worker.loop import PolicyLoop
from fairlead.worker.run import Kind
from support.hosted import Hosted

IN_A_FILE = {"store": "SQLite"}


@pytest.fixture
async def hosted(tmp_path: Path, database: str) -> AsyncIterator[Hosted]:
    made = Hosted(tmp_path, database)
    yield made
    await made.close()


async def kind_of_run(loop: PolicyLoop) -> Kind:
    report = await loop.run_once()
    assert report is not None
    return report.kind


async def worker(hosted: Hosted, asked: str) -> list[Kind]:
    """Two runs of a worker that starts with this request, and ends."""
    loop = hosted.loop({RESYNC_REQUESTED_AT: asked} if asked else {}, state=IN_A_FILE)
    kinds = [await kind_of_run(loop), await kind_of_run(loop)]
    assert loop.measured.last_handled_resync_request_at == asked
    await hosted.hosts[-1].close()
    return kinds


async def test_a_request_made_while_no_worker_ran_is_done_once(hosted: Hosted) -> None:
    await worker(hosted, "")
    assert await worker(hosted, "monday") == [Kind.RESYNC, Kind.CHANGES]
    assert await worker(hosted, "monday") == [Kind.CHANGES, Kind.CHANGES]
    assert await worker(hosted, "tuesday") == [Kind.RESYNC, Kind.CHANGES]


async def test_the_first_run_reads_everything_and_answers_a_request_too(hosted: Hosted) -> None:
    assert await worker(hosted, "monday") == [Kind.CHANGES, Kind.CHANGES]
    assert await worker(hosted, "monday") == [Kind.CHANGES, Kind.CHANGES]


class AfterOneBatch(asyncio.Event):
    """Tells the worker to stop once it has stored one batch."""

    def is_set(self) -> bool:
        told = super().is_set()
        self.set()
        return told


async def test_a_first_run_that_did_not_end_answers_no_request(hosted: Hosted) -> None:
    for book in (hosted.crm, hosted.erp):
        book.add("a@x")
    stopped = await hosted.loop(state=IN_A_FILE).run_once(stop=AfterOneBatch())
    assert (stopped.kind, stopped.stopped) == (Kind.CHANGES, True)
    await hosted.hosts[-1].close()
    assert await worker(hosted, "monday") == [Kind.RESYNC, Kind.CHANGES]


async def test_a_request_to_a_running_worker_is_done_by_its_next_run(hosted: Hosted) -> None:
    loop = hosted.loop(state=IN_A_FILE)
    await kind_of_run(loop)
    loop.levers({RESYNC_REQUESTED_AT: "monday"})
    assert [await kind_of_run(loop), await kind_of_run(loop)] == [Kind.RESYNC, Kind.CHANGES]
