"""What the operator misses, forgets or was cut off from, it finds again by looking."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fairlead.controller.handlers import OWNED
from fairlead.kube.kinds import CONNECTION, DEPLOYMENT, PERSISTENT_VOLUME_CLAIM, ROLE, SYNC_POLICY
from support.api import Api, condition, eventually, once, verdict
from support.cluster import Cluster
from support.declared import database_connection, policy
from support.operator import NAME, Install, Installation, Read, Replica
from support.pods import report, start_pods
from support.proxy import Proxy, proxy_to

pytestmark = pytest.mark.xdist_group("api")

ALONE = ("--no-elect",)


@pytest.fixture
def installed(install: Install, namespace: str) -> Iterator[Installation]:
    with install(namespace) as made:
        yield made


@pytest.fixture
def proxy(api: Api) -> Iterator[Proxy]:
    with proxy_to(int(api.url.rpartition(":")[2])) as opened:
        yield opened


@pytest.fixture
def remote(installed: Installation, proxy: Proxy) -> Replica:
    """An operator whose way to the API server can be cut off."""
    return installed.started(*ALONE, server=f"https://127.0.0.1:{proxy.port}")


def declare(api: Api, namespace: str, folder: Path, read: Read) -> None:
    """Two databases and a policy that is in sync."""
    slowly = {"probe": {"interval": "1h"}}
    connections = [database_connection(folder, each, **slowly) for each in ("crm", "erp")]
    api.apply(CONNECTION, namespace, *connections)
    api.apply(SYNC_POLICY, namespace, policy())
    start_pods(api, namespace)
    report(api, namespace)
    eventually(lambda: verdict(read()), ("True", "InSync"))


def versions(api: Api, namespace: str) -> dict[str, str]:
    """All but the volume claim's, which the API server stores once more when it is first applied again."""
    found = {kind.name: api.get(kind, namespace, NAME) for kind in OWNED if kind is not PERSISTENT_VOLUME_CLAIM}
    found["SyncPolicy"] = api.get(SYNC_POLICY, namespace, "customers")
    return {kind: each["metadata"]["resourceVersion"] for kind, each in found.items()}


def caught_up(replica: Replica) -> bool:
    """Whether both Connections and the policy have been visited and nothing waits."""
    visits = [replica.metric("fairlead_operator_reconciles_total", kind=k) for k in ("Connection", "SyncPolicy")]
    return visits >= [2, 1] and visits[1] >= 1 and replica.metric("fairlead_operator_queue_age_seconds") == 0


# --- a new process ---


def test_an_operator_that_was_killed_and_comes_back_writes_nothing_that_is_so_already(
    api: Api, namespace: str, installed: Installation, tmp_path: Path, read: Read
) -> None:
    replica = installed.started(*ALONE)
    declare(api, namespace, tmp_path, read)
    eventually(lambda: replica.metric("fairlead_operator_queue_age_seconds"), 0.0)
    replica.kill()
    before = versions(api, namespace)
    again = installed.started(*ALONE)
    once(lambda: caught_up(again))
    assert versions(api, namespace) == before


def test_a_connection_stays_as_it_is_while_a_new_process_looks(
    api: Api, namespace: str, installed: Installation, tmp_path: Path, read: Read
) -> None:
    replica = installed.started(*ALONE)
    declare(api, namespace, tmp_path, read)
    replica.kill()
    before = api.get(CONNECTION, namespace, "erp")["status"]["conditions"]
    again = installed.started(*ALONE)
    once(lambda: caught_up(again))
    assert api.get(CONNECTION, namespace, "erp")["status"]["conditions"] == before


def test_what_happened_while_no_operator_ran_is_made_good(
    api: Api, namespace: str, installed: Installation, tmp_path: Path, read: Read
) -> None:
    replica = installed.started(*ALONE)
    declare(api, namespace, tmp_path, read)
    replica.kill()
    api.delete(DEPLOYMENT, namespace, NAME)
    api.edit(ROLE, namespace, NAME, {"rules": []})
    api.edit(CONNECTION, namespace, "crm", {"spec": {"suspend": True}})
    installed.started(*ALONE)
    eventually(lambda: len(api.get(ROLE, namespace, NAME)["rules"] or ()), 2)
    eventually(lambda: api.get(DEPLOYMENT, namespace, NAME).get("spec", {}).get("replicas"), 0)
    eventually(lambda: verdict(read(), "Paused"), ("True", "ConnectionSuspended"))


def test_a_stopping_operator_ends_what_it_does_and_says_nothing_bad(
    api: Api, namespace: str, installed: Installation, tmp_path: Path, read: Read
) -> None:
    replica = installed.started(*ALONE)
    declare(api, namespace, tmp_path, read)
    assert (replica.stop(), "error" in replica.log(), "Traceback" in replica.log()) == (0, False, False)


# --- the way to the API server ---


def test_a_watch_that_was_cut_off_hears_again(
    api: Api, namespace: str, remote: Replica, proxy: Proxy, tmp_path: Path, read: Read
) -> None:
    declare(api, namespace, tmp_path, read)
    proxy.cut()
    api.delete(DEPLOYMENT, namespace, NAME)
    api.edit(SYNC_POLICY, namespace, "customers", {"spec": {"staleAfter": "1h"}})
    proxy.mend()
    once(lambda: api.get(DEPLOYMENT, namespace, NAME), seconds=60)
    eventually(lambda: read()["status"]["observedGeneration"], 2, seconds=60)
    assert remote.get("/healthz").text == "ok"


def test_what_a_watch_missed_for_good_is_found_by_looking(
    api_server: Cluster, api: Api, namespace: str, remote: Replica, proxy: Proxy, tmp_path: Path, read: Read
) -> None:
    """After a restart the API server cannot tell what was deleted before: the operator lists, and misses it there."""
    declare(api, namespace, tmp_path, read)
    proxy.cut()
    api.delete(DEPLOYMENT, namespace, NAME)
    api.delete(ROLE, namespace, NAME)
    api_server.restart_api_server()
    proxy.mend()
    once(lambda: api.get(DEPLOYMENT, namespace, NAME), seconds=60)
    once(lambda: api.get(ROLE, namespace, NAME))
    assert "watch began anew" in remote.log()


def test_a_connection_that_was_deleted_unseen_is_missed(
    api_server: Cluster, api: Api, namespace: str, remote: Replica, proxy: Proxy, tmp_path: Path, read: Read
) -> None:
    declare(api, namespace, tmp_path, read)
    proxy.cut()
    api.delete(CONNECTION, namespace, "erp")
    api_server.restart_api_server()
    proxy.mend()
    eventually(lambda: verdict(read()), ("False", "ConnectionNotFound"), seconds=60)
    assert "erp" in condition(read(), "Ready")["message"]
