"""`fairlead held`: what the guard holds back is looked at, and then approved."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from support.site import Site, policy

GUARD = {"guard": {"maxRecords": 1, "maxPercent": 100}}


NOTHING = (
    "no write is held back in default/customers; where a system suddenly reads as empty none is decided, and the "
    "policy's message says how to approve that\n"
)


class Guarded:
    """Three customers, two of whom the CRM deleted: one more than the guard lets go."""

    def __init__(self, folder: Path, **spec: Any) -> None:
        self.site = Site(folder)
        self.declare(**spec)
        self.site.add("crm", "a@x", "b@x", "c@x")
        assert self.site.once().returncode == 0
        self.site.sql("crm", "DELETE FROM customer WHERE email <> 'c@x'")
        self.halted = self.site.once()

    def declare(self, annotations: dict[str, str] | None = None, **spec: Any) -> None:
        """Writes the policy."""
        document = policy(**{"deletes": GUARD, **spec})
        document["metadata"] |= {"annotations": annotations} if annotations else {}
        self.site.write("policy", document)

    def listed(self, *filters: str) -> list[Any]:
        """What is told to machines."""
        done = self.site.fairlead("held", "list", "manifests", "--output", "json", *filters)
        return list(json.loads(done.stdout)["held"])


@pytest.fixture
def guarded(tmp_path: Path) -> Guarded:
    return Guarded(tmp_path)


def test_the_halt_says_what_to_type_and_it_works(guarded: Guarded) -> None:
    *_, command = re.findall(r"look at them with `fairlead (.*?)`", " ".join(guarded.halted.stdout.split()))
    done = guarded.site.fairlead(*command.split())
    assert [line.split()[:3] for line in done.stdout.splitlines()] == [
        ["SYSTEM", "WHAT", "RECORD"],
        ["erp", "Delete", "erp/1"],
        ["erp", "Delete", "erp/2"],
    ]


def test_the_plan_that_it_tells_is_the_one_to_approve(guarded: Guarded) -> None:
    done = guarded.site.fairlead("held", "list", "manifests")
    (name, plan) = re.findall(r"annotation (\S+)=(\S+)$", done.stderr.strip())[0]
    told = "all that is held back in default/customers is one plan: approve it with the annotation"
    assert done.stderr == f"{told} {name}={plan}\n"
    guarded.declare({name: plan})
    assert (guarded.site.once().returncode, guarded.site.emails("erp")) == (0, ["c@x"])


def test_machines_get_the_plan_and_everything_but_values(guarded: Guarded) -> None:
    document = json.loads(guarded.site.fairlead("held", "list", "manifests", "--output", "json").stdout)
    plan = re.findall(r"approve=(\w+)", guarded.halted.stdout)[0]
    assert document | {"held": [{**each, "since": ""} for each in document["held"]]} == {
        "plan": plan,
        "held": [
            {"system": "erp", "what": "Delete", "record": {"erp": key}, "fields": [], "since": ""} for key in ("1", "2")
        ],
    }


@pytest.mark.parametrize(
    ("filters", "keys"),
    [
        (["--record", "erp/2"], ["2"]),
        (["--record", "erp/3"], []),
        (["--record", "erp/99"], []),
        (["--system", "crm"], []),
        (["--field", "name"], []),
        (["--older-than", "1h"], []),
    ],
)
def test_filters_choose(guarded: Guarded, filters: list[str], keys: list[str]) -> None:
    assert [each["record"]["erp"] for each in guarded.listed(*filters)] == keys


def test_an_overwrite_at_a_first_meeting_names_its_fields(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.write("policy", policy(deletes={"guard": {"maxRecords": 0, "maxPercent": 0}}))
    for name in ("crm", "erp"):
        site.add(name, "a@x", name=f"{name}'s")
    site.once()
    done = site.fairlead("held", "list", "manifests", "--field", "name", "--output", "json")
    assert [(each["system"], each["what"], each["fields"]) for each in json.loads(done.stdout)["held"]] == [
        ("erp", "Update", ["name"])
    ]


def test_nothing_held_back_is_told(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.once()
    done = site.fairlead("held", "list", "manifests")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", NOTHING)


def test_it_is_listed_beside_a_worker_that_runs(guarded: Guarded) -> None:
    with guarded.site.worker():
        assert len(guarded.listed()) == 2


def test_what_is_mended_where_it_comes_from_is_held_back_no_more(guarded: Guarded) -> None:
    guarded.site.sql("crm", "INSERT INTO customer(id, email) VALUES (1, 'a@x'), (2, 'b@x')")
    assert (guarded.site.once().returncode, guarded.listed()) == (0, [])
    assert (guarded.site.emails("crm"), guarded.site.emails("erp")) == (["a@x", "b@x", "c@x"], ["a@x", "b@x", "c@x"])
