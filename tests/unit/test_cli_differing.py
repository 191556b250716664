"""Why systems say different things of a field, out of what the audit tells."""

from __future__ import annotations

import pytest

from fairlead.cli.differing import UNKNOWN, Past
from fairlead.model.syncpolicy import FirstSync
from fairlead.state.audit import AuditEntry

LOSSY = frozenset({"erp/name"})
STORED = "it stores it otherwise than it was written: that counts as seen, and is not written again"
BESIDE = "it differs from erp, where it is stored otherwise than it was written"


def entry(kind: str, field: str = "name", rule: str = "edit", system: str = "", run: str = "r1") -> AuditEntry:
    return AuditEntry(1.0, run, 1, field, kind, rule, "crm", {"erp": "x"}, system)


@pytest.mark.parametrize(
    ("newest_first", "expected"),
    [
        ([entry("Updated", system="erp")], [BESIDE, STORED]),
        ([entry("Created", "", "", "erp")], [BESIDE, STORED]),
        ([entry("Updated", system="shop"), entry("Updated", system="erp")], [BESIDE, STORED]),
        ([entry("Updated", system="shop", run="r2"), entry("Updated", system="erp")], [UNKNOWN, UNKNOWN]),
        ([entry("Updated", rule="undo r0", system="erp")], [UNKNOWN, UNKNOWN]),
        ([entry("Kept", rule="whenEmpty: Keep")], [UNKNOWN, UNKNOWN]),
        (
            [entry("Discarded", rule="ada: Invalid"), entry("Updated", system="erp")],
            [UNKNOWN, "what was to be written there was discarded by ada: Invalid"],
        ),
        ([], [UNKNOWN, UNKNOWN]),
    ],
)
def test_the_newest_word_of_the_audit_is_the_reason(newest_first: list[AuditEntry], expected: list[str]) -> None:
    past = Past()
    for each in newest_first:
        past.add(each)
    why = past.why("name", ["crm", "erp"], LOSSY, FirstSync.SYSTEM_OF_RECORD_WINS)
    assert why == dict(zip(["crm", "erp"], expected, strict=True))
