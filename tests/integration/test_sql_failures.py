"""What goes wrong with a database: each has its reason, and a message that says what to do."""

import asyncio
import os
import shutil
import socket
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path

import psycopg
import pytest
import trustme
from psycopg.conninfo import conninfo_to_dict

from fairlead.connectors import sqlite_session
from fairlead.connectors.base import System
from fairlead.connectors.postgres import PostgresDatabase
from fairlead.connectors.sqlite import SQLiteDatabase
from fairlead.testing.connector import update
from fairlead.testing.postgres import Guard, binaries, installed, running
from fairlead.transport.failure import AuthRejected, Failure, Misconfigured, Throttled, Transient
from fairlead.transport.secrets import MappingSecrets
from support.cut import cut
from support.policies import connection_of
from support.skips import cannot_run
from support.sql import LOGIN, create, errors, opened, postgres_client, rows

ONCE = {"retry": {"maxAttempts": 1}}


async def failure_of(client: PostgresDatabase | SQLiteDatabase) -> Failure:
    """What a probe says."""
    try:
        with pytest.raises(Failure) as caught:
            await client.probe()
    finally:
        await client.close()
    return caught.value


def told(failure: Failure) -> tuple[type[Failure], str]:
    """Class and reason."""
    return type(failure), failure.reason


# --- where the server is, and as whom ---


async def test_without_a_password_nothing_is_said_and_none_is_taken_from_the_machine(
    database: str, tmp_path: Path, monkeypatch, capfd
) -> None:
    monkeypatch.setenv("PGPASSFILE", str(tmp_path))
    url = f"postgresql://127.0.0.1:{conninfo_to_dict(database)['port']}/x"
    await failure_of(PostgresDatabase(connection_of("db", url), MappingSecrets({})))
    assert capfd.readouterr().err == ""


async def test_a_database_that_does_not_exist(database: str) -> None:
    found = await failure_of(postgres_client(database, dbname="nowhere"))
    assert (told(found), "check the path of spec.url" in found.message) == ((Misconfigured, "DatabaseNotFound"), True)


async def test_a_server_that_is_not_there_may_come_back(database: str) -> None:
    found = await failure_of(postgres_client(database, port="1"))
    assert (told(found), "does the server run" in found.message) == ((Transient, "ConnectionRefused"), True)


async def test_a_host_that_does_not_resolve(database: str) -> None:
    found = await failure_of(postgres_client(database, host="no-such-host.invalid"))
    assert (told(found), "check spec.url" in found.message) == ((Misconfigured, "HostNotFound"), True)


