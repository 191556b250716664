"""Sessions with one PostgreSQL server: how to connect, and the connections that one Connection may have."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import ssl
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus

from fairlead.connectors.postgres_catalog import AsyncConnection
from fairlead.connectors.postgres_failure import failure_of
from fairlead.connectors.postgres_text import SETTINGS
from fairlead.model.connection import TLS, Connection, Limits
from fairlead.transport.backoff import Backoff
from fairlead.transport.failure import Misconfigured, Throttled, Transient
from fairlead.transport.limits import Limiter
from fairlead.transport.secrets import Secrets

T = TypeVar("T")

Row = tuple[bytes | None, ...]
"""The fields of a row, as PostgreSQL printed them."""

CONNECT_TIMEOUT = 10
"""Seconds until a connection must stand."""

STATEMENT_TIMEOUT = 120
"""Seconds that the server gives one statement."""

LOCK_TIMEOUT = 20
"""Seconds that a statement waits for a lock."""

IDLE = 60.0
"""Seconds after which an unused connection is not trusted any more: firewalls forget them."""

_NO_FILE = f"{os.devnull}/none"
"""A path at which no file can ever be. libpq looks for passwords there; of a device it says so on stderr."""

_GRACE = 15.0
_MODES = frozenset({"disable", "allow", "prefer", "require", "verify-ca", "verify-full"})
_ROOTS = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Alpine
    "/etc/pki/tls/certs/ca-bundle.crt",  # Red Hat
    "/etc/ssl/cert.pem",
)


class Sessions:
    """The connections of one Connection: at most `limits.concurrency`, opened when needed and kept.

    TLS: a server that is not on this machine must prove its name (`sslmode=verify-full`), against `tls.caBundle` or
    else the system's roots. `?sslmode=disable` in the URL says openly that the network is trusted; modes that encrypt
    without verifying are refused, because they look safe and are not. Session settings need a connection of one's own
    to the server: with PgBouncer use its session pooling.
    """

    def __init__(self, connection: Connection, secrets: Secrets) -> None:
        self._spec = connection.spec
        self._secrets = secrets
        self._parts = urlsplit(connection.spec.url)
        self._backoff = Backoff(self._spec.retry)
        self._limiter = Limiter(self._spec.limits, self._backoff.longest)
        self._idle: list[tuple[AsyncConnection, float]] = []
        self._roots: Path | None = None
        self._connection = connection

    def limit(self, limits: Limits) -> None:
        """Another budget from now on, but for `concurrency`."""
        self._limiter.limit(limits)

    @property
    def where(self) -> str:
        """The server and database, for messages."""
        return f"{self._parts.hostname}:{self._parts.port or 5432}{self._parts.path}"

    @asynccontextmanager
    async def one(self) -> AsyncIterator[AsyncConnection]:
        """A connection of one's own, for one request; raises what goes wrong as it is."""
        async with self._limiter.slot(), asyncio.timeout(STATEMENT_TIMEOUT + _GRACE):
            connection = await self._take()
            try:
                yield connection
            finally:
                await self._give_back(connection)

    async def run(self, call: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """What a call returns; what fails for a passing reason is tried again, as the Connection says.

        Raises:
            Failure: what is wrong, after the last attempt.
        """
        for attempt in range(1, self._backoff.attempts + 1):
            try:
                return await self.once(call)
            except (Transient, Throttled):
                if attempt == self._backoff.attempts:
                    raise
            await asyncio.sleep(self._backoff.wait(attempt))
        raise AssertionError

    async def once(self, call: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """What a call returns; errors are raised as failures."""
        try:
            async with self.one() as connection:
                return await call(connection)
        except psycopg.Error as error:
            raise failure_of(error, self.where) from None
        except TimeoutError:
            raise Transient(f"{self.where} does not answer in time", reason="Timeout") from None

    async def _take(self) -> AsyncConnection:
        while self._idle:
            connection, since = self._idle.pop()
            if not connection.closed and time.monotonic() - since < IDLE:
                return connection
            await connection.close()
        return await self.connect()

    async def _give_back(self, connection: AsyncConnection) -> None:
        """Keeps a connection that is at rest; one that was interrupted is in an unknown state."""
        if connection.pgconn.transaction_status == TransactionStatus.IDLE and not connection.closed:
            self._idle.append((connection, time.monotonic()))
        else:
            await connection.close()

    async def connect(self) -> AsyncConnection:
        """A new connection with the fixed settings."""
        async with asyncio.timeout(CONNECT_TIMEOUT + 1):
            parameters = await self._parameters()
            return await psycopg.AsyncConnection.connect(**parameters, autocommit=True, prepare_threshold=None)

    async def _parameters(self) -> dict[str, Any]:
        mode = _mode(self._connection)
        basic = self._spec.auth.basic if self._spec.auth else None
        settings = {
            **SETTINGS,
            "statement_timeout": f"{STATEMENT_TIMEOUT}s",
            "lock_timeout": f"{LOCK_TIMEOUT}s",
            "idle_in_transaction_session_timeout": f"{STATEMENT_TIMEOUT}s",
        }
        parameters: dict[str, Any] = {
            **await self._address(),
            "port": self._parts.port or 5432,
            "dbname": unquote(self._parts.path.lstrip("/")),
            "client_encoding": "UTF8",
            "connect_timeout": CONNECT_TIMEOUT,
            "keepalives_idle": 30,
            "application_name": "fairlead",
            "passfile": _NO_FILE,  # credentials come from the Secret alone
            "options": " ".join(f"-c {name}={value}" for name, value in settings.items()),
            "sslmode": mode,
            "gssencmode": "disable",
        }
        if mode.startswith("verify"):
            parameters["sslrootcert"] = self._trusted()
        if basic:
            parameters["user"] = self._secrets.get(basic.username.secret_key_ref)
            parameters["password"] = self._secrets.get(basic.password.secret_key_ref)
        return parameters

    async def _address(self) -> dict[str, str]:
        """The host; where a certificate has another name, that name at the host's address."""
        host = self._parts.hostname or ""
        name = self._spec.tls.server_name if self._spec.tls else None
        if name is None:
            return {"host": host}
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except OSError:
            raise Misconfigured(
                f"{self.where} has a host name that does not resolve: check spec.url", reason="HostNotFound"
            ) from None
        return {"host": name, "hostaddr": str(found[0][4][0])}

    def _trusted(self) -> str:
        """The file of the roots to verify against, written anew when the bundle changed."""
        bundle = _bundle(self._spec.tls, self._secrets)
        if bundle is None:
            return next((path for path in _system_roots() if Path(path).is_file()), "system")
        if self._roots is None or self._roots.read_text() != bundle:
            self._forget_roots()
            descriptor, name = tempfile.mkstemp(prefix="fairlead-", suffix=".pem")
            os.close(descriptor)
            self._roots = Path(name)
            self._roots.write_text(bundle)
        return str(self._roots)

    def _forget_roots(self) -> None:
        if self._roots is not None:
            self._roots.unlink(missing_ok=True)
            self._roots = None

    async def close(self) -> None:
        """Closes what is idle."""
        while self._idle:
            await self._idle.pop()[0].close()
        self._forget_roots()


async def rows_of(connection: AsyncConnection, query: sql.SQL | sql.Composed, values: Sequence[Any]) -> list[Row]:
    """The rows that a query gives, not decoded."""
    result = (await connection.execute(query, values)).pgresult
    assert result is not None
    get, columns = result.get_value, range(result.nfields)
    return [tuple([get(n, column) for column in columns]) for n in range(result.ntuples)]


def _mode(connection: Connection) -> str:
    """How TLS is used.

    Raises:
        Misconfigured: the URL or the method of authentication is not for a database.
    """
    spec, parts = connection.spec, urlsplit(connection.spec.url)
    if parts.username is not None or parts.password is not None:
        raise Misconfigured(
            "spec.url holds credentials: put them into a Secret and name it in auth.basic", reason="InvalidSpec"
        )
    if spec.auth and not spec.auth.basic:
        raise Misconfigured("a database takes auth.basic (user name and password)", reason="InvalidSpec")
    if not parts.hostname or not parts.path.strip("/"):
        raise Misconfigured("write spec.url as postgresql://host:5432/database", reason="InvalidSpec")
    options = dict(parse_qsl(parts.query))
    unknown = sorted(options.keys() - {"sslmode"})
    if unknown:
        raise Misconfigured(f"spec.url takes no option {', '.join(unknown)}: only sslmode", reason="InvalidSpec")
    return _checked_mode(options.get("sslmode"), parts.hostname, spec.tls)


def _checked_mode(mode: str | None, host: str, tls: TLS | None) -> str:
    local, bundle = is_local(host), tls is not None and tls.ca_bundle is not None
    if mode is None:
        return "prefer" if local and not bundle else "verify-full"
    if mode not in _MODES:
        raise Misconfigured(f"sslmode={mode} is unknown: write verify-full, verify-ca or disable", reason="InvalidSpec")
    if bundle and not mode.startswith("verify"):
        raise Misconfigured(
            f"sslmode={mode} would not use tls.caBundle: remove one of them from the Connection", reason="InvalidSpec"
        )
    if mode in ("allow", "prefer", "require") and not local:
        raise Misconfigured(
            f"sslmode={mode} does not verify who the server is: write verify-full, or, on a network that you trust, "
            "disable",
            reason="InvalidSpec",
        )
    return mode


def is_local(host: str) -> bool:
    """Whether a host is this machine itself."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _bundle(tls: TLS | None, secrets: Secrets) -> str | None:
    bundle = tls.ca_bundle if tls else None
    ref = (bundle.secret_key_ref or bundle.config_map_key_ref) if bundle else None
    return secrets.get(ref) if ref else None


def _system_roots() -> list[str]:
    paths = ssl.get_default_verify_paths()
    return [path for path in (os.environ.get("SSL_CERT_FILE"), paths.cafile, *_ROOTS) if path]
