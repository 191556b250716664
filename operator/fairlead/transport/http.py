"""HTTP: one client per Connection, with its login, limits, retries, time-outs and trust."""

from __future__ import annotations

import asyncio
import itertools
import random
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import httpx
import msgspec

from fairlead import __version__
from fairlead.model.connection import Connection
from fairlead.model.connector import ErrorRule
from fairlead.transport.answer import Answer, Request, document, failure_of
from fairlead.transport.auth import authenticator
from fairlead.transport.backoff import Backoff
from fairlead.transport.failure import Failure, Misconfigured, Throttled, Transient
from fairlead.transport.limits import Limiter
from fairlead.transport.secrets import Secrets
from fairlead.transport.tls import ssl_context, trusts_nobody


class Bounds(msgspec.Struct, frozen=True):
    """How long and how large an answer may be. Times in seconds, sizes in bytes.

    Attributes:
        connect: until the connection stands.
        silence: between two parts of an answer.
        whole: one attempt in all.
        size: the body, decompressed.
    """

    connect: float = 10.0
    silence: float = 60.0
    whole: float = 300.0
    size: int = 64 * 1024 * 1024


class Lost(Transient):
    """The request was sent and nobody knows what became of it."""


class HTTPClient:
    """Sends the requests of one Connection. Safe for concurrent use in one event loop; nothing is sent before `send`.

    Args:
        connection: where to, as whom, how fast.
        secrets: read at each use.
        headers: sent with every request.
        rules: the connector's own reading of failures.
        bounds: of each attempt.
        sleep: waits; `chance`: 0 to 1; `clock`: monotonic seconds. Given by tests.
    """

    def __init__(
        self,
        connection: Connection,
        secrets: Secrets,
        *,
        headers: Mapping[str, str] | None = None,
        rules: Sequence[ErrorRule] = (),
        bounds: Bounds | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        chance: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._spec = connection.spec
        self._secrets = secrets
        self._rules = rules
        self._bounds = bounds or Bounds()
        self._sleep = sleep
        self._backoff = Backoff(self._spec.retry, chance)
        self._limiter = Limiter(self._spec.limits, self._backoff.longest, clock, sleep)
        self._auth = authenticator(self._spec.auth, secrets, clock)
        self._headers = {"Accept": "application/json", "User-Agent": f"fairlead/{__version__}", **(headers or {})}
        self._base = _require_base(self._spec.url)
        self._client: httpx.AsyncClient | None = None
        self._retired: list[httpx.AsyncClient] = []

    def url(self, path: str, query: Mapping[str, str] | None = None) -> str:
        """A URL of the system. `path` is percent-encoded already; names and values of `query` are not."""
        parts = urlsplit(self._base)
        pairs = [*parse_qsl(parts.query, keep_blank_values=True), *(query or {}).items()]
        tail = "?" + urlencode(pairs, quote_via=quote) if pairs else ""
        return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}{path}{tail}"

    def joined(self, url: str, link: str) -> str:
        """A link of an answer, made whole.

        Args:
            url: of the request that was answered.
            link: what the answer says, absolute or relative.

        Raises:
            Misconfigured: it leads to another host, which must not get this one's credentials.
        """
        whole = httpx.URL(url).join(link)
        base = httpx.URL(self._base)
        if (whole.scheme, whole.host, whole.port) != (base.scheme, base.host, base.port):
            origin = f"{whole.scheme}://{whole.host}"
            raise Misconfigured(
                f"the next page of {base.host} is said to be at {origin}: write that origin into spec.url, or page "
                "in another way",
                reason="UnexpectedAnswer",
            )
        return str(whole)

    async def send(self, request: Request, *, attempts: int | None = None) -> Answer:
        """The answer, when it is a success. What failed for a passing reason is tried again as the Connection says.

        Args:
            request: what to send.
            attempts: most attempts; the Connection's number when left out.

        Raises:
            Failure: what is wrong, after the last attempt.
        """
        for attempt in itertools.count(1):
            try:
                return await self._attempt(request)
            except (Transient, Throttled) as failure:
                wait = max(failure.retry_after or 0.0, self._backoff.wait(attempt))
                hopeless = isinstance(failure, Lost) and not request.repeatable
                if hopeless or attempt >= (attempts or self._backoff.attempts) or wait > self._backoff.longest:
                    raise
            await self._sleep(wait)
        raise AssertionError

    async def _attempt(self, request: Request) -> Answer:
        async with self._limiter.slot():
            answer = await self._exchange(request)
        failure = failure_of(answer, request, self._rules)
        if isinstance(failure, Throttled):
            self._limiter.throttled(failure.retry_after)
        if isinstance(failure, Transient) and answer.status in (500, 502, 504):
            failure = _lost(failure)
        if failure is not None:
            raise failure
        try:
            return msgspec.structs.replace(answer, document=document(answer, request))
        except Transient as broken:
            raise _lost(broken) from None

    async def _exchange(self, request: Request) -> Answer:
        """One request and its whole answer."""
        client = self._open()
        extensions = self._extensions()
        try:
            async with (
                asyncio.timeout(self._bounds.whole),
                client.stream(
                    request.method,
                    request.url,
                    content=request.body,
                    headers=_headers(request),
                    extensions=extensions,
                ) as response,
            ):
                body = await self._body(response, request)
                headers = {name.lower(): value for name, value in response.headers.items()}
                return Answer(response.status_code, headers, body)
        except TimeoutError:
            raise Lost(f"{request.label} took longer than {self._bounds.whole:g} s", reason="Timeout") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            failure = self._failure(error, request)
            if failure.reason == "TLSFailed":
                self._retire()
            raise failure from None

    async def _body(self, response: httpx.Response, request: Request) -> bytes:
        parts, size = [], 0
        async for part in response.aiter_bytes():
            size += len(part)
            if size > self._bounds.size:
                limit = f"{self._bounds.size / 1024 / 1024:g} MiB"
                raise Misconfigured(
                    f"the answer to {request.label} is larger than {limit}: write a smaller paginate.size",
                    reason="AnswerTooLarge",
                )
            parts.append(part)
        return b"".join(parts)

    # --- the client ---

    def _open(self) -> httpx.AsyncClient:
        """The client; its certificates are read when it is made, and again after one did not verify."""
        if self._client is None:
            secure = "https:" in (self._base[:6], self._token_url[:6])
            bounds = self._bounds
            self._client = httpx.AsyncClient(
                auth=self._auth,
                headers=self._headers,
                verify=ssl_context(self._spec.tls, self._secrets) if secure else trusts_nobody(),
                timeout=httpx.Timeout(bounds.silence, connect=bounds.connect, pool=None),
                limits=httpx.Limits(max_keepalive_connections=self._spec.limits.concurrency, keepalive_expiry=55.0),
            )
        return self._client

    @property
    def _token_url(self) -> str:
        return self._spec.auth.oauth2.token_url if self._spec.auth and self._spec.auth.oauth2 else ""

    def _retire(self) -> None:
        if self._client is not None:
            self._retired.append(self._client)
            self._client = None

    def _extensions(self) -> dict[str, str]:
        name = self._spec.tls.server_name if self._spec.tls else None
        return {"sni_hostname": name} if name else {}

    async def close(self) -> None:
        """Closes its connections; the next `send` would open new ones."""
        self._retire()
        while self._retired:
            await self._retired.pop().aclose()

    # --- what failed ---

    def _failure(self, error: Exception, request: Request) -> Failure:
        """What a failure of httpx means. Its own text may hold a URL or a header, so nothing of it is repeated."""
        host, bounds, label = self._host_of(error), self._bounds, request.label
        if isinstance(error, httpx.ConnectTimeout):
            return Transient(f"{host} accepts no connection within {bounds.connect:g} s", reason="Timeout")
        if isinstance(error, httpx.ConnectError | httpx.ProxyError):
            return _connect_failure(error, host)
        cut = isinstance(error, httpx.DecodingError) or "complete message body" in str(error)
        for applies, failure, reason, text in (
            (
                isinstance(error, httpx.TimeoutException),
                Lost,
                "Timeout",
                f"{label} was silent for {bounds.silence:g} s",
            ),
            (cut, Lost, "TruncatedAnswer", f"the answer to {label} ends in the middle"),
            (
                isinstance(error, httpx.LocalProtocolError),
                Misconfigured,
                "InvalidSpec",
                f"{label}: a header cannot be sent as it is: check the connector's headers",
            ),
            (
                isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol),
                Misconfigured,
                "InvalidSpec",
                f"{label}: no URL can be made of it: check spec.url",
            ),
        ):
            if applies:
                return failure(text, reason=reason)
        return Lost(f"{host} hung up on {label}", reason="ConnectionLost")

    def _host_of(self, error: Exception) -> str:
        """The host that was spoken to: the system's, or that of its token endpoint."""
        try:
            url = error.request.url  # type: ignore[attr-defined]
        except (AttributeError, RuntimeError):
            url = httpx.URL(self._base)
        return f"{url.host}:{url.port}" if url.port else str(url.host)


