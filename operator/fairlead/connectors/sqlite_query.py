"""The statements for one SQLite table. Names are quoted; values are always parameters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import orjson

from fairlead.connectors.sqlite_page import Column
from fairlead.connectors.table import Names


class Queries:
    """Statements for one table and the columns that a policy uses of it."""

    def __init__(self, table: str, existing: Mapping[str, Column], names: Names) -> None:
        self.table = table
        self.existing = existing
        self.columns = [existing[name] for name in names.paths]
        self.key = existing[names.key]
        self._name, self._key = quoted(table), quoted(names.key)
        self._modified = quoted(names.modified) if names.modified else "NULL"
        selected = ", ".join([*map(quoted, names.paths), self._modified, self._key])
        self.select = f"SELECT {selected} FROM {self._name}"

    def by_key(self, *, last: bool) -> str:
        """A page of a scan; parameters: the last key (where there is one), the number of rows."""
        bound = "> ?" if last else "IS NOT NULL"
        return f"{self.select} WHERE {self._key} {bound} ORDER BY {self._key} LIMIT ?"

    def by_time(self, *, settled: bool, last: bool) -> str:
        """A page of changes; parameters: the settled time, or the last time and key; the number of rows."""
        bound = f"{self._modified} > ?" if settled else f"{self._modified} IS NOT NULL"
        if last:
            bound = f"({self._modified}, {self._key}) > (?, ?)"
        return f"{self.select} WHERE {bound} ORDER BY {self._modified}, {self._key} LIMIT ?"

    def untimed(self, *, last: bool) -> str:
        """A page of rows without modification time; parameters: the last key, the number of rows."""
        bound = f" AND {self._key} > ?" if last else ""
        return f"{self.select} WHERE {self._modified} IS NULL{bound} ORDER BY {self._key} LIMIT ?"

    @property
    def newest(self) -> str:
        """The greatest modification time, and the greatest key without one."""
        return (
            f"SELECT (SELECT {self._modified} FROM {self._name} WHERE {self._modified} IS NOT NULL "
            f"ORDER BY {self._modified} DESC LIMIT 1), "
            f"(SELECT {self._key} FROM {self._name} WHERE {self._modified} IS NULL ORDER BY {self._key} DESC LIMIT 1)"
        )

    @property
    def doubled(self) -> str:
        """A row when some key is there more than once."""
        where = f"WHERE {self._key} IS NOT NULL GROUP BY {self._key} HAVING count(*) > 1"
        return f"SELECT 1 FROM {self._name} {where} LIMIT 1"

    def among(self, column: Column, values: Iterable[Any]) -> tuple[str, tuple[str]]:
        """Rows in which a column has one of some values, and the parameters."""
        wanted = [form for value in values for form in _forms(column, value)]
        query = f"{self.select} WHERE {quoted(column.name)} IN (SELECT value FROM json_each(?))"
        return query, (orjson.dumps(wanted, default=str).decode(),)

    def insert(self, names: Sequence[str]) -> str:
        """One row; parameters: its values."""
        if not names:
            return f"INSERT INTO {self._name} DEFAULT VALUES RETURNING {self._key}"
        columns, places = ", ".join(map(quoted, names)), ", ".join("?" * len(names))
        return f"INSERT INTO {self._name} ({columns}) VALUES ({places}) RETURNING {self._key}"

    def update(self, names: Sequence[str]) -> str:
        """One row; parameters: its values, its key."""
        sets = ", ".join(f"{quoted(name)} = ?" for name in names)
        return f"UPDATE {self._name} SET {sets} WHERE {self._key} = ?"

    @property
    def delete(self) -> str:
        """One row; parameter: its key."""
        return f"DELETE FROM {self._name} WHERE {self._key} = ?"


def quoted(name: str) -> str:
    """A name as SQL takes it."""
    return '"' + name.replace('"', '""') + '"'


def _forms(column: Column, value: Any) -> list[Any]:
    """The forms in which a column may hold a value: text and number differ where it has no affinity."""
    if isinstance(value, Decimal):
        value = format(value, "f")
    if column.has_affinity or not isinstance(value, str):
        return [value]
    for number in (int, float):
        try:
            return [value, number(value)]
        except ValueError:
            continue
    return [value]
