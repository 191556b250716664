"""The budget of a Connection: a rate, a burst, and how many requests are in flight."""

import asyncio
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.model.connection import Limits
from fairlead.transport.failure import Throttled
from fairlead.transport.limits import FLOOR, Limiter
from support.rest import NoWaiting

PATIENCE = 60.0


def limiter(time: NoWaiting, **limits: float) -> Limiter:
    return Limiter(Limits(**limits), PATIENCE, time.clock, time)


async def start(limiter: Limiter, time: NoWaiting, pauses: Sequence[float]) -> list[float]:
    """When each request started, of requests that come one after another with these pauses between."""
    starts = []
    for pause in pauses:
        time.now += pause
        async with limiter.slot():
            starts.append(time.now)
    return starts


def most_in(starts: Sequence[float], window: float) -> int:
    """Most requests in any window of that many seconds, its end included."""
    return max(sum(first <= start <= first + window for start in starts) for first in starts)


@given(
    rate=st.floats(0.1, 1000),
    burst=st.integers(1, 50),
    pauses=st.lists(st.floats(0, 5), min_size=1, max_size=80),
    window=st.floats(0, 30),
)
@settings(deadline=None, derandomize=True)
def test_no_window_sees_more_than_its_rate_and_one_burst(
    rate: float, burst: int, pauses: list[float], window: float
) -> None:
    time = NoWaiting()
    starts = asyncio.run(start(limiter(time, requests_per_second=rate, burst=burst), time, pauses))
    assert most_in(starts, window) <= rate * window + burst + 1e-6


