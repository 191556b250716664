"""Bad input, end to end: each gets an exit code and a message that says what to do, and loses nothing.

What is a connector's own (TLS, answers that are no JSON, pages that repeat) is tested with the connectors.
"""

from __future__ import annotations

import json
import os
import re
import resource as limits
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import orjson
import pytest

from fairlead.testing.http_store import Slice
from fairlead.testing.http_system import HTTPSystem, Logins
from support.site import STATE, Site, policy, rest, stopped, system, wait_until

OK, NEEDS_A_PERSON, STATE_UNUSABLE = 0, 1, 3


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def told(done: subprocess.CompletedProcess[str]) -> str:
    """All that a command printed, on one line."""
    return " ".join((done.stdout + done.stderr).split())


# --- what is declared ---

MALFORMED = "apiVersion: fairlead.dev/v1alpha1\nkind: SyncPolicy\nmetadata: {name: customers\nspec: [\n"


@pytest.mark.parametrize("command", [("run", "--once"), ("validate",)], ids=["run", "validate"])
@pytest.mark.parametrize(
    ("document", "message"),
    [
        (MALFORMED, "manifests/policy.yaml:4:5: is not YAML: "),
        (policy(onConflit="Manual"), ": spec.onConflit: unknown field 'onConflit': did you mean 'onConflict'?"),
        (policy(suspend="no!"), ": spec.suspend: must be true or false, not text"),
        (
            policy(systemOfRecord="cmr"),
            ": spec.systemOfRecord: no system is named cmr: write the name of one of the systems",
        ),
        (
            policy(system("crm", connection="crn"), system("erp")),
            ": spec.systems[0].connection: namespace default has no Connection 'crn': did you mean 'crm'?",
        ),
    ],
    ids=["malformed YAML", "unknown field", "wrong type", "unknown system", "unknown Connection"],
)
def test_a_manifest_that_is_wrong_is_told_by_file_line_and_path_and_nothing_runs(
    site: Site, command: tuple[str, ...], document, message: str
) -> None:
    site.write("policy", document)
    site.add("crm", "a@x")
    done = site.fairlead(command[0], "manifests", *command[1:])
    assert (done.returncode, site.emails("erp")) == (NEEDS_A_PERSON, [])
    assert re.search(r"manifests/policy\.yaml:\d+", done.stdout + done.stderr)
    assert message in done.stdout + done.stderr


def test_two_policies_that_claim_the_same_field_are_both_refused(site: Site) -> None:
    site.write("other", policy(name="leads"))
    site.add("crm", "a@x")
    done = site.once()
    assert (done.returncode, site.emails("erp")) == (NEEDS_A_PERSON, [])
    for mine, other in (("policy", "leads"), ("other", "customers")):
        assert re.search(
            rf"manifests/{mine}\.yaml:\d+: spec\.systems\[1\]\.fields\.email: SyncPolicy default/{other} "
            "writes 'email' of customer too: let one of them only read it, or leave the field out",
            done.stderr,
        )


def test_a_policy_in_mode_plan_may_be_tried_beside_another(site: Site) -> None:
    site.write("other", policy(name="leads", mode="Plan"))
    assert site.once().returncode == OK


def test_a_folder_without_a_policy_is_told(site: Site) -> None:
    (site.manifests / "policy.yaml").unlink()
    done = site.once()
    assert (done.returncode, "no SyncPolicy in manifests" in done.stderr) == (NEEDS_A_PERSON, True)


# --- systems that are not as declared ---


@pytest.mark.parametrize(
    ("erp", "message"),
    [
        ({"object": "custmer"}, "erp.db has no table 'custmer': did you mean 'customer'?"),
        ({"fields": {"email": "mail"}}, "table customer has no column 'mail': did you mean 'email'?"),
    ],
    ids=["table", "column"],
)
def test_a_table_or_column_that_does_not_exist_is_told_and_nothing_is_lost(
    site: Site, erp: dict[str, object], message: str
) -> None:
    site.write("policy", policy(system("crm"), system("erp", **erp)))
    site.add("crm", "a@x", name="Ada")
    done = site.once()
    assert (done.returncode, "SystemUnavailable" in done.stdout) == (NEEDS_A_PERSON, True)
    assert message in told(done)
    site.write("policy", policy())
    assert site.once().returncode == OK
    assert site.names("erp") == {"a@x": "Ada"}


def with_api(site: Site, api: HTTPSystem, **spec: object) -> None:
    """The CRM is the HTTP system, and the policy says so."""
    site.write("connections", rest("crm", api.url, **spec), site.database("erp"))
    site.write("policy", policy(system("crm", object="customers"), system("erp")))


def emails(api: HTTPSystem) -> list[object]:
    """Every customer of the HTTP system, as often as it is there."""
    rows = api.store.select("customers", Slice(limit=100_000))
    return sorted(str(orjson.loads(row.body)["email"]) for row in rows)


TOKEN = {"bearer": {"token": {"secretKeyRef": {"name": "crm", "key": "token"}}}}


