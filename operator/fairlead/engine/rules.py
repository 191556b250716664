"""A SyncPolicy, compiled: what the engine decides by."""

from __future__ import annotations

import msgspec

from fairlead.engine.canonical import kind_of
from fairlead.engine.contract import Contract
from fairlead.engine.expression import Expression
from fairlead.engine.mapping import Field, Mapping
from fairlead.engine.match import MatchRules
from fairlead.engine.merge import Merge, merge_of
from fairlead.model.syncpolicy import (
    ConflictRule,
    Deletes,
    Edits,
    FieldRuleSpec,
    FirstSync,
    MergeMode,
    OnLeave,
    Propagate,
    SyncPolicySpec,
    SystemSpec,
    WhenEmpty,
)


class FieldRule(msgspec.Struct, frozen=True):
    """Everything that decides about one field; nothing is left to a default here.

    Attributes:
        priority: every system, most important first.
        contract: what a value that a rule makes must keep.
        merge: for onConflict Merge; None for what cannot be merged.
        expression: for onConflict Expression.
        condition: where the owner depends on the record, the rule that holds where it is met.
    """

    field: Field
    system_of_record: str
    on_conflict: ConflictRule
    edits: Edits
    when_empty: WhenEmpty
    priority: tuple[str, ...]
    contract: Contract
    merge: Merge | None = None
    merge_mode: MergeMode | None = None
    expression: Expression | None = None
    condition: Condition | None = None

    @property
    def keeps_base(self) -> bool:
        """Whether the rule needs values as they were before they were edited."""
        if self.on_conflict is ConflictRule.MERGE:
            return self.merge is not None
        return self.expression is not None and "base" in self.expression.variables

    @property
    def compares_times(self) -> bool:
        """Whether the rule looks at when systems say that something changed."""
        if self.on_conflict is ConflictRule.LATEST_WINS:
            return True
        return self.expression is not None and "modified" in self.expression.variables


class Condition(msgspec.Struct, frozen=True):
    """`when` is an expression over `record`, `then` the rule of the field where it is true."""

    when: Expression
    then: FieldRule


class SystemRule(msgspec.Struct, frozen=True):
    """What a policy may do with one system."""

    name: str
    reads: bool
    writes: bool
    creates: bool
    deletes: bool
    on_leave: OnLeave
    mapping: Mapping
    readable: frozenset[str]
    """Fields that the system has."""
    writable: frozenset[str]
    """Fields that may be written there."""
    dated: frozenset[str]
    """Fields whose edits are as new as the whole record there says, where rules look at that: a write makes it new."""

    def maps(self, field: str) -> bool:
        """Whether the system has the field."""
        return field in self.readable


class Rules(msgspec.Struct, frozen=True):
    """One policy's rules. Fields and systems keep their declared order; slots are positions in `fields`."""

    fields: dict[str, FieldRule]
    systems: dict[str, SystemRule]
    system_of_record: str
    priority: tuple[str, ...]
    first_sync: FirstSync
    deletes: Deletes
    match: MatchRules
    contract: Contract

    def deletes_spread_from(self, system: str) -> bool:
        """Whether a delete in `system` is to be repeated elsewhere."""
        propagate = self.deletes.propagate
        return propagate is Propagate.FROM_ANY or (
            propagate is Propagate.FROM_SYSTEM_OF_RECORD and system == self.system_of_record
        )


def compile_rules(spec: SyncPolicySpec) -> Rules:
    """The rules of a valid spec (`model.check` finds what is invalid).

    Raises:
        ValueError: an expression or mapping does not compile.
    """
    properties = spec.schema.get("properties", {})
    fields = {name: Field(name, slot, kind_of(schema)) for slot, (name, schema) in enumerate(properties.items())}
    priority = _order(spec.system_of_record, spec.priority, spec.systems)
    contract = Contract(spec.schema)
    rules = {name: _field_rule(field, spec, contract) for name, field in fields.items()}
    return Rules(
        fields=rules,
        systems={system.name: _system_rule(system, rules) for system in spec.systems},
        system_of_record=spec.system_of_record,
        priority=priority,
        first_sync=spec.first_sync,
        deletes=spec.deletes,
        match=MatchRules(spec.match, fields),
        contract=contract,
    )


def _order(first: str, priority: tuple[str, ...], systems: tuple[SystemSpec, ...]) -> tuple[str, ...]:
    """The declared priority, else the system of record and then the declared order; every system once."""
    names = [*priority] if priority else [first]
    return tuple(dict.fromkeys([*names, *(system.name for system in systems)]))


def _field_rule(field: Field, spec: SyncPolicySpec, contract: Contract) -> FieldRule:
    rule = spec.fields.get(field.name, FieldRuleSpec())
    ownership = rule.system_of_record_when
    otherwise = rule.system_of_record or (ownership and ownership.otherwise) or spec.system_of_record
    found = _owned(field, spec, contract, otherwise)
    if ownership is None:
        return found
    condition = Condition(Expression(ownership.when), _owned(field, spec, contract, ownership.then))
    return msgspec.structs.replace(found, condition=condition)


def _owned(field: Field, spec: SyncPolicySpec, contract: Contract, owner: str) -> FieldRule:
    """The rule of a field with this owner."""
    rule = spec.fields.get(field.name, FieldRuleSpec())
    on_conflict = rule.on_conflict or spec.on_conflict
    source = rule.on_conflict_expression or spec.on_conflict_expression
    merging, computing = on_conflict is ConflictRule.MERGE, on_conflict is ConflictRule.EXPRESSION
    return FieldRule(
        field=field,
        system_of_record=owner,
        on_conflict=on_conflict,
        edits=rule.edits or spec.edits,
        when_empty=rule.when_empty or spec.when_empty,
        priority=_order(owner, rule.priority or spec.priority, spec.systems),
        contract=contract,
        merge=merge_of(field.kind, delta=rule.merge is MergeMode.DELTA) if merging else None,
        merge_mode=rule.merge if merging else None,
        expression=Expression(source or "") if computing else None,
    )


def _system_rule(system: SystemSpec, rules: dict[str, FieldRule]) -> SystemRule:
    mapping = Mapping(system, {name: rule.field for name, rule in rules.items()})
    readable = frozenset(field.name for field in mapping.fields)
    return SystemRule(
        name=system.name,
        reads=system.reads,
        writes=system.writes,
        creates=system.writes,
        deletes=system.writes,
        on_leave=system.on_leave,
        mapping=mapping,
        readable=readable,
        writable=mapping.writable if system.writes else frozenset(),
        dated=frozenset(n for n in readable - mapping.times.keys() if system.reads and rules[n].compares_times),
    )
