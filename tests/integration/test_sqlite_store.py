"""The SQLite store keeps the contract, and says what to do when its file cannot be used."""

import sqlite3
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from fairlead.engine.case import Side
from fairlead.state.base import (
    Commit,
    Conflict,
    StateCorrupted,
    StateError,
    StateFull,
    StateKeyWrong,
    StateNewer,
    Store,
)
from fairlead.state.sqlite import SQLiteStore
from fairlead.state.sqlite_file import state_error
from fairlead.state.tables import Step
from fairlead.testing.store import KEY, LAYOUT, OTHER_KEY, StoreSuite, prints, recollection
from fairlead.testing.store.sample import all_conflicts
from support.stores import InPostgres


class TestSQLiteStore(StoreSuite):
    @pytest.fixture
    def again(self, tmp_path: Path) -> Callable[[], Store]:
        return lambda: SQLiteStore(tmp_path / "state.db")

    @pytest.fixture
    def elsewhere(self, state_database: str) -> Callable[[], Store]:
        return InPostgres(state_database, f"s{uuid.uuid4().hex}").store


async def test_a_damaged_file_is_told_apart_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.write_bytes(b"this is not a database, it is a letter to the reader" * 100)
    before = path.read_bytes()
    with pytest.raises(StateCorrupted, match="move the file away"):
        await SQLiteStore(path).open(LAYOUT)
    assert path.read_bytes() == before


@pytest.mark.parametrize("scratch", [False, True], ids=["for a run", "for a plan"])
async def test_a_file_that_lost_what_it_held_is_no_new_one(tmp_path: Path, scratch: bool) -> None:
    path = tmp_path / "state.db"
    path.touch()
    with pytest.raises(StateCorrupted, match=r"is damaged \(it is empty\): restore a copy, or move the file away"):
        await SQLiteStore(path, scratch=scratch).open(LAYOUT)
    assert path.stat().st_size == 0


async def test_a_file_that_lost_what_it_held_is_told_to_who_reads_beside_a_worker(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.touch()
    with pytest.raises(StateCorrupted, match="it is empty"):
        await SQLiteStore(path).peek()


async def test_a_worker_that_died_while_it_made_the_file_shuts_out_no_other(tmp_path: Path) -> None:
    leftovers = [tmp_path / "state.db.new", tmp_path / "state.db.new-journal"]
    for leftover in leftovers:
        leftover.write_bytes(b"half of it")
    store = SQLiteStore(tmp_path / "state.db")
    await store.open(LAYOUT)
    assert await store.next_record() == 1
    await store.close()
    assert not any(leftover.exists() for leftover in leftovers)


async def test_the_log_of_a_file_that_was_moved_away_is_not_taken_into_a_new_one(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    old = SQLiteStore(path)
    await old.open(LAYOUT)
    await old.commit(Commit(records=[recollection(1, crm=Side("a", 1, prints(1, 2)))]))
    log = (tmp_path / "state.db-wal").read_bytes()
    await old.close()
    path.rename(tmp_path / "damaged.db")
    (tmp_path / "state.db-wal").write_bytes(log)
    new = SQLiteStore(path)
    await new.open(LAYOUT)
    assert await new.known("crm") == 0
    await new.close()


async def test_a_damaged_page_is_found_when_the_file_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    store = SQLiteStore(path)
    await store.open(LAYOUT)
    await store.commit(Commit(records=[recollection(n, crm=Side(f"k{n}", n, prints(1, 2))) for n in range(1, 5000)]))
    await store.close()
    content = bytearray(path.read_bytes())
    content[8192:40960] = b"\x00" * 32768
    path.write_bytes(content)
    with pytest.raises(StateCorrupted):
        await SQLiteStore(path).open(LAYOUT)


async def test_a_file_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 99")
    for scratch in (False, True):
        with pytest.raises(StateNewer, match="newer version"):
            await SQLiteStore(path, scratch=scratch).open(LAYOUT)


async def test_a_full_disk_changes_nothing_and_says_so(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "state.db")
    await store.open(LAYOUT)
    pages = store._db.execute("PRAGMA page_count").fetchone()[0]
    store._db.execute(f"PRAGMA max_page_count = {pages + 2}")
    many = [recollection(n, crm=Side(f"k{n}", n, prints(1, 2))) for n in range(1, 5000)]
    with pytest.raises(StateFull, match="no space is left"):
        await store.commit(Commit(records=many))
    assert await store.next_record() == 1
    await store.close()


@pytest.mark.parametrize(("free", "expected"), [(0, StateFull), (15, StateFull), (16, StateError)])
def test_an_io_error_where_no_room_is_left_is_a_full_disk(monkeypatch, tmp_path: Path, free: int, expected) -> None:
    disk = SimpleNamespace(f_bavail=free, f_frsize=4096)
    monkeypatch.setattr("os.statvfs", lambda folder: disk if folder == tmp_path else None)
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorname = "SQLITE_IOERR_SHMSIZE"
    assert type(state_error(error, tmp_path / "state.db")) is expected


async def test_a_scratch_store_is_a_copy_that_leaves_the_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "state?50%.db"
    store = SQLiteStore(path)
    await store.open(LAYOUT)
    await store.commit(Commit(records=[recollection(1, crm=Side("a", 1, prints(1, 2)))]))
    scratch = SQLiteStore(path, scratch=True)
    await scratch.open(LAYOUT)
    await scratch.commit(Commit(records=[recollection(2, crm=Side("b", 1, prints(1, 2)))]))
    assert (await scratch.known("crm"), await store.known("crm")) == (2, 1)
    await scratch.close()
    await store.close()


class Tired(SQLiteStore):
    """Does some transactions, and then no more."""

    left = 1000

    async def _apply(self, steps: Sequence[Step]) -> None:
        if self.left == 0:
            raise StateError("no more")
        self.left -= 1
        await super()._apply(steps)


@pytest.mark.parametrize("done", range(1, 5))
async def test_a_change_of_keys_that_breaks_off_is_ended_later_and_needs_both_keys(tmp_path: Path, done: int) -> None:
    store = Tired(tmp_path / "state.db")
    await store.open(LAYOUT)
    await store.unlock([KEY])
    many = [Conflict(n, "name", {"crm": f"v{n}"}, float(n)) for n in range(1, 1300)]
    await store.commit(Commit(frozen=many))
    store.left = done
    with pytest.raises(StateError, match="no more"):
        await store.unlock([OTHER_KEY, KEY])
    await store.close()
    reopened = SQLiteStore(tmp_path / "state.db")
    await reopened.open(LAYOUT)
    for keys in ([KEY], [OTHER_KEY]):
        with pytest.raises(StateKeyWrong):
            await reopened.unlock(keys)
    await reopened.unlock([OTHER_KEY, KEY])
    await reopened.unlock([OTHER_KEY])
    assert await all_conflicts(reopened) == many
    await reopened.close()
