"""State in one SQLite file (WAL), for one worker: no server, and a copy of the file is a backup.

One table holds a record with all its sides: a page of reads costs one query, a page of writes one statement. Systems
have numbered columns (`k0` key, `r0` row, `p0` prints, `v0` version), added when a system is.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, ParamSpec, TypeVar

import msgspec
import orjson

from fairlead.engine.case import Side
from fairlead.state import codec
from fairlead.state.base import (
    AMBIGUOUS,
    Commit,
    Conflict,
    Counts,
    DeadLetter,
    Found,
    Intent,
    Layout,
    Recollection,
    RunRecord,
    StateCorrupted,
    StateError,
    StateFull,
    StateLocked,
    StateNewer,
    Undelivered,
)
from fairlead.state.layout import Folding, converted

P = ParamSpec("P")
T = TypeVar("T")

VERSION = 1
"""Of the tables; a store with a greater one is refused."""

PAGE = 2000
"""Records in one page of a walk over the store."""

_TABLES = """
CREATE TABLE meta(name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE checkpoint(system TEXT PRIMARY KEY, cursor TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE record(id INTEGER PRIMARY KEY, shared BLOB NOT NULL, away INTEGER NOT NULL DEFAULT 0);
CREATE TABLE match(key INTEGER, record INTEGER, PRIMARY KEY(key, record)) WITHOUT ROWID;
CREATE TABLE tombstone(system TEXT, key TEXT, record INTEGER NOT NULL, at INTEGER NOT NULL DEFAULT (unixepoch()),
  PRIMARY KEY(system, key)) WITHOUT ROWID;
CREATE TABLE journal(id INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE pending(record INTEGER, system TEXT, body BLOB NOT NULL, since REAL NOT NULL, not_before REAL NOT NULL,
  attempts INTEGER NOT NULL, error TEXT NOT NULL, message TEXT NOT NULL, dead INTEGER NOT NULL, held INTEGER NOT NULL,
  PRIMARY KEY(record, system)) WITHOUT ROWID;
CREATE INDEX pending_due ON pending(held, dead, not_before);
CREATE TABLE conflict(record INTEGER, field TEXT, body BLOB NOT NULL, since REAL NOT NULL,
  PRIMARY KEY(record, field)) WITHOUT ROWID;
CREATE TABLE dead(system TEXT, key TEXT, reason TEXT NOT NULL, message TEXT NOT NULL, since REAL NOT NULL,
  PRIMARY KEY(system, key)) WITHOUT ROWID;
CREATE TABLE waiting(system TEXT, key TEXT, PRIMARY KEY(system, key)) WITHOUT ROWID;
CREATE TABLE audit(id INTEGER PRIMARY KEY, at REAL NOT NULL, run TEXT NOT NULL, record INTEGER NOT NULL,
  field TEXT NOT NULL, kind TEXT NOT NULL, rule TEXT NOT NULL, winner TEXT NOT NULL, body BLOB NOT NULL);
CREATE INDEX audit_record ON audit(record);
CREATE TABLE run(id TEXT PRIMARY KEY, started REAL NOT NULL, body BLOB NOT NULL);
"""

_TOMBSTONE_DAYS = 90


class SQLiteStore:
    """See `state.base.Store`. `path` is the file; `path.lock` beside it keeps a second worker out.

    A `scratch` store is a copy of the file as it is now, in a temporary one that ends with it: for plans.
    """

    def __init__(self, path: Path, *, scratch: bool = False) -> None:
        self._path = path
        self._scratch = scratch
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="state")
        self._lock: IO[str] | None = None
        self._database: sqlite3.Connection | None = None
        self._layout = Layout((), {})
        self._folding = Folding(self._layout)
        self._slots: dict[str, int] = {}
        self._key = b""

    @property
    def key(self) -> bytes:
        """See `Store.key`."""
        return self._key

    async def _run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs a blocking call in the store's own thread; a cancelled caller waits until it is whole."""
        loop = asyncio.get_running_loop()
        done = loop.run_in_executor(self._thread, lambda: self._guarded(call, *args, **kwargs))
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            await asyncio.wait([done])
            raise

    def _guarded(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return call(*args, **kwargs)
        except sqlite3.Error as error:
            raise _state_error(error, self._path) from error

    @property
    def _db(self) -> sqlite3.Connection:
        if self._database is None:
            raise StateError(f"state {self._path} is not open")
        return self._database

    # --- open and close ---

    async def open(self, layout: Layout) -> frozenset[str]:
        """See `Store.open`."""
        return await self._run(self._open, layout)

    def _open(self, layout: Layout) -> frozenset[str]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if not self._scratch:
            self._lock = _locked(self._path.with_name(self._path.name + ".lock"))
        try:
            self._database = _scratch_of(self._path) if self._scratch else _connect(self._path)
            return self._adopt(layout)
        except BaseException:
            self._close()
            raise

    def _adopt(self, layout: Layout) -> frozenset[str]:
        saved = self._meta("layout")
        old = msgspec.json.decode(saved, type=Layout) if saved else Layout((), {})
        self._slots = {name: int(n) for name, n in orjson.loads(self._meta("slots") or "{}").items()}
        self._key = bytes.fromhex(self._meta("key") or secrets.token_hex(32))
        self._layout, self._folding = layout, Folding(layout)
        if old == layout:
            return frozenset()
        with self._transaction():
            stale = self._reshape(old, layout)
            self._set_meta("key", self._key.hex())
            self._set_meta("slots", orjson.dumps(self._slots).decode())
            self._set_meta("layout", msgspec.json.encode(layout).decode())
        return stale

    def _reshape(self, old: Layout, new: Layout) -> frozenset[str]:
        """Brings what is remembered into a new layout; returns the systems whose records must be read anew."""
        kept = {n for n, s in new.systems.items() if n in old.systems and old.systems[n].identity == s.identity}
        for name in old.systems.keys() - kept:
            self._drop_system(name)
        for name in new.systems:
            if name not in self._slots:
                self._add_system(name)
        self._convert_records(old, new, kept)
        stale = {
            n for n in new.systems if n not in kept or old.fields != new.fields or old.systems[n] != new.systems[n]
        }
        self._db.executemany("DELETE FROM checkpoint WHERE system = ?", [(name,) for name in stale])
        return frozenset(stale)

    def _add_system(self, name: str) -> None:
        n = max(self._slots.values(), default=-1) + 1
        self._slots[name] = n
        for column in (f"k{n} TEXT", f"r{n} INTEGER", f"v{n} TEXT", f"p{n} BLOB"):
            self._db.execute(f"ALTER TABLE record ADD COLUMN {column}")
        self._db.execute(f"CREATE UNIQUE INDEX record_k{n} ON record(k{n}) WHERE k{n} IS NOT NULL")

    def _drop_system(self, name: str) -> None:
        """Forgets one system's side of every record; its own data is not touched."""
        n = self._slots.pop(name)
        self._db.execute(f"DROP INDEX record_k{n}")
        for column in "krvp":
            self._db.execute(f"ALTER TABLE record DROP COLUMN {column}{n}")
        self._db.execute("UPDATE record SET away = away & ~(1 << ?)", (n,))
        for table in ("checkpoint", "tombstone", "pending", "dead", "waiting"):
            self._db.execute(f"DELETE FROM {table} WHERE system = ?", (name,))

    def _convert_records(self, old: Layout, new: Layout, kept: set[str]) -> None:
        known = {name: system for name, system in old.systems.items() if name in kept}
        before = Layout(old.fields, known)
        after = self._folding
        ids = [row[0] for row in self._db.execute("SELECT id FROM record ORDER BY id")]
        for start in range(0, len(ids), PAGE):
            self._folding, self._layout = Folding(before), before
            page = self._recall(ids[start : start + PAGE], whole=False)
            self._folding, self._layout = after, new
            for item in page.values():
                item.sides = {name: converted(side, name, before, new) for name, side in item.sides.items()}
            self._put_records(list(page.values()))
        self._folding, self._layout = after, new

    async def close(self) -> None:
        """See `Store.close`."""
        await self._run(self._close)
        self._thread.shutdown(wait=False)

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    # --- reads ---

    async def lookup(self, system: str, keys: Sequence[str]) -> list[Found | None]:
        """See `Store.lookup`."""
        return await self._run(self._lookup, system, keys)

    def _lookup(self, system: str, keys: Sequence[str]) -> list[Found | None]:
        n = self._slots[system]
        found: list[Found | None] = [None] * len(keys)
        rows = self._db.execute(  # CROSS JOIN: the planner must not scan the table for every page
            f"SELECT j.key, r.id, r.r{n} FROM json_each(?) j CROSS JOIN record r ON r.k{n} = j.value", (_json(keys),)
        )
        for position, record, row in rows:
            found[position] = Found(record, row)
        return found

    async def recall(self, records: Sequence[int]) -> dict[int, Recollection]:
        """See `Store.recall`."""
        return await self._run(self._recall, records)

    def _recall(self, records: Sequence[int], whole: bool = True) -> dict[int, Recollection]:
        names = list(self._layout.systems)
        columns = "".join(f", r.k{n}, r.r{n}, r.v{n}, r.p{n}" for n in (self._slots[name] for name in names))
        rows = self._db.execute(
            f"SELECT r.id, r.shared, r.away{columns} FROM json_each(?) j CROSS JOIN record r ON r.id = j.value",
            (_json(records),),
        )
        found = {row[0]: self._recollection(row, names) for row in rows}
        if found and whole:
            self._add_pending(found)
            self._add_frozen(found)
        return found

    def _recollection(self, row: tuple[Any, ...], names: Sequence[str]) -> Recollection:
        record, shared, away = row[:3]
        sides = {}
        for position, name in enumerate(names):
            key, fingerprint, version, own = row[3 + 4 * position : 7 + 4 * position]
            if key is not None:
                sides[name] = Side(key, fingerprint, self._folding.unfold(name, shared, own), version)
        return Recollection(record, sides, frozenset(n for n in names if away >> self._slots[n] & 1))

    def _add_pending(self, found: dict[int, Recollection]) -> None:
        for item in self._undelivered("record IN (SELECT value FROM json_each(?))", (_json(list(found)),)):
            found[item.record].pending = {**found[item.record].pending, item.system: item}

    def _add_frozen(self, found: dict[int, Recollection]) -> None:
        where = "record IN (SELECT value FROM json_each(?))"
        for item in self._conflicts(where, (_json(list(found)),)):
            found[item.record].frozen = {**found[item.record].frozen, item.field: item}

    async def candidates(self, matches: Sequence[int]) -> dict[int, list[int]]:
        """See `Store.candidates`."""
        return await self._run(self._candidates, matches)

    async def match_keys(self, records: Sequence[int]) -> dict[int, list[int]]:
        """See `Store.match_keys`."""
        return await self._run(self._match_keys, records)

    def _candidates(self, matches: Sequence[int]) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        rows = self._db.execute(
            "SELECT m.key, m.record FROM json_each(?) j CROSS JOIN match m ON m.key = j.value", (_json(matches),)
        )
        for key, record in rows:
            found.setdefault(key, []).append(record)
        return found

    def _match_keys(self, records: Sequence[int]) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        rows = self._db.execute(
            "SELECT record, key FROM match WHERE record IN (SELECT value FROM json_each(?))", (_json(records),)
        )
        for record, key in rows:
            found.setdefault(record, []).append(key)
        return found

    async def tombstones(self, system: str, keys: Sequence[str]) -> dict[str, int]:
        """See `Store.tombstones`."""
        return await self._run(self._tombstones, system, keys)

    def _tombstones(self, system: str, keys: Sequence[str]) -> dict[str, int]:
        rows = self._db.execute(
            "SELECT t.key, t.record FROM json_each(?) j CROSS JOIN tombstone t ON t.system = ? AND t.key = j.value",
            (_json(keys), system),
        )
        return dict(rows.fetchall())

    async def checkpoint(self, system: str) -> str | None:
        """See `Store.checkpoint`."""
        return await self._run(self._one, "SELECT cursor FROM checkpoint WHERE system = ?", system)

    async def next_record(self) -> int:
        """See `Store.next_record`."""
        tables = "SELECT id FROM record UNION ALL SELECT record FROM tombstone UNION ALL SELECT record FROM audit"
        greatest: int | None = await self._run(self._one, f"SELECT max(id) FROM ({tables})")
        journaled = [intent.record for batch in (await self.journal()).values() for intent in batch]
        return 1 + max(greatest or 0, *journaled, 0)

    def _one(self, query: str, *values: Any) -> Any:
        row = self._db.execute(query, values).fetchone()
        return row[0] if row else None

    async def journal(self) -> dict[int, list[Intent]]:
        """See `Store.journal`."""
        return await self._run(self._journal)

    def _journal(self) -> dict[int, list[Intent]]:
        rows = self._db.execute("SELECT id, body FROM journal ORDER BY id")
        return {n: [Intent(r, s, codec.to_write(w)) for r, s, w in codec.load(body)] for n, body in rows}

    async def undelivered(
        self, *, due: float | None = None, dead: bool = False, held: bool = False, limit: int = 1000
    ) -> list[Undelivered]:
        """See `Store.undelivered`."""
        if held:
            return await self._run(self._undelivered, f"held = 1 ORDER BY since, record LIMIT {limit}", ())
        where = "held = 0 AND (dead = 1 OR not_before <= ?)" if dead else "held = 0 AND dead = 0 AND not_before <= ?"
        return await self._run(
            self._undelivered, f"{where} ORDER BY attempts, not_before, record LIMIT {limit}", (due,)
        )

    def _undelivered(self, where: str, values: Sequence[Any]) -> list[Undelivered]:
        rows = self._db.execute(
            "SELECT record, system, body, since, not_before, attempts, error, message, dead, held "
            f"FROM pending WHERE {where}",
            values,
        )
        return [_undelivered(row) for row in rows]

    async def lacking(self, system: str) -> AsyncIterator[list[int]]:
        """See `Store.lacking`."""
        n, last = self._slots[system], 0
        query = f"SELECT id FROM record WHERE id > ? AND k{n} IS NULL AND NOT away >> {n} & 1 ORDER BY id LIMIT {PAGE}"
        while page := [row[0] for row in await self._run(self._all, query, last)]:
            yield page
            last = page[-1]

    async def unmarked(self, system: str, marks: bytearray) -> AsyncIterator[list[tuple[int, str]]]:
        """See `Store.unmarked`."""
        n, last = self._slots[system], 0
        query = f"SELECT id, k{n} FROM record WHERE id > ? AND k{n} IS NOT NULL ORDER BY id LIMIT 20000"
        while rows := await self._run(self._all, query, last):
            last = rows[-1][0]
            page = [(i, key) for i, key in rows if i >> 3 >= len(marks) or not marks[i >> 3] >> (i & 7) & 1]
            if page:
                yield page

    def _all(self, query: str, *values: Any) -> list[Any]:
        return self._db.execute(query, values).fetchall()

    async def waiting(self, system: str) -> list[str]:
        """See `Store.waiting`."""
        rows = await self._run(self._all, "SELECT key FROM waiting WHERE system = ? LIMIT 10000", system)
        return [row[0] for row in rows]

    async def dead_letters(self) -> list[DeadLetter]:
        """See `Store.dead_letters`."""
        rows = await self._run(
            self._all, "SELECT system, key, reason, message, since FROM dead ORDER BY since, key LIMIT 10000"
        )
        return [DeadLetter(*row) for row in rows]

    async def conflicts(self) -> list[Conflict]:
        """See `Store.conflicts`."""
        return await self._run(self._conflicts, "1 ORDER BY since, record LIMIT 10000", ())

    def _conflicts(self, where: str, values: Sequence[Any]) -> list[Conflict]:
        rows = self._db.execute(f"SELECT record, field, body, since FROM conflict WHERE {where}", values)
        return [Conflict(record, name, codec.load(body), since) for record, name, body, since in rows]

    async def known(self, system: str) -> int:
        """See `Store.known`."""
        n = self._slots[system]
        count: int = await self._run(self._one, f"SELECT count(*) FROM record WHERE k{n} IS NOT NULL")
        return count

    async def counts(self) -> Counts:
        """See `Store.counts`."""
        return await self._run(self._counts)

    def _counts(self) -> Counts:
        row = self._db.execute(
            "SELECT (SELECT count(*) FROM record), count(*) FILTER (WHERE NOT dead AND NOT held), "
            "count(*) FILTER (WHERE held), count(*) FILTER (WHERE dead) + (SELECT count(*) FROM dead), "
            "(SELECT count(*) FROM conflict) FROM pending"
        ).fetchone()
        return Counts(*row)

    async def meta(self, name: str) -> str | None:
        """See `Store.meta`."""
        return await self._run(self._meta, name)

    def _meta(self, name: str) -> str | None:
        value: str | None = self._one("SELECT value FROM meta WHERE name = ?", name)
        return value

    def _set_meta(self, name: str, value: str | None) -> None:
        if value is None:
            self._db.execute("DELETE FROM meta WHERE name = ?", (name,))
        else:
            self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

    async def history(self, limit: int) -> list[RunRecord]:
        """See `Store.history`."""
        rows = await self._run(self._all, "SELECT body FROM run ORDER BY started DESC LIMIT ?", limit)
        return [msgspec.json.decode(row[0], type=RunRecord) for row in rows]

    # --- writes ---

    async def record_run(self, run: RunRecord) -> None:
        """See `Store.record_run`."""
        await self._run(self._record_run, run)

    def _record_run(self, run: RunRecord) -> None:
        with self._transaction():
            self._db.execute(
                "INSERT OR REPLACE INTO run VALUES (?, ?, ?)", (run.id, run.started, msgspec.json.encode(run))
            )
            self._db.execute("DELETE FROM run WHERE id NOT IN (SELECT id FROM run ORDER BY started DESC LIMIT 100)")
            self._db.execute("DELETE FROM tombstone WHERE at < unixepoch() - ?", (_TOMBSTONE_DAYS * 86400,))

    async def clear_ambiguity(self) -> None:
        """See `Store.clear_ambiguity`."""
        await self._run(self._clear_ambiguity)

    def _clear_ambiguity(self) -> None:
        with self._transaction():
            self._db.execute("DELETE FROM match WHERE record = ?", (AMBIGUOUS,))
            self._db.execute("DELETE FROM dead WHERE reason IN ('Ambiguous', 'Duplicate')")

    async def commit(self, commit: Commit) -> None:
        """See `Store.commit`."""
        await self._run(self._commit, commit)

    def _commit(self, commit: Commit) -> None:
        with self._transaction():
            self._forget(commit.forget)
            self._put_records(commit.records)
            self._put_deletions(commit)
            self._put_intents(commit)
            self._put_trouble(commit)
            for system, cursor in commit.checkpoints.items():
                self._put_checkpoint(system, cursor)
            for name, value in commit.meta.items():
                self._set_meta(name, value)

    def _transaction(self) -> _Transaction:
        return _Transaction(self._db)

    def _many(self, query: str, rows: Sequence[Any]) -> None:
        if rows:
            self._db.executemany(query, rows)

    def _forget(self, records: Sequence[int]) -> None:
        for table, column in (("record", "id"), ("match", "record"), ("pending", "record"), ("conflict", "record")):
            if records:
                self._db.execute(
                    f"DELETE FROM {table} WHERE {column} IN (SELECT value FROM json_each(?))", (_json(records),)
                )

    def _put_records(self, records: Sequence[Recollection]) -> None:
        if not records:
            return
        names = list(self._layout.systems)
        columns = [c for name in names for c in (f"{x}{self._slots[name]}" for x in "krvp")]
        places = ", ".join("?" * (3 + len(columns)))
        updates = ", ".join(f"{c} = excluded.{c}" for c in ("shared", "away", *columns))
        self._db.executemany(
            f"INSERT INTO record(id, shared, away, {', '.join(columns)}) VALUES ({places}) "
            f"ON CONFLICT(id) DO UPDATE SET {updates}",
            [self._row(item, names) for item in records],
        )

    def _row(self, item: Recollection, names: Sequence[str]) -> list[Any]:
        shared, own = self._folding.fold(item.sides)
        away = sum(1 << self._slots[name] for name in item.away if name in self._slots)
        row: list[Any] = [item.record, shared, away]
        for name in names:
            side = item.sides.get(name)
            row += (None, None, None, None) if side is None else (side.key, side.row, side.version, own[name])
        return row

    def _put_deletions(self, commit: Commit) -> None:
        self._many("INSERT OR IGNORE INTO match VALUES (?, ?)", commit.matches)
        self._many("INSERT OR REPLACE INTO tombstone(system, key, record) VALUES (?, ?, ?)", commit.tombstones)
        self._many("DELETE FROM tombstone WHERE system = ? AND key = ?", commit.revived)

    def _put_intents(self, commit: Commit) -> None:
        batches = [
            (n, codec.dump([(i.record, i.system, i.write) for i in batch])) for n, batch in commit.journal.items()
        ]
        self._many("INSERT INTO journal VALUES (?, ?)", batches)
        self._many("DELETE FROM journal WHERE id = ?", [(n,) for n in commit.settled])
        self._many("DELETE FROM pending WHERE record = ? AND system = ?", commit.delivered)
        self._many(
            "INSERT OR REPLACE INTO pending VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    u.record,
                    u.system,
                    codec.dump(u.write),
                    u.since,
                    u.not_before,
                    u.attempts,
                    u.error,
                    u.message,
                    u.dead,
                    u.held,
                )
                for u in commit.pending
            ],
        )

    def _put_trouble(self, commit: Commit) -> None:
        self._many("DELETE FROM conflict WHERE record = ? AND field = ?", commit.thawed)
        conflicts = [(c.record, c.field, codec.dump(c.values), c.since) for c in commit.frozen]
        self._many("INSERT OR REPLACE INTO conflict VALUES (?, ?, ?, ?)", conflicts)
        self._many("DELETE FROM dead WHERE system = ? AND key = ?", commit.alive)
        letters = [(d.system, d.key, d.reason, d.message, d.since) for d in commit.dead]
        self._many(
            "INSERT INTO dead VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE "
            "SET reason = excluded.reason, message = excluded.message",
            letters,
        )
        self._many("DELETE FROM waiting WHERE system = ? AND key = ?", commit.arrived)
        self._many("INSERT OR IGNORE INTO waiting VALUES (?, ?)", commit.waiting)
        entries = [
            (a.at, a.run, a.record, a.field, a.kind, a.rule, a.winner, codec.dump(a.values)) for a in commit.audit
        ]
        self._many(
            "INSERT INTO audit(at, run, record, field, kind, rule, winner, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            entries,
        )

    def _put_checkpoint(self, system: str, cursor: str | None) -> None:
        if cursor is None:
            self._db.execute("DELETE FROM checkpoint WHERE system = ?", (system,))
        else:
            self._db.execute("INSERT OR REPLACE INTO checkpoint VALUES (?, ?)", (system, cursor))


class _Transaction:
    """BEGIN IMMEDIATE … COMMIT, or ROLLBACK on any exception."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def __enter__(self) -> None:
        self._database.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            try:
                self._database.execute("COMMIT")
            except sqlite3.Error:
                self._rollback()
                raise
        else:
            self._rollback()

    def _rollback(self) -> None:
        if self._database.in_transaction:
            self._database.execute("ROLLBACK")


def _undelivered(row: tuple[Any, ...]) -> Undelivered:
    record, system, body, since, not_before, attempts, error, message, dead, held = row
    write = codec.to_write(codec.load(body))
    return Undelivered(record, system, write, since, not_before, attempts, error, message, bool(dead), bool(held))


def _json(values: Sequence[Any]) -> str:
    return orjson.dumps(values if isinstance(values, list) else list(values)).decode()


def _locked(path: Path) -> IO[str]:
    handle = path.open("a+")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        handle.seek(0)
        holder = handle.read().strip() or "unknown"
        handle.close()
        raise StateLocked(
            f"state {path.with_suffix('')} is in use by another worker (process {holder}): stop that one first"
        ) from None
    handle.seek(0)
    handle.truncate()
    handle.write(str(os.getpid()))
    handle.flush()
    return handle


def _connect(path: Path) -> sqlite3.Connection:
    database = _prepared(sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10), path)
    if database.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
        raise sqlite3.DatabaseError("quick_check failed")
    return database


def _prepared(database: sqlite3.Connection, path: Path) -> sqlite3.Connection:
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "cache_size = -32768", "temp_store = MEMORY"):
        database.execute(f"PRAGMA {pragma}")
    version = database.execute("PRAGMA user_version").fetchone()[0]
    if version > VERSION:
        raise StateNewer(f"state {path} was written by a newer version of Fairlead: run that version, or newer")
    if version == 0:
        database.executescript(f"BEGIN; {_TABLES} PRAGMA user_version = {VERSION}; COMMIT;")
    return database


def _scratch_of(path: Path) -> sqlite3.Connection:
    """A private copy, on disk but without a name (SQLite's temporary database)."""
    copy = _prepared(sqlite3.connect("", isolation_level=None, check_same_thread=False), path)
    if path.exists():
        source = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)
        try:
            source.backup(copy)
        finally:
            source.close()
    return copy


def _state_error(error: sqlite3.Error, path: Path) -> StateError:
    code = getattr(error, "sqlite_errorname", "") or ""
    if code.startswith("SQLITE_FULL") or "disk is full" in str(error):
        return StateFull(
            f"no space is left for the state {path}: enlarge spec.state.size or free space; nothing was lost"
        )
    if isinstance(error, sqlite3.OperationalError | sqlite3.IntegrityError | sqlite3.ProgrammingError):
        return StateError(f"state {path}: {error}")
    return StateCorrupted(
        f"state {path} is damaged ({error}): restore a copy, or move the file away; without it every record is first "
        "met again, as spec.firstSync says, and nothing is created twice where match keys find it"
    )
