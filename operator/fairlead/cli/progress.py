"""Progress: how far the runs are that are going on. A line that moves on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from fairlead.cli.telling import counted_by_system
from fairlead.worker.loop import PolicyLoop
from fairlead.worker.run import Run
from fairlead.worker.tally import Tally

PATIENCE = 1.0
"""Seconds that a run may last before its progress is shown."""

_FRAME = 0.2
_LINE_INTERVAL = 10.0


class Progress:
    """Shows progress as long as it is entered: `async with Progress(console, loops): …`."""

    def __init__(self, out: Console, loops: Sequence[PolicyLoop], *, interval: float = _LINE_INTERVAL) -> None:
        self._out = out
        self._loops = loops
        self._interval = interval
        self._since: dict[str, tuple[Run, float]] = {}
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        moving = self._out.is_terminal and not self._out.is_dumb_terminal
        self._task = asyncio.create_task(self._move() if moving else self._tell())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _move(self) -> None:
        """One line for each run, redrawn in place; gone when the run has ended."""
        spinners: dict[str, Spinner] = {}
        with Live(console=self._out, auto_refresh=False, transient=True, redirect_stderr=False) as live:
            while True:
                lines = {name: line for name, line, _ in self._lines()}
                spinners = {name: spinners.get(name) or Spinner("dots") for name in lines}
                for name, spinner in spinners.items():
                    spinner.update(text=Text(lines[name], overflow="ellipsis", no_wrap=True))
                live.update(Group(*spinners.values()), refresh=True)
                await asyncio.sleep(_FRAME)

    async def _tell(self) -> None:
        """A plain line for each run, every few seconds."""
        told: dict[str, float] = {}
        while True:
            for name, line, lasted in self._lines():
                begun = self._since[name][1]
                if lasted >= self._interval and time.monotonic() - max(told.get(name, 0.0), begun) >= self._interval:
                    told[name] = time.monotonic()
                    self._out.print(f"{time.strftime('%H:%M:%S')}  {line}", markup=False)
            await asyncio.sleep(min(_FRAME, self._interval))

    def _lines(self) -> list[tuple[str, str, float]]:
        """(policy, line, seconds) of every run that lasts."""
        found = []
        for loop in self._loops:
            run, name = loop.running, loop.policy.id
            if run is None:
                self._since.pop(name, None)
                continue
            if self._since.get(name, (None, 0.0))[0] is not run:
                self._since[name] = (run, time.monotonic())
            lasted = time.monotonic() - self._since[name][1]
            if lasted >= PATIENCE:
                found.append((name, f"{loop.policy.metadata.name}  {described(run.tally, lasted)}", lasted))
        return found


def described(tally: Tally, seconds: float) -> str:
    """`01:05  crm: 40,000 read; erp: 20,000 read, 18,500 created  (615 records a second)`."""
    done = counted_by_system(tally, "read", "created", "updated", "archived", "deleted", "failed")
    read = sum(its.read for its in tally.systems.values())
    minutes, rest = divmod(int(seconds), 60)
    rate = f"  ({read / seconds:,.0f} records read a second)" if read >= seconds > 0 else ""
    return f"{minutes:02}:{rest:02}  {done or 'connecting'}{rate}"
