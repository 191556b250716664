"""The match rules change: nobody is taken for somebody else, and nobody is taken for new who is known."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fairlead.engine.case import Operation, Write
from fairlead.state.base import REMATCH, Commit, Recollection, Undelivered
from fairlead.testing.memory_system import MemorySystem, Traits
from fairlead.transport.failure import Transient
from fairlead.worker import rematching
from fairlead.worker.run import Kind, Outcome, Run, RunReport
from support.desk import MINUTE, OneRecord

TWO: dict[str, dict[str, Any]] = {"crm": {}, "erp": {}}
THREE: dict[str, dict[str, Any]] = {**TWO, "shop": {}}
TEXT = {"type": "string"}
PROPERTIES = {"a": TEXT, "b": TEXT, "x": {**TEXT, "maxLength": 20}}

searched = pytest.mark.parametrize("find", [True, False], ids=["searched", "unsearchable"])
kinds = pytest.mark.parametrize("kind", list(Kind))


def by(*rules: str | dict[str, Any]) -> list[dict[str, Any]]:
    return [{"fields": [rule]} if isinstance(rule, str) else rule for rule in rules]


def desk_of(
    path: Path, match: list[dict[str, Any]], *, find: bool = True, systems: dict[str, dict[str, Any]] = TWO, **more: Any
) -> OneRecord:
    traits = dict.fromkeys(systems, Traits(find=find))
    return OneRecord(path / "state.db", PROPERTIES, systems, traits=traits, match=match, **more)


def rematch(desk: OneRecord, *rules: str | dict[str, Any], systems: dict[str, dict[str, Any]] = TWO) -> None:
    """From now on these are the policy's match rules."""
    desk.policy = desk.policy_of(systems, match=by(*rules))


def open_shop(desk: OneRecord, *rows: dict[str, Any], find: bool = True) -> None:
    """There is a third system."""
    clock = lambda: datetime.fromtimestamp(desk.now, UTC)  # noqa: E731
    desk.systems["shop"] = MemorySystem("things", Traits(find=find), clock=clock)
    for row in rows:
        desk.systems["shop"].add(row)


def names(desk: OneRecord) -> dict[str, list[Any]]:
    """Who is in each system."""
    return {name: sorted(row["x"] for row in system.records.values()) for name, system in desk.systems.items()}


def told(report: RunReport) -> list[str]:
    return [str(note.kind) for note in report.tally.notes]


def listen(desk: OneRecord, name: str) -> list[str]:
    """What a system is asked from now on."""
    heard: list[str] = []
    call = desk.systems[name].call

    async def heard_call(word: str, **more: Any) -> Any:
        heard.append(word)
        return await call(word, **more)

    desk.systems[name].call = heard_call  # type: ignore[method-assign]
    return heard


async def fact(desk: OneRecord) -> str | None:
    found = await (await desk.session()).store.meta(REMATCH)
    await desk.stop()
    return found


async def match_keys(desk: OneRecord, record: int = 1) -> int:
    """By how many match keys a record is found."""
    found = await (await desk.session()).store.match_keys([record])
    await desk.stop()
    return len(found.get(record, []))


# --- nobody is taken for somebody else ---


@searched
@kinds
@pytest.mark.parametrize(("before", "after"), [(["a"], ["b"]), (["a", "b"], ["b", "a"]), (["a", "b"], ["b"])])
async def test_a_value_of_another_rule_matches_nobody(
    tmp_path: Path, before: list[str], after: list[str], kind: Kind, *, find: bool
) -> None:
    desk = desk_of(tmp_path, by(*before), find=find)
    desk.enter("crm", a="17", b="50", x="Ada")
    await desk.run()
    desk.delete("erp")
    await desk.run()
    rematch(desk, *after)
    await desk.run(kind)
    desk.systems["erp"].add({"id": 2, "a": "99", "b": "17", "x": "Bob"})
    assert (await desk.run()).outcome is Outcome.SUCCEEDED
    assert names(desk) == {"crm": ["Ada", "Bob"], "erp": ["Bob"]}


# --- nobody is taken for new who is known ---


@searched
@kinds
async def test_a_system_that_is_added_after_a_change_is_linked(tmp_path: Path, kind: Kind, *, find: bool) -> None:
    desk = desk_of(tmp_path, by("a"), find=find)
    desk.enter("crm", a="17", b="50", x="Ada")
    await desk.run()
    rematch(desk, "b")
    await desk.run(kind)
    open_shop(desk, {"id": 7, "a": "?", "b": "50", "x": "Ada"}, find=find)
    rematch(desk, "b", systems=THREE)
    await desk.run()
    await desk.run()
    assert names(desk) == {"crm": ["Ada"], "erp": ["Ada"], "shop": ["Ada"]}


