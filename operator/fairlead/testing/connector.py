"""Conformance suite of `connectors.base.System`: what every connector must do with a real system.

Inherit from `SystemSuite` and give it a `world` fixture, whose `World` plays the people and programs that use the
system beside Fairlead:

    class TestMySystem(SystemSuite):
        @pytest.fixture
        async def world(self) -> AsyncIterator[World]:
            ...

The tests need pytest with pytest-asyncio in auto mode. Each test gets an empty object of its own.
"""
# ruff: noqa: D102 - a test's name is its sentence

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import Any, Protocol

import pytest

from fairlead.connectors.base import Client, NativeWrite, Operation, Outcome, Page, System, Verdict
from fairlead.model.connector import ErrorClass
from fairlead.model.record import MISSING, Native
from fairlead.transport.failure import Misconfigured

PATHS = ("email", "name")
"""What the suite maps. The object also has `note`, which it does not."""


class World(Protocol):
    """A system with an empty object that has the text attributes `email`, `name` and `note`.

    Attributes:
        client: the Connection to it, as the connector under test opens it.
        object_name: the object.
        key: the attribute that identifies a record; None when the connector knows it.
        modified: the attribute that holds the time of the last change; None for no feed, or a connector that knows it.
        refused: values of an update or create that the system refuses as invalid.
        missing: name of an object that the system does not have.
    """

    client: Client
    object_name: str
    key: str | None
    modified: str | None
    refused: Mapping[str, object]
    missing: str

    def key_values(self, number: int) -> dict[str, object]:
        """Values that give a new record its key; empty where the system chooses it."""
        ...

    async def insert(self, records: Sequence[Mapping[str, str | None]]) -> list[str]:
        """Adds records from outside; their keys, as `Page.keys` will hold them."""
        ...

    async def update(self, key: str, values: Mapping[str, str | None]) -> None:
        """Edits a record from outside."""
        ...

    async def delete(self, key: str) -> None:
        """Deletes a record from outside."""
        ...

    async def read(self, key: str) -> Mapping[str, Any] | None:
        """`email`, `name` and `note` of a record as they are; None when it is not there."""
        ...

    async def bring_back(self, key: str, record: Mapping[str, str | None]) -> None:
        """Adds a record from outside, under a key that was deleted."""
        ...


