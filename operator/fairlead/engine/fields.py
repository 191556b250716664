"""The rules of one field: whose value stands when systems disagree (design section 4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

import msgspec

from fairlead.engine.canonical import is_empty
from fairlead.engine.case import Finding, FindingKind
from fairlead.engine.fingerprint import UNSEEN, Fingerprints
from fairlead.engine.rules import FieldRule
from fairlead.model.record import Value
from fairlead.model.syncpolicy import ConflictRule, Edits, FirstSync, WhenEmpty

CLOCK_TOLERANCE = timedelta(minutes=5)
"""A modification time further ahead than this is a wrong clock, and decides nothing."""


class View(msgspec.Struct, frozen=True):
    """One field of one record in one system.

    Attributes:
        reads: whether the system's changes count.
        seen: fingerprint last read or written there; UNSEEN when never.
        now: fingerprint as it is now, as far as is known.
        known: whether `value` was read now.
    """

    system: str
    reads: bool
    seen: bytes
    now: bytes
    known: bool = False
    value: Value = None
    modified: datetime | None = None

    @property
    def changed(self) -> bool:
        """Edited there since it was last seen."""
        return self.known and self.reads and self.seen not in (UNSEEN, self.now)

    @property
    def met(self) -> bool:
        """Read there for the first time: a difference is not a change."""
        return self.known and self.seen == UNSEEN

    @property
    def unread(self) -> bool:
        """Never read there: nothing can be said of it."""
        return not self.known and self.seen == UNSEEN

    @property
    def strayed(self) -> bool:
        """Edited in a system whose edits do not count."""
        return self.known and not self.reads and self.seen not in (UNSEEN, self.now)


class Verdict(msgspec.Struct, frozen=True):
    """What happens to one field.

    Attributes:
        winner: whose value stands; None when nobody's does.
        targets: systems to which it is written.
        overwritten: those of `targets` whose filled value a first meeting overwrites.
        frozen: the competing values, as far as they were read now, when a person must decide.
        needs: a system that must be read before anything can be said.
    """

    winner: View | None = None
    targets: tuple[str, ...] = ()
    overwritten: frozenset[str] = frozenset()
    frozen: dict[str, Value] | None = None
    findings: tuple[Finding, ...] = ()
    needs: str | None = None


class FieldJudge:
    """Judges one field. `views` are always given in the policy's priority order."""

    def __init__(self, rule: FieldRule, prints: Fingerprints, first_sync: FirstSync) -> None:
        self.rule = rule
        self._first_sync = first_sync
        self._prints = prints
        empties: list[Value] = [None, "", [], {}]
        self._empty_prints = {prints.one(code, rule.field.slot) for code in _encodings(rule, empties)}
        self._rank = {system: rank for rank, system in enumerate(rule.priority)}
        self._choose: dict[ConflictRule, Callable[[Sequence[View], datetime], View]] = {
            ConflictRule.SYSTEM_OF_RECORD_WINS: self._owner_first,
            ConflictRule.PRIORITY: lambda views, _: min(views, key=self._order),
            ConflictRule.LATEST_WINS: self._latest,
        }

    def pending_view(self, origin: str, value: Value, modified: datetime | None) -> View:
        """An undelivered value, seen as the change of the system it came from."""
        now = self._prints.one(self.rule.field.kind.print_bytes(value), self.rule.field.slot)
        return View(origin, True, UNSEEN, now, True, value, modified)

    def judge(
        self, views: Sequence[View], undelivered: Mapping[str, View], read_at: datetime, *, frozen: bool
    ) -> Verdict | None:
        """The verdict on this field, or None when there is nothing to do.

        Args:
            views: the field in each system that has the record, by priority.
            undelivered: target → a value that has not reached it yet.
            read_at: when the views were read, for LatestWins.
            frozen: the field waits for a person since an earlier run.
        """
        if frozen:
            return self._still_frozen(views, read_at)
        changed = [view for view in views if view.changed]
        if not changed and not any(view.met or view.strayed for view in views):
            return None
        unread = next((view for view in views if view.unread), None)
        if unread is not None:
            return Verdict(needs=unread.system)
        kept = [view for view in changed if self._keeps(view, views)]
        changed = [view for view in changed if view not in kept]
        if changed:
            return self._edited(views, changed, undelivered, read_at)
        if kept:
            return Verdict(findings=(self._finding(FindingKind.KEPT, "whenEmpty: Keep", None, kept),))
        return self._first_meeting(views) if any(view.met for view in views) else self._repair(views)

    def preferred(self, views: Sequence[View]) -> View | None:
        """The view that speaks for the record when nothing changed: filled before empty, then by priority."""
        ranked = sorted(views, key=lambda view: (self._is_empty(view), self._order(view)))
        return ranked[0] if ranked else None

    # --- one rule each ---

    def _keeps(self, view: View, views: Sequence[View]) -> bool:
        filled_elsewhere = any(not self._is_empty(other) for other in views if other is not view)
        return self.rule.when_empty is WhenEmpty.KEEP and is_empty(view.value) and filled_elsewhere

    def _edited(
        self, views: Sequence[View], changed: Sequence[View], undelivered: Mapping[str, View], read_at: datetime
    ) -> Verdict:
        if self.rule.edits is Edits.SYSTEM_OF_RECORD_ONLY:
            return self._owned(views, changed)
        return self._changed(views, [*changed, *self._rivals(changed, undelivered)], read_at)

    def _owned(self, views: Sequence[View], changed: Sequence[View]) -> Verdict:
        """`edits: SystemOfRecordOnly`: the owner's value stands, whoever edited."""
        owner = next((view for view in views if view.system == self.rule.system_of_record), None)
        if owner is None:
            return self._spread(views, min(changed, key=self._order))
        reverted = [view for view in changed if view is not owner and view.now != owner.now]
        if not owner.known:
            return Verdict(needs=owner.system)
        rule = "edits: SystemOfRecordOnly"
        findings = (self._finding(FindingKind.REVERTED, rule, owner, [owner, *reverted]),) if reverted else ()
        return self._spread(views, owner, findings)

    def _changed(self, views: Sequence[View], rivals: Sequence[View], read_at: datetime) -> Verdict:
        """One value: it spreads. Several: a conflict."""
        if len({view.now for view in rivals}) == 1:
            return self._spread(views, min(rivals, key=self._order))
        if self.rule.on_conflict is ConflictRule.MANUAL:
            return self._freeze(rivals)
        return self._won(views, rivals, read_at, FindingKind.CONFLICT)

    def _won(self, views: Sequence[View], rivals: Sequence[View], read_at: datetime, kind: FindingKind) -> Verdict:
        winner = self._choose[self.rule.on_conflict](rivals, read_at)
        rule = f"onConflict: {self.rule.on_conflict.value}"
        return self._spread(views, winner, (self._finding(kind, rule, winner, rivals),))

    def _freeze(self, rivals: Sequence[View]) -> Verdict:
        values = {view.system: view.value for view in rivals}
        return Verdict(frozen=values, findings=(self._finding(FindingKind.FROZEN, "onConflict: Manual", None, rivals),))

    def _still_frozen(self, views: Sequence[View], read_at: datetime) -> Verdict:
        """A conflict ends when the systems agree again, or when the policy has another rule by now."""
        if len({view.now for view in views}) <= 1:
            winner = views[0] if views else None
            return Verdict(findings=(self._finding(FindingKind.RESOLVED, "agreement", winner, views),))
        if self.rule.on_conflict is ConflictRule.MANUAL:
            return Verdict(frozen={view.system: view.value for view in views if view.known})
        unread = next((view for view in views if not view.known), None)
        if unread is not None:
            return Verdict(needs=unread.system)
        return self._won(views, [view for view in views if view.reads], read_at, FindingKind.RESOLVED)

    def _first_meeting(self, views: Sequence[View]) -> Verdict | None:
        """No base is known: the owner's filled value stands and empty sides are filled (`firstSync`)."""
        speakers = [view for view in views if view.reads and not self._is_empty(view)]
        if not speakers:
            return None
        winner = min(speakers, key=self._owner_order)
        differing = [view for view in views if view is not winner and view.now != winner.now]
        overwritten = [view for view in differing if not self._is_empty(view)]
        if self._first_sync is FirstSync.FILL_EMPTY_ONLY:
            differing, overwritten = [view for view in differing if self._is_empty(view)], []
        if not differing:
            return None
        if not winner.known:
            return Verdict(needs=winner.system)
        rule = f"firstSync: {self._first_sync.value}"
        finding = self._finding(FindingKind.OVERWRITTEN, rule, winner, [winner, *overwritten])
        return Verdict(
            winner,
            tuple(view.system for view in differing),
            frozenset(view.system for view in overwritten),
            findings=(finding,) if overwritten else (),
        )

    def _repair(self, views: Sequence[View]) -> Verdict | None:
        """A WriteOnly system was edited: what the others agreed on is written again."""
        source = self.preferred([view for view in views if view.reads])
        if source is None:
            return None
        if not source.known:
            return Verdict(needs=source.system)
        strayed = [view for view in views if view.strayed]
        return self._spread(views, source, (self._finding(FindingKind.REPAIRED, "access: WriteOnly", source, strayed),))

    # --- shared by the rules ---

    def _rivals(self, changed: Sequence[View], undelivered: Mapping[str, View]) -> list[View]:
        """Undelivered values that compete: none of the changed systems had received them when it changed."""
        systems = {view.system for view in changed}
        if not systems <= undelivered.keys():
            return []
        rivals = {undelivered[s].system: undelivered[s] for s in sorted(systems)}
        return [rival for origin, rival in rivals.items() if origin not in systems]

    def _spread(self, views: Sequence[View], winner: View, findings: tuple[Finding, ...] = ()) -> Verdict:
        targets = tuple(v.system for v in views if v.system != winner.system and v.now != winner.now)
        stale_origin = tuple(v.system for v in views if v.system == winner.system and v.now != winner.now)
        return Verdict(winner, targets + stale_origin, findings=findings)

    def _finding(self, kind: FindingKind, rule: str, winner: View | None, views: Sequence[View]) -> Finding:
        values = {view.system: view.value for view in views if view.known}
        return Finding(kind, self.rule.field.name, rule, winner.system if winner else "", values)

    def _is_empty(self, view: View) -> bool:
        return is_empty(view.value) if view.known else view.now in self._empty_prints or view.now == UNSEEN

    def _order(self, view: View) -> int:
        return self._rank[view.system]

    def _owner_order(self, view: View) -> tuple[bool, int]:
        return (view.system != self.rule.system_of_record, self._rank[view.system])

    def _owner_first(self, views: Sequence[View], _: datetime) -> View:
        return min(views, key=self._owner_order)

    def _latest(self, views: Sequence[View], read_at: datetime) -> View:
        """The system's own modification time decides; equal, missing or future times fall back to priority."""
        horizon = read_at + CLOCK_TOLERANCE
        if any(view.modified is None or view.modified > horizon for view in views):
            return min(views, key=self._order)
        newest = max(view.modified for view in views if view.modified is not None)
        return min((view for view in views if view.modified == newest), key=self._order)


def _encodings(rule: FieldRule, empties: Sequence[Value]) -> list[bytes]:
    codes = []
    for value in empties:
        try:
            codes.append(rule.field.kind.print_bytes(value))
        except (TypeError, ValueError, AttributeError):
            continue  # this kind has no such empty value
    return codes
