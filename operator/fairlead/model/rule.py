"""Rule: a CEL rule of a CRD (`x-kubernetes-validations`), evaluated as the API server does.

Of Kubernetes' CEL libraries the CRDs use only what is registered here: the string library (by the `cel` package's
own) and `quantity().compareTo()`. A rule that says more fails in the tests, not in a cluster.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import msgspec

from fairlead.model.language import add_stdlib_to_context, cel
from fairlead.model.problem import Path

_UNITS = {"": 1, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12} | {
    f"{letter}i": 1024.0**power for power, letter in enumerate("KMGT", start=1)
}


class Rule(msgspec.Struct, frozen=True):
    """One rule of one schema node. `below` is the part of the value that its problem is shown at."""

    program: cel.Program
    transition: bool
    message: str
    expression: cel.Program | None
    below: Path

    def broken(self, value: Any, old: Any) -> str | None:
        """The message when the value breaks the rule, else None. Rules over `oldSelf` need an old value."""
        if self.transition and old is None:
            return None
        context = _context(value, old)
        if _evaluate(self.program, context) is True:
            return None
        computed = _evaluate(self.expression, context) if self.expression else None
        return computed if isinstance(computed, str) and computed else self.message


def rules_of(schema: Mapping[str, Any]) -> tuple[Rule, ...]:
    """The rules that one schema node declares."""
    declared = schema.get("x-kubernetes-validations")
    return _compiled(json.dumps(declared)) if declared else ()


@cache
def _compiled(declared: str) -> tuple[Rule, ...]:
    return tuple(_rule(item) for item in json.loads(declared))


def _rule(declared: Mapping[str, str]) -> Rule:
    expression = declared.get("messageExpression")
    program = cel.compile(declared["rule"])
    return Rule(
        program=program,
        transition="oldSelf" in program.variables(),
        message=declared["message"],
        expression=cel.compile(expression) if expression else None,
        below=tuple(filter(None, declared.get("fieldPath", "").split("."))),
    )


def _context(value: Any, old: Any) -> cel.Context:
    context = cel.Context({"self": value, "oldSelf": old})
    add_stdlib_to_context(context)
    context.add_function("quantity", quantity)
    context.add_function("compareTo", _compare)
    return context


def _evaluate(program: cel.Program, context: cel.Context) -> Any:
    """The result; None when it cannot be evaluated, which the API server counts as a broken rule too."""
    try:
        return program.execute(context)
    except (RuntimeError, ValueError, TypeError, KeyError, OverflowError):
        return None


def quantity(text: str) -> float:
    """A Kubernetes quantity as a number: `1Gi` is 1073741824.

    Raises:
        ValueError: not a quantity.
    """
    digits = text.rstrip("mkKMGTi")
    unit = text[len(digits) :]
    if unit not in _UNITS:
        raise ValueError(f"{text!r} is not a quantity; write for example 500Mi or 1Gi")
    return float(digits) * _UNITS[unit]


def _compare(left: float, right: float) -> int:
    return (left > right) - (left < right)
