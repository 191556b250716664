"""Conflicts that wait for a person are decided at a person's request, and nothing is lost by it."""

import contextlib
from pathlib import Path
from typing import Any

import pytest

from fairlead.engine.rules import Rules, compile_rules
from fairlead.state.requests import ResolveConflicts, mark_of, request
from fairlead.transport.failure import Transient
from fairlead.worker.conflicts import checked_value
from fairlead.worker.handling import NotPossible
from support.policies import policy_of
from support.town import Town

MANUAL = {"fields": {"name": {"onConflict": "Manual"}, "note": {"onConflict": "Manual"}}}
EVERYWHERE = ("crm", "erp", "shop")


@pytest.fixture
async def town(tmp_path: Path) -> Town:
    """Three systems that agreed on a customer, whose name was then changed in two of them; the third got the ERP's."""
    made = Town(tmp_path, *EVERYWHERE, **MANUAL)
    made.add("crm", "a@x", name="old", note="kept")
    await made.agree()
    made.edit("crm", "a@x", name="crm's")
    made.edit("erp", "a@x", name="erp's")
    await made.run()
    return made


def resolve(town: Town, *, keep: str = "", value: str = "", owner: bool = False) -> ResolveConflicts:
    """Every conflict, as it is now."""
    conflicts = tuple((c.record, c.field, mark_of(c.values)) for c in town.conflicts)
    return ResolveConflicts(conflicts, keep, value, owner)


def names(town: Town) -> list[object]:
    return [town.values(system)["a@x"] for system in town.systems]


@pytest.mark.parametrize(
    ("choice", "name", "rule", "winner"),
    [
        ({"keep": "erp"}, "erp's", "ada: keep erp", "erp"),
        ({"keep": "crm"}, "crm's", "ada: keep crm", "crm"),
        ({"keep": "shop"}, "erp's", "ada: keep shop", "shop"),
        ({"owner": True}, "crm's", "ada: the system of record (crm)", "crm"),
        ({"value": '"Ada"'}, "Ada", "ada: a value given", "(chosen)"),
    ],
)
async def test_what_is_chosen_is_everywhere_and_audited_with_what_it_replaces(
    town: Town, choice: dict[str, str], name: str, rule: str, winner: str
) -> None:
    answer = await town.asked(resolve(town, **choice))
    assert (answer.done, answer.refused, names(town)) == (1, (), [name] * 3)
    assert (town.conflicts, (await town.counts()).conflicts) == ([], 0)
    said = {"crm": "crm's", "erp": "erp's"}
    assert await town.audited("Resolved") == [("name", rule, winner, {**said, winner: name})]


async def test_a_field_that_was_resolved_is_an_ordinary_one_again(town: Town) -> None:
    await town.asked(resolve(town, keep="erp"))
    town.edit("shop", "a@x", name="new")
    await town.run()
    assert names(town) == ["new"] * 3


async def test_several_fields_of_a_record_are_resolved_together(town: Town) -> None:
    for system in ("crm", "erp"):
        town.edit(system, "a@x", note=f"{system}'s note")
    await town.run()
    answer = await town.asked(resolve(town, keep="erp"))
    assert (answer.done, names(town)) == (2, ["erp's"] * 3)
    assert [town.values(system, "note")["a@x"] for system in EVERYWHERE] == ["erp's note"] * 3


async def test_a_field_that_is_not_named_waits_on(town: Town) -> None:
    for system in ("crm", "erp"):
        town.edit(system, "a@x", note=f"{system}'s note")
    await town.run()
    demand = resolve(town, keep="erp")
    only = [each for each in demand.conflicts if each[1] == "name"]
    await town.asked(ResolveConflicts(tuple(only), "erp"))
    assert [(c.field, c.values) for c in town.conflicts] == [("note", {"crm": "crm's note", "erp": "erp's note"})]
    assert [town.values(system, "note")["a@x"] for system in EVERYWHERE] == ["crm's note", "erp's note", "erp's note"]


async def test_a_conflict_that_is_gone_is_refused_and_nothing_changes(town: Town) -> None:
    demand = resolve(town, keep="erp")
    await town.asked(demand)
    town.edit("shop", "a@x", name="new")
    await town.run()
    answer = await town.asked(demand)
    assert (answer.done, names(town)) == (0, ["new"] * 3)
    (refused,) = answer.refused
    assert refused.startswith("name of crm/")
    assert refused.endswith(": there is no such conflict any more")


async def test_a_run_that_refuses_what_was_asked_for_tells_who_asked_and_why(town: Town) -> None:
    for keep in ("erp", "crm"):
        await town.leave(resolve(town, keep=keep))
    report = await town.run()
    (note,) = [note for note in report.tally.notes if note.kind == "Refused"]
    assert (note.record, note.winner, note.rule.partition(": ")[2]) == (
        "resolve conflicts",
        "ada",
        "there is no such conflict any more",
    )


