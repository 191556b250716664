"""Auth: how a request proves who sends it. Secrets are read for each request, so a rotation needs no restart."""

from __future__ import annotations

import asyncio
import base64
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol
from urllib.parse import quote_plus

import httpx
import orjson

from fairlead.model.common import SecretValue
from fairlead.model.connection import APIKey, Auth, Basic, Bearer, ClientCredentials
from fairlead.transport.answer import Answer
from fairlead.transport.failure import AuthRejected, Failure, Lost, Misconfigured, Throttled, Transient
from fairlead.transport.secrets import Secrets

MARGIN = 60.0
"""Seconds before its end at which a token is renewed; a tenth of its life when that is less."""

UNSTATED = 300.0
"""Seconds for which a token is used when the endpoint does not say (RFC 6749 section 5.1 leaves it open)."""

Post = Callable[[str, dict[str, str], dict[str, str]], Awaitable[Answer]]
"""Posts a form: URL, headers and fields."""


class Login(Protocol):
    """Signs the requests of a Connection."""

    async def sign(self, request: httpx.Request, post: Post) -> Sequence[str]:
        """Adds what proves who sends the request.

        Args:
            request: changed in place.
            post: reaches a token endpoint.

        Returns:
            Texts that no message may hold.

        Raises:
            AuthRejected: a Secret is missing or cannot be sent, or the token endpoint rejects the client.
            Transient, Throttled: the token endpoint is not available.
            Misconfigured: what answers is no token endpoint.
        """
        ...

    def renews(self, request: httpx.Request) -> bool:
        """Whether this request, which was answered by 401, is worth another try with a fresh proof."""
        ...


def login(auth: Auth | None, secrets: Secrets, clock: Callable[[], float]) -> Login:
    """What signs the requests of a Connection. `clock` gives monotonic seconds."""
    if auth is None:
        return Anonymous()
    if auth.oauth2:
        return ClientCredentialsLogin(auth.oauth2, secrets, clock)
    if auth.api_key:
        return APIKeyLogin(auth.api_key, secrets)
    if auth.bearer:
        return BearerLogin(auth.bearer, secrets)
    return BasicLogin(auth.basic, secrets) if auth.basic else Anonymous()


class Anonymous:
    """For a system that asks for no login."""

    async def sign(self, request: httpx.Request, post: Post) -> Sequence[str]:  # noqa: ARG002 - nothing is needed
        """See `Login.sign`."""
        return ()

    def renews(self, request: httpx.Request) -> bool:  # noqa: ARG002 - there is nothing to renew
        """See `Login.renews`."""
        return False


class BearerLogin(Anonymous):
    """A fixed token (RFC 6750 section 2.1)."""

    def __init__(self, bearer: Bearer, secrets: Secrets) -> None:
        self._token = bearer.token
        self._secrets = secrets

    async def sign(self, request: httpx.Request, post: Post) -> Sequence[str]:  # noqa: ARG002 - the token is given
        """See `Login.sign`."""
        token = _sendable(self._secrets, self._token)
        request.headers["Authorization"] = f"Bearer {token}"
        return [token]


class BasicLogin(Anonymous):
    """User name and password (RFC 7617), as UTF-8."""

    def __init__(self, basic: Basic, secrets: Secrets) -> None:
        self._basic = basic
        self._secrets = secrets

    async def sign(self, request: httpx.Request, post: Post) -> Sequence[str]:  # noqa: ARG002 - both are given
        """See `Login.sign`."""
        user = self._secrets.get(self._basic.username.secret_key_ref)
        password = self._secrets.get(self._basic.password.secret_key_ref)
        given = _basic(user, password)
        request.headers["Authorization"] = f"Basic {given}"
        return [user, password, given]


class APIKeyLogin(Anonymous):
    """A key in a header or query parameter."""

    def __init__(self, key: APIKey, secrets: Secrets) -> None:
        self._key = key
        self._secrets = secrets

    async def sign(self, request: httpx.Request, post: Post) -> Sequence[str]:  # noqa: ARG002 - the key is given
        """See `Login.sign`."""
        if self._key.in_ == "Query":
            value = self._secrets.get(self._key.value.secret_key_ref)
            request.url = request.url.copy_set_param(self._key.name, value)
        else:
            value = _sendable(self._secrets, self._key.value)
            request.headers[self._key.name] = value
        return [value]


