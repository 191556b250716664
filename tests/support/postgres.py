"""A real PostgreSQL: a running one by DSN, else the machine's own binaries, else installed by the package manager."""

import os
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from fairlead.testing.postgres import binaries, installed, running
from support.skips import cannot_run

DSN = "FAIRLEAD_TEST_POSTGRES"


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The DSN of a server on which databases can be made."""
    given = os.environ.get(DSN)
    if given:
        yield given
        return
    programs = binaries() or installed()
    if programs is None:
        cannot_run(f"no PostgreSQL: install its server, or set {DSN}")
    else:
        with running(programs) as dsn:
            yield dsn


@pytest.fixture
def database(postgres: str) -> Iterator[str]:
    """The DSN of a fresh database."""
    name = f"t{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
        host, port, user = admin.info.host, admin.info.port, admin.info.user
    yield f"host={host} port={port} user={user} dbname={name}"
    with psycopg.connect(postgres, autocommit=True) as admin:
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def admin(database: str) -> Iterator[psycopg.Connection[Any]]:
    """The person who owns the database."""
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection
