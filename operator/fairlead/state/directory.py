"""Directory: which records a policy knows, for the references that other policies' records hold to them.

A record's identity is the same whichever system it is looked up in: the number that its policy gave it, and a mark of
that policy's state. A state that was lost begins to number anew, and its mark is another one, so that no new record can
be taken for an old one. An export takes both along.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from hashlib import blake2b
from typing import Protocol, TypeVar

from fairlead.state.base import Known, Store
from fairlead.state.layout import Layout

T = TypeVar("T")


class CrossReferences(Protocol):
    """What a directory needs of a store (see `state.base.Store` for each)."""

    @property
    def key(self) -> bytes:
        """See `Store.key`."""
        ...

    async def look(self) -> Layout | None:
        """The layout as it is now, the same object as long as it is the same; None while there is no state."""
        ...

    async def lookup(self, system: str, keys: Sequence[str]) -> Known:
        """See `Store.lookup`."""
        ...

    async def tombstones(self, system: str, keys: Sequence[str]) -> dict[str, int]:
        """See `Store.tombstones`."""
        ...

    async def places(self, system: str, records: Sequence[int]) -> dict[int, str | None]:
        """See `Store.places`."""
        ...

    async def erased(self, system: str, keys: Sequence[str]) -> frozenset[str]:
        """See `Store.erased`."""
        ...


class Own:
    """A policy's own cross-references, for records that refer to others of their kind."""

    def __init__(self, store: Store, layout: Layout) -> None:
        self._layout = layout
        self.key = store.key
        self.lookup = store.lookup
        self.tombstones = store.tombstones
        self.places = store.places
        self.erased = store.erased

    async def look(self) -> Layout:
        """See `CrossReferences.look`."""
        return self._layout


class Directory:
    """Translates native keys of a policy's records to identities and back. `source` is None while there is no state."""

    def __init__(self, source: CrossReferences | None) -> None:
        self._source = source

    async def identities(self, connection: str, keys: Sequence[str]) -> dict[str, str]:
        """Native key → identity, of the records that are known in the system behind a Connection.

        A record that was deleted keeps its identity as long as its tombstone.
        """
        return await self._asked(connection, lambda source, system: _identities(source, system, keys), {})

    async def erased(self, connection: str, keys: Sequence[str]) -> frozenset[str]:
        """Those native keys whose record was forgotten: it will never be known."""
        return frozenset(await self._asked(connection, lambda source, system: _erased(source, system, keys), {}))

    async def keys(self, connection: str, identities: Sequence[str]) -> dict[str, str | None]:
        """Identity → native key in the system behind a Connection; None where the record is not there.

        Identities of which nothing is known are left out: the record was merged into another one, or forgotten.
        """
        return await self._asked(connection, lambda source, system: _keys(source, system, identities), {})

    async def _asked(
        self, connection: str, ask: Callable[[CrossReferences, str], Awaitable[dict[str, T]]], nothing: dict[str, T]
    ) -> dict[str, T]:
        """What `ask` found, of one layout: the policy may be changed while it is asked."""
        source = self._source
        while source is not None and (layout := await source.look()) is not None:
            system = _system(layout, connection)
            if system is None:
                break
            found = await ask(source, system)
            if await source.look() is layout:
                return found
        return nothing


def _system(layout: Layout, connection: str) -> str | None:
    """The system behind a Connection. An identity begins with its name, in which no slash can be."""
    return next((n for n, system in layout.systems.items() if system.identity.split("/")[0] == connection), None)


async def _identities(source: CrossReferences, system: str, keys: Sequence[str]) -> dict[str, str]:
    mark = _mark(source)
    known = await source.lookup(system, keys)
    found = {key: record for key, record in zip(keys, known.records, strict=True) if record is not None}
    if len(found) < len(keys):
        found = {**await source.tombstones(system, [key for key in keys if key not in found]), **found}
    return {key: f"{record}@{mark}" for key, record in found.items()}


async def _erased(source: CrossReferences, system: str, keys: Sequence[str]) -> dict[str, bool]:
    return dict.fromkeys(await source.erased(system, keys), True)


async def _keys(source: CrossReferences, system: str, identities: Sequence[str]) -> dict[str, str | None]:
    mark = _mark(source)
    parted = {identity: identity.partition("@") for identity in identities}
    numbers = {
        identity: int(number) for identity, (number, _, its) in parted.items() if its == mark and number.isdecimal()
    }
    found = await source.places(system, list(numbers.values()))
    return {identity: found[number] for identity, number in numbers.items() if number in found}


def _mark(source: CrossReferences) -> str:
    return blake2b(key=source.key, person=b"fairlead/mark", digest_size=8).hexdigest()
