"""The contract of a policy's memory between runs. `fairlead.testing.store` is its conformance suite.

A store belongs to one policy and one writer. Every change goes through `commit`: all of a `Commit` happens or nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from typing import Protocol

import msgspec

from fairlead.engine.case import Side, Write
from fairlead.model.health import STATE_LOCKED
from fairlead.model.record import Value
from fairlead.state.audit import Audited, AuditEntry, AuditQuery
from fairlead.state.erasure import Erasure
from fairlead.state.history import Counts, RunRecord
from fairlead.state.layout import Layout
from fairlead.state.marks import Marks
from fairlead.state.matched import Matched
from fairlead.state.place import Place
from fairlead.state.referring import Orphan, Referring
from fairlead.state.requests import Answer, Request


class StateError(Exception):
    """The state cannot be used; the message says what to do. Nothing was written to any system."""

    reason = "StateUnavailable"


class StateLocked(StateError):
    """Another worker holds this state."""

    reason = STATE_LOCKED


class StateCorrupted(StateError):
    """The store is damaged."""

    reason = "StateCorrupted"


class StateFull(StateError):
    """There is no space left for the store."""

    reason = "StateFull"


class StateNewer(StateError):
    """The store was written by a newer version."""

    reason = "StateNewer"


class StateKeyWrong(StateError):
    """Values are sealed with a key that was not given, or the given one is none."""

    reason = "StateKeyWrong"


class StateMissing(StateError):
    """There is no such state."""

    reason = "StateMissing"


class Known(msgspec.Struct, frozen=True):
    """What is known of some keys, in their order; None of a key that is not known.

    Attributes:
        records: the record of each.
        rows: the fingerprint of the row last read; None also where it must be looked at again.
    """

    records: list[int | None]
    rows: list[int | None]


DISCARDED = "Discarded"
"""Stands for the error, or the reason, of a dead letter that a person gave up: only a change brings it back."""


UNLINKABLE = "it may be there already"
"""How it begins what is said of a create that was given up for what is there."""


class Undelivered(msgspec.Struct, frozen=True, gc=False):
    """A write that has not reached its system, and why.

    Attributes:
        since: epoch seconds of the first attempt or of the halt.
        not_before: epoch seconds; not tried again earlier.
        error: class of the last failure, empty before the first.
        dead: a dead letter: it waits until something changes, a resync or a person (`worker.revival`).
        held: waits for the guard.
        run: the run that decided it.
    """

    record: int
    system: str
    write: Write
    since: float
    not_before: float = 0.0
    attempts: int = 0
    error: str = ""
    message: str = ""
    dead: bool = False
    held: bool = False
    run: str = ""

    @property
    def discarded(self) -> bool:
        """Whether a person gave it up. Only a create is kept then, without its values: so it is not made again."""
        return self.error == DISCARDED


class DeadLetter(msgspec.Struct, frozen=True):
    """A record that could not be taken in: it broke the contract, or its match is ambiguous.

    Attributes:
        candidates: the records that it may be, and (negative, see `reservation`) such dead letters.
        row: fingerprint of the native row that was refused, whatever the contract says.
    """

    system: str
    key: str
    reason: str
    message: str
    since: float
    candidates: tuple[int, ...] = ()
    row: int | None = None

    @property
    def discarded(self) -> bool:
        """Whether a person gave it up: it is passed over as long as its row is the same."""
        return self.reason == DISCARDED


class Conflict(msgspec.Struct, frozen=True):
    """A field that waits for a person, with what each system says."""

    record: int
    field: str
    values: dict[str, Value]
    since: float


class Recollection(msgspec.Struct, gc=False):
    """All that is remembered of one record.

    Attributes:
        bases: field → fingerprint → old value, of the fields of `Layout.kept`.
    """

    record: int
    sides: dict[str, Side]
    away: frozenset[str] = frozenset()
    pending: dict[str, Undelivered] = {}
    frozen: dict[str, Conflict] = {}
    bases: dict[str, dict[bytes, Value]] = {}


class Intent(msgspec.Struct, frozen=True, gc=False):
    """One write of a batch that is about to be sent.

    Attributes:
        prints: what `Side.prints` will be once a create is done as it is written, where that is known; not stored.
        run: the run that decided it, under which the audit tells it whoever sends it.
    """

    record: int
    system: str
    write: Write
    prints: bytes | None = None
    run: str = ""


class Commit(msgspec.Struct):
    """One transaction. Empty lists change nothing.

    Attributes:
        records: whole recollections of sides, away and bases; each replaces what was remembered.
        changed: the systems whose side of `records` may be another one than was remembered; None: of any.
        forget: records that exist nowhere any more.
        matches: (match key, record) pairs to be added.
        unmatched: those to be dropped.
        tombstones: (system, key, record) of what was deleted.
        revived: (system, key) whose tombstone ends.
        journal: batches about to be sent, by journal id.
        settled: journal ids of batches whose every write is accounted for.
        pending, delivered: undelivered writes that begin or go on, and those that ended.
        released: no write is held by the guard any more.
        frozen, thawed: conflicts that begin or go on, and those that ended.
        dead, alive: dead letters by (system, key), and those that ended.
        apart, together: pairs of places that are not the same, whatever they match, and those that may be again.
        merged, parted: (record, other, when): it is of the other from now on, or was until then, as the audit tells it.
        waiting, arrived: keys to be read again by id, and those that were.
        orphans: references to records that are not known yet.
        adopted: (system, key) of records that wait for no other any more; before `orphans`.
        checkpoints: system → cursor; None forgets it.
        audit: entries to append.
        answers: of requests, which end with it.
        meta: small facts by name; None removes one.
    """

    records: list[Recollection] = []
    changed: frozenset[str] | None = None
    forget: list[int] = []
    matches: list[tuple[int, int]] = []
    unmatched: list[tuple[int, int]] = []
    tombstones: list[tuple[str, str, int]] = []
    revived: list[tuple[str, str]] = []
    journal: dict[int, list[Intent]] = {}
    settled: list[int] = []
    pending: list[Undelivered] = []
    delivered: list[tuple[int, str]] = []
    released: bool = False
    frozen: list[Conflict] = []
    thawed: list[tuple[int, str]] = []
    dead: list[DeadLetter] = []
    alive: list[tuple[str, str]] = []
    apart: list[tuple[Place, Place]] = []
    together: list[tuple[Place, Place]] = []
    merged: list[tuple[int, int, float]] = []
    parted: list[tuple[int, int, float]] = []
    waiting: list[tuple[str, str]] = []
    arrived: list[tuple[str, str]] = []
    orphans: list[Orphan] = []
    adopted: list[tuple[str, str]] = []
    checkpoints: dict[str, str | None] = {}
    audit: list[AuditEntry] = []
    answers: list[Answer] = []
    meta: dict[str, str | None] = {}


LONGEST_OUTAGE = 90 * 86400.0
"""Seconds that tombstones last: a system that is away longer is first met again."""

STALE = "stale"
"""Fact in the store: the systems that `open` names, until whoever took note of them removes it."""

REMATCH = "rematch"
"""Fact in the store: records lost their match keys, as the rules are others: the last one that has its new ones.

