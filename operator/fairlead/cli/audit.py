"""`fairlead audit list`: what happened to records, which rule decided, and what was written where."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime

import msgspec

from fairlead.cli.choices import Output
from fairlead.cli.output import as_json, console, table
from fairlead.cli.place import Misused, Place, Refused, Target, at_place, record_at, require, tell
from fairlead.engine.case import FindingKind
from fairlead.model.common import counted, seconds
from fairlead.model.record import Value
from fairlead.state.audit import NEW, OLD, Audited, AuditEntry, AuditQuery, WriteKind, created_records
from fairlead.state.base import DISCARDED, Store
from fairlead.state.place import reservation
from fairlead.worker.exit import OK
from fairlead.worker.report import moment
from fairlead.worker.reversal import started

_PAGE = 500
_RUNS = 100
"""Runs that the state's history keeps."""

KINDS = frozenset({*FindingKind, *WriteKind, DISCARDED} - {FindingKind.CLOCK_SKEW})
"""Of the audit's entries; a skewed clock is told by the run only."""

_LONGEST = 60
"""Characters of a value in a table."""

Names = Mapping[int, Mapping[str, str]]


class Wanted(msgspec.Struct, frozen=True):
    """What the command line asked for; see `AuditQuery`. `limit` and `before` are those of a page."""

    run: str
    record: str
    field: str
    system: str
    kind: str
    since: str
    limit: int
    before: int | None


def list_audit(target: Target, wanted: Wanted, output: Output) -> int:
    """Prints entries of the audit, newest first: a table, or JSON Lines."""

    async def work(place: Place) -> int:
        async with place.beside() as store:
            query = await _query(place, store, wanted)
            if output is Output.JSON:
                await _print_lines(store, query, wanted)
            else:
                await _print_table(store, query, wanted)
        return OK

    return at_place(target, work)


async def record_of(place: Place, store: Store, name: str, option: str = "") -> int:
    """The number of the record that has, or had, a native key; `option` is where a person named it, if in one.

    Raises:
        Refused: there is none.
    """
    (system, key), policy = record_at(place, name, option), place.policy.id
    try:
        found = (await store.lookup(system, [key])).records[0]
    except KeyError:
        raise Refused(f"{policy} has not read {system} yet") from None
    if found is None:
        found = (await store.tombstones(system, [key])).get(key)
    if found is None:
        if await store.erased(system, [key]):
            raise Refused(
                f"{name} was forgotten, and is not taken in: where somebody else has that key by now, say so with "
                f"`fairlead forget --take-in {name}`"
            )
        raise Refused(f"{policy} knows no record {name}")
    return found


async def _query(place: Place, store: Store, wanted: Wanted) -> AuditQuery:
    records = await _numbers_of(place, store, wanted.record) if wanted.record else ()
    if wanted.system:
        require(place, "system", wanted.system, "--system")
    if wanted.field:
        require(place, "field", wanted.field, "--field")
    if wanted.kind and wanted.kind not in KINDS:
        raise Refused(f"--kind: the audit has no {wanted.kind!r}; its kinds are {', '.join(sorted(KINDS))}")
    if wanted.run:
        await _check_run(place, store, wanted.run)
    since = _since(wanted.since)
    former = tuple([pair for record in records for pair in (await store.former(record)).items()])
    return AuditQuery(wanted.run, records, wanted.field, wanted.system, wanted.kind, since, former)


async def _numbers_of(place: Place, store: Store, name: str) -> tuple[int, ...]:
    """Under which the audit tells of a record, also as the dead letter that it is or was.

    Raises:
        Refused: it tells nothing of it.
    """
    letter = reservation(*record_at(place, name, "--record"))
    try:
        return (await record_of(place, store, name, "--record"), letter)
    except Refused:
        if not await store.audit(AuditQuery(records=(letter,)), limit=1):
            raise
    return (letter,)


async def _check_run(place: Place, store: Store, run: str) -> None:
    """Sees that there is such a run, or may have been one of which the audit was dropped.

    Raises:
        Refused: there is not.
    """
    if await store.audit(AuditQuery(run=run), limit=1) or was_dropped(place, run):
        return
    if any(each.id == run for each in await store.history(_RUNS)):
        return
    latest = await latest_run(store)
    hint = f": the last one that the audit tells of is {latest}" if latest else ""
    raise Refused(f"--run: {place.policy.id} has no run {run}{hint}")


