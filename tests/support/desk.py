"""The real worker over systems in memory that hold one record: what users edit there, run by run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import orjson

from fairlead.engine.rules import compile_rules
from fairlead.model.syncpolicy import Mode, SyncPolicy
from fairlead.state.base import STALE, Commit
from fairlead.state.sqlite import SQLiteStore
from fairlead.testing.memory_system import MemorySystem, Traits
from fairlead.testing.store.sample import all_conflicts
from fairlead.worker.late import LateSystem
from fairlead.worker.planning import Plan
from fairlead.worker.run import MET, Kind, Run, RunReport
from fairlead.worker.session import Session, layout_of

START = datetime(2026, 1, 1, 12, tzinfo=UTC).timestamp()
MINUTE = 60.0


class InlineStore(SQLiteStore):
    """The SQLite store without its thread."""

    async def _run(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return self._guarded(call, *args, **kwargs)


class OneRecord:
    """Systems that hold the record whose `id` is 1, and the worker of the policy over them.

    Args:
        path: of the state.
        properties: the schema of the other fields.
        systems: name → what the policy says of it, besides its name; the first is the system of record.
        traits, stored: what kind of system each is, as in `MemorySystem`.
        spec: the rest of the policy.
    """

    def __init__(
        self,
        path: Path,
        properties: Mapping[str, Any],
        systems: Mapping[str, Mapping[str, Any]],
        *,
        traits: Mapping[str, Traits] | None = None,
        stored: Mapping[str, Callable[[str, object], object]] | None = None,
        **spec: Any,
    ) -> None:
        self.now = START
        self.path = path
        self._properties = {"id": {"type": "integer"}, **properties}
        self.systems = {
            name: MemorySystem(
                "things",
                (traits or {}).get(name, Traits()),
                clock=lambda: datetime.fromtimestamp(self.now, UTC),
                **({"stored": stored[name]} if stored and name in stored else {}),
            )
            for name in systems
        }
        self.policy = self.policy_of(systems, **spec)
        self._session: Session | None = None
        self.plan: Plan | None = None
        """What the last run would have written, in mode Plan."""

    def policy_of(self, systems: Mapping[str, Mapping[str, Any]], **spec: Any) -> SyncPolicy:
        """Such a policy; to be set as `policy` between runs."""
        paths = {name: name for name in self._properties}
        declared = [
            {
                "name": name,
                "connection": name,
                "object": "things",
                **more,
                "fields": {**paths, **more.get("fields", {})},
            }
            for name, more in systems.items()
        ]
        whole = {
            "entity": "Thing",
            "schema": {"type": "object", "properties": self._properties},
            "match": [{"fields": ["id"]}],
            "systems": declared,
            "systemOfRecord": declared[0]["name"],
            "deletes": {"guard": {"maxRecords": 100, "maxPercent": 100}},
            **spec,
        }
        return msgspec.convert({"metadata": {"name": "things", "uid": "u"}, "spec": whole}, SyncPolicy)

    def retype(self, properties: Mapping[str, Any]) -> None:
        """Declares fields anew, for the next `policy_of`."""
        self._properties |= properties

    def declare(self, properties: Mapping[str, Any]) -> None:
        """Declares these fields in this order for the next `policy_of`, behind `id` where that is not among them."""
        first = {} if "id" in properties else {"id": {"type": "integer"}}
        self._properties = {**first, **properties}

    def undeclare(self, name: str) -> None:
        """Declares a field no more, for the next `policy_of`."""
        del self._properties[name]

    # --- users ---

    def key(self, system: str) -> str | None:
        """The record's key in a system; None where it is not."""
        return next((key for key, row in self.systems[system].records.items() if row.get("id") == 1), None)

    def enter(self, system: str, **values: Any) -> None:
        """A user creates or changes the record; a minute goes by."""
        self.now += MINUTE
        key = self.key(system)
        if key is None:
            self.systems[system].add({"id": 1, **values})
        else:
            self.systems[system].edit(key, values)

    def delete(self, system: str) -> None:
        """A user deletes the record."""
        self.now += MINUTE
        key = self.key(system)
        assert key is not None
        self.systems[system].remove(key)

    def values(self, name: str) -> dict[str, Any]:
        """What each system that has the record says of a field."""
        return {
            system: memory.records[key].get(name)
            for system, memory in self.systems.items()
            if (key := self.key(system))
        }

    def writes(self) -> int:
        """How many writes all systems have seen."""
        return sum(len(system.writes) for system in self.systems.values())

    # --- the worker ---

    async def run(self, kind: Kind = Kind.CHANGES) -> RunReport:
        """One run of a worker that has just started."""
        self.now += MINUTE
        session = await self.session()
        try:
            return await Run(session, kind).run()
        finally:
            await self.stop()

    async def session(self) -> Session:
        """An open session; `stop` ends it."""
        if self._session is None:
            rules, self.plan = compile_rules(self.policy.spec), Plan() if self.policy.spec.mode is Mode.PLAN else None
            store = InlineStore(self.path, scratch=self.plan is not None)
            stale = await store.open(layout_of(self.policy, rules))
            met = set(filter(None, (await store.meta(MET) or "").split(","))) - stale
            await store.commit(Commit(meta={MET: ",".join(sorted(met)), STALE: None}))
            systems = {
                spec.name: LateSystem(self.systems[spec.name], spec, rules.systems[spec.name].mapping.paths)
                for spec in self.policy.spec.systems
            }
            self._session = Session(self.policy, rules, systems, store, lambda: self.now, self.plan)
        return self._session

    async def stop(self) -> None:
        """The worker ends."""
        if self._session is not None:
            await self._session.store.close()
            self._session = None

    # --- what it remembers ---

    async def frozen(self) -> list[str]:
        """The fields that wait for a person."""
        store = await self._store()
        found = [conflict.field for conflict in await all_conflicts(store)]
        await self.stop()
        return found

    async def bases(self) -> dict[str, list[Any]]:
        """The old values that are kept of the record."""
        found = (await (await self._store()).recall([1]))[1].bases
        await self.stop()
        return {name: list(values.values()) for name, values in found.items()}

    async def audit(self) -> list[tuple[str, str, str, dict[str, Any]]]:
        """(kind, rule, winner, values) of every entry."""
        store = await self._store()
        rows = store._db.execute("SELECT kind, rule, winner, body FROM audit WHERE system = '' ORDER BY id").fetchall()
        await self.stop()
        return [(kind, rule, winner, orjson.loads(body)) for kind, rule, winner, body in rows]

    async def _store(self) -> Any:
        return (await self.session()).store
