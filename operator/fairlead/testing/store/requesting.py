"""What a person asks of the worker that holds a store."""
# ruff: noqa: D102 - a test's name is its sentence, and assert is what it says

from __future__ import annotations

from collections.abc import Callable

import pytest

from fairlead.state.base import Commit, StateError, StateKeyWrong, StateMissing, Store
from fairlead.state.history import RunRecord
from fairlead.state.requests import Answer, RetryDeadLetters, request
from fairlead.testing.store.sample import KEY, LAYOUT, OTHER_KEY, WITH_VALUES, all_conflicts, values_of

FIRST, SECOND = (request("ada", RetryDeadLetters(writes=((number, "erp"),))) for number in (1, 2))
ABOUT_A_KEY = request("ada", RetryDeadLetters(records=(("crm", "a secret key"),)))
RUN = RunRecord("r", "Changes", 1.0, 1.0, "Succeeded", "", {})


class RequestTests:
    """A request is left beside the worker, and taken up once."""

    async def test_a_request_is_left_while_the_worker_holds_the_store(
        self, store: Store, again: Callable[[], Store]
    ) -> None:
        assert (await store.asked(), await store.requests()) == (False, [])
        beside = again()
        assert await beside.join([]) == LAYOUT
        for each in (FIRST, SECOND):
            await beside.ask(each)
        assert await store.asked()
        assert {asked.id: asked for asked in await store.requests()} == {FIRST.id: FIRST, SECOND.id: SECOND}
        await beside.close()

    async def test_an_answer_ends_its_request_with_its_effect(self, store: Store, again: Callable[[], Store]) -> None:
        beside = again()
        await beside.join([])
        await beside.ask(FIRST)
        assert await beside.answer(FIRST.id) is None
        answer = Answer(FIRST.id, 5.0, 1, ("crm/7 is none",))
        await store.commit(Commit(answers=[answer], meta={"effect": "done"}))
        assert (await beside.answer(FIRST.id), await beside.meta("effect")) == (answer, "done")
        assert (await store.requests(), await beside.asked()) == ([], False)
        await beside.close()

    async def test_who_reads_beside_the_worker_sees_what_it_does_and_changes_nothing(
        self, store: Store, again: Callable[[], Store]
    ) -> None:
        beside = again()
        await beside.join([])
        await store.commit(WITH_VALUES)
        assert await values_of(beside) == await values_of(store)
        with pytest.raises(StateError, match="only the worker changes it"):
            await beside.commit(Commit(thawed=[(1, "name")]))
        await beside.close()
        assert len(await all_conflicts(store)) == 1

    async def test_a_store_that_is_not_there_is_not_made(self, again: Callable[[], Store]) -> None:
        for _ in range(2):
            with pytest.raises(StateMissing):
                await again().join([])

    async def test_what_is_asked_is_sealed_with_the_key_that_the_worker_uses(
        self, store: Store, again: Callable[[], Store]
    ) -> None:
        await store.unlock([KEY])
        await store.commit(WITH_VALUES)
        with pytest.raises(StateKeyWrong, match="add that key"):
            await again().join([OTHER_KEY])
        beside = again()
        await beside.join([OTHER_KEY, KEY])
        assert await values_of(beside) == await values_of(store)
        await beside.ask(ABOUT_A_KEY)
        await beside.close()
        assert await store.requests() == [ABOUT_A_KEY]
        assert b"a secret key" not in b"".join([lines async for lines in store.export()])

    async def test_what_was_asked_about_an_erased_person_is_gone(self, store: Store) -> None:
        for each in (FIRST, ABOUT_A_KEY):
            await store.ask(each)
        await store.erase([("crm", "a secret key")], unseen=True)
        assert await store.requests() == [FIRST]

    async def test_answers_go_after_a_day(self, store: Store) -> None:
        await store.commit(Commit(answers=[Answer("old", 5.0)]))
        await store.record_run(RUN)
        assert await store.answer("old") is None
