"""(e) Memory of a worker at rest: `fairlead worker` with one policy whose every record agrees."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import yaml

from benchmarks.measure import FILL, arguments, databases, policy, resident, sql_connection


def main() -> None:
    """Starts the worker as its pod would, and looks at it after its first runs."""
    dsn, _ = arguments()
    databases(dsn, "a", "b")["a"].execute(FILL.format(n=1000))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "secrets/db").mkdir(parents=True)
        for key in ("username", "password"):
            (folder / "secrets/db" / key).write_text("postgres")
        bench = policy({n: {"modified": "updated"} for n in ("a", "b")}, trigger={"interval": "1s"})
        connections = [msgspec.to_builtins(sql_connection(dsn, n)) for n in ("a", "b")]
        (folder / "policy.yaml").write_text(yaml.safe_dump(msgspec.to_builtins(bench)))
        (folder / "connections.yaml").write_text(yaml.safe_dump_all(connections))
        (folder / "connectors.yaml").write_text("")
        places = ["--config", name, "--secrets", f"{name}/secrets", "--state", f"{name}/state", "--port", "18481"]
        worker = subprocess.Popen([sys.executable, "-m", "fairlead", "worker", *places], stderr=subprocess.DEVNULL)
        try:
            time.sleep(12)
            found = resident(worker.pid)
        finally:
            worker.terminate()
            worker.wait(timeout=30)
    print(
        json.dumps({"what": "worker at rest, PostgreSQL to PostgreSQL", "measured": f"{found} MB", "mark": "≤ 70 MB"})
    )


main()
