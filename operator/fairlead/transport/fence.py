"""Fence: until when a worker that shares a policy with others may write to systems.

The right to write is granted for some seconds, and what grants it counts them by its own clock. Here they are counted
from before it was asked, by a clock that goes on while the process is stopped: so a worker that was paused finds the
fence closed before anybody else may write in its place, and no clock is ever compared with another one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from fairlead.model.connector import ErrorClass
from fairlead.transport.failure import Failure

_SENDS = ("send_request_headers.started", "send_request_body.started")
"""Steps of httpcore (its documentation, "Trace") just before something leaves."""


class FencedOff(Failure):
    """This worker may not write any more: nothing was sent. It is not tried again here."""

    error = ErrorClass.TRANSIENT


def running() -> float:
    """Seconds of a clock that goes on while the process is stopped, and while the machine sleeps where it can tell."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Fence:
    """One grant of the right to write. Once closed it stays closed: who may write again has another one.

    Args:
        until: when it closes, by `clock`.
        clock: seconds.
    """

    def __init__(self, until: float, clock: Callable[[], float] = running) -> None:
        self._until = until
        self._clock = clock
        self._closed = False

    @property
    def open(self) -> bool:
        """Whether writes may be sent."""
        if self._clock() >= self._until:
            self._closed = True
        return not self._closed

    def extend(self, until: float) -> None:
        """Closes later than it would have."""
        if self.open:
            self._until = max(self._until, until)

    def close(self) -> None:
        """Closes now."""
        self._closed = True

    def check(self) -> None:
        """Called last before something leaves that cannot be taken back.

        Raises:
            FencedOff: the fence is closed.
        """
        if not self.open:
            raise FencedOff(
                "this worker was away for too long, and another one writes in its place: it sends nothing more",
                reason="FencedOff",
            )

    async def trace(self, step: str, _: dict[str, Any]) -> None:
        """Checks where httpcore is about to send."""
        if step.endswith(_SENDS):
            self.check()


_FENCE: ContextVar[Fence | None] = ContextVar("fence", default=None)


def fence() -> Fence | None:
    """That of the write that is going on; None where nobody shares the policy."""
    return _FENCE.get()


def check_fence() -> None:
    """`Fence.check` of the write that is going on."""
    found = _FENCE.get()
    if found is not None:
        found.check()


def keep_within(given: Fence | None) -> None:
    """What the current task, and those that it starts from now on, send is kept within this fence."""
    _FENCE.set(given)
