"""Rows: what the contract speaks of, as rows of tables, and back. Pure; the same for every database."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import groupby
from operator import attrgetter
from types import MappingProxyType
from typing import Any

import msgspec

from fairlead.engine.case import Side
from fairlead.model.record import Value
from fairlead.state import codec
from fairlead.state.audit import Audited, AuditEntry
from fairlead.state.base import Commit, Conflict, DeadLetter, Intent, Recollection, Undelivered
from fairlead.state.history import RunRecord
from fairlead.state.layout import Folding, Layout
from fairlead.state.place import Place
from fairlead.state.requests import Answer, Request, answer_body, answer_of, kind_of, request_body, request_of
from fairlead.state.seal import Seal
from fairlead.state.tables import (
    ANSWER,
    APART,
    AUDIT,
    BASE,
    CHECKPOINT,
    CONFLICT,
    DEAD,
    FORMER,
    FOUND_BY,
    JOURNAL,
    MATCH,
    META,
    ORPHAN,
    PENDING,
    REQUEST,
    TOMBSTONE,
    WAITING,
    Clear,
    Drop,
    Put,
    Query,
    Row,
    Step,
    Table,
    record_table,
    seen_columns,
    whole,
)

SIDE = 4
"""Columns of one system's side: key, row, version, prints."""

_APPENDED = tuple(name for name in AUDIT.columns if name != "id")
_AUDIT_PLACE = [tuple(AUDIT.columns).index(name) for name in AUDIT.place]


class _NoSide(msgspec.Struct, frozen=True):
    """In place of a `Side`, where a system has not the record."""

    key: None = None
    row: None = None
    version: None = None
    prints: None = None


_NO_SIDE = _NoSide()


