"""Fairlead on a real node: installed with Helm, with the systems of examples/cluster in pods beside it."""

import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
import yaml

from support.cluster import CHART, ROOT, Cluster
from support.company import CRM, NAMESPACE, Company, forwarded, json_items, wait_until

pytestmark = [pytest.mark.node, pytest.mark.xdist_group("node"), pytest.mark.timeout(600)]

EXAMPLES = ROOT / "examples/cluster"
SYSTEM = "fairlead-system"
PLAIN = ("leads", "contacts", "deals", "accounts")
"""Objects of which the CRM takes the same record twice, and tables of the ERP that do, too."""

ROWS = 2000


def helm(cluster: Cluster, verb: str, *arguments: str) -> None:
    """Installs or upgrades the chart and waits for it; a failure shows what the operator says."""
    try:
        cluster.helm(verb, "fairlead", str(CHART), "--namespace", SYSTEM, "--wait", "--timeout", "180s", *arguments)
    except AssertionError as error:
        for look in (["get", "events"], ["logs", "-l", "app.kubernetes.io/name=fairlead", "--tail=50", "--prefix"]):
            error.add_note(cluster.kubectl("-n", SYSTEM, *look, check=False))
        raise


def example(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((EXAMPLES / name).read_text()))


def systems() -> list[dict[str, Any]]:
    """Those of the examples, with a CRM that has plain objects too and bears any number of requests."""
    manifests = [*example("1-systems.yaml"), *example("2-connections.yaml")]
    for manifest in manifests:
        if (manifest["kind"], manifest["metadata"]["name"]) == ("Deployment", "crm"):
            manifest["spec"]["template"]["spec"]["containers"][0]["args"] += [f"--object={name}" for name in PLAIN]
        if manifest["kind"] == "Connection":
            manifest["spec"]["limits"] = {"concurrency": 8}
    return manifests


@pytest.fixture(scope="module")
def company(node_cluster: Cluster) -> Iterator[Company]:
    """Everything installed, and both policies of the examples in agreement."""
    helm(node_cluster, "install", "--create-namespace")
    node_cluster.apply(*systems())
    for name in ("crm", "erp"):
        node_cluster.kubectl("-n", NAMESPACE, "rollout", "status", f"deployment/{name}", "--timeout=180s")
    for name in ("3-customers.yaml", "4-products.yaml"):
        node_cluster.kubectl("apply", "-f", str(EXAMPLES / name))
    with forwarded(node_cluster, "crm") as url, closing(CRM(url)) as crm:
        found = Company(node_cluster, crm)
        for policy in ("customers", "products"):
            wait_until(lambda name=policy: found.condition("sp", name) == ("True", "InSync"), f"{policy} in sync")
        yield found


def entries(company: Company, name: str) -> tuple[list[str], list[str]]:
    """What both systems hold of a plain object, sorted; equal when nothing is lost or doubled."""
    crm = sorted(f"{each['email']}|{each.get('name')}" for each in company.crm.records(name))
    return crm, sorted(company.sql(f"SELECT mail, name FROM {name}").splitlines())


@pytest.fixture
def plain(company: Company, request: pytest.FixtureRequest) -> Iterator[str]:
    """A table and an object of the same name, in which nothing is unique but the key, and their policy."""
    name: str = request.param
    company.sql(
        f"CREATE TABLE {name} (no bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, mail text, name text, "
        f"changed timestamptz NOT NULL DEFAULT clock_timestamp()); CREATE INDEX ON {name} (changed); "
        f"CREATE TRIGGER touch BEFORE UPDATE ON {name} FOR EACH ROW EXECUTE FUNCTION touch()"
    )
    (policy,) = example("3-customers.yaml")
    policy["metadata"]["name"] = name
    crm = {"name": "crm", "connection": "crm", "object": name, "fields": {"email": "email", "name": "name"}}
    erp = {"name": "erp", "connection": "erp", "object": name, "modified": "changed"}
    policy["spec"]["systems"] = [crm, {**erp, "fields": {"email": "mail", "name": "name"}}]
    del policy["spec"]["fields"]
    company.cluster.apply(policy)
    wait_until(lambda: company.condition("sp", name) == ("True", "InSync"), f"{name} in sync")
    yield name
    company.kubectl("delete", "sp", name, "--ignore-not-found", "--timeout=120s")


# --- rows move, and kubectl tells ---


def test_rows_of_the_database_are_in_the_api(company: Company) -> None:
    found = {each["sku"]: (each["title"], each["price"]) for each in company.crm.records("products")}
    assert found == {"AN-1": ("Anchor", 120), "FL-7": ("Fairlead", 18.5), "RP-3": ("Rope, 30 m", 42)}


