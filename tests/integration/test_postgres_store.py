"""The PostgreSQL store keeps the contract, and only one worker can ever write to it."""

import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path

import psycopg
import pytest

from fairlead.engine.case import Side
from fairlead.state.audit import AuditEntry
from fairlead.state.base import (
    STALE,
    Commit,
    StateCorrupted,
    StateError,
    StateFull,
    StateLocked,
    StateNewer,
    Store,
)
from fairlead.state.history import RunRecord
from fairlead.state.postgres import PostgresStore
from fairlead.state.postgres_schema import IDENTIFIER, schema_name
from fairlead.state.sqlite import SQLiteStore
from fairlead.testing.store import LAYOUT, StoreSuite, prints, recollection

SCHEMA = "fairlead_revops_customers"
ONE = Commit(records=[recollection(1, crm=Side("a", 1, prints(1, 2)))])


def connecting(dsn: str) -> Callable[[], Awaitable[psycopg.AsyncConnection]]:
    return lambda: psycopg.AsyncConnection.connect(dsn, autocommit=True, prepare_threshold=None)


def store_of(dsn: str, schema: str = SCHEMA, *, scratch: bool = False) -> PostgresStore:
    return PostgresStore(connecting(dsn), schema, "localhost/state", scratch=scratch)


class TestPostgresStore(StoreSuite):
    @pytest.fixture
    def again(self, state_database: str) -> Callable[[], Store]:
        schema = f"s{uuid.uuid4().hex}"
        return lambda: store_of(state_database, schema)

    @pytest.fixture
    def elsewhere(self, tmp_path: Path) -> Callable[[], Store]:
        return lambda: SQLiteStore(tmp_path / "state.db")


@pytest.fixture
async def store(database: str):
    made = store_of(database)
    await made.open(LAYOUT)
    yield made
    await made.close()


async def terminate(store: PostgresStore, database: str) -> None:
    """Breaks a store's connection, as a failover or a firewall does."""
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as admin:
        await admin.execute("SELECT pg_terminate_backend(%s, 5000)", (store._connection.info.backend_pid,))


# --- no more room than it needs ---


RUN = RunRecord("r", "Changes", 1.0, 2.0, "Succeeded", "", {})
MANY = 6000


async def copy_first(store: PostgresStore) -> None:
    """Stores many records, and replaces each of them once."""
    for sides in ({"crm": "c"}, {"crm": "c", "erp": "e"}):
        for start in range(1, MANY, 1000):
            numbers = range(start, start + 1000)
            records = [
                recollection(n, **{name: Side(f"{mark}{n}", n, prints(n, n)) for name, mark in sides.items()})
                for n in numbers
            ]
            await store.commit(Commit(records=records, matches=[(n * 7919, n) for n in numbers]))


def room(database: str) -> int:
    with psycopg.connect(database, autocommit=True) as admin:
        (size,) = admin.execute("SELECT pg_total_relation_size(%s)", (f"{SCHEMA}.record",)).fetchone()
        return size


async def test_what_a_first_copy_replaced_takes_no_room_when_it_ends(store, database: str) -> None:
    await copy_first(store)
    await store.record_run(RUN)
    left = room(database)
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute(f"VACUUM (FULL) {SCHEMA}.record")
    assert left == room(database)


async def test_who_reads_the_state_holds_up_no_run_and_the_next_one_makes_room(store, database: str) -> None:
    await copy_first(store)
    full = room(database)
    with psycopg.connect(database) as reader:
        reader.execute(f"SELECT 1 FROM {SCHEMA}.record LIMIT 1")
        await store.record_run(RUN)
    assert (room(database), await store.history(1)) == (full, [RUN])
    await store.record_run(RUN)
    assert room(database) < full


# --- one writer ---


async def test_a_worker_whose_connection_broke_goes_on_if_nobody_took_over(store, database: str) -> None:
    await store.commit(ONE)
    await terminate(store, database)
    assert await store.known("crm") == 1
    await store.commit(Commit(checkpoints={"crm": "c"}))
    assert await store.checkpoint("crm") == "c"


async def test_a_transaction_that_broke_is_given_up_and_the_next_one_goes_on(store, database: str) -> None:
    await terminate(store, database)
    with pytest.raises(StateError, match="nothing was lost"):
        await store.commit(ONE)
    assert await store.known("crm") == 0
    await store.commit(ONE)
    assert await store.known("crm") == 1


async def test_a_worker_that_wakes_up_after_another_took_over_cannot_commit(store, database: str) -> None:
    await terminate(store, database)
    second = store_of(database)
    await second.open(LAYOUT)
    with pytest.raises(StateLocked, match="in use by another worker"):
        await store.commit(ONE)
    assert await second.known("crm") == 0
    await second.close()
    with pytest.raises(StateLocked, match="taken over by another worker"):
        await store.commit(ONE)
    with pytest.raises(StateLocked, match="taken over by another worker"):
        await store.known("crm")


async def test_a_worker_that_lost_its_lock_but_not_its_connection_cannot_commit(store, database: str) -> None:
    await store._connection.execute("SELECT pg_advisory_unlock_all()")
    second = store_of(database)
    await second.open(LAYOUT)
    with pytest.raises(StateLocked, match="taken over by another worker"):
        await store.commit(ONE)
    assert await second.known("crm") == 0
    await second.commit(ONE)
    await second.close()


async def test_nobody_takes_over_in_the_middle_of_a_transaction(store, database: str) -> None:
    await store._connection.execute("SELECT pg_advisory_unlock_all()")
    async with store._transaction():
        await store._apply(store._rows.steps(ONE, 0.0))
        second = PostgresStore(connecting(f"{database} options='-c lock_timeout=200ms'"), SCHEMA, "localhost/state")
        with pytest.raises(StateError, match="locked by a transaction"):
            await second.open(LAYOUT)
        await second.close()
    assert await store.known("crm") == 1


