"""Metrics of a worker, in Prometheus' words (base units, `_total` for counters)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from fairlead.model.health import conclude
from fairlead.worker.loop import PolicyLoop
from fairlead.worker.run import RunReport

if TYPE_CHECKING:
    from fairlead.worker.crew import Crew


class Metrics:
    """Everything under `/metrics`; `observe` is a listener of `PolicyLoop`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._runs = Counter("fairlead_runs", "Runs by outcome.", ["policy", "kind", "outcome"], registry=self.registry)
        self._seconds = Histogram(
            "fairlead_run_seconds",
            "How long runs take.",
            ["policy"],
            buckets=(0.05, 0.25, 1, 5, 30, 120, 600, 3600),
            registry=self.registry,
        )
        self._records = Counter(
            "fairlead_records", "Records by what was done.", ["policy", "system", "action"], registry=self.registry
        )
        self._state = Gauge(
            "fairlead_state_records", "What the state holds.", ["policy", "what"], registry=self.registry
        )
        self._ready = Gauge("fairlead_policy_ready", "1 when the policy delivers.", ["policy"], registry=self.registry)
        self._last = Gauge(
            "fairlead_last_good_run_timestamp_seconds", "End of the last good run.", ["policy"], registry=self.registry
        )

        self._crews: dict[str, Crew] = {}
        self._leads = Gauge(
            "fairlead_worker_leads", "1 where this worker leads its policy's.", ["policy"], registry=self.registry
        )
        self._members = Gauge(
            "fairlead_workers", "Workers that the one that leads knows of.", ["policy"], registry=self.registry
        )
        self._shares = Gauge(
            "fairlead_shares",
            "Shares of batches since this worker began to lead or to help, by what came of them.",
            ["policy", "what"],
            registry=self.registry,
        )

    def watch(self, policy: str, crew: Crew) -> None:
        """Tells of a worker that shares a policy with others, too."""
        self._crews[policy] = crew

    def _look(self) -> None:
        for policy, crew in self._crews.items():
            self._leads.labels(policy).set(crew.leads)
            self._members.labels(policy).set(crew.sharing.members if crew.sharing else 0)
            for what, count in crew.counts().items():
                self._shares.labels(policy, what).set(count)

    async def observe(self, loop: PolicyLoop, report: RunReport | None) -> None:
        """Takes in a run."""
        policy, measured = loop.policy.id, loop.measured
        self._ready.labels(policy).set(conclude(measured, loop.policy.spec.mode).ready)
        for what in ("records", "conflicts", "dead_letters", "pending"):
            self._state.labels(policy, what).set(max(0, getattr(measured, what)))
        if report is None:
            return
        self._runs.labels(policy, report.kind.value, report.outcome.value).inc()
        self._seconds.labels(policy).observe(report.ended - report.started)
        if report.good:
            self._last.labels(policy).set(report.ended)
        for system, tally in report.tally.systems.items():
            for action in ("read", "changed", "created", "updated", "archived", "deleted", "failed"):
                self._records.labels(policy, system, action).inc(getattr(tally, action))

    def page(self) -> bytes:
        """The page that Prometheus scrapes."""
        self._look()
        return generate_latest(self.registry)
