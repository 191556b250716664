"""Reversal: what it takes to undo a run, record by record, from the audit. Nothing is written here.

What a run wrote goes back to what was there before. Where the run spread an edit, the old value goes to every system
that has the new one, the one where it was edited too, so that all agree again. Where the run decided between systems
(a conflict, a first meeting), each system gets its own value back, and they differ as they did before. A copy that the
run created is deleted, a record that it deleted is created again. What changed since is left alone, and told.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from hashlib import blake2b

import msgspec

from fairlead.engine.canonical import is_empty
from fairlead.engine.case import EDIT, UNDO, FindingKind
from fairlead.engine.expression import Expression, ExpressionError
from fairlead.engine.fields import empty_prints
from fairlead.engine.fingerprint import UNSEEN, Fingerprints, field
from fairlead.engine.rules import FieldRule, Rules
from fairlead.model.record import Value
from fairlead.model.syncpolicy import Edits
from fairlead.state import codec
from fairlead.state.audit import NEW, OLD, Audited, AuditEntry, AuditQuery, WriteKind, created_records
from fairlead.state.base import REMATCH, Recollection, Store

PAGE = 200
"""Records that are looked at together, and asked for in one request."""

_NO_VALUES = "it was kept without values: give state.encryptionKey to keep them from now on"
_UNKNOWN = "what was there before is not known: the worker had to write it twice"
_ANOTHER = "it is a part of another record since, or that of it: split them first, or mend it by hand"
_LAST = "nothing of the record would be left"
_CAME_BACK = "the record ended since, and came back"
_SINCE = {
    FindingKind.DELETED.value: _CAME_BACK,
    FindingKind.ARCHIVED.value: _CAME_BACK,
    FindingKind.DELETE_NOT_SPREAD.value: "it was deleted there since",
    FindingKind.RECREATED.value: "it was deleted there since",
    FindingKind.LINKED.value: "a person linked the record since",
    FindingKind.SPLIT.value: "a person split the record since",
}
"""What is told of a record whose copy may be another one since: it has another native id, and may be nobody's copy."""

_PERSONS = {
    FindingKind.LINKED.value: ("the link", "split off what is another one with `fairlead matches split`"),
    FindingKind.SPLIT.value: ("the split", "link the two again with `fairlead matches link`"),
}
_DECIDED = {FindingKind.OVERWRITTEN.value, FindingKind.CONFLICT.value, FindingKind.RESOLVED.value}
_LATER = 1.0


class Reversal(msgspec.Struct):
    """What undoes a run in one record.

    Attributes:
        name: the record as people name it.
        updates: system → field → value.
        creates: system → the values of the record that is created again.
        deletes: system → native key of the copy that is deleted there.
        matches: its match keys, where it was gone everywhere.
        refused: what is not undone, and why.
        undone: the run that undid it before, where nothing of it is left to be undone.
        mark: a fingerprint of all that is to be written, with the policy's key; empty where that is nothing.
    """

    record: int
    name: str
    updates: dict[str, dict[str, Value]] = {}
    creates: dict[str, dict[str, Value]] = {}
    deletes: dict[str, str] = {}
    matches: list[int] = []
    refused: list[str] = []
    undone: str = ""
    mark: str = ""

    @property
    def does(self) -> bool:
        """Whether anything is to be written."""
        return bool(self.updates or self.creates or self.deletes)

    def refuse(self, what: str, why: str) -> None:
        """Something is not undone."""
        self.refused.append(f"{what} of {self.name}: {why}")


class _Refused(Exception):
    """Why something is not undone."""


class _Field(msgspec.Struct):
    """What a run wrote of one field of a record, by system; `done` are those where that was undone before."""

    name: str
    done: frozenset[str]
    entries: dict[str, list[AuditEntry]] = {}


class _Known(msgspec.Struct):
    """What is known of a record besides what the run wrote to it.

    Attributes:
        told: what else the audit tells since the run began, oldest first.
        lost: what it tells of values that the run decided between, newest first.
        done: (system, field) of what was undone before; without a field: the record's whole copy there.
        parted: when another record was split off from it for the last time, in epoch seconds.
    """

    told: list[Audited]
    lost: list[AuditEntry]
    done: frozenset[tuple[str, str]]
    parted: float


