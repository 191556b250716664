"""Erasure: what came of forgetting a person."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from fairlead.state.place import Place
from fairlead.state.requests import Request

if TYPE_CHECKING:
    from fairlead.state.base import DeadLetter


class Erasure(msgspec.Struct, frozen=True):
    """What came of it.

    Attributes:
        places: all that was forgotten.
        ended: open requests that were about nothing else; they are answered.
        unknown: what was named, and nothing is known of. Where there is any, nothing was forgotten.
        doubtful: dead letters that may be the same person. Where there are any, nothing was forgotten.
    """

    places: frozenset[Place] = frozenset()
    ended: tuple[Request, ...] = ()
    unknown: tuple[Place, ...] = ()
    doubtful: tuple[DeadLetter, ...] = ()


def named_by(cursor: str | None, key: str) -> bool:
    """Whether a checkpoint is at a record: most are times, some are the keys of records without one."""
    if cursor is None:
        return False
    try:
        leaves = _leaves(msgspec.json.decode(cursor))
    except msgspec.DecodeError:
        return cursor == key
    return any(str(leaf) == key for leaf in leaves)


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        value = list(value.values())
    if not isinstance(value, list):
        yield value
        return
    for item in value:
        yield from _leaves(item)