async def latest_run(store: Store) -> str:
    """The last run that the audit tells of; empty when it tells of none."""
    return next((each.entry.run for each in await store.audit(AuditQuery(), limit=1)), "")


def was_dropped(place: Place, run: str) -> bool:
    """Whether a run began so long ago that the audit tells of it no more."""
    began = started(run)
    return began > 0 and began < time.time() - seconds(place.policy.spec.state.retention)


def _since(text: str) -> float:
    if not text:
        return 0.0
    try:
        return datetime.fromisoformat(text).astimezone().timestamp()
    except ValueError:
        pass
    try:
        return time.time() - seconds(text)
    except ValueError:
        raise Misused(f"--since: {text!r} is neither a time like 2026-01-31T12:00:00Z nor a duration like 2h") from None


async def pages(store: Store, query: AuditQuery, *, before: int | None = None) -> AsyncIterator[list[Audited]]:
    """All entries of a query, newest first."""
    while page := await store.audit(query, before=before, limit=_PAGE):
        yield page
        before = page[-1].number


async def _print_lines(store: Store, query: AuditQuery, wanted: Wanted) -> None:
    left = wanted.limit
    async for page in pages(store, query, before=wanted.before):
        shown = page[:left] if wanted.limit else page
        names = await names_of(store, shown, query)
        for each in shown:
            console().out(as_json(document(each, names)), highlight=False)
        left -= len(shown)
        if wanted.limit and left <= 0:
            return


async def _print_table(store: Store, query: AuditQuery, wanted: Wanted) -> None:
    limit = wanted.limit or 50
    found = await store.audit(query, before=wanted.before, limit=limit + 1)
    shown = found[:limit]
    names = await names_of(store, shown, query)
    rows = [_row(each.entry, names) for each in shown]
    if rows:
        console().print(table(("TIME", "RUN", "KIND", "RECORD", "FIELD", "SYSTEM", "WHOSE", "RULE", "VALUES"), rows))
    else:
        tell("nothing like this is in the audit; what is older than spec.state.retention was dropped")
    if len(found) > limit:
        tell(f"older ones: --before {shown[-1].number}")


async def names_of(store: Store, entries: Sequence[Audited], query: AuditQuery) -> Names:
    """Record → system → native key; what the record that is asked for was before has its name.

    A dead letter has no number of its own, but is told by its place.
    """
    numbers = {each.entry.record for each in entries if each.entry.lowest is None}
    names = await store.names(sorted(numbers.union(query.records)))
    own = names.get(query.records[0], {}) if query.records else {}
    letters = {
        each.entry.record: {system: str(key) for system, key in each.entry.values.items()}
        for each in entries
        if each.entry.record < 0
    }
    return {**{number: own for number, _ in query.former}, **names, **letters}


def name_of(record: int, names: Names) -> str:
    """A record as people name it."""
    return " = ".join(f"{s}/{key}" for s, key in sorted(names.get(record, {}).items())) or f"record {record}"


def document(each: Audited, names: Names) -> dict[str, object]:
    """An entry for machines."""
    entry = each.entry
    about: dict[str, object] = {"record": entry.record, "keys": names.get(entry.record, {}), "values": entry.values}
    if entry.lowest is not None:
        about = {"records": created_records(entry)}
    return {
        "number": each.number,
        "time": moment(entry.at),
        "run": entry.run,
        "kind": entry.kind,
        "field": entry.field,
        "system": entry.system,
        "winner": entry.winner,
        "rule": entry.rule,
        **about,
    }


def _row(entry: AuditEntry, names: Names) -> tuple[str, ...]:
    many = entry.lowest is not None
    record = counted(len(created_records(entry)), "record") if many else name_of(entry.record, names)
    what = (entry.kind, record, entry.field, entry.system, entry.winner, entry.rule)
    return (moment(entry.at), entry.run, *what, "" if many else _values(entry))


def _values(entry: AuditEntry) -> str:
    if entry.system and entry.field:
        if NEW not in entry.values:
            return ""
        before = short(entry.values[OLD]) if OLD in entry.values else "?"
        return f"{before} → {short(entry.values[NEW])}"
    return ", ".join(f"{name}: {short(value)}" for name, value in sorted(entry.values.items()))


def short(value: Value) -> str:
    """A value for people."""
    text = as_json(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
