"""Records of the HTTP test system, kept in a SQLite file."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import orjson

_SCHEMA = """
CREATE TABLE IF NOT EXISTS record(object TEXT, key TEXT, body TEXT, modified TEXT, revision INTEGER,
    PRIMARY KEY (object, key)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS record_modified ON record(object, modified, key);
CREATE TABLE IF NOT EXISTS tombstone(object TEXT, key TEXT, deleted TEXT, PRIMARY KEY (object, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counter(last INTEGER);
CREATE TABLE IF NOT EXISTS answer(idempotency_key TEXT PRIMARY KEY, status INTEGER, body BLOB);
INSERT INTO counter SELECT 0 WHERE NOT EXISTS (SELECT * FROM counter);
"""


class Row(msgspec.Struct, frozen=True):
    """One record: its key, its JSON as text, and a revision that every edit raises."""

    key: str
    body: str
    modified: str
    revision: int

    @property
    def etag(self) -> str:
        """A strong entity tag (RFC 9110 section 8.8.3)."""
        return f'"{self.revision}"'


class DuplicateError(Exception):
    """Another record has the same value of a unique attribute, or the same key."""


class Slice(msgspec.Struct, frozen=True):
    """Which records a list is about.

    Attributes:
        since: only those modified at that time or later, in order of modification; else all, in order of key.
        equal: attribute → text that it must equal.
        keys: only these.
        after: only what follows this (modified, key).
        offset, limit: the part of the rest that is wanted.
    """

    since: str | None = None
    equal: Mapping[str, str] = {}
    keys: Sequence[str] | None = None
    after: tuple[str, str] | None = None
    offset: int = 0
    limit: int = 100


class RecordStore:
    """Objects and their records. Every method may be called from any thread.

    Args:
        path: the file; it is made when it is not there.
        unique: object → attributes of which no two records may have the same value.
        clock: the time that edits are stamped with.
    """

    def __init__(
        self,
        path: Path | str,
        unique: Mapping[str, Sequence[str]] | None = None,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        self._lock = threading.RLock()
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._database.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;" + _SCHEMA)
        self._unique = dict(unique or {})
        self.clock = clock or (lambda: datetime.now(UTC))
        for attributes in self._unique.values():
            for name in attributes:
                expression = f"object, json_extract(body, '{_pointer(name)}')"
                self._database.execute(f'CREATE INDEX IF NOT EXISTS "record_{name}" ON record({expression})')

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._database.close()

    def now(self) -> str:
        """The clock's time, as records show it."""
        return self.clock().isoformat(timespec="microseconds").replace("+00:00", "Z")

    # --- reading ---

    def get(self, name: str, key: str) -> Row | None:
        """One record."""
        rows = self._rows("WHERE object = ? AND key = ?", (name, key))
        return rows[0] if rows else None

    def values(self, name: str) -> dict[str, dict[str, Any]]:
        """Key → record, of a whole object."""
        return {row.key: orjson.loads(row.body) for row in self._rows("WHERE object = ?", (name,))}

    def select(self, name: str, part: Slice) -> list[Row]:
        """Some records, in a stable order."""
        clauses, values = ["object = ?"], [name]
        if part.since is not None:
            clauses.append("modified >= ?")
            values.append(part.since)
        if part.keys is not None:
            clauses.append("key IN (SELECT value FROM json_each(?))")
            values.append(orjson.dumps(list(part.keys)).decode())
        for attribute, text in part.equal.items():
            clauses.append(f"json_extract(body, '{_pointer(attribute)}') = ?")
            values.append(text)
        order = "key" if part.since is None else "modified, key"
        if part.after is not None:
            clauses.append("key > ?" if part.since is None else "(modified, key) > (?, ?)")
            values += [part.after[1]] if part.since is None else list(part.after)
        where = f"WHERE {' AND '.join(clauses)} ORDER BY {order} LIMIT {part.limit} OFFSET {part.offset}"
        return self._rows(where, tuple(values))

    def deleted(self, name: str, part: Slice) -> list[Row]:
        """What was deleted since a time, as records that hold only `id` and `deleted_at`."""
        after = part.after or ("", "")
        query = (
            "SELECT key, json_object('id', key, 'deleted_at', deleted), deleted, 0 FROM tombstone "  # noqa: S608 - whole numbers only
            "WHERE object = ? AND deleted >= ? AND (deleted, key) > (?, ?) "
            f"ORDER BY deleted, key LIMIT {part.limit} OFFSET {part.offset}"
        )
        with self._lock:
            return [Row(*row) for row in self._database.execute(query, (name, part.since or "", *after))]

    def _rows(self, where: str, values: tuple[Any, ...]) -> list[Row]:
        with self._lock:
            query = f"SELECT key, body, modified, revision FROM record {where}"  # noqa: S608 - values are bound
            found = self._database.execute(query, values)
            return [Row(*row) for row in found]

    # --- writing ---

    def create(self, name: str, values: Mapping[str, Any], key: str | None = None) -> Row:
        """Adds a record.

        Raises:
            DuplicateError: its key or a unique attribute is taken.
        """
        with self._lock:
            key = key or f"{name[:3]}_{self._next():06d}"
            if self.get(name, key) is not None:
                raise DuplicateError(f"the id {key} is taken")
            row = self._stored(name, key, dict(values), 1)
            self._database.execute("DELETE FROM tombstone WHERE object = ? AND key = ?", (name, key))
            return row

    def fill(self, name: str, records: Sequence[Mapping[str, Any]]) -> list[str]:
        """Adds many records in one transaction; their keys."""
        with self._lock:
            self._database.execute("BEGIN")
            keys = [self.create(name, record).key for record in records]
            self._database.execute("COMMIT")
        return keys

    def patch(self, name: str, key: str, values: Mapping[str, Any]) -> Row | None:
        """Changes the attributes that `values` names, nested ones too; None when there is no such record.

        Raises:
            DuplicateError: a unique attribute is taken.
        """
        with self._lock:
            before = self.get(name, key)
            if before is None:
                return None
            body = orjson.loads(before.body)
            merge(body, values)
            return self._stored(name, key, body, before.revision + 1)

    def delete(self, name: str, key: str) -> bool:
        """Deletes a record and keeps its tombstone; False when it is not there."""
        with self._lock:
            found = self._database.execute("DELETE FROM record WHERE object = ? AND key = ?", (name, key)).rowcount > 0
            if found:
                self._database.execute("INSERT OR REPLACE INTO tombstone VALUES (?, ?, ?)", (name, key, self.now()))
            return found

    def clear(self) -> None:
        """Forgets every record and tombstone."""
        with self._lock:
            self._database.executescript("DELETE FROM record; DELETE FROM tombstone; DELETE FROM answer;")

    def _stored(self, name: str, key: str, body: dict[str, Any], revision: int) -> Row:
        self._require_unique(name, key, body)
        modified = self.now()
        text = orjson.dumps({**body, "id": key, "updated_at": modified}).decode()
        self._database.execute(
            "INSERT OR REPLACE INTO record VALUES (?, ?, ?, ?, ?)", (name, key, text, modified, revision)
        )
        return Row(key, text, modified, revision)

    def _require_unique(self, name: str, key: str, body: Mapping[str, Any]) -> None:
        for attribute in self._unique.get(name, ()):
            value = body.get(attribute)
            if value is None:
                continue
            where = f"WHERE object = ? AND json_extract(body, '{_pointer(attribute)}') = ? AND key <> ?"
            if self._rows(where, (name, value, key)):
                raise DuplicateError(f"another record has the same {attribute}")

    def _next(self) -> int:
        row = self._database.execute("UPDATE counter SET last = last + 1 RETURNING last").fetchone()
        return int(row[0])

    # --- answers that were given already ---

    def answered(self, idempotency_key: str) -> tuple[int, bytes] | None:
        """Status and body of the answer that an earlier attempt got."""
        query = "SELECT status, body FROM answer WHERE idempotency_key = ?"
        with self._lock:
            row = self._database.execute(query, (idempotency_key,)).fetchone()
        return None if row is None else (row[0], row[1])

    def remember(self, idempotency_key: str, status: int, body: bytes) -> None:
        """Keeps an answer for later attempts of the same request."""
        with self._lock:
            self._database.execute("INSERT OR REPLACE INTO answer VALUES (?, ?, ?)", (idempotency_key, status, body))


def merge(body: dict[str, Any], values: Mapping[str, Any]) -> None:
    """Sets attributes in place; objects are merged, everything else is replaced."""
    for name, value in values.items():
        if isinstance(value, Mapping) and isinstance(body.get(name), dict):
            merge(body[name], value)
        else:
            body[name] = value


def _pointer(attribute: str) -> str:
    """SQLite's JSON path of an attribute; dots descend."""
    return "$" + "".join(f'."{part}"' for part in attribute.replace("'", "").replace('"', "").split("."))
