"""What the operator says of a Connection: it asks the system, and writes down what it found."""

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme
import yaml

from fairlead.kube.kinds import CONFIG_MAP, CONNECTION, CONNECTOR, SECRET, SYNC_POLICY
from fairlead.testing.http_faults import Fault, FaultKind
from fairlead.testing.http_system import HTTPSystem, Logins
from support import manifests
from support.api import Api, Manifest, condition, eventually, once, verdict
from support.cluster import Cluster
from support.declared import database_connection, http_connection, login, policy, with_token
from support.manifests import with_values
from support.operator import Replica

pytestmark = [pytest.mark.xdist_group("api"), pytest.mark.usefixtures("operator")]

TOKEN = "7c1f-the-right-token"


@pytest.fixture
def system() -> Iterator[HTTPSystem]:
    with HTTPSystem(logins=Logins(bearer=TOKEN)) as opened:
        yield opened


@pytest.fixture
def read(api: Api, namespace: str) -> Callable[[], Manifest]:
    return lambda: api.get(CONNECTION, namespace, "crm")


Read = Callable[[], Manifest]


@pytest.fixture
def ready(api: Api, namespace: str, system: HTTPSystem, read: Read) -> Manifest:
    """A Connection that is Ready."""
    api.apply(SECRET, namespace, login(TOKEN))
    api.apply(CONNECTION, namespace, with_token(system))
    eventually(lambda: verdict(read()), ("True", "Available"))
    return read()


def conditions(found: Manifest) -> dict[str, tuple[str, str]]:
    return {each["type"]: (each["status"], each["reason"]) for each in found.get("status", {}).get("conditions", ())}


# --- a system that answers ---


def test_a_system_that_answers_makes_its_connection_ready(ready: Manifest) -> None:
    expected = {
        "Ready": ("True", "Available"),
        "CredentialsValid": ("True", "Accepted"),
        "WithinBudget": ("True", "Sufficient"),
    }
    assert expected == conditions(ready)


def test_every_condition_is_about_the_present_generation(ready: Manifest) -> None:
    generations = {each["observedGeneration"] for each in ready["status"]["conditions"]}
    assert ({ready["metadata"]["generation"]}, ready["metadata"]["generation"]) == (
        generations,
        ready["status"]["observedGeneration"],
    )


def test_the_summary_tells_the_latency_and_what_is_left_of_the_limit(ready: Manifest) -> None:
    summary = ready["status"]["summary"]
    assert re.fullmatch(r"\d+ms", summary["latency"])
    assert {k: summary[k] for k in summary if k != "latency"} == {
        "status": "Available",
        "limitLeft": "91%",
        "usedBy": 0,
    }


def test_kubectl_waits_for_a_connection(api_server: Cluster, ready: Manifest) -> None:
    api_server.wait_for("connection", "crm", ready["metadata"]["namespace"], "condition=Ready", seconds=10)


def test_kubectl_get_prints_what_was_found(api_server: Cluster, ready: Manifest) -> None:
    row = api_server.kubectl("get", "conn", "crm", "-n", ready["metadata"]["namespace"], "--no-headers").split()
    assert row[:4] + row[5:7] == ["crm", "rest", "True", "Available", "91%", "0"]


def test_a_database_file_is_probed(api: Api, namespace: str, tmp_path: Path, read: Read) -> None:
    api.apply(CONNECTION, namespace, database_connection(tmp_path, "crm"))
    eventually(lambda: verdict(read()), ("True", "Available"))


def test_a_postgresql_server_is_probed(api: Api, namespace: str, database: str, read: Read) -> None:
    server = dict(part.split("=") for part in database.split())
    url = f"postgresql://{server['host']}:{server['port']}/{server['dbname']}"
    login_ = {"basic": {"username": manifests.secret(key="user"), "password": manifests.secret(key="password")}}
    secret = {"metadata": {"name": "login"}, "stringData": {"user": server["user"], "password": "unused"}}
    api.apply(SECRET, namespace, secret)
    api.apply(CONNECTION, namespace, http_connection(url, connector="sql", auth=login_))
    eventually(lambda: verdict(read()), ("True", "Available"))


def test_a_connection_counts_the_policies_that_use_it(api: Api, namespace: str, tmp_path: Path, read: Read) -> None:
    api.apply(CONNECTION, namespace, database_connection(tmp_path, "crm"), database_connection(tmp_path, "erp"))
    api.apply(SYNC_POLICY, namespace, policy("one"), policy("two", mode="Plan"))
    eventually(lambda: read()["status"].get("summary", {}).get("usedBy"), 2)
    api.delete(SYNC_POLICY, namespace, "two")
    eventually(lambda: read()["status"]["summary"]["usedBy"], 1)


# --- a system that does not ---


