"""`fairlead run`: every policy of some files, in one process, with what happens told as it happens."""

from __future__ import annotations

import asyncio
import signal
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import orjson
from rich.console import Console
from rich.markup import escape

from fairlead.cli.load import load_or_explain, secrets_of
from fairlead.cli.output import COLUMNS, Log, Output, console, log_to_stderr, policy_row, table
from fairlead.model.bundle import Bundle
from fairlead.model.health import PolicyReason, conclude
from fairlead.model.syncpolicy import Mode, SyncPolicy
from fairlead.worker.hosting import Host
from fairlead.worker.loop import PolicyLoop, work_all
from fairlead.worker.metrics import Metrics
from fairlead.worker.report import duration
from fairlead.worker.run import RunReport
from fairlead.worker.server import application, server
from fairlead.worker.tally import Note

OK, NEEDS_A_PERSON, STATE_UNUSABLE = 0, 1, 3


class RunOptions(msgspec.Struct, frozen=True):
    """What the command line said."""

    paths: list[Path]
    once: bool
    plan: bool
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
    return asyncio.run(_Command(options, loaded).run())


class _Command:
    def __init__(self, options: RunOptions, loaded: Bundle) -> None:
        self._options = options
        self._loaded = loaded
        self._console = console()
        self._metrics = Metrics()
        self._started = time.monotonic()

    async def run(self) -> int:
        host = Host(
            self._loaded.connections,
            self._loaded.connectors,
            lambda namespace: secrets_of(self._loaded, namespace),
            self._options.state,
        )
        loops = [
            PolicyLoop(self._policy(policy), host, [self._metrics.observe, self._tell])
            for policy in self._loaded.policies.values()
            if not policy.spec.suspend
        ]
        try:
            if self._options.once:
                for loop in loops:
                    await loop.run_once()
            else:
                await self._until_stopped(loops)
        finally:
            await host.close()
        self._conclude(loops)
        return _exit_code(loops)

    def _policy(self, policy: SyncPolicy) -> SyncPolicy:
        if not self._options.plan:
            return policy
        return msgspec.structs.replace(policy, spec=msgspec.structs.replace(policy.spec, mode=Mode.PLAN))

    async def _until_stopped(self, loops: list[PolicyLoop]) -> None:
        """Runs until SIGINT or SIGTERM; a run that has begun is finished."""
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(work_all(loops, stop))
            if self._options.port:
                http = server(application(loops, self._metrics), "127.0.0.1", self._options.port)
                tasks.create_task(http.serve())
                await stop.wait()
                http.should_exit = True

    # --- what is told ---

    async def _tell(self, loop: PolicyLoop, report: RunReport | None) -> None:
        """One line per run that did something, and one per thing a person may want to know."""
        if self._options.output is Output.JSON or self._options.log is Log.JSON:
            self._tell_machines(loop, report)
        elif report is not None:
            _tell_people(self._console, loop, report)

    def _tell_machines(self, loop: PolicyLoop, report: RunReport | None) -> None:
        if self._options.log is not Log.JSON or report is None:
            return
        event = {
            "time": datetime.now(UTC).isoformat(),
            "event": "run",
            "policy": loop.policy.id,
            "run": report.id,
            "kind": report.kind.value,
            "outcome": report.outcome.value,
            "message": report.message,
            "seconds": round(report.ended - report.started, 3),
            "counts": report.tally.counts(),
            "notes": [msgspec.to_builtins(note) for note in report.tally.notes],
        }
        print(orjson.dumps(event).decode(), flush=True)  # noqa: T201 - this is the command's output

    def _conclude(self, loops: list[PolicyLoop]) -> None:
        found = [(loop, conclude(loop.measured, loop.policy.spec.mode)) for loop in loops]
        if self._options.output is Output.JSON:
            document = {
                "policies": [
                    {
                        "name": loop.policy.metadata.name,
                        "namespace": loop.policy.metadata.namespace,
                        "ready": c.ready,
                        "status": c.reason.value,
                        "message": c.message,
                        "worker": msgspec.to_builtins(loop.measured),
                        "plan": msgspec.to_builtins(loop.plan) if loop.plan else None,
                    }
                    for loop, c in found
                ]
            }
            print(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())  # noqa: T201
            return
        for loop in loops:
            _show_plan(self._console, loop)
        rows = [policy_row(loop.policy, loop.measured, c, _ago(loop)) for loop, c in found]
        self._console.print(table(COLUMNS, rows))
        for loop, c in found:
            if not c.ready or c.reason is not PolicyReason.IN_SYNC:
                self._console.print(f"\n{escape(loop.policy.metadata.name)}: {escape(c.message)}")


