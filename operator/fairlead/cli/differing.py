"""Why systems that have a record say different things of a field, as far as the audit and the policy tell."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from fairlead.engine.case import UNDO, FindingKind
from fairlead.model.syncpolicy import FirstSync
from fairlead.state.audit import AuditEntry, WriteKind
from fairlead.state.base import DISCARDED
from fairlead.worker.settlement import STORES_OTHERWISE

UNKNOWN = "it differs from another system"
_FIRST_SYNC = (
    "it differs from another system since they first met, and stays so until someone changes it "
    f"(firstSync: {FirstSync.FILL_EMPTY_ONLY.value})"
)


class Past(msgspec.Struct):
    """What the audit tells of one record.

    Attributes:
        last: field, or nothing for the whole record → the last entry.
        written: field → the systems to which the run of the last entry wrote it.
        created: the systems where the record was created.
    """

    last: dict[str, AuditEntry] = {}
    written: dict[str, set[str]] = {}
    created: set[str] = set()

    def add(self, entry: AuditEntry) -> None:
        """Takes the next entry, from the newest on."""
        last = self.last.setdefault(entry.field, entry)
        system = entry.winner if entry.kind == FindingKind.LOSSY_FIELD else entry.system
        if system and entry.run == last.run:
            self.written.setdefault(entry.field, set()).add(system)
        if entry.kind == WriteKind.CREATED:
            self.created.add(entry.system)

    def why(
        self, name: str, systems: Collection[str], lossy: Collection[str], first_sync: FirstSync | None
    ) -> dict[str, str]:
        """System → why its value of a field differs from others.

        Args:
            name: the field.
            systems: those whose values differ.
            lossy: `SYSTEM/FIELD` of what is known to store another value than it is given.
            first_sync: the policy's, where these are all that have the field.
        """
        last = self.last.get(name)
        if last is not None and last.kind == DISCARDED:  # an older one is no reason any more
            given_up = f"what was to be written there was discarded by {last.rule}"
            return {system: given_up if system in last.values else UNKNOWN for system in systems}
        if last is not None and (last.kind == FindingKind.KEPT or last.rule.startswith(f"{UNDO} ")):
            return dict.fromkeys(systems, UNKNOWN)  # the last entry itself says it
        written = self.created if last is None else self.written.get(name, set())
        losing = [system for system in sorted(written) if f"{system}/{name}" in lossy]
        if losing:
            other = f"it differs from {' and '.join(losing)}, where it is stored otherwise than it was written"
            return {system: f"it {STORES_OTHERWISE}" if system in losing else other for system in systems}
        return dict.fromkeys(systems, _FIRST_SYNC if first_sync is FirstSync.FILL_EMPTY_ONLY else UNKNOWN)
