"""A PostgreSQL server for as long as it is needed: for tests and benchmarks."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

_UNPRIVILEGED = ("postgres", "nobody")


class Guard(msgspec.Struct, frozen=True):
    """How a server proves who it is, and whom it lets in.

    Attributes:
        certificate: its certificate, PEM.
        key: the certificate's private key, PEM.
        rules: lines of pg_hba.conf that come before "everybody on this machine is trusted".
    """

    certificate: bytes
    key: bytes
    rules: tuple[str, ...]


def binaries() -> Path | None:
    """The folder of the server's programs: what PATH has, else the newest of Debian's."""
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


def installed() -> Path | None:
    """Installs the server where the package manager and its rights are there; its folder, or None."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return None
    commands = (["apt-get", "update", "-q"], ["apt-get", "install", "-qy", "--no-install-recommends", "postgresql"])
    for command in commands:
        if subprocess.run(command, capture_output=True, timeout=900, check=False).returncode != 0:  # noqa: S603
            return None
    return binaries()


@contextmanager
def running(programs: Path, guard: Guard | None = None) -> Iterator[str]:
    """A server on a free port of this machine, in a temporary folder; yields the DSN of its `postgres` database.

    It ends with this process, also where that is killed.
    """
    folder = Path(tempfile.mkdtemp(prefix="fairlead-pg-"))
    user, port = _server_user(), _free_port()
    if user:
        shutil.chown(folder, user)

    def run(program: str, *arguments: str) -> None:
        command = [str(programs / program), "-D", str(folder / "data"), *arguments]
        subprocess.run(command, stdout=subprocess.DEVNULL, timeout=120, check=True, cwd=folder, user=user)  # noqa: S603

    options = f"-p {port} -k {folder} -c fsync=off -c listen_addresses=127.0.0.1 -c max_connections=100"
    try:
        with _ended_with_us(programs, folder, user):
            run("initdb", "-A", "trust", "-U", "postgres")
            if guard:
                _set_up(folder / "data", guard, user)
                options += " -c ssl=on"
            run("pg_ctl", "-o", options, "-l", str(folder / "log"), "-w", "start")
            yield f"host=127.0.0.1 port={port} user=postgres dbname=postgres"
    finally:
        if not (folder / "data/postmaster.pid").exists():
            shutil.rmtree(folder, ignore_errors=True)


def _ended_with_us(programs: Path, folder: Path, user: str | None) -> subprocess.Popen[bytes]:
    """A process that stops the server and removes its folder when our end of its pipe closes: by us, or as we end."""
    script = 'cat; PGCTLTIMEOUT=30 "$0"/pg_ctl -D "$1/data" -m immediate stop && rm -rf "$1"'
    return subprocess.Popen(  # noqa: S603
        ["/bin/sh", "-c", script, str(programs), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        user=user,
        start_new_session=True,
    )


def _set_up(data: Path, guard: Guard, user: str | None) -> None:
    for name, content in (("server.crt", guard.certificate), ("server.key", guard.key)):
        (data / name).touch(mode=0o600)
        (data / name).write_bytes(content)
        if user:
            shutil.chown(data / name, user)
    rules = data / "pg_hba.conf"
    rules.write_text("\n".join([*guard.rules, rules.read_text()]))


def _server_user() -> str | None:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in _UNPRIVILEGED if name in known)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
