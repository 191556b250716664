"""The worker process: one policy in its pod, told what to do by mounted files, telling the API server what it measured.

The operator renders `policy.yaml`, `connections.yaml` and `connectors.yaml` into the config folder, and mounts each
Secret (and CA bundle) as a folder of files. Levers change without a restart: the policy's annotations are read again
every few seconds, from the API server or from the mounted file.
"""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import structlog
import yaml

from fairlead.kube.failure import ApiFailure
from fairlead.kube.status import StatusWriter
from fairlead.model.health import Measured, WorkerError
from fairlead.transport.secrets import DirectorySecrets
from fairlead.worker.config import CONNECTIONS, read_config
from fairlead.worker.exit import OK, STATE_UNUSABLE
from fairlead.worker.hosting import Host, collect_seldom
from fairlead.worker.loop import PolicyLoop
from fairlead.worker.metrics import Metrics
from fairlead.worker.planning import Plan, PlannedWrite
from fairlead.worker.run import RunReport
from fairlead.worker.server import application, server

if TYPE_CHECKING:
    from fairlead.worker.crew import Crew

log = structlog.get_logger()

LEVER_INTERVAL = 5.0
"""Seconds between looks at the policy's annotations."""

STATUS_INTERVAL = 10.0
"""Counters are written at most this often; what changes the picture is written at once."""


class WorkerOptions(msgspec.Struct, frozen=True):
    """What the command line said."""

    config: Path
    secrets: Path
    state: Path
    port: int


def run_worker(options: WorkerOptions) -> int:
    """Runs until SIGTERM; the exit code."""
    collect_seldom()
    return asyncio.run(_Worker(options).run())


