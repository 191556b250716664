"""Three-way merges: what two edits of one value come to."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fairlead.engine.canonical import Kind, kind_of
from fairlead.engine.merge import Merge, Unmergeable, merge_of
from fairlead.model.record import Value

TEXTS = {"type": "string"}
SET = kind_of({"type": "array", "items": TEXTS, "uniqueItems": True})
LIST = kind_of({"type": "array", "items": TEXTS})
NUMBER = kind_of({"type": "number"})
INTEGER = kind_of({"type": "integer"})
TEXT = kind_of(TEXTS)


def merge_for(kind: Kind) -> Merge:
    merge = merge_of(kind, delta=True)
    assert merge is not None
    return merge


@pytest.mark.parametrize(
    ("kind", "base", "one", "other", "expected"),
    [
        (SET, ["a", "b"], ["a", "b", "c"], ["b"], ["b", "c"]),
        (SET, ["a"], ["a", "x"], ["a", "y"], ["a", "x", "y"]),
        (SET, ["a", "b"], ["a"], ["b"], []),
        (SET, ["a", "b"], None, ["a", "b", "c"], ["c"]),
        (SET, ["a"], None, [], None),
        (SET, ["a"], [], None, None),
        (SET, None, ["a"], ["b"], ["a", "b"]),
        (SET, None, ["a", "d"], ["b"], ["a", "b", "d"]),  # in the order of sets, whoever added what
        (LIST, ["a", "b"], ["a", "b", "c"], ["z", "a", "b"], ["z", "a", "b", "c"]),
        (LIST, ["a", "b", "c"], ["a", "c"], ["a", "x", "b", "c"], ["a", "x", "c"]),
        (LIST, ["a", "b", "c"], ["c", "b", "a"], ["a", "b", "c", "d"], ["c", "d", "b", "a"]),  # d stays behind c
        (LIST, ["a", "b", "c"], ["a", "b", "c", "d"], ["c", "b", "a"], ["c", "d", "b", "a"]),
        (LIST, ["a"], ["a", "y"], ["a", "x"], ["a", "x", "y"]),
        (LIST, ["a", "b"], ["a"], ["b"], []),
        (LIST, ["a"], None, [], None),
        (LIST, ["a"], ["b", "b"], ["b", "b"], ["b", "b"]),
        (LIST, ["a"], [], None, None),
        (LIST, ["a", "b"], ["a", "n", "b"], ["a", "b", "n"], ["a", "b", "n"]),  # both added it; one place is chosen
        (NUMBER, 10, 15, 7, 12),
        (NUMBER, Decimal("0.1"), Decimal("0.3"), Decimal("0.2"), Decimal("0.4")),
        (NUMBER, 10, 15, 15, 20),  # whether two equal counts are one is for the caller to know
        (INTEGER, 0, 2**63 - 1, 1, Decimal(2**63)),
        (TEXT, "a\nb\nc\nd", "A\nb\nc\nd", "a\nb\nc\nD", "A\nb\nc\nD"),
        (TEXT, "a\nb\nc", "a\nx\nb\nc", "a\nb\n", "a\nx\nb\n"),
        (TEXT, "a\nb\nc", "b\nc", "a\nb\nc\nd", "b\nc\nd"),
        (TEXT, "a\nb", "a\nx", "a\nx", "a\nx"),
        (TEXT, "moves\na\nb\nc", "a\nb\nc\nmoves", "moves\na\nB\nc", "a\nB\nc\nmoves"),
        (TEXT, "a\nb\nc\nmoves", "moves\na\nb\nc", "a\nB\nc\nmoves", "moves\na\nB\nc"),
        (TEXT, "a\nb\nc\nd", "A\nb\nd", "a\nb\nc\nd\ne", "A\nb\nd\ne"),
        (TEXT, "a\nb\na\nc", "b\na\nb\na", "a\nB\na\nc", "b\na\nB\na"),  # as few lines differ as can be
        (TEXT, "", None, "a", "a"),
        (TEXT, "a", None, "", None),
        (TEXT, "a", "", None, None),
        (TEXT, "a\nb\nc\n", "a\nB\nc\n", "a\nB\nc\nd\n", "a\nB\nc\nd\n"),
    ],
)
def test_two_edits_come_to_one_value(kind: Kind, base: Value, one: Value, other: Value, expected: Value) -> None:
    found = merge_for(kind)(base, one, other)
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("kind", "base", "one", "other", "message"),
    [
        (LIST, ["a"], ["a", "a"], ["b"], "a list holds an item twice"),
        (SET, ["a"], "text", ["b"], "a side has no list"),
        (TEXT, "a", ["a"], "b", "a side has no text"),
        (NUMBER, 1, True, 2, "a side has no number, so there is no sum"),
        (LIST, ["a", "b", "c"], ["b", "a", "c"], ["c", "a", "b"], "the sides put the items into different orders"),
        (NUMBER, None, 1, 2, "a side has no number, so there is no sum"),
        (NUMBER, 1, None, 2, "a side has no number, so there is no sum"),
        (TEXT, "a\nb", "x\nb", "y\nb", "the same lines were changed in different ways"),
        (TEXT, "a\nb", "x\nb", "a\ny", "the same lines were changed in different ways"),  # neighbours
        (TEXT, "a", "a\nx", "a\ny", "the same lines were changed in different ways"),
        (TEXT, "one line", "one word", "two lines", "the same lines were changed in different ways"),
        (TEXT, None, "x", "y", "the same lines were changed in different ways"),
        (TEXT, "a", None, "b", "the same lines were changed in different ways"),
    ],
)
def test_what_cannot_be_put_together_is_left_to_a_person(
    kind: Kind, base: Value, one: Value, other: Value, message: str
) -> None:
    with pytest.raises(Unmergeable) as refused:
        merge_for(kind)(base, one, other)
    assert str(refused.value) == message


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "number"},
        {"type": "boolean"},
        {"type": "object"},
        {"type": "string", "format": "date"},
        {"type": "string", "format": "date-time"},
        {},
    ],
)
def test_some_kinds_cannot_be_merged(schema: dict[str, Any]) -> None:
    assert merge_of(kind_of(schema)) is None


def test_a_long_text_that_was_rewritten_is_one_change() -> None:
    base, rewritten = ("\n".join(f"{word} {n}" for n in range(3000)) for word in ("old", "new"))
    assert merge_for(TEXT)(base, rewritten, base) == rewritten
    with pytest.raises(Unmergeable):
        merge_for(TEXT)(base, rewritten, f"first\n{base}")


@pytest.mark.parametrize(("removed", "mergeable"), [(1000, True), (1001, False)])
def test_a_text_is_compared_line_by_line_until_a_thousand_differ(removed: int, *, mergeable: bool) -> None:
    kept = [f"kept {n}" for n in range(removed + 1)]
    base = [line for n in range(removed) for line in (kept[n], f"gone {n}")] + kept[-1:]
    base[removed:removed] = ["here", "there"]
    one = [line for line in base if not line.startswith("gone")]
    texts = ["\n".join(lines) for lines in (base, one)]
    other, expected = (text.replace("there", "between\nthere") for text in texts)
    found = merged(TEXT, *texts, other)
    assert found == (expected.encode() if mergeable else "the same lines were changed in different ways")


# --- what holds for every value ---

ITEMS = st.sampled_from("abcdef")
LISTS = st.lists(ITEMS, unique=True, max_size=6)
NUMBERS = st.integers(-(10**20), 10**20) | st.decimals(-(10**9), 10**9, places=3)
LINES = st.lists(st.sampled_from(["a", "b", "c", ""]), max_size=8).map("\n".join)
KINDS: list[tuple[Kind, st.SearchStrategy[Any]]] = [
    (SET, st.none() | LISTS),
    (LIST, st.none() | LISTS),
    (NUMBER, NUMBERS),
    (INTEGER, st.integers(-(10**20), 10**20)),
    (TEXT, st.none() | LINES),
]
CASES = st.sampled_from(KINDS).flatmap(
    lambda case: st.tuples(st.just(case[0]), *(case[1].map(case[0].canonical) for _ in range(4)))
)


def merged(kind: Kind, base: Value, one: Value, other: Value) -> Any:
    try:
        return kind.print_bytes(merge_for(kind)(base, one, other))
    except Unmergeable as refused:
        return str(refused)


@given(CASES)
def test_it_does_not_matter_who_is_first(case: tuple[Kind, Any, Any, Any, Any]) -> None:
    kind, base, one, other, _ = case
    assert merged(kind, base, one, other) == merged(kind, base, other, one)


@given(CASES)
def test_what_nobody_changed_stays(case: tuple[Kind, Any, Any, Any, Any]) -> None:
    kind, base, *_ = case
    assert merge_for(kind)(base, base, base) == base


@given(CASES)
def test_what_only_one_side_changed_is_taken_from_it(case: tuple[Kind, Any, Any, Any, Any]) -> None:
    kind, base, one, *_ = case
    assert merge_for(kind)(base, one, base) == one


@given(CASES)
def test_what_both_changed_to_the_same_is_that(case: tuple[Kind, Any, Any, Any, Any]) -> None:
    kind, base, one, *_ = case
    assume(kind not in (NUMBER, INTEGER))
    assert merge_for(kind)(base, one, one) == one


@given(CASES)
def test_a_merged_value_is_canonical(case: tuple[Kind, Any, Any, Any, Any]) -> None:
    kind, base, one, other, _ = case
    try:
        found = merge_for(kind)(base, one, other)
    except Unmergeable:
        assume(False)
    assert kind.canonical(found) == found


@given(CASES)
def test_a_lists_removals_and_additions_are_kept(case: tuple[Kind, Any, Any, Any, Any]) -> None:
    kind, base, one, other, _ = case
    assume(kind.item is not None)
    try:
        found = set(merge_for(kind)(base, one, other) or [])
    except Unmergeable:
        assume(False)
    before, left, right = set(base or []), set(one or []), set(other or [])
    assert found == (before - (before - left) - (before - right)) | (left - before) | (right - before)


@given(CASES)
def test_three_edits_of_a_set_or_a_sum_come_to_the_same_in_any_order(case: tuple[Kind, Any, Any, Any, Any]) -> None:
    kind, base, one, two, three = case
    assume(kind in (SET, NUMBER, INTEGER))
    merge = merge_for(kind)
    first = merge(base, merge(base, one, two), three)
    assert (first or None) == (merge(base, one, merge(base, two, three)) or None)


@given(st.lists(st.sampled_from("abc"), max_size=8), st.lists(st.sampled_from("abc"), max_size=8), st.data())
def test_what_a_side_added_is_there(lines: list[str], other: list[str], data: Any) -> None:
    position = data.draw(st.integers(0, len(lines)))
    one = [*lines[:position], "added", *lines[position:]]
    found = merged(TEXT, "\n".join(lines), "\n".join(one), "\n".join(other))
    assert found == "the same lines were changed in different ways" or b"added" in found.split(b"\n")


@given(st.lists(st.sampled_from("abc"), max_size=10), st.data())
def test_edits_of_lines_that_are_apart_are_all_kept(lines: list[str], data: Any) -> None:
    base = [f"{word} {n}" for n, word in enumerate(lines)]
    left = data.draw(st.integers(0, max(0, len(base) - 2)))
    assume(len(base) >= 3)
    right = data.draw(st.integers(0, len(base) - 1).filter(lambda n: abs(n - left) > 1))
    one = [*base[:left], "left", *base[left + 1 :]]
    other = [*base[:right], "right", *base[right + 1 :]]
    expected = list(base)
    expected[left], expected[right] = "left", "right"
    assert merge_for(TEXT)("\n".join(base), "\n".join(one), "\n".join(other)) == "\n".join(expected)


@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(0, 2), st.lists(st.integers(0, 2), min_size=2, max_size=2)),
        max_size=7,
    )
)
def test_what_each_side_adds_and_removes_between_lines_that_both_keep_is_kept(
    edits: list[tuple[bool, int, list[int]]],
) -> None:
    """Before each edit, by one side or the other, stands a line that both keep: at the start there need be none."""
    base, one, other, expected = list[str](), list[str](), list[str](), list[str]()
    for number, (first, kept, (removed, added)) in enumerate(edits):
        both = [f"both {number} {n}" for n in range(kept + (1 if number else 0))]
        gone = [f"gone {number} {n}" for n in range(removed)]
        new = [f"new {number} {n}" for n in range(added)]
        base += both + gone
        one += both + (new if first else gone)
        other += both + (gone if first else new)
        expected += both + new
    texts = ["\n".join([*lines, "end"]) for lines in (base, one, other, expected)]
    assert merge_for(TEXT)(*texts[:3]) == texts[3]
