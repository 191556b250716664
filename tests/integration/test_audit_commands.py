"""`fairlead audit list`, `fairlead explain` and `fairlead undo`, as a person uses them on real systems."""

import json
import os
import pty
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.commands import KEY, PEOPLE, Desk

SEALED: dict[str, Any] = {"encryptionKey": {"secretKeyRef": {"name": "sealing", "key": "keys"}}}
POLICY = ("policy.yaml", "--policy", "customers")
PAGE = Path(__file__).parents[2] / "docs" / "operations" / "audit-and-undo.md"
COMMANDS = re.compile(r"^fairlead .*$", re.MULTILINE)


@pytest.fixture
def desk(tmp_path: Path, database: str) -> Iterator[Desk]:
    made = Desk(tmp_path, database)
    made.declare(SEALED, made.secret("sealing", keys=KEY))
    for email, name in PEOPLE.items():
        made.crm.add(email, name=name)
    made.run()
    yield made
    made.close()


def entries(desk: Desk, *options: str) -> list[dict[str, Any]]:
    """Entries of the audit, newest first."""
    out, _ = desk.command("audit", "list", *POLICY, "--output", "json", *options)
    return [json.loads(line) for line in out.splitlines()]


def edited(desk: Desk) -> str:
    """The id of a run that spread a bad edit."""
    desk.crm.edit("ada@example.com", name="Wrong")
    desk.run()
    return str(entries(desk, "--kind", "Updated")[0]["run"])


def test_the_audit_tells_who_changed_what_where(desk: Desk) -> None:
    run = edited(desk)
    (entry,) = entries(desk, "--record", "erp/1", "--field", "name")
    about = {name: entry[name] for name in ("run", "kind", "system", "winner", "rule", "values", "keys")}
    assert about == {
        "run": run,
        "kind": "Updated",
        "system": "erp",
        "winner": "crm",
        "rule": "edit",
        "values": {"old": "Ada Lovelace", "new": "Wrong"},
        "keys": {"crm": "1", "erp": "1"},
    }
    (created,) = entries(desk, "--kind", "Created", "--since", "1h")
    assert (created["system"], created["records"]) == ("erp", [1, 2, 3])
    out, told = desk.command("audit", "list", *POLICY, "--limit", "1")
    assert out.decode().splitlines()[1].split()[2:7] == ["Updated", "crm/1", "=", "erp/1", "name"]
    assert told == f"older ones: --before {entry['number']}\n"
    assert entries(desk, "--before", str(entry["number"])) == [created]


def test_a_record_is_explained_field_by_field(desk: Desk) -> None:
    run = edited(desk)
    desk.crm.edit("ada@example.com", note="this")
    desk.erp.edit("ada@example.com", note="that")
    desk.run()
    out, _ = desk.command("explain", "erp/1", *POLICY)
    text = out.decode()
    assert "in agreement: crm, erp" in text
    assert f"erp was given the value of crm (where it was edited), in run {run}" in text
    assert re.search(r'crm: a conflict waits for a person since \S+ \("this"\)', text)
    out, _ = desk.command("explain", "erp/1", *POLICY, "--output", "json")
    fields = {story["field"]: story for story in json.loads(out)["fields"]}
    assert {name: its["state"] for name, its in fields["note"]["systems"].items()} == {"crm": "Frozen", "erp": "Frozen"}
    assert fields["name"]["systems"]["crm"] == {"state": "Agrees", "reason": "", "value": None}


def test_a_record_that_is_gone_is_explained_by_its_old_name(desk: Desk) -> None:
    desk.crm.remove("ada@example.com")
    desk.run()
    out, _ = desk.command("explain", "crm/1", *POLICY)
    assert "crm/1 = erp/1" in out.decode()
    assert "it was deleted in erp" in out.decode()


def test_what_a_record_was_before_a_split_or_a_link_is_told_too(desk: Desk) -> None:
    edited(desk)
    desk.command("matches", "split", "erp/1", *POLICY, "--timeout", "0", check=4)
    desk.run()
    told = desk.command("explain", "erp/1", *POLICY)[0].decode()
    assert "erp was given the value of crm (where it was edited)" in told
    assert [entry["kind"] for entry in entries(desk, "--record", "crm/1")] == ["Updated", "Created"]
    desk.command("matches", "link", "crm/1", "erp/1", *POLICY, "--timeout", "0", check=4)
    desk.run()
    joined = [(entry["kind"], entry.get("keys")) for entry in entries(desk, "--record", "crm/1")]
    keys = {"crm": "1", "erp": "1"}
    assert joined == [("Linked", keys), ("Split", keys), ("Updated", keys), ("Created", None)]


