"""Persons: what people ask of a policy's worker, beside it: which records are the same, how a conflict ends, undo."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from fairlead.engine.rules import Rules
from fairlead.state.base import StateMissing
from fairlead.state.requests import (
    Demand,
    DiscardDeadLetters,
    Link,
    Request,
    ResolveConflicts,
    RetryDeadLetters,
    Split,
    Undo,
    mark_of,
)
from fairlead.state.sqlite import SQLiteStore
from fairlead.worker.reversal import Reversals

P = ParamSpec("P")
T = TypeVar("T")


class Beside(SQLiteStore):
    """The store as a command opens it, without a thread of its own."""

    async def _run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return self._guarded(call, *args, **kwargs)


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """The result of work that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    raise AssertionError("it waits")


class Persons:
    """What was asked of one worker. Every method acts at once, also in the middle of a run.

    Attributes:
        runs: the id of every run that began.
        asked: every request, in order.
        deletes: how many copies the undos may delete.
        copies: thing → how many records of it there may be beside the first, for a split or a link with another thing.
    """

    def __init__(
        self, path: Path, rules: Rules, clock: Callable[[], float], key: Callable[[str, str], str | None]
    ) -> None:
        self._path = path
        self.rules = rules
        self._clock = clock
        self._key = key
        self.runs: list[str] = []
        self.asked: list[Request] = []
        self.deletes = 0
        self.copies: Counter[str] = Counter()

    def act(self, word: str, *what: Any) -> None:
        """Asks something: see `support.histories.Act`."""
        getattr(self, f"_{word}")(*what)

    def _link(self, system: str, thing: str, other: str, its: str) -> None:
        one, two = self._key(system, thing), self._key(other, its)
        if one is not None and two is not None:
            self._ask(Link((system, one), (other, two)))
            self.copies.update({thing, its} if thing != its else ())

    def _split(self, system: str, thing: str, create: bool) -> None:
        key = self._key(system, thing)
        if key is not None:
            self._ask(Split((system, key), create))
            self.copies[thing] += 1

    def _resolve(self, number: int, how: str) -> None:

        async def demand(store: Beside) -> ResolveConflicts | None:
            found = [conflict async for page in store.walk_conflicts() for conflict in page]
            if not found:
                return None
            conflict = found[number % len(found)]
            its = ((conflict.record, conflict.field, mark_of(conflict.values)),)
            if how == "policy":
                return ResolveConflicts(its, owner=True)
            if how == "value":
                return ResolveConflicts(its, value=self._new(conflict.field))
            return ResolveConflicts(its, keep=how)

        self._ask_what(demand)

    def _new(self, field: str) -> str:
        """A value that nobody entered before, as JSON."""
        nth, kind = len(self.asked), self.rules.fields[field].field.kind
        text = f'"{field}p{nth}-abc"'
        return str(10_000 + nth) if kind.name == "integer" else f"[{text}]" if kind.item is not None else text

    def _retry(self, number: int) -> None:
        self._about_letters(number, RetryDeadLetters)

    def _discard(self, number: int) -> None:
        self._about_letters(number, DiscardDeadLetters)

    def _about_letters(self, number: int, kind: type[RetryDeadLetters | DiscardDeadLetters]) -> None:
        async def demand(store: Beside) -> Demand | None:
            writes = [(item.record, item.system) async for page in store.walk_failed() for item in page]
            places = [(letter.system, letter.key) async for page in store.walk_letters() for letter in page]
            if not writes and not places:
                return None
            nth = number % (len(writes) + len(places))
            return kind(tuple(writes[nth : nth + 1]), () if nth < len(writes) else (places[nth - len(writes)],))

        self._ask_what(demand)

    def _undo(self, back: int, approved: bool) -> None:
        """Undoes what can be undone of a run, with a word to the guard where `approved`."""
        if back > len(self.runs):
            return
        run = self.runs[-back]

        async def demand(store: Beside) -> Undo | None:
            planned = [each async for page in Reversals(self.rules, store, run).pages() for each in page if each.does]
            self.deletes += sum(len(each.deletes) for each in planned) if approved else 0
            shown = tuple((each.record, each.mark) for each in planned)
            name = f"{int(self._clock()):x}-undo{len(self.asked)}"
            return Undo(run, name, shown, "plan" if approved else "") if shown else None

        self._ask_what(demand)

    def _ask(self, demand: Demand) -> None:
        async def said(_: Beside) -> Demand:
            return demand

        self._ask_what(said)

    def _ask_what(self, demand: Callable[[Beside], Coroutine[Any, Any, Demand | None]]) -> None:
        async def ask() -> None:
            store = Beside(self._path)
            try:
                await store.join(())
                what = await demand(store)
                if what is not None:
                    request = Request(f"{len(self.asked):012x}", 0.0, "ada", what)
                    await store.ask(request)
                    self.asked.append(request)
            except StateMissing:
                return  # nobody can ask before the first run
            finally:
                await store.close()

        at_once(ask())
