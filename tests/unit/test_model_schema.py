"""The CRDs' own schema: what it promises to readers, that the model is the same, and how it judges."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec import inspect

from fairlead.model import schema
from fairlead.model.bundle import decode
from fairlead.model.connection import ConnectionSpec
from fairlead.model.connector import ConnectorSpec, Read, Write
from fairlead.model.rule import quantity
from fairlead.model.syncpolicy import SyncPolicySpec
from support import manifests
from support.manifests import CASES, Case, Manifest, with_values, without

SPECS = {"Connection": ConnectionSpec, "SyncPolicy": SyncPolicySpec, "Connector": ConnectorSpec}
SHARED = (Read, Write)
"""Types of several requests, of which the CRD offers each only what means something there."""

LEAST = [manifests.connection(), manifests.policy(), manifests.connector()]
FULL = [manifests.full_connection(), manifests.full_policy(), manifests.full_connector()]


def nodes(node: dict[str, Any], path: str, *, in_list: bool = False) -> Iterator[tuple[str, dict[str, Any], bool]]:
    """Every schema below one, and whether it is inside a list."""
    yield path, node, in_list
    for name, below in node.get("properties", {}).items():
        yield from nodes(below, f"{path}.{name}", in_list=in_list)
    if "items" in node:
        yield from nodes(node["items"], f"{path}[]", in_list=True)
    if "additionalProperties" in node:
        yield from nodes(node["additionalProperties"], f"{path}.*", in_list=in_list)


ALL = [
    found for kind in schema.KINDS for found in nodes(schema.openapi(kind), kind) if not found[0].endswith(".metadata")
]
SPEC_NODES = [found for found in ALL if ".status" not in found[0].replace(".errors[].status", "")]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_manifest_is_judged_as_expected(case: Case) -> None:
    found = schema.problems(case.manifest["kind"], case.manifest)
    assert case.accepted == (not found), found


def test_every_property_is_described() -> None:
    assert [path for path, node, _ in ALL if len(node.get("description", "")) < 10] == []


def test_everything_is_bounded() -> None:
    bounds = {"string": ("maxLength", "enum", "format"), "array": ("maxItems",), "integer": ("maximum",)}
    unbounded = [
        path
        for path, node, _ in SPEC_NODES
        if path.count(".") and not any(b in node for b in bounds.get(node.get("type", ""), ("type",)))
    ]
    assert [
        path
        for path in unbounded
        if not path.endswith((".apiVersion", ".kind", ".cpu", ".memory", "fields.*", "archive.set.*"))
    ] == []


def test_every_map_is_bounded() -> None:
    assert [path for path, node, _ in ALL if "additionalProperties" in node and "maxProperties" not in node] == []


def test_no_defaults_inside_list_items() -> None:
    assert [path for path, node, in_list in ALL if in_list and "default" in node] == []


def test_enums_are_in_camel_case() -> None:
    words = [(path, word) for path, node, _ in ALL for word in node.get("enum", ())]
    odd = [(path, word) for path, word in words if not re.fullmatch(r"[A-Z][A-Za-z]*", word)]
    assert odd == []


def test_every_list_says_how_it_is_merged() -> None:
    assert [path for path, node, _ in ALL if node.get("type") == "array" and "x-kubernetes-list-type" not in node] == []


def test_every_rule_has_a_message() -> None:
    rules = [(path, rule) for path, node, _ in ALL for rule in node.get("x-kubernetes-validations", ())]
    assert [path for path, rule in rules if not rule.get("message")] == []


@pytest.mark.parametrize("kind", schema.KINDS)
def test_model_and_crd_have_the_same_fields(kind: str) -> None:
    differences = list(compare(inspect.type_info(SPECS[kind]), schema.openapi(kind)["properties"]["spec"], "spec"))
    assert differences == []


def compare(model: Any, node: dict[str, Any], path: str) -> Iterator[str]:
    """Where a type of the model and a node of the CRD differ."""
    if isinstance(model, inspect.UnionType):
        model = next(each for each in model.types if not isinstance(each, inspect.NoneType))
    if isinstance(model, inspect.StructType):
        yield from compare_struct(model, node, path)
    elif isinstance(model, inspect.VarTupleType):
        yield from compare(model.item_type, node["items"], f"{path}[]")
    elif isinstance(model, inspect.EnumType):
        if [item.value for item in model.cls] != node.get("enum"):
            yield f"{path}: {node.get('enum')}"
    elif isinstance(model, inspect.DictType) and isinstance(model.value_type, inspect.StructType):
        yield from compare(model.value_type, node["additionalProperties"], f"{path}.*")


def compare_struct(model: inspect.StructType, node: dict[str, Any], path: str) -> Iterator[str]:
    fields = {field.encode_name: field for field in model.fields}
    properties = node.get("properties", {})
    extra = properties.keys() - fields.keys() if model.cls in SHARED else properties.keys() ^ fields.keys()
    if extra:
        yield f"{path}: {sorted(extra)}"
    required = {name for name, field in fields.items() if field.required}
    if required != set(node.get("required", ())):
        yield f"{path} requires {sorted(required ^ set(node.get('required', ())))}"
    for name in fields.keys() & properties.keys():
        yield from compare(fields[name].type, properties[name], f"{path}.{name}")


@pytest.mark.parametrize("manifest", LEAST, ids=lambda manifest: manifest["kind"])
def test_defaults_of_the_model_are_those_of_the_crd(manifest: Manifest) -> None:
    kind = manifest["kind"]
    assert decode(kind, manifest) == decode(kind, schema.with_defaults(kind, manifest))


@pytest.mark.parametrize("manifest", FULL, ids=lambda manifest: manifest["kind"])
def test_what_says_everything_gets_no_default(manifest: Manifest) -> None:
    assert manifest == schema.with_defaults(manifest["kind"], manifest)


@pytest.mark.parametrize("manifest", FULL, ids=lambda manifest: manifest["kind"])
def test_every_valid_manifest_can_be_decoded(manifest: Manifest) -> None:
    assert manifest["metadata"]["name"] == decode(manifest["kind"], manifest).metadata.name


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"spec.intervall": "1s"}, "spec.intervall: unknown field 'intervall'"),
        (
            {"spec.probe": {"intervall": "1s"}},
            "spec.probe.intervall: unknown field 'intervall': did you mean 'interval'?",
        ),
        ({"spec.limits": {"concurrency": "4"}}, "spec.limits.concurrency: must be a whole number, not text"),
        ({"spec.suspend": "yes"}, "spec.suspend: must be true or false, not text"),
        ({"spec.connector": 5}, "spec.connector: must be text, not a number: quote it"),
        (
            {"spec.probe": {"interval": 5}},
            "spec.probe.interval: must be text, not a number: write a duration, for example 500ms, 30s, 5m or 1h30m",
        ),
        (
            {"spec.probe": {"interval": "5"}},
            "spec.probe.interval: is not accepted: write a duration",
        ),
        ({"spec.retry": {"maxAttempts": 50}}, "spec.retry.maxAttempts: must be at most 20"),
        ({"spec.auth": {}}, "spec.auth: write exactly one of oauth2, apiKey, bearer and basic"),
        ({"kind": "Connection", "apiVersion": "fairlead.dev/v1"}, "apiVersion: must be fairlead.dev/v1alpha1"),
    ],
)
def test_problem_says_where_and_what_to_write(change: dict[str, Any], expected: str) -> None:
    problems = schema.problems("Connection", with_values(manifests.connection(), change))
    assert [str(problem).startswith(expected) for problem in problems] == [True], problems


def test_number_where_hours_or_days_belong_says_how_to_write_them() -> None:
    problems = schema.problems("SyncPolicy", with_values(manifests.policy(), {"spec.state": {"retention": 30}}))
    assert [str(problem) for problem in problems] == [
        "spec.state.retention: must be text, not a number: write a duration in hours or days, for example 12h or 30d"
    ]


def test_missing_value_says_what_it_is_for() -> None:
    problems = schema.problems("Connection", without(manifests.connection(), "spec.url"))
    assert [str(problem) for problem in problems] == ["spec: url is missing: Where the system is"]


def test_near_miss_of_an_enum_is_suggested() -> None:
    problems = schema.problems("SyncPolicy", with_values(manifests.policy(), {"spec.mode": "Enforced"}))
    assert [str(problem) for problem in problems] == [
        "spec.mode: must be one of Enforce, Plan: did you mean 'Enforce'?"
    ]


@pytest.mark.parametrize("place", ["spec", "spec.fields.name"])
def test_an_owner_by_a_condition_is_told_the_field_for_it(place: str) -> None:
    owner = {"when": "record.region == 'EU'", "then": "erp"}
    problems = schema.problems("SyncPolicy", with_values(manifests.policy(), {f"{place}.systemOfRecord": owner}))
    expected = (
        f"{place}.systemOfRecord: must be text, not a mapping: where a field's owner depends on the record, "
        "write systemOfRecordWhen (when, then, otherwise)"
    )
    assert [expected] == [str(problem) for problem in problems]


def test_name_that_is_there_twice_is_named() -> None:
    problems = schema.problems("SyncPolicy", with_values(manifests.policy(), {"spec.systems.1.name": "crm"}))
    assert [str(problem) for problem in problems] == ["spec.systems[1]: name 'crm' stands here twice: remove one"]


def test_all_problems_are_reported_at_once() -> None:
    wrong = with_values(manifests.connection(), {"spec.a": 1, "spec.b": 2, "spec.suspend": 3})
    assert len(schema.problems("Connection", wrong)) == 3


def test_a_password_in_the_url_is_not_repeated() -> None:
    wrong = with_values(manifests.connection(), {"spec.url": "https://user:hunter2@example .com"})
    assert "hunter2" not in " ".join(map(str, schema.problems("Connection", wrong)))


@pytest.mark.parametrize("url", ["mysql://db.example.com/erp", "erp.db", ""])
def test_a_url_that_is_not_one_of_ours_is_told_once_and_with_those_that_are(url: str) -> None:
    problems = schema.problems("Connection", with_values(manifests.connection(), {"spec.url": url}))
    expected = (
        "spec.url: is not accepted: write a URL of https, http, postgresql or sqlite, for example "
        "https://api.example.com, postgresql://host:5432/database or sqlite:///file.db"
    )
    assert [expected] == [str(problem) for problem in problems]


def test_status_is_left_to_the_api_server() -> None:
    exported = manifests.connection() | {"status": {"conditions": [{"type": "Ready"}]}}
    assert schema.problems("Connection", exported) == []


def test_a_rule_over_the_old_value_is_not_asked_at_creation() -> None:
    assert schema.problems("SyncPolicy", with_values(manifests.policy(), {"spec.state": {"size": "1Mi"}})) == []


def test_a_volume_does_not_shrink() -> None:
    old = with_values(manifests.policy(), {"spec.state": {"size": "2Gi"}})
    problems = schema.problems("SyncPolicy", with_values(old, {"spec.state": {"size": "1Gi"}}), old)
    assert list(map(str, problems)) == [
        "spec.state.size: a volume can grow but not shrink: write the old size or a larger one"
    ]


@pytest.mark.parametrize(("text", "number"), [("1Gi", 2**30), ("500M", 5e8), ("100m", 0.1), ("2", 2), ("1k", 1000)])
def test_quantity_reads_kubernetes_units(text: str, number: float) -> None:
    assert number == quantity(text)


@pytest.mark.parametrize("text", ["", "Gi", "1GiB", "1X", "1Gm"])
def test_quantity_refuses_what_is_none(text: str) -> None:
    with pytest.raises(ValueError):
        quantity(text)


def test_object_that_does_not_fit_the_model_is_refused_with_its_place() -> None:
    with pytest.raises(ValueError, match=r"spec\.suspend: Expected `bool`, got `str`"):
        decode("Connection", with_values(manifests.connection(), {"spec.suspend": "yes"}))


def test_objects_of_the_api_server_carry_more_than_the_model_reads() -> None:
    live = with_values(
        manifests.connection(), {"metadata.managedFields": [{}], "metadata.uid": "1", "status": {"x": 1}}
    )
    decoded = decode("Connection", live)
    assert (decoded.metadata.uid, decoded.status) == ("1", {"x": 1})


def test_schema_is_read_once() -> None:
    assert schema.crd("Connection") is schema.crd("Connection")
