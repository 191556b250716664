"""Archive: the rules about `systems[].archive`."""

from __future__ import annotations

from collections.abc import Iterator

from fairlead.model.checks.context import Context
from fairlead.model.checks.mapping import bad_path
from fairlead.model.problem import Problem


def values_are_constants(context: Context) -> Iterator[Problem]:
    """What an archived record says is an attribute that can be compared: text, a number, true or false."""
    for path, system in context.systems():
        for native, value in (system.archive.set if system.archive else {}).items():
            message = bad_path(native)
            if not isinstance(value, str | int | float | bool) or value == "":
                message = f"{native} must be text, a number, true or false, for example {{status: archived}}"
            if message:
                yield Problem(message=message, path=(*path, "archive", "set", native))
