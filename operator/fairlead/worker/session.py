"""Session: one policy, its rules compiled and its systems open."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from fairlead.connectors.base import Capabilities, Page, System
from fairlead.engine.canonical import form_of
from fairlead.engine.case import Case, Observation, Side, Write
from fairlead.engine.decide import Decider
from fairlead.engine.fingerprint import Fingerprints
from fairlead.engine.rules import Rules
from fairlead.model.record import Value
from fairlead.model.syncpolicy import SyncPolicy
from fairlead.state.base import Recollection, Store
from fairlead.state.layout import BY_NAME, Layout, SystemLayout
from fairlead.transport.failure import Failure
from fairlead.worker.late import LateSystem
from fairlead.worker.planning import Plan, PlanningSystem
from fairlead.worker.reading import Reader, Reading
from fairlead.worker.references import References

if TYPE_CHECKING:
    from fairlead.transport.fence import Fence
    from fairlead.worker.sharing import Sharing

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
        self.probed = clock()
        """When a dead letter was last tried for no other reason than that it is one."""
        self.store = store
        self.clock = clock
        self.prints = Fingerprints(store.key, tuple(rules.fields))
        self.decider = Decider(rules, self.prints)
        self.kinds = {name: rule.field.kind for name, rule in rules.fields.items()}
        self.keeps_values = policy.spec.state.encryption_key is not None
        """Whether values are sealed where they are kept, so that the audit may hold those of plain writes."""
        times = any(rule.compares_times for rule in rules.fields.values())
        self.fence: Fence | None = None
        """Within which writes are sent; None where nobody shares the policy."""
        self.sharing: Sharing | None = None
        """Who else delivers what is decided here."""
        self.compares_times = times
        """Whether some rule looks at when systems say that something changed."""
        self.readers = {n: Reader(rule, rules, self.prints, times=times) for n, rule in rules.systems.items()}
        self.references = References(policy, rules, self.prints) if policy.references() else None
        """The fields that refer to records of other policies; None where there are none."""

    def capabilities(self, system: str) -> Capabilities:
        """What the system's object can do."""
        return self.systems[system].capabilities

    async def open(self, *names: str) -> dict[str, Failure]:
        """Opens these systems, or all; those that cannot be opened now, and why."""
        failures = {}
        for name in names or self._late:
            try:
                await self._late[name].open()
            except Failure as failure:
                failures[name] = failure
        return failures

    def creates_in(self, system: str) -> bool:
        """Whether records are to be created there. While a system is down its creates wait, so the answer is yes."""
        able = self.capabilities(system).create or not self._late[system].opened
        return self.rules.systems[system].creates and able

    async def read(
        self, system: str, page: Page, indices: Sequence[int] | None = None, rows: Sequence[int | None] | None = None
    ) -> Reading:
        """Observations of some records of a page, else of all; `rows` are their fingerprints, where they are known."""
        reader = self.readers[system]
        reading = reader.read(
            page, range(len(page.keys)) if indices is None else indices, reader.rows(page) if rows is None else rows
        )
        if self.references is not None:
            await self.references.resolve(system, reading)
        return reading

    async def excluded(self, system: str, page: Page, indices: Sequence[int]) -> list[tuple[str, dict[str, Value]]]:
        """(key, canonical values) of records that the filter excludes, as far as they can be read."""
        found = self.readers[system].excluded(page, indices)
        if self.references is not None and found:
            translation = await self.references.translation(system, [values for _, values in found])
            for _, values in found:
                self.references.translate(system, values, translation)
        return found

    def as_seen(self, system: str, observation: Observation, side: Side | None) -> Observation:
        """An observation beside what is remembered (see `References.as_seen`)."""
        return observation if self.references is None else self.references.as_seen(system, observation, side)

    def alike(self, system: str, other: str) -> bool:
        """Whether a record that is created in `other` as it is in `system` has the same fingerprints."""
        one, two = self.rules.systems[system], self.rules.systems[other]
        return self.references is None and one.readable == two.readable == two.writable

    def print_of(self, name: str, value: Value) -> bytes:
        """The fingerprint of a field's canonical value."""
        spec = self.rules.fields[name].field
        return self.prints.one(spec.kind.print_bytes(value), spec.slot)

    def now(self) -> datetime:
        """The time, aware, in UTC."""
        return datetime.fromtimestamp(self.clock(), UTC)

    def case(
        self,
        memory: Recollection,
        observed: dict[str, Observation],
        *,
        deleted: frozenset[str] = frozenset(),
        left: frozenset[str] = frozenset(),
        create_in: frozenset[str] = frozenset(),
    ) -> Case:
        """The case of one record."""
        if self.references is not None:
            observed = {s: self.references.as_seen(s, o, memory.sides.get(s)) for s, o in observed.items()}
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
            left=left,
            create_in=create_in,
            unsure=frozenset(system for system, item in memory.pending.items() if item.attempts),
            bases=memory.bases,
        )


def layout_of(policy: SyncPolicy, rules: Rules) -> Layout:
    """The layout of a policy's state."""
    systems = {}
    properties = policy.spec.schema["properties"]
    parents = {name: f" references {parent}" for name, parent in policy.references().items()}
    for spec in policy.spec.systems:
        mapping = rules.systems[spec.name].mapping
        fields = {
            f.name: f"{form_of(properties[f.name])} {mapping.field_declaration(f.name)}{parents.get(f.name, '')}"
            for f in mapping.fields
        }
        identity = f"{spec.connection}/{spec.object}/{spec.key or ''}"
        systems[spec.name] = SystemLayout(identity, fields, f"{rules.contract.declaration} {mapping.declaration}")
    kept = tuple(name for name, rule in rules.fields.items() if rule.keeps_base)
    return Layout(tuple(rules.fields), systems, kept, salted=BY_NAME, match=rules.match.declared)
