"""Ownership: the rules about who owns a field, who wins, and how records are matched."""

from __future__ import annotations

from collections.abc import Iterator

from fairlead.model.checks.context import Context
from fairlead.model.checks.mapping import maps_all
from fairlead.model.problem import Path, Problem, near
from fairlead.model.syncpolicy import ConflictRule, SystemSpec


def rules_are_about_fields(context: Context) -> Iterator[Problem]:
    """Rules per field name fields of the schema."""
    for name in context.spec.fields.keys() - context.fields.keys():
        message = f"the schema has no field {name!r}{near(name, context.fields)}"
        yield Problem(message=message, path=("spec", "fields", name))


def systems_are_known(context: Context) -> Iterator[Problem]:
    """Systems of record and priorities name systems of the policy."""
    names = [system.name for system in context.spec.systems]
    for path, name in _named_systems(context):
        if name not in names:
            yield Problem(message=f"no system is named {name!r}{near(name, names)}", path=path)


def _named_systems(context: Context) -> Iterator[tuple[Path, str]]:
    spec = context.spec
    yield ("spec", "systemOfRecord"), spec.system_of_record
    yield from ((("spec", "priority", number), name) for number, name in enumerate(spec.priority))
    for field, rule in spec.fields.items():
        if rule.system_of_record or rule.system_of_record_when:
            yield from context.owners(field).items()
        yield from ((("spec", "fields", field, "priority", n), name) for n, name in enumerate(rule.priority))


def owners_hold_their_fields(context: Context) -> Iterator[Problem]:
    """The system of record of a field reads it and maps it."""
    for field in context.fields:
        if any(field in system.fields for system in context.spec.systems):
            for path, name in context.owners(field).items():
                owner = context.system(name)
                if owner is not None:
                    yield from _holding(owner, field, path)


def _holding(owner: SystemSpec, field: str, path: Path) -> Iterator[Problem]:
    if field not in owner.fields:
        yield Problem(message=_unmapped(owner, field), path=path)
    elif not owner.reads:
        message = f"{owner.name} owns {field} but is WriteOnly: give it access ReadWrite, or name another system"
        yield Problem(message=message, path=path)


def _unmapped(owner: SystemSpec, field: str) -> str:
    return (
        f"{owner.name} owns {field} but does not map it: map it there, or name another system in "
        f"fields.{field}.systemOfRecord"
    )


def latest_needs_times(context: Context) -> Iterator[Problem]:
    """LatestWins compares modification times, so every system that competes for the field has one."""
    for path, system in context.systems():
        if not system.reads or system.modified or _has_modified(context, system):
            continue
        for field, declared in system.fields.items():
            if isinstance(declared, dict) and declared.get("modified"):
                continue
            if (context.rule(field).on_conflict or context.spec.on_conflict) is ConflictRule.LATEST_WINS:
                message = f"LatestWins on {field} compares times: name the attribute that holds it in modified"
                yield Problem(message=message, path=path)
                break


def _has_modified(context: Context, system: SystemSpec) -> bool:
    if context.connection(system) is None:
        return True  # that has its own problem
    declared = context.object_of(system)
    return declared is not None and declared.modified is not None


def match_fields_are_mapped(context: Context) -> Iterator[Problem]:
    """Match rules name fields, and every system that is read can be matched by one of them."""
    for number, rule in enumerate(context.spec.match):
        for position, name in enumerate(rule.fields):
            if name not in context.fields:
                message = f"the schema has no field {name!r}{near(name, context.fields)}"
                yield Problem(message=message, path=("spec", "match", number, "fields", position))
    rules = [rule for rule in context.spec.match if context.fields.keys() >= set(rule.fields)]
    for path, system in context.systems():
        if rules and system.reads and not any(maps_all(system, rule.fields) for rule in rules):
            wanted = " or ".join(" + ".join(rule.fields) for rule in rules)
            message = f"its records cannot be matched: map {wanted}"
            yield Problem(message=message, path=(*path, "fields"))
