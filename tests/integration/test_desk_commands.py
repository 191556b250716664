"""`fairlead conflicts` and `fairlead dead-letters`, as a person uses them while a worker runs."""

from __future__ import annotations

import json
import os
import pty
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest

from support.site import Document, Site, environment, policy, resource, wait_until

PAGE = Path(__file__).parents[2] / "docs" / "operations" / "conflicts-and-dead-letters.md"
REFUSES = (
    "CREATE TRIGGER refuses BEFORE {} ON customer WHEN new.note = 'forbidden' BEGIN SELECT RAISE(ABORT, 'no'); END"
)


class Desk:
    """Two SQLite systems that disagree on names, and the command line beside their worker."""

    def __init__(self, folder: Path, *more: Document, **spec: Any) -> None:
        self.site = Site(folder)
        self.site.write("policy", policy(fields={"name": {"onConflict": "Manual"}}, **spec), *more)

    def agree(self, *emails: str, **values: str) -> None:
        """Customers that both systems have."""
        self.site.add("crm", *emails, **values)
        assert self.site.once().returncode == 0

    def quarrel(self, *emails: str) -> None:
        """Both systems rename them, and a run meets that."""
        for name in ("crm", "erp"):
            for email in emails:
                self.site.sql(name, "UPDATE customer SET name = ? WHERE email = ?", f"{name}'s {email}", email)
        assert self.site.once().returncode == 0

    def refuse(self) -> None:
        """From now on the ERP refuses a note."""
        for operation in ("INSERT", "UPDATE"):
            self.site.sql("erp", REFUSES.format(operation).replace("refuses", f"refuses_{operation}"))

    def fail(self) -> None:
        """The ERP refuses an update, and a record of the CRM breaks the contract."""
        self.refuse()
        self.site.sql("crm", "UPDATE customer SET note = 'forbidden' WHERE email = 'a@x'")
        self.site.add("crm", "c@x", name="a name of more than twenty letters")

    def accept(self) -> None:
        for operation in ("INSERT", "UPDATE"):
            self.site.sql("erp", f"DROP TRIGGER refuses_{operation}")

    def command(self, *arguments: str, code: int = 0) -> tuple[str, str]:
        """Standard output and standard error."""
        done = self.site.fairlead(*arguments[:2], "manifests", *arguments[2:])
        assert done.returncode == code, (done.stdout, done.stderr)
        return done.stdout, done.stderr

    def listed(self, what: str = "conflicts", *filters: str) -> list[Any]:
        """What a list says to machines."""
        out, _ = self.command(what, "list", "--output", "json", *filters)
        (found,) = json.loads(out).values()
        return list(found)

    def names(self) -> list[str]:
        """The name of every customer in the CRM, then in the ERP."""
        return [name for each in ("crm", "erp") for name in self.site.names(each).values()]


@pytest.fixture(params=["SQLite", "Postgres"])
def stored(request: pytest.FixtureRequest) -> tuple[list[Document], Document]:
    """Documents and the `spec.state` that puts the state there."""
    if request.param == "SQLite":
        return [], {}
    server = psycopg.conninfo.conninfo_to_dict(request.getfixturevalue("database"))
    login = {"secretKeyRef": {"name": "login", "key": "user"}}
    url = f"postgresql://{server['host']}:{server['port']}/{server['dbname']}?sslmode=disable"
    basic = {"basic": {"username": login, "password": login}}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "login"}}
    return [
        resource("Connection", "state", connector="sql", url=url, auth=basic),
        {**secret, "stringData": {"user": str(server["user"])}},
    ], {"store": "Postgres", "connection": "state"}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    made = Desk(tmp_path)
    made.agree("a@x", "b@x", name="old")
    return made


