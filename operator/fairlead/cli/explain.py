"""`fairlead explain`: field by field, why each system has what it has.

The state holds fingerprints, not values: that systems agree is known, and what they hold only where it had to be kept.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import msgspec
import orjson

from fairlead.cli.audit import name_of, pages, record_of, short
from fairlead.cli.choices import Output
from fairlead.cli.output import console
from fairlead.cli.place import Place, Refused, Target, at_place
from fairlead.cli.words import rule_of, sentence
from fairlead.engine.case import Operation
from fairlead.engine.fingerprint import UNSEEN, field
from fairlead.engine.rules import Rules
from fairlead.model.record import Value
from fairlead.state.audit import AuditEntry, AuditQuery
from fairlead.state.base import DISCARDED, DeadLetter, Recollection, Store, Undelivered
from fairlead.state.place import Place as Where
from fairlead.state.place import reservation
from fairlead.worker.exit import OK
from fairlead.worker.report import moment
from fairlead.worker.settlement import is_uncertain


class Standing(msgspec.Struct, frozen=True):
    """What one system holds of one field, as far as is known.

    Attributes:
        state: Agrees, Differs, NotRead, NotTakenIn, Frozen or Undelivered.
        value: where it had to be kept.
    """

    state: str
    reason: str = ""
    value: Value = None


class Story(msgspec.Struct, frozen=True):
    """One field of a record: what each system holds, the rule, and the audit's last word."""

    field: str
    systems: dict[str, Standing]
    rule: str
    last: str


class Untaken(msgspec.Struct, frozen=True):
    """A dead letter: what a system has under a key, and since when and why that was not taken in."""

    system: str
    key: str
    since: str
    reason: str
    message: str


class Explained(msgspec.Struct, frozen=True):
    """One record, or a dead letter that is no record.

    Attributes:
        record: its number; negative where it is none.
        letters: what was not taken in of it.
        absent: why systems have it not.
        last: what the audit says of the whole record.
    """

    record: int
    name: str
    letters: list[Untaken]
    absent: dict[str, str]
    last: str
    fields: list[Story]


def explain(target: Target, record: str, output: Output) -> int:
    """Prints what is known of a record."""

    async def work(place: Place) -> int:
        async with place.beside() as store:
            found = await explained(place, store, record)
        if output is Output.JSON:
            document = msgspec.to_builtins(found, builtin_types=(object,))
            console().out(orjson.dumps(document, option=orjson.OPT_INDENT_2, default=str).decode(), highlight=False)
        else:
            _print(found)
        return OK

    return at_place(target, work)


async def explained(place: Place, store: Store, name: str) -> Explained:
    """What is known of the record, or dead letter, at SYSTEM/KEY.

    Raises:
        Refused: nothing is there.
    """
    system, _, key = name.partition("/")
    try:
        return await _record(place.rules, store, await record_of(place, store, name), (system, key))
    except Refused:
        letters = await _letters(store, [(system, key)])
        if not letters:
            raise
    number = reservation(system, key)
    last = await _last(store, number, ())
    return Explained(number, name, list(letters.values()), {}, sentence(last[""]) if "" in last else "", [])


async def _record(rules: Rules, store: Store, record: int, named: Where) -> Explained:
    memory = (await store.recall([record])).get(record)
    sides = [(system, side.key) for system, side in memory.sides.items()] if memory else []
    letters = await _letters(store, sorted({named, *sides}))
    last = await _last(store, record, rules.fields)
    name = name_of(record, await store.names([record]))
    word = sentence(last[""]) if "" in last else ""
    if memory is None:
        absent = dict.fromkeys(rules.systems, "it was deleted")
        return Explained(record, name, list(letters.values()), absent, word, [])
    since = {system: letters[system, key].since for system, key in sides if (system, key) in letters}
    stories = [
        Story(
            field_name,
            _standings(rules, memory, since, field_name, last.get(field_name)),
            rule_of(rule),
            sentence(last[field_name]) if field_name in last else "",
        )
        for field_name, rule in rules.fields.items()
    ]
    return Explained(record, name, list(letters.values()), _absent(rules, memory), word, stories)


async def _letters(store: Store, places: Sequence[Where]) -> dict[Where, Untaken]:
    return {(each.system, each.key): _untaken(each) for each in await store.dead_letters(places)}


def _untaken(letter: DeadLetter) -> Untaken:
    return Untaken(letter.system, letter.key, moment(letter.since), letter.reason, letter.message)


async def _last(store: Store, record: int, fields: Collection[str]) -> dict[str, AuditEntry]:
    """Field, or nothing for the whole record → the last that the audit says of it."""
    last: dict[str, AuditEntry] = {}
    former = tuple((await store.former(record)).items())
    async for page in pages(store, AuditQuery(records=(record,), former=former)):
        for each in page:
            last.setdefault(each.entry.field, each.entry)
        if set(fields) | {""} <= last.keys():
            break
    return last


