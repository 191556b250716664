"""CEL: what expressions may say, and what they say when they fail."""

from __future__ import annotations

import contextlib
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.engine.expression import MAX_LENGTH, MAX_RANGE, Expression, ExpressionError

TOO_LONG = "the function {} makes a list that is too long for the loops, or for any record"
MISFIT = "a value is null or of a type that does not fit; guard it, or convert it with string(x)"
SECRET = "hunter2-of-ada@example.com"


@pytest.mark.parametrize(
    ("source", "variables", "expected"),
    [
        ("first + ' ' + last", {"first": "Ada", "last": "King"}, "Ada King"),
        ("properties.stage == 'customer'", {"properties": {"stage": "customer"}}, True),
        ("has(a.b) ? a.b : 'none'", {"a": {}}, "none"),
        ("name.split(' ')[0]", {"name": "Ada King"}, "Ada"),
        ("tags.map(t, t.lowerAscii()).join(';')", {"tags": ["A", "B"]}, "a;b"),
        ("missing == null", {}, True),
        ("amount * 2.0", {"amount": Decimal("1.25")}, 2.5),
        ("day + '/' + at", {"day": date(2026, 1, 31), "at": datetime(2026, 1, 1, tzinfo=UTC)},
         "2026-01-31/2026-01-01T00:00:00+00:00"),
        ("lists.range(3)", {}, [0, 1, 2]),
    ],
)  # fmt: skip
def test_an_expression_is_evaluated_over_a_record(source: str, variables: dict[str, Any], expected: Any) -> None:
    assert Expression(source).evaluate(variables) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a + b.c", {"a", "b"}),
        ("items.filter(i, i.size > least)", {"items", "least"}),
        ("items.all(i, i > 0) && items.exists(j, j == n)", {"items", "n"}),
        ("'constant'", set()),
    ],
)
def test_variables_are_what_an_expression_reads_without_what_its_macros_bind(source: str, expected: set[str]) -> None:
    assert Expression(source).variables == expected


@pytest.mark.parametrize(
    ("source", "variables", "cause"),
    [
        ("a.b", {"a": {}}, "an attribute is not there; guard it with has(a.b)"),
        ("a[3]", {"a": [SECRET]}, "an index is beyond the end of a list; guard it with size(list)"),
        ("1 / a", {"a": 0}, "division by zero"),
        ("a * a", {"a": 2**62}, "a number is beyond 64 bits"),
        ("nothing(a)", {"a": SECRET}, "it names a variable or function that does not exist"),
        ("timestamp(a)", {"a": SECRET}, "the function timestamp cannot take such a value"),
        ("a.lowerAscii()", {"a": None}, "the function lowerAscii cannot take such a value"),
        ("a.startsWith('s')", {"a": None}, "the function startsWith cannot take such a value"),
        ("size(a)", {"a": None}, "the function size cannot take such a value"),
        ("a + 1", {"a": SECRET}, MISFIT),
        ("a.b", {"a": None}, MISFIT),
        ("size(lists.range(a))", {"a": MAX_RANGE + 1}, TOO_LONG.format("lists.range")),
    ],
)  # fmt: skip
def test_a_failure_says_why_and_holds_no_value(source: str, variables: dict[str, Any], cause: str) -> None:
    with pytest.raises(ExpressionError) as failed:
        Expression(source).evaluate(variables)
    assert str(failed.value) == f"{source!r} failed: {cause}"


def test_a_failure_leaves_no_value_in_the_log(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ExpressionError):
        Expression("timestamp(a)").evaluate({"a": SECRET})
    assert SECRET not in caplog.text + "".join(capfd.readouterr())


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("a +", "1:4: Syntax error: mismatched input '<EOF>'"),
        ("a b", "1:3: Syntax error: extraneous input 'b' expecting <EOF>"),
        ("", "1:1: Syntax error: mismatched input '<EOF>'"),
        ("'", "1:1: Syntax error: token recognition error at: '''"),
        ("(((", "1:4: Syntax error: mismatched input '<EOF>'"),
    ],
)
def test_what_is_not_cel_is_refused_when_it_is_compiled(source: str, complaint: str) -> None:
    with pytest.raises(ExpressionError) as refused:
        Expression(source)
    assert str(refused.value) == f"{source!r} is not CEL: {complaint}"


