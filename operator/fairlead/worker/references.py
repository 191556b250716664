"""References: fields that hold another record's id, translated by the cross-references of the policy it belongs to.

Every system has its own ids for the same customer. What is read becomes the customer's identity (`state.directory`),
the same in every system, so that decisions are made as for any other field; what is written becomes the id in the
system that it is written to. One look-up serves a page of records, or a batch of writes.

A reference to a record that is not known yet says nothing: the field is left out of what was read, its old fingerprint
stays, and an `Orphan` is remembered, so that the record is read again as soon as the other one is known. What of a
write refers to a record that the target has not yet waits for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from fairlead.engine.case import Observation, Operation, Side, Write
from fairlead.engine.fingerprint import UNSEEN, Fingerprints, field, replaced
from fairlead.engine.rules import Rules
from fairlead.engine.writes import only
from fairlead.model.record import Value
from fairlead.model.syncpolicy import SyncPolicy
from fairlead.state.base import Intent, Recollection, Undelivered
from fairlead.state.directory import Directory
from fairlead.state.referring import Orphan
from fairlead.worker.reading import Reading

Translation = dict[tuple[str, str], str | None]
"""(field, native id) → identity, in one system, None of a record that was forgotten; unknown ones are left out."""


class Outgoing(msgspec.Struct):
    """A batch of writes to one system, as that system is told them.

    Attributes:
        intents: what goes out, without what is completed afterwards.
        values: record → canonical values with references translated, where there are any.
        waiting: writes whose parent is not there, with the field.
        later: what is still to be written once the rest is done.
    """

    intents: list[Intent] = []
    values: dict[int, Mapping[str, Value]] = {}
    waiting: list[tuple[Intent, str]] = []
    later: dict[int, Write] = {}


class References:
    """The references of one policy.

    Args:
        policy: whose records refer to others.
        rules: the same, compiled.
        prints: the policy's fingerprints.
    """

    def __init__(self, policy: SyncPolicy, rules: Rules, prints: Fingerprints) -> None:
        self.parents = policy.references()
        """Field → the policy that it refers to."""
        self.directories: dict[str, Directory] = {}
        """The policies that are referred to, by name; opened for each run."""
        self._rules = rules
        self._prints = prints
        self._connections = {system.name: system.connection for system in policy.spec.systems}
        self._matching = {name for rule in rules.match.rules for name in rule.fields} & self.parents.keys()
        self.watching = False
        """Whether any record waits, so that one which no longer does must be told of."""
        self._orphans: list[Orphan] = []
        self._settled: list[tuple[str, str]] = []

    def of(self, system: str) -> list[str]:
        """The fields of a system that are references."""
        readable = self._rules.systems[system].readable
        return [name for name in self.parents if name in readable]

    # --- what was read ---

    async def resolve(self, system: str, reading: Reading) -> None:
        """Puts identities in the place of native ids, in a page that was just read."""
        read = [observation.record.values for observation in reading.observed.values()]
        found = await self.translation(system, [*read, *reading.refused.values()])
        for i, observation in reading.observed.items():
            reading.observed[i] = self.noted(system, observation, found)
        for values in reading.refused.values():
            self.translate(system, values, found)

    async def translation(self, system: str, records: Iterable[Mapping[str, Value]]) -> Translation:
        """What the references in these native values mean: one look-up for each field."""
        records, connection = list(records), self._connections[system]
        found: Translation = {}
        for name in self.of(system):
            keys = sorted({str(values[name]) for values in records if values.get(name)})
            identities = await self._directory(name).identities(connection, keys) if keys else {}
            found.update({(name, key): identity for key, identity in identities.items()})
            unknown = [key for key in keys if key not in identities]
            forgotten = await self._directory(name).erased(connection, unknown) if unknown else frozenset[str]()
            found.update({(name, key): None for key in forgotten})
        return found

    def resolved(self, system: str, observation: Observation, found: Translation) -> Observation:
        """An observation with identities; what is not known is left out, and its fingerprint is UNSEEN."""
        values = dict(observation.record.values)
        self.translate(system, values, found)
        rules, slots = self._rules.fields, {}
        for name in self.of(system):
            spec = rules[name].field
            known = name in values
            slots[spec.slot] = self._prints.one(spec.kind.print_bytes(values[name]), spec.slot) if known else UNSEEN
        return Observation(
            msgspec.structs.replace(observation.record, values=values),
            replaced(observation.prints, slots, len(rules)),
            observation.row,
        )

    def translate(self, system: str, values: dict[str, Value], found: Translation) -> None:
        """Puts identities in the place of native ids; an empty id is no value, and what is not known is left out."""
        for name in self.of(system):
            native = values.pop(name, None)
            identity = found.get((name, str(native)))
            if not native:
                values[name] = None
            elif identity is not None:
                values[name] = identity

    def noted(self, system: str, native: Observation, found: Translation) -> Observation:
        """The same, and what is not known is remembered for `take`; without the id of who was forgotten."""
        resolved = self.resolved(system, native, found)
        key = native.record.key
        if self.watching:
            self._settled.append((system, key))
        for name in self._lacking(system, resolved):
            parent = str(native.record.values[name])
            self._orphans.append(Orphan(system, key, name, "" if (name, parent) in found else parent))
            self.watching = True
        return resolved

    def _lacking(self, system: str, observation: Observation) -> list[str]:
        return [name for name in self.of(system) if name not in observation.record.values]

    def gone(self, system: str, keys: Iterable[str]) -> None:
        """Records were deleted: they wait for nothing."""
        if self.watching:
            self._settled += [(system, key) for key in keys]

    def take(self) -> tuple[list[tuple[str, str]], list[Orphan]]:
        """(system, key) of what was read since the last call, and what of it waits; to be stored with it."""
        taken = self._settled, self._orphans
        self._settled, self._orphans = [], []
        return taken

    def watch(self) -> None:
        """Begins anew for a worker that does not know whether any record waits: it tells of all that it reads."""
        self.take()
        self.watching = True

    def take_in(self, read: Sequence[tuple[str, str]], orphans: Sequence[Orphan]) -> None:
        """Adds what another worker took while it watched."""
        self.watching = self.watching or bool(orphans)
        if self.watching:
            self._settled += read
        self._orphans += orphans

    def as_seen(self, system: str, observation: Observation, side: Side | None) -> Observation:
        """An observation whose unknown references count as what was seen before: nothing is said of them."""
        lacking = self._lacking(system, observation)
        if not lacking or side is None:
            return observation
        slots = [self._rules.fields[name].field.slot for name in lacking]
        prints = replaced(observation.prints, {n: field(side.prints, n) for n in slots}, len(self._rules.fields))
        return msgspec.structs.replace(observation, prints=prints)

    def unmatchable(self, system: str, observation: Observation) -> bool:
        """Whether a record cannot be matched yet, because a match field refers to a record that is not known."""
        return any(name in self._matching for name in self._lacking(system, observation))

    # --- what is known by now ---

    async def adopted(self, orphans: Sequence[Orphan]) -> list[str]:
        """The keys of those records, all of one system, whose reference can be translated now."""
        found = await self.translation(orphans[0].system, [{o.field: o.parent} for o in orphans]) if orphans else {}
        fields = self.of(orphans[0].system) if orphans else []  # one may be no reference any more
        return list(dict.fromkeys(o.key for o in orphans if (o.field, o.parent) in found or o.field not in fields))

    async def sendable(self, items: Sequence[Undelivered]) -> tuple[list[Undelivered], list[Undelivered]]:
        """Those writes of which something can go out by now, and those that speak of a record which is no more."""
        ready, void = [], []
        for system in dict.fromkeys(item.system for item in items):
            its = [item for item in items if item.system == system]
            found = await self._keys(system, [item.write for item in its])
            for item in its:
                named = self._named(system, item.write)
                if any((name, identity) not in found for name, identity in named.items()):
                    void.append(item)
                elif not self._bars(item.write, self._missing(system, item.write, found)):
                    ready.append(item)
        return ready, void

    # --- what is written ---

    async def outgoing(self, system: str, intents: Sequence[Intent]) -> Outgoing:
        """Writes as the system is told them.

        A create whose reference may be empty goes out without what is not there yet, and is completed afterwards: two
        records that refer to each other could not be created otherwise. So does an update: what it says of other fields
        is not to wait for a parent that may never be there.
        """
        outgoing = Outgoing()
        found = await self._keys(system, [intent.write for intent in intents])
        for intent in intents:
            missing = self._missing(system, intent.write, found)
            if bars := self._bars(intent.write, missing):
                outgoing.waiting.append((intent, bars[0]))
                continue
            if present := [name for name in missing if name in intent.write.values]:
                outgoing.later[intent.record] = _update(only(intent.write, set(present)))
                rest = only(intent.write, intent.write.values.keys() - set(present))
                intent = msgspec.structs.replace(intent, write=rest)  # noqa: PLW2901 - what goes out instead
            named = self._named(system, intent.write)
            if named:
                native = {name: found[name, identity] for name, identity in named.items()}
                outgoing.values[intent.record] = {**intent.write.values, **native}
            outgoing.intents.append(intent)
        return outgoing

    async def _keys(self, system: str, writes: Sequence[Write]) -> dict[tuple[str, str], str | None]:
        """(field, identity) → native key in a system, None where it is not there; unknown identities are left out."""
        found: dict[tuple[str, str], str | None] = {}
        for name in self.of(system):
            identities = sorted({named[name] for write in writes if name in (named := self._named(system, write))})
            keys = await self._directory(name).keys(self._connections[system], identities) if identities else {}
            found.update({(name, identity): key for identity, key in keys.items()})
        return found

    def _named(self, system: str, write: Write) -> dict[str, str]:
        """Field → identity, of the references in a write."""
        return {name: str(write.values[name]) for name in self.of(system) if write.values.get(name)}

    def _missing(self, system: str, write: Write, found: Mapping[tuple[str, str], str | None]) -> list[str]:
        """The references of a write whose record is not there; of a create also those that it should have."""
        named = self._named(system, write)
        missing = [name for name, identity in named.items() if found.get((name, identity)) is None]
        if write.operation is Operation.CREATE:
            missing += [
                name for name in self.of(system) if name not in write.values and self._expected(system, name, write)
            ]
        return missing

    def _bars(self, write: Write, missing: Sequence[str]) -> list[str]:
        """Those of the missing references without which nothing of a write can go out."""
        if write.operation is Operation.CREATE:
            return [name for name in missing if name in self._rules.contract.required | self._matching]
        return list(missing) if len(missing) == len(write.values) else []

    def _expected(self, system: str, name: str, write: Write) -> bool:
        """Whether a new copy is not to be without this reference, and one of those that it is made of has it."""
        wanted = name in self._rules.contract.required and name in self._rules.systems[system].writable
        sources = [self._rules.systems[s] for s in {*write.origins.values()} if s in self._rules.systems]
        return wanted and any(source.maps(name) for source in sources)

    def _directory(self, name: str) -> Directory:
        return self.directories[self.parents[name]]


def _update(write: Write) -> Write:
    return msgspec.structs.replace(write, operation=Operation.UPDATE)


def origins(items: Iterable[Undelivered], memories: Mapping[int, Recollection]) -> list[tuple[str, str]]:
    """(system, key) of where the values of these writes came from, to be read again."""
    places = []
    for item in items:
        sides = memories[item.record].sides if item.record in memories else {}
        places += [(system, sides[system].key) for system in {*item.write.origins.values()} if system in sides]
    return sorted(set(places))
