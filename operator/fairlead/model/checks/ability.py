"""Ability: the rules about Connections, connectors and what these can do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from fairlead.model.checks.context import Context
from fairlead.model.connection import Connection
from fairlead.model.connector import SQL, Connector, ObjectSpec
from fairlead.model.problem import Problem, Reason, near
from fairlead.model.syncpolicy import DeleteAction, OnLeave, Propagate, SystemSpec


def connector_exists(connection: Connection, connectors: Mapping[str, Connector]) -> Iterator[Problem]:
    """A Connection names `sql`, a packaged Connector or a Connector resource."""
    name = connection.spec.connector
    if name != SQL and name not in connectors:
        message = f"there is no Connector {name!r}{near(name, [SQL, *connectors])}"
        yield Problem(message=message, path=("spec", "connector"), reason=Reason.CONNECTOR_NOT_FOUND)


def url_can_be_read(connection: Connection) -> Iterator[Problem]:
    """The URL has a host and a port as they can be; a pattern cannot tell all of it."""
    try:
        _ = urlsplit(connection.spec.url).port
    except ValueError:
        message = "its host or port cannot be: write for example https://api.example.com:8443 or http://[::1]:8080"
        yield Problem(message=message, path=("spec", "url"))


def connections_exist(context: Context) -> Iterator[Problem]:
    """Every system's Connection is there, in the policy's own namespace."""
    for path, system in context.systems():
        yield from context.lacking(system.connection, (*path, "connection"))


def connectors_exist(context: Context) -> Iterator[Problem]:
    """The Connections that are used have a connector."""
    for path, system in context.systems():
        connection = context.connection(system)
        for problem in connector_exists(connection, context.connectors) if connection else ():
            message = f"Connection {system.connection}: {problem.message}"
            yield Problem(message=message, path=(*path, "connection"), reason=problem.reason)


def objects_are_offered(context: Context) -> Iterator[Problem]:
    """The connector has the object."""
    for path, system in context.systems():
        connection = context.connection(system)
        connector = context.connectors.get(connection.spec.connector) if connection else None
        if connector and connector.object_named(system.object) is None:
            known = [item.name for item in connector.spec.objects]
            message = f"connector {connector.id} has no object {system.object!r}{near(system.object, known)}"
            yield Problem(message=message, path=(*path, "object"))


def objects_can_be_written(context: Context) -> Iterator[Problem]:
    """What may be written can be created and updated."""
    for path, system in context.systems():
        offered = context.object_of(system)
        lacking = _lacking(offered) if system.writes and offered else ()
        if lacking:
            message = (
                f"connector object {system.object!r} has no write.{' and no write.'.join(lacking)}: "
                "write access: ReadOnly, or use a Connector that declares it"
            )
            yield Problem(message=message, path=(*path, "access"))


def _lacking(offered: ObjectSpec) -> tuple[str, ...]:
    write = offered.write
    if write.upsert:
        return ()
    has = {"create": write.create or write.create_batch, "update": write.update}
    return tuple(name for name, request in has.items() if request is None)


def objects_can_be_deleted(context: Context) -> Iterator[Problem]:
    """Where deletes are to be repeated, the connector can delete."""
    for path, system in context.systems():
        offered = context.object_of(system)
        if offered and system.writes and offered.write.delete is None and _receives_deletes(context, system):
            message = (
                f"connector object {system.object!r} has no write.delete: write deletes: {{action: Archive}} or "
                "{propagate: Never}, or use a Connector that declares it"
            )
            yield Problem(message=message, path=(*path, "object"))


def _receives_deletes(context: Context, system: SystemSpec) -> bool:
    """Whether a delete, or a record that leaves a filter, elsewhere is repeated in `system` as a delete."""
    propagate, deletes = context.spec.deletes.propagate, context.spec.deletes.action is DeleteAction.DELETE
    others = [other for other in context.spec.systems if other.name != system.name and other.reads]
    from_any = propagate is Propagate.FROM_ANY and bool(others)
    from_record = propagate is Propagate.FROM_SYSTEM_OF_RECORD and system.name != context.spec.system_of_record
    leaving = any((o.filter or o.archive) and o.on_leave is OnLeave.DELETE for o in others)
    return leaving or (deletes and (from_any or from_record))
