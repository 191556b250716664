"""Writes to one PostgreSQL table.

Updates and deletes: one transaction a batch locks the rows, has each judged as it is, and changes those that may be,
together where they change the same columns. Creates: COPY, which takes all rows or none; when some row is in the way,
the batch is inserted past it. Where a statement fails because of a row, it is halved until that row stands alone: one
bad row costs some statements more, and never its neighbours.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial

import psycopg

from fairlead.connectors.base import NativeWrite, Operation, Outcome, Verdict
from fairlead.connectors.postgres_catalog import AsyncConnection, Relation
from fairlead.connectors.postgres_failure import failure_of, is_of_a_row, is_of_the_moment, message_of
from fairlead.connectors.postgres_page import native, raw_of
from fairlead.connectors.postgres_query import Queries
from fairlead.connectors.postgres_session import Row, Sessions, rows_of
from fairlead.connectors.postgres_text import FIELD, NULL, ROW, Column, Unfit, Written, copy_fields, text, written
from fairlead.connectors.table import require_column
from fairlead.model.connector import ErrorClass
from fairlead.transport.failure import Failure, Misconfigured, Transient
from fairlead.transport.fence import check_fence

_COPY_AT_ONCE = 10
"""From this many rows on COPY is quicker than INSERT."""

_SILENT = (
    "the table did not take it and did not say why: look at its triggers and rules, its row-level security, and its "
    "unique indexes over expressions"
)

Names = tuple[str, ...]
Cells = list[tuple[Column, Written]]
Change = Callable[[AsyncConnection, Sequence[int]], Awaitable[dict[int, Outcome]]]
"""Changes the rows of some writes with one statement; what became of them."""


class _Met(Transient):
    """Another transaction was in the way for too long: nothing is wrong with the system."""


class _Lost(Failure):
    """The connection broke while creates were ending: nobody knows whether they did, so they are not repeated."""

    error = ErrorClass.TRANSIENT


class _Unclear(Exception):
    """Some rows were not taken, and which ones cannot be told."""


class Writer:
    """Writes batches of one operation."""

    def __init__(self, sessions: Sessions, relation: Relation, queries: Queries) -> None:
        self._sessions = sessions
        self._relation = relation
        self._queries = queries

    async def write(self, writes: Sequence[NativeWrite]) -> list[Outcome]:
        """See `System.write`."""
        if not writes:
            return []
        operation = writes[0].operation
        self._require(operation)
        kind = _Creates if operation is Operation.CREATE else _Changes
        batch = kind(self._sessions.where, self._relation, self._queries, writes)
        try:
            await self._sessions.run(batch.attempt)
        except Failure as failure:
            return batch.told(failure)
        return batch.told(None)

    def _require(self, operation: Operation) -> None:
        able = {
            Operation.CREATE: self._relation.inserts,
            Operation.UPDATE: self._relation.updates,
            Operation.DELETE: self._relation.deletes,
        }
        if not able[operation]:
            raise Misconfigured(
                f"{self._relation.schema}.{self._relation.name} takes no {operation.value.lower()}: it is no plain "
                "table; name the table beneath it, or use access: ReadOnly",
                reason="ReadOnly",
            )


class _Batch(ABC):
    """What becomes of the writes of a batch, by their position in it, over all attempts."""

    def __init__(self, where: str, relation: Relation, queries: Queries, writes: Sequence[NativeWrite]) -> None:
        self._where = where
        self._relation = relation
        self._queries = queries
        self._writes = writes
        self._table = f"{relation.schema}.{relation.name}"
        self._outcomes: dict[int, Outcome] = {}
        self._ending: Sequence[int] = ()
        """Writes of a transaction of which is not known whether it ended."""
        self._patient = True

    def told(self, failure: Failure | None) -> list[Outcome]:
        """One outcome each; the failure's for those of which nothing else is known.

        Raises:
            Failure: this one, when nothing can be said of any write.
        """
        if failure and not (self._outcomes or self._ending or isinstance(failure, _Met)):
            raise failure
        return [self._outcomes.get(n) or self._open(n, failure) for n in range(len(self._writes))]

    def _open(self, n: int, failure: Failure | None) -> Outcome:
        assert failure is not None
        return Outcome(failure.error, failure.message, key=self._writes[n].key, uncertain=n in self._ending)

    async def attempt(self, connection: AsyncConnection) -> None:
        """Does what is not done yet."""
        try:
            await self._do(connection)
        except psycopg.Error as error:
            if not is_of_the_moment(error):
                raise
            self._patient, failure = False, failure_of(error, self._where)
            raise _Met(failure.message, reason=failure.reason) from None

    @abstractmethod
    async def _do(self, connection: AsyncConnection) -> None:
        """Does what is not done yet; an error of the moment may leave it half done."""

    async def _halved(self, connection: AsyncConnection, indices: Sequence[int], change: Change) -> None:
        """Does a change to some writes; where one is refused, to halves of them, until it stands alone."""
        refusal = await self._tried(connection, indices, change)
        if refusal is None:
            return
        if len(indices) == 1:
            self._outcomes[indices[0]] = await self._refused(connection, indices[0], refusal)
            return
        middle = len(indices) // 2
        await self._halved(connection, indices[:middle], change)
        await self._halved(connection, indices[middle:], change)

    async def _tried(
        self, connection: AsyncConnection, indices: Sequence[int], change: Change
    ) -> psycopg.Error | Unfit | _Unclear | None:
        """Does a change in a transaction; what refuses it, if anything."""
        try:
            async with connection.transaction():
                if self._relation.deferrable:
                    await connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
                found = await change(connection, indices)
                check_fence()
                self._ending = indices
        except (Unfit, _Unclear) as refusal:
            return refusal
        except psycopg.Error as error:
            if is_of_a_row(error) or is_of_the_moment(error):
                self._ending = ()
            if is_of_a_row(error):
                return error
            raise
        self._ending = ()
        self._outcomes |= found
        return None

    async def _refused(self, _: AsyncConnection, n: int, refusal: Exception) -> Outcome:
        """What it means that one row is refused."""
        if isinstance(refusal, _Unclear):
            return self._invalid(n, _SILENT)
        return self._invalid(n, message_of(refusal) if isinstance(refusal, psycopg.Error) else str(refusal))

    def _invalid(self, n: int, why: str) -> Outcome:
        return Outcome(ErrorClass.INVALID, f"{self._table} refuses the row: {why}", key=self._writes[n].key)

    def _outcome(self, row: Row, error: ErrorClass | None = None, message: str = "") -> Outcome:
        """The outcome that tells a row: key, modification time, fields."""
        key, _, *fields = row
        stored = native(self._queries.columns, [None if item is None else item.decode() for item in fields])
        return Outcome(error, message, key=(key or b"").decode(), raw=raw_of(fields)[0], stored=stored)

    def _alike(self, indices: Iterable[int]) -> Iterable[tuple[Names, list[int]]]:
        """Writes that fill the same columns, together."""
        groups: dict[Names, list[int]] = {}
        for n in indices:
            groups.setdefault(tuple(self._writes[n].values), []).append(n)
        return groups.items()

    def _cells(self, names: Names, indices: Sequence[int]) -> Cells:
        """What is written, column by column.

        Raises:
            Unfit: a column cannot hold one of the values.
            Misconfigured: there is no such column, or none that can be written.
        """
        columns = [self._column(name) for name in names]
        values = zip(*(self._writes[n].values.values() for n in indices), strict=True)
        return [(column, written(column, items)) for column, items in zip(columns, values, strict=True)]

    def _column(self, name: str) -> Column:
        require_column(self._table, name, list(self._relation.columns))
        column = self._relation.columns[name]
        if column.generated:
            raise Misconfigured(
                f"{self._table} computes column {name!r} itself: map it in a ReadOnly system only",
                reason="ReadOnlyColumn",
            )
        return column


class _Creates(_Batch):
    """Creates. Each statement is a transaction, so that what is done stays done when a later one fails."""

    def __init__(self, where: str, relation: Relation, queries: Queries, writes: Sequence[NativeWrite]) -> None:
        super().__init__(where, relation, queries, writes)
        self._keys: dict[int, str] = {}

    async def _do(self, connection: AsyncConnection) -> None:
        if self._ending:
            raise _Lost(f"{self._where} broke the connection while it stored new records", reason="Unavailable")
        for names, indices in self._alike(n for n in range(len(self._writes)) if n not in self._outcomes):
            await self._number(connection, names, indices)
            cells = self._copyable(names, indices)
            if cells and await self._tried(connection, indices, partial(self._copy, cells)) is None:
                continue
            await self._halved(connection, indices, partial(self._insert, names))

    async def _number(self, connection: AsyncConnection, names: Names, indices: Sequence[int]) -> None:
        """Takes keys from the key's own default, so that what is created can be told."""
        query = None if self._queries.key.name in names else self._queries.fresh_keys()
        if query is not None:
            rows = await rows_of(connection, query, (len(indices),))
            self._keys |= {n: (row[0] or b"").decode() for n, row in zip(indices, rows, strict=True)}

    def _cells(self, names: Names, indices: Sequence[int]) -> Cells:
        order = {column.name: n for n, column in enumerate(self._queries.columns)}
        cells = sorted(super()._cells(names, indices), key=lambda cell: order.get(cell[0].name, len(order)))
        if self._queries.key.name not in names and indices[0] in self._keys:
            keys = [self._keys[n] for n in indices]
            cells.append((self._queries.key, Written(list(keys), keys, exact=True)))
        return cells

    def _copyable(self, names: Names, indices: Sequence[int]) -> Cells | None:
        """What is written, when COPY is quicker and its rows will surely be read as written, under known keys."""
        if len(indices) < _COPY_AT_ONCE or not self._relation.copies or self._relation.triggers:
            return None
        try:
            cells = self._cells(names, indices)
        except Unfit:
            return None
        prints = {column.name: item.prints for column, item in cells}
        left = [column for column in self._queries.columns if column.name not in prints]
        sure = (
            prints.get(self._queries.key.name) is not None
            and all(item.exact for _, item in cells)
            and all(column.default is None and not column.generated for column in left)
        )
        return cells if sure else None

    async def _copy(self, cells: Cells, connection: AsyncConnection, indices: Sequence[int]) -> dict[int, Outcome]:
        fields = [copy_fields(item) for _, item in cells]
        lines = "\n".join(map(FIELD.join, zip(*fields, strict=True))).encode()
        async with connection.cursor() as cursor:
            async with cursor.copy(self._queries.copy([column for column, _ in cells]), ()) as copy:
                await copy.write(lines + b"\n")
            if cursor.rowcount != len(indices):
                raise _Unclear
        prints = {column.name: item.prints for column, item in cells}
        as_read = all(field is item.prints for field, (_, item) in zip(fields, cells, strict=True))
        if as_read and list(prints) == [column.name for column in self._queries.columns]:
            raws: Sequence[bytes | None] = lines.split(b"\n")
        else:
            raws = self._predicted(prints, len(indices))
        keys = prints[self._queries.key.name] or []
        return {n: Outcome(key=key, raw=raw) for n, key, raw in zip(indices, keys, raws, strict=True)}

    def _predicted(self, prints: dict[str, list[str] | None], count: int) -> Sequence[bytes | None]:
        """What `Page.raws` will hold for new rows, where every column's print is known."""
        columns = [prints.get(column.name, [NULL] * count) for column in self._queries.columns]
        known = [column for column in columns if column is not None]
        if len(known) < len(columns):
            return [None] * count
        return ROW.join(map(FIELD.join, zip(*known, strict=True))).encode().split(ROW.encode())

    async def _insert(self, names: Names, connection: AsyncConnection, indices: Sequence[int]) -> dict[int, Outcome]:
        """Inserts rows past those that a unique constraint refuses; for these, what is there already."""
        cells = self._cells(names, indices)
        if not cells:
            raise Unfit("no column of it has a value")
        query = self._queries.insert([column for column, _ in cells])
        rows = await rows_of(connection, query, [item.texts for _, item in cells])
        found = {n: self._outcome(row) for n, row in self._placed(cells, indices, rows).items()}
        for n in indices:
            if n not in found:
                found[n] = await self._there(connection, n) or self._invalid(n, await self._why(connection, n))
        return found

    def _placed(self, cells: Cells, indices: Sequence[int], rows: Sequence[Row]) -> dict[int, Row]:
        """Which rows were inserted: they come in the order of writes."""
        if len(rows) == len(indices) or not rows:
            return dict(zip(indices, rows, strict=False))
        texts = next((item.texts for column, item in cells if column == self._queries.key), [])
        positions = dict(zip(texts, indices, strict=False))
        keys = [(row[0] or b"").decode() for row in rows]
        if len(positions) < len(indices) or not all(key in positions for key in keys):
            raise _Unclear
        return {positions[key]: row for key, row in zip(keys, rows, strict=True)}

    async def _there(self, connection: AsyncConnection, n: int) -> Outcome | None:
        """The row that has the values of a unique constraint already."""
        values = self._writes[n].values
        for unique in self._relation.uniques:
            if any(values.get(name) is None for name in unique):
                continue
            columns = [self._relation.columns[name] for name in unique]
            query = self._queries.plain(self._queries.with_values(columns))
            rows = await rows_of(connection, query, [text(column, values[column.name]) for column in columns])
            if rows:
                return self._outcome(rows[0], ErrorClass.CONFLICT, f"{', '.join(unique)} exists already")
        return None

    async def _why(self, connection: AsyncConnection, n: int) -> str:
        """Why a row was not taken that nothing of what it holds forbids. A row under a key of ours is not its twin."""
        key = self._queries.key
        if n in self._keys and await rows_of(
            connection, self._queries.plain(self._queries.among(key)), ([self._keys[n]],)
        ):
            return f"the default of {key.name!r} gave a key that is taken: set its sequence past the greatest key"
        return _SILENT

    async def _refused(self, connection: AsyncConnection, n: int, refusal: Exception) -> Outcome:
        there = await self._there(connection, n) if isinstance(refusal, psycopg.errors.UniqueViolation) else None
        return there or await super()._refused(connection, n, refusal)


