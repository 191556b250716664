"""Withdrawal: what the guard holds back is taken back where the rule that decided it does not hold any more.

A held delete lets its record live on, a held overwrite is met anew. Nothing of it was done, so nothing is undone; what
takes its place is decided by the rules of now, in the same run, of what is read then.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec

from fairlead.engine.case import Operation, Write
from fairlead.engine.deletes import ON_LEAVE
from fairlead.engine.fields import FIRST_SYNC
from fairlead.engine.fingerprint import UNSEEN, replaced
from fairlead.engine.rules import Rules
from fairlead.engine.writes import only
from fairlead.model.syncpolicy import DeleteAction, OnLeave, Propagate
from fairlead.state.base import Commit, Recollection, Store, Undelivered


async def withdraw(store: Store, rules: Rules, otherwise: Collection[str]) -> None:
    """Takes back what is held and would not be decided any more.

    Each commit is whole: a write goes in the same one in which is remembered what is to be read again instead of it. So
    a worker that dies here goes on with what is held then.

    Args:
        store: the policy's memory.
        rules: those of now.
        otherwise: fields of which another system's value may stand at a first meeting than by the rules of before.
    """
    async for items in store.held():
        withdrawal = Withdrawal(rules, otherwise, await store.recall(sorted({item.record for item in items})))
        for item in items:
            withdrawal.weigh(item)
        await store.commit(withdrawal.commit)


class Withdrawal:
    """Of some held writes, and of what is remembered of their records, which it changes."""

    def __init__(self, rules: Rules, otherwise: Collection[str], memories: Mapping[int, Recollection]) -> None:
        self._rules = rules
        self._otherwise = otherwise
        self._memories = memories
        self._slots = {name: rule.field.slot for name, rule in rules.fields.items()}
        self.commit = Commit()

    def weigh(self, item: Undelivered) -> None:
        """Takes back what does not hold of one write."""
        memory = self._memories.get(item.record)
        if memory is None or item.system not in memory.sides or item.system not in self._rules.systems:
            return
        if item.write.ends:
            self._weigh_end(item, memory)
        elif item.write.operation is Operation.UPDATE:
            self._weigh_overwrites(item, memory)

    # --- deletes ---

    def _weigh_end(self, item: Undelivered, memory: Recollection) -> None:
        rule = item.write.rules.get("", "")
        if rule.startswith(ON_LEAVE):
            ends, archives = self._leaving(memory)
        elif rule in list(Propagate):
            ends, archives = self._spreads(memory), self._rules.deletes.action is DeleteAction.ARCHIVE
        else:
            return  # a person asked for it
        if not ends:
            self.commit.delivered.append((item.record, item.system))
            # What was edited while the record was to end counts as seen, and may have gone nowhere.
            self._meet_anew(memory, memory.sides.keys() - memory.away, self._slots)
        elif archives and item.write.operation is Operation.DELETE and self._archives_in(item.system):
            self._keep(item, msgspec.structs.replace(item.write, operation=Operation.ARCHIVE))

    def _spreads(self, memory: Recollection) -> bool:
        """Whether a delete spreads that did when it was found; it does where it is not known where that was."""
        if self._rules.deletes.propagate is not Propagate.FROM_SYSTEM_OF_RECORD:
            return self._rules.deletes.propagate is Propagate.FROM_ANY
        owner = self._rules.system_of_record
        return owner not in memory.sides or owner in memory.away

    def _leaving(self, memory: Recollection) -> tuple[bool, bool]:
        """Whether a record that left a filter is to end elsewhere, and whether it is to be archived there.

        It left one of the systems where it is and takes no part; where none is left, it may be any.
        """
        systems = (memory.away & memory.sides.keys() & self._rules.systems.keys()) or self._rules.systems.keys()
        said = {self._rules.systems[system].on_leave for system in systems}
        return said != {OnLeave.KEEP}, OnLeave.ARCHIVE in said

    def _archives_in(self, system: str) -> bool:
        return bool(self._rules.systems[system].mapping.archive)

    # --- overwrites ---

    def _weigh_overwrites(self, item: Undelivered, memory: Recollection) -> None:
        """What a first meeting by another rule, or owner, overwrites; and fills, as it was held with that."""
        write, rule = item.write, f"{FIRST_SYNC}{self._rules.first_sync.value}"
        met = {name: its for name, its in write.rules.items() if its.startswith(FIRST_SYNC)}
        void = {name for name, its in met.items() if its != rule or name in self._otherwise}
        if not void:
            return
        self._keep(item, only(write, write.values.keys() - void))
        self._meet_anew(memory, {item.system}, void)

    # --- both ---

    def _keep(self, item: Undelivered, write: Write) -> None:
        """What is left of a write. The guard holds it only for what is still in it."""
        if write.values or write.ends:
            self.commit.pending.append(msgspec.structs.replace(item, write=write, held=write.halts))
        else:
            self.commit.delivered.append((item.record, item.system))

    def _meet_anew(self, memory: Recollection, systems: Collection[str], names: Collection[str]) -> None:
        """Some fields are met in some systems as if for the first time, by this run, or by whichever reaches them."""
        unseen, width = {self._slots[name]: UNSEEN for name in names if name in self._slots}, len(self._slots)
        for system in systems:
            side = memory.sides[system]
            prints = replaced(side.prints, unseen, width)
            memory.sides[system] = msgspec.structs.replace(side, row=None, version=None, prints=prints)
            self.commit.waiting.append((system, side.key))
        if not any(known is memory for known in self.commit.records):
            self.commit.records.append(memory)
