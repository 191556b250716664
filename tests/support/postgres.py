"""A real PostgreSQL: a running one by DSN, else the machine's own binaries, else installed by the package manager."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from support.skips import cannot_run

DSN = "FAIRLEAD_TEST_POSTGRES"
_UNPRIVILEGED = ("postgres", "nobody")


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The DSN of a server on which databases can be made."""
    given = os.environ.get(DSN)
    if given:
        yield given
        return
    binaries = _binaries() or _installed()
    if binaries is None:
        cannot_run(f"no PostgreSQL: install its server, or set {DSN}")
    with tempfile.TemporaryDirectory(prefix="fairlead-pg-", ignore_cleanup_errors=True) as folder:
        yield from _started(binaries, Path(folder))


@pytest.fixture
def database(postgres: str) -> Iterator[str]:
    """The URL of a fresh database, as a Connection takes it."""
    name = f"t{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
        host, port, user = admin.info.host, admin.info.port, admin.info.user
    yield f"host={host} port={port} user={user} dbname={name}"
    with psycopg.connect(postgres, autocommit=True) as admin:
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _binaries() -> Path | None:
    on_path = shutil.which("initdb")
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return Path(on_path).resolve().parent if on_path else found[-1].parent if found else None


def _installed() -> Path | None:
    """Installs the server where the package manager and its rights are there."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return None
    for command in (
        ["apt-get", "update", "-q"],
        ["apt-get", "install", "-qy", "--no-install-recommends", "postgresql"],
    ):
        if subprocess.run(command, capture_output=True, timeout=600, check=False).returncode != 0:
            return None
    return _binaries()


def _started(binaries: Path, folder: Path) -> Iterator[str]:
    user = _server_user()
    data, port = folder / "data", _free_port()
    if user:
        shutil.chown(folder, user)
    demote = {"user": user} if user else {}
    run = {"capture_output": True, "timeout": 60, "check": True, "cwd": folder, **demote}
    subprocess.run([binaries / "initdb", "-D", data, "-A", "trust", "-U", "postgres"], **run)
    options = f"-p {port} -k {folder} -c fsync=off -c listen_addresses=127.0.0.1 -c max_connections=100"
    subprocess.run([binaries / "pg_ctl", "-D", data, "-o", options, "-l", folder / "log", "-w", "start"], **run)
    try:
        yield f"host=127.0.0.1 port={port} user=postgres dbname=postgres"
    finally:
        subprocess.run([binaries / "pg_ctl", "-D", data, "-m", "immediate", "stop"], **run)


def _server_user() -> str | None:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in _UNPRIVILEGED if name in known)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
