"""Connections and connectors to the HTTP test system, for tests of the REST connector."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import yaml

from fairlead.connectors.base import NativeWrite, Operation, Outcome, Verdict
from fairlead.connectors.registry import preset_documents
from fairlead.connectors.rest import RestClient, RestObject
from fairlead.model.connection import Connection
from fairlead.model.connector import Connector, ErrorRule
from fairlead.model.record import Native
from fairlead.testing.http_faults import Fault, FaultKind
from fairlead.testing.http_system import HTTPSystem
from fairlead.transport.answer import Request
from fairlead.transport.exchange import Bounds
from fairlead.transport.failure import Failure
from fairlead.transport.http import HTTPClient
from fairlead.transport.secrets import MappingSecrets, Secrets

LOSSES = [FaultKind.LOSE_ANSWER, FaultKind.TRUNCATE, FaultKind.RESET]
"""What may become of an answer."""

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
    """Time that passes only when someone sleeps; remembers for how long."""

    def __init__(self) -> None:
        self.waits: list[float] = []
        self.now = 1000.0

    def clock(self) -> float:
        """Seconds, monotonic."""
        return self.now

    async def __call__(self, seconds: float) -> None:
        """Lets that many seconds pass, and the loop turn once."""
        self.waits.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


def bounds_for(fault: Fault) -> Bounds:
    """Little patience with what is slow, and none lost with anything else on a busy machine."""
    return Bounds(silence=0.3) if fault.kind is FaultKind.SLOW else Bounds()


@asynccontextmanager
async def http_to(
    system: HTTPSystem | str,
    *,
    secrets: Mapping[str, Mapping[str, str]] | Secrets | None = None,
    rules: Sequence[Mapping[str, Any]] = (),
    headers: Mapping[str, str] | None = None,
    bounds: Bounds | None = None,
    time: NoWaiting | None = None,
    **connection: Any,
) -> AsyncIterator[HTTPClient]:
    """A client of HTTP, closed in the end. Nothing waits for real."""
    time = time or NoWaiting()
    client = HTTPClient(
        connection_to(system if isinstance(system, str) else system.url, **connection),
        MappingSecrets(secrets or {}) if secrets is None or isinstance(secrets, Mapping) else secrets,
        headers=headers,
        rules=msgspec.convert(rules, list[ErrorRule]),
        bounds=bounds,
        sleep=time,
        clock=time.clock,
        chance=lambda: 1.0,
    )
    try:
        yield client
    finally:
        await client.close()


def request_to(client: HTTPClient, path: str = "/customers", method: str = "GET", **more: Any) -> Request:
    """A request as a connector would make it."""
    return Request(method, client.url(path), f"{method} {path}", **more)


async def failure_of(client: HTTPClient, kind: type[Failure] = Failure, **request: Any) -> Failure:
    """What a request that must fail fails with."""
    with pytest.raises(kind) as caught:
        await client.send(request_to(client, **request))
    return caught.value


def client_to(
    system: HTTPSystem | str,
    spec: Mapping[str, Any] | None = None,
    *,
    secrets: Mapping[str, Mapping[str, str]] | None = None,
    bounds: Bounds | None = None,
    time: NoWaiting | None = None,
    **connection: Any,
) -> RestClient:
    """A client of the REST connector. Nothing waits for real."""
    made = connection_to(system if isinstance(system, str) else system.url, **connection)
    connector, store, time = connector_of(spec or preset()), MappingSecrets(secrets or {}), time or NoWaiting()
    given = connector.spec
    http = HTTPClient(
        made, store, headers=given.headers, rules=given.errors, bounds=bounds, sleep=time, clock=time.clock
    )
    return RestClient(made, connector, store, http)


@asynccontextmanager
async def opened(
    system: HTTPSystem | str,
    spec: Mapping[str, Any] | None = None,
    paths: Sequence[str] = ("email", "name"),
    key: str | None = None,
    **options: Any,
) -> AsyncIterator[RestObject]:
    """The customers of the test system, as the REST connector sees them; closed in the end."""
    client = client_to(system, spec, **options)
    try:
        yield await client.open("customers", paths=paths, key=key, modified=None)
    finally:
        await client.close()


# --- writes ---


def add(system: HTTPSystem, count: int = 1) -> list[str]:
    """The keys of new customers, made behind our back."""
    return system.store.fill("customers", [{"email": f"p{n}@x", "name": f"P{n}"} for n in range(count)])


def record(system: HTTPSystem, key: str) -> dict[str, Any] | None:
    """`email` and `name` as they are stored."""
    found = system.store.values("customers").get(key)
    return found and {name: value for name, value in found.items() if name in ("email", "name")}


def as_seen(name: str, wanted: str) -> Callable[[Native], Verdict]:
    """Goes on while the name is as it was seen."""

    def check(native: Native) -> Verdict:
        if native.get("name") == wanted:
            return Verdict.DONE
        return Verdict.PROCEED if native.get("name") == name else Verdict.CONFLICT

    return check


def creation(n: int = 1, **values: object) -> NativeWrite:
    whole = {"email": f"new{n}@x", "name": f"New {n}", **values}
    return NativeWrite(Operation.CREATE, None, whole, None, lambda _: Verdict.PROCEED, f"create-{n}")


def renaming(
    key: str, *, seen: str = "P0", to: str = "New", version: str | None = None, **values: object
) -> NativeWrite:
    return NativeWrite(Operation.UPDATE, key, {"name": to, **values}, version, as_seen(seen, to), f"update-{key}")


def deletion(key: str, *, seen: str = "P0", version: str | None = None) -> NativeWrite:
    return NativeWrite(Operation.DELETE, key, {}, version, as_seen(seen, "\0"), f"delete-{key}")


def sent(system: HTTPSystem) -> list[str]:
    """Method and path of every request, without the query."""
    return [f"{method} {path.partition('?')[0]}" for method, path in system.seen]


async def write(thing: RestObject, write: NativeWrite) -> Outcome:
    """The outcome of one write."""
    (outcome,) = await thing.write([write])
    return outcome


def writes(**changes: Any) -> dict[str, Any]:
    """The preset with other writes; None takes one away."""
    spec = preset()
    for name, change in changes.items():
        declared = spec["objects"][0]["write"]
        declared[name] = None if change is None else {**(declared.get(name) or {}), **change}
    return spec
