"""Auth: how a request proves who sends it. Secrets are read for each request, so a rotation needs no restart."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncGenerator, Callable
from urllib.parse import quote_plus

import httpx
import orjson

from fairlead.model.common import SecretValue
from fairlead.model.connection import APIKey, Auth, Basic, Bearer, ClientCredentials
from fairlead.transport.failure import AuthRejected, Failure, Misconfigured, Transient
from fairlead.transport.secrets import Secrets

MARGIN = 60.0
"""Seconds before its end at which a token is renewed; a tenth of its life when that is less."""

UNSTATED = 300.0
"""Seconds for which a token is used when the endpoint does not say (RFC 6749 section 5.1 leaves it open)."""

Flow = AsyncGenerator[httpx.Request, httpx.Response]


def authenticator(auth: Auth | None, secrets: Secrets, clock: Callable[[], float] = time.monotonic) -> httpx.Auth:
    """What signs the requests of a Connection. `clock` gives monotonic seconds."""
    if auth is None:
        return httpx.Auth()
    if auth.oauth2:
        return ClientCredentialsAuth(auth.oauth2, secrets, clock)
    if auth.api_key:
        return APIKeyAuth(auth.api_key, secrets)
    if auth.bearer:
        return BearerAuth(auth.bearer, secrets)
    return BasicAuth(auth.basic, secrets) if auth.basic else httpx.Auth()


class BearerAuth(httpx.Auth):
    """A fixed token (RFC 6750 section 2.1)."""

    def __init__(self, bearer: Bearer, secrets: Secrets) -> None:
        self._token = bearer.token
        self._secrets = secrets

    async def async_auth_flow(self, request: httpx.Request) -> Flow:
        """See httpx.Auth."""
        request.headers["Authorization"] = f"Bearer {_sendable(self._secrets, self._token)}"
        yield request


class BasicAuth(httpx.Auth):
    """User name and password (RFC 7617), as UTF-8."""

    def __init__(self, basic: Basic, secrets: Secrets) -> None:
        self._basic = basic
        self._secrets = secrets

    async def async_auth_flow(self, request: httpx.Request) -> Flow:
        """See httpx.Auth."""
        user = self._secrets.get(self._basic.username.secret_key_ref)
        password = self._secrets.get(self._basic.password.secret_key_ref)
        request.headers["Authorization"] = _basic(user, password)
        yield request


class APIKeyAuth(httpx.Auth):
    """A key in a header or query parameter."""

    def __init__(self, key: APIKey, secrets: Secrets) -> None:
        self._key = key
        self._secrets = secrets

    async def async_auth_flow(self, request: httpx.Request) -> Flow:
        """See httpx.Auth."""
        if self._key.in_ == "Query":
            value = self._secrets.get(self._key.value.secret_key_ref)
            request.url = request.url.copy_set_param(self._key.name, value)
        else:
            request.headers[self._key.name] = _sendable(self._secrets, self._key.value)
        yield request


class ClientCredentialsAuth(httpx.Auth):
    """OAuth 2 client credentials (RFC 6749 section 4.4).

    A token is kept until shortly before it expires. One that is rejected is renewed once; concurrent requests share
    one renewal.
    """

    def __init__(self, spec: ClientCredentials, secrets: Secrets, clock: Callable[[], float]) -> None:
        self._spec = spec
        self._secrets = secrets
        self._clock = clock
        self._lock = asyncio.Lock()
        self._token = ""
        self._until = 0.0
        self._in_body = False

    async def async_auth_flow(self, request: httpx.Request) -> Flow:
        """See httpx.Auth.

        Raises:
            AuthRejected: the token endpoint rejects the client, or a Secret is missing.
            Transient: the token endpoint is not available.
            Misconfigured: what answers is no token endpoint.
        """
        rejected = ""
        for _ in range(2):
            async with self._lock:
                if self._token == rejected or self._clock() >= self._until:
                    answer = yield self._token_request(request)
                    if answer.status_code in (400, 401) and not self._in_body:
                        answer = yield self._token_request(request, in_body=True)
                        self._in_body = answer.status_code == 200
                    self._keep(answer, await answer.aread())
                token = self._token
            request.headers["Authorization"] = f"Bearer {token}"
            response = yield request
            if response.status_code != 401:
                return
            rejected = token

    def _token_request(self, request: httpx.Request, *, in_body: bool = False) -> httpx.Request:
        """By HTTP Basic, which every endpoint must know (RFC 6749 section 2.3.1); else in the body, as some insist."""
        client = self._secrets.get(self._spec.client_id.secret_key_ref)
        secret = self._secrets.get(self._spec.client_secret.secret_key_ref)
        form = {"grant_type": "client_credentials"}
        if self._spec.scopes:
            form["scope"] = " ".join(self._spec.scopes)
        headers = {"Accept": "application/json"}
        if in_body or self._in_body:
            form |= {"client_id": client, "client_secret": secret}
        else:
            headers["Authorization"] = _basic(quote_plus(client), quote_plus(secret))
        url = httpx.URL(self._spec.token_url)
        kept = {"timeout"} if url.host != request.url.host else {"timeout", "sni_hostname"}
        extensions = {name: value for name, value in request.extensions.items() if name in kept}
        return httpx.Request("POST", url, headers=headers, data=form, extensions=extensions)

    def _keep(self, answer: httpx.Response, body: bytes) -> None:
        if answer.status_code != 200:
            raise _refused(answer.status_code, answer.url.host)
        try:
            found = orjson.loads(body)
            token, life = str(found["access_token"]), float(found.get("expires_in") or UNSTATED)
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
            raise Misconfigured(
                f"what {answer.url.host} answered is no OAuth 2 token: check auth.oauth2.tokenURL",
                reason="UnexpectedAnswer",
            ) from None
        self._token = token
        self._until = self._clock() + life - min(MARGIN, life / 10)


def _refused(status: int, host: str) -> Failure:
    """What it means that a token endpoint did not give a token (RFC 6749 section 5.2)."""
    if status == 429 or status >= 500:
        return Transient(f"the token endpoint at {host} answered {status}", reason="Unavailable")
    if status in (400, 401, 403):
        return AuthRejected(
            f"the token endpoint at {host} rejects the client ({status}): check the Secrets of clientID and "
            "clientSecret, and scopes",
            reason="AuthFailed",
        )
    return Misconfigured(
        f"the token endpoint at {host} answered {status}: check auth.oauth2.tokenURL", reason="UnexpectedAnswer"
    )


def _sendable(secrets: Secrets, value: SecretValue) -> str:
    """A secret that may stand in a header: an exception about one that may not would quote it."""
    text = secrets.get(value.secret_key_ref)
    if text.isascii() and text.isprintable():
        return text
    ref = value.secret_key_ref
    raise AuthRejected(
        f"key {ref.key!r} of Secret {ref.name!r} holds characters that no header can: is it cut, or encoded twice?",
        reason="AuthFailed",
    )


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