async def test_a_request_that_is_still_to_be_taken_up_is_not_told_as_refused(town: Town) -> None:
    demand = resolve(town, keep="erp")
    await town.asked(demand)
    await town.leave(demand)
    report = await town.run(stopping=lambda: True)
    assert report.tally.notes == []


async def test_values_that_nobody_looked_at_are_not_decided(town: Town) -> None:
    demand = resolve(town, keep="crm")
    town.edit("erp", "a@x", name="a third")
    await town.run()
    answer = await town.asked(demand)
    assert (answer.done, answer.refused[0].partition(": ")[2]) == (
        0,
        "the values that compete changed meanwhile: look at them again",
    )
    assert (len(town.conflicts), names(town)) == (1, ["crm's", "a third", "erp's"])


@pytest.mark.parametrize("value", ['"Ada"', ""])
async def test_a_system_that_changes_in_the_meantime_begins_the_conflict_anew(town: Town, value: str) -> None:
    demand = resolve(town, value=value, keep="" if value else "crm")
    answer = await town.asked(demand, lambda: town.edit("erp", "a@x", name="a third"))
    assert answer.done == 1
    (conflict,) = town.conflicts
    assert conflict.values["erp"] == "a third"
    assert town.values("erp")["a@x"] == "a third"


async def test_an_edit_of_the_system_that_was_chosen_is_what_stands(town: Town) -> None:
    await town.asked(resolve(town, keep="crm"), lambda: town.edit("crm", "a@x", name="newer"))
    assert (names(town), town.conflicts) == (["newer"] * 3, [])


async def test_what_cannot_be_written_now_waits_and_is_written_later(town: Town) -> None:
    town["erp"].down = Transient("away")
    answer = await town.asked(resolve(town, keep="crm"))
    assert (answer.done, names(town)) == (1, ["crm's", "erp's", "crm's"])
    town["erp"].down = None
    await town.run()
    assert (names(town), town.conflicts) == (["crm's"] * 3, [])


async def test_a_value_that_must_be_read_first_is_not_chosen_while_its_system_is_down(town: Town) -> None:
    town["shop"].down = Transient("away")
    answer = await town.asked(resolve(town, keep="shop"))
    assert (answer.done, len(town.conflicts)) == (0, 1)
    assert answer.refused[0].endswith(": shop cannot be read now: away")


async def test_a_conflict_outlives_an_archiving_that_never_happens_and_ends_with_one_that_does(town: Town) -> None:
    archiving = {"fields": {"email": "email", "name": "name"}, "archive": {"set": {"note": "archived"}}}
    town.policy["systems"] = [{**Town.declared(name), **archiving} for name in EVERYWHERE]
    town.policy["deletes"] = {"action": "Archive", "propagate": "FromAny", "guard": {"maxRecords": 0, "maxPercent": 0}}
    town.policy["fields"] = {"name": {"onConflict": "Manual"}}
    del town.policy["schema"]["properties"]["note"]
    await town.run()
    town.remove("shop", "a@x")
    await town.run()
    answer = await town.asked(resolve(town, keep="crm"))
    assert answer.refused[0].endswith(": the record is about to be deleted or archived")
    town.edit("crm", "a@x", email="b@x")
    await town.run()
    assert [conflict.values for conflict in town.conflicts] == [{"crm": "crm's", "erp": "erp's"}]
    town.remove("shop", "b@x")
    report = await town.run()
    assert report.halt is not None
    await town.run(approved=report.halt.plan)
    assert [town.values(name, "note") for name in ("crm", "erp")] == [{"b@x": "archived"}] * 2
    assert town.conflicts == []


async def test_a_system_that_the_policy_does_not_have_is_refused(town: Town) -> None:
    answer = await town.asked(resolve(town, keep="webshop"))
    assert answer.refused[0].endswith(": webshop has no such field, or not this record")
    assert len(town.conflicts) == 1


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("[17]", "the value must be text, not a list: write for example --value '\"5\"'"),
        ("Ada", "the value is no JSON; a text stands in quotes, as in '\"Ada\"'"),
        ('"a name that is too long"', "the value breaks 'maxLength: 10' of the policy's schema"),
    ],
)
async def test_a_value_that_breaks_the_schema_is_refused_before_it_is_sent(
    tmp_path: Path, value: str, why: str
) -> None:
    town = Town(tmp_path, "crm", "erp", **MANUAL)
    town.policy["schema"]["properties"]["name"] = {"type": "string", "maxLength": 10}
    town.add("crm", "a@x", name="old")
    await town.agree()
    for system in ("crm", "erp"):
        town.edit(system, "a@x", name=f"{system}'s")
    await town.run()
    answer = await town.asked(resolve(town, value=value))
    assert (answer.done, len(town.conflicts), names(town)) == (0, 1, ["crm's", "erp's"])
    assert why in answer.refused[0]


