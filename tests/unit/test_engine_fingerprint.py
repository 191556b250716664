"""Fingerprints: what can be told from them, and what cannot."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.engine.fingerprint import UNSEEN, WIDTH, Fingerprints, difference_of, field, replaced, slots_of

KEY = bytes(range(32))
PRINTS = Fingerprints(KEY)


def test_a_value_has_one_fingerprint_under_one_key() -> None:
    assert Fingerprints(KEY).one(b"ada", 0) == PRINTS.one(b"ada", 0)


def test_another_key_gives_other_fingerprints() -> None:
    other = Fingerprints(KEY[::-1])
    assert other.one(b"ada", 0) != PRINTS.one(b"ada", 0)
    assert other.rows([b"ada"], 0) != PRINTS.rows([b"ada"], 0)
    assert other.many([b"ada"], 0) != PRINTS.many([b"ada"], 0)


def test_the_same_value_in_two_fields_cannot_be_recognised() -> None:
    assert PRINTS.one(b"ada", 0) != PRINTS.one(b"ada", 1)


def test_a_named_field_keeps_its_fingerprints_wherever_it_stands() -> None:
    before, after = Fingerprints(KEY, ("x", "y")), Fingerprints(KEY, ("a", "y", "x"))
    assert (before.one(b"ada", 0), before.one(b"ada", 1)) == (after.one(b"ada", 2), after.one(b"ada", 1))
    assert before.fields([[b"ada"]], [0], 2)[0][:WIDTH] == before.one(b"ada", 0)
    assert len({after.one(b"ada", slot) for slot in range(3)}) == 3


def test_a_fingerprint_does_not_hold_its_value() -> None:
    assert b"ada" not in PRINTS.one(b"ada", 0)


def test_a_row_reads_as_changed_when_the_mapping_does() -> None:
    assert PRINTS.rows([b"row"], 1) != PRINTS.rows([b"row"], 2)


def test_state_of_an_earlier_release_is_understood() -> None:
    """What was written once must be found again: these numbers never change."""
    prints = Fingerprints(KEY)
    rows = prints.rows([b"", b"ada", b"row"], 3)
    match_keys = prints.many([b"", b"ada", b"row"], 1 << 20)
    named = Fingerprints(KEY, ("x",)).one(b"ada", 0)
    assert (prints.one(b"ada", 2).hex(), named.hex(), rows, match_keys) == (
        "4ef9d179c173169c",
        "63c7223851d4b7c4",
        [-8338319482755009746, -4776099676889039020, 3314449626049954836],
        [-3437402890672148921, -5028441028418626628, -7045514133737223087],
    )


def test_of_a_long_key_the_first_64_bytes_count() -> None:
    assert Fingerprints(KEY * 3).one(b"ada", 0) == Fingerprints(KEY * 2).one(b"ada", 0)


@given(st.lists(st.binary(max_size=20), max_size=5))
def test_fingerprints_of_rows_fit_into_64_signed_bits(raws: list[bytes]) -> None:
    assert all(-(2**63) <= number < 2**63 for number in PRINTS.rows(raws, 3))


COLUMNS = st.integers(1, 4).flatmap(
    lambda rows: st.lists(st.lists(st.binary(max_size=6), min_size=rows, max_size=rows), min_size=1, max_size=4)
)


@given(COLUMNS, st.randoms(use_true_random=False))
def test_the_fingerprints_of_a_page_are_those_of_its_values(columns: list[list[bytes]], chance) -> None:
    width = len(columns) + 2
    slots = chance.sample(range(width), len(columns))
    for number, prints in enumerate(PRINTS.fields(columns, slots, width)):
        wanted = {slot: PRINTS.one(column[number], slot) for slot, column in zip(slots, columns, strict=True)}
        assert [field(prints, slot) for slot in range(width)] == [wanted.get(slot, UNSEEN) for slot in range(width)]


def test_a_fingerprint_stands_in_the_slot_of_its_field_and_the_record_of_its_value() -> None:
    ada, bob, one, two = PRINTS.one(b"ada", 3), PRINTS.one(b"bob", 3), PRINTS.one(b"1", 1), PRINTS.one(b"2", 1)
    found = PRINTS.fields([[b"ada", b"bob"], [b"1", b"2"]], [3, 1], 4)
    assert found == [UNSEEN + one + UNSEEN + ada, UNSEEN + two + UNSEEN + bob]


@pytest.mark.parametrize(("columns", "slots"), [([[b"a", b"b"], [b"c"]], [0, 1]), ([[b"a"], [b"b"]], [0])])
def test_columns_that_do_not_fit_together_are_refused(columns: list[list[bytes]], slots: list[int]) -> None:
    """Else fingerprints would come to stand in another record or field."""
    with pytest.raises(ValueError, match="shorter"):
        PRINTS.fields(columns, slots, 2)


def test_a_record_without_fields_has_nothing_to_see() -> None:
    assert (PRINTS.fields([], [], 2), PRINTS.fields([[]], [0], 2)) == ([], [])


@given(st.lists(st.binary(max_size=9), max_size=6), st.integers(0, 9))
def test_match_keys_are_told_one_by_one(values: list[bytes], seed: int) -> None:
    assert PRINTS.many(values, seed) == [PRINTS.many([value], seed)[0] for value in values]


def test_a_field_that_was_added_later_is_unseen() -> None:
    assert field(PRINTS.one(b"a", 0), 5) == UNSEEN


def test_replacing_changes_nothing_else() -> None:
    before = PRINTS.fields([[b"a"], [b"b"]], [0, 1], 2)[0]
    after = replaced(before, {1: PRINTS.one(b"c", 1)}, 3)
    assert [field(after, slot) for slot in range(3)] == [field(before, 0), PRINTS.one(b"c", 1), UNSEEN]
    assert len(after) == 3 * WIDTH


A, B, C = (bytes([number]) * WIDTH for number in (1, 2, 3))
LAST_BIT = bytes(WIDTH - 1) + b"\x80"


@pytest.mark.parametrize(
    ("one", "other", "slots"),
    [
        (A + B + C, A + B + C, []),
        (A + B + C, A + C + C, [1]),
        (A + B + C, B + B + A, [0, 2]),
        (A + B + C, C + A + B, [0, 1, 2]),
        (A + B, A + B + C, [2]),  # a field that was added later
        (A + B + C, A, [1, 2]),
        (A, A + UNSEEN, []),
        (UNSEEN + UNSEEN, LAST_BIT + LAST_BIT, [0, 1]),  # a bit is enough, wherever it is
        (b"", b"", []),
    ],
)
def test_the_slots_that_differ_are_told_in_order(one: bytes, other: bytes, slots: list[int]) -> None:
    assert (slots_of(difference_of(one, other)), slots_of(difference_of(other, one))) == (slots, slots)


def test_joined_differences_give_the_slots_of_all() -> None:
    assert slots_of(difference_of(A + B + C, B + B + C) | difference_of(A + B + C, A + B + A)) == [0, 2]