class Rows:
    """Rows of one layout. `slots` is system → the number of its columns; `seal` may be changed."""

    def __init__(self, layout: Layout, slots: dict[str, int], seal: Seal) -> None:
        self.layout = layout
        self.slots = slots
        self.seal = seal
        self._folding = Folding(layout)
        self._names = list(layout.systems)
        self._table = record_table({name: slots[name] for name in self._names})
        self._columns = tuple(name for name in self._table.columns if name != FOUND_BY)

    @property
    def record_columns(self) -> str:
        """What `recollection` takes, as a list of SQL in which `r` is the table."""
        return ", ".join(f"r.{name}" for name in self._columns)

    # --- from rows ---

    def recollection(self, row: Row) -> Recollection:
        """A record without what is pending or frozen."""
        record, shared, away = row[:3]
        sides = {}
        for position, name in enumerate(self._names):
            key, fingerprint, version, own = row[3 + SIDE * position : 3 + SIDE + SIDE * position]
            if key is not None:
                sides[name] = Side(key, fingerprint, self._folding.unfold(name, shared, own), version)
        return Recollection(record, sides, frozenset(n for n in self._names if away >> self.slots[n] & 1))

    def intents(self, row: Row) -> list[Intent]:
        """The batch of a row of the journal."""
        number, body = row
        batch = codec.load(self._opened(JOURNAL, (number,), body))
        by_run = batch if isinstance(batch, dict) else {"": batch}  # an older version did not tell the run
        return [
            Intent(record, system, codec.to_write(write), run=run)
            for run, its in by_run.items()
            for record, system, write in its
        ]

    def undelivered(self, row: Row) -> Undelivered:
        """A row of `pending`."""
        record, system, body, since, not_before, attempts, error, dead, held = row
        parts, message, *run = codec.load(self._opened(PENDING, (record, system), body))  # an older one tells no run
        write, marks = codec.to_write(parts), (bool(dead), bool(held), *run)
        return Undelivered(record, system, write, since, not_before, attempts, error, message, *marks)

    def conflict(self, row: Row) -> Conflict:
        """A row of `conflict`."""
        record, field, body, since = row
        return Conflict(record, field, codec.load(self._opened(CONFLICT, (record, field), body)), since)

    def dead_letter(self, row: Row) -> DeadLetter:
        """A row of `dead`."""
        system, key, reason, body, since = row
        message, candidates, print_ = codec.load(self._opened(DEAD, (system, key), body))
        return DeadLetter(system, key, reason, message, since, tuple(candidates), print_)

    def audited(self, row: Row) -> Audited:
        """A row of `audit`."""
        number, at, run, record, lowest, system, field, kind, rule, winner, body = row
        values = codec.load(self._opened(AUDIT, tuple(row[place] for place in _AUDIT_PLACE), body))
        return Audited(number, AuditEntry(at, run, record, field, kind, rule, winner, values, system, lowest))

    def base(self, row: Row) -> tuple[int, str, bytes, Value]:
        """A row of `base`: (record, field, fingerprint, value)."""
        record, field, fingerprint, body = row
        value = codec.load(self._opened(BASE, (record, field, fingerprint), body))
        return record, field, bytes.fromhex(fingerprint), value

    def request(self, row: Row) -> Request:
        """A row of `request`, without its kind."""
        request, at, body = row
        return request_of(request, at, self._opened(REQUEST, (request,), body))

    def answer(self, row: Row) -> Answer:
        """A row of `answer`."""
        request, at, body = row
        return answer_of((request, at), self._opened(ANSWER, (request,), body))

    def _opened(self, table: Table, place: Row, body: bytes) -> bytes:
        return self.seal.open(body, place_of(table, place))

    # --- to rows ---

    def steps(self, commit: Commit, now: float, newest: float = math.inf) -> list[Step]:
        """What a commit does, in order.

        Args:
            commit: what is to be stored.
            now: the time (epoch seconds) of what is deleted.
            newest: records of greater numbers are not stored yet.
        """
        first, others = _first_keys(commit, newest)
        steps = [
            *self.forgotten(commit.forget),
            Drop(MATCH, MATCH.key, commit.unmatched),
            Clear(self._table, FOUND_BY, (FOUND_BY, "id"), commit.unmatched),
            self.records(commit.records, commit.changed, first),
            *self.bases(commit.records),
            Put(MATCH, MATCH.key, sorted(others), ()),  # the keys are random: neighbours share a page
            whole(TOMBSTONE, [(*row, now) for row in commit.tombstones]),
            Drop(TOMBSTONE, TOMBSTONE.key, commit.revived),
            *_identities(commit),
            *self._writes(commit),
            *self._trouble(commit),
            Drop(REQUEST, REQUEST.key, [(answer.request,) for answer in commit.answers]),
            Put(ANSWER, tuple(ANSWER.columns), [(a.request, a.at, answer_body(a)) for a in commit.answers]),
            *_facts(CHECKPOINT, commit.checkpoints),
            *_facts(META, commit.meta),
        ]
        return [self._closed(step) for step in steps if isinstance(step, Query) or step.rows]

    def asking(self, request: Request) -> Step:
        """The step that leaves a request."""
        row = (request.id, request.at, kind_of(request), request_body(request))
        return self._closed(Put(REQUEST, tuple(REQUEST.columns), [row]))

    def _closed(self, step: Step) -> Step:
        """The step with its bodies sealed."""
        if not isinstance(step, Put) or not step.table.place:
            return step
        places = [step.columns.index(name) for name in step.table.place]
        body = step.columns.index("body")
        rows: list[Row] = []
        for row in step.rows:
            sealed = self.seal.close(row[body], place_of(step.table, [row[place] for place in places]))
            rows.append((*row[:body], sealed, *row[body + 1 :]))
        return msgspec.structs.replace(step, rows=rows)

    def forgotten(self, records: Iterable[int]) -> list[Step]:
        """Drops records and what hangs on them."""
        rows: list[Row] = [(record,) for record in records]
        by_record = [Drop(table, ("record",), rows) for table in (MATCH, PENDING, CONFLICT, BASE)]
        return [Drop(self._table, ("id",), rows), *by_record]

    def records(
        self,
        items: Sequence[Recollection],
        changed: AbstractSet[str] | None = None,
        first: Mapping[int, int] = MappingProxyType({}),
    ) -> Put:
        """Rows of records.

        Args:
            items: what is remembered of each.
            changed: of records that are there, only these systems' sides are replaced: a side whose columns stay costs
                no work on its index. None: all.
            first: of records that are not there, the match key that stands in the row.
        """
        columns, rows = self._columns, self._records(items)
        same = {"id"}
        if changed is not None:
            same |= {column for name in self._names if name not in changed for column in seen_columns(self.slots[name])}
        replace = tuple(column for column in columns if column not in same)
        if first:
            columns = (*columns, FOUND_BY)
            rows = [(*row, first.get(row[0])) for row in rows]
        return Put(self._table, columns, rows, replace)

    def bases(self, items: Iterable[Recollection]) -> list[Step]:
        """Old values, each record's as a whole; nothing where no field is kept."""
        if not self.layout.kept:
            return []
        latest = {item.record: item.bases for item in items}
        rows: list[Row] = [
            (record, field, fingerprint.hex(), codec.dump(value))
            for record, bases in latest.items()
            for field, values in bases.items()
            for fingerprint, value in values.items()
        ]
        return [Drop(BASE, ("record",), [(record,) for record in latest]), Put(BASE, tuple(BASE.columns), rows)]

    def _records(self, items: Sequence[Recollection]) -> list[Row]:
        """The rows, made column by column."""
        by_system = {name: [item.sides.get(name, _NO_SIDE) for item in items] for name in self._names}
        shared, own = self._folding.fold({n: [side.prints for side in sides] for n, sides in by_system.items()})
        columns: list[Sequence[Any]] = [
            [item.record for item in items],
            shared,
            [self._away(item.away) if item.away else 0 for item in items],
        ]
        for name, sides in by_system.items():
            columns += [[side.key for side in sides], [side.row for side in sides], [side.version for side in sides]]
            columns.append(own[name])
        return list(zip(*columns, strict=True))

    def _away(self, systems: Iterable[str]) -> int:
        return sum(1 << self.slots[name] for name in systems if name in self.slots)

    def _writes(self, commit: Commit) -> list[Step]:
        batches: list[Row] = [(number, _journaled(batch)) for number, batch in commit.journal.items()]
        return [
            Put(JOURNAL, tuple(JOURNAL.columns), batches),
            Drop(JOURNAL, JOURNAL.key, [(number,) for number in commit.settled]),
            Drop(PENDING, PENDING.key, commit.delivered),
            *([Query("UPDATE pending SET held = 0 WHERE held = 1")] if commit.released else []),
            whole(PENDING, [self._pending(item) for item in commit.pending]),
        ]

    def _pending(self, item: Undelivered) -> Row:
        body = codec.dump((item.write, item.message, item.run))
        times = (item.since, item.not_before, item.attempts)
        return (item.record, item.system, body, *times, item.error, int(item.dead), int(item.held))

    def _trouble(self, commit: Commit) -> list[Step]:
        letters: list[Row] = [
            (d.system, d.key, d.reason, codec.dump((d.message, d.candidates, d.row)), d.since) for d in commit.dead
        ]
        entries: list[Row] = [
            (a.at, a.run, a.record, a.lowest, a.system, a.field, a.kind, a.rule, a.winner, codec.dump(a.values))
            for a in commit.audit
        ]
        return [
            Drop(CONFLICT, CONFLICT.key, commit.thawed),
            whole(CONFLICT, [(c.record, c.field, codec.dump(c.values), c.since) for c in commit.frozen]),
            Drop(DEAD, DEAD.key, commit.alive),
            Put(DEAD, tuple(DEAD.columns), letters, ("reason", "body")),
            Drop(WAITING, WAITING.key, commit.arrived),
            Put(WAITING, WAITING.key, commit.waiting, ()),
            Drop(ORPHAN, ("system", "key"), commit.adopted),
            whole(ORPHAN, [(o.system, o.key, o.field, o.parent) for o in commit.orphans]),
            Put(AUDIT, _APPENDED, entries),
        ]


