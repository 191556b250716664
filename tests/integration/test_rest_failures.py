"""What goes wrong between the REST connector and a system: which failure it is, what it says and never says."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from msgspec.structs import replace

from fairlead.connectors.base import Health, Outcome
from fairlead.connectors.rest import RestClient, RestObject
from fairlead.testing.connector import changed, scanned
from fairlead.testing.http_faults import Fault, FaultKind
from fairlead.testing.http_system import HTTPSystem, Logins
from fairlead.transport.failure import AuthRejected, Failure, Misconfigured, Throttled, Transient
from support.rest import (
    NoWaiting,
    bounds_for,
    client_to,
    creation,
    deletion,
    opened,
    preset,
    ref,
    renaming,
    with_paging,
    writes,
)

SMALL = with_paging(type="Cursor", param="cursor", next="next", sizeParam="limit", size=10)


@pytest.fixture
def system() -> Iterator[HTTPSystem]:
    with HTTPSystem() as system:
        yield system


def add(system: HTTPSystem, count: int) -> list[str]:
    return system.store.fill("customers", [{"email": f"p{n}@x", "name": f"P{n}"} for n in range(count)])


async def read(thing: RestObject) -> list[str]:
    return [key for page in await scanned(thing) for key in page.keys]


async def failure_of(thing: RestObject) -> Failure:
    with pytest.raises(Failure) as caught:
        await read(thing)
    return caught.value


# --- what passes ---

PASSING = [
    Fault(FaultKind.THROTTLE),
    Fault(FaultKind.THROTTLE, retry_after="3"),
    Fault(FaultKind.STATUS, status=503, retry_after="3"),
    Fault(FaultKind.STATUS, status=500),
    Fault(FaultKind.STATUS, status=502),
    Fault(FaultKind.STATUS, status=504),
    Fault(FaultKind.TRUNCATE),
    Fault(FaultKind.RESET),
    Fault(FaultKind.LOSE_ANSWER),
    Fault(FaultKind.SLOW, seconds=9),
]
RETRY = {"maxAttempts": 4, "initialBackoff": "100ms", "maxBackoff": "30s"}


@pytest.mark.parametrize("fault", PASSING)
async def test_a_scan_gets_over_what_passes(system: HTTPSystem, fault: Fault) -> None:
    keys = add(system, 25)
    times = (0,) if fault.kind is FaultKind.SLOW else (0, 1, 2)
    for after in times:
        system.faults.add(replace(fault, after=after))
    async with opened(system, SMALL, bounds=bounds_for(fault), retry=RETRY) as thing:
        assert await read(thing) == keys
    assert len(system.seen) == 3 + len(times)


async def test_waits_grow_are_jittered_and_bounded(system: HTTPSystem) -> None:
    system.faults.add(Fault(FaultKind.STATUS, status=500, times=9))
    time = NoWaiting()
    retry = {"maxAttempts": 6, "initialBackoff": "1s", "maxBackoff": "5s"}
    async with opened(system, time=time, retry=retry) as thing:
        await failure_of(thing)
    assert [wait <= most for wait, most in zip(time.waits, (1, 2, 4, 5, 5), strict=True)] == [True] * 5


async def test_a_throttled_scan_waits_as_long_as_it_was_told(system: HTTPSystem) -> None:
    add(system, 25)
    system.faults.add(Fault(FaultKind.THROTTLE, retry_after="20", after=1))
    time = NoWaiting()
    async with opened(system, SMALL, time=time, retry=RETRY) as thing:
        await read(thing)
    assert max(time.waits) == 20.0


async def test_a_token_that_is_revoked_in_the_middle_of_a_scan_is_renewed() -> None:
    with HTTPSystem(logins=Logins(client=("id", "secret"))) as system:
        keys = add(system, 25)
        auth = {
            "grant": "ClientCredentials",
            "tokenURL": f"{system.url}/oauth/token",
            "clientID": ref("id"),
            "clientSecret": ref("secret"),
        }
        secrets = {"login": {"id": "id", "secret": "secret"}}
        found: list[str] = []
        async with opened(system, SMALL, auth={"oauth2": auth}, secrets=secrets) as thing:
            async for page in thing.scan():
                found += page.keys
                system.logins.tokens.clear()
        assert (found, system.logins.issued) == (keys, 3)


async def test_a_system_that_comes_back_is_read_with_the_same_client() -> None:
    with HTTPSystem() as system:
        port = int(system.url.rpartition(":")[2])
    async with opened(system.url) as thing:
        down = await failure_of(thing)
        server = await asyncio.start_server(_empty_list, "127.0.0.1", port)
        async with server:
            assert (down.reason, await read(thing)) == ("ConnectionRefused", [])


async def _empty_list(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 12\r\nConnection: close\r\n\r\n{"items":[]}')
    await writer.drain()
    writer.close()
    await writer.wait_closed()


# --- what stays ---

LOGIN = "login.example.org"
STAYING: list[tuple[Fault, type[Failure], str, str]] = [
    (
        Fault(FaultKind.STATUS, status=401),
        AuthRejected,
        "AuthFailed",
        "GET /customers answered 401: check the Secret of the Connection's auth, and what it is allowed to do",
    ),
    (
        Fault(FaultKind.STATUS, status=403),
        AuthRejected,
        "AuthFailed",
        "GET /customers answered 403: check the Secret of the Connection's auth, and what it is allowed to do",
    ),
    (
        Fault(FaultKind.STATUS, status=404, body=""),
        Misconfigured,
        "ObjectNotFound",
        "GET /customers answered 404: check systems[].object, the connector's path and spec.url",
    ),
    (
        Fault(FaultKind.STATUS, status=400, body='{"message": "unknown parameter limit"}'),
        Misconfigured,
        "UnexpectedAnswer",
        "GET /customers answered 400 (unknown parameter limit): check the connector and spec.url",
    ),
    (
        Fault(FaultKind.STATUS, status=302, headers={"Location": f"https://{LOGIN}/?next=x"}),
        Misconfigured,
        "UnexpectedAnswer",
        f"GET /customers answered 302, a redirect to https://{LOGIN}: write the URL that it leads to into spec.url",
    ),
    (
        Fault(FaultKind.NOT_JSON),
        Misconfigured,
        "NotJSON",
        "the answer to GET /customers is text/html, not JSON: check spec.url; is this the API, and not its web page?",
    ),
    (
        Fault(FaultKind.THROTTLE, body="slow down"),
        Throttled,
        "Throttled",
        "GET /customers answered 429 (slow down): if it lasts, lower the Connection's limits.requestsPerSecond",
    ),
    (
        Fault(FaultKind.STATUS, status=500, body='{"error": {"message": "database is gone"}}'),
        Transient,
        "Unavailable",
        (
            "GET /customers answered 500 (database is gone): the system itself failed, and is asked again with the "
            "next run; if it lasts, see its own log"
        ),
    ),
    (
        Fault(FaultKind.TRUNCATE),
        Transient,
        "TruncatedAnswer",
        "the answer to GET /customers ends in the middle: if it lasts, see whether a proxy cuts it off",
    ),
    (
        Fault(FaultKind.SLOW, seconds=9),
        Transient,
        "Timeout",
        "GET /customers was silent for 0.3 s",
    ),
    (
        Fault(FaultKind.LOSE_ANSWER),
        Transient,
        "ConnectionLost",
        "{host} hung up on GET /customers: if it lasts, see its log, and scheme and port of spec.url",
    ),
]


@pytest.mark.parametrize(("fault", "kind", "reason", "message"), STAYING)
async def test_what_stays_is_told_with_what_to_do(
    system: HTTPSystem, fault: Fault, kind: type[Failure], reason: str, message: str
) -> None:
    add(system, 3)
    system.faults.add(replace(fault, times=99))
    async with opened(system, bounds=bounds_for(fault)) as thing:
        failure = await failure_of(thing)
    host = system.url.removeprefix("http://")
    assert (isinstance(failure, kind), failure.reason, failure.message) == (True, reason, message.format(host=host))


async def test_the_connectors_own_rules_decide_first(system: HTTPSystem) -> None:
    spec = {**preset(), "errors": [{"status": 403, "body": "LIMIT", "class": "Throttled"}]}
    system.faults.add(Fault(FaultKind.STATUS, status=403, body='{"message": "LIMIT reached"}', times=2))
    async with opened(system, spec) as thing:
        assert (await read(thing), len(system.seen)) == ([], 3)


# --- probes ---


@asynccontextmanager
async def probed(system: HTTPSystem | str, spec: dict[str, Any] | None = None, **connection: Any) -> Any:
    client: RestClient = client_to(system, spec, **connection)
    try:
        yield client
    finally:
        await client.close()


async def health(system: HTTPSystem | str, spec: dict[str, Any] | None = None, **connection: Any) -> Health:
    async with probed(system, spec, **connection) as client:
        found: Health = await client.probe()
    return found


async def ill(system: HTTPSystem | str, spec: dict[str, Any] | None = None, **connection: Any) -> Failure:
    with pytest.raises(Failure) as caught:
        await health(system, spec, **connection)
    return caught.value


async def test_a_probe_tells_the_latency_and_what_is_left_of_the_limit(system: HTTPSystem) -> None:
    found = await health(system)
    assert (0 < found.latency < 10, found.budget_left) == (True, 0.91)


async def test_a_probe_is_one_request(system: HTTPSystem) -> None:
    system.faults.add(Fault(FaultKind.STATUS, status=500, times=9))
    failure = await ill(system)
    assert (type(failure).error, len(system.seen)) == (Transient.error, 1)


async def test_a_probe_is_sent_where_the_connector_says(system: HTTPSystem) -> None:
    await health(system, {**preset(), "probe": {"path": "/customers?limit=1&email=a%40x", "method": "GET"}})
    assert list(system.seen) == [("GET", "/customers?limit=1&email=a%40x")]


async def test_a_probe_may_be_answered_by_a_word(system: HTTPSystem) -> None:
    system.faults.add(Fault(FaultKind.STATUS, status=200, body="pong"))
    assert (await health(system)).latency > 0


PROBES = [
    (
        Fault(FaultKind.STATUS, status=404, body=""),
        "UnexpectedAnswer",
        "GET / answered 404: check systems[].object, the connector's path and spec.url",
    ),
    (
        Fault(FaultKind.NOT_JSON),
        "NotJSON",
        "the answer to GET / is text/html, not JSON: check spec.url; is this the API, and not its web page?",
    ),
    (
        Fault(FaultKind.STATUS, status=401),
        "AuthFailed",
        "GET / answered 401: check the Secret of the Connection's auth, and what it is allowed to do",
    ),
]


@pytest.mark.parametrize(("fault", "reason", "message"), PROBES)
async def test_a_probe_that_fails_says_what_to_do(system: HTTPSystem, fault: Fault, reason: str, message: str) -> None:
    system.faults.add(fault)
    failure = await ill(system)
    assert (failure.reason, failure.message) == (reason, message)


# --- what is never said ---

SECRET, VALUE = "canary-s3cret", "canary-value"
BEARER: dict[str, Any] = {"bearer": {"token": ref("canary")}}
QUERY: dict[str, Any] = {"apiKey": {"in": "Query", "name": "key", "value": ref("canary")}}
BASIC: dict[str, Any] = {"basic": {"username": ref("canary"), "password": ref("canary")}}
STATUSES = (400, 401, 404, 409, 422, 429, 500)
CASES = [
    *((BEARER, Fault(FaultKind.ECHO, status=status, body="body")) for status in STATUSES),
    *((QUERY, Fault(FaultKind.ECHO, status=status, body="url")) for status in STATUSES),
    *((auth, Fault(FaultKind.ECHO, status=400, body="authorization")) for auth in (BEARER, BASIC)),
    (QUERY, Fault(FaultKind.STATUS, status=302, headers={"Location": f"https://x.example.org/{SECRET}?{VALUE}"})),
    (QUERY, Fault(FaultKind.STATUS, status=200, body=f'{{"items": "{VALUE} {SECRET}"}}')),
    (QUERY, Fault(FaultKind.STATUS, status=200, body=f'{{"items": [{{"email": "{VALUE}@x"}}]}}')),
    (QUERY, Fault(FaultKind.STATUS, status=200, body=f"{VALUE} {SECRET}")),
    (QUERY, Fault(FaultKind.STATUS, status=200, body=f'{{"results": ["{VALUE}"]}}')),
    (QUERY, Fault(FaultKind.STATUS, status=200, body="{}", headers={"Location": f"/{VALUE}", "ETag": f'"{SECRET}"'})),
    (QUERY, Fault(FaultKind.LOSE_ANSWER)),
    (QUERY, Fault(FaultKind.TRUNCATE)),
    (QUERY, Fault(FaultKind.NOT_JSON)),
]


async def messages(thing: RestObject) -> list[str]:
    """What is said while everything is tried that can be."""
    creates = [creation(n, email=f"{VALUE}{n}@x", note=VALUE) for n in range(2)]
    attempts = [
        lambda: scanned(thing),
        lambda: changed(thing, "2026-01-01T00:00:00Z"),
        lambda: thing.fetch([VALUE]),
        lambda: thing.find("email", [f"{VALUE}@x"]),
        lambda: thing.write(creates[:1]),
        lambda: thing.write(creates),
        lambda: thing.write([renaming(VALUE, to=VALUE)]),
        lambda: thing.write([renaming(VALUE, to=VALUE, version='"1"', email=f"{VALUE}@x")]),
        lambda: thing.write([deletion(VALUE)]),
    ]
    said = []
    for attempt in attempts:
        try:
            outcomes: Any = await attempt()
        except Failure as failure:
            said.append(f"{failure} {failure.reason} {failure.__cause__} {failure.args}")
            continue
        if isinstance(outcomes, list):
            said += [outcome.message for outcome in outcomes if isinstance(outcome, Outcome)]
    return said


@pytest.mark.parametrize(("auth", "fault"), CASES)
async def test_no_message_holds_a_secret_or_a_value_of_a_record(
    system: HTTPSystem, auth: dict[str, Any], fault: Fault
) -> None:
    system.store.create("customers", {"email": f"{VALUE}@x", "name": "P0"}, VALUE)
    system.faults.add(replace(fault, times=9999))
    said = []
    for spec in (preset(), writes(update={"condition": "ReadBefore"}, delete={"condition": "ReadBefore"})):
        secrets = {"login": {"canary": SECRET}}
        async with opened(system, spec, auth=auth, secrets=secrets, retry={"maxAttempts": 1}) as thing:
            said += await messages(thing)
    assert [text for text in said if re.search("canary", text, re.IGNORECASE)] == []
    assert said
