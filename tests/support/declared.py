"""What the tests of the operator declare: Connections to real systems, their Secrets, and policies between them."""

import base64
import sqlite3
from pathlib import Path
from typing import Any

from fairlead.testing.http_system import HTTPSystem
from support import manifests
from support.api import Manifest
from support.manifests import with_values


def login(value: str, name: str = "login") -> Manifest:
    """A Secret with one key, `value`."""
    return {"metadata": {"name": name}, "data": {"value": base64.b64encode(value.encode()).decode()}}


def http_connection(system: HTTPSystem | str, name: str = "crm", **spec: Any) -> Manifest:
    """A Connection to an HTTP system that is probed every second."""
    url = system if isinstance(system, str) else system.url
    whole = {"connector": "rest", "url": url, "probe": {"interval": "1s", "timeout": "2s"}, **spec}
    return with_values(manifests.connection(), {"metadata": {"name": name}, "spec": whole})


def with_token(system: HTTPSystem | str, name: str = "crm", **spec: Any) -> Manifest:
    """The same, with the token that the Secret `login` holds."""
    return http_connection(system, name, auth={"bearer": {"token": manifests.secret()}}, **spec)


def database_connection(folder: Path, name: str = "erp", **spec: Any) -> Manifest:
    """A Connection to a SQLite file, which is made."""
    path = folder / f"{name}.db"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE IF NOT EXISTS customer(id INTEGER PRIMARY KEY, email TEXT UNIQUE, name TEXT)")
    database.close()
    whole = {"connector": "sql", "url": f"sqlite:///{path}", **spec}
    return with_values(manifests.connection(), {"metadata": {"name": name}, "spec": whole})


def policy(name: str = "customers", **values: Any) -> Manifest:
    """A SyncPolicy between the Connections `crm` and `erp`, both databases; values by dotted path below `spec`."""
    systems = [
        {"name": each, "connection": each, "object": "customer", "fields": {"email": "email", "name": "name"}}
        for each in ("crm", "erp")
    ]
    changed = {f"spec.{path.replace('__', '.')}": value for path, value in values.items()}
    return with_values(manifests.policy(), {"metadata": {"name": name}, "spec.systems": systems, **changed})
