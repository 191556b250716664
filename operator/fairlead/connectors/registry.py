"""Which connector a Connection names: the built-in `sql`, a packaged preset, or a Connector resource."""

from __future__ import annotations

from importlib.resources import files

SQL = "sql"
"""The connector that needs no Connector resource: the URL's scheme says which database."""


def preset_documents() -> dict[str, str]:
    """Name → YAML of every packaged Connector."""
    folder = files("fairlead.connectors") / "presets"
    return {
        item.name.removesuffix(".yaml"): item.read_text() for item in folder.iterdir() if item.name.endswith(".yaml")
    }
