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
        """See httpx.Auth."""
        if self._clock() >= self._until:
            async with self._lock:
                if self._clock() >= self._until:
                    self._keep((yield self._token_request()))
        ...
        yield request


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
