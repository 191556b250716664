"""`fairlead worker`: the one command that runs for weeks, and in every pod. It imports no more than it needs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import cast

from fairlead.cli.choices import Log


def main(arguments: Sequence[str]) -> int:
    """Runs a worker until SIGTERM; the exit code.

    Raises:
        SystemExit: 2 when it was called wrongly.
    """
    options = _parser().parse_args(arguments)
    _without("rich", "pygments")
    from fairlead.cli.log import log_to_stderr  # noqa: PLC0415 - what it imports looks for rich
    from fairlead.worker.main import WorkerOptions, run_worker  # noqa: PLC0415

    log_to_stderr(Log(options.log))
    return run_worker(WorkerOptions(options.config, options.secrets, options.state, options.port))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "fairlead worker",
        description="Run one policy in its pod, and report to the API server. The operator starts this.",
    )
    parser.add_argument("--config", type=Path, required=True, help="Folder with policy, connections and connectors.")
    parser.add_argument("--secrets", type=Path, required=True, help="Folder with one folder per Secret.")
    parser.add_argument("--state", type=Path, required=True, help="The folder of the state files.")
    parser.add_argument("--port", type=int, default=8080, help="Serve /healthz, /readyz and /metrics here.")
    parser.add_argument(
        "--log",
        choices=list(Log),
        default=Log.JSON,
        help="What is told while it runs: text for people, json for machines.",
    )
    return parser


def _without(*libraries: str) -> None:
    """Hides libraries that others import where they find them, for uses that a worker has none of.

    structlog and httpx take these for tracebacks on a terminal and for a command line of their own, which would be 4 MB
    in every worker. None makes an import fail (Python's reference, 5.3.1).
    """
    for name in libraries:
        sys.modules.setdefault(name, cast("ModuleType", None))
