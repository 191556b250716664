"""Records of an API as a page: parsed JSON, of which a policy maps some attributes."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from itertools import repeat
from operator import itemgetter
from typing import Any

import orjson

from fairlead.model.record import MISSING, Native
from fairlead.transport.failure import Misconfigured

_ABSENT = ["\0absent"]
"""Stands in `raws` where an attribute is not there: no attribute holds it."""

Getter = Callable[[Any], Any]


def getter(path: str) -> Getter:
    """Reads a dotted path of a parsed document; MISSING where it is not there. The empty path is the whole."""
    if not path:
        return lambda record: record
    head, *rest = path.split(".")
    if not rest:
        return lambda record: record.get(head, MISSING) if isinstance(record, dict) else MISSING

    def get(record: Any) -> Any:
        for part in (head, *rest):
            if not isinstance(record, dict) or part not in record:
                return MISSING
            record = record[part]
        return record

    return get


def column(path: str) -> Callable[[Sequence[Any]], list[Any]]:
    """`getter` for many documents; quickest where the path is one name that every one has."""
    get = getter(path)
    if not path or "." in path:
        return lambda records: list(map(get, records))
    item = itemgetter(path)

    def read(records: Sequence[Any]) -> list[Any]:
        try:
            return list(map(item, records))
        except (KeyError, TypeError):
            return list(map(get, records))

    return read


def assembled(values: dict[str, object], under: str = "") -> dict[str, Any]:
    """An object with a value at each dotted path, and all of it under another path."""
    whole: dict[str, Any] = {}
    for path, value in values.items():
        _put(whole, [*under.split("."), *path.split(".")] if under else path.split("."), value)
    return whole


def _put(whole: dict[str, Any], parts: Sequence[str], value: object) -> None:
    for part in parts[:-1]:
        whole = whole.setdefault(part, {})
    whole[parts[-1]] = value


def dumped(value: Any) -> bytes:
    """JSON; a Decimal keeps its digits."""
    return orjson.dumps(value, default=_number)


def _number(value: Any) -> orjson.Fragment:
    if isinstance(value, Decimal):
        return orjson.Fragment(format(value, "f").encode())
    raise TypeError


class Shape:
    """What a policy reads of an object's records.

    Args:
        key: path of the attribute that identifies a record.
        modified: path of its modification time, or None.
        paths: the attributes that are mapped.
    """

    def __init__(self, key: str, modified: str | None, paths: Sequence[str]) -> None:
        self.key_path = key
        self._key, self._keys = getter(key), column(key)
        self.modified = getter(modified) if modified else None
        self._times = column(modified) if modified else None
        names = sorted(set(paths))
        self._top = [path for path in names if "." not in path]
        self._deep = [getter(path) for path in names if "." in path]
        self._mapped = itemgetter(*self._top) if len(self._top) > 1 and not self._deep else None
        """All mapped attributes at once, where none is nested."""

    def key(self, record: Any) -> str | None:
        """The native id as text; None when there is none."""
        value = self._key(record)
        if isinstance(value, str):
            return value or None
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else None

    def keys(self, records: Sequence[Any], label: str) -> list[str]:
        """The native id of each record.

        Raises:
            Misconfigured: one has none.
        """
        found = self._texts(records)
        if None in found:
            raise Misconfigured(
                f"a record of {label} has no id at {self.key_path!r}: name the attribute that identifies a record in "
                "systems[].key",
                reason="KeyNotFound",
            )
        return [key for key in found if key is not None]

    def _texts(self, records: Sequence[Any]) -> list[str | None]:
        natives = self._keys(records)
        kinds = set(map(type, natives))
        if kinds == {str} and all(natives):
            return natives
        return list(map(str, natives)) if kinds == {int} else [self.key(record) for record in records]

    def states(self, records: Sequence[Any]) -> list[Hashable]:
        """What tells one state of each record from another: its key and modification time."""
        if set(map(type, records)) != {dict}:
            return [str(record) for record in records]
        times = map(str, self._times(records)) if self._times else repeat(None)
        return list(zip(self._texts(records), times, strict=False))

    def moment(self, record: Any) -> datetime | None:
        """When a record was last modified, aware; None when that is not known, or is no time."""
        value = self.modified(record) if self.modified else None
        try:
            moment = datetime.fromisoformat(value) if isinstance(value, str) else None
        except ValueError:
            return None
        return moment.replace(tzinfo=UTC) if moment and moment.tzinfo is None else moment

    def raw(self, record: Native) -> bytes:
        """Bytes that differ when, and only when, a mapped attribute does: what is not mapped is left out."""
        get = record.get
        values = [get(name, _ABSENT) for name in self._top]
        for deep in self._deep:
            value = deep(record)
            values.append(_ABSENT if value is MISSING else value)
        return orjson.dumps(values, option=orjson.OPT_SORT_KEYS)

    def raws(self, records: Sequence[Native]) -> list[bytes]:
        """`raw` of each record; quickest where every one has every attribute."""
        if self._mapped is not None:
            dumps, sorting = orjson.dumps, orjson.OPT_SORT_KEYS
            try:
                return [dumps(values, option=sorting) for values in map(self._mapped, records)]
            except KeyError:
                pass
        return [self.raw(record) for record in records]


class JSONPage:
    """See `connectors.base.Page`.

    Args:
        shape: what is read of a record.
        keys: the native id of each record.
        records: parsed JSON objects; where a key comes twice the later one counts.
        deleted: keys of records that are gone.
        cursor: see `Page.cursor`.
        etags: what a conditional write sends back, where it is known.
    """

    def __init__(
        self,
        shape: Shape,
        keys: Sequence[str] = (),
        records: Sequence[Native] = (),
        *,
        deleted: Sequence[str] = (),
        cursor: str | None = None,
        etags: Sequence[str | None] | None = None,
    ) -> None:
        if len(set(keys)) < len(keys):
            last = {key: n for n, key in enumerate(keys)}
            keys, records = list(last), [records[n] for n in last.values()]
            etags = etags and [etags[n] for n in last.values()]
        self._shape = shape
        self._records = records
        self._etags = etags
        self.keys = keys
        self.raws = shape.raws(records)
        self.deleted = deleted
        self.cursor = cursor

    def rows(self, indices: Sequence[int]) -> list[Native]:
        """See `Page.rows`."""
        return [self._records[i] for i in indices]

    def columns(self, indices: Sequence[int], paths: Sequence[str]) -> list[list[object]]:
        """See `Page.columns`."""
        records = [self._records[i] for i in indices]
        return [column(path)(records) for path in paths]

    def versions(self, indices: Sequence[int]) -> list[str | None]:
        """See `Page.versions`: only what was read one by one comes with an ETag."""
        return [self._etags[i] if self._etags else None for i in indices]

    def modified(self, indices: Sequence[int]) -> list[object]:
        """See `Page.modified`."""
        get = self._shape.modified
        found = [get(self._records[i]) if get else None for i in indices]
        return [None if value is MISSING else value for value in found]
