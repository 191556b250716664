"""Tables: what a store that speaks SQL holds, and the steps of a transaction, declared once for every database.

SQL text in here and in what uses it is common to the databases: `?` stands for a value.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, NamedTuple, TypeAlias

import msgspec

VERSION = 1
"""Of the tables; a store with a greater one is refused."""

Row: TypeAlias = "tuple[Any, ...]"


class Type(Enum):
    """What a column holds. Integers are signed and of 64 bits."""

    INTEGER = "integer"
    REAL = "real"
    TEXT = "text"
    BYTES = "bytes"
    SERIAL = "serial"


class Table(msgspec.Struct, frozen=True):
    """One table.

    Attributes:
        key: the columns that tell rows apart.
        indexes: column lists of further indexes, each `<table>_<number>`.
        optional: columns that may be null.
        place: the columns that a sealed `body` is bound to; none where the body is never sealed.
    """

    name: str
    columns: dict[str, Type]
    key: tuple[str, ...]
    indexes: tuple[str, ...] = ()
    optional: frozenset[str] = frozenset()
    place: tuple[str, ...] = ()


META = Table("meta", {"name": Type.TEXT, "value": Type.TEXT}, ("name",))
CHECKPOINT = Table("checkpoint", {"system": Type.TEXT, "cursor": Type.TEXT}, ("system",))
MATCH = Table("match", {"key": Type.INTEGER, "record": Type.INTEGER}, ("key", "record"), indexes=("record",))
"""Match keys, but for the first one of most records (`record_table`)."""
TOMBSTONE = Table(
    "tombstone",
    {"system": Type.TEXT, "key": Type.TEXT, "record": Type.INTEGER, "at": Type.REAL},
    ("system", "key"),
    indexes=("record",),
)
JOURNAL = Table("journal", {"id": Type.INTEGER, "body": Type.BYTES}, ("id",), place=("id",))
PENDING = Table(
    "pending",
    {
        "record": Type.INTEGER,
        "system": Type.TEXT,
        "body": Type.BYTES,
        "since": Type.REAL,
        "not_before": Type.REAL,
        "attempts": Type.INTEGER,
        "error": Type.TEXT,
        "dead": Type.INTEGER,
        "held": Type.INTEGER,
    },
    ("record", "system"),
    indexes=("held, dead, not_before",),
    place=("record", "system"),
)
CONFLICT = Table(
    "conflict",
    {"record": Type.INTEGER, "field": Type.TEXT, "body": Type.BYTES, "since": Type.REAL},
    ("record", "field"),
    place=("record", "field"),
)
DEAD = Table(
    "dead",
    {"system": Type.TEXT, "key": Type.TEXT, "reason": Type.TEXT, "body": Type.BYTES, "since": Type.REAL},
    ("system", "key"),
    place=("system", "key"),
)
WAITING = Table("waiting", {"system": Type.TEXT, "key": Type.TEXT}, ("system", "key"))
ORPHAN = Table(
    "orphan",
    {"system": Type.TEXT, "key": Type.TEXT, "field": Type.TEXT, "parent": Type.TEXT},
    ("system", "key", "field"),
)
AUDIT = Table(
    "audit",
    {
        "id": Type.SERIAL,
        "at": Type.REAL,
        "run": Type.TEXT,
        "record": Type.INTEGER,
        "lowest": Type.INTEGER,
        "system": Type.TEXT,
        "field": Type.TEXT,
        "kind": Type.TEXT,
        "rule": Type.TEXT,
        "winner": Type.TEXT,
        "body": Type.BYTES,
    },
    ("id",),
    indexes=("record", "at", "run, record", "lowest"),
    optional=frozenset({"lowest"}),
    place=("run", "record", "system", "field", "kind"),
)
RUN = Table("run", {"id": Type.TEXT, "started": Type.REAL, "body": Type.BYTES}, ("id",))
BASE = Table(
    "base",
    {"record": Type.INTEGER, "field": Type.TEXT, "print": Type.TEXT, "body": Type.BYTES},
    ("record", "field", "print"),
    place=("record", "field", "print"),
)
APART = Table(
    "apart",
    {"key": Type.TEXT, "system": Type.TEXT, "other_key": Type.TEXT, "other_system": Type.TEXT},
    ("key", "system", "other_key", "other_system"),
)
FORMER = Table("former", {"record": Type.INTEGER, "other": Type.INTEGER, "until": Type.REAL}, ("record", "other"))
ERASED = Table("erased", {"mark": Type.INTEGER}, ("mark",))
REQUEST = Table(
    "request", {"id": Type.TEXT, "at": Type.REAL, "kind": Type.TEXT, "body": Type.BYTES}, ("id",), place=("id",)
)
ANSWER = Table("answer", {"id": Type.TEXT, "at": Type.REAL, "body": Type.BYTES}, ("id",), place=("id",))

SEALED = (JOURNAL, PENDING, CONFLICT, DEAD, AUDIT, BASE, REQUEST, ANSWER)
"""Tables whose bodies hold values."""


FOUND_BY = "found_by"
"""A column of `record`, which is written with a new row and never replaced."""


def side_columns(slot: int) -> dict[str, Type]:
    """The columns of `record` that hold one system's side: native key, fingerprint of its row, version, prints."""
    return {f"k{slot}": Type.TEXT, f"r{slot}": Type.INTEGER, f"v{slot}": Type.TEXT, f"p{slot}": Type.BYTES}


