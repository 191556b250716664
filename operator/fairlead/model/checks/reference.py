"""Reference: the rules about fields that refer to records of a policy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fairlead.model.checks.context import Context, mapped
from fairlead.model.problem import Path, Problem, near
from fairlead.model.syncpolicy import ConflictRule, PathMapping, StateStore, SyncPolicy

_ONLY = {"type", "title", "description"}
_VALUE_RULES = (ConflictRule.MERGE, ConflictRule.EXPRESSION)


def references_are_ids(context: Context) -> Iterator[Problem]:
    """A reference is the id of a record: text that is translated as a whole, with no rule about what it looks like."""
    for field in context.policy.references():
        declared = context.fields.get(field)
        if isinstance(declared, dict) and not _is_id(declared):
            message = "a reference is an id, whatever it looks like: write {type: string} and no more"
            yield Problem(message=message, path=("spec", "schema", "properties", field))
        conflict = context.rule(field).on_conflict or context.spec.on_conflict
        if conflict in _VALUE_RULES:
            message = f"onConflict {conflict} makes a new value, and a reference cannot be made: name another rule here"
            yield Problem(message=message, path=("spec", "fields", field, "onConflict"))


def _is_id(declared: dict[str, Any]) -> bool:
    return declared.keys() <= _ONLY and declared.get("type") in (
        "string",
        ["string"],
        ["string", "null"],
        ["null", "string"],
    )


def references_are_mapped_plainly(context: Context) -> Iterator[Problem]:
    """What is translated has no other words for its values."""
    for path, system in context.systems():
        for item in mapped(path, system):
            if item.field not in context.policy.references() or not isinstance(item.mapping, PathMapping):
                continue
            if item.mapping.split is not None or item.mapping.values is not None:
                message = "a reference is translated by the other policy: write its path alone, or {read, write}"
                yield Problem(message=message, path=item.path)


def parents_are_there(context: Context) -> Iterator[Problem]:
    """What is referred to is a policy of the same namespace that knows the records of every system that maps it."""
    for field, name in context.policy.references().items():
        path: Path = ("spec", "fields", field, "references")
        parent = _parents(context).get(name)
        if parent is None:
            yield Problem(message=_missing(context, name), path=path)
            continue
        yield from _systems_known(context, field, parent)
        if _place(parent) != _place(context.policy):
            message = (
                f"SyncPolicy {name} keeps its state elsewhere, so its cross-references cannot be read: give both the "
                "same state.store and state.connection"
            )
            yield Problem(message=message, path=path)


def _parents(context: Context) -> dict[str, SyncPolicy]:
    """The policies of the namespace, by name."""
    mine = context.policy.metadata.namespace
    return {p.metadata.name: p for p in (*context.others, context.policy) if p.metadata.namespace == mine}


def _missing(context: Context, name: str) -> str:
    namespace = context.policy.metadata.namespace
    elsewhere = sorted(p.metadata.namespace for p in context.others if p.metadata.name == name)
    told = f"namespace {namespace} has no SyncPolicy {name!r}"
    if elsewhere:
        return f"{told} (there is one in {elsewhere[0]}): both policies must be in one namespace"
    return f"{told}{near(name, _parents(context))}"


def _systems_known(context: Context, field: str, parent: SyncPolicy) -> Iterator[Problem]:
    for path, system in context.systems():
        if field not in system.fields:
            continue
        there = [each.name for each in parent.spec.systems if each.connection == system.connection]
        if len(there) == 1:
            continue
        name = parent.metadata.name
        if there:
            message = (
                f"SyncPolicy {name} has several systems over Connection {system.connection} ({', '.join(there)}), so "
                "it is not clear whose ids these are: name Connections of their own there"
            )
        else:
            message = (
                f"SyncPolicy {name} has no system over Connection {system.connection}, so ids cannot be translated: "
                f"add one there, or leave {field} out here"
            )
        yield Problem(message=message, path=(*path, "fields", field))


def _place(policy: SyncPolicy) -> tuple[StateStore, str | None]:
    return policy.spec.state.store, policy.spec.state.connection


def parents_can_come_first(context: Context) -> Iterator[Problem]:
    """No record needs another one that needs it: neither could be created first."""
    parents = _parents(context)
    for field, name in context.policy.references().items():
        way = _way_back(context.policy.metadata.name, name, parents) if field in _needed(context.policy) else None
        if way is not None:
            names = " → ".join([context.policy.metadata.name, *way])
            message = (
                f"{names} need each other before they can be created: take the reference out of schema.required (and "
                "out of match) in one of them, and it is filled in afterwards"
            )
            yield Problem(message=message, path=("spec", "fields", field, "references"))


def _needed(policy: SyncPolicy) -> set[str]:
    """The references without which a record is not created."""
    required = policy.spec.schema.get("required")
    names = {name for rule in policy.spec.match for name in rule.fields}
    names |= set(filter(lambda name: isinstance(name, str), required)) if isinstance(required, list) else set()
    return names & policy.references().keys()


def _way_back(home: str, start: str, parents: dict[str, SyncPolicy]) -> list[str] | None:
    """The policies from `start` to `home`, each of which needs the next one; None where there is no such way."""
    ways, seen = [[start]], {start}
    while ways:
        way = ways.pop()
        if way[-1] == home:
            return way
        policy = parents.get(way[-1])
        following = {policy.references()[field] for field in _needed(policy)} if policy is not None else set()
        ways += [[*way, name] for name in sorted(following - seen)]
        seen |= following
    return None


def apart(policy: SyncPolicy) -> Iterator[Problem]:
    """What keeps a reference from being translated where every policy has a worker of its own: in a cluster."""
    if policy.spec.state.store is StateStore.POSTGRES:
        return
    for field, name in policy.references().items():
        if name != policy.metadata.name:
            message = (
                f"in a cluster the workers of {policy.metadata.name} and {name} cannot read each other's volumes: "
                "references need state.store: Postgres, with the same connection in both policies"
            )
            yield Problem(message=message, path=("spec", "fields", field, "references"))
