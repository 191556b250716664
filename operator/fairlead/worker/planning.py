"""Planning: the same run, on a copy of the state, with systems that only take note of what would be written."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import msgspec

from fairlead.connectors.base import Attribute, Capabilities, NativeWrite, Outcome, Page, System

SAMPLE = 1000
"""Planned writes kept one by one; the rest is only counted."""


class PlannedWrite(msgspec.Struct, frozen=True):
    """One write that Enforce would send. Values are left out: a plan may be shown to anyone."""

    system: str
    operation: str
    key: str
    attributes: tuple[str, ...]


class Plan(msgspec.Struct):
    """What a run would write."""

    writes: list[PlannedWrite] = []
    count: int = 0


class PlanningSystem:
    """See `connectors.base.System`: reads are real, writes are noted and called done."""

    def __init__(self, name: str, system: System, plan: Plan) -> None:
        self._name = name
        self._system = system
        self._plan = plan
        self._new = 0

    @property
    def capabilities(self) -> Capabilities:
        """See `System.capabilities`."""
        return self._system.capabilities

    def scan(self) -> AsyncIterator[Page]:
        """See `System.scan`."""
        return self._system.scan()

    def changes(self, cursor: str) -> AsyncIterator[Page]:
        """See `System.changes`."""
        return self._system.changes(cursor)

    async def fetch(self, keys: Sequence[str]) -> Page:
        """See `System.fetch`."""
        return await self._system.fetch(keys)

    async def find(self, path: str, values: Sequence[object]) -> Page:
        """See `System.find`."""
        return await self._system.find(path, values)

    async def write(self, writes: Sequence[NativeWrite]) -> list[Outcome]:
        """Notes the writes."""
        outcomes = []
        for write in writes:
            self._plan.count += 1
            self._new += write.key is None
            key = write.key or f"(new {self._new})"
            if len(self._plan.writes) < SAMPLE:
                planned = PlannedWrite(self._name, write.operation.value, key, tuple(sorted(write.values)))
                self._plan.writes.append(planned)
            outcomes.append(Outcome(key=key))
        return outcomes

    async def attributes(self) -> Sequence[Attribute] | None:
        """See `System.attributes`."""
        return await self._system.attributes()

    async def close(self) -> None:
        """See `System.close`."""
        await self._system.close()
