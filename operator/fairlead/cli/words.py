"""Words: a field's rule, and an entry of the audit, as `fairlead explain` tells them."""

from __future__ import annotations

from fairlead.engine.case import EDIT, UNDO, FindingKind
from fairlead.engine.rules import FieldRule
from fairlead.model.syncpolicy import Edits, WhenEmpty
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


_FOUND: dict[str, str] = {
    FindingKind.CONFLICT: "a conflict was decided: {winner}'s value stands ({rule})",
    FindingKind.REVERTED: "an edit was reverted to {winner}'s value ({rule})",
    FindingKind.OVERWRITTEN: "another value was overwritten by {winner}'s ({rule})",
    FindingKind.FROZEN: "a conflict waits for a person ({rule})",
    FindingKind.RESOLVED: "a conflict was resolved ({rule})",
    FindingKind.REPAIRED: "{winner}'s value was restored ({rule})",
    FindingKind.KEPT: "it was emptied, and stays filled elsewhere ({rule})",
    FindingKind.DELETED: "it was deleted in {winner}, and so everywhere (deletes.propagate: {rule})",
    FindingKind.DELETE_NOT_SPREAD: "it was deleted in {winner}, and kept elsewhere (deletes.propagate: {rule})",
    FindingKind.LOSSY_FIELD: "{rule}",
    FindingKind.LINKED: "it is one record now, {rule}",
    FindingKind.SPLIT: "it is a record of its own now, {rule}",
    FindingKind.REPLACED: "it is no record any more, {rule}",
    DISCARDED: "a write that had failed was discarded by {rule}",
    FindingKind.RECREATED: "it was edited while {winner} deleted it, and came back ({rule})",
}


def sentence(entry: AuditEntry) -> str:
    """An entry in words."""
    words = _written(entry) if entry.system else _found(entry)
    return f"{moment(entry.at)}: {words.format(winner=entry.winner, rule=entry.rule)}, in run {entry.run}"


def _found(entry: AuditEntry) -> str:
    if entry.kind == DISCARDED and entry.record < 0:
        return "it was discarded by {rule}"
    return _FOUND.get(entry.kind, f"{entry.kind} ({{rule}})")


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
