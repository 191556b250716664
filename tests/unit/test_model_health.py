"""What a policy's measurements mean."""

import pytest

from fairlead.model.health import Halted, Measured, PolicyReason, SystemHealth, WorkerError, conclude
from fairlead.model.syncpolicy import Mode

GOOD = {"last_sync_time": "2026-01-01T00:00:00Z", "records": 3, "conflicts": 0, "dead_letters": 0, "pending": 0}


@pytest.mark.parametrize(
    ("measured", "ready", "reason"),
    [
        (Measured(**GOOD), True, PolicyReason.IN_SYNC),
        (Measured(), False, PolicyReason.STARTING),
        (Measured(**GOOD | {"conflicts": 1}), True, PolicyReason.CONFLICTS_PENDING),
        (Measured(**GOOD | {"dead_letters": 1}), True, PolicyReason.DEAD_LETTERS),
        (Measured(**GOOD | {"pending": 1}), True, PolicyReason.CATCHING_UP),
        (Measured(**GOOD, halted=Halted("p", "held", 3)), False, PolicyReason.HALTED),
        (
            Measured(**GOOD, systems=(SystemHealth("erp", False, "Timeout", "slow"),)),
            False,
            PolicyReason.SYSTEM_UNAVAILABLE,
        ),
        (Measured(**GOOD, error=WorkerError("StateFull", "full")), False, PolicyReason.STATE_UNAVAILABLE),
    ],
)
def test_a_measurement_has_one_conclusion(measured: Measured, ready: bool, reason: PolicyReason) -> None:
    found = conclude(measured, Mode.ENFORCE)
    assert (found.ready, found.reason) == (ready, reason)


def test_what_stops_delivery_comes_before_what_waits_for_a_person() -> None:
    measured = Measured(**GOOD | {"conflicts": 1}, halted=Halted("p", "held", 3))
    assert conclude(measured, Mode.ENFORCE).reason is PolicyReason.HALTED


def test_a_policy_without_a_good_run_in_time_is_stale() -> None:
    found = conclude(Measured(**GOOD), Mode.ENFORCE, stale=True)
    assert (found.ready, found.reason) == (False, PolicyReason.STALE)


def test_a_plan_that_would_write_says_so() -> None:
    assert conclude(Measured(**GOOD, planned=2), Mode.PLAN).reason is PolicyReason.CHANGES_PLANNED


def test_the_message_names_the_system_that_is_down_and_why() -> None:
    measured = Measured(
        **GOOD, systems=(SystemHealth("crm", True), SystemHealth("erp", False, "Timeout", "erp is slow"))
    )
    assert conclude(measured, Mode.ENFORCE).message == "erp: erp is slow"
