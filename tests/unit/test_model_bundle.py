"""Loading files into a bundle, and resources from and to plain objects."""

import base64
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairlead.connectors.registry import preset_documents
from fairlead.model import schema
from fairlead.model.bundle import Bundle, collect, decode, load, preset
from fairlead.model.document import parse
from fairlead.model.problem import InvalidResource
from support import manifests
from support.manifests import Manifest, with_values


def bundle_of(*documents: Manifest) -> Bundle:
    return collect(parse(yaml.safe_dump_all(documents), "f.yaml"), {})


def told(*documents: Manifest) -> list[str]:
    return [problem.message for problem in bundle_of(*documents).problems]


def test_resources_are_found_by_namespace_and_name() -> None:
    bundle = bundle_of(manifests.connection(), manifests.policy(), manifests.connector())
    found = (bundle.connections.keys(), bundle.policies.keys(), bundle.connectors.keys(), bundle.problems)
    assert ({"default/crm"}, {"default/customers"}, {"shop"}, []) == found


def test_no_namespace_is_the_default_one() -> None:
    bundle = bundle_of({**manifests.connection(), "metadata": {"name": "crm"}})
    assert {"default/crm"} == bundle.connections.keys()


def test_files_and_directories_are_loaded(tmp_path: Path) -> None:
    (tmp_path / "crm.yaml").write_text(yaml.safe_dump(manifests.connection()))
    (tmp_path / "customers.yaml").write_text(yaml.safe_dump(manifests.policy()))
    bundle = load([tmp_path], {})
    assert ({"default/crm"}, {"default/customers"}) == (bundle.connections.keys(), bundle.policies.keys())


def test_a_broken_resource_is_remembered_but_not_used() -> None:
    bundle = bundle_of(with_values(manifests.connection(), {"spec.url": 1}))
    assert ({("Connection", "default/crm")}, {}) == (bundle.broken, bundle.connections)


def test_problems_have_file_and_line() -> None:
    text = yaml.safe_dump(with_values(manifests.connection(), {"spec.suspend": "x"}))
    (problem,) = collect(parse(text, "f.yaml"), {}).problems
    line = text.splitlines().index("  suspend: x") + 1
    assert f"f.yaml:{line}: spec.suspend: must be true or false, not text" == str(problem)


def test_what_is_declared_twice_is_told() -> None:
    assert told(manifests.connection(), manifests.connection()) == [
        "Connection default/crm is declared twice, first in f.yaml:1: remove one"
    ]


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"a": 1}, "has no apiVersion and kind: it is no Kubernetes object"),
        (
            {"apiVersion": "fairlead.dev/v1alpha1", "kind": "SyncPolcy"},
            "unknown kind 'SyncPolcy': did you mean 'SyncPolicy'?",
        ),
        ({"apiVersion": "fairlead.dev/v1", "kind": "SyncPolicy"}, "must be fairlead.dev/v1alpha1"),
        ({"apiVersion": "x/v1", "kind": "SyncPolicy"}, "must be fairlead.dev/v1alpha1"),
    ],
)
def test_what_is_no_resource_of_ours_is_told(document: Manifest, expected: str) -> None:
    assert [expected] == told(document)


def test_other_kinds_are_passed_over_with_a_note() -> None:
    bundle = bundle_of({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}})
    assert (
        bundle.problems,
        list(map(str, bundle.notes)),
    ) == ([], ["f.yaml:1: Deployment is passed over: it is not Fairlead's"])


def test_items_of_a_list_are_resources() -> None:
    bundle = bundle_of({"apiVersion": "v1", "kind": "List", "items": [manifests.connection(), manifests.database()]})
    assert {"default/crm", "default/erp"} == bundle.connections.keys()


def test_problems_in_a_list_have_their_line() -> None:
    broken = with_values(manifests.database(), {"spec.suspend": "x"})
    text = yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": [manifests.connection(), broken]})
    (problem,) = collect(parse(text, "f.yaml"), {}).problems
    assert text.splitlines().index("    suspend: x") + 1 == problem.line


def secret_of(**parts: Any) -> Manifest:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "login", "namespace": "revops"}, **parts}


def test_secrets_are_read_for_their_namespace() -> None:
    encoded = base64.b64encode(b"tom").decode()
    bundle = bundle_of(secret_of(data={"user": encoded}, stringData={"password": "p"}))
    assert (
        bundle.secret_values("revops"),
        bundle.secret_values("other"),
    ) == ({"login": {"user": "tom", "password": "p"}}, {})


