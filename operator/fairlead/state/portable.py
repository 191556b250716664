"""The portable form of a state: JSON Lines, one row a line, the same whatever store it comes from or goes to.

Described in docs/state-format.md. The first line tells version, layout and fingerprint key; the last one counts, so
that a file that was cut off is noticed. A sealed body stays sealed: who moves a state needs no key, and who finds the
file learns no value.
"""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import orjson

from fairlead.engine.case import Side
from fairlead.engine.fingerprint import WIDTH
from fairlead.state.base import Recollection, StateError, StateNewer
from fairlead.state.layout import Layout
from fairlead.state.rows import Rows
from fairlead.state.seal import MARK
from fairlead.state.tables import (
    META,
    PORTABLE,
    VERSION,
    Put,
    Row,
    Step,
    Table,
    Type,
    whole,
)

OWN_FACTS = ("version", "epoch", "holder", "key", "slots", "layout")
"""Facts of one store, which are not carried to another or stand in the first line."""

_BY_NAME = {table.name: table for table in PORTABLE}
_SEALED = "sealed"


class Header(msgspec.Struct, tag_field="type", tag="state"):
    """The first line."""

    version: int
    key: str
    layout: Layout


class End(msgspec.Struct, tag_field="type", tag="end"):
    """The last line: how many lines stand between it and the first."""

    lines: int


class PortableSide(msgspec.Struct):
    """One system's side of a record; `prints` is hexadecimal."""

    key: str
    row: int | None
    version: str | None
    prints: str


class PortableRecord(msgspec.Struct, tag_field="type", tag="record"):
    """A record with all its sides."""

    id: int
    away: list[str]
    sides: dict[str, PortableSide]
    found_by: int | None = None


class Stored(msgspec.Struct):
    """A record, and the match key that stands in its row."""

    record: Recollection
    found_by: int | None


def columns_of(table: Table) -> tuple[str, ...]:
    """The columns that a line holds: all but a number that the store gives itself."""
    return tuple(name for name, kind in table.columns.items() if kind is not Type.SERIAL)


# --- to lines ---


def header(layout: Layout, key: bytes) -> bytes:
    """The first line."""
    return msgspec.json.encode(Header(VERSION, key.hex(), layout)) + b"\n"


def end(lines: int) -> bytes:
    """The last line."""
    return msgspec.json.encode(End(lines)) + b"\n"


def record_line(item: Recollection, found_by: int | None) -> bytes:
    """A record; what is pending or frozen, and further match keys, have lines of their own."""
    sides = {name: PortableSide(s.key, s.row, s.version, s.prints.hex()) for name, s in sorted(item.sides.items())}
    return msgspec.json.encode(PortableRecord(item.record, sorted(item.away), sides, found_by)) + b"\n"


def line(table: Table, row: Row) -> bytes:
    """A row of the columns `columns_of(table)`."""
    values = dict(zip(columns_of(table), row, strict=True))
    if "body" in values:
        values |= _portable_body(values.pop("body"))
    return orjson.dumps({"type": table.name, **values}, option=orjson.OPT_APPEND_NEWLINE)


def _portable_body(body: bytes) -> dict[str, Any]:
    if body.startswith(MARK):
        return {_SEALED: base64.b64encode(body).decode()}
    return {"body": orjson.Fragment(body)}


# --- from lines ---


def read_header(data: bytes) -> Header:
    """What the first line says.

    Raises:
        StateError: it is not the first line of an exported state.
        StateNewer: it was exported by a newer version.
    """
    try:
        found = msgspec.json.decode(data, type=Header)
        bytes.fromhex(found.key)
    except (msgspec.DecodeError, ValueError):
        raise StateError("line 1 does not begin an exported state: give what `fairlead state export` wrote") from None
    if found.version > VERSION:
        raise StateNewer("the file was exported by a newer version of Fairlead: import it with that version, or newer")
    return found


def read_line(data: bytes, number: int) -> End | Stored | tuple[Table, Row]:
    """What a further line holds.

    Raises:
        StateError: it is not a line of an exported state; the message gives its number and no value.
    """
    try:
        kind = msgspec.json.decode(data, type=_Typed).type
        if kind == "end":
            return msgspec.json.decode(data, type=End)
        if kind == "record":
            return _record(msgspec.json.decode(data, type=PortableRecord))
        return _BY_NAME[kind], _row(_BY_NAME[kind], msgspec.json.decode(data, type=dict[str, msgspec.Raw]))
    except (msgspec.DecodeError, ValueError, KeyError):
        raise StateError(f"line {number} is not a line of an exported state: nothing was imported") from None


def fits(item: Recollection, layout: Layout) -> bool:
    """Whether a record can be one of this layout."""
    width = WIDTH * len(layout.fields)
    sides = all(name in layout.systems and len(side.prints) == width for name, side in item.sides.items())
    return sides and item.away <= layout.systems.keys()


class _Typed(msgspec.Struct):
    type: str


def _record(found: PortableRecord) -> Stored:
    sides = {n: Side(s.key, s.row, bytes.fromhex(s.prints), s.version) for n, s in found.sides.items()}
    return Stored(Recollection(found.id, sides, frozenset(found.away)), found.found_by)


def _row(table: Table, values: dict[str, msgspec.Raw]) -> Row:
    if table is META and msgspec.json.decode(values["name"]) in OWN_FACTS:
        raise ValueError("a fact of another store")
    return tuple(_value(table, name, values) for name in columns_of(table))


def _value(table: Table, name: str, values: dict[str, msgspec.Raw]) -> Any:
    kind = table.columns[name]
    if kind is not Type.BYTES:
        empty = name in table.optional and bytes(values[name]) == b"null"
        return None if empty else msgspec.json.decode(values[name], type=_TYPES[kind])
    if _SEALED not in values:
        return bytes(values[name])
    body = base64.b64decode(msgspec.json.decode(values[_SEALED], type=str), validate=True)
    if not body.startswith(MARK):
        raise ValueError("not sealed")
    return body


_TYPES = {Type.INTEGER: int, Type.REAL: float, Type.TEXT: str}


class Batch:
    """Lines that are stored in one step."""

    def __init__(self) -> None:
        self._records: list[Stored] = []
        self._rows: dict[str, list[Row]] = {}
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, found: Stored | tuple[Table, Row]) -> int:
        """Takes what a line holds; returns how many records that is."""
        self._size += 1
        if isinstance(found, Stored):
            self._records.append(found)
            return 1
        table, row = found
        self._rows.setdefault(table.name, []).append(row)
        return 0

    def steps(self, rows: Rows) -> list[Step]:
        """What stores them."""
        puts = [Put(_BY_NAME[name], columns_of(_BY_NAME[name]), its) for name, its in self._rows.items()]
        first = {each.record.record: each.found_by for each in self._records if each.found_by is not None}
        records = [rows.records([each.record for each in self._records], first=first)] if self._records else []
        return [*records, *(_over_facts(put) for put in puts)]


def _over_facts(put: Put) -> Put:
    """An opened store has facts already, which give way."""
    return whole(META, put.rows) if put.table is META else put
