"""HTTP: one client per Connection, with its login, limits, retries, time-outs and trust."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http.cookiejar import CookieJar, DefaultCookiePolicy
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import httpx
import msgspec

from fairlead import __version__
from fairlead.model.connection import Connection, Limits
from fairlead.model.connector import ErrorRule
from fairlead.transport.answer import Answer, Request, document, failure_of
from fairlead.transport.auth import login
from fairlead.transport.backoff import Backoff
from fairlead.transport.exchange import Bounds, exchange, host_of
from fairlead.transport.failure import Failure, Lost, Misconfigured, Throttled, Transient
from fairlead.transport.limits import Limiter
from fairlead.transport.secrets import Secrets
from fairlead.transport.tls import bundle, ssl_context, trusts_nobody

_COMMON = {"Accept": "application/json", "User-Agent": f"fairlead/{__version__}"}


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
        self._base = _require_base(self._spec.url)
        self._login = login(self._spec.auth, secrets, clock)
        self._headers = _encoded(_COMMON, headers or {})
        self._client: httpx.AsyncClient | None = None
        self._trusted: str | None = None
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
        base = httpx.URL(self._base)
        try:
            whole = httpx.URL(url).join(link)
        except httpx.InvalidURL:
            raise Misconfigured(
                f"the next page of {base.host} is said to be at what is no URL: page in another way",
                reason="UnexpectedAnswer",
            ) from None
        if (whole.scheme, whole.host, whole.port) != (base.scheme, base.host, base.port):
            origin = f"{whole.scheme}://{host_of(whole)}"
            raise Misconfigured(
                f"the next page of {host_of(base)} is said to be at {origin}: write that origin into spec.url, or "
                "page in another way",
                reason="UnexpectedAnswer",
            )
        return str(whole)

    def limit(self, limits: Limits) -> None:
        """Another budget from now on, but for `concurrency`."""
        self._limiter.limit(limits)

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
                if isinstance(failure, Lost) and not request.repeatable:
                    raise
                await self.pause(failure, attempt, attempts or self._backoff.attempts)
        raise AssertionError

    async def pause(self, failure: Failure, attempt: int, attempts: int | None = None) -> None:
        """Waits before what failed is tried again.

        Args:
            failure: of the latest attempt.
            attempt: its number, from 1.
            attempts: most attempts; the Connection's number when left out.

        Raises:
            Failure: the same, when there was no attempt left or the wait would be too long.
        """
        wait = max(failure.retry_after or 0.0, self._backoff.wait(attempt))
        if attempt >= (attempts or self._backoff.attempts) or wait > self._backoff.longest:
            raise failure
        await self._sleep(wait)

    async def _attempt(self, request: Request) -> Answer:
        async with self._limiter.slot():
            answer, hidden = await self._signed(request)
        failure = failure_of(answer, msgspec.structs.replace(request, hidden=[*request.hidden, *hidden]), self._rules)
        if isinstance(failure, Throttled):
            self._limiter.throttled(failure.retry_after)
        if failure is not None:
            raise failure
        try:
            return msgspec.structs.replace(answer, document=document(answer, request))
        except Failure as broken:  # what was asked for was done, although it cannot be read what it was
            if request.repeatable and not isinstance(broken, Transient):
                raise
            raise Lost(broken.message, reason=broken.reason) from None

    async def _signed(self, request: Request) -> tuple[Answer, Sequence[str]]:
        """The answer, and texts that no message may hold. What 401 answers is sent once more with a fresh login."""
        client = self._open()
        sent, hidden = await self._sign(client, request)
        answer = await exchange(client, sent, request.label, self._bounds)
        if answer.status == 401 and self._login.renews(sent):
            sent, hidden = await self._sign(client, request)
            answer = await exchange(client, sent, request.label, self._bounds)
        return answer, hidden

    async def _sign(self, client: httpx.AsyncClient, request: Request) -> tuple[httpx.Request, Sequence[str]]:
        kind = {"Content-Type": "application/json"} if request.body is not None else {}
        headers = {**self._headers, **_encoded(kind, request.headers)}
        try:
            sent = client.build_request(
                request.method, request.url, content=request.body, headers=headers, extensions=self._extensions()
            )
        except httpx.InvalidURL:
            raise Misconfigured(
                f"{request.label}: no URL can be made of it; is a value or the list of keys in it too long?",
                reason="InvalidSpec",
            ) from None

        async def post(url: str, headers: dict[str, str], form: dict[str, str]) -> Answer:
            target = httpx.URL(url)
            extensions = self._extensions() if target.host == sent.url.host else {}
            accepted = {"Accept": "application/json", **headers}
            asked = client.build_request("POST", target, data=form, headers=accepted, extensions=extensions)
            return await exchange(client, asked, f"the token endpoint at {host_of(target)}", self._bounds)

        return sent, await self._login.sign(sent, post)

    # --- the client ---

    def _open(self) -> httpx.AsyncClient:
        """The client; another one once its authorities were replaced."""
        tls, secure = self._spec.tls, "https:" in (self._base[:6], self._token_url[:6])
        trusted = bundle(tls, self._secrets) if secure else None
        if self._client is not None and trusted != self._trusted:
            self._retired.append(self._client)
            self._client = None
        if self._client is None:
            bounds = self._bounds
            self._trusted = trusted
            self._client = httpx.AsyncClient(
                auth=httpx.Auth(),  # the login signs; nothing in a URL does
                cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
                verify=ssl_context(tls, trusted) if secure else trusts_nobody(),
                timeout=httpx.Timeout(bounds.silence, connect=bounds.connect, pool=None),
                limits=httpx.Limits(max_keepalive_connections=self._spec.limits.concurrency, keepalive_expiry=55.0),
            )
        return self._client

    @property
    def _token_url(self) -> str:
        return self._spec.auth.oauth2.token_url if self._spec.auth and self._spec.auth.oauth2 else ""

    def _extensions(self) -> dict[str, str]:
        name = self._spec.tls.server_name if self._spec.tls else None
        return {"sni_hostname": name} if name else {}

    async def close(self) -> None:
        """Closes its connections; the next `send` would open new ones."""
        clients, self._client, self._retired = [*self._retired, self._client], None, []
        for client in filter(None, clients):
            await client.aclose()


def _encoded(*given: Mapping[str, str]) -> dict[bytes, bytes]:
    """Headers as bytes, which go back as they came (an ETag may hold any); later ones replace earlier ones."""
    headers = {name.lower(): value for some in given for name, value in some.items()}
    try:
        return {name.encode("latin-1"): value.encode("latin-1") for name, value in headers.items()}
    except UnicodeEncodeError:
        raise Misconfigured(
            "a header holds characters that none can: check the connector's headers", reason="InvalidSpec"
        ) from None


def _require_base(url: str) -> str:
    try:
        parts = httpx.URL(url)
    except httpx.InvalidURL:
        raise Misconfigured(
            "spec.url is no URL: write for example https://api.example.com:8443", reason="InvalidSpec"
        ) from None
    if parts.scheme not in ("http", "https") or not parts.host:
        raise Misconfigured("this connector speaks HTTP: write https://host/path into spec.url", reason="InvalidSpec")
    if parts.userinfo:
        raise Misconfigured("spec.url holds credentials: put them into a Secret and use auth", reason="InvalidSpec")
    return url
