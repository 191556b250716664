"""Rows of SQLite: what they are as a page, and what values they take."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec
import orjson

from fairlead.model.record import MISSING, Native

SQLRow = tuple[Any, ...]

_JSON = msgspec.json.Encoder(decimal_format="number")


class Column(msgspec.Struct, frozen=True):
    """A column, as its table declares it.

    Attributes:
        name: its name.
        type: its declared type, in upper case; SQLite holds values of any type in it nevertheless.
        writable: whether it is not computed.
        nullable: whether it may be null.
    """

    name: str
    type: str
    writable: bool = True
    nullable: bool = True

    @property
    def has_affinity(self) -> bool:
        """Whether SQLite makes values alike before it compares them (its manual, "Datatypes", section 3)."""
        return bool(self.type) and ("BLOB" not in self.type or "INT" in self.type)

    @property
    def is_json(self) -> bool:
        """Whether its text is JSON."""
        return "JSON" in self.type

    @property
    def is_binary(self) -> bool:
        """Whether it is declared to hold bytes."""
        return "BLOB" in self.type or "BINARY" in self.type


class Unfit(ValueError):
    """A value that a column cannot hold; the message never repeats it."""


class RowPage:
    """Rows; see `connectors.base.Page`. In each: the mapped columns, the modification time, the key."""

    def __init__(self, columns: Sequence[Column], rows: Sequence[SQLRow], deleted: Sequence[str] = ()) -> None:
        self._columns = {column.name: (n, column) for n, column in enumerate(columns)}
        self._rows = rows
        self.keys = [str(row[-1]) for row in rows]
        self.raws = [raw_of(row[:-2]) for row in rows]
        self.deleted = deleted
        self.cursor: str | None = None

    def columns(self, indices: Sequence[int], paths: Sequence[str]) -> list[list[object]]:
        """See `Page.columns`."""
        return [self._column(indices, path) for path in paths]

    def _column(self, indices: Sequence[int], path: str) -> list[object]:
        if path not in self._columns:
            return [MISSING] * len(indices)
        n, column = self._columns[path]
        values = [self._rows[i][n] for i in indices]
        return [_parsed(value) for value in values] if column.is_json else values

    def rows(self, indices: Sequence[int]) -> list[Native]:
        """See `Page.rows`."""
        columns = self.columns(indices, list(self._columns))
        if not columns:
            return [{} for _ in indices]
        return [dict(zip(self._columns, row, strict=True)) for row in zip(*columns, strict=True)]

    def versions(self, indices: Sequence[int]) -> list[str | None]:
        """A table has no versions: writes compare the row itself, in their transaction."""
        return [None] * len(indices)

    def modified(self, indices: Sequence[int]) -> list[object]:
        """See `Page.modified`."""
        return [self._rows[i][-2] for i in indices]


def raw_of(values: Sequence[Any]) -> bytes:
    """What `raws` holds for a row."""
    return orjson.dumps(values, default=_tagged)


def _tagged(value: Any) -> Any:
    """Bytes, which JSON does not have, in a form that no text has."""
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    raise TypeError


def tolerant(data: bytes) -> Any:
    """Text; where it is no UTF-8, something that no contract takes for text, so that only its record is refused."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"not UTF-8": data.hex()}


def _parsed(value: Any) -> Any:
    """JSON text as what it says; anything else as it is."""
    if not isinstance(value, str | bytes):
        return value
    try:
        return json.loads(value, parse_float=Decimal)
    except ValueError:
        return value


def adapted(column: Column, value: Any) -> Any:
    """A canonical value as SQLite takes it: it has neither decimals nor lists.

    An amount is handed over as its digits; the column's affinity makes a number of them.

    Raises:
        Unfit: the column cannot hold it.
    """
    if value is None:
        return None
    if column.is_json or isinstance(value, list | tuple | dict):
        return _JSON.encode(value).decode()
    if isinstance(value, Decimal):
        return format(value, "f")
    if column.is_binary and isinstance(value, str):
        try:
            return base64.b64decode(value, validate=True)
        except binascii.Error:
            raise Unfit(f"column {column.name!r} takes binary data as base64") from None
    return value
