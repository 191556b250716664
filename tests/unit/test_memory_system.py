"""The system in memory keeps the contract, in all its moods, and goes wrong exactly as it is told."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from fairlead.connectors.base import NativeWrite, Operation, Verdict
from fairlead.model.connector import ErrorClass
from fairlead.testing.connector import SystemSuite, changed, creation, deletion, person, scanned, update
from fairlead.testing.memory_system import Fault, MemoryObject, MemorySystem, Traits
from fairlead.transport.failure import Failure, Throttled, Transient

TRAITS = {
    "plain": Traits(),
    "small pages, backwards": Traits(page=7, backwards=True),
    "versions": Traits(versions=True),
    "tells nothing": Traits(tells=False, modified=False),
    "feed without deletes": Traits(deletions=False),
    "no feed, no search": Traits(changes=False, find=False),
}


class MemoryWorld:
    """Users of the system."""

    object_name, key, modified, missing = "things", None, None, "nothings"
    refused: Mapping[str, object] = {"name": "REFUSED"}

    def __init__(self, traits: Traits) -> None:
        self.client = MemorySystem(
            traits=traits, refuses=lambda values: "no such name" if values.get("name") == "REFUSED" else ""
        )

    def key_values(self, _: int) -> dict[str, object]:
        return {}

    async def insert(self, records: Sequence[Mapping[str, str | None]]) -> list[str]:
        return [self.client.add(record) for record in records]

    async def update(self, key: str, values: Mapping[str, str | None]) -> None:
        self.client.edit(key, values)

    async def delete(self, key: str) -> None:
        self.client.remove(key)

    async def bring_back(self, key: str, record: Mapping[str, str | None]) -> None:
        self.client.add(record, key)

    async def read(self, key: str) -> Mapping[str, Any] | None:
        return self.client.records.get(key)


@pytest.mark.parametrize("mood", TRAITS)
class TestMemory(SystemSuite):
    RECORDS = 1100

    @pytest.fixture
    def world(self, mood: str) -> MemoryWorld:
        return MemoryWorld(TRAITS[mood])


# --- faults ---


async def opened(system: MemorySystem) -> MemoryObject:
    return await system.open("things", paths=["email", "name"], key=None, modified=None)


def system_with(*faults: Fault | None, count: int = 3, **traits: Any) -> MemorySystem:
    """A system with some records, whose first calls go wrong."""
    system = MemorySystem(traits=Traits(**traits))
    for n in range(count):
        system.add(person(n))
    system.faults = {n: fault for n, fault in enumerate(faults, start=1) if fault}
    return system


@pytest.mark.parametrize(("fault", "failure"), [(Fault.TRANSIENT, Transient), (Fault.THROTTLED, Throttled)])
async def test_a_page_may_fail_and_come_when_it_is_asked_for_again(fault: Fault, failure: type[Failure]) -> None:
    system = system_with(None, fault, page=2)
    thing = await opened(system)
    with pytest.raises(failure):
        await scanned(thing)
    assert [list(page.keys) for page in await scanned(thing)] == [["1", "2"], ["3"]]


async def test_a_page_may_come_twice() -> None:
    system = system_with(None, Fault.REPEATED, page=2)
    assert [list(page.keys) for page in await scanned(await opened(system))] == [["1", "2"], ["3"], ["3"]]


async def test_a_page_of_the_feed_may_come_twice_as_it_was() -> None:
    system = system_with(Fault.REPEATED)
    seen = []
    async for page in (await opened(system)).changes("0"):
        if not seen:
            system.edit("1", {"name": "Edited"})
        seen.append(page.columns([0], ["name"])[0][0])
    assert seen == ["Person 0", "Person 0", "Edited"]


async def test_of_a_partial_batch_only_the_first_write_is_done() -> None:
    system = system_with(Fault.PARTIAL)
    outcomes = await (await opened(system)).write([update("1", {"name": "A"}), update("2", {"name": "B"})])
    assert [outcome.error for outcome in outcomes] == [None, ErrorClass.TRANSIENT]
    assert [system.records[key]["name"] for key in ("1", "2")] == ["A", "Person 1"]


async def test_a_refused_write_leaves_the_others_alone() -> None:
    system = system_with(Fault.REFUSED)
    outcomes = await (await opened(system)).write([update("1", {"name": "A"}), update("2", {"name": "B"})])
    assert [outcome.error for outcome in outcomes] == [ErrorClass.INVALID, None]
    assert [system.records[key]["name"] for key in ("1", "2")] == ["Person 0", "B"]


async def test_a_lost_answer_is_that_of_a_write_that_was_done() -> None:
    system = system_with(Fault.LOST)
    world = MemoryWorld(Traits())
    (outcome,) = await (await opened(system)).write([creation(world, 7)])
    assert (outcome.error, outcome.uncertain, len(system.records)) == (ErrorClass.TRANSIENT, True, 4)


async def test_a_system_that_hangs_up_has_done_everything() -> None:
    system = system_with(Fault.HUNG_UP)
    with pytest.raises(Transient):
        await (await opened(system)).write([deletion("1"), deletion("2")])
    assert list(system.records) == ["3"]


async def test_a_system_that_is_down_does_nothing() -> None:
    system = system_with()
    thing = await opened(system)
    system.down = Transient("down")
    with pytest.raises(Transient):
        await thing.write([deletion("1")])
    with pytest.raises(Transient):
        await opened(system)
    assert len(system.records) == 3


# --- feeds ---


async def test_a_feed_that_lags_shows_a_change_later_than_it_happened() -> None:
    system = system_with()
    thing = await opened(system)
    cursor = str(system.position)
    system.lagging = True
    system.edit("1", {"name": "Late"})
    assert await changed(thing, cursor) == []
    system.catch_up()
    assert [list(page.keys) for page in await changed(thing, cursor)] == [["1"]]


async def test_late_entries_may_come_in_the_wrong_order() -> None:
    system = system_with(page=1)
    cursor = str(system.position)
    system.lagging = True
    system.edit("1", {"name": "First"})
    system.remove("2")
    system.catch_up(backwards=True)
    pages = await changed(await opened(system), cursor)
    assert [(list(page.keys), list(page.deleted)) for page in pages] == [([], ["2"]), (["1"], [])]


# --- what is written ---


async def test_a_lossy_system_stores_less_than_it_is_given() -> None:
    system = MemorySystem(stored=lambda _, value: value[:3] if isinstance(value, str) else value)
    key = system.add({"email": "a", "name": None})
    (outcome,) = await (await opened(system)).write([update(key, {"name": "Truncated"})])
    assert (outcome.stored or {})["name"] == "Tru"


async def test_the_time_of_an_attribute_is_that_of_its_own_last_change() -> None:
    clock = iter([datetime(2026, 1, 1, hour, tzinfo=UTC) for hour in range(3)])
    system = MemorySystem(traits=Traits(timed=("x",)), clock=clock.__next__)
    key = system.add({"x": "first", "y": "first"})
    system.edit(key, {"x": "second"})
    system.edit(key, {"y": "second"})
    assert system.records[key]["x_changed"] == "2026-01-01T01:00:00+00:00"


async def test_a_record_with_a_unique_value_is_met_not_made_twice() -> None:
    system = system_with(unique=("email",))
    (outcome,) = await (await opened(system)).write([creation(MemoryWorld(Traits()), 1)])
    assert (outcome.error, outcome.key, len(system.records)) == (ErrorClass.CONFLICT, "2", 3)


@pytest.mark.parametrize(("version", "judged"), [("1", 0), ("0", 1), (None, 1)])
async def test_a_write_with_the_current_version_is_not_judged_again(version: str | None, judged: int) -> None:
    system = system_with(versions=True)
    asked = []

    def check(native: Any) -> Verdict:
        asked.append(native)
        return Verdict.PROCEED

    write = NativeWrite(Operation.UPDATE, "1", {"name": "New"}, version, check, "intent")
    (outcome,) = await (await opened(system)).write([write])
    assert (outcome.error, outcome.version, len(asked)) == (None, "2", judged)


async def test_users_act_in_the_middle_of_a_batch() -> None:
    system = system_with()
    words = []

    def moment(word: str) -> None:
        words.append(word)
        if words.count("before") == 2 and word == "before":
            system.edit("2", {"name": "By a user"})

    system.moment = moment
    verdicts = []

    def check(native: Any) -> Verdict:
        verdicts.append(native["name"])
        return Verdict.PROCEED

    writes = [NativeWrite(Operation.UPDATE, key, {"email": "new"}, None, check, key) for key in ("1", "2")]
    await (await opened(system)).write(writes)
    assert verdicts == ["Person 0", "By a user"]
    assert words == ["open", "write", "before", "after", "before", "after"]
