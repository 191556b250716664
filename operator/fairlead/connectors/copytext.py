r"""PostgreSQL's COPY text format: rows as lines, tab-separated, `\N` for NULL, backslash escapes.

Source: the PostgreSQL manual, "COPY", section "Text Format". A line of a row is also its fingerprint's input: it is
never split for a row that has not changed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import orjson

Decode = Callable[[str], Any]

_ESCAPE = re.compile(r"\\(.)")
_UNESCAPED = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_ESCAPED = str.maketrans({"\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"})
_NEEDS_ESCAPE = re.compile(r"[\\\b\f\n\r\t\v]")


def unescaped(text: str) -> str:
    """A field's text, without escapes."""
    return _ESCAPE.sub(lambda match: _UNESCAPED.get(match[1], match[1]), text) if "\\" in text else text


def escaped(text: str) -> str:
    """Text as a field of a COPY line."""
    return text.translate(_ESCAPED) if _NEEDS_ESCAPE.search(text) else text


def split(lines: Sequence[bytes], width: int) -> list[tuple[str, ...]]:
    """Columns of lines, still escaped; `width` columns in every line."""
    if not lines:
        return [()] * width
    return list(zip(*[line.decode().split("\t") for line in lines], strict=True))


def column(texts: Sequence[str], decode: Decode | None) -> list[Any]:
    """Values of one column; `decode` None leaves text as it is."""
    if decode is None:
        plain = [None if text == "\\N" else text for text in texts]
        return [unescaped(t) if t is not None and "\\" in t else t for t in plain] if _any_escape(plain) else plain
    return [None if text == "\\N" else decode(unescaped(text)) for text in texts]


def _any_escape(texts: Sequence[str | None]) -> bool:
    return any(text is not None and "\\" in text for text in texts)


def decoder(type_name: str) -> Decode | None:
    """How a PostgreSQL type's text becomes a Python value; None for text. Unknown types are text."""
    if type_name.endswith("[]") or type_name.startswith("_"):
        return None
    return _DECODERS.get(type_name)


_DECODERS: dict[str, Decode] = {
    "int2": int,
    "int4": int,
    "int8": int,
    "oid": int,
    "numeric": Decimal,
    "float4": float,
    "float8": float,
    "bool": lambda text: text == "t",
    "timestamptz": datetime.fromisoformat,
    "timestamp": datetime.fromisoformat,
    "date": date.fromisoformat,
    "json": orjson.loads,
    "jsonb": orjson.loads,
    "bytea": lambda text: bytes.fromhex(text.removeprefix("\\x")),
}


def encoded(value: Any) -> str:
    """A canonical value as a field of a COPY line (times and dates are ISO 8601 text, which PostgreSQL reads)."""
    if value is None:
        return "\\N"
    if isinstance(value, str):
        return escaped(value)
    if isinstance(value, bool):
        return "t" if value else "f"
    if isinstance(value, list | dict):
        return escaped(orjson.dumps(value, default=str).decode())
    return format(value, "f") if isinstance(value, Decimal) else str(value)


def encoded_column(values: Sequence[Any]) -> list[str]:
    """`encoded` of every value; a column of plain text is not touched."""
    kinds = set(map(type, values))
    if kinds == {str} and not _NEEDS_ESCAPE.search("\x00".join(values)):
        return list(values)
    return list(map(str, values)) if kinds == {int} else list(map(encoded, values))


_AS_WRITTEN = frozenset({"text", "varchar", "bool", "int2", "int4", "int8", "date"})


def predicted_column(
    values: Sequence[Any], texts: Sequence[str], type_name: str, scale: int | None
) -> list[str] | None:
    """A column as PostgreSQL will print it once it is stored; None where that cannot be known.

    Args:
        values: canonical values.
        texts: the same, as they are written.
        type_name: the column's type.
        scale: digits after the point, where the type fixes them.
    """
    if type_name in _AS_WRITTEN:
        return list(texts)
    if type_name == "numeric" and all(isinstance(v, int | Decimal | None) for v in values):
        if scale is None:
            return list(texts)
        return ["\\N" if v is None else f"{v:.{scale}f}" for v in map(_decimal, values)]
    if type_name == "timestamptz" and all(text == "\\N" or text.endswith("Z") for text in texts):
        return [text if text == "\\N" else _timestamptz(text) for text in texts]
    return None


def _decimal(value: int | Decimal | None) -> Decimal | None:
    return None if value is None else Decimal(value)


def _timestamptz(text: str) -> str:
    """`2026-01-31T12:00:00.5Z` as PostgreSQL prints it in UTC: `2026-01-31 12:00:00.5+00`."""
    day, _, clock = text[:-1].partition("T")
    return f"{day} {clock.rstrip('0').rstrip('.') if '.' in clock else clock}+00"
