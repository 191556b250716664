"""A worker that may not write any more changes nothing in any system, however far it has come."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from fairlead.connectors.base import NativeWrite, Operation, Outcome, System, Verdict
from fairlead.model.record import Native
from fairlead.testing.http_system import HTTPSystem
from fairlead.transport.failure import Failure
from fairlead.transport.fence import Fence, keep_within, running
from support import rest
from support.sql import PostgresWorld, SQLiteWorld

BEFORE = ("a@x", "Ada")
PATHS = ("email", "name")


class World:
    """A system with one customer."""

    def __init__(self, system: System, key: str, content: Callable[[], list[tuple[object, ...]]]) -> None:
        self.system, self.key, self.content = system, key, content


@asynccontextmanager
async def api() -> AsyncIterator[World]:
    with HTTPSystem() as served:
        (key,) = served.store.fill("customers", [dict(zip(PATHS, BEFORE, strict=True))])
        async with rest.opened(served) as system:
            rows = lambda: [tuple(row[p] for p in PATHS) for row in served.store.values("customers").values()]  # noqa: E731
            yield World(system, key, rows)


@asynccontextmanager
async def database(world: SQLiteWorld | PostgresWorld) -> AsyncIterator[World]:
    (key,) = await world.insert([{**dict(zip(PATHS, BEFORE, strict=True)), "note": None}])
    try:
        system = await world.client.open("customer", paths=PATHS, key=None, modified=None)
        yield World(system, key, lambda: world.sql("SELECT email, name FROM customer"))
    finally:
        await world.close()


@pytest.fixture(params=["rest", "sqlite", "postgres"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    if request.param == "rest":
        made = api()
    elif request.param == "sqlite":
        made = database(SQLiteWorld(tmp_path / "app.db"))
    else:
        made = database(PostgresWorld(request.getfixturevalue("database")))
    async with made as found:
        yield found


async def refused(system: System, writes: list[NativeWrite], fence: Fence) -> list[str]:
    """Why each of some writes was not sent."""

    async def send() -> list[Outcome]:
        keep_within(fence)
        return await system.write(writes)

    try:
        outcomes = await asyncio.create_task(send())
    except Failure as failure:
        return [failure.message] * len(writes)
    return [outcome.message for outcome in outcomes]


def change(world: World, operation: Operation, check: Callable[[Native], Verdict]) -> NativeWrite:
    values: dict[str, object] = {} if operation is Operation.DELETE else {"name": "Changed"}
    return NativeWrite(operation, world.key, values, None, check, "change")


@pytest.mark.parametrize("operation", [Operation.UPDATE, Operation.DELETE])
async def test_a_fence_that_closes_after_the_last_look_stops_the_write(world: World, operation: Operation) -> None:
    fence = Fence(running() + 60)

    def close(_: Native) -> Verdict:
        fence.close()
        return Verdict.PROCEED

    (why,) = await refused(world.system, [change(world, operation, close)], fence)
    assert "sends nothing more" in why
    assert world.content() == [BEFORE]


async def test_creates_outside_a_fence_are_not_sent(world: World) -> None:
    fence = Fence(running())
    writes = [
        NativeWrite(Operation.CREATE, None, {"email": f"{n}@x", "name": "New"}, None, lambda _: Verdict.PROCEED, str(n))
        for n in range(12)
    ]
    assert all("sends nothing more" in why for why in await refused(world.system, writes, fence))
    assert world.content() == [BEFORE]


async def test_within_a_fence_everything_is_sent(world: World) -> None:
    fence = Fence(running() + 60)
    assert await refused(world.system, [change(world, Operation.UPDATE, lambda _: Verdict.PROCEED)], fence) == [""]
    assert world.content() == [("a@x", "Changed")]
