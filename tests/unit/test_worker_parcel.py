"""What came of a share is the same on the other side."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from fairlead.engine.case import Observation, Operation, Side, Write
from fairlead.model.record import Record
from fairlead.state import codec
from fairlead.state.audit import NEW, OLD, AuditEntry
from fairlead.state.base import StateError, Undelivered
from fairlead.state.referring import Orphan
from fairlead.transport.failure import Throttled
from fairlead.worker.parcel import Parcel, Share
from fairlead.worker.settlement import Lossy, Settlement
from fairlead.worker.tally import Note, SystemTally

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
VALUES = {"name": "Ada", "credit": Decimal("1.50"), "tags": ["a", "b"], "note": None, "open": True, "age": 7}
WRITE = Write(
    Operation.UPDATE, VALUES, {"name": "crm"}, {"name": NOON}, ("name",), {"name": (b"\x01" * 8,)}, ("credit",)
)
WHOLE = Settlement(
    sides={1: {"crm": Side("c1", -5, b"\x00\xff", "v1"), "erp": None}, 2: {"crm": Side("c2", None, b"", None)}},
    said={1: {"crm": VALUES}},
    delivered=[(1, "crm"), (2, "crm")],
    undelivered=[Undelivered(3, "crm", WRITE, 1.5, 2.5, 2, "Invalid", "too long", dead=True, held=True, run="r1")],
    reread={4: {"crm": Observation(Record("c4", VALUES, "v2", NOON, {"name": NOON, "note": None}), b"\x07", 9)}},
    missing={5: {"crm", "erp"}},
    away={6: {"crm"}},
    lossy={("crm", "name"): Lossy("crm", "name", 1, "Ada", Decimal("2.5"))},
)


def test_a_parcel_comes_back_as_it_was() -> None:
    tally = SystemTally(created=1, updated=2, deleted=3, failed=4)
    notes = [Note("NotDelivered", "crm/c3", "", "Invalid: too long", "")]
    audit = [AuditEntry(1.5, "r1", 1, "name", "Updated", "edit", "crm", {OLD: None, NEW: Decimal("2.5")}, "erp", 1)]
    read, orphans = [("crm", "c1"), ("erp", "K-1")], [Orphan("erp", "K-1", "customer", "K-9")]
    whole = Parcel(WHOLE, tally, notes, audit, None, read, orphans)
    assert Parcel.load(whole.dump()) == whole


def test_a_parcel_of_another_version_is_refused() -> None:
    """What it does not tell, such as what waits for another record, would be lost in silence."""
    older = codec.dump(codec.load(Parcel(WHOLE, SystemTally(), [], [], None).dump())[:5])
    with pytest.raises(StateError, match="another version"):
        Parcel.load(older)


def test_a_failure_comes_back_as_what_it_is() -> None:
    failure = Throttled("slower", reason="Busy", retry_after=1.5)
    found = Parcel.load(Parcel(Settlement(), SystemTally(), [], [], failure).dump()).failure
    assert found is not None
    assert (type(found), found.message, found.reason, found.retry_after) == (Throttled, "slower", "Busy", 1.5)


def test_a_share_comes_back_as_it_was() -> None:
    share = Share(7, "crm", Operation.CREATE, [1, 2], scanned=True, recovering=False)
    assert Share.load(share.dump()) == share


def test_a_share_holds_no_values() -> None:
    assert b"Ada" not in Share(7, "crm", Operation.CREATE, [1, 2], scanned=True, recovering=False).dump()


def test_settlements_of_parts_are_one_settlement() -> None:
    first = Settlement(sides={1: {"crm": Side("c1", 1, b"")}}, delivered=[(1, "crm")], missing={1: {"erp"}})
    first.take_in(WHOLE)
    assert first.sides == {1: {"crm": Side("c1", -5, b"\x00\xff", "v1"), "erp": None}, 2: WHOLE.sides[2]}
    assert first.delivered == [(1, "crm"), (1, "crm"), (2, "crm")]
    assert first.missing == {1: {"erp"}, 5: {"crm", "erp"}}
    assert (first.undelivered, first.reread, first.said) == (WHOLE.undelivered, WHOLE.reread, WHOLE.said)
    assert (first.away, first.lossy) == (WHOLE.away, WHOLE.lossy)


def test_nothing_of_a_settlement_or_a_tally_is_forgotten_on_the_way() -> None:
    """Whoever adds something to them adds it here, and to `Parcel`."""
    assert all(getattr(WHOLE, name) for name in Settlement.__struct_fields__)
    counts = dict.fromkeys(("created", "updated", "archived", "deleted", "failed"), 1)
    read_by_the_leader = {"read", "changed", "last_change", "skew", "passes_over", "whole", "reason", "message"}
    assert counts.keys() | read_by_the_leader == set(SystemTally.__struct_fields__)
    sum_ = SystemTally()
    sum_.add(SystemTally(**counts))
    assert sum_ == SystemTally(**counts)
