"""Authentication: what every request carries. Secrets are read when they are used, so rotation needs no restart."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import msgspec
import orjson

from fairlead.model.connection import APIKey, Auth, Basic, ClientCredentials
from fairlead.transport.failure import AuthRejected, Transient
from fairlead.transport.secrets import Secrets

EARLY = 30.0
"""Seconds before a token's end at which a new one is fetched."""

PostForm = Callable[[str, Mapping[str, str], tuple[str, str]], Awaitable[tuple[int, bytes]]]
"""Sends a form with HTTP Basic credentials: (url, fields, (user, password)) → (status, body)."""


class Credentials(msgspec.Struct, frozen=True):
    """What one request carries."""

    headers: dict[str, str] = {}
    query: dict[str, str] = {}
    basic: tuple[str, str] | None = None


class Authenticator(Protocol):
    """Gives the credentials of each request."""

    async def credentials(self) -> Credentials:
        """What the next request carries.

        Raises:
            AuthRejected: a Secret is missing, or no token was granted.
        """
        ...

    def rejected(self) -> bool:
        """The system said 401: whether another try with new credentials makes sense."""
        ...


class _Fixed:
    """Bearer token, API key or Basic: whatever the Secret says now."""

    def __init__(self, make: Callable[[], Credentials]) -> None:
        self._make = make

    async def credentials(self) -> Credentials:
        return self._make()

    def rejected(self) -> bool:
        return False


class ClientCredentialsGrant:
    """OAuth 2 client credentials (RFC 6749 section 4.4). One token, fetched once however many requests want it."""

    def __init__(self, spec: ClientCredentials, secrets: Secrets, post: PostForm, clock: Callable[[], float]) -> None:
        self._spec = spec
        self._secrets = secrets
        self._post = post
        self._clock = clock
        self._token = ""
        self._until = 0.0
        self._lock = asyncio.Lock()
        self._fresh = False

    async def credentials(self) -> Credentials:
        """See `Authenticator.credentials`."""
        async with self._lock:
            if not self._token or self._clock() >= self._until:
                await self._fetch()
                self._fresh = True
            else:
                self._fresh = False
            return Credentials(headers={"Authorization": f"Bearer {self._token}"})

    def rejected(self) -> bool:
        """A token that was just granted and is refused will be refused again."""
        self._token = ""
        return not self._fresh

    async def _fetch(self) -> None:
        client = (
            self._secrets.get(self._spec.client_id.secret_key_ref),
            self._secrets.get(self._spec.client_secret.secret_key_ref),
        )
        form = {"grant_type": "client_credentials"}
        if self._spec.scopes:
            form["scope"] = " ".join(self._spec.scopes)
        status, body = await self._post(self._spec.token_url, form, client)
        if status >= 500:
            raise Transient(f"the token endpoint answered {status}", reason="TokenEndpointFailed")
        self._token, self._until = self._granted(status, body)

    def _granted(self, status: int, body: bytes) -> tuple[str, float]:
        try:
            answer = orjson.loads(body)
            if status == 200:
                return str(answer["access_token"]), self._clock() + float(answer.get("expires_in", 300)) - EARLY
            error = str(answer.get("error", ""))[:64]
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError, ValueError):
            error = "no token in the answer"
        raise AuthRejected(
            f"the token endpoint grants no token (HTTP {status}, {error}): check clientID, clientSecret and scopes",
            reason="AuthFailed",
        )


def authenticator(auth: Auth | None, secrets: Secrets, post: PostForm, clock: Callable[[], float]) -> Authenticator:
    """The authenticator that a Connection declares."""
    if auth is None:
        return _Fixed(Credentials)
    if auth.oauth2:
        return ClientCredentialsGrant(auth.oauth2, secrets, post, clock)
    if auth.bearer:
        ref = auth.bearer.token.secret_key_ref
        return _Fixed(lambda: Credentials(headers={"Authorization": f"Bearer {secrets.get(ref)}"}))
    if auth.api_key:
        key = auth.api_key
        return _Fixed(lambda: _api_key(key, secrets))
    basic = auth.basic
    return _Fixed(lambda: Credentials(basic=_user(basic, secrets)) if basic else Credentials())


def _api_key(key: APIKey, secrets: Secrets) -> Credentials:
    value = secrets.get(key.value.secret_key_ref)
    return Credentials(headers={key.name: value}) if key.in_ == "Header" else Credentials(query={key.name: value})


def _user(basic: Basic, secrets: Secrets) -> tuple[str, str]:
    return secrets.get(basic.username.secret_key_ref), secrets.get(basic.password.secret_key_ref)
