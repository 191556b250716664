"""A person says which records are the same: what the worker makes of it (docs/operations/matches.md)."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fairlead.state.requests import Link, Split
from fairlead.testing.memory_system import Fault, Traits
from fairlead.transport.failure import Transient
from fairlead.worker.run import Kind, Outcome
from support.town import Town


@pytest.fixture
def town_of(tmp_path: Path) -> Callable[..., Town]:
    return lambda *names, **spec: Town(tmp_path, *(names or ("crm", "erp")), **spec)


def person(email: str, **values: object) -> dict[str, Any]:
    return {"email": email, "name": None, "note": None, **values}


async def settled(town: Town) -> tuple[list[dict[str, dict[str, object]]], int]:
    """What every system holds, and how much further runs write: it must be nothing."""
    held = [system.records for system in town.systems.values()]
    written = sum(len(system.writes) for system in town.systems.values())
    for kind in (Kind.CHANGES, Kind.RESYNC, Kind.CHANGES):
        await town.run(kind)
    assert [system.records for system in town.systems.values()] == held
    return held, sum(len(system.writes) for system in town.systems.values()) - written


# --- two are one ---


async def test_a_dead_letter_is_linked_with_one_of_its_candidates(town_of) -> None:
    town = town_of("crm", "erp", "shop")
    town["erp"].add(person("a@x", name="one"), "B1")
    town["erp"].add(person("a@x", note="two"), "B2")
    town["crm"].add(person("a@x", name="crm's"), "A")
    await town.run()
    answer = await town.asked(Link(("crm", "A"), ("erp", "B1")))
    assert (answer.done, answer.refused) == (1, ())
    assert town["erp"].records == {"B1": person("a@x", name="crm's"), "B2": person("a@x", note="two")}
    assert [(letter.system, letter.key, letter.reason) for letter in town.letters] == [("erp", "B2", "Duplicate")]
    assert list(town["shop"].records.values()) == [person("a@x", name="crm's")]
    assert (await settled(town))[1] == 0


async def test_a_duplicate_that_is_linked_takes_the_place_of_the_one_that_was_met_before(town_of) -> None:
    town = town_of()
    town["erp"].add(person("a@x", note="one"), "B1")
    town["erp"].add(person("a@x", note="two"), "B2")
    town["crm"].add(person("a@x", name="crm's"), "A")
    await town.run()
    answer = await town.asked(Link(("crm", "A"), ("erp", "B2")))
    assert (answer.done, answer.refused) == (1, ())
    assert town["crm"].records == {"A": person("a@x", name="crm's", note="two")}
    assert town["erp"].records == {"B1": person("a@x", note="one"), "B2": person("a@x", name="crm's", note="two")}
    assert [(letter.system, letter.key, letter.reason) for letter in town.letters] == [("erp", "B1", "Duplicate")]
    assert (await settled(town))[1] == 0


@pytest.mark.parametrize("crm_is_there", [True, False], ids=["in a record", "alone"])
async def test_the_one_whose_place_a_duplicate_takes_is_told_once(town_of, crm_is_there: bool) -> None:
    town = town_of()
    town["erp"].add(person("a@x", note="one"), "B1")
    if crm_is_there:
        await town.run()
    town["erp"].add(person("a@x", note="two"), "B2")
    if not crm_is_there:
        town["crm"].add(person("a@x", name="crm's"), "A")
    await town.run()
    (crm,) = town["crm"].records
    await town.leave(Link(("crm", crm), ("erp", "B2")))
    report = await town.run()
    message = "Duplicate: matches the same record as B2 of the same system: merge the two there"
    told = [(note.record, note.rule) for note in report.tally.notes if note.kind == "DeadLetter"]
    assert (told, report.tally.dead) == ([("erp/B1", message)], 1)


async def test_a_duplicate_that_is_linked_replaces_the_other_one_in_their_record(town_of) -> None:
    town = town_of("crm", "erp", "shop")
    town["crm"].add(person("a@x", name="crm's"), "A")
    await town.run()
    (first,) = town["erp"].records
    town["erp"].add(person("a@x", note="second"), "B2")
    await town.run()
    assert [(letter.key, letter.reason) for letter in town.letters] == [("B2", "Duplicate")]
    await town.asked(Link(("crm", "A"), ("erp", "B2")))
    expected = person("a@x", name="crm's", note="second")
    assert town["erp"].records == {first: person("a@x", name="crm's"), "B2": expected}
    assert [town["crm"].records["A"], *town["shop"].records.values()] == [expected, expected]
    assert [(letter.key, letter.reason) for letter in town.letters] == [(first, "Duplicate")]
    town["erp"].edit(first, {"name": "edited in the duplicate"})
    town["erp"].edit("B2", {"name": "edited in the record"})
    await town.run()
    assert town["crm"].records["A"]["name"] == "edited in the record"


async def test_a_record_that_has_no_match_value_is_linked(town_of) -> None:
    town = town_of()
    town["crm"].add(person("a@x", name="Ada"), "A")
    town["erp"].add({"email": None, "name": None, "note": "n"}, "B")
    town.policy["systems"][0]["access"] = "ReadWrite"
    await town.run()
    (copy,) = (key for key in town["erp"].records if key != "B")
    town["erp"].remove(copy)
    await town.run()
    await town.asked(Link(("crm", "A"), ("erp", "B")))
    assert town["crm"].records == {"A": person("a@x", name="Ada", note="n")}
    assert town["erp"].records == {"B": person("a@x", name="Ada", note="n")}
    assert (town.letters, (await settled(town))[1]) == ([], 0)


async def test_two_records_that_are_one_are_joined_and_what_differs_is_a_first_meeting(town_of) -> None:
    town = town_of("crm", "erp", "shop", deletes={"propagate": "Never"})
    town["crm"].add(person("a@x", name="crm's"), "A")
    await town.run()
    (copy,) = town["shop"].records
    town["shop"].remove(copy)
    await town.run()
    town["shop"].add(person("other@x", name="shop's", note="shop's"), "C")
    town["erp"].traits = town["crm"].traits = Traits()
    await town.run()
    twins = [key for key, row in town["crm"].records.items() if row["email"] == "other@x"]
    for name in ("crm", "erp"):
        for key in [key for key, row in town[name].records.items() if row["email"] == "other@x"]:
            town[name].remove(key)
    await town.run()
    assert len(twins) == 1
    answer = await town.asked(Link(("shop", "C"), ("crm", "A")))
    assert (answer.done, answer.refused) == (1, ())
    expected = person("a@x", name="crm's", note="shop's")
    assert [list(system.records.values()) for system in town.systems.values()] == [[expected]] * 3
    told = {(kind, field, winner) for kind, field, _, winner in town.audit}
    assert {("Linked", "", ""), ("Overwritten", "email", "crm"), ("Overwritten", "name", "crm")} <= told
    assert ("Linked", "", "asked for by ada", "") in town.audit
    assert (await settled(town))[1] == 0
    town.edit("shop", "a@x", name="later")
    await town.run()
    assert [town.values(name) for name in town.systems] == [{"a@x": "later"}] * 3


async def test_what_a_link_would_overwrite_waits_for_the_guard(town_of) -> None:
    town = town_of(deletes={"guard": {"maxRecords": 0}})
    town["erp"].add(person("a@x", name="erp's"), "B1")
    town["erp"].add(person("a@x", name="two"), "B2")
    town["crm"].add(person("a@x", name="crm's"), "A")
    await town.run()
    await town.asked(Link(("crm", "A"), ("erp", "B1")))
    report = await town.run()
    assert (report.outcome, town["erp"].records["B1"]["name"]) == (Outcome.HALTED, "erp's")
    assert report.halt is not None
    await town.run(approved=report.halt.plan)
    assert town["erp"].records["B1"]["name"] == "crm's"


async def test_a_link_while_a_third_system_is_down_is_decided_when_it_is_back(town_of) -> None:
    town = town_of("crm", "erp", "shop")
    town["erp"].add(person("a@x", name="one"), "B1")
    town["erp"].add(person("a@x", note="two"), "B2")
    town["crm"].add(person("a@x", name="crm's"), "A")
    await town.run()
    town["shop"].down = Transient("shop is down")
    await town.asked(Link(("crm", "A"), ("erp", "B1")))
    town["shop"].down = None
    await town.run()
    assert list(town["shop"].records.values()) == [person("a@x", name="crm's")]
    assert (await settled(town))[1] == 0


async def test_a_create_whose_answer_was_lost_ends_when_a_person_links_what_it_made(town_of) -> None:
    town = town_of()
    town["erp"].traits = Traits(find=False)
    town.add("crm", "z@x")
    await town.agree()
    town["erp"].faults = {town["erp"].calls + 2: Fault.LOST}
    town["crm"].add(person("a@x", name="Ada"), "A")
    town["erp"].lagging = True
    await town.run()
    (made,) = town["erp"].holders("email", "a@x")
    answer = await town.asked(Link(("crm", "A"), ("erp", made)))
    assert (answer.done, answer.refused) == (1, ())
    town["erp"].catch_up()
    town["crm"].edit("A", {"name": "Ada King"})
    await town.run()
    assert town["erp"].records[made] == person("a@x", name="Ada King")
    assert (town.pending, town.letters, (await settled(town))[1]) == (0, [], 0)


async def test_a_record_under_a_new_key_is_linked_before_its_old_one_is_deleted_elsewhere(town_of) -> None:
    town = town_of(deletes={"guard": {"maxRecords": 0}})
    town["crm"].add(person("a@x", name="Ada"), "A")
    await town.agree()
    (copy,) = town["erp"].records
    town["crm"].remove("A")
    report = await town.run()
    assert report.outcome is Outcome.HALTED
    town["crm"].add({"email": None, "name": "Ada", "note": "moved"}, "A'")
    await town.run()
    await town.asked(Link(("crm", "A'"), ("erp", copy)))
    report = await town.run()
    assert (report.outcome, town["erp"].records) == (Outcome.SUCCEEDED, {copy: person("a@x", name="Ada", note="moved")})
    assert (await settled(town))[1] == 0


REFUSED = {
    (("crm", "A"), ("crm", "Z")): "crm/A and crm/Z are both in crm: merge the two there; to say which of them is the "
    "record, link that one with its record in another system",
    (("crm", "A"), ("erp", "1")): "crm/A and erp/1 are one record already",
    (("crm", "A"), ("erp", "9")): "there is no erp/9",
    (("crm", "A"), ("hr", "1")): "'hr' is no system of this policy",
    (("crm", "A"), ("erp", "2")): "they are two records that both have a side in crm, crm/A and crm/Z: split one of "
    "these two off first, link again, and then delete in that system what is too much",
}


@pytest.mark.parametrize(("pair", "refused"), REFUSED.items(), ids=map(str, range(len(REFUSED))))
async def test_what_cannot_be_linked_is_refused_and_changes_nothing(
    town_of, pair: tuple[tuple[str, str], tuple[str, str]], refused: str
) -> None:
    town = town_of()
    town["crm"].add(person("a@x"), "A")
    town["crm"].add(person("z@x"), "Z")
    await town.agree()
    answer = await town.asked(Link(*pair))
    assert (answer.done, answer.refused, town.audit) == (0, (refused,), [])
    assert (await settled(town))[1] == 0


async def test_a_system_that_is_down_refuses_a_link_to_what_is_there(town_of) -> None:
    town = town_of()
    town["crm"].add(person("a@x"), "A")
    town["crm"].add(person("b@x"), "B")
    await town.agree()
    town["erp"].down = Transient("no route")
    answer = await town.asked(Link(("crm", "A"), ("erp", "2")))
    assert answer.refused == ("erp cannot be read now (no route): ask again when it can be",)


# --- one is two ---


async def test_a_wrong_link_is_split_and_both_records_are_linked_right(town_of) -> None:
    town = town_of()
    town["crm"].add(person("shared@x", name="Ada"), "A1")
    town["erp"].add(person("shared@x", note="Bob's account"), "B2")
    await town.run()
    town["crm"].add(person("bob@x", name="Bob"), "A2")
    await town.run()
    (copy,) = town["erp"].holders("email", "bob@x")
    answer = await town.asked(Split(("erp", "B2")))
    assert (answer.done, answer.refused) == (1, ())
    assert (len(town["crm"].records), len(town["erp"].records), (await settled(town))[1]) == (2, 2, 0)
    town["crm"].edit("A1", {"note": "Ada's"})
    town["erp"].edit("B2", {"name": "B2's"})
    await town.run()
    assert (town["crm"].records["A1"]["name"], town["erp"].records["B2"]["note"]) == ("Ada", "Bob's account")
    for demand in (Split(("erp", copy)), Link(("crm", "A2"), ("erp", "B2")), Link(("crm", "A1"), ("erp", copy))):
        assert (await town.asked(demand)).refused == ()
    assert (len(town["crm"].records), len(town["erp"].records), (await settled(town))[1]) == (2, 2, 0)
    assert town["erp"].records["B2"] == town["crm"].records["A2"]
    assert town["erp"].records[copy] == town["crm"].records["A1"]


async def test_what_was_split_is_never_matched_again_by_the_same_keys_although_it_is_created_again(town_of) -> None:
    town = town_of()
    town["crm"].add(person("a@x", name="Ada"), "A")
    town["erp"].add(person("a@x", note="n"), "B")
    await town.agree()
    await town.asked(Split(("erp", "B")))
    row = town["erp"].records["B"]
    town["erp"].remove("B")
    await town.run()
    town["erp"].add({**row, "name": "Beth"}, "B")
    await town.run()
    assert (town["crm"].records["A"]["name"], town["erp"].records["B"]["name"]) == ("Ada", "Beth")
    assert (len(town["crm"].records), len(town["erp"].records), (await settled(town))[1]) == (1, 1, 0)


async def test_what_was_split_is_created_where_it_is_lacking_when_a_person_says_so(town_of) -> None:
    town = town_of()
    town["crm"].add(person("a@x", name="Ada"), "A")
    town["erp"].add(person("a@x", name="Ada"), "B")
    await town.agree()
    answer = await town.asked(Split(("erp", "B"), create=True))
    assert (answer.done, answer.refused) == (1, ())
    assert (len(town["crm"].records), len(town["erp"].records), (await settled(town))[1]) == (2, 2, 0)
    town["erp"].edit("B", {"name": "Beth"})
    await town.run()
    assert (town["crm"].records["A"]["name"], sorted(str(r["name"]) for r in town["crm"].records.values())) == (
        "Ada", ["Ada", "Beth"]
    )  # fmt: skip


async def test_what_waits_after_a_split_may_be_created_later(town_of) -> None:
    town = town_of()
    town["crm"].add(person("a@x", name="Ada"), "A")
    town["erp"].add(person("a@x", name="Ada"), "B")
    await town.agree()
    await town.asked(Split(("erp", "B")))
    assert (len(town["crm"].records), len(town["erp"].records)) == (1, 1)
    assert (await town.asked(Split(("erp", "B")))).refused == (
        "erp/B is a record of its own already; with --create it is created in the systems that lack it",
    )
    assert (await town.asked(Split(("erp", "B"), create=True))).done == 1
    assert (len(town["crm"].records), len(town["erp"].records), (await settled(town))[1]) == (2, 1, 0)


async def test_a_duplicate_that_is_none_becomes_a_record_of_its_own(town_of) -> None:
    town = town_of(match=[{"fields": ["email"]}, {"fields": ["note"]}])
    town["crm"].add(person("a@x", name="Ada", note="one telephone"), "A")
    await town.agree()
    town["crm"].add(person("b@x", name="Bob", note="one telephone"), "B")
    await town.run()
    assert [(letter.key, letter.reason) for letter in town.letters] == [("B", "Duplicate")]
    assert (await town.asked(Split(("crm", "B"), create=True))).refused == ()
    assert (town.letters, town.values("erp")) == ([], {"a@x": "Ada", "b@x": "Bob"})
    assert (await settled(town))[1] == 0


async def test_what_was_split_and_is_linked_again_is_one_record_again(town_of) -> None:
    town = town_of()
    town["crm"].add(person("a@x", name="Ada"), "A")
    town["erp"].add(person("a@x", note="n"), "B")
    await town.agree()
    await town.asked(Split(("erp", "B")))
    await town.asked(Link(("erp", "B"), ("crm", "A")))
    town["crm"].edit("A", {"name": "Ada King"})
    await town.run()
    assert (town["erp"].records["B"]["name"], (await settled(town))[1]) == ("Ada King", 0)


async def test_what_is_under_way_to_a_wrong_record_is_not_written_after_the_split(town_of) -> None:
    town = town_of("crm", "erp", "shop")
    town["crm"].add(person("a@x", name="Ada"), "A")
    town["erp"].add(person("a@x"), "B")
    await town.agree()
    (copy,) = town["shop"].records
    town["shop"].refuses = lambda _: "not now"
    town["erp"].edit("B", {"note": "B's"})
    town["crm"].edit("A", {"name": "Ada King"})
    await town.run()
    await town.asked(Split(("erp", "B")))
    town["shop"].refuses = lambda _: ""
    await town.run(Kind.RESYNC)
    assert town["shop"].records[copy]["name"] == "Ada King"
    assert town["shop"].records[copy]["note"] == town["crm"].records["A"]["note"]
    assert (await settled(town))[1] == 0


async def test_a_delete_that_was_meant_for_another_record_does_not_go_out_after_the_split(town_of) -> None:
    town = town_of(deletes={"guard": {"maxRecords": 0}})
    town["crm"].add(person("a@x", name="Ada"), "A")
    town["erp"].add(person("a@x"), "B")
    await town.agree()
    town["crm"].remove("A")
    assert (await town.run()).outcome is Outcome.HALTED
    assert (await town.asked(Split(("erp", "B")))).refused == ()
    report = await town.run()
    assert (report.outcome, list(town["erp"].records), town["crm"].records) == (Outcome.SUCCEEDED, ["B"], {})


async def test_a_conflict_ends_when_only_one_of_those_who_disagree_is_left(town_of) -> None:
    town = town_of(onConflict="Manual")
    town["crm"].add(person("a@x", name="old"), "A")
    town["erp"].add(person("a@x", name="old"), "B")
    await town.agree()
    town["crm"].edit("A", {"name": "crm's"})
    town["erp"].edit("B", {"name": "erp's"})
    await town.run()
    assert [conflict.field for conflict in town.conflicts] == ["name"]
    await town.asked(Split(("erp", "B")))
    assert (town.conflicts, town["crm"].records["A"]["name"], town["erp"].records["B"]["name"]) == (
        [],
        "crm's",
        "erp's",
    )


async def test_a_split_is_in_the_audit_with_who_asked_for_it(town_of, tmp_path: Path) -> None:
    town = town_of()
    town["crm"].add(person("a@x"), "A")
    await town.agree()
    await town.asked(Split(("crm", "A")))
    assert [entry for entry in town.audit if entry[0] == "Split"] == [("Split", "", "asked for by ada", "")]
    with sqlite3.connect(tmp_path / "state.db") as database:
        assert database.execute("SELECT count(*) FROM apart").fetchone() == (2,)


# --- whatever happens in between ---


class Died(Exception):
    """The worker is gone, at this moment."""


async def dies_after(town: Town, moments: int) -> bool:
    """A run that ends for ever at one of its calls to a system; False when it has less of them."""
    left = moments

    def moment(_: str) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Died

    for system in town.systems.values():
        system.moment = moment
    dead = False
    try:
        await town.run()
    except* Died:
        dead = True
    for system in town.systems.values():
        system.moment = lambda _: None
    return dead


WISHES: dict[str, tuple[Link | Split, tuple[int, int, int]]] = {
    "link": (Link(("crm", "A"), ("erp", "B1")), (1, 2, 1)),
    "link the other one": (Link(("crm", "A"), ("erp", "B2")), (1, 2, 1)),
    "split": (Split(("crm", "A")), (1, 2, 0)),
    "split and create": (Split(("erp", "B2"), create=True), (1, 2, 2)),
}


@pytest.mark.parametrize(("wish", "expected"), WISHES.values(), ids=WISHES.keys())
async def test_a_worker_that_dies_at_any_moment_does_what_was_asked_once(
    tmp_path: Path, wish: Link | Split, expected: tuple[int, int, int]
) -> None:
    found, dead = set(), True
    for moments in range(200):
        if not dead:
            break
        folder = tmp_path / str(moments)
        folder.mkdir()
        town = Town(folder, "crm", "erp", "shop")
        town["erp"].add(person("a@x", name="one"), "B1")
        town["erp"].add(person("a@x", note="two"), "B2")
        town["crm"].add(person("a@x", name="crm's"), "A")
        await town.run()
        asked = await town.leave(wish)
        dead = await dies_after(town, moments)
        await town.run(Kind.RESYNC)
        answer = await town.answer(asked)
        assert answer is not None
        assert (answer.done, answer.refused) == (1, ())
        await town.run()
        found.add(tuple(len(system.records) for system in town.systems.values()))
        assert (await settled(town))[1] == 0
    assert (found, dead, moments > 5) == ({expected}, False, True)


async def test_what_takes_no_part_in_a_record_takes_none_after_a_link(town_of) -> None:
    town = town_of("crm", "erp", "shop")
    town.policy["systems"][0]["filter"] = "note != 'gone'"
    town["crm"].add(person("a@x", name="Ada"), "A")
    await town.run()
    (erp,), (shop,) = town["erp"].records, town["shop"].records
    await town.asked(Split(("shop", shop)))
    town["crm"].edit("A", {"note": "gone"})
    await town.run()
    assert (await town.asked(Link(("erp", erp), ("shop", shop)))).done == 1
    town["shop"].edit(shop, {"name": "Ada King"})
    await town.run()
    assert [list(town.values(name).values()) for name in town.systems] == [["Ada"], ["Ada King"], ["Ada King"]]
    assert (await settled(town))[1] == 0


async def test_what_takes_no_part_in_a_record_takes_none_when_it_is_split_off_and_linked(town_of) -> None:
    town = town_of("crm", "erp", "shop")
    town.policy["systems"][0]["filter"] = "note != 'gone'"
    town["crm"].add(person("a@x", name="Ada"), "A")
    await town.run()
    (erp,) = town["erp"].records
    town["crm"].edit("A", {"note": "gone"})
    await town.run()
    await town.asked(Split(("crm", "A")))
    assert (await town.asked(Link(("crm", "A"), ("erp", erp)))).done == 1
    town["erp"].edit(erp, {"name": "Ada King"})
    await town.run()
    assert [list(town.values(name).values()) for name in town.systems] == [["Ada"], ["Ada King"], ["Ada King"]]
    assert (await settled(town))[1] == 0
