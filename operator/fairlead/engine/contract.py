"""The data contract: the JSON Schema that every record must keep. What breaks it is a dead letter, not a write."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from fairlead.model.common import PRECISION
from fairlead.model.record import Value

if TYPE_CHECKING:
    import jsonschema_rs

_ASSURED = {"type", "description", "title", PRECISION}
"""Keywords that canonical conversion already assures, so that a property with only these needs no second look."""

_ASSURED_FORMATS = ("date-time", "date")

_SHOWN = 60
"""Characters of what a keyword asks for that a message still shows; a longer one is better read in the policy."""

_RECORD = "urn:fairlead:record"
"""Makes the schema one of its own wherever it stands, so that `#/$defs/…` means what is in it."""


class Contract:
    """Checks whole pages at once: one call into a compiled validator for thousands of records.

    Attributes:
        declaration: text that changes when the contract does.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self.declaration = json.dumps(schema, sort_keys=True)
        self.required = frozenset(schema.get("required", ()))
        constrained = {n: p for n, p in schema.get("properties", {}).items() if not _assured(p)}
        rest = {k: v for k, v in schema.items() if k not in ("properties", "required", "type", "description", "title")}
        self._trivial = not constrained and not rest
        assured = dict.fromkeys(schema.get("properties", {}), True)  # named, for `additionalProperties`
        self._whole = {"$id": _RECORD, **rest, "type": "object", "properties": {**assured, **constrained}}

    @cached_property
    def _one(self) -> jsonschema_rs.Validator:
        return _compiled(self._whole)

    @cached_property
    def _page(self) -> jsonschema_rs.Validator:
        return _compiled({"type": "array", "items": self._whole})

    def broken(self, records: Sequence[Mapping[str, Value]], mapped: frozenset[str]) -> dict[int, str]:
        """Index → what is wrong, for each record that breaks the contract; messages hold no value.

        Args:
            records: canonical values of one system.
            mapped: the fields that this system maps; what it does not map is not missing.
        """
        required = sorted(self.required & mapped)
        found = (
            {
                i: f"field {name} is required and has no value"
                for i, record in enumerate(records)
                for name in required
                if record[name] is None
            }
            if required
            else {}
        )
        if self._trivial:
            return found
        present = [{k: v for k, v in record.items() if v is not None} for record in records]
        if self._page.is_valid(present):
            return found
        for i, record in enumerate(present):
            message = self._first_error(record)
            if message:
                found.setdefault(i, message)
        return found

    def field_error(self, field: str, value: Value) -> str | None:
        """What is wrong with one value, as the end of a sentence; None when nothing is. It holds no value."""
        if value is None:
            return "is no value, which the schema requires" if field in self.required else None
        if self._trivial or self._one.is_valid({field: value}):
            return None
        for error in self._one.iter_errors({field: value}):
            if error.instance_path and error.instance_path[0] == field:
                return f"breaks {self._rule(error)} of the policy's schema"
        return None  # what it breaks is about other fields, which are not here

    def _first_error(self, record: Mapping[str, Value]) -> str | None:
        for error in self._one.iter_errors(record):
            path = ".".join(str(part) for part in error.instance_path)
            rule = self._rule(error)
            return f"field {path} breaks {rule} of the policy's schema" if path else f"breaks {rule} of the schema"
        return None

    def _rule(self, error: jsonschema_rs.ValidationError) -> str:
        """The keyword as the schema has it, "'maxLength: 20'"; without what it asks for where that is long.

        It is read from the schema and never from the error, which knows the record's value, too.
        """
        keyword = error.schema_path[-1]
        asked: Any = self._whole
        try:
            for step in error.schema_path:
                asked = asked[step]
        except (LookupError, TypeError):  # a path through a reference that this walk does not follow
            return f"'{keyword}'"
        text = asked if isinstance(asked, str) else json.dumps(asked, ensure_ascii=False)
        return f"'{keyword}: {text}'" if len(text) <= _SHOWN else f"'{keyword}'"


def _assured(schema: Any) -> bool:
    """Whether a value that was converted as `canonical.kind_of` says keeps the schema already."""
    if not isinstance(schema, dict):
        return False
    types = schema.get("type", [])
    names = [types] if isinstance(types, str) else [name for name in types if name != "null"]
    by_format = {"format"} if names == ["string"] and schema.get("format") in _ASSURED_FORMATS else set()
    return len(names) < 2 and schema.keys() <= _ASSURED | by_format


def _compiled(schema: dict[str, Any]) -> jsonschema_rs.Validator:
    import jsonschema_rs  # noqa: PLC0415 - 6 MB, which a policy whose fields are only typed does not need

    return jsonschema_rs.validator_for(schema, validate_formats=True)