class SystemSuite:
    """The tests. `RECORDS` is more than one page of the system under test, so that paging is met."""

    RECORDS = 2500

    # --- reading everything ---

    async def test_an_empty_object_reads_as_nothing(self, world: World) -> None:
        pages = await scanned(await opened(world))
        assert [key for page in pages for key in page.keys] == []

    async def test_a_scan_yields_every_record_once(self, world: World) -> None:
        keys = await world.insert([person(n) for n in range(self.RECORDS)])
        pages = await scanned(await opened(world))
        assert sorted(keys) == sorted(key for page in pages for key in page.keys)

    async def test_columns_and_rows_say_the_same(self, world: World) -> None:
        await world.insert([person(n) for n in range(3)])
        (page,) = [page for page in await scanned(await opened(world)) if page.keys]
        rows = page.rows([2, 0])
        assert [[row["email"] for row in rows], [row["name"] for row in rows]] == page.columns([2, 0], PATHS)

    async def test_an_attribute_that_is_not_there_is_missing(self, world: World) -> None:
        await world.insert([person(1)])
        (page,) = [page for page in await scanned(await opened(world)) if page.keys]
        assert page.columns([0], ["nowhere"]) == [[MISSING]]

    async def test_raws_stay_equal_while_no_mapped_attribute_changes(self, world: World) -> None:
        (key,) = await world.insert([person(1)])
        before = await raws(world)
        await world.update(key, {"note": "not mapped"})
        assert before == await raws(world)

    async def test_raws_differ_once_a_mapped_attribute_changed(self, world: World) -> None:
        (key,) = await world.insert([person(1)])
        before = await raws(world)
        await world.update(key, {"name": "Changed"})
        assert before != await raws(world)

    async def test_raws_tell_an_empty_value_from_none(self, world: World) -> None:
        (key,) = await world.insert([{**person(1), "name": ""}])
        before = await raws(world)
        await world.update(key, {"name": None})
        assert before != await raws(world)

    async def test_versions_and_times_come_for_every_record_asked_for(self, world: World) -> None:
        await world.insert([person(n) for n in range(3)])
        (page,) = [page for page in await scanned(await opened(world)) if page.keys]
        assert (len(page.versions([0, 2])), len(page.modified([0, 2]))) == (2, 2)

    # --- the change feed ---

    async def test_a_scan_ends_with_a_cursor_when_there_is_a_feed(self, world: World) -> None:
        await world.insert([person(1)])
        system = await opened(world)
        assert system.capabilities.changes == ((await scanned(system))[-1].cursor is not None)

    async def test_changes_tell_what_was_edited_and_added_since(self, world: World) -> None:
        keys = await world.insert([person(n) for n in range(5)])
        system, cursor = await following(world)
        await world.update(keys[3], {"name": "Edited"})
        added = await world.insert([person(9)])
        assert {keys[3], *added} <= {key for page in await changed(system, cursor) for key in page.keys}

    async def test_changes_during_a_scan_are_in_the_feed_after_it(self, world: World) -> None:
        keys = await world.insert([person(n) for n in range(self.RECORDS)])
        system = await following_system(world)
        cursor = None
        async with aclosing(system.scan()) as pages:  # type: ignore[type-var]
            read: set[str] = set()
            async for page in pages:
                if not read:
                    await world.update(page.keys[0], {"name": "Edited behind the reader"})
                    edited = page.keys[0]
                read |= set(page.keys)
                cursor = page.cursor
        assert cursor is not None
        assert set(keys) == read
        assert edited in {key for page in await changed(system, cursor) for key in page.keys}

    async def test_reading_on_from_the_feeds_own_cursor_misses_nothing(self, world: World) -> None:
        keys = await world.insert([person(n) for n in range(3)])
        system, cursor = await following(world)
        for round_ in range(3):
            await world.update(keys[round_], {"name": f"Round {round_}"})
            pages = await changed(system, cursor)
            assert keys[round_] in {key for page in pages for key in page.keys}
            cursor = next((page.cursor for page in reversed(pages) if page.cursor is not None), cursor)

    async def test_many_changes_come_on_several_pages(self, world: World) -> None:
        system, cursor = await following(world)
        keys = await world.insert([person(n) for n in range(self.RECORDS)])
        assert set(keys) == {key for page in await changed(system, cursor) for key in page.keys}

    async def test_the_feed_tells_deletes_where_it_says_so(self, world: World) -> None:
        keys = await world.insert([person(n) for n in range(3)])
        system, cursor = await following(world)
        if not system.capabilities.deletions:
            pytest.skip("this system's feed does not tell deletes")
        await world.delete(keys[1])
        assert keys[1] in {key for page in await changed(system, cursor) for key in page.deleted}

    async def test_a_record_that_came_back_is_not_told_as_deleted(self, world: World) -> None:
        keys = await world.insert([person(n) for n in range(2)])
        system, cursor = await following(world)
        await world.delete(keys[0])
        await world.bring_back(keys[0], person(0))
        pages = await changed(system, cursor)
        assert keys[0] not in {key for page in pages for key in page.deleted}
        assert keys[0] in {key for page in pages for key in page.keys}

    # --- reading by key and by attribute ---

    async def test_fetch_tells_what_is_there_and_what_is_not(self, world: World) -> None:
        keys = await world.insert([person(n) for n in range(3)])
        await world.delete(keys[1])
        page = await (await opened(world)).fetch(keys)
        assert (sorted([keys[0], keys[2]]), [keys[1]]) == (sorted(page.keys), list(page.deleted))

    async def test_fetch_reads_what_a_scan_reads(self, world: World) -> None:
        keys = await world.insert([person(n) for n in range(3)])
        system = await opened(world)
        page = await system.fetch(keys)
        assert await raws(world) == dict(zip(page.keys, page.raws, strict=True))

    async def test_fetch_of_many_keys_finds_them_all(self, world: World) -> None:
        keys = await world.insert([person(n) for n in range(450)])
        page = await (await opened(world)).fetch(keys)
        assert (sorted(keys), []) == (sorted(page.keys), list(page.deleted))

    async def test_fetch_of_no_keys_is_an_empty_page(self, world: World) -> None:
        page = await (await opened(world)).fetch([])
        assert (list(page.keys), list(page.deleted)) == ([], [])

    async def test_find_tells_the_records_with_a_value(self, world: World) -> None:
        keys = await world.insert([person(n) for n in range(4)])
        system = await opened(world)
        if not system.capabilities.find:
            pytest.skip("this system cannot be searched")
        page = await system.find("email", ["p1@example.org", "p3@example.org", "nobody@example.org"])
        assert sorted([keys[1], keys[3]]) == sorted(page.keys)

    # --- writing ---

    async def test_a_create_stores_the_values_and_tells_the_key(self, world: World) -> None:
        (outcome,) = await (await opened(world)).write([creation(world, 1)])
        assert outcome.error is None
        assert outcome.key is not None
        assert person(1) == stored(await world.read(outcome.key))

    async def test_creates_of_a_batch_are_told_in_order(self, world: World) -> None:
        outcomes = await (await opened(world)).write([creation(world, n) for n in range(150)])
        found = [await world.read(outcome.key or "") for outcome in outcomes[::30]]
        assert [person(n)["email"] for n in range(0, 150, 30)] == [record and record["email"] for record in found]

    async def test_what_a_write_says_of_the_row_is_what_is_read_next(self, world: World) -> None:
        system = await opened(world)
        (outcome,) = await system.write([creation(world, 1)])
        assert outcome.raw in (None, (await raws(world))[outcome.key or ""])

    async def test_a_refused_create_leaves_the_others_alone(self, world: World) -> None:
        bad = creation(world, 2, **world.refused)
        outcomes = await (await opened(world)).write([creation(world, 1), bad, creation(world, 3)])
        assert [outcome.error for outcome in outcomes] == [None, ErrorClass.INVALID, None]
        assert outcomes[1].message

    async def test_an_update_changes_only_what_it_names(self, world: World) -> None:
        (key,) = await world.insert([{**person(1), "note": "keep"}])
        (outcome,) = await (await opened(world)).write([update(key, {"name": "New"})])
        assert (None, {**person(1), "name": "New", "note": "keep"}) == (outcome.error, stored(await world.read(key)))

    async def test_an_update_can_clear_a_value(self, world: World) -> None:
        (key,) = await world.insert([person(1)])
        (outcome,) = await (await opened(world)).write([update(key, {"name": None})])
        assert (None, {**person(1), "name": None}) == (outcome.error, stored(await world.read(key)))

    async def test_an_update_is_judged_on_the_record_as_it_is(self, world: World) -> None:
        (key,) = await world.insert([person(1)])
        await world.update(key, {"name": "Edited meanwhile"})
        judged: list[Native] = []
        await (await opened(world)).write([update(key, {"email": "new@example.org"}, judged=judged)])
        assert [record["name"] for record in judged] == ["Edited meanwhile"]

    async def test_a_conflict_writes_nothing_and_tells_the_record(self, world: World) -> None:
        (key,) = await world.insert([person(1)])
        outcome = await rejudged(world, update(key, {"name": "New"}, verdict=Verdict.CONFLICT))
        assert outcome.error == ErrorClass.CONFLICT
        assert person(1)["name"] == (outcome.stored or {})["name"]
        assert person(1) == stored(await world.read(key))

    async def test_what_is_done_already_is_not_written_again(self, world: World) -> None:
        (key,) = await world.insert([person(1)])
        outcome = await rejudged(world, update(key, {"name": "New"}, verdict=Verdict.DONE))
        assert (None, person(1)) == (outcome.error, stored(await world.read(key)))

    async def test_an_update_of_a_record_that_is_gone_says_so(self, world: World) -> None:
        keys = await world.insert([person(1), person(2)])
        await world.delete(keys[0])
        outcomes = await (await opened(world)).write([update(key, {"name": "New"}) for key in keys])
        assert [outcome.error for outcome in outcomes] == [ErrorClass.GONE, None]

    async def test_a_refused_update_leaves_the_others_alone(self, world: World) -> None:
        keys = await world.insert([person(n) for n in range(3)])
        writes = [update(keys[0], {"name": "A"}), update(keys[1], dict(world.refused)), update(keys[2], {"name": "C"})]
        outcomes = await (await opened(world)).write(writes)
        assert [outcome.error for outcome in outcomes] == [None, ErrorClass.INVALID, None]
        assert person(1) == stored(await world.read(keys[1]))

    async def test_a_delete_removes_the_record(self, world: World) -> None:
        keys = await world.insert([person(1), person(2)])
        (outcome,) = await (await opened(world)).write([deletion(keys[0])])
        assert (outcome.error, await world.read(keys[0])) == (None, None)
        assert person(2) == stored(await world.read(keys[1]))

    async def test_a_delete_of_an_edited_record_is_a_conflict(self, world: World) -> None:
        (key,) = await world.insert([person(1)])
        outcome = await rejudged(world, deletion(key, Verdict.CONFLICT))
        assert (ErrorClass.CONFLICT, person(1)) == (outcome.error, stored(await world.read(key)))

    async def test_a_delete_of_a_record_that_is_gone_says_so(self, world: World) -> None:
        (key,) = await world.insert([person(1)])
        await world.delete(key)
        (outcome,) = await (await opened(world)).write([deletion(key)])
        assert outcome.error == ErrorClass.GONE

    # --- the connection ---

    async def test_an_object_that_does_not_exist_is_named_in_the_failure(self, world: World) -> None:
        with pytest.raises(Misconfigured) as caught:
            await scanned(await world.client.open(world.missing, paths=PATHS, key=world.key, modified=world.modified))
        assert (caught.value.reason, world.missing in caught.value.message) == ("ObjectNotFound", True)

    async def test_a_cancelled_scan_leaves_the_connector_usable(self, world: World) -> None:
        keys = await world.insert([person(n) for n in range(self.RECORDS)])
        system = await opened(world)
        task = asyncio.create_task(scanned(system))
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])
        assert len(keys) == sum(len(page.keys) for page in await scanned(system))

    async def test_a_scan_that_is_left_early_leaves_the_connector_usable(self, world: World) -> None:
        keys = await world.insert([person(n) for n in range(self.RECORDS)])
        system = await opened(world)
        async with aclosing(system.scan()) as pages:  # type: ignore[type-var]
            async for _ in pages:
                break
        assert len(keys) == sum(len(page.keys) for page in await scanned(system))

    async def test_a_probe_tells_how_long_it_took(self, world: World) -> None:
        assert 0 < (await world.client.probe()).latency < 10


