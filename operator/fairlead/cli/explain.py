"""`fairlead explain`: field by field, why each system has what it has.

The state holds fingerprints, not values: that systems agree is known, and what they hold only where it had to be kept.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from decimal import Decimal
from pathlib import Path

import msgspec

from fairlead.cli.audit import name_of, pages, record_of, short
from fairlead.cli.choices import Output
from fairlead.cli.differing import Past
from fairlead.cli.output import as_json, console
from fairlead.cli.place import Place, Refused, Target, at_place, record_at, tell
from fairlead.cli.words import rule_of, sentence
from fairlead.engine.case import Operation
from fairlead.engine.fingerprint import UNSEEN, field
from fairlead.engine.rules import Rules
from fairlead.model.record import Value
from fairlead.state.audit import AuditQuery
from fairlead.state.base import DISCARDED, DeadLetter, Recollection, Store, Undelivered
from fairlead.state.place import Place as Where
from fairlead.state.place import reservation
from fairlead.worker.exit import NEEDS_A_PERSON, OK
from fairlead.worker.report import moment
from fairlead.worker.settlement import is_uncertain, lossy_fields


class Standing(msgspec.Struct, frozen=True):
    """What one system holds of one field, as far as is known.

    Attributes:
        state: Agrees, Differs, NotRead, NotTakenIn, Waiting, Frozen or Undelivered.
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
            document = msgspec.to_builtins(found, builtin_types=(Decimal,))
            console().out(as_json(document, indent=True), highlight=False)
        else:
            _print(found)
        return OK

    if not target.paths and Path(record).exists():
        tell(f"the record comes first: fairlead explain SYSTEM/KEY {record}")
        return NEEDS_A_PERSON
    return at_place(target, work)


async def explained(place: Place, store: Store, name: str) -> Explained:
    """What is known of the record, or dead letter, at SYSTEM/KEY.

    Raises:
        Refused: nothing is there.
    """
    system, key = record_at(place, name)
    try:
        return await _record(place.rules, store, await record_of(place, store, name), (system, key))
    except Refused:
        letters = await _letters(store, [(system, key)])
        if not letters:
            raise
    number = reservation(system, key)
    past = await _past(store, number, ())
    return Explained(number, name, list(letters.values()), {}, _last(past, ""), [])


async def _record(rules: Rules, store: Store, record: int, named: Where) -> Explained:
    memory = (await store.recall([record])).get(record)
    sides = [(system, side.key) for system, side in memory.sides.items()] if memory else []
    letters = await _letters(store, sorted({named, *sides}))
    past = await _past(store, record, rules.fields)
    name = name_of(record, await store.names([record]))
    if memory is None:
        absent = dict.fromkeys(rules.systems, "it was deleted")
        return Explained(record, name, list(letters.values()), absent, _last(past, ""), [])
    since = {system: letters[system, key].since for system, key in sides if (system, key) in letters}
    known = _Known(rules, memory, past, since, await _waiting(store, sides), await lossy_fields(store))
    stories = [
        Story(field_name, known.standings(field_name), rule_of(rule), _last(past, field_name))
        for field_name, rule in rules.fields.items()
    ]
    return Explained(record, name, list(letters.values()), _absent(rules, memory), _last(past, ""), stories)


async def _letters(store: Store, places: Sequence[Where]) -> dict[Where, Untaken]:
    return {(each.system, each.key): _untaken(each) for each in await store.dead_letters(places)}


def _untaken(letter: DeadLetter) -> Untaken:
    return Untaken(letter.system, letter.key, moment(letter.since), letter.reason, letter.message)


async def _past(store: Store, record: int, fields: Collection[str]) -> Past:
    """What the audit tells of a record, back to the last entry of each field and of the whole."""
    past = Past()
    former = tuple((await store.former(record)).items())
    async for page in pages(store, AuditQuery(records=(record,), former=former)):
        for each in page:
            past.add(each.entry)
        if {*fields, ""} <= past.last.keys():
            break
    return past


def _last(past: Past, name: str) -> str:
    return sentence(past.last[name]) if name in past.last else ""


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


async def _waiting(store: Store, sides: Collection[Where]) -> frozenset[Where]:
    return frozenset(
        [
            (orphan.system, orphan.field)
            for system in sorted({system for system, _ in sides})
            async for page in store.orphans(system)
            for orphan in page
            if (orphan.system, orphan.key) in sides
        ]
    )


class _Known(msgspec.Struct, frozen=True):
    """What is known of a record.

    Attributes:
        untaken: system → since when what it has was not taken in.
        waiting: (system, field) of references to a record that is not known yet; what is seen is from before.
        lossy: see `Past.why`.
    """

    rules: Rules
    memory: Recollection
    past: Past
    untaken: dict[str, str]
    waiting: frozenset[Where]
    lossy: frozenset[str]

    def standings(self, name: str) -> dict[str, Standing]:
        """System → what it holds of a field."""
        slot, sides = self.rules.fields[name].field.slot, self.memory.sides
        systems = [system for system in sides if system in self.rules.systems and system not in self.memory.away]
        prints = {s: field(sides[s].prints, slot) for s in sorted(systems) if self.rules.systems[s].maps(name)}
        several = len(set(prints.values()) - {UNSEEN}) > 1
        found = {system: self._standing(name, system, seen, differs=several) for system, seen in prints.items()}
        differing = [system for system, standing in found.items() if standing.state == "Differs"]
        first_sync = self.rules.first_sync if len(differing) == len(found) else None
        why = self.past.why(name, differing, self.lossy, first_sync)
        return {**found, **{system: Standing("Differs", why[system]) for system in differing}}

    def _standing(self, name: str, system: str, seen: bytes, *, differs: bool) -> Standing:
        pending, conflict = self.memory.pending.get(system), self.memory.frozen.get(name)
        if conflict is not None:
            reason = f"a conflict waits for a person since {moment(conflict.since)}"
            return Standing("Frozen", reason, conflict.values.get(system))
        if pending is not None and name in pending.write.values:
            reason = f"the value of {pending.write.origins.get(name, '')} {_how_far(pending)}"
            return Standing("Undelivered", reason, pending.write.values[name])
        if system in self.untaken:
            return Standing("NotTakenIn", f"it was not taken in since {self.untaken[system]}")
        if (system, name) in self.waiting:
            return Standing("Waiting", "it refers to a record that is not there yet, and waits for it")
        if seen == UNSEEN:
            return Standing("NotRead", "it was not read there yet")
        return Standing("Differs" if differs else "Agrees")


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
    if len(agreed) == 1 and any(its.state in ("NotTakenIn", "Waiting") for _, its in standings):
        told, agreement = [*told, f"in agreement until then: {agreed[0]}"], []
    lines = [*agreement, *told] or ["no system that has the record has this field"]
    return [*lines, story.rule, *([story.last] if story.last else [])]


def _told(standing: Standing) -> str:
    known = f" ({short(standing.value)})" if standing.value is not None else ""
    return f"{standing.reason}{known}"
