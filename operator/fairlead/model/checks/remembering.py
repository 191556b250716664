"""Remembering: the rules about where the policy's state is kept."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from fairlead.model.checks.context import Context
from fairlead.model.connector import SQL
from fairlead.model.problem import Problem, Reason, near

_PATH = ("spec", "state", "connection")
_SCHEMES = ("postgresql", "postgres")


def connection_exists(context: Context) -> Iterator[Problem]:
    """The state's Connection is there, in the policy's own namespace."""
    name, namespace = context.spec.state.connection, context.policy.metadata.namespace
    there = [c.metadata.name for c in context.connections.values() if c.metadata.namespace == namespace]
    if name is not None and name not in there:
        message = f"namespace {namespace} has no Connection {name!r}{near(name, there)}"
        yield Problem(message=message, path=_PATH, reason=Reason.CONNECTION_NOT_FOUND)


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