def person(n: int) -> dict[str, str | None]:
    """Values of a record."""
    return {"email": f"p{n}@example.org", "name": f"Person {n}", "note": None}


def stored(record: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """A record as the system has it, with an attribute that is not there as None."""
    return None if record is None else {name: record.get(name) for name in (*PATHS, "note")}


def creation(world: World, n: int, **values: object) -> NativeWrite:
    """The create of a record."""
    whole = {**world.key_values(n), "email": person(n)["email"], "name": person(n)["name"], **values}
    return NativeWrite(Operation.CREATE, None, whole, None, lambda _: Verdict.PROCEED, f"create-{n}")


def update(
    key: str,
    values: dict[str, Any],
    *,
    verdict: Verdict = Verdict.PROCEED,
    judged: list[Native] | None = None,
) -> NativeWrite:
    """The update of a record, with a fixed verdict; what it was asked about is added to `judged`."""

    def check(native: Native) -> Verdict:
        if judged is not None:
            judged.append(native)
        return verdict

    return NativeWrite(Operation.UPDATE, key, values, None, check, f"update-{key}")


def deletion(key: str, verdict: Verdict = Verdict.PROCEED) -> NativeWrite:
    """The delete of a record."""
    return NativeWrite(Operation.DELETE, key, {}, None, lambda _: verdict, f"delete-{key}")


async def opened(world: World) -> System:
    """The object, open for `PATHS`."""
    return await world.client.open(world.object_name, paths=PATHS, key=world.key, modified=world.modified)


async def scanned(system: System) -> list[Page]:
    """All pages of a scan."""
    return [page async for page in system.scan()]


async def changed(system: System, cursor: str) -> list[Page]:
    """All pages of the feed."""
    return [page async for page in system.changes(cursor)]


async def raws(world: World) -> dict[str, bytes]:
    """Key → raw of every record."""
    pages = await scanned(await opened(world))
    return {key: raw for page in pages for key, raw in zip(page.keys, page.raws, strict=True)}


async def following_system(world: World) -> System:
    """The object, where it has a change feed; skips the test elsewhere."""
    system = await opened(world)
    if not system.capabilities.changes:
        pytest.skip("this system has no change feed")
    return system


async def following(world: World) -> tuple[System, str]:
    """The object, and a cursor from a scan of it."""
    system = await following_system(world)
    cursor = (await scanned(system))[-1].cursor
    assert cursor is not None
    return system, cursor


async def rejudged(world: World, write: NativeWrite) -> Outcome:
    """The outcome of one write."""
    (outcome,) = await (await opened(world)).write([write])
    return outcome
