"""Conflicts at a person's request: a value is chosen, and goes wherever it is not.

The choice is written like any decision: where a system changed meanwhile, the write is refused there and the record is
decided anew, so that nothing is lost.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec

from fairlead.engine.arbiter import CHOSEN
from fairlead.engine.canonical import ContractError, Kind
from fairlead.engine.case import Choice, Observation
from fairlead.engine.fields import empty_prints
from fairlead.engine.fingerprint import UNSEEN, field
from fairlead.engine.rules import FieldRule, Rules
from fairlead.model.record import Value
from fairlead.state.base import Conflict, Recollection
from fairlead.state.requests import Request, ResolveConflicts, mark_of
from fairlead.transport.failure import Failure
from fairlead.worker.batch import Batch
from fairlead.worker.handling import Handled, NotPossible, Scope, named


async def resolve(scope: Scope, request: Request, demand: ResolveConflicts, batch: Batch) -> Handled:
    """Decides fields that wait for a person."""
    handled = Handled()
    memories = await scope.store.recall(sorted({record for record, _, _ in demand.conflicts}))
    resolving = Resolving(scope, request, demand)
    await resolving.read(memories)
    choices: dict[int, list[Choice]] = {}
    for record, name, mark in demand.conflicts:
        try:
            choices.setdefault(record, []).append(resolving.choice(memories.get(record), name, mark))
        except NotPossible as why:
            where = named(memories[record]) if record in memories else "a record that is gone"
            handled.refused.append(f"{name} of {where}: {why}")
    for record, its in choices.items():
        if not its:
            continue
        memory = memories[record]
        decision = scope.session.decider.resolve(scope.session.case(memory, {}), its)
        if decision.needs:
            handled.refused.append(f"{named(memory)}: it is on its way to another system; try again after the next run")
            continue
        scope.intake.apply(memory, decision, batch)
        handled.done += len(its)
    return handled


class Resolving:
    """Chooses the values of one request."""

    def __init__(self, scope: Scope, request: Request, demand: ResolveConflicts) -> None:
        self._scope = scope
        self._rules = scope.session.rules
        self._by = request.by
        self._demand = demand
        self._read: dict[tuple[int, str], Observation] = {}
        self._failures: dict[str, Failure] = {}

    async def read(self, memories: Mapping[int, Recollection]) -> None:
        """Reads records where they say what is not known: it does not compete, and is kept, or may be replaced."""
        wanted: dict[str, dict[str, int]] = {}
        for record, name, _ in self._demand.conflicts:
            memory = memories.get(record)
            conflict = memory.frozen.get(name) if memory else None
            if memory and conflict and name in self._rules.fields:
                kept = {self._kept(name)} & memory.sides.keys() - conflict.values.keys()
                for system in kept.union(self._replaced(memory, conflict)):
                    wanted.setdefault(system, {})[memory.sides[system].key] = record
        for system, records in wanted.items():
            try:
                page = await self._scope.session.systems[system].fetch(list(records))
            except Failure as failure:
                self._failures[system] = failure
                continue
            for observation in (await self._scope.session.read(system, page)).observed.values():
                self._read[records[observation.record.key], system] = observation

    def choice(self, memory: Recollection | None, name: str, mark: str) -> Choice:
        """What is chosen for one field.

        Raises:
            NotPossible: nothing is.
        """
        conflict = memory.frozen.get(name) if memory else None
        if memory is None or conflict is None:
            raise NotPossible("there is no such conflict any more")
        if mark_of(conflict.values) != mark:
            raise NotPossible("the values that compete changed meanwhile: look at them again")
        if any(item.write.ends for item in memory.pending.values()):
            raise NotPossible("the record is about to be deleted or archived")
        if name not in self._rules.fields:
            raise NotPossible("the policy has no such field any more")
        kept = self._kept(name)
        if self._demand.owner and not kept:
            raise NotPossible("its system of record depends on the record: name the system whose value to keep")
        if kept:
            how = f"the system of record ({kept})" if self._demand.owner else f"keep {kept}"
            value = conflict.values[kept] if kept in conflict.values else self._value_in(kept, memory, name)
        elif self._refers(name) and self._demand.value.strip() != "null":
            raise NotPossible("a reference has another id in each system: name the system whose value to keep")
        else:
            how, value = "a value given", checked_value(self._rules, name, self._demand.value)
        self._check_writable(memory, name, value)
        replaced = {s: self._value_in(s, memory, name) for s in self._replaced(memory, conflict) if s != kept}
        return Choice(name, kept or CHOSEN, value, {**replaced, **conflict.values}, f"{self._by}: {how}")

    def _replaced(self, memory: Recollection, conflict: Conflict) -> list[str]:
        """The systems that say something which none of those says that compete: nothing else would tell of it."""
        rule, session = self._rules.fields[conflict.field], self._scope.session
        known = {session.print_of(conflict.field, value) for value in conflict.values.values()}
        known |= {UNSEEN, *empty_prints(rule, session.prints)}
        others = memory.sides.keys() - conflict.values.keys() - memory.away
        return sorted(s for s in others if field(memory.sides[s].prints, rule.field.slot) not in known)

    def _kept(self, name: str) -> str:
        """The system whose value stands; empty where a value is given, or the owner depends on the record."""
        if not self._demand.owner:
            return self._demand.keep
        rule = self._rules.fields.get(name)
        return rule.system_of_record if rule and rule.condition is None else ""

    def _value_in(self, system: str, memory: Recollection, name: str) -> Value:
        """What a system says that does not compete: it is as it was last seen, or the next run decides anew."""
        if system in self._failures:
            raise NotPossible(f"{system} cannot be read now: {self._failures[system].message}")
        observation = self._read.get((memory.record, system))
        if observation is None or name not in observation.record.values:
            raise NotPossible(f"{system} has no such field, or not this record")
        slot = self._rules.fields[name].field.slot
        if field(observation.prints, slot) != field(memory.sides[system].prints, slot):
            raise NotPossible(f"{system} changed meanwhile: look at it again after the next run")
        return observation.record.values[name]

    def _refers(self, name: str) -> bool:
        references = self._scope.session.references
        return references is not None and name in references.parents

    def _check_writable(self, memory: Recollection, name: str, value: Value) -> None:
        for system in memory.sides:
            rule = self._rules.systems[system]
            if name in rule.writable and not self._refers(name):
                try:
                    rule.mapping.write({name: value})
                except ContractError as error:
                    raise NotPossible(f"it cannot be written to {system}: {error}") from None


def checked_value(rules: Rules, name: str, text: str) -> Value:
    """A value as a person gave it, in its canonical form.

    Raises:
        NotPossible: it is of another type than the field's, or else breaks the schema.
    """
    rule: FieldRule = rules.fields[name]
    kind = rule.field.kind
    try:
        value = kind.made(_parsed(text))
    except ContractError as error:
        raise NotPossible(f"the value {error}: write for example --value {shlex.quote(_example(kind))}") from None
    broken = rule.contract.field_error(name, value)
    if broken:
        raise NotPossible(f"the value {broken}")
    return value


_EXAMPLES = {
    "number": "12.5",
    "integer": "5",
    "boolean": "true",
    "object": '{"a": 1}',
    "date": '"2026-01-31"',
    "date-time": '"2026-01-31T12:00:00Z"',
    "binary": '"YQ=="',
}
"""Kind → a value of it, as JSON; of any other kind, it may be a text."""


def _example(kind: Kind) -> str:
    return f"[{_example(kind.item)}]" if kind.item is not None else _EXAMPLES.get(kind.name, '"5"')


_EXACT = msgspec.json.Decoder(float_hook=Decimal)


def _parsed(text: str) -> Any:
    try:
        return _EXACT.decode(text)
    except msgspec.DecodeError:
        raise NotPossible("the value is no JSON; a text stands in quotes, as in '\"Ada\"'") from None