def place_of(table: Table, values: Iterable[Any]) -> bytes:
    """What a sealed body of a row is bound to. Args: `values` are those of the columns `table.place`."""
    return "\x00".join([table.name, *map(str, values)]).encode()


def run_row(run: RunRecord, place: float) -> Row:
    """A row of `run`; the history is in the order of `place`."""
    return (run.id, place, msgspec.json.encode(run))


def run_of(body: bytes) -> RunRecord:
    """The run of such a row's body."""
    return msgspec.json.decode(body, type=RunRecord)


def _journaled(batch: Iterable[Intent]) -> bytes:
    by_run: dict[str, list[Row]] = {}
    for run, its in groupby(batch, attrgetter("run")):  # nearly always one
        by_run.setdefault(run, []).extend([(i.record, i.system, codec.parts(i.write)) for i in its])
    return codec.dump(by_run)


def _first_keys(commit: Commit, newest: float) -> tuple[dict[int, int], list[Row]]:
    """New record → its first match key; and the rows of `match` for all other keys."""
    new = {item.record for item in commit.records if item.record > newest}
    first: dict[int, int] = {}
    others: list[Row] = []
    for key, record in commit.matches:
        if record not in new or first.setdefault(record, key) != key:
            others.append((key, record))
    return first, others


def _identities(commit: Commit) -> list[Step]:
    """What is not the same, and what was."""
    former = [(into, record, when) for record, into, when in commit.merged] + commit.parted
    buried = "UPDATE tombstone SET record = ? WHERE record = ?"
    return [
        Drop(APART, APART.key, _both_ways(commit.together)),
        Put(APART, APART.key, _both_ways(commit.apart), ()),
        Put(FORMER, tuple(FORMER.columns), [*former], ("until",)),
        *(Query(buried, (into, record)) for record, into, _ in commit.merged),
    ]


def _both_ways(pairs: Iterable[tuple[Place, Place]]) -> list[Row]:
    """Rows of `APART.key`."""
    return [(a[1], a[0], b[1], b[0]) for pair in pairs for a, b in (pair, pair[::-1])]


def _facts(table: Table, facts: dict[str, str | None]) -> list[Step]:
    gone: list[Row] = [(name,) for name, value in facts.items() if value is None]
    stays: list[Row] = [(name, value) for name, value in facts.items() if value is not None]
    return [Drop(table, table.key, gone), whole(table, stays)]
