"""What goes wrong on the way to a system, what it is called, and what no message may hold."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from msgspec.structs import replace

from fairlead.testing.http_faults import Fault, FaultKind
from fairlead.testing.http_system import HTTPSystem, Logins
from fairlead.transport.answer import About
from fairlead.transport.exchange import Bounds
from fairlead.transport.failure import Failure, Invalid, Lost, Misconfigured, Transient
from support.rest import bounds_for, failure_of, http_to, ref, request_to


@pytest.fixture
def system() -> Iterator[HTTPSystem]:
    with HTTPSystem() as system:
        yield system


def host(system: HTTPSystem) -> str:
    return system.url.removeprefix("http://")


# --- what is lost ---

LOSSES = [
    (
        Fault(FaultKind.LOSE_ANSWER, times=9),
        "ConnectionLost",
        "{host} hung up on POST /customers: if it lasts, see its log, and scheme and port of spec.url",
    ),
    (
        Fault(FaultKind.TRUNCATE, times=9),
        "TruncatedAnswer",
        "the answer to POST /customers ends in the middle: if it lasts, see whether a proxy cuts it off",
    ),
    (
        Fault(FaultKind.RESET, times=9),
        "ConnectionLost",
        "{host} hung up on POST /customers: if it lasts, see its log, and scheme and port of spec.url",
    ),
    (Fault(FaultKind.SLOW, seconds=9, times=9), "Timeout", "POST /customers was silent for 0.3 s"),
    (
        Fault(FaultKind.STATUS, status=502, times=9),
        "Unavailable",
        (
            "POST /customers answered 502 (injected): the system itself failed, and is asked again with the "
            "next run; if it lasts, see its own log"
        ),
    ),
    (
        Fault(FaultKind.STATUS, status=200, body='{"id":', times=9),
        "TruncatedAnswer",
        "the answer to POST /customers ends in the middle: if it lasts, see whether a proxy cuts it off",
    ),
]


@pytest.mark.parametrize(("fault", "reason", "message"), LOSSES)
async def test_a_create_whose_answer_is_lost_is_not_sent_again(
    system: HTTPSystem, fault: Fault, reason: str, message: str
) -> None:
    system.faults.add(fault)
    async with http_to(system, bounds=bounds_for(fault)) as client:
        failure = await failure_of(client, Lost, method="POST", body=b'{"email": "a@x"}', repeatable=False)
    assert (failure.reason, failure.message, len(system.seen)) == (reason, message.format(host=host(system)), 1)


@pytest.mark.parametrize("fault", [fault for fault, _, _ in LOSSES])
async def test_what_may_be_repeated_is_sent_again(system: HTTPSystem, fault: Fault) -> None:
    system.faults.add(replace(fault, times=2))
    async with http_to(system, bounds=bounds_for(fault)) as client:
        create = request_to(client, method="POST", body=b'{"email": "a@x"}', headers={"Idempotency-Key": "1"})
        assert (await client.send(create)).status in (200, 201)
    assert (len(system.seen), len(system.store.values("customers"))) == (3, 1)


async def test_a_create_answered_by_a_web_page_may_have_happened(system: HTTPSystem) -> None:
    system.faults.add(Fault(FaultKind.NOT_JSON))
    async with http_to(system) as client:
        failure = await failure_of(client, Lost, method="POST", body=b"{}", about=About.NEW, repeatable=False)
    assert failure.reason == "NotJSON"


async def test_a_create_that_was_surely_not_done_is_sent_again(system: HTTPSystem) -> None:
    system.faults.add(Fault(FaultKind.STATUS, status=503))
    async with http_to(system) as client:
        create = request_to(client, method="POST", body=b'{"email": "a@x"}', repeatable=False)
        assert (await client.send(create)).status == 201


# --- bounds ---


async def test_an_exchange_has_an_end_although_the_system_goes_on_and_on(system: HTTPSystem) -> None:
    system.faults.add(Fault(FaultKind.SLOW, seconds=5, times=9))
    async with http_to(system, bounds=Bounds(whole=0.05)) as client:
        failure = await failure_of(client, Transient)
    assert (failure.reason, failure.message) == ("Timeout", "GET /customers took longer than 0.05 s")


async def test_an_answer_that_is_too_large_is_not_read_to_its_end(system: HTTPSystem) -> None:
    system.store.fill("customers", [{"email": f"{n}@x", "note": "x" * 1000} for n in range(100)])
    async with http_to(system, bounds=Bounds(size=50 * 1024)) as client:
        failure = await failure_of(client, Misconfigured)
    assert (failure.reason, failure.message, len(system.seen)) == (
        "AnswerTooLarge",
        "the answer to GET /customers is larger than 0.0488281 MiB: write a smaller paginate.size",
        1,
    )


@asynccontextmanager
async def raw_server(answer: bytes) -> AsyncIterator[str]:
    """A server that answers every connection with these bytes, and hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


GARBAGE = [
    b"SSH-2.0-OpenSSH_9.6\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZZ\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000 + b"\r\n\r\n{}",
    b"",
]


@pytest.mark.parametrize("answer", GARBAGE)
async def test_what_is_not_http_is_a_passing_failure(answer: bytes) -> None:
    async with raw_server(answer) as url, http_to(url) as client:
        failure = await failure_of(client, Lost)
    assert failure.reason in ("ConnectionLost", "TruncatedAnswer")


