"""Overlap: one field of one object of one system is written by one policy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from fairlead.model.checks.context import Context, connection_of, mapped
from fairlead.model.connection import Connection
from fairlead.model.problem import Path, Problem, Reason
from fairlead.model.syncpolicy import Mode, SyncPolicy, SystemSpec

Target = tuple[str, str]
"""One object of one system, whatever the Connection that leads to it is called: (normal URL, object)."""


def target_of(connection: Connection, system: SystemSpec) -> Target:
    """Where a system of a policy reads and writes."""
    try:
        parts = urlsplit(connection.spec.url)
    except ValueError:  # that has its own problem
        return connection.spec.url, system.object
    url = f"{parts.scheme}://{parts.netloc.lower()}{parts.path.rstrip('/')}"
    return url, system.object.removeprefix("public.") if parts.scheme == "postgresql" else system.object


def systems_are_different(context: Context) -> Iterator[Problem]:
    """A policy does not keep an object in agreement with itself."""
    first: dict[Target, str] = {}
    for path, system in context.systems():
        connection = context.connection(system)
        if connection is None:
            continue
        earlier = first.setdefault(target_of(connection, system), system.name)
        if earlier != system.name:
            message = f"is the same object as system {earlier}: a policy needs two different ones"
            yield Problem(message=message, path=(*path, "object"))


def policies_do_not_overlap(context: Context) -> Iterator[Problem]:
    """Another policy does not write the same attributes. Mode Plan writes nothing, so it may be tried beside."""
    if context.spec.mode is Mode.PLAN:
        return
    mine = _written(context.policy, context.connections)
    for other in context.others:
        if other.id == context.policy.id or other.spec.mode is Mode.PLAN:
            continue
        for system in other.spec.systems:
            connection = connection_of(other, system, context.connections)
            held = mine.get(target_of(connection, system)) if connection and system.writes else None
            if held:
                yield from _shared(held, other, system)


def _written(policy: SyncPolicy, connections: Mapping[str, Connection]) -> dict[Target, tuple[Path, SystemSpec]]:
    found: dict[Target, tuple[Path, SystemSpec]] = {}
    for number, system in enumerate(policy.spec.systems):
        connection = connection_of(policy, system, connections)
        if connection and system.writes:
            found[target_of(connection, system)] = (("spec", "systems", number), system)
    return found


def _shared(held: tuple[Path, SystemSpec], other: SyncPolicy, theirs: SystemSpec) -> Iterator[Problem]:
    path, system = held
    claimed = {native for native, _ in _claims((), theirs)}
    for native, place in _claims(path, system):
        if native in claimed:
            message = (
                f"SyncPolicy {other.id} writes {native!r} of {system.object} too: let one of them only read it, "
                "or leave the field out"
            )
            yield Problem(message=message, path=place, reason=Reason.POLICY_OVERLAP)


def _claims(path: Path, system: SystemSpec) -> Iterator[tuple[str, Path]]:
    """(native attribute, where it is declared) of all that is written there."""
    for item in mapped(path, system):
        yield from ((native, item.path) for native in item.written_paths)
    if system.archive:
        yield from ((native, (*path, "archive", "set", native)) for native in system.archive.set)
