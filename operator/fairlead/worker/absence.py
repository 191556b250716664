"""Absence: a system that was away longer than tombstones last is first met again.

What it says then may be older than what is remembered of it, and what was deleted meanwhile is known no more. Its
records stay linked; of their values nothing counts as seen.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from fairlead.state.base import LONGEST_OUTAGE, Commit
from fairlead.worker.session import Session

HEARD = "heard"
"""Fact in the store: when each system was last read, epoch seconds, to the hour."""

_HOUR = 3600.0


class Absence:
    """Knows when each system was last read."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._heard: dict[str, float] = {}

    async def end(self) -> frozenset[str]:
        """Forgets what was seen in systems that were away too long, and says which they are."""
        self._heard = msgspec.json.decode(await self._session.store.meta(HEARD) or "{}", type=dict[str, float])
        limit = self._session.clock() - LONGEST_OUTAGE
        strange = frozenset(name for name in self._session.systems if self._heard.get(name, limit) < limit)
        for name in strange:
            await self._session.store.unsee(name)
            del self._heard[name]
        if strange:
            await self._session.store.commit(self._fact())
        return strange

    async def heard(self, systems: Iterable[str]) -> None:
        """These were read now."""
        now = self._session.clock()
        old = [name for name in systems if not 0 <= now - self._heard.get(name, 0.0) < _HOUR]
        if old:
            self._heard |= dict.fromkeys(old, now)
            await self._session.store.commit(self._fact())

    def _fact(self) -> Commit:
        known = {name: at for name, at in self._heard.items() if name in self._session.systems}
        return Commit(meta={HEARD: msgspec.json.encode(known).decode()})
