"""A person's request is taken up by the policy's worker: soon, once, and whatever happens in between."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from fairlead.state.base import StateError, Store
from fairlead.state.requests import (
    Answer,
    Demand,
    DiscardDeadLetters,
    Link,
    ResolveConflicts,
    RetryDeadLetters,
    Split,
    Undo,
    Unknown,
    in_words,
    request,
)
from fairlead.worker.loop import PolicyLoop
from fairlead.worker.stores import Stores
from support.hosted import ON_POSTGRES, Hosted, outcome

NO_LETTER = RetryDeadLetters(records=(("crm", "7"),))
SELDOM = {"interval": "1h"}


@pytest.fixture
async def hosted(tmp_path: Path, database: str) -> AsyncIterator[Hosted]:
    made = Hosted(tmp_path, database)
    yield made
    await made.close()


@pytest.fixture(params=[{}, ON_POSTGRES], ids=["SQLite", "Postgres"])
def where(request: pytest.FixtureRequest) -> Any:
    """`spec.state`."""
    return request.param


@asynccontextmanager
async def beside(hosted: Hosted, loop: PolicyLoop) -> AsyncIterator[Store]:
    """The policy's store, as a command opens it."""
    stores = Stores(hosted.connections, lambda _: hosted.secrets, hosted.state)
    store = stores.of(loop.policy)
    await store.join([])
    yield store
    await store.close()
    await stores.close()


async def left(hosted: Hosted, loop: PolicyLoop, demand: Demand) -> str:
    """Leaves a request; returns its id."""
    asked = request("ada", demand)
    async with beside(hosted, loop) as store:
        await store.ask(asked)
    return asked.id


async def answered(hosted: Hosted, loop: PolicyLoop, request: str) -> Answer | None:
    async with beside(hosted, loop) as store:
        return await store.answer(request)


async def soon(hosted: Hosted, loop: PolicyLoop, request: str) -> Answer:
    while True:
        answer = await answered(hosted, loop, request)
        if answer is not None:
            return answer
        await asyncio.sleep(0.1)


async def test_a_worker_that_waits_takes_a_request_up_within_seconds(hosted: Hosted, where: Any) -> None:
    loop, stop = hosted.loop(state=where, trigger=SELDOM), asyncio.Event()
    await outcome(loop)
    work = asyncio.create_task(loop.work(stop))
    asked = await left(hosted, loop, NO_LETTER)
    async with asyncio.timeout(20):
        answer = await soon(hosted, loop, asked)
    assert (answer.done, answer.refused) == (0, ("crm/7 is no dead letter any more",))
    stop.set()
    await work


async def test_a_request_is_kept_until_a_worker_comes(hosted: Hosted, where: Any) -> None:
    first = hosted.loop(state=where)
    await outcome(first)
    await hosted.hosts[0].close()
    asked = await left(hosted, first, NO_LETTER)
    assert await answered(hosted, first, asked) is None
    await outcome(hosted.loop(state=where))
    assert await answered(hosted, first, asked) is not None


async def test_a_request_that_could_not_be_answered_is_taken_up_again(
    hosted: Hosted, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = hosted.loop(state={})
    await outcome(loop)
    asked = await left(hosted, loop, NO_LETTER)
    store, _ = hosted.hosts[0]._open[loop.policy.id]

    async def fail(_: object) -> None:
        raise StateError("no space")

    monkeypatch.setattr(store, "commit", fail)
    assert await outcome(loop) == "StateUnavailable"
    assert await answered(hosted, loop, asked) is None
    await outcome(loop)
    assert await answered(hosted, loop, asked) is not None


async def test_a_request_of_another_version_is_refused_and_holds_nothing_up(hosted: Hosted) -> None:
    loop = hosted.loop(state={})
    await outcome(loop)
    asked = [await left(hosted, loop, NO_LETTER) for _ in range(2)]
    with sqlite3.connect(hosted.state / "default.customers.db") as state:
        body = b'{"by": "ada", "demand": {"kind": "MakeCoffee", "sugar": 2}}'
        state.execute("UPDATE request SET kind = 'MakeCoffee', body = ? WHERE id = ?", (body, min(asked)))
    hosted.crm.add("a@x.com", name="A")
    await outcome(loop)
    answers = [await answered(hosted, loop, each) for each in sorted(asked)]
    assert [answer.refused for answer in answers if answer] == [
        ("this worker does not know such a request: let it and the command be of one version",),
        ("crm/7 is no dead letter any more",),
    ]
    assert list(hosted.erp.all()) == ["a@x.com"]


@pytest.mark.parametrize(
    ("demand", "words"),
    [
        (Link(("crm", "1"), ("erp", "a/7")), "link crm/1 with erp/a/7"),
        (Split(("crm", "1")), "split crm/1 off"),
        (Undo("5f000000-abcdef", "u"), "undo run 5f000000-abcdef"),
        (ResolveConflicts(()), "resolve conflicts"),
        (RetryDeadLetters(), "try dead letters again"),
        (DiscardDeadLetters(), "discard dead letters"),
        (Unknown(), "do what another version knows"),
    ],
)
def test_every_request_is_told_in_words(demand: Demand | Unknown, words: str) -> None:
    assert words == in_words(demand)


async def test_no_request_is_taken_up_by_a_run_that_was_told_to_stop(hosted: Hosted) -> None:
    loop, stop = hosted.loop(state={}), asyncio.Event()
    await outcome(loop)
    asked = await left(hosted, loop, NO_LETTER)
    stop.set()
    await loop.run_once(stop=stop)
    assert await answered(hosted, loop, asked) is None
