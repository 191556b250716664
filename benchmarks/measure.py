"""What every section uses: clocks, rows, and a policy between two tables."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import psycopg
from psycopg.conninfo import conninfo_to_dict

from fairlead.connectors.base import Client
from fairlead.connectors.registry import connect
from fairlead.engine.rules import compile_rules
from fairlead.model.connection import Connection
from fairlead.model.syncpolicy import SyncPolicy
from fairlead.state.base import Store
from fairlead.transport.secrets import MappingSecrets
from fairlead.worker.hosting import collect_seldom
from fairlead.worker.late import LateSystem
from fairlead.worker.session import Session, layout_of

TABLE = (
    "CREATE TABLE customer(id bigint PRIMARY KEY, email text, name text, phone text, city text, "
    "credit numeric(12,2), active boolean, updated timestamptz); CREATE INDEX ON customer(updated)"
)
PROPERTIES: dict[str, dict[str, Any]] = {
    "id": {"type": "integer"},
    "email": {"type": "string"},
    "name": {"type": "string"},
    "phone": {"type": "string"},
    "city": {"type": "string"},
    "credit": {"type": "number"},
    "active": {"type": "boolean"},
    "updated": {"type": "string", "format": "date-time"},
}
FILL = (
    "INSERT INTO customer SELECT i, 'user' || i || '@example.com', 'Name ' || i, '+49' || i, 'City ' || (i % 1000), "
    "(i % 100000) / 100.0, i % 2 = 0, now() - interval '1 day' + i * interval '1 ms' FROM generate_series(1, {n}) i"
)


class Stopwatch:
    """Seconds of the last `with` block."""

    seconds = 0.0
    _started = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Times a block."""
        self._started = time.perf_counter()
        yield
        self.seconds = self.elapsed

    @property
    def elapsed(self) -> float:
        """Seconds since the block began."""
        return time.perf_counter() - self._started


def row(what: str, measured: float, *, floor: float | None = None, mark: str = "", memory: bool = False) -> None:
    """Prints one row of the table."""
    cells = {"what": what, "measured": duration(measured), "mark": mark}
    if floor is not None:
        cells |= {"floor": duration(floor), "ratio": f"{measured / floor:.1f} ×"}
    if memory:
        cells["peak memory"] = f"{peak_memory()} MB"
    print(json.dumps(cells), flush=True)


def duration(seconds: float) -> str:
    """A length of time in a unit that suits it."""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"


def peak_memory() -> int:
    """This process's greatest resident size so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def resident(pid: int) -> int:
    """Resident memory of a process, in MB."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) // 1024


def databases(dsn: str, *names: str) -> dict[str, psycopg.Connection[Any]]:
    """Fresh databases with an empty customer table each."""
    made = {}
    with psycopg.connect(dsn, autocommit=True) as admin:
        for name in names:
            admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
            admin.execute(f"CREATE DATABASE {name}")
    for name in names:
        made[name] = psycopg.connect(psycopg.conninfo.make_conninfo(dsn, dbname=name), autocommit=True)
        made[name].execute(TABLE)
    return made


def sql_connection(dsn: str, name: str) -> Connection:
    """A Connection to one of the databases."""
    parts = conninfo_to_dict(dsn)
    login = {key: {"secretKeyRef": {"name": "db", "key": key}} for key in ("username", "password")}
    url = f"postgresql://{parts['host']}:{parts['port']}/{name}"
    spec = {"connector": "sql", "url": url, "auth": {"basic": login}}
    return msgspec.convert({"metadata": {"name": name}, "spec": spec}, Connection)


SECRETS = MappingSecrets({"db": {"username": "postgres", "password": "none"}})


def sql_client(dsn: str, name: str) -> Client:
    """The client of one of the databases."""
    return connect(sql_connection(dsn, name), {}, SECRETS)


def policy(systems: Mapping[str, Mapping[str, Any]], **spec: Any) -> SyncPolicy:
    """A policy over `PROPERTIES`; the first system is the system of record."""
    fields = {name: name for name in PROPERTIES}
    whole = {
        "entity": "Customer",
        "schema": {"type": "object", "properties": PROPERTIES},
        "match": [{"fields": ["id"]}],
        "systems": [
            {"name": n, "connection": n, "object": "customer", "fields": fields, **s} for n, s in systems.items()
        ],
        "systemOfRecord": next(iter(systems)),
        **spec,
    }
    return msgspec.convert({"metadata": {"name": "bench", "uid": "bench"}, "spec": whole}, SyncPolicy)


async def session(
    made: SyncPolicy,
    clients: Mapping[str, Client],
    store: Store,
    *,
    reached: type[LateSystem] = LateSystem,
) -> Session:
    """A session with its state in `store`, in a process set up as a worker's is."""
    collect_seldom()
    rules = compile_rules(made.spec)
    await store.open(layout_of(made, rules))
    systems = {
        spec.name: reached(clients[spec.name], spec, rules.systems[spec.name].mapping.paths)
        for spec in made.spec.systems
    }
    return Session(made, rules, systems, store, time.time)


def arguments() -> tuple[str, bool]:
    """(DSN, quick) of the command line."""
    return sys.argv[1], "--quick" in sys.argv
