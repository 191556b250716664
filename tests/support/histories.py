"""Histories: what users, systems and the worker did, in order, as plain data; and the real worker replaying them.

The worker is the real one (`Run`, `Intake`, `Delivery`, the engine, the SQLite store) over systems in memory. Whatever
it awaits is a *moment*, numbered from 1 in each run: a user may act there, or the worker may die there, for good.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import msgspec

from fairlead.connectors.base import NativeWrite, Operation
from fairlead.engine.canonical import is_empty
from fairlead.engine.case import Case, Decision, FindingKind
from fairlead.engine.rules import compile_rules
from fairlead.model.syncpolicy import ConflictRule, SyncPolicy
from fairlead.state.base import Commit, Recollection, Store
from fairlead.state.history import RunRecord
from fairlead.state.sqlite import SQLiteStore
from fairlead.testing.memory_system import Fault, MemorySystem, Traits
from fairlead.testing.store.sample import all_conflicts
from fairlead.transport.failure import Transient
from fairlead.worker.guard import limit_of
from fairlead.worker.late import LateSystem
from fairlead.worker.planning import Plan
from fairlead.worker.run import Kind, Run, RunReport
from fairlead.worker.session import Session, layout_of
from support.persons import Persons

P = ParamSpec("P")
T = TypeVar("T")

START = 1_800_000_000.0
FIELDS = ("m", "x", "y")
"""`m` is the match field: it names the thing, and is the same in every system."""

KINDS: dict[str, dict[str, Any]] = {
    "text": {"type": "string"},
    "number": {"type": "integer"},
    "tags": {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
}
"""What `y` may be; the others are texts."""

OUT = "out"
"""A value of `x` that a system's filter may exclude."""

ARCHIVED = "archived"
"""What `state` says of an archived record, where a system archives."""

Act = tuple[Any, ...]
"""One of
("add", system, thing, filled fields): a user creates a record, where there is none
("edit", system, thing, field, "new" | "back" | "out" | "" | None): a user changes a field
("remove", system, thing): a user deletes a record
("archive", system, thing), ("unarchive", system, thing): a user archives a record, or changes it back
("lag", system), ("late", system, backwards): the feed stops telling, and tells what it held back
("down", system), ("up", system)
("wait",): an hour goes by
("reword",): the policy says the same in other words, and a new worker goes by it
("link", system, thing, system, thing), ("split", system, thing, create): a person says which records are the same
("resolve", number, "policy" | "value" | system), ("retry", number), ("discard", number): of a conflict or dead letter
("undo", back, approved): a person undoes the run that was so many runs ago
("run", Doing): the worker runs
("rest",): it runs undisturbed until nothing is left to do
"""


ASKED = ("link", "split", "resolve", "retry", "discard", "undo")
"""The acts that are a person's word."""


class Doing(msgspec.Struct, frozen=True, repr_omit_defaults=True):
    """One run.

    Attributes:
        kind: what it reads.
        meanwhile: moment → what users do then.
        faults: (system, number of its call) → what goes wrong.
        crash: the moment at which the worker dies.
    """

    kind: Kind = Kind.CHANGES
    meanwhile: dict[int, tuple[Act, ...]] = {}
    faults: dict[tuple[str, int], Fault] = {}
    crash: int = 0


class Setting(msgspec.Struct, frozen=True, repr_omit_defaults=True):
    """Systems and the policy over them. `systems` are as in a policy, the first is the system of record."""

    systems: tuple[dict[str, Any], ...]
    traits: dict[str, Traits] = {}
    lossy: dict[str, str] = {}
    """System → "upper" or "cut"."""
    spec: dict[str, Any] = {}
    kind: str = "text"
    """One of KINDS."""


class History(msgspec.Struct, frozen=True):
    """A setting, and what happened in it."""

    setting: Setting
    acts: tuple[Act, ...]


class Died(BaseException):
    """The process is gone."""


