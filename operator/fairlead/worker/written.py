"""Written: what a batch of writes changed, for the audit.

Of an update there is an entry a field, of a delete one, of all creates of a batch one for each system. What a write
replaced is taken from the record that its condition is judged on (`delivery`). Values are kept only where they are
sealed: else the state of a healthy sync holds none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

import msgspec

from fairlead.engine.case import EDIT, Observation, Operation
from fairlead.model.record import Value
from fairlead.state.audit import NEW, OLD, AuditEntry, WriteKind, created
from fairlead.state.base import Intent


class Before(msgspec.Struct, gc=False):
    """A record just before it is changed.

    Attributes:
        values: what it said.
        same: the fields that say already what is to be written.
        done: nothing is left to be written.
    """

    values: Mapping[str, Value]
    same: AbstractSet[str] = frozenset()
    done: bool = False


class Written:
    """Takes note of writes.

    Args:
        now: epoch seconds.
        keeps_values: whether values are sealed where they are kept.
    """

    def __init__(self, now: float, *, keeps_values: bool) -> None:
        self._now = now
        self._keeps_values = keeps_values
        self._before: dict[tuple[int, str], Before] = {}
        self.entries: list[AuditEntry] = []

    def saw(self, intent: Intent, before: Before) -> None:
        """A record as it is just before the write; called anew where it is read anew."""
        self._before[intent.record, intent.system] = before

    def created(self, system: str, intents: Sequence[Intent]) -> None:
        """Records that were created."""
        groups: dict[tuple[str, str], list[int]] = {}
        for intent in intents:
            groups.setdefault((intent.run, intent.write.rules.get("", "")), []).append(intent.record)
        self.entries += [created(self._now, run, system, rule, its) for (run, rule), its in groups.items()]

    def updated(self, intent: Intent, stored: Observation | None, *, unsure: bool) -> None:
        """An update that is done: `stored` is what became of it, where the system told.

        Where an earlier attempt may have brought it (`unsure`), what that replaced is not known.
        """
        before = self._before.get((intent.record, intent.system))
        if before is not None and before.done and not unsure:
            return
        known = before is not None and not before.done
        for name, value in intent.write.values.items():
            if before is not None and known and name in before.same:
                continue
            after = stored.record.values.get(name) if stored else value
            values = {NEW: after}
            if before is not None and known:
                values[OLD] = before.values.get(name)
            self._add(intent, WriteKind.UPDATED, name, intent.write.origins.get(name, ""), values)

    def ended(self, intent: Intent, *, unsure: bool, gone: bool) -> None:
        """A delete or an archiving that is done, or turned out to be done, as the record is `gone`."""
        before = self._before.get((intent.record, intent.system))
        done = before is not None and before.done
        if (gone or done) and not unsure:
            return
        kind = WriteKind.ARCHIVED if intent.write.operation is Operation.ARCHIVE else WriteKind.DELETED
        self._add(intent, kind, "", "", dict(before.values) if before is not None and not gone else {})

    def _add(self, intent: Intent, kind: WriteKind, field: str, origin: str, values: dict[str, Value]) -> None:
        rule = intent.write.rules.get(field, EDIT if field else "")
        kept = values if self._keeps_values else {}
        self.entries.append(
            AuditEntry(self._now, intent.run, intent.record, field, kind.value, rule, origin, kept, intent.system)
        )
