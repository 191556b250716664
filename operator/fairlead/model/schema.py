"""Schema: what the CRDs in `crds/` accept, decided here as the API server decides it.

The same YAML that is installed into a cluster is read here: structure by jsonschema, rules that OpenAPI cannot express
by evaluating their CEL. `tests/cluster/test_crds.py` proves on a real API server that both accept and refuse the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path as FilePath
from typing import Any

import yaml

import fairlead
from fairlead.model.problem import Path, Problem
from fairlead.model.rule import rules_of
from fairlead.model.structure import structural_problems

GROUP = "fairlead.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

_FILES = {"Connection": "connections.yaml", "SyncPolicy": "syncpolicies.yaml", "Connector": "connectors.yaml"}
KINDS = tuple(_FILES)
CLUSTER_SCOPED = frozenset({"Connector"})


@cache
def crd(kind: str) -> dict[str, Any]:
    """The CustomResourceDefinition of a kind, as it is installed. Not to be changed.

    Raises:
        KeyError: not one of `KINDS`.
    """
    loaded: dict[str, Any] = yaml.load((_folder() / _FILES[kind]).read_text("utf-8"), Loader=yaml.CSafeLoader)
    return loaded


def _folder() -> Traversable:
    """Packaged with the wheel, or beside `operator/` in a checkout."""
    packaged = files("fairlead") / "crds"
    return packaged if packaged.is_dir() else FilePath(next(iter(fairlead.__path__))).parents[1] / "crds"


@cache
def openapi(kind: str) -> dict[str, Any]:
    """The kind's own `openAPIV3Schema`. Not to be changed."""
    schema: dict[str, Any] = crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def with_defaults(kind: str, value: Mapping[str, Any]) -> dict[str, Any]:
    """A copy with the defaults that the API server would fill in, and without status."""
    plain = {name: part for name, part in value.items() if name != "status"}
    filled: dict[str, Any] = _filled(plain, {**openapi(kind), "default": None})
    return filled


def _filled(value: Any, schema: Mapping[str, Any]) -> Any:
    """Nulls of properties are dropped, as the API server does, before defaults are filled in."""
    if isinstance(value, list):
        return [_filled(item, schema.get("items", {})) for item in value]
    if not isinstance(value, dict):
        return value
    properties: Mapping[str, Any] = schema.get("properties", {})
    others = schema.get("additionalProperties", {})
    known = {n: p for n, p in value.items() if p is not None or (n not in properties and not others)}
    absent = {n: p["default"] for n, p in properties.items() if n not in known and "default" in p and n != "status"}
    return {n: _filled(p, properties.get(n, others)) for n, p in (known | absent).items()}


def problems(kind: str, value: Mapping[str, Any], old: Mapping[str, Any] | None = None) -> list[Problem]:
    """Everything that the API server would refuse when `value` is created (or replaces `old`); empty when valid.

    Rules are looked at only once the structure is right, since they rely on it.
    """
    filled = with_defaults(kind, value)
    found = list(structural_problems(kind, filled, openapi(kind)))
    return found or list(_broken_rules(kind, filled, None if old is None else with_defaults(kind, old)))


def _broken_rules(kind: str, value: dict[str, Any], old: dict[str, Any] | None) -> Iterator[Problem]:
    yield from _walk((), value, old, openapi(kind))


def _walk(path: Path, value: Any, old: Any, schema: Mapping[str, Any]) -> Iterator[Problem]:
    for rule in rules_of(schema):
        broken = rule.broken(value, old)
        if broken is not None:
            yield Problem(message=broken, path=path + rule.below)
    if isinstance(value, dict):
        before = old if isinstance(old, dict) else {}
        properties: Mapping[str, Any] = schema.get("properties", {})
        for name, part in value.items():
            below = properties.get(name, schema.get("additionalProperties", {}))
            yield from _walk((*path, name), part, before.get(name), below)
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _walk((*path, number), item, _partner(item, old, schema), schema.get("items", {}))


def _partner(item: Any, old: Any, schema: Mapping[str, Any]) -> Any:
    """The old item that an item of a list map replaces; items of other lists have none."""
    keys = schema.get("x-kubernetes-list-map-keys")
    if not keys or not isinstance(old, list):
        return None
    return next((was for was in old if all(was.get(key) == item.get(key) for key in keys)), None)
