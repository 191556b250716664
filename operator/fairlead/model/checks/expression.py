"""Expression: whether CEL compiles and names only what there is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fairlead.model.language import MACRO_VARIABLE, MAX_LENGTH, STDLIB_FUNCTIONS, add_stdlib_to_context, cel, complaint
from fairlead.model.problem import near

_NAMESPACES = frozenset(name.partition(".")[0] for name in STDLIB_FUNCTIONS if "." in name)
_NATIVE = frozenset(
    [
        "bool",
        "bytes",
        "contains",
        "double",
        "duration",
        "dyn",
        "endsWith",
        "getDate",
        "getDayOfMonth",
        "getDayOfWeek",
        "getDayOfYear",
        "getFullYear",
        "getHours",
        "getMilliseconds",
        "getMinutes",
        "getMonth",
        "getSeconds",
        "has",
        "int",
        "matches",
        "size",
        "startsWith",
        "string",
        "timestamp",
        "type",
        "uint",
    ]
)
_FUNCTIONS = _NATIVE | frozenset(name.rpartition(".")[2] for name in STDLIB_FUNCTIONS)


def wrong(source: str, variables: Iterable[str] | None = None, noun: str = "field") -> str | None:
    """What is wrong with an expression, or None.

    Args:
        source: the expression.
        variables: the names that it may use; None allows any, as for a native record whose attributes are not known.
        noun: what the names are names of.
    """
    if not source.strip():
        return "is empty: write a CEL expression"
    if len(source) > MAX_LENGTH:
        return f"is longer than {MAX_LENGTH} characters"
    try:
        program = cel.compile(source)
    except ValueError as error:
        return f"is not CEL: {complaint(error)}"
    for name in sorted(program.functions()):
        if name.isidentifier() and name not in _FUNCTIONS:
            return f"calls an unknown function {name!r}{near(name, _FUNCTIONS)}"
    if variables is None:
        return None
    return _unknown_variable(source, program, frozenset(variables), noun)


def tried(source: str, variables: Mapping[str, Any]) -> Any:
    """What an expression gives for sample values.

    None when it does not compile or fails on them, which says nothing, or when it could take long: it has a macro.
    """
    if MACRO_VARIABLE.search(source) or "lists.range" in source or len(source) > MAX_LENGTH:
        return None
    context = cel.Context(dict(variables))
    add_stdlib_to_context(context)
    try:
        return cel.compile(source).execute(context)
    except (RuntimeError, ValueError, TypeError, ArithmeticError, LookupError):
        return None


def _unknown_variable(source: str, program: cel.Program, known: frozenset[str], noun: str) -> str | None:
    used = frozenset(program.variables()) - frozenset(MACRO_VARIABLE.findall(source)) - _NAMESPACES
    unknown = sorted(used - known)
    return f"uses {unknown[0]!r}, which is no {noun}{near(unknown[0], known)}" if unknown else None
