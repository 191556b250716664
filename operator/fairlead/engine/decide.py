"""Decide: what happens when systems disagree about a record.

`Decider.decide` is a pure function of one `Case`. Where one system edited what all agreed on, there is nothing to weigh
(`edits.py`). Else it looks at each field on its own (`fields.py` has the rules), then turns the verdicts into at most
one write per system. Three things may come first: the record was deleted somewhere (`deletes.py`), a value is needed
that was not read yet, or a write is still undelivered.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import repeat

from fairlead.engine.bases import Bases
from fairlead.engine.case import Case, Choice, Decision, Finding, Observation, Operation, Side, Write, sides_of
from fairlead.engine.deletes import Deletes
from fairlead.engine.edits import PlainEdits
from fairlead.engine.expression import Expression, ExpressionError
from fairlead.engine.fields import FieldJudge, Verdict
from fairlead.engine.fingerprint import UNSEEN, Fingerprints, difference_of, field, slots_of
from fairlead.engine.image import is_image
from fairlead.engine.rules import Rules, SystemRule
from fairlead.engine.view import View
from fairlead.engine.writes import only, with_field, with_sources
from fairlead.model.record import Record
from fairlead.model.syncpolicy import ConflictRule

_REMEMBERED = 8
"""How many replaced values of one undelivered field are remembered, so that a long outage does not fill the state."""


class Decider:
    """Decides cases by one policy's rules. Stateless: the order of calls does not matter."""

    def __init__(self, rules: Rules, prints: Fingerprints, *, enforces: bool = False) -> None:
        self.rules = rules
        first_sync = None if enforces else rules.first_sync
        self._judges = {name: FieldJudge(rule, prints, first_sync) for name, rule in rules.fields.items()}
        self._names = tuple(rules.fields)
        self._holders = {name: _holders(rules, name) for name in rules.fields}
        self._conditions: dict[str, tuple[Expression, FieldJudge]] = {
            name: (rule.condition.when, FieldJudge(rule.condition.then, prints, first_sync))
            for name, rule in rules.fields.items()
            if rule.condition is not None
        }
        self.bases = Bases(rules)
        self._plain = PlainEdits(rules, self.bases)
        otherwise = {name: (judge,) for name, (_, judge) in self._conditions.items()}
        judges = {name: (judge, *otherwise.get(name, ())) for name, judge in self._judges.items()}
        self._deletes = Deletes(rules, judges, self._views, self.bases)

    def creatable(self, system: str, targets: Iterable[str]) -> list[str]:
        """Those systems that get a record of which only `system` is known: where there is something to be written."""
        mapped = self.rules.systems[system].readable
        return sorted(target for target in targets if mapped & self.rules.systems[target].writable)

    def creates(self, system: str, records: Sequence[Record], target: str) -> list[Write]:
        """What `decide` says of records that only `system` has: each is created in one that is `creatable`.

        There is nothing to weigh, whatever the rules are, so that a page of them is decided as a whole.
        """
        mapped, writable = self.rules.systems[system].readable, self.rules.systems[target].writable
        wanted = [record.values for record in records]
        if not mapped <= writable:
            wanted = [{name: value for name, value in its.items() if name in writable} for its in wanted]
        all_fields = dict.fromkeys(sorted(mapped & writable), system)
        origins = [all_fields if len(its) == len(all_fields) else dict.fromkeys(its, system) for its in wanted]
        timed = any(record.modified is not None or record.times for record in records)
        none: Iterable[dict[str, datetime]] = repeat({})
        times = map(Record.times_of, records, wanted) if timed else none
        return list(map(Write, repeat(Operation.CREATE), wanted, origins, times))

    def decide(self, case: Case) -> Decision:
        """What to remember and write for one record.

        Fields that no system changed are left alone. The result does not depend on the order of `case`'s mappings.
        """
        plain = self._plain.decide(case)
        if plain is not None:
            return plain
        if case.deleted or case.pending or case.away:
            weighed = self._deletes.weigh(case)
            if isinstance(weighed, Decision):
                return weighed
            case = weighed
        verdicts = self._verdicts(case)
        needs = {verdict.needs for verdict in verdicts.values() if verdict.needs}
        needs |= {
            target for name, its in verdicts.items() if its.frozen is not None for target in _doubtful(case, name)
        }
        if needs:
            return Decision(needs=frozenset(needs))
        return self._conclude(case, verdicts)

    def resolve(self, case: Case, choices: Sequence[Choice]) -> Decision:
        """The decision where a person chose the values of frozen fields; those that are not among them wait on."""
        chosen = {
            choice.field: self._judges[choice.field].chosen(
                self._views(case, choice.field), choice.origin, choice.value, choice.said, choice.rule
            )
            for choice in choices
        }
        return self._conclude(case, {**{name: Verdict(frozen={}) for name in case.frozen}, **chosen})

    # --- fields ---

    def _verdicts(self, case: Case) -> dict[str, Verdict]:
        verdicts = {}
        for name in self._touched(case):
            verdict = self._judged(case, name) if name in self._conditions else self._judge(self._judges[name], case)
            if verdict is not None:
                verdicts[name] = verdict
        return verdicts

    def _judge(self, judge: FieldJudge, case: Case) -> Verdict | None:
        name = judge.rule.field.name
        return judge.judge(
            self._views(case, name),
            self._undelivered(case, name),
            case.read_at,
            frozen=name in case.frozen,
            competing=case.competing.get(name, frozenset()),
            unsure=_unsure(case, name) if case.pending else case.unsure,
            bases=case.bases.get(name, {}),
        )

    def _touched(self, case: Case) -> list[str]:
        """The fields that something is to be said of, in their order: read otherwise than seen, or frozen."""
        difference = 0
        for system, observation in case.observed.items():
            side = case.sides.get(system)
            difference |= difference_of(side.prints if side else b"", observation.prints)
        names = [self._names[slot] for slot in slots_of(difference)]
        if not case.frozen:
            return names
        return [name for name in self._names if name in case.frozen or name in names]

    def _views(self, case: Case, name: str) -> list[View]:
        """The field in each system that has it; a value that is not known is what was seen there, if any was."""
        slot = self.rules.fields[name].field.slot
        views = []
        for rule, writable in self._holders[name]:
            system = rule.name
            side, observation = case.sides.get(system), case.observed.get(system)
            if observation is not None and name in observation.record.values:
                echoes = self._echoes(case, system, name) if case.pending else ()
                views.append(_view(rule, name, slot, side, observation, echoes, writable))
            elif side is not None and system not in case.away:
                seen = field(side.prints, slot)
                if observation is None or seen != UNSEEN:
                    views.append(View(system, rule.reads, seen, seen, False, None, None, writable))
        return views

    def _echoes(self, case: Case, system: str, name: str) -> tuple[bytes, ...]:
        """What we may have written there without knowing: finding it is no edit."""
        write = case.pending.get(system)
        if write is None or system not in case.observed:
            return ()
        if name not in write.values:
            return write.earlier.get(name, ())
        wanted, observation = write.values[name], case.observed[system]
        known = (self._judges[name].print_of(wanted), *write.earlier.get(name, ()))
        rule = self.rules.fields[name]
        if system in case.unsure and is_image(rule.field.kind, wanted, observation.record.values.get(name)):
            return (*known, field(observation.prints, rule.field.slot))  # what the system made of it
        return known

    def _undelivered(self, case: Case, name: str) -> dict[str, View]:
        """Target → the value of this field that has not reached it yet, as its origin's change."""
        if not case.pending:
            return {}
        return {
            target: self._judges[name].pending_view(write.origins[name], write.values[name], write.modified.get(name))
            for target, write in case.pending.items()
            if name in write.origins and target not in case.away
        }

    # --- owners that depend on the record ---

    def _judged(self, case: Case, name: str) -> Verdict | None:
        """The verdict on a field whose owner depends on the record, which is read first."""
        subject = self._subject(case)
        if subject is not None and subject not in case.observed:
            return Verdict(needs=subject)
        try:
            return self._judge(self._owners_judge(case, name, subject), case)
        except ExpressionError as error:
            return self._ownerless(case, name, str(error))

    def _subject(self, case: Case) -> str | None:
        """The system whose view of the record says who owns what: the system of record, else the first that has it."""
        for system in dict.fromkeys((self.rules.system_of_record, *self.rules.priority)):
            there = system in case.observed or (system in case.sides and system not in case.away)
            if there and self.rules.systems[system].reads:
                return system
        return None

    def _owners_judge(self, case: Case, name: str, subject: str | None) -> FieldJudge:
        """The judge by the rule that holds for this record.

        Raises:
            ExpressionError: the condition failed.
        """
        when, judge = self._conditions[name]
        met = when.evaluate({"record": case.observed[subject].record.values if subject else {}})
        if not isinstance(met, bool):
            raise ExpressionError(f"{when.source!r} gives neither true nor false")
        return judge if met else self._judges[name]

    def _unread_subject(self, case: Case, target: str) -> str | None:
        """The system that must be read to say who owns the fields of a new copy; None when there is none."""
        depends = not self._conditions.keys().isdisjoint(self.rules.systems[target].writable)
        subject = self._subject(case) if depends else None
        return None if subject in case.observed else subject

    def _copier(self, case: Case, name: str) -> FieldJudge:
        """Who says what a new copy gets of a field; where nobody is known to own it, as if no condition were met."""
        if name not in self._conditions:
            return self._judges[name]
        try:
            return self._owners_judge(case, name, self._subject(case))
        except ExpressionError:
            return self._judges[name]

    def _ownerless(self, case: Case, name: str, why: str) -> Verdict | None:
        """Nobody is known to own the field: unless its systems agree, it waits for a person."""
        readers = [view for view in self._views(case, name) if view.reads]
        unread = next((view.system for view in readers if not view.known), None)
        if len({view.now for view in readers}) <= 1:
            return self._judge(self._judges[name], case)
        if unread is not None:
            return Verdict(needs=unread)
        verdict = self._judges[name].freeze(readers, f"systemOfRecordWhen: {why}")
        return Verdict(frozen=verdict.frozen) if name in case.frozen else verdict

    # --- the decision ---

    def _conclude(self, case: Case, verdicts: dict[str, Verdict]) -> Decision:
        writes = self._still_pending(case, verdicts) if case.pending else {}
        leaving = {target for target, write in writes.items() if write.keeps_away} if writes else ()
        for name, verdict in verdicts.items():
            for target in verdict.targets:
                if name in self.rules.systems[target].writable and target not in leaving:
                    before = case.pending.get(target)
                    unsure = before is not None and target in _unsure(case, name)
                    earlier = self._earlier(before, name, verdict, unsure=unsure) if before is not None else ()
                    writes[target] = with_field(writes.get(target), name, verdict, target, earlier, unsure=unsure)
        if case.create_in or case.pending:
            needs = self._add_creates(case, verdicts, writes)
            if needs:
                return Decision(needs=needs)
        sides = sides_of(case)
        return Decision(
            sides=sides,
            away=case.away.difference(case.observed) if case.away else case.away,
            writes=writes,
            frozen={name: v.frozen for name, v in verdicts.items() if v.frozen is not None},
            findings=self._findings(case, verdicts),
            bases=self.bases.of(case, sides),
        )

    def _still_pending(self, case: Case, verdicts: dict[str, Verdict]) -> dict[str, Write]:
        """Undelivered writes without the fields that are frozen, or are there already; an emptied one is dropped."""
        kept = {}
        for target, write in case.pending.items():
            there = target in case.sides or target in case.observed
            if target not in self.rules.systems or (target in case.away and target not in case.observed):
                continue
            if write.operation is Operation.CREATE:
                if not there:  # else the record turned up: what differs is a first meeting now
                    kept[target] = write
                continue
            if write.keeps_away:
                if there and not self._edited(case, target):
                    kept[target] = write
                continue
            names = {name for name in write.values if self._still_wanted(case, target, name, verdicts.get(name))}
            if there and names:
                kept[target] = write if len(names) == len(write.values) else only(write, names)
        return kept

    def _edited(self, case: Case, system: str) -> bool:
        """Whether the record reads otherwise there than it was seen."""
        observation, side = case.observed.get(system), case.sides.get(system)
        return observation is not None and (side is None or difference_of(side.prints, observation.prints) != 0)

    def _still_wanted(self, case: Case, target: str, name: str, verdict: Verdict | None) -> bool:
        """Whether an undelivered value is still to be written; one that is written anew is replaced later."""
        if name not in self.rules.systems[target].writable or (verdict and verdict.frozen is not None):
            return False
        observation = case.observed.get(target)
        if observation is None:
            return True
        value = case.pending[target].values[name]
        if self._judges[name].spares(observation.record.values.get(name), value):
            return False
        wanted = self._judges[name].print_of(value)
        if verdict is not None and verdict.winner is not None:
            wanted = verdict.winner.now
        return field(observation.prints, self.rules.fields[name].field.slot) != wanted

    def _earlier(self, write: Write, name: str, verdict: Verdict, *, unsure: bool) -> tuple[bytes, ...]:
        """Fingerprints of the values that `write` may have brought already.

        Of a merge only where it was sent: an edit may well come to a value that was on its way before.
        """
        if write.operation is not Operation.UPDATE or name not in write.values:
            return ()
        if self.rules.fields[name].on_conflict is ConflictRule.MERGE and not unsure:
            return ()
        assert verdict.winner is not None
        known = dict.fromkeys((*write.earlier.get(name, ()), self._judges[name].print_of(write.values[name])))
        known.pop(verdict.winner.now, None)
        return tuple(known)[-_REMEMBERED:]

    def _add_creates(self, case: Case, verdicts: dict[str, Verdict], writes: dict[str, Write]) -> frozenset[str]:
        """Adds a create for each system that lacks the record; returns systems whose values that needs."""
        needs: set[str] = set()
        wanted = case.create_in & case.deleted if self._deletes.ended_in(case) else case.create_in
        waiting = {name for name, write in writes.items() if write.operation is Operation.CREATE}
        for target in sorted((wanted | waiting) - case.away):
            if target in case.sides or target in case.observed:
                continue
            unread = self._unread_subject(case, target)
            if unread is not None:
                return frozenset({unread})
            write = writes.get(target, Write(Operation.CREATE))
            sources = self._sources(case, target, write, verdicts)
            if not sources and not write.values:
                writes.pop(target, None)  # the record is gone from the last system that had it
                continue
            needs |= {source.system for source in sources.values() if not source.known}
            writes[target] = with_sources(write, sources)
        return frozenset(needs)

    def _sources(self, case: Case, target: str, write: Write, verdicts: dict[str, Verdict]) -> dict[str, View]:
        """Field → whose value a new copy gets: the winner's, else what the record says; not what it has already."""
        sources = {}
        for name in sorted(self.rules.systems[target].writable):
            verdict = verdicts.get(name)
            source = verdict.winner if verdict is not None else None
            if source is None and name not in write.values:
                views = [view for view in self._views(case, name) if view.known or view.system not in case.observed]
                source = self._copier(case, name).copied(views, self._undelivered(case, name))
            if source is not None:
                sources[name] = source
        return sources

    def _findings(self, case: Case, verdicts: dict[str, Verdict]) -> tuple[Finding, ...]:
        found = tuple(finding for verdict in verdicts.values() for finding in verdict.findings)
        return (*found, *self._deletes.findings(case)) if case.deleted or case.away else found