class Reversals:
    """Plans the undoing of a run."""

    def __init__(self, rules: Rules, store: Store, run: str) -> None:
        self._rules = rules
        self._store = store
        self._prints = Fingerprints(store.key, tuple(rules.fields))
        self._run = run
        self._systems = rules.systems

    async def pages(self) -> AsyncIterator[list[Reversal]]:
        """Everything that the run wrote, some records at a time; each record once."""
        after = 0
        while records := await self._store.audited(self._run, after=after, limit=PAGE):
            yield await self.of(records)
            after = records[-1]
        before: int | None = None
        query = AuditQuery(run=self._run, kind=WriteKind.CREATED.value)
        while batches := await self._store.audit(query, before=before, limit=10):
            before = batches[-1].number
            for batch in batches:
                records = created_records(batch.entry)
                for start in range(0, len(records), PAGE):
                    yield await self.of(records[start : start + PAGE], created=batch.entry.system)

    async def of(self, records: Sequence[int], *, created: str = "") -> list[Reversal]:
        """The reversals of some records.

        Args:
            records: numbers.
            created: the system of a batch of creates: of its records, those are left out that the run wrote otherwise
                too, or created in a system that comes before.
        """
        entries = await self._entries(records)
        memories = await self._store.recall(records)
        heirs = await self._store.heirs(records)
        names = await self._store.names([*records, *(heir for heir, _ in heirs.values())])
        found = []
        for record in records:
            its = entries.get(record, [])
            mine = [each for each in its if each.entry.run == self._run]
            copies = sorted(each.entry.system for each in mine if each.entry.lowest is not None)
            if created and (len(copies) != len(mine) or copies[:1] != [created]):
                continue
            keys = names.get(record) or names.get(heirs[record][0] if record in heirs else record, {})
            reversal = Reversal(record, " = ".join(f"{s}/{k}" for s, k in sorted(keys.items())) or f"record {record}")
            await self._reverse(reversal, its, mine, memories.get(record), heirs.get(record))
            reversal.mark = self._mark(reversal) if reversal.does else ""
            if reversal.does or reversal.refused or reversal.undone:
                found.append(reversal)
        return found

    def _mark(self, reversal: Reversal) -> str:
        values = [
            sorted((s, sorted(its.items())) for s, its in w.items()) for w in (reversal.updates, reversal.creates)
        ]
        what = codec.dump((self._run, reversal.record, values, sorted(reversal.deletes.items())))
        return blake2b(what, key=self._store.key[:64], digest_size=8, person=b"fairlead/undo").hexdigest()

    async def _entries(self, records: Sequence[int]) -> dict[int, list[Audited]]:
        """Record → what the audit holds of it since the run began, oldest first."""
        wanted, found = set(records), dict[int, list[Audited]]()
        before: int | None = None
        query = AuditQuery(records=tuple(records), since=max(started(self._run) - _LATER, 0.0))
        while page := await self._store.audit(query, before=before):
            before = page[-1].number
            for each in page:
                about = created_records(each.entry) if each.entry.lowest is not None else [each.entry.record]
                for record in wanted.intersection(about):
                    found.setdefault(record, []).insert(0, each)
        return found

    async def _reverse(
        self,
        reversal: Reversal,
        entries: Sequence[Audited],
        mine: Sequence[Audited],
        memory: Recollection | None,
        heir: tuple[int, float] | None,
    ) -> None:
        if not mine:
            return
        others = [each for each in entries if each.entry.run != self._run]
        writes = [each for each in mine if each.entry.system]
        undos = [each for each in others if each.entry.system and each.entry.rule.startswith(f"{UNDO} {self._run}, ")]
        done = _taken_back(writes, undos)
        if undos and all(_is_done(each.entry, done) for each in writes):
            reversal.undone = undos[-1].entry.run
            return
        for told in (_PERSONS[each.entry.kind] for each in mine if each.entry.kind in _PERSONS):
            reversal.refuse(*told)
        if writes and memory is None and heir is not None and heir[1] >= writes[-1].entry.at:
            reversal.refuse("what the run wrote", _ANOTHER)
        elif writes:
            besides = [each for each in entries if each.entry.run != self._run or not each.entry.system]
            lost = [each.entry for each in reversed(mine) if each.entry.kind in _DECIDED]
            known = _Known(besides, lost, done, heir[1] if heir else 0.0)
            await self._reverse_writes(reversal, writes, known, memory)

    async def _reverse_writes(
        self, reversal: Reversal, mine: Sequence[Audited], known: _Known, memory: Recollection | None
    ) -> None:
        writes = [each.entry for each in mine]
        ended = {system for system, name in known.done if not name}
        copies = {each.entry.system: each for each in mine if each.entry.kind == WriteKind.CREATED}
        deleted = {e.system: e for e in writes if e.kind == WriteKind.DELETED}
        await self._uncreate(reversal, copies, deleted.keys() | ended, known, memory)
        for system in sorted(entry.system for entry in writes if entry.kind == WriteKind.ARCHIVED):
            reversal.refuse(f"the archiving in {system}", "take it out of the archive there")
        restored = {system: entry for system, entry in deleted.items() if system not in copies.keys() | ended}
        if restored:
            await self._undelete(reversal, restored, memory)
            return
        fields: dict[str, _Field] = {}
        for entry in writes:
            if entry.kind == WriteKind.UPDATED and entry.system not in copies.keys() | deleted.keys() | ended:
                name = entry.field
                group = fields.setdefault(name, _Field(name, frozenset(s for s, its in known.done if its == name)))
                group.entries.setdefault(entry.system, []).append(entry)
        for group in (each for each in fields.values() if not each.entries.keys() <= each.done):
            try:
                self._unwrite(reversal, group, known.lost, memory)
            except _Refused as why:
                reversal.refuse(group.name, str(why))

    # --- creates ---

    async def _uncreate(
        self,
        reversal: Reversal,
        copies: Mapping[str, Audited],
        gone: AbstractSet[str],
        known: _Known,
        memory: Recollection | None,
    ) -> None:
        """Deletes the copies, without those that are `gone`, as long as the record lives on without them."""
        deletes: dict[str, str] = {}
        parted = await self._parted(copies, known, memory)
        for system in sorted(copies.keys() - gone):
            later = [each.entry for each in known.told if each.number > copies[system].number]
            try:
                deletes[system] = self._copy(system, later, parted, memory)
            except _Refused as why:
                reversal.refuse(f"the copy in {system}", str(why))
        left = memory.sides.keys() - deletes.keys() - memory.away if memory else frozenset()
        lives_on = any(self._systems[system].reads for system in left)
        if deletes and not lives_on and not await self._was_nowhere(reversal.record, copies, known):
            for system in deletes:
                reversal.refuse(f"the copy in {system}", _LAST)
            return
        reversal.deletes = deletes

    async def _parted(
        self, copies: Mapping[str, Audited], known: _Known, memory: Recollection | None
    ) -> frozenset[str]:
        """Systems where something was split off since the record was copied: what is there now may be another one."""
        if memory is None or not any(known.parted >= each.entry.at for each in copies.values()):
            return frozenset()
        apart = await self._store.apart([(system, side.key) for system, side in memory.sides.items()])
        return frozenset(system for others in apart.values() for system, _ in others)

    async def _was_nowhere(self, record: int, copies: Mapping[str, Audited], known: _Known) -> bool:
        """Whether the run undid a delete of the record everywhere, and only an undo of that has ended it since."""
        first = min(copies.values(), key=lambda each: each.number)
        if known.parted >= first.entry.at or not all(e.entry.rule.startswith(f"{UNDO} ") for e in copies.values()):
            return False
        since = [each.entry for each in known.told if each.number > first.number and each.entry.kind in _SINCE]
        names = await self._store.names([record])
        return names.get(record, {}).keys() <= copies.keys() and all(
            entry.rule.startswith(f"{UNDO} {self._run}, ") for entry in since
        )

    def _copy(
        self, system: str, later: Sequence[AuditEntry], parted: AbstractSet[str], memory: Recollection | None
    ) -> str:
        """The native key of a copy that may be deleted."""
        side = memory.sides.get(system) if memory else None
        if memory is None or side is None:
            raise _Refused("it is not there any more")
        if system not in self._systems or not self._systems[system].deletes:
            raise _Refused("nothing may be deleted there")
        since = next((entry for entry in later if entry.system and system in (entry.system, entry.winner)), None)
        if since is not None:
            raise _Refused(f"it changed since (run {since.run})")
        another = next((entry for entry in later if _may_replace(entry, system)), None)
        if another is not None:
            raise _Refused(f"{_SINCE[another.kind]} (run {another.run})")
        if system in parted:
            raise _Refused("another one was split off since")
        if memory.pending:
            raise _Refused("something of the record is still on its way")
        if memory.frozen:
            raise _Refused("a conflict of the record waits for a person: decide it first")
        if alone := self._said_there_alone(memory, system):
            raise _Refused(f"{alone} was edited there, and no other system has that value")
        return side.key

    def _said_there_alone(self, memory: Recollection, system: str) -> str:
        """The first field that was filled in one system, where it is, and that may be written to none of the others.

        Of such an edit there is no entry in the audit. Any other one went somewhere, or was told.
        """
        others = memory.sides.keys() - {system} - memory.away
        for name, rule in self._rules.fields.items():
            seen = self._seen(memory, system, name)
            if seen == UNSEEN or any(name in self._systems[other].writable for other in others):
                continue
            known = {self._seen(memory, other, name) for other in others if self._systems[other].maps(name)}
            if seen not in known | empty_prints(rule, self._prints):
                return name
        return ""

    # --- deletes ---

    async def _undelete(
        self, reversal: Reversal, deleted: Mapping[str, AuditEntry], memory: Recollection | None
    ) -> None:
        """A record goes back to where the run deleted it, and to where it was deleted first."""
        what = "the delete"
        wanted = {system: dict(entry.values) for system, entry in sorted(deleted.items())}
        if not all(wanted.values()):
            reversal.refuse(what, _NO_VALUES)
            return
        if memory is not None and (memory.pending or wanted.keys() & memory.sides.keys()):
            reversal.refuse(what, "it is there again")
            return
        if memory is not None and (changed := self._changed_meanwhile(memory, wanted)):
            reversal.refuse(what, f"{changed} changed since")
            return
        whole = self._whole(wanted)
        origin = await self._deleted_first(reversal.record)
        if origin and origin not in wanted and (memory is None or origin not in memory.sides):
            wanted[origin] = whole
        barred = [system for system in wanted if system not in self._systems or not self._systems[system].creates]
        if barred:
            reversal.refuse(what, f"nothing may be created in {', '.join(barred)}: create it there")
            return
        if memory is None:
            if await self._store.meta(REMATCH) is not None:
                reversal.refuse(what, "what is there cannot be found by the new spec.match yet: ask again later")
                return
            keys = self._rules.match.keys([whole], self._prints)[0]
            if await self._store.candidates(keys):
                reversal.refuse(what, "a record with its match values is there, or is a dead letter")
                return
            reversal.matches = list(keys)
        for system, values in wanted.items():
            writable = self._systems[system].writable
            reversal.creates[system] = {name: value for name, value in values.items() if name in writable}

    def _whole(self, copies: Mapping[str, Mapping[str, Value]]) -> dict[str, Value]:
        """What the copies of a record say together: of each field its owner's value, or that of whoever has one."""
        names = set[str]().union(*copies.values())
        rules = {name: rule for name, rule in self._rules.fields.items() if name in names}
        whole = {name: _said(rule, copies) for name, rule in rules.items()}
        owned = [r.condition.then for r in rules.values() if r.condition and _holds(r.condition.when, whole)]
        return whole | {rule.field.name: _said(rule, copies) for rule in owned}

    def _changed_meanwhile(self, memory: Recollection, wanted: Mapping[str, Mapping[str, Value]]) -> str:
        """The first system in which a record that lives on says something else than the copy that was deleted did."""
        for system in sorted(memory.sides.keys() - memory.away):
            rule = self._systems.get(system)
            for name, value in (pair for values in wanted.values() for pair in values.items()):
                known = rule is not None and rule.reads and rule.maps(name) and name in self._rules.fields
                if known and self._seen(memory, system, name) not in (UNSEEN, self._print(name, value)):
                    return system
        return ""

    async def _deleted_first(self, record: int) -> str:
        query = AuditQuery(records=(record,), kind=FindingKind.DELETED.value)
        found = [each.entry.winner for each in await self._store.audit(query) if not each.entry.system]
        return found[0] if found else ""

    # --- updates ---

    def _unwrite(
        self, reversal: Reversal, written: _Field, lost: Sequence[AuditEntry], memory: Recollection | None
    ) -> None:
        name = written.name
        rule = self._rules.fields.get(name)
        if memory is None:
            raise _Refused("the record is not there any more")
        if rule is None:
            raise _Refused("the policy has no such field any more")
        if name in memory.frozen:
            raise _Refused("it waits for a person: decide the conflict first")
        if any(name in item.write.values or item.write.halts for item in memory.pending.values()):
            raise _Refused("another value is on its way")
        values = {system: self._before(name, its, lost) for system, its in sorted(written.entries.items())}
        back = {system: old for system, (old, _) in values.items() if system not in written.done}
        for system in back:
            self._check_target(memory, system, name, values[system][1])
        first = written.entries[min(written.entries)][0]
        if first.rule == EDIT and self._agreed_before(name, [old for old, _ in values.values()], lost):
            old, new = next(iter(values.values()))
            back |= dict.fromkeys(self._others(memory, name, values.keys() | written.done, old, new), old)
        elif rule.edits is Edits.SYSTEM_OF_RECORD_ONLY and not first.rule.startswith(f"{UNDO} "):
            raise _Refused(f"only {rule.system_of_record} may edit it: change spec.fields.{name}.edits first")
        if waiting := sorted(back.keys() & memory.pending.keys()):  # a write that fails is kept in its place
            raise _Refused(f"something of the record is still on its way to {waiting[0]}")
        for system, value in sorted(back.items(), key=lambda pair: pair[0]):
            reversal.updates.setdefault(system, {})[name] = value

    def _agreed_before(self, name: str, before: Iterable[Value], lost: Iterable[AuditEntry]) -> bool:
        """Whether an edit replaced one value everywhere, the one where it was edited among them.

        What it replaced and was never seen where it was edited is told.
        """
        differed = any(told.field == name and told.kind == FindingKind.OVERWRITTEN for told in lost)
        return not differed and len({self._print(name, value) for value in before}) == 1

    def _before(self, name: str, entries: Sequence[AuditEntry], lost: Sequence[AuditEntry]) -> tuple[Value, Value]:
        """(value before the run, value after it) in one system."""
        first, last = entries[0], entries[-1]
        if OLD in first.values and NEW in last.values:
            return first.values[OLD], last.values[NEW]
        if NEW in first.values:
            raise _Refused(_UNKNOWN)
        for told in lost:
            if told.field == name and told.at <= first.at and {first.system, first.winner} <= told.values.keys():
                if len(entries) == 1 and told.winner == first.winner:
                    return told.values[first.system], told.values[first.winner]
                break
        raise _Refused(_NO_VALUES)

    def _check_target(self, memory: Recollection, system: str, name: str, new: Value) -> None:
        side = memory.sides.get(system)
        if side is None or system in memory.away:
            raise _Refused(f"the record is not in {system} any more")
        if system not in self._systems or name not in self._systems[system].writable:
            raise _Refused(f"it may not be written to {system} any more")
        if self._seen(memory, system, name) != self._print(name, new):
            raise _Refused(f"{system} changed since")

    def _others(self, memory: Recollection, name: str, back: Iterable[str], old: Value, new: Value) -> list[str]:
        """The other systems that hold the new value, the one where it was edited among them."""
        found = []
        before, after = self._print(name, old), self._print(name, new)
        for system in sorted(memory.sides.keys() - set(back) - memory.away):
            rule, seen = self._systems.get(system), self._seen(memory, system, name)
            if rule is None or not rule.maps(name) or seen in (UNSEEN, before):
                continue
            if seen != after:
                raise _Refused(f"{system} says something else")
            if name not in rule.writable:
                raise _Refused(f"{system} has the value too, and may not be written: edit it there")
            found.append(system)
        return found

    def _seen(self, memory: Recollection, system: str, name: str) -> bytes:
        return field(memory.sides[system].prints, self._rules.fields[name].field.slot)

    def _print(self, name: str, value: Value) -> bytes:
        spec = self._rules.fields[name].field
        return self._prints.one(spec.kind.print_bytes(value), spec.slot)


