"""Dead letters, of both kinds: tried again when something changes or a person asks, given up when a person says so."""

from collections.abc import Awaitable, Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from fairlead.state.base import DISCARDED, Commit, DeadLetter
from fairlead.state.place import reservation
from fairlead.state.requests import DiscardDeadLetters, RetryDeadLetters
from fairlead.testing.memory_system import Fault, Traits
from fairlead.transport.failure import Transient
from fairlead.worker import revival
from fairlead.worker.run import Kind
from support.town import Town

LONG = "far too long"
COUNTED = {"schema": {"type": "object", "properties": {
    "email": {"type": "string"}, "name": {"type": "string"}, "note": {"type": "string", "maxLength": 20},
}}}  # fmt: skip


def short(values: Mapping[str, object]) -> str:
    """A system that refuses long names."""
    return "name is too long" if values.get("name") == LONG else ""


async def town_of(folder: Path, **spec: Any) -> Town:
    """Two systems; the ERP refuses long names."""
    town = Town(folder, "crm", "erp", **{**deepcopy(COUNTED), **spec})
    town["erp"].refuses = short
    town.add("crm", "z@x")
    await town.agree()
    return town


async def updated_in(folder: Path) -> Town:
    """The ERP refused an update."""
    town = await town_of(folder)
    town.add("crm", "a@x", name="Ada")
    await town.run()
    town.edit("crm", "a@x", name=LONG)
    await town.run()
    return town


async def created_in(folder: Path) -> Town:
    """The ERP refused a create."""
    town = await town_of(folder)
    town.add("crm", "a@x", name=LONG)
    await town.run()
    return town


async def broken_in(folder: Path) -> Town:
    """A record of the CRM breaks the contract."""
    town = await town_of(folder)
    town.add("crm", "a@x", name="Ada", note="more than twenty characters")
    await town.run()
    return town


CASES: Mapping[str, Callable[[Path], Awaitable[Town]]] = {
    "updated": updated_in,
    "created": created_in,
    "broken": broken_in,
}


@pytest.fixture
async def updated(tmp_path: Path) -> Town:
    return await updated_in(tmp_path)


@pytest.fixture
async def created(tmp_path: Path) -> Town:
    return await created_in(tmp_path)


@pytest.fixture
async def broken(tmp_path: Path) -> Town:
    return await broken_in(tmp_path)


async def writes(town: Town) -> tuple[tuple[int, str], ...]:
    return tuple((item.record, item.system) for item in await town.failed())


def letters(town: Town) -> tuple[tuple[str, str], ...]:
    return tuple((letter.system, letter.key) for letter in town.letters)


async def dead(town: Town) -> int:
    return (await town.counts()).dead


# --- a person tries it again ---


async def test_a_write_is_tried_again_when_a_person_asks(updated: Town) -> None:
    updated["erp"].refuses = lambda _: ""
    await updated.run()
    assert (updated.values("erp")["a@x"], await dead(updated)) == ("Ada", 1)
    answer = await updated.asked(RetryDeadLetters(await writes(updated)))
    assert (answer.done, answer.refused, updated.values("erp")["a@x"]) == (1, (), LONG)
    assert await dead(updated) == 0


async def test_what_is_refused_again_stays_a_dead_letter(updated: Town) -> None:
    answer = await updated.asked(RetryDeadLetters(await writes(updated)))
    (item,) = await updated.failed()
    assert (answer.done, item.attempts, item.error) == (1, 2, "Invalid")


async def test_a_record_is_taken_in_again_when_a_person_asks(broken: Town) -> None:
    broken.policy["schema"]["properties"]["note"]["maxLength"] = 50
    answer = await broken.asked(RetryDeadLetters(records=letters(broken)))
    assert (answer.done, broken.letters, broken.values("erp")["a@x"]) == (1, [], "Ada")


async def test_what_is_no_dead_letter_is_refused_and_nothing_changes(updated: Town) -> None:
    demand = RetryDeadLetters(((1, "erp"), (99, "erp")), (("crm", "7"),))
    answer = await updated.asked(demand)
    assert (answer.done, answer.refused) == (
        0,
        (
            "the write of crm/1 = erp/1 to erp is no dead letter any more",
            "the write of a record that is gone to erp is no dead letter any more",
            "crm/7 is no dead letter any more",
        ),
    )
    assert await dead(updated) == 1


