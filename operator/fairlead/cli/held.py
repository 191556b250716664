"""`fairlead held`: what the guard holds back, to be looked at before a person approves it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec

from fairlead.cli.choices import Output
from fairlead.cli.place import Place, Target, at_place, tell
from fairlead.cli.selection import Listing, Selection, age, joined, keys_of, record_of
from fairlead.model.syncpolicy import APPROVE
from fairlead.state.base import Store, Undelivered
from fairlead.worker.exit import OK
from fairlead.worker.guard import plan_of
from fairlead.worker.report import moment

_COLUMNS = ("SYSTEM", "WHAT", "RECORD", "FIELDS", "AGE")


class Held(msgspec.Struct, frozen=True):
    """A write that waits for the guard, without its values.

    Attributes:
        system: where it is to be written.
        what: `Delete`, `Archive` or `Update`.
        keys: of the record, by system.
        fields: whose values would be overwritten.
    """

    system: str
    what: str
    keys: dict[str, str]
    fields: tuple[str, ...]
    since: float

    def document(self) -> dict[str, object]:
        """For machines."""
        return {
            "system": self.system,
            "what": self.what,
            "record": self.keys,
            "fields": self.fields,
            "since": moment(self.since),
        }

    def row(self) -> tuple[str, ...]:
        """For people."""
        return self.system, self.what, joined(self.keys), ", ".join(self.fields), age(self.since)


def show_list(target: Target, selection: Selection, output: Output, limit: int) -> int:
    """Lists what is held back, and tells the plan that all of it is."""

    async def work(place: Place) -> int:
        selection.check(place)
        async with place.beside() as store:
            listing = Listing("held", _COLUMNS, Held.row, Held.document)
            plan = await plan_of(store)
            total = await listing.show(_found(store, selection), output, limit, {"plan": plan})
            if output is Output.TABLE:
                tell(_conclusion(place, selection, plan) if total else _nothing(place, selection))
        return OK

    return at_place(target, work)


def _conclusion(place: Place, selection: Selection, plan: str) -> str:
    part = ", of which this is a part" if selection.narrow else ""
    return (
        f"all that is held back in {place.policy.id} is one plan{part}: approve it with the annotation {APPROVE}={plan}"
    )


def _nothing(place: Place, selection: Selection) -> str:
    if selection.narrow:
        return f"no write like that is held back in {place.policy.id}"
    return (
        f"no write is held back in {place.policy.id}; where a system suddenly reads as empty none is decided, and the "
        "policy's message says how to approve that"
    )


async def _found(store: Store, selection: Selection) -> AsyncIterator[list[Held]]:
    record = await record_of(store, selection) if selection.record else None
    if selection.record and record is None:
        return
    async for page in store.held():
        its = [item for item in page if record in (None, item.record)]
        chosen = [item for item in its if selection.fits(item.system, item.write.values, item.since)]
        memories = await store.recall(sorted({item.record for item in chosen}))
        yield [_shown(item, keys_of(memories.get(item.record))) for item in chosen]


def _shown(item: Undelivered, keys: dict[str, str]) -> Held:
    return Held(item.system, item.write.operation.value, keys, tuple(sorted(item.write.values)), item.since)
