"""`fairlead matches`, beside a worker that runs: the page about it is the test."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from fairlead.testing.http_system import HTTPSystem
from support.site import STATE, Site, policy, rest, system, wait_until

PAGE = Path(__file__).parents[2] / "docs" / "operations" / "matches.md"
STEP = re.compile(r"^```bash\n(.*?)^```\n```text\n(.*?)^```", re.DOTALL | re.MULTILINE)
FIELDS = {"email": "email", "name": "name", "phone": "phone"}
POLICY: dict[str, Any] = {
    "apiVersion": "fairlead.dev/v1alpha1",
    "kind": "SyncPolicy",
    "metadata": {"name": "customers", "namespace": "default"},
    "spec": {
        "entity": "Customer",
        "schema": {"type": "object", "properties": {name: {"type": ["string", "null"]} for name in FIELDS}},
        "match": [{"fields": ["email"], "normalize": ["Lowercase"]}],
        "systems": [
            {"name": name, "connection": name, "object": "customer", "fields": FIELDS} for name in ("crm", "erp")
        ],
        "systemOfRecord": "crm",
        "deletes": {"guard": {"maxPercent": 100}},
        "trigger": {"interval": "1m"},
    },
}


class Office:
    """Two SQLite files with customers, one policy over them, and the command line."""

    def __init__(self, folder: Path, dsn: str) -> None:
        self.folder = folder
        self.books = {name: sqlite3.connect(folder / f"{name}.db", isolation_level=None) for name in ("crm", "erp")}
        for book in self.books.values():
            book.execute("CREATE TABLE customer(id INTEGER PRIMARY KEY, email TEXT, name TEXT, phone TEXT)")
        self.add("erp", 7, "ada@example.com", phone="555-1")
        self.add("erp", 8, "Ada@Example.com", phone="555-2")
        self.add("crm", 1, "ada@example.com", name="Ada Lovelace")
        server = psycopg.conninfo.conninfo_to_dict(dsn)
        self.server = f"postgresql://{server['host']}:{server['port']}/{server['dbname']}?sslmode=disable"
        self.user = str(server["user"])
        self.declare({})
        self.worker: subprocess.Popen[bytes] | None = None

    def add(self, system: str, key: int, email: str, name: str | None = None, phone: str | None = None) -> None:
        self.books[system].execute("INSERT INTO customer VALUES (?, ?, ?, ?)", (key, email, name, phone))

    def all(self, system: str) -> dict[int, tuple[Any, ...]]:
        return {row[0]: row[1:] for row in self.books[system].execute("SELECT * FROM customer ORDER BY id")}

    def declare(self, state: dict[str, Any]) -> None:
        login = {"secretKeyRef": {"name": "login", "key": "user"}}
        urls = {name: f"sqlite:///{self.folder}/{name}.db" for name in self.books} | {"state": self.server}
        auth = {"state": {"auth": {"basic": {"username": login, "password": login}}}}
        connections = [
            {
                "apiVersion": "fairlead.dev/v1alpha1",
                "kind": "Connection",
                "metadata": {"name": name, "namespace": "default"},
                "spec": {"connector": "sql", "url": url, **auth.get(name, {})},
            }
            for name, url in urls.items()
        ]
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "login", "namespace": "default"},
            "stringData": {"user": self.user},
        }
        policy = {**POLICY, "spec": {**POLICY["spec"], "state": state}}
        (self.folder / "policy.yaml").write_text(yaml.safe_dump_all([policy, secret, *connections]))

    def command(self, *arguments: str) -> tuple[int, str]:
        """Exit code, and all that a person sees."""
        command = [sys.executable, "-m", "fairlead", *arguments]
        done = subprocess.run(
            command, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60
        )
        return done.returncode, done.stdout

    def start(self) -> None:
        """A worker, in a process of its own; returns when its first run has ended."""
        command = [sys.executable, "-m", "fairlead", "run", "policy.yaml"]
        with (self.folder / "worker.txt").open("wb") as told:
            self.worker = subprocess.Popen(command, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=told)
        deadline = time.monotonic() + 30
        while self.command("matches", "list", "policy.yaml", "--no-values")[1].count("erp/8") == 0:
            assert time.monotonic() < deadline, (self.folder / "worker.txt").read_text()

    def close(self) -> None:
        if self.worker is not None:
            os.kill(self.worker.pid, signal.SIGTERM)
            self.worker.wait(timeout=30)
        for book in self.books.values():
            book.close()


@pytest.fixture
def office(tmp_path: Path, database: str) -> Iterator[Office]:
    made = Office(tmp_path, database)
    yield made
    made.close()


@pytest.mark.parametrize("state", [{}, {"store": "Postgres", "connection": "state"}], ids=["SQLite", "Postgres"])
def test_the_page_tells_what_the_commands_do(office: Office, state: dict[str, Any]) -> None:
    office.declare(state)
    office.start()
    for command, expected in STEP.findall(PAGE.read_text()):
        code, told = office.command(*command.split()[1:])
        assert (command, code, told) == (command, 0, expected)
    ada = ("ada@example.com", "Ada Lovelace", "555-2")
    assert (office.all("crm"), office.all("erp")) == ({1: ada, 2: ada}, {7: ada, 8: ada})


def test_what_waits_is_a_document_for_machines_a_page_at_a_time(office: Office) -> None:
    office.command("run", "policy.yaml", "--once")
    code, first = office.command("matches", "list", "policy.yaml", "--limit", "1", "--output", "json")
    (waiting,) = json.loads(first)["matches"]
    assert (code, waiting.pop("since") > "2020", json.loads(first)["next"]) == (0, True, "crm/1")
    assert waiting == {
        "system": "crm",
        "key": "1",
        "values": {"email": "ada@example.com"},
        "reason": "Ambiguous",
        "message": "matches 2 records: make the match fields unique, or narrow spec.match",
        "lacks": "",
        "candidates": [
            [{"system": "erp", "key": "7", "values": {"email": "ada@example.com"}}],
            [{"system": "erp", "key": "8", "values": {"email": "Ada@Example.com"}}],
        ],
    }
    arguments = ("--after", "crm/1", "--no-values", "--reason", "Duplicate", "--system", "erp", "--output", "json")
    _, rest = office.command("matches", "list", "policy.yaml", *arguments)
    found = [(match["key"], match["reason"], "values" in match) for match in json.loads(rest)["matches"]]
    assert (found, json.loads(rest)["next"]) == ([("8", "Duplicate", False)], "")


def test_what_is_in_doubt_is_listed_while_a_system_cannot_be_read(office: Office) -> None:
    office.command("run", "policy.yaml", "--once")
    (office.folder / "erp.db").rename(office.folder / "away.db")
    code, told = office.command("matches", "list", "policy.yaml")
    assert code == 0
    assert "erp cannot be read now: " in told
    assert "crm/1 (email: ada@example.com)   Ambiguous           erp/7; erp/8\n" in told


REFUSED = {
    (
        "list",
        "policy.yaml",
        "--system",
        "cmr",
    ): "--system: 'cmr' is no system of default/customers: did you mean 'crm'?\n",
    ("list", "policy.yaml", "--reason", "Ambigous"): "--reason: 'Ambigous' is no reason: did you mean 'Ambiguous'?\n",
    ("show", "crm/5", "policy.yaml"): "crm/5 is in no doubt: `fairlead matches list` names what is\n",
}
MISUSED = {
    ("split", "17", "policy.yaml"): "'17' names no record: write SYSTEM/KEY, for example crm/17\n",
    ("link", "crm/1", "crm/", "policy.yaml"): "'crm/' names no record: write SYSTEM/KEY, for example crm/17\n",
}


@pytest.mark.parametrize(("arguments", "expected"), REFUSED.items(), ids=[pair[0] + pair[1] for pair in REFUSED])
def test_what_cannot_be_done_says_what_to_do(office: Office, arguments: tuple[str, ...], expected: str) -> None:
    office.command("run", "policy.yaml", "--once")
    assert office.command("matches", *arguments) == (1, expected)


@pytest.mark.parametrize(("arguments", "expected"), MISUSED.items(), ids=[pair[0] for pair in MISUSED])
def test_what_is_written_wrongly_is_told(office: Office, arguments: tuple[str, ...], expected: str) -> None:
    office.command("run", "policy.yaml", "--once")
    assert office.command("matches", *arguments) == (2, expected)


def test_what_no_worker_takes_up_is_kept_for_the_next_run(office: Office) -> None:
    office.command("run", "policy.yaml", "--once")
    code, told = office.command("matches", "link", "crm/1", "erp/7", "policy.yaml", "--timeout", "0.3")
    assert (code, told.startswith("default/customers has no worker that took the request up in time")) == (4, True)
    office.command("run", "policy.yaml", "--once")
    assert office.all("erp")[7] == office.all("crm")[1] == ("ada@example.com", "Ada Lovelace", "555-1")


def test_what_was_kept_and_is_refused_then_is_told_by_the_run_that_takes_it_up(office: Office) -> None:
    office.command("run", "policy.yaml", "--once")
    office.command("matches", "link", "crm/1", "erp/99", "policy.yaml", "--timeout", "0", "--by", "ada")
    _, told = office.command("run", "policy.yaml", "--once", "--log", "json")
    assert json.loads(told.splitlines()[0])["notes"] == [
        {
            "kind": "Refused",
            "record": "link crm/1 with erp/99",
            "field": "",
            "rule": "there is no erp/99",
            "winner": "ada",
        }
    ]


def test_a_refusal_of_the_worker_is_told(office: Office) -> None:
    office.start()
    code, told = office.command("matches", "link", "crm/1", "erp/99", "policy.yaml")
    assert (code, told) == (1, "there is no erp/99\n")


def test_records_of_an_http_system_are_linked_and_split(tmp_path: Path) -> None:
    with HTTPSystem() as api:
        site = Site(tmp_path)
        site.write("connections", rest("shop", api.url), site.database("erp"))
        site.write("policy", policy(system("erp"), system("shop", object="customers")))
        rows = [{"email": "ada@x", "name": None, "note": note} for note in ("1", "2")]
        one, two = (api.store.create("customers", row).key for row in rows)
        site.add("erp", "ada@x", name="Ada")
        assert site.once().returncode == 0
        listed = json.loads(site.fairlead("matches", "list", "manifests", "--output", "json").stdout)["matches"]
        assert [(match["system"], match["reason"], match["values"]) for match in listed] == [
            ("erp", "Ambiguous", {"email": "ada@x"}),
            ("shop", "Duplicate", {"email": "ada@x"}),
        ]
        with site.worker():
            linked = site.fairlead("matches", "link", "erp/1", f"shop/{two}", "manifests", "--by", "grace")
            assert (linked.returncode, linked.stderr) == (0, f"linked erp/1 with shop/{two}\n")
            wait_until(lambda: api.store.values("customers")[two]["name"] == "Ada")
            split = site.fairlead("matches", "split", f"shop/{two}", "manifests")
            assert (split.returncode, split.stderr) == (0, f"shop/{two} is a record of its own\n")
            site.sql("erp", "UPDATE customer SET name = 'Ada King'")
            linked = site.fairlead("matches", "link", "erp/1", f"shop/{one}", "manifests")
            assert linked.returncode == 0, linked.stderr
            wait_until(lambda: api.store.values("customers")[one]["name"] == "Ada King")
        assert (api.store.values("customers")[two]["name"], site.emails("erp")) == ("Ada", ["ada@x"])
        with sqlite3.connect(tmp_path / STATE) as state:
            told = state.execute(
                "SELECT kind, rule FROM audit WHERE kind IN ('Linked', 'Split') ORDER BY id"
            ).fetchall()
        assert [kind for kind, _ in told] == ["Linked", "Split", "Linked"]
        assert told[0] == ("Linked", "asked for by grace")
