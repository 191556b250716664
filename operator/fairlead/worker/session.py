"""Session: one policy, its rules compiled and its systems open."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from fairlead.connectors.base import Capabilities, System
from fairlead.engine.case import Case, Observation, Write
from fairlead.engine.decide import Decider
from fairlead.engine.fingerprint import Fingerprints
from fairlead.engine.rules import Rules
from fairlead.model.syncpolicy import SyncPolicy
from fairlead.state.base import Layout, Recollection, Store, SystemLayout
from fairlead.transport.failure import Failure
from fairlead.worker.late import LateSystem
from fairlead.worker.planning import Plan, PlanningSystem
from fairlead.worker.reading import Reader

Clock = Callable[[], float]


class Session:
    """What a run works with. `clock` gives epoch seconds; with a `plan` nothing is written, only noted."""

    def __init__(
        self,
        policy: SyncPolicy,
        rules: Rules,
        systems: Mapping[str, LateSystem],
        store: Store,
        clock: Clock,
        plan: Plan | None = None,
    ) -> None:
        self.policy = policy
        self.rules = rules
        self._late = dict(systems)
        self.systems: dict[str, System] = {
            name: PlanningSystem(name, system, plan) if plan else system for name, system in systems.items()
        }
        self.planning = plan is not None
        """Whether writes are only noted."""
        self.known = False
        """Whether the dead letters of the state are known to be those of this policy."""
        self.store = store
        self.clock = clock
        self.prints = Fingerprints(store.key)
        self.decider = Decider(rules, self.prints)
        self.kinds = {name: rule.field.kind for name, rule in rules.fields.items()}
        self.keeps_values = policy.spec.state.encryption_key is not None
        """Whether values are sealed where they are kept, so that the audit may hold those of plain writes."""
        times = any(rule.compares_times for rule in rules.fields.values())
        self.compares_times = times
        """Whether some rule looks at when systems say that something changed."""
        self.readers = {n: Reader(rule, rules, self.prints, times=times) for n, rule in rules.systems.items()}

    def capabilities(self, system: str) -> Capabilities:
        """What the system's object can do."""
        return self.systems[system].capabilities

    async def open(self) -> dict[str, Failure]:
        """Opens every system; those that cannot be opened now, and why."""
        failures = {}
        for name, system in self._late.items():
            try:
                await system.open()
            except Failure as failure:
                failures[name] = failure
        return failures

    def creates_in(self, system: str) -> bool:
        """Whether records are to be created there. While a system is down its creates wait, so the answer is yes."""
        able = self.capabilities(system).create or not self._late[system].opened
        return self.rules.systems[system].creates and able

    def now(self) -> datetime:
        """The time, aware, in UTC."""
        return datetime.fromtimestamp(self.clock(), UTC)

    def case(
        self,
        memory: Recollection,
        observed: dict[str, Observation],
        *,
        deleted: frozenset[str] = frozenset(),
        create_in: frozenset[str] = frozenset(),
    ) -> Case:
        """The case of one record."""
        pending: dict[str, Write] = {system: item.write for system, item in memory.pending.items()}
        return Case(
            sides=memory.sides,
            observed=observed,
            read_at=self.now(),
            away=memory.away,
            pending=pending,
            frozen=frozenset(memory.frozen),
            competing={name: frozenset(conflict.values) for name, conflict in memory.frozen.items()},
            deleted=deleted,
            create_in=create_in,
            unsure=frozenset(system for system, item in memory.pending.items() if item.attempts),
            bases=memory.bases,
        )


def layout_of(policy: SyncPolicy, rules: Rules) -> Layout:
    """The layout of a policy's state."""
    systems = {}
    for spec in policy.spec.systems:
        mapping = rules.systems[spec.name].mapping
        fields = {
            f.name: f"{policy.spec.schema['properties'][f.name]} {mapping.field_declaration(f.name)}"
            for f in mapping.fields
        }
        systems[spec.name] = SystemLayout(f"{spec.connection}/{spec.object}/{spec.key or ''}", fields)
    return Layout(tuple(rules.fields), systems, tuple(name for name, rule in rules.fields.items() if rule.keeps_base))
