"""What is remembered of a record once it was read."""

from __future__ import annotations

import pytest

from fairlead.engine.case import Case, Observation, Side, sides_of
from fairlead.model.record import Record
from support.simulation import START


def read(version: str | None) -> Observation:
    return Observation(Record("7", {"x": "new"}, version), b"new", 2)


def test_what_is_remembered_of_a_record_is_how_it_read() -> None:
    assert read("v2").side() == Side("7", 2, b"new", "v2")


@pytest.mark.parametrize(("told", "remembered"), [("v2", "v2"), (None, "v1")])
def test_a_version_is_remembered_until_another_one_is_told(told: str | None, remembered: str) -> None:
    before, other = Side("7", 1, b"old", "v1"), Side("8", 1, b"old", "w1")
    case = Case(sides={"crm": before, "erp": other}, observed={"crm": read(told)}, read_at=START)
    assert sides_of(case) == {"crm": Side("7", 2, b"new", remembered), "erp": other}


def test_a_record_that_was_never_seen_has_the_version_that_it_reads_with() -> None:
    case = Case(sides={}, observed={"crm": read(None)}, read_at=START)
    assert sides_of(case) == {"crm": Side("7", 2, b"new", None)}
