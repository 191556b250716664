"""When runs happen."""

from datetime import UTC, datetime

import pytest

from fairlead.model.syncpolicy import Trigger
from fairlead.worker.run import Kind
from fairlead.worker.schedule import Schedule


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("last_start", "now", "wait"),
    [
        (None, 1000.0, 0.0),
        (1000.0, 1000.0, 30.0),
        (1000.0, 1029.0, 1.0),
        (1000.0, 1100.0, 0.0),  # a run that took longer than the interval is followed at once
        (1000.0, 500.0, 30.0),  # the clock stepped back: no run is put off by more than the interval
    ],
)
def test_the_next_run_starts_an_interval_after_the_last(last_start: float | None, now: float, wait: float) -> None:
    assert Schedule(Trigger(interval="30s")).wait(now, last_start) == wait


@pytest.mark.parametrize(
    ("last", "now", "kind"),
    [
        ("2026-01-01 03:00", "2026-01-01 12:00", Kind.CHANGES),
        ("2026-01-01 03:00", "2026-01-02 02:59", Kind.CHANGES),
        ("2026-01-01 03:00", "2026-01-02 03:00", Kind.RESYNC),
        ("2026-01-01 03:00", "2026-01-05 09:00", Kind.RESYNC),  # missed while the worker was down: made up for
        ("2026-06-01 03:00", "2026-01-01 12:00", Kind.RESYNC),  # the clock was set back: one more, rather than none
    ],
)
def test_a_resync_runs_when_its_time_has_come(last: str, now: str, kind: Kind) -> None:
    assert Schedule(Trigger(resync_schedule="0 3 * * *")).kind(at(now), at(last)) is kind


def test_the_first_run_is_no_resync_for_it_meets_everything_anyway() -> None:
    assert Schedule(Trigger()).kind(at("2026-01-01 12:00"), None) is Kind.CHANGES
