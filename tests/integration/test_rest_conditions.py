"""Updates, deletes and upserts of the REST connector: on condition that the record is as it was seen."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fairlead.connectors.base import NativeWrite, Operation, Verdict
from fairlead.model.connector import ErrorClass
from fairlead.model.record import Native
from fairlead.testing.http_faults import Fault, FaultKind
from fairlead.testing.http_system import HTTPSystem
from fairlead.transport.failure import Misconfigured, Transient
from support.rest import (
    LOSSES,
    NoWaiting,
    add,
    creation,
    deletion,
    opened,
    preset,
    record,
    renaming,
    sent,
    write,
    writes,
)


@pytest.fixture
def system() -> Iterator[HTTPSystem]:
    with HTTPSystem(unique={"customers": ["email"]}) as system:
        yield system


READ_BEFORE = writes(update={"condition": "ReadBefore"}, delete={"condition": "ReadBefore"})
UPSERT = writes(
    create=None, createBatch=None, update=None, upsert={"method": "PUT", "path": "/{object}/{key}", "condition": "ETag"}
)
UPSERT_READ_BEFORE = writes(
    create=None, createBatch=None, update=None, upsert={"method": "PUT", "path": "/{object}/{key}"}
)


# --- updates on condition of an ETag ---


async def test_a_version_that_is_known_spares_the_reading(system: HTTPSystem) -> None:
    (key,) = add(system)
    async with opened(system) as thing:
        outcome = await write(thing, renaming(key, version='"1"'))
    assert (outcome.error, outcome.version, sent(system)) == (None, '"2"', [f"PATCH /customers/{key}"])
    assert record(system, key) == {"email": "p0@x", "name": "New"}


async def test_without_a_known_version_the_record_is_read_and_judged(system: HTTPSystem) -> None:
    (key,) = add(system)
    async with opened(system) as thing:
        await write(thing, renaming(key))
    assert (sent(system), system.headers[-1]["if-match"]) == (
        [f"GET /customers/{key}", f"PATCH /customers/{key}"],
        '"1"',
    )


async def test_a_version_that_has_passed_is_read_and_judged_again(system: HTTPSystem) -> None:
    (key,) = add(system)
    system.store.patch("customers", key, {"email": "moved@x"})
    async with opened(system) as thing:
        outcome = await write(thing, renaming(key, version='"1"'))
    assert (outcome.error, record(system, key)) == (None, {"email": "moved@x", "name": "New"})


async def test_an_edit_made_meanwhile_is_not_overwritten(system: HTTPSystem) -> None:
    (key,) = add(system)
    system.store.patch("customers", key, {"name": "Theirs"})
    async with opened(system) as thing:
        outcome = await write(thing, renaming(key, version='"1"'))
    assert (outcome.error, (outcome.stored or {})["name"], outcome.version) == (ErrorClass.CONFLICT, "Theirs", '"2"')
    assert record(system, key) == {"email": "p0@x", "name": "Theirs"}


async def test_an_edit_between_reading_and_writing_is_not_overwritten(system: HTTPSystem) -> None:
    (key,) = add(system)

    def check(native: Native) -> Verdict:
        if native["name"] == "P0":
            system.store.patch("customers", key, {"name": "Theirs"})
            return Verdict.PROCEED
        return Verdict.CONFLICT

    async with opened(system) as thing:
        outcome = await write(thing, NativeWrite(Operation.UPDATE, key, {"name": "New"}, None, check, "u"))
    assert (outcome.error, (record(system, key) or {})["name"]) == (ErrorClass.CONFLICT, "Theirs")


async def test_a_record_that_is_edited_all_the_time_is_left_for_later(system: HTTPSystem) -> None:
    (key,) = add(system)

    def check(native: Native) -> Verdict:
        system.store.patch("customers", key, {"note": "x"})
        return Verdict.PROCEED

    async with opened(system) as thing:
        outcome = await write(thing, NativeWrite(Operation.UPDATE, key, {"name": "New"}, None, check, "u"))
    assert (outcome.error, outcome.message) == (
        ErrorClass.TRANSIENT,
        "the record is edited faster than it can be written",
    )


@pytest.mark.parametrize("spec", [preset(), READ_BEFORE])
async def test_a_refusal_that_is_not_about_the_version_is_invalid(system: HTTPSystem, spec: dict[str, Any]) -> None:
    keys = add(system, 2)
    async with opened(system, spec) as thing:
        outcome = await write(thing, renaming(keys[0], email="p1@x"))
    assert (outcome.error, outcome.message) == (
        ErrorClass.INVALID,
        "PATCH /customers/{key} answered 409 (another record has the same email)",
    )


@pytest.mark.parametrize("spec", [preset(), READ_BEFORE])
@pytest.mark.parametrize("kind", LOSSES)
async def test_an_update_whose_answer_was_lost_is_recognised_as_done(
    system: HTTPSystem, spec: dict[str, Any], kind: FaultKind
) -> None:
    (key,) = add(system)
    system.faults.add(Fault(kind, method="PATCH"))
    async with opened(system, spec) as thing:
        outcome = await write(thing, renaming(key))
    row = system.store.get("customers", key)
    assert (outcome.error, row and row.revision, (record(system, key) or {})["name"]) == (None, 2, "New")


@pytest.mark.parametrize(
    ("body", "headers", "what"),
    [("[]", {"ETag": '"1"'}, "record"), ('{"id": "x", "name": "P0"}', {}, "ETag"), ("", {"ETag": '"1"'}, "record")],
)
async def test_a_system_without_versions_is_told_to_be_read_before(
    system: HTTPSystem, body: str, headers: dict[str, str], what: str
) -> None:
    system.faults.add(Fault(FaultKind.STATUS, status=200, body=body, headers=headers, method="GET"))
    async with opened(system) as thing:
        with pytest.raises(Misconfigured) as caught:
            await write(thing, renaming("x"))
    assert caught.value.message == f"GET /customers/{{key}} gives no {what}: write condition: ReadBefore"


# --- updates after a reading just before ---


async def test_a_group_is_read_by_one_request_just_before_it_is_written(system: HTTPSystem) -> None:
    keys = add(system, 4)
    async with opened(system, READ_BEFORE) as thing:
        outcomes = await thing.write([renaming(key, seen=f"P{n}") for n, key in enumerate(keys)])
    assert ([outcome.error for outcome in outcomes], sent(system)[0], len(system.seen)) == (
        [None] * 4,
        "GET /customers",
        5,
    )


class Meanwhile(NoWaiting):
    """While one waits, somebody edits."""

    def __init__(self, edit: Callable[[], object]) -> None:
        super().__init__()
        self._edit = edit

    async def __call__(self, seconds: float) -> None:
        self._edit()
        await super().__call__(seconds)


@pytest.mark.parametrize(
    "fault", [Fault(FaultKind.STATUS, status=503), Fault(FaultKind.THROTTLE), Fault(FaultKind.STATUS, status=500)]
)
async def test_what_was_edited_while_one_waited_to_try_again_is_not_overwritten(
    system: HTTPSystem, fault: Fault
) -> None:
    (key,) = add(system)
    system.faults.add(Fault(fault.kind, method="PATCH", status=fault.status))
    time = Meanwhile(lambda: system.store.patch("customers", key, {"name": "Theirs"}))
    async with opened(system, READ_BEFORE, time=time) as thing:
        outcome = await write(thing, renaming(key))
    assert (outcome.error, (record(system, key) or {})["name"]) == (ErrorClass.CONFLICT, "Theirs")


async def test_what_was_deleted_while_one_waited_is_gone(system: HTTPSystem) -> None:
    (key,) = add(system)
    system.faults.add(Fault(FaultKind.STATUS, status=503, method="PATCH"))
    time = Meanwhile(lambda: system.store.delete("customers", key))
    async with opened(system, READ_BEFORE, time=time) as thing:
        assert (await write(thing, renaming(key))).error is ErrorClass.GONE


async def test_attempts_are_counted_also_where_each_begins_with_a_reading(system: HTTPSystem) -> None:
    (key,) = add(system)
    system.faults.add(Fault(FaultKind.STATUS, status=503, method="PATCH", times=99))
    async with opened(system, READ_BEFORE) as thing:
        with pytest.raises(Transient):
            await write(thing, renaming(key))
    assert sent(system).count(f"PATCH /customers/{key}") == 3


@pytest.mark.parametrize("write_", ["update", "delete"])
def test_who_compares_no_versions_must_be_able_to_read(write_: str) -> None:
    spec = writes(**{write_: {"condition": "ReadBefore"}})
    del spec["objects"][0]["read"]["byIDs"]
    message = (
        f"{'PATCH' if write_ == 'update' else 'DELETE'} /customers/{{key}} needs read.byIDs to see the record just "
        "before it is written: declare it, or write condition: ETag"
    )

    async def open_() -> None:
        async with opened("http://127.0.0.1:1", spec):
            pass

    with pytest.raises(Misconfigured) as caught:
        asyncio.run(open_())
    assert caught.value.message == message


@pytest.mark.parametrize("condition", ["ETag", "ReadBefore"])
async def test_a_key_that_cannot_stand_in_a_path_is_not_taken_for_gone(system: HTTPSystem, condition: str) -> None:
    spec = writes(update={"condition": condition})
    spec["objects"][0]["read"]["byIDs"] = {"path": "/{object}/{key}"}
    async with opened(system, spec) as thing:
        outcome = await write(thing, renaming(".."))
    assert (outcome.error, outcome.message, sent(system)) == (
        ErrorClass.INVALID,
        "PATCH /customers/{key}: this key cannot stand in a path",
        [],
    )


# --- deletes ---


@pytest.mark.parametrize("spec", [preset(), READ_BEFORE])
async def test_a_record_is_deleted_as_it_was_seen(system: HTTPSystem, spec: dict[str, Any]) -> None:
    keys = add(system, 2)
    async with opened(system, spec) as thing:
        outcomes = await thing.write([deletion(keys[0]), deletion(keys[1])])
    assert (
        [outcome.error for outcome in outcomes],
        record(system, keys[0]),
        (record(system, keys[1]) or {})["name"],
    ) == (
        [None, ErrorClass.CONFLICT],
        None,
        "P1",
    )


@pytest.mark.parametrize("spec", [preset(), READ_BEFORE])
@pytest.mark.parametrize("kind", [FaultKind.LOSE_ANSWER, FaultKind.STATUS])
async def test_a_delete_whose_answer_was_lost_ends_with_the_record_gone(
    system: HTTPSystem, spec: dict[str, Any], kind: FaultKind
) -> None:
    (key,) = add(system)
    system.faults.add(Fault(kind, method="DELETE"))
    async with opened(system, spec) as thing:
        outcome = await write(thing, deletion(key))
    assert (outcome.error in (None, ErrorClass.GONE), record(system, key)) == (True, None)


# --- upserts ---


@pytest.mark.parametrize("spec", [UPSERT, UPSERT_READ_BEFORE])
async def test_an_upsert_creates_under_our_own_key(system: HTTPSystem, spec: dict[str, Any]) -> None:
    async with opened(system, spec) as thing:
        outcome = await write(thing, creation(id="c7"))
    assert (outcome.error, outcome.key, record(system, "c7")) == (None, "c7", {"email": "new1@x", "name": "New 1"})


@pytest.mark.parametrize("spec", [UPSERT, UPSERT_READ_BEFORE])
async def test_an_upsert_never_becomes_an_update_of_a_record_that_nobody_knew(
    system: HTTPSystem, spec: dict[str, Any]
) -> None:
    (key,) = add(system)
    async with opened(system, spec) as thing:
        outcome = await write(thing, creation(id=key))
    assert (outcome.error, outcome.key, (outcome.stored or {})["name"]) == (ErrorClass.CONFLICT, key, "P0")
    assert record(system, key) == {"email": "p0@x", "name": "P0"}


@pytest.mark.parametrize("spec", [UPSERT, UPSERT_READ_BEFORE])
async def test_an_upsert_without_a_key_of_its_own_is_told(system: HTTPSystem, spec: dict[str, Any]) -> None:
    async with opened(system, spec) as thing:
        outcome = await write(thing, creation())
    assert (outcome.error, outcome.message, sent(system)) == (
        ErrorClass.INVALID,
        "the record brings no 'id', under which it would be stored: map that attribute",
        [],
    )


@pytest.mark.parametrize("spec", [UPSERT, UPSERT_READ_BEFORE])
async def test_an_upsert_updates_what_is_known(system: HTTPSystem, spec: dict[str, Any]) -> None:
    (key,) = add(system)
    async with opened(system, spec) as thing:
        outcome = await write(thing, renaming(key))
    assert (outcome.error, record(system, key)) == (None, {"email": "p0@x", "name": "New"})
