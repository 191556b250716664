"""Judging: whether a record may be changed as it is just before the write.

It may be as it was seen, already as it is wanted, or edited meanwhile. An edit counts where it is to be overwritten,
and where the write would make it look newer than it is (`SystemRule.dated`).
"""

from __future__ import annotations

from collections.abc import Callable

from fairlead.connectors.base import Verdict
from fairlead.engine.case import Operation, Side
from fairlead.engine.fingerprint import field
from fairlead.model.record import Native
from fairlead.state.base import Intent
from fairlead.worker.crossing import Crossing
from fairlead.worker.session import Session
from fairlead.worker.written import Before, Written


class Judge:
    """Of one delivery; `written` is told what was there."""

    def __init__(self, session: Session, crossing: Crossing, written: Written) -> None:
        self._session = session
        self._crossing = crossing
        self._written = written

    def check(self, intent: Intent, side: Side | None) -> Callable[[Native], Verdict]:
        """What judges the record, of which `side` is remembered."""
        write = intent.write
        if write.operation is Operation.CREATE or side is None:
            return proceed
        rule = self._session.rules.systems[intent.system]
        fields = self._session.rules.fields

        def check(native: Native) -> Verdict:
            if write.operation is Operation.ARCHIVE and rule.mapping.is_archived(native):
                self._written.saw(intent, Before({}, done=True))
                return Verdict.DONE
            names = write.values.keys() | rule.dated if write.operation is Operation.UPDATE else rule.readable
            slots = {name: fields[name].field.slot for name in names}
            there = self._session.readers[intent.system].single("", native, None, None)
            if there is None:
                return Verdict.CONFLICT
            current = self._crossing.seen(intent.system, there)
            now, same = {name: field(current.prints, slot) for name, slot in slots.items()}, set[str]()
            if write.operation is Operation.UPDATE:
                wanted = {name: self._session.print_of(name, value) for name, value in write.values.items()}
                same = {name for name, print_ in wanted.items() if now[name] == print_}
                if len(same) == len(wanted):
                    self._written.saw(intent, Before(current.record.values, done=True))
                    return Verdict.DONE
                now = {name: found for name, found in now.items() if name not in same}
            as_seen = all(
                found == field(side.prints, slots[name]) or found in write.earlier.get(name, ())
                for name, found in now.items()
            )
            if as_seen:
                self._written.saw(intent, Before(current.record.values, same))
            return Verdict.PROCEED if as_seen else Verdict.CONFLICT

        return check


def proceed(_: Native) -> Verdict:
    """Judges a create: nothing is there to be judged."""
    return Verdict.PROCEED
