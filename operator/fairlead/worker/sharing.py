"""Sharing: the leader's batches, delivered by every worker of the policy side by side.

Only what takes long is shared out: how long is learnt from the writes before. The leader delivers shares like everybody
else, takes over those of workers that are gone, and goes on when all are accounted for, so that whatever holds for a
batch that one worker sends holds for a shared one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from fairlead.engine.case import Operation
from fairlead.state.base import Intent, StateLocked
from fairlead.state.postgres_crew import PostgresCrew
from fairlead.worker.parcel import Parcel, Share

if TYPE_CHECKING:
    from fairlead.state.postgres import PostgresStore
    from fairlead.worker.delivery import Delivery

WORTH = 0.5
"""Seconds that a batch must take before it is shared out."""

SHORTEST = 0.2
"""Seconds that a share should take at least: each costs a few transactions."""

FIRST = 25
"""Writes of a kind from which is learnt how long they take."""

EACH = 2
"""Shares per worker, so that a slow one holds up little."""

_PATIENCE = 0.5
_AWAY = "this worker was away for too long, and another one may lead: it sends nothing more"


class Sharing:
    """Shares out batches.

    Args:
        crew: the workers of the policy; this one leads.
        store: the policy's, open.
        clock: seconds, monotonic.
    """

    def __init__(self, crew: PostgresCrew, store: PostgresStore, clock: Callable[[], float] = time.monotonic) -> None:
        self._crew = crew
        self._store = store
        self._clock = clock
        self._paces: dict[tuple[str, Operation], float] = {}
        self.members = 1
        """Workers that there were when last looked."""
        self.shared = 0
        """Shares that other workers delivered."""
        self.retaken = 0
        """Shares of workers that were gone before they had delivered them."""

    async def send(self, delivery: Delivery, head: Share, batch: Sequence[Intent]) -> None:
        """Sends one batch of a system, alone or together with the others.

        Raises:
            StateError: the others cannot be reached; the batch is still in the journal.
        """
        if len(batch) > FIRST and (head.system, head.operation) not in self._paces:
            await self._alone(delivery, head, batch[:FIRST])
            batch = batch[FIRST:]
        count = await self._count(head, len(batch))
        if count < 2:
            await self._alone(delivery, head, batch)
        else:
            await self._together(delivery, head, batch, count)

    async def _together(self, delivery: Delivery, head: Share, batch: Sequence[Intent], count: int) -> None:
        size = math.ceil(len(batch) / count)
        parts = [batch[start : start + size] for start in range(0, len(batch), size)]
        shares = [_of(head, part) for part in parts]
        ids = await self._crew.offer(self._store.epoch, [share.dump() for share in shares])
        open_ = dict(zip(ids, parts, strict=True))
        while open_:
            await self._one(delivery, head, open_)
        self._check()
        await self._crew.forget(ids)

    async def _count(self, head: Share, writes: int) -> int:
        """In how many shares that many writes are sent."""
        expected = self._paces.get((head.system, head.operation), 0.0) * writes
        if expected < WORTH:
            return 1
        self.members = (await self._crew.look()).members
        return 1 if self.members < 2 else min(self.members * EACH, math.ceil(expected / SHORTEST), writes)

    async def _one(self, delivery: Delivery, head: Share, open_: dict[int, Sequence[Intent]]) -> None:
        """Delivers a share that nobody has, or else waits for those of others."""
        self._check()
        claim = await self._crew.claim(list(open_))
        if claim is not None:
            again = claim.attempts > 1
            self.retaken += again
            await self._alone(delivery.again() if again else delivery, head, open_.pop(claim.id))
            if not await self._crew.settle(claim.id, b""):
                raise StateLocked(_AWAY)  # another worker delivers it again, and says what came of it
            return
        for number, result in await self._crew.results(list(open_)):
            parcel = Parcel.load(self._store.unsealed(result, place(number)))
            delivery.take_in(head.system, parcel)
            del open_[number]
            self.shared += 1
        if open_:
            await self._crew.heard(_PATIENCE)

    def _check(self) -> None:
        """What comes of shares is stored by a leader that was one all the time.

        Raises:
            StateLocked: this worker is none any more; the batch is still in the journal.
        """
        if self._crew.fence is None or not self._crew.fence.open:
            raise StateLocked(_AWAY)

    async def _alone(self, delivery: Delivery, head: Share, batch: Sequence[Intent]) -> None:
        began = self._clock()
        await delivery.deliver(head.system, head.operation, batch)
        self._paces[head.system, head.operation] = (self._clock() - began) / len(batch)


def _of(head: Share, part: Sequence[Intent]) -> Share:
    records = [intent.record for intent in part]
    return Share(head.journal, head.system, head.operation, records, head.scanned, head.recovering)


def place(number: int) -> bytes:
    """What the sealed result of a share is bound to."""
    return b"share\x00%d" % number
