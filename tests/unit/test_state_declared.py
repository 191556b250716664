"""Where a policy's state is kept: what may be declared, and what is said of the rest."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from fairlead.cli.place import Target, at_pod
from fairlead.controller.manifests import Inputs, WorkerImage, render
from fairlead.model import schema
from fairlead.model.bundle import collect, decode
from fairlead.model.check import check
from fairlead.model.document import parse
from support import manifests
from support.manifests import Manifest, with_values, without

POSTGRES = {"store": "Postgres", "connection": "state"}
ON_POSTGRES = with_values(manifests.policy(), {"spec.state": POSTGRES})
SHOP = manifests.full_connector()
DATABASE = with_values(without(manifests.database(), "spec.auth"), {"metadata.name": "state"})


def told(policy: Manifest, *others: Manifest) -> list[str]:
    """What is wrong with a policy and the Connections of its systems and state."""
    documents = [SHOP, manifests.connection(), without(manifests.database(), "spec.auth"), policy, *others]
    bundle = collect(parse(yaml.safe_dump_all(documents), "f.yaml"), {})
    return [f"{problem.where}: {problem.message}" for problem in [*bundle.problems, *check(bundle)]]


def test_state_in_a_postgresql_database_is_fine() -> None:
    assert told(ON_POSTGRES, DATABASE) == []


def test_an_unknown_connection_is_told_with_what_was_meant() -> None:
    misspelt = with_values(ON_POSTGRES, {"spec.state.connection": "stat"})
    assert told(misspelt, DATABASE) == [
        "spec.state.connection: namespace default has no Connection 'stat': did you mean 'state'?"
    ]


@pytest.mark.parametrize(
    ("name", "found"),
    [("shop", "connector shop and a URL of https://"), ("book", "connector sql and a URL of sqlite://")],
)
def test_a_connection_to_something_else_is_told(name: str, found: str) -> None:
    book = with_values(DATABASE, {"metadata.name": "book", "spec.url": "sqlite:///book.db"})
    shop = with_values(manifests.connection(), {"metadata.name": "shop"})
    policy = with_values(ON_POSTGRES, {"spec.state.connection": name})
    assert told(policy, book, shop) == [
        f"spec.state.connection: Connection {name} has {found}: name one with connector sql and postgresql://"
    ]


def test_a_broken_connection_is_told_once() -> None:
    broken = with_values(DATABASE, {"spec.limits": {"concurrency": 0}})
    assert [text.partition(":")[0] for text in told(ON_POSTGRES, broken)] == ["spec.limits.concurrency"]


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ({"store": "Postgres"}, "spec.state: connection goes with store: Postgres: write both"),
        ({"connection": "state"}, "spec.state: connection goes with store: Postgres: write both"),
        ({**POSTGRES, "size": "1Gi"}, "spec.state: size and storageClassName are of a volume"),
        ({"store": "Postgre"}, "spec.state.store: must be one of SQLite, Postgres: did you mean 'Postgres'?"),
    ],
)
def test_what_cannot_go_together_is_told(state: dict[str, Any], expected: str) -> None:
    problems = schema.problems("SyncPolicy", with_values(manifests.policy(), {"spec.state": state}))
    assert [str(problem).startswith(expected) for problem in problems] == [True], problems


def changed(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    before = with_values(manifests.policy(), {"spec.state": old})
    return [str(p) for p in schema.problems("SyncPolicy", with_values(before, {"spec.state": new}), before)]


def test_a_volume_does_not_shrink_when_its_size_is_left_out() -> None:
    assert changed({"size": "2Gi"}, {}) == [
        "spec.state.size: a volume can grow but not shrink: write the old size or a larger one"
    ]
    assert changed({}, {"size": "2Gi"}) == []


@pytest.mark.parametrize(
    ("old", "new"), [({"size": "2Gi", "storageClassName": "fast"}, POSTGRES), (POSTGRES, {"size": "1Mi"})]
)
def test_a_state_may_move_to_another_store(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert changed(old, new) == []


def test_a_policy_names_the_connection_of_its_state_with_those_of_its_systems() -> None:
    systems = {system["connection"] for system in manifests.policy()["spec"]["systems"]}
    assert decode("SyncPolicy", manifests.policy()).connections() == systems
    assert decode("SyncPolicy", ON_POSTGRES).connections() == systems | {"state"}


# --- what runs it ---


def rendered(policy: Manifest, *connections: Manifest) -> dict[str, Any]:
    """Kind → the object that runs the policy."""
    inputs = Inputs(
        policy=decode("SyncPolicy", policy),
        connections=[decode("Connection", each) for each in connections],
        connectors=[],
        running=True,
        worker=WorkerImage(image="fairlead"),
    )
    return {kind.name: manifest for kind, manifest in render(inputs)}


def pod(objects: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = objects["Deployment"]["spec"]["template"]["spec"]
    return found


def test_a_worker_with_a_file_has_a_volume_of_the_declared_size() -> None:
    objects = rendered(manifests.policy())
    assert objects["PersistentVolumeClaim"]["spec"]["resources"] == {"requests": {"storage": "1Gi"}}
    assert "state" in {volume["name"] for volume in pod(objects)["volumes"]}


def test_a_worker_on_postgresql_has_no_volume_and_reads_the_secret_of_its_database() -> None:
    database = with_values(manifests.database(), {"metadata.name": "state"})
    objects = rendered(ON_POSTGRES, database)
    mounted = {source["secret"]["name"] for source in pod(objects)["volumes"][1]["projected"]["sources"]}
    assert "PersistentVolumeClaim" not in objects
    assert {volume["name"] for volume in pod(objects)["volumes"]} == {"config", "secrets", "tmp"}
    assert {mount["name"] for mount in pod(objects)["containers"][0]["volumeMounts"]} == {"config", "secrets", "tmp"}
    assert mounted == {database["spec"]["auth"]["basic"]["username"]["secretKeyRef"]["name"]}
    assert "name: state" in objects["ConfigMap"]["data"]["connections.yaml"]


def test_a_worker_reads_the_key_that_seals_its_values() -> None:
    key = {"secretKeyRef": {"name": "sealing", "key": "keys"}}
    objects = rendered(with_values(manifests.policy(), {"spec.state": {"encryptionKey": key}}))
    assert pod(objects)["volumes"][1]["projected"]["sources"] == [
        {"secret": {"name": "sealing", "optional": True, "items": [{"key": "keys", "path": "sealing/keys"}]}}
    ]


def test_a_command_in_the_pod_finds_what_is_mounted_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = rendered(manifests.policy(), manifests.connection(), manifests.database())
    container = pod(objects)["containers"][0]
    told = {each["name"]: each["value"] for each in container["env"] if "value" in each}
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert told == {f"FAIRLEAD_{name.upper()}": mounts[name] for name in ("config", "secrets", "state")}
    for name, text in objects["ConfigMap"]["data"].items():
        (tmp_path / name).write_text(text)
    monkeypatch.setenv("FAIRLEAD_CONFIG", str(tmp_path))
    monkeypatch.setenv("FAIRLEAD_SECRETS", "secrets")
    found = at_pod(Target([], "", Path("state")))
    declared = decode("SyncPolicy", manifests.policy())
    assert (found.policy.id, found.layout.fields) == (declared.id, tuple(declared.spec.schema["properties"]))
