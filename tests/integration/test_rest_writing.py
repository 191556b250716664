"""Creates of the REST connector, alone and by the batch: none is doubled, and what came of each is told."""

import asyncio
from collections.abc import Iterator

import orjson
import pytest

from fairlead.model.connector import ErrorClass
from fairlead.testing.http_faults import Fault, FaultKind
from fairlead.testing.http_system import HTTPSystem
from fairlead.transport.failure import AuthRejected, Failure, Transient
from support.rest import LOSSES, add, creation, deletion, opened, record, renaming, sent, write, writes

ONE = {"concurrency": 1}


@pytest.fixture
def system() -> Iterator[HTTPSystem]:
    with HTTPSystem(unique={"customers": ["email"]}) as system:
        yield system


ALONE = writes(createBatch=None)
BLIND = writes(createBatch=None, create={"idempotencyHeader": None})


# --- creates ---


async def test_a_create_tells_key_version_and_what_was_stored(system: HTTPSystem) -> None:
    async with opened(system, ALONE) as thing:
        outcome = await write(thing, creation())
    assert (outcome.error, record(system, outcome.key or "")) == (None, {"email": "new1@x", "name": "New 1"})
    assert (outcome.version, (outcome.stored or {})["name"]) == ('"1"', "New 1")


async def test_a_create_is_sent_where_the_connector_says_and_read_back_from_where_it_says(system: HTTPSystem) -> None:
    answer = orjson.dumps({"data": {"id": "c7", "email": "new1@x", "name": "New 1"}}).decode()
    system.faults.add(Fault(FaultKind.STATUS, status=201, body=answer))
    async with opened(system, writes(createBatch=None, create={"body": "data.attributes", "record": "data"})) as thing:
        outcome = await write(thing, creation())
    assert (outcome.key, (outcome.stored or {})["email"]) == ("c7", "new1@x")


@pytest.mark.parametrize("location", ["/customers/c%207", "https://api.example.com/v1/customers/c%207/", "c%207"])
async def test_a_key_may_come_in_the_location_alone(system: HTTPSystem, location: str) -> None:
    system.faults.add(Fault(FaultKind.STATUS, status=201, body="", headers={"Location": location}))
    async with opened(system, ALONE) as thing:
        outcome = await write(thing, creation())
    assert (outcome.error, outcome.key, outcome.stored, outcome.raw) == (None, "c 7", None, None)


@pytest.mark.parametrize(("status", "body"), [(201, ""), (200, "{}"), (201, "OK"), (202, "")])
async def test_a_create_that_tells_no_key_is_not_lost_and_not_repeated(
    system: HTTPSystem, status: int, body: str
) -> None:
    location = {"Location": "/jobs/17"} if status == 202 else {}
    system.faults.add(Fault(FaultKind.STATUS, status=status, body=body, headers=location))
    async with opened(system, ALONE) as thing:
        outcome = await write(thing, creation())
    assert (outcome.error, outcome.key, len(system.seen)) == (ErrorClass.INVALID, None, 1)
    assert outcome.message == (
        "the record was created, but the answer does not tell its id: check the connector's key and "
        "write.create.record, then resync"
    )


async def test_nothing_is_taken_for_stored_that_the_answer_does_not_show(system: HTTPSystem) -> None:
    system.faults.add(Fault(FaultKind.STATUS, status=201, body='{"id": "c7", "email": "new1@x"}'))
    async with opened(system, ALONE) as thing:
        outcome = await write(thing, creation())
    assert (outcome.key, outcome.raw, outcome.stored) == ("c7", None, None)


async def test_a_lost_answer_is_asked_for_again_under_the_same_idempotency_key(system: HTTPSystem) -> None:
    system.faults.add(Fault(FaultKind.LOSE_ANSWER, method="POST"))
    async with opened(system, ALONE) as thing:
        outcome = await write(thing, creation())
    keys = [headers["idempotency-key"] for headers in system.headers]
    assert (outcome.error, len(system.store.values("customers")), len(keys), len(set(keys))) == (None, 1, 2, 1)


async def test_other_values_have_another_idempotency_key(system: HTTPSystem) -> None:
    async with opened(system, ALONE) as thing:
        await write(thing, creation())
        await write(thing, creation(email="other@x"))
    assert len({headers["idempotency-key"] for headers in system.headers}) == 2