def test_edits_flow_both_ways(company: Company) -> None:
    company.crm.edit("customers", "ada@example.com", contact={"phone": "+44 20 99"})
    company.sql("UPDATE customer SET credit_limit = 250 WHERE mail = 'alan@example.com'")
    phone = "SELECT phone FROM customer WHERE mail = 'ada@example.com'"
    wait_until(lambda: company.sql(phone) == "+44 20 99", "the phone number in the ERP")
    wait_until(lambda: company.crm.record("customers", "alan@example.com")["credit"] == 250, "the credit in the CRM")


def test_kubectl_get_prints_what_is(company: Company) -> None:
    header, row = company.kubectl("get", "syncpolicies", "products").splitlines()
    printed = dict(zip(header.split(), row.split(), strict=True))
    del printed["LAG"], printed["LAST-SYNC"], printed["AGE"]
    assert printed == {
        "NAME": "products",
        "ENTITY": "Product",
        "SYSTEMS": "erp,crm",
        "SOR": "erp",
        "MODE": "Enforce",
        "READY": "True",
        "STATUS": "InSync",
        "RECORDS": "3",
        "CONFLICTS": "0",
        "DEAD": "0",
    }


def test_kubectl_get_prints_how_a_system_answers(company: Company) -> None:
    wait_until(lambda: company.condition("connection", "erp") == ("True", "Available"), "the ERP")
    wide = "custom-columns=C:.spec.connector,R:.status.summary.status,U:.status.summary.usedBy"
    assert company.kubectl("get", "connection", "erp", "--no-headers", "-o", wide).split()[:2] == ["sql", "Available"]


def test_nothing_is_put_right_that_nobody_touched(company: Company) -> None:
    assert company.kubectl("get", "events", "--field-selector=reason=DriftCorrected", "-o", "name") == ""


# --- a worker dies ---


@pytest.mark.parametrize("plain", ["leads"], indirect=True)
def test_worker_killed_while_it_writes_to_the_api_loses_and_doubles_nothing(company: Company, plain: str) -> None:
    company.crm.fail(kind="Slow", method="POST", path=f"/{plain}/batch", after=8, times=24, seconds=0.5)
    row = "SELECT format('c%s@example.com', n), format('Customer %s', n)"
    company.sql(f"INSERT INTO {plain} (mail, name) {row} FROM generate_series(1, {ROWS}) n")
    wait_until(lambda: len(company.crm.records(plain)) > 0, "the first rows in the CRM")
    company.kill_worker(plain)
    there = len(company.crm.records(plain))
    wait_until(lambda: company.status("sp", plain)["worker"]["records"] == ROWS, "all rows")
    crm, erp = entries(company, plain)
    restarts = company.worker(plain)["status"]["containerStatuses"][0]["restartCount"]
    assert (0 < there < ROWS, restarts, len(erp), crm == erp) == (True, 1, ROWS, True)


@pytest.mark.parametrize("plain", ["contacts"], indirect=True)
def test_pod_taken_away_while_it_writes_to_the_database_loses_and_doubles_nothing(company: Company, plain: str) -> None:
    before = company.worker(plain)["metadata"]["name"]
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'fairlead' AND wait_event_type = 'Lock'"
    with company.locked(plain):
        company.crm.enter(plain, [{"email": f"c{n}@example.com", "name": f"Customer {n}"} for n in range(ROWS)])
        wait_until(lambda: company.sql(waiting) != "0", "a write that waits")
        company.kubectl("delete", "pod", before, "--force", "--grace-period=0")
    wait_until(lambda: company.sql(f"SELECT count(*) FROM {plain}") == str(ROWS), "all rows in the ERP")
    wait_until(lambda: company.condition("sp", plain, "Synced") == ("True", "AllAgree"), "agreement")
    crm, erp = entries(company, plain)
    assert (company.worker(plain)["metadata"]["name"] != before, len(crm), crm == erp) == (True, ROWS, True)


def test_a_new_pod_knows_the_records_of_the_old_one(company: Company) -> None:
    """Matching by email would make a second record of this; only the state that was kept knows better."""
    before = company.crm.record("customers", "grace@example.com")["id"]
    company.kubectl("delete", "pod", "-l", "fairlead.dev/policy=customers", "--force", "--grace-period=0")
    company.sql("UPDATE customer SET mail = 'hopper@example.com' WHERE mail = 'grace@example.com'")
    wait_until(lambda: company.crm.record("customers", "hopper@example.com") != {}, "the new email in the CRM")
    company.sql("UPDATE customer SET mail = 'grace@example.com' WHERE mail = 'hopper@example.com'")
    wait_until(lambda: company.crm.record("customers", "grace@example.com") != {}, "the old email in the CRM")
    assert company.crm.record("customers", "grace@example.com")["id"] == before


