"""`fairlead run` on a terminal, on a dumb one, and where colours are not wanted."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from fairlead.testing.http_faults import Fault, FaultKind
from fairlead.testing.http_system import HTTPSystem
from support.site import Site, environment, policy, rest, system

COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-9][0-9;]*m")
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A first copy of three slow pages, with one record that cannot be synced."""
    with HTTPSystem() as api:
        made = Site(tmp_path)
        made.write("connections", rest("crm", api.url), made.database("erp"))
        made.write("policy", policy(system("crm", object="customers"), system("erp")))
        api.store.fill("customers", [{"email": f"{n}@x", "name": f"n{n}"} for n in range(2500)])
        api.store.create("customers", {"email": "long@x", "name": "much too long to be a name"})
        api.faults.add(Fault(FaultKind.SLOW, method="GET", path="/customers", seconds=0.6, times=1000))
        yield made


def on_terminal(site: Site, *arguments: str, **variables: str) -> tuple[int, str]:
    """Exit code, and everything that `fairlead run --once` wrote to a terminal of 100 columns."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "fairlead", "run", "manifests", "--once", *arguments],
        cwd=site.folder, stdin=slave, stdout=slave, stderr=slave,
        env=environment(**{"TERM": "xterm-256color", **variables}),
    )  # fmt: skip
    os.close(slave)
    written = bytearray()
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:  # how Linux says that nobody holds the other end any more
            break
        if not part:
            break
        written += part
    os.close(master)
    return process.wait(timeout=60), written.decode()


def screen(written: str) -> list[str]:
    """What a person sees in the end: lines that were redrawn count as they were last."""
    lines: list[str] = [""]
    row = 0
    for token in re.split(r"(\x1b\[[0-9;?]*[A-Za-z]|\r\n|\n|\r)", written):
        if token in ("\r\n", "\n"):
            row += 1
            if row == len(lines):
                lines.append("")
        elif token == "\r":
            pass  # what follows is written over the line, or the line is erased first
        elif token.endswith("A") and token.startswith("\x1b["):
            row = max(0, row - int(token[2:-1] or 1))
        elif token == "\x1b[2K":
            lines[row] = ""
        elif not token.startswith("\x1b["):
            lines[row] += token
    return [line.rstrip() for line in lines]


def test_progress_moves_on_a_terminal_and_is_gone_in_the_end(site: Site) -> None:
    code, written = on_terminal(site)
    assert code == 0
    assert re.search(r"customers  00:0\d  crm: [\d,]+ read", ESCAPE.sub("", written))
    shown = "\n".join(screen(written))
    assert "read" not in shown
    assert "crm: 2,501 changed" in shown or "erp: 2,500 created" in shown
    assert re.search(r"customers +Customer +crm,erp +crm +Enforce +True +DeadLetters", shown)


def test_a_terminal_gets_colours_and_no_color_is_heeded(site: Site) -> None:
    site.write("policy", policy(system("crm", object="nothing"), system("erp")))
    _, coloured = on_terminal(site)
    _, plain = on_terminal(site, NO_COLOR="1")
    assert (bool(COLOUR.search(coloured)), bool(COLOUR.search(plain))) == (True, False)


def test_a_dumb_terminal_gets_plain_lines(site: Site) -> None:
    code, written = on_terminal(site, TERM="dumb")
    assert (code, "\x1b" in written) == (0, False)
    assert "customers" in written.splitlines()[-1]


@pytest.mark.parametrize("arguments", [("--output", "json"), ("--log", "json")])
def test_machines_get_json_alone_even_on_a_terminal(site: Site, arguments: tuple[str, ...]) -> None:
    _, written = on_terminal(site, *arguments)
    assert "\x1b" not in written
    assert written.lstrip().startswith("{")
    assert "records read a second" not in written
