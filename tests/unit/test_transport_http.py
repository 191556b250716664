"""The client of a Connection: its URLs, headers and retries."""

import asyncio
from collections.abc import Iterator

import pytest

from fairlead.testing.http_faults import Fault, FaultKind
from fairlead.testing.http_system import HTTPSystem
from fairlead.transport.failure import Misconfigured, Throttled, Transient
from support.rest import NoWaiting, failure_of, http_to, request_to


@pytest.fixture
def system() -> Iterator[HTTPSystem]:
    with HTTPSystem() as system:
        yield system


# --- URLs ---


@pytest.mark.parametrize(
    ("base", "whole"),
    [
        ("https://api.example.com", "https://api.example.com/x?a=1%202%26&b=%C3%A4"),
        ("https://api.example.com/v2/", "https://api.example.com/v2/x?a=1%202%26&b=%C3%A4"),
        ("https://api.example.com/v2?tenant=7", "https://api.example.com/v2/x?tenant=7&a=1%202%26&b=%C3%A4"),
        ("http://[::1]:8080", "http://[::1]:8080/x?a=1%202%26&b=%C3%A4"),
    ],
)
async def test_a_path_and_its_parameters_are_added_to_the_base(base: str, whole: str) -> None:
    async with http_to(base) as client:
        assert client.url("/x", {"a": "1 2&", "b": "ä"}) == whole


@pytest.mark.parametrize(
    ("link", "whole"),
    [
        ("/v2/things?page=2", "https://api.example.com/v2/things?page=2"),
        ("?page=2", "https://api.example.com/v2/things?page=2"),
        ("things?page=2", "https://api.example.com/v2/things?page=2"),
        ("https://api.example.com:443/v2/things?page=2", "https://api.example.com/v2/things?page=2"),
        ("//API.example.com/v2/things?page=2", "https://api.example.com/v2/things?page=2"),
    ],
)
async def test_a_link_of_the_same_origin_is_followed(link: str, whole: str) -> None:
    async with http_to("https://api.example.com/v2") as client:
        assert client.joined("https://api.example.com/v2/things", link) == whole


@pytest.mark.parametrize(
    ("link", "origin"),
    [
        ("https://evil.example.org/v2/things?token=canary", "https://evil.example.org"),
        ("//evil.example.org/", "https://evil.example.org"),
        ("http://api.example.com/v2/things", "http://api.example.com"),
        ("https://api.example.com:8443/v2/things", "https://api.example.com:8443"),
        ("https://api.example.com@evil.example.org/", "https://evil.example.org"),
        ("https://api.example.com.evil.example.org/", "https://api.example.com.evil.example.org"),
        ("file:///etc/passwd", "file://"),
    ],
)
async def test_a_link_to_another_origin_would_give_our_credentials_away(link: str, origin: str) -> None:
    async with http_to("https://api.example.com/v2") as client:
        with pytest.raises(Misconfigured) as caught:
            client.joined("https://api.example.com/v2/things", link)
    assert caught.value.reason == "UnexpectedAnswer"
    assert caught.value.message == (
        f"the next page of api.example.com is said to be at {origin}: write that origin into spec.url, or page in "
        "another way"
    )


@pytest.mark.parametrize("link", ["http://[::1", "https://api.example.com:port/", "https://x\x00y/"])
async def test_a_link_that_is_no_url_is_told(link: str) -> None:
    async with http_to("https://api.example.com") as client:
        with pytest.raises(Misconfigured) as caught:
            client.joined("https://api.example.com/things", link)
    assert caught.value.message == (
        "the next page of api.example.com is said to be at what is no URL: page in another way"
    )


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://api.example.com", "this connector speaks HTTP: write https://host/path into spec.url"),
        ("https:///x", "this connector speaks HTTP: write https://host/path into spec.url"),
        ("https://a:canary@x/", "spec.url holds credentials: put them into a Secret and use auth"),
        ("https://[::1", "spec.url is no URL: write for example https://api.example.com:8443"),
        ("https://x:port/", "spec.url is no URL: write for example https://api.example.com:8443"),
    ],
)
def test_a_url_that_cannot_be_used_is_told_at_once(url: str, message: str) -> None:
    async def make() -> None:
        async with http_to(url):
            pass

    with pytest.raises(Misconfigured) as caught:
        asyncio.run(make())
    assert (caught.value.reason, caught.value.message) == ("InvalidSpec", message)


async def test_a_redirect_is_not_followed(system: HTTPSystem) -> None:
    headers = {"Location": "https://evil.example.org/?token=canary"}
    system.faults.add(Fault(FaultKind.STATUS, status=307, headers=headers))
    async with http_to(system) as client:
        failure = await failure_of(client, Misconfigured)
    assert failure.message == (
        "GET /customers answered 307, a redirect to https://evil.example.org: write the URL that it leads to into "
        "spec.url"
    )


