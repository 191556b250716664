"""The operator's process: elects a leader, watches, reconciles, answers probes, and stops in order."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from random import uniform
from uuid import uuid4

import kopf
import msgspec
import structlog
from kubernetes.aio.client.configuration import Configuration

from fairlead.controller.connection import ConnectionReconciler
from fairlead.controller.connector import ConnectorReconciler
from fairlead.controller.election import Election, LeadershipLost, Timing
from fairlead.controller.events import Recorder
from fairlead.controller.handlers import DECLARED, register, watched
from fairlead.controller.heartbeat import Heartbeat
from fairlead.controller.inventory import Inventory, Key, decode_connection
from fairlead.controller.manifests import WorkerImage
from fairlead.controller.metrics import Metrics
from fairlead.controller.server import serving
from fairlead.controller.sources import Sources
from fairlead.controller.syncpolicy import PolicyReconciler
from fairlead.controller.workqueue import WorkQueue
from fairlead.kube.client import Kube, load_configuration
from fairlead.kube.failure import ApiFailure
from fairlead.kube.kinds import CONNECTION, CONNECTOR, SYNC_POLICY, Kind, Object
from fairlead.model.bundle import decode
from fairlead.model.problem import InvalidResource

log = structlog.get_logger(__name__)

STUCK = 300.0
"""Seconds after which a resource that still waits for its visit means that the operator is stuck."""

DRAIN = 25.0
"""Seconds that visits under way get to end when the process is told to stop."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How to run the operator.

    Attributes:
        worker: image and defaults of the workers.
        namespaces: those to serve; none means all.
        lease_namespace: where the Lease is; its name is `lease_name`.
        lease_name: candidates for the same work share it.
        elect: False leads at once: for a single process on a laptop.
        timing: of the election.
        port: of /healthz, /readyz and /metrics.
        identity: of this process in the Lease and in Events; made up when empty.
    """

    worker: WorkerImage
    namespaces: tuple[str, ...] = ()
    lease_namespace: str = "default"
    lease_name: str = "fairlead-operator"
    elect: bool = True
    timing: Timing = Timing()
    port: int = 8080
    identity: str = ""


def run(options: Options) -> int:
    """Runs the operator until SIGTERM or SIGINT.

    Returns:
        The exit code: 0 after a clean stop, 1 when leadership was lost or the cluster cannot be used.
    """
    try:
        return asyncio.run(_run(options))
    except* LeadershipLost as lost:
        log.error("stopped", error=str(lost.exceptions[0]))  # noqa: TRY400 - the trace says nothing more
    except* ApiFailure as failures:
        log.error("stopped", error=str(failures.exceptions[0]))  # noqa: TRY400 - the same
    return 1


async def _run(options: Options) -> int:
    configuration = await load_configuration()
    operator = Operator(options, configuration)
    try:
        await operator.run()
    finally:
        await operator.close()
    return 0


class Operator:
    """One replica. Everything runs in one event loop.

    Args:
        options: how to run.
        configuration: how to reach the API server.
    """

    def __init__(self, options: Options, configuration: Configuration) -> None:
        self._options = options
        self._configuration = configuration
        identity = options.identity or f"{socket.gethostname()}_{uuid4().hex[:8]}"
        self._heartbeat = Heartbeat(options.namespaces)
        self._metrics = Metrics()
        self._inventory = Inventory()
        self._kube = Kube(configuration, notice=self._notice)
        self._queue = WorkQueue[Key](self._visit)
        recorder = Recorder(self._kube, identity)
        self._reconcilers: dict[str, ConnectionReconciler | ConnectorReconciler | PolicyReconciler] = {
            CONNECTION.name: ConnectionReconciler(self._kube, self._inventory, recorder, self._queue.add),
            CONNECTOR.name: ConnectorReconciler(self._kube, self._inventory, self._queue.add),
            SYNC_POLICY.name: PolicyReconciler(self._kube, self._inventory, recorder, self._queue.add, options.worker),
        }
        self._sources = Sources(self._inventory, self._heartbeat, self._queue.add)
        self._election = Election(self._kube, options.lease_namespace, options.lease_name, identity, options.timing)
        self._stop = asyncio.Event()
        self._watching = asyncio.Event()

    async def run(self) -> None:
        """Serves probes at once, leads when elected, returns when told to stop.

        Raises:
            LeadershipLost: in a group; the process must end.
            ApiFailure: in a group; the cluster cannot be used, for example because a CRD is missing.
        """
        self._catch_signals()
        self._observe()
        async with serving(self._options.port, self._wrong, self._unready, self._metrics):
            async with asyncio.TaskGroup() as group:
                leading = group.create_task(self._lead(), name="leader")
                await self._stop.wait()
                leading.cancel()
            await self._election.release()

    async def close(self) -> None:
        """Closes the connections to the API server."""
        await self._kube.close()

    async def _lead(self) -> None:
        if self._options.elect:
            await self._election.acquire()
        self._metrics.leading.set(1)
        async with asyncio.TaskGroup() as group:
            if self._options.elect:
                group.create_task(self._election.hold(), name="lease")
            await self._prime()
            group.create_task(self._queue.run(), name="queue")
            group.create_task(self._watch(), name="watches")