def test_a_worker_that_is_replaced_is_no_outage(company: Company) -> None:
    before, since, told = company.worker("customers")["metadata"]["name"], set[str](), set[tuple[bool, str]]()
    company.kubectl("delete", "pod", before, "--force", "--grace-period=0")

    def runs_again() -> bool:
        measured = company.status("sp", "customers")["worker"]
        told.add(("records" in measured, company.condition("sp", "customers", "Ready")[0]))
        if company.worker("customers").get("metadata", {}).get("name", before) != before:
            since.add(measured["lastSyncTime"])
        return len(since) > 1

    wait_until(runs_again, "a good run of the new worker")
    assert told == {(True, "True")}


# --- what people declare ---


def test_rotated_password_is_taken_without_a_restart(company: Company) -> None:
    before = company.worker("customers")["metadata"]["uid"]
    company.sql("ALTER ROLE erp PASSWORD 'rotated'")
    company.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'fairlead'")
    wait_until(lambda: company.condition("connection", "erp") == ("False", "AuthFailed"), "the old password refused")
    company.kubectl("patch", "secret", "erp-login", "-p", json.dumps({"stringData": {"password": "rotated"}}))
    wait_until(lambda: company.condition("connection", "erp") == ("True", "Available"), "the new password accepted")
    company.sql("UPDATE customer SET name = 'A. Turing' WHERE mail = 'alan@example.com'")
    wait_until(
        lambda: company.crm.record("customers", "alan@example.com")["name"] == "A. Turing", "the new name in the CRM"
    )
    wait_until(lambda: company.condition("sp", "customers") == ("True", "InSync"), "customers in sync")
    after = company.worker("customers")
    assert (after["metadata"]["uid"], after["status"]["containerStatuses"][0]["restartCount"]) == (before, 0)


def test_suspended_policy_has_no_worker_until_it_is_resumed(company: Company) -> None:
    def suspend(value: str) -> None:
        company.kubectl("patch", "sp", "products", "--type=merge", "-p", f'{{"spec": {{"suspend": {value}}}}}')

    def price() -> object:
        return {each["sku"]: each["price"] for each in company.crm.records("products")}["RP-3"]

    suspend("true")
    wait_until(lambda: company.worker("products") == {}, "no worker")
    wait_until(lambda: company.condition("sp", "products", "Paused") == ("True", "Suspended"), "the pause")
    company.sql("UPDATE product SET price = 43 WHERE sku = 'RP-3'")
    paused = price()
    suspend("false")
    wait_until(lambda: price() == 43, "the price in the CRM")
    company.sql("UPDATE product SET price = 42 WHERE sku = 'RP-3'")
    wait_until(lambda: price() == 42, "the old price in the CRM")
    wait_until(lambda: company.condition("sp", "products") == ("True", "InSync"), "products in sync")
    assert (paused, company.condition("sp", "products", "Paused")) == (42, ("", ""))


@pytest.mark.parametrize("plain", ["deals"], indirect=True)
def test_deleted_policy_takes_its_worker_along_and_no_data(company: Company, plain: str) -> None:
    company.sql(f"INSERT INTO {plain} (mail, name) VALUES ('ada@example.com', 'Ada')")
    wait_until(lambda: company.crm.record(plain, "ada@example.com") != {}, "the row in the CRM")
    company.kubectl("delete", "sp", plain, "--timeout=120s")
    owned = "deployments,pods,configmaps,serviceaccounts,roles,rolebindings,persistentvolumeclaims"
    wait_until(
        lambda: company.kubectl("get", owned, "-l", f"fairlead.dev/policy={plain}", "-o", "name") == "", "nothing left"
    )
    assert entries(company, plain) == (["ada@example.com|Ada"], ["ada@example.com|Ada"])


@pytest.mark.parametrize("plain", ["accounts"], indirect=True)
def test_guard_halts_deletes_until_a_person_approves_their_plan(company: Company, plain: str) -> None:
    def rows() -> str:
        return company.sql(f"SELECT count(*) FROM {plain}")

    company.crm.enter(plain, [{"email": f"c{n}@example.com"} for n in range(5)])
    wait_until(lambda: rows() == "5", "five rows in the ERP")
    for n in range(4):
        company.crm.delete(plain, f"c{n}@example.com")
    wait_until(lambda: company.condition("sp", plain, "Stalled") == ("True", "GuardTripped"), "the guard")
    halted = company.condition("sp", plain), rows()
    plan = company.status("sp", plain)["worker"]["halted"]["plan"]
    company.kubectl("annotate", "sp", plain, f"fairlead.dev/approve={plan}")
    wait_until(lambda: rows() == "1", "the deletes in the ERP")
    wait_until(lambda: company.condition("sp", plain) == ("True", "InSync"), f"{plain} in sync")
    assert halted == (("False", "Halted"), "5")


