"""What people pull: suspend, and the annotations that ask for something."""

from pathlib import Path

import pytest
import yaml

from fairlead.kube.kinds import CONFIG_MAP, CONNECTION, DEPLOYMENT, SYNC_POLICY
from support.api import Api, condition, eventually, once, verdict
from support.declared import database_connection, policy
from support.operator import NAME, Read
from support.pods import pods, report, start_pods

pytestmark = [pytest.mark.xdist_group("api"), pytest.mark.usefixtures("operator")]


@pytest.fixture(autouse=True)
def running(api: Api, namespace: str, tmp_path: Path, read: Read) -> None:
    """A policy that is in sync."""
    api.apply(CONNECTION, namespace, database_connection(tmp_path, "crm"), database_connection(tmp_path, "erp"))
    api.apply(SYNC_POLICY, namespace, policy())
    start_pods(api, namespace)
    report(api, namespace)
    eventually(lambda: verdict(read()), ("True", "InSync"))


def replicas(api: Api, namespace: str) -> int:
    count: int = api.get(DEPLOYMENT, namespace, NAME)["spec"]["replicas"]
    return count


def levers_of(api: Api, namespace: str) -> dict[str, str]:
    """The levers that the worker's configuration holds."""
    (document,) = yaml.safe_load_all(api.get(CONFIG_MAP, namespace, NAME)["data"]["policy.yaml"])
    levers: dict[str, str] = document["metadata"]["annotations"]
    return levers


def test_a_suspended_policy_has_no_worker_and_says_so(api: Api, namespace: str, read: Read) -> None:
    api.edit(SYNC_POLICY, namespace, "customers", {"spec": {"suspend": True}})
    eventually(lambda: (verdict(read()), verdict(read(), "Paused")), (("True", "Suspended"), ("True", "Suspended")))
    eventually(lambda: (replicas(api, namespace), pods(api, namespace)), (0, []))


def test_a_policy_that_goes_on_has_its_worker_again(api: Api, namespace: str, read: Read) -> None:
    api.edit(SYNC_POLICY, namespace, "customers", {"spec": {"suspend": True}})
    eventually(lambda: replicas(api, namespace), 0)
    api.edit(SYNC_POLICY, namespace, "customers", {"spec": {"suspend": False}})
    eventually(lambda: (replicas(api, namespace), verdict(read(), "Paused")), (1, ("", "")))


def test_the_reason_of_a_suspension_is_told(api: Api, namespace: str, read: Read) -> None:
    api.annotate(SYNC_POLICY, namespace, "customers", suspend_reason="audit until Friday")
    api.edit(SYNC_POLICY, namespace, "customers", {"spec": {"suspend": True}})
    eventually(lambda: condition(read(), "Paused").get("message"), "paused by spec.suspend: audit until Friday")


def test_a_suspended_connection_pauses_its_policies(api: Api, namespace: str, read: Read) -> None:
    api.edit(CONNECTION, namespace, "erp", {"spec": {"suspend": True}})
    eventually(lambda: verdict(read(), "Paused"), ("True", "ConnectionSuspended"))
    eventually(lambda: replicas(api, namespace), 0)
    assert condition(read(), "Paused")["message"] == "paused by spec.suspend of Connection erp"
    api.edit(CONNECTION, namespace, "erp", {"spec": {"suspend": False}})
    eventually(lambda: (replicas(api, namespace), verdict(read(), "Paused")), (1, ("", "")))


@pytest.mark.parametrize("lever", ["requested-at", "resync-requested-at", "approve"])
def test_a_lever_reaches_the_worker(api: Api, namespace: str, lever: str) -> None:
    api.annotate(SYNC_POLICY, namespace, "customers", **{lever: "2026-01-01"})
    eventually(lambda: levers_of(api, namespace), {f"fairlead.dev/{lever}": "2026-01-01"})


def test_a_lever_does_not_replace_the_worker(api: Api, namespace: str) -> None:
    before = api.get(DEPLOYMENT, namespace, NAME)["metadata"]["generation"]
    api.annotate(SYNC_POLICY, namespace, "customers", requested_at="1")
    eventually(lambda: levers_of(api, namespace), {"fairlead.dev/requested-at": "1"})
    assert api.get(DEPLOYMENT, namespace, NAME)["metadata"]["generation"] == before


def test_what_the_worker_handled_is_acknowledged(api: Api, namespace: str, read: Read) -> None:
    api.annotate(SYNC_POLICY, namespace, "customers", requested_at="1", resync_requested_at="2")
    report(api, namespace, lastHandledRequestAt="1", lastHandledResyncRequestAt="2")
    handled = lambda: [read()["status"].get(f"lastHandled{each}At") for each in ("Request", "ResyncRequest")]  # noqa: E731
    eventually(handled, ["1", "2"])


@pytest.mark.parametrize(
    ("annotation", "value", "note"),
    [
        (
            "request-at",
            "1",
            "annotation fairlead.dev/request-at means nothing: did you mean 'fairlead.dev/requested-at'?",
        ),
        (
            "requested-at",
            " ",
            "annotation fairlead.dev/requested-at is empty: write anything new, for example the time",
        ),
        ("approve", "x" * 257, "annotation fairlead.dev/approve has 257 characters: write at most 256"),
    ],
)
def test_a_senseless_lever_is_a_warning_and_no_stop(
    api: Api, namespace: str, read: Read, annotation: str, value: str, note: str
) -> None:
    api.annotate(SYNC_POLICY, namespace, "customers", **{annotation: value})
    expected = [("Warning", "SenselessLever", note)]
    eventually(lambda: api.events(namespace, "customers", "SenselessLever"), expected)
    assert (verdict(read()), replicas(api, namespace), levers_of(api, namespace)) == (("True", "InSync"), 1, {})


def test_approving_another_plan_than_the_one_that_waits_is_a_warning(api: Api, namespace: str, read: Read) -> None:
    report(api, namespace, halted={"plan": "5e9c", "message": "120 deletes", "writes": 120})
    eventually(lambda: verdict(read(), "Stalled"), ("True", "GuardTripped"))
    api.annotate(SYNC_POLICY, namespace, "customers", approve="abcd")
    (event,) = once(lambda: api.events(namespace, "customers", "SenselessLever"))
    assert event[2] == "annotation fairlead.dev/approve names a plan that is not waiting: write 5e9c"


def test_annotations_are_compared_and_never_deleted(api: Api, namespace: str, read: Read) -> None:
    api.annotate(SYNC_POLICY, namespace, "customers", requested_at="1", nonsense="2")
    once(lambda: api.events(namespace, "customers", "SenselessLever"))
    expected = {"fairlead.dev/requested-at": "1", "fairlead.dev/nonsense": "2"}
    assert read()["metadata"]["annotations"] == expected
