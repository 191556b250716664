"""Mapping: the rules about `systems[].fields` and `systems[].filter`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec

from fairlead.model.checks.context import Context, Mapped, computed, mapped
from fairlead.model.checks.expression import wrong
from fairlead.model.problem import Path, Problem, near
from fairlead.model.syncpolicy import Access, ExpressionMapping, PathMapping, SystemSpec, mapping_of

MAX_PATH = 256
"""Longest native path."""


def fields_are_known(context: Context) -> Iterator[Problem]:
    """What is mapped is a field of the schema."""
    for path, system in context.systems():
        for name in system.fields.keys() - context.fields.keys():
            message = f"the schema has no field {name!r}{near(name, context.fields)}"
            yield Problem(message=message, path=(*path, "fields", name))


def mappings_are_written_well(context: Context) -> Iterator[Problem]:
    """Each mapping is a path, {path, split, values, modified} or {read, write, modified}."""
    for path, system in context.systems():
        for name, declared in system.fields.items():
            message = _malformed(declared)
            if message:
                yield Problem(message=message, path=(*path, "fields", name))


def _malformed(declared: Any) -> str | None:
    try:
        mapping = mapping_of(declared)
    except msgspec.ValidationError as error:
        return _reworded(str(error), declared)
    if isinstance(mapping, PathMapping) and mapping.split == "":
        return "split must be the text between the parts, for example ';'"
    paths = [*mapping.write] if isinstance(mapping, ExpressionMapping) else [mapping.path]
    paths += [mapping.modified] if mapping.modified is not None else []
    return next((bad_path(path) for path in paths if bad_path(path)), None)


def _reworded(message: str, declared: Any) -> str:
    text, _, where = message.partition(" - at `$")
    if "unknown field `" in text:
        known = PathMapping if "path" in declared else ExpressionMapping
        name = text.split("`")[1]
        return f"unknown field {name!r}{near(name, known.__struct_fields__)}"
    return f"{where.strip('`.')}: {text}" if where.strip("`.") else text


def bad_path(path: str) -> str | None:
    """What is wrong with a native path; None when nothing is."""
    if not path.strip() or len(path) > MAX_PATH:
        return f"a path has 1 to {MAX_PATH} characters"
    return None


def expressions_compile(context: Context) -> Iterator[Problem]:
    """Filters and mappings are CEL; what is written is computed from the field's own value.

    An update holds only the fields that changed, so nothing else is known when it is written.
    """
    for path, system in context.systems():
        if system.filter is not None:
            yield from _expression(system.filter, (*path, "filter"))
        for item in mapped(path, system):
            mapping = computed(item)
            if mapping:
                yield from _expression(mapping.read, (*item.path, "read"))
                for native, source in mapping.write.items():
                    yield from _expression(source, (*item.path, "write", native), item.field, context)


def _expression(
    source: str, path: Path, writes: str | None = None, context: Context | None = None
) -> Iterator[Problem]:
    message = wrong(source, context.fields if context else None)
    if message is None and writes is not None and wrong(source, [writes]) is not None:
        message = f"may use {writes} alone: the other fields are not known then"
    if message:
        yield Problem(message=message, path=path)


def lists_are_split(context: Context) -> Iterator[Problem]:
    """`split` makes a list, so the field must be one."""
    for path, system in context.systems():
        for item in mapped(path, system):
            if isinstance(item.mapping, PathMapping) and item.mapping.split and not _is_list(context, item.field):
                message = "split makes a list: give the field `type: array` in the schema, or leave split out"
                yield Problem(message=message, path=(*item.path, "split"))


def _is_list(context: Context, field: str) -> bool:
    declared = context.fields.get(field)
    return not isinstance(declared, dict) or declared.get("type") in ("array", ["array", "null"], ["null", "array"])


def values_can_be_written(context: Context) -> Iterator[Problem]:
    """A value map is read backwards when it is written."""
    for path, system in context.systems():
        for item in mapped(path, system):
            if system.writes and isinstance(item.mapping, PathMapping) and item.mapping.values:
                doubled = _doubled(item.mapping.values)
                if doubled:
                    message = (
                        f"more than one native value means {doubled!r}, so it is not clear which to write: "
                        "keep one, or use {read, write}"
                    )
                    yield Problem(message=message, path=(*item.path, "values"))


def _doubled(values: dict[str, str]) -> str | None:
    return next((value for value, count in Counter(values.values()).items() if count > 1), None)


def paths_are_written_once(context: Context) -> Iterator[Problem]:
    """Two fields that write the same attribute would overwrite each other."""
    for path, system in context.systems():
        owners: dict[str, str] = {}
        for item in mapped(path, system) if system.writes else ():
            for native in item.written_paths:
                first = owners.setdefault(native, item.field)
                if first != item.field:
                    message = f"writes {native!r}, as {first} does: map one of them, or give one only {{read: …}}"
                    yield Problem(message=message, path=item.path)


def written_only_can_be_written(context: Context) -> Iterator[Problem]:
    """In a WriteOnly system a field that cannot be written does nothing."""
    for path, system in context.systems():
        if system.access is Access.WRITE_ONLY:
            yield from (_unwritable(item) for item in mapped(path, system) if not item.written_paths)


def _unwritable(item: Mapped) -> Problem:
    return Problem(message="a WriteOnly system is not read: add write, or leave the field out", path=item.path)


def maps_all(system: SystemSpec, fields: tuple[str, ...]) -> bool:
    """Whether a system maps every one of these fields."""
    return system.fields.keys() >= set(fields)
