"""Scalar: what plain YAML text means to kubectl: YAML 1.1 booleans and octals, and dates that stay text."""

from __future__ import annotations

import math
import re

_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE = frozenset(["y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "true", "True", "TRUE"])
_FALSE = frozenset(["n", "N", "no", "No", "NO", "off", "Off", "OFF", "false", "False", "FALSE"])
_BASED = re.compile(r"[-+]?0(?:b[01_]+|o?[0-7_]+|x[0-9a-fA-F_]+)", re.ASCII)
_DECIMAL = re.compile(r"[-+]?(?:0|[1-9][0-9_]*|0[0-9]+)", re.ASCII)
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", re.ASCII)


def plain(text: str) -> bool | int | float | str | None:
    """The value of a scalar without quotes. Whole floats are integers, as in the JSON that Go writes."""
    if text in _NULLS:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if not text[0].isdigit() and text[0] not in "+-.":
        return text
    if _BASED.fullmatch(text):
        return _based(text.replace("_", ""))
    if _DECIMAL.fullmatch(text) and len(text) <= 18:
        return int(text.replace("_", ""))
    return _float(text) if _FLOAT.fullmatch(text) else text


def _based(text: str) -> int:
    sign = -1 if text[0] == "-" else 1
    digits = text.lstrip("+-")
    if digits[1:2] in {"b", "o", "x"}:
        return sign * int(digits, 0)
    return sign * int(digits, 8)


def _float(text: str) -> int | float | str:
    number = float(text)
    if not math.isfinite(number):
        return text
    return int(number) if number.is_integer() and abs(number) < 2**53 else number
