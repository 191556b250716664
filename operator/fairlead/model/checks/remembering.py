"""Remembering: the rules about where the policy's state is kept, and how many workers share it."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from fairlead.model.checks.context import Context
from fairlead.model.common import counted
from fairlead.model.connector import SQL
from fairlead.model.problem import Problem

_PATH = ("spec", "state", "connection")
_REPLICAS = ("spec", "worker", "replicas")
_SCHEMES = ("postgresql", "postgres")


def connection_exists(context: Context) -> Iterator[Problem]:
    """The state's Connection is there, in the policy's own namespace."""
    if context.spec.state.connection is not None:
        yield from context.lacking(context.spec.state.connection, _PATH)


def connection_is_postgresql(context: Context) -> Iterator[Problem]:
    """It is a database that can hold it."""
    connection = context.connections.get(f"{context.policy.metadata.namespace}/{context.spec.state.connection}")
    if connection is None:
        return
    scheme = urlsplit(connection.spec.url).scheme
    if connection.spec.connector != SQL or scheme not in _SCHEMES:
        found = f"connector {connection.spec.connector} and a URL of {scheme}://"
        message = f"Connection {connection.metadata.name} has {found}: name one with connector sql and postgresql://"
        yield Problem(message=message, path=_PATH)


def workers_fit_limits(context: Context) -> Iterator[Problem]:
    """Each worker gets at least one request at a time of what a Connection permits."""
    workers, namespace = context.policy.workers, context.policy.metadata.namespace
    for name in sorted({system.connection for system in context.spec.systems}):
        connection = context.connections.get(f"{namespace}/{name}")
        if connection is None or connection.spec.limits.concurrency >= workers:
            continue
        permitted = counted(connection.spec.limits.concurrency, "request")
        message = (
            f"Connection {name} permits {permitted} at a time, which {workers} workers cannot share: raise its "
            f"limits.concurrency to {workers} or more, or have fewer workers"
        )
        yield Problem(message=message, path=_REPLICAS)
