"""A policy follows its Connections, their Connectors, and the other policies."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from fairlead.kube.kinds import CONFIG_MAP, CONNECTION, CONNECTOR, DEPLOYMENT, SECRET, SYNC_POLICY
from fairlead.testing.http_faults import Fault, FaultKind
from fairlead.testing.http_system import HTTPSystem, Logins
from support import manifests
from support.api import Api, Manifest, condition, eventually, once, verdict
from support.declared import database_connection, http_connection, login, policy, with_token
from support.manifests import with_values
from support.operator import NAME, Read
from support.pods import report, start_pods

pytestmark = [pytest.mark.xdist_group("api"), pytest.mark.usefixtures("operator")]


@pytest.fixture
def databases(api: Api, namespace: str, tmp_path: Path) -> None:
    api.apply(CONNECTION, namespace, database_connection(tmp_path, "crm"), database_connection(tmp_path, "erp"))


def in_sync(api: Api, namespace: str, read: Read) -> None:
    start_pods(api, namespace)
    report(api, namespace)
    eventually(lambda: verdict(read()), ("True", "InSync"))


def documents(api: Api, namespace: str, part: str) -> list[Any]:
    """A part of the worker's configuration."""
    return list(yaml.safe_load_all(once(lambda: api.get(CONFIG_MAP, namespace, NAME))["data"][part]))


# --- Connections ---


def test_a_connection_that_does_not_exist_is_named_and_its_coming_heals(
    api: Api, namespace: str, tmp_path: Path, read: Read
) -> None:
    api.apply(CONNECTION, namespace, database_connection(tmp_path, "crm"))
    api.apply(SYNC_POLICY, namespace, policy())
    eventually(lambda: verdict(read()), ("False", "ConnectionNotFound"))
    expected = f"no Connection erp in namespace {namespace}: create it"
    assert (condition(read(), "Ready")["message"], api.get(DEPLOYMENT, namespace, NAME)) == (expected, {})
    api.apply(CONNECTION, namespace, database_connection(tmp_path, "erp"))
    eventually(lambda: verdict(read()), ("False", "WorkerStarting"))
    once(lambda: api.get(DEPLOYMENT, namespace, NAME))


def test_a_connection_that_goes_takes_the_worker_away(api: Api, namespace: str, databases: None, read: Read) -> None:
    api.apply(SYNC_POLICY, namespace, policy())
    in_sync(api, namespace, read)
    api.delete(CONNECTION, namespace, "erp")
    eventually(lambda: verdict(read()), ("False", "ConnectionNotFound"))
    eventually(lambda: api.get(DEPLOYMENT, namespace, NAME), {})


def test_a_connection_that_changes_replaces_the_worker(
    api: Api, namespace: str, databases: None, tmp_path: Path, read: Read
) -> None:
    api.apply(SYNC_POLICY, namespace, policy())

    def template() -> Manifest:
        found: Manifest = once(lambda: api.get(DEPLOYMENT, namespace, NAME))["spec"]["template"]
        return found

    before = template()
    api.edit(CONNECTION, namespace, "erp", {"spec": {"retry": {"maxAttempts": 9}}})
    once(lambda: template() != before)
    connections = documents(api, namespace, "connections.yaml")
    attempts = {each["metadata"]["name"]: each["spec"]["retry"]["maxAttempts"] for each in connections}
    assert attempts == {"crm": 5, "erp": 9}


def test_a_connections_probe_is_none_of_the_workers_business(
    api: Api, namespace: str, databases: None, read: Read
) -> None:
    api.apply(SYNC_POLICY, namespace, policy())
    before = once(lambda: api.get(DEPLOYMENT, namespace, NAME))["metadata"]["generation"]
    api.edit(CONNECTION, namespace, "erp", {"spec": {"probe": {"interval": "7s"}, "retry": {"maxAttempts": 5}}})
    eventually(lambda: api.get(CONNECTION, namespace, "erp")["status"]["observedGeneration"], 2)
    eventually(lambda: verdict(read()), ("False", "WorkerStarting"))
    assert api.get(DEPLOYMENT, namespace, NAME)["metadata"]["generation"] == before


