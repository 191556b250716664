"""One policy's state, as a test opens it again and again: in a file, or in a schema of its own."""

import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from fairlead.state.postgres import PostgresStore
from fairlead.state.sql import SQLStore
from fairlead.state.sqlite import SQLiteStore


class Place(ABC):
    """Where a state is. Every call of `store` makes another store of it, as another process would."""

    @abstractmethod
    def store(self, kind: type | None = None, *arguments: Any, scratch: bool = False) -> SQLStore:
        """A store; a `kind` is mixed in before it, and made with `arguments`."""


class InFile(Place):
    def __init__(self, path: Path) -> None:
        self.path = path

    def store(self, kind: type | None = None, *arguments: Any, scratch: bool = False) -> SQLStore:
        made = _mixed(kind, SQLiteStore)(self.path, scratch=scratch)
        return _begun(made, kind, arguments)


class InPostgres(Place):
    def __init__(self, dsn: str, schema: str) -> None:
        self.dsn, self.schema = dsn, schema

    def store(self, kind: type | None = None, *arguments: Any, scratch: bool = False) -> SQLStore:
        def connect() -> Any:
            return psycopg.AsyncConnection.connect(self.dsn, autocommit=True, prepare_threshold=None)

        made = _mixed(kind, PostgresStore)(connect, self.schema, "localhost/state", scratch=scratch)
        return _begun(made, kind, arguments)


def _mixed(kind: type | None, store: type[SQLStore]) -> Any:
    return store if kind is None else type(kind.__name__ + store.__name__, (kind, store), {})


def _begun(store: Any, kind: type | None, arguments: tuple[Any, ...]) -> SQLStore:
    if kind is not None:
        store.begin(*arguments)
    return store


@pytest.fixture(scope="session")
def state_database(postgres: str) -> Iterator[str]:
    """One database, in which each test has a schema of its own."""
    name = f"t{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
        host, port, user = admin.info.host, admin.info.port, admin.info.user
    yield f"host={host} port={port} user={user} dbname={name}"
    with psycopg.connect(postgres, autocommit=True) as admin:
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["SQLite", "Postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A state, once in each kind of store."""
    if request.param == "SQLite":
        return InFile(tmp_path / "state.db")
    return InPostgres(request.getfixturevalue("state_database"), f"s{uuid.uuid4().hex}")