def _holders(rules: Rules, name: str) -> list[tuple[SystemRule, bool]]:
    """The systems that have a field, by priority, and whether it may be written there."""
    systems = [rules.systems[system] for system in rules.priority]
    return [(rule, name in rule.writable) for rule in systems if rule.maps(name)]


def _view(
    rule: SystemRule,
    name: str,
    slot: int,
    side: Side | None,
    observation: Observation,
    echoes: Sequence[bytes],
    writable: bool,
) -> View:
    seen = field(side.prints, slot) if side else UNSEEN
    now = field(observation.prints, slot)
    if echoes and seen != UNSEEN and now in echoes:
        seen = now
    record = observation.record
    modified = record.time_of(name) if record.times else record.modified
    return View(rule.name, rule.reads, seen, now, True, record.values.get(name), modified, writable)


def _doubtful(case: Case, name: str) -> list[str]:
    """Systems to be read before a value that is on its way there is dropped: found later, it would pass for an edit."""
    return [s for s in _unsure(case, name) if s in case.sides and s not in case.observed and s not in case.away]


def _unsure(case: Case, name: str) -> frozenset[str]:
    """Systems that may have received some undelivered value of a field, without our knowing."""
    writes = case.pending.items()
    return frozenset(s for s, write in writes if name in write.values and (s in case.unsure or name in write.unsure))
