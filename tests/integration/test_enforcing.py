"""A resync that enforces: the system of record's values replace what already differs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fairlead.model.syncpolicy import ENFORCE_REQUESTED_AT
from fairlead.transport.failure import Transient
from fairlead.worker.run import Kind, Outcome
from support.hosted import Hosted
from support.site import Site, policy, system
from support.town import Town


@pytest.fixture
def town_of(tmp_path: Path) -> Callable[..., Town]:
    return lambda *names, **spec: Town(tmp_path, *(names or ("crm", "erp", "shop")), **spec)


async def differing(town: Town) -> Town:
    """A record that differs since it was met."""
    town.policy["firstSync"] = "FillEmptyOnly"
    for name in town.systems:
        town.add(name, "a@x", name=f"{name}'s", note="same")
    town.add("crm", "b@x", name="other")
    await town.run()
    await town.run(Kind.RESYNC)
    assert town.values("erp")["a@x"] == "erp's"
    return town


async def test_a_new_system_of_record_is_applied_to_what_already_differs(town_of) -> None:
    town = await differing(town_of())
    town.policy["systemOfRecord"] = "erp"
    await town.run(Kind.RESYNC)
    assert [town.values(name)["a@x"] for name in town.systems] == ["crm's", "erp's", "shop's"]
    report = await town.run(Kind.RESYNC, enforce=True)
    assert [town.values(name)["a@x"] for name in town.systems] == ["erp's"] * 3
    assert ("Overwritten", "name", "resync --enforce", "erp") in town.audit
    assert report.tally.counts()["updated"] == 2
    again = await town.run(Kind.RESYNC, enforce=True)
    assert again.tally.counts()["updated"] == 0


async def test_the_guard_counts_what_it_would_overwrite(town_of) -> None:
    town = await differing(town_of(deletes={"guard": {"maxRecords": 1, "maxPercent": 100}}))
    halted = await town.run(Kind.RESYNC, enforce=True)
    assert (halted.outcome, town.values("erp")["a@x"]) == (Outcome.HALTED, "erp's")
    assert halted.halt is not None
    await town.run(approved=halted.halt.plan)
    assert [town.values(name)["a@x"] for name in town.systems] == ["crm's"] * 3


async def test_an_edit_that_was_not_seen_yet_is_an_edit(town_of) -> None:
    town = await differing(town_of())
    town.edit("shop", "a@x", name="edited")
    await town.run(Kind.RESYNC, enforce=True)
    assert [town.values(name)["a@x"] for name in town.systems] == ["edited"] * 3


async def test_each_field_follows_its_own_owner_and_an_owner_without_a_value_nobody(town_of) -> None:
    town = town_of(fields={"note": {"systemOfRecord": "erp"}}, firstSync="FillEmptyOnly")
    for name in town.systems:
        town.add(name, "a@x", name=f"{name}'s", note=f"{name}'s")
    town.add("crm", "b@x")
    await town.run()
    town.redeclare("shop", "email", "name", "note", access="ReadOnly")
    await town.run(Kind.RESYNC, enforce=True)
    assert [town.values(name)["a@x"] for name in town.systems] == ["crm's", "crm's", "shop's"]
    assert [town.values(name, "note")["a@x"] for name in town.systems] == ["erp's", "erp's", "shop's"]


async def test_what_waits_for_a_person_waits_on(town_of) -> None:
    town = town_of("crm", "erp", firstSync="Review")
    for name in town.systems:
        town.add(name, "a@x", name=f"{name}'s")
    await town.run()
    await town.run(Kind.RESYNC, enforce=True)
    assert ([conflict.field for conflict in town.conflicts], town.values("erp")) == (["name"], {"a@x": "erp's"})


async def test_a_record_whose_system_is_down_waits_and_others_go_on(town_of) -> None:
    town = await differing(town_of())
    town["shop"].down = Transient("shop is down")
    await town.run(Kind.RESYNC, enforce=True)
    town["shop"].down = None
    await town.run(Kind.RESYNC, enforce=True)
    assert [town.values(name)["a@x"] for name in town.systems] == ["crm's"] * 3


def test_the_command_enforces(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.write("policy", policy(system("crm"), system("erp"), firstSync="FillEmptyOnly"))
    site.add("crm", "a@x", name="crm's")
    site.add("erp", "a@x", name="erp's")
    assert (site.once().returncode, site.names("erp")) == (0, {"a@x": "erp's"})
    assert site.once("--resync", "--enforce").returncode == 0
    assert site.names("erp") == {"a@x": "crm's"}


@pytest.mark.parametrize("options", [("--enforce",), ("--resync",), ("--once", "--enforce")])
def test_options_that_do_nothing_alone_are_refused(tmp_path: Path, options: tuple[str, ...]) -> None:
    found = Site(tmp_path).fairlead("run", "manifests", *options)
    assert (found.returncode, "--enforce needs --resync" in found.stderr) == (2, True)


async def test_the_annotation_enforces_once_whenever_the_worker_comes_to_it(tmp_path: Path, database: str) -> None:
    hosted = Hosted(tmp_path, database)
    in_a_file = {"state": {"store": "SQLite"}, "firstSync": "FillEmptyOnly"}
    hosted.crm.add("a@x", name="crm's")
    hosted.erp.add("a@x", name="erp's")
    found = []
    for asked in ("", "monday", "monday", "tuesday"):
        loop = hosted.loop({ENFORCE_REQUESTED_AT: asked} if asked else {}, **in_a_file)
        report = await loop.run_once()
        assert report is not None
        found.append((report.kind, loop.measured.last_handled_enforce_request_at, hosted.erp.all()["a@x"][0]))
        await hosted.hosts[-1].close()
    await hosted.close()
    assert found == [
        (Kind.CHANGES, "", "erp's"),
        (Kind.RESYNC, "monday", "crm's"),
        (Kind.CHANGES, "monday", "crm's"),
        (Kind.RESYNC, "tuesday", "crm's"),
    ]
