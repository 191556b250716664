"""The data contract: the JSON Schema that every record must keep. What breaks it is a dead letter, not a write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jsonschema_rs

from fairlead.model.record import Value

_ASSURED = ({"type"}, {"type", "description"}, {"description"})
"""Keywords that canonical conversion already assures, so that a property with only these needs no second look."""

_RECORD = "urn:fairlead:record"
"""Makes the schema one of its own wherever it stands, so that `#/$defs/…` means what is in it."""


class Contract:
    """Checks whole pages at once: one call into a compiled validator for thousands of records."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self.required = frozenset(schema.get("required", ()))
        constrained = {n: p for n, p in schema.get("properties", {}).items() if set(p) not in _ASSURED}
        rest = {k: v for k, v in schema.items() if k not in ("properties", "required", "type", "description", "title")}
        self._trivial = not constrained and not rest
        assured = dict.fromkeys(schema.get("properties", {}), True)  # named, for `additionalProperties`
        whole = {"$id": _RECORD, **rest, "type": "object", "properties": {**assured, **constrained}}
        self._one = jsonschema_rs.validator_for(whole, validate_formats=True)
        self._page = jsonschema_rs.validator_for({"type": "array", "items": whole}, validate_formats=True)

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
                return f"breaks {error.schema_path[-1]!r} of the policy's schema"
        return None  # what it breaks is about other fields, which are not here

    def _first_error(self, record: Mapping[str, Value]) -> str | None:
        for error in self._one.iter_errors(record):
            path = ".".join(str(part) for part in error.instance_path)
            keyword = str(error.schema_path[-1]) if error.schema_path else "schema"
            return (
                f"field {path} breaks {keyword!r} of the policy's schema"
                if path
                else f"breaks {keyword!r} of the schema"
            )
        return None
