"""`fairlead undo`: shows what it takes to undo a run, and asks the policy's worker to do it."""

from __future__ import annotations

import secrets
import sys
import time
from hashlib import blake2b

import msgspec
import orjson
import typer

from fairlead.cli.asking import Asker, ask
from fairlead.cli.audit import latest_run, was_dropped
from fairlead.cli.choices import Output
from fairlead.cli.output import console, table
from fairlead.cli.place import Place, Refused, Target, at_place, tell
from fairlead.model.common import counted
from fairlead.state.base import Store
from fairlead.state.requests import Undo
from fairlead.worker.exit import NEEDS_A_PERSON, OK
from fairlead.worker.guard import limit_in
from fairlead.worker.reversal import PAGE, Reversal, Reversals

_SHOWN = 50
"""Rows of a table, and reasons, that are shown."""


class Options(msgspec.Struct, frozen=True):
    """What the command line said. `approve` is the id of a plan with many deletes."""

    run: str
    yes: bool
    plan: bool
    approve: str
    output: Output


class _Plan(msgspec.Struct):
    """What an undo would do. Of a large one, only counts are kept, and a mark of each record."""

    records: list[tuple[int, str]] = []
    updates: int = 0
    creates: int = 0
    deletes: int = 0
    undone: str = ""
    refused: int = 0
    shown: list[tuple[str, str, str, str]] = []
    reasons: list[str] = []
    digest: blake2b = msgspec.field(default_factory=lambda: blake2b(digest_size=6))

    def add(self, reversal: Reversal) -> None:
        self.undone = self.undone or reversal.undone
        self.refused += len(reversal.refused)
        self.reasons += reversal.refused[: max(0, _SHOWN - len(self.reasons))]
        if not reversal.does:
            return
        self.records.append((reversal.record, reversal.mark))
        self.updates += len(reversal.updates)
        self.creates += len(reversal.creates)
        self.deletes += len(reversal.deletes)
        self.digest.update(
            "".join(f"{reversal.record}/{system}/{key}\n" for system, key in reversal.deletes.items()).encode()
        )
        self.shown += _rows(reversal)[: max(0, _SHOWN - len(self.shown))]

    @property
    def writes(self) -> int:
        return self.updates + self.creates + self.deletes

    @property
    def id(self) -> str:
        """Another one when other copies are deleted."""
        return self.digest.hexdigest()


def undo(target: Target, options: Options, asker: Asker) -> int:
    """Undoes a run, after it was shown and confirmed what that means."""

    async def work(place: Place) -> int:
        async with place.beside() as store:
            plan = await _planned(place, store, options)
            _check(plan, options.run)
            _show(plan, options)
            if options.plan:
                return OK
            limit = await limit_in(store, place.layout.systems, place.policy.spec.deletes.guard)
            approved = _confirm(plan, options, limit)
            return await _apply(place, store, plan, options.run, asker, approved)

    return at_place(target, work)


async def _planned(place: Place, store: Store, options: Options) -> _Plan:
    plan = _Plan()
    found = False
    async for page in Reversals(place.rules, store, options.run).pages():
        found = True
        for reversal in page:
            plan.add(reversal)
            if options.output is Output.JSON:
                _print_json(reversal)
    if not found:
        await _explain_nothing(place, store, options.run)
    return plan


async def _explain_nothing(place: Place, store: Store, run: str) -> None:
    known = [each for each in await store.history(100) if each.id == run]
    if known:
        hint = "`fairlead audit list` names the run that decided each write, whichever sent it"
        raise Refused(f"nothing that run {run} decided was written: there is nothing to undo; {hint}")
    if was_dropped(place, run):
        retention = place.policy.spec.state.retention
        raise Refused(f"the audit of run {run} was dropped: it is older than spec.state.retention ({retention})")
    latest = await latest_run(store)
    hint = f", for example {latest}" if latest else ""
    raise Refused(f"{place.policy.id} has no run {run}: `fairlead audit list` names its runs{hint}")


