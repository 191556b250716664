"""`fairlead explain` on what is not in order: what was not taken in, what was refused, and what differs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from support.site import Site, policy

REFUSES = (
    "CREATE TRIGGER refuses_{0} BEFORE {0} ON customer WHEN new.note = 'forbidden' BEGIN SELECT RAISE(ABORT, 'no'); END"
)
CUTS = (
    "CREATE TRIGGER cuts_{0} AFTER {0} ON customer WHEN length(new.name) > 5 "
    "BEGIN UPDATE customer SET name = substr(new.name, 1, 5) WHERE id = new.id; END"
)
MOMENT = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Records of which something is not in order, for what only reads."""
    made = Site(tmp_path_factory.mktemp("explained"))
    made.write("policy", policy(match=[{"fields": ["email"], "normalize": ["Lowercase"]}]))
    made.add("crm", "refused@x", "broken@x", "twice@x", "long@x", name="old")
    assert made.once().returncode == 0
    for operation in ("INSERT", "UPDATE"):
        made.sql("erp", REFUSES.format(operation))
        made.sql("erp", CUTS.format(operation))
    made.sql("crm", "UPDATE customer SET note = 'forbidden' WHERE email = 'refused@x'")
    made.sql("crm", "UPDATE customer SET name = 'a name of more than twenty letters' WHERE email = 'broken@x'")
    made.sql("crm", "UPDATE customer SET name = 'Ada Lovelace' WHERE email = 'long@x'")
    made.add("crm", "also long@x", name="Alan Turing")
    made.sql("erp", "INSERT INTO customer(id, email) VALUES (8, 'Twice@X')")
    made.add("crm", "unwelcome@x", note="forbidden")
    made.once()
    return made


def explained(site: Site, record: str) -> str:
    """What is told of a record; times are left out."""
    done = site.fairlead("explain", record, "manifests")
    assert done.returncode == 0, done.stderr
    return re.sub(MOMENT, "TIME", done.stdout)


def document(site: Site, record: str) -> Any:
    """The same for machines."""
    return json.loads(site.fairlead("explain", record, "manifests", "--output", "json").stdout)


def story(site: Site, record: str, field: str) -> list[str]:
    """What is told of one field, besides its rule."""
    _, _, text = explained(site, record).partition(f"\n{field}\n")
    lines = [line.strip() for line in re.split(r"^\S", text, maxsplit=1, flags=re.MULTILINE)[0].splitlines()]
    return [line for line in lines if not line.startswith("owned by")]


def test_a_side_that_breaks_the_contract_is_no_agreement(site: Site) -> None:
    assert explained(site, "crm/2").splitlines()[:2] == [
        "crm/2 = erp/2",
        "  crm/2 was not taken in since TIME: ContractBroken: field name breaks 'maxLength: 20' of the policy's schema",
    ]
    assert story(site, "crm/2", "name") == ["crm: it was not taken in since TIME", "in agreement until then: erp"]


def test_machines_are_told_what_was_not_taken_in(site: Site) -> None:
    found = document(site, "erp/2")
    (letter,) = found["letters"]
    assert (letter["system"], letter["key"], letter["reason"]) == ("crm", "2", "ContractBroken")
    states = {name: standing["state"] for name, standing in found["fields"][0]["systems"].items()}
    assert states == {"crm": "NotTakenIn", "erp": "Agrees"}


def test_a_dead_letter_that_is_no_record_is_explained(site: Site) -> None:
    why = "Duplicate: matches the same record as 3 of the same system: merge the two there"
    assert explained(site, "erp/8") == f"erp/8\n  erp/8 was not taken in since TIME: {why}\n"


def test_a_refused_value_is_not_on_its_way(site: Site) -> None:
    (refused,) = [line for line in story(site, "crm/1", "note") if line.startswith("erp")]
    assert refused == 'erp: the value of crm was refused: Invalid: customer refuses the row: no ("forbidden")'


def test_a_refused_create_is_not_on_its_way(site: Site) -> None:
    assert explained(site, "crm/6").splitlines()[:2] == [
        "crm/6",
        "  erp: it is to be created there, and was refused: Invalid: customer refuses the row: no",
    ]


def test_a_dead_letter_that_was_discarded_is_told_as_that(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.add("crm", "a@x", name="a name of more than twenty letters")
    site.once()
    assert site.fairlead("dead-letters", "discard", "manifests", "--all", "--yes", "--timeout", "0").returncode == 4
    site.once()
    assert explained(site, "crm/1").splitlines()[1] == (
        "  crm/1 was not taken in since TIME (field name breaks 'maxLength: 20' of the policy's schema), "
        "and was discarded by a person: only a change of it brings it back"
    )


@pytest.mark.parametrize("record", ["crm/4", "crm/5"])  # the audit tells of a lossy field once, with one of them
def test_a_field_that_is_stored_otherwise_than_written_differs_for_that(site: Site, record: str) -> None:
    assert story(site, record, "name")[:2] == [
        "crm: it differs from erp, where it is stored otherwise than it was written",
        "erp: it stores it otherwise than it was written: that counts as seen, and is not written again",
    ]


def test_what_differed_at_a_first_meeting_and_was_left_so_differs_for_that(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.write("policy", policy(firstSync="FillEmptyOnly"))
    site.add("crm", "a@x", name="Ada")
    site.add("erp", "a@x", name="Augusta")
    site.once()
    why = "since they first met, and stays so until someone changes it (firstSync: FillEmptyOnly)"
    told = [f"{system}: it differs from another system {why}" for system in ("crm", "erp")]
    assert story(site, "crm/1", "name") == told


def test_first_sync_is_no_reason_where_a_write_was_refused(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.write("policy", policy(firstSync="FillEmptyOnly"))
    site.add("crm", "a@x", name="Ada")
    site.once()
    site.sql("erp", REFUSES.format("UPDATE"))
    site.sql("crm", "UPDATE customer SET note = 'forbidden'")
    site.once()
    assert story(site, "crm/1", "note")[0] == "crm: it differs from another system"


def test_a_reference_to_a_record_that_is_not_there_yet_is_told_as_waiting_and_as_no_agreement(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.write("policy", policy(fields={"note": {"references": "customers"}}))
    site.add("crm", "a@x")
    site.add("crm", "b@x", note="1")
    site.once()
    site.sql("crm", "UPDATE customer SET note = '99' WHERE id = 2")
    site.once()
    assert story(site, "crm/2", "note")[:2] == [
        "crm: it refers to a record that is not there yet, and waits for it",
        "in agreement until then: erp",
    ]
