"""Reconciles a Connector: what depends on it is looked at again when it changes."""

from __future__ import annotations

from collections.abc import Callable

from fairlead.controller.inventory import Inventory, Key
from fairlead.kube.client import Kube
from fairlead.kube.kinds import CONNECTOR
from fairlead.model.bundle import decode

_REST = 900.0


class ConnectorReconciler:
    """Keeps the Connectors that the inventory knows as they are at the API server.

    Args:
        kube: the API server.
        inventory: where Connections and policies find Connectors.
        requeue: asks for a visit of another resource.
    """

    def __init__(self, kube: Kube, inventory: Inventory, requeue: Callable[[Key], None]) -> None:
        self._kube = kube
        self._inventory = inventory
        self._requeue = requeue

    async def reconcile(self, key: Key) -> float | None:
        """One visit; returns seconds until the next, None when the Connector is gone."""
        found = await self._kube.get(CONNECTOR, None, key.name)
        before = self._inventory.connectors.get(key.name)
        if found is None:
            self._inventory.connectors.pop(key.name, None)
            if before:
                self._concern(key.name)
            return None
        connector = decode("Connector", found)
        self._inventory.connectors[key.name] = connector
        if before is None or before.spec != connector.spec:
            self._concern(key.name)
        return _REST

    def _concern(self, name: str) -> None:
        for key in self._inventory.users_of_connector(name):
            self._requeue(key)
