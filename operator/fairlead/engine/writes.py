"""Writes in the making: field by field, as verdicts come in."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import TypeVar

import msgspec

from fairlead.engine.case import EDIT, Operation, Write
from fairlead.engine.fields import Verdict
from fairlead.engine.rules import SystemRule
from fairlead.engine.view import View

T = TypeVar("T")


def with_field(
    write: Write | None, name: str, verdict: Verdict, target: str, earlier: tuple[bytes, ...], *, unsure: bool
) -> Write:
    """The write to `target` with a field's verdict; `earlier` and `unsure` are of what it replaces (see `Write`)."""
    winner = verdict.winner
    assert winner is not None
    rules = {name: verdict.rule} if verdict.rule != EDIT else {}
    if write is None:
        times = {name: winner.modified} if winner.modified else {}
        return Write(
            Operation.UPDATE,
            values={name: winner.value},
            origins={name: winner.system},
            modified=times,
            guarded=(name,) if target in verdict.overwritten else (),
            earlier={name: earlier} if earlier else {},
            unsure=(name,) if unsure else (),
            rules=rules,
        )
    write = with_sources(write, {name: winner})
    # What the guard counts stays counted: a later edit does not carry the overwriting past it.
    newly = target in verdict.overwritten and name not in write.guarded
    return msgspec.structs.replace(
        write,
        guarded=(*write.guarded, name) if newly else write.guarded,
        earlier={**without(write.earlier, {name}), **({name: earlier} if earlier else {})},
        unsure=(*(other for other in write.unsure if other != name), *((name,) if unsure else ())),
        rules={**without(write.rules, {name}), **rules},
    )


def with_sources(write: Write, sources: Mapping[str, View]) -> Write:
    """The write with these views' values; a value whose origin has no time has none."""
    times = {name: view.modified for name, view in sources.items() if view.modified is not None}
    return msgspec.structs.replace(
        write,
        values={**write.values, **{name: view.value for name, view in sources.items()}},
        origins={**write.origins, **{name: view.system for name, view in sources.items()}},
        modified={**without(write.modified, sources.keys()), **times},
    )


def only(write: Write, names: AbstractSet[str]) -> Write:
    """The write with these fields alone; what decided about the whole record decided about them."""
    return msgspec.structs.replace(
        write,
        values={f: v for f, v in write.values.items() if f in names},
        origins={f: o for f, o in write.origins.items() if f in names},
        modified={f: t for f, t in write.modified.items() if f in names},
        guarded=tuple(f for f in write.guarded if f in names),
        earlier={f: e for f, e in write.earlier.items() if f in names},
        unsure=tuple(f for f in write.unsure if f in names),
        rules={f: r for f, r in write.rules.items() if f in names or not f},
    )


def permitted(write: Write, rule: SystemRule) -> Write | None:
    """What of a write the rules permit in its system; None when nothing is left."""
    if write.ends:
        return write if rule.deletes else None
    if write.operation is Operation.CREATE and not rule.creates:
        return None
    if write.values.keys() <= rule.writable:
        return write
    kept = only(write, rule.writable)
    return kept if kept.values else None


def without(mapping: Mapping[str, T], names: AbstractSet[str]) -> dict[str, T]:
    """The mapping without some of its names."""
    return {name: value for name, value in mapping.items() if name not in names}