# --- rights and secrets ---


@pytest.mark.parametrize(
    ("verb", "what", "allowed"),
    [
        ("get", "syncpolicies/customers", "yes"),
        ("patch", "syncpolicies/customers --subresource=status", "yes"),
        ("get", "syncpolicies/products", "no"),
        ("patch", "syncpolicies/customers", "no"),
        ("list", "syncpolicies", "no"),
        ("get", "secrets/erp-login", "no"),
    ],
)
def test_worker_has_no_right_but_to_its_own_policy(company: Company, verb: str, what: str, allowed: str) -> None:
    who = f"--as=system:serviceaccount:{NAMESPACE}:customers-fairlead"
    said = company.cluster.kubectl("-n", NAMESPACE, "auth", "can-i", verb, *what.split(), who, check=False)
    assert said.split()[0] == allowed


def test_secret_is_in_no_log_status_or_event(company: Company) -> None:
    said = "".join(
        (
            company.kubectl("get", "connections,syncpolicies,events,configmaps", "-o", "yaml"),
            company.kubectl("logs", "-l", "app.kubernetes.io/component=worker", "--tail=-1"),
            company.cluster.kubectl("logs", "-n", SYSTEM, "-l", "app.kubernetes.io/name=fairlead", "--tail=-1"),
        )
    )
    assert ("InSync" in said, "change-me" in said) == (True, False)


# --- the operator ---


def leader(company: Company) -> str:
    """The pod that leads."""
    lease = company.cluster.get("lease", "fairlead", SYSTEM) or {}
    return str(lease.get("spec", {}).get("holderIdentity") or "").partition("_")[0]


def test_another_replica_takes_over_from_a_leader_that_is_gone(company: Company) -> None:
    before = leader(company)
    company.cluster.kubectl("-n", SYSTEM, "delete", "pod", before, "--force", "--grace-period=0")
    wait_until(lambda: leader(company) not in ("", before), "another leader")
    pods = json_items(company.cluster.kubectl("-n", SYSTEM, "get", "pods", "-o", "json"))
    company.kubectl("annotate", "connection", "crm", f"fairlead.dev/requested-at={before}", "--overwrite")
    wait_until(
        lambda: company.status("connection", "crm").get("lastHandledRequestAt") == before, "the new leader's work"
    )
    assert leader(company) in {pod["metadata"]["name"] for pod in pods}


def crds(company: Company) -> dict[str, str]:
    """Name and uid of each CRD."""
    found = json_items(company.cluster.kubectl("get", "crds", "-o", "json"))
    return {crd["metadata"]["name"]: crd["metadata"]["uid"] for crd in found}


def test_upgrade_leaves_crds_and_workers_as_they_are(company: Company) -> None:
    before = crds(company), company.worker("customers")["metadata"]["uid"]
    helm(company.cluster, "upgrade", "--set-json", 'operator.podAnnotations={"example.com/upgraded": "yes"}')
    wait_until(lambda: leader(company) != "", "a leader")
    company.kubectl("annotate", "connection", "erp", "fairlead.dev/requested-at=upgraded", "--overwrite")
    wait_until(lambda: company.status("connection", "erp").get("lastHandledRequestAt") == "upgraded", "its work")
    assert (crds(company), company.worker("customers")["metadata"]["uid"]) == before


def test_uninstall_keeps_what_was_declared_and_a_new_install_goes_on(company: Company) -> None:
    declared = "connections,syncpolicies"
    before = crds(company), company.kubectl("get", declared, "-o", "name")
    company.cluster.helm("uninstall", "fairlead", "--namespace", SYSTEM, "--wait", "--timeout", "180s")
    kept = crds(company), company.kubectl("get", declared, "-o", "name")
    company.sql("UPDATE customer SET remark = 'nobody leads' WHERE mail = 'ada@example.com'")
    wait_until(
        lambda: company.crm.record("customers", "ada@example.com").get("note") == "nobody leads",
        "workers without an operator",
    )
    helm(company.cluster, "install")
    company.kubectl("annotate", "connection", "crm", "fairlead.dev/requested-at=again", "--overwrite")
    wait_until(lambda: company.status("connection", "crm").get("lastHandledRequestAt") == "again", "its work")
    assert (kept, crds(company)) == (before, before[0])