def _check(plan: _Plan, run: str) -> None:
    if plan.records:
        return
    for reason in plan.reasons:
        tell(reason)
    if plan.undone:
        raise Refused(f"run {run} is undone already, by run {plan.undone}: undo that one to have it back")
    raise Refused(f"nothing of run {run} can be undone" if plan.refused else f"run {run} wrote nothing")


def _rows(reversal: Reversal) -> list[tuple[str, str, str, str]]:
    name = reversal.name
    return [
        *((name, system, "Update", ", ".join(values)) for system, values in reversal.updates.items()),
        *((name, system, "Create", ", ".join(values)) for system, values in reversal.creates.items()),
        *((name, system, "Delete", "") for system in reversal.deletes),
    ]


def _print_json(reversal: Reversal) -> None:
    """A line without values: a plan may be shown to anyone."""
    writes = [
        {"system": system, "operation": operation, "fields": fields.split(", ") if fields else []}
        for _, system, operation, fields in _rows(reversal)
    ]
    line = {"record": reversal.record, "name": reversal.name, "writes": writes}
    line |= {"refused": reversal.refused, "undone": reversal.undone}
    console().out(orjson.dumps(line).decode(), highlight=False)


def _show(plan: _Plan, options: Options) -> None:
    if options.output is Output.TABLE:
        console().print(table(("RECORD", "SYSTEM", "OPERATION", "FIELDS"), plan.shown))
        if plan.writes > len(plan.shown):
            tell(f"… and {plan.writes - len(plan.shown):,} more; --output json lists all")
    for reason in plan.reasons:
        tell(f"not undone: {reason}")
    if plan.refused > len(plan.reasons):
        tell(f"… and {plan.refused - len(plan.reasons):,} more that are not undone; --output json lists all")
    if plan.undone:
        tell(f"some of it is undone already, by run {plan.undone}")
    tell(f"{_summary(plan)}; plan {plan.id}" if plan.deletes else _summary(plan))


def _summary(plan: _Plan) -> str:
    parts = [(plan.updates, "update"), (plan.creates, "create"), (plan.deletes, "delete")]
    return f"{', '.join(counted(n, noun) for n, noun in parts if n)} in {counted(len(plan.records), 'record')}"


def _confirm(plan: _Plan, options: Options, limit: int) -> str:
    """The id of the plan where a person approved more deletes than the guard allows, else nothing.

    Raises:
        Refused: nobody confirmed.
    """
    deletes = plan.deletes
    many = f"{counted(deletes, 'delete')} are more than deletes.guard allows ({limit})" if deletes > limit else ""
    if options.yes or options.approve:
        if many and options.approve != plan.id:
            raise Refused(f"{many}: approve them with --approve {plan.id}")
        if deletes and options.approve not in ("", plan.id):
            raise Refused(f"--approve names another plan: look at this one, then approve it with --approve {plan.id}")
        return options.approve if deletes else ""
    if not sys.stdin.isatty():
        raise Refused("nothing was done: confirm with --yes")
    question = f"{many}. Undo run {options.run} all the same?" if many else f"Undo run {options.run}?"
    if not typer.confirm(question, err=True):
        raise Refused("nothing was done")
    return plan.id if many else ""


async def _apply(place: Place, store: Store, plan: _Plan, run: str, asker: Asker, approved: str) -> int:
    undone_by = f"{int(time.time()):x}-{secrets.token_hex(3)}"
    pieces = [tuple(plan.records[n : n + PAGE]) for n in range(0, len(plan.records), PAGE)]
    answers = await ask(place, store, asker, [Undo(run, undone_by, piece, approved) for piece in pieces])
    if answers.kept:
        tell(f"it will be undone by run {undone_by}: `fairlead audit list --run {undone_by}` tells when it is")
    else:
        done = counted(answers.done, "record")
        tell(f"run {undone_by} undoes {run} in {done}; `fairlead undo {undone_by}` takes that back")
    return NEEDS_A_PERSON if plan.refused and answers.code == OK else answers.code
