"""Deletes: what becomes of a record that is gone, or returns, in some system (`deletes`, `onLeave`).

A record ends where it was deleted for all: it is deleted or archived in the other systems. It lives on where the rules
do not repeat the delete, where it was edited meanwhile (`UpdateWins`), and where it comes back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from fairlead.engine.bases import Bases
from fairlead.engine.case import Case, Decision, Finding, FindingKind, Operation, Side, Write, sides_of
from fairlead.engine.fields import FieldJudge
from fairlead.engine.fingerprint import UNSEEN, WIDTH, field, replaced
from fairlead.engine.rules import Rules
from fairlead.engine.view import View
from fairlead.engine.writes import without
from fairlead.model.record import Value
from fairlead.model.syncpolicy import DeleteAction, Edits, OnLeave, OnUpdateConflict

ON_LEAVE = "onLeave: "
"""Begins the rule of what ends because it left a system's filter; its value follows."""

Views = Callable[[Case, str], list[View]]
"""The views of a field of a case."""


class Deletes:
    """Decides whether a record ends. `judges` are every rule of each field: several where the owner depends on it."""

    def __init__(self, rules: Rules, judges: Mapping[str, Sequence[FieldJudge]], views: Views, bases: Bases) -> None:
        self._rules = rules
        self._judges = judges
        self._views = views
        self._bases = bases
        self._slots = {name: rule.field.slot for name, rule in rules.fields.items()}

    def weigh(self, case: Case) -> Case | Decision:
        """How the record ends, or what must be read before that can be said; the case to go on with if it lives on."""
        case = _without_undone(case)
        spreading = sorted(case.left | {s for s in case.deleted - case.away if self._rules.deletes_spread_from(s)})
        doomed = _doomed(case)
        if (spreading or doomed) and not self._lives_on(case, spreading):
            return self._ended(case, spreading)
        if doomed:
            unread = case.sides.keys() - case.observed.keys() - case.away - case.deleted
            if unread:
                return Decision(needs=frozenset(unread))
        return self._alive(case, doomed=doomed)

    def findings(self, case: Case) -> list[Finding]:
        """What is to be told of a case that `weigh` gave."""
        found = []
        for system in sorted(case.deleted):
            if system in case.create_in:
                rule = self._rules.deletes.on_update_conflict.value
                found.append(Finding(FindingKind.RECREATED, "", rule, system))
            else:
                found.append(Finding(FindingKind.DELETE_NOT_SPREAD, "", self._rules.deletes.propagate.value, system))
        back = sorted(case.observed.keys() & case.away)
        staying = sorted((case.away & case.sides.keys()) - case.observed.keys()) if back else []
        return [*found, *(Finding(FindingKind.STAYS_AWAY, "", f"back in {back[0]}", system) for system in staying)]

    def ended_in(self, case: Case) -> frozenset[str]:
        """Systems where the record was deleted for all, and where it is not back."""
        return frozenset(
            s
            for s in case.away
            if s not in case.sides and s not in case.observed and self._rules.deletes_spread_from(s)
        )

    # --- does it live on? ---

    def _lives_on(self, case: Case, spreading: Sequence[str]) -> bool:
        """Whether the record outlives a delete: it came back, or (`UpdateWins`) was edited where it lives."""
        if _returned(case):
            return True
        if self._rules.deletes.on_update_conflict is OnUpdateConflict.DELETE_WINS:
            return False
        undelivered = any(system in spreading for system in case.pending) and not _doomed(case)
        return undelivered or any(self._counts(name, view) for name, view in self._living(case) if view.changed)

    def _counts(self, name: str, view: View) -> bool:
        """Whether an edit may stand; where the owner depends on the record, whether any owner would let it."""
        return any(judge.counts(view) for judge in self._judges[name])

    def _living(self, case: Case) -> list[tuple[str, View]]:
        """(field, view) in every system that still has the record."""
        observed, sides = without(case.observed, case.deleted), without(case.sides, case.deleted)
        alive = msgspec.structs.replace(case, observed=observed, sides=sides)
        return [(name, view) for name in self._slots for view in self._views(alive, name)]

    # --- it ends ---

    def _ended(self, case: Case, spreading: Sequence[str]) -> Decision:
        """It ends everywhere; what was edited meanwhile, or never known where it was deleted, is told."""
        ending = self._ending(case, spreading)
        unknown = [] if ending is Operation.ARCHIVE else self._unknown(case, spreading)
        unread = frozenset(view.system for _, view in unknown if not view.known)
        if unread:
            return Decision(needs=unread)
        sides = self._remaining(case)
        if spreading:
            write = Write(ending, rules={"": self._why(case, spreading[0])})
            last = [s for s in sides if self._rules.systems[s].deletes and s not in case.away | case.left]
            writes = {s: self._instead(case.pending[s], write) if s in case.pending else write for s in last}
        else:
            writes = {s: write for s, write in case.pending.items() if s in sides and write.ends}
        winner = spreading[0] if spreading else ""
        findings = self._lost(case, winner, unknown)
        if spreading:
            kind = FindingKind.ARCHIVED if ending is Operation.ARCHIVE else FindingKind.DELETED
            findings.append(Finding(kind, "", self._why(case, winner), winner))
        return Decision(
            sides=sides,
            away=case.away | case.deleted,
            writes=writes,
            frozen={name: {} for name in case.frozen} if writes else {},
            findings=tuple(findings),
            bases=self._bases.of(case, sides),
        )

    def _instead(self, waiting: Write, write: Write) -> Write:
        """The write in place of another one, which may have arrived: finding that is no edit."""
        wanted = waiting.values if waiting.operation is Operation.UPDATE else {}
        prints = {n: (*waiting.earlier.get(n, ()), self._judges[n][0].print_of(v)) for n, v in wanted.items()}
        return msgspec.structs.replace(write, earlier={**waiting.earlier, **prints})

    def _ending(self, case: Case, spreading: Sequence[str]) -> Operation:
        """How it ends: where two rules say different things, it is archived."""
        leaving = {self._rules.systems[system].on_leave is OnLeave.ARCHIVE for system in case.left}
        deleting = {self._rules.deletes.action is DeleteAction.ARCHIVE for s in spreading if s not in case.left}
        return Operation.ARCHIVE if any(leaving | deleting) else Operation.DELETE

    def _why(self, case: Case, system: str) -> str:
        if system in case.left:
            return f"{ON_LEAVE}{self._rules.systems[system].on_leave.value}"
        return self._rules.deletes.propagate.value

    def _remaining(self, case: Case) -> dict[str, Side]:
        """The sides that are left; one that only left the filter is still there, and nothing of it is seen."""
        sides = sides_of(case)
        left = {system: _unseen(sides[system]) for system in case.left if system in sides}
        return {**without(sides, case.deleted), **left}

    def _unknown(self, case: Case, spreading: Sequence[str]) -> list[tuple[str, View]]:
        """(field, view) of values that no system where the record was deleted ever had: filled ones, or never seen."""
        sides = [case.sides[system] for system in spreading if system in case.sides]
        if not sides:
            return []
        found = []
        for name, view in self._living(case):
            known = {field(side.prints, self._slots[name]) for side in sides} - {UNSEEN}
            waiting = case.pending.get(view.system)
            replaced_anyway = waiting is not None and waiting.operation is Operation.UPDATE and name in waiting.values
            filled = view.now == UNSEEN or self._judges[name][0].fills(view)
            if not replaced_anyway and view.now not in known and filled:
                found.append((name, view))
        return found

    def _lost(self, case: Case, winner: str, unknown: Sequence[tuple[str, View]]) -> list[Finding]:
        """Values that a delete takes along: edits of this very moment, what was on its way, and `unknown`."""
        lost: dict[str, dict[str, Value]] = {}
        rest: dict[str, dict[str, Value]] = {}
        for name, view in self._living(case):
            if view.changed:
                lost.setdefault(name, {})[view.system] = view.value
            elif view.strayed or (name, view) in unknown:
                rest.setdefault(name, {})[view.system] = view.value
        for system in sorted(case.deleted & case.pending.keys()):
            write = case.pending[system]
            for name, origin in sorted(write.origins.items()):
                lost.setdefault(name, {}).setdefault(origin, write.values[name])
        rule = f"onUpdateConflict: {self._rules.deletes.on_update_conflict.value}"
        spread = self._why(case, winner)
        return [
            *(Finding(FindingKind.CONFLICT, name, rule, winner, values) for name, values in sorted(lost.items())),
            *(Finding(FindingKind.OVERWRITTEN, name, spread, winner, values) for name, values in sorted(rest.items())),
        ]

    # --- it lives on ---

    def _alive(self, case: Case, *, doomed: bool) -> Case:
        """The case of a record that lives on: without the systems where it is gone, unless it is to come back there."""
        returned = _returned(case)
        if not (case.deleted or doomed or returned):
            return case
        if doomed:
            case = msgspec.structs.replace(case, sides=self._met_anew(case, returned=returned))
        returning = self.ended_in(case) if doomed or returned else frozenset[str]()
        gone = case.deleted | returning
        back = frozenset(
            s
            for s in gone - case.left
            if s not in case.away - returning and self._rules.deletes_spread_from(s) and self._rules.systems[s].creates
        )
        pending = {s: w for s, w in case.pending.items() if s not in gone and (w.keeps_away or not w.ends)}
        return msgspec.structs.replace(
            case,
            sides=self._remaining(msgspec.structs.replace(case, observed={})),
            observed=without(case.observed, case.deleted),
            away=(case.away | case.deleted) - back,
            pending=pending,
            deleted=case.deleted | back,
            create_in=(case.create_in - case.deleted) | back,
        )

    def _met_anew(self, case: Case, *, returned: bool) -> dict[str, Side]:
        """The sides of a record that was to end and lives on.

        What was edited meanwhile counts as seen, and went nowhere: when the record came back, everything is met as if
        for the first time, else what only its owner may edit, and what was on its way when the record was to end. But
        an edit of this very moment is one: it spreads.
        """
        unseen = {self._slots[name]: UNSEEN for name in (self._slots if returned else self._unsettled(case))}
        width = len(self._slots)
        return {s: msgspec.structs.replace(i, prints=replaced(i.prints, unseen, width)) for s, i in case.sides.items()}

    def _unsettled(self, case: Case) -> set[str]:
        """The fields in which systems may differ for good since the record was to end."""
        owned = {n for n, judges in self._judges.items() if judges[0].rule.edits is Edits.SYSTEM_OF_RECORD_ONLY}
        dropped = {name for write in case.pending.values() if write.ends for name in write.earlier}
        edited = {name for name, view in self._living(case) if view.changed}
        return owned | ((dropped & self._slots.keys()) - edited)


def _returned(case: Case) -> bool:
    """Whether the record came back where it was gone: created again, un-archived, or again inside the filter."""
    return not case.away.isdisjoint(case.observed)


def _doomed(case: Case) -> bool:
    return any(write.ends and not write.keeps_away for write in case.pending.values())


def _without_undone(case: Case) -> Case:
    """The case without the copies that an undo was to delete, and that are gone: that is no delete of anybody's."""
    done = frozenset(s for s in case.deleted if s in case.pending and case.pending[s].keeps_away)
    if not done:
        return case
    return msgspec.structs.replace(
        case,
        sides=without(case.sides, done),
        observed=without(case.observed, done),
        away=case.away | done,
        pending=without(case.pending, done),
        deleted=case.deleted - done,
    )


def _unseen(side: Side) -> Side:
    return msgspec.structs.replace(side, prints=bytes(max(len(side.prints), WIDTH)))
