"""(c) Change latency, both ways: from the commit of an edit in one system until it stands in the other."""

from __future__ import annotations

import asyncio
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.measure import FILL, SECRETS, arguments, databases, policy, row, sql_connection
from fairlead.worker.hosting import Host
from fairlead.worker.loop import PolicyLoop

INTERVAL = 1.0


async def arrived(connection: psycopg.Connection[Any], key: int, name: str) -> None:
    """Waits until a row has a name."""
    while connection.execute("SELECT name FROM customer WHERE id = %s", (key,)).fetchone() != (name,):  # noqa: ASYNC110
        await asyncio.sleep(0.001)


async def latencies(
    made: dict[str, psycopg.Connection[Any]], loop: PolicyLoop, rounds: int, event: bool
) -> list[float]:
    """Seconds of each edit, in turns on both sides; with `event` the worker is told of it, else it polls."""
    found = []
    # edits fall at every moment of the interval alike: right after an arrival, most of it would always lie ahead, and
    # moments left to chance would tell the median of some tens of them only to a tenth of a second
    moments = [INTERVAL * (n + 0.5) / rounds for n in range(rounds)]
    random.shuffle(moments)
    for n, moment in enumerate(moments):
        source, target = ("a", "b") if n % 2 else ("b", "a")
        key, name = n % 500 + 1, f"edit {time.time_ns()}"
        made[source].execute("UPDATE customer SET name = %s, updated = clock_timestamp() WHERE id = %s", (name, key))
        started = time.perf_counter()
        if event:
            loop.request()
        await arrived(made[target], key, name)
        found.append(time.perf_counter() - started)
        await asyncio.sleep(0.05 if event else moment)
    return sorted(found)


async def measure(dsn: str, quick: bool) -> None:
    """Triggered by an event, then by the interval."""
    made = databases(dsn, "a", "b")
    made["a"].execute(FILL.format(n=1000))
    for event, interval, rounds in (
        (True, "1h", 40 if quick else 200),
        (False, f"{INTERVAL:.0f}s", 10 if quick else 40),
    ):
        bench = policy({n: {"modified": "updated"} for n in ("a", "b")}, trigger={"interval": interval})
        connections = {f"default/{name}": sql_connection(dsn, name) for name in ("a", "b")}
        with tempfile.TemporaryDirectory() as folder:
            host = Host(connections, {}, lambda _: SECRETS, Path(folder))
            loop, stop = PolicyLoop(bench, host), asyncio.Event()
            await loop.run_once()
            await asyncio.sleep(6)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(loop.work(stop))
                found = await latencies(made, loop, rounds, event)
                stop.set()
                loop.request()
            await host.close()
        how = "told by an event" if event else f"polled every {INTERVAL:.0f} s"
        mark = "≤ 50 ms" if event else f"≤ {INTERVAL / 2:.1f} s"
        row(f"change latency p50, {how}", statistics.median(found), mark=mark)
        row(f"change latency p99, {how}", found[int(len(found) * 0.99)])


def main() -> None:
    """Measures."""
    asyncio.run(measure(*arguments()))


main()
