"""The operator's process: elects a leader, watches, reconciles, answers probes, and stops in order."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
import time
from collections.abc import Iterator
from random import uniform
from typing import Any
from uuid import uuid4

import kopf
import msgspec
import structlog
from kubernetes.aio.client.configuration import Configuration

from fairlead.controller.connection import ConnectionReconciler
from fairlead.controller.connector import ConnectorReconciler
from fairlead.controller.election import Election, LeadershipLost, Timing
from fairlead.controller.events import Recorder
from fairlead.controller.handlers import register, watched
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


def worker_image(image: str, settings: str = "{}") -> WorkerImage:
    """The workers' image with settings as JSON, as the chart passes them.

    Args:
        image: the container image of the workers.
        settings: an object with `pullPolicy`, `pullSecrets` and `resources`, each of which may be left out.

    Raises:
        ValueError: the settings cannot be read; says which one.
    """
    try:
        declared = msgspec.json.decode(settings, type=dict[str, Any])
        return msgspec.convert({**declared, "image": image}, WorkerImage)
    except msgspec.MsgspecError as error:
        raise ValueError(f"write a JSON object with pullPolicy, pullSecrets and resources: {error}") from error


def run(options: Options) -> int:
    """Runs the operator until SIGTERM or SIGINT.

    Returns:
        The exit code: 0 after a clean stop, 1 when leadership was lost or the cluster cannot be used.
    """
    try:
        return asyncio.run(_run(options))
    except* LeadershipLost as lost:
        log.error("stopped", error=str(lost.exceptions[0]))
    except* (ApiFailure, OSError) as failures:
        log.error("stopped", error=str(failures.exceptions[0]))
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
        self._primed = False

    async def run(self) -> None:
        """Serves probes at once, leads when elected, returns when told to stop.

        Raises:
            LeadershipLost: in a group; the process must end.
            ApiFailure: in a group; the cluster cannot be used, for example because a CRD is missing.
        """
        self._catch_signals()
        counts = {
            CONNECTION.name: lambda: float(len(self._inventory.connections)),
            CONNECTOR.name: lambda: float(len(self._inventory.connectors)),
            SYNC_POLICY.name: lambda: float(len(self._inventory.policies)),
        }
        self._metrics.watch(self._queue.depth, self._queue.age, counts)
        async with serving(self._options.port, self._wrong, self._unready, self._metrics):
            if await self._elected():
                await self._lead()

    async def close(self) -> None:
        """Closes the connections to the API server."""
        await self._kube.close()

    def stop(self) -> None:
        """Has `run` end in order: no new event, no new visit, what is under way ends, the Lease is given back."""
        self._stop.set()

    async def _elected(self) -> bool:
        """Whether this replica leads; False when it is told to stop first."""
        if not self._options.elect:
            return True
        election = asyncio.create_task(self._election.acquire(), name="election")
        stopping = asyncio.create_task(self._stop.wait(), name="stop")
        await asyncio.wait({election, stopping}, return_when=asyncio.FIRST_COMPLETED)
        for task in (election, stopping):
            task.cancel()
        await asyncio.gather(election, stopping, return_exceptions=True)
        return self._election.leading

    async def _lead(self) -> None:
        self._metrics.leading.set(1)
        try:
            async with asyncio.TaskGroup() as group:
                lease = group.create_task(self._keep_lease(), name="lease")
                await self._prime()
                work = group.create_task(self._queue.run(), name="queue")
                watches = group.create_task(self._watch(), name="watches")
                await self._stop.wait()
                await asyncio.wait({watches})
                await self._drain(work)
                lease.cancel()
        finally:
            self._metrics.leading.set(0)
            await self._election.release()

    async def _keep_lease(self) -> None:
        if self._options.elect:
            await self._election.hold()

    async def _prime(self) -> None:
        """Reads everything once before the first visit: nobody is to be called missing who was not looked for."""
        try:
            for kind in (CONNECTOR, CONNECTION, SYNC_POLICY):
                for namespace in self._scopes(kind):
                    async for found in self._kube.list_all(kind, namespace):
                        self._note(kind, found)
                        self._sources.known(kind, found)
        except ApiFailure as failure:
            if failure.status != 404:
                raise
            raise ApiFailure("start", 404, failure.reason, f"{failure}; install Fairlead's CRDs") from failure
        self._primed = True

    def _scopes(self, kind: Kind) -> tuple[str | None, ...]:
        return self._options.namespaces or (None,) if kind.namespaced else (None,)

    def _note(self, kind: Kind, found: Object) -> None:
        """Takes one resource over; one that cannot be read gets its condition when it is visited."""
        try:
            if kind is CONNECTOR:
                self._inventory.connectors[found["metadata"]["name"]] = decode("Connector", found)
            elif kind is CONNECTION:
                known = decode_connection(found)
                self._inventory.connections[found["metadata"]["namespace"], found["metadata"]["name"]] = known
            else:
                self._inventory.note_policy(decode("SyncPolicy", found))
        except InvalidResource as error:
            log.warning("resource not understood", kind=kind.name, name=found["metadata"]["name"], error=str(error))

    async def _watch(self) -> None:
        """Runs kopf until told to stop."""
        registry, settings = kopf.OperatorRegistry(), watch_settings()
        register(registry, settings, self._sources)
        _login(registry, self._configuration)
        ready = asyncio.Event()
        operator = kopf.operator(
            registry=registry,
            settings=settings,
            clusterwide=not self._options.namespaces,
            namespaces=self._options.namespaces,
            standalone=True,
            stop_flag=self._stop,
            ready_flag=ready,
        )
        async with asyncio.TaskGroup() as group:
            retake = group.create_task(self._retake_signals(ready), name="signals")
            try:
                await operator
            finally:
                retake.cancel()
                self._stop.set()

    async def _retake_signals(self, ready: asyncio.Event) -> None:
        """Kopf installs its own signal handlers when it starts; the order of stopping is this module's."""
        await ready.wait()
        self._catch_signals()

    async def _drain(self, work: asyncio.Task[None]) -> None:
        self._queue.stop()
        _, late = await asyncio.wait({work}, timeout=DRAIN)
        for task in late:
            task.cancel()

    def _catch_signals(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._stop.set)

    async def _visit(self, key: Key) -> float | None:
        started, failed = time.perf_counter(), True
        try:
            again = await self._reconcilers[key.kind].reconcile(key)
            failed = False
        finally:
            self._metrics.visited(key.kind, started, failed=failed)
        return again

    def _notice(self, kind: Kind, found: Object) -> None:
        if watched(kind, found):
            self._heartbeat.happened(kind, found)

    def _wrong(self) -> str:
        """Liveness: a watch that hears nothing, or a queue that does not move."""
        deaf = self._heartbeat.deaf()
        if deaf:
            return f"the watch of {', '.join(deaf)} has missed an event"
        age = self._queue.age()
        return f"a resource has waited {age:.0f} s for its visit" if age > STUCK else ""

    def _unready(self) -> str:
        """Readiness. A standby is ready: it can take over."""
        if self._stop.is_set():
            return "stopping"
        return "starting" if self._election.leading and not self._primed else ""