class _Changes(_Batch):
    """Updates or deletes, in one transaction: sent again, they are judged again."""

    async def _do(self, connection: AsyncConnection) -> None:
        self._outcomes.clear()
        try:
            async with connection.transaction():
                for names, indices in self._alike(await self._judged(connection)):
                    deletes = self._writes[indices[0]].operation is Operation.DELETE
                    change = self._delete if deletes else partial(self._update, names)
                    await self._halved(connection, indices, change)
                check_fence()
        except BaseException:
            self._outcomes.clear()
            self._ending = ()
            raise

    async def _judged(self, connection: AsyncConnection) -> list[int]:
        """Locks the rows, and judges each as it is; the writes that may proceed.

        Rows that others hold locked are waited for once, then passed over: they must not stop the rest.
        """
        deletes = self._writes[0].operation is Operation.DELETE
        lock = self._queries.lock("UPDATE" if deletes else "NO KEY UPDATE", skips=not self._patient)
        keys = [write.key for write in self._writes]
        rows = {(row[0] or b"").decode(): row for row in await rows_of(connection, self._queries.plain(lock), (keys,))}
        held = set() if self._patient else await self._present(connection, [key for key in keys if key not in rows])
        for n, write in enumerate(self._writes):
            outcome = self._judge(write, rows.get(write.key or ""), held)
            if outcome is not None:
                self._outcomes[n] = outcome
        return [n for n in range(len(self._writes)) if n not in self._outcomes]

    def _judge(self, write: NativeWrite, row: Row | None, held: set[str | None]) -> Outcome | None:
        if row is None and write.key in held:
            message = f"another transaction holds the row locked in {self._table}"
            return Outcome(ErrorClass.TRANSIENT, message, key=write.key)
        if row is None:
            return Outcome(ErrorClass.GONE, f"no row has this key in {self._table}", key=write.key)
        found = self._outcome(row)
        verdict = write.check(found.stored or {})
        if verdict is Verdict.CONFLICT:
            return self._outcome(row, ErrorClass.CONFLICT, "edited meanwhile")
        nothing = write.operation is Operation.UPDATE and not write.values
        return found if verdict is Verdict.DONE or nothing else None

    async def _present(self, connection: AsyncConnection, keys: Sequence[str | None]) -> set[str | None]:
        query = self._queries.plain(self._queries.among(self._queries.key))
        return {(row[0] or b"").decode() for row in await rows_of(connection, query, (list(keys),))}

    async def _update(self, names: Names, connection: AsyncConnection, indices: Sequence[int]) -> dict[int, Outcome]:
        cells = self._cells(names, indices)
        query = self._queries.update([column for column, _ in cells])
        keys = [self._writes[n].key for n in indices]
        rows = await rows_of(connection, query, [list(indices), keys, *(item.texts for _, item in cells)])
        done = {int(row[0] or 0): self._outcome(row[1:]) for row in rows}
        return {n: done.get(n) or self._invalid(n, _SILENT) for n in indices}

    async def _delete(self, connection: AsyncConnection, indices: Sequence[int]) -> dict[int, Outcome]:
        keys = {n: self._writes[n].key for n in indices}
        rows = await rows_of(connection, self._queries.delete(), (list(keys.values()),))
        gone = {(row[0] or b"").decode() for row in rows}
        return {n: Outcome(key=key) if key in gone else self._invalid(n, _SILENT) for n, key in keys.items()}
