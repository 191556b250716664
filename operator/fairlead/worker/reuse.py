"""Reuse: native ids that a system gives again once the record that had them is gone (SQLite does so, and is not alone).

A create that got such an id is met under the id of another record. Where the create is known to be done, `Sending` ends
that record there. Where its answer was lost, or the worker died, what is read under the id would pass for an edit of
the other record, and overwrite it everywhere. So what is read there, and is found by what a create that may be done
holds, is looked at first.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeAlias

from fairlead.engine.case import Operation
from fairlead.engine.image import is_image_of
from fairlead.state.base import Commit, Recollection
from fairlead.worker.matching import Matching, Moved
from fairlead.worker.session import Session
from fairlead.worker.settlement import may_be_done

Recall: TypeAlias = "Callable[[Iterable[int]], Awaitable[dict[int, Recollection]]]"

AMBIGUOUS = (
    "has the id of one record and the match values of another one, whose create here may be done: split it off, and "
    "link it with the one that it is"
)


class Reuse:
    """Ids given again, among what one run reads. `matching` is the run's."""

    def __init__(self, session: Session, matching: Matching) -> None:
        self._session = session
        self._store = session.store
        self._matching = matching
        self.given: list[str] = []
        """Keys of the system that is read which another record has now: who had them is to be ended there."""

    async def among(self, system: str, moved: Sequence[Moved], recall: Recall, commit: Commit) -> set[int]:
        """Records whose id was, or may be, given to another one; of these nothing is to be decided."""
        found = await self._store.candidates(sorted({key for each in moved for key in each.keys}))
        others = {record for records in found.values() for record in records if record > 0}
        memories = await recall(sorted(others.difference(each.memory.record for each in moved))) if others else {}
        barred = await self._matching.barred(system, [each.observation.record.key for each in moved], memories)
        taken: set[int] = set()
        for each in moved:
            candidates = {r for key in each.keys for r in found.get(key, ()) if r in memories}
            for record in candidates - barred.get(each.observation.record.key, frozenset()):
                if self._met(system, each, memories[record], commit):
                    taken.add(each.memory.record)
                    break
        return taken

    def _met(self, system: str, moved: Moved, other: Recollection, commit: Commit) -> bool:
        """Whether what is read may be the other record, as it was created there."""
        item, there = other.pending.get(system), moved.observation
        if item is None or item.write.operation is not Operation.CREATE or not may_be_done(item):
            return False
        key = there.record.key
        if is_image_of(self._session.kinds, item.write.values, there.record.values):
            self.given.append(key)
            commit.waiting.append((system, key))
        else:
            numbers = [moved.memory.record, other.record]
            self._matching.refuse(system, key, "Ambiguous", AMBIGUOUS, commit, numbers, there.row)
        return True

    def take(self) -> list[str]:
        """The keys that were given again, once."""
        keys, self.given = self.given, []
        return keys
