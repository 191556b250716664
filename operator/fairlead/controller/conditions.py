"""What the operator concludes, as conditions after kstatus. Pure: what was observed and a time, nothing else.

A policy's verdict is the first of a chain of small functions that has something to say, worst first. To find out why
a status is as it is, look for its reason here (or, for what a worker measured, in `model.health`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import msgspec

from fairlead.model.common import counted, seconds
from fairlead.model.connection import ConnectionReason
from fairlead.model.connector import ErrorClass
from fairlead.model.health import STATE_LOCKED, Conclusion, Measured, PolicyReason, conclude
from fairlead.model.syncpolicy import SUSPEND_REASON, SyncPolicy
from fairlead.transport.failure import Failure

GRACE = 30.0
"""Seconds since the last good run during which a restart of the worker or a failed run is no outage yet."""


class Type(StrEnum):
    """The conditions that the operator writes."""

    READY = "Ready"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"
    PAUSED = "Paused"
    SYNCED = "Synced"
    CREDENTIALS_VALID = "CredentialsValid"
    WITHIN_BUDGET = "WithinBudget"


class Reason(StrEnum):
    """Reasons that only the operator concludes; the others are in `PolicyReason` and `ConnectionReason`."""

    INVALID_SPEC = "InvalidSpec"
    POLICY_OVERLAP = "PolicyOverlap"
    APPLY_REFUSED = "ApplyRefused"
    CONNECTION_NOT_FOUND = "ConnectionNotFound"
    CONNECTION_NOT_READY = "ConnectionNotReady"
    CONNECTION_SUSPENDED = "ConnectionSuspended"
    CREDENTIALS_REJECTED = "CredentialsRejected"
    GUARD_TRIPPED = "GuardTripped"
    SCHEMA_INCOMPATIBLE = "SchemaIncompatible"
    WORKER_STARTING = "WorkerStarting"
    WORKER_UNAVAILABLE = "WorkerUnavailable"
    NOT_PROBED = "NotProbed"
    ALL_AGREE = "AllAgree"


_INCOMPATIBLE = {"SchemaIncompatible", "ObjectNotFound", "ColumnNotFound", "KeyNotFound"}
"""Reasons of a system that only a change of the policy or of the system's schema can mend."""

_REJECTED = {ConnectionReason.AUTH_FAILED, ConnectionReason.SECRET_NOT_FOUND}


class Condition(msgspec.Struct, frozen=True, rename="camel"):
    """One condition as the API server keeps it."""

    type: str
    status: str
    reason: str
    message: str
    last_transition_time: str
    observed_generation: int


class Obstacle(msgspec.Struct, frozen=True):
    """Why a policy cannot run as declared: reason and what to do."""

    reason: str
    message: str


class ConnectionState(msgspec.Struct, frozen=True, kw_only=True):
    """A Connection as a policy sees it. `ready` is None before its first probe."""

    name: str
    found: bool = True
    ready: bool | None = None
    suspended: bool = False
    reason: str = ""
    message: str = ""


class Rollout(msgspec.Struct, frozen=True, kw_only=True):
    """How far a worker's Deployment is; `message` says what keeps it."""

    current: bool = False
    available: bool = False
    failed: bool = False
    message: str = ""


