"""How values are written into a store: JSON, in which a decimal keeps every digit."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

import orjson

from fairlead.engine.case import Operation, Write

_DECIMAL = "\x00decimal"


def _default(value: Any) -> Any:
    if isinstance(value, Decimal):
        return {_DECIMAL: str(value)}
    if isinstance(value, Write):
        return parts(value)
    raise TypeError(f"{type(value).__name__} cannot be stored")


def parts(write: Write) -> tuple[Any, ...]:
    """A `Write` as `dump` takes it quickest, where there are many."""
    known = write.earlier
    earlier = {name: [one.hex() for one in prints] for name, prints in known.items()} if known else known
    doubts = (write.guarded, earlier, write.unsure)
    return (write.operation, write.values, write.origins, write.modified, *doubts, write.rules)


def dump(value: Any) -> bytes:
    """Values, and `Write`s inside lists or tuples, as bytes."""
    return orjson.dumps(value, default=_default)


def load(data: bytes) -> Any:
    """What `dump` was given; tuples come back as lists, and a `Write` as the list that `to_write` takes."""
    return _restore(orjson.loads(data))


def _restore(value: Any) -> Any:
    if isinstance(value, dict):
        return Decimal(value[_DECIMAL]) if _DECIMAL in value else {k: _restore(v) for k, v in value.items()}
    return [_restore(v) for v in value] if isinstance(value, list) else value


def to_write(parts: list[Any]) -> Write:
    """The `Write` that `dump` wrote."""
    operation, values, origins, modified, guarded, earlier, unsure, rules = parts
    moments = {name: datetime.fromisoformat(moment) for name, moment in modified.items()}
    prints = {name: tuple(map(bytes.fromhex, known)) for name, known in earlier.items()}
    return Write(Operation(operation), values, origins, moments, tuple(guarded), prints, tuple(unsure), rules)
