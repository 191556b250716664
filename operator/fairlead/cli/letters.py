"""`fairlead dead-letters`: what could not be written, or taken in; shown, tried again, given up, taken elsewhere."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import msgspec

from fairlead.cli.asking import Asker, ask
from fairlead.cli.choices import Output
from fairlead.cli.output import as_json, console, table
from fairlead.cli.place import Place, Refused, Target, at_place, tell
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
    write,
)
from fairlead.model.record import Value
from fairlead.state.base import DeadLetter, Store, Undelivered
from fairlead.state.requests import DiscardDeadLetters, RetryDeadLetters
from fairlead.worker.exit import OK
from fairlead.worker.report import moment

_COLUMNS = ("SYSTEM", "RECORD", "WHAT", "REASON", "AGE", "MESSAGE")


class Letter(msgspec.Struct, frozen=True):
    """A dead letter of either kind.

    Attributes:
        what: `Create`, `Update` or `Delete` of what could not be written; `Read` of what could not be taken in.
        system: where it could not be written to, or comes from.
        keys: of the record, by system.
        number: of the record, 0 where it has none.
    """

    what: str
    system: str
    keys: dict[str, str]
    reason: str
    message: str
    since: float
    attempts: int = 0
    number: int = 0
    values: dict[str, Value] = {}

    def document(self) -> dict[str, object]:
        """For machines, without values."""
        found: dict[str, object] = {
            "system": self.system,
            "record": self.keys,
            "what": self.what,
            "reason": self.reason,
            "message": self.message,
            "since": moment(self.since),
        }
        return {**found, "attempts": self.attempts, "fields": sorted(self.values)} if self.number else found

    def row(self) -> tuple[str, ...]:
        """For people."""
        return self.system, joined(self.keys), self.what, self.reason, age(self.since), self.message


def show_list(target: Target, selection: Selection, output: Output, limit: int) -> int:
    """Lists dead letters. Their values are not among it."""

    async def work(place: Place) -> int:
        selection.check(place)
        async with place.beside() as store:
            listing = Listing("deadLetters", _COLUMNS, Letter.row, Letter.document)
            if not await listing.show(_found(store, selection), output, limit) and output is Output.TABLE:
                tell(f"{place.policy.id} has no dead letter{' like that' if selection.narrow else ''}")
        return OK

    return at_place(target, work)


def show_one(target: Target, selection: Selection, output: Output) -> int:
    """Shows one record's dead letters, with the values that could not be written."""

    async def work(place: Place) -> int:
        selection.check(place)
        async with place.beside() as store:
            found = [each async for page in _found(store, selection) for each in page]
        if not found:
            raise Refused(_none(place, selection))
        if output is Output.JSON:
            shown({"deadLetters": [{**each.document(), "values": each.values} for each in found]})
            return OK
        for each in found:
            what = f"{each.what} in {each.system} of {joined(each.keys)}"
            console().print(f"{what}, since {moment(each.since)}", markup=False)
            console().print(f"{each.reason}: {each.message}", markup=False)
            if each.values:
                console().print(table(("FIELD", "VALUE"), [(f, plain(v)) for f, v in sorted(each.values.items())]))
        return OK

    return at_place(target, work)


def export(target: Target, selection: Selection, file: Path | None) -> int:
    """Writes dead letters with their values, one JSON object a line."""

    async def work(place: Place) -> int:
        selection.check(place)
        total = 0
        async with place.beside() as store:
            with _opened(file) as put:
                async for page in _found(store, selection):
                    lines = [as_json({**each.document(), "values": each.values}) + "\n" for each in page]
                    await asyncio.to_thread(put, "".join(lines))
                    total += len(lines)
        tell(f"exported {number_of(total, 'dead letter')} of {place.policy.id}")
        return OK

    return at_place(target, work)


Demands: TypeAlias = type[RetryDeadLetters] | type[DiscardDeadLetters]


def retry(target: Target, selection: Selection, asker: Asker, *, yes: bool) -> int:
    """Has dead letters tried again by the next run."""
    done = "trying {} again: what is refused again stays a dead letter"
    return _ask(target, selection, asker, RetryDeadLetters, "try {} again", done, yes=yes)


