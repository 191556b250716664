"""A queue of keys to be reconciled: each at most once in line, never twice at once, never forgotten."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

import msgspec
import structlog

from fairlead.kube.failure import ApiFailure

K = TypeVar("K", bound=Hashable)

log = structlog.get_logger(__name__)


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How fast keys are worked off; all in seconds.

    Attributes:
        workers: keys in work at the same time.
        gap: least time between the end of one visit of a key and the start of its next. It folds the burst of events
            that a visit's own writes cause into one visit, and bounds a quarrel with another controller.
        backoff: longest wait after the first failure; it doubles with each further one (with full jitter).
        backoff_limit: longest wait after any failure.
        deadline: a visit that takes longer is cancelled and counts as failed.
    """

    workers: int = 8
    gap: float = 0.5
    backoff: float = 1.0
    backoff_limit: float = 300.0
    deadline: float = 120.0


class WorkQueue(Generic[K]):
    """Calls `visit(key)` for every key that was added, after its last addition.

    `visit` returns when to come again on its own (seconds, None: only when the key is added again). A visit that
    raises is repeated with backoff. Everything runs in one event loop; `add` may be called from any of its tasks.
    """

    def __init__(self, visit: Callable[[K], Awaitable[float | None]], pace: Pace | None = None) -> None:
        self._visit = visit
        self._pace = pace or Pace()
        self._line: asyncio.Queue[K | None] = asyncio.Queue()
        self._waiting: dict[K, float] = {}
        self._active: dict[K, float] = {}
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._again: dict[K, float] = {}
        self._failures: dict[K, int] = {}
        self._rested: dict[K, float] = {}
        self._stopping = False

    def add(self, key: K, delay: float = 0.0) -> None:
        """Asks for a visit of `key` after `delay` seconds; of several requests the earliest counts."""
        due = _now() + delay
        if self._stopping or key in self._waiting:
            return
        if key in self._active:
            self._again[key] = min(due, self._again.get(key, due))
        else:
            self._schedule(key, max(due, self._rested.get(key, 0.0)))

    async def run(self) -> None:
        """Works keys off until `stop`; then returns once every visit under way has ended."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._pace.workers):
                group.create_task(self._work(), name=f"reconciler {number}")

    def stop(self) -> None:
        """Starts no further visit and lets `run` return."""
        self._stopping = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        for _ in range(self._pace.workers):
            self._line.put_nowait(None)

    def depth(self) -> int:
        """How many keys are in line now."""
        return len(self._waiting)

    def age(self) -> float:
        """Seconds that the oldest key has been in line or in work; 0 when there is nothing to do."""
        started = [*self._waiting.values(), *self._active.values()]
        return _now() - min(started) if started else 0.0

    async def _work(self) -> None:
        while (key := await self._line.get()) is not None and not self._stopping:
            del self._waiting[key]
            self._active[key] = _now()
            try:
                again = await self._attempt(key)
            finally:
                del self._active[key]
            self._rest(key, again)

    async def _attempt(self, key: K) -> float | None:
        try:
            async with asyncio.timeout(self._pace.deadline):
                again = await self._visit(key)
        except Exception as error:  # noqa: BLE001 - whatever went wrong, the key is visited again
            return self._failed(key, error)
        self._failures.pop(key, None)
        return again

    def _failed(self, key: K, error: Exception) -> float:
        count = self._failures[key] = self._failures.get(key, 0) + 1
        ceiling = min(self._pace.backoff_limit, self._pace.backoff * 2.0 ** min(count - 1, 30))
        delay: float = max(random.uniform(0, ceiling), getattr(error, "retry_after", None) or 0.0)  # noqa: S311
        told = {"key": str(key), "failures": count, "retry_in": round(delay, 1), "error": describe(error)}
        if isinstance(error, ApiFailure | TimeoutError):
            log.warning("reconcile failed", **told)
        else:
            log.error("reconcile failed by a fault of Fairlead", **told, exc_info=error)
        return delay

    def _rest(self, key: K, again: float | None) -> None:
        """Plans the next visit, if any: at the earliest after the gap, for whoever wants it first."""
        asked = self._again.pop(key, None)
        if self._stopping or (asked is None and again is None):
            self._rested.pop(key, None)
            return
        self._rested[key] = _now() + self._pace.gap
        planned = [] if again is None else [_now() + again]
        self._schedule(key, max(min([*planned, *([] if asked is None else [asked])]), self._rested[key]))

    def _schedule(self, key: K, when: float) -> None:
        timer = self._timers.get(key)
        if timer and timer.when() <= when:
            return
        if timer:
            timer.cancel()
        self._timers[key] = asyncio.get_running_loop().call_at(when, self._enter, key)

    def _enter(self, key: K) -> None:
        del self._timers[key]
        self._waiting[key] = _now()
        self._line.put_nowait(key)


def describe(error: Exception) -> str:
    """An error in one line for the log."""
    return str(error) or type(error).__name__


def _now() -> float:
    return asyncio.get_running_loop().time()
