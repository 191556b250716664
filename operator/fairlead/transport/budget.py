"""Budget: how many requests a Connection may send, shared by everything that uses it.

A token bucket for the rate and a semaphore for what is under way. When the system says "too many" the rate is halved
and nothing is sent until it says so; every answer after that lets it grow back by a twentieth (AIMD, as TCP does).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fairlead.model.connection import Limits

LEAST = 0.05
"""The smallest share of the declared rate that throttling leaves."""


class Budget:
    """One Connection's budget. `clock` gives seconds, monotonic."""

    def __init__(self, limits: Limits, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._declared = limits.requests_per_second
        self._burst = float(limits.burst or max(1, int(limits.requests_per_second or 1)))
        self._slots = asyncio.Semaphore(limits.concurrency)
        self._tokens = self._burst
        self._filled_at = clock()
        self._blocked_until = 0.0
        self._share = 1.0

    @property
    def left(self) -> float:
        """Share of the burst that could be sent at once, 0 to 1."""
        self._fill()
        return max(0.0, min(1.0, self._tokens / self._burst)) if self._declared else 1.0

    @asynccontextmanager
    async def request(self) -> AsyncIterator[None]:
        """Waits for a token and a free slot; holds the slot while the request is under way."""
        async with self._slots:
            while (wait := self._wait()) > 0:  # noqa: ASYNC110 - what is waited for is time
                await asyncio.sleep(wait)
            yield

    def _wait(self) -> float:
        """Seconds until the next request may go out; 0 takes the token."""
        now = self._clock()
        if now < self._blocked_until:
            return self._blocked_until - now
        if self._declared is None:
            return 0.0
        self._fill()
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / (self._declared * self._share)

    def _fill(self) -> None:
        now = self._clock()
        if self._declared is not None:
            self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._declared * self._share)
        self._filled_at = now

    def throttled(self, retry_after: float) -> None:
        """The system wants fewer requests: nothing for `retry_after` seconds, then at half the rate."""
        self._fill()
        self._share = max(LEAST, self._share / 2)
        self._tokens = min(self._tokens, 1.0)
        self._blocked_until = max(self._blocked_until, self._clock() + retry_after)

    def answered(self) -> None:
        """The system answered well: the rate grows back."""
        self._share = min(1.0, self._share + 0.05)
