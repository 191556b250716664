"""Conflict: the rules about who wins, where a field or policy says more than a name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from fairlead.model.checks.context import Context
from fairlead.model.checks.expression import tried, wrong
from fairlead.model.problem import Path, Problem, near
from fairlead.model.syncpolicy import ConflictRule, MergeMode, Ownership

VARIABLES = ("base", "modified", "systems", "values")
"""What an onConflictExpression may name."""

_NAMED_SYSTEM = re.compile(r"\b(?:values|modified)(?:\.(\w+)|\[\s*(?:\"([^\"]*)\"|'([^']*)')\s*\])")
_NAMED_FIELD = re.compile(r"\brecord(?:\.(\w+)|\[\s*(?:\"([^\"]*)\"|'([^']*)')\s*\])")

_SAMPLES: dict[str, Any] = {
    "string": "a",
    "number": 1.5,
    "integer": 1,
    "boolean": True,
    "array": ["a"],
    "object": {"a": "a"},
}
_ACCEPTED: dict[str, tuple[type, ...]] = {
    "string": (str, bool, int, float),
    "number": (int, float, str),
    "integer": (int, float, str),
    "boolean": (bool, int, str),
    "array": (list,),
    "object": (dict,),
}
"""Types of results that can be made a value of each schema type."""


# --- Expression ---


def expressions_are_written_well(context: Context) -> Iterator[Problem]:
    """They compile, name only what there is, and are there where they are needed."""
    spec = context.spec
    if spec.on_conflict_expression is not None:
        path: Path = ("spec", "onConflictExpression")
        yield from _expression(context, spec.on_conflict_expression, path)
        if not any(_uses_policys_expression(context, field) for field in context.fields):
            yield Problem(message="is used nowhere: write onConflict: Expression, or leave it out", path=path)
    for field, rule in spec.fields.items():
        path = ("spec", "fields", field, "onConflictExpression")
        if rule.on_conflict_expression is None:
            continue
        yield from _expression(context, rule.on_conflict_expression, path)
        if _rule_of(context, field) is not ConflictRule.EXPRESSION:
            yield Problem(message="is not used: write onConflict: Expression, or leave it out", path=path)


def _uses_policys_expression(context: Context, field: str) -> bool:
    own = context.rule(field).on_conflict_expression
    return _rule_of(context, field) is ConflictRule.EXPRESSION and own is None


def _rule_of(context: Context, field: str) -> ConflictRule:
    return context.rule(field).on_conflict or context.spec.on_conflict


def _expression(context: Context, source: str, path: Path) -> Iterator[Problem]:
    names = [system.name for system in context.spec.systems]
    message = wrong(source, VARIABLES, "variable of a conflict")
    if message is None:
        message = next(
            (f"no system is named {n!r}{near(n, names)}" for n in _named(_NAMED_SYSTEM, source, names)), None
        )
    if message:
        yield Problem(message=message, path=path)


def _named(pattern: re.Pattern[str], source: str, known: Iterable[str]) -> list[str]:
    """What an expression names and is not known."""
    found = ["".join(match.groups("")) for match in pattern.finditer(source)]
    return [name for name in found if name not in known]


def expressions_give_what_fits(context: Context) -> Iterator[Problem]:
    """What an expression gives for values of the field's type can be a value of it."""
    found: dict[Path, Problem] = {}
    for field in context.fields:
        own = context.rule(field).on_conflict_expression
        source = own or context.spec.on_conflict_expression
        if _rule_of(context, field) is ConflictRule.EXPRESSION and source:
            path: Path = ("spec", "fields", field, "onConflictExpression") if own else _POLICYS
            message = _misfit(context, field, source)
            if message:
                found.setdefault(path, Problem(message=message, path=path))
    yield from found.values()


def _misfit(context: Context, field: str, source: str) -> str | None:
    declared: Any = context.fields[field]
    name = declared.get("type") if isinstance(declared, dict) else None
    if not isinstance(name, str) or name not in _SAMPLES:
        return None
    given = _tried(context, field, source, name)
    fits = isinstance(given, _ACCEPTED[name]) and (bool in _ACCEPTED[name] or not isinstance(given, bool))
    if given is None or fits:
        return None
    return f"gives {_word(given)} where {field} is {name}: convert it, for example with string(x)"


