"""Which connector a Connection names: the built-in `sql`, a packaged preset, or a Connector resource.

Database and HTTP libraries are imported only when a Connection needs them: a worker at rest stays small.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from urllib.parse import urlsplit

from fairlead.connectors.base import Client
from fairlead.model.connection import Connection
from fairlead.model.connector import Connector
from fairlead.transport.failure import Misconfigured
from fairlead.transport.secrets import Secrets

SQL = "sql"
"""The connector that needs no Connector resource: the URL's scheme says which database."""


def preset_documents() -> dict[str, str]:
    """Name → YAML of every packaged Connector."""
    presets = [item for item in (files("fairlead.connectors") / "presets").iterdir() if item.name.endswith(".yaml")]
    return {item.name.removesuffix(".yaml"): item.read_text() for item in presets}


def connect(connection: Connection, connectors: Mapping[str, Connector], secrets: Secrets) -> Client:
    """The client of a Connection; nothing is sent yet.

    Raises:
        Misconfigured: no such connector, or a URL that it cannot use.
    """
    if connection.spec.connector == SQL:
        return _database(connection, secrets)
    connector = connectors.get(connection.spec.connector)
    if connector is None:
        known = ", ".join(sorted([*connectors, SQL]))
        raise Misconfigured(
            f"there is no Connector {connection.spec.connector!r}; there are: {known}", reason="InvalidSpec"
        )
    from fairlead.connectors.rest import RestClient  # noqa: PLC0415 - see the module's docstring

    return RestClient(connection, connector, secrets)


def _database(connection: Connection, secrets: Secrets) -> Client:
    scheme = urlsplit(connection.spec.url).scheme
    if scheme == "sqlite":
        from fairlead.connectors.sqlite import SQLiteDatabase  # noqa: PLC0415

        return SQLiteDatabase(connection)
    if scheme in ("postgresql", "postgres"):
        from fairlead.connectors.postgres import PostgresDatabase  # noqa: PLC0415

        return PostgresDatabase(connection, secrets)
    raise Misconfigured(f"sql does not speak {scheme}://: write postgresql:// or sqlite:///", reason="InvalidSpec")
