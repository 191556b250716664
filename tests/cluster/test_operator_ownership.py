"""What runs a policy stays as it was declared, and goes when the policy goes."""

from pathlib import Path
from typing import Any

import pytest

from fairlead.controller.handlers import OWNED
from fairlead.kube.kinds import (
    CONFIG_MAP,
    CONNECTION,
    DEPLOYMENT,
    PERSISTENT_VOLUME_CLAIM,
    ROLE,
    ROLE_BINDING,
    SERVICE_ACCOUNT,
    SYNC_POLICY,
    Kind,
)
from support.api import Api, Manifest, condition, eventually, once, verdict
from support.declared import database_connection, policy
from support.operator import Replica

pytestmark = [pytest.mark.xdist_group("api"), pytest.mark.usefixtures("operator")]

NAME = "customers-fairlead"


@pytest.fixture
def made(api: Api, namespace: str, tmp_path: Path) -> dict[str, Manifest]:
    """What runs a policy, by kind, once nothing changes any more."""
    api.apply(CONNECTION, namespace, database_connection(tmp_path, "crm"), database_connection(tmp_path, "erp"))
    api.apply(SYNC_POLICY, namespace, policy())
    eventually(lambda: verdict(api.get(SYNC_POLICY, namespace, "customers")), ("False", "WorkerStarting"))
    eventually(lambda: api.get(DEPLOYMENT, namespace, NAME).get("status", {}).get("observedGeneration"), 1)
    return {kind.name: api.get(kind, namespace, NAME) for kind in OWNED}


@pytest.mark.parametrize("kind", [k for k in OWNED if k is not PERSISTENT_VOLUME_CLAIM], ids=lambda kind: kind.name)
def test_what_is_deleted_comes_back(api: Api, namespace: str, made: dict[str, Manifest], kind: Kind) -> None:
    api.delete(kind, namespace, NAME)
    again = once(lambda: fresh(api.get(kind, namespace, NAME), made[kind.name]))
    assert content(again) == content(made[kind.name])


def fresh(found: Manifest, before: Manifest) -> Manifest:
    return found if found and found["metadata"]["uid"] != before["metadata"]["uid"] else {}


def content(found: Manifest) -> Manifest:
    """What was declared of an object."""
    parts = ("data", "spec", "rules", "roleRef", "subjects", "automountServiceAccountToken")
    kept = {part: found[part] for part in parts if part in found}
    return kept | {"labels": found["metadata"]["labels"], "owners": found["metadata"]["ownerReferences"]}


EDITS: list[tuple[Kind, dict[str, Any]]] = [
    (SERVICE_ACCOUNT, {"automountServiceAccountToken": True}),
    (ROLE, {"rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]}),
    (ROLE_BINDING, {"subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": "default"}]}),
    (CONFIG_MAP, {"data": {"policy.yaml": "nothing"}}),
    (DEPLOYMENT, {"spec": {"replicas": 5}}),
    (DEPLOYMENT, {"metadata": {"labels": {"fairlead.dev/policy": "orders"}}}),
]


@pytest.mark.parametrize(("kind", "edit"), EDITS, ids=lambda value: value.name if isinstance(value, Kind) else "")
def test_what_is_edited_is_put_right(
    api: Api, namespace: str, made: dict[str, Manifest], kind: Kind, edit: dict[str, Any]
) -> None:
    assert content(api.edit(kind, namespace, NAME, edit)) != content(made[kind.name])
    eventually(lambda: content(api.get(kind, namespace, NAME)), content(made[kind.name]))


def test_a_correction_is_told(api: Api, namespace: str, made: dict[str, Manifest]) -> None:
    api.edit(DEPLOYMENT, namespace, NAME, {"spec": {"replicas": 5}})
    note = "Deployment customers-fairlead was changed or deleted and is put right"
    expected = [("Normal", "DriftCorrected", note)]
    eventually(lambda: api.events(namespace, "customers", "DriftCorrected"), expected)


def test_corrections_that_repeat_are_one_event(api: Api, namespace: str, made: dict[str, Manifest]) -> None:
    for _ in range(2):
        api.edit(DEPLOYMENT, namespace, NAME, {"spec": {"replicas": 5}})
        eventually(lambda: api.get(DEPLOYMENT, namespace, NAME)["spec"]["replicas"], 1)
    assert len(once(lambda: api.events(namespace, "customers", "DriftCorrected"))) == 1


def test_what_others_add_to_an_object_stays(api: Api, namespace: str, made: dict[str, Manifest]) -> None:
    api.edit(DEPLOYMENT, namespace, NAME, {"metadata": {"annotations": {"team": "revops"}}, "spec": {"replicas": 5}})
    eventually(lambda: api.get(DEPLOYMENT, namespace, NAME)["spec"]["replicas"], 1)
    assert api.get(DEPLOYMENT, namespace, NAME)["metadata"]["annotations"]["team"] == "revops"


