"""Writes to one PostgreSQL table.

Updates and deletes: one transaction a batch locks the rows, has each judged as it is, and changes those that may be,
together where they change the same columns. Creates: COPY, which takes all rows or none; when some row is in the way,
the batch is inserted past it. Where a statement fails because of a row, it is halved until that row stands alone: one
bad row costs some statements more, and never its neighbours.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from fairlead.connectors.base import NativeWrite, Operation, Outcome
from fairlead.connectors.postgres_catalog import AsyncConnection, Relation
from fairlead.connectors.postgres_query import Queries
from fairlead.connectors.postgres_session import Sessions
from fairlead.model.connector import ErrorClass
from fairlead.transport.failure import Misconfigured, Transient

_COPY_AT_ONCE = 10
"""From this many rows on COPY is quicker than INSERT."""

_SILENT = "the table did not take it and did not say why: look at its triggers, rules and row-level security"

Change = Callable[[AsyncConnection, Sequence[int]], Awaitable[dict[int, Outcome]]]
"""Changes the rows of some writes with one statement; what became of those that it touched."""


class _Lost(Transient):
    """The connection broke when the transaction was ending: nobody knows whether it did."""


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
        batch = _Batch(self._sessions, self._relation, self._queries, writes)
        try:
            return await self._sessions.run(batch.create if operation is Operation.CREATE else batch.change)
        except _Met as met:
            return [Outcome(ErrorClass.TRANSIENT, met.message, key=write.key) for write in writes]
        except _Lost as lost:
            uncertain = operation is Operation.CREATE
            return [Outcome(ErrorClass.TRANSIENT, lost.message, key=write.key, uncertain=uncertain) for write in writes]

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
