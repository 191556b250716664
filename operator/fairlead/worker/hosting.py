"""Host: what the policies of one process share: clients, secrets and where their state is."""

from __future__ import annotations

import gc
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from fairlead.connectors.base import Client
from fairlead.connectors.registry import connect
from fairlead.engine.rules import Rules, compile_rules
from fairlead.model.common import seconds
from fairlead.model.connection import Connection
from fairlead.model.connector import Connector
from fairlead.model.syncpolicy import SyncPolicy
from fairlead.state.base import STALE, Commit, StateError, Store
from fairlead.state.directory import Directory, Own
from fairlead.transport.failure import Failure
from fairlead.transport.secrets import Secrets
from fairlead.worker.late import LateSystem, UnusableClient
from fairlead.worker.planning import Plan
from fairlead.worker.run import MET
from fairlead.worker.session import Session, layout_of
from fairlead.worker.stores import Stores, encryption_keys

if TYPE_CHECKING:
    from fairlead.state.postgres_crew import PostgresCrew


class Lead(Protocol):
    """What a worker does that begins to lead others."""

    async def before(self) -> None:
        """Before the state is opened."""
        ...

    async def begin(self, session: Session) -> None:
        """Before anything is done with a new session."""
        ...


def collect_seldom() -> None:
    """Has Python look for cycles less often, in a process that runs policies.

    A page of thousands of records is tens of thousands of objects that come and go without any cycle. Looked for as
    often as usual, cycles cost a tenth of a first copy.
    """
    gc.set_threshold(20_000, 20, 100)


class Host:
    """Opens sessions. One client per Connection, so that its limits hold for every policy of the process.

    Args:
        connections: by `namespace/name`.
        connectors: by name.
        secrets: of a namespace.
        state: the folder of the state files.
        clock: epoch seconds.
    """

    def __init__(
        self,
        connections: Mapping[str, Connection],
        connectors: Mapping[str, Connector],
        secrets: Callable[[str], Secrets],
        state: Path,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._connections = connections
        self._connectors = connectors
        self._secrets = secrets
        self._stores = Stores(connections, secrets, state)
        self.clock = clock
        self._clients: dict[str, Client] = {}
        self._open: dict[str, tuple[Store, Session]] = {}
        self.lead: Lead | None = None
        """What is done when a state is opened to be written, where several workers share the policy."""

    @asynccontextmanager
    async def session(self, policy: SyncPolicy, plan: Plan | None = None) -> AsyncIterator[Session]:
        """The policy's session: opened once and kept, or a scratch copy for a plan.

        Raises:
            StateError: the state cannot be used.
        """
        if plan is not None:
            async with self._scratch(policy, plan) as session:
                yield session
            return
        if policy.id not in self._open:
            self._open[policy.id] = await self._start(policy, self._stores.of(policy), None)
        store, session = self._open[policy.id]
        try:
            await self._keep_private(policy, store)
            async with self.referring(session):
                yield session
        except StateError:  # whatever is wrong with it, the next run opens it anew
            await self.shut(policy)
            raise

    async def asked(self, policy: SyncPolicy) -> bool:
        """Whether a person asks something of the policy, as far as its open state tells."""
        if policy.id not in self._open:
            return False
        try:
            return await self._open[policy.id][0].asked()
        except StateError:
            return False  # the next run says what is wrong with it

    async def shut(self, policy: SyncPolicy) -> None:
        """Closes the policy's state, if it is open."""
        store, _ = self._open.pop(policy.id, (None, None))
        if store is not None:
            await store.close()

    async def assist(self, policy: SyncPolicy) -> Session:
        """A session of a worker that helps another one: over the state as that one keeps it, only to be read.

        Raises:
            StateError: the state cannot be used.
        """
        rules, store = compile_rules(policy.spec), self._stores.of(policy)
        try:
            if await store.join(encryption_keys(policy, self._secrets(policy.metadata.namespace))) == layout_of(
                policy, rules
            ):
                return self._made(policy, rules, store, None)
        except BaseException:
            await store.close()
            raise
        await store.close()
        raise StateError(
            "the state is that of another declaration than this worker's: it waits until they are the same"
        )

    def crew(self, policy: SyncPolicy) -> PostgresCrew:
        """Where the workers of a policy meet."""
        return self._stores.crew(policy)

    async def _start(self, policy: SyncPolicy, store: Store, plan: Plan | None) -> tuple[Store, Session]:
        rules, lead = compile_rules(policy.spec), self.lead if plan is None else None
        try:
            if lead is not None:
                await lead.before()
            stale = await store.open(layout_of(policy, rules))
            if stale:
                met = set((await store.meta(MET) or "").split(",")) - stale
                await store.commit(Commit(meta={MET: ",".join(sorted(filter(None, met))), STALE: None}))
            session = self._made(policy, rules, store, plan)
            if lead is not None:
                await lead.begin(session)
        except BaseException:
            await store.close()
            raise
        return store, session

    def _made(self, policy: SyncPolicy, rules: Rules, store: Store, plan: Plan | None) -> Session:
        systems = {
            spec.name: LateSystem(self._client(policy, spec.connection), spec, rules.systems[spec.name].mapping.paths)
            for spec in policy.spec.systems
        }
        return Session(policy, rules, systems, store, self.clock, plan)

    async def _keep_private(self, policy: SyncPolicy, store: Store) -> None:
        """Hands the keys over as they are now, and lets go of what is older than declared."""
        await store.unlock(encryption_keys(policy, self._secrets(policy.metadata.namespace)))
        await store.expire(self.clock() - seconds(policy.spec.state.retention))

    def limit(self, connections: Mapping[str, Connection]) -> None:
        """Takes the budgets of Connections as they are now; what else changed needs a new start."""
        for key, client in self._clients.items():
            if key in connections:
                client.limit(connections[key].spec.limits)

    def _client(self, policy: SyncPolicy, name: str) -> Client:
        namespace = policy.metadata.namespace
        key = f"{namespace}/{name}"
        if key not in self._clients:
            try:
                self._clients[key] = connect(self._connections[key], self._connectors, self._secrets(namespace))
            except Failure as failure:  # the other systems go on, and the status says why this one does not
                self._clients[key] = UnusableClient(failure)
        return self._clients[key]

    @asynccontextmanager
    async def _scratch(self, policy: SyncPolicy, plan: Plan) -> AsyncIterator[Session]:
        """A session on a copy of the state, which is thrown away."""
        store = self._stores.of(policy, scratch=True)
        _, session = await self._start(policy, store, plan)
        try:
            await self._keep_private(policy, store)
            async with self.referring(session):
                yield session
        finally:
            for system in session.systems.values():
                await system.close()  # what was planned for it
            await store.close()

    @asynccontextmanager
    async def referring(self, session: Session) -> AsyncIterator[None]:
        """Opens what the policy's references are translated by, for one run: it may have been moved before the next."""
        references, policy = session.references, session.policy
        async with AsyncExitStack() as opened:
            for name in sorted({*references.parents.values()}) if references is not None else ():
                assert references is not None
                if name == policy.metadata.name:
                    references.directories[name] = Directory(Own(session.store, layout_of(policy, session.rules)))
                    continue
                reader = self._stores.beside(policy, name)
                opened.push_async_callback(reader.close)
                references.directories[name] = Directory(reader if await reader.peek() else None)
            yield

    async def close(self) -> None:
        """Closes every state and every client."""
        for store, _ in self._open.values():
            await store.close()
        for client in self._clients.values():
            await client.close()
        await self._stores.close()
        self._open.clear()
        self._clients.clear()
