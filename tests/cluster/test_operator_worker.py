"""What a worker measured and what the operator concludes stand in one status, and neither overwrites the other."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from fairlead.kube.failure import ApiFailure
from fairlead.kube.kinds import CONNECTION, ROLE_BINDING, SYNC_POLICY
from fairlead.kube.status import StatusWriter
from support.api import Api, Manifest, condition, eventually, once, verdict
from support.cluster import Cluster
from support.declared import database_connection, policy
from support.operator import NAME, Read
from support.pods import POD, ago, now, pods, report, start_pods

pytestmark = [pytest.mark.xdist_group("api"), pytest.mark.usefixtures("operator")]


@pytest.fixture
def declared(api: Api, namespace: str, tmp_path: Path) -> None:
    api.apply(CONNECTION, namespace, database_connection(tmp_path, "crm"), database_connection(tmp_path, "erp"))
    api.apply(SYNC_POLICY, namespace, policy())


@pytest.fixture
def running(api: Api, namespace: str, declared: None, read: Read) -> None:
    """A policy that is in sync."""
    start_pods(api, namespace)
    report(api, namespace)
    eventually(lambda: verdict(read()), ("True", "InSync"))


@pytest.fixture
def mounted(api_server: Cluster, api: Api, namespace: str, declared: None, tmp_path: Path) -> Path:
    """The folder of a worker's own token, as its pod has it."""
    once(lambda: api.get(ROLE_BINDING, namespace, NAME))
    (tmp_path / "token").write_text(api_server.kubectl("create", "token", NAME, "-n", namespace))
    (tmp_path / "ca.crt").write_text(api.authority)
    return tmp_path


async def as_worker(
    api: Api, mounted: Path, namespace: str, name: str, status: Manifest
) -> tuple[dict[str, str], Manifest]:
    """What a worker reads after it has reported: its levers, and what it will find when it starts again."""
    writer = StatusWriter(api.url, mounted)
    try:
        await writer.apply(namespace, name, status)
        return await writer.levers(namespace, name), await writer.measured(namespace, name)
    finally:
        await writer.close()


def test_a_workers_own_account_may_report_and_read_its_levers(
    api: Api, namespace: str, mounted: Path, read: Read
) -> None:
    api.annotate(SYNC_POLICY, namespace, "customers", requested_at="1")
    measured = {"records": 7, "lastSyncTime": now(), "observedGeneration": 1}
    found = retried(lambda: as_worker(api, mounted, namespace, "customers", {"worker": measured}))
    assert (found, read()["status"]["worker"]) == (({"fairlead.dev/requested-at": "1"}, measured), measured)


def retried(call: Callable[[], object]) -> object:
    """The authorizer hears of a new RoleBinding a moment later."""
    answers: list[object] = []

    def attempt() -> bool:
        try:
            answers.append(asyncio.run(call()))
        except ApiFailure as failure:
            if failure.status != 403:
                raise
        return bool(answers)

    once(attempt)
    return answers[0]


def test_a_worker_may_not_report_for_another_policy(api: Api, namespace: str, mounted: Path, read: Read) -> None:
    api.apply(SYNC_POLICY, namespace, policy("orders", mode="Plan"))
    with pytest.raises(ApiFailure) as caught:
        asyncio.run(as_worker(api, mounted, namespace, "orders", {"worker": {"records": 7}}))
    assert caught.value.status == 403


def test_a_report_to_a_policy_that_is_gone_says_so(api: Api, namespace: str, mounted: Path) -> None:
    retried(lambda: as_worker(api, mounted, namespace, "customers", {"worker": {"records": 7}}))
    api.delete(SYNC_POLICY, namespace, "customers")
    eventually(lambda: status_of_report(api, mounted, namespace), True)


def status_of_report(api: Api, mounted: Path, namespace: str) -> bool:
    try:
        asyncio.run(as_worker(api, mounted, namespace, "customers", {"worker": {"records": 7}}))
    except ApiFailure as failure:
        return failure.status in (401, 403, 404)
    return False


# --- merged ---


def test_neither_overwrites_the_other(api: Api, namespace: str, running: None, read: Read) -> None:
    report(api, namespace, conflicts=2)
    eventually(lambda: verdict(read(), "Synced"), ("False", "ConflictsPending"))
    report(api, namespace, conflicts=2, records=8)
    status = read()["status"]
    assert (status["worker"]["records"], status["summary"]["status"]) == (8, "ConflictsPending")
    fields = {
        each["manager"]: set(each["fieldsV1"]["f:status"])
        for each in read()["metadata"]["managedFields"]
        if "subresource" in each
    }
    assert fields["fairlead-worker"] == {"f:worker"}
    assert fields["fairlead-operator"] == {"f:conditions", "f:observedGeneration", "f:summary"}