def test_an_expression_is_bounded_in_depth() -> None:
    with pytest.raises(ExpressionError, match="Recursion limit of 96 exceeded"):
        Expression("(" * 200)


def test_an_expression_is_bounded_in_length() -> None:
    with pytest.raises(ExpressionError, match=f"longer than {MAX_LENGTH} characters"):
        Expression("a" * (MAX_LENGTH + 1))


@pytest.mark.parametrize(
    ("source", "longest"),
    [
        ("a.all(x, x > 0)", 3_000_000),
        ("a.map(x, x + 1)", 1732),
        ("a.map(x, x).filter(y, y > (1 + 2))", 1732),
        ("a.exists(x, b.exists(y, x == y))", 1732),
        ("a.map(x, b.map(y, x + y))", 144),
        ("a.map(x, b.filter(y, c.all(z, z == y)))", 42),
        ("a == '.map(' + \".all(\" + 'it\\'s.map('", None),
        ("(a + b).size()", None),
    ],
)
def test_the_more_loops_are_in_one_another_the_shorter_lists_must_be(source: str, longest: int | None) -> None:
    assert Expression(source).longest == longest


@pytest.mark.parametrize(
    "variables",
    [{"a": list(range(145))}, {"a": [{"x": list(range(145))}]}, {"a": {str(n): n for n in range(145)}}],
    ids=["a list", "one within", "an object"],
)
def test_what_would_keep_a_worker_from_all_else_is_refused_before(variables: dict[str, Any]) -> None:
    source = "a.map(x, a.map(y, y)).size()"
    with pytest.raises(ExpressionError) as failed:
        Expression(source).evaluate(variables)
    assert str(failed.value) == f"{source!r} failed: its loops cannot take lists of more than 144 elements"


@pytest.mark.parametrize(
    ("source", "function", "variables"),
    [
        ("a.split(',').map(x, x)", "split", {"a": "," * 1732}),
        ("a.map(x, a).flatten()", "flatten", {"a": list(range(42))}),
        ("lists.range(a).map(x, x)", "lists.range", {"a": 1733}),
    ],
)
def test_a_list_that_is_made_for_a_loop_is_bounded_too(source: str, function: str, variables: dict[str, Any]) -> None:
    assert Expression(source).evaluate({name: value[:-1] if isinstance(value, str | list) else value - 1
                                        for name, value in variables.items()}) is not None  # fmt: skip
    with pytest.raises(ExpressionError) as failed:
        Expression(source).evaluate(variables)
    assert str(failed.value) == f"{source!r} failed: {TOO_LONG.format(function)}"


def test_without_a_loop_a_list_may_be_of_any_length() -> None:
    assert Expression("a.split(',').size()").evaluate({"a": "," * 100_000}) == 100_001


def test_one_evaluation_leaves_nothing_to_the_next() -> None:
    expression = Expression("a == null ? 'none' : a")
    assert [expression.evaluate({"a": "x"}), expression.evaluate({})] == ["x", "none"]


NATIVES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=3)
    | st.decimals(allow_nan=False, allow_infinity=False) | st.dates() | st.datetimes(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
SOURCES = [
    "a + b", "a == b", "a < b", "a.b", "a[0]", "a in b", "size(a)", "int(a)", "double(a)", "string(a)", "timestamp(a)",
    "duration(a)", "a.map(x, x + b)", "a.filter(x, x == b)", "a.split(b)", "a.join(b)", "a.substring(1, 2)", "a.sort()",
    "a.matches(b)", "a.contains(b)", "base64.decode(a)", "math.greatest(a, b)", "sets.contains(a, b)", "-a", "!a",
    "a % b", "a.replace(b, b)", "a.flatten()", "a.slice(0, b)", "a.trim()", "bytes(a)", "type(a) == type(b)",
]  # fmt: skip


@given(st.sampled_from(SOURCES), NATIVES, NATIVES)
def test_whatever_a_record_holds_an_expression_gives_a_result_or_an_expression_error(
    source: str, one: Any, other: Any
) -> None:
    with contextlib.suppress(ExpressionError):
        Expression(source).evaluate({"a": one, "b": other})


def test_a_record_that_is_nested_too_deeply_fails_alone() -> None:
    nested: dict[str, Any] = {}
    for _ in range(5000):
        nested = {"a": nested}
    with pytest.raises(ExpressionError):
        Expression("has(a.b)").evaluate({"a": nested})
