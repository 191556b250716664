"""(g) The bytes on disk that a store takes for each record and system, when two tables of 100,000 rows agree."""

from __future__ import annotations

import asyncio
import json
import tempfile
from functools import partial
from pathlib import Path

import psycopg

from benchmarks.measure import FILL, arguments, databases, policy, session, sql_client
from benchmarks.sql import run
from fairlead.state.base import Store
from fairlead.state.postgres import PostgresStore
from fairlead.state.sqlite import SQLiteStore

SCHEMA = "state"
SIZE = "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relnamespace = %s::regnamespace AND relkind = 'r'"


async def settle(store: Store, count: int, dsn: str) -> None:
    """A first copy, and a run that finds nothing to do."""
    made = databases(dsn, "a", "b")
    made["a"].execute(FILL.format(n=count))
    clients = {name: sql_client(dsn, name) for name in ("a", "b")}
    opened = await session(policy({n: {"modified": "updated"} for n in ("a", "b")}), clients, store)
    for _ in range(2):
        await run(opened)
    await store.close()
    for client in clients.values():
        await client.close()


def row(store: str, size: int, count: int) -> None:
    """One row of the table; there are two systems."""
    each = f"{size / count / 2:.0f} bytes"
    print(json.dumps({"what": f"state of a record and system, {store}", "measured": each, "mark": "≤ 150 bytes"}))


def size_of(folder: Path) -> int:
    """The bytes of all its files."""
    return sum(file.stat().st_size for file in folder.iterdir())


async def measure(dsn: str, count: int) -> None:
    """Either store."""
    with tempfile.TemporaryDirectory() as folder:
        await settle(SQLiteStore(Path(folder, "state.db")), count, dsn)
        row("SQLite", size_of(Path(folder)), count)
    with psycopg.connect(dsn, autocommit=True) as admin:
        admin.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
        connect = partial(psycopg.AsyncConnection.connect, dsn, autocommit=True, prepare_threshold=None)
        await settle(PostgresStore(connect, SCHEMA, "here"), count, dsn)
        (size,) = admin.execute(SIZE, (SCHEMA,)).fetchone() or (0,)
        row("PostgreSQL", size, count)


def main() -> None:
    """Two tables."""
    dsn, quick = arguments()
    asyncio.run(measure(dsn, 10_000 if quick else 100_000))


main()
