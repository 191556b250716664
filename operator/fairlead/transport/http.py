"""HTTP for one Connection: one client with kept-alive connections, its credentials, budget and retries."""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import msgspec
import orjson

from fairlead.model.common import seconds
from fairlead.model.connection import Connection
from fairlead.transport.authentication import Credentials, authenticator
from fairlead.transport.budget import Budget
from fairlead.transport.failure import AuthRejected, Failure, Misconfigured, Throttled, Transient
from fairlead.transport.secrets import Secrets
from fairlead.transport.tls import context_for

MAX_ANSWER = 64 * 1024 * 1024
"""Bytes of one answer."""

TIMEOUT = httpx.Timeout(30.0, connect=10.0)

_DEFAULT_WAIT = 1.0


class Answer(msgspec.Struct, frozen=True):
    """What a system answered; `links` are those of RFC 8288 by relation."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    links: dict[str, str]

    def json(self, where: str) -> Any:
        """The body.

        Raises:
            Misconfigured: it is not JSON.
        """
        if not self.body:
            return None
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError:
            kind = self.headers.get("content-type", "unknown")
            raise Misconfigured(
                f"{where} answered {kind}, not JSON: check spec.url and the Connector's paths", reason="NotJSON"
            ) from None


class HTTPClient:
    """Sends requests as a Connection declares. A 4xx answer is returned; everything else that fails is raised."""

    def __init__(self, connection: Connection, secrets: Secrets, clock: Callable[[], float] = time.monotonic) -> None:
        spec = connection.spec
        self._spec = spec
        self._secrets = secrets
        self._client: httpx.AsyncClient | None = None
        self._budget = Budget(spec.limits, clock)
        self._auth = authenticator(spec.auth, secrets, self._post_form, clock)
        self._extensions = {"sni_hostname": spec.tls.server_name} if spec.tls and spec.tls.server_name else {}

    @property
    def budget_left(self) -> float:
        """See `Health.budget_left`."""
        return self._budget.left

    def _http(self) -> httpx.AsyncClient:
        if self._client is None:
            self._client = httpx.AsyncClient(
                base_url=self._spec.url.rstrip("/") + "/",
                verify=context_for(self._spec.tls, self._secrets),
                timeout=TIMEOUT,
                trust_env=False,
                limits=httpx.Limits(max_connections=self._spec.limits.concurrency + 1),
            )
        return self._client

    async def send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: object = None,
        repeatable: bool = True,
        attempts: int | None = None,
    ) -> Answer:
        """One request, retried as `spec.retry` says.

        Args:
            method: HTTP method.
            path: relative to `spec.url`, or an absolute URL on the same host (a next link).
            query: added to the path's own.
            headers: added to what authentication needs.
            body: sent as JSON.
            repeatable: whether sending it twice does no harm; otherwise it is only sent again when it surely did
                not arrive.
            attempts: instead of `spec.retry.maxAttempts`.

        Raises:
            Failure: after the last attempt.
        """
        limit = attempts or self._spec.retry.max_attempts
        content = None if body is None else orjson.dumps(body, default=_number)
        for attempt in range(1, limit + 1):
            try:
                return await self._attempt(method, path, query or {}, headers or {}, content)
            except (Transient, Throttled) as failure:
                again = repeatable or isinstance(failure, Throttled) or failure.reason in _NEVER_SENT
                if attempt == limit or not again:
                    raise
                await asyncio.sleep(self._pause(attempt, failure))
        raise AssertionError

    def _pause(self, attempt: int, failure: Failure) -> float:
        """Seconds: what the system asked for, else exponential backoff with full jitter."""
        longest = seconds(self._spec.retry.max_backoff)
        if failure.retry_after is not None:
            return min(failure.retry_after, longest)
        ceiling = seconds(self._spec.retry.initial_backoff) * 2.0 ** (attempt - 1)
        return random.uniform(0, min(longest, ceiling))  # noqa: S311 - spreads load, guards nothing

    async def _attempt(
        self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], content: bytes | None
    ) -> Answer:
        answer = await self._once(method, path, query, headers, content)
        if answer.status == 401 and self._auth.rejected():
            answer = await self._once(method, path, query, headers, content)
        if answer.status in (401, 403):
            raise AuthRejected(
                f"{self.host} rejects the credentials (HTTP {answer.status}): check the Secret and its permissions",
                reason="AuthFailed",
            )
        if answer.status == 429 or (answer.status == 503 and "retry-after" in answer.headers):
            wait = _retry_after(answer.headers.get("retry-after"))
            self._budget.throttled(wait)
            raise Throttled(
                f"{self.host} wants fewer requests (HTTP {answer.status})", reason="Throttled", retry_after=wait
            )
        if answer.status >= 500 or answer.status == 408:
            raise Transient(f"{self.host} answered HTTP {answer.status}", reason="ServerError")
        if 300 <= answer.status < 400:
            raise Misconfigured(
                f"{self.host} redirects {path.partition('?')[0]} elsewhere: write the final address in spec.url",
                reason="UnexpectedAnswer",
            )
        self._budget.answered()
        return answer

    async def _once(
        self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], content: bytes | None
    ) -> Answer:
        credentials = await self._auth.credentials()
        async with self._budget.request():
            return await self._exchange(method, path, query, headers, content, credentials)

    async def _exchange(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        content: bytes | None,
        credentials: Credentials,
    ) -> Answer:
        client = self._http()
        url = httpx.URL(path if "://" in path else path.lstrip("/"))
        if url.host and url.host != httpx.URL(self._spec.url).host:
            raise Misconfigured(f"{self.host} links to another host: refused", reason="UnexpectedAnswer")
        request = client.build_request(
            method,
            url.copy_merge_params({**query, **credentials.query}),
            headers={"Accept": "application/json", **headers, **credentials.headers},
            content=content,
            extensions=self._extensions | {"timeout": TIMEOUT.as_dict()},
        )
        if content is not None:
            request.headers["Content-Type"] = "application/json"
        try:
            async with asyncio.timeout(300):
                response = await client.send(request, stream=True, auth=credentials.basic)
                try:
                    body = await self._read(response)
                finally:
                    await response.aclose()
        except (httpx.HTTPError, TimeoutError, ssl.SSLError) as error:
            raise self._failure(error) from None
        links = {str(name): link["url"] for name, link in response.links.items() if "url" in link}
        return Answer(response.status_code, response.headers, body, links)

    async def _read(self, response: httpx.Response) -> bytes:
        parts, size = [], 0
        async for part in response.aiter_bytes():
            size += len(part)
            if size > MAX_ANSWER:
                raise Misconfigured(
                    f"{self.host} answered more than {MAX_ANSWER >> 20} MiB: ask for smaller pages",
                    reason="AnswerTooLarge",
                )
            parts.append(part)
        return b"".join(parts)

    @property
    def host(self) -> str:
        """Host and port, for messages."""
        url = httpx.URL(self._spec.url)
        return f"{url.host}:{url.port}" if url.port else url.host

    def _failure(self, error: Exception) -> Failure:
        """Httpx's exceptions quote URLs and their causes; ours say what to do."""
        text = str(error)
        if "CERTIFICATE_VERIFY" in text or "SSL" in text or "certificate" in text:
            return Misconfigured(
                f"{self.host} does not prove who it is: set tls.caBundle to its authority, or tls.serverName",
                reason="TLSFailed",
            )
        unknown = any(words in text for words in ("Name or service not known", "resolution", "nodename"))
        for applies, failure in (
            (unknown, Misconfigured(f"{self.host} does not resolve: check spec.url", reason="HostNotFound")),
            (
                isinstance(error, httpx.ConnectError),
                Transient(f"{self.host} refuses connections: is it running?", reason="ConnectionRefused"),
            ),
            (
                isinstance(error, httpx.ConnectTimeout | httpx.PoolTimeout),
                Transient(f"{self.host} does not accept connections in time", reason="ConnectTimeout"),
            ),
            (
                isinstance(error, httpx.TimeoutException | TimeoutError),
                Transient(f"{self.host} did not answer in time", reason="Timeout"),
            ),
            (
                isinstance(error, httpx.UnsupportedProtocol),
                Misconfigured("spec.url must begin with https:// or http://", reason="InvalidSpec"),
            ),
        ):
            if applies:
                return failure
        return Transient(f"{self.host} broke the connection in the middle of an answer", reason="TruncatedAnswer")

    async def _post_form(self, url: str, form: Mapping[str, str], user: tuple[str, str]) -> tuple[int, bytes]:
        try:
            response = await self._http().post(url, data=dict(form), auth=user)
        except (httpx.HTTPError, ssl.SSLError) as error:
            raise self._failure(error) from None
        return response.status_code, response.content

    async def close(self) -> None:
        """Closes the connections."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None


_NEVER_SENT = frozenset({"ConnectionRefused", "ConnectTimeout"})


def _number(value: object) -> object:
    """A decimal as a JSON number with all its digits."""
    return orjson.Fragment(format(value, "f"))  # type: ignore[call-overload, unused-ignore]


def _retry_after(text: str | None) -> float:
    """Seconds of a Retry-After header: a number, or a date (RFC 9110 section 10.2.3)."""
    if not text:
        return _DEFAULT_WAIT
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return _DEFAULT_WAIT
