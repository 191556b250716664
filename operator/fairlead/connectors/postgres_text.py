r"""Rows of PostgreSQL as text: how they are asked for, split, decoded, written, and predicted.

A page is asked for as one text, rows joined by `ROW`, fields by `FIELD`, with `NULL` for null (characters that text
hardly ever holds; a page that does hold one is noticed by counting, and read in another way). One large value costs
the client a fifth of what COPY does, which sends every row in a message of its own.

Values are printed by PostgreSQL under fixed settings (`SETTINGS`), so that the same value is always the same text.
Sources: the PostgreSQL manual, "Data Types", "Array Input and Output Syntax", and "COPY", section "Text Format".
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import msgspec

ROW, FIELD, NULL = "\x1e", "\x1f", "\x02"

SETTINGS = {
    "TimeZone": "UTC",
    "DateStyle": "ISO",
    "IntervalStyle": "iso_8601",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "xmloption": "content",
}
"""Session settings that decide how values are printed."""

INTEGERS = frozenset({"int2", "int4", "int8", "oid"})
TEXTS = frozenset({"text", "varchar", "citext", "name", "enum"})
FLOATS = frozenset({"float4", "float8"})
_NUMBERS = INTEGERS | FLOATS | {"numeric"}
_SEPARATORS = "\x00\x02\x1e\x1f"
_SPECIAL = "\\\n\r\x02\x1f"
_ESCAPED = str.maketrans({"\\": "\\\\", "\n": "\\n", "\r": "\\r", NULL: "\\" + NULL, FIELD: "\\" + FIELD})
_INSTANTS = re.compile(r"(?:[1-9]\d{3}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?Z(?:\n|$))*").fullmatch
_ZEROS = re.compile(r"(\.\d*?)0+(?=Z)")
_DAY = re.compile(r"[1-9]\d{3}-\d\d-\d\d").fullmatch
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").fullmatch
_ARRAY = re.compile(r'([{}])|"((?:[^"\\]|\\.)*)"|([^,{}"]+)', re.DOTALL)
_JSON = msgspec.json.Encoder(decimal_format="number")


class Unfit(ValueError):
    """A value that a column of this type cannot hold; the message never repeats it."""


class Column(msgspec.Struct, frozen=True):
    """A column, as the catalogue tells.

    Attributes:
        name: its name.
        type: the type's name, `enum` for every enumeration; for a domain its base type, for an array its elements'.
        sql_type: the type as SQL casts to it, without length or precision (a cast to those would cut silently).
        array: whether it holds lists.
        limit: its type modifier: length, precision and scale; None when there is none.
        nullable: whether it may be null.
        default: the expression of its default; None when that is null.
        generated: whether the database alone computes it.
    """

    name: str
    type: str
    sql_type: str
    array: bool = False
    limit: int | None = None
    nullable: bool = True
    default: str | None = None
    generated: bool = False

    @property
    def scale(self) -> int | None:
        """Digits after the point of a `numeric` that fixes them; negative where tens are rounded."""
        if self.limit is None:
            return None
        scale = (self.limit - 4) & 0x7FF
        return scale - 0x800 if scale & 0x400 else scale


# --- from PostgreSQL ---


def decoded(column: Column, texts: Sequence[str]) -> list[Any]:
    """Values of one column, of which `NULL` is None. What Python cannot express (infinity, BC) stays text."""
    decode = _decoder(column)
    holes = NULL in texts
    if decode is None:
        return [None if text == NULL else text for text in texts] if holes else list(texts)
    try:
        if holes:
            return [None if text == NULL else decode(text) for text in texts]
        return list(map(decode, texts))
    except ValueError:
        return [None if text == NULL else _tolerant(decode, text) for text in texts]


def value(column: Column, text: str | None) -> Any:
    """One value."""
    decode = _decoder(column)
    return text if text is None or decode is None else _tolerant(decode, text)


def _tolerant(decode: Callable[[str], Any], text: str) -> Any:
    try:
        return decode(text)
    except ValueError:
        return text


def _decoder(column: Column) -> Callable[[str], Any] | None:
    decode = _DECODERS.get(column.type)
    return (lambda text: _array(text, decode)) if column.array else decode


_DECODERS: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys(INTEGERS, int),
    **dict.fromkeys(FLOATS, float),
    "numeric": Decimal,
    "bool": lambda text: text[0] == "t",
    "timestamptz": datetime.fromisoformat,
    "timestamp": datetime.fromisoformat,
    "date": date.fromisoformat,
    "json": lambda text: json.loads(text, parse_float=Decimal),
    "jsonb": lambda text: json.loads(text, parse_float=Decimal),
    "bytea": lambda text: bytes.fromhex(text[2:]),
}


def _array(text: str, decode: Callable[[str], Any] | None) -> Any:
    r"""A list of an array literal such as `{1,NULL,"a \"b\""}`; lists of lists for more dimensions."""
    stack: list[list[Any]] = [[]]
    for brace, quoted, bare in _ARRAY.findall(text[text.index("{") :]):
        if brace == "{":
            stack.append([])
        elif brace == "}":
            stack[-2].append(stack.pop())
        elif bare == "NULL":
            stack[-1].append(None)
        else:
            item = bare or re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL)
            stack[-1].append(item if decode is None else decode(item))
    return stack[0][0]


# --- to PostgreSQL ---


class Written(msgspec.Struct):
    """A column of values to be written.

    Attributes:
        texts: as PostgreSQL takes them; None for null.
        prints: as it will print them when they are read, `NULL` for null; None where that is not known.
        exact: whether what is read will surely mean the same.
    """

    texts: list[str | None]
    prints: list[str] | None = None
    exact: bool = False


def written(column: Column, values: Sequence[Any]) -> Written:
    """A column of canonical values for PostgreSQL.

    Raises:
        Unfit: the column cannot hold one of them; write them one by one to find it.
    """
    kinds = set(map(type, values))
    kinds.discard(type(None))
    quick = _WRITERS.get(column.type)
    if not column.array and quick is not None and kinds <= quick[0]:
        return quick[1](column, values)
    texts = [text(column, item) for item in values]
    exact = column.type in (TEXTS | INTEGERS | {"bool", "jsonb"}) and kinds <= {list, dict}
    return Written(texts, None, exact)


def text(column: Column, item: Any) -> str | None:
    """One canonical value as PostgreSQL takes it.

    Raises:
        Unfit: the column cannot hold it.
    """
    if item is None:
        return None
    if column.array:
        if not isinstance(item, list | tuple):
            raise Unfit(f"column {column.name!r} takes a list")
        return "{" + ",".join(_element(column, part) for part in item) + "}"
    return _scalar(column, item)


def _element(column: Column, item: Any) -> str:
    if item is None:
        return "NULL"
    if isinstance(item, list | tuple):
        return "{" + ",".join(_element(column, part) for part in item) + "}"
    return '"' + _scalar(column, item).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _scalar(column: Column, item: Any) -> str:
    if column.type in ("json", "jsonb"):
        found = _JSON.encode(item).decode()
    elif isinstance(item, list | tuple | dict):
        raise Unfit(
            f"column {column.name!r} takes one value, not a list or an object: map with split, or make it jsonb"
        )
    elif isinstance(item, bool):
        found = str(int(item)) if column.type in _NUMBERS else str(item).lower()
    elif isinstance(item, Decimal):
        found = format(item, "f")
    elif isinstance(item, bytes):
        found = "\\x" + item.hex() if column.type == "bytea" else base64.b64encode(item).decode()
    elif column.type == "bytea":
        found = _hex(column, str(item))
    else:
        found = item.isoformat() if isinstance(item, date) else str(item)
    if "\x00" in found or ("\\u0000" in found and column.type == "jsonb"):
        raise Unfit(f"column {column.name!r} cannot hold the NUL character: remove it where the value comes from")
    return found


def _hex(column: Column, item: str) -> str:
    try:
        return "\\x" + base64.b64decode(item, validate=True).hex()
    except binascii.Error:
        raise Unfit(f"column {column.name!r} takes binary data as base64") from None


def copy_fields(item: Written) -> list[str]:
    """A column as fields of COPY's text format, with `FIELD` between them and `NULL` for null.

    Where nothing must be escaped these are `item.prints` themselves, if they are known: PostgreSQL reads its prints.
    """
    fields = item.texts if item.prints is None else item.prints
    if not _holds("".join(filter(None, item.texts)), _SPECIAL):
        return _as_is(fields)
    return [NULL if text is None else text.translate(_ESCAPED) for text in item.texts]


def _as_is(values: list[Any]) -> list[str]:
    return [NULL if item is None else item for item in values] if None in values else values


def _written_text(column: Column, values: Sequence[Any]) -> Written:
    joined = "".join(filter(None, values))
    if "\x00" in joined:
        raise Unfit(f"column {column.name!r} cannot hold the NUL character: remove it where the value comes from")
    if column.type == "name":
        return Written(list(values))  # it is cut to 63 bytes
    longest = None if column.limit is None or column.type != "varchar" else column.limit - 4
    if longest is not None and any(item is not None and len(item) > longest for item in values):
        return Written(list(values))  # blanks beyond the length are cut, anything else is refused
    if _holds(joined, _SEPARATORS):
        return Written(list(values), None, exact=True)
    return Written(list(values), _as_is(list(values)), exact=True)


def _holds(text: str, characters: str) -> bool:
    """Whether a text, which may be a long one, holds any of a few characters; much quicker than a pattern."""
    return any(character in text for character in characters)


def _written_int(_: Column, values: Sequence[Any]) -> Written:
    if None in values:
        texts = [None if item is None else str(item) for item in values]
        return Written(texts, _as_is(texts), exact=True)
    plain: list[Any] = list(map(str, values))
    return Written(plain, plain, exact=True)


def _written_numeric(column: Column, values: Sequence[Any]) -> Written:
    texts = [item if item is None else format(item, "f") if type(item) is Decimal else str(item) for item in values]
    scale = column.scale
    if scale is None:
        return Written(texts, _as_is(texts), exact=True)
    if scale < 0:
        return Written(texts)
    padding = "0" * scale
    prints = [NULL if item is None else _padded(item, scale, padding) for item in texts]
    if "" in prints:
        return Written(texts)  # PostgreSQL rounds it
    return Written(texts, prints, exact=True)


def _padded(number: str, scale: int, zeros: str) -> str:
    """Digits with as many places as the column prints; empty when there are too many."""
    point = number.find(".")
    if point < 0:
        return f"{number}.{zeros}" if scale else number
    missing = scale - (len(number) - point - 1)
    return "" if missing < 0 else number + zeros[:missing]


def _written_bool(_: Column, values: Sequence[Any]) -> Written:
    texts = ["true" if item else None if item is None else "false" for item in values]
    return Written(texts, _as_is(texts), exact=True)


def _written_time(column: Column, values: Sequence[Any]) -> Written:
    texts = list(values)
    known = [item for item in texts if item is not None] if None in texts else texts
    whole = "\n".join(known)
    if column.limit is not None or not _INSTANTS(whole):
        return Written(texts)
    if "." in whole:
        whole = _ZEROS.sub(lambda match: match[1] if len(match[1]) > 1 else "", whole)
    printed = whole.replace("T", " ").replace("Z", "+00" if column.type == "timestamptz" else "").split("\n")
    if len(known) == len(texts):
        return Written(texts, printed, exact=True)
    prints = iter(printed)
    return Written(texts, [NULL if item is None else next(prints) for item in texts], exact=True)


def _written_like(pattern: Callable[[str], Any]) -> Callable[[Column, Sequence[Any]], Written]:
    def write(_: Column, values: Sequence[Any]) -> Written:
        same = all(item is None or pattern(item) for item in values)
        return Written(list(values), _as_is(list(values)) if same else None, exact=same)

    return write


def _written_float(column: Column, values: Sequence[Any]) -> Written:
    texts = [None if item is None else _scalar(column, item) for item in values]
    digits = 15 if column.type == "float8" else 6
    return Written(texts, None, exact=all(item is None or len(item) <= digits for item in texts))


def _written_json(column: Column, values: Sequence[Any]) -> Written:
    texts = [None if item is None else _scalar(column, item) for item in values]
    prints = _as_is(texts) if column.type == "json" and not _holds("".join(filter(None, texts)), _SEPARATORS) else None
    return Written(texts, prints, exact=True)


_Writer = Callable[[Column, Sequence[Any]], Written]
_WRITERS: dict[str, tuple[frozenset[type], _Writer]] = {
    **dict.fromkeys(TEXTS, (frozenset({str}), _written_text)),
    **dict.fromkeys(INTEGERS, (frozenset({int}), _written_int)),
    **dict.fromkeys(FLOATS, (frozenset({int, Decimal, float}), _written_float)),
    **dict.fromkeys(("json", "jsonb"), (frozenset({bool, int, Decimal, str, list, dict}), _written_json)),
    **dict.fromkeys(("timestamptz", "timestamp"), (frozenset({str}), _written_time)),
    "numeric": (frozenset({int, Decimal}), _written_numeric),
    "bool": (frozenset({bool}), _written_bool),
    "date": (frozenset({str}), _written_like(_DAY)),
    "uuid": (frozenset({str}), _written_like(_UUID)),
}
