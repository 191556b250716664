"""CRDs may be upgraded before the operator: what it cannot read yet stops nothing that runs."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fairlead.kube.kinds import CONNECTION, CUSTOM_RESOURCE_DEFINITION, DEPLOYMENT, SYNC_POLICY, Kind
from support.api import Api, Manifest, condition, eventually, once, verdict
from support.cluster import ROOT, Cluster
from support.declared import database_connection, policy

pytestmark = [pytest.mark.xdist_group("api"), pytest.mark.usefixtures("newer", "operator")]


@pytest.fixture(scope="module")
def newer(api_server: Cluster, api: Api) -> Iterator[None]:
    """CRDs with a field that this operator does not know."""
    for kind in (CONNECTION, SYNC_POLICY):
        name = f"{kind.plural}.fairlead.dev"
        crd = api.get(CUSTOM_RESOURCE_DEFINITION, "", name)
        schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        schema["properties"]["spec"]["properties"]["colour"] = {"type": "string", "maxLength": 10}
        api.edit(CUSTOM_RESOURCE_DEFINITION, "", name, {"spec": {"versions": crd["spec"]["versions"]}})
    yield
    api_server.kubectl("replace", "-f", str(ROOT / "crds"))


@pytest.fixture
def colour(api: Api, namespace: str) -> Callable[[Kind, str], Manifest]:
    """Declares the new field once the API server keeps it, and returns the resource as it is then."""

    def declare(kind: Kind, name: str) -> Manifest:
        once(lambda: "colour" in api.edit(kind, namespace, name, {"spec": {"colour": "red"}})["spec"])
        eventually(lambda: verdict(api.get(kind, namespace, name), "Stalled"), ("True", "InvalidSpec"))
        return api.get(kind, namespace, name)

    return declare


@pytest.fixture(autouse=True)
def declared(api: Api, namespace: str, tmp_path: Path) -> None:
    api.apply(CONNECTION, namespace, database_connection(tmp_path, "crm"), database_connection(tmp_path, "erp"))
    api.apply(SYNC_POLICY, namespace, policy())
    once(lambda: api.get(DEPLOYMENT, namespace, "customers-fairlead"))


Colour = Callable[[Kind, str], Manifest]


@pytest.mark.parametrize(("kind", "name"), [(CONNECTION, "crm"), (SYNC_POLICY, "customers")], ids=["conn", "sp"])
def test_a_field_of_tomorrow_is_an_invalid_spec_today(colour: Colour, kind: Kind, name: str) -> None:
    found = colour(kind, name)
    assert verdict(found) == ("False", "InvalidSpec")
    assert "unknown field `colour`" in condition(found, "Ready")["message"]


@pytest.mark.parametrize(("kind", "name"), [(CONNECTION, "crm"), (SYNC_POLICY, "customers")], ids=["conn", "sp"])
def test_the_worker_goes_on_as_it_was(api: Api, namespace: str, colour: Colour, kind: Kind, name: str) -> None:
    before = api.get(DEPLOYMENT, namespace, "customers-fairlead")["spec"]
    colour(kind, name)
    api.annotate(SYNC_POLICY, namespace, "customers", requested_at="1")
    assert api.get(DEPLOYMENT, namespace, "customers-fairlead")["spec"] == before


def test_what_can_be_read_again_is_fine_again(api: Api, namespace: str, colour: Colour) -> None:
    colour(SYNC_POLICY, "customers")
    api.edit(SYNC_POLICY, namespace, "customers", {"spec": {"colour": None}})
    eventually(lambda: verdict(api.get(SYNC_POLICY, namespace, "customers")), ("False", "WorkerStarting"))
