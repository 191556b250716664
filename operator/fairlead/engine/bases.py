"""Bases: the values of fields as they were last seen, for the rules that need them (`FieldRule.keeps_base`).

A base is kept under its fingerprint, for as long as the fingerprint of some system that is read refers to it. Of all
other fields, no value is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from fairlead.engine.case import Case, Side
from fairlead.engine.fingerprint import UNSEEN, field
from fairlead.engine.rules import Rules
from fairlead.model.record import Value

Kept: TypeAlias = "dict[str, dict[bytes, Value]]"
"""Field → fingerprint → value."""


class Bases:
    """Which old values one policy keeps."""

    def __init__(self, rules: Rules) -> None:
        self.fields = tuple(name for name, rule in rules.fields.items() if rule.keeps_base)
        self._slots = {name: rules.fields[name].field.slot for name in self.fields}
        self._readers = {
            name: frozenset(system for system, rule in rules.systems.items() if rule.reads and rule.maps(name))
            for name in self.fields
        }

    def of(self, case: Case, sides: Mapping[str, Side]) -> Kept:
        """What is to be kept of the record of a case, of which `sides` is remembered from now on."""
        if not self.fields:
            return {}
        return self.kept(case.bases, sides, {s: o.record.values for s, o in case.observed.items()})

    def kept(self, before: Kept, sides: Mapping[str, Side], said: Mapping[str, Mapping[str, Value]]) -> Kept:
        """What is to be kept of one record.

        Args:
            before: what was kept of it.
            sides: what is remembered from now on.
            said: system → values that its fingerprints in `sides` were taken of, where they are new.
        """
        found: Kept = {}
        if not self._slots:
            return found
        for name, slot in self._slots.items():
            values: dict[bytes, Value] = {}
            known = before.get(name, {})
            for system in self._readers[name]:
                seen = field(sides[system].prints, slot) if system in sides else UNSEEN
                if seen == UNSEEN or seen in values:
                    continue
                if seen in known:
                    values[seen] = known[seen]
                elif name in said.get(system, ()):
                    values[seen] = said[system][name]
            if values:
                found[name] = values
        return found
