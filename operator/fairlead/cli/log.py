"""What a command tells, for people or for machines. Without what draws on terminals: a worker needs none of that."""

from __future__ import annotations

import logging
import os
import sys

import structlog
from structlog.typing import Processor

from fairlead.cli.choices import Log


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
