"""`fairlead` as a person and a script use it."""

import itertools
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]

CONNECTION = """
apiVersion: fairlead.dev/v1alpha1
kind: Connection
metadata: {{name: {name}}}
spec: {{connector: sql, url: "sqlite:///{path}"}}
"""
POLICY = """
apiVersion: fairlead.dev/v1alpha1
kind: SyncPolicy
metadata: {name: customers}
spec:
  entity: Customer
  schema:
    type: object
    required: [email]
    properties: {email: {type: string}, name: {type: string, maxLength: 20}}
  match: [{fields: [email]}]
  systems:
  - {name: crm, connection: crm, object: customer, fields: {email: email, name: name}}
  - {name: erp, connection: erp, object: customer, fields: {email: email, name: name}}
  systemOfRecord: crm
  trigger: {interval: 1s}
"""


def fairlead(*arguments: str, cwd: Path, check: int | None = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "fairlead", *arguments], cwd=cwd, capture_output=True, text=True, timeout=60, check=False
    )
    if check is not None:
        assert done.returncode == check, done.stdout + done.stderr
    return done


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("crm", "erp"):
        with sqlite3.connect(tmp_path / f"{name}.db") as database:
            database.execute("CREATE TABLE customer(id INTEGER PRIMARY KEY, email TEXT UNIQUE, name TEXT)")
            if name == "crm":
                database.executemany("INSERT INTO customer(email, name) VALUES (?, ?)", [("a@x", "A"), ("b@x", "B")])
    manifests = tmp_path / "manifests"
    manifests.mkdir()
    text = "---".join(CONNECTION.format(name=n, path=tmp_path / f"{n}.db") for n in ("crm", "erp"))
    (manifests / "connections.yaml").write_text(text)
    (manifests / "policy.yaml").write_text(POLICY)
    return tmp_path


def names(folder: Path, system: str) -> list[tuple[str, str]]:
    with sqlite3.connect(folder / f"{system}.db") as database:
        return database.execute("SELECT email, name FROM customer ORDER BY email").fetchall()


def test_one_run_brings_systems_into_agreement_and_ends_with_the_table(folder: Path) -> None:
    done = fairlead("run", "manifests", "--once", cwd=folder)
    assert names(folder, "erp") == [("a@x", "A"), ("b@x", "B")]
    heads = [
        "NAME",
        "ENTITY",
        "SYSTEMS",
        "SOR",
        "MODE",
        "READY",
        "STATUS",
        "LAG",
        "RECORDS",
        "CONFLICTS",
        "DEAD",
        "LAST-SYNC",
    ]
    table = done.stdout.splitlines()[-2:]
    assert table[0].split() == heads
    assert table[1].split()[:7] == ["customers", "Customer", "crm,erp", "crm", "Enforce", "True", "InSync"]


def test_output_that_is_no_terminal_has_no_colours(folder: Path) -> None:
    assert "\x1b" not in fairlead("run", "manifests", "--once", cwd=folder).stdout


def test_a_plan_writes_nothing_and_names_every_write(folder: Path) -> None:
    done = fairlead("run", "manifests", "--plan", cwd=folder)
    assert names(folder, "erp") == []
    assert "customers: 2 writes planned" in done.stdout
    assert done.stdout.count("Create") == 2


def test_a_plan_is_not_told_as_if_it_were_done(folder: Path) -> None:
    fairlead("run", "manifests", "--once", cwd=folder)
    with sqlite3.connect(folder / "crm.db") as database:
        database.execute("INSERT INTO customer(email, name) VALUES ('c@x', 'C')")
    done = fairlead("run", "manifests", "--plan", cwd=folder)
    assert "planned, and not done: " in done.stdout.splitlines()[0]
    (row,) = [line.split() for line in done.stdout.splitlines() if line.startswith("customers ")]
    assert row[8] == "2"


def test_json_for_machines_is_one_document(folder: Path) -> None:
    done = fairlead("run", "manifests", "--once", "--output", "json", cwd=folder)
    (policy,) = json.loads(done.stdout)["policies"]
    assert (policy["name"], policy["ready"], policy["worker"]["records"]) == ("customers", True, 2)


def test_the_json_log_has_one_object_a_run(folder: Path) -> None:
    done = fairlead("run", "manifests", "--once", "--log", "json", cwd=folder)
    run = json.loads(done.stdout.splitlines()[0])
    assert (run["event"], run["policy"], run["outcome"], run["counts"]["created"]) == (
        "run", "default/customers", "Succeeded", 2
    )  # fmt: skip


