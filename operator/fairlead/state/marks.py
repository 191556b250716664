"""Marks: which records a scan has met. One bit a record, whatever their number."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

_NEIGHBOURS = 32
"""Of more than this many it pays to look whether they are neighbours."""

_NOT_FULL = re.compile(rb"[^\xff]", re.DOTALL)


class Marks:
    """A set of record numbers that only grows. `expected` is about the greatest number."""

    def __init__(self, records: Iterable[int] = (), *, expected: int = 0) -> None:
        self._bits = bytearray((expected >> 3) + 1)
        self.add(records)

    def add(self, records: Iterable[int]) -> None:
        """Marks some records; neighbours in their order all at once."""
        numbers, bits = list(records), self._bits
        if len(numbers) > _NEIGHBOURS and numbers == list(range(numbers[0], numbers[0] + len(numbers))):
            first = -numbers[0] % 8
            start, whole = numbers[first] >> 3, (len(numbers) - first) >> 3
            bits.extend(bytes(max(0, start + whole - len(bits))))
            bits[start : start + whole] = b"\xff" * whole
            numbers = [*numbers[:first], *numbers[first + 8 * whole :]]
        for record in numbers:
            try:
                bits[record >> 3] |= 1 << (record & 7)
            except IndexError:
                bits.extend(bytes((record >> 3) + 1 - len(bits)))
                bits[record >> 3] |= 1 << (record & 7)

    def missing(self, last: int) -> Iterator[int]:
        """The numbers from 1 to `last` that are not marked, counting up."""
        for found in _NOT_FULL.finditer(bytes(self._bits).ljust((last >> 3) + 1, b"\0")):
            byte, first = found[0][0], found.start() << 3
            yield from (first + bit for bit in range(8) if not byte >> bit & 1 and 0 < first + bit <= last)
