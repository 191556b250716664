"""Pages of PostgreSQL rows: kept as text, split and decoded only where they are looked at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fairlead.connectors.feed import Value
from fairlead.connectors.postgres_text import FIELD, INTEGERS, NULL, ROW, Column, decoded, value
from fairlead.model.record import MISSING, Native

_ROW, _FIELD, _NULL = ROW.encode(), FIELD.encode(), NULL.encode()


class TextPage:
    """Rows as text, `columns` of them in each; see `connectors.base.Page`.

    Args:
        columns: the mapped columns, in the order of the fields.
        keys: one per row.
        raws: the fields of each row, joined.
        odd: index → fields of a row whose values hold a separator, so that its raw cannot be split.
        modified: the column of modification times, where there is one.
        times: those of the rows, as text; None where that column is one of `columns`, and no row is odd.
        deleted: keys that are not there.
    """

    def __init__(
        self,
        columns: Sequence[Column],
        keys: Sequence[str],
        raws: Sequence[bytes],
        *,
        odd: dict[int, Sequence[str | None]] | None = None,
        modified: Column | None = None,
        times: Sequence[str] | None = None,
        deleted: Sequence[str] = (),
    ) -> None:
        self._columns = columns
        self._position = {item.name: n for n, item in enumerate(columns)}
        self._odd = odd or {}
        self._modified = modified
        self._times = times
        self.keys = keys
        self.raws = raws
        self.deleted = deleted
        self.cursor: str | None = None

    def columns(self, indices: Sequence[int], paths: Sequence[str]) -> list[list[object]]:
        """See `Page.columns`."""
        if self._odd and not self._odd.keys().isdisjoint(indices):
            rows = self.rows(indices)
            return [[row.get(path, MISSING) for row in rows] for path in paths]
        texts, width = self._fields(indices), len(self._columns)
        found: list[list[object]] = []
        for path in paths:
            n = self._position.get(path)
            found.append([MISSING] * len(indices) if n is None else decoded(self._columns[n], texts[n::width]))
        return found

    def _fields(self, indices: Sequence[int]) -> list[str]:
        """The fields of rows, one after the other."""
        whole = len(indices) == len(self.raws) and list(indices) == list(range(len(self.raws)))
        raws = self.raws if whole else [self.raws[i] for i in indices]
        return _FIELD.join(raws).decode().split(FIELD) if raws else []

    def rows(self, indices: Sequence[int]) -> list[Native]:
        """See `Page.rows`."""
        plain = [i for i in indices if i not in self._odd]
        names = list(self._position)
        columns = zip(*self.columns(plain, names), strict=True) if names else [()] * len(plain)
        found: dict[int, Native] = dict(
            zip(plain, (dict(zip(names, row, strict=True)) for row in columns), strict=True)
        )
        for i in indices:
            if i in self._odd:
                found[i] = native(self._columns, self._odd[i])
        return [found[i] for i in indices]

    def versions(self, indices: Sequence[int]) -> list[str | None]:
        """A table has no versions: writes compare the row itself, in their transaction."""
        return [None] * len(indices)

    def time(self, index: int) -> Value:
        """The modification time as it goes into a cursor."""
        if self._modified is None:
            return None
        if self._times is not None:
            return key_of(self._modified, self._times[index])
        field = self.raws[index].split(_FIELD)[self._position[self._modified.name]]
        return key_of(self._modified, field.decode())

    def modified(self, indices: Sequence[int]) -> list[object]:
        """See `Page.modified`."""
        if self._modified is None:
            return [None] * len(indices)
        if self._times is None:
            return self.columns(indices, [self._modified.name])[0]
        return decoded(self._modified, [self._times[i] for i in indices])


def key_of(column: Column, text: str | None) -> str | int | None:
    """A printed key or modification time as it goes into a cursor."""
    if text is None or text == NULL:
        return None
    return int(text) if column.type in INTEGERS else text


def native(columns: Sequence[Column], fields: Sequence[str | None]) -> Native:
    """A record of its fields."""
    return {column.name: value(column, item) for column, item in zip(columns, fields, strict=True)}


def raw_of(fields: Sequence[bytes | None]) -> tuple[bytes, bool]:
    """What `raws` holds for a row of these fields, and whether it can be split again.

    A row that holds a separator gets a form that no other row can have: it begins with `ROW`, and counts its bytes.
    """
    joined = _FIELD.join([_NULL if item is None else item for item in fields])
    if (
        joined.count(_FIELD) == max(0, len(fields) - 1)
        and _ROW not in joined
        and (joined.count(_NULL) == sum(item is None for item in fields))
    ):
        return joined, True
    parts = [b"-" if item is None else b"%d:%s" % (len(item), item) for item in fields]
    return _ROW + b"".join(parts), False


def page_of_text(
    columns: Sequence[Column], whole: Sequence[Any], modified: Column | None
) -> tuple[TextPage, int] | None:
    """A page that the database joined, and its size in bytes; None when a value holds a separator.

    Args:
        columns: the mapped columns.
        whole: count of rows, count of nulls, and as bytes: keys, fields, modification times (None where the rows have
            none, or have them among the fields).
        modified: the column of the latter.
    """
    count, nulls, keys, fields, times = whole
    if not count:
        return TextPage(columns, [], []), 0
    raws = fields.split(_ROW)
    names = keys.decode().split(ROW)
    moments = None if times is None else times.decode().split(ROW)
    sound = (
        len(raws) == len(names) == len(names if moments is None else moments) == count
        and fields.count(_FIELD) == count * max(0, len(columns) - 1)
        and fields.count(_NULL) == nulls
    )
    if not sound:
        return None
    return TextPage(columns, names, raws, modified=modified, times=moments), len(fields)


def page_of_rows(
    columns: Sequence[Column], rows: Sequence[Sequence[bytes | None]], modified: Column | None
) -> TextPage:
    """A page of rows that were read one by one: key, modification time, fields."""
    keys = [(row[0] or b"").decode() for row in rows]
    raws: list[bytes] = []
    odd: dict[int, Sequence[str | None]] = {}
    for n, row in enumerate(rows):
        raw, plain = raw_of(row[2:])
        raws.append(raw)
        if not plain:
            odd[n] = [None if item is None else item.decode() for item in row[2:]]
    times = [NULL if row[1] is None else row[1].decode() for row in rows]
    return TextPage(columns, keys, raws, odd=odd, modified=modified, times=times)
