"""Mapping: one system's native attributes ↔ the policy's canonical fields."""

from __future__ import annotations

from collections.abc import Mapping as MappingType
from collections.abc import Sequence
from contextlib import suppress
from itertools import repeat
from operator import itemgetter
from typing import Any, Protocol

import msgspec

from fairlead.engine.canonical import ContractError, Kind, kind_of
from fairlead.engine.expression import Expression, ExpressionError
from fairlead.model.record import MISSING, Native, Value, attribute
from fairlead.model.syncpolicy import ExpressionMapping, PathMapping, SystemSpec


class Rows(Protocol):
    """What a mapping needs of a page (see `connectors.base.Page`)."""

    def rows(self, indices: Sequence[int]) -> list[Native]:
        """Decoded records."""
        ...

    def columns(self, indices: Sequence[int], paths: Sequence[str]) -> list[list[object]]:
        """Decoded attributes."""
        ...


class Field(msgspec.Struct, frozen=True):
    """A canonical field of a policy: its name, its slot among the fingerprints, and its kind."""

    name: str
    slot: int
    kind: Kind


class _Path(msgspec.Struct, frozen=True):
    field: Field
    path: str
    split: str | None
    read: dict[str, str] | None
    write: dict[str, str] | None


class _Computed(msgspec.Struct, frozen=True):
    field: Field
    read: Expression
    write: dict[str, Expression]


class Mapping:
    """Reads and writes the canonical fields of one system. `fields` are those it maps, in slot order."""

    def __init__(self, system: SystemSpec, fields: MappingType[str, Field]) -> None:
        declared = {name: spec for name, spec in system.mappings().items() if name in fields}
        self.fields = tuple(sorted((fields[name] for name in declared), key=lambda field: field.slot))
        self._filter = Expression(system.filter) if system.filter else None
        self.archive: dict[str, object] = dict(system.archive.set) if system.archive else {}
        """What an archived record says, by native attribute; empty where nothing is archived."""
        self._paths = [_path(fields[n], m) for n, m in declared.items() if isinstance(m, PathMapping)]
        self._computed = [_computed(fields[n], m) for n, m in declared.items() if isinstance(m, ExpressionMapping)]
        self._packed = [item for item in self._paths if item.split is not None or item.write is not None]
        self._plain = [(item.field.name, item.path) for item in self._paths if item not in self._packed]
        names = [name for name, _ in self._plain]
        self._written = [path for _, path in self._plain]
        self._values = itemgetter(*names) if len(names) > 1 else None
        self.times = {name: spec.modified for name, spec in declared.items() if spec.modified is not None}
        """Fields that have a modification time of their own, and where it is."""
        self._declared = repr(sorted(system.fields.items(), key=str)) + repr((system.filter, *self.archive.items()))
        self.writable = frozenset(
            [item.field.name for item in self._paths] + [item.field.name for item in self._computed if item.write]
        )
        """Fields that can be written; a computed field without `write` is only read."""

    @property
    def declaration(self) -> str:
        """Text that changes when what is declared does."""
        return self._declared

    def field_declaration(self, name: str) -> str:
        """Text that changes when the mapping of one field does."""
        for item in self._paths:
            if item.field.name == name:
                return repr((item.path, item.split, item.read))
        return repr([item.read.source for item in self._computed if item.field.name == name])

    @property
    def paths(self) -> list[str]:
        """Native attributes that the mapping reads, for connectors to select. Stable order."""
        computed = {name for item in self._computed for name in item.read.variables}
        filtered = self._filter.variables if self._filter else frozenset()
        plain = {item.path for item in self._paths}
        return sorted(plain | computed | filtered | set(self.times.values()) | self.archive.keys())

    @property
    def written_paths(self) -> list[str]:
        """Native attributes that the mapping writes."""
        return sorted({item.path for item in self._paths} | {p for item in self._computed for p in item.write})

    def path_of(self, field: str) -> str | None:
        """The native path of a field that is one attribute; None for a computed one."""
        return next((item.path for item in self._paths if item.field.name == field), None)

    @property
    def selective(self) -> bool:
        """Whether some records of the system take no part: it has a filter, or archives."""
        return self._filter is not None or bool(self.archive)

    def passing(self, page: Rows, indices: Sequence[int]) -> list[int]:
        """Those of `indices` whose record takes part: it passes the system's filter, and is not archived.

        A filter that fails on a record excludes it.
        """
        if not self.selective:
            return list(indices)
        return [i for i, row in zip(indices, page.rows(indices), strict=True) if self._passes(row)]

    def is_archived(self, row: Native) -> bool:
        """Whether a record says what an archived one says, in whatever spelling."""
        return bool(self.archive) and all(_says(attribute(row, path), it) for path, it in self.archive.items())

    def _passes(self, row: Native) -> bool:
        if self.is_archived(row):
            return False
        try:
            return self._filter is None or self._filter.evaluate(row) is True
        except ExpressionError:
            return False

    def read(self, page: Rows, indices: Sequence[int]) -> list[list[Value]]:
        """Canonical columns, one per item of `fields`, for the records at `indices`.

        Raises:
            ContractError: some record has a value that cannot be canonical; read them one by one to find it.
        """
        columns: dict[str, list[Value]] = {}
        natives = page.columns(indices, [item.path for item in self._paths])
        for item, native in zip(self._paths, natives, strict=True):
            columns[item.field.name] = _convert(item.field, _unpack(item, native))
        if self._computed:
            rows = page.rows(indices)
            for computed in self._computed:
                columns[computed.field.name] = _convert(computed.field, [_evaluate(computed, row) for row in rows])
        return [columns[field.name] for field in self.fields]

    def legible(self, page: Rows, index: int) -> dict[str, Value]:
        """Canonical values of the fields of one record that have one."""
        found: dict[str, Value] = {}
        natives = page.columns([index], [item.path for item in self._paths])
        for item, native in zip(self._paths, natives, strict=True):
            with suppress(ContractError):
                found[item.field.name] = _convert(item.field, _unpack(item, native))[0]
        for computed in self._computed:
            with suppress(ContractError):
                found[computed.field.name] = _convert(computed.field, [_evaluate(computed, *page.rows([index]))])[0]
        return found

    @property
    def copies(self) -> bool:
        """Whether every value is written as it is, each under one native attribute."""
        return not self._packed and not self._computed

    def copied(self, records: Sequence[MappingType[str, Value]]) -> list[dict[str, object]]:
        """`write` of every record, where the mapping `copies`."""
        if self._values is not None:
            try:
                return list(map(dict, map(zip, repeat(self._written), map(self._values, records))))
            except KeyError:
                pass  # some record has not all the fields
        return [self.write(values) for values in records]

    def write(self, values: MappingType[str, Value]) -> dict[str, object]:
        """Native attributes for canonical values; fields that this system does not map or write are left out.

        Raises:
            ContractError: a write expression failed.
        """
        native: dict[str, object] = {path: values[name] for name, path in self._plain if name in values}
        for item in self._packed:
            if item.field.name in values:
                native[item.path] = _pack(item, values[item.field.name])
        for computed in self._computed:
            if computed.field.name in values:
                native |= _write_computed(computed, values)
        return native


