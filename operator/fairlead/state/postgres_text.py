r"""Values on their way to PostgreSQL and back, where its own adaptation is not enough.

PostgreSQL's text has no NUL, which a key of some system may hold: it is written as `\0`, and a backslash as two.
A page of rows travels as one array per column, written here: psycopg's general way costs ten times as much.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from psycopg.adapt import AdaptersMap, Buffer, Dumper, Loader
from psycopg.types.string import StrDumper

from fairlead.state.tables import Type

ELEMENTS = {
    Type.INTEGER: "bigint",
    Type.SERIAL: "bigint",
    Type.REAL: "double precision",
    Type.TEXT: "text",
    Type.BYTES: "bytea",
}
"""What an array of a column is an array of."""


def register(adapters: AdaptersMap) -> None:
    """Makes a connection write and read as said above."""
    adapters.register_dumper(str, _Escaping)
    adapters.register_dumper(Array, _Verbatim)
    adapters.register_loader("text", _Unescaping)


class Array:
    """A parameter that is an array (manual, "Array Input and Output Syntax"). SQL must cast it: it has no type."""

    def __init__(self, kind: Type, values: Sequence[Any]) -> None:
        write = _WRITERS[kind]
        self.text = f"{{{','.join(['NULL' if value is None else write(value) for value in values])}}}".encode()


def _text(value: str) -> str:
    if "\\" in value or "\x00" in value:
        value = _escaped(value).replace("\\", "\\\\")
    return '"' + (value.replace('"', '\\"') if '"' in value else value) + '"'


_WRITERS: dict[Type, Callable[[Any], str]] = {
    Type.INTEGER: str,
    Type.SERIAL: str,
    Type.REAL: repr,
    Type.TEXT: _text,
    Type.BYTES: lambda value: f'"\\\\x{value.hex()}"',
}


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\x00", "\\0")


class _Escaping(StrDumper):
    def dump(self, obj: str) -> Buffer | None:
        return super().dump(_escaped(obj) if "\\" in obj or "\x00" in obj else obj)


class _Verbatim(Dumper):
    def dump(self, obj: Array) -> Buffer | None:
        return obj.text


class _Unescaping(Loader):
    def load(self, data: Buffer) -> str:
        text = bytes(data).decode()
        if "\\" not in text:
            return text
        return "\\".join(part.replace("\\0", "\x00") for part in text.split("\\\\"))
