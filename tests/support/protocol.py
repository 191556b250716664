"""Every way in which users' edits and one crash can meet the worker, one after the other: a model checker.

The model is the code: the real worker over systems in memory. A state is what outlives a run, the systems and the
store. From each state every run is tried that differs in where users edit or where the worker dies; each state that a
run can end in is looked at once, until there is none that is new.
"""

from __future__ import annotations

import copy
import shutil
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Iterable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from fairlead.state import codec
from fairlead.state.tables import CONFLICT, DEAD, JOURNAL, MATCH, PENDING, TOMBSTONE, WAITING
from support.histories import Died, Doing, Replay, Setting
from support.invariants import check

CALLS = frozenset({"scan", "changes", "fetch", "find", "before"})
"""What the worker does to a system. An edit changes nothing for other calls, so it may as well fall just before one."""

THING = "t0"
SCRATCH = Path("/dev/shm") if Path("/dev/shm").is_dir() else Path(tempfile.gettempdir())  # noqa: S108 - named there
"""Where stores are, thousands of them one after the other."""
KEPT = (JOURNAL, PENDING, CONFLICT, DEAD, WAITING, MATCH, TOMBSTONE)
WHEN = frozenset({"id", "at", "since", "not_before"})
"""Columns that tell when, not what."""


UserAct = tuple[Any, ...]
ENTER: UserAct = ("edit", "x", "new")
GO_BACK: UserAct = ("edit", "x", "back")
CREATE: UserAct = ("add", ("x",))
DELETE: UserAct = ("remove",)


class Budget(msgspec.Struct, frozen=True):
    """What may still happen: acts of users, and deaths of the worker."""

    edits: int
    crashes: int


class Explored(msgspec.Struct):
    """How much there was to try."""

    states: int = 0
    runs: int = 0


class World(Replay):
    """One record in some systems, and a worker that starts for each run and ends with it.

    Args:
        setting: the systems, and the policy over them.
        path: where the store is.
        acts: what a user may do to the record in a system, as in `histories.Act`.
    """

    def __init__(self, setting: Setting, path: Path, acts: tuple[UserAct, ...]) -> None:
        super().__init__(setting, path)
        self.left = Budget(0, 0)
        self._acts = acts
        self._choices: tuple[int, ...] = ()
        self.taken: list[tuple[int, int]] = []
        """(choice, how many there were) at each moment of the last run where something could happen."""
        self._listen()

    def _listen(self) -> None:
        for name, system in self.systems.items():
            system.moment = partial(self._at, name)

    def copied(self, path: Path) -> World:
        """The same world, to go on otherwise."""
        assert self.session is None
        shared = {id(part): part for part in (self.setting, self.policy, self.rules)}
        twin = copy.copy(self)
        for system in self.systems.values():
            del system.moment
        vars(twin).update(copy.deepcopy(vars(self), shared))
        twin.path = path
        if self.path.exists():
            shutil.copyfile(self.path, path)
        self._listen()
        twin._listen()
        return twin

    async def try_run(self, choices: tuple[int, ...] = ()) -> None:
        """One run in which these choices are made; after the last of them nothing happens."""
        self._choices, self.taken = choices, []
        await self.run(Doing())
        await self.stop()

    def _choose(self, options: int) -> int:
        at = len(self.taken)
        choice = self._choices[at] if at < len(self._choices) else 0
        self.taken.append((choice, options))
        return choice

    def _at(self, system: str, word: str) -> None:
        self._moment(word)
        if self._running and word in CALLS and self.left.edits:
            choice = self._choose(1 + len(self._acts))
            if choice:
                self.left = msgspec.structs.replace(self.left, edits=self.left.edits - 1)
                self._act(self._acts[choice - 1], system)

    def _act(self, act: UserAct, system: str) -> None:
        word, *rest = act
        self._user((word, system, THING, *rest))

    def begin(self, acts: Iterable[tuple[str, UserAct]]) -> None:
        """Users act in some systems, before there is a worker."""
        for system, act in acts:
            self._act(act, system)

    def _moment(self, word: str) -> None:
        super()._moment(word)
        if self._running and word in ("commit", "committed") and self.left.crashes and self._choose(2):
            self.left = msgspec.structs.replace(self.left, crashes=self.left.crashes - 1)
            self._dead = True
            raise Died

    def state(self) -> str:
        """What matters for all that can still happen; equal states have equal futures."""
        rows = [sorted((key, *row.values()) for key, row in s.records.items()) for s in self.systems.values()]
        times = [max((s.row(key).modified for key in s.records), default=None) for s in self.systems.values()]
        latest = [time is not None and time == max(filter(None, times)) for time in times]
        with closing(sqlite3.connect(self.path)) as store:
            cursors = dict(store.execute("SELECT system, cursor FROM checkpoint"))
            feeds = [s.entries(int(cursors.get(name, 0))) for name, s in self.systems.items()]
            known = store.execute("SELECT * FROM record ORDER BY id").fetchall()
            kept = [_what(store, table.name, tuple(table.columns)) for table in KEPT]
            findings = store.execute("SELECT body FROM audit WHERE system = ''")
            told = {str(v) for (body,) in findings for v in codec.load(body).values()}
        accounts = (sorted(map(str, self.silenced)), sorted(told), self._values, sorted(map(str, self._past.items())))
        return str((self.left, rows, latest, feeds, known, kept, accounts))


def _what(store: sqlite3.Connection, table: str, columns: tuple[str, ...]) -> list[tuple[Any, ...]]:
    names = ", ".join(name for name in columns if name not in WHEN)
    return store.execute(f"SELECT {names} FROM {table} ORDER BY {names}").fetchall()


async def explore(world: World, folder: Path, budget: Budget) -> Explored:
    """Tries everything that can happen to a world, and checks every state that it can come to."""
    world.left = budget
    explored, seen, open_states = Explored(), set[str](), [world]
    while open_states:
        state = open_states.pop()
        explored.states += 1
        await _comes_to_rest(state.copied(folder / "rest.db"))
        async for after in _runs(state, folder, explored):
            signature = after.state()
            if signature in seen:
                after.path.unlink()
                continue
            seen.add(signature)
            open_states.append(after)
        state.path.unlink(missing_ok=True)
    return explored


async def _runs(state: World, folder: Path, explored: Explored) -> AsyncIterator[World]:
    """The world after each run that is possible."""
    choices: tuple[int, ...] | None = ()
    while choices is not None:
        after = state.copied(folder / f"{explored.runs}.db")
        await after.try_run(choices)
        explored.runs += 1
        yield after
        choices = _next(after.taken)


def _next(taken: list[tuple[int, int]]) -> tuple[int, ...] | None:
    """The choices that follow; None after the last."""
    for at in reversed(range(len(taken))):
        choice, options = taken[at]
        if choice + 1 < options:
            return (*(earlier for earlier, _ in taken[:at]), choice + 1)
    return None


async def _comes_to_rest(world: World) -> None:
    world.left = Budget(0, 0)
    try:
        await check(world)
    finally:
        await world.stop()
        world.path.unlink()
