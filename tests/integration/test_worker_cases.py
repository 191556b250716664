"""The hard cases of the design, settled: what the worker does when systems come, go, filter, match and disagree."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from fairlead.connectors.base import Outcome as Written
from fairlead.model.connector import ErrorClass
from fairlead.testing.memory_system import Fault, MemoryObject, MemoryPage, MemorySystem, Traits
from fairlead.transport.failure import Transient
from fairlead.worker import run as runs
from fairlead.worker.run import Kind, Outcome
from support.town import Town


@pytest.fixture
def town_of(tmp_path: Path) -> Callable[..., Town]:
    return lambda *names, **spec: Town(tmp_path, *(names or ("crm", "erp")), **spec)


# --- three systems ---


async def test_an_edit_in_any_of_three_systems_reaches_the_other_two(town_of) -> None:
    town = town_of("crm", "erp", "shop")
    town.add("crm", "a@x", name="old")
    await town.agree()
    town.edit("shop", "a@x", name="new")
    await town.run()
    assert [town.values(name) for name in town.systems] == [{"a@x": "new"}] * 3


async def test_records_that_are_only_here_or_there_are_everywhere_afterwards(town_of) -> None:
    town = town_of("crm", "erp", "shop")
    for number, name in enumerate(town.systems):
        town.add(name, f"{number}@x", name=name)
    await town.run()
    assert [town.values(name) for name in town.systems] == [{"0@x": "crm", "1@x": "erp", "2@x": "shop"}] * 3


async def test_a_conflict_of_three_has_one_winner_and_one_audit_entry(town_of) -> None:
    town = town_of("crm", "erp", "shop")
    town.add("crm", "a@x", name="old")
    await town.agree()
    for name in town.systems:
        town.edit(name, "a@x", name=f"{name}'s")
    await town.run()
    assert [town.values(name) for name in town.systems] == [{"a@x": "crm's"}] * 3
    assert ("Conflict", "name", "onConflict: SystemOfRecordWins", "crm") in town.audit


# --- matching ---


async def test_records_whose_match_fields_mean_the_same_are_linked_and_not_created_twice(town_of) -> None:
    town = town_of()
    town.add("crm", "Ada@X.com ", name="Ada")
    town.add("erp", "ada@x.com", note="from the ERP")
    await town.run()
    assert (len(town["crm"].records), len(town["erp"].records)) == (1, 1)
    assert list(town.values("erp", "name").values()) == ["Ada"]


async def test_identity_is_the_link_so_a_changed_match_field_is_an_ordinary_change(town_of) -> None:
    town = town_of()
    town.add("crm", "a@x", name="Ada")
    await town.agree()
    town.edit("crm", "a@x", email="new@x")
    await town.run()
    assert (town.values("crm"), town.values("erp")) == ({"new@x": "Ada"}, {"new@x": "Ada"})


async def test_an_ambiguous_match_is_a_dead_letter_and_nothing_is_guessed(town_of) -> None:
    town = town_of("crm", "erp", "shop")
    town.add("erp", "a@x", name="one")
    town.add("erp", "a@x", name="two")
    town.add("crm", "a@x", name="which?")
    await town.run()
    assert sorted(str(row["name"]) for row in town["erp"].records.values()) == ["one", "two"]
    assert [row["name"] for row in town["crm"].records.values()] == ["which?"]
    assert {(letter.system, letter.reason) for letter in town.letters} == {("erp", "Duplicate"), ("crm", "Ambiguous")}
    assert town["shop"].records == {}


async def test_an_ambiguous_match_heals_when_it_is_mended_and_a_resync_looks_again(town_of) -> None:
    town = town_of()
    town.add("erp", "a@x", name="one")
    twin = town.add("erp", "a@x", name="two")
    town.add("crm", "a@x", name="crm's")
    await town.run()
    town["erp"].remove(twin)
    await town.run(Kind.RESYNC)
    assert (town.letters, town.values("erp"), town.values("crm")) == ([], {"a@x": "crm's"}, {"a@x": "crm's"})


async def test_a_record_without_any_match_value_is_a_dead_letter(town_of) -> None:
    town = town_of()
    town["crm"].add({"email": None, "name": "nobody", "note": None})
    await town.run()
    assert ([letter.reason for letter in town.letters], town["erp"].records) == (["NoMatchKey"], {})


async def test_the_same_thing_created_on_two_sides_between_two_runs_is_linked(town_of) -> None:
    town = town_of()
    town.add("crm", "z@x")
    await town.agree()
    town.add("crm", "a@x", name="crm's")
    town.add("erp", "a@x", name="erp's", note="erp's")
    await town.run()
    assert (town.values("crm"), town.values("erp")) == (
        {"z@x": None, "a@x": "crm's"}, {"z@x": None, "a@x": "crm's"}
    )  # fmt: skip
    assert town.values("crm", "note")["a@x"] == "erp's"


# --- a filter ---


async def test_what_a_filter_excludes_is_not_synced(town_of) -> None:
    town = town_of()
    town.redeclare("crm", filter="note != 'private'")
    town.add("crm", "a@x", note="public")
    town.add("crm", "b@x", note="private")
    await town.run()
    assert town.values("erp", "note") == {"a@x": "public"}


async def test_a_record_that_leaves_the_filter_is_kept_and_no_longer_synced(town_of) -> None:
    town = town_of()
    town.redeclare("crm", filter="note != 'private'")
    town.add("crm", "a@x", name="before")
    await town.agree()
    town.edit("crm", "a@x", name="after", note="private")
    town.edit("erp", "a@x", name="edited")
    await town.run()
    assert (town.values("crm"), town.values("erp")) == ({"a@x": "after"}, {"a@x": "edited"})


async def test_a_write_that_was_under_way_to_a_record_that_left_the_filter_is_not_sent(town_of) -> None:
    town = town_of()
    town.redeclare("crm", filter="note != 'private'")
    town.add("crm", "a@x", name="old")
    await town.agree()
    town["crm"].down = Transient("down")
    town.edit("erp", "a@x", name="from the ERP")
    await town.run()
    town["crm"].down = None
    town.edit("crm", "a@x", note="private")
    await town.run()
    assert (town.values("crm"), town.pending) == ({"a@x": "old"}, 0)


async def test_a_record_that_comes_back_into_the_filter_is_first_met_again(town_of) -> None:
    town = town_of()
    town.redeclare("crm", filter="note != 'private'")
    town.add("crm", "a@x", name="before")
    await town.agree()
    town.edit("crm", "a@x", note="private")
    await town.run()
    town.edit("crm", "a@x", name="crm's", note="public")
    town.edit("erp", "a@x", name="erp's")
    await town.run()
    assert (town.values("crm"), town.values("erp")) == ({"a@x": "crm's"}, {"a@x": "crm's"})


async def test_on_leave_delete_deletes_elsewhere_under_the_guard(town_of) -> None:
    town = town_of(deletes={"guard": {"maxRecords": 0}})
    town.redeclare("crm", filter="note != 'private'", onLeave="Delete")
    town.add("crm", "a@x")
    await town.agree()
    town.edit("crm", "a@x", note="private")
    report = await town.run()
    assert (report.outcome, list(town.values("erp"))) == (Outcome.HALTED, ["a@x"])
    assert report.halt is not None
    await town.run(approved=report.halt.plan)
    assert (town["erp"].records, list(town.values("crm"))) == ({}, ["a@x"])


# --- deletes ---


async def test_what_was_deleted_and_is_created_again_is_a_new_record(town_of) -> None:
    town = town_of()
    town.add("crm", "a@x", name="first")
    town.add("crm", "b@x")
    await town.agree()
    town.remove("crm", "a@x")
    await town.run()
    town.add("crm", "a@x", name="second")
    await town.run()
    assert (town.values("crm"), town.values("erp")) == ({"b@x": None, "a@x": "second"},) * 2


async def test_a_page_that_is_older_than_a_delete_brings_nothing_back(town_of) -> None:
    town = town_of()
    town.add("crm", "a@x")
    town.add("crm", "b@x")
    await town.agree()
    town.remove("crm", "a@x")
    await town.run()
    await town.run(Kind.RESYNC)
    assert (list(town.values("crm")), list(town.values("erp"))) == (["b@x"], ["b@x"])


async def test_a_system_that_reads_as_empty_halts_and_its_approval_lets_the_deletes_go(town_of) -> None:
    town = town_of()
    town["crm"].traits = Traits(changes=False)
    for number in range(3):
        town.add("crm", f"{number}@x")
    await town.agree()
    for number in range(3):
        town.remove("crm", f"{number}@x")
    halted = await town.run()
    assert (halted.outcome, len(town["erp"].records)) == (Outcome.HALTED, 3)
    assert halted.halt is not None
    assert halted.halt.message == (
        "crm reads as empty, and had 3 records: nothing was deleted. If crm is really empty, approve "
        f"with the annotation fairlead.dev/approve={halted.halt.plan}; else mend its access, object or filter"
    )
    released = await town.run(approved=halted.halt.plan)
    assert (released.outcome, town["erp"].records) == (Outcome.SUCCEEDED, {})


async def test_a_system_that_is_back_after_it_read_as_empty_goes_on_as_if_nothing_had_been(town_of) -> None:
    town = town_of()
    town["crm"].traits = Traits(changes=False)
    key = town.add("crm", "a@x", name="Ada")
    await town.agree()
    town["crm"].remove(key)
    await town.run()
    town["crm"].add({"email": "a@x", "name": "Ada", "note": None}, key)
    report = await town.run()
    assert (report.outcome, town.values("erp"), town.audit) == (Outcome.SUCCEEDED, {"a@x": "Ada"}, [])


# --- the policy changes ---


def with_fields(town: Town, *names: str) -> None:
    town.policy["schema"] = {"type": "object", "properties": {name: {"type": "string"} for name in names}}


async def test_a_new_field_is_first_met_and_not_changed(town_of) -> None:
    town = town_of()
    with_fields(town, "email", "name")
    for name in town.systems:
        town.redeclare(name, "email", "name")
    town.add("crm", "a@x", name="Ada", note="crm's")
    await town.run()
    town["erp"].edit(town.key("erp", "a@x"), {"note": "erp's"})
    with_fields(town, "email", "name", "note")
    for name in town.systems:
        town.redeclare(name)
    await town.run()
    assert (town.values("erp", "note"), town.audit) == (
        {"a@x": "crm's"}, [("Overwritten", "note", "firstSync: SystemOfRecordWins", "crm")]
    )  # fmt: skip


async def test_a_remapped_field_is_first_met_where_it_was_remapped(town_of) -> None:
    town = town_of()
    town.add("crm", "a@x", name="Ada")
    await town.agree()
    town["erp"].edit(town.key("erp", "a@x"), {"full_name": "Countess"})
    town.policy["systems"][1] = {**town.declared("erp"), "fields": {"email": "email", "name": "full_name"}}
    await town.run()
    (row,) = town["erp"].records.values()
    assert (row["full_name"], row["name"]) == ("Ada", "Ada")


async def test_a_removed_field_is_written_nowhere(town_of) -> None:
    town = town_of()
    town.add("crm", "a@x", name="Ada", note="n")
    await town.agree()
    with_fields(town, "email", "name")
    for name in town.systems:
        town.redeclare(name, "email", "name")
    town.edit("crm", "a@x", note="changed", name="Ada K.")
    await town.run()
    assert (town.values("erp", "note"), town.values("erp")) == ({"a@x": "n"}, {"a@x": "Ada K."})


async def test_a_system_that_is_added_meets_all_records_first(town_of) -> None:
    town = town_of()
    town.add("crm", "a@x", name="Ada")
    town.add("crm", "b@x", name="Bob")
    await town.agree()
    town.joined_by("shop")
    town.add("shop", "A@X", name="other", note="shop's")
    town.add("shop", "c@x", name="new")
    await town.run()
    expected = {"a@x": "Ada", "b@x": "Bob", "c@x": "new"}
    assert (town.values("crm"), town.values("erp")) == (expected, expected)
    assert sorted(map(str, town.values("shop").values())) == ["Ada", "Bob", "new"]
    assert town.values("crm", "note")["a@x"] == "shop's"


async def test_a_system_that_is_removed_keeps_its_data(town_of) -> None:
    town = town_of("crm", "erp", "shop")
    town.add("crm", "a@x", name="Ada")
    await town.agree()
    town.policy["systems"] = [s for s in town.policy["systems"] if s["name"] != "shop"]
    town.edit("crm", "a@x", name="new")
    town.add("crm", "b@x")
    await town.run(Kind.RESYNC)
    assert (town.values("erp"), town.values("shop")) == ({"a@x": "new", "b@x": None}, {"a@x": "Ada"})


async def test_another_system_of_record_decides_from_now_on(town_of) -> None:
    town = town_of()
    town.add("crm", "a@x", name="old")
    await town.agree()
    town.policy["systemOfRecord"] = "erp"
    town.edit("crm", "a@x", name="crm's")
    town.edit("erp", "a@x", name="erp's")
    await town.run()
    assert (town.values("crm"), town.values("erp")) == ({"a@x": "erp's"}, {"a@x": "erp's"})


async def test_without_its_state_every_record_is_first_met_again_and_none_is_doubled(town_of, tmp_path: Path) -> None:
    town = town_of()
    town.add("crm", "a@x", name="Ada")
    town.add("erp", "b@x", name="Bob")
    await town.agree()
    (tmp_path / "state.db").unlink()
    town.edit("erp", "a@x", name="erp's")
    await town.run()
    assert (town.values("crm"), town.values("erp")) == ({"a@x": "Ada", "b@x": "Bob"},) * 2
    assert town.audit == [("Overwritten", "name", "firstSync: SystemOfRecordWins", "crm")]


async def test_a_first_run_that_would_overwrite_more_than_the_guard_allows_halts(town_of) -> None:
    town = town_of(deletes={"guard": {"maxRecords": 2, "maxPercent": 100}})
    for number in range(5):
        town.add("crm", f"{number}@x", name="crm's")
        town.add("erp", f"{number}@x", name="erp's")
    halted = await town.run()
    assert (halted.outcome, set(town.values("erp").values())) == (Outcome.HALTED, {"erp's"})
    assert halted.halt is not None
    await town.run(approved=halted.halt.plan)
    assert set(town.values("erp").values()) == {"crm's"}


# --- a dead letter heals ---


async def test_a_record_that_breaks_the_contract_heals_when_it_is_mended(town_of) -> None:
    town = town_of()
    town.policy["schema"]["properties"]["name"] = {"type": "string", "maxLength": 5}
    town.add("crm", "a@x", name="too long")
    town.add("crm", "b@x", name="short")
    await town.run()
    assert ([(x.system, x.reason) for x in town.letters], town.values("erp")) == (
        [("crm", "ContractBroken")], {"b@x": "short"}
    )  # fmt: skip
    town.edit("crm", "a@x", name="Ada")
    await town.run()
    assert (town.letters, town.values("erp")) == ([], {"b@x": "short", "a@x": "Ada"})


async def test_a_known_record_that_broke_the_contract_heals_when_it_is_put_back_to_what_it_was(town_of) -> None:
    town = town_of()
    town.add("crm", "a@x", name="Ada")
    await town.agree()
    town.edit("crm", "a@x", name={"no": "text"})
    await town.run()
    assert len(town.letters) == 1
    town.edit("crm", "a@x", name="Ada")
    await town.run()
    assert town.letters == []


@pytest.mark.parametrize("find", [True, False])
async def test_nobody_is_doubled_who_cannot_be_read_in_another_field(town_of, find: bool) -> None:
    town = town_of()
    town["erp"].traits = Traits(find=find)
    town.add("erp", "a@x", name={"no": "text"})
    town.add("crm", "a@x", name="Ada")
    for _ in range(2):
        await town.run()
    assert (list(town["erp"].records), len(town.letters)) == (["1"], 2)
    town.edit("erp", "a@x", name="Ada")
    for _ in range(2):
        await town.run()
    assert (list(town["erp"].records), list(town["crm"].records), town.letters) == (["1"], ["1"], [])


async def test_a_known_record_that_breaks_the_contract_keeps_its_last_good_value_elsewhere(town_of) -> None:
    town = town_of()
    town.policy["schema"]["properties"]["name"] = {"type": "string", "maxLength": 5}
    town.add("crm", "a@x", name="Ada")
    await town.agree()
    town.edit("crm", "a@x", name="too long")
    await town.run()
    assert (town.values("erp"), len(town.letters)) == ({"a@x": "Ada"}, 1)


async def test_a_write_that_a_system_refused_is_sent_again_when_the_record_changes(town_of) -> None:
    town = town_of()
    town["erp"].refuses = lambda values: "no bad names" if values.get("name") == "bad" else ""
    town.add("crm", "a@x", name="bad")
    await town.run()
    assert town["erp"].records == {}
    town.edit("crm", "a@x", name="good")
    await town.run()
    assert town.values("erp") == {"a@x": "good"}


async def test_a_write_to_a_record_that_broke_the_contract_goes_out_when_that_is_mended(town_of) -> None:
    town = town_of()
    town.policy["schema"]["properties"]["name"] = {"type": "string", "maxLength": 5}
    town.add("crm", "a@x", name="Ada", note="old")
    await town.agree()
    town.edit("erp", "a@x", name="too long")
    town.edit("crm", "a@x", note="new")
    await town.run()
    assert town.values("erp", "note") == {"a@x": "old"}
    town.edit("erp", "a@x", name="Eve")
    await town.run()
    assert (town.values("erp", "note"), town.values("crm"), town.letters) == ({"a@x": "new"}, {"a@x": "Eve"}, [])


async def test_a_write_expression_that_fails_is_a_dead_letter_and_stops_no_other(town_of) -> None:
    town = town_of()
    computed = {"read": "first + ' ' + last", "write": {"first": "name.split(' ')[0]", "last": "name.split(' ')[1]"}}
    erp = town.declared("erp")
    town.policy["systems"][1] = {**erp, "fields": {**erp["fields"], "name": computed}}
    town.add("crm", "z@x", name="Zoe Zed")
    await town.run()
    town.add("crm", "a@x", name="Madonna")
    town.add("crm", "b@x", name="Ada King")
    report = await town.run()
    assert [row["email"] for row in town["erp"].records.values()] == ["z@x", "b@x"]
    assert [(note.kind, "Madonna" in note.rule) for note in report.tally.notes] == [("NotDelivered", False)]
    town.edit("crm", "a@x", name="Madonna Ciccone")
    await town.run()
    assert "Madonna" in [row.get("first") for row in town["erp"].records.values()]


# --- a system that cannot be reached, and answers that are lost ---


async def test_while_one_of_three_is_down_the_others_go_on_and_its_writes_come_in_order(town_of) -> None:
    town = town_of("crm", "erp", "shop")
    town.add("crm", "a@x", name="0")
    await town.agree()
    town["shop"].down = Transient("shop is down")
    for value in ("1", "2", "3"):
        town.edit("crm", "a@x", name=value)
        town.add("crm", f"{value}@x", name=value)
        report = await town.run()
        assert (report.outcome, town.values("erp")["a@x"]) == (Outcome.PARTIAL, value)
    town["shop"].down = None
    await town.run()
    assert town.values("shop") == town.values("crm") == town.values("erp")
    assert [dict(w.values) for w in town["shop"].writes if w.key == town.key("shop", "a@x")] == [{"name": "3"}]


async def test_a_backlog_of_a_system_that_is_down_costs_the_others_nothing(town_of, tmp_path: Path) -> None:
    town = town_of("crm", "erp", "shop")
    await town.agree()
    town["shop"].down = Transient("shop is down")
    for number in range(1500):
        town.add("crm", f"{number}@x")
    await town.run()
    assert (len(town["erp"].records), town.pending) == (1500, 1500)
    town["erp"].refuses = lambda values: "not now" if "first" in str(values) else ""
    town.edit("crm", "0@x", name="first")
    await town.run()
    town["erp"].refuses = lambda _: ""
    await town.run(Kind.RESYNC)
    assert town.values("erp")["0@x"] == "first"
    with sqlite3.connect(tmp_path / "state.db") as database:
        tries = "SELECT attempts, count(*) FROM pending WHERE system = 'shop' GROUP BY attempts ORDER BY attempts"
        assert database.execute(tries).fetchall() == [
            (1, 1499),
            (2, 1),
        ]  # only what was edited meanwhile, with its edit
    town["shop"].down = None
    await town.run()
    assert town.values("shop") == town.values("erp")


async def test_a_record_that_needs_a_system_that_is_down_waits_and_others_go_on(town_of) -> None:
    town = town_of("crm", "erp", "shop", fields={"name": {"systemOfRecord": "shop", "edits": "SystemOfRecordOnly"}})
    town.add("shop", "a@x", name="owned", note="n")
    town.add("shop", "b@x", name="owned", note="n")
    await town.agree()
    town["shop"].down = Transient("shop is down")
    town.edit("erp", "a@x", name="mine")
    town.edit("erp", "b@x", note="new")
    await town.run()
    assert (town.values("erp")["a@x"], town.values("crm", "note")["b@x"]) == ("mine", "new")
    town["shop"].down = None
    await town.run()
    assert town.values("erp")["a@x"] == "owned"


async def test_a_create_whose_answer_was_lost_is_never_repeated_blindly(town_of) -> None:
    town = town_of()
    town["erp"].traits = Traits(find=False)
    town.add("crm", "z@x")
    await town.agree()
    town["erp"].faults = {town["erp"].calls + 2: Fault.LOST}
    town.add("crm", "a@x", name="Ada")
    await town.run()
    await town.run()
    assert len(town["erp"].holders("email", "a@x")) == 1
    await town.run(Kind.RESYNC)
    assert (town.values("erp"), town.pending) == ({"z@x": None, "a@x": "Ada"}, 0)


async def test_an_update_whose_answer_was_lost_is_recognised_and_is_no_edit(town_of) -> None:
    town = town_of()
    town.add("crm", "a@x", name="old")
    await town.agree()
    town["erp"].faults = {town["erp"].calls + 2: Fault.HUNG_UP}
    town.edit("crm", "a@x", name="new")
    await town.run()
    await town.run()
    assert (town.values("crm"), town.values("erp"), town.audit) == ({"a@x": "new"}, {"a@x": "new"}, [])


async def test_an_edit_between_reading_and_writing_is_not_overwritten_unseen(town_of) -> None:
    town = town_of()
    town.add("crm", "a@x", name="old")
    await town.agree()
    town.edit("crm", "a@x", name="crm's")

    def meanwhile(word: str) -> None:
        if word == "before":
            town["erp"].moment = lambda _: None
            town.edit("erp", "a@x", name="erp's")

    town["erp"].moment = meanwhile
    await town.run()
    assert (town.values("crm"), town.values("erp")) == ({"a@x": "crm's"}, {"a@x": "crm's"})
    assert town.audit == [("Conflict", "name", "onConflict: SystemOfRecordWins", "crm")]


# --- clocks ---


@pytest.mark.parametrize("jump", [-86400.0 * 30, 86400.0 * 30], ids=["back", "ahead"])
async def test_a_clock_that_jumps_loses_nothing(town_of, jump: float) -> None:
    town = town_of()
    town.add("crm", "a@x", name="old")
    await town.agree()
    town.now += jump
    town.edit("erp", "a@x", name="new")
    town.add("crm", "b@x")
    await town.run()
    town.now -= jump
    town.edit("crm", "a@x", note="later")
    await town.run()
    assert town.values("crm") == town.values("erp") == {"a@x": "new", "b@x": None}
    assert town.values("erp", "note")["a@x"] == "later"


async def test_a_write_that_waits_is_sent_although_the_clock_was_set_back(town_of) -> None:
    town = town_of()
    town.add("crm", "a@x", name="old")
    await town.agree()
    town["erp"].down = Transient("erp is down")
    town.edit("crm", "a@x", name="new")
    await town.run()
    town["erp"].down = None
    town.now -= 86400.0 * 30
    await town.run()
    assert (town.values("erp"), town.pending) == ({"a@x": "new"}, 0)


# --- dead letters heal ---


async def test_a_match_value_that_moved_to_another_record_is_no_duplicate(town_of) -> None:
    town = town_of()
    town.add("crm", "a@x", name="first owner")
    await town.agree()
    town.edit("crm", "a@x", email="b@x")
    await town.run()
    town.add("crm", "a@x", name="second owner")
    await town.run()
    assert town.letters == []
    assert town.values("crm") == town.values("erp") == {"b@x": "first owner", "a@x": "second owner"}


async def test_a_record_that_is_created_under_the_changed_match_value_is_linked_and_not_doubled(town_of) -> None:
    town = town_of("crm", "erp", "shop")
    town["shop"].down = Transient("shop is down")
    town.add("crm", "a@x", name="Ada")
    await town.run()
    town.edit("crm", "a@x", email="b@x")
    await town.run()
    town.add("shop", "b@x", note="shop's")
    town["shop"].down = None
    await town.run()
    await town.run()
    assert [len(system.records) for system in town.systems.values()] == [1, 1, 1]
    assert town.values("crm", "note") == {"b@x": "shop's"}


async def test_a_duplicate_is_met_once_the_other_one_has_another_match_value(town_of) -> None:
    town = town_of()
    town["crm"].add({"email": "a@x", "name": "one", "note": None}, "one")
    town["crm"].add({"email": "a@x", "name": "two", "note": None}, "two")
    await town.run()
    assert [letter.reason for letter in town.letters] == ["Duplicate"]
    town["crm"].edit("one", {"email": "b@x"})
    await town.run()
    await town.run()
    assert (town.letters, town.values("erp")) == ([], {"b@x": "one", "a@x": "two"})


async def test_a_duplicate_is_met_once_the_other_one_is_deleted(town_of) -> None:
    town = town_of()
    town["crm"].add({"email": "a@x", "name": "one", "note": None}, "one")
    town["crm"].add({"email": "a@x", "name": "two", "note": None}, "two")
    await town.run()
    town["crm"].remove("one")
    await town.run()
    await town.run()
    assert (town.letters, list(town.values("erp").values())) == ([], ["two"])


async def test_what_matched_a_dead_letter_is_met_once_that_is_mended_without_a_resync(town_of) -> None:
    town = town_of("crm", "erp", "shop")
    town.policy["schema"]["properties"]["name"] = {"type": "string", "maxLength": 5}
    town.add("crm", "a@x", name="too long")
    town.add("erp", "a@x", note="erp's")
    await town.run()
    assert town["shop"].records == {}
    town.edit("crm", "a@x", name="Ada")
    await town.run()
    await town.run()
    await town.run()
    assert (town.letters, [town.values(name) for name in town.systems]) == ([], [{"a@x": "Ada"}] * 3)
    assert town.values("crm", "note") == {"a@x": "erp's"}


async def test_a_record_that_breaks_the_contract_is_not_created_beside_by_its_twin(town_of) -> None:
    town = town_of()
    town.policy["schema"]["properties"]["name"] = {"type": "string", "maxLength": 5}
    town.add("crm", "z@x")
    await town.agree()
    town.add("crm", "a@x", name="too long")
    town.add("erp", "a@x", name="Ada")
    for kind in (Kind.CHANGES, Kind.RESYNC, Kind.CHANGES):
        await town.run(kind)
        assert town.values("crm") == {"z@x": None, "a@x": "too long"}
    town.edit("crm", "a@x", name="Ada K")
    await town.run()
    await town.run()
    assert (town.letters, town.values("erp")["a@x"]) == ([], "Ada K")


@pytest.mark.parametrize(
    ("traits", "kind"), [(Traits(changes=False), Kind.CHANGES), (Traits(deletions=False), Kind.RESYNC)]
)
async def test_a_dead_letter_whose_record_is_gone_ends_where_no_feed_tells_of_it(
    town_of, traits: Traits, kind: Kind
) -> None:
    town = town_of()
    town.policy["schema"]["properties"]["name"] = {"type": "string", "maxLength": 5}
    town["crm"].traits = traits
    for email in ("a@x", "b@x"):
        town.add("crm", email, name="too long")
    town.add("crm", "c@x")
    await town.run()
    kept = town.key("crm", "b@x")
    town.remove("crm", "a@x")
    await town.run(kind)
    assert ([letter.key for letter in town.letters], list(town.values("erp"))) == ([kept], ["c@x"])


async def test_a_twin_of_a_dead_letter_whose_record_is_gone_is_created_in_its_place(town_of) -> None:
    town = town_of()
    town.policy["schema"]["properties"]["name"] = {"type": "string", "maxLength": 5}
    town["crm"].traits = Traits(deletions=False)
    town.add("crm", "z@x")
    town.add("crm", "a@x", name="too long")
    town.add("erp", "a@x", name="Ada")
    await town.run()
    town.remove("crm", "a@x")
    await town.run(Kind.RESYNC)
    await town.run()
    assert (town.letters, town.values("crm")) == ([], {"z@x": None, "a@x": "Ada"})


async def test_a_dead_letter_that_a_resync_did_not_come_upon_and_that_is_there_stays_one(town_of) -> None:
    town = town_of()
    town.policy["schema"]["properties"]["name"] = {"type": "string", "maxLength": 5}
    town.add("crm", "a@x", name="too long")
    town.add("crm", "b@x")
    await town.run()
    crm, hidden = town["crm"], town.key("crm", "a@x")
    crm.after = lambda last: [key for key in MemorySystem.after(crm, last) if key != hidden]
    await town.run(Kind.RESYNC)
    assert [letter.key for letter in town.letters] == [hidden]


async def test_a_dead_letter_is_told_once_and_not_by_every_run(town_of) -> None:
    town = town_of()
    town["crm"].traits = Traits(changes=False)
    town["crm"].add({"email": None, "name": "nobody", "note": None})
    told = [len((await town.run()).tally.notes) for _ in range(3)]
    assert (told, len(town.letters)) == ([1, 0, 0], 1)


async def test_a_create_that_is_uncertain_is_not_sent_again_when_the_record_changes(town_of) -> None:
    town = town_of()
    town["erp"].traits = Traits(find=False)
    town.add("crm", "z@x")
    await town.agree()
    town["erp"].faults = {town["erp"].calls + 2: Fault.LOST}
    town.add("crm", "a@x", name="Ada")
    await town.run()
    town.edit("crm", "a@x", name="Ada King")
    await town.run()
    await town.run()
    assert len(town["erp"].holders("email", "a@x")) == 1
    await town.run(Kind.RESYNC)
    assert (town.values("crm"), town.values("erp")) == ({"z@x": None, "a@x": "Ada King"},) * 2


# --- a worker that is told to stop ---


@pytest.mark.parametrize("after", range(6))
async def test_a_run_that_is_told_to_stop_ends_with_its_batch_and_the_next_one_goes_on(town_of, after: int) -> None:
    town = town_of()
    town["crm"].traits = town["erp"].traits = Traits(page=1)
    for number in range(3):
        town.add("crm", f"{number}@x", name="crm's")
        town.add("erp", f"{number + 2}@x", name="erp's")
    asked = iter(range(100))
    report = await town.run(stopping=lambda: next(asked) >= after)
    assert (report.stopped, report.good, report.message) == (
        True,
        False,
        "stopped before its end: the next run goes on",
    )
    await town.run()
    expected = {"0@x": "crm's", "1@x": "crm's", "2@x": "crm's", "3@x": "erp's", "4@x": "erp's"}
    assert (town.values("crm"), town.values("erp")) == (expected, expected)
    assert [len(system.records) for system in town.systems.values()] == [5, 5]


async def test_a_create_that_waits_for_a_person_holds_up_no_other_write(
    town_of, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "BATCH", 1)  # so one that waits is all that is looked at at once
    town = town_of("crm", "erp")
    town.add("crm", "ok@x", name="old")
    await town.run()
    for system in ("erp", "erp", "crm"):
        town.add(system, "twin@x")
    await town.run()
    town.edit("crm", "ok@x", name="new")
    with monkeypatch.context() as patched:
        patched.setattr(MemorySystem, "apply", lambda _, write, __: Written(ErrorClass.TRANSIENT, "later", write.key))
        await town.run()
    assert town.pending == 2
    await town.run()
    assert (town.pending, town.values("erp")["ok@x"]) == (1, "new")


@pytest.mark.parametrize("match", [[], [{"fields": ["email"]}]], ids=["no rule", "a rule"])
async def test_a_page_that_tells_a_record_twice_tells_of_one_record(town_of, monkeypatch, match) -> None:
    made = MemoryPage.__init__

    def twice(page: MemoryPage, *given: object, **named: object) -> None:
        made(page, *given, **named)
        page.keys, page.raws, page._rows = [*page.keys] * 2, [*page.raws] * 2, page._rows * 2

    town = town_of("crm", "erp", match=match)
    town.add("crm", "a@x", name="new")
    monkeypatch.setattr(MemoryPage, "__init__", twice)
    await town.run()
    assert (town.values("erp"), town.letters) == ({"a@x": "new"}, [])


def told_as_both(town: Town, key: str, monkeypatch: pytest.MonkeyPatch, *, there: bool) -> None:
    """Pages of the CRM's feed tell a record as there and as deleted; only one of it is true by then."""
    page_of = MemoryObject._page

    def both(this: MemoryObject, keys: Iterable[str], cursor: str | None = None) -> MemoryPage:
        page = page_of(this, keys, cursor)
        if this._system is town["crm"] and cursor is not None and key in page.keys:
            page.deleted = [key]
            if not there:
                town["crm"].remove(key)
        return page

    monkeypatch.setattr(MemoryObject, "_page", both)


@pytest.mark.parametrize("there", [True, False])
async def test_a_record_that_a_page_tells_as_there_and_as_deleted_is_as_reading_it_by_id_says(
    town_of, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    guard = {"maxRecords": 100, "maxPercent": 100}
    town = town_of("crm", "erp", deletes={"propagate": "FromAny", "guard": guard})
    for email in ("a@x", "b@x"):
        town.add("crm", email, name="old")
    await town.agree()
    town.edit("crm", "a@x", name="new")
    told_as_both(town, town.key("crm", "a@x"), monkeypatch, there=there)
    await town.run()
    expected = {"a@x": "new", "b@x": "old"} if there else {"b@x": "old"}
    assert (town.values("crm"), town.values("erp")) == (expected, expected)


async def test_a_record_of_one_system_that_a_page_tells_as_there_and_as_deleted_stays_known(
    town_of, monkeypatch: pytest.MonkeyPatch
) -> None:
    town = town_of("crm", "erp")
    town.redeclare("erp", access="ReadOnly")
    town.add("crm", "a@x", name="old")
    await town.agree()
    town.edit("crm", "a@x", name="new")
    told_as_both(town, town.key("crm", "a@x"), monkeypatch, there=True)
    await town.run()
    assert (await town.counts()).records == 1