def _absent(rules: Rules, memory: Recollection) -> dict[str, str]:
    found = {}
    for system, rule in rules.systems.items():
        pending = memory.pending.get(system)
        if system in memory.away:
            found[system] = (
                "it was deleted there, is archived, has left the filter or was split off: nothing flows there"
            )
        elif system not in memory.sides and pending is not None and pending.discarded:
            found[system] = "its create was discarded by a person: only a change of the record brings it back"
        elif system not in memory.sides and pending is not None:
            how = "was refused" if _is_refused(pending) else "was not yet"
            found[system] = f"it is to be created there, and {how}{_why(pending)}"
        elif system not in memory.sides:
            found[system] = "it is not known there" if rule.creates else "it is not known there, and not created"
        elif pending is not None and pending.write.operation is not Operation.UPDATE:
            found[system] = f"its {pending.write.operation.value.lower()} {_how_far(pending)}"
    return found


def _how_far(pending: Undelivered) -> str:
    if pending.held:
        return f"waits for approval{_why(pending)}"
    return f"{'was refused' if _is_refused(pending) else 'is on its way'}{_why(pending)}"


def _is_refused(pending: Undelivered) -> bool:
    return pending.dead and not is_uncertain(pending)


def _why(pending: Undelivered) -> str:
    return f": {pending.error}: {pending.message}" if pending.error else ""


def _standings(
    rules: Rules, memory: Recollection, untaken: Mapping[str, str], name: str, last: AuditEntry | None
) -> dict[str, Standing]:
    slot = rules.fields[name].field.slot
    holders = [s for s in memory.sides if s in rules.systems and rules.systems[s].maps(name) and s not in memory.away]
    prints = {system: field(memory.sides[system].prints, slot) for system in holders}
    several = len(set(prints.values()) - {UNSEEN}) > 1
    found = {
        system: _standing(memory, name, system, prints[system], untaken.get(system), differs=several)
        for system in sorted(holders)
    }
    if last is not None and last.kind == DISCARDED:  # an older one is no reason any more
        for system in last.values.keys() & found.keys():
            if found[system].state == "Differs":
                found[system] = Standing("Differs", f"what was to be written there was discarded by {last.rule}")
    return found


def _standing(
    memory: Recollection, name: str, system: str, seen: bytes, untaken: str | None, *, differs: bool
) -> Standing:
    pending, conflict = memory.pending.get(system), memory.frozen.get(name)
    if conflict is not None:
        reason = f"a conflict waits for a person since {moment(conflict.since)}"
        return Standing("Frozen", reason, conflict.values.get(system))
    if pending is not None and name in pending.write.values:
        reason = f"the value of {pending.write.origins.get(name, '')} {_how_far(pending)}"
        return Standing("Undelivered", reason, pending.write.values[name])
    if untaken is not None:
        return Standing("NotTakenIn", f"it was not taken in since {untaken}")
    if seen == UNSEEN:
        return Standing("NotRead", "it was not read there yet")
    return Standing("Differs", "it differs from another system") if differs else Standing("Agrees")


def _print(found: Explained) -> None:
    out = console()
    out.print(found.name, style="bold", markup=False)
    for letter in found.letters:
        out.print(f"  {_refusal(letter)}", markup=False)
    if found.last:
        out.print(f"  {found.last}", markup=False)
    for system, why in found.absent.items():
        out.print(f"  {system}: {why}", markup=False)
    for story in found.fields:
        out.print(story.field, style="bold", markup=False)
        for line in _lines(story):
            out.print(f"  {line}", markup=False)


def _refusal(letter: Untaken) -> str:
    text = f"{letter.system}/{letter.key} was not taken in since {letter.since}"
    if letter.reason == DISCARDED:
        return f"{text} ({letter.message}), and was discarded by a person: only a change of it brings it back"
    return f"{text}: {letter.reason}: {letter.message}"


def _lines(story: Story) -> Sequence[str]:
    standings = story.systems.items()
    agreed = [system for system, its in standings if its.state == "Agrees"]
    told = [f"{system}: {_told(its)}" for system, its in standings if its.state != "Agrees"]
    agreement = [f"in agreement: {', '.join(agreed)}"] if agreed else []
    if len(agreed) == 1 and any(its.state == "NotTakenIn" for _, its in standings):
        told, agreement = [*told, f"in agreement until then: {agreed[0]}"], []
    lines = [*agreement, *told] or ["no system that has the record has this field"]
    return [*lines, story.rule, *([story.last] if story.last else [])]


def _told(standing: Standing) -> str:
    known = f" ({short(standing.value)})" if standing.value is not None else ""
    return f"{standing.reason}{known}"
