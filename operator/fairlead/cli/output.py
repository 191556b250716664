"""What the command line prints: tables and colours for people, JSON for machines."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import orjson
from rich.console import Console
from rich.text import Text

from fairlead.model.health import Conclusion, Measured
from fairlead.model.syncpolicy import SyncPolicy


def console() -> Console:
    """Standard output; colours only on a terminal, and not where NO_COLOR is set (no-color.org)."""
    return Console(highlight=False, soft_wrap=True)


def as_json(value: object, *, indent: bool = False) -> str:
    """JSON, in which a decimal is a number with all its digits."""
    return orjson.dumps(value, default=_decimal, option=orjson.OPT_INDENT_2 if indent else None).decode()


def _decimal(value: object) -> orjson.Fragment:
    if isinstance(value, Decimal):
        return orjson.Fragment(format(value, "f"))
    raise TypeError(f"{type(value).__name__} is no JSON")


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
