"""Meaning: what is done with undelivered references when the policy that they refer to becomes another one, or none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet

import msgspec

from fairlead.engine.case import Operation, Write
from fairlead.engine.writes import only
from fairlead.state.base import Commit, Intent, Store, Undelivered

MEANINGS = "references"
"""Fact in the store: field → the policy that its undelivered values are records of, as JSON."""


async def renew(store: Store, references: Mapping[str, str]) -> None:
    """Takes note of what fields refer to now, and drops values that were meant otherwise before.

    An identity means nothing outside its policy, and must not be written as if it were a value. The field is met anew
    in every system anyway (`session.layout_of`), so that what was dropped is decided again.
    """
    now = msgspec.json.encode(references, order="sorted").decode()
    told = await store.meta(MEANINGS) or "{}"
    if told == now:
        return
    before = msgspec.json.decode(told, type=dict[str, str])
    changed = {name for name in before.keys() | references.keys() if before.get(name) != references.get(name)}
    journal = await store.journal()
    for number, intents in journal.items():
        await store.commit(Commit(settled=[number], journal={number + max(journal): _intents(intents, changed)}))
    after = (0, "")
    while items := await store.undelivered_after(after):
        after = (items[-1].record, items[-1].system)
        await store.commit(_without(items, changed))
    async for conflicts in store.walk_conflicts():
        await store.commit(Commit(thawed=[(c.record, c.field) for c in conflicts if c.field in changed]))
    await store.commit(Commit(meta={MEANINGS: now}))


def _intents(intents: Iterable[Intent], changed: AbstractSet[str]) -> list[Intent]:
    left = [msgspec.structs.replace(intent, write=_less(intent.write, changed)) for intent in intents]
    return [intent for intent in left if not _empty(intent.write)]


def _without(items: Iterable[Undelivered], changed: AbstractSet[str]) -> Commit:
    commit = Commit()
    for item in items:
        if changed.isdisjoint(item.write.values):
            continue
        write = _less(item.write, changed)
        if _empty(write):
            commit.delivered.append((item.record, item.system))
        else:
            commit.pending.append(msgspec.structs.replace(item, write=write, not_before=0.0, error="", message=""))
    return commit


def _less(write: Write, changed: AbstractSet[str]) -> Write:
    return write if changed.isdisjoint(write.values) else only(write, write.values.keys() - changed)


def _empty(write: Write) -> bool:
    return write.operation is Operation.UPDATE and not write.values