def test_a_settled_policy_is_not_written_again(
    api: Api, namespace: str, made: dict[str, Manifest], operator: Replica
) -> None:
    before = versions(api, namespace)
    visits = operator.metric("fairlead_operator_reconciles_total", kind="SyncPolicy")
    api.annotate(SYNC_POLICY, namespace, "customers", nonsense="1")
    once(lambda: api.events(namespace, "customers", "SenselessLever"))
    assert operator.metric("fairlead_operator_reconciles_total", kind="SyncPolicy") > visits
    assert versions(api, namespace) == before


def versions(api: Api, namespace: str) -> dict[str, str]:
    return {kind.name: api.get(kind, namespace, NAME)["metadata"]["resourceVersion"] for kind in OWNED}


def test_an_object_that_belongs_to_somebody_else_is_not_taken_over(api: Api, namespace: str, tmp_path: Path) -> None:
    api.create(CONFIG_MAP, namespace, {"metadata": {"name": NAME}, "data": {"policy.yaml": "mine"}})
    api.apply(CONNECTION, namespace, database_connection(tmp_path, "crm"), database_connection(tmp_path, "erp"))
    api.apply(SYNC_POLICY, namespace, policy())
    read = lambda: api.get(SYNC_POLICY, namespace, "customers")  # noqa: E731
    eventually(lambda: verdict(read(), "Stalled"), ("True", "ApplyRefused"))
    expected = f"a ConfigMap {NAME} exists and is not this policy's: delete it or rename the policy"
    assert (condition(read(), "Ready")["message"], api.get(CONFIG_MAP, namespace, NAME)["data"]) == (
        expected,
        {"policy.yaml": "mine"},
    )
    api.delete(CONFIG_MAP, namespace, NAME)
    api.annotate(SYNC_POLICY, namespace, "customers", requested_at="again")
    eventually(lambda: verdict(read()), ("False", "WorkerStarting"))


def test_an_object_without_conflict_is_not_taken_over_either(api: Api, namespace: str, tmp_path: Path) -> None:
    """Server-side apply refuses only fields that differ; its owner says whose an object is."""
    api.create(SERVICE_ACCOUNT, namespace, {"metadata": {"name": NAME}})
    api.apply(CONNECTION, namespace, database_connection(tmp_path, "crm"), database_connection(tmp_path, "erp"))
    api.apply(SYNC_POLICY, namespace, policy())
    eventually(lambda: verdict(api.get(SYNC_POLICY, namespace, "customers"), "Stalled"), ("True", "ApplyRefused"))
    assert "ownerReferences" not in api.get(SERVICE_ACCOUNT, namespace, NAME)["metadata"]


def test_a_worker_that_belongs_to_somebody_else_is_not_stopped(
    api: Api, namespace: str, made: dict[str, Manifest], tmp_path: Path
) -> None:
    """A policy that must not run has its worker taken away, and no other Deployment of that name."""
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "a", "image": "a"}]}}
    spec = {"replicas": 0, "selector": {"matchLabels": {"a": "b"}}, "template": template}
    api.create(DEPLOYMENT, namespace, {"metadata": {"name": "orders-fairlead"}, "spec": spec})
    orders = policy("orders")
    orders["spec"]["systems"][0]["connection"] = "missing"
    api.apply(SYNC_POLICY, namespace, orders)
    eventually(lambda: verdict(api.get(SYNC_POLICY, namespace, "orders")), ("False", "ConnectionNotFound"))
    assert api.get(DEPLOYMENT, namespace, "orders-fairlead")["metadata"].get("deletionTimestamp") is None
    assert api.get(DEPLOYMENT, namespace, "orders-fairlead")


def test_a_deleted_policy_takes_everything_with_it(api: Api, namespace: str, made: dict[str, Manifest]) -> None:
    api.delete(SYNC_POLICY, namespace, "customers")
    gone = lambda: [kind.name for kind in OWNED if settled_away(api, kind, namespace)]  # noqa: E731
    eventually(gone, [kind.name for kind in OWNED], seconds=40)


def settled_away(api: Api, kind: Kind, namespace: str) -> bool:
    """Gone, or only held by the protection of volumes that a pod uses, which nobody lifts where no kubelet runs."""
    found = api.get(kind, namespace, NAME)
    return not found or "kubernetes.io/pvc-protection" in found["metadata"].get("finalizers", ())


def test_a_policy_that_is_made_again_gets_everything_anew(api: Api, namespace: str, made: dict[str, Manifest]) -> None:
    api.delete(SYNC_POLICY, namespace, "customers")
    api.apply(SYNC_POLICY, namespace, policy())
    uid = api.get(SYNC_POLICY, namespace, "customers")["metadata"]["uid"]

    def owners() -> set[str]:
        found = [api.get(kind, namespace, NAME) for kind in OWNED if kind is not PERSISTENT_VOLUME_CLAIM]
        return {o["uid"] for each in found for o in each.get("metadata", {}).get("ownerReferences", [{"uid": ""}])}

    eventually(owners, {uid}, seconds=40)
