"""What a record is made of, in the words of the design.

Structs of which there is one per record have `gc=False`: they are never part of a cycle, so they need not be looked at
by the collector, which else runs all the time while a page of them is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeAlias

import msgspec

Value: TypeAlias = "bool | int | Decimal | str | list[Value] | dict[str, Value] | None"
"""A canonical value. Dates and times are ISO 8601 strings, binary is base64, `None` is "no value".

Numbers are `int` when integral and of 64 bits, else `Decimal`: no system's float can round another's money.
"""

Native: TypeAlias = "dict[str, object]"
"""A record as its system gave it: parsed JSON of an API, or column → text of a database row."""


class Missing:
    """The type of `MISSING`: the record has no such attribute (which is not the same as null)."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "MISSING"


MISSING = Missing()


def attribute(row: Native, path: str) -> Any:
    """The native value at a dotted path, or MISSING."""
    value: Any = row
    if path in row:
        return row[path]
    for part in path.split("."):
        if not isinstance(value, dict) or part not in value:
            return MISSING
        value = value[part]
    return value


def with_attributes(row: Native, values: Mapping[str, object]) -> Native:
    """The record with other native values at dotted paths, each where `attribute` finds it."""
    changed = dict(row)
    for path, value in values.items():
        *parents, name = [path] if path in row else path.split(".")
        inner: Native = changed
        for part in parents:
            before = inner.get(part)
            inner[part] = inner = dict(before) if isinstance(before, dict) else {}
        inner[name] = value
    return changed


class Record(msgspec.Struct, frozen=True, gc=False):
    """One system's copy of a record, mapped to canonical fields.

    Attributes:
        key: the native id in that system, as text.
        values: canonical field → value; only the fields that this system maps. A reference to a record that is not
            known yet is left out: nothing can be said of it (`worker.references`).
        version: what a conditional write sends back (ETag, row version); None where the system has none.
        modified: the system's own modification time (aware, UTC); None where it has none.
        times: the same of single fields, for those that have one; it counts instead, also where it is None.
    """

    key: str
    values: dict[str, Value]
    version: str | None = None
    modified: datetime | None = None
    times: dict[str, datetime | None] = {}

    def time_of(self, field: str) -> datetime | None:
        """When a field was last changed, as far as the system tells; the record's own time bounds it."""
        return self.times.get(field, self.modified)

    def times_of(self, fields: Iterable[str]) -> dict[str, datetime]:
        """`time_of` each of these fields; those of which the system tells no time are left out."""
        if self.times:
            return {field: at for field in fields if (at := self.time_of(field)) is not None}
        return {} if self.modified is None else dict.fromkeys(fields, self.modified)
