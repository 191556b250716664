"""`fairlead run`: every policy of some files, in one process, with what happens told as it happens."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shlex
import signal
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import orjson
from rich.console import Console
from rich.markup import escape

from fairlead.cli.choices import Log, Output
from fairlead.cli.load import load_or_explain, secrets_of
from fairlead.cli.log import log_to_stderr
from fairlead.cli.output import COLUMNS, console, policy_row, table
from fairlead.cli.progress import Progress
from fairlead.cli.telling import Machines, People
from fairlead.model.bundle import Bundle
from fairlead.model.common import counted
from fairlead.model.health import Conclusion, PolicyReason, conclude
from fairlead.model.syncpolicy import Mode, SyncPolicy
from fairlead.worker.exit import NEEDS_A_PERSON, OK, STATE_UNUSABLE
from fairlead.worker.hosting import Host, collect_seldom
from fairlead.worker.loop import PolicyLoop, parents_first, work_all
from fairlead.worker.metrics import Metrics
from fairlead.worker.report import duration
from fairlead.worker.run import Kind, RunReport
from fairlead.worker.server import application, server

_STOPPED = 128
"""Plus the number of the signal: a run that was to be whole was not, or was ended at once."""

_WRITES_SHOWN = 50

_COMMAND = re.compile(r"`(fairlead (?:conflicts|dead-letters|held) list)`")
"""What a conclusion points at: commands that need no arguments in a worker's pod, and need them here."""

Findings = list[tuple[PolicyLoop, Conclusion]]


class RunOptions(msgspec.Struct, frozen=True):
    """What the command line said."""

    paths: list[Path]
    once: bool
    plan: bool
    resync: bool
    enforce: bool
    state: Path
    port: int
    output: Output
    log: Log


def run_policies(options: RunOptions) -> int:
    """Runs the policies; the exit code of the command."""
    log_to_stderr(options.log)
    loaded = load_or_explain(options.paths, options.output)
    if loaded is None:
        return NEEDS_A_PERSON
    collect_seldom()
    return asyncio.run(_Command(options, loaded).run())


