"""One SQLite file, used in a thread of its own, and its errors as failures."""

from __future__ import annotations

import asyncio
import contextvars
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote, urlsplit

from fairlead.connectors.sqlite_page import tolerant
from fairlead.model.connection import Connection
from fairlead.transport.failure import Failure, Misconfigured, Transient

T = TypeVar("T")

LOCK_TIMEOUT = 10.0
"""Seconds to wait for other programs that use the file; there is no other retry."""

CALL_TIMEOUT = 120.0
"""Seconds after which a statement is interrupted."""

_STEPS = 200_000
"""Steps of SQLite's machine between two looks at the clock."""

_FAILURES: tuple[tuple[str, type[Failure], str, str], ...] = (
    (
        "SQLITE_BUSY SQLITE_LOCKED",
        Transient,
        "Locked",
        "is locked by another program: end its transaction, or use PRAGMA journal_mode=WAL, which lets readers go on",
    ),
    ("SQLITE_INTERRUPT", Transient, "Timeout", "took too long: is there an index on the key and the modified column?"),
    ("SQLITE_FULL", Transient, "DiskFull", "has no space left on its disk: free some"),
    ("SQLITE_IOERR", Transient, "Unavailable", "cannot be read or written: look at its disk"),
    (
        "SQLITE_READONLY SQLITE_PERM",
        Misconfigured,
        "ReadOnly",
        "cannot be written: permit Fairlead's user to write the file and its folder, or use access: ReadOnly",
    ),
    (
        "SQLITE_CANTOPEN SQLITE_AUTH",
        Misconfigured,
        "DatabaseUnusable",
        "cannot be opened: permit Fairlead's user to read the file, and to write it and its folder",
    ),
    ("SQLITE_NOTADB", Misconfigured, "DatabaseUnusable", "is no SQLite database: check spec.url"),
    (
        "SQLITE_CORRUPT",
        Misconfigured,
        "DatabaseUnusable",
        "is damaged: restore it, or try the sqlite3 program's .recover",
    ),
)


class File:
    """A file, opened when it is first used, and again when another one is put in its place."""

    def __init__(self, connection: Connection) -> None:
        self._url = connection.spec.url
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sqlite")
        self._database: sqlite3.Connection | None = None
        self._identity = (0, 0)
        self._deadline = 0.0

    @property
    def path(self) -> Path:
        """Where it is.

        Raises:
            Misconfigured: the URL names no file.
        """
        parts = urlsplit(self._url)
        if parts.netloc or parts.query or len(parts.path) < 2:
            raise Misconfigured("write sqlite:///relative/file or sqlite:////absolute/file", reason="InvalidSpec")
        return Path(unquote(parts.path[1:]))

    async def run(self, call: Callable[[sqlite3.Connection], T]) -> T:
        """What a call returns that uses the database; a caller that is cancelled waits until it is whole.

        Raises:
            Failure: what is wrong.
        """
        here = contextvars.copy_context()  # the thread keeps within the caller's fence
        done = asyncio.get_running_loop().run_in_executor(self._thread, here.run, self._guarded, call)
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            await asyncio.wait([done])
            raise

    def _guarded(self, call: Callable[[sqlite3.Connection], T]) -> T:
        path = self.path
        try:
            database = self._opened(path)
            self._deadline = time.monotonic() + CALL_TIMEOUT
            try:
                return call(database)
            except sqlite3.OperationalError as error:
                if "decode to UTF-8" not in str(error):
                    raise
            database.text_factory = tolerant
            return call(database)
        except sqlite3.Error as error:
            raise failure_of(error, path) from None

    def _opened(self, path: Path) -> sqlite3.Connection:
        try:
            status = path.stat()
        except FileNotFoundError:
            raise Misconfigured(f"there is no SQLite file {path}: check spec.url", reason="DatabaseNotFound") from None
        except OSError as error:
            raise Misconfigured(f"{path} cannot be opened: {error.strerror}", reason="DatabaseUnusable") from None
        if self._database is None or self._identity != (status.st_dev, status.st_ino):
            self._shut()
            self._database = self._connect(path)
            self._identity = (status.st_dev, status.st_ino)
        return self._database

    def _connect(self, path: Path) -> sqlite3.Connection:
        address = f"{path.absolute().as_uri()}?mode=rw"
        database = sqlite3.connect(
            address, uri=True, isolation_level=None, check_same_thread=False, timeout=LOCK_TIMEOUT
        )
        database.execute("PRAGMA foreign_keys = ON")
        database.set_progress_handler(lambda: time.monotonic() > self._deadline, _STEPS)
        return database

    def _shut(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    async def close(self) -> None:
        """Closes the file."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._shut)
        self._thread.shutdown(wait=False)


def failure_of(error: sqlite3.Error, path: Path) -> Failure:
    """The failure that an error is."""
    name, said = getattr(error, "sqlite_errorname", None) or "", str(error)
    for names, kind, reason, advice in _FAILURES:
        if name.startswith(tuple(names.split())):
            return kind(f"{path} {advice}", reason=reason)
    if "no such table" in said:
        return Misconfigured(f"{path} has no such table any more ({said})", reason="ObjectNotFound")
    if "no such column" in said:
        return Misconfigured(f"{path} has no such column any more ({said})", reason="ColumnNotFound")
    return Misconfigured(f"{path} refuses the statement: {said}", reason="UnexpectedAnswer")
