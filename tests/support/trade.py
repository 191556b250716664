"""Customers and their orders in two systems with native ids of their own, and the two policies that keep them."""

import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import psycopg

from fairlead.model.syncpolicy import SyncPolicy
from fairlead.state.base import StateError
from fairlead.transport.secrets import MappingSecrets
from fairlead.worker.hosting import Host
from fairlead.worker.loop import PolicyLoop
from fairlead.worker.run import Kind, RunReport
from support.policies import connection_of

CHANGED = "changed TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ'))"
TOUCHED = (
    "CREATE TRIGGER {0}_touched AFTER UPDATE ON {0} BEGIN "
    "UPDATE {0} SET changed = strftime('%Y-%m-%dT%H:%M:%fZ') WHERE id = new.id; END;"
)
CRM = (
    "CREATE TABLE customer(id INTEGER PRIMARY KEY AUTOINCREMENT, email TEXT UNIQUE, boss INTEGER, favourite INTEGER, "
    f"{CHANGED});"
    "CREATE TABLE sale(id INTEGER PRIMARY KEY AUTOINCREMENT, number TEXT UNIQUE, customer INTEGER, note TEXT, "
    f"{CHANGED});"
)
ERP = (
    "CREATE TABLE customer(id TEXT PRIMARY KEY DEFAULT ('K-' || hex(randomblob(4))), email TEXT UNIQUE, boss TEXT, "
    f"favourite TEXT, {CHANGED});"
    "CREATE TABLE sale(id TEXT PRIMARY KEY DEFAULT ('S-' || hex(randomblob(4))), number TEXT UNIQUE, customer TEXT, "
    f"note TEXT, {CHANGED});"
)
TEXT = {"type": "string"}
CUSTOMERS = {"email": TEXT}
SALES = {"number": TEXT, "customer": TEXT, "note": TEXT}
REFERENCE = {"customer": {"references": "customers"}}


class Trader:
    """One system, as the people who work in it see it."""

    def __init__(self, folder: Path, name: str, script: str) -> None:
        self.path = folder / f"{name}.db"
        self.database = sqlite3.connect(self.path, isolation_level=None)
        self.database.executescript(script + "".join(TOUCHED.format(table) for table in ("customer", "sale")))

    def add(self, table: str, **values: Any) -> Any:
        """Inserts a row; returns its id."""
        query = f"INSERT INTO {table}({', '.join(values)}) VALUES ({', '.join('?' * len(values))}) RETURNING id"
        return self.database.execute(query, tuple(values.values())).fetchone()[0]

    def edit(self, table: str, where: str, **values: Any) -> None:
        """Updates rows."""
        sets = ", ".join(f"{name} = ?" for name in values)
        self.database.execute(f"UPDATE {table} SET {sets} WHERE {where}", tuple(values.values()))

    def remove(self, table: str, where: str) -> None:
        """Deletes rows."""
        self.database.execute(f"DELETE FROM {table} WHERE {where}")

    def customer(self, email: str) -> Any:
        """The id of a customer; None when there is none."""
        row = self.database.execute("SELECT id FROM customer WHERE email = ?", (email,)).fetchone()
        return row and row[0]

    def sales(self) -> dict[str, Any]:
        """Number → email of the sale's customer; None without one, and its id where there is no such customer."""
        query = "SELECT number, coalesce(email, customer) FROM sale LEFT JOIN customer ON customer.id = customer"
        return dict(self.database.execute(f"{query} ORDER BY number"))

    def linked(self, field: str) -> dict[str, str | None]:
        """Email → email of the customer that a field refers to."""
        query = f"SELECT a.email, b.email FROM customer a LEFT JOIN customer b ON b.id = a.{field} ORDER BY a.email"
        return dict(self.database.execute(query))


class Trade:
    """Both systems, and workers over them. The state of both policies is in one place: files, else a database."""

    def __init__(self, folder: Path, dsn: str = "") -> None:
        self.folder = folder
        self.crm, self.erp = Trader(folder, "crm", CRM), Trader(folder, "erp", ERP)
        self.connections = {
            f"default/{name}": connection_of(name, f"sqlite:///{folder}/{name}.db") for name in ("crm", "erp")
        }
        self.state: dict[str, Any] = {}
        self.values: dict[str, dict[str, str]] = {}
        if dsn:
            self._keep_in(dsn)
        self.host = self.another_host()
        self.hosts = [self.host]

    def _keep_in(self, dsn: str) -> None:
        server, login = psycopg.conninfo.conninfo_to_dict(dsn), {"name": "login", "key": "user"}
        url = f"postgresql://{server['host']}:{server['port']}/{server['dbname']}?sslmode=disable"
        auth = {"basic": {"username": {"secretKeyRef": login}, "password": {"secretKeyRef": login}}}
        self.connections["default/state"] = connection_of("state", url, auth=auth)
        self.values = {"login": {"user": str(server["user"])}}
        self.state = {"state": {"store": "Postgres", "connection": "state"}}

    def another_host(self, folder: str = "state") -> Host:
        """A process of its own."""
        secrets = MappingSecrets(self.values)
        return Host(self.connections, {}, lambda _: secrets, self.folder / folder)

    def policy(
        self, name: str, table: str, properties: dict[str, Any], *, required: list[str], **spec: Any
    ) -> SyncPolicy:
        """A policy over one table of both systems; its columns are named as the fields are."""
        key = required[0]
        fields = {each: each for each in properties}
        systems = [
            {"name": each, "connection": each, "object": table, "fields": fields, "modified": "changed"}
            for each in ("crm", "erp")
        ]
        whole = {
            "entity": table.capitalize(),
            "schema": {"type": "object", "required": required, "properties": properties},
            "match": [{"fields": [key]}],
            "systems": systems,
            "systemOfRecord": "crm",
            "deletes": {"guard": {"maxRecords": 10, "maxPercent": 100}},
            **self.state,
            **spec,
        }
        document = {"metadata": {"name": name, "uid": f"u-{name}"}, "spec": whole}
        return msgspec.convert(document, SyncPolicy)

    def customers(self, **spec: Any) -> SyncPolicy:
        """The parents."""
        return self.policy("customers", "customer", CUSTOMERS, required=["email"], **spec)

    def sales(self, *, required: bool = True, **spec: Any) -> SyncPolicy:
        """The children. A sale without a customer is not to be created where `required`."""
        needed = ["number", *(["customer"] if required else [])]
        return self.policy("sales", "sale", SALES, required=needed, **{"fields": REFERENCE, **spec})

    async def run(self, *policies: SyncPolicy, kind: Kind | None = None) -> list[RunReport]:
        """One run of each, one after the other, in one process."""
        return [await run_of(PolicyLoop(policy, self.host), kind) for policy in policies]

    async def close(self) -> None:
        """Ends every process."""
        for host in self.hosts:
            await host.close()
        self.crm.database.close()
        self.erp.database.close()


async def run_of(loop: PolicyLoop, kind: Kind | None = None) -> RunReport:
    """One run, which must be a good one."""
    report = await loop.run_once(kind)
    if report is None:
        assert loop.measured.error is not None
        raise StateError(loop.measured.error.message)
    assert report.failures == {}
    return report
