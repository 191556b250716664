"""What cannot run on a machine is skipped with its reason, unless FAIRLEAD_NO_SKIP says that it must run."""

import os
from typing import NoReturn

import pytest


def cannot_run(reason: str) -> NoReturn:
    """Skips the test, or fails it where nothing may be skipped."""
    if os.environ.get("FAIRLEAD_NO_SKIP"):
        pytest.fail(f"nothing may be skipped here: {reason}", pytrace=False)
    pytest.skip(reason)
