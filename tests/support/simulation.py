"""A few systems that hold one record, and a worker that keeps them in agreement: what `decide` is proved on.

The worker here is the real one's rules without storage and network: it reads systems one by one, sends writes that are
conditional on what was seen, and remembers what the decisions say. Systems may be down, and answers may be lost.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from fairlead.engine.case import Case, Decision, Finding, Observation, Operation, Side, Write
from fairlead.engine.decide import Decider
from fairlead.engine.fingerprint import UNSEEN, WIDTH, Fingerprints, field, replaced
from fairlead.engine.rules import Rules, compile_rules
from fairlead.model.record import Record, Value
from fairlead.model.syncpolicy import SyncPolicySpec

START = datetime(2026, 1, 1, tzinfo=UTC)
PRINTS = Fingerprints(bytes(range(32)))
ROUNDS = 40
"""More than any record needs to come to rest."""


def spec_of(systems: Iterable[Any], named: Iterable[str] = ("x", "y"), **spec: Any) -> SyncPolicySpec:
    """A policy over text fields. A system is a name, or a dictionary with a name; the first is the system of record."""
    names = [system if isinstance(system, dict) else {"name": system} for system in systems]
    named = list(named)
    whole = {
        "entity": "Thing",
        "schema": {"type": "object", "properties": {name: {"type": "string"} for name in named}},
        "match": [],
        "systems": [{"connection": s["name"], "object": "thing", "fields": {f: f for f in named}, **s} for s in names],
        "systemOfRecord": names[0]["name"],
        **spec,
    }
    return msgspec.convert(whole, SyncPolicySpec)


class Desk:
    """Makes the parts of cases by hand: what is remembered, and what is read now."""

    def __init__(self, spec: SyncPolicySpec) -> None:
        self.rules: Rules = compile_rules(spec)
        self.decider = Decider(self.rules, PRINTS)

    def prints(self, system: str, values: dict[str, Value]) -> bytes:
        """Fingerprints as the worker's reader takes them: a mapped field that is absent is "no value"."""
        fields = self.rules.systems[system].mapping.fields
        columns = [[f.kind.print_bytes(values.get(f.name))] for f in fields]
        return PRINTS.fields(columns, [f.slot for f in fields], len(self.rules.fields))[0]

    def side(self, system: str, /, **values: Value) -> Side:
        """What is remembered of a record that was last seen with these values."""
        return Side(f"{system}-1", 1, self.prints(system, values))

    def agreed(self, /, **values: Value) -> dict[str, Side]:
        """Every system was last seen with these values."""
        return {system: self.side(system, **values) for system in self.rules.systems}

    def unseen(self, system: str) -> Side:
        """A record that is linked, of which no value was ever seen."""
        return Side(f"{system}-1", None, bytes(WIDTH * len(self.rules.fields)))

    @staticmethod
    def emptied(side: Side) -> Side:
        """A record that is remembered without what was seen of it."""
        return msgspec.structs.replace(side, prints=bytes(len(side.prints)))

    def read(self, system: str, /, at: datetime | None = None, **values: Value) -> Observation:
        """A record as it reads now."""
        whole = {f.name: values.get(f.name) for f in self.rules.systems[system].mapping.fields}
        return Observation(Record(f"{system}-1", whole, None, at), self.prints(system, whole), 2)

    def case(self, sides: dict[str, Side], observed: dict[str, Observation] | None = None, **more: Any) -> Case:
        """A case that is read at START."""
        return Case(sides=sides, observed=observed or {}, read_at=START, **more)

    def decide(self, sides: dict[str, Side], observed: dict[str, Observation] | None = None, **more: Any) -> Decision:
        """The decision on such a case."""
        return self.decider.decide(self.case(sides, observed, **more))

    def update(self, origin: str, /, at: datetime | None = None, rule: str = "", **values: Value) -> Write:
        """An undelivered update with the values of one system; `rule` is what decided, where it is no edit."""
        times = dict.fromkeys(values, at) if at else {}
        rules = dict.fromkeys(values, rule) if rule else {}
        return Write(Operation.UPDATE, values, dict.fromkeys(values, origin), times, rules=rules)

    def print_of(self, name: str, value: Value) -> bytes:
        """The fingerprint of a value of one field."""
        field = self.rules.fields[name].field
        return PRINTS.one(field.kind.print_bytes(value), field.slot)


