"""What a first copy cannot do without: the rows of its state, written by SQL alone, with nothing decided or sent."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from benchmarks.measure import Stopwatch, policy
from fairlead.engine.rules import compile_rules
from fairlead.state.sqlite import SQLiteStore
from fairlead.state.sqlite_file import connected
from fairlead.worker.session import layout_of

PAGE, PART = 5000, 1000
"""Records of one transaction: as they are read, and as what came of their writes is stored."""

STATEMENT = 200
"""Rows of one statement."""

PRINTS = 64
"""Bytes: fingerprints of eight fields."""


async def state_rows(path: Path, count: int) -> float:
    """Seconds to store `count` new records in a fresh file, and after that their other side, both as the store does."""
    made = policy({n: {} for n in ("a", "b")})
    store = SQLiteStore(path)
    await store.open(layout_of(made, compile_rules(made.spec)))  # makes the tables
    await store.close()
    database = connected(path)
    seconds = sum(_stored(database, range(n, min(n + PAGE, count + 1))) for n in range(1, count + 1, PAGE))
    database.close()
    return seconds


def _stored(database: sqlite3.Connection, numbers: range) -> float:
    chance = random.Random(numbers[0])  # noqa: S311 - stands for fingerprints, guards nothing
    many = chance.getrandbits
    new = [(n, chance.randbytes(PRINTS), 0, many(62), str(n), many(62), b"") for n in numbers]
    other = [(number, shared, away, key, row, prints) for number, shared, away, _, key, row, prints in new]
    watch = Stopwatch()
    with watch.running():
        _apply(database, "(id, shared, away, found_by, k0, r0, p0)", "", new)
        replaced = " ON CONFLICT(id) DO UPDATE SET k1 = excluded.k1, r1 = excluded.r1, p1 = excluded.p1"
        for start in range(0, len(other), PART):
            _apply(database, "(id, shared, away, k1, r1, p1)", replaced, other[start : start + PART])
    return watch.seconds


def _apply(database: sqlite3.Connection, columns: str, end: str, rows: Sequence[tuple[object, ...]]) -> None:
    row = f"({', '.join('?' * len(rows[0]))})"
    database.execute("BEGIN IMMEDIATE")
    for start in range(0, len(rows), STATEMENT):
        some = rows[start : start + STATEMENT]
        statement = f"INSERT INTO record{columns} VALUES {', '.join([row] * len(some))}{end}"
        database.execute(statement, list(chain.from_iterable(some)))
    database.execute("COMMIT")