def test_a_wrong_token_is_rejected_credentials(api: Api, namespace: str, system: HTTPSystem, read: Read) -> None:
    api.apply(SECRET, namespace, login("wrong"))
    api.apply(CONNECTION, namespace, with_token(system))
    expected = {
        "Ready": ("False", "AuthFailed"),
        "CredentialsValid": ("False", "AuthFailed"),
        "WithinBudget": ("Unknown", "AuthFailed"),
        "Stalled": ("True", "CredentialsRejected"),
    }
    eventually(lambda: conditions(read()), expected)


def test_a_secret_that_is_missing_is_named(api: Api, namespace: str, system: HTTPSystem, read: Read) -> None:
    api.apply(CONNECTION, namespace, with_token(system))
    eventually(lambda: verdict(read()), ("False", "SecretNotFound"))
    assert "Secret 'login' does not exist" in condition(read(), "Ready")["message"]


def test_a_key_that_is_missing_is_named(api: Api, namespace: str, system: HTTPSystem, read: Read) -> None:
    api.apply(SECRET, namespace, {"metadata": {"name": "login"}, "stringData": {"token": TOKEN}})
    api.apply(CONNECTION, namespace, with_token(system))
    eventually(lambda: verdict(read(), "Stalled"), ("True", "CredentialsRejected"))
    assert "Secret 'login' has no key 'value': add the key" in condition(read(), "Ready")["message"]


def test_a_host_that_does_not_resolve_is_named(api: Api, namespace: str, read: Read) -> None:
    api.apply(CONNECTION, namespace, http_connection("http://crm.invalid"))
    eventually(lambda: verdict(read()), ("False", "HostNotFound"))
    assert "crm.invalid" in condition(read(), "Ready")["message"]


def test_a_certificate_that_nobody_vouches_for_fails(api: Api, namespace: str, tmp_path: Path, read: Read) -> None:
    with HTTPSystem(tls=certificate(trustme.CA(), tmp_path)) as system:
        api.apply(CONNECTION, namespace, http_connection(system))
        eventually(lambda: verdict(read()), ("False", "TLSFailed"))


def test_a_certificate_is_verified_by_the_connections_own_bundle(
    api: Api, namespace: str, tmp_path: Path, read: Read
) -> None:
    authority = trustme.CA()
    bundle = {"metadata": {"name": "ca"}, "data": {"ca.crt": authority.cert_pem.bytes().decode()}}
    tls = {"caBundle": {"configMapKeyRef": {"name": "ca", "key": "ca.crt"}}}
    with HTTPSystem(tls=certificate(authority, tmp_path)) as system:
        api.apply(CONFIG_MAP, namespace, bundle)
        api.apply(CONNECTION, namespace, http_connection(system, tls=tls))
        eventually(lambda: verdict(read()), ("True", "Available"))


def certificate(authority: trustme.CA, folder: Path) -> tuple[str, str]:
    issued = authority.issue_cert("127.0.0.1")
    chain, key = folder / "chain.pem", folder / "key.pem"
    chain.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
    key.write_bytes(issued.private_key_pem.bytes())
    return str(chain), str(key)


def test_a_connector_that_does_not_exist_is_an_invalid_spec_until_it_comes(
    api: Api, namespace: str, system: HTTPSystem, read: Read
) -> None:
    name = f"shop-{namespace}"
    api.apply(SECRET, namespace, login(TOKEN))
    api.apply(CONNECTION, namespace, with_token(system, connector=name, probe={"interval": "1h"}))
    eventually(lambda: verdict(read(), "Stalled"), ("True", "InvalidSpec"))
    api.apply(CONNECTOR, "", with_values(manifests.connector(), {"metadata": {"name": name}, "spec.probe.path": "/"}))
    try:
        eventually(lambda: verdict(read()), ("True", "Available"))
    finally:
        api.delete(CONNECTOR, "", name)


def test_one_failed_probe_of_a_ready_system_is_no_outage(
    api: Api, ready: Manifest, system: HTTPSystem, read: Read
) -> None:
    seen = len(system.seen)
    system.faults.add(Fault(FaultKind.STATUS, path="/", status=503))
    once(lambda: len(system.seen) >= seen + 2)
    moved = condition(read(), "Ready")["lastTransitionTime"]
    assert ("True", condition(ready, "Ready")["lastTransitionTime"]) == (verdict(read())[0], moved)


def test_a_system_that_comes_back_is_ready_again_and_both_are_told(
    api: Api, namespace: str, ready: Manifest, system: HTTPSystem, read: Read
) -> None:
    system.faults.add(Fault(FaultKind.STATUS, path="/", status=503, times=2))
    eventually(lambda: verdict(read()), ("False", "Unavailable"))
    eventually(lambda: verdict(read()), ("True", "Available"))
    told = lambda: [(type_, reason) for type_, reason, _ in api.events(namespace, "crm")]  # noqa: E731
    eventually(told, [("Warning", "Unavailable"), ("Normal", "Available")])


