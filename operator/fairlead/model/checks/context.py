"""Context: what the rules of one policy look at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from fairlead.model.connection import Connection
from fairlead.model.connector import Connector, ObjectSpec
from fairlead.model.problem import Path, Problem, Reason, near
from fairlead.model.syncpolicy import (
    ExpressionMapping,
    FieldMapping,
    FieldRuleSpec,
    PathMapping,
    SyncPolicy,
    SyncPolicySpec,
    SystemSpec,
    mapping_of,
)


class Mapped(msgspec.Struct, frozen=True):
    """One field of one system, its mapping typed."""

    field: str
    mapping: FieldMapping
    path: Path

    @property
    def written_paths(self) -> tuple[str, ...]:
        """Native attributes that a write of this field touches."""
        return (self.mapping.path,) if isinstance(self.mapping, PathMapping) else tuple(self.mapping.write)


class Context:
    """One policy among the others.

    Args:
        policy: the one that is looked at.
        connections: `namespace/name` → Connection, of every namespace that `others` come from.
        connectors: name → Connector, packaged ones included.
        others: every other policy; the policy itself may be among them.
    """

    def __init__(
        self,
        policy: SyncPolicy,
        connections: Mapping[str, Connection],
        connectors: Mapping[str, Connector],
        others: Sequence[SyncPolicy],
    ) -> None:
        self.policy = policy
        self.connections = connections
        self.connectors = connectors
        self.others = others

    @property
    def spec(self) -> SyncPolicySpec:
        """What the policy declares."""
        return self.policy.spec

    @property
    def fields(self) -> dict[str, dict[str, Any]]:
        """Canonical field → its JSON Schema; empty when the schema declares none."""
        properties = self.spec.schema.get("properties")
        return properties if isinstance(properties, dict) else {}

    def systems(self) -> Iterator[tuple[Path, SystemSpec]]:
        """Each system with its path."""
        for number, system in enumerate(self.spec.systems):
            yield ("spec", "systems", number), system

    def system(self, name: str) -> SystemSpec | None:
        """The system of that name."""
        return next((system for system in self.spec.systems if system.name == name), None)

    def rule(self, field: str) -> FieldRuleSpec:
        """What is declared for one field; nothing where it follows the policy."""
        return self.spec.fields.get(field, FieldRuleSpec())

    def owners(self, field: str) -> dict[Path, str]:
        """Where the field's system of record is declared, and which it is: two where it depends on the record."""
        rule, spec = self.rule(field), self.spec
        path: Path = ("spec", "fields", field)
        if rule.system_of_record_when is not None:
            declared = rule.system_of_record_when
            path = (*path, "systemOfRecordWhen")
            return {
                (*path, "then"): declared.then,
                (*path, "otherwise"): declared.otherwise or spec.system_of_record,
            }
        if rule.system_of_record is not None:
            return {(*path, "systemOfRecord"): rule.system_of_record}
        return {("spec", "systemOfRecord"): spec.system_of_record}

    def connection(self, system: SystemSpec) -> Connection | None:
        """The Connection that a system uses; None when there is none."""
        return connection_of(self.policy, system, self.connections)

    def lacking(self, name: str, path: Path) -> Iterator[Problem]:
        """What is told where a Connection is named that is not in the policy's own namespace."""
        namespace = self.policy.metadata.namespace
        there = [c.metadata.name for c in self.connections.values() if c.metadata.namespace == namespace]
        if name not in there:
            hint = near(name, there) if there else ": apply it, or name its file too"
            message = f"namespace {namespace} has no Connection {name!r}{hint}"
            yield Problem(message=message, path=path, reason=Reason.CONNECTION_NOT_FOUND)

    def object_of(self, system: SystemSpec) -> ObjectSpec | None:
        """What the connector declares of the system's object; None for a database, or where something is missing."""
        connection = self.connection(system)
        connector = self.connectors.get(connection.spec.connector) if connection else None
        return connector.object_named(system.object) if connector else None


def connection_of(policy: SyncPolicy, system: SystemSpec, connections: Mapping[str, Connection]) -> Connection | None:
    """The Connection that a policy's system uses; None when there is none."""
    return connections.get(f"{policy.metadata.namespace}/{system.connection}")


def mapped(path: Path, system: SystemSpec) -> Iterator[Mapped]:
    """Each field that a system maps well; what is mapped wrongly has its own problem."""
    for field, declared in system.fields.items():
        try:
            yield Mapped(field, mapping_of(declared), (*path, "fields", field))
        except msgspec.ValidationError:
            continue


def computed(item: Mapped) -> ExpressionMapping | None:
    """The mapping where it is an expression."""
    return item.mapping if isinstance(item.mapping, ExpressionMapping) else None
