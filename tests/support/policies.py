"""Policies, connections and systems for tests of the worker."""

import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from fairlead.connectors.base import Client
from fairlead.connectors.sqlite import SQLiteDatabase
from fairlead.engine.rules import compile_rules
from fairlead.model.connection import Connection
from fairlead.model.syncpolicy import SyncPolicy
from fairlead.state.base import Store
from fairlead.worker.late import LateSystem
from fairlead.worker.planning import Plan
from fairlead.worker.session import Session, layout_of

SCHEMA = {
    "type": "object",
    "required": ["email"],
    "properties": {
        "email": {"type": "string", "maxLength": 100},
        "name": {"type": "string", "maxLength": 120},
        "credit": {"type": "number", "multipleOf": 0.01},
        "note": {"type": "string"},
    },
}
FIELDS = {"email": "email", "name": "name", "credit": "credit", "note": "note"}
TABLE = (
    "CREATE TABLE customer(id INTEGER PRIMARY KEY, email TEXT UNIQUE, name TEXT, credit NUMERIC, note TEXT, "
    "changed TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ')));"
    "CREATE TRIGGER touched AFTER UPDATE ON customer BEGIN "
    "UPDATE customer SET changed = strftime('%Y-%m-%dT%H:%M:%fZ') WHERE id = new.id; END"
)


def policy_of(systems: list[dict[str, Any]], **spec: Any) -> SyncPolicy:
    """A policy over `SCHEMA` with these systems; the first is the system of record."""
    whole = {
        "entity": "Customer",
        "schema": SCHEMA,
        "match": [{"fields": ["email"], "normalize": ["Trim", "Lowercase"]}],
        "systems": [{"connection": s["name"], "object": "customer", "fields": FIELDS, **s} for s in systems],
        "systemOfRecord": systems[0]["name"],
        "deletes": {"guard": {"maxRecords": 10, "maxPercent": 50}},
        **spec,
    }
    return msgspec.convert({"metadata": {"name": "customers", "uid": "u1"}, "spec": whole}, SyncPolicy)


def connection_of(name: str, url: str, **spec: Any) -> Connection:
    """A Connection of the `sql` connector."""
    document = {"metadata": {"name": name}, "spec": {"connector": "sql", "url": url, **spec}}
    return msgspec.convert(document, Connection)


async def open_session(
    policy: SyncPolicy, clients: Mapping[str, Client], store: Store, clock: Any, plan: Plan | None = None
) -> Session:
    """A session over open clients; the store is opened for the policy."""
    rules = compile_rules(policy.spec)
    await store.open(layout_of(policy, rules))
    systems = {
        spec.name: LateSystem(clients[spec.connection], spec, rules.systems[spec.name].mapping.paths)
        for spec in policy.spec.systems
    }
    return Session(policy, rules, systems, store, clock, plan)


class Book:
    """A SQLite file with a `customer` table, edited as an application would."""

    def __init__(self, folder: Path, name: str) -> None:
        self.path = folder / f"{name}.db"
        self.database = sqlite3.connect(self.path, isolation_level=None)
        self.database.executescript(TABLE)
        self.client = SQLiteDatabase(connection_of(name, f"sqlite:///{self.path}"))

    def add(self, email: str, **values: Any) -> int:
        """Inserts a customer; returns the key."""
        values = {"email": email, **values}
        query = f"INSERT INTO customer({', '.join(values)}) VALUES ({', '.join('?' * len(values))}) RETURNING id"
        key: int = self.database.execute(query, tuple(values.values())).fetchone()[0]
        return key

    def edit(self, email: str, /, **values: Any) -> None:
        """Updates a customer."""
        sets = ", ".join(f"{name} = ?" for name in values)
        self.database.execute(f"UPDATE customer SET {sets} WHERE email = ?", (*values.values(), email))

    def remove(self, email: str) -> None:
        """Deletes a customer."""
        self.database.execute("DELETE FROM customer WHERE email = ?", (email,))

    def all(self) -> dict[str, tuple[Any, ...]]:
        """Email → (name, credit, note)."""
        rows = self.database.execute("SELECT email, name, credit, note FROM customer ORDER BY email")
        return {row[0]: row[1:] for row in rows}

    async def close(self) -> None:
        """Closes both connections."""
        self.database.close()
        await self.client.close()
