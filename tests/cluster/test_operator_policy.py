"""What the operator makes of a SyncPolicy, and what it says of it."""

import json
from pathlib import Path

import pytest
import yaml

from fairlead.controller.handlers import OWNED
from fairlead.kube.kinds import (
    CONFIG_MAP,
    CONNECTION,
    DEPLOYMENT,
    PERSISTENT_VOLUME_CLAIM,
    ROLE_BINDING,
    SECRET,
    SYNC_POLICY,
)
from fairlead.worker.config import read_config
from support.api import Api, Manifest, condition, eventually, once, verdict
from support.cluster import Cluster
from support.declared import database_connection, login, policy, with_token
from support.operator import IMAGE, NAME, Read
from support.pods import pods, report, start_pods

pytestmark = [pytest.mark.xdist_group("api"), pytest.mark.usefixtures("operator")]


@pytest.fixture
def declared(api: Api, namespace: str, tmp_path: Path, read: Read) -> Manifest:
    """A policy between two databases whose Deployment was made."""
    api.apply(CONNECTION, namespace, database_connection(tmp_path, "crm"), database_connection(tmp_path, "erp"))
    api.apply(SYNC_POLICY, namespace, policy())
    once(lambda: api.get(DEPLOYMENT, namespace, NAME))
    return read()


@pytest.fixture
def running(api: Api, namespace: str, declared: Manifest, read: Read) -> Manifest:
    """The same, with a worker that runs and is in sync."""
    start_pods(api, namespace)
    report(api, namespace)
    eventually(lambda: verdict(read()), ("True", "InSync"))
    return read()


# --- what runs it ---


def test_a_policy_is_run_by_six_objects_that_it_owns(api: Api, namespace: str, declared: Manifest) -> None:
    made = [api.get(kind, namespace, NAME) for kind in OWNED]
    owners = [[(o["kind"], o["uid"], o["controller"]) for o in each["metadata"]["ownerReferences"]] for each in made]
    assert owners == [[("SyncPolicy", declared["metadata"]["uid"], True)]] * 6


def test_everything_that_runs_a_policy_can_be_found_by_its_labels(api: Api, namespace: str, declared: Manifest) -> None:
    expected = {
        "app.kubernetes.io/name": "fairlead",
        "app.kubernetes.io/instance": "customers",
        "app.kubernetes.io/component": "worker",
        "app.kubernetes.io/managed-by": "fairlead-operator",
        "fairlead.dev/policy": "customers",
    }
    assert [api.get(kind, namespace, NAME)["metadata"]["labels"] for kind in OWNED] == [expected] * 6


def test_the_workers_pod_is_made_where_pod_security_is_restricted(
    api_server: Cluster, api: Api, namespace: str, tmp_path: Path
) -> None:
    api_server.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    api.apply(CONNECTION, namespace, database_connection(tmp_path, "crm"), database_connection(tmp_path, "erp"))
    api.apply(SYNC_POLICY, namespace, policy())
    once(lambda: pods(api, namespace))


def test_the_worker_runs_the_image_that_the_chart_names(api: Api, namespace: str, declared: Manifest) -> None:
    container = api.get(DEPLOYMENT, namespace, NAME)["spec"]["template"]["spec"]["containers"][0]
    assert (container["image"], container["imagePullPolicy"]) == (IMAGE, "IfNotPresent")
    assert container["resources"]["limits"] == {"memory": "512Mi"}


