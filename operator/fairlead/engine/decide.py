"""Decide: what happens when systems disagree about a record.

`Decider.decide` is a pure function of one `Case`. It looks at each field on its own (`fields.py` has the rules), then
turns the verdicts into at most one write per system. Three things may come first: the record was deleted somewhere,
a value is needed that was not read yet, or a write is still undelivered.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TypeVar

import msgspec

from fairlead.engine.case import Case, Decision, Finding, FindingKind, Observation, Operation, Side, Write
from fairlead.engine.fields import FieldJudge, Verdict, View
from fairlead.engine.fingerprint import UNSEEN, Fingerprints, field
from fairlead.engine.rules import Rules, SystemRule
from fairlead.model.syncpolicy import OnUpdateConflict

T = TypeVar("T")


class Decider:
    """Decides cases by one policy's rules. Stateless: the order of calls does not matter."""

    def __init__(self, rules: Rules, prints: Fingerprints) -> None:
        self.rules = rules
        self._judges = {name: FieldJudge(rule, prints, rules.first_sync) for name, rule in rules.fields.items()}

    def fresh(self, system: str, observation: Observation, create_in: frozenset[str]) -> Decision:
        """The decision for a record that only `system` has: it is created wherever it is wanted."""
        values = observation.record.values
        writes = {}
        for name in create_in:
            target = self.rules.systems[name]
            wanted = {f: v for f, v in values.items() if f in target.writable}
            writes[name] = Write(Operation.CREATE, wanted, dict.fromkeys(wanted, system), observation.record.modified)
        return Decision(sides={system: observation.side()}, writes=writes)

    def decide(self, case: Case) -> Decision:
        """What to remember and write for one record.

        Fields that no system changed are left alone. The result does not depend on the order of `case`'s mappings.
        """
        if case.deleted:
            ended = self._deleted(case)
            if ended is not None:
                return ended
            case = self._without_deleted(case)
        elif any(write.operation is Operation.DELETE for write in case.pending.values()):
            if not self._update_wins(case):
                return self._doomed(case)
            case = self._reprieved(case)
        verdicts = self._verdicts(case)
        needs = frozenset(v.needs for v in verdicts.values() if v.needs)
        if needs:
            return Decision(needs=needs)
        return self._conclude(case, verdicts)

    # --- deletes ---

    def _deleted(self, case: Case) -> Decision | None:
        """The delete spreads: the whole decision. None when it does not."""
        spreading = sorted(s for s in case.deleted if self.rules.deletes_spread_from(s))
        if not spreading or self._update_wins(case):
            return None
        remaining = {name: side for name, side in case.sides.items() if name not in case.deleted}
        doomed = [name for name in remaining if self.rules.systems[name].deletes]
        finding = Finding(FindingKind.DELETED, "", self.rules.deletes.propagate.value, spreading[0])
        return Decision(
            sides=remaining,
            away=case.away | case.deleted,
            writes={name: Write(Operation.DELETE) for name in doomed},
            findings=(finding,),
        )

    def _update_wins(self, case: Case) -> bool:
        if self.rules.deletes.on_update_conflict is OnUpdateConflict.DELETE_WINS:
            return False
        alive = msgspec.structs.replace(case, deleted=frozenset(), observed=_except(case.observed, case.deleted))
        edited = any(view.changed for name in self.rules.fields for view in self._views(alive, name))
        undelivered = any(
            write.operation is not Operation.DELETE for name, write in case.pending.items() if name in case.deleted
        )
        return edited or undelivered

    def _without_deleted(self, case: Case) -> Case:
        """The case without the systems where the record is gone: it comes back there only if an update wins."""
        back = frozenset(s for s in case.deleted if self.rules.deletes_spread_from(s) and self.rules.systems[s].creates)
        return msgspec.structs.replace(
            case,
            sides=_except(case.sides, case.deleted),
            observed=_except(case.observed, case.deleted),
            away=(case.away | case.deleted) - back,
            pending=_except(case.pending, case.deleted),
            create_in=(case.create_in - case.deleted) | back,
        )

    def _doomed(self, case: Case) -> Decision:
        """The record waits for its delete; what was read meanwhile is only remembered."""
        sides = {**case.sides, **{name: _merged(case.sides.get(name), o) for name, o in case.observed.items()}}
        return Decision(sides=sides, away=case.away, writes=dict(case.pending))

    def _reprieved(self, case: Case) -> Case:
        """An update came before the delete was carried out: the record comes back where it was deleted."""
        back = frozenset(s for s in case.away if self.rules.deletes_spread_from(s) and self.rules.systems[s].creates)
        pending = {name: write for name, write in case.pending.items() if write.operation is not Operation.DELETE}
        return msgspec.structs.replace(
            case, pending=pending, deleted=back, away=case.away - back, create_in=case.create_in | back
        )

    # --- fields ---

    def _verdicts(self, case: Case) -> dict[str, Verdict]:
        verdicts = {}
        for name, judge in self._judges.items():
            verdict = judge.judge(
                self._views(case, name), self._undelivered(case, name), case.read_at, frozen=name in case.frozen
            )
            if verdict is not None:
                verdicts[name] = verdict
        return verdicts

    def _views(self, case: Case, name: str) -> list[View]:
        slot = self.rules.fields[name].field.slot
        views = []
        for system in self.rules.priority:
            rule = self.rules.systems[system]
            side, observation = case.sides.get(system), case.observed.get(system)
            gone = system in case.away or side is None
            if not rule.maps(name) or (gone and observation is None):
                continue
            views.append(_view(rule, name, slot, side, observation))
        return views

    def _undelivered(self, case: Case, name: str) -> dict[str, View]:
        """Target → the value of this field that has not reached it yet, as its origin's change."""
        return {
            target: self._judges[name].pending_view(write.origins[name], write.values[name], write.modified)
            for target, write in case.pending.items()
            if name in write.origins
        }

    # --- the decision ---

    def _conclude(self, case: Case, verdicts: dict[str, Verdict]) -> Decision:
        writes = self._still_pending(case, verdicts)
        for name, verdict in verdicts.items():
            for target in verdict.targets:
                if name in self.rules.systems[target].writable:
                    writes[target] = _with_field(writes.get(target), name, verdict, target, _modified(case))
        needs = self._add_creates(case, verdicts, writes)
        if needs:
            return Decision(needs=needs)
        sides = {**case.sides, **{s: _merged(case.sides.get(s), o) for s, o in case.observed.items()}}
        return Decision(
            sides=sides,
            away=case.away - frozenset(case.observed),
            writes=writes,
            frozen={name: v.frozen for name, v in verdicts.items() if v.frozen is not None},
            findings=self._findings(case, verdicts),
        )

    def _still_pending(self, case: Case, verdicts: dict[str, Verdict]) -> dict[str, Write]:
        """Undelivered writes without the fields that are decided anew; an emptied update is dropped."""
        kept = {}
        for target, write in case.pending.items():
            if write.operation is Operation.CREATE and (target in case.sides or target in case.observed):
                continue  # the record turned up there: what differs is a first meeting now
            values = {f: v for f, v in write.values.items() if f not in verdicts}
            if write.operation is Operation.CREATE:
                values = write.values
            elif write.operation is Operation.DELETE or not values:
                continue
            origins = {f: o for f, o in write.origins.items() if f in values}
            guarded = tuple(f for f in write.guarded if f in values)
            kept[target] = msgspec.structs.replace(write, values=values, origins=origins, guarded=guarded)
        return kept

    def _add_creates(self, case: Case, verdicts: dict[str, Verdict], writes: dict[str, Write]) -> frozenset[str]:
        """Adds a create for each system that lacks the record; returns systems whose values that needs."""
        needs: set[str] = set()
        waiting_creates = {name for name, write in case.pending.items() if write.operation is Operation.CREATE}
        for target in sorted((case.create_in | waiting_creates) - case.away):
            if target in case.sides or target in case.observed:
                continue
            waiting = writes.get(target)
            known = waiting.values if waiting and waiting.operation is Operation.CREATE else {}
            values, origins = dict(known), dict(waiting.origins) if waiting and known else {}
            for name in sorted(self.rules.systems[target].writable):
                source = self._source(case, name, verdicts.get(name))
                if source is None or (name in values and name not in verdicts):
                    continue
                if not source.known:
                    needs.add(source.system)
                values[name], origins[name] = source.value, source.system
            writes[target] = Write(Operation.CREATE, values, origins, _modified(case))
        return frozenset(needs)

    def _source(self, case: Case, name: str, verdict: Verdict | None) -> View | None:
        """Whose value of a field a new copy gets: the winner's, else the owner's, else by priority."""
        if verdict is not None and verdict.winner is not None:
            return verdict.winner
        views = [view for view in self._views(case, name) if view.reads]
        return self._judges[name].preferred(views)

    def _findings(self, case: Case, verdicts: dict[str, Verdict]) -> tuple[Finding, ...]:
        found = [finding for verdict in verdicts.values() for finding in verdict.findings]
        for system in sorted(case.deleted):
            if system in case.create_in:
                rule = self.rules.deletes.on_update_conflict.value
                found.append(Finding(FindingKind.RECREATED, "", rule, system))
            else:
                rule = self.rules.deletes.propagate.value
                found.append(Finding(FindingKind.DELETE_NOT_SPREAD, "", rule, system))
        return tuple(found)


