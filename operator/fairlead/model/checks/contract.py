"""Contract: the rules about `spec.schema`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

import jsonschema_rs
from jsonschema import Draft202012Validator, SchemaError

from fairlead.model.checks.context import Context
from fairlead.model.common import PRECISION, PRECISIONS
from fairlead.model.problem import Path, Problem, near

_SCHEMA: Path = ("spec", "schema")
_TYPES = ("string", "number", "integer", "boolean", "array", "object", "null")
_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}", re.ASCII)


def is_json_schema(context: Context) -> Iterator[Problem]:
    """The schema itself is valid, and needs nothing from elsewhere."""
    schema = context.spec.schema
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        path = (*_SCHEMA, *error.absolute_path)
        yield Problem(message=f"is not JSON Schema: {_said(error)}", path=path)
        return
    remote = list(_remote_references(schema, _SCHEMA))
    yield from remote
    if not remote:
        yield from _compiles(schema)


def _said(error: SchemaError) -> str:
    """What is wrong; of a type, which there are, since the validator says of it only that no alternative fits."""
    if error.validator != "anyOf" or error.absolute_path[-1] != "type":
        return _first_line(error.message)
    given = error.instance if isinstance(error.instance, list) else [error.instance]
    unknown = next((name for name in given if isinstance(name, str) and name not in _TYPES), None)
    words = f"a type is one of {', '.join(_TYPES)}, or a list of them"
    close = get_close_matches(unknown, _TYPES, n=1) if unknown else []
    return f"{words}: did you mean {close[0]!r}?" if close else words


def _compiles(schema: dict[str, Any]) -> Iterator[Problem]:
    try:
        jsonschema_rs.validator_for(schema, validate_formats=True)
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        yield Problem(message=f"cannot be used as a schema: {_first_line(str(error))}", path=_SCHEMA)


def _remote_references(value: Any, path: Path) -> Iterator[Problem]:
    if isinstance(value, dict):
        for key, part in value.items():
            if key in ("$ref", "$dynamicRef") and isinstance(part, str) and not part.startswith("#"):
                yield Problem(message="may only refer into this schema: write #/$defs/…", path=(*path, key))
            yield from _remote_references(part, (*path, key))
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from _remote_references(part, (*path, number))


def _first_line(text: str) -> str:
    return text.splitlines()[0][:200] if text else "it is malformed"


def is_object(context: Context) -> Iterator[Problem]:
    """A record is an object with at least one field."""
    if context.spec.schema.get("type") != "object":
        yield Problem(message="must say `type: object`: a record is an object", path=_SCHEMA)
    if not context.fields:
        yield Problem(message="must have properties: they are the canonical fields", path=_SCHEMA)


def fields_are_named(context: Context) -> Iterator[Problem]:
    """Field names can be used in expressions, and each field has a schema of its own."""
    for name, declared in context.fields.items():
        path = (*_SCHEMA, "properties", name)
        if not _FIELD.fullmatch(name):
            message = (
                "a field's name is up to 63 letters, digits and '_', beginning with a letter, so that CEL can use it"
            )
            yield Problem(message=message, path=path)
        if not isinstance(declared, dict):
            yield Problem(message="must be a schema, for example {type: string}", path=path)


def precisions_are_known(context: Context) -> Iterator[Problem]:
    """A time's precision is one of a few words."""
    fields: dict[str, Any] = context.fields
    for name, declared in fields.items():
        if not isinstance(declared, dict) or PRECISION not in declared:
            continue
        path = (*_SCHEMA, "properties", name, PRECISION)
        if declared[PRECISION] not in PRECISIONS:
            yield Problem(message=f"must be one of {', '.join(PRECISIONS)}", path=path)
        elif declared.get("format") != "date-time":
            yield Problem(message="is only for times: write format: date-time, or leave it out", path=path)


def required_fields_exist(context: Context) -> Iterator[Problem]:
    """What is required is a field, and some system has it."""
    required = context.spec.schema.get("required")
    for number, name in enumerate(required if isinstance(required, list) else ()):
        path = (*_SCHEMA, "required", number)
        if not isinstance(name, str):
            continue
        if name not in context.fields:
            yield Problem(message=f"no field is named {name!r}{near(name, context.fields)}", path=path)
        elif not any(name in system.fields for system in context.spec.systems):
            message = f"{name} is required but mapped in no system: map it in systems[].fields, or do not require it"
            yield Problem(message=message, path=path)
