"""(a) SQL to SQL, 100,000 and 1,000,000 rows: first copy, 1% changed, nothing changed, resync of what is unchanged."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.bare import state_rows
from benchmarks.measure import FILL, Stopwatch, arguments, databases, policy, row, session, sql_client
from fairlead.state.sqlite import SQLiteStore
from fairlead.worker.run import Kind, Outcome, Run
from fairlead.worker.session import Session

TRIES = 3
"""A floor is the quickest of these: the first also pays for what is cold, and a busy machine hits short ones most."""


def copied(source: psycopg.Connection[Any], target: psycopg.Connection[Any]) -> float:
    """The floor: COPY from A to B, with primary key, in this process."""
    watch = Stopwatch()
    with (
        watch.running(),
        source.cursor().copy("COPY customer TO STDOUT") as out,
        target.cursor().copy("COPY customer FROM STDIN") as into,
    ):
        for block in out:
            into.write(block)
    target.execute("TRUNCATE customer")
    return watch.seconds


def read(connection: psycopg.Connection[Any]) -> float:
    """The floor of a resync: reading one side."""
    watch = Stopwatch()
    with watch.running(), connection.cursor().copy("COPY customer TO STDOUT") as out:
        for _ in out:
            pass
    return watch.seconds


async def run(opened: Session, kind: Kind = Kind.CHANGES) -> float:
    """Seconds of one run, which must succeed."""
    watch = Stopwatch()
    with watch.running():
        report = await Run(opened, kind).run()
    if report.outcome is not Outcome.SUCCEEDED:
        raise RuntimeError(report.message)
    return watch.seconds


async def measure(dsn: str, count: int) -> None:
    """One table size."""
    made = databases(dsn, "a", "b")
    made["a"].execute(FILL.format(n=count))
    floor = min(copied(made["a"], made["b"]) for _ in range(TRIES))
    clients = {name: sql_client(dsn, name) for name in ("a", "b")}
    with tempfile.TemporaryDirectory() as folder:
        opened = await session(
            policy({n: {"modified": "updated"} for n in ("a", "b")}), clients, SQLiteStore(Path(folder) / "state.db")
        )
        size = f"{count:,} rows"
        row(f"first copy, {size}", await run(opened), floor=floor, mark="≤ 2.5 ×", memory=True)
        await asyncio.sleep(6)  # past the look-back, so that what was just written is not read again
        await run(opened)
        made["a"].execute("UPDATE customer SET name = name || 'x', updated = now() WHERE id % 100 = 0")
        row(f"1% changed, {size}", await run(opened), floor=floor, mark="≤ 3 ×" if count == 100_000 else "")
        await asyncio.sleep(6)
        await run(opened)
        row(f"nothing changed, {size}", min([await run(opened) for _ in range(5)]), mark="≤ 50 ms")
        both = min(read(made["a"]) + read(made["b"]) for _ in range(TRIES))
        await run(opened, Kind.RESYNC)
        row(f"resync, nothing changed, {size}", await run(opened, Kind.RESYNC), floor=both, mark="≤ 4 ×", memory=True)
        await opened.store.close()
        bare = await state_rows(Path(folder) / "bare.db", count)
        row(f"rows of the state of a first copy, and nothing else, {size}", bare, floor=floor)
    for client in clients.values():
        await client.close()


def main() -> None:
    """Each size in a process of its own."""
    dsn, quick = arguments()
    if "--count" in sys.argv:
        asyncio.run(measure(dsn, int(sys.argv[sys.argv.index("--count") + 1])))
        return
    for count in (10_000, 100_000) if quick else (100_000, 1_000_000):
        subprocess.run([sys.executable, "-m", "benchmarks.sql", dsn, "--count", str(count)], check=True)


if __name__ == "__main__":
    main()
