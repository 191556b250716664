"""Twins: records that a system has already under the match keys of what is about to be created there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

from fairlead.engine.canonical import ContractError
from fairlead.engine.case import Observation
from fairlead.engine.mapping import Mapping as FieldMapping
from fairlead.engine.match import normalized
from fairlead.model.record import MISSING, Value
from fairlead.model.syncpolicy import Match
from fairlead.state.base import UNLINKABLE, Intent, Recollection
from fairlead.worker.crossing import Crossing
from fairlead.worker.matching import places_of
from fairlead.worker.session import Session
from fairlead.worker.settlement import may_be_done


class Twins:
    """Looks for them, for one delivery."""

    def __init__(self, session: Session, memories: Mapping[int, Recollection], crossing: Crossing) -> None:
        self._session = session
        self._memories = memories
        self._crossing = crossing

    async def find(
        self, system: str, batch: Sequence[Intent], *, again: bool
    ) -> dict[int, dict[str, Observation | None]]:
        """Record → native key → what the system already has under one of the record's match keys.

        None stands for a record that is there, not to be linked: it breaks the contract, is excluded by the filter, or
        was forgotten; then its key is `NAMELESS`. A key of another record counts only where the create may be done, as
        all are `again`, nothing else is found, and what is there is not as it was last seen: it may be the create's.
        """
        rules, mapping = self._session.rules, self._session.rules.systems[system].mapping
        keys = rules.match.keys([intent.write.values for intent in batch], self._session.prints)
        owners = {key: intent.record for intent, its in zip(batch, keys, strict=True) for key in its}
        found: dict[int, dict[str, Observation | None]] = {}
        for rule in rules.match.rules:
            path = mapping.path_of(rule.fields[0])
            if path is None:
                continue
            native = [_attribute(mapping, self._crossing.values(intent), path) for intent in batch]
            values = list({repr(v): v for v in _spellings(native, rule) if v is not None and v is not MISSING}.values())
            for native_key, values_there, observation in await self._search(system, path, values):
                for key in rules.match.keys([values_there], self._session.prints)[0]:
                    if key in owners:
                        found.setdefault(owners[key], {})[native_key] = observation
        store, natives = self._session.store, [k for group in found.values() for k in group]
        known = await store.lookup(system, natives)
        taken = {
            k: row for k, record, row in zip(natives, known.records, known.rows, strict=True) if record is not None
        }
        apart, memories = await store.apart([(system, k) for k in natives]), self._memories
        barred = {r: {k for (_, k), its in apart.items() if its.intersection(places_of(memories[r]))} for r in found}
        free = {r: {k: o for k, o in its.items() if k not in taken and k not in barred[r]} for r, its in found.items()}
        for record, its in found.items() if taken else ():
            if not free[record] and (again or may_be_done(memories[record].pending.get(system))):
                free[record] = {
                    k: o for k, o in its.items() if k not in barred[record] and o is not None and o.row != taken.get(k)
                }
        erased = await store.erased(system, natives)
        return {r: _without(its, erased) for r, its in free.items()} if erased else free

    async def _search(
        self, system: str, path: str, values: Sequence[object]
    ) -> list[tuple[str, Mapping[str, Value], Observation | None]]:
        """(native key, canonical values, observation) of what is found; no observation of what cannot be linked."""
        if not values:
            return []
        page = await self._session.systems[system].find(path, values)
        reading = await self._session.read(system, page)
        sound = [(o.record.key, o.record.values, o) for o in reading.observed.values()]
        broken = [(page.keys[i], refused, None) for i, refused in reading.refused.items()]
        excluded = await self._session.excluded(system, page, reading.left)
        return [*sound, *broken, *((key, values, None) for key, values in excluded)]


NAMELESS = ""
"""Stands for the key of a record that was forgotten."""

FORGOTTEN = f"{UNLINKABLE}: a record that was forgotten matches; delete it there, or change what it is matched by"


def _without(found: Mapping[str, Observation | None], erased: AbstractSet[str]) -> dict[str, Observation | None]:
    rest = {key: observation for key, observation in found.items() if key not in erased}
    return rest if len(rest) == len(found) else {**rest, NAMELESS: None}


def _spellings(values: Sequence[object], rule: Match) -> list[object]:
    """The values, and texts as they compare: many systems keep them so."""
    return [*values, *(normalized(value, rule.normalize) for value in values if isinstance(value, str))]


def _attribute(mapping: FieldMapping, values: Mapping[str, Value], path: str) -> object:
    """What would be written to an attribute; nothing where that cannot be computed, which is told when it is sent."""
    try:
        return mapping.write(values).get(path, MISSING)
    except ContractError:
        return MISSING


def unlinkable(found: Mapping[str, Observation | None]) -> str:
    """Why what was found is nothing to be linked."""
    if NAMELESS in found:
        return FORGOTTEN
    keys = ", ".join(sorted(found)[:5])
    if len(found) == 1:
        return (
            f"{UNLINKABLE}: record {keys} matches, but breaks the policy's schema or is excluded by the system's "
            "filter; mend it there, or change the filter"
        )
    return f"{UNLINKABLE}: {len(found)} records match ({keys}); merge them, or narrow the policy's match"
