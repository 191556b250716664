"""`fairlead explain`: field by field, why each system has what it has.

The state holds fingerprints, not values: that systems agree is known, and what they hold only where it had to be kept.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import orjson

from fairlead.cli.audit import name_of, pages, record_of, short
from fairlead.cli.choices import Output
from fairlead.cli.output import console
from fairlead.cli.place import Place, Target, at_place
from fairlead.engine.case import EDIT, UNDO, FindingKind, Operation
from fairlead.engine.fingerprint import UNSEEN, field
from fairlead.engine.rules import FieldRule, Rules
from fairlead.model.record import Value
from fairlead.model.syncpolicy import Edits, WhenEmpty
from fairlead.state.audit import AuditEntry, AuditQuery, WriteKind
from fairlead.state.base import DISCARDED, Recollection, Store
from fairlead.worker.exit import OK
from fairlead.worker.report import moment


class Standing(msgspec.Struct, frozen=True):
    """What one system holds of one field, as far as is known.

    Attributes:
        state: Agrees, Differs, NotRead, Frozen or Undelivered.
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


class Explained(msgspec.Struct, frozen=True):
    """One record. `absent` says why systems have it not, `last` what the audit says of the whole record."""

    record: int
    name: str
    absent: dict[str, str]
    last: str
    fields: list[Story]


def explain(target: Target, record: str, output: Output) -> int:
    """Prints what is known of a record."""

    async def work(place: Place) -> int:
        async with place.beside() as store:
            found = await explained(place.rules, store, await record_of(place, store, record))
        if output is Output.JSON:
            document = msgspec.to_builtins(found, builtin_types=(object,))
            console().out(orjson.dumps(document, option=orjson.OPT_INDENT_2, default=str).decode(), highlight=False)
        else:
            _print(found)
        return OK

    return at_place(target, work)


async def explained(rules: Rules, store: Store, record: int) -> Explained:
    """What is known of a record."""
    memory = (await store.recall([record])).get(record)
    last: dict[str, AuditEntry] = {}
    former = tuple((await store.former(record)).items())
    async for page in pages(store, AuditQuery(records=(record,), former=former)):
        for each in page:
            last.setdefault(each.entry.field, each.entry)
        if rules.fields.keys() <= last.keys() and "" in last:
            break
    name = name_of(record, await store.names([record]))
    word = sentence(last[""]) if "" in last else ""
    if memory is None:
        return Explained(record, name, dict.fromkeys(rules.systems, "it was deleted"), word, [])
    stories = [
        Story(
            field_name,
            _standings(rules, memory, field_name, last.get(field_name)),
            rule_of(rule),
            sentence(last[field_name]) if field_name in last else "",
        )
        for field_name, rule in rules.fields.items()
    ]
    return Explained(record, name, _absent(rules, memory), word, stories)


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
            found[system] = f"it is to be created there, and was not yet{_why(pending.error, pending.message)}"
        elif system not in memory.sides:
            found[system] = "it is not known there" if rule.creates else "it is not known there, and not created"
        elif pending is not None and pending.write.operation is not Operation.UPDATE:
            ends = "waits for approval" if pending.held else "is on its way"
            found[system] = f"its {pending.write.operation.value.lower()} {ends}{_why(pending.error, pending.message)}"
    return found


def _why(error: str, message: str) -> str:
    return f": {error}: {message}" if error else ""


def _standings(rules: Rules, memory: Recollection, name: str, last: AuditEntry | None) -> dict[str, Standing]:
    slot = rules.fields[name].field.slot
    holders = [s for s in memory.sides if s in rules.systems and rules.systems[s].maps(name) and s not in memory.away]
    prints = {system: field(memory.sides[system].prints, slot) for system in holders}
    several = len(set(prints.values()) - {UNSEEN}) > 1
    found = {system: _standing(memory, name, system, prints[system], differs=several) for system in sorted(holders)}
    if last is not None and last.kind == DISCARDED:  # an older one is no reason any more
        for system in last.values.keys() & found.keys():
            if found[system].state == "Differs":
                found[system] = Standing("Differs", f"what was to be written there was discarded by {last.rule}")
    return found