def discard(target: Target, selection: Selection, asker: Asker, *, yes: bool) -> int:
    """Gives dead letters up."""
    done = "discarded {}: the audit keeps what was lost, and only a change of the record brings it back"
    return _ask(target, selection, asker, DiscardDeadLetters, "discard {}", done, yes=yes, always=True)


def _ask(
    target: Target,
    selection: Selection,
    asker: Asker,
    kind: Demands,
    what: str,
    done: str,
    *,
    yes: bool,
    always: bool = False,
) -> int:
    async def work(place: Place) -> int:
        selection.check(place)
        selection.require()
        async with place.beside() as store:
            writes, records = await _references(store, selection)
            total = len(writes) + len(records)
            if not total:
                raise Refused(_none(place, selection))
            told = what.format(f"{number_of(total, 'dead letter')} of {place.policy.id}")
            confirm(told, total, yes=yes, always=always)
            demands = [*(kind(writes=its) for its in chunks(writes)), *(kind(records=its) for its in chunks(records))]
            answers = await ask(place, store, asker, demands)
        if answers.done:
            tell(done.format(number_of(answers.done, "dead letter")))
        return answers.code

    return at_place(target, work)


async def _references(store: Store, selection: Selection) -> tuple[list[tuple[int, str]], list[tuple[str, str]]]:
    """What is selected: (record, system) of writes, and (system, key) of records that could not be taken in."""
    writes: list[tuple[int, str]] = []
    records: list[tuple[str, str]] = []
    async for page in _found(store, selection):
        writes += [(each.number, each.system) for each in page if each.number]
        records += [(each.system, each.keys[each.system]) for each in page if not each.number]
    return writes, records


async def _found(store: Store, selection: Selection) -> AsyncIterator[list[Letter]]:
    """The dead letters that are selected, in pages: first what could not be taken in."""
    place = selection.place() if selection.record else None
    async for letters in store.walk_letters():
        yield [_taken(each) for each in letters if place in (None, (each.system, each.key)) and _fits(each, selection)]
    record = await record_of(store, selection) if selection.record else None
    if selection.record and record is None:
        return
    async for page in _failed(store, record):
        chosen = [each for each in page if _fits(each, selection)]
        memories = await store.recall(sorted({each.record for each in chosen}))
        yield [_unwritten(each, keys_of(memories.get(each.record))) for each in chosen]


async def _failed(store: Store, record: int | None) -> AsyncIterator[list[Undelivered]]:
    if record is None:
        async for page in store.walk_failed():
            yield page
        return
    memories = await store.recall([record])
    yield [x for memory in memories.values() for x in memory.pending.values() if x.dead and not x.discarded]


def _fits(each: DeadLetter | Undelivered, selection: Selection) -> bool:
    reason = each.error if isinstance(each, Undelivered) else each.reason
    fields = each.write.values if isinstance(each, Undelivered) else ()
    return selection.fits(each.system, fields, each.since) and selection.reason.lower() in ("", reason.lower())


def _taken(each: DeadLetter) -> Letter:
    return Letter("Read", each.system, {each.system: each.key}, each.reason, each.message, each.since)


def _unwritten(each: Undelivered, keys: dict[str, str]) -> Letter:
    write = each.write
    operation = write.operation.value
    return Letter(
        operation, each.system, keys, each.error, each.message, each.since, each.attempts, each.record, write.values
    )


def _none(place: Place, selection: Selection) -> str:
    where = f" of {selection.record}" if selection.record else " like that" if selection.narrow else ""
    gone = f"there is no dead letter{where} in {place.policy.id}: it may have ended meanwhile"
    return f"{gone}; `fairlead dead-letters list` names those that wait"


@contextmanager
def _opened(file: Path | None) -> Iterator[Callable[[str], object]]:
    """What writes to a new file that only its owner reads, or to standard output."""
    if file is None:
        yield write
        return
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as opened:
        yield opened.write