@pytest.fixture(scope="module")
def troubled(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """Two conflicts and two dead letters, for what only reads."""
    made = Desk(tmp_path_factory.mktemp("troubled"))
    made.agree("a@x", "b@x", name="old")
    made.fail()
    made.quarrel("a@x", "b@x")
    return made


# --- conflicts ---


def test_a_conflict_is_shown_and_resolved_while_the_worker_runs(
    tmp_path: Path, stored: tuple[list[Document], Document]
) -> None:
    documents, state = stored
    desk = Desk(tmp_path, *documents, state=state)
    desk.agree("a@x", name="old")
    desk.quarrel("a@x")
    with desk.site.worker():
        out, _ = desk.command("conflicts", "list")
        assert [line.split()[:5] for line in out.splitlines()] == [
            ["FIELD", "RECORD", "SYSTEMS", "AGE"],
            ["name", "crm/1", "=", "erp/1", "crm,erp"],
        ]
        out, _ = desk.command("conflicts", "show", "--record", "erp/1")
        head, *rows = out.splitlines()
        assert re.sub("since .*? ", "since TIME ", head) == "name of crm/1 = erp/1, since TIME (onConflict: Manual)"
        assert [line.split(maxsplit=1) for line in rows] == [
            ["SYSTEM", "VALUE"],
            ["crm", '"crm\'s a@x"'],
            ["erp", '"erp\'s a@x"'],
        ]
        _, told = desk.command("conflicts", "resolve", "--record", "crm/1", "--keep", "erp", "--by", "ada")
        assert told == "resolved 1 conflict: what was chosen goes wherever it is not\n"
        wait_until(lambda: desk.names() == ["erp's a@x"] * 2)
        assert desk.command("conflicts", "list") == ("", "no conflict of default/customers waits for a person\n")


def test_a_conflict_says_why_its_rule_could_not_decide(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    source = "string(1 / (size(values.crm) - size(values.crm)))"
    divides = {"onConflict": "Expression", "onConflictExpression": source}
    desk.site.write("policy", policy(fields={"name": divides}))
    desk.agree("a@x", name="old")
    desk.quarrel("a@x")
    out, _ = desk.command("conflicts", "show", "--record", "crm/1", "--output", "json")
    (found,) = json.loads(out)["conflicts"]
    assert (found["rule"], found["values"]) == (
        f"onConflict: Expression: {source!r} failed: division by zero",
        {"crm": "crm's a@x", "erp": "erp's a@x"},
    )


def test_conflicts_are_resolved_in_bulk_by_a_filter(desk: Desk) -> None:
    desk.quarrel("a@x", "b@x")
    resolve = ("conflicts", "resolve", "--field", "name", "--by-policy")
    _, told = desk.command(*resolve, code=1)
    assert told == "this would resolve 2 conflicts of default/customers: say --yes if that is meant\n"
    assert len(desk.listed()) == 2
    with desk.site.worker():
        _, told = desk.command(*resolve, "--yes")
        assert told == "resolved 2 conflicts: what was chosen goes wherever it is not\n"
        wait_until(lambda: desk.names() == ["crm's a@x", "crm's b@x"] * 2)


@pytest.mark.parametrize(
    ("filters", "emails"),
    [
        (("--field", "name"), 2),
        (("--system", "erp"), 2),
        (("--record", "crm/2"), 1),
        (("--older-than", "1h"), 0),
        (("--older-than", "1ms"), 2),
        (("--record", "crm/2", "--field", "note"), 0),
    ],
)
def test_conflicts_are_listed_by_filters(troubled: Desk, filters: tuple[str, ...], emails: int) -> None:
    assert len(troubled.listed("conflicts", *filters)) == emails


def test_a_conflict_that_no_longer_exists_is_told_and_nothing_changes(desk: Desk) -> None:
    arguments = ("conflicts", "resolve", "--record", "crm/1", "--keep", "crm")
    _, told = desk.command(*arguments, code=1)
    gone = "there is no conflict on crm/1 in default/customers: it may have been resolved meanwhile"
    assert told == f"{gone}; `fairlead conflicts list` names those that wait\n"
    assert desk.names() == ["old"] * 4


SAY_WHICH = "say which: --record, another filter (see --help), or --all\n"
SAY_HOW = "say how: one of --keep SYSTEM, --value JSON and --by-policy\n"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("conflicts", "resolve", "--keep", "crm"), SAY_WHICH),
        (("conflicts", "resolve", "--all"), SAY_HOW),
        (("conflicts", "resolve", "--all", "--keep", "crm", "--by-policy"), SAY_HOW),
        (("dead-letters", "retry"), SAY_WHICH),
        (("dead-letters", "discard", "--yes"), SAY_WHICH),
        (("dead-letters", "list", "--record", "crm"), "--record takes SYSTEM/KEY, for example crm/17\n"),
        (
            ("conflicts", "list", "--older-than", "soon"),
            "--older-than: 'soon' is not a duration; write for example 500ms, 30s, 5m or 1h30m\n",
        ),
    ],
)
def test_what_does_not_say_what_is_meant_is_called_wrongly(
    troubled: Desk, arguments: tuple[str, ...], expected: str
) -> None:
    assert troubled.command(*arguments, code=2) == ("", expected)