def seen_columns(slot: int) -> tuple[str, ...]:
    """Those of `side_columns` that depend on the one side alone: fingerprints are folded with the other sides'."""
    return tuple(side_columns(slot))[:-1]


def record_table(slots: dict[str, int]) -> Table:
    """A record with all its sides in one row: a page of reads costs one query, a page of writes one statement.

    What it was `found_by`, its first match key, stands in it as well: a row of `match` takes three times the space.

    Args:
        slots: system → the number in the names of its columns.
    """
    sides = {name: kind for slot in slots.values() for name, kind in side_columns(slot).items()}
    columns = {"id": Type.INTEGER, "shared": Type.BYTES, "away": Type.INTEGER, FOUND_BY: Type.INTEGER, **sides}
    return Table("record", columns, ("id",), indexes=(FOUND_BY,), optional=frozenset({FOUND_BY, *sides}))


PORTABLE = (
    CHECKPOINT,
    MATCH,
    TOMBSTONE,
    JOURNAL,
    PENDING,
    CONFLICT,
    DEAD,
    WAITING,
    ORPHAN,
    AUDIT,
    RUN,
    BASE,
    APART,
    FORMER,
    ERASED,
    REQUEST,
    ANSWER,
    META,
)
"""Every table but that of records, in the order of an exported file, which holds them row by row."""


def tables(slots: dict[str, int]) -> tuple[Table, ...]:
    """Every table of a store."""
    return (record_table(slots), *PORTABLE)


# --- what a transaction does ---


class Put(msgspec.Struct):
    """Rows to be inserted.

    Attributes:
        columns: what each row holds, in order.
        replace: columns that take the new value where the key is there already; none leaves the old row as it is,
            and None makes such a key an error.
    """

    table: Table
    columns: tuple[str, ...]
    rows: list[Row]
    replace: tuple[str, ...] | None = None


class Drop(msgspec.Struct):
    """Rows to be deleted: those that have the values of one of `rows` in the columns `by`."""

    table: Table
    by: tuple[str, ...]
    rows: list[Row]


class Clear(msgspec.Struct):
    """Rows that lose what is in a column: those that have the values of one of `rows` in the columns `by`."""

    table: Table
    column: str
    by: tuple[str, ...]
    rows: list[Row]


class Query(NamedTuple):
    """One statement. A list among the values is what `SQLStore` joins by."""

    text: str
    values: tuple[Any, ...] = ()


Step: TypeAlias = Put | Drop | Clear | Query


def whole(table: Table, rows: list[Row]) -> Put:
    """Rows of all columns; a row whose key is there is replaced."""
    columns = tuple(table.columns)
    return Put(table, columns, rows, tuple(name for name in columns if name not in table.key))


def on_conflict(step: Put) -> str:
    """The end of an INSERT: what happens to a key that is there."""
    if step.replace is None:
        return ""
    action = f"UPDATE SET {', '.join(f'{c} = excluded.{c}' for c in step.replace)}" if step.replace else "NOTHING"
    return f" ON CONFLICT({', '.join(step.table.key)}) DO {action}"


def declarations(table: Table, types: dict[Type, str], suffix: str = "") -> list[str]:
    """The statements that make a table and its indexes. `types` are the database's names, `suffix` its options."""
    columns = [
        f"{name} {types[kind]}{'' if name in table.optional else ' NOT NULL'}" for name, kind in table.columns.items()
    ]
    key = f"PRIMARY KEY({', '.join(table.key)})"
    indexes = [
        f"CREATE INDEX {table.name}_{number} ON {table.name}({columns})"
        for number, columns in enumerate(table.indexes, 1)
    ]
    return [f"CREATE TABLE {table.name}({', '.join([*columns, key])}){suffix}", *indexes]