class _Worker:
    def __init__(self, options: WorkerOptions) -> None:
        self._options = options
        self._config = read_config(options.config)
        self._writer = StatusWriter.in_cluster()
        self._told = Measured()
        self._told_at = 0.0
        self._error: WorkerError | None = None
        self._planned: frozenset[PlannedWrite] = frozenset()
        self._changed = asyncio.Event()
        self._stop = asyncio.Event()
        self._crew: Crew | None = None
        self._budgets_of = 0

    async def run(self) -> int:
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self._stop.set)
        config, metrics = self._config, Metrics()
        secrets = DirectorySecrets(self._options.secrets)
        host = Host(config.connections, config.connectors, lambda _: secrets, self._options.state)
        loop = PolicyLoop(config.policy, host, [metrics.observe, self._tell])
        if config.policy.workers > 1:
            from fairlead.worker.crew import Crew  # noqa: PLC0415 - psycopg only where it is needed

            self._crew = Crew(host.crew(config.policy), host)
            loop.listeners.insert(0, self._crew.observe)
            metrics.watch(config.policy.id, self._crew)
        loop.predecessor = self._predecessor
        http = server(application([loop], metrics), "", self._options.port)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(http.serve())
                tasks.create_task(self._report(loop))
                tasks.create_task(self._watch_levers(loop, host))
                await (self._crew.work(loop, self._stop) if self._crew else loop.work(self._stop))
                http.should_exit = True
        finally:
            await host.close()
            if self._writer:
                await self._writer.close()
        return STATE_UNUSABLE if loop.measured.error else OK

    async def _tell(self, loop: PolicyLoop, report: RunReport | None) -> None:
        error = loop.measured.error
        if report is None and error is not None and error != self._error:  # told when it begins, not by every run
            log.error("cannot run", reason=error.reason, message=error.message)
        self._error = error
        if report is not None:
            log.info(
                "run",
                run=report.id,
                kind=report.kind.value,
                outcome=report.outcome.value,
                message=report.message,
                seconds=round(report.ended - report.started, 3),
                **report.tally.counts(),
            )
            for note in report.tally.notes:
                log.info("note", run=report.id, **msgspec.to_builtins(note))
            if report.good:
                self._tell_plan(loop.plan, report.id)
        self._changed.set()

    def _tell_plan(self, plan: Plan | None, run: str) -> None:
        """Names what mode Plan would write and was not named for the last run, without values."""
        writes = plan.writes if plan is not None else []
        for write in writes:
            if write not in self._planned:
                log.info("planned", run=run, **msgspec.to_builtins(write))
        self._planned = frozenset(writes)

    # --- the API server ---

    async def _report(self, loop: PolicyLoop) -> None:
        """Applies what was measured: at once when the picture changes, else when counters are due."""
        while not self._stop.is_set():
            await self._wait_for(self._changed, STATUS_INTERVAL)
            self._changed.clear()
            await self._apply(loop.measured)
        await self._apply(loop.measured, last=True)

    async def _predecessor(self) -> Measured | None:
        """What the status says: a worker that was replaced is no reason to forget when its policy last agreed."""
        if self._writer is None:
            return None
        metadata = self._config.policy.metadata
        try:
            async with asyncio.timeout(15):
                found = msgspec.convert(await self._writer.measured(metadata.namespace, metadata.name), Measured)
        except (ApiFailure, TimeoutError, msgspec.ValidationError) as failure:
            log.warning("status not read", message=str(failure))
            return None
        self._told = found
        return msgspec.structs.replace(found, error=None)

    async def _apply(self, measured: Measured, *, last: bool = False) -> None:
        now = asyncio.get_running_loop().time()
        due = now - self._told_at >= STATUS_INTERVAL
        if (
            self._writer is None
            or measured == self._told
            or (self._crew is not None and not self._crew.tells)  # one of them does
            or not (due or last or _picture(measured) != _picture(self._told))
        ):
            return
        metadata = self._config.policy.metadata
        try:
            async with asyncio.timeout(15):
                await self._writer.apply(metadata.namespace, metadata.name, {"worker": msgspec.to_builtins(measured)})
        except (ApiFailure, TimeoutError) as failure:
            log.warning("status not written", message=str(failure))
            return
        self._told, self._told_at = measured, now

    async def _watch_levers(self, loop: PolicyLoop, host: Host) -> None:
        while not self._stop.is_set():
            await self._wait_for(self._stop, LEVER_INTERVAL)
            self._take_budgets(host)
            annotations = None if self._crew and not self._crew.leads else await self._annotations()
            if annotations is not None:
                loop.levers(annotations)

    def _take_budgets(self, host: Host) -> None:
        """A Connection's budget is divided among those who use it, and they come and go."""
        try:
            written = self._options.config.joinpath(CONNECTIONS).stat().st_mtime_ns
            if written != self._budgets_of:
                host.limit(read_config(self._options.config).connections)
                self._budgets_of = written
        except (OSError, msgspec.ValidationError, yaml.YAMLError) as failure:
            log.warning("budgets not read", message=str(failure))

    async def _annotations(self) -> dict[str, str] | None:
        metadata = self._config.policy.metadata
        try:
            if self._writer is None:
                return dict(read_config(self._options.config).policy.metadata.annotations)
            async with asyncio.timeout(15):
                return await self._writer.levers(metadata.namespace, metadata.name)
        except (ApiFailure, TimeoutError, OSError, msgspec.ValidationError) as failure:
            log.warning("levers not read", message=str(failure))
            return None

    async def _wait_for(self, event: asyncio.Event, at_most: float) -> None:
        waits = [asyncio.ensure_future(event.wait()), asyncio.ensure_future(self._stop.wait())]
        await asyncio.wait(waits, timeout=at_most, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)


def _picture(measured: Measured) -> tuple[object, ...]:
    """What a person must see at once; the rest are counters."""
    return (
        measured.last_sync_time is None,
        measured.error,
        measured.halted,
        [(system.name, system.reachable, system.reason) for system in measured.systems],
        measured.conflicts,
        measured.dead_letters,
        measured.last_handled_request_at,
        measured.last_handled_resync_request_at,
        measured.last_handled_enforce_request_at,
        measured.observed_generation,
    )
