"""The operator's process: how it is called, how it fails, its metrics and its log."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from fairlead.kube.kinds import CONNECTION
from support.api import Api, eventually
from support.cluster import Cluster
from support.declared import database_connection
from support.operator import Replica, free_port

pytestmark = pytest.mark.xdist_group("api")


def fairlead(folder: Path, *arguments: str, kubeconfig: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "KUBECONFIG": str(kubeconfig or folder / "none"), "COLUMNS": "200"}
    command = [sys.executable, "-m", "fairlead", "operator", *arguments]
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


# --- how it is called ---


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing option '--image'"),
        (["--image", ""], "name the image that the workers run"),
        (["--image", "x", "--namespace", "A_b"], "'A_b' cannot be the name of a namespace"),
        (["--image", "x", "--worker-settings", "{"], "write a JSON object with pullPolicy, pullSecrets and resources"),
        (["--image", "x", "--worker-settings", '{"pullpolicy": "Always"}'], "unknown field `pullpolicy`"),
        (["--image", "x", "--worker-settings", '{"pullPolicy": "Often"}'], "Often"),
        (["--image", "x", "--port", "0"], "Input should be greater than or equal to 1"),
    ],
)
def test_a_wrong_call_says_what_is_wrong(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = fairlead(tmp_path, *arguments)
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr


def test_a_cluster_that_is_not_named_is_asked_for(tmp_path: Path) -> None:
    done = fairlead(tmp_path, "--image", "x", "--port", str(free_port()))
    assert (done.returncode, "let KUBECONFIG name the kubeconfig of a cluster" in done.stderr) == (1, True), done.stderr


def test_a_token_that_is_not_accepted_ends_it(api_server: Cluster, tmp_path: Path) -> None:
    config = yaml.safe_load(api_server.kubeconfig.read_text())
    config["users"][0]["user"]["token"] = "wrong"
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(config))
    done = fairlead(tmp_path, "--image", "x", "--port", str(free_port()), "--no-elect", kubeconfig=kubeconfig)
    assert (done.returncode, "Unauthorized" in done.stderr, "Traceback" in done.stderr) == (1, True, False), done.stderr


def test_a_port_that_is_taken_ends_it(api_server: Cluster, operator: Replica, tmp_path: Path) -> None:
    done = fairlead(tmp_path, "--image", "x", "--port", str(operator.port), kubeconfig=api_server.kubeconfig)
    assert (done.returncode, "address already in use" in done.stderr, "Traceback" in done.stderr) == (1, True, False)


# --- what it serves ---


def test_it_tells_prometheus_how_it_works(api: Api, namespace: str, operator: Replica, tmp_path: Path) -> None:
    before = operator.metric("fairlead_operator_resources", kind="Connection")
    api.apply(CONNECTION, namespace, database_connection(tmp_path, "crm"))
    eventually(lambda: operator.metric("fairlead_operator_resources", kind="Connection"), before + 1)
    visits = operator.metric("fairlead_operator_reconciles_total", kind="Connection", result="done")
    assert (visits >= 1, operator.metric("fairlead_operator_leading")) == (True, 1)
    assert operator.metric("process_resident_memory_bytes") > 0


def test_its_log_is_json_a_line(operator: Replica) -> None:
    events = [json.loads(line)["event"] for line in operator.log().splitlines()]
    assert "leading" in events
