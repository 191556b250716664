"""What a kubelet and a worker would do where no pod runs."""

from datetime import UTC, datetime, timedelta

from fairlead.kube.kinds import SYNC_POLICY, Kind
from support.api import Api, Manifest, once

POD = Kind("v1", "Pod", "pods")
WORKER = "fairlead-worker"


def now() -> str:
    """As Kubernetes writes times."""
    return ago(timedelta())


def ago(time: timedelta) -> str:
    """So long before now, as Kubernetes writes times."""
    return (datetime.now(UTC) - time).strftime("%Y-%m-%dT%H:%M:%SZ")


def pods(api: Api, namespace: str) -> list[Manifest]:
    """The pods that are not about to go."""
    return [each for each in api.all(POD, namespace) if "deletionTimestamp" not in each["metadata"]]


def start_pods(api: Api, namespace: str) -> None:
    """Waits for a pod, and says of all new ones that they are ready, as their kubelet would."""
    for pod in once(lambda: pods(api, namespace)):
        if pod["status"]["phase"] == "Running":
            continue
        ready = {"type": "Ready", "status": "True", "lastTransitionTime": now()}
        status = {"phase": "Running", "conditions": [ready]}
        api.edit(POD, namespace, pod["metadata"]["name"], {"status": status}, "kubelet", "status")


def report(api: Api, namespace: str, name: str = "customers", **measured: object) -> None:
    """Says what a healthy worker would, but for what is given."""
    generation = api.get(SYNC_POLICY, namespace, name)["metadata"]["generation"]
    healthy = {
        "observedGeneration": generation,
        "lastSyncTime": now(),
        "lag": "84ms",
        "records": 7,
        "conflicts": 0,
        "deadLetters": 0,
        "pending": 0,
        "planned": 0,
        "systems": [{"name": system, "reachable": True} for system in ("crm", "erp")],
    }
    api.apply_status(SYNC_POLICY, namespace, name, {"worker": {**healthy, **measured}}, WORKER)
