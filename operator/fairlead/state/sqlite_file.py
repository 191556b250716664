"""The file of a SQLite store: opening, locking, copying it, and what its errors mean."""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
from pathlib import Path
from typing import IO

from fairlead.state.base import StateCorrupted, StateError, StateFull, StateLocked, StateMissing, StateNewer
from fairlead.state.tables import VERSION, Table, Type, declarations, tables

TYPES = {
    Type.INTEGER: "INTEGER",
    Type.REAL: "REAL",
    Type.TEXT: "TEXT",
    Type.BYTES: "BLOB",
    Type.SERIAL: "INTEGER",  # a single INTEGER key numbers itself
}

_PRAGMAS = (
    "journal_mode = WAL",
    "synchronous = FULL",
    "cache_size = -32768",
    "wal_autocheckpoint = 8000",  # pages, 32 MB: what many batches change is brought into the file once
    "temp_store = MEMORY",
    "secure_delete = ON",  # what is deleted is overwritten: the file of a healthy sync holds no value
)


def locked(path: Path) -> IO[str]:
    """The lock of a state file, held until it is closed.

    Raises:
        StateLocked: another process has it.
    """
    handle = path.with_name(path.name + ".lock").open("a+")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.seek(0)
        holder = handle.read().strip() or "unknown"
        handle.close()
        raise StateLocked(f"state {path} is in use by another worker (process {holder}): stop that one first") from None
    except OSError:
        handle.close()
        raise
    handle.seek(0)
    handle.truncate()
    handle.write(str(os.getpid()))
    handle.flush()
    return handle


def connected(path: Path) -> sqlite3.Connection:
    """The file, made when there is none, and sound.

    Raises:
        StateCorrupted: it is empty.
    """
    if not path.exists():
        _make(path)
    _refuse_empty(path)
    database = _prepared(sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10), path)
    if database.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
        raise sqlite3.DatabaseError("quick_check failed")
    return database


def attached(path: Path) -> sqlite3.Connection:
    """The file as it is, beside the worker that may hold its lock.

    Raises:
        StateMissing: there is none.
        StateCorrupted: it is empty.
    """
    if not path.exists():
        raise StateMissing(f"there is no state {path}")
    _refuse_empty(path)
    database = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None, check_same_thread=False, timeout=10
    )
    _set_up(database)
    if _version(database, path) == 0:
        raise StateMissing(f"there is no state {path}")
    return database


def copied(path: Path) -> sqlite3.Connection:
    """A private copy, on disk but without a name (SQLite's temporary database).

    Raises:
        StateCorrupted: the file is empty.
    """
    copy = sqlite3.connect("", isolation_level=None, check_same_thread=False)
    if path.exists():
        _refuse_empty(path)
        source = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=10)
        try:
            source.backup(copy)
        finally:
            source.close()
    return _prepared(copy, path)


def rewritten(database: sqlite3.Connection, folder: Path) -> None:
    """Writes the whole file anew, by way of a nameless one in `folder`: it takes as much room as the state again."""
    where = str(folder.absolute()).replace("'", "''")
    database.execute(f"PRAGMA temp_store_directory = '{where}'")
    database.execute("PRAGMA temp_store = FILE")
    try:
        database.execute("VACUUM")
    finally:
        database.execute("PRAGMA temp_store = MEMORY")


def _make(path: Path) -> None:
    """Makes the file under another name first, so that one of 0 bytes never is a beginning that broke off.

    What is left beside it was of a file that was moved away: SQLite would take its log for one of the new file.
    """
    new = path.with_name(path.name + ".new")
    for name in (path.name, new.name):
        for leftover in ("-wal", "-shm", "-journal"):
            path.with_name(name + leftover).unlink(missing_ok=True)
    new.unlink(missing_ok=True)
    database = sqlite3.connect(new, isolation_level=None)
    try:
        _declare(database)
    finally:
        database.close()
    new.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _refuse_empty(path: Path) -> None:
    if path.stat().st_size == 0:
        raise _damaged(path, "it is empty")


def _prepared(database: sqlite3.Connection, path: Path) -> sqlite3.Connection:
    _set_up(database)
    if _version(database, path) == 0:
        _declare(database)
    return database


def _declare(database: sqlite3.Connection) -> None:
    made = "; ".join(text for table in tables({}) for text in declarations(table, TYPES, _options(table)))
    database.executescript(f"BEGIN; {made}; PRAGMA user_version = {VERSION}; COMMIT;")


def _set_up(database: sqlite3.Connection) -> None:
    for pragma in _PRAGMAS:
        database.execute(f"PRAGMA {pragma}").fetchall()


def _version(database: sqlite3.Connection, path: Path) -> int:
    version = int(database.execute("PRAGMA user_version").fetchone()[0])
    if version > VERSION:
        raise StateNewer(f"state {path} was written by a newer version of Fairlead: run that version, or newer")
    return version


def _options(table: Table) -> str:
    """A table that is looked up by one number is stored by it; the others by their whole key, without another."""
    by_number = len(table.key) == 1 and table.columns[table.key[0]] in (Type.INTEGER, Type.SERIAL)
    return "" if by_number else " WITHOUT ROWID"


def state_error(error: sqlite3.Error | OSError, path: Path) -> StateError:
    """What an error of SQLite, or of the disk beneath it, means for the worker."""
    if isinstance(error, OSError):
        return _disk_error(error, path)
    code = getattr(error, "sqlite_errorname", "") or ""
    if code.startswith("SQLITE_FULL") or (code.startswith("SQLITE_IOERR") and _no_room(path)):
        return _full(path)
    if code.startswith(_UNREACHABLE):
        return StateError(f"state {path} cannot be used ({error}): {_LOOK}; nothing was lost")
    if isinstance(error, sqlite3.OperationalError | sqlite3.IntegrityError | sqlite3.ProgrammingError):
        return StateError(f"state {path}: {error}")
    return _damaged(path, str(error))


def _damaged(path: Path, how: str) -> StateCorrupted:
    return StateCorrupted(
        f"state {path} is damaged ({how}): restore a copy, or move the file away; without it every record is first "
        "met again, as spec.firstSync says, and nothing is created twice where match keys find it"
    )


_UNREACHABLE = ("SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM")
_LOOK = "see that its folder is on a sound disk and that this user may write there, or name another one"


_ROOM = 65_536
"""Bytes without which SQLite cannot even make its index of the log, of 32 KiB, and then tells an I/O error."""


def _no_room(path: Path) -> bool:
    try:
        found = os.statvfs(path.parent)
    except OSError:
        return False
    return found.f_bavail * found.f_frsize < _ROOM


def _disk_error(error: OSError, path: Path) -> StateError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return _full(path)
    return StateError(f"state {path} cannot be used ({error.strerror}): {_LOOK}")


def _full(path: Path) -> StateFull:
    return StateFull(f"no space is left for the state {path}: enlarge spec.state.size or free space; nothing was lost")
