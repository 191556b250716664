"""The arbiter: whose value stands when systems changed a field to different ones (`onConflict`).

Most rules name a winner among the rivals. `Merge` and `Expression` make a value of their own, which belongs to no
system. What they cannot decide is left to a person, like `Manual`, and nothing is lost by it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from fairlead.engine.canonical import ContractError
from fairlead.engine.case import UNDONE
from fairlead.engine.expression import ExpressionError, to_cel
from fairlead.engine.fingerprint import UNSEEN, Fingerprints
from fairlead.engine.merge import Unmergeable
from fairlead.engine.rules import FieldRule
from fairlead.engine.view import View
from fairlead.model.record import Value
from fairlead.model.syncpolicy import ConflictRule, MergeMode

CLOCK_TOLERANCE = timedelta(minutes=5)
"""A modification time further ahead than this is a wrong clock, and decides nothing."""

MERGED, COMPUTED, CHOSEN = "(merged)", "(computed)", "(chosen)"
"""Stand for a system where a value is no system's own. No system can be called so."""

NO_MEMORY: Mapping[bytes, Value] = {}


class Undecided(Exception):
    """A person must decide; the message says why the rule cannot, and holds no value."""


class Dispute(msgspec.Struct, frozen=True, gc=False):
    """Rivals that say different things, and what the rules may look at.

    Attributes:
        rivals: edits, and undelivered values that their systems had not received.
        read_at: when they were read.
        undelivered: target → the value that has not reached it yet.
        unsure: targets whose undelivered value may have arrived: its answer was lost.
        bases: fingerprint → old value, of those that are kept.
        reference: what the record says elsewhere, where no rival has seen it.
    """

    rivals: Sequence[View]
    read_at: datetime
    undelivered: Mapping[str, View] = {}
    unsure: AbstractSet[str] = frozenset()
    bases: Mapping[bytes, Value] = NO_MEMORY
    reference: View | None = None