@pytest.mark.parametrize("kind", LOSSES)
async def test_without_such_a_key_a_create_whose_answer_was_lost_is_not_repeated(
    system: HTTPSystem, kind: FaultKind
) -> None:
    system.faults.add(Fault(kind, method="POST", times=9))
    async with opened(system, BLIND) as thing:
        outcome = await write(thing, creation())
    assert (outcome.error, outcome.uncertain, sent(system)) == (ErrorClass.TRANSIENT, True, ["POST /customers"])


async def test_a_create_that_was_surely_not_done_is_repeated(system: HTTPSystem) -> None:
    system.faults.add(Fault(FaultKind.STATUS, status=503, method="POST", times=2))
    async with opened(system, BLIND) as thing:
        outcome = await write(thing, creation())
    assert (outcome.error, outcome.uncertain, len(system.seen)) == (None, False, 3)


async def test_a_create_that_never_got_through_is_not_uncertain() -> None:
    with HTTPSystem() as system:
        pass
    async with opened(system, BLIND) as thing:
        with pytest.raises(Transient) as caught:
            await write(thing, creation())
    assert caught.value.reason == "ConnectionRefused"


async def test_a_create_that_meets_another_record_says_so(system: HTTPSystem) -> None:
    add(system)
    async with opened(system, ALONE) as thing:
        outcome = await write(thing, creation(email="p0@x"))
    assert (outcome.error, outcome.message, outcome.stored) == (
        ErrorClass.CONFLICT,
        "POST /customers answered 409 (another record has the same email)",
        None,
    )


async def test_a_create_under_a_key_that_is_taken_tells_the_record_that_is_there(system: HTTPSystem) -> None:
    (key,) = add(system)
    async with opened(system, ALONE) as thing:
        outcome = await write(thing, creation(id=key))
    assert (outcome.error, outcome.key, (outcome.stored or {})["name"]) == (ErrorClass.CONFLICT, key, "P0")


async def test_what_the_system_refuses_is_told_in_its_own_words_without_the_value(system: HTTPSystem) -> None:
    async with opened(system, ALONE) as thing:
        outcome = await write(thing, creation(email="canary"))
    assert (outcome.error, outcome.message) == (
        ErrorClass.INVALID,
        "POST /customers answered 422 (email must hold an @)",
    )


# --- creates by the batch ---


async def test_many_records_are_created_by_few_requests(system: HTTPSystem) -> None:
    async with opened(system) as thing:
        outcomes = await thing.write([creation(n) for n in range(250)])
    emails = [(record(system, outcome.key or "") or {})["email"] for outcome in outcomes]
    assert (emails, sent(system)) == ([f"new{n}@x" for n in range(250)], ["POST /customers/batch"] * 3)


async def test_in_a_batch_each_record_has_its_own_outcome(system: HTTPSystem) -> None:
    add(system)
    async with opened(system) as thing:
        outcomes = await thing.write([creation(1), creation(2, email="canary"), creation(3, email="p0@x"), creation(4)])
    assert [outcome.error for outcome in outcomes] == [None, ErrorClass.INVALID, ErrorClass.CONFLICT, None]
    assert outcomes[1].message == "POST /customers/batch answered 422 (email must hold an @)"


async def test_a_batch_whose_answer_was_lost_is_not_repeated_and_leaves_every_record_uncertain(
    system: HTTPSystem,
) -> None:
    system.faults.add(Fault(FaultKind.LOSE_ANSWER, method="POST", times=9))
    async with opened(system) as thing:
        outcomes = await thing.write([creation(n) for n in range(3)])
    assert ([outcome.uncertain for outcome in outcomes], sent(system), len(system.store.values("customers"))) == (
        [True] * 3,
        ["POST /customers/batch"],
        3,
    )


BATCHES = [
    ("[]", "POST /customers/batch tells of no records, but 2 were sent"),
    ('{"results": null}', "POST /customers/batch tells of no records, but 2 were sent"),
    ('{"results": [{"status": 201}]}', "POST /customers/batch tells of 1 records, but 2 were sent"),
    ('{"results": [1, 2, 3]}', "POST /customers/batch tells of 3 records, but 2 were sent"),
]


@pytest.mark.parametrize(("body", "message"), BATCHES)
async def test_an_answer_that_does_not_fit_the_batch_leaves_every_record_uncertain(
    system: HTTPSystem, body: str, message: str
) -> None:
    system.faults.add(Fault(FaultKind.STATUS, status=200, body=body))
    async with opened(system) as thing:
        outcomes = await thing.write([creation(1), creation(2)])
    assert [(outcome.uncertain, outcome.message) for outcome in outcomes] == [(True, message)] * 2


