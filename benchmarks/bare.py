"""What a first copy cannot do without: the rows of its state, written by SQL alone, with nothing decided or sent."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import Stopwatch, policy
from fairlead.engine.rules import compile_rules
from fairlead.state.sqlite import SQLiteStore
from fairlead.state.sqlite_file import connected
from fairlead.worker.session import layout_of

PAGE, PART = 5000, 1000
"""Records of one transaction: as they are read, and as what came of their writes is stored."""

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
    new = [(n, chance.randbytes(PRINTS), chance.getrandbits(62), str(n), chance.getrandbits(62), b"") for n in numbers]
    other = [(key, row, prints, number) for number, _, _, key, row, prints in new]
    watch = Stopwatch()
    with watch.running():
        _apply(database, "INSERT INTO record(id, shared, away, found_by, k0, r0, p0) VALUES(?, ?, 0, ?, ?, ?, ?)", new)
        for start in range(0, len(other), PART):
            part = other[start : start + PART]
            _apply(database, "UPDATE record SET k1 = ?, r1 = ?, p1 = ? WHERE id = ?", part)
    return watch.seconds


def _apply(database: sqlite3.Connection, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
    database.execute("BEGIN IMMEDIATE")
    database.executemany(statement, rows)
    database.execute("COMMIT")