class Timeline:
    """Time for many at once: it goes on to whoever wakes first, once everyone sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._sleeping: list[tuple[float, asyncio.Event]] = []

    def clock(self) -> float:
        return self.now

    async def __call__(self, seconds: float) -> None:
        woken = asyncio.Event()
        self._sleeping.append((self.now + seconds, woken))
        await woken.wait()

    async def run(self, until: float) -> None:
        while True:
            for _ in range(20):
                await asyncio.sleep(0)
            if not self._sleeping or min(self._sleeping)[0] > until:
                self.now = until
                return
            first = min(self._sleeping, key=lambda item: item[0])
            self._sleeping.remove(first)
            self.now = max(self.now, first[0])
            first[1].set()


@given(
    rate=st.floats(0.5, 20),
    burst=st.integers(1, 5),
    width=st.integers(1, 8),
    complaints=st.lists(st.tuples(st.floats(0.01, 10), st.none() | st.floats(0, 20)), max_size=4),
)
@settings(deadline=None, derandomize=True)
def test_the_rate_is_kept_by_many_at_once_whatever_the_system_complains_of(
    rate: float, burst: int, width: int, complaints: list[tuple[float, float | None]]
) -> None:
    async def run() -> list[float]:
        time, starts = Timeline(), list[float]()
        limits = Limiter(Limits(requests_per_second=rate, burst=burst, concurrency=width), 1e9, time.clock, time)

        async def work() -> None:
            for _ in range(5):
                async with limits.slot():
                    starts.append(time.now)

        workers = [asyncio.create_task(work()) for _ in range(width)]
        for pause, asked in complaints:
            await time.run(time.now + pause)
            limits.throttled(asked)
        await time.run(time.now + 1e6)
        await asyncio.gather(*workers)
        return starts

    starts = asyncio.run(run())
    assert len(starts) == 5 * width
    assert all(most_in(starts, window) <= rate * window + burst + 1e-6 for window in (0.0, 0.5, 2.0, 10.0))


async def test_a_burst_goes_out_at_once_and_the_rest_at_the_rate() -> None:
    time = NoWaiting()
    starts = await start(limiter(time, requests_per_second=2.0, burst=3), time, [0] * 6)
    assert starts == [1000.0, 1000.0, 1000.0, 1000.5, 1001.0, 1001.5]


async def test_the_burst_is_one_second_of_the_rate_when_left_out() -> None:
    time = NoWaiting()
    starts = await start(limiter(time, requests_per_second=2.5), time, [0] * 5)
    assert starts == pytest.approx([1000.0, 1000.0, 1000.0, 1000.4, 1000.8])


async def test_without_a_rate_nothing_waits() -> None:
    time = NoWaiting()
    await start(limiter(time), time, [0] * 100)
    assert time.waits == []


async def test_no_more_are_in_flight_than_allowed() -> None:
    time, most, running = NoWaiting(), 0, 0
    limits = limiter(time, concurrency=3)

    async def work() -> None:
        nonlocal most, running
        async with limits.slot():
            running += 1
            most = max(most, running)
            await asyncio.sleep(0)
            running -= 1

    await asyncio.gather(*(work() for _ in range(20)))
    assert most == 3


async def test_a_cancelled_request_gives_its_place_back() -> None:
    time, started = NoWaiting(), asyncio.Event()
    limits = limiter(time, concurrency=1)

    async def hold() -> None:
        async with limits.slot():
            started.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(hold())
    await started.wait()
    task.cancel()
    await asyncio.wait([task])
    assert await start(limits, time, [0]) == [1000.0]


async def test_a_complaint_halves_the_rate() -> None:
    time = NoWaiting()
    limits = limiter(time, requests_per_second=8.0)
    limits.throttled(None)
    assert limits.rate == 4.0


async def test_complaints_of_requests_that_were_in_flight_together_count_once() -> None:
    time = NoWaiting()
    limits = limiter(time, requests_per_second=8.0)
    for _ in range(5):
        limits.throttled(None)
    assert limits.rate == 4.0


async def test_the_rate_grows_back_in_ten_seconds() -> None:
    time = NoWaiting()
    limits = limiter(time, requests_per_second=8.0)
    limits.throttled(None)
    time.now += 5
    grown = limits.rate
    time.now += 60
    assert (grown, limits.rate) == (pytest.approx(6.0), 8.0)


async def test_the_rate_never_falls_to_nothing() -> None:
    time = NoWaiting()
    limits = limiter(time, requests_per_second=1.0)
    for _ in range(100):
        time.now += 1.1
        limits.throttled(None)
    assert limits.rate >= FLOOR


async def test_without_a_declared_rate_a_complaint_halves_the_measured_one() -> None:
    time = NoWaiting()
    limits = limiter(time)
    await start(limits, time, [0.1] * 40)
    limits.throttled(None)
    assert limits.rate == pytest.approx(5.0, rel=0.05)


async def test_a_pause_that_the_system_asks_for_is_kept() -> None:
    time = NoWaiting()
    limits = limiter(time)
    limits.throttled(30.0)
    assert await start(limits, time, [0]) == [1030.0]


async def test_a_pause_holds_for_those_who_wait_already_and_they_do_not_start_all_at_once_after_it() -> None:
    time, starts = Timeline(), list[float]()
    limits = Limiter(Limits(requests_per_second=1.0, burst=1, concurrency=4), PATIENCE, time.clock, time)

    async def work() -> None:
        async with limits.slot():
            starts.append(time.now)

    workers = [asyncio.create_task(work()) for _ in range(4)]
    await time.run(1000.5)
    limits.throttled(10.0)
    await time.run(1100.0)
    await asyncio.gather(*workers)
    assert starts[:2] == [1000.0, 1010.5]
    assert all(later - earlier >= 0.99 for earlier, later in pairwise(starts))


async def test_a_pause_beyond_our_patience_fails_at_once_and_says_how_long_it_is() -> None:
    time = NoWaiting()
    limits = limiter(time)
    limits.throttled(600.0)
    time.now += 100
    with pytest.raises(Throttled) as caught:
        await start(limits, time, [0])
    assert (caught.value.retry_after, time.waits) == (500.0, [])
    assert caught.value.message == "the system asked for a pause; 500 s of it are left"


# --- another budget ---


async def test_another_rate_and_burst_hold_from_now_on() -> None:
    time = NoWaiting()
    one = limiter(time)
    await start(one, time, [0.0] * 3)
    one.limit(Limits(requests_per_second=2, burst=1))
    first, *later = await start(one, time, [0.0] * 4)
    assert [round(at - first, 6) for at in later] == [0.5, 1.0, 1.5]
    one.limit(Limits(requests_per_second=10, burst=1))
    _, *later = await start(one, time, [5.0, 0.0, 0.0])
    assert [round(second - first, 6) for first, second in pairwise(later)] == [0.1]


async def test_a_rate_that_was_shrunk_by_a_complaint_stays_so_under_another_budget() -> None:
    time = NoWaiting()
    one = limiter(time, requests_per_second=8)
    one.throttled(None)
    one.limit(Limits(requests_per_second=100))
    assert one.rate == 4.0
    one.limit(Limits(requests_per_second=1))
    assert one.rate == 1.0