async def test_a_url_that_is_too_long_is_told(system: HTTPSystem) -> None:
    async with http_to(system) as client:
        failure = await failure_of(client, Misconfigured, path="/customers/" + "x" * 70_000)
    assert failure.message.endswith("no URL can be made of it; is a value or the list of keys in it too long?")


# --- headers ---


async def test_every_request_brings_the_connectors_headers(system: HTTPSystem) -> None:
    async with http_to(system, headers={"accept": "application/vnd.api+json", "X-Version": "7"}) as client:
        await client.send(request_to(client))
    sent = system.headers[-1]
    assert (sent["accept"], sent["x-version"], sent["user-agent"].partition("/")[0]) == (
        "application/vnd.api+json",
        "7",
        "fairlead",
    )


def test_a_header_that_cannot_be_sent_is_told() -> None:
    async def make() -> None:
        async with http_to("http://x", headers={"X-Name": "→"}):
            pass

    with pytest.raises(Misconfigured) as caught:
        asyncio.run(make())
    assert caught.value.message == "a header holds characters that none can: check the connector's headers"


async def test_a_header_name_that_cannot_be_sent_is_told(system: HTTPSystem) -> None:
    async with http_to(system, headers={"X Name": "x"}) as client:
        failure = await failure_of(client, Misconfigured)
    assert failure.message == "GET /customers: a header cannot be sent as it is: check the connector's headers"


async def test_an_etag_of_any_bytes_goes_back_as_it_came(system: HTTPSystem) -> None:
    system.faults.add(Fault(FaultKind.STATUS, status=200, body="{}", headers={"ETag": '"\xe4\xff"'}))
    async with http_to(system) as client:
        etag = (await client.send(request_to(client))).headers["etag"]
        await client.send(request_to(client, headers={"If-Match": etag}))
    assert system.headers[-1]["if-match"] == '"\xe4\xff"'


# --- retries ---


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 520])
async def test_what_may_pass_is_tried_again(system: HTTPSystem, status: int) -> None:
    system.faults.add(Fault(FaultKind.STATUS, status=status, times=2))
    async with http_to(system) as client:
        answer = await client.send(request_to(client))
    assert (answer.status, len(system.seen)) == (200, 3)


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 405, 409, 412, 422, 501])
async def test_what_will_not_pass_is_not_tried_again(system: HTTPSystem, status: int) -> None:
    system.faults.add(Fault(FaultKind.STATUS, status=status))
    async with http_to(system) as client:
        await failure_of(client)
    assert len(system.seen) == 1


async def test_attempts_end_and_the_last_failure_tells(system: HTTPSystem) -> None:
    system.faults.add(Fault(FaultKind.STATUS, status=500, times=9))
    time = NoWaiting()
    async with http_to(system, time=time) as client:
        failure = await failure_of(client, Transient)
    assert (failure.message, len(system.seen), time.waits) == (
        (
            "GET /customers answered 500 (injected): the system itself failed, and is asked again with the "
            "next run; if it lasts, see its own log"
        ),
        3,
        [0.001, 0.002],
    )


async def test_who_wants_one_attempt_gets_one(system: HTTPSystem) -> None:
    system.faults.add(Fault(FaultKind.STATUS, status=503))
    async with http_to(system) as client:
        with pytest.raises(Transient):
            await client.send(request_to(client), attempts=1)
    assert len(system.seen) == 1


async def test_retry_after_is_waited_for(system: HTTPSystem) -> None:
    system.faults.add(Fault(FaultKind.THROTTLE, retry_after="30"))
    time = NoWaiting()
    async with http_to(system, time=time, retry={"maxBackoff": "1m"}) as client:
        await client.send(request_to(client))
    assert max(time.waits) == 30.0


async def test_a_pause_longer_than_the_longest_wait_is_left_to_who_asked(system: HTTPSystem) -> None:
    system.faults.add(Fault(FaultKind.THROTTLE, retry_after="3600"))
    time = NoWaiting()
    async with http_to(system, time=time) as client:
        failure = await failure_of(client, Throttled)
        again = await failure_of(client, Throttled)
    assert (failure.retry_after, again.retry_after, time.waits, len(system.seen)) == (3600.0, 3600.0, [], 1)


async def test_one_complaint_slows_every_request_of_the_connection(system: HTTPSystem) -> None:
    system.faults.add(Fault(FaultKind.THROTTLE))
    time = NoWaiting()
    async with http_to(system, time=time, limits={"requestsPerSecond": 10.0, "burst": 1}) as client:
        for _ in range(3):
            await client.send(request_to(client))
    assert [wait for wait in time.waits if wait > 0.15] == pytest.approx([0.19, 0.19], abs=0.02)