async def test_a_create_whose_answer_was_lost_is_not_repeated_because_a_person_asks(tmp_path: Path) -> None:
    town = await town_of(tmp_path)
    town["erp"].traits = Traits(find=False)
    town.add("crm", "a@x", name="Ada")
    town["erp"].faults = {town["erp"].calls + n: Fault.LOST for n in range(1, 9)}
    await town.run()
    town["erp"].faults = {}
    answer = await town.asked(RetryDeadLetters(await writes(town)))
    assert answer.done == 0
    assert "the answer to this create was lost" in answer.refused[0]
    assert list(town.values("erp")) == ["z@x", "a@x"]


# --- something changes ---


@pytest.mark.parametrize("case", ["updated", "created", "broken"])
async def test_a_record_that_changes_is_tried_again(case: str, tmp_path: Path) -> None:
    town = await CASES[case](tmp_path)
    town.edit("crm", "a@x", name="A.", note="short")
    await town.run()
    assert (town.values("erp")["a@x"], await dead(town)) == ("A.", 0)


async def test_another_policy_tries_a_write_again_once(updated: Town) -> None:
    updated["erp"].refuses = lambda _: ""
    updated.policy["onConflict"] = "Priority"
    await updated.run()
    assert (updated.values("erp")["a@x"], await dead(updated)) == (LONG, 0)


async def test_another_policy_takes_a_record_in_that_it_permits(broken: Town) -> None:
    broken.policy["schema"]["properties"]["note"] = {"type": "string", "maxLength": 50}
    await broken.run()
    assert (broken.letters, broken.values("erp")["a@x"]) == ([], "Ada")


async def test_another_policy_tries_a_write_again_when_its_system_is_back(updated: Town) -> None:
    updated["erp"].refuses = lambda _: ""
    updated["erp"].down = Transient("away")
    updated.policy["onConflict"] = "Priority"
    await updated.run()
    updated["erp"].down = None
    await updated.run()
    assert (updated.values("erp")["a@x"], await dead(updated)) == (LONG, 0)


async def test_what_failed_alike_is_tried_again_when_the_system_answers_otherwise(tmp_path: Path) -> None:
    town = await town_of(tmp_path)
    for n in range(5):
        town.add("crm", f"{n}@x", name=LONG)
    await town.run()
    assert await dead(town) == 5
    async with town.working() as run:
        await run()
        assert sorted(item.attempts for item in await town.failed()) == [1, 1, 1, 1, 2]
        town["erp"].refuses = lambda _: ""
        await run()
    assert (await dead(town), len(town.values("erp"))) == (0, 6)


async def test_creates_that_wait_for_a_person_hold_up_no_probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revival, "_CANDIDATES", 1)  # so one that waits is all that is looked at at once
    town = await town_of(tmp_path)
    town["erp"].traits, town["erp"].lagging = Traits(find=False), True
    for name in ("a@x", "b@x"):
        town.add("crm", name)
    town["erp"].faults = {town["erp"].calls + n: Fault.LOST for n in range(1, 9)}
    await town.run()
    town["erp"].faults = {}
    town.edit("crm", "z@x", name=LONG)
    await town.run()
    assert sorted(item.attempts for item in await town.failed()) == [1, 1, 1]
    async with town.working() as run:
        await run()
    assert sorted(item.attempts for item in await town.failed()) == [1, 1, 2]


async def test_the_same_policy_tries_nothing_again(updated: Town) -> None:
    await updated.run()
    assert [item.attempts for item in await updated.failed()] == [1]


# --- a person gives it up ---


@pytest.mark.parametrize("case", ["updated", "created"])
async def test_a_write_that_is_given_up_does_not_come_back_by_itself(case: str, tmp_path: Path) -> None:
    town = await CASES[case](tmp_path)
    answer = await town.asked(DiscardDeadLetters(await writes(town)))
    town["erp"].refuses = lambda _: ""
    town.policy["onConflict"] = "Priority"
    for _ in range(2):
        await town.run(Kind.RESYNC)
    assert (answer.done, await dead(town), town.pending) == (1, 0, 0)
    assert town.values("erp").get("a@x") == ("Ada" if case == "updated" else None)
    audited = {field: (rule, values) for field, rule, _, values in await town.audited("Discarded")}
    assert audited["name"] == ("ada: Invalid", {"erp": LONG})


