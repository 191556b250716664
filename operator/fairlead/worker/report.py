"""Report: what a policy's runs add up to."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from fairlead.engine.case import FindingKind
from fairlead.model.health import Halted, Measured, PolicyReason, RunSummary, SystemHealth, WorkerError
from fairlead.state.base import StateError
from fairlead.state.history import Counts, RunRecord
from fairlead.worker.run import RunReport
from fairlead.worker.tally import FORGOTTEN, PASSED_OVER, SystemTally, skewed

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
        waiting=report.tally.waiting,
        planned=report.tally.planned + counts.held,
        systems=_systems(before, report),
        history=tuple(_summary(run) for run in history[:HISTORY]),
        halted=Halted(report.halt.plan, report.halt.message, report.halt.writes) if report.halt else None,
        last_handled_request_at=before.last_handled_request_at,
        last_handled_resync_request_at=before.last_handled_resync_request_at,
        last_handled_enforce_request_at=before.last_handled_enforce_request_at,
    )


def broken(before: Measured, error: StateError) -> Measured:
    """The measurement when the state itself cannot be used."""
    return msgspec.structs.replace(before, error=WorkerError(error.reason, str(error)))


def failed(before: Measured, error: Exception) -> Measured:
    """The measurement when a run met what nobody foresaw. What the error says may hold values: only the log has it."""
    message = (
        f"the last run ended with an unexpected {type(error).__name__}, a fault of Fairlead's: please report what the "
        "worker's log tells of it. Nothing was lost; the next run goes on"
    )
    return msgspec.structs.replace(before, error=WorkerError(PolicyReason.RUN_FAILED.value, message))


def _systems(before: Measured, report: RunReport) -> tuple[SystemHealth, ...]:
    known = {system.name: system for system in before.systems}
    return tuple(
        _system(known.get(name, SystemHealth(name, reachable=True)), name not in report.failures, tally)
        for name, tally in sorted(report.tally.systems.items())
    )


def _system(before: SystemHealth, reachable: bool, tally: SystemTally) -> SystemHealth:
    changed = moment(tally.last_change) if tally.last_change else before.last_change_time
    reason, message = tally.reason, tally.message
    if reachable and tally.skew:
        reason, message = FindingKind.CLOCK_SKEW.value, skewed(tally.skew)
    elif reachable and tally.passes_over:
        reason, message = FORGOTTEN, PASSED_OVER
    elif reachable and before.reason in _STAYING and not _says_otherwise(before, tally):
        reason, message = before.reason, before.message
    return SystemHealth(before.name, reachable, reason, message, changed)


_STAYING = (FindingKind.CLOCK_SKEW, FORGOTTEN)
"""Reasons of a system that can be used."""


def _says_otherwise(before: SystemHealth, tally: SystemTally) -> bool:
    """Whether so much was read that what was told before would be told again."""
    return tally.whole if before.reason == FORGOTTEN else tally.changed > 0


def _summary(run: RunRecord) -> RunSummary:
    counts = {name: count for name, count in run.counts.items() if count}
    return RunSummary(
        run.id, run.kind, run.outcome, moment(run.started), duration(run.ended - run.started), run.message, counts
    )