def test_a_run_is_undone_while_its_worker_runs_and_that_is_undone_too(desk: Desk) -> None:
    run = edited(desk)
    with desk.worker():
        out, told = desk.command("undo", run, *POLICY, "--yes", "--by", "ada")
        assert out.decode().splitlines()[1].split() == ["crm/1", "=", "erp/1", "crm", "Update", "name"]
        (again,) = re.findall(rf"^run (\S+) undoes {run} in 1 record;", told, re.MULTILINE)
        assert [book.all()["ada@example.com"][0] for book in (desk.crm, desk.erp)] == ["Ada Lovelace"] * 2
        _, told = desk.command("undo", run, *POLICY, "--yes", check=1)
        assert f"run {run} is undone already, by run {again}: undo that one to have it back" in told
        desk.command("undo", again, *POLICY, "--yes")
    assert [book.all()["ada@example.com"][0] for book in (desk.crm, desk.erp)] == ["Wrong"] * 2
    assert {entry["rule"] for entry in entries(desk, "--run", again)} == {f"undo {run}, asked for by ada"}
    counts = desk.run()
    assert (counts["updated"], counts["conflicts"]) == (0, 0)


def test_an_undo_is_kept_until_a_worker_runs(desk: Desk) -> None:
    run = edited(desk)
    _, told = desk.command("undo", run, *POLICY, "--yes", "--timeout", "0", check=4)
    (kept,) = re.findall(
        r"it will be undone by run (\S+): `fairlead audit list --run \1` tells when it is$", told, re.MULTILINE
    )
    desk.command("audit", "list", *POLICY, "--run", kept, check=1)
    assert desk.erp.all()["ada@example.com"][0] == "Wrong"
    desk.run()
    assert {entry["kind"] for entry in entries(desk, "--run", kept)} == {"Updated"}
    assert [book.all()["ada@example.com"][0] for book in (desk.crm, desk.erp)] == ["Ada Lovelace"] * 2


def test_what_a_kept_undo_could_not_take_back_is_told_by_the_run_that_takes_it_up(desk: Desk) -> None:
    run = edited(desk)
    for _ in range(2):
        desk.command("undo", run, *POLICY, "--yes", "--timeout", "0", check=4)
    out, _ = desk.command("run", "policy.yaml", "--once", "--log", "json")
    (note,) = json.loads(out.splitlines()[0])["notes"]
    assert (note["record"], note["rule"].rpartition(" ")[0]) == (
        f"undo run {run}",
        "crm/1 = erp/1: undone already, by run",
    )


def test_nothing_is_undone_that_was_not_confirmed(desk: Desk) -> None:
    run = edited(desk)
    out, told = desk.command("undo", run, *POLICY, "--plan", "--output", "json")
    writes = [{"system": name, "operation": "Update", "fields": ["name"]} for name in ("crm", "erp")]
    plan = {"record": 1, "name": "crm/1 = erp/1", "writes": writes, "refused": [], "undone": ""}
    assert (json.loads(out), told) == (plan, "2 updates in 1 record\n")
    _, told = desk.command("undo", run, *POLICY, check=1)
    assert told.splitlines()[-1] == "nothing was done: confirm with --yes"
    desk.run()
    assert desk.erp.all()["ada@example.com"][0] == "Wrong"


@pytest.mark.parametrize(("typed", "code"), [(b"n\n", 1), (b"y\n", 4)])
def test_on_a_terminal_a_person_is_asked(desk: Desk, typed: bytes, code: int) -> None:
    run = edited(desk)
    person, terminal = pty.openpty()
    os.write(person, typed)
    command = [sys.executable, "-m", "fairlead", "undo", run, *POLICY, "--timeout", "0"]
    done = subprocess.run(command, cwd=desk.folder, stdin=terminal, capture_output=True, timeout=60)
    os.close(person)
    os.close(terminal)
    assert f"Undo run {run}?" in done.stderr.decode() + done.stdout.decode()
    assert done.returncode == code
    desk.run()
    assert desk.erp.all()["ada@example.com"][0] == ("Wrong" if code == 1 else "Ada Lovelace")