async def test_the_message_names_the_worker_that_holds_the_state(store, database: str) -> None:
    second = store_of(database)
    with pytest.raises(StateLocked, match=r"fairlead_revops_customers on localhost/state .* \(process \d+ on .+\)"):
        await second.open(LAYOUT)
    await second.close()


# --- the schema ---


def test_schemas_have_readable_names_that_fit_and_differ() -> None:
    long = [f"{'n' * 63}/{'p' * 51}{last}" for last in "ab"]
    names = [schema_name(policy) for policy in long]
    assert schema_name("revops/customers") == "fairlead_revops_customers"
    assert [len(name) for name in names] == [IDENTIFIER] * 2
    assert names[0] != names[1]


async def test_policies_of_one_database_do_not_meet(store, database: str) -> None:
    other = store_of(database, 'fairlead_revops_"orders"')
    await other.open(LAYOUT)
    await store.commit(ONE)
    assert (await store.known("crm"), await other.known("crm")) == (1, 0)
    await other.close()


async def test_a_schema_of_a_newer_version_is_refused(store, database: str) -> None:
    await store._connection.execute("UPDATE meta SET value = '99' WHERE name = 'version'")
    await store.close()
    with pytest.raises(StateNewer, match="newer version"):
        await store_of(database).open(LAYOUT)
    with pytest.raises(StateNewer, match="newer version"):
        await store_of(database, scratch=True).open(LAYOUT)


async def test_a_user_without_rights_is_told_which(postgres: str, database: str) -> None:
    role = f"r{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {role} LOGIN")
        try:
            with pytest.raises(StateError, match="GRANT CREATE, TEMPORARY ON DATABASE"):
                await store_of(f"{database} user={role}").open(LAYOUT)
        finally:
            admin.execute(f"DROP ROLE {role}")


async def test_a_dropped_table_is_told_apart(store) -> None:
    await store._connection.execute("DROP TABLE record")
    with pytest.raises(StateCorrupted, match="drop the schema"):
        await store.known("crm")


async def test_a_server_that_cannot_be_reached_is_said_so(database: str) -> None:
    unreachable = store_of(f"{database} port=1")
    with pytest.raises(StateError, match="cannot be reached"):
        await unreachable.open(LAYOUT)


async def test_a_full_disk_changes_nothing_and_says_so(store) -> None:
    """The server's own answer to a full disk (53100), given by a trigger: filling a disk takes long."""
    await store._connection.execute(
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$; "
        "CREATE TRIGGER full_disk BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION full_disk()"
    )
    entry = AuditEntry(1.0, "r1", 1, "name", "Conflict", "onConflict: Manual", "", {})
    with pytest.raises(StateFull, match="has no space left: free some, or enlarge its disk; nothing was lost"):
        await store.commit(Commit(records=ONE.records, audit=[entry]))
    assert await store.known("crm") == 0
    await store.commit(ONE)


async def test_a_standby_that_only_reads_is_said_so(store) -> None:
    await store._connection.execute("SET default_transaction_read_only = on")
    with pytest.raises(StateError, match=r"point the Connection's spec\.url at the primary"):
        await store.commit(ONE)


# --- what else differs from a file ---


async def test_text_may_hold_what_postgresql_cannot(store) -> None:
    keys = ["nul\x00key", "back\\slash", "both\\0\x00\\", "\\\\0", 'ünïcode{},"']
    records = [recollection(n, crm=Side(key, n, prints(1, 2))) for n, key in enumerate(keys, 1)]
    await store.commit(Commit(records=records))
    assert (await store.lookup("crm", keys)).records == [1, 2, 3, 4, 5]
    assert [item.sides["crm"].key for _, item in sorted((await store.recall(range(1, 6))).items())] == keys


async def test_a_scratch_store_is_a_copy_that_leaves_the_schema_alone(store, database: str) -> None:
    await store.commit(Commit(records=ONE.records, meta={STALE: None}))
    scratch = store_of(database, scratch=True)
    assert await scratch.open(LAYOUT) == frozenset()
    await scratch.commit(Commit(records=[recollection(2, crm=Side("b", 1, prints(1, 2)))]))
    assert (await scratch.known("crm"), await store.known("crm")) == (2, 1)
    await scratch.close()


async def test_a_scratch_store_of_nothing_is_empty_and_makes_nothing(database: str) -> None:
    scratch = store_of(database, scratch=True)
    assert await scratch.open(LAYOUT) == frozenset(LAYOUT.systems)
    await scratch.commit(ONE)
    assert await scratch.known("crm") == 1
    await scratch.close()
    with psycopg.connect(database) as reader:
        assert reader.execute("SELECT count(*) FROM pg_namespace WHERE nspname = %s", (SCHEMA,)).fetchone() == (0,)


async def test_a_lookup_of_thousands_of_keys_uses_the_index_without_statistics(store) -> None:
    records = [recollection(n, crm=Side(f"k{n}", n, prints(1, 2))) for n in range(1, 20_000)]
    await store.commit(Commit(records=records))
    n = store._rows.slots["crm"]
    query = f"EXPLAIN SELECT j.key, r.id FROM {store.TEXTS} record r ON r.k{n} = j.value".replace("?", "%s")
    rows = await store._connection.execute(query, ([f"k{n}" for n in range(5000)],))
    plan = "\n".join(row[0] for row in await rows.fetchall())
    assert f"Index Scan using record_k{n}" in plan
    assert "Seq Scan" not in plan
