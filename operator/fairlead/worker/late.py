"""Systems that are opened when they are first used, so that one that is down does not stop the others."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from fairlead.connectors.base import Attribute, Capabilities, Client, Health, NativeWrite, Outcome, Page, System
from fairlead.model.connection import Limits
from fairlead.model.syncpolicy import SystemSpec
from fairlead.transport.failure import Failure


class LateSystem:
    """See `connectors.base.System`. Until it is open it can do nothing, and every call tries to open it."""

    def __init__(self, client: Client, spec: SystemSpec, paths: Sequence[str]) -> None:
        self._client = client
        self._spec = spec
        self._paths = list(paths)
        self._system: System | None = None

    async def open(self) -> System:
        """The system itself.

        Raises:
            Failure: it cannot be opened now.
        """
        if self._system is None:
            spec = self._spec
            self._system = await self._client.open(spec.object, paths=self._paths, key=spec.key, modified=spec.modified)
        return self._system

    @property
    def opened(self) -> bool:
        """Whether `capabilities` can be believed."""
        return self._system is not None

    @property
    def capabilities(self) -> Capabilities:
        """See `System.capabilities`."""
        return self._system.capabilities if self._system else Capabilities()

    async def scan(self) -> AsyncIterator[Page]:
        """See `System.scan`."""
        async for page in (await self.open()).scan():
            yield page

    async def changes(self, cursor: str) -> AsyncIterator[Page]:
        """See `System.changes`."""
        async for page in (await self.open()).changes(cursor):
            yield page

    async def fetch(self, keys: Sequence[str]) -> Page:
        """See `System.fetch`."""
        return await (await self.open()).fetch(keys)

    async def find(self, path: str, values: Sequence[object]) -> Page:
        """See `System.find`."""
        return await (await self.open()).find(path, values)

    async def write(self, writes: Sequence[NativeWrite]) -> list[Outcome]:
        """See `System.write`."""
        return await (await self.open()).write(writes)

    async def attributes(self) -> Sequence[Attribute] | None:
        """See `System.attributes`."""
        return await (await self.open()).attributes()

    async def close(self) -> None:
        """See `System.close`."""
        if self._system is not None:
            await self._system.close()
            self._system = None


class UnusableClient:
    """See `connectors.base.Client`: a Connection that no client can be made of; every use says why."""

    def __init__(self, failure: Failure) -> None:
        self._failure = failure

    async def open(
        self,
        object_name: str,  # noqa: ARG002 - as the contract names it
        *,
        paths: Sequence[str],  # noqa: ARG002
        key: str | None,  # noqa: ARG002
        modified: str | None,  # noqa: ARG002
    ) -> System:
        """See `Client.open`."""
        raise self._failure

    def limit(self, limits: Limits) -> None:
        """See `Client.limit`. Nothing is sent."""

    async def probe(self) -> Health:
        """See `Client.probe`."""
        raise self._failure

    async def close(self) -> None:
        """There is nothing to release."""
