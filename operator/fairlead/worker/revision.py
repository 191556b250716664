"""Revision: what becomes of undelivered writes where the policy is another one than when they were decided.

They say and do no more than the policy permits now: fields that it does not have any more, or may not write in a
system, are left out, and so are creates and deletes in a system that became ReadOnly. Nothing is lost by it: what was
to be written stands where it came from. Nor are identities written whose field refers to another policy now, or none.
What the guard holds back is taken back where the rule that decided it does not hold any more (`withdrawal`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import msgspec

from fairlead.engine.case import Operation, Write
from fairlead.engine.rules import FieldRule, Rules
from fairlead.engine.writes import only, permitted
from fairlead.state.base import Commit, Intent, Store, Undelivered
from fairlead.worker.withdrawal import withdraw

MEANINGS = "references"
"""Fact in the store: field → the policy that its undelivered values are records of, as JSON."""

PERMITTED = "permitted"
"""Fact in the store: system → what may be written there, as JSON: undelivered writes hold nothing else."""

DECIDING = "deciding"
"""Fact in the store: the rules that decide about deletes and first meetings, as JSON: held writes rest on no other."""

_Revise = Callable[[str, Write], Write | None]
"""(system, write) → what is left of it; None when nothing is."""


async def revise(store: Store, rules: Rules, references: Mapping[str, str]) -> None:
    """Takes what the policy does not permit, or does not mean any more, out of all undelivered writes.

    An identity means nothing outside its policy, and must not be written as if it were a value. Its field is met anew
    in every system anyway (`session.layout_of`), so that what was dropped is decided again.
    """
    now = {
        MEANINGS: _encoded(references),
        PERMITTED: _encoded(_permissions(rules)),
        DECIDING: _encoded(_deciding(rules)),
    }
    told = {name: await store.meta(name) for name in now}
    told[MEANINGS] = told[MEANINGS] or "{}"
    if told == now:
        return
    before = msgspec.json.decode(told[MEANINGS] or "{}", type=dict[str, str])
    changed = {name for name in before.keys() | references.keys() if before.get(name) != references.get(name)}

    def left(system: str, write: Write) -> Write | None:
        if system not in rules.systems:
            return write
        if not changed.isdisjoint(write.values):
            write = only(write, write.values.keys() - changed)
            if write.operation is Operation.UPDATE and not write.values:
                return None
        return permitted(write, rules.systems[system])

    journal = await store.journal()
    for number, intents in journal.items():
        await store.commit(Commit(settled=[number], journal={number + max(journal): _intents(intents, left)}))
    after = (0, "")
    while items := await store.undelivered_after(after):
        after = (items[-1].record, items[-1].system)
        await store.commit(_revised(items, left))
    async for conflicts in store.walk_conflicts():
        await store.commit(Commit(thawed=[(c.record, c.field) for c in conflicts if c.field in changed]))
    if told[DECIDING] != now[DECIDING]:
        await withdraw(store, rules, _decided_otherwise(told[DECIDING], now[DECIDING]))
    await store.commit(Commit(meta={**now}))


def _permissions(rules: Rules) -> dict[str, tuple[list[str], bool, bool]]:
    return {name: (sorted(rule.writable), rule.creates, rule.deletes) for name, rule in rules.systems.items()}


def _deciding(rules: Rules) -> dict[str, object]:
    return {
        "firstSync": rules.first_sync,
        "propagate": rules.deletes.propagate,
        "action": rules.deletes.action,
        "systemOfRecord": rules.system_of_record,
        "onLeave": {name: rule.on_leave for name, rule in rules.systems.items()},
        "fields": {name: _chosen_by(rule) for name, rule in rules.fields.items()},
    }


def _chosen_by(rule: FieldRule) -> list[object]:
    """What decides whose value of a field stands at a first meeting."""
    condition = rule.condition
    when = condition and [condition.when.source, condition.then.system_of_record, condition.then.priority]
    return [rule.edits, rule.system_of_record, rule.priority, when]


def _decided_otherwise(before: str | None, after: str) -> frozenset[str]:
    """Fields of which another system's value may stand at a first meeting now."""
    old, new = (msgspec.json.decode(fact or "{}").get("fields", {}) for fact in (before, after))
    return frozenset(name for name in old.keys() & new.keys() if old[name] != new[name])


def _encoded(fact: Mapping[str, object]) -> str:
    return msgspec.json.encode(fact, order="sorted").decode()


def _intents(intents: Iterable[Intent], left: _Revise) -> list[Intent]:
    found = [(intent, left(intent.system, intent.write)) for intent in intents]
    return [msgspec.structs.replace(intent, write=write) for intent, write in found if write is not None]


def _revised(items: Iterable[Undelivered], left: _Revise) -> Commit:
    commit = Commit()
    for item in items:
        write = left(item.system, item.write)
        if write is None:
            commit.delivered.append((item.record, item.system))
        elif write is not item.write:
            commit.pending.append(_due(item, write))
    return commit


def _due(item: Undelivered, write: Write) -> Undelivered:
    """Tried anew. Of a create it stays known whether it may have been done."""
    if write.operation is Operation.CREATE:
        return msgspec.structs.replace(item, write=write, not_before=0.0)
    return msgspec.structs.replace(item, write=write, not_before=0.0, error="", message="")