def test_a_policys_own_resources_come_before_the_charts(api: Api, namespace: str, declared: Manifest) -> None:
    wanted = {"requests": {"cpu": "200m", "memory": "64Mi"}, "limits": {"cpu": 1, "memory": "1Gi"}}
    api.apply(SYNC_POLICY, namespace, policy(worker={"resources": wanted}))
    read = lambda: api.get(DEPLOYMENT, namespace, NAME)["spec"]["template"]["spec"]["containers"][0]  # noqa: E731
    expected = {"requests": {"cpu": "200m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}}
    eventually(lambda: read()["resources"], expected)


def test_the_state_is_kept_in_a_volume_of_the_declared_size(api: Api, namespace: str, tmp_path: Path) -> None:
    api.apply(CONNECTION, namespace, database_connection(tmp_path, "crm"), database_connection(tmp_path, "erp"))
    api.apply(SYNC_POLICY, namespace, policy(state={"size": "3Gi", "storageClassName": "fast"}))
    spec = once(lambda: api.get(PERSISTENT_VOLUME_CLAIM, namespace, NAME))["spec"]
    expected = ("3Gi", "fast", ["ReadWriteOnce"])
    assert (spec["resources"]["requests"]["storage"], spec["storageClassName"], spec["accessModes"]) == expected


def test_a_worker_can_read_the_configuration_that_it_is_given(
    api: Api, namespace: str, declared: Manifest, tmp_path: Path
) -> None:
    config = config_of(api, namespace, tmp_path)
    named = (config.policy.id, sorted(config.connections), config.policy.metadata.generation)
    assert named == (f"{namespace}/customers", [f"{namespace}/crm", f"{namespace}/erp"], 1)


def config_of(api: Api, namespace: str, folder: Path):
    mounted = folder / "config"
    mounted.mkdir(exist_ok=True)
    for name, text in once(lambda: api.get(CONFIG_MAP, namespace, NAME))["data"].items():
        (mounted / name).write_text(text)
    return read_config(mounted)


def test_a_worker_mounts_the_named_keys_of_secrets_and_no_others(api: Api, namespace: str, tmp_path: Path) -> None:
    api.apply(SECRET, namespace, login("one"))
    tls = {"caBundle": {"configMapKeyRef": {"name": "ca", "key": "ca.crt"}}}
    api.apply(CONNECTION, namespace, with_token("http://crm.invalid", tls=tls), database_connection(tmp_path, "erp"))
    api.apply(SYNC_POLICY, namespace, policy())
    volumes = once(lambda: api.get(DEPLOYMENT, namespace, NAME))["spec"]["template"]["spec"]["volumes"]
    sources = next(each for each in volumes if each["name"] == "secrets")["projected"]["sources"]
    secret = {"name": "login", "optional": True, "items": [{"key": "value", "path": "login/value"}]}
    bundle = {"name": "ca", "optional": True, "items": [{"key": "ca.crt", "path": "ca/ca.crt"}]}
    assert sources == [{"secret": secret}, {"configMap": bundle}]


def test_the_workers_only_right_is_its_own_policy(api: Api, namespace: str, declared: Manifest) -> None:
    once(lambda: api.get(ROLE_BINDING, namespace, NAME))
    expected = [(["get"], ["syncpolicies"], ["customers"]), (["patch"], ["syncpolicies/status"], ["customers"])]
    eventually(lambda: rights(api, namespace, NAME), expected)


def rights(api: Api, namespace: str, account: str) -> list[tuple[list[str], list[str], list[str]]]:
    """What a ServiceAccount may do that no other of its namespace may."""
    mine, others = (api.rules(f"system:serviceaccount:{namespace}:{each}", namespace) for each in (account, "default"))
    own = [rule for rule in mine if rule not in others]
    return sorted((rule["verbs"], rule["resources"], rule.get("resourceNames", [])) for rule in own)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("get syncpolicies/customers", "yes"),
        ("patch syncpolicies/customers --subresource=status", "yes"),
        ("patch syncpolicies/customers", "no"),
        ("get syncpolicies/orders", "no"),
        ("list syncpolicies", "no"),
        ("get secrets/login", "no"),
        ("get configmaps/customers-fairlead", "no"),
    ],
)
def test_kubectl_says_what_a_worker_may(
    api_server: Cluster, api: Api, namespace: str, declared: Manifest, question: str, answer: str
) -> None:
    once(lambda: api.get(ROLE_BINDING, namespace, NAME))
    account = f"system:serviceaccount:{namespace}:{NAME}"
    ask = lambda: api_server.kubectl("auth", "can-i", *question.split(), "--as", account, "-n", namespace, check=False)  # noqa: E731
    eventually(lambda: ask().split()[-1], answer)


