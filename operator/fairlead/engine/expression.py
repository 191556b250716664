"""CEL expressions: compiled once, evaluated per record. They cannot run code, reach a network or loop for ever."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from fairlead.model.language import add_stdlib_to_context, cel

logging.getLogger("cel").setLevel(logging.CRITICAL)  # it warns with the arguments of what failed: record values

_FUNCTION = re.compile(r"Function '([\w.]+)' error")
_MACRO_VARIABLE = re.compile(r"\.(?:all|exists|exists_one|map|filter)\(\s*(\w+)\s*,")

_CAUSES: tuple[tuple[type[Exception], str, str], ...] = (
    (KeyError, "", "an attribute is not there; guard it with has(a.b)"),
    (IndexError, "", "an index is beyond the end of a list; guard it with size(list)"),
    (ZeroDivisionError, "", "division by zero"),
    (RuntimeError, "Undefined", "it names a variable or function that does not exist"),
    (Exception, "Arithmetic overflow", "a number is beyond 64 bits"),
    (Exception, "", "a value is null or of a type that does not fit; guard it, or convert it with string(x)"),
)

MAX_LENGTH = 2048
"""Longest expression accepted, as in the CRDs."""

MAX_RANGE = 10_000
"""Longest list that `lists.range` makes."""


class ExpressionError(ValueError):
    """An expression does not compile, or failed on a record; the message holds no value."""


class Expression:
    """A compiled CEL expression with the strings, lists, math, sets and encoders extension libraries."""

    def __init__(self, source: str) -> None:
        if len(source) > MAX_LENGTH:
            raise ExpressionError(f"the expression is longer than {MAX_LENGTH} characters")
        try:
            self._program = cel.compile(source)
        except ValueError as error:
            raise ExpressionError(f"{source!r} is not CEL: {_first_line(error)}") from None
        self.source = source
        self._context = cel.Context()
        add_stdlib_to_context(self._context)  # five times the cost of an evaluation, so once
        self._context.add_function("lists.range", _range)
        self.variables = frozenset(self._program.variables()) - frozenset(_MACRO_VARIABLE.findall(source))
        """The names that the expression reads, without those that its own macros bind."""

    def evaluate(self, variables: Mapping[str, Any]) -> Any:
        """The result for one record.

        Raises:
            ExpressionError: it failed, for example on a field that is not there; use `has(a.b)` to guard.
        """
        try:
            self._context.update({name: to_cel(variables.get(name)) for name in self.variables})
            return self._program.execute(self._context)
        except (RuntimeError, ValueError, TypeError, ArithmeticError, LookupError) as error:
            raise ExpressionError(f"{self.source!r} failed: {_cause(error)}") from None


def _range(size: int) -> list[int]:
    """CEL's `lists.range`, which would fill the memory with what one record says."""
    if size > MAX_RANGE:
        raise ValueError("too long")
    return list(range(size))


def _cause(error: Exception) -> str:
    """What went wrong, without the library's own words: they quote the values at hand."""
    function = _FUNCTION.search(str(error))
    if function:
        return f"the function {function[1]} cannot take such a value"
    return next(words for kind, start, words in _CAUSES if isinstance(error, kind) and str(error).startswith(start))


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0][:200] if lines else type(error).__name__


def to_cel(native: Any) -> Any:
    """A value as expressions see it: CEL has no decimal, so an amount becomes a double, and dates become text."""
    if isinstance(native, Decimal):
        return float(native)
    if isinstance(native, datetime | date):
        return native.isoformat()
    if isinstance(native, dict):
        return {k: to_cel(v) for k, v in native.items()}
    return [to_cel(v) for v in native] if isinstance(native, list | tuple) else native
