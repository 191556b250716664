"""A state that is exported and imported."""
# ruff: noqa: D102 - a test's name is its sentence, and assert is what it says

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest

from fairlead.engine.case import Side
from fairlead.state.base import Commit, Recollection, StateError, Store
from fairlead.state.history import Counts, RunRecord
from fairlead.state.layout import Layout
from fairlead.testing.store.sample import (
    ALL,
    ASKED,
    KEY,
    LAYOUT,
    OTHER_KEY,
    all_conflicts,
    fill,
    prints,
    streamed,
)


class MovingTests:
    """What was exported can be imported, into another kind of store too."""

    async def test_what_was_exported_can_be_imported_and_exported_again(
        self, again: Callable[[], Store], elsewhere: Callable[[], Store]
    ) -> None:
        first = again()
        await first.open(LAYOUT)
        await fill(first)
        exported = [lines async for lines in first.export()]
        key = first.key
        await first.close()
        second = elsewhere()
        assert await second.restore(streamed(exported)) == 3
        assert second.key == key
        assert b"".join([lines async for lines in second.export()]) == b"".join(exported)
        await second.close()
        reopened = elsewhere()
        assert await reopened.open(LAYOUT) == frozenset()
        assert await reopened.known("crm") == 3
        await reopened.unlock([KEY])
        assert len(await all_conflicts(reopened)) == 1
        assert (await reopened.requests(), (await reopened.answer("an earlier request")) is None) == ([ASKED], False)
        await reopened.close()

    async def test_old_values_move_along(self, again: Callable[[], Store], elsewhere: Callable[[], Store]) -> None:
        layout = Layout(LAYOUT.fields, LAYOUT.systems, kept=("name",))
        side = Side("a", 1, prints(5, 6))
        record = Recollection(1, {"crm": side}, bases={"name": {prints(6): "old", prints(7): Decimal("1.50")}})
        first = again()
        await first.open(layout)
        await first.unlock([KEY])
        await first.commit(Commit(records=[record]))
        exported = [lines async for lines in first.export()]
        await first.close()
        second = elsewhere()
        await second.restore(streamed(exported))
        await second.unlock([OTHER_KEY, KEY])
        assert await second.recall([1]) == {1: record}
        await second.erase([("crm", "a")])
        assert await second.recall([1]) == {}
        await second.close()

    async def test_a_state_is_imported_into_an_empty_store_only(
        self, store: Store, elsewhere: Callable[[], Store]
    ) -> None:
        await fill(store)
        exported = [lines async for lines in store.export()]
        second = elsewhere()
        await second.open(LAYOUT)
        await second.record_run(RunRecord("r", "Changes", 1.0, 1.0, "Succeeded", "", {}))
        await second.close()
        second = elsewhere()
        with pytest.raises(StateError, match="not empty"):
            await second.restore(streamed(exported))
        await second.close()

    @pytest.mark.parametrize(
        ("spoil", "message"),
        [
            (lambda lines: lines[:0], "line 1 does not begin an exported state"),
            (lambda lines: [b"hello", *lines[1:]], "line 1 does not begin an exported state"),
            (lambda lines: [lines[0].replace(b'"version":1', b'"version":99'), *lines[1:]], "newer version"),
            (lambda lines: lines[:-1], "it was cut off"),
            (lambda lines: [*lines[:3], *lines[4:]], "holds .* lines, and does not"),
            (lambda lines: [*lines, lines[1]], "holds .* lines, and does not"),
            (lambda lines: [lines[0].replace(b'"erp":', b'"shop":'), *lines[1:]], "line 2 has a record that line 1"),
            (lambda lines: [*lines[:1], lines[1].replace(b'00"', b'"'), *lines[2:]], "line 2 has a record that line 1"),
            (lambda lines: [*lines[:2], b'{"type":"meta","name":"epoch","value":"0"}\n', *lines[3:]], "line 3 is not"),
            (lambda lines: [*lines[:2], b'{"type":"guess"}\n', *lines[3:]], "line 3 is not a line"),
            (lambda lines: [*lines[:2], b'{"type":"match","key":"5","record":1}\n', *lines[3:]], "line 3 is not a"),
        ],
    )
    async def test_a_file_that_is_not_whole_is_refused_as_a_whole(
        self,
        store: Store,
        elsewhere: Callable[[], Store],
        spoil: Callable[[list[bytes]], list[bytes]],
        message: str,
    ) -> None:
        await fill(store)
        lines = b"".join([lines async for lines in store.export()]).splitlines(keepends=True)
        second = elsewhere()
        with pytest.raises(StateError, match=message):
            await second.restore(streamed(spoil(lines)))
        await second.close()
        second = elsewhere()
        assert await second.open(LAYOUT) == ALL
        assert await second.counts() == Counts(0, 0, 0, 0, 0)
        await second.close()
