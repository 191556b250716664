"""Marks: which records a scan has met."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fairlead.state.marks import Marks

few = st.sets(st.integers(1, 300))
neighbours = st.tuples(st.integers(1, 120), st.integers(0, 120)).map(lambda run: set(range(run[0], sum(run))))
numbers = few | neighbours


@given(numbers, numbers, st.integers(0, 320))
def test_what_is_missing_is_what_was_never_added(one: set[int], other: set[int], last: int) -> None:
    marks = Marks(one, expected=40)
    marks.add(other)
    assert list(marks.missing(last)) == [n for n in range(1, last + 1) if n not in one | other]