class Copy(msgspec.Struct):
    """The record in one system."""

    values: dict[str, Value]
    modified: datetime
    archived: bool = False


class World:
    """Systems that hold one record, the memory of it, and everything that happened.

    Attributes:
        copies: system → its copy.
        sent: (system, write) of every write that was tried.
        findings: of every decision that was taken.
        edited: fields that a user ever changed.
        silenced: values that a user replaced knowingly: they were in the copy that was edited or deleted.
        told: values that a person can find in a finding or a conflict.
    """

    def __init__(self, spec: SyncPolicySpec) -> None:
        self.desk = Desk(spec)
        self.rules = self.desk.rules
        self.copies: dict[str, Copy] = {}
        self.sides: dict[str, Side] = {}
        self.away: frozenset[str] = frozenset()
        self.pending: dict[str, Write] = {}
        self.frozen: dict[str, dict[str, Value]] = {}
        self.bases: dict[str, dict[bytes, Value]] = {}
        self.unsure: set[str] = set()
        self.down: set[str] = set()
        self.sent: list[tuple[str, Write]] = []
        self.findings: list[Finding] = []
        self.edited: set[str] = set()
        self.deleted_by_user: set[str] = set()
        self.silenced: set[Value] = set()
        self.told: set[Value] = set()
        self.entered: set[Value] = set()
        self._ticks = 0

    @property
    def now(self) -> datetime:
        return START + timedelta(seconds=self._ticks)

    def _tick(self) -> datetime:
        self._ticks += 1
        return self.now

    # --- what users do ---

    def agree(self, **values: Value) -> None:
        """Every system has the record with these values, and all were seen."""
        for name, rule in self.rules.systems.items():
            mapped = {f.name: values.get(f.name) for f in rule.mapping.fields}
            self.copies[name] = Copy(mapped, self._tick())
            self.sides[name] = self.desk.side(name, **mapped)
            self.keep({name: mapped})
        self.entered |= {value for value in values.values() if value and not isinstance(value, list)}

    def create(self, system: str, values: dict[str, Value]) -> None:
        """A user adds the record, where it is not."""
        if system in self.copies:
            return
        mapped = {f.name: values.get(f.name) for f in self.rules.systems[system].mapping.fields}
        self.copies[system] = Copy(mapped, self._tick())
        self.edited |= mapped.keys()
        self.entered |= set(filter(None, mapped.values()))

    def edit(self, system: str, name: str, value: Value) -> None:
        """A user changes one field."""
        copy = self.copies.get(system)
        if copy is None or name not in copy.values or copy.values[name] == value:
            return
        self.silenced.add(copy.values[name])
        copy.values[name] = value
        copy.modified = self._tick()
        self.edited.add(name)
        if not self._coming(system, name) and not self._as_seen(system, name):
            self.silenced.discard(value)
        if value:
            self.entered.add(value)

    def put(self, system: str, name: str, value: Value) -> None:
        """A user changes one field, and no account is kept of it."""
        self.copies[system].values[name] = value
        self.copies[system].modified = self._tick()

    def _coming(self, system: str, name: str) -> bool:
        """Whether a field is as if something had arrived that was on its way: nobody can tell who entered just that."""
        write = self.pending.get(system)
        if write is None or name not in write.values:
            return False
        slot, wanted = self.rules.fields[name].field.slot, self.desk.prints(system, write.values)
        now = field(self.observe(system).prints, slot)
        return now == field(wanted, slot) or now in write.earlier.get(name, ())

    def _as_seen(self, system: str, name: str) -> bool:
        """Whether a field is back at what was last seen there: what went and came between two readings is no change."""
        side, slot = self.sides.get(system), self.rules.fields[name].field.slot
        return side is not None and field(side.prints, slot) == field(self.observe(system).prints, slot)

    def delete(self, system: str) -> None:
        """A user deletes the record in one system."""
        copy = self.copies.pop(system, None)
        if copy is not None:
            self.silenced |= set(copy.values.values())
            self.deleted_by_user.add(system)

    def unarchive(self, system: str) -> None:
        """A user lets an archived record take part again."""
        if system in self.copies:
            self.copies[system].archived = False

    # --- what the worker does ---

    def read(self, system: str) -> bool:
        """Takes in one system as it is now; False when that has to wait."""
        if system in self.down:
            return False
        copy, side = self.copies.get(system), self.sides.get(system)
        if copy is None:
            return side is None or self._gone(system)
        if copy.archived:
            self._leave(system)
            return True
        observation = self.observe(system)
        if side is not None:
            create_in = self._others(system) if system in self.away else frozenset[str]()
            same = field_wise(side.prints) == field_wise(observation.prints)
            return same or self._decide({system: observation}, create_in=create_in)
        if self.sides:
            return self._decide({system: observation}, create_in=self._others(system))
        self.away, self.frozen = frozenset(), {}
        self._apply(self._newcomer(system, observation))
        return True

    def _newcomer(self, system: str, observation: Observation) -> Decision:
        """What the worker makes of a record that only one system has (`worker.newcomers`)."""
        decider, record, sides = self.desk.decider, observation.record, {system: observation.side()}
        targets = decider.creatable(system, self._others(system))
        writes = {target: decider.creates(system, [record], target)[0] for target in targets}
        return Decision(sides=sides, writes=writes, bases=decider.bases.kept({}, sides, {system: record.values}))

    def _leave(self, system: str) -> None:
        """The record is archived there: it takes no part any more."""
        if system in self.sides and system not in self.away:
            self.sides = {**self.sides, system: self.desk.unseen(system)}
            self.away |= {system}
            self.keep({})
            self._delivered(system)

    def _gone(self, system: str) -> bool:
        return self._decide({}, deleted=frozenset({system}))

    def observe(self, system: str) -> Observation:
        """The record as it reads now in a system that has it."""
        copy = self.copies[system]
        return self.desk.read(system, at=copy.modified, **copy.values)

    def case(self, observed: dict[str, Observation], **more: Any) -> Case:
        """The case of the record."""
        return Case(
            sides=dict(self.sides),
            observed=observed,
            read_at=self.now,
            away=self.away,
            pending=dict(self.pending),
            frozen=frozenset(self.frozen),
            competing={name: frozenset(values) for name, values in self.frozen.items()},
            unsure=frozenset(self.unsure),
            bases=self.bases,
            **more,
        )

    def _others(self, system: str) -> frozenset[str]:
        if not self.rules.systems[system].reads:
            return frozenset()
        return frozenset(n for n, rule in self.rules.systems.items() if rule.creates and n != system)

    def _decide(self, observed: dict[str, Observation], **more: Any) -> bool:
        case = self.case(observed, **more)
        for _ in range(len(self.rules.systems) + 1):
            decision = self.desk.decider.decide(case)
            if not decision.needs:
                self._apply(decision)
                return True
            for system in decision.needs:
                assert system in case.sides
                if system in self.down:
                    return False
                if system in self.copies:
                    if self.copies[system].archived:
                        return False
                    case.observed = {**case.observed, system: self.observe(system)}
                else:
                    case.deleted |= {system}
        raise AssertionError("a decision asks for more than there is")

    def _apply(self, decision: Decision) -> None:
        self.unsure = {s for s in self.unsure if self.pending.get(s) == decision.writes.get(s)}
        self.sides, self.away, self.pending = decision.sides, decision.away, decision.writes
        self.bases = decision.bases
        self.frozen = {name: {**self.frozen.get(name, {}), **values} for name, values in decision.frozen.items()}
        self.findings += decision.findings
        for finding in decision.findings:
            self.told |= _said(finding.values)
        for values in decision.frozen.values():
            self.told |= _said(values)
        self._forget_if_nowhere()

    def _forget_if_nowhere(self) -> None:
        if not self.sides:
            self.away, self.pending, self.frozen = frozenset(), {}, {}

    def deliver(self, system: str, *, lost: bool = False) -> None:
        """Sends the undelivered write of a system; with `lost` it arrives, and its answer does not."""
        write = self.pending.get(system)
        if write is None or system in self.down:
            return
        self.sent.append((system, write))
        if lost:
            self.unsure.add(system)
        if write.ends:
            self._end(system, write, lost=lost)
        elif write.operation is Operation.CREATE:
            self._create(system, write, lost=lost)
        else:
            self._update(system, write, lost=lost)

    def _create(self, system: str, write: Write, *, lost: bool) -> None:
        if system in self.copies:
            self._decide({system: self.observe(system)})
            return
        mapped = {f.name: write.values.get(f.name) for f in self.rules.systems[system].mapping.fields}
        self.copies[system] = Copy(mapped, self._tick())
        if not lost:
            self.sides = {**self.sides, system: self.desk.side(system, **mapped)}
            self.keep({system: mapped})
            self._delivered(system)

    def _update(self, system: str, write: Write, *, lost: bool) -> None:
        copy = self.copies.get(system)
        if copy is None or copy.archived:
            self._decide({}, deleted=frozenset({system})) if copy is None else self._leave(system)
            return
        if all(copy.values[n] == v for n, v in write.values.items()):
            self._settle(system, write)
            return
        now, seen = self.observe(system).prints, self.sides[system].prints
        slots = {n: self.rules.fields[n].field.slot for n, v in write.values.items() if copy.values[n] != v}
        if any(field(now, slot) != field(seen, slot) for slot in slots.values()):
            self._decide({system: self.observe(system)})
            return
        copy.values |= write.values
        copy.modified = self._tick()
        if not lost:
            self._settle(system, write)

    def _settle(self, system: str, write: Write) -> None:
        side, now = self.sides[system], self.observe(system).prints
        slots = [self.rules.fields[name].field.slot for name in write.values]
        prints = replaced(side.prints, {slot: field(now, slot) for slot in slots}, len(self.rules.fields))
        self.sides = {**self.sides, system: msgspec.structs.replace(side, prints=prints)}
        self.keep({system: write.values})
        self._delivered(system)

    def _end(self, system: str, write: Write, *, lost: bool) -> None:
        copy = self.copies.get(system)
        active = copy is not None and not copy.archived
        if active and self.observe(system).prints != self.sides[system].prints:
            self._decide({system: self.observe(system)})
            return
        if copy is not None and (copy.archived or write.operation is Operation.ARCHIVE):
            copy.archived = True
            if not lost:
                self._leave(system)
            return
        self.copies.pop(system, None)
        if not lost:
            self.sides = {name: side for name, side in self.sides.items() if name != system}
            self._delivered(system)
            self._forget_if_nowhere()

    def keep(self, said: dict[str, dict[str, Value]]) -> None:
        """Keeps old values that are new: what systems say of fields, where the rules need it."""
        self.bases = self.desk.decider.bases.kept(self.bases, self.sides, said)

    def _delivered(self, system: str) -> None:
        self.unsure.discard(system)
        self.pending = {name: write for name, write in self.pending.items() if name != system}

    def rest(self) -> None:
        """Everything is up; the worker reads and delivers until nothing is left to do."""
        self.down = set()
        for _ in range(ROUNDS):
            before = (self.sides, self.pending, {name: dict(copy.values) for name, copy in self.copies.items()})
            for system in self.rules.systems:
                self.read(system)
            for system in list(self.pending):
                self.deliver(system)
            after = (self.sides, self.pending, {name: dict(copy.values) for name, copy in self.copies.items()})
            if not self.pending and before == after:
                return
        raise AssertionError(f"never comes to rest: {self.pending}")


def _said(values: dict[str, Value]) -> set[Value]:
    return {value for value in values.values() if value and not isinstance(value, list)}


def field_wise(prints: bytes) -> tuple[bytes, ...]:
    """The fingerprints one by one."""
    return tuple(prints[start : start + len(UNSEEN)] for start in range(0, len(prints), len(UNSEEN)))
