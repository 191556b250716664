"""A worker is small at rest: it imports no library that it has no use for."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

_STARTED = """
import json, pathlib, sys
sys.argv = ["fairlead", "worker", "--config", "nowhere", "--secrets", "nowhere", "--state", "nowhere"]
from fairlead.cli.main import main
try:
    main()
except FileNotFoundError:  # it is about to read its configuration, which is not there
    pass
status = pathlib.Path("/proc/self/status").read_text()
kilobytes = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
loaded = sorted({name.partition(".")[0] for name, module in sys.modules.items() if module is not None})
print(json.dumps({"kilobytes": kilobytes, "loaded": loaded}))
"""


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a worker's process looks like when it has imported all that it needs for any policy."""
    folder = tmp_path_factory.mktemp("worker")
    done = subprocess.run(
        [sys.executable, "-c", _STARTED], cwd=folder, capture_output=True, text=True, timeout=60, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_nothing_that_draws_checks_manifests_or_talks_to_clusters(worker: dict[str, Any]) -> None:
    needless = {"rich", "pygments", "pydantic", "kopf", "kubernetes", "jsonschema", "arrow", "attr", "zeep", "graphql"}
    assert needless & set(worker["loaded"]) == set()


def test_what_only_some_policies_need_comes_with_them(worker: dict[str, Any]) -> None:
    assert {"psycopg", "jsonschema_rs", "websockets"} & set(worker["loaded"]) == set()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="resident memory is told by Linux")
def test_it_starts_with_less_than_60_megabytes(worker: dict[str, Any]) -> None:
    assert worker["kilobytes"] < 60 * 1024
