"""Concurrency: calls side by side, a bounded number at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from fairlead.transport.failure import Failure

T = TypeVar("T")
R = TypeVar("R")


async def side_by_side(items: Sequence[T], call: Callable[[T], Awaitable[R]], width: int) -> list[R]:
    """The result of the call for each item, in order; at most `width` are under way.

    Raises:
        Failure: the first one of a call; the others are cancelled.
    """
    results: dict[int, R] = {}
    waiting = iter(enumerate(items))

    async def work() -> None:
        for position, item in waiting:
            results[position] = await call(item)

    try:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(min(width, len(items))):
                tasks.create_task(work())
    except* Failure as failures:
        raise _first(failures) from None
    return [results[position] for position in range(len(items))]


def _first(failures: BaseExceptionGroup[Failure]) -> Failure:
    found = failures.exceptions[0]
    return _first(found) if isinstance(found, BaseExceptionGroup) else found