@pytest.mark.parametrize("arguments", [("conflicts", "resolve", "--keep", "crm"), ("dead-letters", "retry")])
def test_what_is_called_wrongly_is_so_where_nothing_waits_too(desk: Desk, arguments: tuple[str, ...]) -> None:
    assert desk.command(*arguments, code=2) == ("", SAY_WHICH)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--all", "--keep", "cm"), "--keep: 'cm' is no system of default/customers: did you mean 'crm'?\n"),
        (
            ("--field", "nam", "--keep", "crm"),
            "--field: 'nam' is no field of default/customers: did you mean 'name'?\n",
        ),
        (
            ("--all", "--value", '"a name of more than twenty"'),
            "--value, for name: the value breaks 'maxLength: 20' of the policy's schema\n",
        ),
        (
            ("--all", "--value", "5"),
            "--value, for name: the value must be text, not a number: write for example --value '\"5\"'\n",
        ),
        (
            ("--all", "--value", "Ada"),
            "--value, for name: the value is no JSON; a text stands in quotes, as in '\"Ada\"'\n",
        ),
    ],
)
def test_what_cannot_be_meant_is_told_before_anything_is_asked(
    troubled: Desk, arguments: tuple[str, ...], expected: str
) -> None:
    assert troubled.command("conflicts", "resolve", *arguments, code=1) == ("", expected)


def test_a_request_that_no_worker_takes_up_is_kept_for_the_next_run(desk: Desk) -> None:
    desk.quarrel("a@x")
    arguments = ("conflicts", "resolve", "--record", "crm/1", "--value", '"Ada"', "--timeout", "0")
    _, told = desk.command(*arguments, code=4)
    assert told == (
        "default/customers has no worker that took the request up in time: it is kept, and the next run takes it up\n"
    )
    assert desk.site.once().returncode == 0
    assert desk.site.names("erp")["a@x"] == "Ada"
    assert desk.listed() == []


def test_a_policy_that_only_plans_takes_up_no_request(desk: Desk) -> None:
    desk.quarrel("a@x")
    desk.site.write("policy", policy(fields={"name": {"onConflict": "Manual"}}, mode="Plan"))
    _, told = desk.command("conflicts", "resolve", "--record", "crm/1", "--keep", "crm", code=1)
    assert told == "default/customers is in mode Plan, in which its worker changes nothing: set mode: Enforce\n"