def test_a_system_that_throttles_is_there_but_out_of_budget(ready: Manifest, system: HTTPSystem, read: Read) -> None:
    system.faults.add(Fault(FaultKind.THROTTLE, path="/", times=2, retry_after="1"))
    eventually(lambda: conditions(read())["WithinBudget"], ("False", "Throttled"))
    eventually(lambda: conditions(read())["WithinBudget"], ("True", "Sufficient"))


# --- levers ---


def test_a_suspended_connection_is_paused_and_not_asked(
    api: Api, namespace: str, ready: Manifest, system: HTTPSystem, read: Read
) -> None:
    api.annotate(CONNECTION, namespace, "crm", suspend_reason="the vendor moves")
    api.edit(CONNECTION, namespace, "crm", {"spec": {"suspend": True}})
    eventually(lambda: conditions(read()), {"Ready": ("True", "Suspended"), "Paused": ("True", "Suspended")})
    assert "the vendor moves" in condition(read(), "Paused")["message"]
    seen = len(system.seen)
    api.annotate(CONNECTION, namespace, "crm", requested_at="now")
    api.edit(CONNECTION, namespace, "crm", {"spec": {"suspend": False}})
    eventually(lambda: verdict(read()), ("True", "Available"))
    assert len(system.seen) > seen
    assert "Paused" not in conditions(read())


def test_requested_at_probes_now_and_is_acknowledged(api: Api, namespace: str, system: HTTPSystem, read: Read) -> None:
    api.apply(SECRET, namespace, login("wrong"))
    api.apply(CONNECTION, namespace, with_token(system, probe={"interval": "1h"}))
    eventually(lambda: verdict(read()), ("False", "AuthFailed"))
    api.apply(SECRET, namespace, login(TOKEN))
    api.annotate(CONNECTION, namespace, "crm", requested_at="2026-01-01")
    eventually(lambda: verdict(read()), ("True", "Available"))
    assert read()["status"]["lastHandledRequestAt"] == "2026-01-01"


def test_a_new_spec_is_probed_at_once(api: Api, namespace: str, system: HTTPSystem, read: Read) -> None:
    api.apply(SECRET, namespace, login(TOKEN))
    api.apply(CONNECTION, namespace, with_token("http://crm.invalid", probe={"interval": "1h"}))
    eventually(lambda: verdict(read()), ("False", "HostNotFound"))
    api.apply(CONNECTION, namespace, with_token(system, probe={"interval": "1h"}))
    eventually(lambda: verdict(read()), ("True", "Available"))


def test_a_rotated_secret_is_noticed(api: Api, namespace: str, system: HTTPSystem, read: Read) -> None:
    api.apply(SECRET, namespace, login("wrong"))
    api.apply(CONNECTION, namespace, with_token(system))
    eventually(lambda: verdict(read()), ("False", "AuthFailed"))
    api.apply(SECRET, namespace, login(TOKEN))
    eventually(lambda: verdict(read()), ("True", "Available"))


def test_rejected_credentials_are_not_tried_again_and_again(
    api: Api, namespace: str, system: HTTPSystem, read: Read
) -> None:
    """Systems lock accounts: the wait doubles with each rejection, unless the Secret changes."""
    api.apply(SECRET, namespace, login("wrong"))
    api.apply(CONNECTION, namespace, with_token(system))
    once(lambda: len(system.seen) == 3)
    started = time.monotonic()
    once(lambda: len(system.seen) == 4)
    assert time.monotonic() - started > 2.5


# --- what must never happen ---


def test_no_value_of_a_secret_is_told_anywhere(
    api: Api, namespace: str, system: HTTPSystem, operator: Replica, read: Read
) -> None:
    api.apply(SECRET, namespace, login(TOKEN))
    api.apply(CONNECTION, namespace, with_token(system))
    eventually(lambda: verdict(read()), ("True", "Available"))
    wrong = "0123-the-wrong-token"
    api.apply(SECRET, namespace, login(wrong))
    eventually(lambda: verdict(read()), ("False", "AuthFailed"))
    once(lambda: api.events(namespace, "crm", "AuthFailed"))
    told = yaml.safe_dump(read()["status"]) + str(api.events(namespace, "crm")) + operator.log()
    assert [TOKEN in told, wrong in told] == [False, False]


def test_the_operator_changes_nothing_but_the_status(api: Api, namespace: str, ready: Manifest) -> None:
    managers = {(each["manager"], each.get("subresource", "")) for each in ready["metadata"]["managedFields"]}
    assert {("gitops", ""), ("fairlead-operator", "status")} == managers
    assert (ready["metadata"].get("finalizers"), ready["metadata"].get("annotations")) == (None, None)
