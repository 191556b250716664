"""The CRDs on a real API server, and that `fairlead validate` judges as it does."""

import base64
import ssl
from collections.abc import Iterator

import httpx
import msgspec
import pytest
import yaml

from fairlead.model import schema
from fairlead.model.health import Halted, Measured, RunSummary, SystemHealth, WorkerError
from support import manifests
from support.cluster import Cluster
from support.manifests import CASES, Case, Manifest, with_values, without

pytestmark = pytest.mark.xdist_group("api")

PLURALS = {"Connection": "connections", "SyncPolicy": "syncpolicies", "Connector": "connectors"}


@pytest.fixture(scope="module")
def client(api_server: Cluster) -> Iterator[httpx.Client]:
    config = yaml.safe_load(api_server.kubeconfig.read_text())
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    trust = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
    headers = {"Authorization": f"Bearer {user['token']}"}
    with httpx.Client(base_url=cluster["server"], verify=trust, headers=headers, timeout=30) as opened:
        yield opened


def url(manifest: Manifest, namespace: str = "default") -> str:
    place = "" if manifest["kind"] == "Connector" else f"/namespaces/{namespace}"
    return f"/apis/fairlead.dev/v1alpha1{place}/{PLURALS[manifest['kind']]}"


def dry_run(client: httpx.Client, manifest: Manifest) -> httpx.Response:
    return client.post(url(manifest), params={"dryRun": "All", "fieldValidation": "Strict"}, json=manifest)


def create(client: httpx.Client, manifest: Manifest, namespace: str) -> Manifest:
    mine = with_values(manifest, {"metadata.namespace": namespace})
    answer = client.post(url(mine, namespace), params={"fieldValidation": "Strict"}, json=mine)
    assert answer.status_code == 201, answer.text
    created: Manifest = answer.json()
    return created


def replace(client: httpx.Client, created: Manifest, values: dict[str, object]) -> httpx.Response:
    changed = with_values(created, values)
    place = f"{url(changed, changed['metadata']['namespace'])}/{changed['metadata']['name']}"
    return client.put(place, params={"dryRun": "All"}, json=changed)