def test_figures_alone_are_no_write_of_the_operator(api: Api, namespace: str, running: None, read: Read) -> None:
    report(api, namespace, records=8, lag="2s")
    api.annotate(SYNC_POLICY, namespace, "customers", nonsense="1")
    before = read()["metadata"]["resourceVersion"]
    once(lambda: api.events(namespace, "customers", "SenselessLever"))
    assert read()["metadata"]["resourceVersion"] == before


@pytest.mark.parametrize(
    ("measured", "ready", "synced", "stalled"),
    [
        ({"conflicts": 1}, ("True", "ConflictsPending"), ("False", "ConflictsPending"), ("", "")),
        ({"deadLetters": 3}, ("True", "DeadLetters"), ("False", "DeadLetters"), ("", "")),
        ({"pending": 5}, ("True", "CatchingUp"), ("False", "CatchingUp"), ("", "")),
        (
            {"halted": {"plan": "5e9c", "message": "120 deletes", "writes": 120}},
            ("False", "Halted"),
            ("True", "AllAgree"),
            ("True", "GuardTripped"),
        ),
        (
            {"systems": [{"name": "crm", "reachable": False, "reason": "ObjectNotFound", "message": "no table"}]},
            ("False", "SystemUnavailable"),
            ("True", "AllAgree"),
            ("True", "SchemaIncompatible"),
        ),
        (
            {"systems": [{"name": "crm", "reachable": False, "reason": "Unavailable", "message": "503"}]},
            ("True", "InSync"),
            ("True", "AllAgree"),
            ("", ""),
        ),
        (
            {"error": {"reason": "StateCorrupted", "message": "the file is damaged"}},
            ("False", "StateUnavailable"),
            ("True", "AllAgree"),
            ("", ""),
        ),
        (
            {"error": {"reason": "StateLocked", "message": "the state is in use by another worker"}},
            ("True", "WorkerStarting"),
            ("True", "AllAgree"),
            ("", ""),
        ),
        (
            {
                "error": {"reason": "StateLocked", "message": "the state is in use by another worker"},
                "lastSyncTime": ago(timedelta(minutes=5)),
            },
            ("False", "StateUnavailable"),
            ("True", "AllAgree"),
            ("", ""),
        ),
        ({"lastSyncTime": "2026-01-01T00:00:00Z"}, ("False", "Stale"), ("True", "AllAgree"), ("", "")),
    ],
    ids=[
        "conflicts",
        "dead letters",
        "pending",
        "halted",
        "schema",
        "a failed poll",
        "state",
        "a worker that is replaced",
        "two workers",
        "stale",
    ],
)
def test_what_is_measured_is_concluded(
    api: Api,
    namespace: str,
    running: None,
    read: Read,
    measured: Manifest,
    ready: tuple[str, str],
    synced: tuple[str, str],
    stalled: tuple[str, str],
) -> None:
    report(api, namespace, **measured)
    eventually(lambda: [verdict(read(), each) for each in ("Ready", "Synced", "Stalled")], [ready, synced, stalled])


def test_what_halts_is_told_as_a_warning_with_the_workers_words(
    api: Api, namespace: str, running: None, read: Read
) -> None:
    report(api, namespace, halted={"plan": "5e9c", "message": "120 deletes wait: approve 5e9c", "writes": 120})
    expected = [("Warning", "GuardTripped", "120 deletes wait: approve 5e9c")]
    eventually(lambda: api.events(namespace, "customers", "GuardTripped"), expected)


def test_a_worker_that_is_gone_for_a_moment_is_no_outage(api: Api, namespace: str, running: None, read: Read) -> None:
    for pod in pods(api, namespace):
        api.delete(POD, namespace, pod["metadata"]["name"])
    eventually(lambda: verdict(read(), "Reconciling"), ("True", "WorkerStarting"))
    assert verdict(read()) == ("True", "WorkerStarting")
    start_pods(api, namespace)
    eventually(lambda: (verdict(read()), verdict(read(), "Reconciling")), (("True", "InSync"), ("", "")))


def test_a_worker_that_cannot_be_made_says_why(
    api_server: Cluster, api: Api, namespace: str, tmp_path: Path, read: Read
) -> None:
    api_server.kubectl("create", "quota", "none", "--hard=pods=0", "-n", namespace)
    api.apply(CONNECTION, namespace, database_connection(tmp_path, "crm"), database_connection(tmp_path, "erp"))
    api.apply(SYNC_POLICY, namespace, policy())
    once(lambda: "exceeded quota" in condition(read(), "Ready").get("message", ""))
