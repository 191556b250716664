"""Matching: how records that meet for the first time are recognised as the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b

import msgspec

from fairlead.engine.canonical import is_empty
from fairlead.engine.fingerprint import Fingerprints
from fairlead.engine.mapping import Field
from fairlead.model.record import Value
from fairlead.model.syncpolicy import Match, Normalize


def normalized(text: str, steps: Sequence[Normalize]) -> str:
    """`text` after each step, in order."""
    for step in steps:
        if step is Normalize.TRIM:
            text = text.strip()
        elif step is Normalize.LOWERCASE:
            text = text.casefold()
        else:
            text = "".join(character for character in text if character.isdigit())
    return text


def text_of(rule: Match, fields: Mapping[str, Field]) -> str:
    """What a rule says, whatever its place among the rules; another text stands for other match keys."""
    kinds = [fields[name].kind.name for name in rule.fields]
    return msgspec.json.encode([rule.fields, rule.normalize, kinds]).decode()


class MatchRules:
    """The policy's match rules: a record has one match key per rule whose fields all have values.

    A key depends on what its rule says, not on its place: a key of one rule is never taken for one of another.
    """

    def __init__(self, rules: Sequence[Match], fields: Mapping[str, Field]) -> None:
        self._rules = tuple(dict.fromkeys(rules))
        self._fields = fields
        self.declared = {text_of(rule, fields): rule.fields for rule in self._rules}
        """What each rule says, and its fields."""
        self._seeds = list(map(_seed, self.declared))

    def __bool__(self) -> bool:
        return bool(self._rules)

    @property
    def rules(self) -> tuple[Match, ...]:
        """As declared, most trusted first; what is said twice stands there once."""
        return self._rules

    def keys(self, records: Sequence[Mapping[str, Value]], prints: Fingerprints) -> list[list[int]]:
        """For each record, the fingerprints of its match keys, in the order of the rules."""
        found: list[list[int]] = [[] for _ in records]
        for seed, rule in zip(self._seeds, self._rules, strict=True):
            encoded = self._encoded(rule, records)
            present = [i for i, value in enumerate(encoded) if value is not None]
            values = [encoded[i] or b"" for i in present]
            for i, key in zip(present, prints.many(values, seed), strict=True):
                found[i].append(key)
        return found

    def _encoded(self, rule: Match, records: Sequence[Mapping[str, Value]]) -> list[bytes | None]:
        """The match key of each record before it is fingerprinted; None where a field of it has no value."""
        columns = [self._column(name, rule, records) for name in rule.fields]
        if len(columns) == 1:
            return columns[0]
        return [None if None in parts else b"\x00".join(parts) for parts in zip(*columns, strict=True)]

    def _column(self, name: str, rule: Match, records: Sequence[Mapping[str, Value]]) -> list[bytes | None]:
        values = [record.get(name) for record in records]
        if rule.normalize:
            values = [normalized(v, rule.normalize) if isinstance(v, str) else v for v in values]
        encode = self._fields[name].kind.encode
        return [None if is_empty(value) else encode(value) for value in values]


def _seed(text: str) -> int:
    """Match keys are fingerprinted apart from fields, so that neither can be compared with the other."""
    return int.from_bytes(blake2b(text.encode(), person=b"match", digest_size=8).digest(), "big")
