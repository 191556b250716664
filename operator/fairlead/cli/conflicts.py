"""`fairlead conflicts`: fields that wait for a person, shown and decided."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TypeAlias

import msgspec

from fairlead.cli.asking import Asker, ask
from fairlead.cli.choices import Output
from fairlead.cli.output import console, table
from fairlead.cli.place import Misused, Place, Refused, Target, at_place, tell
from fairlead.cli.selection import (
    Listing,
    Selection,
    age,
    chunks,
    confirm,
    joined,
    keys_of,
    number_of,
    plain,
    record_of,
    shown,
)
from fairlead.engine.case import FindingKind
from fairlead.model.problem import near
from fairlead.state.audit import AuditQuery
from fairlead.state.base import Conflict, Store
from fairlead.state.requests import ResolveConflicts, mark_of
from fairlead.worker.conflicts import checked_value
from fairlead.worker.exit import OK
from fairlead.worker.handling import NotPossible
from fairlead.worker.report import moment


class Choice(msgspec.Struct, frozen=True):
    """How conflicts are to be decided: exactly one of these."""

    keep: str = ""
    value: str | None = None
    by_policy: bool = False


class Found(msgspec.Struct, frozen=True):
    """A conflict, and the keys of its record."""

    conflict: Conflict
    keys: dict[str, str]


def show_list(target: Target, selection: Selection, output: Output, limit: int) -> int:
    """Lists conflicts. Their values are not among it."""
    columns = ("FIELD", "RECORD", "SYSTEMS", "AGE")

    async def work(place: Place) -> int:
        selection.check(place)
        async with place.beside() as store:
            listing = Listing("conflicts", columns, _row, _document)
            if not await listing.show(_found(store, selection), output, limit) and output is Output.TABLE:
                tell(f"no conflict of {place.policy.id} waits for a person")
        return OK

    return at_place(target, work)


def show_one(target: Target, selection: Selection, output: Output) -> int:
    """Shows what each system says of one record's fields that wait."""

    async def work(place: Place) -> int:
        selection.check(place)
        async with place.beside() as store:
            found = [each async for page in _found(store, selection) for each in page]
            rules = [await _rule(store, each.conflict) for each in found]
        if not found:
            raise Refused(_none(place, selection))
        if output is Output.JSON:
            told = zip(found, rules, strict=True)
            shown({"conflicts": [{**_document(each), "rule": r, "values": each.conflict.values} for each, r in told]})
            return OK
        for each, rule in zip(found, rules, strict=True):
            since = f"since {moment(each.conflict.since)}" + (f" ({rule})" if rule else "")
            console().print(f"{each.conflict.field} of {joined(each.keys)}, {since}", markup=False)
            rows = [(system, plain(value)) for system, value in sorted(each.conflict.values.items())]
            console().print(table(("SYSTEM", "VALUE"), rows))
        return OK

    return at_place(target, work)


def resolve(target: Target, selection: Selection, choice: Choice, asker: Asker, *, yes: bool) -> int:
    """Decides conflicts."""

    async def work(place: Place) -> int:
        selection.check(place)
        _check(choice, place)
        selection.require()
        async with place.beside() as store:
            found = [reference async for page in _selected(store, selection) for reference in map(_reference, page)]
            if not found:
                raise Refused(_none(place, selection))
            demands = _demands(place, choice, found)
            how = f"resolve {number_of(len(found), 'conflict')} of {place.policy.id}"
            confirm(how, len(found), yes=yes)
            answers = await ask(place, store, asker, demands)
        if answers.done:
            tell(f"resolved {number_of(answers.done, 'conflict')}: what was chosen goes wherever it is not")
        return answers.code

    return at_place(target, work)


def _check(choice: Choice, place: Place) -> None:
    if sum((bool(choice.keep), choice.value is not None, choice.by_policy)) != 1:
        raise Misused("say how: one of --keep SYSTEM, --value JSON and --by-policy")
    systems = [system.name for system in place.policy.spec.systems]
    if choice.keep and choice.keep not in systems:
        raise Refused(f"--keep: {choice.keep!r} is no system of {place.policy.id}{near(choice.keep, systems)}")


Reference: TypeAlias = "tuple[int, str, str]"
"""Of a conflict: record, field, and the mark of what competes."""


def _reference(conflict: Conflict) -> Reference:
    return conflict.record, conflict.field, mark_of(conflict.values)


def _demands(place: Place, choice: Choice, found: list[Reference]) -> list[ResolveConflicts]:
    rules = place.rules
    for name in {name for _, name, _ in found} & rules.fields.keys() if choice.value is not None else ():
        try:
            checked_value(rules, name, choice.value or "")
        except NotPossible as why:
            raise Refused(f"--value, for {name}: {why}") from None
    return [ResolveConflicts(its, choice.keep, choice.value or "", choice.by_policy) for its in chunks(found)]


async def _rule(store: Store, conflict: Conflict) -> str:
    """By which rule it waits, and why that could not decide; empty where the audit does not go back that far."""
    query = AuditQuery(records=(conflict.record,), field=conflict.field, kind=FindingKind.FROZEN.value)
    return "".join([each.entry.rule for each in await store.audit(query, before=None, limit=1)])


async def _found(store: Store, selection: Selection) -> AsyncIterator[list[Found]]:
    """The conflicts that are selected with their records, in pages."""
    async for chosen in _selected(store, selection):
        memories = await store.recall(sorted({conflict.record for conflict in chosen}))
        yield [Found(conflict, keys_of(memories.get(conflict.record))) for conflict in chosen]


async def _selected(store: Store, selection: Selection) -> AsyncIterator[list[Conflict]]:
    before = selection.before()
    async for page in _pages(store, selection):
        yield [
            conflict
            for conflict in page
            if conflict.since <= before
            and selection.field in ("", conflict.field)
            and (not selection.system or selection.system in conflict.values)
        ]


async def _pages(store: Store, selection: Selection) -> AsyncIterator[list[Conflict]]:
    if not selection.record:
        async for page in store.walk_conflicts():
            yield page
        return
    record = await record_of(store, selection)
    memories = await store.recall([record] if record is not None else [])
    yield [conflict for memory in memories.values() for _, conflict in sorted(memory.frozen.items())]


def _none(place: Place, selection: Selection) -> str:
    where = f" on {selection.record}" if selection.record else " like that" if selection.narrow else ""
    gone = f"there is no conflict{where} in {place.policy.id}: it may have been resolved meanwhile"
    return f"{gone}; `fairlead conflicts list` names those that wait"


def _row(found: Found) -> tuple[str, ...]:
    conflict = found.conflict
    return conflict.field, joined(found.keys), ",".join(sorted(conflict.values)), age(conflict.since)


def _document(found: Found) -> dict[str, object]:
    conflict = found.conflict
    return {
        "field": conflict.field,
        "record": found.keys,
        "systems": sorted(conflict.values),
        "since": moment(conflict.since),
    }
