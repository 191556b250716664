"""Words: rules and what was found, as people are told them."""

from __future__ import annotations

import msgspec

from fairlead.engine.case import EDIT, UNDO, FindingKind
from fairlead.engine.rules import FieldRule
from fairlead.model.syncpolicy import Edits, OnUpdateConflict, Propagate, WhenEmpty
from fairlead.state.audit import AuditEntry, WriteKind
from fairlead.state.base import DISCARDED
from fairlead.worker.report import moment


def rule_of(rule: FieldRule) -> str:
    """The rule of a field in a sentence."""
    owner = rule.system_of_record
    if rule.condition is not None:
        owner = f"{rule.condition.then.system_of_record} (when {rule.condition.when.source}), else {owner}"
    if rule.edits is Edits.SYSTEM_OF_RECORD_ONLY:
        text = f"owned by {owner}, where alone it may be edited"
    else:
        text = f"owned by {owner}; it may be edited anywhere, and onConflict: {rule.on_conflict.value} decides"
    return text + ("; an empty value overwrites none" if rule.when_empty is WhenEmpty.KEEP else "")


def in_full(rule: str) -> str:
    """A rule of deletes with the field that it is a value of; any other as it is."""
    if rule in list(Propagate):
        return f"deletes.propagate: {rule}"
    return f"onUpdateConflict: {rule}" if rule in list(OnUpdateConflict) else rule


_LEAVING = "onLeave: "
_ENDING = (*Propagate, _LEAVING, "onUpdateConflict: ")
"""How the rules begin by which a record ends."""


class Wording(msgspec.Struct, frozen=True):
    """What is said of what was found, by its kind.

    Attributes:
        ended: where a record ended, so that no value stands; its last ones are told so.
        left: where it was not deleted, but takes part in a system no longer.
    """

    usual: dict[str, str]
    ended: dict[str, str]
    left: dict[str, str]

    def of(self, kind: str, rule: str, unknown: str) -> str:
        """The words for a kind that was found by a rule."""
        words = self.usual.get(kind, unknown)
        if rule.startswith(_LEAVING):
            words = self.left.get(kind, words)
        return self.ended.get(kind, words) if rule.startswith(_ENDING) else words


_FOUND = Wording(
    {
        FindingKind.CONFLICT: "a conflict was decided: {winner}'s value stands ({rule})",
        FindingKind.REVERTED: "an edit was reverted to {winner}'s value ({rule})",
        FindingKind.OVERWRITTEN: "another value was overwritten by {winner}'s ({rule})",
        FindingKind.FROZEN: "a conflict waits for a person ({rule})",
        FindingKind.RESOLVED: "a conflict was resolved ({rule})",
        FindingKind.REPAIRED: "{winner}'s value was restored ({rule})",
        FindingKind.KEPT: "it was emptied, and stays filled elsewhere ({rule})",
        FindingKind.DELETED: "it was deleted in {winner}, and is to go everywhere ({rule})",
        FindingKind.ARCHIVED: "it was deleted in {winner}, and so archived elsewhere ({rule})",
        FindingKind.STAYS_AWAY: "it is {rule}, and stays in {winner} as it is until it takes part there again",
        FindingKind.DELETE_NOT_SPREAD: "it was deleted in {winner}, and kept elsewhere ({rule})",
        FindingKind.LOSSY_FIELD: "{rule}",
        FindingKind.LINKED: "it is one record now, {rule}",
        FindingKind.SPLIT: "it is a record of its own now, {rule}",
        FindingKind.REPLACED: "it is no record any more, {rule}",
        DISCARDED: "a write that had failed was discarded by {rule}",
        FindingKind.RECREATED: "it was edited while {winner} deleted it, and came back ({rule})",
    },
    ended={
        FindingKind.CONFLICT: "an edit went nowhere, as the record ended ({rule})",
        FindingKind.OVERWRITTEN: "its value went nowhere, as the record ended ({rule})",
    },
    left={
        FindingKind.DELETED: "it takes part in {winner} no longer, and so was deleted everywhere ({rule})",
        FindingKind.ARCHIVED: "it takes part in {winner} no longer, and so was archived elsewhere ({rule})",
    },
)


def sentence(entry: AuditEntry) -> str:
    """An entry in words."""
    words = _written(entry) if entry.system else _found(entry)
    return f"{moment(entry.at)}: {words.format(winner=entry.winner, rule=in_full(entry.rule))}, in run {entry.run}"


def _found(entry: AuditEntry) -> str:
    if entry.kind == DISCARDED and entry.record < 0:
        return "it was discarded by {rule}"
    return _FOUND.of(entry.kind, entry.rule, f"{entry.kind} ({{rule}})")


def _written(entry: AuditEntry) -> str:
    undone = entry.rule.startswith(f"{UNDO} ")
    if entry.kind == WriteKind.CREATED:
        return f"it was created in {entry.system}" + (" by {rule}" if undone else "")
    if entry.kind == WriteKind.DELETED:
        return f"it was deleted in {entry.system}" + (" by {rule}" if undone else "")
    if entry.kind == WriteKind.ARCHIVED:
        return f"it was archived in {entry.system}"
    if undone:
        return f"{entry.system} got its old value back by {{rule}}"
    why = "where it was edited" if entry.rule == EDIT else "{rule}"
    return f"{entry.system} was given the value of {{winner}} ({why})"