def _view(rule: SystemRule, name: str, slot: int, side: Side | None, observation: Observation | None) -> View:
    seen = field(side.prints, slot) if side else UNSEEN
    if observation is None:
        return View(rule.name, rule.reads, seen, seen)
    values = observation.record.values
    return View(
        rule.name,
        rule.reads,
        seen,
        field(observation.prints, slot),
        True,
        values.get(name),
        observation.record.modified,
    )


def _merged(side: Side | None, observation: Observation) -> Side:
    fresh = observation.side()
    return fresh if side is None or fresh.version is not None else msgspec.structs.replace(fresh, version=side.version)


def _with_field(write: Write | None, name: str, verdict: Verdict, target: str, modified: datetime | None) -> Write:
    assert verdict.winner is not None
    write = write or Write(Operation.UPDATE)
    return msgspec.structs.replace(
        write,
        values={**write.values, name: verdict.winner.value},
        origins={**write.origins, name: verdict.winner.system},
        modified=verdict.winner.modified or write.modified or modified,
        guarded=(*write.guarded, name) if target in verdict.overwritten else write.guarded,
    )


def _modified(case: Case) -> datetime | None:
    times = [o.record.modified for o in case.observed.values() if o.record.modified is not None]
    return max(times, default=None)


def _except(mapping: Mapping[str, T], names: frozenset[str]) -> dict[str, T]:
    return {name: value for name, value in mapping.items() if name not in names}