async def test_a_header_that_comes_several_times_is_a_list() -> None:
    links = b'Link: </a>; rel="prev"\r\nlink: </b>; rel="next"\r\n'
    async with (
        raw_server(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n" + links + b"\r\n{}") as url,
        http_to(url) as client,
    ):
        answer = await client.send(request_to(client))
    assert answer.headers["link"] == '</a>; rel="prev", </b>; rel="next"'


# --- hosts ---


async def test_a_server_that_is_down_is_told_with_its_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    async with http_to(f"http://127.0.0.1:{port}") as client:
        failure = await failure_of(client, Transient)
    assert (type(failure), failure.reason, failure.message) == (
        Transient,
        "ConnectionRefused",
        f"127.0.0.1:{port} refuses connections: is the server running?",
    )


@pytest.mark.parametrize("name", ["no-such-host.invalid", "x" * 64 + ".example.org"])
async def test_a_host_that_does_not_resolve_is_told(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    if name.endswith(".invalid"):  # the machine may have no name server at all
        monkeypatch.setattr(socket, "getaddrinfo", unknown)
    async with http_to(f"http://{name}") as client:
        failure = await failure_of(client, Misconfigured)
    assert (failure.reason, failure.message) == ("HostNotFound", f"the host {name} does not resolve: check spec.url")


async def test_a_name_server_that_is_silent_is_a_passing_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    async with http_to("http://crm.example.org") as client:
        failure = await failure_of(client, Transient)
    assert failure.message == "the name server did not answer for crm.example.org"


# --- secrets ---

KEY = {"apiKey": {"in": "Query", "name": "key", "value": ref("token")}}
TOKEN = {"bearer": {"token": ref("token")}}
PASSWORD = {"basic": {"username": ref("user"), "password": ref("token")}}
CANARIES = {"login": {"token": "canary/s3cret=", "user": "canary-user"}}
ENCODED = ["canary/s3cret=", "canary%2Fs3cret%3D", "canary-user", "Y2FuYXJ5LXVzZXI6Y2FuYXJ5L3MzY3JldD0="]


@pytest.mark.parametrize("auth", [KEY, TOKEN, PASSWORD])
async def test_an_echo_of_a_secret_is_not_repeated(system: HTTPSystem, auth: dict[str, Any]) -> None:
    for shape in ENCODED:
        system.faults.add(Fault(FaultKind.STATUS, status=400, body=f"you sent {shape}, which is bad"))
    async with http_to(system, auth=auth, secrets=CANARIES) as client:
        found = [(await failure_of(client)).message for _ in ENCODED]
    sent = str(system.seen) + str(system.headers)
    assert [shape for shape, message in zip(ENCODED, found, strict=True) if shape in sent and shape in message] == []


@pytest.mark.parametrize(
    "fault",
    [
        Fault(FaultKind.STATUS, status=500, times=3),
        Fault(FaultKind.LOSE_ANSWER, times=3),
        Fault(FaultKind.TRUNCATE, times=3),
        Fault(FaultKind.NOT_JSON),
    ],
)
async def test_nothing_of_the_url_but_path_and_host_is_ever_told(system: HTTPSystem, fault: Fault) -> None:
    system.faults.add(fault)
    system.store.fill("customers", [{"email": "a@x"}])
    async with http_to(system, auth=KEY, secrets=CANARIES) as client:
        request = request_to(client)
        with pytest.raises(Failure) as caught:
            await client.send(type(request)("GET", request.url + "?email=canary", "GET /customers"))
    assert ("canary" in system.seen[-1][1], "canary" in str(caught.value)) == (True, False)
    assert caught.value.__cause__ is None


async def test_libraries_log_no_url(system: HTTPSystem, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with http_to(system, auth=KEY, secrets=CANARIES) as client:
        await client.send(request_to(client))
    ours = [record for record in caplog.records if not record.name.startswith("uvicorn")]
    assert [record.getMessage() for record in ours] == []


async def test_an_echo_of_what_was_sent_is_not_repeated(system: HTTPSystem) -> None:
    system.faults.add(Fault(FaultKind.STATUS, status=422, body='{"message": "Ann Smith is no name"}'))
    async with http_to(system) as client:
        failure = await failure_of(client, Invalid, about=About.NEW, method="POST", body=b"{}", hidden=["Ann Smith"])
    assert failure.message == "POST /customers answered 422 (… is no name)"


async def test_a_fresh_token_is_hidden_too() -> None:
    with HTTPSystem(logins=Logins(client=("id", "secret"))) as system:
        auth = {
            "grant": "ClientCredentials",
            "tokenURL": f"{system.url}/oauth/token",
            "clientID": ref("id"),
            "clientSecret": ref("secret"),
        }
        secrets = {"login": {"id": "id", "secret": "secret"}}
        async with http_to(system, auth={"oauth2": auth}, secrets=secrets) as client:
            await client.send(request_to(client))
            (token,) = system.logins.tokens
            system.faults.add(Fault(FaultKind.STATUS, status=400, body=f"Authorization: Bearer {token}"))
            failure = await failure_of(client)
    assert failure.message == "GET /customers answered 400 (Authorization: Bearer …): check the connector and spec.url"
