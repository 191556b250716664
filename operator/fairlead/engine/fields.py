"""The rules of one field: whose value stands when systems disagree (design section 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime

import msgspec

from fairlead.engine.arbiter import NO_MEMORY, Arbiter, Dispute, Undecided
from fairlead.engine.canonical import is_empty
from fairlead.engine.case import EDIT, Finding, FindingKind
from fairlead.engine.fingerprint import UNSEEN, Fingerprints
from fairlead.engine.rules import FieldRule
from fairlead.engine.view import View
from fairlead.model.record import Value
from fairlead.model.syncpolicy import Edits, FirstSync, WhenEmpty

FIRST_SYNC = "firstSync: "
"""Begins the rule of what a first meeting decides; its value follows."""

_OWNED = "edits: SystemOfRecordOnly"
_KEEP = "whenEmpty: Keep"
_READ_ONLY = "access: ReadOnly"
_REVIEW = f"{FIRST_SYNC}{FirstSync.REVIEW.value}"
_ENFORCED = "resync --enforce"


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """What happens to one field.

    Attributes:
        winner: whose value stands; None when nobody's does.
        targets: systems to which it is written.
        overwritten: those of `targets` whose filled value a first meeting overwrites.
        frozen: the competing values, as far as they were read now, when a person must decide.
        needs: a system that must be read before anything can be said.
        reason: the rule that decided, where no finding tells it.
    """

    winner: View | None = None
    targets: tuple[str, ...] = ()
    overwritten: frozenset[str] = frozenset()
    frozen: dict[str, Value] | None = None
    findings: tuple[Finding, ...] = ()
    needs: str | None = None
    reason: str = EDIT

    @property
    def rule(self) -> str:
        """The rule that decided."""
        return self.findings[-1].rule if self.findings else self.reason


class FieldJudge:
    """Judges one field. `views` are always given in the policy's priority order.

    Without `first_sync` it enforces: of what is met only the owner's filled value stands.
    """

    def __init__(self, rule: FieldRule, prints: Fingerprints, first_sync: FirstSync | None) -> None:
        self.rule = rule
        self._first_sync = first_sync
        self._reviews = first_sync is FirstSync.REVIEW
        self._prints = prints
        self._empty_prints = empty_prints(rule, prints)
        self._arbiter = Arbiter(rule, prints)
        self._systems = frozenset(rule.priority)
        self._order, self._owner_order = self._arbiter.order, self._arbiter.owner_order
        self._owned_only = rule.edits is Edits.SYSTEM_OF_RECORD_ONLY
        self._keeps_filled = rule.when_empty is WhenEmpty.KEEP

    def pending_view(self, origin: str, value: Value, modified: datetime | None) -> View:
        """An undelivered value, seen as the change of the system it came from."""
        return View(origin, True, UNSEEN, self.print_of(value), True, value, modified)

    def print_of(self, value: Value) -> bytes:
        """The fingerprint of a value of this field."""
        return self._prints.one(self.rule.field.kind.print_bytes(value), self.rule.field.slot)

    def judge(
        self,
        views: Sequence[View],
        undelivered: Mapping[str, View],
        read_at: datetime,
        *,
        frozen: bool,
        competing: AbstractSet[str] = frozenset(),
        unsure: AbstractSet[str] = frozenset(),
        bases: Mapping[bytes, Value] = NO_MEMORY,
    ) -> Verdict | None:
        """The verdict on this field, or None when there is nothing to do.

        Args:
            views: the field in each system that has the record, by priority.
            undelivered: target → a value that has not reached it yet.
            read_at: when the views were read, for LatestWins.
            frozen: the field waits for a person since an earlier run.
            competing: the systems whose values waited; none when that is not known.
            unsure: targets whose undelivered value may have arrived.
            bases: old values by their fingerprint, where the rule needs them.
        """
        if frozen:
            return self._still_frozen(views, competing, read_at)
        changed = [view for view in views if view.changed]
        others = [view for view in views if view.seen == UNSEEN or view.strayed]
        if not changed and not any(view.known for view in others):
            return None
        scene = Dispute((), read_at, undelivered, unsure, bases)
        if not others and not self._owned_only and not self._keeps_filled:
            return self._edited(views, changed, scene)
        return self._weighed(views, changed, undelivered, scene)

    def _weighed(
        self, views: Sequence[View], changed: Sequence[View], undelivered: Mapping[str, View], scene: Dispute
    ) -> Verdict | None:
        """The verdict where something was changed, met or strayed."""
        unread = next((view for view in views if view.unread), None)
        if unread is not None:
            return Verdict(needs=unread.system)
        owner = self._owner(views)
        kept = [view for view in changed if (owner is None or view is owner) and self._keeps(view, views)]
        verdict = self._edited(views, changed, scene) if len(kept) < len(changed) else None
        if verdict is not None and (verdict.needs or verdict.frozen is not None):
            return verdict
        if any(view.met for view in views):
            verdict = self._first_meeting(views, verdict, undelivered)
        if verdict is None and any(view.strayed for view in views):
            verdict = self._repair(views, undelivered)
        if verdict is None and kept:
            return Verdict(findings=(self._finding(FindingKind.KEPT, _KEEP, None, kept),))
        return verdict

    def counts(self, view: View) -> bool:
        """Whether an edit there may stand: not where only the system of record may edit."""
        return not self._owned_only or self._owns(view)

    def spares(self, there: Value, value: Value) -> bool:
        """Whether a value must not overwrite what is there: no value, a filled one."""
        return self._keeps_filled and is_empty(value) and not is_empty(there)

    def fills(self, view: View) -> bool:
        """Whether the system has a value there, or had when it was last seen."""
        return not self._is_empty(view)

    def agreed(self, views: Sequence[View], undelivered: Mapping[str, View]) -> View | None:
        """What the record says where nothing changed: what is still on its way, else the owner's, by priority."""
        if undelivered:
            return undelivered[min(undelivered)]
        readers = [view for view in views if view.reads]
        if self._owned_only:
            readers = [view for view in readers if self._owns(view)] or readers
        return min(readers, key=lambda view: (self._is_empty(view), *self._owner_order(view)), default=None)

    def copied(self, views: Sequence[View], undelivered: Mapping[str, View]) -> View | None:
        """What a new copy gets: what the record says, and where its only editor says nothing, what another one does."""
        found = self.agreed(views, undelivered)
        if undelivered or found is None or not self._is_empty(found):
            return found
        readers = [view for view in views if view.reads]
        return min(readers, key=lambda view: (self._is_empty(view), *self._owner_order(view)))

    # --- one rule each ---

    def _keeps(self, view: View, views: Sequence[View]) -> bool:
        if not self._keeps_filled or not is_empty(view.value):
            return False
        return any(not self._is_empty(other) for other in views if other.system != view.system)

    def _edited(self, views: Sequence[View], changed: Sequence[View], scene: Dispute) -> Verdict:
        owner, views = self._owner(views), [view for view in views if not view.met]
        if owner is not None:
            return self._owned(views, owner, changed, scene.undelivered)
        rivals = [*changed, *self._rivals(changed, scene.undelivered)]
        rivals = [view for view in rivals if not self._keeps(view, views)]
        return self._changed(views, Dispute(rivals, scene.read_at, scene.undelivered, scene.unsure, scene.bases))

    def _owned(
        self, views: Sequence[View], owner: View, changed: Sequence[View], undelivered: Mapping[str, View]
    ) -> Verdict:
        """`edits: SystemOfRecordOnly`: the owner's value stands, whoever edited."""
        if not owner.known:
            return Verdict(needs=owner.system)
        reverted = [view for view in changed if view.now != owner.now]
        if reverted and self._keeps(owner, views):
            return Verdict(findings=(self._finding(FindingKind.KEPT, _KEEP, None, [owner, *reverted]),))
        findings = (self._finding(FindingKind.REVERTED, _OWNED, owner, [owner, *reverted]),) if reverted else ()
        return self._replacing(views, owner, undelivered, [owner, *changed], findings)

    def _changed(self, views: Sequence[View], dispute: Dispute) -> Verdict:
        """One value: it spreads. Several: a conflict."""
        rivals = dispute.rivals
        reference = self._unknown_to(rivals, views, dispute.undelivered) if self._arbiter.merges else None
        if reference is not None and not reference.known:
            return Verdict(needs=reference.system)
        if reference is None and len({view.now for view in rivals}) == 1:
            return self._replacing(views, min(rivals, key=self._order), dispute.undelivered, rivals)
        if reference is not None:
            dispute = msgspec.structs.replace(dispute, reference=reference)
        return self._settled(views, dispute)

    def _unknown_to(
        self, rivals: Sequence[View], views: Sequence[View], undelivered: Mapping[str, View]
    ) -> View | None:
        """What the others say, where the only edits to merge with it are of systems that are never written."""
        if any(view.writable for view in rivals):
            return None
        editors = {view.system for view in rivals}
        reference = self.agreed([view for view in views if view.system not in editors], undelivered)
        known = {print_ for view in rivals for print_ in (view.seen, view.now)}
        return None if reference is None or reference.now in known else reference

    def _settled(self, views: Sequence[View], dispute: Dispute) -> Verdict:
        """A conflict, decided by the rule or left to a person."""
        rule = self._arbiter.why(dispute)
        heard = [*dispute.rivals, *([dispute.reference] if dispute.reference else [])]
        try:
            winner = self._arbiter.winner(dispute)
        except Undecided as why:
            return self._left(views, heard, f"{rule}: {why}" if str(why) else rule)
        finding = self._finding(FindingKind.CONFLICT, rule, winner, [*heard, winner])
        return self._replacing(views, winner, dispute.undelivered, heard, (finding,))

    def _replacing(
        self,
        views: Sequence[View],
        winner: View,
        undelivered: Mapping[str, View],
        rivals: Sequence[View],
        findings: tuple[Finding, ...] = (),
    ) -> Verdict:
        """The value spreads. What it replaces and was never seen where it was entered is told.

        Systems may differ since they first met, and one that is never written has not seen what the others said.
        """
        verdict = self._spread(views, winner, undelivered, findings)
        if not verdict.targets:
            return verdict
        known = {winner.seen, *(view.now for view in rivals), *(view.seen for view in rivals if view.writable)}
        if not undelivered and all(view.now in known for view in views):
            return verdict
        waiting = [view for view in views if view.known or view.system not in undelivered]
        others = sorted([*waiting, *undelivered.values()], key=lambda view: not view.known)
        unknown = {v.now: v for v in reversed(others) if v.now not in known and not v.strayed and not self._is_empty(v)}
        unread = next((view for view in unknown.values() if not view.known), None)
        if unread is not None:
            return Verdict(needs=unread.system)
        if not unknown:
            return verdict
        rule = EDIT if winner.writable else _READ_ONLY
        finding = self._finding(FindingKind.OVERWRITTEN, rule, winner, [winner, *unknown.values()])
        return msgspec.structs.replace(verdict, findings=(*verdict.findings, finding))

    def _left(self, views: Sequence[View], rivals: Sequence[View], rule: str) -> Verdict:
        """Left to a person. Where a rival is no system's own value, whoever reads the field competes for it."""
        if all(rival.system in self._systems for rival in rivals):
            return self.freeze(rivals, rule)
        named = {rival.system for rival in rivals}
        others = [view for view in views if view.reads and view.system not in named]
        unread = next((view for view in others if not view.known), None)
        return Verdict(needs=unread.system) if unread is not None else self.freeze([*rivals, *others], rule)

    def chosen(self, views: Sequence[View], origin: str, value: Value, said: Mapping[str, Value], rule: str) -> Verdict:
        """A person's choice between what was `said`: it goes wherever it is not."""
        winner = self.pending_view(origin, value, None)
        finding = Finding(FindingKind.RESOLVED, self.rule.field.name, rule, origin, {**said, origin: value})
        return Verdict(winner, tuple(v.system for v in views if v.now != winner.now), findings=(finding,))

    def freeze(self, rivals: Sequence[View], rule: str) -> Verdict:
        """A person must decide between these values, because of `rule`."""
        values = {view.system: view.value for view in rivals}
        finding = self._finding(FindingKind.FROZEN, rule, None, rivals)
        return Verdict(frozen=values, findings=(finding,))

    def _still_frozen(self, views: Sequence[View], competing: AbstractSet[str], read_at: datetime) -> Verdict:
        """A conflict ends when those who competed, and the only editor, agree, or when a rule decides it by now.

        What is met meanwhile, and says something, competes: no first meeting decides what waits for a person.
        """
        readers = [view for view in views if view.reads]
        rivals = [v for v in readers if v.changed or v.system in competing or not competing or self._met_filled(v)]
        if self._reviews:
            rivals += [view for view in views if view not in rivals and (view.met or view.system in competing)]
        if self._keeps_filled:  # what says nothing overwrites nothing
            rivals = [v for v in rivals if not self._is_empty(v) or (not v.known and v.now == UNSEEN)] or rivals
        rivals = rivals or readers
        owner, agreed = self._owner(views), {view.now for view in rivals}
        if len(agreed) <= 1 and (owner is None or owner.now in agreed):
            return self._thawed(views, min(rivals, key=lambda view: not view.known, default=None), "agreement")
        waiting = Verdict(frozen={view.system: view.value for view in rivals if view.known})
        if owner is not None and not self._reviews:
            return self._thawed(views, owner, _OWNED)
        if self._reviews or not self._arbiter.reconsiders:
            return waiting
        unread = next((view for view in rivals if not view.known), None)
        if unread is not None:
            return Verdict(needs=unread.system)
        dispute = Dispute(rivals, read_at)
        try:
            return self._thawed(views, self._arbiter.winner(dispute), self._arbiter.why(dispute))
        except Undecided:
            return waiting

    def _thawed(self, views: Sequence[View], winner: View | None, rule: str) -> Verdict:
        """The value that stands goes everywhere; what it overwrites is read first, for the audit."""
        verdict = self._spread(views, winner, {}) if winner is not None else Verdict()
        concerned = [view for view in views if view.system in verdict.targets or view is winner]
        unread = next((view for view in concerned if not view.known), None)
        if unread is not None and verdict.targets:
            return Verdict(needs=unread.system)
        finding = self._finding(FindingKind.RESOLVED, rule, winner, views)
        met = frozenset(view.system for view in views if view.system in verdict.targets and self._met_filled(view))
        return msgspec.structs.replace(verdict, overwritten=met, findings=(finding,))

    def _first_meeting(
        self, views: Sequence[View], edited: Verdict | None, undelivered: Mapping[str, View]
    ) -> Verdict | None:
        """No base is known: the owner's filled value stands and empty sides are filled (`firstSync`).

        The systems that met before speak with one voice: what was edited there, else what they agreed on.
        """
        old = [view for view in views if not view.met]
        voice = (edited.winner if edited else None) or self.agreed(old, undelivered)
        if self._reviews:
            return self._reviewed(views, voice) or edited
        winner = self._speaker(views, old, voice)
        if winner is None:
            return edited
        strayed = [view for view in old if view.strayed] if edited is None else []
        others = [view for view in views if view.met or winner is not voice or view in strayed]
        differing = [view for view in others if view is not winner and _coming(view, undelivered) != winner.now]
        full = [view for view in differing if not self._will_be_empty(view, edited, undelivered)]
        filled = [view for view in full if view not in strayed]
        if self._first_sync is FirstSync.FILL_EMPTY_ONLY:
            differing, filled = [view for view in differing if view not in filled], []
        rule = f"{FIRST_SYNC}{self._first_sync.value}" if self._first_sync else _ENFORCED
        if not differing:
            # A copy that is on its way may still have what was said where the record is gone by now.
            outdated = any(view.now != winner.now for view in undelivered.values())
            return Verdict(winner, reason=rule) if edited is None and outdated else edited
        lost = [
            *filled,
            *(view for view in old if (view.changed or view.strayed) and view in differing and view not in filled),
        ]
        unread = next((view for view in (winner, *lost) if not view.known), None)
        if unread is not None:
            return Verdict(needs=unread.system)
        finding = self._finding(FindingKind.OVERWRITTEN, rule, winner, [winner, *lost])
        before = edited if edited and winner is voice else Verdict()
        return Verdict(
            winner,
            (*before.targets, *(view.system for view in differing)),
            frozenset(view.system for view in filled),
            findings=((*edited.findings,) if edited else ()) + ((finding,) if lost else ()),
            reason=rule,
        )

    def _reviewed(self, views: Sequence[View], voice: View | None) -> Verdict | None:
        """`firstSync: Review`: where what was met differs, from the others or among itself, a person decides."""
        mute = [view for view in views if not (view.reads or view.met or view.strayed)]
        heard = [*(view for view in views if view.met), *([voice] if voice is not None else []), *mute]
        if len({UNSEEN if self._is_empty(view) else view.now for view in heard}) <= 1:
            return None
        unread = next((view for view in heard if not view.known), None)
        return Verdict(needs=unread.system) if unread is not None else self._left(views, heard, _REVIEW)

    def _speaker(self, views: Sequence[View], old: Sequence[View], voice: View | None) -> View | None:
        """Whose value stands at a first meeting: the owner's, else the first filled one by priority."""
        if self._first_sync is None:
            return next((v for v in views if self._owns(v) and v.reads and not self._is_empty(v)), None)
        owner = self._owner(views)
        if owner is not None:
            speaker = owner if owner.met or voice is None else voice
            return None if self._is_empty(speaker) else speaker
        met = [view for view in views if view.met and view.reads and not self._is_empty(view)]
        first = min(met, key=self._owner_order, default=None)
        if voice is None or self._is_empty(voice):
            return first
        voices = min((self._owner_order(view) for view in old if view.reads), default=self._owner_order(voice))
        if first is None or self._first_sync is FirstSync.FILL_EMPTY_ONLY or voices < self._owner_order(first):
            return voice
        return first

    def _repair(self, views: Sequence[View], undelivered: Mapping[str, View]) -> Verdict | None:
        """A WriteOnly system was edited: what the others agreed on is written again, there only."""
        source = self.agreed(views, undelivered)
        if source is None:
            return None
        strayed = [view for view in views if view.strayed and view.now != source.now]
        if not source.known and strayed:
            return Verdict(needs=source.system)
        if not strayed or self._keeps(source, views):
            return None
        return self._spread(strayed, source, {})

    # --- shared by the rules ---

    def _rivals(self, changed: Sequence[View], undelivered: Mapping[str, View]) -> list[View]:
        """Undelivered values that compete: none of the changed systems had received them when it changed.

        A merge puts together whatever any of them had not received.
        """
        systems = {view.system for view in changed}
        if self._arbiter.merges:
            waiting = [(view, undelivered[view.system]) for view in changed if view.system in undelivered]
            return list({u.now: u for view, u in waiting if u.now not in (view.seen, view.now)}.values())
        if not systems <= undelivered.keys():
            return []
        rivals = {undelivered[s].system: undelivered[s] for s in sorted(systems)}
        return [rival for origin, rival in rivals.items() if origin not in systems]

    def _spread(
        self,
        views: Sequence[View],
        winner: View,
        undelivered: Mapping[str, View],
        findings: tuple[Finding, ...] = (),
    ) -> Verdict:
        """The value goes wherever it is not, and is not on its way to."""
        held = winner.known and self._keeps(winner, views)
        targets = [] if held else [view for view in views if _coming(view, undelivered) != winner.now]
        strayed = [view for view in targets if view.strayed]
        if strayed:
            findings += (self._finding(FindingKind.REPAIRED, "access: WriteOnly", winner, strayed),)
        return Verdict(winner, tuple(view.system for view in targets), findings=findings)

    def _finding(self, kind: FindingKind, rule: str, winner: View | None, views: Sequence[View]) -> Finding:
        values = {view.system: view.value for view in views if view.known}
        return Finding(kind, self.rule.field.name, rule, winner.system if winner else "", values)

    def _owns(self, view: View) -> bool:
        return view.system == self.rule.system_of_record

    def _owner(self, views: Sequence[View]) -> View | None:
        """The only system where the field may be edited, where there is such a rule and it has the field."""
        if not self._owned_only:
            return None
        return next((view for view in views if self._owns(view) and view.reads), None)

    def _will_be_empty(self, view: View, edited: Verdict | None, undelivered: Mapping[str, View]) -> bool:
        if not view.met and edited is not None and edited.winner is not None:
            return is_empty(edited.winner.value)
        coming = undelivered.get(view.system)
        return is_empty(coming.value) if coming is not None and not view.known else self._is_empty(view)

    def _met_filled(self, view: View) -> bool:
        return view.met and not self._is_empty(view)

    def _is_empty(self, view: View) -> bool:
        return is_empty(view.value) if view.known else view.now in self._empty_prints or view.now == UNSEEN


def _coming(view: View, undelivered: Mapping[str, View]) -> bytes:
    """What the system will hold: what was just read, else what is on its way there, else what was seen."""
    return undelivered[view.system].now if view.system in undelivered and not view.known else view.now


def empty_prints(rule: FieldRule, prints: Fingerprints) -> set[bytes]:
    """The fingerprints of all that is no value of this field."""
    empties: list[Value] = [None, "", [], {}]
    return {prints.one(code, rule.field.slot) for code in map(rule.field.kind.print_bytes, empties)}
