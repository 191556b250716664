"""Report: what a policy's runs add up to."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from fairlead.model.health import Halted, Measured, RunSummary, SystemHealth
from fairlead.state.base import Counts, RunRecord, StateError
from fairlead.worker.run import Outcome, RunReport

HISTORY = 5
"""Runs shown in a status."""


def moment(epoch: float) -> str:
    """RFC 3339 in UTC, whole seconds, as Kubernetes writes times."""
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def duration(seconds: float) -> str:
    """A length of time for people: `84ms`, `4s`, `3m`, `2h`, `6d`."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{int(seconds * 1000)}ms"


def measured(before: Measured, report: RunReport, counts: Counts, history: Sequence[RunRecord]) -> Measured:
    """The measurement after a run."""
    good = report.outcome in (Outcome.SUCCEEDED, Outcome.HALTED)
    return Measured(
        last_sync_time=moment(report.ended) if good else before.last_sync_time,
        last_attempt_time=moment(report.ended),
        lag=duration(report.ended - report.started),
        records=counts.records,
        conflicts=counts.conflicts,
        dead_letters=counts.dead,
        pending=counts.pending + counts.held,
        planned=report.tally.planned,
        systems=_systems(before, report),
        history=tuple(_summary(run) for run in history[:HISTORY]),
        halted=Halted(report.halt.plan, report.halt.message, report.halt.writes) if report.halt else None,
        handled_request=before.handled_request,
        handled_resync=before.handled_resync,
    )


def broken(before: Measured, error: StateError) -> Measured:
    """The measurement when the state itself cannot be used."""
    return msgspec.structs.replace(before, error=error.reason, message=str(error))


def _systems(before: Measured, report: RunReport) -> tuple[SystemHealth, ...]:
    changes = {system.name: system.last_change_time for system in before.systems}
    found = []
    for name, tally in sorted(report.tally.systems.items()):
        changed = moment(tally.last_change) if tally.last_change else changes.get(name)
        found.append(SystemHealth(name, name not in report.failures, tally.reason, tally.message, changed))
    return tuple(found)


def _summary(run: RunRecord) -> RunSummary:
    written = sum(run.counts.get(name, 0) for name in ("created", "updated", "deleted"))
    return RunSummary(
        id=run.id,
        kind=run.kind,
        start_time=moment(run.started),
        duration=duration(run.ended - run.started),
        outcome=run.outcome,
        message=run.message,
        changed=run.counts.get("changed", 0),
        written=written,
    )
