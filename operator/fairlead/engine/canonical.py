"""Canonical values: what two systems mean when they say the same thing differently.

A field's JSON Schema decides how native values are compared: `"12.50"`, `12.5` and `Decimal("12.5")` are one number,
`2026-01-01T01:00:00+01:00` and `2026-01-01T00:00:00Z` one time. A value that cannot be what the schema says is a
`ContractError`; its message names the expectation, never the value.
"""

from __future__ import annotations

import base64
import unicodedata
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Context, Decimal, InvalidOperation
from typing import Any

import msgspec
import orjson

from fairlead.model.common import PRECISION, PRECISIONS
from fairlead.model.record import MISSING, Value

Convert = Callable[[Any], Value]
Encode = Callable[[Any], bytes]

NULL = b"\xff"
"""Encoding of "no value": no UTF-8 text begins like this."""

_FOREIGN = b"\xfe"
"""Begins the encoding of a value of another type; no UTF-8 text begins like this either."""

_UNLIKE = (TypeError, ValueError, LookupError, AttributeError)
"""What encoding such a value raises."""

_TRUE = frozenset({"true", "t", "yes", "y", "1", "on"})
_FALSE = frozenset({"false", "f", "no", "n", "0", "off"})
_PRECISIONS = dict(
    zip(PRECISIONS, (timedelta(minutes=1), timedelta(seconds=1), timedelta(milliseconds=1)), strict=True)
)

_LEAST, _GREATEST = -(2**63), 2**63 - 1
_LONGEST_INSTANT = len("2026-01-31T12:00:00.000000Z")
_NOISE = Decimal("1e-9")
_EXACT = Context(prec=4000)
_LONGEST = 1000
"""Digits before or after the point beyond which a number is refused; more would only fill memory."""


class ContractError(ValueError):
    """A value or record breaks the policy's schema."""


class Kind(msgspec.Struct, frozen=True):
    """How values of one field are converted and encoded.

    Attributes:
        name: the JSON Schema type, for messages.
        convert: native → canonical; raises ContractError. Never sees None or MISSING.
        encode: canonical → bytes, equal exactly when the values are; never sees None. Fails on values of another type.
        plain: a type whose instances convert to themselves: texts in ASCII, and integers of 64 bits.
        column: converts a whole column much quicker, where it can; else it gives None.
        item: of a list, the kind of its items.
        unique: a list is a set: its order says nothing, and no item is in it twice.
    """

    name: str
    convert: Convert
    encode: Encode
    plain: type | None = None
    column: Callable[[Sequence[Any]], list[Value] | None] | None = None
    item: Kind | None = None
    unique: bool = False

    def canonical(self, native: Any) -> Value:
        """The canonical form of one native value; missing and null are both "no value"."""
        return None if native is None or native is MISSING else self.convert(native)

    def made(self, value: Any) -> Value:
        """The canonical form of what an expression or a person made: of the type itself, no other spelling of it."""
        if value is not None and self.name in _TYPES:
            types, what = _TYPES[self.name]
            if type(value) not in types:
                raise ContractError(f"must be {what}, not {_name(value)}")
        if self.item is not None and isinstance(value, list):
            for item in value:
                self.item.made(item)
        return self.canonical(value)

    def canonical_column(self, column: Sequence[Any]) -> list[Value]:
        """`canonical` of every value; quick when the column is already canonical."""
        if self.column is not None and (whole := self.column(column)) is not None:
            return whole
        kinds = set(map(type, column))
        kinds.discard(type(None))
        if self.plain is not None and kinds <= {self.plain} and _is_plain(self.plain, column):
            return list(column)
        convert = self.convert
        return [None if v is None or v is MISSING else convert(v) for v in column]

    def encoded_column(self, column: Sequence[Value]) -> list[bytes]:
        """`print_bytes` of every value."""
        try:
            if None not in column:
                return list(map(self.encode, column))
            encode = self.encode
            return [NULL if value is None else encode(value) for value in column]
        except _UNLIKE:
            return [self.print_bytes(value) for value in column]

    def print_bytes(self, value: Value) -> bytes:
        """The bytes that a fingerprint is taken of.

        What waits since before the field was declared with another type is unlike every value that it has now.
        """
        try:
            return NULL if value is None else self.encode(value)
        except _UNLIKE:
            return _FOREIGN + _json(value)