def test_a_state_that_is_not_there_is_told(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    _, told = desk.command("conflicts", "list", code=3)
    assert told == (
        "there is no state .fairlead/default.customers.db of default/customers: see --state and spec.state\n"
    )
    assert not (tmp_path / ".fairlead").exists()


def test_a_terminal_is_asked(troubled: Desk) -> None:
    command = [sys.executable, "-m", "fairlead", "conflicts", "resolve", "manifests", "--all", "--keep", "crm"]
    ours, theirs = pty.openpty()
    os.write(ours, b"n\n")
    done = subprocess.run(
        command, cwd=troubled.site.folder, stdin=theirs, capture_output=True, text=True, timeout=60, env=environment()
    )
    os.close(ours)
    os.close(theirs)
    assert (done.returncode, done.stderr) == (
        1,
        "resolve 2 conflicts of default/customers? [y/N]\nnothing was changed\n",
    )


# --- dead letters ---


@pytest.fixture
def refused(desk: Desk) -> Desk:
    """The ERP refused an update, and a record of the CRM breaks the contract."""
    desk.fail()
    desk.site.once()
    return desk


def test_dead_letters_of_both_kinds_are_listed_and_exported(troubled: Desk) -> None:
    assert [
        (each["system"], each["record"], each["what"], each["reason"]) for each in troubled.listed("dead-letters")
    ] == [
        ("crm", {"crm": "3"}, "Read", "ContractBroken"),
        ("erp", {"crm": "1", "erp": "1"}, "Update", "Invalid"),
    ]
    troubled.command("dead-letters", "export", "--file", "letters.jsonl", "--system", "erp")
    file = troubled.site.folder / "letters.jsonl"
    (exported,) = (json.loads(line) for line in file.read_text().splitlines())
    assert (exported["fields"], exported["values"]) == (["note"], {"note": "forbidden"})
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    out, _ = troubled.command("dead-letters", "show", "--record", "erp/1")
    assert 'note    "forbidden"' in out


@pytest.mark.parametrize(
    ("filters", "count"),
    [
        (("--reason", "invalid"), 1),
        (("--system", "crm"), 1),
        (("--record", "crm/3"), 1),
        (("--record", "crm/1"), 1),
        (("--field", "note"), 1),
        (("--older-than", "1h"), 0),
        ((), 2),
    ],
)
def test_dead_letters_are_listed_by_filters(troubled: Desk, filters: tuple[str, ...], count: int) -> None:
    assert len(troubled.listed("dead-letters", *filters)) == count


def test_dead_letters_are_tried_again_while_the_worker_runs(refused: Desk) -> None:
    with refused.site.worker():
        refused.accept()
        _, told = refused.command("dead-letters", "retry", "--reason", "Invalid")
        assert told == "trying 1 dead letter again: what is refused again stays a dead letter\n"
        wait_until(lambda: refused.site.sql("erp", "SELECT note FROM customer WHERE email = 'a@x'") == [("forbidden",)])
        wait_until(lambda: len(refused.listed("dead-letters")) == 1)


def test_dead_letters_are_given_up_and_counted_no_more(refused: Desk) -> None:
    _, told = refused.command("dead-letters", "discard", "--all", code=1)
    assert told == "this would discard 2 dead letters of default/customers: say --yes if that is meant\n"
    with refused.site.worker("--output", "json") as worker:
        _, told = refused.command("dead-letters", "discard", "--all", "--yes")
        assert told == (
            "discarded 2 dead letters: the audit keeps what was lost, and only a change of the record brings it back\n"
        )
        worker.terminate()
        out, _ = worker.communicate(timeout=60)
    (measured,) = json.loads(out)["policies"]
    assert (measured["worker"]["deadLetters"], measured["status"]) == (0, "InSync")
    assert refused.command("dead-letters", "list") == ("", "default/customers has no dead letter\n")


def test_what_was_given_up_is_told_by_the_audit_and_explained(refused: Desk) -> None:
    with refused.site.worker():
        refused.command("dead-letters", "discard", "--all", "--yes", "--by", "ada")
    out, _ = refused.command("explain", "erp/1")
    assert "erp: what was to be written there was discarded by ada: Invalid" in out
    out, _ = refused.command("audit", "list", "--kind", "Discarded", "--output", "json")
    told = sorted((each["rule"], each["field"], each["keys"]) for each in map(json.loads, out.splitlines()))
    assert told == [
        ("ada: ContractBroken", "", {"crm": "3"}),
        ("ada: Invalid", "note", {"crm": "1", "erp": "1"}),
    ]


def test_what_the_page_tells_people_to_type_works(refused: Desk) -> None:
    refused.quarrel("a@x", "b@x")
    blocks = re.findall(r"^```bash\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    lines = [line.split()[1:] for block in blocks for line in block.splitlines()]
    with refused.site.worker():
        codes = {" ".join(line): refused.site.fairlead(*line).returncode for line in lines}
        wait_until(lambda: len(set(refused.site.names("erp").values())) == 2)
    assert (len(codes), [line for line, code in codes.items() if code]) == (10, [])
    assert (refused.listed(), refused.listed("dead-letters")) == ([], [])


# --- in a worker's pod ---


def test_in_a_pod_no_argument_is_needed(troubled: Desk) -> None:
    config, secrets = troubled.site.folder / "config", troubled.site.folder / "secrets"
    config.mkdir()
    (config / "policy.yaml").write_text(_placed((troubled.site.manifests / "policy.yaml").read_text()))
    (config / "connections.yaml").write_text((troubled.site.manifests / "connections.yaml").read_text())
    (config / "connectors.yaml").write_text("")
    pod = {"FAIRLEAD_CONFIG": str(config), "FAIRLEAD_SECRETS": str(secrets), "FAIRLEAD_STATE": ".fairlead"}
    command = [sys.executable, "-m", "fairlead", "conflicts", "list", "-o", "json"]
    done = subprocess.run(
        command, cwd=troubled.site.folder, capture_output=True, text=True, timeout=60, env=environment(**pod)
    )
    assert [each["record"] for each in json.loads(done.stdout)["conflicts"]] == [
        {"crm": key, "erp": key} for key in ("1", "2")
    ]


def _placed(text: str) -> str:
    return text.replace("  name: customers", "  name: customers\n  namespace: default")


def test_elsewhere_manifests_must_be_named(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    done = desk.site.fairlead("conflicts", "list")
    assert (done.returncode, done.stderr) == (
        1,
        "name the manifests of the policy; only in a worker's pod (FAIRLEAD_CONFIG is set there) none is needed\n",
    )