@searched
async def test_a_system_that_is_added_with_the_change_is_linked(tmp_path: Path, *, find: bool) -> None:
    desk = desk_of(tmp_path, by("a"), find=find, systemOfRecord="crm")
    desk.enter("crm", a="17", b="50", x="Ada")
    await desk.run()
    open_shop(desk, {"id": 7, "a": "?", "b": "50", "x": "Ada"}, find=find)
    rematch(desk, "b", systems={"shop": {}, **TWO})
    await desk.run()
    await desk.run()
    assert names(desk) == {"crm": ["Ada"], "erp": ["Ada"], "shop": ["Ada"]}


@searched
@pytest.mark.parametrize(
    "after", [["b", "a"], [{"fields": ["a"], "normalize": ["Lowercase"]}], [{"fields": ["a"], "normalize": ["Trim"]}]]
)
async def test_a_duplicate_is_told_after_a_change(tmp_path: Path, after: list[Any], *, find: bool) -> None:
    desk = desk_of(tmp_path, by("a"), find=find)
    desk.enter("crm", a="ada", x="Ada")
    await desk.run()
    rematch(desk, *after)
    desk.systems["erp"].add({"id": 9, "a": "ada", "x": "Ada again"})
    assert told(await desk.run()) == ["DeadLetter"]
    assert names(desk) == {"crm": ["Ada"], "erp": ["Ada", "Ada again"]}


@searched
async def test_whoever_comes_in_the_run_of_the_change_meets_those_that_are_known(tmp_path: Path, *, find: bool) -> None:
    desk = desk_of(tmp_path, by("a"), find=find)
    desk.enter("crm", a="17", b="50", x="Ada")
    await desk.run()
    desk.delete("erp")
    await desk.run()
    rematch(desk, "b")
    desk.systems["erp"].add({"id": 2, "a": "99", "b": "50", "x": "Ada"})  # erp is read before crm
    await desk.run()
    assert names(desk) == {"crm": ["Ada"], "erp": ["Ada"]}


async def test_a_record_is_found_by_what_any_of_its_sides_says(tmp_path: Path) -> None:
    apart = {"crm": {}, "erp": {"access": "ReadOnly"}}
    desk = desk_of(tmp_path, by("x"), systems=apart)
    desk.enter("crm", a="1", x="Ada")
    desk.enter("erp", a="2", x="Ada")
    await desk.run()
    rematch(desk, "a", systems=apart)
    await desk.run()
    assert await match_keys(desk) == 2


async def test_one_system_is_asked_where_all_say_the_same(tmp_path: Path) -> None:
    desk = desk_of(tmp_path, by("a"))
    desk.enter("crm", a="17", b="50", x="Ada")
    await desk.run()
    await desk.run()
    rematch(desk, "b")
    heard = {name: listen(desk, name) for name in desk.systems}
    await desk.run()
    assert {name: words.count("fetch") for name, words in heard.items()} == {"crm": 1, "erp": 0}


async def test_rules_that_only_swap_places_cost_nothing(tmp_path: Path) -> None:
    desk = desk_of(tmp_path, by("a", "b"))
    desk.enter("crm", a="17", b="50", x="Ada")
    await desk.run()
    rematch(desk, "b", "a")
    assert (await fact(desk), await match_keys(desk)) == (None, 2)


async def test_a_dead_letter_holds_what_it_is_matched_by_now(tmp_path: Path) -> None:
    desk = desk_of(tmp_path, by("a"))
    desk.systems["erp"].add(
        {"id": 1, "a": "17", "b": "50", "x": "Ada, whose name is far too long"}
    )  # breaks the contract
    await desk.run()
    rematch(desk, "b")
    desk.enter("crm", a="18", b="50", x="Ada")
    await desk.run()
    await desk.run()
    assert names(desk) == {"crm": ["Ada"], "erp": ["Ada, whose name is far too long"]}


async def test_a_match_field_that_is_read_from_elsewhere_is_a_change_of_the_rules(tmp_path: Path) -> None:
    desk = desk_of(tmp_path, by("a"))
    desk.enter("crm", a="17", c="50", x="Ada")
    await desk.run()
    desk.delete("erp")
    await desk.run()
    desk.policy = desk.policy_of({"crm": {"fields": {"a": "c"}}, "erp": {}}, match=by("a"))
    desk.systems["erp"].add({"id": 2, "a": "50", "x": "Ada"})
    await desk.run()
    assert names(desk) == {"crm": ["Ada"], "erp": ["Ada"]}


