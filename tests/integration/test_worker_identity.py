"""Which records are the same: how they meet, and what becomes of keys that change (design, section 4)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from pathlib import Path

import pytest

from fairlead.testing.memory_system import Traits
from fairlead.transport.failure import Transient
from fairlead.worker.run import Kind, Outcome
from support.town import Town

NUMBER_THEN_EMAIL = [{"fields": ["note"]}, {"fields": ["email"], "normalize": ["Lowercase"]}]
"""Two rules; `note` stands for a customer number."""


@pytest.fixture
def town_of(tmp_path: Path) -> Callable[..., Town]:
    return lambda *names, **spec: Town(tmp_path, *(names or ("crm", "erp")), **spec)


# --- first meeting, by several match rules ---


async def test_first_meeting_the_first_rule_that_finds_something_decides(town_of) -> None:
    town = town_of(match=NUMBER_THEN_EMAIL)
    town["erp"].add({"email": "other@x", "note": "17", "name": "by number"}, "number")
    town["erp"].add({"email": "a@x", "note": None, "name": "by email"}, "email")
    town["crm"].add({"email": "a@x", "note": "17", "name": "Ada"}, "ada")
    await town.run()
    assert (town["erp"].records["number"]["name"], town["erp"].records["email"]["name"]) == ("Ada", "by email")
    assert (town.letters, len(town["crm"].records)) == ([], 2)


async def test_first_meeting_a_later_rule_serves_those_without_a_value_for_the_first(town_of) -> None:
    town = town_of(match=NUMBER_THEN_EMAIL)
    town.add("erp", "A@x", note="17")
    town.add("crm", "a@x", name="Ada")
    await town.run()
    assert (list(town.values("erp").values()), town.values("crm", "note"), town.letters) == (["Ada"], {"a@x": "17"}, [])


async def test_first_meeting_what_the_first_rule_leaves_in_doubt_is_not_decided_by_a_later_one(town_of) -> None:
    town = town_of(match=NUMBER_THEN_EMAIL)
    town.add("erp", "a@x", note="17")
    town.add("erp", "b@x", note="17")
    town.add("crm", "a@x", note="17")
    await town.run()
    assert {(letter.system, letter.reason) for letter in town.letters} == {("erp", "Duplicate"), ("crm", "Ambiguous")}
    assert (len(town["crm"].records), len(town["erp"].records)) == (1, 2)


async def test_first_meeting_a_rule_of_several_fields_needs_them_all(town_of) -> None:
    town = town_of(match=[{"fields": ["email", "name"]}, {"fields": ["note"]}])
    town.add("erp", "a@x", name="Ada", note="1")
    town.add("erp", "a@x", name="Bob", note="2")
    town.add("crm", "a@x", name="Bob")
    town.add("crm", "a@x", note="1")
    await town.run()
    people = [[(row["name"], row["note"]) for row in town[name].records.values()] for name in ("crm", "erp")]
    assert (town.letters, sorted(people[0])) == ([], [("Ada", "1"), ("Bob", "2")])
    assert sorted(people[1]) == sorted(people[0])


async def test_first_meeting_differences_are_decided_by_the_system_of_record_and_empty_sides_are_filled(
    town_of,
) -> None:
    town = town_of()
    town.add("crm", "a@x", name="crm's")
    town.add("erp", "a@x", name="erp's", note="erp's")
    await town.run()
    assert [town["crm"].records, town["erp"].records] == [{"1": {"email": "a@x", "name": "crm's", "note": "erp's"}}] * 2
    assert town.audit == [("Overwritten", "name", "firstSync: SystemOfRecordWins", "crm")]


BRIDGE_FIRST = [names for names in permutations(("crm", "erp", "shop")) if names[0] != "erp"]
"""Orders in which the record that the two others are found by is read before the last of them."""


@pytest.mark.parametrize("names", BRIDGE_FIRST, ids=" ".join)
async def test_first_meeting_in_whatever_order_systems_are_read_nothing_is_doubled(
    town_of, names: tuple[str, ...]
) -> None:
    town = town_of(*names, match=NUMBER_THEN_EMAIL)
    town.add("erp", "a@x", note="17")
    town.add("shop", "a@x")
    town.add("crm", "b@x", note="17")
    for kind in (Kind.CHANGES, Kind.RESYNC, Kind.CHANGES):
        await town.run(kind)
        assert [len(system.records) for system in town.systems.values()] == [1, 1, 1]


async def test_first_meeting_what_a_record_was_linked_by_is_not_all_that_it_is_found_by(town_of) -> None:
    town = town_of("shop", "erp", "crm", systemOfRecord="crm", firstSync="FillEmptyOnly")
    town.policy["match"] = NUMBER_THEN_EMAIL
    town.add("shop", "a@x", name="Ada")
    town.add("erp", "a@x", note="17")
    town.add("crm", "a@x", note="17")
    town["crm"].edit(town.key("crm", "a@x"), {"email": None})
    await town.run()
    assert [list(system.records.values()) for system in town.systems.values()] == [
        [{"email": "a@x", "name": "Ada", "note": "17"}]
    ] * 3


# --- create/create ---


@pytest.mark.parametrize("find", [True, False], ids=["searchable", "not searchable"])
async def test_create_create_within_one_run_makes_a_link_and_no_copy(town_of, find: bool) -> None:
    town = town_of("crm", "erp", "shop")
    for system in town.systems.values():
        system.traits = Traits(find=find)
    town.add("crm", "z@x")
    await town.agree()
    for name in town.systems:
        town.add(name, "a@x", name=f"{name}'s")
    await town.run()
    assert [town.values(name) for name in town.systems] == [{"z@x": None, "a@x": "crm's"}] * 3


async def test_create_create_while_one_is_on_its_way_to_a_system_that_was_down_makes_a_link(town_of) -> None:
    town = town_of()
    town.add("crm", "z@x")
    await town.agree()
    town["erp"].down = Transient("erp is down")
    town.add("crm", "a@x", name="crm's")
    await town.run()
    town.add("erp", "a@x", name="erp's", note="erp's")
    town["erp"].down = None
    await town.run()
    assert town.values("crm") == town.values("erp") == {"z@x": None, "a@x": "crm's"}
    assert (town.values("crm", "note")["a@x"], town.pending) == ("erp's", 0)


# --- match keys serve the first meeting only ---


async def test_match_keys_serve_the_first_meeting_only_so_two_records_may_swap_them(town_of) -> None:
    town = town_of()
    one, two = town.add("crm", "a@x", name="one"), town.add("crm", "b@x", name="two")
    await town.agree()
    town["crm"].edit(one, {"email": "b@x"})
    town["crm"].edit(two, {"email": "a@x"})
    await town.run()
    assert (town.values("erp"), town.letters) == ({"b@x": "one", "a@x": "two"}, [])


async def test_match_keys_serve_the_first_meeting_only_so_records_that_come_to_share_one_stay_two(town_of) -> None:
    town = town_of()
    town.add("crm", "a@x", name="one")
    two = town.add("crm", "b@x", name="two")
    await town.agree()
    town["crm"].edit(two, {"email": "a@x"})
    await town.run(Kind.RESYNC)
    assert sorted(map(str, (row["name"] for row in town["erp"].records.values()))) == ["one", "two"]
    assert [row["email"] for row in town["erp"].records.values()] == ["a@x", "a@x"]


# --- deleted, then created again ---


@pytest.mark.parametrize("deletions", [True, False], ids=["deletions in the feed", "no deletions in the feed"])
async def test_deleted_then_created_again_with_the_same_key_meets_what_is_left_as_a_create(
    town_of, deletions: bool
) -> None:
    town = town_of()
    town["erp"].traits = Traits(deletions=deletions)
    key = town.add("erp", "a@x", name="first")
    town.add("crm", "z@x")
    await town.agree()
    town.remove("erp", "a@x")
    await town.run(Kind.RESYNC)
    assert "a@x" in town.values("crm")
    town["erp"].add({"email": "a@x", "name": None, "note": "second"}, key)
    await town.run()
    assert town.values("crm") == town.values("erp") == {"z@x": None, "a@x": "first"}
    assert (len(town["crm"].records), town.values("crm", "note")["a@x"]) == (2, "second")


async def test_deleted_then_created_again_with_the_same_key_after_it_was_deleted_for_all_is_created_for_all(
    town_of,
) -> None:
    town = town_of()
    key = town.add("crm", "a@x", name="first", note="first")
    town.add("crm", "z@x")
    await town.agree()
    town.remove("crm", "a@x")
    await town.run()
    assert list(town.values("erp")) == ["z@x"]
    town["crm"].add({"email": "b@x", "name": "second", "note": None}, key)
    await town.run()
    assert town.values("crm") == town.values("erp") == {"z@x": None, "b@x": "second"}
    assert town.values("erp", "note")["b@x"] is None


# --- a native key that changes ---


def rekeyed(town: Town, system: str, email: str, key: str, /, **values: object) -> None:
    """The application gives a record another primary key: the old one is gone, and the new one is there."""
    old = town.key(system, email)
    row = town[system].records[old]
    town[system].remove(old)
    town[system].add({**row, **values}, key)


KINDS_OF_FEED = {
    "deletions in the feed": Traits(),
    "one entry a page": Traits(page=1),
    "the new key first": Traits(backwards=True),
    "no deletions in the feed": Traits(deletions=False),
    "no feed": Traits(changes=False),
}


@pytest.mark.parametrize("system", ["crm", "erp"])
@pytest.mark.parametrize("traits", KINDS_OF_FEED.values(), ids=KINDS_OF_FEED.keys())
@pytest.mark.parametrize("kind", Kind)
async def test_a_record_whose_native_key_changes_is_linked_again_and_nothing_is_deleted_or_created(
    town_of, system: str, traits: Traits, kind: Kind
) -> None:
    town = town_of("crm", "erp", "shop")
    town[system].traits = traits
    town.add("crm", "a@x", name="Ada", note="n")
    town.add("crm", "z@x")
    await town.agree()
    written = [len(each.writes) for each in town.systems.values()]
    rekeyed(town, system, "a@x", "new key")
    report = await town.run(kind)
    assert [len(each.writes) for each in town.systems.values()] == written
    assert (report.outcome, town.letters, town.pending) == (Outcome.SUCCEEDED, [], 0)
    town.edit(system, "a@x", name="Ada King")
    await town.run()
    assert [town.values(name)["a@x"] for name in town.systems] == ["Ada King"] * 3


async def test_all_native_keys_of_a_system_may_change_at_once_and_the_guard_has_nothing_to_hold(town_of) -> None:
    town = town_of(deletes={"guard": {"maxRecords": 1, "maxPercent": 1}})
    town["crm"].traits = Traits(deletions=False, page=7)
    for number in range(30):
        town.add("crm", f"{number}@x", name=str(number))
    await town.agree()
    for number in range(30):
        rekeyed(town, "crm", f"{number}@x", f"new {number}")
    report = await town.run()
    assert (report.outcome, len(town["erp"].records), town.pending) == (Outcome.SUCCEEDED, 30, 0)
    assert sum(report.tally.counts()[name] for name in ("created", "updated", "deleted", "failed")) == 0


async def test_a_native_key_that_changes_with_the_match_value_is_a_delete_and_a_create_under_the_guard(town_of) -> None:
    town = town_of(deletes={"guard": {"maxRecords": 0}})
    town.add("crm", "a@x", name="Ada")
    await town.agree()
    rekeyed(town, "crm", "a@x", "new key", email="b@x")
    report = await town.run()
    assert (report.outcome, town.values("erp")) == (Outcome.HALTED, {"a@x": "Ada", "b@x": "Ada"})


async def test_what_was_edited_elsewhere_while_a_native_key_changed_is_told(town_of) -> None:
    town = town_of()
    town.add("crm", "a@x", name="old", note="old")
    await town.agree()
    town.edit("erp", "a@x", name="erp's")
    rekeyed(town, "crm", "a@x", "new key", note="crm's")
    await town.run()
    assert town["crm"].records["new key"] == {"email": "a@x", "name": "old", "note": "crm's"}
    assert list(town["erp"].records.values()) == [town["crm"].records["new key"]]
    assert ("Overwritten", "name", "firstSync: SystemOfRecordWins", "crm") in town.audit


async def test_a_record_is_not_created_where_a_dead_letter_may_be_it(town_of) -> None:
    town = town_of("erp", "shop")
    town.add("erp", "a@x", name="one")
    two = town.add("erp", "b@x", name="two")
    await town.agree()
    town["erp"].edit(two, {"email": "a@x"})
    await town.run()
    town.joined_by("crm")
    which = town.add("crm", "a@x", name="which?")
    for kind in (Kind.CHANGES, Kind.RESYNC, Kind.CHANGES):
        await town.run(kind)
        assert ([letter.reason for letter in town.letters], list(town["crm"].records)) == (["Ambiguous"], [which])
    town["crm"].edit(which, {"email": "c@x"})
    await town.run()
    await town.run(Kind.RESYNC)
    assert (town.letters, [len(system.records) for system in town.systems.values()]) == ([], [3, 3, 3])
