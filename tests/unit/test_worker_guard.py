"""The guard: how many deletes and overwrites one run may do."""

import pytest

from fairlead.model.syncpolicy import Guard
from fairlead.worker.guard import Halt, limit_of


@pytest.mark.parametrize(
    ("records", "max_records", "max_percent", "limit"),
    [
        (10_000, 100, 5, 100),  # the smaller bound holds
        (1_000, 100, 5, 50),
        (8, 100, 5, 1),  # one record of a small set is no accident
        (0, 100, 5, 1),
        (1_000, 0, 5, 0),  # nothing at all
        (1_000, 100, 0, 0),
        (10, 100, 100, 10),
    ],
)
def test_the_smaller_of_both_bounds_holds(records: int, max_records: int, max_percent: int, limit: int) -> None:
    assert limit_of(Guard(max_records=max_records, max_percent=max_percent), records) == limit


def test_a_halt_says_how_to_release_it() -> None:
    halt = Halt.of("abc123", 40, 5)
    assert "40 deletes and overwrites are held back (limit 5)" in halt.message
    assert "fairlead.dev/approve=abc123" in halt.message


def test_a_plan_says_what_would_be_held_back_and_names_no_id() -> None:
    expected = (
        "40 deletes and overwrites would be held back (limit 5): the plan names them; approve them when a run halts, "
        "or raise spec.deletes.guard"
    )
    assert expected == Halt.of_planned("abc123", 40, 5).message