def watch_settings() -> kopf.OperatorSettings:
    """Kopf as a source of events and nothing else: no peering, no scanning, no Events, no state in annotations."""
    settings = kopf.OperatorSettings()
    settings.peering.standalone = True
    settings.scanning.disabled = True
    settings.posting.enabled = False
    settings.posting.loggers = False
    settings.process.ultimate_exiting_timeout = None
    settings.queueing.worker_limit = None
    settings.queueing.idle_timeout = 0.2
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 330
    settings.watching.connect_timeout = 10
    settings.watching.reconnect_backoff = 1.0
    settings.watching.chunk_size = 500
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 10
    settings.networking.error_backoffs = Backoffs()
    settings.networking.enforce_retry_after = True
    return settings


class Backoffs:
    """Waits between attempts at a request, jittered anew each time, so that replicas and watches do not march."""

    def __iter__(self) -> Iterator[float]:
        return (uniform(0.5, 1.0) * min(2.0**attempt, 15.0) for attempt in range(9))  # noqa: S311 - jitter


def _login(registry: kopf.OperatorRegistry, configuration: Configuration) -> None:
    """Kopf logs in with what the client was configured with, read again whenever the API server says 401."""

    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> kopf.ConnectionInfo:
        scheme, _space, token = ((await configuration.get_api_key_with_prefix("BearerToken")) or "").rpartition(" ")
        return kopf.ConnectionInfo(
            server=configuration.host,
            ca_path=configuration.ssl_ca_cert,
            ca_data=None if configuration.ssl_ca_cert else configuration.ca_cert_data,
            insecure=not configuration.verify_ssl,
            certificate_path=configuration.cert_file,
            private_key_path=configuration.key_file,
            scheme=scheme or None,
            token=token or None,
        )
