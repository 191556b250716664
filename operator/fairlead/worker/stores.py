"""Stores: what keeps the state of each policy, as its spec says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from fairlead.model.connection import Connection
from fairlead.model.syncpolicy import StateStore, SyncPolicy
from fairlead.state.base import StateKeyWrong, Store
from fairlead.state.seal import keys_of
from fairlead.state.sqlite import SQLiteStore
from fairlead.transport.failure import AuthRejected
from fairlead.transport.secrets import Secrets

if TYPE_CHECKING:
    from fairlead.connectors.postgres_session import Sessions
    from fairlead.state.postgres_crew import PostgresCrew
    from fairlead.state.postgres_schema import AsyncConnection
    from fairlead.state.sql import SQLStore


class Stores:
    """Makes stores.

    Args:
        connections: by `namespace/name`.
        secrets: of a namespace.
        folder: of the files of those that are in files.
    """

    def __init__(self, connections: Mapping[str, Connection], secrets: Callable[[str], Secrets], folder: Path) -> None:
        self._connections = connections
        self._secrets = secrets
        self._folder = folder
        self._sessions: dict[str, Sessions] = {}

    def of(self, policy: SyncPolicy, *, scratch: bool = False) -> Store:
        """The policy's store, not opened yet; a `scratch` one works on a copy that ends with it."""
        return self._store(policy, policy.id, scratch=scratch)

    def beside(self, policy: SyncPolicy, name: str) -> SQLStore:
        """The store of the policy of that name, which is in the same place as this one's; not opened yet."""
        return self._store(policy, f"{policy.metadata.namespace}/{name}")

    def crew(self, policy: SyncPolicy) -> PostgresCrew:
        """Where the workers of a policy meet whose state is in PostgreSQL."""
        from fairlead.state.postgres_crew import PostgresCrew  # noqa: PLC0415 - psycopg only where it is needed
        from fairlead.state.postgres_schema import schema_name  # noqa: PLC0415

        sessions = self._sessions_of(policy)
        shape = blake2b(msgspec.json.encode(policy.spec, order="deterministic"), digest_size=16).hexdigest()
        return PostgresCrew(_connecting(sessions), schema_name(policy.id), sessions.where, shape)

    def _store(self, policy: SyncPolicy, identity: str, *, scratch: bool = False) -> SQLStore:
        if policy.spec.state.store is not StateStore.POSTGRES:
            return SQLiteStore(self._folder / f"{identity.replace('/', '.')}.db", scratch=scratch)
        from fairlead.state.postgres import PostgresStore  # noqa: PLC0415 - psycopg only where it is needed
        from fairlead.state.postgres_schema import schema_name  # noqa: PLC0415

        sessions = self._sessions_of(policy)
        return PostgresStore(_connecting(sessions), schema_name(identity), sessions.where, scratch=scratch)

    def _sessions_of(self, policy: SyncPolicy) -> Sessions:
        from fairlead.connectors.postgres_session import Sessions  # noqa: PLC0415

        namespace = policy.metadata.namespace
        key = f"{namespace}/{policy.spec.state.connection}"
        if key not in self._sessions:
            self._sessions[key] = Sessions(self._connections[key], self._secrets(namespace))
        return self._sessions[key]

    async def close(self) -> None:
        """Ends what was needed to connect; the stores themselves are closed by whoever opened them."""
        for sessions in self._sessions.values():
            await sessions.close()
        self._sessions.clear()


def encryption_keys(policy: SyncPolicy, secrets: Secrets) -> tuple[bytes, ...]:
    """The keys of the policy's state as its Secret holds them now, newest first; none when none is declared.

    Raises:
        StateKeyWrong: the Secret is missing, or does not hold keys.
    """
    declared = policy.spec.state.encryption_key
    if declared is None:
        return ()
    reference = declared.secret_key_ref
    try:
        return keys_of(secrets.get(reference))
    except AuthRejected:
        raise StateKeyWrong(
            f"spec.state.encryptionKey: Secret {reference.name!r} has no key {reference.key!r}, or does not exist: put "
            "it back into the policy's namespace, with the keys that it had"
        ) from None


def _connecting(sessions: Sessions) -> Callable[[], Awaitable[AsyncConnection]]:
    import psycopg  # noqa: PLC0415

    from fairlead.connectors.postgres_failure import failure_of  # noqa: PLC0415

    async def connect() -> AsyncConnection:
        try:
            return await sessions.connect()
        except psycopg.Error as error:
            raise failure_of(error, sessions.where) from None

    return connect
