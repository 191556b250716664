"""The contract between the worker and a system. `fairlead.testing.connector` is its conformance suite."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from enum import StrEnum
from typing import Protocol

import msgspec

from fairlead.model.connection import Limits
from fairlead.model.connector import ErrorClass
from fairlead.model.record import Native


class Capabilities(msgspec.Struct, frozen=True):
    """What one object of one system can honestly do."""

    create: bool = False
    update: bool = False
    delete: bool = False
    changes: bool = False
    """Has a change feed; without one every run scans everything."""
    deletions: bool = False
    """The feed tells deletes; without it only a scan does."""
    find: bool = False
    """Can look records up by an attribute, so a create whose answer was lost can be recognised."""


class Page(Protocol):
    """Some records as they were read, in the system's own form; unchanged rows are never decoded."""

    @property
    def keys(self) -> Sequence[str]:
        """Native id of each record, as text. No key occurs twice in a page."""
        ...

    @property
    def raws(self) -> Sequence[bytes]:
        """Bytes of each record that are equal when and only when nothing that the policy maps has changed."""
        ...

    @property
    def deleted(self) -> Sequence[str]:
        """Keys that the feed says were deleted. One that is in `keys` too is as reading it by id says."""
        ...

    @property
    def cursor(self) -> str | None:
        """The checkpoint once this page (and all before it) is handled; None: not yet a place to go on from."""
        ...

    def rows(self, indices: Sequence[int]) -> list[Native]:
        """The records at `indices`, decoded."""
        ...

    def columns(self, indices: Sequence[int], paths: Sequence[str]) -> list[list[object]]:
        """One list per path with its native value at each index; `model.record.MISSING` where it is not there.

        Native values are None, bool, int, float, Decimal, str, bytes, date, datetime, list or dict.
        """
        ...

    def versions(self, indices: Sequence[int]) -> list[str | None]:
        """What a conditional write sends back (ETag); None where the system has none."""
        ...

    def modified(self, indices: Sequence[int]) -> list[object]:
        """The native modification time; None where the system has none."""
        ...


class Operation(StrEnum):
    """What a write does."""

    CREATE = "Create"
    UPDATE = "Update"
    DELETE = "Delete"


class Verdict(StrEnum):
    """What to do with a write, once the record it would change was re-read."""

    PROCEED = "Proceed"
    DONE = "Done"
    CONFLICT = "Conflict"


class NativeWrite(msgspec.Struct, frozen=True, gc=False):
    """One record to be written, in the system's own attributes.

    Attributes:
        key: native id; None for a create whose id the system chooses.
        values: native path → native value; only what changes. Empty for a delete.
        version: the version last seen, for systems that compare it themselves.
        check: judges the record as it is just before the write (update and delete). The connector re-reads in the
            same transaction where it can, else immediately before, and obeys the verdict.
        intent: names what is written where; the same for every attempt.
    """

    operation: Operation
    key: str | None
    values: dict[str, object]
    version: str | None
    check: Callable[[Native], Verdict]
    intent: str

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt of the same write, another one for other values; 32 hex digits."""
        text = f"{self.intent}/{self.operation}/{sorted(self.values.items(), key=str)}"
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """What became of one write.

    Done: `error` is None. Otherwise its class says what it means, `message` what the system said.
    """

    error: ErrorClass | None = None
    message: str = ""
    key: str | None = None
    """Native id of the record written or created."""
    version: str | None = None
    raw: bytes | None = None
    """What `Page.raws` will hold for this record when it is next read; None when that cannot be known."""
    stored: Native | None = None
    """The record after the write (Done) or as it is now (Conflict), where the connector has it; else None."""
    retry_after: float | None = None
    uncertain: bool = False
    """A create that may have happened although it failed: its answer was lost."""


class Attribute(msgspec.Struct, frozen=True):
    """One native attribute, as discovery found it."""

    path: str
    type: str
    writable: bool = True
    nullable: bool = True


class Health(msgspec.Struct, frozen=True):
    """What a probe found."""

    latency: float
    """Seconds."""
    budget_left: float | None = None
    """Share of the system's own limit that is left, 0 to 1; None where it does not tell."""


class System(Protocol):
    """One object of one system, opened for one policy. Every method may raise a `transport.failure.Failure`.

    Every wait is bounded by a timeout, transient failures were already retried as the Connection says, and the
    Connection's limits are kept. Cancelling any call leaves the connector usable.
    """

    @property
    def capabilities(self) -> Capabilities:
        """What this object can do."""
        ...

    def scan(self) -> AsyncIterator[Page]:
        """Every record once. The last page's `cursor` (if there is a feed) misses nothing that changed meanwhile."""
        ...

    def changes(self, cursor: str) -> AsyncIterator[Page]:
        """What changed since `cursor`; may repeat what was read before, never omits. No page when nothing changed."""
        ...

    async def fetch(self, keys: Sequence[str]) -> Page:
        """These records as they are now; keys that do not exist are in `deleted`."""
        ...

    async def find(self, path: str, values: Sequence[object]) -> Page:
        """Records whose attribute at `path` equals one of `values`. Needs `capabilities.find`."""
        ...

    async def write(self, writes: Sequence[NativeWrite]) -> list[Outcome]:
        """Writes of one operation, at most one per record; one outcome each, in order.

        Raises a Failure only when nothing can be said of any write (the system is down): all are then open. But what
        may have been created without `capabilities.find` is told as `uncertain`: it would be created again.
        """
        ...

    async def attributes(self) -> Sequence[Attribute] | None:
        """What the object has, for validation; None when the system cannot tell."""
        ...

    async def close(self) -> None:
        """Releases connections."""
        ...


class Client(Protocol):
    """One Connection, open: shared by every policy of the process, so that its limits hold for all of them."""

    async def open(self, object_name: str, *, paths: Sequence[str], key: str | None, modified: str | None) -> System:
        """One object, for the attributes that a policy maps.

        Args:
            object_name: table, collection or whatever the system calls it.
            paths: the attributes that are read.
            key: the attribute that identifies a record, where the connector cannot know it.
            modified: the attribute that holds the modification time, where the connector cannot know it.

        Raises:
            Failure: the object or an attribute does not exist, or the system cannot be reached.
        """
        ...

    def limit(self, limits: Limits) -> None:
        """Another budget from now on. How much may go on at once (`concurrency`) stays as it was."""
        ...

    async def probe(self) -> Health:
        """One cheap authenticated request.

        Raises:
            Failure: what is wrong, with a reason.
        """
        ...

    async def close(self) -> None:
        """Releases connections."""
        ...
