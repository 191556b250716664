"""The REST connector passes the conformance suite, however the system pages and compares versions."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import pytest

from fairlead.connectors.base import Client
from fairlead.testing.connector import SystemSuite
from fairlead.testing.http_system import HTTPSystem
from support.rest import client_to, preset, with_paging

CURSOR = {"type": "Cursor", "param": "cursor", "next": "next", "sizeParam": "limit", "size": 100}
PAGE = {"type": "Page", "param": "page", "sizeParam": "limit", "size": 100}
OFFSET = {"type": "Offset", "param": "offset", "sizeParam": "limit", "size": 100}
LINK = {"type": "Link", "sizeParam": "limit", "size": 100}


def read_before() -> dict[str, Any]:
    """The preset for a system without ETags and batches."""
    spec = preset()
    thing = spec["objects"][0]
    thing["write"] = {
        "create": {"method": "POST", "path": "/{object}"},
        "update": {"method": "PATCH", "path": "/{object}/{key}"},
        "delete": {"method": "DELETE", "path": "/{object}/{key}"},
    }
    return spec


def one_by_one() -> dict[str, Any]:
    """The preset for a system that gives single records only, and pages by Link."""
    spec = with_paging(**LINK)
    spec["objects"][0]["read"]["byIDs"] = {"path": "/{object}/{key}"}
    return spec


def without_feed() -> dict[str, Any]:
    """The preset for a system that has neither a change feed nor a search nor reading by key."""
    spec = preset()
    spec["objects"][0]["read"] = {"list": spec["objects"][0]["read"]["list"]}
    return spec


def upsert() -> dict[str, Any]:
    """The preset for a system whose records get their keys from who writes them."""
    spec = preset()
    write = spec["objects"][0]["write"]
    spec["objects"][0]["write"] = {
        "upsert": {"method": "PUT", "path": "/{object}/{key}", "condition": "ETag"},
        "delete": write["delete"],
    }
    return spec


SPECS = {
    "cursor": lambda: with_paging(**CURSOR),
    "page": lambda: with_paging(**PAGE),
    "offset": lambda: with_paging(**OFFSET),
    "link": one_by_one,
    "read before": read_before,
    "without feed": without_feed,
    "upsert": upsert,
}


class APIWorld:
    """The people and programs that use the API beside Fairlead."""

    object_name, key, modified, missing = "customers", None, None, "costumers"
    refused: Mapping[str, object] = {"email": "no address"}

    def __init__(self, system: HTTPSystem, client: Client, *, own_keys: bool) -> None:
        self.system = system
        self.client = client
        self._own_keys = own_keys

    def key_values(self, number: int) -> dict[str, object]:
        return {"id": f"own-{number}"} if self._own_keys else {}

    async def insert(self, records: Sequence[Mapping[str, str | None]]) -> list[str]:
        return self.system.store.fill("customers", records)

    async def update(self, key: str, values: Mapping[str, str | None]) -> None:
        self.system.store.patch("customers", key, values)

    async def delete(self, key: str) -> None:
        self.system.store.delete("customers", key)

    async def bring_back(self, key: str, record: Mapping[str, str | None]) -> None:
        self.system.store.create("customers", record, key)

    async def read(self, key: str) -> Mapping[str, Any] | None:
        return self.system.store.values("customers").get(key)


class TestREST(SystemSuite):
    RECORDS = 250

    @pytest.fixture(params=SPECS)
    async def world(self, request: pytest.FixtureRequest) -> AsyncIterator[APIWorld]:
        with HTTPSystem() as system:
            client = client_to(system, SPECS[request.param]())
            yield APIWorld(system, client, own_keys=request.param == "upsert")
            await client.close()