def secret(**values: str) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "crm"}, "stringData": values}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], "Secret 'crm' does not exist: create it in the Connection's namespace, with the key 'token'"),
        ([secret(other="x")], "Secret 'crm' has no key 'token': add the key, or name one that the Secret has"),
    ],
    ids=["no Secret", "no key"],
)
def test_a_secret_or_key_that_is_missing_is_told_and_others_go_on(
    site: Site, given: list[object], expected: str
) -> None:
    with HTTPSystem(logins=Logins(bearer="right")) as api:
        with_api(site, api, auth=TOKEN)
        site.write("secrets", *given)
        site.add("erp", "a@x")
        done = site.once()
        assert (done.returncode, "SystemUnavailable" in done.stdout) == (NEEDS_A_PERSON, True)
        assert expected in told(done)
        site.write("secrets", secret(token="right"))
        assert site.once().returncode == OK
        assert emails(api) == ["a@x"]


def test_a_wrong_token_is_told_without_being_shown(site: Site) -> None:
    with HTTPSystem(logins=Logins(bearer="right")) as api:
        with_api(site, api, auth=TOKEN)
        site.write("secrets", secret(token="hunter2"))
        done = site.once()
    assert (done.returncode, "hunter2" in told(done)) == (NEEDS_A_PERSON, False)
    assert "crm: GET /customers answered 401: check the Secret of the Connection's auth" in told(done)


def test_an_object_that_does_not_exist_is_told(site: Site) -> None:
    with HTTPSystem(objects=("people",)) as api:
        with_api(site, api)
        done = site.once()
    assert done.returncode == NEEDS_A_PERSON
    assert "crm: GET /customers answered 404 (no such object): check systems[].object, the connector's path" in told(
        done
    )


def test_a_host_that_does_not_resolve_is_told(site: Site) -> None:
    site.write("connections", rest("crm", "http://nowhere.invalid"), site.database("erp"))
    site.write("policy", policy(system("crm", object="customers"), system("erp")))
    done = site.once()
    assert done.returncode == NEEDS_A_PERSON
    assert "nowhere.invalid" in told(done)


# --- records ---


def test_a_record_that_breaks_the_contract_is_a_dead_letter_others_flow_and_it_heals(site: Site) -> None:
    site.add("crm", "a@x", name="much too long to be a name")
    site.add("crm", "b@x", name="Bob")
    done = site.once()
    assert (done.returncode, site.names("erp")) == (OK, {"b@x": "Bob"})
    assert "crm/1 is a dead letter: field name breaks 'maxLength: 20' of the policy's schema" in told(done)
    assert "1 record cannot be synced" in told(done)
    site.sql("crm", "UPDATE customer SET name = 'Ada' WHERE email = 'a@x'")
    assert "InSync" in site.once().stdout
    assert site.names("erp") == {"a@x": "Ada", "b@x": "Bob"}


def test_a_system_that_suddenly_reads_as_empty_halts_until_a_person_approves(site: Site) -> None:
    site.write("policy", policy(deletes={"guard": {"maxRecords": 100, "maxPercent": 100}}))
    site.add("crm", "a@x", "b@x")
    site.once()
    site.sql("crm", "DELETE FROM customer")
    halted = site.once()
    assert (halted.returncode, "Halted" in halted.stdout) == (NEEDS_A_PERSON, True)
    assert site.emails("erp") == ["a@x", "b@x"]
    plan = re.search(r"fairlead\.dev/approve=(\w+)", halted.stdout)
    assert plan is not None
    site.annotate("approve", plan[1])
    assert (site.once().returncode, site.emails("erp")) == (OK, [])


# --- the state ---


