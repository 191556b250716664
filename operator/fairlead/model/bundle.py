"""Bundle: everything that a set of files declares, typed, with the place of every value."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from pathlib import Path as FilePath
from typing import Any, Literal, overload

import msgspec

from fairlead.model import schema
from fairlead.model.connection import Connection
from fairlead.model.connector import Connector
from fairlead.model.document import Document, Reading, parse, read_paths
from fairlead.model.problem import InvalidResource, Path, Problem, near
from fairlead.model.syncpolicy import SyncPolicy

AnyResource = Connection | SyncPolicy | Connector

_TYPES: dict[str, type[AnyResource]] = {"Connection": Connection, "SyncPolicy": SyncPolicy, "Connector": Connector}


class Bundle(msgspec.Struct):
    """What was declared. Keys are `namespace/name` (of a Connector its name).

    Attributes:
        secrets: key → text of each Secret, for `fairlead run`; never to be shown.
        config_maps: key → text of each ConfigMap.
        documents: (kind, key) → where it was declared.
        broken: (kind, key) of what was declared but cannot be used, so that it is not also reported as missing.
        notes: what was passed over, and why.
    """

    connections: dict[str, Connection] = {}
    policies: dict[str, SyncPolicy] = {}
    connectors: dict[str, Connector] = {}
    secrets: dict[str, dict[str, str]] = {}
    config_maps: dict[str, dict[str, str]] = {}
    documents: dict[tuple[str, str], Document] = {}
    broken: set[tuple[str, str]] = set()
    problems: list[Problem] = []
    notes: list[Problem] = []

    def __repr__(self) -> str:
        return f"Bundle({len(self.documents)} documents, {len(self.problems)} problems)"

    def secret_values(self, namespace: str) -> dict[str, dict[str, str]]:
        """Name → key → text of the Secrets and ConfigMaps of one namespace, for `transport.secrets.MappingSecrets`."""
        found: dict[str, dict[str, str]] = {}
        for declared in (self.config_maps, self.secrets):
            for key, values in declared.items():
                space, _, name = key.partition("/")
                if space == namespace:
                    found[name] = found.get(name, {}) | values
        return found


def load(paths: Iterable[FilePath], presets: Mapping[str, str]) -> Bundle:
    """Reads and checks every document of files and directories, one by one; `check.check` looks at them together.

    Args:
        paths: files, or directories with everything below them.
        presets: name → YAML of the packaged Connectors. A Connector in a file comes before a preset of its name.
    """
    return collect(read_paths(paths), presets)


def collect(reading: Reading, presets: Mapping[str, str]) -> Bundle:
    """A bundle of what was read."""
    bundle = Bundle(problems=list(reading.problems))
    for document in reading.documents:
        for part in _parts(document):
            _add(bundle, part)
    for name, text in presets.items():
        bundle.connectors.setdefault(name, preset(name, text))
    return bundle


def preset(name: str, text: str) -> Connector:
    """A packaged Connector.

    Raises:
        InvalidResource: it is not one; a test keeps this from happening.
    """
    reading = parse(text, f"{name}.yaml")
    problems = reading.problems + [
        document.place(problem)
        for document in reading.documents
        for problem in schema.problems("Connector", document.value)
    ]
    if problems or len(reading.documents) != 1:
        raise InvalidResource(problems or [Problem(message="must hold one Connector", file=f"{name}.yaml")])
    return decode("Connector", reading.documents[0].value)


def _parts(document: Document) -> list[Document]:
    """The items of a List (`kubectl get -o yaml`), else the document itself."""
    items = document.value.get("items")
    if document.kind not in {"List", *(f"{kind}List" for kind in schema.KINDS)} or not isinstance(items, list):
        return [document]
    return [_item(document, number, item) for number, item in enumerate(items) if isinstance(item, dict)]


def _item(document: Document, number: int, item: dict[str, Any]) -> Document:
    lines = {path[2:]: line for path, line in document.lines.items() if path[:2] == ("items", number) and path[2:]}
    return Document(document.file, document.line_of(("items", number)), item, lines)


def _add(bundle: Bundle, document: Document) -> None:
    if document.api_version == schema.API_VERSION and document.kind in _TYPES:
        _add_resource(bundle, document)
    elif document.api_version == "v1" and document.kind in ("Secret", "ConfigMap"):
        _add_values(bundle, document)
    elif document.api_version.startswith(f"{schema.GROUP}/") or document.kind in _TYPES:
        bundle.problems.append(_misnamed(document))
    elif not document.kind or not document.api_version:
        bundle.problems.append(
            document.place(Problem(message="has no apiVersion and kind: it is no Kubernetes object"))
        )
    else:
        bundle.notes.append(document.place(Problem(message=f"{document.kind} is passed over: it is not Fairlead's")))


def _misnamed(document: Document) -> Problem:
    if document.kind in _TYPES:
        return document.place(Problem(message=f"must be {schema.API_VERSION}", path=("apiVersion",)))
    return document.place(
        Problem(message=f"unknown kind {document.kind!r}{near(document.kind, _TYPES)}", path=("kind",))
    )


def _add_resource(bundle: Bundle, document: Document) -> None:
    kind, key = document.kind, _key(document)
    found = schema.problems(kind, document.value)
    earlier = bundle.documents.get((kind, key))
    if earlier:
        at = f"{earlier.file}:{earlier.line}"
        found.append(Problem(message=f"{kind} {key} is declared twice, first in {at}: remove one", path=("metadata",)))
    bundle.documents.setdefault((kind, key), document)
    if not found:
        try:
            _store(bundle, key, decode(kind, schema.with_defaults(kind, document.value)))
        except InvalidResource as invalid:
            found += invalid.problems
    if found:
        bundle.broken.add((kind, key))
    bundle.problems += map(document.place, found)


def _store(bundle: Bundle, key: str, resource: AnyResource) -> None:
    if isinstance(resource, Connection):
        bundle.connections[key] = resource
    elif isinstance(resource, SyncPolicy):
        bundle.policies[key] = resource
    else:
        bundle.connectors[key] = resource


def _key(document: Document) -> str:
    metadata = document.value.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    name = str(metadata.get("name", ""))
    return name if document.kind in schema.CLUSTER_SCOPED else f"{metadata.get('namespace') or 'default'}/{name}"


def _add_values(bundle: Bundle, document: Document) -> None:
    problems: list[Problem] = []
    values: dict[str, str] = {}
    secret = document.kind == "Secret"
    for part, encoded in (("data", secret), ("stringData", False)):
        declared = document.value.get(part) or {}
        if part == "stringData" and not secret:
            continue
        if not isinstance(declared, dict):
            problems.append(Problem(message="must be a mapping of text", path=(part,)))
            continue
        for name, value in declared.items():
            _add_value(values, problems, (part, name), value, encoded=encoded)
    target = bundle.secrets if secret else bundle.config_maps
    target[_key(document)] = values
    bundle.problems += map(document.place, problems)


def _add_value(values: dict[str, str], problems: list[Problem], path: Path, value: Any, *, encoded: bool) -> None:
    name = str(path[-1])
    if not isinstance(value, str):
        problems.append(Problem(message="must be text: quote it", path=path))
        return
    try:
        values[name] = base64.b64decode(value, validate=True).decode() if encoded else value
    except (binascii.Error, UnicodeDecodeError):
        message = "is not base64 of UTF-8 text: encode it, or write it under stringData"
        problems.append(Problem(message=message, path=path))


@overload
def decode(kind: Literal["Connection"], value: Mapping[str, Any]) -> Connection: ...
@overload
def decode(kind: Literal["SyncPolicy"], value: Mapping[str, Any]) -> SyncPolicy: ...
@overload
def decode(kind: Literal["Connector"], value: Mapping[str, Any]) -> Connector: ...
@overload
def decode(kind: str, value: Mapping[str, Any]) -> AnyResource: ...
def decode(kind: str, value: Mapping[str, Any]) -> AnyResource:
    """An object as the API server gives it, typed. It was validated there, so its schema is not looked at again.

    Raises:
        InvalidResource: it cannot be what it says, for example because it was stored under an older schema.
    """
    try:
        return msgspec.convert(value, _TYPES[kind])
    except msgspec.ValidationError as error:
        message, _, where = str(error).partition(" - at ")
        text = f"{where.strip('`').removeprefix('$.')}: {message}" if where else message
        raise InvalidResource([Problem(message=text)]) from None