async def test_each_result_is_read_as_if_it_had_come_alone(system: HTTPSystem) -> None:
    results = [
        {"status": 201, "record": {"id": "a", "email": "new1@x", "name": "New 1"}},
        {"status": 500, "error": "oops"},
        {"status": 503},
        {"status": 429, "error": {"message": "slow down"}},
        {"record": {"id": "b"}},
        {"error": "no"},
        {"status": 201},
        17,
    ]
    system.faults.add(Fault(FaultKind.STATUS, status=207, body=orjson.dumps({"results": results}).decode()))
    async with opened(system) as thing:
        outcomes = await thing.write([creation(n) for n in range(1, 9)])
    assert [(outcome.error, outcome.uncertain, outcome.key) for outcome in outcomes] == [
        (None, False, "a"),
        (ErrorClass.TRANSIENT, True, None),
        (ErrorClass.TRANSIENT, False, None),
        (ErrorClass.THROTTLED, False, None),
        (None, False, "b"),
        (ErrorClass.INVALID, False, None),
        (ErrorClass.INVALID, False, None),
        (ErrorClass.INVALID, False, None),
    ]


async def test_a_single_create_goes_alone_for_it_can_be_repeated(system: HTTPSystem) -> None:
    async with opened(system) as thing:
        await write(thing, creation())
    assert sent(system) == ["POST /customers"]


async def test_where_there_is_only_a_batch_a_single_create_is_one(system: HTTPSystem) -> None:
    async with opened(system, writes(create=None)) as thing:
        outcome = await write(thing, creation())
    assert (outcome.error, sent(system)) == (None, ["POST /customers/batch"])


# --- a system that goes down ---


async def test_once_the_login_is_rejected_the_rest_is_not_sent(system: HTTPSystem) -> None:
    keys = add(system, 50)
    system.faults.add(Fault(FaultKind.STATUS, status=401, times=999))
    async with opened(system, limits=ONE) as thing:
        with pytest.raises(AuthRejected):
            await thing.write([renaming(key) for key in keys])
    assert len(system.seen) == 1


async def test_once_the_system_is_down_the_rest_is_not_sent_and_what_was_done_is_told(system: HTTPSystem) -> None:
    keys = add(system, 20)
    system.faults.add(Fault(FaultKind.STATUS, status=503, method="PATCH", after=5, times=999))
    async with opened(system, limits=ONE) as thing:
        outcomes = await thing.write([renaming(key, seen=f"P{n}", version='"1"') for n, key in enumerate(keys)])
    assert [outcome.error for outcome in outcomes] == [None] * 5 + [ErrorClass.TRANSIENT] * 15
    assert sent(system).count(f"PATCH /customers/{keys[6]}") == 0


async def test_one_lost_answer_does_not_stop_the_others(system: HTTPSystem) -> None:
    for n in range(10):  # each after one more request that passes
        system.faults.add(Fault(FaultKind.LOSE_ANSWER, method="POST", after=n))
    async with opened(system, BLIND, limits=ONE) as thing:
        outcomes = await thing.write([creation(n) for n in range(20)])
    assert [outcome.uncertain for outcome in outcomes] == [True, False] * 10


async def test_five_lost_answers_in_a_row_stop_the_rest(system: HTTPSystem) -> None:
    system.faults.add(Fault(FaultKind.LOSE_ANSWER, method="POST", times=999))
    async with opened(system, BLIND, limits=ONE) as thing:
        outcomes = await thing.write([creation(n) for n in range(20)])
    assert ([outcome.uncertain for outcome in outcomes], len(system.seen)) == ([True] * 5 + [False] * 15, 5)


async def test_writes_that_are_cancelled_leave_the_connector_usable(system: HTTPSystem) -> None:
    system.faults.add(Fault(FaultKind.SLOW, seconds=5, method="POST", times=3))
    async with opened(system, ALONE, limits={"concurrency": 3}) as thing:
        task = asyncio.create_task(thing.write([creation(n) for n in range(9)]))
        while len(system.seen) < 3:  # noqa: ASYNC110 - the server lives in a thread of its own
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.wait([task])
        outcomes = await thing.write([creation(n) for n in range(3)])
    assert (task.cancelled(), [outcome.error for outcome in outcomes]) == (True, [None] * 3)


async def test_what_the_connector_does_not_declare_is_told(system: HTTPSystem) -> None:
    async with opened(system, writes(create=None, createBatch=None, update=None, delete=None)) as thing:
        found = []
        for one in (creation(), renaming("x"), deletion("x")):
            with pytest.raises(Failure) as caught:
                await write(thing, one)
            found.append(caught.value.message)
    assert found == [f"the connector declares no {name}" for name in ("create", "update", "delete")]
