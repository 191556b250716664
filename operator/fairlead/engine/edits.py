"""Plain edits: one system edited fields on which all systems agreed, and there is nothing to weigh.

Nearly every change is of that kind, whatever the rules are, so that it is looked for first. What is decided here is
what the rules (`fields.py`) would come to.
"""

from __future__ import annotations

import msgspec

from fairlead.engine.bases import Bases
from fairlead.engine.case import Case, Decision, Operation, Side, Write, sides_of
from fairlead.engine.fingerprint import UNSEEN, difference_of, field, slots_of
from fairlead.engine.rules import FieldRule, Rules
from fairlead.model.record import Record, Value
from fairlead.model.syncpolicy import Edits, WhenEmpty

_UPDATE = Operation.UPDATE


class _Field(msgspec.Struct, frozen=True):
    """A field, and for each system whose edit of it may be plain: the others that have it, and whether they take it."""

    name: str
    others: dict[str, tuple[tuple[str, bool], ...]]


class PlainEdits:
    """Decides plain edits by one policy's rules."""

    def __init__(self, rules: Rules, bases: Bases) -> None:
        self._bases = bases
        self._fields = [_Field(name, _others(rules, rule)) for name, rule in rules.fields.items()]

    def decide(self, case: Case) -> Decision | None:
        """What to remember and write; None when there is more to be said of the case."""
        if len(case.observed) != 1 or case.deleted or case.away or case.pending or case.frozen or case.create_in:
            return None
        ((system, observation),) = case.observed.items()
        before = case.sides.get(system)
        if before is None:
            return None
        values = self._spread(case.sides, system, before.prints, observation.prints, observation.record.values)
        if values is None:
            return None
        sides = sides_of(case)
        writes = {target: _update(system, observation.record, its) for target, its in values.items()}
        return Decision(sides=sides, writes=writes, bases=self._bases.of(case, sides))

    def _spread(
        self, sides: dict[str, Side], system: str, before: bytes, now: bytes, said: dict[str, Value]
    ) -> dict[str, dict[str, Value]] | None:
        """Target → what was edited in `system`; None when the others did not say the same before, or rules weigh it."""
        found: dict[str, dict[str, Value]] = {}
        for slot in slots_of(difference_of(before, now)):
            edited, seen = self._fields[slot], field(before, slot)
            name, others = edited.name, edited.others.get(system)
            if others is None or seen == UNSEEN or name not in said:
                return None
            for other, takes in others:
                if other not in sides:
                    continue
                if field(sides[other].prints, slot) != seen:
                    return None
                if takes:
                    found.setdefault(other, {})[name] = said[name]
        return found


def _others(rules: Rules, rule: FieldRule) -> dict[str, tuple[tuple[str, bool], ...]]:
    if rule.edits is not Edits.ANYWHERE or rule.when_empty is not WhenEmpty.PROPAGATE or rule.condition is not None:
        return {}
    name = rule.field.name
    holders = [system for system in map(rules.systems.__getitem__, rules.priority) if system.maps(name)]
    return {
        editor.name: tuple((other.name, name in other.writable) for other in holders if other is not editor)
        for editor in holders
        if editor.reads and name in editor.writable
    }


def _update(system: str, record: Record, values: dict[str, Value]) -> Write:
    return Write(_UPDATE, values, dict.fromkeys(values, system), record.times_of(values))
