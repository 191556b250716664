"""What PostgreSQL's catalogue tells of a table."""

from __future__ import annotations

from typing import Any

import msgspec
import psycopg
from psycopg import sql

from fairlead.connectors.postgres_text import Column
from fairlead.model.problem import near
from fairlead.transport.failure import Misconfigured

AsyncConnection = psycopg.AsyncConnection[tuple[Any, ...]]

_RELATION = """
SELECT c.oid::int8, n.nspname, c.relname, c.relkind::text, pg_relation_is_updatable(c.oid, true),
  c.relrowsecurity,
  EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal AND t.tgenabled <> 'D'),
  EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgdeferrable),
  CASE WHEN c.reltuples > 0 THEN pg_table_size(c.oid) / c.reltuples END
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = to_regclass(%s) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
"""

_COLUMNS = """
WITH RECURSIVE kind AS (
  SELECT a.attnum, a.atttypid AS type, a.atttypmod AS limited
  FROM pg_attribute a WHERE a.attrelid = %(table)s AND a.attnum > 0 AND NOT a.attisdropped
  UNION ALL
  SELECT k.attnum, t.typbasetype, greatest(k.limited, t.typtypmod)
  FROM kind k JOIN pg_type t ON t.oid = k.type WHERE t.typtype = 'd')
SELECT a.attname,
  CASE WHEN coalesce(e.typtype, t.typtype) = 'e' THEN 'enum' ELSE coalesce(e.typname, t.typname) END,
  format_type(a.atttypid, -1), e.oid IS NOT NULL, nullif(k.limited, -1), NOT a.attnotnull,
  CASE WHEN a.attidentity <> '' THEN format('nextval(%%L)', pg_get_serial_sequence(%(name)s, a.attname))
    WHEN a.attgenerated = '' THEN pg_get_expr(d.adbin, d.adrelid) END,
  a.attgenerated <> ''
FROM pg_attribute a
JOIN kind k ON k.attnum = a.attnum JOIN pg_type t ON t.oid = k.type AND t.typtype <> 'd'
LEFT JOIN pg_type e ON e.oid = t.typelem AND t.typcategory = 'A'
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = %(table)s ORDER BY a.attnum
"""

_UNIQUE = """
SELECT i.indisprimary, array_agg(a.attname ORDER BY k.position)::text[]
FROM pg_index i CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k(attnum, position)
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
WHERE i.indrelid = %s AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
  AND k.position <= i.indnkeyatts
GROUP BY i.indexrelid, i.indisprimary ORDER BY i.indisprimary DESC
"""

_TABLES = """
SELECT CASE WHEN pg_table_is_visible(c.oid) THEN c.relname ELSE n.nspname || '.' || c.relname END
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
ORDER BY 1 LIMIT 2000
"""

_INSERT, _UPDATE, _DELETE = 8, 4, 16

OLDEST_VERSION = 13
"""The first version of PostgreSQL that tells everything that is asked here."""


class Relation(msgspec.Struct, frozen=True):
    """A table, view or whatever else rows are read from.

    Attributes:
        schema, name: where it is.
        kind: `r` table, `p` partitioned, `v` view, `m` materialized view, `f` foreign.
        events: which changes it takes, as bits.
        secured: whether row-level security decides on its rows.
        triggers: whether triggers may change what is written.
        deferrable: whether a constraint can be checked as late as at the end of a transaction.
        width: about how many bytes a row takes; None when nothing is known.
        columns: by name, in order.
        primary: the columns of the primary key.
        uniques: the columns of every unique constraint or index over plain columns.
    """

    schema: str
    name: str
    kind: str
    events: int
    secured: bool
    triggers: bool
    deferrable: bool
    width: float | None
    columns: dict[str, Column]
    primary: tuple[str, ...]
    uniques: tuple[tuple[str, ...], ...]

    @property
    def inserts(self) -> bool:
        """Whether rows can be added."""
        return bool(self.events & _INSERT)

    @property
    def updates(self) -> bool:
        """Whether rows can be changed."""
        return bool(self.events & _UPDATE)

    @property
    def deletes(self) -> bool:
        """Whether rows can be deleted."""
        return bool(self.events & _DELETE)

    @property
    def copies(self) -> bool:
        """Whether COPY may add rows: not to views, nor under row-level security."""
        return self.kind in "rp" and not self.secured


async def describe(connection: AsyncConnection, table: str) -> Relation:
    """What the catalogue tells of `table` or `schema.table`.

    Raises:
        Misconfigured: there is no such table, or the server is too old or does not know what its text is.
    """
    _require_able(connection)
    parts = table.split(".")
    if len(parts) > 2 or not all(parts):
        raise Misconfigured(f"{table!r} names no table: write table or schema.table", reason="ObjectNotFound")
    name = sql.Identifier(*parts).as_string(connection)
    found = await (await connection.execute(_RELATION, (name,))).fetchone()
    if found is None:
        tables = [row[0] for row in await (await connection.execute(_TABLES)).fetchall()]
        raise Misconfigured(f"there is no table {table!r}{near(table, tables)}", reason="ObjectNotFound")
    oid, schema, relation, kind, events, secured, triggers, deferrable, width = found
    qualified = sql.Identifier(schema, relation).as_string(connection)
    columns = await (await connection.execute(_COLUMNS, {"table": oid, "name": qualified})).fetchall()
    unique = await (await connection.execute(_UNIQUE, (oid,))).fetchall()
    primary = next((tuple(names) for is_primary, names in unique if is_primary), ())
    uniques = tuple(tuple(names) for _, names in unique)
    return Relation(
        schema=schema,
        name=relation,
        kind=kind,
        events=events,
        secured=secured,
        triggers=triggers,
        deferrable=deferrable,
        width=width,
        columns={row[0]: Column(*row) for row in columns},
        primary=primary,
        uniques=uniques,
    )


def _require_able(connection: AsyncConnection) -> None:
    version = connection.info.server_version // 10000
    if version < OLDEST_VERSION:
        raise Misconfigured(
            f"the server is PostgreSQL {version}: Fairlead needs {OLDEST_VERSION} or later",
            reason="VersionNotSupported",
        )
    if connection.info.parameter_status("server_encoding") == "SQL_ASCII":
        raise Misconfigured(
            "the database has the encoding SQL_ASCII, so nobody knows what its text means: move it to UTF8 (pg_dump, "
            "CREATE DATABASE … ENCODING 'UTF8', restore)",
            reason="EncodingNotSupported",
        )