-1 while the dead letters have not theirs. Whoever renews them (`worker.rematching`) removes it.
"""


class Store(Matched, Referring, Protocol):
    """One policy's memory. Calls may overlap: they are done one at a time, in the order in which they were made."""

    @property
    def key(self) -> bytes:
        """The policy's fingerprint key, made when the store was."""
        ...

    async def open(self, layout: Layout) -> frozenset[str]:
        """Opens or creates the store for this layout and locks it.

        What a changed layout makes void is dropped in one transaction: a new or remapped field is unseen.

        Returns:
            The systems that must be scanned before anything is created in them. They are named at every opening until
            a commit removes the fact `STALE`.

        Raises:
            StateError: one of its subclasses.
        """
        ...

    async def join(self, keys: Sequence[bytes]) -> Layout:
        """Opens a store as it is, beside the worker that may hold it: to be read, and to `ask` that worker something.

        Everything that would change it in another way is an error.

        Args:
            keys: as for `unlock`.

        Returns:
            The layout that the worker opened it for.

        Raises:
            StateMissing: no worker made it yet.
            StateError: another of its subclasses.
        """
        ...

    async def close(self) -> None:
        """Releases the lock."""
        ...

    async def unlock(self, keys: Sequence[bytes]) -> None:
        """Takes the keys that values are sealed with from now on, newest first; none leaves them open.

        What is sealed with an older key, or not at all, is sealed anew in pages; the same keys again cost nothing.

        Raises:
            StateKeyWrong: a value is sealed with a key that is not among them; nothing was changed.
        """
        ...

    async def expire(self, before: float) -> None:
        """Drops audit entries, runs and answers of before a time (epoch seconds), and nothing else."""
        ...

    async def erase(self, places: Sequence[Place], keep: Collection[Place] = (), *, unseen: bool = False) -> Erasure:
        """Forgets the records that have, or had, these keys, in every system, and every value of them, the audit's too.

        From now on their keys are `erased`. Where a dead letter may be one of them, nothing is done, unless it is among
        `places`, or is somebody else (`keep`); nor where nothing is known of a key, unless `unseen` ones are meant too.

        Raises:
            StateError: they may be forgotten, and not everything overwritten: the same call does what is left.
        """
        ...

    async def erased(self, system: str, keys: Sequence[str]) -> frozenset[str]:
        """Those of `keys` that are not to be taken in again, because a person was erased."""
        ...

    async def readmit(self, places: Sequence[Place]) -> frozenset[Place]:
        """Lets what has these keys be taken in again, by the next run: it is somebody else by now.

        Returns:
            Those of them that were `erased`.
        """
        ...

    def export(self) -> AsyncIterator[bytes]:
        """The whole state as JSON Lines (docs/state-format.md), some lines at a time."""
        ...

    async def restore(self, lines: AsyncIterator[bytes]) -> int:
        """Opens an empty store, and fills it with the lines of an export, all or none of them.

        Returns:
            How many records they were.

        Raises:
            StateError: the store is not empty, or the lines are not those of an export.
        """
        ...

    async def lookup(self, system: str, keys: Sequence[str]) -> Known:
        """What is known of some keys."""
        ...

    async def recall(self, records: Sequence[int]) -> dict[int, Recollection]:
        """Everything remembered of these records; those that do not exist are left out."""
        ...

    async def checkpoint(self, system: str) -> str | None:
        """The cursor to go on from."""
        ...

    async def next_record(self) -> int:
        """The first record number that was never used. Numbers are taken by the caller, counting up."""
        ...

    async def journal(self) -> dict[int, list[Intent]]:
        """Batches that were about to be sent when the last writer stopped."""
        ...

    async def undelivered(
        self,
        *,
        due: float | None = None,
        dead: bool = False,
        held: bool = False,
        without: Collection[str] = (),
        after: Undelivered | None = None,
        limit: int = 1000,
    ) -> list[Undelivered]:
        """Undelivered writes, oldest first: those due at a time (and dead letters too), or those held by the guard.

        What a person discarded is none of them.
        What is younger than `due` is due as well: the clock was set back, and nothing waits until it catches up.
        Those of the systems `without` are left out. Of those that are due, only the ones that follow `after`.
        """
        ...

    def held(self) -> AsyncIterator[list[Undelivered]]:
        """All writes that the guard holds, in pages and always in the same order."""
        ...

    async def unsee(self, system: str) -> None:
        """Forgets what was seen in a system, and how far it was read, but not which records are there."""
        ...

    def differing(self) -> AsyncIterator[list[int]]:
        """Records of which systems say different things, or of one too little is known to say, in pages."""
        ...

    def lacking(self, system: str) -> AsyncIterator[list[int]]:
        """Records that the system has not and from which it is not away, in pages."""
        ...

    def unmarked(self, system: str, marks: Marks) -> AsyncIterator[list[tuple[int, str]]]:
        """(record, key) of the system's records that are not in `marks`, in pages."""
        ...

    async def waiting(self, system: str, after: str = "") -> list[str]:
        """Keys to be read again by id, in order: a page of those that follow `after`, empty when there are none."""
        ...

    async def dead_letters(self, places: Sequence[Place]) -> list[DeadLetter]:
        """The dead letters of records that could not be taken in at some places, discarded ones among them."""
        ...

    def walk_conflicts(self) -> AsyncIterator[list[Conflict]]:
        """All conflicts that wait for a person, in pages."""
        ...

    def walk_letters(self, *, discarded: bool = False) -> AsyncIterator[list[DeadLetter]]:
        """All dead letters of records that could not be taken in, in pages; those that were discarded where asked."""
        ...

    def walk_failed(self) -> AsyncIterator[list[Undelivered]]:
        """All writes that are dead letters, in pages; not those that were discarded."""
        ...

    async def known(self, system: str) -> int:
        """How many records the system has."""
        ...

    async def audit(self, query: AuditQuery, *, before: int | None = None, limit: int = 500) -> list[Audited]:
        """Entries of the audit, newest first, from the one before the number `before` on."""
        ...

    async def audited(self, run: str, *, after: int, limit: int = 500) -> list[int]:
        """Records of which a run wrote something, or tells something, in order; creates are not among it."""
        ...

    async def names(self, records: Sequence[int]) -> dict[int, dict[str, str]]:
        """Record → system → native key, as it is, or was where the record was deleted."""
        ...

    async def counts(self) -> Counts:
        """What the store holds."""
        ...

    async def meta(self, name: str) -> str | None:
        """A small fact, as `Commit.meta` stored it."""
        ...

    async def clear_ambiguity(self) -> None:
        """Forgets what dead letters hold, and those that came of ambiguity: a scan finds them again.

        Those that a person discarded hold on: a scan passes them over.
        """
        ...

    async def history(self, limit: int) -> list[RunRecord]:
        """The last runs, newest first."""
        ...

    async def record_run(self, run: RunRecord) -> None:
        """Adds a run to the history, and drops the oldest beyond a hundred."""
        ...

    async def ask(self, request: Request) -> None:
        """Leaves a request for the worker."""
        ...

    async def asked(self) -> bool:
        """Whether there are open requests; quick."""
        ...

    async def requests(self, limit: int = 10) -> list[Request]:
        """Open requests, oldest first."""
        ...

    async def answer(self, request: str) -> Answer | None:
        """What came of a request; None while it is open. Answers are kept for a day."""
        ...

    async def commit(self, commit: Commit) -> None:
        """Applies everything, or nothing.

        Raises:
            StateError: nothing was applied.
        """
        ...