def apply_status(client: httpx.Client, created: Manifest, status: Manifest, manager: str) -> httpx.Response:
    name, namespace = created["metadata"]["name"], created["metadata"]["namespace"]
    body = {part: created[part] for part in ("apiVersion", "kind")} | {"metadata": {"name": name}, "status": status}
    return client.patch(
        f"{url(created, namespace)}/{name}/status",
        params={"fieldManager": manager, "force": "true"},
        content=msgspec.json.encode(body),
        headers={"Content-Type": "application/apply-patch+yaml"},
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_api_server_and_validate_judge_alike(client: httpx.Client, case: Case) -> None:
    by_server = dry_run(client, case.manifest).is_success
    by_us = not schema.problems(case.manifest["kind"], case.manifest)
    assert (case.accepted, case.accepted) == (by_server, by_us)


@pytest.mark.parametrize(
    "manifest",
    [manifests.connection(), manifests.policy(), manifests.connector(), manifests.full_policy()],
    ids=lambda manifest: manifest["kind"],
)
def test_defaults_are_those_that_the_api_server_fills_in(client: httpx.Client, manifest: Manifest) -> None:
    stored = dry_run(client, manifest).json()
    assert stored["spec"] == schema.with_defaults(manifest["kind"], manifest)["spec"]


def test_a_fresh_resource_is_not_yet_current(client: httpx.Client, namespace: str) -> None:
    created = [create(client, manifests.connection(), namespace), create(client, manifests.policy(), namespace)]
    assert [resource["status"] for resource in created] == [{"observedGeneration": -1}] * 2


@pytest.mark.parametrize(
    ("before", "after", "accepted"),
    [
        ({}, {"size": "2Gi"}, True),
        ({"size": "1Gi"}, {"size": "1024Mi"}, True),
        ({"size": "10Gi"}, {"size": "9Gi"}, False),
        ({"storageClassName": "fast"}, {"storageClassName": "slow"}, False),
        ({}, {"storageClassName": "fast"}, False),
        ({"storageClassName": "fast"}, {}, False),
        ({"size": "2Gi"}, {}, False),
        ({"size": "512Mi"}, {}, True),
        ({"size": "2Gi", "storageClassName": "fast"}, {"store": "Postgres", "connection": "state"}, True),
        ({"store": "Postgres", "connection": "state"}, {"storageClassName": "slow", "size": "1Mi"}, True),
        ({"store": "Postgres", "connection": "state"}, {"store": "Postgres", "connection": "other"}, True),
    ],
)
def test_a_change_of_the_volume_is_judged_alike(
    client: httpx.Client, namespace: str, before: Manifest, after: Manifest, accepted: bool
) -> None:
    old = create(client, with_values(manifests.policy(), {"spec.state": before}), namespace)
    new = with_values(manifests.policy(), {"spec.state": after})
    by_us = not schema.problems("SyncPolicy", new, with_values(manifests.policy(), {"spec.state": before}))
    by_server = replace(client, old, {"spec.state": after}).is_success
    assert (accepted, accepted) == (by_server, by_us)


def test_operator_and_worker_own_their_parts_of_the_status(client: httpx.Client, namespace: str) -> None:
    created = create(client, manifests.policy(), namespace)
    apply_status(client, created, {"worker": {"records": 7, "lag": "2s"}}, "fairlead-worker")
    apply_status(client, created, {"summary": {"status": "InSync"}, "observedGeneration": 1}, "fairlead-operator")
    answer = apply_status(client, created, {"worker": {"records": 8}}, "fairlead-worker")
    expected = {"observedGeneration": 1, "summary": {"status": "InSync"}, "worker": {"records": 8}}
    assert expected == answer.json()["status"]


def test_everything_that_a_worker_measures_has_its_place_in_the_status(client: httpx.Client, namespace: str) -> None:
    counts = dict.fromkeys(
        ("read", "changed", "created", "updated", "deleted", "failed", "conflicts", "dead", "planned"), 1
    )
    measured = Measured(
        observed_generation=1,
        last_sync_time="2026-01-01T00:00:00Z",
        lag="2s",
        records=1,
        conflicts=1,
        dead_letters=1,
        pending=1,
        planned=1,
        systems=(
            SystemHealth("crm", reachable=False, reason="Down", message="m", last_change_time="2026-01-01T00:00:00Z"),
        ),
        history=(RunSummary("1-a", "Changes", "Succeeded", "2026-01-01T00:00:00Z", "1s", "m", counts),),
        halted=Halted("abc", "m", 3),
        last_handled_request_at="1",
        last_handled_resync_request_at="2",
        error=WorkerError("StateCorrupted", "m"),
    )
    created = create(client, manifests.policy(), namespace)
    status = {"worker": msgspec.json.decode(msgspec.json.encode(measured))}
    answer = apply_status(client, created, status, "fairlead-worker")
    assert status["worker"] == answer.json()["status"]["worker"]


CONDITION = {"message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1}


def test_kubectl_get_syncpolicies_prints_what_the_design_shows(
    client: httpx.Client, api_server: Cluster, namespace: str
) -> None:
    created = create(client, manifests.policy(), namespace)
    conditions = [{"type": "Ready", "status": "True", "reason": "InSync", **CONDITION}]
    summary = {"status": "InSync", "systems": "crm,erp"}
    apply_status(client, created, {"conditions": conditions, "summary": summary}, "fairlead-operator")
    measured = {"lag": "2s", "records": 184233, "conflicts": 1, "deadLetters": 0}
    apply_status(client, created, {"worker": measured}, "fairlead-worker")
    header, row = api_server.kubectl("get", "sp", "-n", namespace).splitlines()
    titles = "NAME ENTITY SYSTEMS SOR MODE READY STATUS LAG RECORDS CONFLICTS DEAD LAST-SYNC AGE"
    assert titles.split() == header.split()
    expected = "customers Customer crm,erp crm Enforce True InSync 2s 184233 1 0"
    assert " ".join(row.split()[:11]) == expected


def test_kubectl_get_connections_prints_what_the_design_shows(
    client: httpx.Client, api_server: Cluster, namespace: str
) -> None:
    created = create(client, manifests.connection(), namespace)
    conditions = [{"type": "Ready", "status": "True", "reason": "Available", **CONDITION}]
    summary = {"status": "Available", "latency": "84ms", "limitLeft": "91%", "usedBy": 3}
    apply_status(client, created, {"conditions": conditions, "summary": summary}, "fairlead-operator")
    header, row = api_server.kubectl("get", "conn", "-n", namespace).splitlines()
    assert header.split() == ["NAME", "CONNECTOR", "READY", "STATUS", "LATENCY", "LIMIT-LEFT", "USED-BY", "AGE"]
    assert row.split()[:7] == ["crm", "shop", "True", "Available", "84ms", "91%", "3"]


def test_the_category_lists_every_kind(client: httpx.Client, api_server: Cluster, namespace: str) -> None:
    create(client, manifests.connection(), namespace)
    create(client, manifests.policy(), namespace)
    found = set(api_server.kubectl("get", "fairlead", "-n", namespace, "-o", "name").split())
    assert {"connection.fairlead.dev/crm", "syncpolicy.fairlead.dev/customers"} <= found


@pytest.mark.parametrize("selector", ["spec.mode=Plan", "status.summary.status=Halted"])
def test_field_selectors_find_policies(
    client: httpx.Client, api_server: Cluster, namespace: str, selector: str
) -> None:
    create(client, manifests.policy(), namespace)
    planned = create(client, manifests.full_policy() | {"metadata": {"name": "planned"}}, namespace)
    apply_status(client, planned, {"summary": {"status": "Halted"}}, "fairlead-operator")
    found = api_server.kubectl("get", "sp", "-n", namespace, "--field-selector", selector, "-o", "name").split()
    assert found == ["syncpolicy.fairlead.dev/planned"]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("syncpolicies.spec.systems.fields", "{path, split, values}"),
        ("connections.spec.auth.oauth2.clientSecret.secretKeyRef", "Secret in the Connection's namespace"),
        ("connectors.spec.objects.read.list.paginate.type", "RFC 8288"),
    ],
)
def test_kubectl_explain_describes_every_level(api_server: Cluster, path: str, words: str) -> None:
    assert words in " ".join(api_server.kubectl("explain", path).split())


def test_a_refusal_says_what_to_write(client: httpx.Client) -> None:
    answer = dry_run(client, without(manifests.full_connection(), "spec.auth.oauth2")).json()
    assert "write exactly one of oauth2, apiKey, bearer and basic" in answer["message"]
