"""Backoff: how long to wait before the next attempt."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime
from email.utils import parsedate_to_datetime

from fairlead.model.common import seconds
from fairlead.model.connection import Retry

LONGEST_PAUSE = 86400.0
"""Seconds: a longer Retry-After is taken for this one, so that a slip of a server does not silence us for years."""


class Backoff:
    """Exponential backoff with full jitter: a random share of a ceiling that doubles, so that clients spread out.

    Args:
        retry: attempts and ceilings.
        chance: a random number from 0 to 1.
    """

    def __init__(self, retry: Retry, chance: Callable[[], float] = random.random) -> None:
        self.attempts = retry.max_attempts
        self.longest = seconds(retry.max_backoff)
        self._first = seconds(retry.initial_backoff)
        self._chance = chance

    def wait(self, attempt: int) -> float:
        """Seconds to wait after the `attempt`-th attempt (from 1) failed."""
        return self._chance() * min(self.longest, self._first * 2.0 ** min(attempt - 1, 32))


def retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds that a Retry-After header asks for (RFC 9110 section 10.2.3), at most a day; None when it is none.

    Args:
        value: seconds, or an HTTP date.
        now: the time by the clock that wrote the date: the Date header of the same answer.
    """
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return min(LONGEST_PAUSE, float(text))
    moment = http_date(text)
    return None if moment is None else min(LONGEST_PAUSE, max(0.0, (moment - now).total_seconds()))


def http_date(value: str | None) -> datetime | None:
    """The time of an HTTP date (RFC 9110 section 5.6.7), aware; None when it is none."""
    try:
        moment = parsedate_to_datetime(value or "")
    except ValueError:
        return None
    return moment if moment.tzinfo else None
