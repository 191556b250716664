"""Calls side by side."""

import asyncio

import pytest

from fairlead.transport.concurrency import side_by_side
from fairlead.transport.failure import Failure, Invalid, Transient


async def test_results_come_in_the_order_of_the_items() -> None:
    async def call(n: int) -> int:
        for _ in range(5 - n):
            await asyncio.sleep(0)
        return n * n

    assert await side_by_side(range(5), call, 3) == [0, 1, 4, 9, 16]


async def test_nothing_to_do_is_no_result() -> None:
    async def call(n: int) -> int:
        return n

    assert await side_by_side([], call, 3) == []


@pytest.mark.parametrize(("items", "width", "most"), [(20, 4, 4), (2, 4, 2), (5, 1, 1)])
async def test_no_more_are_under_way_than_allowed(items: int, width: int, most: int) -> None:
    running, highest = 0, 0

    async def call(_: int) -> None:
        nonlocal running, highest
        running += 1
        highest = max(highest, running)
        await asyncio.sleep(0)
        running -= 1

    await side_by_side(range(items), call, width)
    assert highest == most


async def test_the_first_failure_is_raised_as_it_is_and_stops_the_others() -> None:
    started, cancelled = [], []

    async def call(n: int) -> None:
        started.append(n)
        if n == 1:
            raise Invalid("no")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(n)
            raise

    with pytest.raises(Failure) as caught:
        await side_by_side(range(9), call, 3)
    assert (type(caught.value), started, sorted(cancelled)) == (Invalid, [0, 1, 2], [0, 2])


async def test_several_failures_at_once_are_one() -> None:
    async def call(n: int) -> None:
        await asyncio.sleep(0)
        raise Transient(f"failure {n}")

    with pytest.raises(Transient):
        await side_by_side(range(3), call, 3)


async def test_a_failure_of_nested_calls_is_raised_as_it_is() -> None:
    async def inner(_: int) -> None:
        raise Invalid("no")

    async def outer(_: int) -> None:
        await side_by_side(range(2), inner, 2)

    with pytest.raises(Invalid):
        await side_by_side(range(2), outer, 2)


async def test_what_is_no_failure_of_a_system_is_not_hidden() -> None:
    async def call(_: int) -> None:
        raise ZeroDivisionError

    with pytest.raises(ExceptionGroup) as caught:
        await side_by_side(range(2), call, 1)
    assert [type(error) for error in caught.value.exceptions] == [ZeroDivisionError]


async def test_who_cancels_all_cancels_each() -> None:
    cancelled = []

    async def call(n: int) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(n)
            raise

    task = asyncio.create_task(side_by_side(range(9), call, 3))
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait([task])
    assert (task.cancelled(), sorted(cancelled)) == (True, [0, 1, 2])
