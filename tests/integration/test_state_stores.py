"""A policy's worker finds its state where the spec says, keeps others out of it, and gets over its failures."""

from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest

from fairlead.worker.run import Outcome
from support.hosted import SEALING, Hosted, outcome


@pytest.fixture
async def hosted(tmp_path: Path, database: str) -> AsyncIterator[Hosted]:
    made = Hosted(tmp_path, database)
    yield made
    await made.close()


async def test_the_state_is_in_the_declared_database_and_nowhere_else(hosted: Hosted, database: str) -> None:
    hosted.crm.add("a@x.com", name="A")
    loop = hosted.loop()
    assert [await outcome(loop), await outcome(loop)] == [Outcome.SUCCEEDED] * 2
    with psycopg.connect(database) as reader:
        assert reader.execute("SELECT count(*) FROM fairlead_default_customers.record").fetchone() == (1,)
    assert hosted.erp.all() == {"a@x.com": ("A", None, None)}
    assert not hosted.state.exists()


async def test_a_second_worker_is_kept_out_until_the_first_one_ends(hosted: Hosted) -> None:
    first, second = hosted.loop(), hosted.loop()
    assert [await outcome(first), await outcome(second)] == [Outcome.SUCCEEDED, "StateLocked"]
    await hosted.hosts[0].close()
    assert await outcome(second) == Outcome.SUCCEEDED
    assert second.measured.error is None


async def test_a_server_that_broke_the_connection_between_two_runs_is_not_noticed(
    hosted: Hosted, database: str
) -> None:
    loop = hosted.loop()
    await outcome(loop)
    hosted.crm.add("a@x.com", name="A")
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    assert await outcome(loop) == Outcome.SUCCEEDED
    assert list(hosted.erp.all()) == ["a@x.com"]


async def test_a_state_that_is_back_is_used_again(hosted: Hosted, database: str) -> None:
    loop = hosted.loop()
    await outcome(loop)
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute("ALTER SCHEMA fairlead_default_customers RENAME TO away")
        assert await outcome(loop) == "StateCorrupted"
        admin.execute("DROP SCHEMA IF EXISTS fairlead_default_customers CASCADE")
        admin.execute("ALTER SCHEMA away RENAME TO fairlead_default_customers")
    assert await outcome(loop) == Outcome.SUCCEEDED


async def test_a_wrong_password_is_told_with_the_secret_to_mend(hosted: Hosted) -> None:
    user = hosted.values.pop("login")
    loop = hosted.loop()
    assert await outcome(loop) == "StateUnavailable"
    assert loop.measured.error is not None
    assert "Secret 'login' does not exist" in loop.measured.error.message
    hosted.values["login"] = user
    assert await outcome(loop) == Outcome.SUCCEEDED


async def test_a_plan_leaves_the_state_alone(hosted: Hosted, database: str) -> None:
    hosted.crm.add("a@x.com", name="A")
    planning = hosted.loop(mode="Plan")
    assert await outcome(planning) == Outcome.SUCCEEDED
    assert planning.plan is not None
    assert (planning.plan.count, hosted.erp.all()) == (1, {})
    with psycopg.connect(database) as reader:
        assert reader.execute("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'fairlead%'").fetchone() == (0,)


# --- the key that seals its values ---


async def test_a_key_is_rotated_while_the_worker_runs(hosted: Hosted) -> None:
    hosted.values["sealing"] = {"keys": "first key of thirty-two characters"}
    loop = hosted.loop(state=SEALING)
    assert await outcome(loop) == Outcome.SUCCEEDED
    hosted.values["sealing"] = {"keys": "second key of thirty-two characters\nfirst key of thirty-two characters"}
    assert await outcome(loop) == Outcome.SUCCEEDED
    hosted.values["sealing"] = {"keys": "second key of thirty-two characters"}
    assert await outcome(loop) == Outcome.SUCCEEDED


async def test_a_wrong_key_stops_the_worker_until_the_right_one_is_back(hosted: Hosted) -> None:
    hosted.values["sealing"] = {"keys": "first key of thirty-two characters"}
    loop = hosted.loop(state=SEALING)
    await outcome(loop)
    hosted.crm.add("a@x.com", name="A")
    hosted.values["sealing"] = {"keys": "another key of thirty-two characters"}
    assert await outcome(loop) == "StateKeyWrong"
    assert hosted.erp.all() == {}
    del hosted.values["sealing"]
    assert await outcome(loop) == "StateKeyWrong"
    hosted.values["sealing"] = {"keys": "first key of thirty-two characters"}
    assert await outcome(loop) == Outcome.SUCCEEDED
    assert list(hosted.erp.all()) == ["a@x.com"]


async def test_a_key_that_is_too_short_is_told(hosted: Hosted) -> None:
    hosted.values["sealing"] = {"keys": "short"}
    loop = hosted.loop(state=SEALING)
    assert await outcome(loop) == "StateKeyWrong"
    assert loop.measured.error is not None
    assert "is a key of 5 bytes: write at least 32 random bytes" in loop.measured.error.message
