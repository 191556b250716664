"""One field `x` of one record, as the systems of a policy hold it: what a `FieldJudge` is asked with."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from fairlead.engine.case import EDIT, Finding, FindingKind
from fairlead.engine.fields import FieldJudge, Verdict
from fairlead.engine.fingerprint import UNSEEN
from fairlead.engine.rules import compile_rules
from fairlead.engine.view import View
from fairlead.model.record import Value
from support.simulation import PRINTS, START, spec_of

SYSTEMS = ("crm", "erp", "shop")


class OneField:
    """The field under one policy; `crm` is the system of record where no other systems are given."""

    def __init__(self, *systems: Any, kind: dict[str, Any] | None = None, enforces: bool = False, **spec: Any) -> None:
        schema = {"type": "object", "properties": {"x": kind or {"type": "string"}}}
        self.rules = compile_rules(spec_of(systems or SYSTEMS, ("x",), schema=schema, **spec))
        self.judge = FieldJudge(self.rules.fields["x"], PRINTS, None if enforces else self.rules.first_sync)

    def _view(self, system: str, seen: bytes, now: bytes, *, known: bool, value: Value, at: datetime | None) -> View:
        rule = self.rules.systems[system]
        return View(system, rule.reads, seen, now, known, value, at, "x" in rule.writable)

    def seen(self, system: str, value: Value) -> View:
        """Not read now; this is what it said last."""
        print_ = self.judge.print_of(value)
        return self._view(system, print_, print_, known=False, value=None, at=None)

    def same(self, system: str, value: Value) -> View:
        """Read now, and as it was."""
        return self.edited(system, value, before=value)

    def edited(self, system: str, value: Value, *, before: Value = "old", at: datetime | None = None) -> View:
        """Read now, and not as it was before."""
        seen, now = self.judge.print_of(before), self.judge.print_of(value)
        return self._view(system, seen, now, known=True, value=value, at=at)

    def met(self, system: str, value: Value) -> View:
        """Read for the first time."""
        return self._view(system, UNSEEN, self.judge.print_of(value), known=True, value=value, at=None)

    def never_read(self, system: str) -> View:
        """There, and nothing is known of it."""
        return self._view(system, UNSEEN, UNSEEN, known=False, value=None, at=None)

    def coming(self, origin: str, value: Value) -> View:
        """On its way from another system."""
        return self.judge.pending_view(origin, value, None)

    def weigh(
        self, *views: View, undelivered: dict[str, View] | None = None, frozen: bool = False, **more: Any
    ) -> dict[str, Any] | None:
        """What is said of it (`outcome`)."""
        return outcome(self.judge.judge(views, undelivered or {}, START, frozen=frozen, **more))


def outcome(verdict: Verdict | None) -> dict[str, Any] | None:
    """A verdict without what says nothing."""
    if verdict is None:
        return None
    parts = {
        "stands": verdict.winner and (verdict.winner.system, verdict.winner.value),
        "goes_to": verdict.targets,
        "overwritten": set(verdict.overwritten),
        "waits": verdict.frozen,
        "needs": verdict.needs,
        "told": list(verdict.findings),
        "reason": verdict.reason if verdict.reason != EDIT else None,
    }
    return {name: part for name, part in parts.items() if part or (name == "waits" and part is not None)}


def told(kind: FindingKind, rule: str, winner: str, **values: Value) -> Finding:
    """A finding on the field."""
    return Finding(kind, "x", rule, winner, values)
