"""`fairlead state` and `fairlead forget`, as a person uses them."""

import json
import sqlite3
import time
from collections import Counter
from pathlib import Path

import pytest

from support.commands import KEY, PEOPLE, Desk


@pytest.fixture
def desk(tmp_path: Path, database: str):
    made = Desk(tmp_path, database)
    made.declare()
    for email, name in PEOPLE.items():
        made.crm.add(email, name=name)
    made.run()
    yield made
    made.close()


ANY_CASE = [{"fields": ["email"], "normalize": ["Lowercase"]}]
POLICY_OPTION = ("policy.yaml", "--policy", "customers")


def test_a_state_moves_to_postgresql_and_back_and_nothing_is_met_again(desk: Desk) -> None:
    first, told = desk.command("state", "export", *POLICY_OPTION)
    assert told == "exported 3 records of default/customers\n"
    desk.declare({"store": "Postgres", "connection": "state"})
    _, told = desk.command("state", "import", *POLICY_OPTION, given=first)
    assert told == "imported 3 records of default/customers\n"
    second, _ = desk.command("state", "export", *POLICY_OPTION)
    assert second == first
    assert (desk.run()["changed"], len(desk.erp.all())) == (0, 3)
    desk.declare()
    desk.command("state", "import", *POLICY_OPTION, "--state", "back", given=second)
    third, _ = desk.command("state", "export", *POLICY_OPTION, "--state", "back")
    assert third == first


def test_an_export_holds_no_value_of_a_healthy_sync(desk: Desk) -> None:
    exported, _ = desk.command("state", "export", *POLICY_OPTION)
    assert [word for pair in PEOPLE.items() for word in pair if word.encode() in exported] == []


def test_a_state_that_is_there_is_not_overwritten(desk: Desk) -> None:
    exported, _ = desk.command("state", "export", *POLICY_OPTION)
    _, told = desk.command("state", "import", *POLICY_OPTION, given=exported, check=3)
    assert "this state is not empty" in told


def test_a_file_that_was_cut_off_imports_nothing(desk: Desk) -> None:
    exported, _ = desk.command("state", "export", *POLICY_OPTION)
    cut = exported[: exported.rindex(b'{"type":"end"')]
    _, told = desk.command("state", "import", *POLICY_OPTION, "--state", "new", given=cut, check=3)
    assert "it was cut off; export it again" in told
    desk.command("state", "import", *POLICY_OPTION, "--state", "new", given=exported)


def test_a_state_that_is_not_there_is_said_so_and_not_made(desk: Desk) -> None:
    out, told = desk.command("state", "export", *POLICY_OPTION, "--state", "elsewhere", check=3)
    assert (out, told) == (
        b"",
        "there is no state of default/customers to export: see --state and spec.state\n",
    )
    assert not (desk.folder / "elsewhere" / "default.customers.db").exists()


def test_a_policy_that_is_not_there_is_told_with_what_was_meant(desk: Desk) -> None:
    _, told = desk.command("state", "export", "policy.yaml", "--policy", "default/customer", check=1)
    assert told == "there is no SyncPolicy 'default/customer': did you mean 'default/customers'?\n"


def test_a_forgotten_person_is_gone_from_the_state_and_is_not_taken_in_again(desk: Desk) -> None:
    desk.crm.edit("ada@example.com", note="from crm")
    desk.erp.edit("ada@example.com", note="from erp")
    assert desk.run()["conflicts"] == 1
    _, told = desk.command("forget", *POLICY_OPTION, "--record", "crm/1")
    assert told.startswith("forgot crm/1, erp/1 of default/customers: what the systems hold is theirs")
    desk.crm.edit("ada@example.com", name="Ada King", note="new")
    desk.crm.edit("alan@example.com", name="A. M. Turing")
    counts = desk.run()
    assert (counts["changed"], counts["conflicts"], counts["dead"]) == (1, 0, 0)
    assert desk.erp.all()["ada@example.com"] == ("Ada Lovelace", None, "from erp")
    assert desk.erp.all()["alan@example.com"][0] == "A. M. Turing"
    content = (desk.folder / ".fairlead" / "default.customers.db").read_bytes()
    assert [word for word in (b"from crm", b"from erp", b"Ada", b"ada@") if word in content] == []


def test_a_person_of_a_sealed_state_is_forgotten_with_the_key(desk: Desk) -> None:
    key = {"encryptionKey": {"secretKeyRef": {"name": "sealing", "key": "keys"}}}
    desk.declare(key, desk.secret("sealing", keys=KEY))
    desk.run()
    desk.command("forget", *POLICY_OPTION, "--record", "erp/2")
    assert desk.run()["read"] == 6
    with sqlite3.connect(desk.folder / ".fairlead" / "default.customers.db") as state:
        assert state.execute("SELECT count(*) FROM record").fetchone() == (2,)


