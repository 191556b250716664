"""What the command line prints for people: tables and colours."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from fairlead.model.health import Conclusion, Measured
from fairlead.model.syncpolicy import SyncPolicy


def console() -> Console:
    """Standard output; colours only on a terminal, and not where NO_COLOR is set (no-color.org)."""
    return Console(highlight=False, soft_wrap=True)


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
