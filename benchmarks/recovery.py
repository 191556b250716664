"""(f) A worker that starts after a crash and finds 10,000 intents open, of which half had been sent."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import FILL, Stopwatch, arguments, databases, policy, row, session, sql_client
from fairlead.connectors.base import NativeWrite, Outcome
from fairlead.state.base import Commit
from fairlead.state.sqlite import SQLiteStore
from fairlead.worker.late import LateSystem
from fairlead.worker.run import Kind, Run
from fairlead.worker.run import Outcome as RunOutcome
from fairlead.worker.session import Session


class Forgetful(SQLiteStore):
    """A store in which no batch is ever settled, as if the worker had died each time just before it could say so."""

    async def commit(self, commit: Commit) -> None:
        """Drops what was learnt of writes."""
        if not commit.settled:
            await super().commit(commit)


class Cut(LateSystem):
    """A system that writes only so many records, as if the worker had died before it sent the rest."""

    left = 0
    """Of all of this class: only the target is written to."""

    async def write(self, writes: Sequence[NativeWrite]) -> list[Outcome]:
        """Does the first writes, and calls the others done."""
        sent = writes[: Cut.left]
        Cut.left -= len(sent)
        done = await super().write(sent) if sent else []
        return [*done, *(Outcome(key=write.key) for write in writes[len(sent) :])]


async def succeed(opened: Session) -> float:
    """Seconds of a run that succeeds; its state is closed."""
    watch = Stopwatch()
    with watch.running():
        report = await Run(opened, Kind.CHANGES).run()
    await opened.store.close()
    if report.outcome is not RunOutcome.SUCCEEDED:
        raise RuntimeError(report.message)
    return watch.seconds


async def measure(dsn: str, count: int) -> None:
    """Leaves intents open, then takes the time of the run that finds them."""
    made = databases(dsn, "a", "b")
    made["a"].execute(FILL.format(n=count))
    clients = {name: sql_client(dsn, name) for name in ("a", "b")}
    bench = policy({n: {"modified": "updated"} for n in ("a", "b")})
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "state.db"
        await succeed(await session(bench, clients, SQLiteStore(file)))
        made["a"].execute("UPDATE customer SET name = name || 'x', updated = now()")
        Cut.left = count // 2
        await succeed(await session(bench, clients, Forgetful(file), reached=Cut))
        opened = await session(bench, clients, SQLiteStore(file))
        found = sum(map(len, (await opened.store.journal()).values()))
        row(f"recovery of {found:,} open intents", await succeed(opened), mark="≤ 5 s")
        if made["b"].execute("SELECT count(*) FROM customer WHERE name LIKE '%x'").fetchone() != (count,):
            raise RuntimeError("not everything was recovered")
    for client in clients.values():
        await client.close()


def main() -> None:
    """One crash."""
    dsn, quick = arguments()
    asyncio.run(measure(dsn, 1_000 if quick else 10_000))


main()
