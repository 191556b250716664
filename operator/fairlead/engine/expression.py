"""CEL expressions: compiled once, evaluated per record. They cannot run code, reach a network or loop for ever."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from fairlead.model.language import MACRO_VARIABLE, MAX_LENGTH, STDLIB_FUNCTIONS, add_stdlib_to_context, cel, complaint

_STANDARD = "contains|startsWith|endsWith|matches|size|duration|getFullYear|getMonth|getDate|getHours"
_FUNCTION = re.compile(rf"Function '([\w.]+)' error|Undefined variable or function: '({_STANDARD})'")
"""What could not take its arguments. Of a standard function the library says then that there is none."""

_LITERAL = re.compile(r"""\"{3}[\s\S]*?\"{3}|'{3}[\s\S]*?'{3}|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'""")
_LOOP = re.compile(r"\.(all|exists|exists_one|map|filter)\s*\(|[()]")

_CAUSES: tuple[tuple[type[Exception], str, str], ...] = (
    (KeyError, "", "an attribute is not there; guard it with has(a.b)"),
    (IndexError, "", "an index is beyond the end of a list; guard it with size(list)"),
    (ZeroDivisionError, "", "division by zero"),
    (RuntimeError, "Undefined", "it names a variable or function that does not exist"),
    (Exception, "Arithmetic overflow", "a number is beyond 64 bits"),
    (Exception, "", "a value is null or of a type that does not fit; guard it, or convert it with string(x)"),
)

_LONG = "longer than an expression may take in time"
"""Why a function makes no list; the library says it in the middle of its own words."""

MAX_RANGE = 10_000
"""Longest list that `lists.range` makes."""

MAX_STEPS = 3_000_000
"""Steps that the loops of one expression may take: a second at most, in which nothing else of a worker goes on."""


class ExpressionError(ValueError):
    """An expression does not compile, or failed on a record; the message holds no value."""


class Expression:
    """A compiled CEL expression with the strings, lists, math, sets and encoders extension libraries.

    Attributes:
        longest: elements of a list, or entries of an object, that its loops can take in time; None without loops.
    """

    def __init__(self, source: str) -> None:
        if len(source) > MAX_LENGTH:
            raise ExpressionError(f"the expression is longer than {MAX_LENGTH} characters")
        try:
            self._program = cel.compile(source)
        except ValueError as error:
            raise ExpressionError(f"{source!r} is not CEL: {complaint(error)}") from None
        self.source = source
        self._context = cel.Context()
        add_stdlib_to_context(self._context)  # five times the cost of an evaluation, so once
        self.longest = _longest(source)
        if self.longest is not None:
            for name in ("split", "flatten"):
                self._context.add_function(name, _bounded(STDLIB_FUNCTIONS[name], self.longest))
        most = min(MAX_RANGE, self.longest or MAX_RANGE)
        self._context.add_function("lists.range", lambda size: _range(size, most))
        self.variables = frozenset(self._program.variables()) - frozenset(MACRO_VARIABLE.findall(source))
        """The names that the expression reads, without those that its own macros bind."""

    def evaluate(self, variables: Mapping[str, Any]) -> Any:
        """The result for one record.

        Raises:
            ExpressionError: it failed, for example on a field that is not there; use `has(a.b)` to guard.
        """
        try:
            values = {name: to_cel(variables.get(name)) for name in self.variables}
            self._bound(values)
            self._context.update(values)
            return self._program.execute(self._context)
        except ExpressionError:
            raise
        except (RuntimeError, ValueError, TypeError, ArithmeticError, LookupError) as error:
            raise ExpressionError(f"{self.source!r} failed: {_cause(error)}") from None

    def _bound(self, values: Mapping[str, Any]) -> None:
        longest = self.longest
        if longest is not None and not all(_within(value, longest) for value in values.values()):
            raise ExpressionError(
                f"{self.source!r} failed: its loops cannot take lists of more than {longest:,} elements"
            )


def _longest(source: str) -> int | None:
    """How long a list may be for the loops of an expression: one in another takes the time of both, multiplied.

    `map` and `filter` copy the list that they make for every element, so they count once more.
    """
    inside: list[bool] = []
    deepest, copies = 0, 0
    for found in _LOOP.finditer(_LITERAL.sub('""', source)):
        if found[0] == ")":
            del inside[-1:]
            continue
        inside.append(found[1] is not None)
        deepest = max(deepest, sum(inside))
        copies = max(copies, int(found[1] in ("map", "filter")))
    return round(MAX_STEPS ** (1 / (deepest + copies))) if deepest else None


def _within(value: Any, longest: int) -> bool:
    """Whether no list or object in a value is longer."""
    if not isinstance(value, list | dict):
        return True
    inner = value.values() if isinstance(value, dict) else value
    return len(value) <= longest and all(_within(each, longest) for each in inner)


def _bounded(function: Callable[..., Any], longest: int) -> Callable[..., Any]:
    """A function that makes a list, which it refuses to make longer."""

    def bounded(*arguments: Any) -> Any:
        made = function(*arguments)
        if len(made) > longest:
            raise ValueError(_LONG)
        return made

    return bounded


def _range(size: int, most: int) -> list[int]:
    """CEL's `lists.range`, which would fill the memory with what one record says."""
    if size > most:
        raise ValueError(_LONG)
    return list(range(size))


def _cause(error: Exception) -> str:
    """What went wrong, without the library's own words: they quote the values at hand."""
    function = _FUNCTION.search(str(error))
    if function and f"ValueError: {_LONG}." in str(error):
        return f"the function {function[1]} makes a list that is too long for the loops, or for any record"
    if function:
        return f"the function {function[1] or function[2]} cannot take such a value"
    return next(words for kind, start, words in _CAUSES if isinstance(error, kind) and str(error).startswith(start))


def to_cel(native: Any) -> Any:
    """A value as expressions see it: CEL has no decimal, so an amount becomes a double, and dates become text."""
    if isinstance(native, Decimal):
        return float(native)
    if isinstance(native, datetime | date):
        return native.isoformat()
    if isinstance(native, dict):
        return {k: to_cel(v) for k, v in native.items()}
    return [to_cel(v) for v in native] if isinstance(native, list | tuple) else native
