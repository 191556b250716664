"""Timing: the rules about when runs happen."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from cronsim import CronSim, CronSimError

from fairlead.model.checks.context import Context
from fairlead.model.common import seconds
from fairlead.model.problem import Problem


def schedule_is_cron(context: Context) -> Iterator[Problem]:
    """The resync schedule is cron, on days that exist."""
    try:
        CronSim(context.spec.trigger.resync_schedule, datetime.now(UTC))
    except CronSimError as error:
        message = (
            f"is not a cron expression ({str(error).lower()}): "
            "write five parts, for example 0 3 * * * for 03:00 every day"
        )
        yield Problem(message=message, path=("spec", "trigger", "resyncSchedule"))


def intervals_are_long_enough(context: Context) -> Iterator[Problem]:
    """A run starts at most once a second, and is not stale before the next."""
    spec = context.spec
    try:
        interval, stale_after = seconds(spec.trigger.interval), seconds(spec.stale_after)
    except ValueError as error:
        yield Problem(message=str(error), path=("spec", "trigger"))
        return
    if interval < 1:
        yield Problem(message="an interval must be at least 1s", path=("spec", "trigger", "interval"))
    if stale_after <= interval:
        message = "must be longer than trigger.interval, or the policy would never be Ready"
        yield Problem(message=message, path=("spec", "staleAfter"))
