"""Exit codes: what the command line and a worker end with."""

from __future__ import annotations

OK = 0
NEEDS_A_PERSON = 1
"""It ran, but something is not as it should be, or was refused."""

CALLED_WRONGLY = 2
STATE_UNUSABLE = 3
NOT_TAKEN_UP = 4
"""What was asked of a worker is kept, and none took it up in time."""
