"""Adoption: what waited for records of other policies goes on as soon as they are there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

from fairlead.engine.case import Write
from fairlead.state.base import Commit, Undelivered
from fairlead.state.referring import WAITING_FOR_PARENT, Orphan
from fairlead.worker.references import origins
from fairlead.worker.session import Session
from fairlead.worker.tally import NOTES, Note, Tally

ReadAgain: TypeAlias = "Callable[[str, Sequence[str]], Awaitable[None]]"
SendAgain: TypeAlias = "Callable[[Sequence[Undelivered]], Awaitable[None]]"


class Adoption:
    """Of one run. A policy without references pays nothing.

    Args:
        session: the policy.
        tally: is told what waits.
        waits: whether a write must wait for something else.
        read_again: reads records of a system by id.
        send_again: sends undelivered writes.
    """

    def __init__(
        self,
        session: Session,
        tally: Tally,
        waits: Callable[[int, str, Write], bool],
        read_again: ReadAgain,
        send_again: SendAgain,
    ) -> None:
        self._references = session.references
        self._systems = list(session.systems)
        self._store = session.store
        self._tally = tally
        self._waits = waits
        self._read_again = read_again
        self._send_again = send_again
        self._told: set[Orphan] = set()

    async def run(self) -> None:
        """Reads again what can be understood by now, and sends what can be written."""
        if self._references is None:
            return
        self._references.watching = bool(await self._store.orphaned())
        for system in self._systems if self._references.watching else ():
            async for orphans in self._store.orphans(system):
                keys = await self._references.adopted(orphans)
                if keys:
                    await self._read_again(system, keys)
        after = (0, "")
        while items := await self._store.undelivered_after(after, error=WAITING_FOR_PARENT):
            after = (items[-1].record, items[-1].system)
            ready, void = await self._references.sendable(items)
            ready = [item for item in ready if not self._waits(item.record, item.system, item.write)]
            if ready:
                await self._send_again(ready)
            await self._ask_origins(void)

    async def _ask_origins(self, void: Sequence[Undelivered]) -> None:
        """Reads again where a reference came from that means nothing any more: its record was merged into another."""
        memories = await self._store.recall([item.record for item in void]) if void else {}
        places = origins(void, memories)
        for system in sorted({system for system, _ in places}):
            await self._read_again(system, [key for name, key in places if name == system])

    def ends(self, system: str, keys: Sequence[str], commit: Commit) -> None:
        """These are read again now; those that still wait say so anew."""
        if self._references is not None:
            commit.adopted += [(system, key) for key in keys]

    def note(self, commit: Commit) -> None:
        """Stores the references that were found to lead nowhere yet, with what was read."""
        if self._references is None:
            return
        settled, orphans = self._references.take()
        commit.adopted += settled
        commit.orphans += orphans
        for orphan in orphans if len(self._tally.notes) < NOTES else ():
            if orphan in self._told:
                continue
            self._told.add(orphan)
            rule = f"references: {self._references.parents[orphan.field]}"
            self._tally.note(Note(WAITING_FOR_PARENT, f"{orphan.system}/{orphan.key}", orphan.field, rule, ""))

    async def count(self) -> None:
        """Tells how many records wait."""
        if self._references is not None:
            self._tally.waiting = sum((await self._store.orphaned()).values())