class PolicyView(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a policy's conditions follow from."""

    policy: SyncPolicy
    obstacle: Obstacle | None = None
    connections: Sequence[ConnectionState] = ()
    rollout: Rollout = Rollout()
    measured: Measured = Measured()
    now: datetime


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a resource is ready and why; `stalled` and `paused` are reasons, empty where they do not hold."""

    ready: bool
    reason: str
    message: str
    stalled: str = ""
    paused: str = ""
    reconciling: bool = False


def judge(view: PolicyView) -> Verdict:
    """The first of these that applies."""
    checks = (_suspended, _obstacle, _missing, _paused_connection, _unready_connection, _worker, _measured)
    found = next((verdict for check in checks if (verdict := check(view))), None)
    verdict = found or Verdict(ready=True, reason=PolicyReason.IN_SYNC, message="changes are being delivered")
    return msgspec.structs.replace(verdict, reconciling=True) if verdict.ready and _behind(view) else verdict


def pausing(view: PolicyView) -> bool:
    """Whether a declared pause keeps the worker from running."""
    return view.policy.spec.suspend or any(each.suspended for each in view.connections)


def stale(view: PolicyView) -> bool:
    """Whether no good run ended within `spec.staleAfter`."""
    return since(view.measured.last_sync_time, view.now) > seconds(view.policy.spec.stale_after)


def revisit(view: PolicyView) -> float | None:
    """Seconds until the verdict may change only because time passes; None when it cannot."""
    age = since(view.measured.last_sync_time, view.now)
    limits = [seconds(view.policy.spec.stale_after), *([_grace(view)] if _failing(view) else [])]
    ahead = [limit - age for limit in limits if limit > age]
    return min(ahead) + 1.0 if ahead else None


def since(time: str | None, now: datetime) -> float:
    """Seconds since an RFC 3339 time; infinite for None."""
    return (now - datetime.fromisoformat(time)).total_seconds() if time else float("inf")


def _suspended(view: PolicyView) -> Verdict | None:
    if not view.policy.spec.suspend:
        return None
    why = view.policy.metadata.annotations.get(SUSPEND_REASON, "")
    message = "paused by spec.suspend" + (f": {why[:512]}" if why else "")
    return _pause(PolicyReason.SUSPENDED, message)


def _obstacle(view: PolicyView) -> Verdict | None:
    if view.obstacle is None:
        return None
    return Verdict(
        ready=False, reason=view.obstacle.reason, message=view.obstacle.message, stalled=view.obstacle.reason
    )


def _missing(view: PolicyView) -> Verdict | None:
    missing = [each.name for each in view.connections if not each.found]
    if not missing:
        return None
    message = f"no Connection {', '.join(missing)} in namespace {view.policy.metadata.namespace}: create it"
    return Verdict(ready=False, reason=Reason.CONNECTION_NOT_FOUND, message=message, reconciling=True)


def _paused_connection(view: PolicyView) -> Verdict | None:
    paused = [each.name for each in view.connections if each.suspended]
    if not paused:
        return None
    return _pause(Reason.CONNECTION_SUSPENDED, f"paused by spec.suspend of Connection {', '.join(paused)}")


def _pause(reason: str, message: str) -> Verdict:
    """A declared pause is what was asked for, so it is no failure: Ready stays True, and says that nothing moves."""
    return Verdict(ready=True, reason=PolicyReason.SUSPENDED, message=message, paused=reason)


def _unready_connection(view: PolicyView) -> Verdict | None:
    unready = [each for each in view.connections if each.ready is not True]
    if not unready:
        return None
    message = "; ".join(f"Connection {each.name}: {each.message or 'not probed yet'}" for each in unready)
    rejected = any(each.reason in _REJECTED for each in unready)
    return Verdict(
        ready=False,
        reason=Reason.CONNECTION_NOT_READY,
        message=message,
        stalled=Reason.CREDENTIALS_REJECTED if rejected else "",
        reconciling=not rejected and any(each.ready is None for each in unready),
    )


def _worker(view: PolicyView) -> Verdict | None:
    if view.rollout.current and view.rollout.available:
        return None
    message = f"the worker is not available: {view.rollout.message or 'its pod has not started yet'}"
    if _recent(view):
        return Verdict(ready=True, reason=Reason.WORKER_STARTING, message=message, reconciling=True)
    unavailable = view.rollout.failed or (view.rollout.current and view.measured.last_sync_time is not None)
    reason = Reason.WORKER_UNAVAILABLE if unavailable else Reason.WORKER_STARTING
    return Verdict(ready=False, reason=reason, message=message, reconciling=not view.rollout.failed)


def _measured(view: PolicyView) -> Verdict | None:
    found = conclude(view.measured, view.policy.spec.mode, stale=stale(view))
    if found.ready:
        return Verdict(ready=True, reason=found.reason, message=_steady(found))
    if found.reason is PolicyReason.SYSTEM_UNAVAILABLE and _recent(view) and not _incompatible(view):
        return None
    if _replaced(view) and _recent(view):
        return Verdict(ready=True, reason=Reason.WORKER_STARTING, message=found.message, reconciling=True)
    return Verdict(
        ready=False,
        reason=found.reason,
        message=found.message,
        stalled=_stalled(view, found),
        reconciling=found.reason is PolicyReason.STARTING,
    )


def _steady(found: Conclusion) -> str:
    """A message without figures: they are in `status.worker`, and would make every count a write of the operator."""
    return _STEADY.get(found.reason, "changes are being delivered")


_STEADY = {
    PolicyReason.CONFLICTS_PENDING: "changes are being delivered; fields in conflict wait for a person",
    PolicyReason.DEAD_LETTERS: "changes are being delivered; some records cannot be synced until they are mended",
    PolicyReason.CATCHING_UP: "changes are being delivered; some writes are still waiting",
    PolicyReason.CHANGES_PLANNED: "writes are planned, and mode: Plan sends none",
}


def _stalled(view: PolicyView, found: Conclusion) -> str:
    if found.reason is PolicyReason.HALTED:
        return Reason.GUARD_TRIPPED
    if found.reason is PolicyReason.SYSTEM_UNAVAILABLE and _incompatible(view):
        return Reason.SCHEMA_INCOMPATIBLE
    return ""


def _behind(view: PolicyView) -> bool:
    """Whether the worker still runs an older spec."""
    return not pausing(view) and 0 < view.measured.observed_generation < view.policy.metadata.generation


def _failing(view: PolicyView) -> bool:
    reachable = all(each.reachable for each in view.measured.systems)
    return not view.rollout.available or not reachable or _replaced(view)


def _replaced(view: PolicyView) -> bool:
    """Whether the worker found its state in use: by the one that it replaces, when that is still ending."""
    return view.measured.error is not None and view.measured.error.reason == STATE_LOCKED


def _incompatible(view: PolicyView) -> bool:
    return any(not each.reachable and each.reason in _INCOMPATIBLE for each in view.measured.systems)


def _grace(view: PolicyView) -> float:
    """At least two intervals, so that one failed poll of a slow policy is no outage either."""
    return max(GRACE, 2 * seconds(view.policy.spec.trigger.interval))


def _recent(view: PolicyView) -> bool:
    return since(view.measured.last_sync_time, view.now) < min(_grace(view), seconds(view.policy.spec.stale_after))


def synced(view: PolicyView) -> Verdict:
    """Whether every record agrees, whatever becomes of the next change."""
    measured = view.measured
    if measured.last_sync_time is None:
        return _unsynced(PolicyReason.CATCHING_UP, "the first run has not ended yet")
    if measured.conflicts > 0:
        return _unsynced(
            PolicyReason.CONFLICTS_PENDING,
            f"{counted(measured.conflicts, 'field')} in conflict for a person to decide: `fairlead conflicts list`",
        )
    if measured.dead_letters > 0:
        return _unsynced(
            PolicyReason.DEAD_LETTERS,
            f"{counted(measured.dead_letters, 'record')} cannot be synced: `fairlead dead-letters list` says why",
        )
    if measured.planned > 0:
        return _unsynced(PolicyReason.CHANGES_PLANNED, "writes are planned and held back")
    if measured.pending > 0:
        return _unsynced(PolicyReason.CATCHING_UP, "writes are still to be delivered")
    return Verdict(ready=True, reason=Reason.ALL_AGREE, message="all records agree")


def _unsynced(reason: str, message: str) -> Verdict:
    return Verdict(ready=False, reason=reason, message=message)


def policy_conditions(view: PolicyView, before: Iterable[Mapping[str, Any]]) -> list[Condition]:
    """The operator's conditions of a policy; Reconciling, Stalled and Paused are present only while true."""
    verdict, agreement = judge(view), synced(view)
    drafts = [
        (Type.READY, verdict.ready, verdict.reason, verdict.message),
        (Type.SYNCED, agreement.ready, agreement.reason, agreement.message),
        *_extras(verdict),
    ]
    return stamp(drafts, before, view.policy.metadata.generation, view.now)


def connection_conditions(
    verdict: Verdict, left: float | None, generation: int, before: Iterable[Mapping[str, Any]], now: datetime
) -> list[Condition]:
    """The conditions of a Connection. `left` is the share of the system's own limit, None when it does not tell."""
    drafts: list[Draft] = [(Type.READY, verdict.ready, verdict.reason, verdict.message), *_extras(verdict)]
    if not verdict.paused:
        drafts += [_credentials(verdict), _budget(verdict, left)]
    return stamp(drafts, before, generation, now)


def failed_probe(failure: Failure) -> Verdict:
    """What a probe's failure says about its Connection. A system that asks for fewer requests is there all the same."""
    reason = failure.reason or _BY_CLASS.get(failure.error, ConnectionReason.UNEXPECTED_ANSWER)
    stalled = Reason.CREDENTIALS_REJECTED if reason in _REJECTED else ""
    if reason == ConnectionReason.INVALID_SPEC:
        stalled = Reason.INVALID_SPEC
    ready = failure.error is ErrorClass.THROTTLED
    return Verdict(ready=ready, reason=reason, message=failure.message, stalled=stalled)


_BY_CLASS = {
    ErrorClass.TRANSIENT: ConnectionReason.UNREACHABLE,
    ErrorClass.THROTTLED: ConnectionReason.THROTTLED,
    ErrorClass.AUTH: ConnectionReason.AUTH_FAILED,
}


def _credentials(verdict: Verdict) -> Draft:
    if verdict.reason in _REJECTED:
        return (Type.CREDENTIALS_VALID, False, verdict.reason, verdict.message)
    if not verdict.ready:
        return (Type.CREDENTIALS_VALID, None, verdict.reason, "the system could not be asked")
    return (Type.CREDENTIALS_VALID, True, "Accepted", "the system accepts the credentials")


def _budget(verdict: Verdict, left: float | None) -> Draft:
    if verdict.reason == ConnectionReason.THROTTLED:
        return (Type.WITHIN_BUDGET, False, ConnectionReason.THROTTLED, verdict.message)
    if not verdict.ready:
        return (Type.WITHIN_BUDGET, None, verdict.reason, "the system could not be asked")
    if left is not None and left < _NEARLY_SPENT:
        return (Type.WITHIN_BUDGET, False, "NearlySpent", "hardly anything of the system's own limit is left")
    return (Type.WITHIN_BUDGET, True, "Sufficient", "the system takes the requests that it gets")


_NEARLY_SPENT = 0.05


def _extras(verdict: Verdict) -> list[Draft]:
    extras: list[Draft] = []
    if verdict.reconciling:
        extras.append((Type.RECONCILING, True, verdict.reason, verdict.message))
    if verdict.stalled:
        extras.append((Type.STALLED, True, verdict.stalled, verdict.message))
    if verdict.paused:
        extras.append((Type.PAUSED, True, verdict.paused, verdict.message))
    return extras


Draft = tuple[Type, bool | None, str, str]
"""Type, whether it holds (None: unknown), reason, message."""

_STATUS = {True: "True", False: "False", None: "Unknown"}
_MESSAGE_LIMIT = 4096


def stamp(
    drafts: Sequence[Draft], before: Iterable[Mapping[str, Any]], generation: int, now: datetime
) -> list[Condition]:
    """Conditions with times: `lastTransitionTime` moves only when a condition's status does."""
    known = {each["type"]: each for each in before}
    stamped = []
    for kind, holds, reason, message in drafts:
        old = known.get(kind, {})
        status = _STATUS[holds]
        moved = now_text(now) if old.get("status") != status else str(old["lastTransitionTime"])
        stamped.append(Condition(kind, status, str(reason), message[:_MESSAGE_LIMIT], moved, generation))
    return stamped


def now_text(now: datetime) -> str:
    """A time as Kubernetes writes it: RFC 3339, UTC, whole seconds."""
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
