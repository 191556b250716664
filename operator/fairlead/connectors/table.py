"""What both databases share: cursors over a modification column, pages of rows, and messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import orjson

from fairlead.model.record import MISSING, Native
from fairlead.transport.failure import Misconfigured

PAGE = 5000
"""Rows in one page."""

LOOKBACK = timedelta(seconds=5)
"""Rows younger than this are read again by the next run: a transaction may commit them late, behind the cursor."""


class Cursor(msgspec.Struct, frozen=True):
    """How far a table's changes were read.

    Everything up to (modified, key), and up to `null_key` of those rows whose modification column is still null.
    """

    modified: str | None = None
    key: str | None = None
    null_key: str | None = None

    def text(self) -> str:
        """As a checkpoint."""
        return orjson.dumps([self.modified, self.key, self.null_key]).decode()

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """From a checkpoint."""
        return cls(*orjson.loads(text))

    def past(self, rows: Iterable[tuple[str | None, str]], horizon: datetime) -> Cursor:
        """The cursor after rows in (modified, key) order, without those that are too young to be sure of."""
        cursor, sure = self, True
        for modified, key in rows:
            if modified is None:
                cursor = msgspec.structs.replace(cursor, null_key=key)
            elif sure and settled(modified, horizon):
                cursor = msgspec.structs.replace(cursor, modified=modified, key=key)
            else:
                sure = False
        return cursor


def settled(modified: str, horizon: datetime) -> bool:
    """Whether no row can appear any more with this modification value. What is no time is a version: always settled."""
    try:
        moment = datetime.fromisoformat(modified)
    except ValueError:
        return True
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) < horizon


class Columns(msgspec.Struct, frozen=True):
    """The columns that a policy reads of a table: the key first, then what it maps."""

    key: str
    paths: tuple[str, ...]
    modified: str | None

    @property
    def all(self) -> tuple[str, ...]:
        """Key and mapped columns, each once."""
        return (self.key, *(path for path in self.paths if path != self.key))


class TablePage:
    """Rows of a table. `rows` hold Python values in the order of `columns`."""

    def __init__(
        self,
        columns: Sequence[str],
        rows: Sequence[Sequence[Any]],
        *,
        modified: Sequence[Any] | None = None,
        deleted: Sequence[str] = (),
        cursor: str | None = None,
    ) -> None:
        self._position = {name: n for n, name in enumerate(columns)}
        self._rows = rows
        self._modified = modified
        self.keys = [str(row[0]) for row in rows]
        self.raws = [orjson.dumps(row, default=str) for row in rows]
        self.deleted = deleted
        self.cursor = cursor

    def rows(self, indices: Sequence[int]) -> list[Native]:
        """See `Page.rows`."""
        return [{name: self._rows[i][n] for name, n in self._position.items()} for i in indices]

    def columns(self, indices: Sequence[int], paths: Sequence[str]) -> list[list[object]]:
        """See `Page.columns`."""
        found = []
        for path in paths:
            n = self._position.get(path)
            found.append([MISSING if n is None else self._rows[i][n] for i in indices])
        return found

    def versions(self, indices: Sequence[int]) -> list[str | None]:
        """A table has no versions: writes compare the row itself, in their transaction."""
        return [None] * len(indices)

    def modified(self, indices: Sequence[int]) -> list[object]:
        """See `Page.modified`."""
        return [self._modified[i] if self._modified else None for i in indices]


def require_columns(table: str, columns: Columns, existing: Sequence[str]) -> None:
    """Raises Misconfigured when the table lacks a column that is mapped."""
    wanted = [*columns.all, *([columns.modified] if columns.modified else [])]
    for name in wanted:
        if name not in existing:
            raise Misconfigured(f"table {table} has no column {name!r}{near(name, existing)}", reason="ColumnNotFound")


def near(name: str, known: Sequence[str]) -> str:
    """A hint for a message: the closest known name, or all of them."""
    close = difflib.get_close_matches(name, known, n=1)
    return f": did you mean {close[0]!r}?" if close else f"; it has {', '.join(sorted(known)[:20])}"
