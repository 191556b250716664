"""What the operator tells Prometheus about itself."""

from __future__ import annotations

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """The operator's metrics, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        self.leading = Gauge("fairlead_operator_leading", "1 while this replica leads.", registry=self._registry)
        self._visits = Counter(
            "fairlead_operator_reconciles", "Visits of a resource.", ["kind", "result"], registry=self._registry
        )
        self._seconds = Histogram(
            "fairlead_operator_reconcile_seconds", "Duration of a visit.", ["kind"], registry=self._registry
        )
        self._resources = Gauge(
            "fairlead_operator_resources", "Resources that are known.", ["kind"], registry=self._registry
        )
        self._depth = Gauge(
            "fairlead_operator_queue_depth", "Resources that wait for a visit.", registry=self._registry
        )
        self._age = Gauge(
            "fairlead_operator_queue_age_seconds", "How long the oldest has waited.", registry=self._registry
        )

    def watch(
        self, depth: Callable[[], float], age: Callable[[], float], counts: dict[str, Callable[[], float]]
    ) -> None:
        """Reads the queue and the inventory at every scrape."""
        self._depth.set_function(depth)
        self._age.set_function(age)
        for kind, count in counts.items():
            self._resources.labels(kind).set_function(count)

    def visited(self, kind: str, started: float, *, failed: bool) -> None:
        """One visit ended; `started` is by `time.perf_counter`."""
        self._visits.labels(kind, "failed" if failed else "done").inc()
        self._seconds.labels(kind).observe(time.perf_counter() - started)

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self._registry)
