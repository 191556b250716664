"""A policy's worker finds its state where the spec says, keeps others out of it, and gets over its failures."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest

from fairlead.model.syncpolicy import SyncPolicy
from fairlead.transport.secrets import MappingSecrets
from fairlead.worker.hosting import Host
from fairlead.worker.loop import PolicyLoop
from fairlead.worker.run import Outcome
from support.policies import Book, connection_of, policy_of

LOGIN = {"name": "login", "key": "user"}
BASIC = {"username": {"secretKeyRef": LOGIN}, "password": {"secretKeyRef": LOGIN}}


class Town:
    """Two books, one policy over them, and its state in a PostgreSQL database."""

    def __init__(self, folder: Path, dsn: str) -> None:
        server = psycopg.conninfo.conninfo_to_dict(dsn)
        self.crm, self.erp = Book(folder, "crm"), Book(folder, "erp")
        url = f"postgresql://{server['host']}:{server['port']}/{server['dbname']}?sslmode=disable"
        self.connections = {
            f"default/{name}": connection_of(name, f"sqlite:///{folder}/{name}.db") for name in ("crm", "erp")
        } | {"default/state": connection_of("state", url, auth={"basic": BASIC})}
        self.secrets = MappingSecrets({"login": {"user": str(server["user"])}})
        self.folder = folder
        self.policy = policy_of([{"name": "crm"}, {"name": "erp"}], state={"store": "Postgres", "connection": "state"})
        self.hosts: list[Host] = []

    def loop(self, **spec: Any) -> PolicyLoop:
        """The policy, as another process would run it."""
        self.hosts.append(Host(self.connections, {}, lambda _: self.secrets, self.folder / "state"))
        return PolicyLoop(self.changed(**spec), self.hosts[-1])

    def changed(self, **spec: Any) -> SyncPolicy:
        return msgspec.structs.replace(self.policy, spec=msgspec.structs.replace(self.policy.spec, **spec))

    async def close(self) -> None:
        for host in self.hosts:
            await host.close()
        await self.crm.close()
        await self.erp.close()


@pytest.fixture
async def town(tmp_path: Path, database: str) -> AsyncIterator[Town]:
    made = Town(tmp_path, database)
    yield made
    await made.close()


async def outcome(loop: PolicyLoop) -> Outcome | str:
    """How a run ended, or why there was none."""
    report = await loop.run_once()
    if report is not None:
        return report.outcome
    assert loop.measured.error is not None
    return loop.measured.error.reason


async def test_the_state_is_in_the_declared_database_and_nowhere_else(town: Town, database: str) -> None:
    town.crm.add("a@x.com", name="A")
    loop = town.loop()
    assert [await outcome(loop), await outcome(loop)] == [Outcome.SUCCEEDED] * 2
    with psycopg.connect(database) as reader:
        assert reader.execute("SELECT count(*) FROM fairlead_default_customers.record").fetchone() == (1,)
    assert town.erp.all() == {"a@x.com": ("A", None, None)}
    assert not (town.folder / "state").exists()


async def test_a_second_worker_is_kept_out_until_the_first_one_ends(town: Town) -> None:
    first, second = town.loop(), town.loop()
    assert [await outcome(first), await outcome(second)] == [Outcome.SUCCEEDED, "StateLocked"]
    await town.hosts[0].close()
    assert await outcome(second) == Outcome.SUCCEEDED
    assert second.measured.error is None


async def test_a_server_that_broke_the_connection_between_two_runs_is_not_noticed(town: Town, database: str) -> None:
    loop = town.loop()
    await outcome(loop)
    town.crm.add("a@x.com", name="A")
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    assert await outcome(loop) == Outcome.SUCCEEDED
    assert list(town.erp.all()) == ["a@x.com"]


async def test_a_state_that_is_back_is_used_again(town: Town, database: str) -> None:
    loop = town.loop()
    await outcome(loop)
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute("ALTER SCHEMA fairlead_default_customers RENAME TO away")
        assert await outcome(loop) == "StateCorrupted"
        admin.execute("DROP SCHEMA IF EXISTS fairlead_default_customers CASCADE")
        admin.execute("ALTER SCHEMA away RENAME TO fairlead_default_customers")
    assert await outcome(loop) == Outcome.SUCCEEDED


async def test_a_wrong_password_is_told_with_the_secret_to_mend(town: Town) -> None:
    town.secrets = MappingSecrets({})
    loop = town.loop()
    assert await outcome(loop) == "StateUnavailable"
    assert loop.measured.error is not None
    assert "Secret 'login' has no key 'user'" in loop.measured.error.message
    town.hosts[0]._stores._sessions["default/state"]._secrets = MappingSecrets({"login": {"user": "postgres"}})
    assert await outcome(loop) == Outcome.SUCCEEDED


async def test_a_plan_leaves_the_state_alone(town: Town, database: str) -> None:
    town.crm.add("a@x.com", name="A")
    planning = town.loop(mode="Plan")
    planning.policy = msgspec.convert(msgspec.to_builtins(planning.policy), SyncPolicy)
    assert await outcome(planning) == Outcome.SUCCEEDED
    assert planning.plan is not None
    assert (planning.plan.count, town.erp.all()) == (1, {})
    with psycopg.connect(database) as reader:
        assert reader.execute("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'fairlead%'").fetchone() == (0,)
