"""Report: what a policy's runs add up to."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from fairlead.model.health import Halted, Measured, RunSummary, SystemHealth, WorkerError
from fairlead.state.base import Counts, RunRecord, StateError
from fairlead.worker.run import RunReport

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


def measured(
    before: Measured, generation: int, report: RunReport, counts: Counts, history: Sequence[RunRecord]
) -> Measured:
    """The measurement after a run."""
    return Measured(
        observed_generation=generation,
        last_sync_time=moment(report.ended) if report.good else before.last_sync_time,
        lag=duration(report.ended - report.started),
        records=counts.records,
        conflicts=counts.conflicts,
        dead_letters=counts.dead,
        pending=counts.pending,
        planned=report.tally.planned + counts.held,
        systems=_systems(before, report),
        history=tuple(_summary(run) for run in history[:HISTORY]),
        halted=Halted(report.halt.plan, report.halt.message, report.halt.writes) if report.halt else None,
        last_handled_request_at=before.last_handled_request_at,
        last_handled_resync_request_at=before.last_handled_resync_request_at,
    )


def broken(before: Measured, error: StateError) -> Measured:
    """The measurement when the state itself cannot be used."""
    return msgspec.structs.replace(before, error=WorkerError(error.reason, str(error)))


def _systems(before: Measured, report: RunReport) -> tuple[SystemHealth, ...]:
    changes = {system.name: system.last_change_time for system in before.systems}
    found = []
    for name, tally in sorted(report.tally.systems.items()):
        changed = moment(tally.last_change) if tally.last_change else changes.get(name)
        found.append(SystemHealth(name, name not in report.failures, tally.reason, tally.message, changed))
    return tuple(found)


def _summary(run: RunRecord) -> RunSummary:
    counts = {name: count for name, count in run.counts.items() if count}
    return RunSummary(
        run.id, run.kind, run.outcome, moment(run.started), duration(run.ended - run.started), run.message, counts
    )