def rules_of(schema: dict[str, Any]) -> Rules:
    """Of a policy in which the name is declared so."""
    properties = {"email": {"type": "string"}, "name": schema, "note": {"type": "string"}}
    declared = {"type": "object", "properties": properties}
    fields = {name: name for name in properties}
    return compile_rules(
        policy_of([{"name": "crm", "fields": fields}, {"name": "erp", "fields": fields}], schema=declared).spec
    )


@pytest.mark.parametrize(
    ("schema", "value", "why"),
    [
        ({"type": "string"}, "5", "must be text, not a number: write for example --value '\"5\"'"),
        ({"type": ["string", "null"]}, "true", "must be text, not true or false: write for example --value '\"5\"'"),
        ({"type": "number"}, '"12.5"', "must be a number, not text: write for example --value 12.5"),
        ({"type": "number"}, "true", "must be a number, not true or false: write for example --value 12.5"),
        ({"type": "integer"}, '"5"', "must be a number, not text: write for example --value 5"),
        ({"type": "integer"}, "5.5", "must be a whole number: write for example --value 5"),
        ({"type": "boolean"}, '"yes"', "must be true or false, not text: write for example --value true"),
        (
            {"type": "array", "items": {"type": "string"}},
            '"a"',
            "must be a list, not text: write for example --value '[\"5\"]'",
        ),
        (
            {"type": "array", "items": {"type": "integer"}},
            '["5"]',
            "must be a number, not text: write for example --value '[5]'",
        ),
        ({"type": "object"}, '"a"', "must be an object, not text: write for example --value '{\"a\": 1}'"),
        (
            {"type": "string", "format": "date"},
            "20260131",
            "must be a date such as 2026-01-31: write for example --value '\"2026-01-31\"'",
        ),
        (
            {"type": "string", "format": "date-time"},
            "20260131",
            "must be a date-time, not a number: write for example --value '\"2026-01-31T12:00:00Z\"'",
        ),
        (
            {"type": "string", "contentEncoding": "base64"},
            "5",
            "must be base64, not a number: write for example --value '\"YQ==\"'",
        ),
        ({"type": ["string", "number"]}, "true", 'breaks \'type: ["string", "number"]\' of the policy\'s schema'),
    ],
)
def test_a_value_of_another_type_is_refused_with_what_to_write(schema: dict[str, Any], value: str, why: str) -> None:
    with pytest.raises(NotPossible) as refused:
        checked_value(rules_of(schema), "name", value)
    assert str(refused.value) == f"the value {why}"


@pytest.mark.parametrize(
    ("schema", "value", "expected"),
    [
        ({"type": "string"}, '"5"', "5"),
        ({"type": "string"}, "null", None),
        ({"type": "number"}, "5", 5),
        ({"type": "integer"}, "5.0", 5),
        ({"type": "boolean"}, "false", False),
        ({"type": ["string", "number"]}, "5", 5),
        ({}, "true", True),
    ],
)
def test_a_value_of_the_type_is_taken(schema: dict[str, Any], value: str, expected: object) -> None:
    assert checked_value(rules_of(schema), "name", value) == expected


async def test_an_owner_that_depends_on_the_record_must_be_named(tmp_path: Path) -> None:
    when = {"when": "record.email == 'a@x'", "then": "erp", "otherwise": "crm"}
    town = Town(tmp_path, "crm", "erp", fields={"name": {"onConflict": "Manual", "systemOfRecordWhen": when}})
    town.add("crm", "a@x", name="old")
    await town.agree()
    for system in ("crm", "erp"):
        town.edit(system, "a@x", name=f"{system}'s")
    await town.run()
    answer = await town.asked(resolve(town, owner=True))
    assert answer.refused[0].endswith("depends on the record: name the system whose value to keep")
    assert len(town.conflicts) == 1


class Killed(BaseException):
    """The worker dies."""


@pytest.mark.parametrize("call", range(1, 13))
async def test_a_worker_that_dies_at_any_call_decides_once_and_loses_nothing(town: Town, call: int) -> None:
    calls = iter(range(1, 1000))

    def die(_: str) -> None:
        if next(calls) == call:
            raise Killed

    demand = resolve(town, keep="crm")
    asked = request("ada", demand)
    async with town.beside() as store:
        await store.ask(asked)
    for system in EVERYWHERE:
        town[system].moment = die
    with contextlib.suppress(Killed, BaseExceptionGroup):
        await town.run()
    for system in EVERYWHERE:
        town[system].moment = lambda _: None
    await town.run()
    async with town.beside() as store:
        assert await store.answer(asked.id) is not None
    assert (names(town), town.conflicts) == (["crm's"] * 3, [])
    assert len(await town.audited("Resolved")) == 1