def test_a_system_that_is_missing_is_told_and_the_exit_code_says_so(folder: Path) -> None:
    (folder / "erp.db").unlink()
    done = fairlead("run", "manifests", "--once", cwd=folder, check=1)
    assert "SystemUnavailable" in done.stdout
    assert "there is no SQLite file" in done.stdout


def test_a_state_that_is_in_use_is_told_and_the_exit_code_says_so(folder: Path) -> None:
    fairlead("run", "manifests", "--once", cwd=folder)
    (folder / ".fairlead/default.customers.db").write_bytes(b"not a database" * 1000)
    done = fairlead("run", "manifests", "--once", cwd=folder, check=3)
    assert "damaged" in done.stdout


@pytest.mark.parametrize("command", ["run", "validate"])
def test_invalid_manifests_are_told_by_file_line_and_path(folder: Path, command: str) -> None:
    policy = yaml.safe_load(POLICY)
    policy["spec"]["systemOfRecord"] = "cmr"
    (folder / "manifests/policy.yaml").write_text(yaml.safe_dump(policy))
    done = fairlead(command, "manifests", cwd=folder, check=1)
    assert "manifests/policy.yaml:" in done.stdout + done.stderr
    assert "systemOfRecord" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["validate", "nowhere"], "nowhere does not exist: name YAML files, or folders of them"),
        (
            ["dead-letters", "show", "crm/1", "manifests"],
            "crm/1 does not exist: name YAML files, or folders of them; if it is a record, write --record crm/1",
        ),
    ],
)
def test_a_path_that_is_not_there_is_told_and_what_to_write(folder: Path, arguments: list[str], told: str) -> None:
    done = fairlead(*arguments, cwd=folder, check=2)
    words = " ".join(done.stderr.replace("│", " ").split())  # without the frame
    assert f"Invalid value for 'paths': {told} ╰" in words


def test_valid_manifests_are_valid(folder: Path) -> None:
    fairlead("validate", "manifests", cwd=folder)


def test_of_an_expression_that_some_values_do_not_fit_nothing_is_said(folder: Path) -> None:
    rule = "  onConflict: Expression\n  onConflictExpression: values.crm.substring(3, 30)\n"
    (folder / "manifests" / "policy.yaml").write_text(POLICY + rule)
    done = fairlead("validate", "manifests", cwd=folder)
    assert (done.stdout, done.stderr) == ("3 resources: valid\n", "")


def test_a_running_worker_takes_edits_in_and_stops_when_it_is_told_to(folder: Path) -> None:
    command = [sys.executable, "-m", "fairlead", "run", "manifests"]
    worker = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True, env={**os.environ})
    try:
        wait_until(lambda: len(names(folder, "erp")) == 2)
        with sqlite3.connect(folder / "erp.db") as database:
            database.execute("UPDATE customer SET name = 'edited' WHERE email = 'a@x'")
        wait_until(lambda: ("a@x", "edited") in names(folder, "crm"))
        worker.send_signal(signal.SIGTERM)
        output, _ = worker.communicate(timeout=20)
    finally:
        worker.kill()
    assert worker.returncode == 0
    assert "customers" in output.splitlines()[-1]


def wait_until(holds, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_help_begins_with_what_fairlead_is(tmp_path: Path) -> None:
    usage, what, *_ = filter(None, map(str.strip, fairlead("--help", cwd=tmp_path).stdout.splitlines()))
    assert (usage.split()[0], what.split()[:4]) == ("Usage:", ["Fairlead", "keeps", "business", "systems"])


@pytest.mark.parametrize("command", [(), ("run",), ("validate",), ("conflicts",), ("matches",)])
def test_help_says_the_exit_codes_in_lines_that_are_filled(tmp_path: Path, command: tuple[str, ...]) -> None:
    lines = [line.strip() for line in fairlead(*command, "--help", cwd=tmp_path).stdout.splitlines()]
    start = next(at for at, line in enumerate(lines) if line.startswith("Exit codes: 0 "))
    paragraph = lines[start : lines.index("", start)]
    assert all(len(f"{line} {after.split()[0]}") > 78 for line, after in itertools.pairwise(paragraph))


def test_the_examples_are_valid() -> None:
    for example in sorted((ROOT / "examples").iterdir()):
        fairlead("validate", str(example), cwd=ROOT)
