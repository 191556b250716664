"""The chart as Helm renders it; no cluster is needed."""

import json
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import fairlead
from fairlead.controller.main import worker_image
from support.cluster import CHART, ROOT

Manifest = dict[str, Any]
Render = Callable[..., list[Manifest]]


def run(helm: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([helm, *arguments], capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def render(helm: Path) -> Render:
    def rendered(*values: str) -> list[Manifest]:
        settings = [part for value in values for part in ("--set-json", value)]
        done = run(helm, "template", "fairlead", str(CHART), "--namespace", "fairlead-system", *settings)
        assert done.returncode == 0, done.stderr
        return [each for each in yaml.load_all(done.stdout, yaml.CSafeLoader) if each]

    return rendered


def of_kind(manifests: list[Manifest], *kinds: str) -> list[Manifest]:
    return [each for each in manifests if each["kind"] in kinds]


def names(manifests: list[Manifest]) -> list[str]:
    return sorted(each["metadata"]["name"] for each in manifests)


def test_lint_finds_nothing(helm: Path) -> None:
    done = run(helm, "lint", "--strict", str(CHART))
    found = [line for line in done.stdout.splitlines() if line.startswith(("[WARNING]", "[ERROR]"))]
    assert (done.returncode, found) == (0, [])


def test_package_holds_the_crds_as_they_are(helm: Path, tmp_path: Path) -> None:
    assert run(helm, "package", str(CHART), "--destination", str(tmp_path)).returncode == 0
    with tarfile.open(next(tmp_path.glob("*.tgz"))) as package:
        folder = "fairlead/files/crds/"
        packed = {
            Path(member.name).name: package.extractfile(member).read()  # type: ignore[union-attr]
            for member in package
            if member.name.startswith(folder)
        }
    assert packed == {path.name: path.read_bytes() for path in (ROOT / "crds").iterdir()}


def test_crds_are_those_of_the_repository_and_outlive_the_release(render: Render) -> None:
    expected = [yaml.safe_load(path.read_text()) for path in sorted((ROOT / "crds").iterdir())]
    for crd in expected:
        crd["metadata"]["annotations"] = {"helm.sh/resource-policy": "keep"}
    found = of_kind(render(), "CustomResourceDefinition")
    assert sorted(found, key=lambda crd: crd["metadata"]["name"]) == expected


def test_crds_can_be_left_to_others(render: Render) -> None:
    assert of_kind(render("crds.install=false"), "CustomResourceDefinition") == []


@pytest.mark.parametrize("values", [(), ('watchNamespaces=["revops"]',)], ids=["all namespaces", "some"])
def test_no_right_is_a_wildcard(render: Render, values: tuple[str, ...]) -> None:
    roles = of_kind(render(*values), "ClusterRole", "Role")
    rules = [rule for role in roles for rule in role["rules"]]
    starred = [rule for rule in rules if any("*" in word for words in rule.values() for word in words)]
    assert (len(roles) > 0, starred) == (True, [])


def test_secrets_may_be_read_but_not_listed(render: Render) -> None:
    rules = [rule for role in of_kind(render(), "ClusterRole", "Role") for rule in role["rules"]]
    assert [rule["verbs"] for rule in rules if "secrets" in rule["resources"]] == [["get"]]


def test_watched_namespaces_get_roles_and_the_cluster_none(render: Render) -> None:
    manifests = render('watchNamespaces=["revops", "sales"]')
    roles = [
        each["metadata"]["namespace"] for each in of_kind(manifests, "Role") if each["metadata"]["name"] == "fairlead"
    ]
    bound = [
        each["metadata"]["namespace"]
        for each in of_kind(manifests, "RoleBinding")
        if each["roleRef"]["name"] == "fairlead"
    ]
    (cluster,) = [each for each in of_kind(manifests, "ClusterRole") if each["metadata"]["name"] == "fairlead"]
    assert (roles, bound) == (["revops", "sales"], ["revops", "sales"])
    assert [rule["resources"] for rule in cluster["rules"]] == [["connectors"]]


def test_watched_namespaces_reach_the_operator(render: Render) -> None:
    (deployment,) = of_kind(render('watchNamespaces=["revops", "sales"]'), "Deployment")
    arguments = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    assert [each for each in arguments if each.startswith("--namespace=")] == [
        "--namespace=revops",
        "--namespace=sales",
    ]


def test_chart_is_of_the_version_of_the_project(render: Render) -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    (deployment,) = of_kind(render(), "Deployment")
    image = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
    version = fairlead.__version__
    assert (chart["version"], chart["appVersion"], image) == (version, version, f"fairlead:{version}")


def test_worker_settings_are_read_by_the_operator(render: Render) -> None:
    given = {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "2Gi"}}
    manifests = render(
        'image.pullSecrets=["registry"]', 'image.pullPolicy="Always"', f"worker.resources={json.dumps(given)}"
    )
    (deployment,) = of_kind(manifests, "Deployment")
    arguments = dict(
        each[2:].split("=", 1)
        for each in deployment["spec"]["template"]["spec"]["containers"][0]["args"]
        if "=" in each
    )
    worker = worker_image(arguments["image"], arguments["worker-settings"])
    expected = (f"fairlead:{fairlead.__version__}", "Always", ("registry",), given)
    assert (worker.image, worker.pull_policy, worker.pull_secrets, worker.resources) == expected


def test_operator_runs_restricted(render: Render) -> None:
    (deployment,) = of_kind(render(), "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert pod["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }


@pytest.mark.parametrize(("replicas", "budgets"), [(1, 0), (2, 1)])
def test_only_replicas_that_replace_each_other_have_a_disruption_budget(
    render: Render, replicas: int, budgets: int
) -> None:
    assert len(of_kind(render(f"replicas={replicas}"), "PodDisruptionBudget")) == budgets


def test_releases_have_names_of_their_own(helm: Path) -> None:
    done = run(helm, "template", "blue", str(CHART))
    (deployment,) = of_kind(list(filter(None, yaml.safe_load_all(done.stdout))), "Deployment")
    assert deployment["metadata"]["name"] == "blue-fairlead"


def test_rights_on_the_kinds_are_added_to_the_roles_of_the_cluster(render: Render) -> None:
    added = ["fairlead-edit", "fairlead-view"]
    without = names(of_kind(render("rbac.aggregate=false"), "ClusterRole"))
    assert (names(of_kind(render(), "ClusterRole")), without) == (["fairlead", *added], ["fairlead"])


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ("replicas=0", "/replicas"),
        ("replicaCount=2", "replicaCount"),
        ('image.pullPolicy="Sometimes"', "/image/pullPolicy"),
        ('image.repository=""', "/image/repository"),
        ("image.tag=1.2", "/image/tag"),
        ('watchNamespaces="revops"', "/watchNamespaces"),
        ('watchNamespaces=["Rev Ops"]', "/watchNamespaces/0"),
        ("crds.install=1", "/crds/install"),
        ('operator.resources.request={"cpu": "1"}', "request"),
        ('worker.resources.limits.memory={"is": "1Gi"}', "/worker/resources/limits/memory"),
        ("worker.replicas=2", "replicas"),
    ],
)
def test_wrong_value_is_refused_by_name(helm: Path, value: str, named: str) -> None:
    done = run(helm, "template", "fairlead", str(CHART), "--set-json", value)
    assert (done.returncode, named in done.stderr) == (1, True), done.stderr