class Arbiter:
    """Decides the conflicts of one field."""

    def __init__(self, rule: FieldRule, prints: Fingerprints) -> None:
        self._rule = rule
        self._prints = prints
        self._rank = {system: rank for rank, system in enumerate(rule.priority)}
        self.merges = rule.on_conflict is ConflictRule.MERGE
        self._name = f"onConflict: {rule.on_conflict.value}"
        self._by_time = rule.on_conflict is ConflictRule.LATEST_WINS
        choices: Mapping[ConflictRule, Callable[[Dispute], View]] = {
            ConflictRule.SYSTEM_OF_RECORD_WINS: lambda dispute: min(dispute.rivals, key=self.owner_order),
            ConflictRule.PRIORITY: lambda dispute: min(dispute.rivals, key=self.order),
            ConflictRule.LATEST_WINS: self._latest,
            ConflictRule.MERGE: self._merged,
            ConflictRule.EXPRESSION: self._computed,
            ConflictRule.MANUAL: self._nobody,
        }
        self._choose = choices[rule.on_conflict]

    def winner(self, dispute: Dispute) -> View:
        """Whose value stands.

        Raises:
            Undecided: a person must decide.
        """
        return self._choose(dispute)

    def why(self, dispute: Dispute) -> str:
        """The rule that decides, in the words of the CRD, and why times did not where they should."""
        return self._name + self._untimely(dispute) if self._by_time else self._name

    @property
    def reconsiders(self) -> bool:
        """Whether what waits for a person may be decided after all, once something changed: no old value is needed."""
        if self._rule.on_conflict is ConflictRule.EXPRESSION:
            return not self._rule.keeps_base
        return self._rule.on_conflict not in (ConflictRule.MANUAL, ConflictRule.MERGE)

    # --- order ---

    def order(self, view: View) -> int:
        """Place in the field's priority."""
        return self._rank.get(view.system, len(self._rank))  # a value may outlive its system in the policy

    def owner_order(self, view: View) -> tuple[bool, int]:
        """The owner first, then by priority."""
        return (view.system != self._rule.system_of_record, self.order(view))

    # --- one rule each ---

    def _nobody(self, _: Dispute) -> View:
        raise Undecided("")

    def _untimely(self, dispute: Dispute) -> str:
        """Why times do not tell who was last, as the end of a rule's name; empty when they do."""
        for view in dispute.rivals:
            if view.modified is None:
                return f", by priority: {view.system} gives no time"
            if view.modified > dispute.read_at + CLOCK_TOLERANCE:
                return f", by priority: the clock of {view.system} is more than {_minutes(CLOCK_TOLERANCE)} ahead"
        return ""

    def _latest(self, dispute: Dispute) -> View:
        """The system's own modification time decides; equal, missing or future times fall back to priority."""
        if self._untimely(dispute):
            return min(dispute.rivals, key=self.order)
        newest = max(view.modified for view in dispute.rivals if view.modified is not None)
        return min((view for view in dispute.rivals if view.modified == newest), key=self.order)

    def _merged(self, dispute: Dispute) -> View:
        """Each edit, applied to what the others come to.

        An edit is what lies between the value its system had and the one it has now. Where something was on its way
        there, that is applied first: the system is then as far as the others. Not what an undo gives back: to each its
        own, and an undo leaves alone what was edited since.
        """
        merge = self._rule.merge
        if merge is None:
            raise Undecided("values of this type cannot be merged")
        edits = sorted((v for v in dispute.rivals if v.changed), key=lambda v: (not v.writable, self.owner_order(v)))
        found = [dispute.reference.value] if dispute.reference is not None else []
        try:
            for view in edits:
                base, value = self._base(view, dispute), view.value
                coming = dispute.undelivered.get(view.system)
                if coming is not None and coming.system != UNDONE and coming.now not in (view.seen, view.now):
                    self._check_sure(view, dispute)
                    value, base = merge(base, coming.value, value), coming.value
                found = [merge(base, found[0], value) if found else value]
        except Unmergeable as refused:
            raise Undecided(str(refused)) from None
        return self._made(MERGED, found[0], dispute)

    def _check_sure(self, view: View, dispute: Dispute) -> None:
        """A sum must not count twice what may be in it already; of lists and lines it does no harm."""
        if self._rule.merge_mode is MergeMode.DELTA and view.system in dispute.unsure:
            raise Undecided(f"the answer to an earlier write to {view.system} was lost, so its count is not sure")

    def _base(self, view: View, dispute: Dispute) -> Value:
        if view.seen not in dispute.bases:
            raise Undecided(f"the value before the edit in {view.system} is not known")
        return dispute.bases[view.seen]

    def _computed(self, dispute: Dispute) -> View:
        expression, rivals = self._rule.expression, sorted(dispute.rivals, key=self.order)
        assert expression is not None
        variables: dict[str, Any] = {
            "systems": [view.system for view in rivals],
            "values": {view.system: view.value for view in rivals},
            "modified": {view.system: _time(view.modified) for view in rivals},
        }
        if self._rule.keeps_base:
            edits = [view for view in rivals if view.changed]
            variables["base"] = self._base(edits[0], dispute) if edits else None
        try:
            given = expression.evaluate(variables)
        except ExpressionError as error:
            raise Undecided(str(error)) from None
        for view in rivals:  # a decimal is a double inside CEL: what was chosen keeps every digit
            if type(to_cel(view.value)) is type(given) and to_cel(view.value) == given:
                return view
        try:
            value = self._rule.field.kind.made(given)
        except ContractError as error:
            raise Undecided(f"what comes of it {error}") from None
        return self._made(COMPUTED, value, dispute)

    def _made(self, name: str, value: Value, dispute: Dispute) -> View:
        """A value of no system, unless one of the rivals says the same."""
        broken = self._rule.contract.field_error(self._rule.field.name, value)
        if broken is not None:
            raise Undecided(f"what comes of it {broken}")
        now = self._prints.one(self._rule.field.kind.print_bytes(value), self._rule.field.slot)
        same = [view for view in dispute.rivals if view.now == now]
        return min(same, key=self.order) if same else View(name, True, UNSEEN, now, True, value)


def _time(moment: datetime | None) -> str | None:
    """RFC 3339 in UTC, always as long, so that times compare as text."""
    return None if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _minutes(length: timedelta) -> str:
    return f"{length // timedelta(minutes=1)} minutes"
