"""A batch that is written and settled in parts, and what goes along with it from the reading to the state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fairlead.state.base import Commit, StateError
from fairlead.state.sqlite import SQLiteStore
from fairlead.worker import sending
from fairlead.worker.reading import StoredPage
from support.policies import open_session, policy_of
from support.town import Town

RECORDS = 35


class Dying:
    """A store that ends with one commit, before it is done or after; what is asked of it from then on fails, too."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, number: int, *, done: bool) -> None:
        self.left = number
        commit = SQLiteStore.commit

        async def count(store: SQLiteStore, what: Commit) -> None:
            self.left -= 1
            if self.left > 0 or (self.left == 0 and done):
                await commit(store, what)
            if self.left <= 0:
                raise StateError("the worker died")

        monkeypatch.setattr(SQLiteStore, "commit", count)


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("number", range(1, 12))
async def test_wherever_a_worker_dies_every_part_arrives_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, done: bool
) -> None:
    monkeypatch.setattr(sending, "BATCH", 10)
    town = Town(tmp_path, "crm", "erp")
    for n in range(RECORDS):
        town.add("crm", f"{n}@x", name=f"name {n}")
    with monkeypatch.context() as patched:
        dying = Dying(patched, number, done=done)
        try:
            await town.run()
        except StateError:
            assert dying.left <= 0
    await town.run()
    await town.run()
    assert len(town["erp"].records) == RECORDS
    assert town.values("erp") == {f"{n}@x": f"name {n}" for n in range(RECORDS)}


async def test_a_part_is_settled_while_the_next_one_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "BATCH", 10)
    settled: list[list[int]] = []
    commit = SQLiteStore.commit

    async def note(store: SQLiteStore, what: Commit) -> None:
        settled.extend([what.settled] if what.settled else [])
        await commit(store, what)

    monkeypatch.setattr(SQLiteStore, "commit", note)
    town = Town(tmp_path, "crm", "erp")
    for n in range(RECORDS):
        town.add("crm", f"{n}@x", name=f"name {n}")
    await town.run()
    assert settled == [[1], [2], [3], [4]]


# --- fingerprints that go along ---

NATIVES: list[dict[str, Any]] = [
    {"email": "a@x", "name": "Ada", "credit": 12.5, "note": "n"},
    {"email": "a@x", "name": None, "credit": None, "note": ""},
    {"email": "a@x", "name": "A\u0308da", "credit": "012.50", "note": None},
]


@pytest.mark.parametrize("native", NATIVES)
async def test_a_record_has_the_same_fingerprints_in_systems_that_are_alike(
    tmp_path: Path, native: dict[str, Any]
) -> None:
    town = Town(tmp_path, "crm", "erp", "shop")
    narrow = {"email": "email", "name": "name"}
    policy = policy_of([{"name": "crm"}, {"name": "erp"}, {"name": "shop", "fields": narrow}])
    store = SQLiteStore(tmp_path / "other.db")
    session = await open_session(policy, town.systems, store, lambda: 0.0)
    observation = (await session.read("crm", StoredPage(["1"], [native], [None]), [0], [None])).observed[0]
    written = session.readers["erp"].prints([observation.record.values])
    assert (session.alike("crm", "erp"), session.alike("crm", "shop")) == (True, False)
    assert written == [observation.prints]
    await store.close()


@pytest.mark.parametrize("number", range(1, 5))
async def test_what_is_decided_anew_after_a_death_is_not_overwritten_by_a_later_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(sending, "BATCH", 1)  # so the writes of one record are in two parts
    town = Town(tmp_path, "crm", "erp", "shop")
    town.add("crm", "a@x", name="old")
    await town.run()
    town.edit("shop", "a@x", name="shop's")
    with monkeypatch.context() as patched:
        Dying(patched, number, done=True)
        with pytest.raises(StateError):
            await town.run()
    town.edit("crm", "a@x", name="newest")
    await town.run()
    await town.run()
    assert [town.values(name) for name in ("crm", "erp", "shop")] == [{"a@x": "newest"}] * 3