@pytest.mark.parametrize(
    ("record", "code", "expected"),
    [
        ("shop/1", 1, "--record: 'shop' is no system of default/customers; known are crm, erp\n"),
        ("crm", 2, "--record takes SYSTEM/KEY, for example crm/17\n"),
    ],
)
def test_a_record_that_names_none_is_told(desk: Desk, record: str, code: int, expected: str) -> None:
    assert desk.command("forget", *POLICY_OPTION, "--record", record, check=code)[1] == expected


def test_a_person_with_a_double_is_forgotten_as_a_whole_or_not_at_all(desk: Desk) -> None:
    desk.declare(match=ANY_CASE)
    desk.crm.add("ADA@example.com", name="Ada's double")
    assert desk.run()["dead"] == 1
    _, told = desk.command("forget", *POLICY_OPTION, "--record", "erp/1", check=1)
    assert told == (
        "crm/4 (Duplicate) may be the same person\n"
        "nothing was forgotten: forget each of them too, with a further --record SYSTEM/KEY, or say that it is "
        "somebody else, with --keep SYSTEM/KEY\n"
    )
    _, told = desk.command("forget", *POLICY_OPTION, "--record", "erp/1", "--record", "crm/4")
    assert told.startswith("forgot crm/1, crm/4, erp/1 of default/customers: ")
    for _ in range(2):
        out, _ = desk.command("run", "policy.yaml", "--once", "--resync", "--output", "json")
        counts = Counter(json.loads(out)["policies"][0]["worker"]["history"][0]["counts"])
        assert (counts["changed"], counts["created"], counts["dead"]) == (0, 0, 0)
    assert sorted(desk.erp.all()) == sorted(PEOPLE)


def test_nobody_is_forgotten_before_doubles_are_known_by_new_match_rules(desk: Desk) -> None:
    desk.declare(match=ANY_CASE)
    desk.crm.add("ADA@example.com", name="Ada's double")
    desk.run()
    desk.declare(match=[{"fields": ["email"], "normalize": ["Trim", "Lowercase"]}])
    forget = ("forget", *POLICY_OPTION, "--record", "erp/1")
    assert desk.command(*forget, check=1)[1].startswith("nothing was forgotten: spec.match is another one than before")
    desk.run()
    assert desk.command(*forget, check=1)[1].startswith("crm/4 (Duplicate) may be the same person\n")


def test_a_double_that_is_somebody_else_is_kept(desk: Desk) -> None:
    desk.declare(match=ANY_CASE)
    desk.crm.add("ADA@example.com", name="Another Ada")
    desk.run()
    desk.command("forget", *POLICY_OPTION, "--record", "crm/1", "--keep", "crm/4")
    desk.command("run", "policy.yaml", "--once", "--resync")
    exported, _ = desk.command("state", "export", *POLICY_OPTION)
    records = [line for line in exported.splitlines() if b'"type":"record"' in line]
    assert (len(records), [b'"key":"4"' in line for line in records]) == (3, [False, False, True])
    assert sorted(desk.erp.all()) == sorted(PEOPLE)  # where the forgotten Ada still is: nobody is linked with her


def test_what_was_asked_about_a_forgotten_person_is_told(desk: Desk) -> None:
    desk.crm.edit("ada@example.com", note="from crm")
    desk.erp.edit("ada@example.com", note="from erp")
    desk.run()
    keeping = ("--record", "crm/1", "--keep", "crm", "--by", "grace", "--timeout", "0")
    desk.command("conflicts", "resolve", *POLICY_OPTION, *keeping, check=4)
    _, told = desk.command("forget", *POLICY_OPTION, "--record", "crm/1")
    assert "dropped an open request of grace (ResolveConflicts, " in told
    assert told.endswith("): it was about nothing else\n")


def test_a_key_of_which_nothing_is_known_is_refused(desk: Desk) -> None:
    _, told = desk.command("forget", *POLICY_OPTION, "--record", "crm/1", "--record", "crm/99", check=1)
    assert told == (
        "nothing is known of crm/99, so nothing was forgotten: is the key right? With --unseen, what will have it is "
        "not taken in\n"
    )
    _, told = desk.command("forget", *POLICY_OPTION, "--record", "crm/99", "--unseen")
    assert told.startswith("forgot crm/99 of default/customers: ")


