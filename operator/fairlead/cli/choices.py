"""What can be chosen for every command."""

from __future__ import annotations

from enum import StrEnum


class Output(StrEnum):
    """What a command prints at its end."""

    TABLE = "table"
    JSON = "json"


class Log(StrEnum):
    """What a command tells while it works."""

    TEXT = "text"
    JSON = "json"
