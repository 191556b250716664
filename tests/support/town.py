"""A few systems in memory, one policy over them, and the real worker with its state in a file."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import orjson

from fairlead.engine.rules import compile_rules
from fairlead.model.syncpolicy import SyncPolicy
from fairlead.state.base import Commit, Conflict, DeadLetter, Store, Undelivered
from fairlead.state.history import Counts
from fairlead.state.requests import Answer, Demand, request
from fairlead.state.sqlite import SQLiteStore
from fairlead.testing.memory_system import MemorySystem, Traits
from fairlead.testing.store.sample import all_conflicts, all_letters
from fairlead.worker.run import Kind, Run, RunReport
from fairlead.worker.session import layout_of
from support.policies import open_session

START = 1_800_000_000.0
FIELDS = ("email", "name", "note")


class Town:
    """Systems by name, and runs over them. Each run is a worker that starts for it and stops after it.

    Attributes:
        now: the clock, epoch seconds.
        conflicts, letters, pending, audit: what the state held after the last run.
    """

    def __init__(self, folder: Path, *names: str, **spec: Any) -> None:
        self._path = folder / "state.db"
        self.now = START
        self.systems = {name: self._system() for name in names}
        self.policy: dict[str, Any] = {
            "entity": "Customer",
            "schema": {"type": "object", "properties": {name: {"type": "string"} for name in FIELDS}},
            "match": [{"fields": ["email"], "normalize": ["Trim", "Lowercase"]}],
            "systems": [self.declared(name) for name in names],
            "systemOfRecord": names[0],
            "deletes": {"guard": {"maxRecords": 100, "maxPercent": 100}},
            **spec,
        }
        self.conflicts: list[Conflict] = []
        self.letters: list[DeadLetter] = []
        self.pending = 0
        self.audit: list[tuple[str, str, str, str]] = []

    def _system(self) -> MemorySystem:
        return MemorySystem("customers", Traits(), clock=lambda: datetime.fromtimestamp(self.now, UTC))

    def __getitem__(self, name: str) -> MemorySystem:
        return self.systems[name]

    @staticmethod
    def declared(name: str, *fields: str, **more: Any) -> dict[str, Any]:
        """A system of the policy that maps these fields (all, when none is named)."""
        mapped = {field: field for field in fields or FIELDS}
        return {"name": name, "connection": name, "object": "customers", "fields": mapped, **more}

    def joined_by(self, name: str, *fields: str, **more: Any) -> None:
        """The policy gets another system."""
        self.systems[name] = self._system()
        self.policy["systems"] = [*self.policy["systems"], self.declared(name, *fields, **more)]

    def redeclare(self, name: str, *fields: str, **more: Any) -> None:
        """The policy declares a system otherwise."""
        systems = [s for s in self.policy["systems"] if s["name"] != name]
        self.policy["systems"] = [*systems, self.declared(name, *fields, **more)]

    def add(self, system: str, email: str, /, **values: object) -> str:
        """A user adds a customer; its key."""
        return self.systems[system].add({"email": email, "name": None, "note": None, **values})

    def key(self, system: str, email: str) -> str:
        """The key of a customer."""
        (key,) = self.systems[system].holders("email", email)
        return key

    def edit(self, system: str, email: str, /, **values: object) -> None:
        """A user changes a customer."""
        self.now += 1
        self.systems[system].edit(self.key(system, email), values)

    def remove(self, system: str, email: str) -> None:
        """A user deletes a customer."""
        self.systems[system].remove(self.key(system, email))

    def values(self, system: str, name: str = "name") -> dict[object, object]:
        """Email → one attribute of every customer."""
        return {row["email"]: row.get(name) for row in self.systems[system].records.values()}

    async def run(
        self,
        kind: Kind = Kind.CHANGES,
        *,
        approved: str = "",
        stopping: Callable[[], bool] = lambda: False,
        enforce: bool = False,
    ) -> RunReport:
        """One run, an hour after the last: what waits is due."""
        self.now += 3600
        document = {"metadata": {"name": "customers", "uid": "u1"}, "spec": self.policy}
        store = SQLiteStore(self._path)
        session = await open_session(msgspec.convert(document, SyncPolicy), self.systems, store, lambda: self.now)
        try:
            return await Run(session, kind, approved=approved, stopping=stopping, enforce=enforce).run()
        finally:
            self.conflicts, self.letters = await all_conflicts(store), await all_letters(store)
            self.pending = (await store.counts()).pending
            await store.close()
            with sqlite3.connect(self._path) as database:
                rows = database.execute("SELECT kind, field, rule, winner FROM audit WHERE system = '' ORDER BY id")
                self.audit = rows.fetchall()

    @asynccontextmanager
    async def working(self) -> AsyncIterator[Callable[[], Awaitable[RunReport]]]:
        """A worker that goes on from run to run, each an hour after the last."""
        document = {"metadata": {"name": "customers", "uid": "u1"}, "spec": self.policy}
        store = SQLiteStore(self._path)
        session = await open_session(msgspec.convert(document, SyncPolicy), self.systems, store, lambda: self.now)

        async def run() -> RunReport:
            self.now += 3600
            return await Run(session, Kind.CHANGES).run()

        yield run
        await store.close()

    async def asked(self, demand: Demand, meanwhile: Callable[[], object] = lambda: None) -> Answer:
        """A person asks for something, users do something `meanwhile`, and a run takes it up."""
        asked = await self.leave(demand)
        meanwhile()
        await self.run()
        answer = await self.answer(asked)
        assert answer is not None
        return answer

    async def leave(self, demand: Demand) -> str:
        """A person asks for something while no worker runs; the request's id."""
        asked = request("ada", demand)
        async with self.beside() as store:
            await store.ask(asked)
        return asked.id

    async def answer(self, asked: str) -> Answer | None:
        """What came of a request."""
        async with self.beside() as store:
            return await store.answer(asked)

    @asynccontextmanager
    async def beside(self) -> AsyncIterator[Store]:
        """The store, as a command opens it."""
        store = SQLiteStore(self._path)
        await store.join([])
        yield store
        await store.close()

    async def remember(self, commit: Commit) -> None:
        """The state is told something, as a run would."""
        policy = msgspec.convert({"metadata": {"name": "customers", "uid": "u1"}, "spec": self.policy}, SyncPolicy)
        store = SQLiteStore(self._path)
        await store.open(layout_of(policy, compile_rules(policy.spec)))
        await store.commit(commit)
        await store.close()

    async def forget(self, system: str, key: str) -> None:
        """Erases a record from the state."""
        policy = msgspec.convert({"metadata": {"name": "customers", "uid": "u1"}, "spec": self.policy}, SyncPolicy)
        store = SQLiteStore(self._path)
        await store.open(layout_of(policy, compile_rules(policy.spec)))
        await store.erase([(system, key)])
        await store.close()

    async def failed(self) -> list[Undelivered]:
        """The writes that are dead letters."""
        async with self.beside() as store:
            return [item async for page in store.walk_failed() for item in page]

    async def counts(self) -> Counts:
        """What the state holds."""
        async with self.beside() as store:
            return await store.counts()

    async def audited(self, kind: str) -> list[tuple[str, str, str, Any]]:
        """(field, rule, winner, values) of every entry of one kind."""
        with sqlite3.connect(self._path) as database:
            rows = database.execute("SELECT field, rule, winner, body FROM audit WHERE kind = ? ORDER BY id", (kind,))
            return [(*row[:3], orjson.loads(row[3])) for row in rows]

    async def agree(self) -> None:
        """Runs until nothing is left to do: what follows is a change, and no first meeting."""
        await self.run()
        report = await self.run(Kind.RESYNC)
        assert sum(report.tally.counts()[name] for name in ("created", "updated", "deleted", "failed")) == 0