def test_who_has_the_key_of_a_forgotten_person_is_told_and_taken_in_when_a_person_says_so(desk: Desk) -> None:
    desk.command("forget", *POLICY_OPTION, "--record", "crm/4", "--unseen")
    desk.crm.add("hugo@example.com", name="Hugo")

    def resynced() -> tuple[str, int]:
        out, _ = desk.command("run", "policy.yaml", "--once", "--resync", "--output", "json")
        worker = json.loads(out)["policies"][0]["worker"]
        (crm,) = [system for system in worker["systems"] if system["name"] == "crm"]
        return crm.get("reason", ""), worker["history"][0]["counts"].get("created", 0)

    assert resynced() == ("Forgotten", 0)
    _, told = desk.command("explain", "crm/4", *POLICY_OPTION, check=1)
    assert told.startswith("crm/4 was forgotten, and is not taken in: ")
    _, told = desk.command("forget", *POLICY_OPTION, "--take-in", "crm/4")
    assert told == "the next run takes in crm/4 of default/customers\n"
    assert desk.run()["created"] == 1
    assert desk.erp.all()["hugo@example.com"][0] == "Hugo"
    assert resynced() == ("", 0)


def test_who_was_not_forgotten_needs_not_be_taken_in(desk: Desk) -> None:
    _, told = desk.command("forget", *POLICY_OPTION, "--take-in", "crm/1", check=1)
    assert told == "crm/1: was not forgotten\n"


def test_forgetting_makes_no_state(desk: Desk) -> None:
    elsewhere = ("--state", "elsewhere", "--record", "crm/1")
    _, told = desk.command("forget", *POLICY_OPTION, *elsewhere, check=3)
    assert "there is no state" in told
    assert not (desk.folder / "elsewhere").exists()


# --- keys, versions and workers ---

SEALING = {"encryptionKey": {"secretKeyRef": {"name": "sealing", "key": "keys"}}}
ABOUT = (("run", "policy.yaml", "--once"), ("forget", *POLICY_OPTION, "--record", "crm/1"), ("conflicts", "list"))


def refusal(desk: Desk, *command: str) -> str:
    """All that a command tells that cannot use the state, on one line."""
    out, told = desk.command(*command, check=3)
    return " ".join((out.decode() + told).split())


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("another key of thirty-two characters", "add that key as a further line of its Secret; nothing was lost"),
        ("", "Secret 'sealing' has no key 'keys', or does not exist: put it back into the policy's namespace"),
        ("short", "line 1 of the Secret of spec.state.encryptionKey is a key of 5 bytes: write at least 32 random"),
    ],
    ids=["wrong", "lost", "short"],
)
def test_a_wrong_or_lost_key_is_told_by_every_command_and_changes_nothing(desk: Desk, keys: str, expected: str) -> None:
    desk.declare(SEALING, desk.secret("sealing", keys=KEY))
    desk.run()
    before, _ = desk.command("state", "export", *POLICY_OPTION)
    desk.declare(SEALING, *([desk.secret("sealing", keys=keys)] if keys else []))
    desk.crm.add("new@example.com")
    for command in (*ABOUT[:2], (*ABOUT[2], *POLICY_OPTION)):
        assert expected in refusal(desk, *command)
    assert desk.command("state", "export", *POLICY_OPTION)[0] == before
    assert sorted(desk.erp.all()) == sorted(PEOPLE)
    desk.declare(SEALING, desk.secret("sealing", keys=KEY))
    assert desk.run()["created"] == 1


def test_a_state_of_a_newer_version_is_refused_by_every_command(desk: Desk) -> None:
    with sqlite3.connect(desk.folder / ".fairlead" / "default.customers.db") as state:
        state.execute("PRAGMA user_version = 99")
    planning = ("run", "policy.yaml", "--plan")
    for command in (*ABOUT[:2], (*ABOUT[2], *POLICY_OPTION), planning, ("state", "export", *POLICY_OPTION)):
        told = refusal(desk, *command)
        assert "was written by a newer version of Fairlead: run that version, or newer" in told


def test_a_state_that_a_worker_holds_is_not_written_by_another_or_by_a_command(desk: Desk) -> None:
    with desk.worker() as worker:
        lock = desk.folder / ".fairlead" / "default.customers.db.lock"
        deadline = time.monotonic() + 30
        while lock.read_text() != str(worker.pid) and time.monotonic() < deadline:
            time.sleep(0.1)
        for command in ABOUT[:2]:
            told = refusal(desk, *command)
            assert f"is in use by another worker (process {worker.pid}): stop that one first" in told