def _may_replace(told: AuditEntry, system: str) -> bool:
    """Whether the copy of the record in a system may be another one since this was told."""
    if told.system or told.kind not in _SINCE:
        return False
    if told.kind in (FindingKind.DELETE_NOT_SPREAD, FindingKind.RECREATED):
        return told.winner == system
    return True  # which of its copies it was is not told: several may be gone at once, and be entered anew


def _taken_back(writes: Iterable[Audited], undos: Iterable[Audited]) -> frozenset[tuple[str, str]]:
    """(system, field) of what was undone since it was written; without a field: the record's whole copy there."""
    last = {(each.entry.system, each.entry.field): each.number for each in writes}
    places = {(each.entry.system, each.entry.field): each.number for each in undos}
    return frozenset(place for place, number in places.items() if number > last.get(place, 0))


def _is_done(entry: AuditEntry, done: AbstractSet[tuple[str, str]]) -> bool:
    return (entry.system, entry.field) in done or (entry.system, "") in done


def _said(rule: FieldRule, copies: Mapping[str, Mapping[str, Value]]) -> Value:
    """The value of a field in the first of the copies that has one: the owner's, else by priority."""
    name, order = rule.field.name, dict.fromkeys([rule.system_of_record, *rule.priority, *sorted(copies)])
    said = [copies[system][name] for system in order if name in copies.get(system, {})]
    return next((value for value in said if not is_empty(value)), said[0])


def _holds(condition: Expression, record: Mapping[str, Value]) -> bool:
    """Whether a condition is met; one that fails is not."""
    try:
        return condition.evaluate({"record": dict(record)}) is True
    except ExpressionError:
        return False


def started(run: str) -> float:
    """When a run began, in epoch seconds: its id begins with that. 0 for what is no id."""
    try:
        return float(int(run.partition("-")[0], 16))
    except ValueError:
        return 0.0
