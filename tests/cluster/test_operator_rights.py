"""The operator serves the namespaces that it was installed for, with few rights."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fairlead.kube.kinds import CONNECTION, DEPLOYMENT, SYNC_POLICY
from support.api import Api, eventually, once, verdict
from support.cluster import ROOT, Cluster
from support.declared import database_connection, policy
from support.operator import Install, Installation, complaints

pytestmark = pytest.mark.xdist_group("api")

HERE, ELSEWHERE = "served", "not-served"


@pytest.fixture(scope="module")
def installed(api_server: Cluster, install: Install) -> Iterator[Installation]:
    for each in (HERE, ELSEWHERE):
        api_server.kubectl("create", "namespace", each)
    with install(HERE) as made:
        yield made
    for each in (HERE, ELSEWHERE):
        api_server.kubectl("delete", "namespace", each, "--wait=false")


def test_only_the_namespaces_that_are_named_are_served(api: Api, installed: Installation, tmp_path: Path) -> None:
    replica = installed.started()
    for each in (ELSEWHERE, HERE):
        (tmp_path / each).mkdir()
        connections = [database_connection(tmp_path / each, name) for name in ("crm", "erp")]
        api.apply(CONNECTION, each, *connections)
        api.apply(SYNC_POLICY, each, policy())
    once(lambda: api.get(DEPLOYMENT, HERE, "customers-fairlead"))
    eventually(lambda: verdict(api.get(SYNC_POLICY, HERE, "customers")), ("False", "WorkerStarting"))
    untouched = [api.get(kind, ELSEWHERE, name)["status"] for kind, name in DECLARED]
    assert (untouched, replica.stop()) == ([{"observedGeneration": -1}] * 2, 0)
    assert complaints(replica.log()) == ""


DECLARED = ((CONNECTION, "crm"), (SYNC_POLICY, "customers"))


@pytest.mark.parametrize(
    ("question", "namespace", "answer"),
    [
        ("get secrets", HERE, "yes"),
        ("list secrets", HERE, "no"),
        ("watch secrets", HERE, "no"),
        ("get secrets", ELSEWHERE, "no"),
        ("get syncpolicies", ELSEWHERE, "no"),
        ("patch syncpolicies", HERE, "no"),
        ("update syncpolicies", HERE, "no"),
        ("patch syncpolicies --subresource=status", HERE, "yes"),
        ("delete persistentvolumeclaims", HERE, "no"),
        ("create pods", HERE, "no"),
        ("escalate roles", HERE, "no"),
        ("bind roles", HERE, "no"),
    ],
)
def test_its_rights_are_few(
    api_server: Cluster, installed: Installation, question: str, namespace: str, answer: str
) -> None:
    def said() -> str:
        asked = ("auth", "can-i", *question.split(), "--as", installed.account, "-n", namespace)
        return api_server.kubectl(*asked, check=False).split()[-1]

    eventually(said, answer)


def test_a_cluster_without_the_crds_ends_it_and_says_what_to_install(
    api_server: Cluster, installed: Installation
) -> None:
    api_server.kubectl("delete", "crd", "connectors.fairlead.dev")
    try:
        replica = installed.replica()
        assert (replica.wait(), "install Fairlead's CRDs" in replica.log()) == (1, True)
    finally:
        api_server.kubectl("apply", "-f", str(ROOT / "crds"))
        api_server.kubectl("wait", "crd", "--all", "--for=condition=Established", "--timeout=60s")
