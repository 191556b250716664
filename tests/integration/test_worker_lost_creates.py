"""Creates of which nobody knows whether they were done: the worker died, or the answer was lost."""

from pathlib import Path
from typing import Any

import pytest

from fairlead.state.requests import Link, Split
from fairlead.testing.memory_system import Fault, Traits
from fairlead.transport.failure import Transient
from fairlead.worker.run import Kind
from support.town import Town


class Died(Exception):
    """The worker did, in the middle of something."""


async def die(town: Town, system: str) -> None:
    """A run whose worker dies as soon as a system has done a write."""

    before = town[system].moment

    def moment(word: str) -> None:
        before(word)
        if word == "after":
            raise Died

    town[system].moment = moment
    with pytest.raises(ExceptionGroup):
        await town.run()
    town[system].moment = lambda _: None


@pytest.mark.parametrize("edited", [False, True])
async def test_a_create_is_not_done_twice_although_its_system_is_down_when_the_worker_is_back(
    tmp_path: Path, edited: bool
) -> None:
    town = Town(tmp_path, "crm", "erp")
    await town.run()
    town["erp"].traits, town["erp"].lagging = Traits(find=False), True
    town.add("crm", "a@x", name="Ada")
    await die(town, "erp")
    for failure in (Transient("away"), Transient("still away"), None):
        town["erp"].down = failure
        await town.run()
        if edited:
            town.edit("crm", "a@x", note=str(failure))
    await town.run()
    assert [row["email"] for row in town["erp"].records.values()] == ["a@x"]
    assert ["answer to this create was lost" in item.message for item in await town.failed()] == [True]
    town["erp"].catch_up()
    await town.run(Kind.RESYNC)
    assert ([row["name"] for row in town["erp"].records.values()], await town.failed()) == (["Ada"], [])


# --- a system that gives ids again ---


def as_in(town: Town, system: str) -> list[tuple[object, object]]:
    """(email, name) of every record."""
    return sorted((row["email"], row["name"]) for row in town[system].records.values())


async def town_that_gave_an_id_again(folder: Path, traits: Traits, **spec: Any) -> Town:
    """The ERP's record of old@x is deleted just before new@x is created there, and gets its id."""
    town = Town(folder, "crm", "erp", **spec)
    town["erp"].traits = traits
    town.add("crm", "old@x", name="Old")
    await town.agree()
    town.add("crm", "new@x", name="New")

    def moment(word: str) -> None:
        if word == "write" and "old@x" in town.values("erp"):
            town.remove("erp", "old@x")

    town["erp"].moment = moment
    return town


SEARCHED = pytest.mark.parametrize("traits", [Traits(reuses=True), Traits(find=False, reuses=True)], ids=["find", "no"])
DELETES = pytest.mark.parametrize("propagate", ["Never", "FromAny"])


def deletes(propagate: str) -> dict[str, Any]:
    return {"propagate": propagate, "guard": {"maxRecords": 100, "maxPercent": 100}}


@SEARCHED
@DELETES
async def test_an_id_given_again_to_a_create_that_the_worker_died_after_ends_the_record_that_had_it(
    tmp_path: Path, traits: Traits, propagate: str
) -> None:
    town = await town_that_gave_an_id_again(tmp_path, traits, deletes=deletes(propagate))
    await die(town, "erp")
    await town.run()
    await town.run()
    left = [("old@x", "Old")] if propagate == "Never" else []
    assert (as_in(town, "erp"), as_in(town, "crm")) == ([("new@x", "New")], [("new@x", "New"), *left])
    town.edit("erp", "new@x", name="Newer")
    await town.run()
    assert (as_in(town, "crm"), await town.failed()) == ([("new@x", "Newer"), *left], [])


@SEARCHED
async def test_an_id_given_again_to_a_create_whose_answer_was_lost_ends_the_record_that_had_it(
    tmp_path: Path, traits: Traits
) -> None:
    town = await town_that_gave_an_id_again(tmp_path, traits, deletes=deletes("Never"))
    town["erp"].faults = {town["erp"].calls + n: Fault.HUNG_UP for n in range(1, 9)}
    await town.run()
    town["erp"].faults = {}
    await town.run()
    await town.run()
    assert (as_in(town, "erp"), as_in(town, "crm")) == ([("new@x", "New")], [("new@x", "New"), ("old@x", "Old")])
    assert await town.failed() == []


@SEARCHED
async def test_a_lost_create_that_is_decided_anew_is_still_one_that_may_be_done(tmp_path: Path, traits: Traits) -> None:
    """What it held when it was sent is not known any more: so its id is for a person, and nothing is doubled."""
    town = await town_that_gave_an_id_again(tmp_path, traits, deletes=deletes("Never"))
    town["erp"].lagging = True
    town["erp"].faults = {town["erp"].calls + n: Fault.HUNG_UP for n in range(1, 9)}
    await town.run()
    town["erp"].faults = {}
    town.edit("crm", "new@x", note="edited")
    await town.run()
    town["erp"].catch_up()
    await town.run()
    await town.run()
    assert (as_in(town, "erp"), as_in(town, "crm")) == ([("new@x", "New")], [("new@x", "New"), ("old@x", "Old")])
    assert [(letter.key, letter.reason) for letter in town.letters] == [("1", "Ambiguous")]


@SEARCHED
async def test_an_id_given_again_to_a_record_that_was_edited_since_is_for_a_person_and_overwrites_nothing(
    tmp_path: Path, traits: Traits
) -> None:
    town = await town_that_gave_an_id_again(tmp_path, traits, deletes=deletes("Never"))
    await die(town, "erp")
    town.edit("erp", "new@x", name="Edited")
    await town.run()
    await town.run()
    assert (as_in(town, "erp"), as_in(town, "crm")) == ([("new@x", "Edited")], [("new@x", "New"), ("old@x", "Old")])
    assert [(letter.key, letter.reason) for letter in town.letters] == [("1", "Ambiguous")]
    await town.asked(Split(("erp", "1")))
    await town.asked(Link(("erp", "1"), ("crm", town.key("crm", "new@x"))))
    await town.run()
    assert as_in(town, "crm") == [("new@x", "New"), ("old@x", "Old")]
    assert (as_in(town, "erp"), town.letters, await town.failed()) == ([("new@x", "New")], [], [])
