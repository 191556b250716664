"""Pages of PostgreSQL rows as text: whatever values hold, a page says what the rows say."""

import re
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fairlead.connectors.postgres_page import TextPage, page_of_rows, page_of_text, raw_of
from fairlead.connectors.postgres_text import (
    FIELD,
    NULL,
    ROW,
    Column,
    Unfit,
    Written,
    copy_fields,
    text,
    value,
    written,
)

COLUMNS = [Column("a", "text", "text"), Column("b", "text", "text")]
FIELDS = st.none() | st.text(st.sampled_from([ROW, FIELD, NULL, "x", "-", "1", ":", "ü"]), max_size=4)
ROWS = st.lists(st.tuples(FIELDS, FIELDS), max_size=6)


def as_bytes(row: Sequence[str | None]) -> list[bytes | None]:
    return [None if item is None else item.encode() for item in row]


def joined(rows: Sequence[Sequence[str | None]]) -> list[Any]:
    """What the database answers: counts, keys, fields and times."""
    nulls = sum(item is None for row in rows for item in row)
    fields = ROW.join(FIELD.join(NULL if item is None else item for item in row) for row in rows)
    keys = ROW.join(str(n) for n in range(len(rows)))
    return [len(rows), nulls, keys.encode(), fields.encode(), ROW.join(NULL for _ in rows).encode()]


def told(page: TextPage) -> tuple[object, ...]:
    everything = range(len(page.keys))
    return list(page.keys), list(page.raws), page.columns(everything, ["b", "a"]), page.rows(everything)


@given(ROWS)
@example([(NULL, None)])
@example([(ROW, "x"), ("x", None)])
@example([(f"x{ROW}y", "z")])
def test_a_page_that_the_database_joined_is_the_page_of_its_rows_or_is_refused(
    rows: list[tuple[str | None, str | None]],
) -> None:
    one_by_one = page_of_rows(COLUMNS, [[str(n).encode(), None, *as_bytes(row)] for n, row in enumerate(rows)], None)
    found = page_of_text(COLUMNS, joined(rows), None)
    assert one_by_one.rows(range(len(rows))) == [dict(zip("ab", row, strict=True)) for row in rows]
    assert found is None or told(found[0]) == told(one_by_one)


@given(ROWS)
def test_a_time_among_the_fields_is_the_time_that_stands_apart(rows: list[tuple[str | None, str | None]]) -> None:
    whole = joined(rows)
    times = ROW.join(NULL if row[1] is None else row[1] for row in rows).encode()
    among, apart = (page_of_text(COLUMNS, [*whole[:4], given], COLUMNS[1]) for given in (None, times))
    told = [
        (page[0].modified(range(len(rows))), [page[0].time(n) for n in range(len(rows))])
        for page in (among, apart)
        if page is not None
    ]
    assert told in ([], 2 * [([row[1] for row in rows], [row[1] for row in rows])])


@given(st.tuples(FIELDS, FIELDS), st.tuples(FIELDS, FIELDS))
@example((NULL, "x"), (None, "x"))
@example((f"a{FIELD}b", "c"), ("a", f"b{FIELD}c"))
def test_raws_are_equal_for_equal_rows_only(
    row: tuple[str | None, str | None], other: tuple[str | None, str | None]
) -> None:
    assert (row == other) == (raw_of(as_bytes(row))[0] == raw_of(as_bytes(other))[0])


@given(st.lists(st.tuples(FIELDS, FIELDS), min_size=1, max_size=6), st.data())
def test_any_rows_of_a_page_are_decoded_in_the_order_asked_for(
    rows: list[tuple[str | None, str | None]], data: st.DataObject
) -> None:
    page = page_of_rows(COLUMNS, [[str(n).encode(), None, *as_bytes(row)] for n, row in enumerate(rows)], None)
    indices = data.draw(st.lists(st.integers(0, len(rows) - 1)))
    assert page.columns(indices, ["a"]) == [[rows[i][0] for i in indices]]


def test_a_page_of_no_rows_is_empty() -> None:
    found = page_of_text(COLUMNS, [0, 0, None, None, None], None)
    assert found is not None
    assert (found[0].keys, found[0].columns([], ["a"]), found[0].rows([])) == ([], [[]], [])


@pytest.mark.parametrize(
    ("literal", "items"),
    [
        ("{}", []),
        ("{NULL}", [None]),
        ('{"NULL",""}', ["NULL", ""]),
        ('{a,"b c","d,e","f\\"g","h\\\\i","{j}"}', ["a", "b c", "d,e", 'f"g', "h\\i", "{j}"]),
        ("{{a,b},{c,d}}", [["a", "b"], ["c", "d"]]),
        ("[0:1]={a,b}", ["a", "b"]),
    ],
)
def test_an_array_is_a_list(literal: str, items: list[object]) -> None:
    assert value(Column("v", "text", "text[]", array=True), literal) == items


@given(st.lists(st.none() | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5)))
def test_a_list_is_read_as_it_was_written(items: list[str | None]) -> None:
    column = Column("v", "text", "text[]", array=True)
    assert value(column, text(column, items)) == items


@given(st.lists(st.none() | st.text(st.sampled_from(f"\\\n\r\t{FIELD}{NULL}Nx"), max_size=5), min_size=1))
def test_fields_of_copy_hold_no_bare_separator_and_tell_null_from_text(items: list[str | None]) -> None:
    fields = copy_fields(Written(items))
    bare = [re.sub(r"\\.", "", field, flags=re.DOTALL) for field in fields]
    assert not any(mark in field for field in bare if field != NULL for mark in f"\n\r{FIELD}{NULL}")
    letters = {"n": "\n", "r": "\r"}
    unescaped = [
        None if field == NULL else re.sub(r"\\(.)", lambda m: letters.get(m[1], m[1]), field, flags=re.DOTALL)
        for field in fields
    ]
    assert items == unescaped


@pytest.mark.parametrize(
    ("column", "item", "said"),
    [
        (Column("v", "text", "text[]", array=True), "secret", "takes a list"),
        (Column("v", "text", "text"), ["secret"], "takes one value"),
        (Column("v", "bytea", "bytea"), "secret!", "base64"),
        (Column("v", "text", "text"), "secret\0", "NUL"),
        (Column("v", "jsonb", "jsonb"), {"secret": "\0"}, "NUL"),
    ],
)
def test_a_value_that_does_not_fit_is_told_without_it(column: Column, item: object, said: str) -> None:
    with pytest.raises(Unfit, match=said) as caught:
        written(column, [None, item])
    assert "secret" not in str(caught.value)
