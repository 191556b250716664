"""Exchange: one request and its whole answer over HTTP, bounded in time and size, and what a failure of it means."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import socket
import ssl
import sys
from collections.abc import Iterator

import httpx
import msgspec

from fairlead.transport.answer import Answer, cut_off
from fairlead.transport.failure import Failure, Lost, Misconfigured, Transient
from fairlead.transport.fence import fence

for _library in ("httpx", "httpcore"):  # they log whole URLs and headers: record values, and what is secret
    logging.getLogger(_library).setLevel(logging.WARNING)

if importlib.util.find_spec("sniffio") is None:  # httpcore asks for it four times a request, and is happy without
    sys.modules["sniffio"] = None  # type: ignore[assignment] # so that Python looks for it on the disk no more


class Bounds(msgspec.Struct, frozen=True):
    """How long and how large an answer may be. Times in seconds, sizes in bytes.

    Attributes:
        connect: until the connection stands.
        silence: between two parts of an answer.
        whole: one exchange in all.
        size: the body, decompressed.
    """

    connect: float = 10.0
    silence: float = 60.0
    whole: float = 300.0
    size: int = 64 * 1024 * 1024


async def exchange(client: httpx.AsyncClient, request: httpx.Request, label: str, bounds: Bounds) -> Answer:
    """The whole answer, whatever its status; redirects are not followed.

    Args:
        client: sends it.
        request: what is sent.
        label: what messages call it.
        bounds: of time and size.

    Raises:
        Failure: no whole answer came. Its message holds nothing of the request's URL but the host.
    """
    if (kept := fence()) is not None:
        request.extensions = {**request.extensions, "trace": kept.trace}
    try:
        async with asyncio.timeout(bounds.whole):
            response = await client.send(request, stream=True, follow_redirects=False)
            try:
                body = await _body(response, label, bounds.size)
            finally:
                await response.aclose()
    except TimeoutError:
        raise Lost(f"{label} took longer than {bounds.whole:g} s", reason="Timeout") from None
    except httpx.HTTPError as error:
        raise _failure(error, request.url, label, bounds) from None
    except UnicodeError:  # a part of the host's name is longer than names can be
        raise _unresolvable(request.url) from None
    return Answer(response.status_code, _headers(response), body)


def _headers(response: httpx.Response) -> dict[str, str]:
    """By lower-case name, each byte a character; one that comes several times is a list (RFC 9110 section 5.3)."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in response.headers.raw:
        name, value = raw_name.lower().decode("latin-1"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


async def _body(response: httpx.Response, label: str, limit: int) -> bytes:
    parts, size = [], 0
    async for part in response.aiter_bytes():
        size += len(part)
        if size > limit:
            raise Misconfigured(
                f"the answer to {label} is larger than {limit / 1024 / 1024:g} MiB: write a smaller paginate.size",
                reason="AnswerTooLarge",
            )
        parts.append(part)
    return b"".join(parts)


def _failure(error: httpx.HTTPError, url: httpx.URL, label: str, bounds: Bounds) -> Failure:
    """What a failure of httpx means. Its own text may hold a URL or a header, so nothing of it is repeated."""
    if isinstance(error, httpx.ConnectTimeout):
        return Transient(f"{host_of(url)} accepts no connection within {bounds.connect:g} s", reason="Timeout")
    if isinstance(error, httpx.ConnectError | httpx.ProxyError):
        return _connect_failure(error, url)
    if isinstance(error, httpx.LocalProtocolError):
        return Misconfigured(
            f"{label}: a header cannot be sent as it is: check the connector's headers", reason="InvalidSpec"
        )
    return _loss(error, url, label, bounds)


def _loss(error: httpx.HTTPError, url: httpx.URL, label: str, bounds: Bounds) -> Lost:
    """What went wrong once the request was on its way."""
    if isinstance(error, httpx.TimeoutException):
        return Lost(f"{label} was silent for {bounds.silence:g} s", reason="Timeout")
    if isinstance(error, httpx.DecodingError) or "complete message body" in str(error):
        return Lost(cut_off(label), reason="TruncatedAnswer")
    return Lost(
        f"{host_of(url)} hung up on {label}: if it lasts, see its log, and scheme and port of spec.url",
        reason="ConnectionLost",
    )


def host_of(url: httpx.URL) -> str:
    """How messages call the other side: its host, and its port where it is not the usual one."""
    return f"{url.host}:{url.port}" if url.port else url.host


def _connect_failure(error: Exception, url: httpx.URL) -> Failure:
    host, causes = host_of(url), list(_causes(error))
    for cause in causes:
        if isinstance(cause, ssl.SSLError):
            return _tls_failure(cause, host)
        if isinstance(cause, socket.gaierror):
            return _unresolvable(url, for_now=cause.errno == socket.EAI_AGAIN)
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        return Transient(f"{host} refuses connections: is the server running?", reason="ConnectionRefused")
    return Transient(f"{host} cannot be reached: check spec.url, network policies and proxies", reason="Unreachable")


def _unresolvable(url: httpx.URL, *, for_now: bool = False) -> Failure:
    if for_now:
        return Transient(f"the name server did not answer for {url.host}", reason="HostNotFound")
    return Misconfigured(f"the host {url.host} does not resolve: check spec.url", reason="HostNotFound")


def _tls_failure(error: ssl.SSLError, host: str) -> Failure:
    if isinstance(error, ssl.SSLCertVerificationError):
        said = error.verify_message
        return Misconfigured(
            f"{host} does not prove who it is ({said}): set tls.caBundle to its authority, or tls.serverName to the "
            "name in its certificate",
            reason="TLSFailed",
        )
    return Misconfigured(
        f"{host} does not speak TLS as we do: check the port and scheme in spec.url", reason="TLSFailed"
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An exception and everything that led to it."""
    found: BaseException | None = error
    while found is not None:
        yield found
        if isinstance(found, BaseExceptionGroup):
            for part in found.exceptions:
                yield from _causes(part)
        found = found.__cause__ or found.__context__
