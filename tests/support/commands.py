"""The command line over two real systems, as a person uses it."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import yaml

from support.policies import FIELDS, SCHEMA, Book

PEOPLE = {"ada@example.com": "Ada Lovelace", "alan@example.com": "Alan Turing", "grace@example.com": "Grace Hopper"}
KEY = "0123456789abcdef0123456789abcdef"
POLICY: dict[str, Any] = {
    "apiVersion": "fairlead.dev/v1alpha1",
    "kind": "SyncPolicy",
    "metadata": {"name": "customers", "namespace": "default"},
    "spec": {
        "entity": "Customer",
        "schema": SCHEMA,
        "match": [{"fields": ["email"]}],
        "systems": [
            {"name": name, "connection": name, "object": "customer", "fields": FIELDS} for name in ("crm", "erp")
        ],
        "systemOfRecord": "crm",
        "fields": {"note": {"onConflict": "Manual"}},
    },
}


class Desk:
    """Two books with the same people, one policy over them, and the command line."""

    def __init__(self, folder: Path, dsn: str) -> None:
        self.folder = folder
        self.crm, self.erp = Book(folder, "crm"), Book(folder, "erp")
        server = psycopg.conninfo.conninfo_to_dict(dsn)
        url = f"postgresql://{server['host']}:{server['port']}/{server['dbname']}?sslmode=disable"
        login = {"secretKeyRef": {"name": "login", "key": "user"}}
        self.documents = [
            *(self.connection(name, f"sqlite:///{folder}/{name}.db") for name in ("crm", "erp")),
            self.connection("state", url, auth={"basic": {"username": login, "password": login}}),
            self.secret("login", user=str(server["user"])),
        ]

    def connection(self, name: str, url: str, **spec: Any) -> dict[str, Any]:
        return {
            "apiVersion": "fairlead.dev/v1alpha1",
            "kind": "Connection",
            "metadata": {"name": name},
            "spec": {"connector": "sql", "url": url, **spec},
        }

    def secret(self, name: str, **values: str) -> dict[str, Any]:
        return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": values}

    def declare(self, state: dict[str, Any] | None = None, *more: dict[str, Any], **spec: Any) -> None:
        policy = {**POLICY, "spec": {**POLICY["spec"], "state": state or {}, **spec}}
        text = yaml.safe_dump_all([*self.documents, policy, *more])
        (self.folder / "policy.yaml").write_text(text)

    def command(self, *arguments: str, check: int = 0, given: bytes = b"") -> tuple[bytes, str]:
        """Standard output, and standard error as text."""
        command = [sys.executable, "-m", "fairlead", *arguments]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, input=given, timeout=60)
        assert done.returncode == check, done.stdout + done.stderr
        return done.stdout, done.stderr.decode()

    @contextmanager
    def worker(self) -> Iterator[subprocess.Popen[bytes]]:
        """`fairlead run`, which goes on until it is killed."""
        command = [sys.executable, "-m", "fairlead", "run", "policy.yaml"]
        with subprocess.Popen(
            command, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as running:
            try:
                yield running
            finally:
                running.kill()

    def run(self) -> Counter[str]:
        """The counts of the run that a `fairlead run --once` did last."""
        out, _ = self.command("run", "policy.yaml", "--once", "--output", "json")
        (policy,) = json.loads(out)["policies"]
        return Counter(policy["worker"]["history"][0]["counts"])

    def close(self) -> None:
        for book in (self.crm, self.erp):
            book.database.close()
