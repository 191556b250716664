"""Connections and connectors to the HTTP test system, for tests of the REST connector."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import yaml

from fairlead.connectors.registry import preset_documents
from fairlead.connectors.rest import RestClient, RestObject
from fairlead.model.connection import Connection
from fairlead.model.connector import Connector
from fairlead.testing.http_system import HTTPSystem
from fairlead.transport.http import Bounds, HTTPClient
from fairlead.transport.secrets import MappingSecrets

QUICK = {"maxAttempts": 3, "initialBackoff": "1ms", "maxBackoff": "100ms"}


def ref(key: str, name: str = "login") -> dict[str, Any]:
    """A reference to a key of a Secret."""
    return {"secretKeyRef": {"name": name, "key": key}}


def connection_to(url: str, **spec: Any) -> Connection:
    """A Connection with quick retries."""
    whole = {"connector": "rest", "url": url, "retry": QUICK, **spec}
    return msgspec.convert({"metadata": {"name": "api"}, "spec": whole}, Connection)


def connector_of(spec: Mapping[str, Any]) -> Connector:
    """A Connector."""
    return msgspec.convert({"metadata": {"name": "api"}, "spec": spec}, Connector)


def preset() -> dict[str, Any]:
    """The spec of the packaged connector `rest`, to be changed."""
    spec: dict[str, Any] = yaml.safe_load(preset_documents()["rest"])["spec"]
    return spec


def with_paging(**paginate: Any) -> dict[str, Any]:
    """The preset with another way to page its lists."""
    spec = preset()
    for read in spec["objects"][0]["read"].values():
        if "paginate" in read:
            read["paginate"] = paginate
    return spec


class NoWaiting:
    """A sleep that takes no time, and remembers what was asked of it."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    async def __call__(self, seconds: float) -> None:
        """Yields to the loop once."""
        self.waits.append(seconds)
        await asyncio.sleep(0)


def client_to(
    system: HTTPSystem | str,
    spec: Mapping[str, Any] | None = None,
    *,
    secrets: Mapping[str, Mapping[str, str]] | None = None,
    bounds: Bounds | None = None,
    sleep: Any = asyncio.sleep,
    **connection: Any,
) -> RestClient:
    """A client of the REST connector."""
    made = connection_to(system if isinstance(system, str) else system.url, **connection)
    connector = connector_of(spec or preset())
    store = MappingSecrets(secrets or {})
    http = HTTPClient(
        made, store, headers=connector.spec.headers, rules=connector.spec.errors, bounds=bounds, sleep=sleep
    )
    return RestClient(made, connector, store, http)


async def customers(client: RestClient, paths: Sequence[str] = ("email", "name")) -> RestObject:
    """The object of the test system."""
    return await client.open("customers", paths=paths, key=None, modified=None)