def _standing(memory: Recollection, name: str, system: str, seen: bytes, *, differs: bool) -> Standing:
    pending, conflict = memory.pending.get(system), memory.frozen.get(name)
    if conflict is not None:
        reason = f"a conflict waits for a person since {moment(conflict.since)}"
        return Standing("Frozen", reason, conflict.values.get(system))
    if pending is not None and name in pending.write.values:
        held = "waits for approval" if pending.held else "is on its way"
        reason = f"the value of {pending.write.origins.get(name, '')} {held}{_why(pending.error, pending.message)}"
        return Standing("Undelivered", reason, pending.write.values[name])
    if seen == UNSEEN:
        return Standing("NotRead", "it was not read there yet")
    return Standing("Differs", "it differs from another system") if differs else Standing("Agrees")


def rule_of(rule: FieldRule) -> str:
    """The rule of a field in a sentence."""
    owner = rule.system_of_record
    if rule.condition is not None:
        owner = f"{rule.condition.then.system_of_record} (when {rule.condition.when.source}), else {owner}"
    if rule.edits is Edits.SYSTEM_OF_RECORD_ONLY:
        text = f"owned by {owner}, where alone it may be edited"
    else:
        text = f"owned by {owner}; it may be edited anywhere, and onConflict: {rule.on_conflict.value} decides"
    return text + ("; an empty value overwrites none" if rule.when_empty is WhenEmpty.KEEP else "")


_FOUND: dict[str, str] = {
    FindingKind.CONFLICT: "a conflict was decided: {winner}'s value stands ({rule})",
    FindingKind.REVERTED: "an edit was reverted to {winner}'s value ({rule})",
    FindingKind.OVERWRITTEN: "another value was overwritten by {winner}'s ({rule})",
    FindingKind.FROZEN: "a conflict waits for a person ({rule})",
    FindingKind.RESOLVED: "a conflict was resolved ({rule})",
    FindingKind.REPAIRED: "{winner}'s value was restored ({rule})",
    FindingKind.KEPT: "it was emptied, and stays filled elsewhere ({rule})",
    FindingKind.DELETED: "it was deleted in {winner}, and so everywhere (deletes.propagate: {rule})",
    FindingKind.DELETE_NOT_SPREAD: "it was deleted in {winner}, and kept elsewhere (deletes.propagate: {rule})",
    DISCARDED: "a write that had failed was discarded by {rule}",
    FindingKind.RECREATED: "it was edited while {winner} deleted it, and came back ({rule})",
}


def sentence(entry: AuditEntry) -> str:
    """An entry in words."""
    words = _written(entry) if entry.system else _FOUND.get(entry.kind, f"{entry.kind} ({{rule}})")
    return f"{moment(entry.at)}: {words.format(winner=entry.winner, rule=entry.rule)}, in run {entry.run}"


def _written(entry: AuditEntry) -> str:
    undone = entry.rule.startswith(f"{UNDO} ")
    if entry.kind == WriteKind.CREATED:
        return f"it was created in {entry.system}" + (" by {rule}" if undone else "")
    if entry.kind == WriteKind.DELETED:
        return f"it was deleted in {entry.system}" + (" by {rule}" if undone else "")
    if entry.kind == WriteKind.ARCHIVED:
        return f"it was archived in {entry.system}"
    if undone:
        return f"{entry.system} got its old value back by {{rule}}"
    why = "where it was edited" if entry.rule == EDIT else "{rule}"
    return f"{entry.system} was given the value of {{winner}} ({why})"


def _print(found: Explained) -> None:
    out = console()
    out.print(found.name, style="bold", markup=False)
    if found.last:
        out.print(f"  {found.last}", markup=False)
    for system, why in found.absent.items():
        out.print(f"  {system}: {why}", markup=False)
    for story in found.fields:
        out.print(story.field, style="bold", markup=False)
        for line in _lines(story):
            out.print(f"  {line}", markup=False)


def _lines(story: Story) -> Sequence[str]:
    agreed = [system for system, standing in story.systems.items() if standing.state == "Agrees"]
    lines = [f"in agreement: {', '.join(agreed)}"] if agreed else []
    lines += [_told(system, its) for system, its in story.systems.items() if its.state != "Agrees"]
    return [
        *(lines or ["no system that has the record has this field"]),
        story.rule,
        *([story.last] if story.last else []),
    ]


def _told(system: str, standing: Standing) -> str:
    known = f" ({short(standing.value)})" if standing.value is not None else ""
    return f"{system}: {standing.reason}{known}"
