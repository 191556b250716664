"""Wording: what a structural error says to a person. Values are not repeated: a URL may hold what must not be shown."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from jsonschema import ValidationError

from fairlead.model.problem import near

_TYPES = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "object": "a mapping",
    "array": "a list",
    "null": "nothing",
}

_HINTS = {
    "(ms|s|m|h)": "write a duration, for example 500ms, 30s, 5m or 1h30m",
    "(h|d)": "write a duration in hours or days, for example 12h or 30d",
    "( [0-9A-Za-z*,/#-]+){4}": "write a cron expression of five parts, for example 0 3 * * *",
    "(Mi|Gi|Ti|M|G|T)": "write a size, for example 500Mi or 1Gi",
    "^https?://": "write a URL, for example https://login.example.com/token",
    "^(https?|postgresql)://": (
        "write a URL of https, http, postgresql or sqlite, for example https://api.example.com, "
        "postgresql://host:5432/database or sqlite:///file.db"
    ),
    "^[a-z": "write lower case letters, digits and '-', beginning with a letter or digit",
    "^/": "write a path that begins with '/', without query string",
}

_MAPPINGS = {
    "systemOfRecord": "where a field's owner depends on the record, write systemOfRecordWhen (when, then, otherwise)",
}
"""Field that is text → what to write where somebody gave a mapping."""


def describe(error: ValidationError) -> str:
    """One sentence that says what to write instead."""
    word = _WORDS.get(str(error.validator))
    return word(error) if word else error.message


def _type(error: ValidationError) -> str:
    value: Any = error.validator_value
    wanted = value if isinstance(value, list) else [value]
    expected = " or ".join(_TYPES[name] for name in wanted)
    given = _given(error.instance)
    hint = _text_hint(error) if wanted == ["string"] else ""
    return f"must be {expected}, not {given}" + (f": {hint}" if hint else "")


def _text_hint(error: ValidationError) -> str:
    """How to write as text what was given otherwise; empty where that is not known."""
    if isinstance(error.instance, int | float):
        schema: Any = error.schema
        pattern = schema.get("pattern", "")
        return "quote it" if re.search(pattern, str(error.instance).lower()) else _advice(pattern)
    name = error.absolute_path[-1] if error.absolute_path else None
    return _MAPPINGS.get(str(name), "") if isinstance(error.instance, dict) else ""


def _given(value: Any) -> str:
    if value is None:
        return "nothing"
    names = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", dict: "a mapping"}
    return names[type(value)]


def _enum(error: ValidationError) -> str:
    value: Any = error.validator_value
    choices = [str(choice) for choice in value]
    if len(choices) == 1:
        return f"must be {choices[0]}"
    close = near(error.instance, choices) if isinstance(error.instance, str) else ""
    return f"must be one of {', '.join(choices)}" + (close if close.startswith(":") else "")


def _pattern(error: ValidationError) -> str:
    return f"is not accepted: {_advice(str(error.validator_value))}"


def _advice(pattern: str) -> str:
    """What to write where a pattern refuses what was given."""
    return next((hint for part, hint in _HINTS.items() if part in pattern), f"it must match {pattern}")


def _bound(relation: str, unit: str = "") -> Callable[[ValidationError], str]:
    return lambda error: f"must {relation} {error.validator_value}{unit}"


_WORDS: dict[str, Callable[[ValidationError], str]] = {
    "type": _type,
    "enum": _enum,
    "pattern": _pattern,
    "minimum": _bound("be at least"),
    "maximum": _bound("be at most"),
    "minLength": _bound("have at least", " characters"),
    "maxLength": _bound("have at most", " characters"),
    "minItems": _bound("have at least", " items"),
    "maxItems": _bound("have at most", " items"),
    "minProperties": _bound("have at least", " entries"),
    "maxProperties": _bound("have at most", " entries"),
}
