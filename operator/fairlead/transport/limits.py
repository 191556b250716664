"""Limits: one budget of requests for everything in a process that uses a Connection.

Own code where aiolimiter would do for a fixed rate: here the rate shrinks when the system complains and grows back.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from fairlead.model.connection import Limits
from fairlead.transport.failure import Throttled

FLOOR = 0.05
"""Requests a second that are always allowed: one in 20 s."""

CALM = 1.0
"""Seconds in which several complaints count as one: they answer requests that were in flight together."""

GROWTH = 0.1
"""Share of the shrunk rate that comes back each second: a halved rate is whole again after ten seconds."""


class Limiter:
    """A token bucket and a bound on what is in flight.

    After a complaint the rate is halved and grows back linearly (additive increase, multiplicative decrease, as TCP
    does). Without a declared rate, the rate that was just measured is halved.

    Args:
        limits: what the Connection declares.
        patience: longest time, in seconds, to wait for a system that asked to be left alone.
        clock: seconds, monotonic.
        sleep: waits that many seconds.
    """

    def __init__(
        self,
        limits: Limits,
        patience: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._ceiling, self._burst = _bounds(limits)
        self._in_flight = asyncio.Semaphore(limits.concurrency)
        self._patience = patience
        self._clock = clock
        self._sleep = sleep
        self._rate = self._ceiling
        self._growth = 0.0
        self._changed = self._shrunk = -math.inf
        self._next = -math.inf
        self._blocked = -math.inf
        self._starts: deque[float] = deque(maxlen=64)

    def limit(self, limits: Limits) -> None:
        """Another rate and burst from now on; how many requests may be in flight stays as it was."""
        whole = self.rate >= self._ceiling
        self._ceiling, self._burst = _bounds(limits)
        self._rate = self._ceiling if whole else min(self._rate, self._ceiling)

    @property
    def rate(self) -> float:
        """Requests a second that are allowed now; infinite when nothing bounds them."""
        if self._growth and self._rate < self._ceiling:
            now = self._clock()
            self._rate = min(self._ceiling, self._rate + self._growth * (now - self._changed))
            self._changed = now
        return self._rate

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Waits for one's turn, and holds a place among the requests in flight.

        Raises:
            Throttled: the system asked for a pause that is longer than our patience.
        """
        async with self._in_flight:
            await self._turn()
            yield

    async def _turn(self) -> None:
        begin = self._reserve()
        while (wait := begin - self._clock()) > 0:
            await self._sleep(wait)
            if self._blocked > self._clock():  # asked for meanwhile: whoever waited must not start all at once after it
                begin = self._reserve()
        self._starts.append(self._clock())

    def _reserve(self) -> float:
        """The time at which the next token is there; it is taken."""
        self._require_patience()
        now, rate = self._clock(), self.rate
        if rate == math.inf:
            return max(now, self._blocked)
        burst = max(1.0, self._burst * min(1.0, rate / self._ceiling)) if self._ceiling < math.inf else 1.0
        begin = max(self._next, now - (burst - 1) / rate, self._blocked if self._blocked > now else -math.inf)
        self._next = begin + 1 / rate
        return max(begin, now)

    def _require_patience(self) -> None:
        left = self._blocked - self._clock()
        if left > self._patience:
            raise Throttled(f"the system asked for a pause; {left:.0f} s of it are left", retry_after=left)

    def throttled(self, pause: float | None) -> None:
        """The system complained, and asked for a pause of that many seconds or for none."""
        now = self._clock()
        self._blocked = max(self._blocked, now + (pause or 0.0))
        if now - self._shrunk < CALM:
            return
        self._rate = max(FLOOR, (self.rate if self.rate < math.inf else self._measured(now)) / 2)
        self._growth = self._rate * GROWTH
        self._shrunk = self._changed = now
        self._next = max(self._next, now)

    def _measured(self, now: float) -> float:
        """Requests a second, over the latest ones."""
        recent = [start for start in self._starts if now - start <= 10.0]
        return len(recent) / max(now - recent[0], 0.1) if recent else 1.0


def _bounds(limits: Limits) -> tuple[float, int]:
    return limits.requests_per_second or math.inf, limits.burst or math.ceil(limits.requests_per_second or 1)
