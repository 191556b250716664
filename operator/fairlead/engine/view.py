"""View: one field of one record in one system, as the rules look at it."""

from __future__ import annotations

from datetime import datetime

import msgspec

from fairlead.engine.fingerprint import UNSEEN
from fairlead.model.record import Value


class View(msgspec.Struct, frozen=True, gc=False):
    """One field of one record in one system.

    Attributes:
        system: its name, or for an undelivered value of no system `arbiter.MERGED` or `arbiter.COMPUTED`.
        reads: whether the system's changes count.
        writable: whether the field may be written there; where not, an edit is made without knowing the others' value.
        seen: fingerprint last read or written there; UNSEEN when never.
        now: fingerprint as it is now, as far as is known.
        known: whether `value` was read now.
        modified: when the field, else the record, last changed there; None where the system does not tell.
    """

    system: str
    reads: bool
    seen: bytes
    now: bytes
    known: bool = False
    value: Value = None
    modified: datetime | None = None
    writable: bool = True

    @property
    def changed(self) -> bool:
        """Edited there since it was last seen."""
        return self.known and self.reads and self.seen not in (UNSEEN, self.now)

    @property
    def met(self) -> bool:
        """Read there for the first time: a difference is not a change."""
        return self.known and self.seen == UNSEEN

    @property
    def unread(self) -> bool:
        """Never read there: nothing can be said of it."""
        return not self.known and self.seen == UNSEEN

    @property
    def strayed(self) -> bool:
        """Edited in a system whose edits do not count."""
        return self.known and not self.reads and self.seen not in (UNSEEN, self.now)