def test_many_deletes_of_an_undo_need_their_plan_approved(desk: Desk) -> None:
    (created,) = entries(desk, "--kind", "Created")
    _, told = desk.command("undo", created["run"], *POLICY, "--yes", check=1)
    (plan,) = re.findall(r"3 deletes are more than deletes.guard allows \(1\): approve them with --approve (\w+)", told)
    _, told = desk.command("undo", created["run"], *POLICY, "--approve", "another", check=1)
    assert f"approve them with --approve {plan}" in told
    assert len(desk.erp.all()) == 3
    desk.command("undo", created["run"], *POLICY, "--approve", plan, "--timeout", "0", check=4)
    desk.run()
    assert (len(desk.crm.all()), desk.erp.all()) == (3, {})
    assert desk.run()["created"] == 0


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["undo", "nonsense", "--yes"], "default/customers has no run nonsense: `fairlead audit list` names its runs"),
        (["undo", "5f000000-abcdef", "--yes"], "was dropped: it is older than spec.state.retention (30d)"),
        (["explain", "crm/77"], "default/customers knows no record crm/77"),
        (["explain", "shop/1"], "'shop' is no system of default/customers"),
        (["audit", "list", "--record", "erp/99"], "default/customers knows no record erp/99"),
        (
            ["audit", "list", "--system", "erb"],
            "--system: 'erb' is no system of default/customers: did you mean 'erp'?",
        ),
        (
            ["audit", "list", "--kind", "Nonsense"],
            "--kind: the audit has no 'Nonsense'; its kinds are Archived, Conflict, ",
        ),
        (["audit", "list", "--run", "nonsense"], "--run: default/customers has no run nonsense: the last one that "),
    ],
)
def test_what_is_not_there_is_told(desk: Desk, arguments: list[str], expected: str) -> None:
    place = 1 if arguments[0] == "undo" or arguments[0] == "explain" else 2
    names = arguments[: place + (0 if arguments[0] == "audit" else 1)]
    command = [*names, *POLICY, *arguments[len(names) :]]
    assert expected in desk.command(*command, check=1)[1]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["explain", "crm", *POLICY], "'crm' names no record: write SYSTEM/KEY, for example crm/17\n"),
        (
            ["audit", "list", *POLICY, "--since", "soon"],
            "--since: 'soon' is neither a time like 2026-01-31T12:00:00Z nor a duration like 2h\n",
        ),
    ],
)
def test_what_is_written_wrongly_is_told(desk: Desk, arguments: list[str], expected: str) -> None:
    assert desk.command(*arguments, check=2)[1] == expected


def test_a_run_that_wrote_nothing_is_known(desk: Desk) -> None:
    out, _ = desk.command("run", "policy.yaml", "--once", "--output", "json")
    run = json.loads(out)["policies"][0]["worker"]["history"][0]["id"]
    _, told = desk.command("audit", "list", *POLICY, "--run", run)
    assert told == "nothing like this is in the audit; what is older than spec.state.retention was dropped\n"


def test_manifests_in_the_place_of_the_record_are_told(desk: Desk) -> None:
    _, told = desk.command("explain", "policy.yaml", check=1)
    assert told == "the record comes first: fairlead explain SYSTEM/KEY policy.yaml\n"


def test_one_record_that_was_created_is_one(desk: Desk) -> None:
    desk.crm.add("linus@example.com")
    desk.run()
    out, _ = desk.command("audit", "list", *POLICY, "--kind", "Created", "--limit", "1")
    assert "   1 record   " in out.decode()


def test_an_amount_is_a_number(desk: Desk) -> None:
    desk.crm.edit("ada@example.com", credit=33.5)
    desk.run()
    out, _ = desk.command("audit", "list", *POLICY, "--field", "credit")
    assert out.decode().endswith("   null → 33.5\n")
    assert [entry["values"] for entry in entries(desk, "--field", "credit")] == [{"old": None, "new": 33.5}]


def test_a_worker_that_is_killed_in_the_middle_of_an_undo_leaves_nothing_half(desk: Desk) -> None:
    for n in range(1500):
        desk.crm.add(f"n{n}@example.com", name="Right")
    desk.run()
    desk.crm.database.execute("UPDATE customer SET name = 'Wrong' WHERE name = 'Right'")
    desk.run()
    run = entries(desk, "--kind", "Updated", "--limit", "1")[0]["run"]
    desk.command("undo", run, *POLICY, "--yes", "--timeout", "0", check=4)
    count = "SELECT count(*) FROM customer WHERE name = 'Right'"
    with desk.worker() as worker:
        while desk.crm.database.execute(count).fetchone()[0] == 0:
            assert worker.poll() is None
            time.sleep(0.01)
    desk.run()
    assert desk.crm.all() == desk.erp.all()
    assert desk.crm.database.execute(count).fetchone() == (1500,)
    assert desk.run()["updated"] == 0


def test_every_command_of_the_page_works(desk: Desk) -> None:
    run = edited(desk)
    commands = [shlex.split(line)[1:] for line in COMMANDS.findall(PAGE.read_text())]
    assert {command[0] for command in commands} == {"audit", "explain", "undo"}
    with desk.worker():
        for command in commands:
            desk.command(*[run if word == "RUN" else word for word in command])
    assert desk.erp.all()["ada@example.com"][0] == "Ada Lovelace"
