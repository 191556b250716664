"""`make bench`: measures everything and prints the table of RESULTS.md.

    python -m benchmarks [--quick] [--write] [SECTION …]

Each measurement runs in a process of its own, so that its peak memory is its own. `--quick` uses a tenth of the
records.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from fairlead.testing.postgres import binaries, installed, running

RESULTS = Path(__file__).parent / "RESULTS.md"
SECTIONS = ("sql", "rest", "latency", "memory", "policies", "decide", "recovery", "state")


def measured(section: str, dsn: str, quick: bool) -> list[dict[str, str]]:
    """The rows of one section; a section that fails says so in its row."""
    print(f"measuring {section} …", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", f"benchmarks.{section}", dsn, *(["--quick"] if quick else [])]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        return [{"what": section, "measured": f"failed with exit code {done.returncode}"}]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def table(rows: list[dict[str, str]]) -> str:
    """The rows as Markdown."""
    columns = ("what", "measured", "floor", "ratio", "mark", "peak memory")
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(row.get(column, "") for column in columns) + " |" for row in rows]
    return "\n".join(lines)


def main() -> None:
    """Runs the benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sections", nargs="*", default=SECTIONS, metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--quick", action="store_true", help="a tenth of the records")
    parser.add_argument("--write", action="store_true", help="write RESULTS.md")
    options = parser.parse_args()
    programs = binaries() or installed()
    if programs is None:
        sys.exit("benchmarks: install PostgreSQL's server")
    rows: list[dict[str, str]] = []
    with running(programs) as dsn:
        for section in options.sections:
            rows += measured(section, dsn, options.quick)
    print(table(rows))
    if options.write:
        head = (
            f"# Results\n\n`make bench` on {datetime.now(UTC):%Y-%m-%d}: {os.cpu_count()} cores, "
            f"Python {platform.python_version()}, PostgreSQL of the same machine, state on its disk. A floor is what "
            "the same work costs without Fairlead, in the same run; a mark is what was aimed at. One run on a shared "
            "machine: read the ratios.\n\n"
        )
        RESULTS.write_text(head + table(rows) + "\n")


main()
