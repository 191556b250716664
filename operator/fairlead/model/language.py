"""CEL, the expression language, without the command line that its library imports with it.

That command line brings in terminal libraries of 9 MB, which no worker needs. A worker is meant to be small at rest.
"""

from __future__ import annotations

import logging
import re
import sys
from types import ModuleType

sys.modules.setdefault("cel.cli", ModuleType("cel.cli"))

import cel  # noqa: E402 - the library must find the place of its command line taken
from cel.stdlib import STDLIB_FUNCTIONS, add_stdlib_to_context  # noqa: E402

logging.getLogger("cel").setLevel(logging.CRITICAL)  # it warns with the arguments of what failed: record values

__all__ = ["MACRO_VARIABLE", "MAX_LENGTH", "STDLIB_FUNCTIONS", "add_stdlib_to_context", "cel", "complaint"]

MAX_LENGTH = 2048
"""Longest expression accepted, as in the CRDs."""

MACRO_VARIABLE = re.compile(r"\.(?:all|exists|exists_one|map|filter)\(\s*(\w+)\s*,")
"""A macro, and the name that it binds."""


def complaint(error: ValueError) -> str:
    """The parser's first complaint, without the source it repeats."""
    text = str(error).rpartition("': ERROR: ")[2] or str(error)
    return text.splitlines()[0].removeprefix("<input>:").partition(" expecting {")[0][:160]