def _is_plain(kind: type, column: Sequence[Any]) -> bool:
    """Whether values of a plain type, or none, convert to themselves."""
    if kind is str:
        return "".join(filter(None, column)).isascii()
    known = [value for value in column if value is not None] if None in column else column
    return kind is not int or not known or (min(known) >= _LEAST and max(known) <= _GREATEST)


def is_empty(value: Value) -> bool:
    """Whether a value says nothing: no value, an empty text, list or object."""
    return value is None or value in ("", [], {})


def kind_of(schema: dict[str, Any]) -> Kind:
    """The kind that a property's JSON Schema declares."""
    types = schema.get("type", ())
    names = [t for t in ([types] if isinstance(types, str) else types) if t != "null"]
    name = names[0] if len(names) == 1 else "any"
    if name == "string":
        return _text_kind(schema)
    if name == "number":
        return _number(schema.get("multipleOf"))
    if name == "array":
        return _array(kind_of(schema.get("items", {})), unique=bool(schema.get("uniqueItems")))
    if name == "object":
        return _object_kind(schema.get("properties", {}))
    return {"integer": _INTEGER, "boolean": _BOOLEAN}.get(name, _ANY)


_FORM = ("type", "contentEncoding", PRECISION, "multipleOf", "uniqueItems")


def form_of(schema: Any) -> str:
    """Text that changes when a property's values may get another canonical form, not when they have other bounds."""
    if not isinstance(schema, dict):
        return ""
    own = {name: schema[name] for name in _FORM if name in schema}
    if schema.get("format") in _STRINGS:
        own["format"] = schema["format"]
    inner = {name: form_of(its) for name, its in schema.get("properties", {}).items()}
    return repr((sorted(own.items()), form_of(schema.get("items")), sorted(inner.items())))


def _text_kind(schema: dict[str, Any]) -> Kind:
    if schema.get("contentEncoding") == "base64":
        return _BINARY
    step = _PRECISIONS.get(schema.get(PRECISION, ""))
    if schema.get("format") == "date-time" and step is not None:
        return Kind("date-time", lambda native: _cut(_instant(native), step), str.encode)
    return _STRINGS.get(schema.get("format", ""), _STRING)


def _cut(text: str, step: timedelta) -> str:
    """A time without what is finer than `step`."""
    moment = datetime.fromisoformat(text)
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    return (moment - (moment - midnight) % step).isoformat().replace("+00:00", "Z")


def _base64(native: Any) -> str:
    """Binary, as base64 of RFC 4648 section 4; blanks, missing padding and the alphabet of section 5 are accepted."""
    if isinstance(native, bytes):
        return base64.b64encode(native).decode()
    if not isinstance(native, str):
        raise ContractError(f"must be base64, not {_name(native)}")
    text = "".join(native.split()).rstrip("=").translate(_URL_SAFE)
    try:
        return base64.b64encode(base64.b64decode(text + "=" * (-len(text) % 4), validate=True)).decode()
    except ValueError:
        raise ContractError("must be base64 (RFC 4648)") from None


def _text(native: Any) -> str:
    if isinstance(native, str):
        return native if native.isascii() else _composed(native)
    if isinstance(native, bool):
        return "true" if native else "false"
    if isinstance(native, float | Decimal):
        return _digits(_decimal(native))
    if isinstance(native, int):
        return str(native)
    if isinstance(native, bytes):
        return base64.b64encode(native).decode()
    if isinstance(native, date):
        return native.isoformat()
    raise ContractError(f"must be text, not {_name(native)}")