class InlineStore(SQLiteStore):
    """The SQLite store without its thread, telling the moments before and after each transaction."""

    def __init__(self, path: Path, moment: Callable[[str], None], *, scratch: bool = False) -> None:
        super().__init__(path, scratch=scratch)
        self._moment = moment

    async def _run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return self._guarded(call, *args, **kwargs)

    async def commit(self, commit: Commit) -> None:
        self._moment("commit")
        await super().commit(commit)
        self._moment("committed")

    async def clear_ambiguity(self) -> None:
        self._moment("commit")
        await super().clear_ambiguity()
        self._moment("committed")

    async def record_run(self, run: RunRecord) -> None:
        self._moment("commit")
        await super().record_run(run)
        self._moment("committed")


_LOSSY: dict[str, Callable[[str, object], object]] = {
    "": lambda _, value: value,
    "upper": lambda _, value: value.upper() if isinstance(value, str) else value,
    "cut": lambda path, value: value[:5] if isinstance(value, str) and path != "state" else value,
}


def core(value: object) -> object:
    """What of a value survives every lossy system."""
    if isinstance(value, list):
        return tuple(sorted(map(core, value), key=str))
    return value.lower().split("-")[0] if isinstance(value, str) else value


def items(value: object) -> set[object]:
    """What must not be lost of a value: of tags, each."""
    return {core(tag) for tag in value} if isinstance(value, list) else {core(value)}


def parts(value: object) -> set[object]:
    """A value, and what must not be lost of it."""
    return {core(value), *items(value)}


def policy_of(setting: Setting, *, reworded: bool = False) -> SyncPolicy:
    """The policy of a setting.

    Where it is reworded, every text stands elsewhere or is another one, of which nothing follows for any record here:
    other match keys, fields in another order, a bound in the contract, and filters that exclude the same.
    """
    systems = [
        {"connection": s["name"], "object": "things", "fields": {f: f for f in FIELDS}, **s} for s in setting.systems
    ]
    properties = {**dict.fromkeys(FIELDS, KINDS["text"]), "y": KINDS[setting.kind]}
    normalize = ["Lowercase"]
    if reworded:
        properties = dict(reversed(properties.items()))
        properties["x"] = {**properties["x"], "maxLength": 1000}
        systems = [{**s, **({"filter": f"({s['filter']})"} if "filter" in s else {})} for s in systems]
        normalize = ["Trim", *normalize]
    spec = {
        "entity": "Thing",
        "schema": {"type": "object", "properties": properties},
        "match": [{"fields": ["m"], "normalize": normalize}],
        "systemOfRecord": systems[0]["name"],
        "deletes": {"guard": {"maxRecords": 100, "maxPercent": 100}},
        **setting.spec,
        "systems": systems,
    }
    return msgspec.convert({"metadata": {"name": "things", "uid": "u"}, "spec": spec}, SyncPolicy)


