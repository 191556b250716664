"""A plan: nothing is written, and whoever reads later in the run finds what was planned."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from fairlead.connectors.base import NativeWrite, Operation, Outcome, Page, Verdict
from fairlead.model.connector import ErrorClass
from fairlead.model.record import Native, attribute, with_attributes
from fairlead.testing.memory_system import MemoryObject, MemorySystem
from fairlead.worker.judging import proceed
from fairlead.worker.planning import SAMPLE, Plan, PlannedWrite, PlanningSystem

PATHS = ("name", "at.city")


class Planned:
    """A system that has the records 1 (Ada) and 2 (Bob), and a plan of what is written to it."""

    def __init__(self) -> None:
        self.memory = MemorySystem()
        self.memory.add({"name": "Ada", "at": {"city": "Ulm", "zip": "89"}})
        self.memory.add({"name": "Bob"})
        self.plan = Plan()
        self.system = PlanningSystem("crm", MemoryObject(self.memory, PATHS), self.plan)

    async def write(self, key: str | None, check: Callable[[Native], Verdict] = proceed, **values: Any) -> Outcome:
        """Plans a create, an update, or without values a delete."""
        operation = Operation.CREATE if key is None else Operation.UPDATE if values else Operation.DELETE
        named = {path.replace("_", "."): value for path, value in values.items()}
        (outcome,) = await self.system.write([NativeWrite(operation, key, named, None, check, "u/1/crm")])
        return outcome

    async def scanned(self) -> dict[str, Native]:
        """Key → what a reading from end to end finds."""
        pages = [page async for page in self.system.scan()]
        return {key: row for page in pages for key, row in rows_of(page).items()}


def rows_of(page: Page) -> dict[str, Native]:
    return dict(zip(page.keys, page.rows(range(len(page.keys))), strict=True))


@pytest.fixture
async def planned() -> AsyncIterator[Planned]:
    made = Planned()
    yield made
    await made.system.close()


async def test_nothing_is_written_and_every_write_is_named(planned: Planned) -> None:
    await planned.write("1", name="Eve", at_city="Bonn")
    await planned.write("2")
    await planned.write(None, name="Cyd")
    assert planned.memory.writes == []
    assert planned.plan == Plan(
        [
            PlannedWrite("crm", "Update", "1", ("at.city", "name")),
            PlannedWrite("crm", "Delete", "2", ()),
            PlannedWrite("crm", "Create", "(new 1)", ("name",)),
        ],
        3,
    )


async def test_a_record_reads_as_it_would_be(planned: Planned) -> None:
    await planned.write("1", at_city="Bonn")
    await planned.write("1", name="Eve")
    assert await planned.scanned() == {
        "1": {"name": "Eve", "at": {"city": "Bonn", "zip": "89"}},
        "2": {"name": "Bob"},
    }
    page = await planned.system.fetch(["2", "1"])
    assert page.columns([0, 1], ["name", "at.zip"])[0] == ["Bob", "Eve"]
    assert page.raws[1] != (await MemoryObject(planned.memory, PATHS).fetch(["1"])).raws[0]


async def test_a_record_that_would_be_deleted_is_gone(planned: Planned) -> None:
    await planned.write("1")
    assert list(await planned.scanned()) == ["2"]
    page = await planned.system.fetch(["1", "2"])
    assert (page.keys, page.deleted, page.versions([0])) == (["2"], ["1"], [None])


async def test_a_record_that_would_be_created_is_there_when_it_is_asked_for(planned: Planned) -> None:
    outcome = await planned.write(None, name="Cyd", at_city="Ulm")
    assert outcome == Outcome(key="(new 1)")
    page = await planned.system.fetch(["(new 1)", "2"])
    assert rows_of(page) == {"2": {"name": "Bob"}, "(new 1)": {"name": "Cyd", "at": {"city": "Ulm"}}}
    assert page.columns([1, 0], PATHS) == [["Cyd", "Bob"], ["Ulm", page.columns([0], ["at.city"])[0][0]]]
    assert page.modified([1]) == [None]


async def test_a_write_is_judged_on_the_record_as_it_is(planned: Planned) -> None:
    def judged(row: Native) -> Verdict:
        return Verdict.PROCEED if row["name"] == "Ada" else Verdict.CONFLICT

    assert (await planned.write("1", judged, name="Eve")).stored == {"name": "Eve", "at": {"city": "Ulm", "zip": "89"}}
    refused = await planned.write("1", judged, name="Fay")
    assert (refused.error, refused.stored and refused.stored["name"]) == (ErrorClass.CONFLICT, "Eve")
    assert (await planned.write("2", lambda _: Verdict.DONE, name="Bob")).error is None
    assert (await planned.write("3", name="Gus")).error is ErrorClass.GONE
    assert planned.plan.count == 1


async def test_a_long_plan_is_counted_and_a_part_of_it_named(planned: Planned) -> None:
    for _ in range(SAMPLE + 1):
        await planned.write(None, name="Cyd")
    assert (planned.plan.count, len(planned.plan.writes)) == (SAMPLE + 1, SAMPLE)


@pytest.mark.parametrize(
    ("row", "values"),
    [
        ({"a": 1}, {"a": 2}),
        ({"a": {"b": 1, "c": 2}}, {"a.b": 3}),
        ({"a.b": 1}, {"a.b": 3}),
        ({}, {"a.b.c": 3}),
        ({"a": None}, {"a.b": 3}),
    ],
)
def test_attributes_are_put_where_they_are_read(row: Native, values: Native) -> None:
    before = repr(row)
    after = with_attributes(row, values)
    assert {path: attribute(after, path) for path in values} == values
    assert repr(row) == before