# --- what is said of it ---


def test_every_condition_is_there_on_the_first_visit(read: Read, declared: Manifest) -> None:
    once(lambda: condition(read(), "Ready"))
    kinds = {each["type"] for each in read()["status"]["conditions"]}
    assert kinds == {"Ready", "Synced", "Reconciling"}


def test_a_worker_that_has_not_started_is_no_failure_yet(read: Read, declared: Manifest) -> None:
    eventually(lambda: verdict(read()), ("False", "WorkerStarting"))
    assert verdict(read(), "Reconciling") == ("True", "WorkerStarting")


def test_a_policy_whose_worker_delivers_is_ready(running: Manifest) -> None:
    found = {each["type"]: (each["status"], each["reason"]) for each in running["status"]["conditions"]}
    assert found == {"Ready": ("True", "InSync"), "Synced": ("True", "AllAgree")}


def test_conditions_and_status_are_about_the_present_generation(
    api: Api, namespace: str, running: Manifest, read: Read
) -> None:
    api.edit(SYNC_POLICY, namespace, "customers", {"spec": {"trigger": {"interval": "45s"}}})
    eventually(lambda: read()["status"]["observedGeneration"], 2)
    assert {each["observedGeneration"] for each in read()["status"]["conditions"]} == {2}


def test_a_policy_whose_worker_still_runs_the_old_spec_is_reconciling(
    api: Api, namespace: str, running: Manifest, read: Read
) -> None:
    api.edit(SYNC_POLICY, namespace, "customers", {"spec": {"trigger": {"interval": "45s"}}})
    eventually(lambda: verdict(read(), "Reconciling")[0], "True")
    report(api, namespace)

    def follow_up() -> tuple[tuple[str, str], tuple[str, str]]:
        start_pods(api, namespace)
        return verdict(read()), verdict(read(), "Reconciling")

    eventually(follow_up, (("True", "InSync"), ("", "")))


def test_kubectl_waits_for_a_policy(api_server: Cluster, namespace: str, running: Manifest) -> None:
    api_server.wait_for("syncpolicy", "customers", namespace, "condition=Ready", seconds=10)


def test_kubectl_get_prints_how_a_policy_is(api_server: Cluster, namespace: str, running: Manifest) -> None:
    row = api_server.kubectl("get", "sp", "customers", "-n", namespace, "--no-headers").split()
    assert " ".join(row[:11]) == "customers Customer crm,erp crm Enforce True InSync 84ms 7 0 0"


def test_a_ready_policy_is_told_as_an_event(api: Api, namespace: str, running: Manifest) -> None:
    eventually(lambda: [event[:2] for event in api.events(namespace, "customers")], [("Normal", "InSync")])


def test_the_operator_never_changes_what_was_declared(api: Api, namespace: str, running: Manifest) -> None:
    owned = {(each["manager"], each.get("subresource", "")): each["fieldsV1"] for each in fields_of(running)}
    assert set(owned) == {("gitops", ""), ("fairlead-operator", "status"), ("fairlead-worker", "status")}
    assert set(owned["fairlead-operator", "status"]) == {"f:status"}
    assert running["metadata"].get("annotations") is running["metadata"].get("finalizers") is None


def fields_of(found: Manifest) -> list[Manifest]:
    fields: list[Manifest] = found["metadata"]["managedFields"]
    return fields


def test_yaml_of_the_configuration_holds_no_null(api: Api, namespace: str, declared: Manifest) -> None:
    data = once(lambda: api.get(CONFIG_MAP, namespace, NAME))["data"]
    documents = [each for text in data.values() for each in yaml.safe_load_all(text)]
    assert "null" not in json.dumps(documents)
