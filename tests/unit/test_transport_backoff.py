"""How long to wait before the next attempt."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.model.connection import Retry
from fairlead.transport.backoff import LONGEST_PAUSE, Backoff, http_date, retry_after

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
RETRY = Retry(initial_backoff="500ms", max_backoff="1m")


@given(st.integers(1, 10_000), st.floats(0, 1))
@settings(deadline=None)
def test_a_wait_is_a_share_of_a_ceiling_that_doubles_up_to_the_longest(attempt: int, chance: float) -> None:
    wait = Backoff(RETRY, lambda: chance).wait(attempt)
    assert 0 <= wait <= min(60.0, 0.5 * 2.0 ** min(attempt - 1, 60))


def test_the_whole_share_is_used() -> None:
    none, all_ = Backoff(RETRY, lambda: 0.0), Backoff(RETRY, lambda: 1.0)
    assert [(none.wait(attempt), all_.wait(attempt)) for attempt in (1, 2, 3, 99)] == [
        (0, 0.5),
        (0, 1),
        (0, 2),
        (0, 60),
    ]


def test_waits_of_many_clients_spread_out() -> None:
    backoff = Backoff(RETRY)
    assert len({backoff.wait(3) for _ in range(100)}) > 90


def test_retry_after_in_seconds() -> None:
    assert retry_after("120", NOW) == 120.0


def test_retry_after_as_a_date_counts_from_the_clock_that_wrote_it() -> None:
    assert retry_after(format_datetime(NOW + timedelta(seconds=90), usegmt=True), NOW) == 90.0


def test_retry_after_in_the_past_is_now() -> None:
    assert retry_after(format_datetime(NOW - timedelta(days=3), usegmt=True), NOW) == 0.0


@pytest.mark.parametrize("value", ["999999999999", "9" * 400, "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_nobody_silences_us_for_more_than_a_day(value: str) -> None:
    assert retry_after(value, NOW) == LONGEST_PAUSE


@pytest.mark.parametrize("value", [None, "", "soon", "-5", "²", "1e3", "Tue, 99 Foo 2026 99:99:99 GMT"])
def test_what_cannot_be_read_asks_for_nothing(value: str | None) -> None:
    assert retry_after(value, NOW) is None


@given(st.text(max_size=60))
@settings(deadline=None)
def test_no_header_breaks_it(value: str) -> None:
    assert 0 <= (retry_after(value, NOW) or 0) <= LONGEST_PAUSE


def test_a_date_without_a_zone_is_no_date() -> None:
    assert http_date("Sun, 01 Mar 2026 12:00:00 -0000") is None