def _ago(loop: PolicyLoop) -> str:
    at = loop.measured.last_sync_time
    if at is None:
        return ""
    return duration(max(0.0, time.time() - datetime.fromisoformat(at).timestamp()))


def _tell_people(out: Console, loop: PolicyLoop, report: RunReport) -> None:
    done = []
    for name, tally in report.tally.systems.items():
        parts = [
            f"{getattr(tally, what)} {what}"
            for what in ("created", "updated", "deleted", "failed")
            if getattr(tally, what)
        ]
        if tally.changed:
            parts.insert(0, f"{tally.changed} changed")
        if parts:
            done.append(f"{name}: {', '.join(parts)}")
    if not (done or report.tally.notes or report.message):
        return
    clock = datetime.now().astimezone().strftime("%H:%M:%S")
    name = escape(loop.policy.metadata.name)
    out.print(f"[dim]{clock}[/dim]  [bold]{name}[/bold]  {escape('; '.join(done) or report.outcome.value)}")
    for note in report.tally.notes[:20]:
        out.print(f"          {_sentence(note)}")
    if report.message:
        out.print(f"          [yellow]{escape(report.message)}[/yellow]")


_WORDS = {
    "Conflict": "conflict on {field} of {record}: {winner}'s value stands ({rule})",
    "Reverted": "edit of {field} of {record} reverted to {winner}'s value ({rule})",
    "Overwritten": "{field} of {record}: {winner}'s value stands at the first meeting ({rule})",
    "Frozen": "conflict on {field} of {record} waits for a person ({rule})",
    "Resolved": "conflict on {field} of {record} is resolved ({rule})",
    "Repaired": "{field} of {record} repaired with {winner}'s value ({rule})",
    "Kept": "{field} of {record} was emptied and stays filled elsewhere ({rule})",
    "Deleted": "{record} deleted in {winner}, and so everywhere (deletes.propagate: {rule})",
    "DeleteNotSpread": "{record} deleted in {winner}, and kept elsewhere (deletes.propagate: {rule})",
    "Recreated": "{record} was edited while {winner} deleted it: it comes back (onUpdateConflict: {rule})",
    "DeadLetter": "{record} is a dead letter: {rule}",
    "NotDelivered": "{record} could not be written: {rule}",
}


def _sentence(note: Note) -> str:
    return escape(_WORDS[note.kind].format(**msgspec.to_builtins(note)))


def _show_plan(out: Console, loop: PolicyLoop) -> None:
    if loop.plan is None:
        return
    out.print(f"[bold]{escape(loop.policy.metadata.name)}[/bold]: {loop.plan.count} writes planned")
    for write in loop.plan.writes[:50]:
        attributes = f" ({', '.join(write.attributes)})" if write.attributes else ""
        out.print(f"  {write.operation:<7} {escape(write.system)}/{escape(write.key)}{escape(attributes)}")
    if loop.plan.count > 50:
        out.print(f"  … and {loop.plan.count - 50} more; --output json lists up to 1,000")


def _exit_code(loops: list[PolicyLoop]) -> int:
    if any(loop.measured.error for loop in loops):
        return STATE_UNUSABLE
    ready = all(conclude(loop.measured, loop.policy.spec.mode).ready for loop in loops)
    return OK if ready else NEEDS_A_PERSON
