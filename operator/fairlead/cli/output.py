"""How the command line talks: tables and colours for people, JSON for machines."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from enum import StrEnum

import structlog
from rich.console import Console
from rich.text import Text
from structlog.typing import Processor

from fairlead.model.health import Conclusion, Measured
from fairlead.model.syncpolicy import SyncPolicy


class Output(StrEnum):
    """What a command prints at its end."""

    TABLE = "table"
    JSON = "json"


class Log(StrEnum):
    """What a command tells while it works."""

    TEXT = "text"
    JSON = "json"


def console() -> Console:
    """Standard output; colours only on a terminal, and not where NO_COLOR is set (no-color.org)."""
    return Console(highlight=False, soft_wrap=True)


def log_to_stderr(log: Log) -> None:
    """Sends structlog's events to standard error, as lines or as JSON, and the warnings of libraries with them."""
    renderer = (
        structlog.processors.JSONRenderer()
        if log is Log.JSON
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty() and not os.environ.get("NO_COLOR"))
    )
    shared: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    libraries = logging.StreamHandler(sys.stderr)
    libraries.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[libraries])


COLUMNS = (
    "NAME",
    "ENTITY",
    "SYSTEMS",
    "SOR",
    "MODE",
    "READY",
    "STATUS",
    "LAG",
    "RECORDS",
    "CONFLICTS",
    "DEAD",
    "LAST-SYNC",
)
"""As `kubectl get syncpolicies` has them."""


def policy_row(policy: SyncPolicy, measured: Measured, found: Conclusion, ago: str) -> tuple[str, ...]:
    """One policy's cells."""
    spec = policy.spec
    return (
        policy.metadata.name,
        spec.entity,
        ",".join(system.name for system in spec.systems),
        spec.system_of_record,
        spec.mode.value,
        str(found.ready),
        found.reason.value,
        measured.lag,
        _number(measured.records),
        _number(measured.conflicts),
        _number(measured.dead_letters),
        ago,
    )


def _number(count: int) -> str:
    return "" if count < 0 else str(count)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Text:
    """A table like kubectl's: three spaces between columns, and nothing cut off, however narrow the terminal is."""
    widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
    lines = ["   ".join(map(str.ljust, row, widths)).rstrip() for row in (columns, *rows)]
    head, *rest = lines
    return Text.assemble((head, "bold"), *(f"\n{line}" for line in rest))
