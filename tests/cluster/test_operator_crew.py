"""Several workers for one policy, as the operator runs them on a real API server."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from psycopg.conninfo import conninfo_to_dict

from fairlead.kube.kinds import CONFIG_MAP, CONNECTION, DEPLOYMENT, SECRET, SYNC_POLICY
from support import manifests
from support.api import Api, Manifest, condition, eventually, once, verdict
from support.declared import database_connection, login, policy
from support.manifests import with_values
from support.operator import NAME, Read
from support.pods import POD, pods, report, start_pods

pytestmark = [pytest.mark.xdist_group("api"), pytest.mark.usefixtures("operator")]

POSTGRES = {"store": "Postgres", "connection": "state"}
LIMITS = {"requestsPerSecond": 12, "burst": 24, "concurrency": 6}


def shared(replicas: int) -> Manifest:
    return with_values(policy(), {"spec.state": POSTGRES, "spec.worker": {"replicas": replicas}})


@pytest.fixture
def declared(api: Api, namespace: str, tmp_path: Path, read: Read, database: str) -> Manifest:
    """A policy with three workers, whose Deployment was made."""
    server = conninfo_to_dict(database)
    url = f"postgresql://{server['host']}:{server['port']}/{server['dbname']}?sslmode=disable"
    login_of = {"basic": {"username": manifests.secret(), "password": manifests.secret()}}
    state = with_values(database_connection(tmp_path, "state"), {"spec.url": url, "spec.auth": login_of})
    api.apply(SECRET, namespace, login(str(server["user"])))
    crm = database_connection(tmp_path, "crm", limits=LIMITS)
    api.apply(CONNECTION, namespace, crm, database_connection(tmp_path, "erp"), state)
    api.apply(SYNC_POLICY, namespace, shared(3))
    once(lambda: api.get(DEPLOYMENT, namespace, NAME))
    return read()


def scale(api: Api, namespace: str, replicas: int) -> None:
    api.edit(SYNC_POLICY, namespace, "customers", {"spec": {"worker": {"replicas": replicas}}})


def rendered(api: Api, namespace: str) -> tuple[int, int]:
    """How many workers there are to be: by the Deployment, and by what each is told."""
    deployment = api.get(DEPLOYMENT, namespace, NAME)
    (told,) = yaml.safe_load_all(api.get(CONFIG_MAP, namespace, NAME)["data"]["policy.yaml"])
    return deployment["spec"]["replicas"], told["spec"]["worker"]["replicas"]


def limits(api: Api, namespace: str) -> tuple[Any, ...]:
    """A worker's part of what the CRM allows."""
    documents = yaml.safe_load_all(api.get(CONFIG_MAP, namespace, NAME)["data"]["connections.yaml"])
    crm = next(each for each in documents if each["metadata"]["name"] == "crm")
    return tuple(crm["spec"]["limits"][name] for name in LIMITS)


@pytest.mark.usefixtures("declared")
def test_a_policy_has_as_many_pods_as_workers(api: Api, namespace: str) -> None:
    eventually(lambda: len(pods(api, namespace)), 3)
    assert rendered(api, namespace) == (3, 3)


@pytest.mark.usefixtures("declared")
def test_the_number_of_workers_follows_the_policy_and_so_do_their_budgets(api: Api, namespace: str) -> None:
    eventually(lambda: limits(api, namespace), (4.0, 8, 2))
    scale(api, namespace, 1)
    eventually(lambda: (rendered(api, namespace), limits(api, namespace)), ((1, 1), (12.0, 24, 6)))
    scale(api, namespace, 2)
    eventually(lambda: (rendered(api, namespace), limits(api, namespace)), ((2, 2), (6.0, 12, 3)))


@pytest.mark.usefixtures("declared")
def test_a_deployment_that_somebody_scales_is_put_right(api: Api, namespace: str) -> None:
    api.edit(DEPLOYMENT, namespace, NAME, {"spec": {"replicas": 5}})
    eventually(lambda: api.get(DEPLOYMENT, namespace, NAME)["spec"]["replicas"], 3)


@pytest.mark.usefixtures("declared")
def test_a_suspension_ends_all_workers(api: Api, namespace: str) -> None:
    api.edit(SYNC_POLICY, namespace, "customers", {"spec": {"suspend": True}})
    eventually(lambda: (rendered(api, namespace)[0], pods(api, namespace)), (0, []))


@pytest.mark.usefixtures("declared")
def test_a_policy_delivers_as_long_as_one_of_its_workers_does(api: Api, namespace: str, read: Read) -> None:
    eventually(lambda: len(pods(api, namespace)), 3)
    start_pods(api, namespace)
    for spare in pods(api, namespace)[1:]:
        not_ready = {"type": "Ready", "status": "False", "lastTransitionTime": "2026-01-01T00:00:00Z"}
        api.edit(
            POD, namespace, spare["metadata"]["name"], {"status": {"conditions": [not_ready]}}, "kubelet", "status"
        )
    report(api, namespace)
    eventually(lambda: verdict(read()), ("True", "InSync"))


@pytest.mark.usefixtures("declared")
def test_more_workers_than_a_connection_permits_requests_are_told(api: Api, namespace: str, read: Read) -> None:
    scale(api, namespace, 5)
    eventually(lambda: verdict(read(), "Stalled")[0], "True")
    assert (
        "Connection erp permits 4 requests at a time, which 5 workers cannot share"
        in (condition(read(), "Stalled")["message"])
    )
    assert rendered(api, namespace) == (3, 3)


def test_several_workers_without_a_state_to_share_are_refused(api: Api, namespace: str) -> None:
    with pytest.raises(AssertionError, match="several workers need a state that they can share"):
        api.apply(SYNC_POLICY, namespace, with_values(policy(), {"spec.worker": {"replicas": 2}}))
