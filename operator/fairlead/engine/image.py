"""Images: what systems that shorten, round or re-spell values make of them.

Only used where a value was just written: there, an image of it is what the system made of it, and not an edit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, ROUND_HALF_UP, Context, Decimal

from fairlead.engine.canonical import Kind, is_empty
from fairlead.model.record import Value

_ROUNDINGS = (ROUND_DOWN, ROUND_HALF_UP, ROUND_HALF_EVEN)
_EXACT = Context(prec=4000)
_DOUBLE = Decimal("1e-15")
_STEPS = (timedelta(milliseconds=1), timedelta(seconds=1), timedelta(minutes=1), timedelta(days=1))


def is_image(kind: Kind, written: Value, stored: Value) -> bool:
    """Whether a system may have made `stored` of `written`: the same value, or one with less in it."""
    if kind.print_bytes(written) == kind.print_bytes(stored) or (is_empty(written) and is_empty(stored)):
        return True
    if isinstance(written, list) and isinstance(stored, list):
        return _is_list_image(kind.item, written, stored)
    if isinstance(written, bool) or isinstance(stored, bool):
        return False
    if isinstance(written, int | Decimal) and isinstance(stored, int | Decimal):
        return _is_rounded(Decimal(written), Decimal(stored))
    if isinstance(written, str) and isinstance(stored, str):
        return _is_coarser(written, stored) if kind.name == "date-time" else _is_shortened(written, stored)
    return False


def is_image_of(kinds: Mapping[str, Kind], written: Mapping[str, Value], stored: Mapping[str, Value]) -> bool:
    """Whether a system may have made a record of values that were written; fields that it does not tell say nothing."""
    return all(name not in stored or is_image(kinds[name], value, stored[name]) for name, value in written.items())


def _is_shortened(written: str, stored: str) -> bool:
    """Case, blanks and the end may be gone."""
    kept = "".join(stored.split()).casefold()
    return bool(kept) and "".join(written.split()).casefold().startswith(kept)


def _is_rounded(written: Decimal, stored: Decimal) -> bool:
    """Digits behind the point are gone, or those that a double does not hold."""
    gap = _EXACT.subtract(written, stored)
    exponent = stored.normalize(_EXACT).as_tuple().exponent
    step = Decimal(1).scaleb(min(exponent, 0) if isinstance(exponent, int) else 0)
    return abs(gap) < _EXACT.multiply(abs(written), _DOUBLE) or any(
        written.quantize(step, rounding, _EXACT) == stored for rounding in _ROUNDINGS
    )


def _is_coarser(written: str, stored: str) -> bool:
    """The time, cut or rounded to a millisecond, second, minute or day."""
    before, after = (datetime.fromisoformat(text) for text in (written, stored))
    midnight = after.replace(hour=0, minute=0, second=0, microsecond=0)
    return any(abs(after - before) < step and not (after - midnight) % step for step in _STEPS)


def _is_list_image(item: Kind | None, written: Sequence[Value], stored: Sequence[Value]) -> bool:
    """The items in another order, without repetitions, or each as an image."""
    if item is None:
        return False
    if len(written) == len(stored):
        pairs = zip(written, stored, strict=True)
        if all(is_image(item, one, other) for one, other in pairs):
            return True
    one, other = (Counter(map(item.print_bytes, items)) for items in (written, stored))
    return one == other or (one.keys() == other.keys() and max(other.values()) == 1)
