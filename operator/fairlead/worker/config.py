"""The resources that the operator renders for a worker, in a folder of the pod."""

from __future__ import annotations

from pathlib import Path

import msgspec
import yaml

from fairlead.model.connection import Connection
from fairlead.model.connector import Connector
from fairlead.model.syncpolicy import SyncPolicy

CONNECTIONS = "connections.yaml"


class WorkerConfig(msgspec.Struct, frozen=True):
    """What the operator rendered."""

    policy: SyncPolicy
    connections: dict[str, Connection]
    connectors: dict[str, Connector]


def read_config(folder: Path) -> WorkerConfig:
    """The resources in a config folder.

    Raises:
        FileNotFoundError: a file is missing.
        msgspec.ValidationError: a file holds something else.
    """
    policy = msgspec.convert(_documents(folder / "policy.yaml")[0], SyncPolicy)
    connections = [msgspec.convert(d, Connection) for d in _documents(folder / CONNECTIONS)]
    connectors = [msgspec.convert(d, Connector) for d in _documents(folder / "connectors.yaml")]
    return WorkerConfig(
        policy,
        {f"{policy.metadata.namespace}/{c.metadata.name}": c for c in connections},
        {c.metadata.name: c for c in connectors},
    )


def _documents(path: Path) -> list[object]:
    return [document for document in yaml.load_all(path.read_text(), yaml.CSafeLoader) if document]
