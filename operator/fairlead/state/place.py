"""Place: a record in one system."""

from __future__ import annotations

import hashlib
from typing import TypeAlias

Place: TypeAlias = "tuple[str, str]"
"""(system, native key)."""


def reservation(system: str, key: str) -> int:
    """The number (negative) under which a dead letter holds its match keys, so that nothing is matched past it."""
    digest = hashlib.blake2b(f"{system}\0{key}".encode(), digest_size=7).digest()
    return -1 - int.from_bytes(digest, "big")
