"""Place: a record in one system."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import TypeAlias

Place: TypeAlias = "tuple[str, str]"
"""(system, native key)."""


def reservation(system: str, key: str) -> int:
    """The number (negative) under which a dead letter holds its match keys, so that nothing is matched past it."""
    digest = hashlib.blake2b(f"{system}\0{key}".encode(), digest_size=7).digest()
    return -1 - int.from_bytes(digest, "big")


def naming(names: Iterable[str]) -> re.Pattern[str]:
    """Finds where a text, such as a message, names any of these, and not a longer name that holds one."""
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, names))})(?!\w)")