def same_in_both(site: Site, count: int) -> None:
    """Both systems have the same customers, so that only the state grows when they meet."""
    for name in ("crm", "erp"):
        site.fill(name, count)


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A disk of its own at a folder, with room for a small state.

    Who may not mount one skips what needs it, even where nothing else may be skipped: test_sqlite_store has the rule.
    """
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1500k", "tmpfs", folder], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def filled(disk: Path) -> Path:
    """A file that takes all the room that is left."""
    path = disk / "filler"
    with suppress(OSError), path.open("wb", buffering=0) as filler:
        while filler.write(bytes(4096)):
            pass
    return path


def test_a_full_disk_is_told_as_one_and_once_there_is_space_the_next_run_goes_on_where_it_was(site: Site) -> None:
    same_in_both(site, 100)
    with small_disk(site.folder / ".fairlead") as disk:
        assert site.once().returncode == OK
        filler = filled(disk)
        site.add("crm", "a@x")
        full = site.once()
        assert (full.returncode, "StateUnavailable" in full.stdout) == (STATE_UNUSABLE, True)
        assert "no space is left for the state .fairlead/default.customers.db: enlarge spec.state.size or" in told(full)
        filler.unlink()
        assert (site.once().returncode, len(site.emails("erp"))) == (OK, 101)


def test_a_state_that_may_not_grow_ends_with_exit_code_3_and_the_next_run_goes_on_where_it_was(site: Site) -> None:
    same_in_both(site, 4000)
    full = site.once(limit=lambda: limits.setrlimit(limits.RLIMIT_FSIZE, (400_000, 400_000)))
    assert full.returncode == STATE_UNUSABLE
    assert "StateUnavailable" in full.stdout
    assert re.search(r"state \S+default\.customers\.db cannot be used \(disk I/O error\): see that", told(full))
    done = site.once()
    assert (done.returncode, len(site.emails("crm")), len(site.emails("erp"))) == (OK, 4000, 4000)
    assert "4000 records" in told(done) or "InSync" in done.stdout


def test_a_state_that_is_damaged_is_left_alone_and_without_it_nothing_is_doubled(site: Site) -> None:
    site.add("crm", "a@x", name="Ada")
    site.once()
    state = site.folder / STATE
    state.write_bytes(b"this is no database" * 1000)
    for leftover in (site.folder / f"{STATE}-wal", site.folder / f"{STATE}-shm"):
        leftover.unlink(missing_ok=True)
    done = site.once()
    assert (done.returncode, state.read_bytes()) == (STATE_UNUSABLE, b"this is no database" * 1000)
    assert "is damaged" in told(done)
    assert "restore a copy, or move the file away" in told(done)
    state.rename(site.folder / "damaged.db")
    assert site.once().returncode == OK
    assert (site.emails("crm"), site.emails("erp")) == (["a@x"], ["a@x"])


def test_a_state_of_a_newer_version_is_left_to_that_version(site: Site) -> None:
    site.once()
    database = sqlite3.connect(site.folder / STATE)
    database.execute("PRAGMA user_version = 99")
    database.close()
    site.add("crm", "a@x")
    done = site.once()
    assert (done.returncode, site.emails("erp")) == (STATE_UNUSABLE, [])
    assert "was written by a newer version of Fairlead: run that version, or newer" in told(done)


def test_a_second_worker_on_the_same_state_is_kept_out(site: Site) -> None:
    with site.worker() as first:
        wait_until((site.folder / STATE).exists)
        site.add("crm", "a@x")
        wait_until(lambda: site.emails("erp") == ["a@x"])
        second = site.once()
        assert second.returncode == STATE_UNUSABLE
        assert f"is in use by another worker (process {first.pid}): stop that one first" in told(second)
        site.add("crm", "b@x")
        wait_until(lambda: site.emails("erp") == ["a@x", "b@x"])
        stopped(first)
        assert first.returncode == OK
    assert site.once().returncode == OK


def test_a_folder_that_cannot_hold_a_state_is_told(site: Site) -> None:
    (site.folder / "file").write_text("")
    done = site.once("--state", "file/state")
    assert done.returncode == STATE_UNUSABLE
    assert "state file/state/default.customers.db cannot be used (Not a directory)" in told(done)


def test_a_state_that_cannot_be_used_stops_its_own_policy_alone(site: Site) -> None:
    site.write("other", policy(system("crm", fields={"email": "email"}, object="lead"),
                               system("erp", fields={"email": "email"}, object="lead"), name="leads",
                               schema={"type": "object", "properties": {"email": {"type": "string"}}}))  # fmt: skip
    for name in ("crm", "erp"):
        site.sql(name, "CREATE TABLE lead(id INTEGER PRIMARY KEY, email TEXT UNIQUE)")
    site.sql("crm", "INSERT INTO lead(email) VALUES ('lead@x')")
    (site.folder / ".fairlead").mkdir()
    (site.folder / STATE).write_bytes(b"this is no database" * 1000)
    done = site.once("--output", "json")
    assert done.returncode == STATE_UNUSABLE
    found = {item["name"]: (item["ready"], item["status"]) for item in json.loads(done.stdout)["policies"]}
    assert found == {"customers": (False, "StateUnavailable"), "leads": (True, "InSync")}
    assert site.sql("erp", "SELECT email FROM lead") == [("lead@x",)]


def test_a_plan_names_what_the_guard_holds_back_and_writes_nothing(site: Site) -> None:
    site.write("policy", policy(deletes={"guard": {"maxRecords": 1, "maxPercent": 100}}))
    site.add("crm", "a@x", "b@x", "c@x")
    site.once()
    site.sql("crm", "DELETE FROM customer WHERE email <> 'c@x'")
    halted = site.once()
    assert (halted.returncode, "2 deletes and overwrites are held back (limit 1)" in told(halted)) == (1, True)
    plan = site.fairlead("run", "manifests", "--plan")
    assert [line.split() for line in plan.stdout.splitlines() if "Delete" in line] == [
        ["Delete", "erp/1"],
        ["Delete", "erp/2"],
    ]
    assert site.emails("erp") == ["a@x", "b@x", "c@x"]


def test_a_policy_that_is_suspended_is_shown_and_does_nothing(site: Site) -> None:
    site.write("policy", policy(suspend=True))
    site.add("crm", "a@x")
    done = site.once()
    assert (done.returncode, site.emails("erp"), "Suspended" in done.stdout) == (OK, [], True)
    assert "customers: spec.suspend is true: nothing is read or written" in done.stdout
