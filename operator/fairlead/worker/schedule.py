"""Schedule: when the next run is due, and of what kind."""

from __future__ import annotations

from datetime import UTC, datetime

from cronsim import CronSim

from fairlead.model.common import seconds
from fairlead.model.syncpolicy import Trigger
from fairlead.worker.run import Kind


class Schedule:
    """When one policy runs. Times are epoch seconds; a step of the clock delays no run by more than the interval."""

    def __init__(self, trigger: Trigger) -> None:
        self._interval = seconds(trigger.interval)
        self._resync = trigger.resync_schedule

    def kind(self, now: float, last_resync: float | None) -> Kind:
        """What a run starting now reads: everything, when a resync has become due (one missed is made up for)."""
        if last_resync is None:
            return Kind.CHANGES
        if last_resync > now:
            return Kind.RESYNC  # the clock was set back: one resync more, rather than none until it catches up
        following = next(CronSim(self._resync, datetime.fromtimestamp(last_resync, UTC)))
        return Kind.RESYNC if following.timestamp() <= now else Kind.CHANGES

    def wait(self, now: float, last_start: float | None) -> float:
        """Seconds until the next run by the interval."""
        if last_start is None:
            return 0.0
        return min(max(0.0, last_start + self._interval - now), self._interval)