def _lost(failure: Transient) -> Lost:
    return Lost(failure.message, reason=failure.reason, retry_after=failure.retry_after)


def _headers(request: Request) -> dict[str, str]:
    kind = {"Content-Type": "application/json"} if request.body is not None else {}
    return {**kind, **request.headers}


def _require_base(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Misconfigured("this connector speaks HTTP: write https://host/path into spec.url", reason="InvalidSpec")
    if parts.username or parts.password:
        raise Misconfigured("spec.url holds credentials: put them into a Secret and use auth", reason="InvalidSpec")
    return url


def _connect_failure(error: Exception, host: str) -> Failure:
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, ssl.SSLError):
            return _tls_failure(cause, host)
        if isinstance(cause, socket.gaierror):
            return _unresolved(cause, host)
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        return Transient(f"{host} refuses connections: is the server running?", reason="ConnectionRefused")
    return Transient(f"{host} cannot be reached: check spec.url, network policies and proxies", reason="Unreachable")


def _unresolved(error: socket.gaierror, host: str) -> Failure:
    if error.errno == socket.EAI_AGAIN:
        return Transient(f"the name server did not answer for {host}", reason="HostNotFound")
    return Misconfigured(f"the host {host} does not resolve: check spec.url", reason="HostNotFound")


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
