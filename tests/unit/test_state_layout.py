"""Fingerprints are folded into one string per record, and every side is unfolded from it as it was."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fairlead.engine.fingerprint import UNSEEN, WIDTH
from fairlead.state.layout import Folding, Layout, SystemLayout

FIELDS = ("name", "note", "city")
MAPPED = {"crm": FIELDS, "erp": FIELDS, "shop": FIELDS[:2]}
SYSTEMS = {name: SystemLayout(name, dict.fromkeys(fields, "")) for name, fields in MAPPED.items()}
FOLDING = Folding(Layout(FIELDS, SYSTEMS))


def prints(system: str, *values: int) -> bytes:
    """Fingerprints of a system's side; those of fields that it does not map are unseen."""
    mapped = len(MAPPED[system])
    return b"".join([value.to_bytes(WIDTH, "big") for value in values[:mapped]]) + UNSEEN * (len(FIELDS) - mapped)


@st.composite
def columns(draw: Any) -> dict[str, list[bytes | None]]:
    """What some systems have of some records; mostly the same."""
    systems = draw(st.lists(st.sampled_from(sorted(MAPPED)), min_size=1, unique=True))
    values = st.tuples(*(st.sampled_from([1, 1, 1, 2]) for _ in FIELDS))
    count = draw(st.integers(1, 4))
    absent = draw(st.sampled_from([False, False, True]))
    return {
        name: [None if absent and draw(st.booleans()) else prints(name, *draw(values)) for _ in range(count)]
        for name in systems
    }


@given(columns())
def test_what_is_folded_is_unfolded(its: dict[str, list[bytes | None]]) -> None:
    shared, own = FOLDING.fold(its)
    unfolded = {
        name: [None if there is None else FOLDING.unfold(name, *parts) for there, *parts in rows]
        for name, rows in ((name, zip(its[name], shared, own[name], strict=True)) for name in its)
    }
    assert unfolded == its


def test_systems_that_agree_have_nothing_of_their_own() -> None:
    whole = [prints("crm", 1, 2, 3), prints("crm", 4, 5, 6)]
    assert FOLDING.fold({"crm": whole, "erp": whole, "shop": [None, None]}) == (
        whole,
        {"crm": [None, None], "erp": [None, None], "shop": [None, None]},
    )


def test_a_system_that_maps_fewer_fields_has_nothing_of_its_own_either() -> None:
    shared, own = FOLDING.fold({"crm": [prints("crm", 1, 2, 3)], "shop": [prints("shop", 1, 2)]})
    assert (shared, own) == ([prints("crm", 1, 2, 3)], {"crm": [None], "shop": [None]})


def test_what_differs_is_kept_beside_the_shared_string() -> None:
    one, other = prints("crm", 1, 2, 3), prints("erp", 1, 2, 4)
    assert FOLDING.fold({"crm": [one], "erp": [other]}) == ([one], {"crm": [None], "erp": [other]})