async def test_a_state_of_an_older_version_gets_new_match_keys(tmp_path: Path) -> None:
    desk = desk_of(tmp_path, by("a"))
    desk.enter("crm", a="17", x="Ada")
    await desk.run()
    with sqlite3.connect(desk.path) as db:
        db.execute("UPDATE meta SET value = json_remove(value, '$.match') WHERE name = 'layout'")
        db.execute("UPDATE record SET found_by = 1")
        db.execute("DELETE FROM match")
    desk.systems["erp"].add({"id": 9, "a": "17", "x": "Ada again"})
    assert told(await desk.run()) == ["DeadLetter"]
    assert await match_keys(desk) == 1


UNREADABLE = {"no": "text"}


async def unreadable(path: Path, field: str, *, find: bool = True) -> OneRecord:
    """A record that is in crm alone, and can be read there but for one field, when the rules change."""
    desk = desk_of(path, by("a"), find=find)
    desk.enter("crm", a="17", b="50", x="Ada")
    await desk.run()
    desk.delete("erp")
    desk.enter("crm", **{field: UNREADABLE})
    await desk.run()
    rematch(desk, "b")
    await desk.run()
    return desk


@searched
async def test_a_record_with_another_field_that_cannot_be_read_is_found_by_the_new_rules(
    tmp_path: Path, *, find: bool
) -> None:
    desk = await unreadable(tmp_path, "x", find=find)
    desk.systems["erp"].add({"id": 2, "a": "17", "b": "50", "x": "Ada"})
    await desk.run()
    assert [len(system.records) for system in desk.systems.values()] == [1, 1]


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("field", ["b", "x"])
async def test_a_record_that_can_be_read_again_is_found_by_the_new_rules(
    tmp_path: Path, field: str, kind: Kind
) -> None:
    desk = await unreadable(tmp_path, field)
    desk.enter("crm", **{field: {"b": "50", "x": "Ada"}[field]})
    await desk.run(kind)
    desk.systems["erp"].add({"id": 2, "a": "17", "b": "50", "x": "Ada"})
    await desk.run()
    assert names(desk) == {"crm": ["Ada"], "erp": ["Ada"]}


async def test_a_record_that_is_only_on_its_way_is_found_by_the_new_rules(tmp_path: Path) -> None:
    desk = desk_of(tmp_path, by("a"))
    values = {"a": "17", "b": "50", "x": "Ada"}
    session = await desk.session()
    waits = Undelivered(1, "erp", Write(Operation.CREATE, values), desk.now + 10 * MINUTE)
    await session.store.commit(Commit(records=[Recollection(1, {})], pending=[waits]))
    await desk.stop()
    rematch(desk, "b")
    await desk.run()
    assert await match_keys(desk) == 1


# --- what goes wrong meanwhile ---


@searched
async def test_what_is_new_waits_while_known_records_cannot_be_read(tmp_path: Path, *, find: bool) -> None:
    desk = desk_of(tmp_path, by("a"), find=find, systems=THREE)
    desk.enter("crm", a="17", b="50", x="Ada")
    await desk.run()
    for name in ("erp", "shop"):
        desk.delete(name)
    await desk.run()
    rematch(desk, "b", systems=THREE)
    desk.systems["crm"].down = Transient("crm is down")
    desk.systems["erp"].add({"id": 2, "a": "99", "b": "50", "x": "Ada"})
    desk.systems["shop"].add({"id": 3, "a": "98", "b": "60", "x": "Bob"})
    reports = [await desk.run(), await desk.run(Kind.RESYNC)]
    assert [(report.outcome, told(report)) for report in reports] == [(Outcome.PARTIAL, ["Rematching"])] * 2
    assert names(desk) == {"crm": ["Ada"], "erp": ["Ada"], "shop": ["Bob"]}
    desk.systems["crm"].down = None
    assert (await desk.run()).outcome is Outcome.SUCCEEDED
    await desk.run()
    assert names(desk) == {"crm": ["Ada", "Bob"], "erp": ["Ada", "Bob"], "shop": ["Bob"]}