def _composed(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ContractError("must be text without half characters (lone surrogates)") from None
    return unicodedata.normalize("NFC", text)


def _integer(native: Any) -> int | Decimal:
    if type(native) is int:
        return _fitting(native)
    number = _decimal(native)
    if number != number.to_integral_value():
        raise ContractError("must be a whole number")
    return _fitting(int(number))


def _fitting(number: int) -> int | Decimal:
    """JSON encoders know 64 bits; what is longer is a Decimal."""
    return number if _LEAST <= number <= _GREATEST else Decimal(number)


def _decimal(native: Any) -> Decimal:
    if isinstance(native, bool) or not isinstance(native, int | float | Decimal | str):
        raise ContractError(f"must be a number, not {_name(native)}")
    if isinstance(native, float):
        native = repr(native)
    try:
        number = Decimal(native.strip() if isinstance(native, str) else native)
    except InvalidOperation:
        raise ContractError("must be a number") from None
    if not number.is_finite():
        raise ContractError("must be a finite number")
    if number and (number.adjusted() >= _LONGEST or -int(number.as_tuple().exponent) > _LONGEST):
        raise ContractError(f"must have at most {_LONGEST} digits before and after the point")
    return number


def _shorten(number: Decimal) -> int | Decimal:
    return _fitting(int(number)) if number == number.to_integral_value() else number.normalize(_EXACT)


def _digits(number: int | Decimal) -> str:
    return str(number) if isinstance(number, int) else format(number, "f")


def _number(multiple_of: float | None) -> Kind:
    step = Decimal(repr(multiple_of)) if multiple_of else None

    def convert(native: Any) -> Value:
        if type(native) is int:
            return _fitting(native)
        if step is None and type(native) is Decimal and native.is_finite() and "E" not in (text := str(native)):
            return _written_out(native, text)
        if step is None and type(native) is float and "." in (text := repr(native)) and "e" not in text:
            return _written_out(Decimal(text), text)
        number = _decimal(native)
        if step is not None:
            beyond = _EXACT.remainder_near(number, step)
            if beyond and abs(beyond) < _NOISE:  # a float's noise, not a finer amount: that breaks the contract
                number = _EXACT.subtract(number, beyond)
        return _shorten(number)

    return Kind("number", convert, lambda v: _digits(v).encode(), int)


def _written_out(number: Decimal, text: str) -> int | Decimal:
    """`_shorten(_decimal(number))`, of a number whose digits are all in its text: a third of the time."""
    if len(text) > _LONGEST:
        return _shorten(_decimal(number))
    if "." not in text:
        return _fitting(int(text))
    digits = text.rstrip("0")
    if digits.endswith("."):
        return _fitting(int(digits[:-1]))
    return number if len(digits) == len(text) else Decimal(digits)


def _boolean(native: Any) -> bool:
    if isinstance(native, bool):
        return native
    if isinstance(native, float | Decimal) and native in (0, 1):
        return native == 1  # a database without booleans keeps them in a numeric column
    word = str(native).strip().lower() if isinstance(native, str | int) else ""
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ContractError("must be true or false")


def _instant(native: Any) -> str:
    """RFC 3339 in UTC; a time without zone is taken as UTC."""
    moment = native
    if isinstance(native, str):
        try:
            moment = datetime.fromisoformat(native.strip().upper())
        except ValueError:
            raise ContractError("must be a date-time such as 2026-01-31T12:00:00Z (RFC 3339)") from None
    elif type(moment) is date:
        moment = datetime(moment.year, moment.month, moment.day, tzinfo=UTC)
    if not isinstance(moment, datetime):
        raise ContractError(f"must be a date-time, not {_name(native)}")
    try:
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError:
        raise ContractError("must be a date-time between the years 1 and 9999 in UTC") from None
    return moment.isoformat().replace("+00:00", "Z")


def _instants(column: Sequence[Any]) -> list[Value] | None:
    """`_instant` of moments, or texts of moments, that are all in UTC: the JSON of a moment is what it makes of it."""
    known = [value for value in column if value is not None] if None in column else column
    kinds = set(map(type, known))
    if kinds == {str} and max(map(len, known)) <= _LONGEST_INSTANT:
        try:
            column = msgspec.convert(column, list[datetime | None])
        except msgspec.ValidationError:
            return None
    elif kinds != {datetime}:
        return None
    if {moment.tzinfo for moment in column if moment is not None} != {UTC}:
        return None
    texts: list[Value] = msgspec.json.decode(msgspec.json.encode(column))
    return texts


def _day(native: Any) -> str:
    if isinstance(native, datetime):
        return native.date().isoformat()
    if isinstance(native, date):
        return native.isoformat()
    try:
        return datetime.fromisoformat(native.strip().upper()).date().isoformat()
    except (ValueError, AttributeError):
        raise ContractError("must be a date such as 2026-01-31") from None


def _array(item: Kind, *, unique: bool) -> Kind:
    def convert(native: Any) -> Value:
        if not isinstance(native, list | tuple):
            raise ContractError(f"must be a list, not {_name(native)}")
        items = [item.canonical(v) for v in native]
        if not unique:
            return items
        return [v for _, v in sorted({item.print_bytes(v): v for v in items}.items())]

    return Kind("array", convert, _json, item=item, unique=unique)


def _object_kind(properties: dict[str, Any]) -> Kind:
    """An object. A null where a declared property must not be null says that it is missing, and is left out."""
    kinds = {_text(name): kind_of(sub) for name, sub in properties.items() if isinstance(sub, dict)}
    never_null = frozenset(_text(name) for name, sub in properties.items() if not _may_be_null(sub))

    def convert(native: Any) -> Value:
        if not isinstance(native, dict):
            raise ContractError(f"must be an object, not {_name(native)}")
        named = {_text(k): v for k, v in native.items()}
        values = {name: kinds.get(name, _ANY).canonical(v) for name, v in named.items()}
        return {name: v for name, v in values.items() if v is not None or name not in never_null}

    return Kind("object", convert, _json)


def _may_be_null(schema: Any) -> bool:
    types = schema.get("type", "null") if isinstance(schema, dict) else "null"
    return "null" in ([types] if isinstance(types, str) else types)


def _any(native: Any) -> Value:
    if isinstance(native, list | tuple):
        return [_ANY.canonical(v) for v in native]
    if isinstance(native, dict):
        return {_text(k): _ANY.canonical(v) for k, v in native.items()}
    if isinstance(native, bool):
        return native
    if isinstance(native, int | float | Decimal):
        return _shorten(_decimal(native))
    return _instant(native) if isinstance(native, datetime) else _text(native)


def _json(value: Value) -> bytes:
    return orjson.dumps(value, default=lambda number: orjson.Fragment(_digits(number)), option=orjson.OPT_SORT_KEYS)


def _name(native: Any) -> str:
    names = {dict: "an object", list: "a list", tuple: "a list", bool: "true or false", str: "text"}
    return names.get(type(native), "a number" if isinstance(native, int | float | Decimal) else "what it is")


_NUMBERS = (int, float, Decimal)
_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "string": ((str,), "text"),
    "number": (_NUMBERS, "a number"),
    "integer": (_NUMBERS, "a number"),
    "boolean": ((bool,), "true or false"),
    "array": ((list,), "a list"),
    "object": ((dict,), "an object"),
}
"""What a value of some kinds is, and how that is called; the others have no other spelling than text."""

_URL_SAFE = str.maketrans("-_", "+/")
_STRING = Kind("string", _text, str.encode, str)
_STRINGS = {
    "date-time": Kind("date-time", _instant, str.encode, column=_instants),
    "date": Kind("date", _day, str.encode),
}
_BINARY = Kind("binary", _base64, str.encode)
_INTEGER = Kind("integer", _integer, b"%d".__mod__, int)  # these two without a call of Python's own per value
_BOOLEAN = Kind("boolean", _boolean, {True: b"t", False: b"f"}.__getitem__, bool)
_ANY = Kind("any", _any, _json)
