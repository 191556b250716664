"""What `fairlead explain` says of an entry of the audit."""

import pytest

from fairlead.cli.words import sentence
from fairlead.engine.case import FindingKind
from fairlead.state.audit import AuditEntry


def told(kind: str, rule: str) -> str:
    """What is said between the moment and the run."""
    whole = sentence(AuditEntry(0.0, "r1", 1, "name", kind, rule, "erp", {}))
    return whole.removeprefix("1970-01-01T00:00:00Z: ").removesuffix(", in run r1")


@pytest.mark.parametrize("kind", [kind for kind in FindingKind if kind is not FindingKind.CLOCK_SKEW])
def test_every_kind_that_is_audited_has_words(kind: FindingKind) -> None:
    assert kind.value not in told(kind, "the rule")


@pytest.mark.parametrize(
    ("kind", "rule", "expected"),
    [
        (FindingKind.CONFLICT, "LatestWins", "a conflict was decided: erp's value stands (LatestWins)"),
        (
            FindingKind.CONFLICT,
            "onUpdateConflict: DeleteWins",
            "an edit went nowhere, as the record ended (onUpdateConflict: DeleteWins)",
        ),
        (
            FindingKind.OVERWRITTEN,
            "FromAny",
            "its value went nowhere, as the record ended (deletes.propagate: FromAny)",
        ),
        (FindingKind.DELETED, "FromAny", "it was deleted in erp, and is to go everywhere (deletes.propagate: FromAny)"),
        (
            FindingKind.DELETED,
            "onLeave: Delete",
            "it takes part in erp no longer, and so was deleted everywhere (onLeave: Delete)",
        ),
        (
            FindingKind.RECREATED,
            "UpdateWins",
            "it was edited while erp deleted it, and came back (onUpdateConflict: UpdateWins)",
        ),
    ],
)
def test_a_finding_is_told_with_the_rule_that_decided(kind: FindingKind, rule: str, expected: str) -> None:
    assert expected == told(kind, rule)
