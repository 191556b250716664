"""Conformance suite of `state.base.Store`: what every store must do.

Inherit from `StoreSuite` and give it two fixtures: `again` makes the same store each time it is called, `elsewhere`
another one, which may be of another kind:

    class TestMyStore(StoreSuite):
        @pytest.fixture
        def again(self, tmp_path) -> Callable[[], Store]:
            return lambda: MyStore(tmp_path / "state")

        @pytest.fixture
        def elsewhere(self, tmp_path) -> Callable[[], Store]:
            return lambda: MyStore(tmp_path / "other")

The tests need pytest with pytest-asyncio in auto mode.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fairlead.state.base import Store
from fairlead.testing.store.audit import AuditTests
from fairlead.testing.store.erasing import ErasingTests
from fairlead.testing.store.identities import IdentityTests
from fairlead.testing.store.layouts import LayoutTests
from fairlead.testing.store.memory import MemoryTests
from fairlead.testing.store.moving import MovingTests
from fairlead.testing.store.privacy import PrivacyTests
from fairlead.testing.store.referring import ReferringTests
from fairlead.testing.store.requesting import RequestTests
from fairlead.testing.store.sample import KEY, LAYOUT, OTHER_KEY, prints, recollection

__all__ = ["KEY", "LAYOUT", "OTHER_KEY", "StoreSuite", "prints", "recollection"]


class StoreSuite(
    MemoryTests,
    PrivacyTests,
    ErasingTests,
    MovingTests,
    LayoutTests,
    IdentityTests,
    ReferringTests,
    RequestTests,
    AuditTests,
):
    """The tests."""

    @pytest.fixture
    async def store(self, again: Callable[[], Store]):  # type: ignore[no-untyped-def]  # noqa: ANN201
        """The store, open."""
        made = again()
        await made.open(LAYOUT)
        yield made
        await made.close()