def test_config_maps_are_read_for_authorities() -> None:
    bundle = bundle_of({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "ca"}, "data": {"ca.crt": "PEM"}})
    assert bundle.secret_values("default") == {"ca": {"ca.crt": "PEM"}}


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({"data": {"a": "hunter2!"}}, "is not base64 of UTF-8 text: encode it, or write it under stringData"),
        ({"data": {"a": "/w=="}}, "is not base64 of UTF-8 text: encode it, or write it under stringData"),
        ({"stringData": {"a": 5}}, "must be text: quote it"),
        ({"data": ["hunter2!"]}, "must be a mapping of text"),
    ],
)
def test_a_secret_that_cannot_be_read_is_told_without_its_value(parts: Manifest, expected: str) -> None:
    assert [expected] == told(secret_of(**parts))


def test_a_bundle_does_not_print_its_secrets() -> None:
    bundle = bundle_of(secret_of(stringData={"password": "hunter2"}))
    assert repr(bundle) == "Bundle(0 documents, 0 problems)"


def test_a_connector_in_a_file_comes_before_a_preset() -> None:
    mine = with_values(manifests.connector(), {"spec.probe.path": "/mine"})
    theirs = yaml.safe_dump(manifests.connector())
    bundle = collect(parse(yaml.safe_dump(mine)), {"shop": theirs, "other": theirs})
    assert [bundle.connectors[name].spec.probe.path for name in ("shop", "other")] == ["/mine", "/me"]


def test_a_preset_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidResource, match=r"bad\.yaml"):
        preset("bad", "kind: Connector\n")


@pytest.mark.parametrize(("name", "text"), preset_documents().items())
def test_every_packaged_preset_is_valid(name: str, text: str) -> None:
    assert name == preset(name, text).metadata.name


NAMES = st.from_regex(r"[a-z]([-a-z0-9]{0,10}[a-z0-9])?", fullmatch=True)
FIELDS = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True)
CHOICES = {
    "onConflict": ["SystemOfRecordWins", "LatestWins", "Priority", "Manual"],
    "edits": ["Anywhere", "SystemOfRecordOnly"],
    "whenEmpty": ["Propagate", "Keep"],
}
DURATIONS = st.builds("{}{}".format, st.integers(2, 99_999), st.sampled_from(["s", "m", "h"]))


@st.composite
def policies(draw: st.DrawFn) -> Manifest:
    """Valid SyncPolicies, by the CRD."""
    fields = draw(st.lists(FIELDS, min_size=1, max_size=4, unique=True))
    names = draw(st.lists(NAMES, min_size=2, max_size=4, unique=True))
    paths = st.text("abc.", min_size=1, max_size=8)
    mapping = paths | st.fixed_dictionaries({"path": paths}, optional={"values": st.dictionaries(paths, paths)})
    systems = [
        {
            "name": name,
            "connection": draw(NAMES),
            "object": draw(st.text(min_size=1, max_size=9)),
            "fields": {field: draw(mapping) for field in fields},
            **draw(st.fixed_dictionaries({}, optional={"key": paths, "filter": st.just("a == b")})),
        }
        for name in names
    ]
    rules = st.fixed_dictionaries({"systemOfRecord": st.sampled_from(names)}, optional=options())
    spec = {
        "entity": draw(st.from_regex(r"[A-Z][a-z]{0,9}", fullmatch=True)),
        "schema": {"type": "object", "properties": {field: {"type": "string"} for field in fields}},
        "match": [],
        "systems": systems,
        "systemOfRecord": draw(st.sampled_from(names)),
        "fields": draw(st.dictionaries(st.sampled_from(fields), rules)),
        **draw(st.fixed_dictionaries({}, optional=options())),
        "trigger": {"interval": draw(DURATIONS)},
        "suspend": draw(st.booleans()),
    }
    return {**manifests.policy(), "metadata": {"name": draw(NAMES), "namespace": draw(NAMES)}, "spec": spec}


def options() -> dict[str, st.SearchStrategy[str]]:
    return {name: st.sampled_from(choices) for name, choices in CHOICES.items()}


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=50)
@given(policies())
def test_any_valid_policy_survives_decode_and_encode(manifest: Manifest) -> None:
    assert schema.problems("SyncPolicy", manifest) == []
    policy = decode("SyncPolicy", manifest)
    assert policy == decode("SyncPolicy", msgspec.to_builtins(policy))


@pytest.mark.parametrize(
    "manifest",
    [manifests.full_connection(), manifests.full_policy(), manifests.full_connector()],
    ids=lambda manifest: manifest["kind"],
)
def test_what_says_everything_survives_decode_and_encode(manifest: Manifest) -> None:
    resource = decode(manifest["kind"], manifest)
    assert resource == decode(manifest["kind"], msgspec.to_builtins(resource))
