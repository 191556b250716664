"""A folder with manifests and two SQLite systems, and `fairlead` run on it as a process of its own."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

Document = dict[str, Any]
API = "fairlead.dev/v1alpha1"
TABLE = "CREATE TABLE customer(id INTEGER PRIMARY KEY, email TEXT UNIQUE, name TEXT, note TEXT)"
FIELDS = {"email": "email", "name": "name", "note": "note"}
PROPERTIES = {"email": {"type": "string"}, "name": {"type": "string", "maxLength": 20}, "note": {"type": "string"}}
QUICK = {"maxAttempts": 2, "initialBackoff": "10ms", "maxBackoff": "20ms"}
STATE = ".fairlead/default.customers.db"


def resource(kind: str, name: str, **spec: Any) -> Document:
    """A resource of ours."""
    return {"apiVersion": API, "kind": kind, "metadata": {"name": name}, "spec": spec}


def rest(name: str, url: str, **spec: Any) -> Document:
    """A Connection to an HTTP system, with quick retries."""
    return resource("Connection", name, connector="rest", url=url, retry=QUICK, **spec)


def system(name: str, **more: Any) -> Document:
    """A system of a policy, over a Connection of its own name."""
    return {"name": name, "connection": name, "object": "customer", "fields": dict(FIELDS), **more}


def policy(*systems: Document, name: str = "customers", **spec: Any) -> Document:
    """A policy over customers; the first system is the system of record. It runs every second."""
    systems = systems or (system("crm"), system("erp"))
    whole = {
        "entity": "Customer",
        "schema": {"type": "object", "required": ["email"], "properties": PROPERTIES},
        "match": [{"fields": ["email"]}],
        "systems": list(systems),
        "systemOfRecord": systems[0]["name"],
        "trigger": {"interval": "1s"},
    }
    return resource("SyncPolicy", name, **(whole | spec))


class Site:
    """The folder. Manifests are in `manifests/`, the systems are `crm.db` and `erp.db`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifests = folder / "manifests"
        self.manifests.mkdir()
        for name in ("crm", "erp"):
            self.sql(name, TABLE)
        self.write("connections", *(self.database(name) for name in ("crm", "erp")))
        self.write("policy", policy())

    # --- what is declared ---

    def database(self, name: str) -> Document:
        """The Connection to one of the SQLite systems."""
        return resource("Connection", name, connector="sql", url=f"sqlite:///{self.folder}/{name}.db")

    def write(self, name: str, *documents: Document | str) -> Path:
        """Writes `manifests/NAME.yaml`."""
        path = self.manifests / f"{name}.yaml"
        texts = [document if isinstance(document, str) else yaml.safe_dump(document) for document in documents]
        path.write_text("---\n".join(texts))
        return path

    def annotate(self, lever: str, value: str) -> None:
        """Writes an annotation into the policy, such as `approve`, which releases a plan."""
        document = yaml.safe_load((self.manifests / "policy.yaml").read_text())
        document["metadata"]["annotations"] = {f"fairlead.dev/{lever}": value}
        self.write("policy", document)

    # --- what users do in the systems ---

    def sql(self, name: str, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Does something in one of the SQLite systems."""
        database = sqlite3.connect(self.folder / f"{name}.db", isolation_level=None, timeout=30)
        try:
            return database.execute(query, values).fetchall()
        finally:
            database.close()

    def add(self, system: str, /, *emails: str, **values: Any) -> None:
        """Adds customers."""
        columns = {"name": None, "note": None, **values}
        for email in emails:
            self.sql(system, "INSERT INTO customer(email, name, note) VALUES (?, ?, ?)", email, *columns.values())

    def fill(self, name: str, count: int) -> None:
        """Adds many customers at once."""
        series = "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
        self.sql(name, f"INSERT INTO customer(email, name) {series} SELECT printf('%06d@x', i), 'n' || i FROM n", count)

    def names(self, name: str) -> dict[str, str]:
        """Email → name of every customer."""
        return dict(self.sql(name, "SELECT email, name FROM customer ORDER BY email"))

    def emails(self, name: str) -> list[str]:
        """Every customer, as often as it is there."""
        return [row[0] for row in self.sql(name, "SELECT email FROM customer ORDER BY email")]

    # --- fairlead ---

    def fairlead(self, *arguments: str, limit: Callable[[], None] | None = None) -> subprocess.CompletedProcess[str]:
        """Runs `fairlead` to its end."""
        return subprocess.run(
            _command(arguments), cwd=self.folder, capture_output=True, text=True, timeout=120, env=environment(),
            preexec_fn=limit,
        )  # fmt: skip

    def once(self, *arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
        """One run of every policy."""
        return self.fairlead("run", "manifests", "--once", *arguments, **more)

    @contextmanager
    def worker(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """`fairlead run`, going on in the background; killed in the end when it still runs."""
        process = subprocess.Popen(
            _command(("run", "manifests", *arguments)), cwd=self.folder, env=environment(), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
                process.communicate()


def _command(arguments: tuple[str, ...]) -> list[str]:
    return [sys.executable, "-m", "fairlead", *arguments]


def environment(**more: str) -> dict[str, str]:
    """That of this process, without what colours or widens output."""
    names = ("COLUMNS", "FORCE_COLOR", "NO_COLOR", "TERM")
    return {name: value for name, value in os.environ.items() if name not in names} | more


def stopped(process: subprocess.Popen[str], number: int = signal.SIGTERM) -> str:
    """What a worker printed, once it has ended after a signal."""
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    return output


def wait_until(holds: Callable[[], object], seconds: float = 60.0) -> None:
    """Waits until something holds; fails when it does not."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)
