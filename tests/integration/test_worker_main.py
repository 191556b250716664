"""`fairlead worker` as it runs in its pod: mounted files in, HTTP and JSON lines out."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from fairlead.testing.http_system import HTTPSystem, Logins
from support.site import Document, Site, environment, policy, rest, system, wait_until

TOKEN = {"bearer": {"token": {"secretKeyRef": {"name": "crm", "key": "token"}}}}
REQUESTED = "fairlead.dev/requested-at"


class Pod:
    """The mounted folders of one policy between an HTTP API and a SQLite file."""

    def __init__(self, folder: Path, api: HTTPSystem) -> None:
        self.site = Site(folder)
        self.folder, self.api = folder, api
        self.config, self.secrets, self.state = (folder / name for name in ("config", "secrets", "state"))
        self.config.mkdir()
        self.policy = policy(
            system("crm", object="customers"), system("erp"), trigger={"interval": "1h"}, staleAfter="2h"
        )
        self.declare()
        self.connect()
        preset = Path(__file__).parents[2] / "operator/fairlead/connectors/presets/rest.yaml"
        (self.config / "connectors.yaml").write_text(preset.read_text())
        self.give_token("first")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    def connect(self, **spec: Any) -> None:
        """Writes the Connections as the operator renders them."""
        connections = [rest("crm", self.api.url, auth=TOKEN, **spec), self.site.database("erp")]
        (self.config / "connections.yaml").write_text(yaml.safe_dump_all(connections))

    def declare(self, **annotations: str) -> None:
        """Writes the policy as the operator renders it."""
        document: Document = {**self.policy, "metadata": {**self.policy["metadata"], "annotations": annotations}}
        (self.config / "policy.yaml").write_text(yaml.safe_dump(document))

    def give_token(self, token: str) -> None:
        """Writes the mounted Secret."""
        (self.secrets / "crm").mkdir(parents=True, exist_ok=True)
        (self.secrets / "crm" / "token").write_text(token + "\n")

    @contextmanager
    def worker(self) -> Iterator[subprocess.Popen[str]]:
        """The worker; killed in the end when it still runs."""
        command = [sys.executable, "-m", "fairlead", "worker", "--port", str(self.port)]
        for name in ("config", "secrets", "state"):
            command += [f"--{name}", str(getattr(self, name))]
        process = subprocess.Popen(
            command, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
                process.communicate()

    def runs(self) -> int:
        """How many runs have ended."""
        found = re.findall(r"^fairlead_runs_total{.*} (.*)$", self.answer("metrics")[1], re.MULTILINE)
        return int(sum(map(float, found)))

    def answer(self, path: str) -> tuple[int, str]:
        """What the worker says on its port; (0, "") before it listens."""
        try:
            answer = httpx.get(f"http://127.0.0.1:{self.port}/{path}", timeout=5, trust_env=False)
        except httpx.TransportError:
            return 0, ""
        return answer.status_code, answer.text


@pytest.fixture
def pod(tmp_path: Path) -> Iterator[Pod]:
    with HTTPSystem(logins=Logins(bearer="first")) as api:
        yield Pod(tmp_path, api)


def ended(worker: subprocess.Popen[str]) -> tuple[int, list[dict[str, Any]]]:
    """Exit code and log of a worker that is told to stop."""
    worker.send_signal(signal.SIGTERM)
    _, log = worker.communicate(timeout=60)
    return worker.returncode, [json.loads(line) for line in log.splitlines()]


def test_a_worker_runs_its_policy_answers_probes_and_ends_in_order(pod: Pod) -> None:
    pod.api.store.create("customers", {"email": "a@x", "name": "Ada"})
    with pod.worker() as worker:
        wait_until(lambda: pod.answer("readyz")[0] == 200)
        assert pod.site.names("erp") == {"a@x": "Ada"}
        assert pod.answer("healthz") == (200, "ok")
        assert pod.answer("readyz") == (200, "default/customers InSync 1 record in agreement\n")
        assert 'fairlead_policy_ready{policy="default/customers"} 1.0' in pod.answer("metrics")[1]
        code, log = ended(worker)
    (run,) = (line for line in log if line["event"] == "run")
    assert (code, run["outcome"], run["created"]) == (0, "Succeeded", 1)


def test_what_cannot_be_synced_is_named_in_the_log_without_its_values(pod: Pod) -> None:
    pod.api.store.create("customers", {"email": "a@x", "name": "much too long to be a name"}, "c1")
    with pod.worker() as worker:
        wait_until(lambda: pod.answer("readyz")[0] == 200)
        _, log = ended(worker)
    notes = [(line["kind"], line["record"], line["rule"]) for line in log if line["event"] == "note"]
    assert notes == [("DeadLetter", "crm/c1", "field name breaks 'maxLength: 20' of the policy's schema")]
    assert "much too long" not in json.dumps(log)


def test_what_is_planned_is_named_in_the_log_when_it_changes(pod: Pod) -> None:
    pod.policy["spec"]["mode"] = "Plan"
    pod.declare()
    pod.api.store.create("customers", {"email": "a@x", "name": "Ada"})
    with pod.worker() as worker:
        wait_until(lambda: pod.runs() == 1)
        pod.declare(**{REQUESTED: "once more"})
        wait_until(lambda: pod.runs() == 2)
        pod.site.add("erp", "b@x")
        pod.declare(**{REQUESTED: "now it changes"})
        wait_until(lambda: pod.runs() == 3)
        _, log = ended(worker)
    runs = [line["run"] for line in log if line["event"] == "run"]
    told = [(line["run"], line["system"], line["operation"], line["key"]) for line in log if line["event"] == "planned"]
    assert told == [  # each once
        (runs[0], "erp", "Create", "(new 1)"),
        (runs[2], "crm", "Create", "(new 1)"),
    ]
    assert pod.site.emails("erp") == ["b@x"]


def test_a_request_in_the_mounted_policy_runs_at_once_and_a_rotated_secret_needs_no_restart(pod: Pod) -> None:
    with pod.worker() as worker:
        wait_until(lambda: pod.answer("readyz")[0] == 200)
        pod.api.logins.bearer = "second"
        pod.give_token("second")
        pod.api.store.create("customers", {"email": "a@x", "name": "Ada"})
        pod.declare(**{REQUESTED: "now"})
        wait_until(lambda: pod.runs() == 2)
        code, log = ended(worker)
    assert pod.site.names("erp") == {"a@x": "Ada"}
    assert (code, [line["outcome"] for line in log if line["event"] == "run"]) == (0, ["Succeeded", "Succeeded"])


def test_a_budget_that_becomes_less_is_kept_without_a_restart(pod: Pod) -> None:
    with pod.worker() as worker:
        wait_until(lambda: pod.answer("readyz")[0] == 200)
        pod.connect(limits={"requestsPerSecond": 1, "burst": 1})
        pod.site.add("erp", "a@x")
        pod.declare(**{REQUESTED: "now"})
        wait_until(lambda: pod.runs() == 2)
        code, log = ended(worker)
    assert len(pod.api.store.values("customers")) == 1
    first, second = (line["seconds"] for line in log if line["event"] == "run")
    assert (code, first < 1, second >= 1) == (0, True, True)


def test_a_system_that_cannot_be_used_is_told_by_the_probe(pod: Pod) -> None:
    pod.give_token("wrong")
    with pod.worker() as worker:
        wait_until(lambda: "SystemUnavailable" in pod.answer("readyz")[1])
        status, text = pod.answer("readyz")
        assert (status, "wrong" in text) == (503, False)
        assert "crm: GET /customers answered 401: check the Secret of the Connection's auth" in text
        assert pod.answer("healthz") == (200, "ok")
        assert ended(worker)[0] == 0


def test_a_state_that_cannot_be_used_is_told_and_is_the_exit_code(pod: Pod) -> None:
    pod.state.mkdir()
    (pod.state / "default.customers.db").write_bytes(b"this is no database" * 1000)
    with pod.worker() as worker:
        wait_until(lambda: "StateUnavailable" in pod.answer("readyz")[1])
        code, log = ended(worker)
    assert (code, [line["reason"] for line in log if line["event"] == "cannot run"]) == (3, ["StateCorrupted"])


def test_a_state_that_is_mended_is_used_by_the_next_run(pod: Pod) -> None:
    pod.policy["spec"]["trigger"] = {"interval": "1s"}
    pod.declare()
    pod.api.store.create("customers", {"email": "a@x", "name": "Ada"})
    pod.state.mkdir()
    state = pod.state / "default.customers.db"
    state.write_bytes(b"this is no database" * 1000)
    with pod.worker() as worker:
        wait_until(lambda: "StateUnavailable" in pod.answer("readyz")[1])
        state.unlink()
        wait_until(lambda: pod.answer("readyz")[0] == 200)
        assert ended(worker)[0] == 0
    assert pod.site.names("erp") == {"a@x": "Ada"}
