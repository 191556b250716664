"""Structure: types, bounds, patterns and unknown fields, by jsonschema over a CRD's OpenAPI schema."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker, ValidationError
from jsonschema.validators import extend

from fairlead.model.problem import Problem, near
from fairlead.model.wording import describe

_NAME = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
_LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
_TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
_PRESERVE = "x-kubernetes-preserve-unknown-fields"

_METADATA = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 253, "pattern": _NAME},
        "namespace": {"type": "string", "minLength": 1, "maxLength": 63, "pattern": _LABEL},
        "labels": _TEXTS,
        "annotations": _TEXTS,
        "finalizers": {"type": "array", "items": {"type": "string"}},
        "ownerReferences": {"type": "array", "items": {"type": "object", _PRESERVE: True}},
        "generateName": {"type": "string"},
        "uid": {"type": "string"},
        "resourceVersion": {"type": "string"},
        "generation": {"type": "integer"},
        "creationTimestamp": {"type": ["string", "null"]},
        "deletionTimestamp": {"type": ["string", "null"]},
        "deletionGracePeriodSeconds": {"type": ["integer", "null"]},
        "selfLink": {"type": "string"},
        "managedFields": {"type": "array"},
    },
}
"""What may stand in metadata (Kubernetes' ObjectMeta); names by RFC 1123."""


def structural_problems(kind: str, value: Mapping[str, Any], openapi: Mapping[str, Any]) -> Iterator[Problem]:
    """What is wrong with the structure of an object whose defaults are filled in."""
    errors = _validator(kind, _Schema(openapi)).iter_errors(value)
    for error in sorted(errors, key=lambda error: list(map(str, error.absolute_path))):
        yield Problem(message=describe(error), path=tuple(error.absolute_path))


class _Schema:
    """A schema by identity, so that its validator can be cached."""

    def __init__(self, openapi: Mapping[str, Any]) -> None:
        self.openapi = openapi

    def __hash__(self) -> int:
        return id(self.openapi)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Schema) and self.openapi is other.openapi


@cache
def _validator(kind: str, schema: _Schema) -> Draft202012Validator:
    properties = {n: p for n, p in schema.openapi["properties"].items() if n != "status"} | {
        "apiVersion": {"type": "string", "enum": ["fairlead.dev/v1alpha1"]},
        "kind": {"type": "string", "enum": [kind]},
        "metadata": _METADATA,
    }
    required = ["apiVersion", "kind", "metadata", *schema.openapi["required"]]
    root = _closed({"type": "object", "required": required, "properties": properties})
    validator: Draft202012Validator = _Structural(root, format_checker=FormatChecker(["date-time"]))
    return validator


def _closed(schema: Any) -> Any:
    """The schema, refusing what it does not name, as the API server does with strict field validation."""
    if not isinstance(schema, dict):
        return schema
    closed = {key: part for key, part in schema.items() if key not in ("default", "description", _PRESERVE)}
    closed["x-meaning"] = _first_sentence(schema.get("description", ""))
    for key in ("items", "additionalProperties"):
        if key in closed:
            closed[key] = _closed(closed[key])
    if "properties" in closed:
        closed["properties"] = {name: _closed(part) for name, part in closed["properties"].items()}
    if closed.get("x-kubernetes-int-or-string"):
        closed["type"] = ["integer", "string"]
    if closed.get("type") == "object" and not schema.get(_PRESERVE):
        closed.setdefault("additionalProperties", False)
    return closed


def _first_sentence(text: str) -> str:
    return text.partition(". ")[0].rstrip(".")


def _pattern(_: Any, pattern: str, value: Any, __: Any) -> Iterator[ValidationError]:
    if isinstance(value, str) and not _compiled(pattern).search(value):
        yield ValidationError(f"does not match {pattern}")


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    r"""A Go (RE2) pattern: `$` is the end of the text only, and \s and \d are ASCII."""
    return re.compile(re.sub(r"(?<!\\)\$(?=$|\||\))", r"\\Z", pattern), re.ASCII)


def _unique(_: Any, list_type: str, value: Any, schema: Mapping[str, Any]) -> Iterator[ValidationError]:
    if list_type == "atomic" or not isinstance(value, list):
        return
    keys = schema.get("x-kubernetes-list-map-keys", ())
    seen: set[str] = set()
    for number, item in enumerate(value):
        identity = _identity(item, keys)
        if identity in seen:
            yield ValidationError(f"{identity} stands here twice: remove one", path=[number])
        seen.add(identity)


def _int_or_string(_: Any, __: Any, value: Any, ___: Any) -> Iterator[ValidationError]:
    if isinstance(value, float):
        yield ValidationError("must be a whole number or text: quote it")


def _identity(item: Any, keys: Iterable[str]) -> str:
    if isinstance(item, dict):
        return " and ".join(f"{key} {item.get(key)!r}" for key in keys)
    return repr(item)


def _required(_: Any, names: Iterable[str], value: Any, schema: Mapping[str, Any]) -> Iterator[ValidationError]:
    for name in names:
        if isinstance(value, dict) and name not in value:
            yield ValidationError(f"{name} is missing{_meaning(schema, name)}")


def _meaning(schema: Mapping[str, Any], name: str) -> str:
    described = schema.get("properties", {}).get(name, {}).get("x-meaning", "")
    return f": {described}" if described else ""


def _no_others(validator: Any, others: Any, value: Any, schema: Mapping[str, Any]) -> Iterator[ValidationError]:
    if not isinstance(value, dict):
        return
    known = schema.get("properties", {})
    for name in value.keys() - known.keys():
        if others is False:
            yield ValidationError(f"unknown field {name!r}{near(str(name), known)}", path=[name])
        else:
            yield from validator.descend(value[name], others, path=name)


_Structural: Any = extend(  # type: ignore[no-untyped-call]
    Draft202012Validator,
    {
        "additionalProperties": _no_others,
        "pattern": _pattern,
        "required": _required,
        "x-kubernetes-int-or-string": _int_or_string,
        "x-kubernetes-list-type": _unique,
    },
)