async def test_edits_of_what_is_known_go_on_meanwhile(tmp_path: Path) -> None:
    desk = desk_of(tmp_path, by("a"), systems=THREE)
    desk.enter("crm", a="17", b="50", x="Ada")
    await desk.run()
    desk.systems["shop"].down = Transient("shop is down")
    desk.systems["shop"].add({"id": 2, "a": "99", "b": "60", "x": "Bob"})
    desk.systems["shop"].down = None
    await desk.run()
    for name in ("crm", "erp"):
        desk.systems[name].remove(next(k for k, row in desk.systems[name].records.items() if row["x"] == "Bob"))
    await desk.run()
    desk.systems["shop"].down = Transient("shop is down")
    rematch(desk, "b", systems=THREE)
    desk.enter("crm", x="Ada B.")
    await desk.run()
    assert desk.values("x") == {"crm": "Ada B.", "erp": "Ada B.", "shop": "Ada"}


async def test_a_match_value_that_changes_meanwhile_arrives_afterwards(tmp_path: Path) -> None:
    desk = desk_of(tmp_path, by("a"), systems=THREE)
    desk.enter("crm", a="17", b="50", x="Ada")
    await desk.run()
    desk.enter("shop", b="51")
    desk.systems["crm"].down = desk.systems["erp"].down = Transient("they are down")
    await desk.run()
    rematch(desk, "b", systems=THREE)
    desk.systems["erp"].down = None
    desk.systems["crm"].down = Transient("crm is down")
    await desk.run()
    desk.systems["crm"].down = None
    await desk.run()
    await desk.run()
    assert desk.values("b") == {"crm": "51", "erp": "51", "shop": "51"}


async def test_another_system_is_asked_where_it_says_the_same(tmp_path: Path) -> None:
    desk = desk_of(tmp_path, by("a"))
    desk.enter("crm", a="17", b="50", x="Ada")
    await desk.run()
    await desk.run()
    rematch(desk, "b")
    desk.systems["crm"].down = Transient("crm is down")
    desk.systems["erp"].add({"id": 9, "a": "18", "b": "50", "x": "Ada again"})
    assert told(await desk.run()) == ["DeadLetter"]
    assert await fact(desk) is None


async def test_a_system_that_is_new_is_not_read_before_all_can_be_found(tmp_path: Path) -> None:
    desk = desk_of(tmp_path, by("a"))
    desk.enter("crm", a="17", b="50", x="Ada")
    await desk.run()
    desk.delete("erp")
    await desk.run()
    open_shop(desk, {"id": 7, "a": "?", "b": "50", "x": "Ada"})
    rematch(desk, "b", systems=THREE)
    desk.systems["crm"].down = Transient("crm is down")
    heard = listen(desk, "shop")
    await desk.run()
    assert "scan" not in heard
    desk.systems["crm"].down = None
    await desk.run()
    await desk.run()
    assert names(desk) == {"crm": ["Ada"], "erp": [], "shop": ["Ada"]}


async def stopped_after(desk: OneRecord, pages: int) -> RunReport:
    """A run that is stopped after so many pages of the walk."""
    asked: list[None] = []

    def stopping() -> bool:
        asked.append(None)
        return len(asked) > pages

    session = await desk.session()
    try:
        return await Run(session, Kind.CHANGES, stopping=stopping).run()
    finally:
        await desk.stop()


async def test_a_worker_that_ends_in_the_middle_goes_on_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rematching, "BATCH", 1)
    desk = desk_of(tmp_path, by("a"))
    for n in (1, 2, 3):
        desk.systems["crm"].add({"id": n, "a": f"1{n}", "b": f"5{n}", "x": f"Ada {n}"})
    await desk.run()
    await desk.run()
    rematch(desk, "b")
    report = await stopped_after(desk, 2)
    assert (report.stopped, await fact(desk)) == (True, "2")
    desk.systems["erp"].add({"id": 9, "a": "?", "b": "51", "x": "Ada again"})
    heard = listen(desk, "crm")
    assert told(await desk.run()) == ["DeadLetter"]
    assert (await fact(desk), heard.count("fetch")) == (None, 1)
    assert names(desk)["crm"] == ["Ada 1", "Ada 2", "Ada 3"]


async def test_a_worker_that_ends_before_it_began_begins_anew(tmp_path: Path) -> None:
    desk = desk_of(tmp_path, by("a"))
    desk.enter("crm", a="17", b="50", x="Ada")
    await desk.run()
    rematch(desk, "b")
    assert (await fact(desk), await match_keys(desk)) == ("-1", 0)
    await desk.run()
    assert (await fact(desk), await match_keys(desk)) == (None, 1)