async def test_a_host_that_does_not_answer(database: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = str(silent.getsockname()[1])
        found = await failure_of(postgres_client(database, port=port, spec={"probe": {"timeout": "500ms"}}))
    assert (told(found), "probe.timeout (0.5 s)" in found.message) == ((Transient, "Timeout"), True)


async def test_an_unknown_user(database: str) -> None:
    found = await failure_of(postgres_client(database, user="nobody_known"))
    assert (told(found), "check the Secret of auth.basic" in found.message) == ((AuthRejected, "AuthFailed"), True)


async def test_a_secret_that_is_missing() -> None:
    found = await failure_of(
        PostgresDatabase(connection_of("db", "postgresql://127.0.0.1/x", auth=LOGIN), MappingSecrets({}))
    )
    assert (told(found), "Secret 'db' does not exist" in found.message) == ((AuthRejected, "SecretNotFound"), True)


async def test_too_many_connections(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as admin:
        name = admin.info.dbname
        admin.execute(f"CREATE ROLE r_{name} LOGIN CONNECTION LIMIT 0")
        found = await failure_of(postgres_client(database, user=f"r_{name}"))
        admin.execute(f"DROP ROLE r_{name}")
    assert (told(found), "limits.concurrency" in found.message) == ((Throttled, "TooManyConnections"), True)


@pytest.mark.parametrize(
    ("url", "spec", "said"),
    [
        ("postgresql://u:hunter2@127.0.0.1/x", {}, "put them into a Secret"),
        ("postgresql://127.0.0.1", {}, "postgresql://host:5432/database"),
        ("postgresql://127.0.0.1/x?sslkey=a", {}, "no option sslkey: only sslmode"),
        ("postgresql://db.example.com/x?sslmode=require", {}, "does not verify"),
        ("postgresql://db.example.com/x?sslmode=on", {}, "write verify-full, verify-ca or disable"),
        (
            "postgresql://db.example.com/x?sslmode=disable",
            {"tls": {"caBundle": {"secretKeyRef": {"name": "ca", "key": "pem"}}}},
            "would not use tls.caBundle",
        ),
        ("postgresql://127.0.0.1/x", {"auth": {"bearer": {"token": LOGIN["basic"]["username"]}}}, "auth.basic"),
    ],
)
async def test_a_connection_that_cannot_be_meant_so(url: str, spec: dict[str, object], said: str) -> None:
    secrets = MappingSecrets({"db": {"user": "u", "password": "p"}})
    found = await failure_of(PostgresDatabase(connection_of("db", url, **spec), secrets))
    assert (told(found), said in found.message, "hunter2" in found.message) == (
        (Misconfigured, "InvalidSpec"),
        True,
        False,
    )


# --- TLS and passwords: a server that asks for both ---


class Secure:
    """A server of `ca` for the name `db.test`, with a user `app` whose password is `right`."""

    def __init__(self, dsn: str, ca: trustme.CA) -> None:
        self.dsn = dsn
        self.ca = ca.cert_pem.bytes().decode()

    def client(
        self,
        options: str = "",
        *,
        ca: str | None = None,
        name: str | None = "db.test",
        password: str = "right",  # noqa: S107 - of a server that the test starts
    ) -> PostgresDatabase:
        tls = {"caBundle": {"secretKeyRef": {"name": "db", "key": "ca"}}} if ca else {}
        tls |= {"serverName": name} if name else {}
        secret = {"ca": ca or "", "user": "app", "password": password}
        return postgres_client(self.dsn, options=options, spec={"tls": tls, **ONCE}, secret=secret, user="app")


@pytest.fixture(scope="module")
def secure() -> Iterator[Secure]:
    programs = binaries() or installed()
    if programs is None:
        cannot_run("no PostgreSQL: install its server")
        return
    ca = trustme.CA()
    certificate = ca.issue_cert("db.test")
    rules = ("hostssl all app 127.0.0.1/32 scram-sha-256", "host all app 127.0.0.1/32 reject")
    chain = b"".join(item.bytes() for item in certificate.cert_chain_pems)
    with running(programs, Guard(chain, certificate.private_key_pem.bytes(), rules)) as dsn:
        with psycopg.connect(dsn, autocommit=True) as admin:
            admin.execute("CREATE ROLE app LOGIN PASSWORD 'right'")
        yield Secure(dsn, ca)


async def test_a_server_that_proves_its_name_is_used_over_tls(secure: Secure) -> None:
    async with opened(secure.client(ca=secure.ca), "pg_stat_ssl", "ssl", key="pid") as system:
        assert {"ssl": True} in (await rows(system)).values()


async def test_a_server_of_another_authority_is_not_trusted(secure: Secure) -> None:
    found = await failure_of(secure.client(ca=trustme.CA().cert_pem.bytes().decode()))
    assert (told(found), "give its authority in tls.caBundle" in found.message) == ((Misconfigured, "TLSFailed"), True)


async def test_a_server_of_no_known_authority_is_not_trusted(secure: Secure) -> None:
    found = await failure_of(secure.client("?sslmode=verify-full"))
    assert (told(found), "give its authority in tls.caBundle" in found.message) == ((Misconfigured, "TLSFailed"), True)


async def test_a_server_of_another_name_is_not_trusted(secure: Secure) -> None:
    found = await failure_of(secure.client(ca=secure.ca, name="other.test"))
    assert (told(found), "other.test" in found.message) == ((Misconfigured, "TLSFailed"), True)


async def test_a_bundle_that_holds_no_certificate_is_told(secure: Secure) -> None:
    found = await failure_of(secure.client(ca="no certificate"))
    assert (told(found), "tls.caBundle" in found.message) == ((Misconfigured, "TLSFailed"), True)


async def test_a_server_without_tls_is_not_talked_to_when_it_must_prove_itself(database: str) -> None:
    client = postgres_client(database, options="?sslmode=verify-full", spec={"tls": {"serverName": "db.test"}, **ONCE})
    found = await failure_of(client)
    assert (told(found), "?sslmode=disable" in found.message) == ((Misconfigured, "TLSFailed"), True)


async def test_a_server_that_wants_tls_is_told_when_it_was_disabled(secure: Secure) -> None:
    found = await failure_of(secure.client("?sslmode=disable", name=None))
    assert (told(found), "remove sslmode from spec.url" in found.message) == ((Misconfigured, "TLSFailed"), True)


async def test_a_wrong_password_is_rejected_and_not_repeated(secure: Secure) -> None:
    found = await failure_of(secure.client(ca=secure.ca, password="hunter2"))
    assert told(found) == (AuthRejected, "AuthFailed")
    assert "check the Secret of auth.basic" in found.message
    assert "hunter2" not in found.message


async def test_a_password_that_was_rotated_is_used_at_the_next_connection(secure: Secure) -> None:
    values = {"user": "app", "password": "wrong", "ca": secure.ca}
    tls = {"caBundle": {"secretKeyRef": {"name": "db", "key": "ca"}}, "serverName": "db.test"}
    parts = psycopg.conninfo.conninfo_to_dict(secure.dsn)
    connection = connection_of("db", f"postgresql://127.0.0.1:{parts['port']}/postgres", auth=LOGIN, tls=tls, **ONCE)
    client = PostgresDatabase(connection, MappingSecrets({"db": values}))
    with pytest.raises(AuthRejected):
        await client.probe()
    values["password"] = "right"
    assert (await client.probe()).latency > 0
    await client.close()


# --- a network that breaks ---


@pytest.fixture
def table(database: str) -> str:
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute("CREATE TABLE t(id serial PRIMARY KEY, v text); INSERT INTO t(v) VALUES ('first')")
    return database


@asynccontextmanager
async def impatient(dsn: str) -> AsyncIterator[System]:
    """The table, through a client that tries twice and hardly waits."""
    client = postgres_client(dsn, spec={"retry": {"maxAttempts": 2, "initialBackoff": "1ms"}})
    async with opened(client, "t", "v") as system:
        yield system


def stored(dsn: str) -> list[str]:
    with psycopg.connect(dsn) as admin:
        return [row[0] for row in admin.execute("SELECT v FROM t ORDER BY id")]


@pytest.mark.parametrize("count", [1, 20])
@pytest.mark.parametrize("passes", [True, False], ids=["stored", "not stored"])
async def test_creates_whose_commit_was_lost_are_uncertain_and_not_repeated(
    table: str, passes: bool, count: int
) -> None:
    async with cut(table, b"COMMIT", passes=passes) as (dsn, network), impatient(dsn) as system:
        outcomes = await system.write([create({"v": f"v{n}"}) for n in range(count)])
    assert [(outcome.error and outcome.error.value, outcome.uncertain) for outcome in outcomes] == [
        ("Transient", True)
    ] * count
    assert (network.count, len(stored(table))) == (1, 1 + count * passes)


async def test_creates_that_broke_before_their_end_are_tried_again(table: str) -> None:
    async with cut(table, b"INSERT", passes=False) as (dsn, network), impatient(dsn) as system:
        with pytest.raises(Transient) as caught:
            await system.write([create({"v": "new"})])
    assert (caught.value.reason, network.count, stored(table)) == ("Unavailable", 2, ["first"])


async def test_updates_whose_commit_was_lost_are_judged_again(table: str) -> None:
    async with cut(table, b"COMMIT", passes=True) as (dsn, network), impatient(dsn) as system:
        with pytest.raises(Transient):
            await system.write([update("1", {"v": "new"})])
    assert (network.count, stored(table)) == (2, ["new"])


# --- SQLite ---


@pytest.fixture
def book(tmp_path: Path) -> Path:
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.executescript("CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT); INSERT INTO t VALUES (1, 'first')")
    return path


def sqlite_client(path: Path) -> SQLiteDatabase:
    return SQLiteDatabase(connection_of("db", f"sqlite:///{path}"))


@contextmanager
def unprivileged() -> Iterator[None]:
    """Root may write what is read-only: someone else is no root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


async def test_a_file_that_another_program_locks(book: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_session, "LOCK_TIMEOUT", 0.1)
    other = sqlite3.connect(book, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    found = await failure_of(sqlite_client(book))
    other.close()
    assert (told(found), "is locked by another program: end its transaction" in found.message) == (
        (Transient, "Locked"),
        True,
    )


async def test_a_lock_that_is_given_up_in_time_is_waited_for(book: Path) -> None:
    client, other = sqlite_client(book), sqlite3.connect(book, isolation_level=None)
    system = await client.open("t", paths=["v"], key=None, modified=None)
    other.execute("BEGIN IMMEDIATE")
    writing = asyncio.create_task(system.write([update("1", {"v": "new"})]))
    await asyncio.sleep(0.2)
    other.execute("COMMIT")
    other.close()
    assert errors(await writing) == [None]
    await client.close()


@pytest.fixture
def fixed() -> Iterator[Path]:
    """A file that nobody may write, in a folder that everybody may read."""
    folder = Path(tempfile.mkdtemp())
    path = folder / "app.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.executescript("CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT); INSERT INTO t VALUES (1, 'first')")
    path.chmod(0o444)
    folder.chmod(0o555)
    yield path
    folder.chmod(0o755)
    shutil.rmtree(folder)


async def test_a_file_that_is_read_only(fixed: Path) -> None:
    client = sqlite_client(fixed)
    try:
        with unprivileged():
            system = await client.open("t", paths=["v"], key=None, modified=None)
            assert await rows(system) == {"1": {"v": "first"}}
            with pytest.raises(
                Misconfigured, match="permit Fairlead's user to write the file and its folder"
            ) as caught:
                await system.write([update("1", {"v": "new"})])
    finally:
        await client.close()
    assert caught.value.reason == "ReadOnly"


@pytest.mark.parametrize(
    ("content", "reason", "said"),
    [
        (None, "DatabaseNotFound", "there is no SQLite file"),
        (b"this is a text file, and a long one at that" * 100, "DatabaseUnusable", "is no SQLite database"),
    ],
)
async def test_a_file_that_is_no_database(tmp_path: Path, content: bytes | None, reason: str, said: str) -> None:
    if content:
        (tmp_path / "app.db").write_bytes(content)
    found = await failure_of(sqlite_client(tmp_path / "app.db"))
    assert (told(found), said in found.message) == ((Misconfigured, reason), True)
    assert (tmp_path / "app.db").exists() == bool(content)


async def test_a_folder_is_no_database(tmp_path: Path) -> None:
    assert told(await failure_of(sqlite_client(tmp_path))) == (Misconfigured, "DatabaseUnusable")


@pytest.fixture
def damaged(book: Path) -> Path:
    data = book.read_bytes()
    book.write_bytes(data[:4096] + os.urandom(len(data) - 4096))
    return book


async def test_a_damaged_file(damaged: Path) -> None:
    async with opened(sqlite_client(damaged), "t", "v") as system:
        with pytest.raises(Misconfigured, match="is damaged: restore it") as caught:
            await rows(system)
    assert caught.value.reason == "DatabaseUnusable"


@pytest.mark.parametrize("url", ["sqlite://host/file.db", "sqlite:", "sqlite:///", "sqlite:///a.db?mode=ro"])
async def test_a_url_that_names_no_file(url: str) -> None:
    found = await failure_of(SQLiteDatabase(connection_of("db", url)))
    assert (told(found), "sqlite:///relative/file" in found.message) == ((Misconfigured, "InvalidSpec"), True)


async def test_a_table_or_column_that_does_not_exist_is_told_with_the_nearest_one(book: Path) -> None:
    client = sqlite_client(book)
    with pytest.raises(Misconfigured, match="has no table 'tt': did you mean 't'") as table:
        await client.open("tt", paths=["v"], key=None, modified=None)
    with pytest.raises(Misconfigured, match="table t has no column 'vv': did you mean 'v'") as column:
        await client.open("t", paths=["vv"], key=None, modified=None)
    await client.close()
    assert (table.value.reason, column.value.reason) == ("ObjectNotFound", "ColumnNotFound")


async def test_a_table_that_went_away_is_named(book: Path) -> None:
    async with opened(sqlite_client(book), "t", "v") as system:
        with closing(sqlite3.connect(book, isolation_level=None)) as database:
            database.execute("DROP TABLE t")
        with pytest.raises(Misconfigured, match="no such table") as caught:
            await rows(system)
    assert caught.value.reason == "ObjectNotFound"


async def test_a_file_that_was_replaced_is_opened_anew(book: Path) -> None:
    async with opened(sqlite_client(book), "t", "v") as system:
        await rows(system)
        other = book.with_suffix(".new")
        shutil.copy(book, other)
        with closing(sqlite3.connect(other, isolation_level=None)) as database:
            database.execute("UPDATE t SET v = 'restored'")
        other.replace(book)
        assert await rows(system) == {"1": {"v": "restored"}}


async def test_a_statement_that_takes_too_long_is_interrupted(book: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(sqlite3.connect(book, isolation_level=None)) as database:
        database.execute(
            "CREATE VIEW slow AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000000) "
            "SELECT i AS id, i AS v FROM n"
        )
    monkeypatch.setattr(sqlite_session, "CALL_TIMEOUT", 0.2)
    async with opened(sqlite_client(book), "slow", "v", key="id") as system:
        with pytest.raises(Transient, match="is there an index") as caught:
            await rows(system)
    assert caught.value.reason == "Timeout"
