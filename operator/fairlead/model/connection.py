"""Connection: how one system is reached."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from fairlead.model.common import KeyRef, Resource, SecretValue, Spec


class ClientCredentials(Spec, frozen=True, kw_only=True):
    """OAuth 2 client credentials grant (RFC 6749 section 4.4)."""

    grant: str
    token_url: str = msgspec.field(name="tokenURL")
    client_id: SecretValue = msgspec.field(name="clientID")
    client_secret: SecretValue
    scopes: tuple[str, ...] = ()


class APIKey(Spec, frozen=True, kw_only=True):
    """A key in a header or query parameter."""

    in_: str = msgspec.field(name="in")
    name: str
    value: SecretValue


class Bearer(Spec, frozen=True, kw_only=True):
    """A fixed bearer token (RFC 6750)."""

    token: SecretValue


class Basic(Spec, frozen=True, kw_only=True):
    """User name and password: HTTP Basic (RFC 7617), or the login of a database."""

    username: SecretValue
    password: SecretValue


class Auth(Spec, frozen=True, kw_only=True):
    """Exactly one method."""

    oauth2: ClientCredentials | None = None
    api_key: APIKey | None = None
    bearer: Bearer | None = None
    basic: Basic | None = None


class CABundle(Spec, frozen=True, kw_only=True):
    """PEM certificates to trust instead of the system's; exactly one reference."""

    config_map_key_ref: KeyRef | None = None
    secret_key_ref: KeyRef | None = None


class TLS(Spec, frozen=True, kw_only=True):
    """How the server proves who it is. Verification cannot be switched off."""

    ca_bundle: CABundle | None = None
    server_name: str | None = None


class Limits(Spec, frozen=True, kw_only=True):
    """What the system allows; one budget for everything that uses the Connection."""

    requests_per_second: float | None = None
    burst: int | None = None
    concurrency: int = 4


class Retry(Spec, frozen=True, kw_only=True):
    """Retries of one request that failed transiently: exponential backoff with full jitter."""

    max_attempts: int = 5
    initial_backoff: str = "500ms"
    max_backoff: str = "1m"


class Probe(Spec, frozen=True, kw_only=True):
    """How often the operator asks whether the system answers."""

    interval: str = "1m"
    timeout: str = "10s"


class ConnectionSpec(Spec, frozen=True, kw_only=True):
    """The spec of a Connection; the CRD describes each field."""

    connector: str
    url: str
    auth: Auth | None = None
    tls: TLS | None = None
    limits: Limits = Limits()
    retry: Retry = Retry()
    probe: Probe = Probe()
    suspend: bool = False


class Connection(Resource, frozen=True, kw_only=True):
    """How one system is reached."""

    spec: ConnectionSpec

    def secret_refs(self) -> tuple[KeyRef, ...]:
        """Every Secret key this Connection needs, in a stable order."""
        refs = [ref.secret_key_ref for ref in _secret_values(self.spec.auth)]
        if self.spec.tls and self.spec.tls.ca_bundle and self.spec.tls.ca_bundle.secret_key_ref:
            refs.append(self.spec.tls.ca_bundle.secret_key_ref)
        return tuple(refs)


def _secret_values(auth: Auth | None) -> list[SecretValue]:
    if auth is None:
        return []
    if auth.oauth2:
        return [auth.oauth2.client_id, auth.oauth2.client_secret]
    if auth.api_key:
        return [auth.api_key.value]
    if auth.bearer:
        return [auth.bearer.token]
    return [auth.basic.username, auth.basic.password] if auth.basic else []


class ConnectionReason(StrEnum):
    """Reasons of a Connection's Ready condition."""

    AVAILABLE = "Available"
    AUTH_FAILED = "AuthFailed"
    UNREACHABLE = "Unreachable"
    TLS_FAILED = "TLSFailed"
    SECRET_NOT_FOUND = "SecretNotFound"  # noqa: S105 - a reason, not a secret
    THROTTLED = "Throttled"
    INVALID_SPEC = "InvalidSpec"
    UNEXPECTED_ANSWER = "UnexpectedAnswer"
    SUSPENDED = "Suspended"
