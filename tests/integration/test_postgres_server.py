"""The PostgreSQL of tests and benchmarks: it ends with whoever started it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

from fairlead.testing.postgres import binaries, installed, running
from support.skips import cannot_run

STARTS = """
import time
from fairlead.testing.postgres import binaries, running
with running(binaries()) as dsn:
    print(dsn, flush=True)
    time.sleep(600)
"""


def folder_of(dsn: str) -> Path:
    """Where a server that runs keeps its data."""
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SHOW data_directory").fetchone()
    assert row is not None
    return Path(row[0]).parent


def has_ended(dsn: str, folder: Path) -> bool:
    """Whether it can not be reached within ten seconds, and nothing is left of it."""
    deadline = time.monotonic() + 10
    while folder.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(dsn, connect_timeout=2)
    return not folder.exists()


@pytest.fixture
def programs() -> Path:
    """The server's programs."""
    found = binaries() or installed()
    if found is None:
        cannot_run("no PostgreSQL: install its server")
    return found


def test_a_server_ends_with_its_block(programs: Path) -> None:
    with running(programs) as dsn:
        folder = folder_of(dsn)
        assert folder.exists()
    assert has_ended(dsn, folder)


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.usefixtures("programs")
def test_a_server_ends_with_the_process_that_started_it(ending: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", STARTS], stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        try:
            dsn = starter.stdout.readline().strip()
            folder = folder_of(dsn)
            starter.send_signal(ending)
        except BaseException:
            starter.kill()
            raise
    assert has_ended(dsn, folder)