@pytest.mark.parametrize("case", ["updated", "created"])
async def test_a_record_whose_write_was_given_up_is_written_when_it_changes(case: str, tmp_path: Path) -> None:
    town = await CASES[case](tmp_path)
    await town.asked(DiscardDeadLetters(await writes(town)))
    town.edit("crm", "a@x", name="A.")
    await town.run()
    assert town.values("erp")["a@x"] == "A."
    assert await dead(town) == 0


async def test_what_was_given_up_holds_no_value_any_more(created: Town) -> None:
    await created.asked(DiscardDeadLetters(await writes(created)))
    async with created.beside() as store:
        lines = b"".join([lines async for lines in store.export()]).splitlines()
    assert [line for line in lines if LONG.encode() in line and b'"type":"audit"' not in line] == []


async def test_a_delete_that_is_given_up_leaves_the_record_where_it_is(tmp_path: Path) -> None:
    town = await town_of(tmp_path)
    town.add("crm", "a@x", name="Ada")
    await town.run()
    town["erp"].faults = {town["erp"].calls + n: Fault.REFUSED for n in range(1, 9)}
    town.remove("crm", "a@x")
    await town.run()
    demand = DiscardDeadLetters(await writes(town))
    assert (await town.asked(demand)).done == 1
    town["erp"].faults = {}
    await town.run(Kind.RESYNC)
    assert (town.values("erp")["a@x"], list(town.values("crm")), await dead(town)) == ("Ada", ["z@x"], 0)


async def test_a_record_that_is_given_up_is_passed_over_until_it_changes(broken: Town) -> None:
    place = letters(broken)[0]
    answer = await broken.asked(DiscardDeadLetters(records=(place,)))
    broken.policy["schema"]["properties"]["note"] = {"type": "string"}
    for _ in range(2):
        await broken.run(Kind.RESYNC)
    assert (answer.done, await dead(broken), list(broken.values("erp"))) == (1, 0, ["z@x"])
    assert await broken.audited("Discarded") == [("", "ada: ContractBroken", "", {"crm": place[1]})]
    broken.edit("crm", "a@x", note="short")
    await broken.run()
    assert broken.values("erp")["a@x"] == "Ada"


async def test_what_was_given_up_does_not_come_back_however_many_dead_letters_there_are(broken: Town) -> None:
    await broken.asked(DiscardDeadLetters((), (("crm", broken.key("crm", "a@x")),)))
    others = [DeadLetter("crm", f"other {n}", "ContractBroken", "m", 0.0) for n in range(10_000)]
    await broken.remember(Commit(dead=others))
    await broken.run(Kind.RESYNC)
    assert [letter.reason for letter in broken.letters if letter.since] == [DISCARDED]


async def test_what_waits_is_read_again_however_much_it_is(tmp_path: Path) -> None:
    town = await town_of(tmp_path)
    await town.remember(Commit(waiting=[("crm", f"gone {n}") for n in range(10_500)]))
    await town.run()
    async with town.beside() as store:
        assert await store.waiting("crm") == []


async def test_what_was_given_up_is_not_made_again_from_its_twin(broken: Town) -> None:
    await broken.asked(DiscardDeadLetters(records=letters(broken)))
    broken.add("erp", "a@x", name="Ada, too")
    for _ in range(2):
        await broken.run(Kind.RESYNC)
    assert len(broken["crm"].holders("email", "a@x")) == 1
    assert reservation(*letters(broken)[0]) < 0


async def test_a_broken_change_of_a_known_record_is_given_up_until_the_next_change(tmp_path: Path) -> None:
    town = await town_of(tmp_path)
    town.add("crm", "a@x", name="Ada")
    await town.run()
    town.edit("crm", "a@x", note="more than twenty characters")
    await town.run()
    await town.asked(DiscardDeadLetters(records=letters(town)))
    await town.run(Kind.RESYNC)
    assert (await dead(town), town.values("erp", "note")["a@x"]) == (0, None)
    town.edit("crm", "a@x", note="short")
    await town.run()
    assert town.values("erp", "note")["a@x"] == "short"


async def test_a_forgotten_person_is_gone_from_what_was_given_up(broken: Town) -> None:
    place = letters(broken)[0]
    await broken.asked(DiscardDeadLetters(records=(place,)))
    await broken.forget(*place)
    assert await broken.audited("Discarded") == [("", "ada: ContractBroken", "", {})]