def test_a_connection_that_breaks_and_heals_is_told_by_its_policy(
    api: Api, namespace: str, tmp_path: Path, read: Read
) -> None:
    with HTTPSystem() as system:
        api.apply(CONNECTION, namespace, http_connection(system), database_connection(tmp_path, "erp"))
        api.apply(SYNC_POLICY, namespace, between_http_and_database())
        in_sync(api, namespace, read)
        system.faults.add(Fault(FaultKind.STATUS, path="/", status=503, times=3))
        eventually(lambda: verdict(read()), ("False", "ConnectionNotReady"))
        assert condition(read(), "Ready")["message"].startswith("Connection crm: ")
        report(api, namespace)
        eventually(lambda: verdict(read()), ("True", "InSync"))


def between_http_and_database() -> Manifest:
    return with_values(policy(), {"spec.systems.0.object": "customers"})


def test_rejected_credentials_of_a_connection_stall_its_policy_until_the_secret_is_right(
    api: Api, namespace: str, tmp_path: Path, read: Read
) -> None:
    with HTTPSystem(logins=Logins(bearer="right")) as system:
        api.apply(SECRET, namespace, login("wrong"))
        api.apply(CONNECTION, namespace, with_token(system), database_connection(tmp_path, "erp"))
        api.apply(SYNC_POLICY, namespace, between_http_and_database())
        eventually(lambda: verdict(read(), "Stalled"), ("True", "CredentialsRejected"))
        api.apply(SECRET, namespace, login("right"))
        eventually(lambda: (verdict(read()), verdict(read(), "Stalled")), (("False", "WorkerStarting"), ("", "")))


def test_workers_share_a_connections_budget(api: Api, namespace: str, tmp_path: Path, read: Read) -> None:
    limits = {"requestsPerSecond": 10, "burst": 20}
    crm = database_connection(tmp_path, "crm", limits=limits)
    api.apply(CONNECTION, namespace, crm, database_connection(tmp_path, "erp"))
    api.apply(SYNC_POLICY, namespace, policy())
    share = lambda: documents(api, namespace, "connections.yaml")[0]["spec"]["limits"]  # noqa: E731
    eventually(lambda: (share()["requestsPerSecond"], share()["burst"]), (10.0, 20))
    api.apply(SYNC_POLICY, namespace, policy("orders", mode="Plan"))
    eventually(lambda: (share()["requestsPerSecond"], share()["burst"]), (5.0, 10))
    api.edit(SYNC_POLICY, namespace, "orders", {"spec": {"suspend": True}})
    eventually(lambda: share()["requestsPerSecond"], 10.0)


# --- Connectors ---


def test_a_connector_that_changes_replaces_the_workers_that_use_it(
    api: Api, namespace: str, tmp_path: Path, read: Read
) -> None:
    name = f"shop-{namespace}"
    connector = with_values(
        manifests.full_connector(),
        {"metadata": {"name": name}, "spec.probe": {"path": "/"}, "spec.objects.0.name": "*"},
    )
    systems = with_values(policy(), {"spec.systems.0.object": "customers", "spec.deletes": {"propagate": "Never"}})
    with HTTPSystem() as system:
        api.apply(CONNECTOR, "", connector)
        try:
            api.apply(CONNECTION, namespace, http_connection(system, connector=name))
            api.apply(CONNECTION, namespace, database_connection(tmp_path, "erp"))
            api.apply(SYNC_POLICY, namespace, systems)
            pages = lambda: documents(api, namespace, "connectors.yaml")[0]["spec"]["headers"]  # noqa: E731
            eventually(pages, {"Accept": "application/json"})
            api.edit(CONNECTOR, "", name, {"spec": {"headers": {"Accept": "application/xml"}}})
            eventually(pages, {"Accept": "application/xml"})
        finally:
            api.delete(CONNECTOR, "", name)


# --- other policies ---


def test_two_policies_that_write_the_same_field_are_both_refused(
    api: Api, namespace: str, databases: None, read: Read
) -> None:
    api.apply(SYNC_POLICY, namespace, policy("customers"), policy("twins"))
    stalled = lambda: [verdict(api.get(SYNC_POLICY, namespace, each), "Stalled") for each in ("customers", "twins")]  # noqa: E731
    eventually(stalled, [("True", "PolicyOverlap")] * 2)
    expected = f"SyncPolicy {namespace}/twins writes 'email' of customer too"
    assert expected in condition(read(), "Stalled")["message"]
    eventually(
        lambda: [api.get(DEPLOYMENT, namespace, f"{each}-fairlead") for each in ("customers", "twins")], [{}] * 2
    )


