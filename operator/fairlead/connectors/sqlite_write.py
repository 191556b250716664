"""Writes to one SQLite table: a batch is one transaction, each row in it under a savepoint of its own."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from fairlead.connectors.base import NativeWrite, Operation, Outcome, Verdict
from fairlead.connectors.sqlite_page import Column, RowPage, SQLRow, Unfit, adapted, raw_of
from fairlead.connectors.sqlite_query import Queries, quoted
from fairlead.connectors.table import require_column
from fairlead.model.connector import ErrorClass
from fairlead.transport.failure import Misconfigured
from fairlead.transport.fence import check_fence

_REFUSALS = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    OverflowError,
    Unfit,
)
_DUPLICATES = ("SQLITE_CONSTRAINT_UNIQUE", "SQLITE_CONSTRAINT_PRIMARYKEY", "SQLITE_CONSTRAINT_ROWID")


class _Undone(Exception):
    """The database gave up the whole transaction because of one row."""


class Writer:
    """Writes batches of one operation. Its calls run in the database's thread."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries
        self._table = queries.table

    def write(self, database: sqlite3.Connection, writes: Sequence[NativeWrite]) -> list[Outcome]:
        """See `System.write`."""
        try:
            return self._together(database, writes)
        except (_Undone, sqlite3.IntegrityError) as error:  # the latter: a constraint that is checked at the end
            if len(writes) == 1:
                return [self._invalid(writes[0], error)]
        return [outcome for write in writes for outcome in self.write(database, [write])]

    def _together(self, database: sqlite3.Connection, writes: Sequence[NativeWrite]) -> list[Outcome]:
        database.execute("BEGIN IMMEDIATE")
        try:
            outcomes = [self._one(database, write) for write in writes]
            check_fence()
            database.execute("COMMIT")
        except BaseException:
            if database.in_transaction:
                database.execute("ROLLBACK")
            raise
        return outcomes

    def _one(self, database: sqlite3.Connection, write: NativeWrite) -> Outcome:
        """One write: a row that the database refuses leaves the others alone."""
        database.execute("SAVEPOINT one")
        try:
            outcome = self._applied(database, write)
        except _REFUSALS as error:
            if not database.in_transaction:
                raise _Undone(str(error)) from None
            database.execute("ROLLBACK TO one")
            outcome = self._refused(database, write, error)
        database.execute("RELEASE one")
        return outcome

    def _applied(self, database: sqlite3.Connection, write: NativeWrite) -> Outcome:
        if write.operation is Operation.CREATE:
            return self._created(database, write)
        row = self._current(database, write.key)
        if row is None:
            return Outcome(ErrorClass.GONE, f"no row has this key in {self._table}", key=write.key)
        found = self._outcome(row)
        verdict = write.check(found.stored or {})
        if verdict is Verdict.CONFLICT:
            return self._outcome(row, ErrorClass.CONFLICT, "edited meanwhile")
        if verdict is Verdict.DONE:
            return found
        if write.operation is Operation.DELETE:
            database.execute(self._queries.delete, (row[-1],))
            return Outcome(key=write.key)
        return self._updated(database, write, row)

    def _created(self, database: sqlite3.Connection, write: NativeWrite) -> Outcome:
        values = self._values(write)
        ((key,),) = database.execute(self._queries.insert(list(values)), tuple(values.values())).fetchall()
        row = self._current(database, key)
        if row is None:
            raise Unfit("the table did not keep it under a key: look at its triggers, and at the key's default")
        return self._outcome(row)

    def _updated(self, database: sqlite3.Connection, write: NativeWrite, row: SQLRow) -> Outcome:
        values = self._values(write)
        if not values:
            return self._outcome(row)
        database.execute(self._queries.update(list(values)), (*values.values(), row[-1]))
        after = self._current(database, values.get(self._queries.key.name, row[-1]))
        if after is None:
            raise Unfit("the table did not keep it: look at its triggers")
        return self._outcome(after)

    def _values(self, write: NativeWrite) -> dict[str, Any]:
        return {name: adapted(self._column(name), value) for name, value in write.values.items()}

    def _column(self, name: str) -> Column:
        require_column(self._table, name, list(self._queries.existing))
        column = self._queries.existing[name]
        if not column.writable:
            raise Misconfigured(
                f"{self._table} computes column {name!r} itself: map it in a ReadOnly system only",
                reason="ReadOnlyColumn",
            )
        return column

    def _current(self, database: sqlite3.Connection, key: Any) -> SQLRow | None:
        query, values = self._queries.among(self._queries.key, [key])
        return next(iter(database.execute(query, values).fetchall()), None)

    def _refused(self, database: sqlite3.Connection, write: NativeWrite, error: Exception) -> Outcome:
        """What a refused row means: a duplicate is a conflict with the row that is there."""
        if write.operation is Operation.CREATE and getattr(error, "sqlite_errorname", "") in _DUPLICATES:
            row = self._twin(database, write, str(error))
            if row is not None:
                return self._outcome(row, ErrorClass.CONFLICT, "exists already")
        return self._invalid(write, error)

    def _twin(self, database: sqlite3.Connection, write: NativeWrite, said: str) -> SQLRow | None:
        """The row with the same values in the columns that must be unique, as the message names them."""
        names = [name.rpartition(".")[2] for name in said.rpartition(": ")[2].split(", ")]
        if any(write.values.get(name) is None for name in names):
            return None
        clause = " AND ".join(f"{quoted(name)} = ?" for name in names)
        values = [adapted(self._queries.existing[name], write.values[name]) for name in names]
        rows = database.execute(f"{self._queries.select} WHERE {clause} LIMIT 1", values).fetchall()
        return rows[0] if rows else None

    def _invalid(self, write: NativeWrite, error: Exception) -> Outcome:
        return Outcome(ErrorClass.INVALID, f"{self._table} refuses the row: {error}", key=write.key)

    def _outcome(self, row: SQLRow, error: ErrorClass | None = None, message: str = "") -> Outcome:
        page = RowPage(self._queries.columns, [row])
        return Outcome(error, message, key=page.keys[0], raw=raw_of(row[:-2]), stored=page.rows([0])[0])
