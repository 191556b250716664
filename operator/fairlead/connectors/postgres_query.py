"""The statements for one table. Names are quoted by psycopg; values are always parameters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import LiteralString

from psycopg import sql

from fairlead.connectors.postgres_catalog import Relation
from fairlead.connectors.postgres_text import FIELD, NULL, ROW, Column
from fairlead.connectors.table import Names

MOMENT = """
SELECT extract(epoch FROM clock_timestamp())::float8,
  CASE WHEN pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') AND NOT pg_is_in_recovery() THEN (
    SELECT extract(epoch FROM least(clock_timestamp(), min(a.xact_start), (
      SELECT min(p.prepared) - interval '1 hour' FROM pg_prepared_xacts p
      WHERE p.database = current_database())))::float8
    FROM pg_stat_activity a WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()
      AND a.backend_type NOT IN ('autovacuum worker', 'walsender')) END,
  pg_snapshot_xmin(pg_current_snapshot())::text::int8, pg_snapshot_xmax(pg_current_snapshot())::text::int8
"""
"""The clock, the begin of the oldest transaction (where it can be seen), and the transaction numbers.

When a prepared transaction began is not known: it counts as an hour older. On a standby only the numbers tell.
"""

_TARGET = sql.SQL("target")
_AS_PRINTED = frozenset({"inet", "cidr"})  # a cast to text adds the network's length


class Queries:
    """Statements for one table and the columns that a policy uses of it."""

    def __init__(self, relation: Relation, names: Names) -> None:
        self.columns = [relation.columns[name] for name in names.paths]
        self.key = relation.columns[names.key]
        self.modified = relation.columns[names.modified] if names.modified else None
        self._name = quoted(relation.schema, relation.name)
        self._table = sql.SQL("{} AS {}").format(self._name, _TARGET)
        self._conflicts = sql.SQL("") if relation.deferrable else sql.SQL("ON CONFLICT DO NOTHING ")

    # --- reading ---

    def joined(self, rest: sql.Composable) -> sql.Composed:
        """A page as one row: count, nulls, keys, fields, and modification times where they are not among the fields."""
        columns = {column.name: column for column in (self.key, self.modified, *self.columns) if column}
        fields = [self._or_null(column) for column in self.columns]
        times: sql.Composable = sql.SQL("NULL")
        if self.modified and self.modified not in self.columns:
            times = sql.SQL("string_agg({}, {})").format(self._or_null(self.modified), _ROW)
        return sql.SQL(
            "SELECT count(*)::int8, sum(num_nulls({nulls}))::int8, string_agg({key}, {row}), "
            "string_agg(concat_ws({fields}), {row}), {times} FROM (SELECT {read} FROM {table} {rest}) AS {page}"
        ).format(
            nulls=_listed(map(_column, self.columns)),
            key=self._print(self.key),
            row=_ROW,
            fields=_listed([_FIELD, *fields]),
            times=times,
            read=_listed(map(_column, columns.values())),
            table=self._table,
            rest=rest,
            page=_TARGET,
        )

    def plain(self, rest: sql.Composable) -> sql.Composed:
        """Rows: key, modification time, fields."""
        return sql.SQL("SELECT {} FROM {} {}").format(self._returned, self._table, rest)

    def _key_and_time(self) -> sql.Composed:
        time = self._print(self.modified) if self.modified else sql.SQL("NULL::text")
        return sql.SQL("{} AS k, {} AS m").format(self._print(self.key), time)

    @property
    def _returned(self) -> sql.Composed:
        return _listed([self._key_and_time(), *(self._print(column) for column in self.columns)])

    def _print(self, column: Column) -> sql.Composed:
        name = _column(column)
        if column.type in _AS_PRINTED and not column.array:
            return sql.SQL("CASE WHEN {0} IS NOT NULL THEN concat({0}) END").format(name)
        return sql.SQL("{}::text").format(name)

    def _or_null(self, column: Column) -> sql.Composed:
        return sql.SQL("coalesce({}, {})").format(self._print(column), _NULL)

    def after_key(self, last: bool) -> sql.Composed:
        """The rest of a page of a scan; parameters: the last key (where there is one), the number of rows."""
        bounds = [sql.SQL("{} > %s::{}").format(_column(self.key), _type(self.key))] if last else []
        if self.key.nullable:
            bounds.append(sql.SQL("{} IS NOT NULL").format(_column(self.key)))
        return sql.SQL("{} ORDER BY {} LIMIT %s").format(_where(bounds), _column(self.key))

    def after_time(self, settled: bool, last: bool) -> sql.Composed:
        """The rest of a page of changes; parameters: settled time, last time and key, number of rows."""
        assert self.modified is not None
        time, key = _column(self.modified), _column(self.key)
        bounds = [sql.SQL("{} IS NOT NULL").format(time)]
        if last:
            bounds = [sql.SQL("({}, {}) > (%s::{}, %s::{})").format(time, key, _type(self.modified), _type(self.key))]
        elif settled:
            bounds = [sql.SQL("{} > %s::{}").format(time, _type(self.modified))]
        return sql.SQL("{} ORDER BY {}, {} LIMIT %s").format(_where(bounds), time, key)

    def untimed(self, settled: bool) -> sql.Composed:
        """The rest of a page of rows without modification time; parameters: the last key, the number of rows."""
        assert self.modified is not None
        bounds = [sql.SQL("{} IS NULL").format(_column(self.modified))]
        if settled:
            bounds.append(sql.SQL("{} > %s::{}").format(_column(self.key), _type(self.key)))
        return sql.SQL("{} ORDER BY {} LIMIT %s").format(_where(bounds), _column(self.key))

    def newest(self) -> sql.Composed:
        """The greatest modification time, and the greatest key without one."""
        assert self.modified is not None
        time, key = _column(self.modified), _column(self.key)
        return sql.SQL(
            "SELECT (SELECT {print} FROM {table} WHERE {time} IS NOT NULL ORDER BY {time} DESC LIMIT 1), "
            "(SELECT {key_print} FROM {table} WHERE {time} IS NULL ORDER BY {key} DESC LIMIT 1)"
        ).format(
            print=self._print(self.modified), key_print=self._print(self.key), table=self._table, time=time, key=key
        )

    def among(self, column: Column) -> sql.Composed:
        """The rest of a look-up; parameter: the values as text."""
        if column.array:
            return sql.SQL("WHERE {} IN (SELECT v::{} FROM unnest(%s::text[]) AS v)").format(
                _column(column), _type(column)
            )
        if column.type in ("json", "xml"):  # these have no equality of their own
            return sql.SQL("WHERE {} = ANY(%s::text[])").format(self._print(column))
        return sql.SQL("WHERE {} = ANY(%s::text[]::{}[])").format(_column(column), _type(column))

    def lock(self, strength: LiteralString, *, skips: bool) -> sql.Composed:
        """The rest of a look-up by keys that locks, in the order of keys so that two workers never deadlock."""
        return sql.SQL("{} ORDER BY {} FOR {}{}").format(
            self.among(self.key), _column(self.key), sql.SQL(strength), sql.SQL(" SKIP LOCKED" if skips else "")
        )

    def doubled(self) -> sql.Composed:
        """A row when some key is there more than once."""
        key = _column(self.key)
        return sql.SQL("SELECT 1 FROM {} WHERE {k} IS NOT NULL GROUP BY {k} HAVING count(*) > 1 LIMIT 1").format(
            self._table, k=key
        )

    def cursor(self) -> sql.Composed:
        """Opens a cursor over all rows, for a key that no index orders."""
        rest = sql.SQL("WHERE {} IS NOT NULL").format(_column(self.key))
        return sql.SQL("DECLARE fairlead NO SCROLL CURSOR FOR {}").format(self.plain(rest))

    def with_values(self, columns: Sequence[Column]) -> sql.Composed:
        """The rest of a look-up of one row by the values of some columns."""
        bounds = [sql.SQL("{} = %s::{}").format(_column(column), _type(column)) for column in columns]
        return sql.SQL("{} LIMIT 1").format(_where(bounds))

    # --- writing ---

    def update(self, columns: Sequence[Column]) -> sql.Composed:
        """Rows by key; parameters: positions, keys, then a list of texts per column."""
        sets = [
            sql.SQL("{} = v.{}::{}").format(quoted(column.name), quoted(f"c{n}"), _type(column))
            for n, column in enumerate(columns)
        ]
        return sql.SQL(
            "UPDATE {} SET {} FROM unnest(%s::int4[], %s::text[]{}) AS v({}) WHERE {} = v.k::{} RETURNING v.n, {}"
        ).format(
            self._table,
            _listed(sets),
            sql.SQL(", %s::text[]" * len(columns)),
            _names(["n", "k", *(f"c{n}" for n in range(len(columns)))]),
            _column(self.key),
            _type(self.key),
            self._returned,
        )

    def delete(self) -> sql.Composed:
        """Rows by key; parameter: keys."""
        return sql.SQL("DELETE FROM {} {} RETURNING {}").format(
            self._table, self.among(self.key), self._print(self.key)
        )

    def insert(self, columns: Sequence[Column]) -> sql.Composed:
        """Rows that no unique constraint refuses; parameters: a list of texts per column."""
        casts = [sql.SQL("v.{}::{}").format(quoted(f"c{n}"), _type(column)) for n, column in enumerate(columns)]
        return sql.SQL(
            "INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM unnest({}) AS v({}) {}RETURNING {}"
        ).format(
            self._table,
            _names([column.name for column in columns]),
            _listed(casts),
            sql.SQL(", ".join(["%s::text[]"] * len(columns))),
            _names([f"c{n}" for n in range(len(columns))]),
            self._conflicts,
            self._returned,
        )

    def copy(self, columns: Sequence[Column]) -> sql.Composed:
        """Rows from COPY's text format."""
        names = _names([column.name for column in columns])
        return sql.SQL("COPY {} ({}) FROM STDIN (DELIMITER {}, NULL {})").format(self._name, names, _FIELD, _NULL)

    def fresh_keys(self) -> sql.Composed | None:
        """Keys from the column's own default; parameter: how many. None without a default."""
        if self.key.default is None:
            return None
        return sql.SQL("SELECT ({})::text FROM generate_series(1, %s)").format(_trusted(self.key.default))


_ROW, _FIELD, _NULL = sql.Literal(ROW), sql.Literal(FIELD), sql.Literal(NULL)


def _column(column: Column) -> sql.Composed:
    return sql.SQL("{}.{}").format(_TARGET, quoted(column.name))


def _names(names: Sequence[str]) -> sql.Composed:
    return _listed(map(quoted, names))


def _listed(parts: Iterable[sql.Composable]) -> sql.Composed:
    return sql.SQL(", ").join(parts)


def quoted(*names: str) -> sql.SQL:
    """A quoted name, for statements with parameters: psycopg's own Identifier leaves a `%` as it is."""
    return _trusted(".".join('"' + name.replace('"', '""') + '"' for name in names))


def _type(column: Column) -> sql.SQL:
    """The type to cast to; the elements' brackets are part of it."""
    return _trusted(column.sql_type)


def _trusted(text: str) -> sql.SQL:
    """SQL that the server itself wrote: the name of a type, the expression of a default."""
    return sql.SQL(text.replace("%", "%%"))


def _where(bounds: Sequence[sql.Composable]) -> sql.Composable:
    return sql.SQL("WHERE ") + sql.SQL(" AND ").join(bounds) if bounds else sql.SQL("")