@pytest.mark.parametrize(
    "mend",
    [
        lambda api, namespace: api.delete(SYNC_POLICY, namespace, "twins"),
        lambda api, namespace: api.edit(SYNC_POLICY, namespace, "twins", {"spec": {"mode": "Plan"}}),
    ],
    ids=["goes", "only plans"],
)
def test_an_overlap_is_healed_when_one_of_them(
    api: Api, namespace: str, databases: None, read: Read, mend: Callable[[Api, str], None]
) -> None:
    api.apply(SYNC_POLICY, namespace, policy("customers"), policy("twins"))
    eventually(lambda: verdict(read(), "Stalled"), ("True", "PolicyOverlap"))
    mend(api, namespace)
    eventually(lambda: (verdict(read()), verdict(read(), "Stalled")), (("False", "WorkerStarting"), ("", "")))
    once(lambda: api.get(DEPLOYMENT, namespace, NAME))


def test_an_overlap_is_seen_through_whatever_connection(
    api: Api, namespace: str, databases: None, tmp_path: Path, read: Read
) -> None:
    """Two Connections may lead to the same system."""
    path = f"sqlite:///{tmp_path}/crm.db"
    api.apply(CONNECTION, namespace, with_values(database_connection(tmp_path, "mirror"), {"spec.url": path}))
    twins = with_values(policy("twins"), {"spec.systems.0.connection": "mirror", "spec.systems.1.access": "ReadOnly"})
    api.apply(SYNC_POLICY, namespace, policy(), twins)
    eventually(lambda: verdict(read(), "Stalled"), ("True", "PolicyOverlap"))


# --- what `fairlead validate` says too ---


def test_an_invalid_spec_is_told_in_the_words_of_validate(
    api: Api, namespace: str, databases: None, tmp_path: Path, read: Read
) -> None:
    broken = policy(match=[{"fields": ["phone"]}])
    api.apply(SYNC_POLICY, namespace, broken)
    eventually(
        lambda: (verdict(read()), verdict(read(), "Stalled")), (("False", "InvalidSpec"), ("True", "InvalidSpec"))
    )
    said = condition(read(), "Ready")["message"]
    assert said == "; ".join(validate(tmp_path, namespace, broken))


def validate(folder: Path, namespace: str, broken: Manifest) -> list[str]:
    """The messages of `fairlead validate`, without the places in the file."""
    documents = [broken, database_connection(folder, "crm"), database_connection(folder, "erp")]
    for document in documents:
        document["metadata"]["namespace"] = namespace
    file = folder / "all.yaml"
    file.write_text(yaml.safe_dump_all(documents))
    command = [sys.executable, "-m", "fairlead", "validate", str(file), "--output", "json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return [f"{each['path']}: {each['message']}" for each in json.loads(done.stdout)["problems"]]


def test_an_invalid_spec_leaves_the_worker_with_its_last_good_configuration(
    api: Api, namespace: str, databases: None, read: Read
) -> None:
    api.apply(SYNC_POLICY, namespace, policy())
    before = documents(api, namespace, "policy.yaml")
    api.edit(SYNC_POLICY, namespace, "customers", {"spec": {"match": [{"fields": ["phone"]}]}})
    eventually(lambda: verdict(read(), "Stalled"), ("True", "InvalidSpec"))
    assert (documents(api, namespace, "policy.yaml"), api.get(DEPLOYMENT, namespace, NAME)["spec"]["replicas"]) == (
        before,
        1,
    )


def test_a_spec_that_is_mended_is_no_longer_stalled(api: Api, namespace: str, databases: None, read: Read) -> None:
    api.apply(SYNC_POLICY, namespace, policy(match=[{"fields": ["phone"]}]))
    eventually(lambda: verdict(read(), "Stalled"), ("True", "InvalidSpec"))
    api.apply(SYNC_POLICY, namespace, policy())
    eventually(lambda: (verdict(read()), verdict(read(), "Stalled")), (("False", "WorkerStarting"), ("", "")))
