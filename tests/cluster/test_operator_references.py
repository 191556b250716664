"""A policy whose records refer to those of another one follows that policy, and says what is missing."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from fairlead.kube.kinds import CONFIG_MAP, CONNECTION, DEPLOYMENT, SYNC_POLICY
from support import manifests
from support.api import Api, Manifest, condition, eventually, once, verdict
from support.declared import database_connection, policy
from support.manifests import with_values

pytestmark = [pytest.mark.xdist_group("api"), pytest.mark.usefixtures("operator")]

POSTGRES = {"store": "Postgres", "connection": "state"}
WORKER = "sales-fairlead"
FIELDS = {"email": "number", "name": "customer"}


@pytest.fixture
def connections(api: Api, namespace: str, tmp_path: Path) -> None:
    url = "postgresql://127.0.0.1:9/state"  # of no consequence here: nothing is run
    state = with_values(
        manifests.connection(), {"metadata": {"name": "state"}, "spec": {"connector": "sql", "url": url}}
    )
    systems = [database_connection(tmp_path, name) for name in ("crm", "erp")]
    api.apply(CONNECTION, namespace, *systems, state)


def sales(**values: Any) -> Manifest:
    """Sales, whose field `name` refers to a customer."""
    systems = [
        {"name": each, "connection": each, "object": "sale", "fields": FIELDS, "modified": "changed"}
        for each in ("crm", "erp")
    ]
    defaults = {"systems": systems, "fields": {"name": {"references": "customers"}}, "state": POSTGRES}
    schema = {"schema__properties__name": {"type": "string"}}
    return policy("sales", **{**defaults, **schema, **values})


def test_a_policy_that_is_not_there_is_named_and_its_coming_heals(api: Api, namespace: str, connections: None) -> None:
    read = lambda: api.get(SYNC_POLICY, namespace, "sales")  # noqa: E731
    api.apply(SYNC_POLICY, namespace, sales())
    eventually(lambda: verdict(read()), ("False", "InvalidSpec"))
    expected = f"spec.fields.name.references: namespace {namespace} has no SyncPolicy 'customers'"
    assert condition(read(), "Stalled")["message"].startswith(expected)
    assert api.get(DEPLOYMENT, namespace, WORKER) == {}
    api.apply(SYNC_POLICY, namespace, policy(state=POSTGRES))
    once(lambda: api.get(DEPLOYMENT, namespace, WORKER))
    declared = once(lambda: api.get(CONFIG_MAP, namespace, WORKER))["data"]["connections.yaml"]
    names = [each["metadata"]["name"] for each in yaml.safe_load_all(declared)]
    assert names == ["crm", "erp", "state"]
    api.delete(SYNC_POLICY, namespace, "customers")
    eventually(lambda: verdict(read()), ("False", "InvalidSpec"))


def test_states_on_volumes_are_refused_with_what_to_write(api: Api, namespace: str, connections: None) -> None:
    read = lambda: api.get(SYNC_POLICY, namespace, "sales")  # noqa: E731
    api.apply(SYNC_POLICY, namespace, policy(), sales(state={}))
    eventually(lambda: verdict(read()), ("False", "InvalidSpec"))
    assert condition(read(), "Stalled")["message"] == (
        "spec.fields.name.references: in a cluster the workers of sales and customers cannot read each other's "
        "volumes: references need state.store: Postgres, with the same connection in both policies"
    )
    api.edit(SYNC_POLICY, namespace, "sales", {"spec": {"state": POSTGRES}})
    once(lambda: "keeps its state elsewhere" in condition(read(), "Stalled")["message"])
    api.edit(SYNC_POLICY, namespace, "customers", {"spec": {"state": POSTGRES}})
    once(lambda: api.get(DEPLOYMENT, namespace, WORKER))


def test_policies_that_need_each_other_are_refused(api: Api, namespace: str, connections: None) -> None:
    read = lambda: api.get(SYNC_POLICY, namespace, "sales")  # noqa: E731
    needed = {"fields": {"name": {"references": "sales"}}, "schema__required": ["email", "name"], "state": POSTGRES}
    needed["schema__properties__name"] = {"type": "string"}
    api.apply(SYNC_POLICY, namespace, policy(**needed), sales(schema__required=["email", "name"]))
    eventually(lambda: verdict(read()), ("False", "InvalidSpec"))
    assert "sales → customers → sales need each other" in condition(read(), "Stalled")["message"]


def test_a_policy_that_refers_to_itself_may_keep_its_state_on_a_volume(
    api: Api, namespace: str, connections: None
) -> None:
    itself = {"name": {"references": "sales"}}
    api.apply(SYNC_POLICY, namespace, sales(fields=itself, state={}))
    once(lambda: api.get(DEPLOYMENT, namespace, WORKER))