class _Command:
    def __init__(self, options: RunOptions, loaded: Bundle) -> None:
        self._options = options
        self._loaded = loaded
        self._console = console()
        self._metrics = Metrics()
        self._loops: list[PolicyLoop] = []
        self._stop = asyncio.Event()
        self._signal = 0
        self._telling = Machines(self._console) if options.log is Log.JSON else People(self._console)

    async def run(self) -> int:
        self._heed_signals()
        host = Host(
            self._loaded.connections,
            self._loaded.connectors,
            lambda namespace: secrets_of(self._loaded, namespace),
            self._options.state,
        )
        self._loops += [
            PolicyLoop(self._policy(policy), host, [self._metrics.observe, self._tell])
            for policy in self._loaded.policies.values()
        ]
        try:
            async with self._progress():
                await (self._once() if self._options.once else self._until_stopped())
        except asyncio.CancelledError:
            return _STOPPED + self._signal
        finally:
            await host.close()
        findings = [(loop, _conclusion(loop)) for loop in self._loops]
        self._conclude(findings)
        return self._exit_code(findings)

    def _policy(self, policy: SyncPolicy) -> SyncPolicy:
        if not self._options.plan:
            return policy
        return msgspec.structs.replace(policy, spec=msgspec.structs.replace(policy.spec, mode=Mode.PLAN))

    def _heed_signals(self) -> None:
        """SIGINT or SIGTERM: ends with the current batch. A second one: at once, which loses nothing either."""
        task = asyncio.current_task()
        assert task is not None

        def told(number: int) -> None:
            self._signal = number
            if self._stop.is_set():
                task.cancel()
            elif self._for_people and any(loop.running for loop in self._loops):
                self._console.print("stopping after the current batch; once more stops at once", markup=False)
            self._stop.set()

        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, told, number)

    @property
    def _active(self) -> list[PolicyLoop]:
        return [loop for loop in self._loops if not loop.policy.spec.suspend]

    async def _once(self) -> None:
        for loop in parents_first(self._active):
            if not self._stop.is_set():
                kind = Kind.RESYNC if self._options.resync else None
                await loop.run_once(kind, stop=self._stop, enforce=self._options.enforce)

    async def _until_stopped(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(work_all(self._active, self._stop))
            if self._options.port:
                http = server(application(self._active, self._metrics), "127.0.0.1", self._options.port)
                tasks.create_task(http.serve())
                await self._stop.wait()
                http.should_exit = True

    # --- what is told ---

    @property
    def _for_people(self) -> bool:
        return self._options.log is Log.TEXT and self._options.output is Output.TABLE

    @contextlib.asynccontextmanager
    async def _progress(self) -> AsyncIterator[None]:
        async with Progress(self._console, self._loops) if self._for_people else contextlib.nullcontext():
            yield

    async def _tell(self, loop: PolicyLoop, report: RunReport | None) -> None:
        if self._for_people or self._options.log is Log.JSON:
            self._telling.tell(loop, report)

    def _conclude(self, findings: Findings) -> None:
        if self._options.output is Output.JSON:
            self._print_json(_document(findings), indented=True)
        elif self._options.log is Log.JSON:
            event = {"time": datetime.now(UTC).isoformat(), "event": "end", **_document(findings)}
            self._print_json(event, indented=False)
        else:
            _show(self._console, findings, self._options)

    def _print_json(self, document: dict[str, object], *, indented: bool) -> None:
        text = orjson.dumps(document, option=orjson.OPT_INDENT_2 if indented else 0).decode()
        self._console.out(text, highlight=False)

    def _exit_code(self, findings: Findings) -> int:
        if any(found.reason is PolicyReason.STATE_UNAVAILABLE for _, found in findings):
            return STATE_UNUSABLE
        if self._signal and self._options.once:
            return _STOPPED + self._signal
        stopped = (PolicyReason.STARTING,) if self._signal else ()  # a first run that was stopped goes on next time
        fine = all(found.ready or found.reason in stopped for _, found in findings)
        return OK if fine else NEEDS_A_PERSON


def _conclusion(loop: PolicyLoop) -> Conclusion:
    if loop.policy.spec.suspend:
        return Conclusion(True, PolicyReason.SUSPENDED, "spec.suspend is true: nothing is read or written")
    return conclude(loop.measured, loop.policy.spec.mode)


def _document(findings: Findings) -> dict[str, object]:
    return {
        "policies": [
            {
                "name": loop.policy.metadata.name,
                "namespace": loop.policy.metadata.namespace,
                "ready": found.ready,
                "status": found.reason.value,
                "message": found.message,
                "worker": msgspec.to_builtins(loop.measured),
                "plan": msgspec.to_builtins(loop.plan) if loop.plan else None,
            }
            for loop, found in findings
        ]
    }


def _show(out: Console, findings: Findings, options: RunOptions) -> None:
    for loop, _ in findings:
        _show_plan(out, loop)
    out.print(table(COLUMNS, [policy_row(loop.policy, loop.measured, found, _ago(loop)) for loop, found in findings]))
    for loop, found in findings:
        if not found.ready or found.reason is not PolicyReason.IN_SYNC:
            message = _to_type(found.message, loop, options)
            out.print(f"\n[bold]{escape(loop.policy.metadata.name)}[/bold]: {escape(message)}")


def _to_type(message: str, loop: PolicyLoop, options: RunOptions) -> str:
    """A message whose commands have the arguments by which they find the policy and its state."""
    paths = [str(path) for path in options.paths]
    arguments = shlex.join([*paths, "--state", str(options.state), "--policy", loop.policy.id])
    return _COMMAND.sub(lambda command: f"`{command[1]} {arguments}`", message)


def _show_plan(out: Console, loop: PolicyLoop) -> None:
    if loop.plan is None:
        return
    out.print(f"[bold]{escape(loop.policy.metadata.name)}[/bold]: {counted(loop.plan.count, 'write')} planned")
    for write in loop.plan.writes[:_WRITES_SHOWN]:
        attributes = f" ({', '.join(write.attributes)})" if write.attributes else ""
        out.print(f"  {write.operation:<7} {escape(write.system)}/{escape(write.key)}{escape(attributes)}")
    if loop.plan.count > _WRITES_SHOWN:
        out.print(f"  … and {loop.plan.count - _WRITES_SHOWN:,} more; --output json lists up to 1,000")


def _ago(loop: PolicyLoop) -> str:
    at = loop.measured.last_sync_time
    if at is None:
        return ""
    return duration(max(0.0, time.time() - datetime.fromisoformat(at).timestamp()))
