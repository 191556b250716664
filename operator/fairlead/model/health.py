"""What a worker measures of a policy, and what that means: shared by `fairlead run`, the worker and the operator."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from fairlead.model.common import counted
from fairlead.model.syncpolicy import Mode


class PolicyReason(StrEnum):
    """What the STATUS column says of a policy that runs."""

    IN_SYNC = "InSync"
    CONFLICTS_PENDING = "ConflictsPending"
    DEAD_LETTERS = "DeadLetters"
    CHANGES_PLANNED = "ChangesPlanned"
    CATCHING_UP = "CatchingUp"
    STARTING = "Starting"
    HALTED = "Halted"
    SYSTEM_UNAVAILABLE = "SystemUnavailable"
    STATE_UNAVAILABLE = "StateUnavailable"
    RUN_FAILED = "RunFailed"
    STALE = "Stale"
    SUSPENDED = "Suspended"


class SystemHealth(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """One system, as the last run found it. Times are RFC 3339."""

    name: str
    reachable: bool
    reason: str = ""
    message: str = ""
    last_change_time: str | None = None


class RunSummary(msgspec.Struct, frozen=True, rename="camel"):
    """One run in the history. `counts` are by the names that the CRD lists."""

    id: str
    kind: str
    outcome: str
    started_at: str
    duration: str
    message: str = ""
    counts: dict[str, int] = {}


class Halted(msgspec.Struct, frozen=True, rename="camel"):
    """A run that waits for a person, and the plan id that releases it."""

    plan: str
    message: str
    writes: int


STATE_LOCKED = "StateLocked"
"""Reason of a `WorkerError`: another worker uses the state."""


class WorkerError(msgspec.Struct, frozen=True, rename="camel"):
    """Why the worker cannot run at all: by the reason of a `StateError`, or `RunFailed`."""

    reason: str
    message: str


class Measured(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """`status.worker` of a SyncPolicy: everything that only the worker knows. The CRD describes each field."""

    observed_generation: int = 0
    last_sync_time: str | None = None
    lag: str = ""
    records: int = -1
    conflicts: int = -1
    dead_letters: int = -1
    pending: int = -1
    waiting: int = 0
    planned: int = -1
    systems: tuple[SystemHealth, ...] = ()
    history: tuple[RunSummary, ...] = ()
    halted: Halted | None = None
    last_handled_request_at: str = ""
    last_handled_resync_request_at: str = ""
    last_handled_enforce_request_at: str = ""
    error: WorkerError | None = None


class Conclusion(msgspec.Struct, frozen=True):
    """Whether a policy delivers, and why not or how well."""

    ready: bool
    reason: PolicyReason
    message: str


def conclude(measured: Measured, mode: Mode, *, stale: bool = False) -> Conclusion:
    """The first of these that applies, worst first.

    Args:
        measured: what the worker said last.
        mode: the policy's mode.
        stale: no good run ended within `spec.staleAfter`.
    """
    checks = (_state, _halted, _systems, _started, _fresh, _conflicts, _letters, _backlog, _planned)
    for check in checks:
        found = check(measured, mode, stale)
        if found is not None:
            return found
    return Conclusion(True, PolicyReason.IN_SYNC, f"{counted(measured.records, 'record')} in agreement")


def _state(measured: Measured, _: Mode, __: bool) -> Conclusion | None:
    if measured.error is None:
        return None
    ours = measured.error.reason == PolicyReason.RUN_FAILED
    reason = PolicyReason.RUN_FAILED if ours else PolicyReason.STATE_UNAVAILABLE
    return Conclusion(False, reason, measured.error.message)


def _halted(measured: Measured, _: Mode, __: bool) -> Conclusion | None:
    return Conclusion(False, PolicyReason.HALTED, measured.halted.message) if measured.halted else None


def _systems(measured: Measured, _: Mode, __: bool) -> Conclusion | None:
    down = [system for system in measured.systems if not system.reachable]
    if not down:
        return None
    message = "; ".join(f"{system.name}: {system.message}" for system in down)
    return Conclusion(False, PolicyReason.SYSTEM_UNAVAILABLE, message)


def _started(measured: Measured, _: Mode, __: bool) -> Conclusion | None:
    if measured.last_sync_time is not None:
        return None
    return Conclusion(False, PolicyReason.STARTING, "the first run has not ended yet")


def _fresh(measured: Measured, _: Mode, stale: bool) -> Conclusion | None:
    if not stale:
        return None
    return Conclusion(False, PolicyReason.STALE, f"no good run since {measured.last_sync_time}: see the worker's log")


def _conflicts(measured: Measured, _: Mode, __: bool) -> Conclusion | None:
    if measured.conflicts <= 0:
        return None
    message = f"{counted(measured.conflicts, 'conflict')} to be decided by a person: see `fairlead conflicts list`"
    return Conclusion(True, PolicyReason.CONFLICTS_PENDING, message)


def _letters(measured: Measured, _: Mode, __: bool) -> Conclusion | None:
    if measured.dead_letters <= 0:
        return None
    message = f"{counted(measured.dead_letters, 'record')} cannot be synced: `fairlead dead-letters list` says why"
    return Conclusion(True, PolicyReason.DEAD_LETTERS, message)


def _backlog(measured: Measured, _: Mode, __: bool) -> Conclusion | None:
    told = [f"{counted(measured.pending, 'write')} still to be delivered"] if measured.pending > 0 else []
    if measured.waiting:
        told.append(f"{counted(measured.waiting, 'record')} with a reference to a record that its policy does not know")
    return Conclusion(True, PolicyReason.CATCHING_UP, "; ".join(told)) if told else None


def _planned(measured: Measured, mode: Mode, _: bool) -> Conclusion | None:
    if mode is not Mode.PLAN or measured.planned <= 0:
        return None
    return Conclusion(
        True, PolicyReason.CHANGES_PLANNED, f"{counted(measured.planned, 'write')} planned; mode: Plan sends none"
    )
