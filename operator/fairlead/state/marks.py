"""Marks: which records a scan has met. One bit a record, whatever their number."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

_NOT_FULL = re.compile(rb"[^\xff]", re.DOTALL)


class Marks:
    """A set of record numbers that only grows. `expected` is about the greatest number."""

    def __init__(self, records: Iterable[int] = (), *, expected: int = 0) -> None:
        self._bits = bytearray((expected >> 3) + 1)
        self.add(records)

    def add(self, records: Iterable[int]) -> None:
        """Marks some records."""
        bits = self._bits
        for record in records:
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