def _says(native: object, declared: object) -> bool:
    """Whether a native value is a declared text, number, true or false, as a system may spell it."""
    name = "boolean" if isinstance(declared, bool) else "string" if isinstance(declared, str) else "number"
    try:
        found = kind_of({"type": name}).canonical(native)
    except ContractError:
        return False
    return _folded(found) == _folded(declared)


def _folded(value: object) -> object:
    return value.strip().casefold() if isinstance(value, str) else value


def _path(field: Field, mapping: PathMapping) -> _Path:
    read = mapping.values
    write = {canonical: native for native, canonical in read.items()} if read else None
    return _Path(field, mapping.path, mapping.split, read, write)


def _computed(field: Field, mapping: ExpressionMapping) -> _Computed:
    return _Computed(
        field, Expression(mapping.read), {path: Expression(source) for path, source in mapping.write.items()}
    )


def _unpack(item: _Path, column: list[Any]) -> list[Any]:
    if item.split is not None:
        column = [_parts(value, item.split) for value in column]
    if item.read is not None:
        column = [_translated(value, item.read) for value in column]
    return column


def _translated(value: Any, words: MappingType[str, str]) -> Any:
    """The declared counterpart of a value, or of each part of a list; what is not declared stays as it is."""
    if value is None or value is MISSING:
        return value
    if isinstance(value, list):
        return [_translated(part, words) for part in value]
    return words.get(_word(value), value)


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _parts(value: Any, separator: str) -> Any:
    if not isinstance(value, str):
        return value
    return [part.strip() for part in value.split(separator) if part.strip()]


def _pack(item: _Path, value: Value) -> object:
    native: object = value if item.write is None else _translated(value, item.write)
    if item.split is not None and isinstance(native, list):
        return item.split.join(_word(part) for part in native)
    return native


def _convert(field: Field, column: list[Any]) -> list[Value]:
    try:
        return field.kind.canonical_column(column)
    except ContractError as error:
        raise ContractError(f"field {field.name} {error}") from None
    except RecursionError:
        raise ContractError(f"field {field.name} is nested too deeply") from None


def _evaluate(computed: _Computed, row: Native) -> Any:
    try:
        return computed.read.evaluate(row)
    except ExpressionError as error:
        raise ContractError(f"field {computed.field.name}: {error}") from None


def _write_computed(computed: _Computed, values: MappingType[str, Value]) -> dict[str, object]:
    try:
        return {path: expression.evaluate(values) for path, expression in computed.write.items()}
    except ExpressionError as error:
        raise ContractError(f"field {computed.field.name}: {error}") from None
