"""(b) REST to SQL: 100,000 records, at 100 and at 1,000 a page, beside downloading and parsing them alone."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import msgspec
import orjson

from benchmarks.measure import SECRETS, Stopwatch, arguments, databases, policy, row, session, sql_client
from fairlead.connectors.registry import connect, preset_documents
from fairlead.model.bundle import preset
from fairlead.model.connection import Connection
from fairlead.model.connector import Connector
from fairlead.state.sqlite import SQLiteStore
from fairlead.testing.http_store import RecordStore
from fairlead.worker.run import Kind, Outcome, Run


def record(n: int) -> dict[str, object]:
    """One customer."""
    return {
        "number": n,
        "email": f"user{n}@example.com",
        "name": f"Name {n}",
        "phone": f"+49{n}",
        "city": f"City {n % 1000}",
        "credit": n % 100_000 / 100,
        "active": n % 2 == 0,
        "updated": "2026-01-01T00:00:00Z",
    }


@contextmanager
def served(count: int) -> Iterator[str]:
    """The API with so many customers, in a process of its own: neither its time nor its memory is the worker's."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "api.db"
        with closing(RecordStore(data)) as store:
            for start in range(0, count, 10_000):
                store.fill("customers", [record(n) for n in range(start, start + 10_000)])
        command = [sys.executable, "-m", "fairlead.testing.http_system", "--data", str(data), "--object", "customers"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            try:
                assert server.stdout is not None
                yield server.stdout.readline().strip()
            finally:
                server.terminate()


def paged(connector: Connector, size: int) -> Connector:
    """The preset with another page size."""
    document = msgspec.to_builtins(connector)
    for name in ("list", "changes"):
        document["spec"]["objects"][0]["read"][name]["paginate"]["size"] = size
    return msgspec.convert(document, Connector)


async def downloaded(url: str, size: int) -> float:
    """The floor: the same client, the same pages, parsed and dropped."""
    watch, cursor = Stopwatch(), ""
    async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
        with watch.running():
            while cursor is not None:
                answer = await client.get(
                    "/customers", params={"limit": size, **({"cursor": cursor} if cursor else {})}
                )
                cursor = orjson.loads(answer.content)["next"]
    return watch.seconds


async def measure(dsn: str, url: str, size: int, count: int, floor: float) -> None:
    """One page size: the first copy, and a resync that finds nothing."""
    databases(dsn, "b")
    spec = {"connector": "rest", "url": url}
    connection = msgspec.convert({"metadata": {"name": "api"}, "spec": spec}, Connection)
    connectors = {"rest": paged(preset("rest", preset_documents()["rest"]), size)}
    clients = {"api": connect(connection, connectors, SECRETS), "b": sql_client(dsn, "b")}
    fields = {name: name for name in ("email", "name", "phone", "city", "credit", "active", "updated")}
    systems = {"api": {"object": "customers", "fields": {"id": "number", **fields}}, "b": {"modified": "updated"}}
    with tempfile.TemporaryDirectory() as folder:
        opened = await session(policy(systems), clients, SQLiteStore(Path(folder) / "state.db"))
        watch = Stopwatch()
        for what, kind in (("REST to SQL, first copy", Kind.CHANGES), ("REST, resync, nothing changed", Kind.RESYNC)):
            with watch.running():
                report = await Run(opened, kind).run()
            if report.outcome is not Outcome.SUCCEEDED:
                raise RuntimeError(report.message)
            mark = "≤ 2 ×" if size == 1000 else ""
            row(f"{what}, {count:,} at {size:,} a page", watch.seconds, floor=floor, mark=mark, memory=True)
        await opened.store.close()
    for client in clients.values():
        await client.close()


async def floor(url: str, size: int) -> float:
    """Seconds of the quickest download: the first also pays for what is cold."""
    return min([await downloaded(url, size) for _ in range(3)])


def main() -> None:
    """Fills the API once, then measures both page sizes, each in a process of its own: a floor's memory is not ours."""
    dsn, quick = arguments()
    if "--measure" in sys.argv:
        url, size, count, seconds = sys.argv[sys.argv.index("--measure") + 1 :]
        asyncio.run(measure(dsn, url, int(size), int(count), float(seconds)))
        return
    count = 10_000 if quick else 100_000
    with served(count) as url:
        for size in (100, 1000):
            given = [url, str(size), str(count), str(asyncio.run(floor(url, size)))]
            subprocess.run([sys.executable, "-m", "benchmarks.rest", dsn, "--measure", *given], check=True)


main()
