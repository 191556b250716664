"""How fingerprints lie in a row: one shared string per record, and one per system only where it differs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias

import msgspec

from fairlead.engine.case import Side
from fairlead.engine.fingerprint import UNSEEN, WIDTH, field, replaced


class SystemLayout(msgspec.Struct, frozen=True):
    """What of a system's declaration the remembered fingerprints depend on.

    Attributes:
        identity: which object of which Connection it is; another one makes all that is remembered of it void.
        fields: field → text that changes when its mapping does, or the form of its values: it is met anew then.
        reading: text that changes when the records do that take part, or that can be taken in: with another filter,
            archive or schema all are read anew, and nothing that is remembered of them is void.
    """

    identity: str
    fields: dict[str, str]
    reading: str = ""


class Layout(msgspec.Struct, frozen=True):
    """The shape of remembered fingerprints: fields in slot order, and the systems.

    Attributes:
        kept: fields whose old values are kept (`engine.bases`). One that is kept from now on must be read anew
            wherever it is, without its fingerprints being forgotten.
        salted: what tells the fingerprints of one field from those of another: fingerprints that an older version
            salted otherwise mean nothing any more.
        match: what each match rule says → its fields. Match keys are of these rules (`rematched`).
    """

    fields: tuple[str, ...]
    systems: dict[str, SystemLayout]
    kept: tuple[str, ...] = ()
    salted: str = ""
    match: dict[str, tuple[str, ...]] = {}


BY_NAME = "name"
"""See `Layout.salted`: fields may come and go around another one."""


Prints: TypeAlias = "Mapping[str, Sequence[bytes | None]]"
"""System → the fingerprints of each record in turn; None where it has not the record."""

_NOTHING: Mapping[str, bytes | None] = MappingProxyType({})


class Folding:
    """Folds the fingerprints of a record's sides into one string, and unfolds them.

    In a healthy sync every system agrees, so a record costs one string however many systems it has.
    """

    def __init__(self, layout: Layout) -> None:
        self._width = len(layout.fields)
        self._full = (1 << (8 * WIDTH * self._width)) - 1
        self._masks = {name: self._mask(layout, frozenset(system.fields)) for name, system in layout.systems.items()}
        self._whole = frozenset(name for name, mask in self._masks.items() if mask == self._full)

    def _mask(self, layout: Layout, mapped: frozenset[str]) -> int:
        ones = b"\xff" * WIDTH
        return int.from_bytes(b"".join(ones if name in mapped else UNSEEN for name in layout.fields), "big")

    def fold(self, prints: Prints) -> tuple[Sequence[bytes], Prints]:
        """Of each record the shared string, and per system its own where it differs (else None)."""
        alike = self._alike(prints)
        if alike is not None:
            return alike, {name: [None] * len(alike) for name in prints}
        folded = [self._fold(dict(zip(prints, row, strict=True))) for row in zip(*prints.values(), strict=True)]
        return [shared for shared, _ in folded], {name: [own.get(name) for _, own in folded] for name in prints}

    def _alike(self, prints: Prints) -> Sequence[bytes] | None:
        """The strings of records that the same systems have, which say the same: most, without a look at each."""
        first: Sequence[bytes | None] = ()
        for name, column in prints.items():
            absent = column.count(None)
            if absent == len(column):
                continue
            if absent or name not in self._whole or (first and column != first):
                return None
            first = column
        return first or None  # type: ignore[return-value]  # nothing is absent

    def _fold(self, row: Mapping[str, bytes | None]) -> tuple[bytes, Mapping[str, bytes | None]]:
        sides = {name: prints for name, prints in row.items() if prints is not None}
        if len(set(sides.values())) == 1 and self._whole.issuperset(sides):
            return next(iter(sides.values())), _NOTHING
        shared, covered = 0, 0
        numbers = {name: int.from_bytes(prints, "big") for name, prints in sides.items()}
        for name, number in numbers.items():
            mask = self._masks[name] & ~covered
            shared |= number & mask
            covered |= mask
            if covered == self._full:
                break
        own = {
            name: None if not (number ^ shared) & self._masks[name] else sides[name] for name, number in numbers.items()
        }
        return shared.to_bytes(WIDTH * self._width, "big"), own

    def unfold(self, system: str, shared: bytes, own: bytes | None) -> bytes:
        """The fingerprints of one side."""
        if own is not None:
            return own
        mask = self._masks[system]
        if mask == self._full:
            return shared
        return (int.from_bytes(shared, "big") & mask).to_bytes(WIDTH * self._width, "big")


def rematched(old: Layout, new: Layout) -> bool:
    """Whether records that are known in both have other match keys in `new`: by other rules, or of fields read anew."""
    matched = {name for fields in new.match.values() for name in fields}
    pairs = [(old.systems[name].fields, new.systems[name].fields) for name in old.systems.keys() & new.systems.keys()]
    anew = any(before.get(name) != after.get(name) for before, after in pairs for name in matched)
    return old.match != new.match or anew


def converted(side: Side, system: str, old: Layout, new: Layout) -> Side:
    """`side` in another layout: fields that are new or mapped otherwise are unseen, and their row is read anew.

    So is a row with fields whose old values are to be kept from now on.
    """
    before, after = old.systems[system].fields, new.systems[system].fields
    gained = set(new.kept).difference(old.kept)
    same = before == after and old.salted == new.salted and gained.isdisjoint(after)
    slots = {name: slot for slot, name in enumerate(old.fields)}
    kept = {
        slot: field(side.prints, slots[name])
        for slot, name in enumerate(new.fields)
        if old.salted == new.salted and name in after and name in slots and before.get(name) == after[name]
    }
    row = side.row if same else None
    return msgspec.structs.replace(side, row=row, prints=replaced(b"", kept, len(new.fields)))