class Replay:
    """Plays acts, one by one, and remembers what must not be forgotten.

    Attributes:
        entered: values, and of tags each, that users ever entered.
        silenced: those that a user replaced or deleted knowingly.
        persons: what was asked of the worker.
        typed: (system, value) of what was entered or brought back there, and when.
        raced: (system, thing) that a user created while the worker ran.
        skipped: systems of whose feed a page may not have come.
        echoes: (system, field, value) of changes that no user made.
        over_guard: runs that deleted or archived more than the guard allows.
        reports: of every run that ended.
        findings: the audit, when the worker last stopped.
    """

    def __init__(self, setting: Setting, path: Path) -> None:
        self.setting = setting
        self.reworded = False
        self.policy = policy_of(setting)
        self.rules = compile_rules(self.policy.spec)
        self.path = path
        self.now = START
        self.systems = {
            s["name"]: MemorySystem(
                "things",
                setting.traits.get(s["name"], Traits()),
                clock=lambda: datetime.fromtimestamp(self.now, UTC),
                stored=_LOSSY[setting.lossy.get(s["name"], "")],
            )
            for s in setting.systems
        }
        self.session: Session | None = None
        self.persons = Persons(path, self.rules, lambda: self.now, self.key)
        self.entered: set[object] = set()
        self.silenced: set[object] = set()
        self.raced: set[tuple[str, str]] = set()
        self.skipped: set[str] = set()
        self.typed: dict[tuple[str, object], set[float]] = {}
        self.echoes: list[tuple[str, str, object]] = []
        self.over_guard: list[tuple[int, int]] = []
        self.reports: list[RunReport] = []
        self.findings: list[dict[str, Any]] = []
        self.crashes = 0
        self._doing = Doing()
        self._count = 0
        self._dead = False
        self._running = False
        self._values = 0
        self._past: dict[tuple[str, str], list[object]] = {}
        for system in self.systems.values():
            system.moment = self._moment

    # --- moments ---

    def _moment(self, _: str) -> None:
        """What happens at an await of the worker: users act, or the worker dies and stays dead."""
        if self._dead:
            raise Died
        self._count += 1
        for act in self._doing.meanwhile.get(self._count, ()):
            self._user(act)
        if self._count == self._doing.crash:
            self._dead = True
            raise Died

    @property
    def moments(self) -> int:
        """How many moments the last run had."""
        return self._count

    # --- users ---

    def _user(self, act: Act) -> None:
        word, *rest = act
        if rest and isinstance(rest[0], str) and rest[0] not in self.systems:
            return
        self.now += 1
        if word in ASKED:
            self.persons.act(word, *rest)
        else:
            getattr(self, f"_{word}")(*rest)

    def key(self, system: str, thing: str) -> str | None:
        """The record of a thing in a system."""
        keys = [k for k, v in self.systems[system].records.items() if core(v.get("m")) == thing]
        return keys[0] if keys else None

    def _value(self, system: str, field: str, before: object = None) -> object:
        """A value that nobody entered before. Every other time the first tag that was there goes for a new one."""
        self._values += 1
        text = f"{field}{self._values}-abc"
        value: object = self._values if self._kind(field) == "number" else text
        self.entered.add(core(value))
        if self._kind(field) == "tags":
            kept = before if isinstance(before, list) else []
            value = [*kept[self._values % 2 :], text]
        self._type(system, value)
        return value

    def _type(self, system: str, value: object) -> None:
        self.typed.setdefault((system, core(value)), set()).add(self.now)

    def _kind(self, field: str) -> str:
        return self.setting.kind if field == "y" else "text"

    def _add(self, system: str, thing: str, filled: Iterable[str]) -> None:
        if self.key(system, thing) is None:
            values = {name: self._value(system, name) if name in filled else None for name in self._mapped(system)}
            self.systems[system].add({**values, "m": thing})
            self._type(system, thing)
            if self._running:
                self.raced.add((system, thing))

    def _mapped(self, system: str) -> list[str]:
        (spec,) = (s for s in self.policy.spec.systems if s.name == system)
        return [name for name in FIELDS if name != "m" and name in spec.fields]

    def _edit(self, system: str, thing: str, field: str, kind: str | None) -> None:
        key = self.key(system, thing)
        if key is None or field not in self._mapped(system):
            return
        before = self.systems[system].records[key].get(field)
        past = self._past.setdefault((thing, field), [])
        if kind == "back":
            value = past[-1] if past else None
        elif kind == "new" or (kind == OUT and self._kind(field) != "text"):
            value = self._value(system, field, before)
        else:
            value = {"text": kind, "number": None, "tags": []}[self._kind(field)]
        if value == before:
            return
        self._type(system, value)
        past.append(before)
        self.silenced |= parts(before) - parts(value)
        if kind != "back":  # a run cannot see that a value went and came
            self.silenced -= parts(value) - parts(before)
        self.systems[system].edit(key, {field: value})

    def _remove(self, system: str, thing: str) -> None:
        key = self.key(system, thing)
        if key is None:
            return
        self.silenced |= {part for value in self.systems[system].records[key].values() for part in parts(value)}
        self.systems[system].remove(key)

    def _archive(self, system: str, thing: str) -> None:
        key = self.key(system, thing)
        if key is not None:
            self.systems[system].edit(key, {"state": ARCHIVED})

    def _unarchive(self, system: str, thing: str) -> None:
        key = self.key(system, thing)
        if key is not None and self.systems[system].records[key].get("state") is not None:
            self.systems[system].edit(key, {"state": None})

    def _lag(self, system: str) -> None:
        self.systems[system].lagging = True

    def _late(self, system: str, backwards: bool) -> None:
        self.systems[system].catch_up(backwards=backwards)

    def _down(self, system: str) -> None:
        self.systems[system].down = Transient(f"{system} is down")

    def _up(self, system: str) -> None:
        self.systems[system].down = None

    def _wait(self) -> None:
        self.now += 3600

    # --- the worker ---

    async def play(self, acts: Iterable[Act]) -> Replay:
        """Plays acts in order."""
        for act in acts:
            if act[0] == "run":
                await self.run(act[1])
            elif act[0] == "rest":
                await self.rest()
            elif act[0] == "reword":
                await self._reword()
            else:
                self._user(act)
        return self

    async def run(self, doing: Doing, *, approved: str = "") -> RunReport | None:
        """One run; None when the worker died in it. The next one is a new worker's then."""
        self.now += 1
        self._doing, self._count = doing, 0
        before = {name: len(system.writes) for name, system in self.systems.items()}
        for name, system in self.systems.items():
            system.calls = 0
            system.faults = {n: fault for (s, n), fault in doing.faults.items() if s == name}
        self.skipped |= {system for (system, _), fault in doing.faults.items() if fault is Fault.SKIPPED}
        report, carried = None, 0
        self._running = True
        try:
            session = await self._open()
            carried = await self._released(session.store)
            run = Run(session, doing.kind, approved=approved)
            self.persons.runs.append(run.id)
            report = await run.run()
            self.reports.append(report)
        except Died:
            pass
        except BaseExceptionGroup as group:
            if group.split(Died)[1] is not None:
                raise
        self._doing, self._running = Doing(), False
        if self._dead:
            self.crashes += 1
            await self.stop()
        self._count_deletes(before, carried, approved)
        return report

    async def _reword(self) -> None:
        await self.stop()
        self.reworded = not self.reworded
        self.policy = policy_of(self.setting, reworded=self.reworded)
        self.rules = self.persons.rules = compile_rules(self.policy.spec)

    async def plan(self, kind: Kind, *, approved: str = "") -> Plan:
        """What such a run would write by now, once a person approved it."""
        plan = Plan()
        session = await self._made(plan)
        report = await Run(session, kind, approved=approved).run()
        assert not report.failures, report.message
        for system in session.systems.values():
            await system.close()
        await session.store.close()
        return await self.plan(kind, approved=report.halt.plan) if report.halt and not approved else plan

    async def _open(self) -> Session:
        if self.session is None:
            self.session = await self._made()
            self._watch(self.session)
        return self.session

    async def _made(self, plan: Plan | None = None) -> Session:
        store = InlineStore(self.path, self._moment, scratch=plan is not None)
        await store.open(layout_of(self.policy, self.rules))
        systems = {
            spec.name: LateSystem(self.systems[spec.name], spec, self.rules.systems[spec.name].mapping.paths)
            for spec in self.policy.spec.systems
        }
        return Session(self.policy, self.rules, systems, store, lambda: self.now, plan)

    def _watch(self, session: Session) -> None:
        """Notes what the engine takes for a change although no user made it."""
        decide = session.decider.decide

        def watched(case: Case) -> Decision:
            for name in session.rules.fields:
                for view in session.decider._views(case, name):
                    typed = is_empty(view.value) or (view.system, core(view.value)) in self.typed
                    if (view.changed or view.strayed) and not typed and not self.setting.lossy.get(view.system):
                        self.echoes.append((view.system, name, view.value))
            return decide(case)

        session.decider.decide = watched

    async def stop(self) -> None:
        """The worker's process ends, however it did."""
        self._dead = False
        if self.session is not None:
            assert isinstance(self.session.store, InlineStore)
            self.findings = await audited(self.session.store)
            await self.session.store.close()
            self.session = None

    def _count_deletes(self, before: dict[str, int], carried: int, approved: str) -> None:
        """Deletes and archivings of a run against the guard; what an earlier run had released does not count again."""
        deleted = 0
        for name, system in self.systems.items():
            deleted += sum(_ends(write) for write in system.writes[before[name] :])
        if not approved:
            known = max(len(system.records) for system in self.systems.values()) + deleted
            limit = limit_of(self.policy.spec.deletes.guard, known)
            if deleted > limit + carried + self.persons.deletes:
                self.over_guard.append((deleted, limit))

    async def _released(self, store: Store) -> int:
        """Deletes and archivings that were released, and are under way."""
        sent = [intent.write for batch in (await store.journal()).values() for intent in batch]
        failed = [item.write for item in await store.undelivered(due=self.now + 1e6, dead=True)]
        return sum(write.ends for write in (*sent, *failed))

    # --- what came of it ---

    def standing(self) -> set[object]:
        """Every value that stands in some system."""
        rows = [row for system in self.systems.values() for row in system.records.values()]
        return {part for row in rows for value in row.values() for part in parts(value)}

    def writes(self) -> list[tuple[str, NativeWrite]]:
        """(system, write) of every write that was done."""
        return [(name, write) for name, system in self.systems.items() for write in system.writes]

    async def told(self) -> set[object]:
        """Values that a person finds in the audit, in conflicts and in undelivered writes.

        Not in the entry of a merge, which is to lose nothing; but of what is added up, the sum stands.
        """
        store = (await self._open()).store
        assert isinstance(store, InlineStore)
        waiting = [*await store.undelivered(due=self.now, dead=True), *await store.undelivered(held=True)]
        found = [
            *(entry["values"] for entry in await audited(store) if not self._merges(entry)),
            *(conflict.values for conflict in await all_conflicts(store)),
            *(item.write.values for item in waiting),
        ]
        return {part for values in found for value in values.values() for part in parts(value)}

    def _merges(self, entry: dict[str, Any]) -> bool:
        merged = entry["kind"] == FindingKind.CONFLICT and entry["rule"] == f"onConflict: {ConflictRule.MERGE.value}"
        return merged and self._kind(entry["field"]) != "number"

    async def memories(self) -> list[Recollection]:
        """All that is remembered of every record."""
        store = (await self._open()).store
        records = set()
        for name, system in self.systems.items():
            known = await store.lookup(name, list(system.records))
            records |= {record for record in known.records if record is not None}
        return list((await store.recall(sorted(records))).values())

    async def rest(self, *, approve: bool = True, kinds: Sequence[Kind] = (Kind.CHANGES, Kind.RESYNC)) -> int:
        """Everything is up and nobody acts; the worker runs until such runs have nothing to do. How often it ran."""
        for system in self.systems.values():
            system.down = None
            system.catch_up()
        for count in range(1, LIMIT + 1):
            before = await self.picture()
            for kind in kinds:
                report = await self._undisturbed(kind)
                if report.halt is not None and approve:
                    await self._undisturbed(kind, report.halt.plan)
            if await self.picture() == before:
                return count
        raise AssertionError("never comes to rest")

    async def _undisturbed(self, kind: Kind, approved: str = "") -> RunReport:
        self._wait()
        report = await self.run(Doing(kind), approved=approved)
        assert report is not None
        assert not report.failures, report.message
        return report

    async def picture(self) -> Any:
        """All records of all systems, what waits, and what was told; equal when nothing happened."""
        store = (await self._open()).store
        assert isinstance(store, InlineStore)
        rows = {name: system.records for name, system in self.systems.items()}
        versions = {name: len(system.writes) for name, system in self.systems.items()}
        return rows, versions, msgspec.structs.replace(await store.counts()), len(await audited(store))


def _ends(write: NativeWrite) -> bool:
    archives = write.operation is Operation.UPDATE and write.values.get("state") == ARCHIVED
    return archives or write.operation is Operation.DELETE


LIMIT = 8
"""Rounds of a changes run and a resync after which everything must be at rest."""


async def audited(store: InlineStore) -> list[dict[str, Any]]:
    """Every entry of the audit."""
    rows = store._db.execute("SELECT record, field, kind, rule, winner, body FROM audit WHERE system = '' ORDER BY id")
    names = ("record", "field", "kind", "rule", "winner")
    return [{**dict(zip(names, row, strict=False)), "values": msgspec.json.decode(row[5])} for row in rows]


def replayed(history: History, path: Path, then: Callable[[Replay], Any]) -> Replay:
    """Replays a history in an event loop of its own, and then does something more, still in it."""
    replay = Replay(history.setting, path)

    async def play() -> None:
        try:
            await replay.play(history.acts)
            await then(replay)
        finally:
            await replay.stop()

    try:
        asyncio.run(play())
    finally:
        for file in path.parent.glob(f"{path.name}*"):
            file.unlink()
    return replay