class ClientCredentialsLogin:
    """OAuth 2 client credentials (RFC 6749 section 4.4).

    A token is kept until shortly before it expires. One that is rejected is renewed once; concurrent requests share
    one renewal.
    """

    def __init__(self, spec: ClientCredentials, secrets: Secrets, clock: Callable[[], float]) -> None:
        self._spec = spec
        self._secrets = secrets
        self._clock = clock
        self._host = _host(spec.token_url)
        self._lock = asyncio.Lock()
        self._token = ""
        self._until = -math.inf
        self._in_body = False

    async def sign(self, request: httpx.Request, post: Post) -> Sequence[str]:
        """See `Login.sign`."""
        async with self._lock:
            if self._clock() >= self._until:
                self._keep(await self._ask(post))
            token = self._token
        request.headers["Authorization"] = f"Bearer {token}"
        return [token]

    def renews(self, request: httpx.Request) -> bool:
        """See `Login.renews`. Only the token that this request brought is given up: another may be there by now."""
        if request.headers["Authorization"] == f"Bearer {self._token}":
            self._until = -math.inf
        return True

    async def _ask(self, post: Post) -> Answer:
        """The endpoint's answer. One that is lost does no harm: nothing was done in the system itself."""
        try:
            answer = await self._post(post, in_body=self._in_body)
            if answer.status in (400, 401) and not self._in_body:
                answer = await self._post(post, in_body=True)
                self._in_body = answer.status == 200
        except Lost as lost:
            raise Transient(lost.message, reason=lost.reason) from None
        return answer

    async def _post(self, post: Post, *, in_body: bool) -> Answer:
        """By HTTP Basic, which every endpoint must know (RFC 6749 section 2.3.1); else in the body, as some insist."""
        client = self._secrets.get(self._spec.client_id.secret_key_ref)
        secret = self._secrets.get(self._spec.client_secret.secret_key_ref)
        form = {"grant_type": "client_credentials"}
        if self._spec.scopes:
            form["scope"] = " ".join(self._spec.scopes)
        if in_body:
            return await post(self._spec.token_url, {}, {**form, "client_id": client, "client_secret": secret})
        given = _basic(quote_plus(client), quote_plus(secret))
        return await post(self._spec.token_url, {"Authorization": f"Basic {given}"}, form)

    def _keep(self, answer: Answer) -> None:
        if answer.status != 200:
            raise _refused(answer, self._host)
        try:
            found = orjson.loads(answer.body)
            token, life = found["access_token"], float(found.get("expires_in") or UNSTATED)
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
            token, life = None, math.nan
        if not isinstance(token, str) or not _fits_a_header(token) or not math.isfinite(life):
            raise Misconfigured(
                f"what {self._host} answered is no OAuth 2 token: check auth.oauth2.tokenURL",
                reason="UnexpectedAnswer",
            )
        self._token = token
        self._until = self._clock() + life - min(MARGIN, life / 10)


def _host(url: str) -> str:
    try:
        return httpx.URL(url).host
    except httpx.InvalidURL:
        raise Misconfigured("auth.oauth2.tokenURL is no URL", reason="InvalidSpec") from None


def _refused(answer: Answer, host: str) -> Failure:
    """What it means that a token endpoint did not give a token (RFC 6749 section 5.2)."""
    status = answer.status
    if status == 429:
        return Throttled(
            f"the token endpoint at {host} answered {status}", reason="Throttled", retry_after=answer.retry_after
        )
    if status >= 500:
        return Transient(
            f"the token endpoint at {host} answered {status}", reason="Unavailable", retry_after=answer.retry_after
        )
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
    ref = value.secret_key_ref
    text = secrets.get(ref)
    if _fits_a_header(text):
        return text
    raise AuthRejected(
        f"key {ref.key!r} of Secret {ref.name!r} is empty, or holds what no header can: is it cut, or encoded twice?",
        reason="AuthFailed",
    )


def _fits_a_header(text: str) -> bool:
    return text.isascii() and text.isprintable() and text.strip() == text != ""


def _basic(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()