_POLICYS: Path = ("spec", "onConflictExpression")


def _tried(context: Context, field: str, source: str, name: str) -> Any:
    """The result for sample values; None when there is none to judge by."""
    names = [system.name for system in context.spec.systems if system.reads and field in system.fields]
    sample = _SAMPLES[name]
    times = dict.fromkeys(names, "2026-01-01T00:00:00.000000Z")
    values = {"base": sample, "values": dict.fromkeys(names, sample), "systems": names, "modified": times}
    return tried(source, values)


def _word(given: Any) -> str:
    words = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}
    return words.get(type(given), f"a {type(given).__name__}")


# --- Merge ---


def merges_are_possible(context: Context) -> Iterator[Problem]:
    """Lists and text can be merged, and numbers that count something."""
    for field, schema in context.fields.items():
        path: Path = ("spec", "fields", field, "merge")
        rule, number = context.rule(field), _is(schema, "number", "integer")
        merging = _rule_of(context, field) is ConflictRule.MERGE
        if rule.merge is MergeMode.DELTA and not number:
            yield Problem(message=f"only numbers have deltas, and {field} is none: leave it out", path=path)
        elif rule.merge is not None and not merging:
            yield Problem(message="is not used: write onConflict: Merge, or leave it out", path=path)
        elif merging and number and rule.merge is None:
            message = f"{field} is a number: write merge: Delta where it counts something, else another onConflict"
            yield Problem(message=message, path=_conflict_path(context, field))
        elif merging and not number and not _is_list_or_text(schema):
            message = f"values of {field} cannot be merged: only lists, plain text and counting numbers can; "
            yield Problem(message=message + "write another onConflict", path=_conflict_path(context, field))


def _conflict_path(context: Context, field: str) -> Path:
    own = context.rule(field).on_conflict is not None
    return ("spec", "fields", field, "onConflict") if own else ("spec", "onConflict")


def _is(schema: Any, *names: str) -> bool:
    declared = schema.get("type") if isinstance(schema, dict) else None
    listed = declared if isinstance(declared, list) else [declared]
    types = {name for name in listed if isinstance(name, str)}
    return len(types - {"null"}) == 1 and bool(types & set(names))


def _is_list_or_text(schema: Any) -> bool:
    if _is(schema, "array"):
        return True
    if not _is(schema, "string"):
        return False
    formatted = schema.get("format") in ("date", "date-time") or "contentEncoding" in schema
    return not formatted


# --- systemOfRecordWhen ---


def conditions_are_written_well(context: Context) -> Iterator[Problem]:
    """They compile and name fields that the system whose view they are about has."""
    for field, rule in context.spec.fields.items():
        if rule.system_of_record_when is not None:
            yield from _condition(context, field, rule.system_of_record_when)


def _condition(context: Context, field: str, ownership: Ownership) -> Iterator[Problem]:
    path: Path = ("spec", "fields", field, "systemOfRecordWhen", "when")
    message = wrong(ownership.when, ("record",), "variable: write record.<field>")
    if message:
        yield Problem(message=message, path=path)
        return
    for name in _named(_NAMED_FIELD, ownership.when, context.fields):
        yield Problem(message=f"the schema has no field {name!r}{near(name, context.fields)}", path=path)
    owner = context.system(context.spec.system_of_record)
    for name in _named(_NAMED_FIELD, ownership.when, owner.fields if owner else context.fields):
        if name in context.fields and owner is not None:
            message = f"{owner.name} is asked for {name}, which it does not map: map it there, or ask for another field"
            yield Problem(message=message, path=path)
    given = tried(ownership.when, {"record": _sample_record(context)})
    if given is not None and not isinstance(given, bool):
        yield Problem(message=f"gives {_word(given)}, not true or false: compare it with something", path=path)


def _sample_record(context: Context) -> dict[str, Any]:
    declared: dict[str, Any] = context.fields
    types = {name: schema.get("type") for name, schema in declared.items() if isinstance(schema, dict)}
    return {name: _SAMPLES[kind] for name, kind in types.items() if isinstance(kind, str) and kind in _SAMPLES}
