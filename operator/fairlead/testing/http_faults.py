"""What can go wrong with an HTTP system, on demand."""

from __future__ import annotations

import threading
from copy import copy
from enum import StrEnum

import msgspec


class FaultKind(StrEnum):
    """Ways to fail."""

    THROTTLE = "Throttle"
    STATUS = "Status"
    SLOW = "Slow"
    TRUNCATE = "Truncate"
    NOT_JSON = "NotJSON"
    REPEAT_PAGE = "RepeatPage"
    BACKWARDS_CURSOR = "BackwardsCursor"
    LOSE_ANSWER = "LoseAnswer"
    RESET = "Reset"
    ECHO = "Echo"


class Fault(msgspec.Struct, rename="camel"):
    """One failure that is waiting to happen.

    Attributes:
        kind: Throttle: 429. Status: `status`. Slow: answers after `seconds`. Truncate: half the body, then hangs up.
            NotJSON: an HTML page. RepeatPage: the first page of a list again. BackwardsCursor: a list goes on with its
            first page. LoseAnswer: does what was asked, then hangs up without an answer. Reset: half the body, then
            the connection is reset. Echo: `status`, with a message that repeats what was sent: its body, its URL, or
            the header that `body` names.
        method: only requests with this method; any when empty.
        path: only requests whose path starts like this.
        times: how often it happens.
        after: how many matching requests are spared first.
        status: of Status.
        seconds: of Slow.
        retry_after: the Retry-After header of Throttle and Status, verbatim.
        body: of Throttle and Status.
        headers: of Throttle and Status.
    """

    kind: FaultKind
    method: str = ""
    path: str = "/"
    times: int = 1
    after: int = 0
    status: int = 503
    seconds: float = 1.0
    retry_after: str | None = None
    body: str = '{"message": "injected"}'
    headers: dict[str, str] = {}


class Faults:
    """Faults in the order in which they were added; a request meets the first that matches."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Lets it happen to the next requests that match."""
        with self._lock:
            self._waiting.append(copy(fault))

    def clear(self) -> None:
        """Lets nothing happen any more."""
        with self._lock:
            self._waiting.clear()

    def take(self, method: str, path: str) -> Fault | None:
        """The fault that this request meets."""
        with self._lock:
            for fault in self._waiting:
                if fault.method in ("", method) and path.startswith(fault.path):
                    if fault.after > 0:
                        fault.after -= 1
                        continue
                    fault.times -= 1
                    if fault.times <= 0:
                        self._waiting.remove(fault)
                    return fault
        return None
