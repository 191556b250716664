"""Revival: dead letters that are tried again by themselves, because something changed besides their record.

Another policy may permit what the old one did not, so all of them are tried once. And a system may answer otherwise by
now: a dead letter is tried now and then, and when it arrives, or fails for another reason, all that had failed as it
did are tried.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from hashlib import blake2b

import msgspec

from fairlead.engine.case import Write
from fairlead.state.base import Commit, Undelivered
from fairlead.worker.session import Session
from fairlead.worker.settlement import is_uncertain

PROBE_INTERVAL = 600.0
"""Seconds between two tries of a dead letter that nothing else gives reason for."""

_POLICY = "policy"
"""Fact in the store: a fingerprint of the spec by which every dead letter is tried."""

_CANDIDATES = 500

Send = Callable[[Sequence[Undelivered]], Awaitable[None]]


class Revival:
    """Tries dead letters of one run again. `send` sends writes, `waits` says of which that must wait."""

    def __init__(self, session: Session, send: Send, waits: Callable[[int, str, Write], bool]) -> None:
        self._session = session
        self._store = session.store
        self._send = send
        self._waits = waits

    async def by_policy(self) -> None:
        """Makes every dead letter due, once, where the policy is another one than before."""
        if self._session.known:
            return
        spec = msgspec.json.encode(self._session.policy.spec, order="deterministic")
        mark = blake2b(spec, digest_size=16).hexdigest()
        before = await self._store.meta(_POLICY)
        if before not in (None, mark):
            await self._revive(lambda _: True)
            async for page in self._store.walk_letters():
                await self._store.commit(Commit(waiting=[(letter.system, letter.key) for letter in page]))
        if before != mark:
            await self._store.commit(Commit(meta={_POLICY: mark}))
        self._session.known = True

    async def by_answer(self, down: Collection[str]) -> None:
        """Tries one dead letter, when it is time to. Where its system answers otherwise by now, others are due.

        Args:
            down: systems to which nothing is sent.
        """
        now = self._session.clock()
        if 0.0 <= now - self._session.probed < PROBE_INTERVAL:
            return
        self._session.probed = now
        item = await self._candidate(now, down)
        if item is None:
            return
        await self._send([item])
        after = (await self._store.recall([item.record])).get(item.record)
        left = after.pending.get(item.system) if after else None
        if left is not None and (not left.dead or _answer(left) == _answer(item)):
            return  # it could not be reached, or says the same
        await self._revive(lambda other: _answer(other) == _answer(item))

    async def _candidate(self, now: float, down: Collection[str]) -> Undelivered | None:
        """The dead letter that was tried least; those that wait for a person are passed over, however many they are."""
        after = None
        while found := await self._store.undelivered(due=now, dead=True, without=down, after=after, limit=_CANDIDATES):
            item = next((each for each in found if each.dead and self._sendable(each)), None)
            if item is not None:
                return item
            after = found[-1]
        return None

    def _sendable(self, item: Undelivered) -> bool:
        return not is_uncertain(item) and not self._waits(item.record, item.system, item.write)

    async def _revive(self, wanted: Callable[[Undelivered], bool]) -> None:
        async for page in self._store.walk_failed():
            due = [each for each in page if wanted(each) and not is_uncertain(each)]
            alive = [msgspec.structs.replace(each, dead=False, not_before=0.0) for each in due]
            await self._store.commit(Commit(pending=alive))


def _answer(item: Undelivered) -> tuple[str, str, str]:
    return item.system, item.error, item.message
