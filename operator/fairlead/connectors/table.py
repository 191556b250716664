"""Table: what both databases share about the columns that a policy reads."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from fairlead.model.problem import near
from fairlead.transport.failure import Misconfigured

PAGE = 5000
"""Most rows in one page."""

PAGE_BYTES = 4_000_000
"""About the most bytes in one page: wide rows come on shorter pages."""


class Names(msgspec.Struct, frozen=True):
    """The columns that a policy uses of a table: the key, those that it maps, and the modification time."""

    key: str
    paths: tuple[str, ...]
    modified: str | None


def names_of(
    table: str,
    existing: Sequence[str],
    primary: Sequence[str],
    *,
    paths: Sequence[str],
    key: str | None,
    modified: str | None,
) -> Names:
    """The columns to use.

    Args:
        table: its name, for messages.
        existing: the table's columns.
        primary: those of its primary key.
        paths: the columns that the policy maps.
        key: the column declared to identify a record.
        modified: the column declared to hold the time of the last change.

    Raises:
        Misconfigured: a column does not exist, or there is no key of one column.
    """
    for name in (*paths, *(name for name in (key, modified) if name)):
        if name not in existing:
            raise Misconfigured(f"table {table} has no column {name!r}{near(name, existing)}", reason="ColumnNotFound")
    return Names(key or _primary(table, primary), tuple(sorted(set(paths))), modified)


def _primary(table: str, primary: Sequence[str]) -> str:
    if len(primary) == 1:
        return primary[0]
    if primary:
        raise Misconfigured(
            f"the primary key of table {table} has {len(primary)} columns ({', '.join(primary)}), and a record is "
            "identified by one: name a unique column in the policy's systems[].key",
            reason="KeyNotFound",
        )
    raise Misconfigured(
        f"table {table} has no primary key: name a unique column in the policy's systems[].key", reason="KeyNotFound"
    )


def require_unique(table: str, key: str, keys: Sequence[str]) -> None:
    """Raises Misconfigured when a column that is declared as key identifies several records of a page."""
    if len(set(keys)) != len(keys):
        raise Misconfigured(
            f"column {key!r} of table {table} is not unique: name another one in the policy's systems[].key",
            reason="KeyNotUnique",
        )


def page_size(rows: int, size: int, current: int) -> int:
    """Rows of the next page, after one of `rows` rows that took `size` bytes; grows at most fourfold."""
    if rows == 0:
        return current
    return max(1, min(PAGE, current * 4, PAGE_BYTES * rows // max(size, 1)))
