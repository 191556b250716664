"""The operator as a cluster runs it: a process of its own, with the rights that the chart gives it and no others."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from fairlead.kube.kinds import SYNC_POLICY
from support.api import Api, Manifest
from support.cluster import CHART, Cluster

START = 30.0
"""Seconds that a replica gets until it is ready."""

STOP = 30.0
IMAGE = "registry.example.com/fairlead:test"

NAME = "customers-fairlead"
"""Of what the operator makes for the policy `customers`."""

Read = Callable[[], Manifest]


class Replica:
    """One running operator."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process = process
        self.port = port
        self._log = log
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=5, trust_env=False)

    def log(self) -> str:
        """Everything that it wrote."""
        return self._log.read_text()

    def get(self, path: str) -> httpx.Response:
        """Asks its HTTP server."""
        return self._client.get(path)

    def metric(self, name: str, **labels: str) -> float:
        """A figure from /metrics; 0 when it was not counted yet."""
        families = text_string_to_metric_families(self.get("/metrics").text)
        samples = [sample for family in families for sample in family.samples]
        return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())

    def leads(self) -> bool:
        """Whether it leads; False when it has ended."""
        try:
            return self.process.poll() is None and self.metric("fairlead_operator_leading") == 1
        except httpx.TransportError:
            return False

    def stop(self) -> int:
        """Ends it as Kubernetes does; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """Ends it without a warning."""
        self.process.kill()
        self.wait()

    def wait(self) -> int:
        """Its exit code, once it has ended."""
        return self.process.wait(STOP)

    def end(self) -> None:
        """Leaves nothing behind."""
        if self.process.poll() is None:
            self.kill()
        self._client.close()

    def until_ready(self) -> None:
        """Waits for /readyz."""
        deadline = time.monotonic() + START
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if self.get("/readyz").is_success:
                    return
            except httpx.TransportError:
                time.sleep(0.05)
        raise AssertionError(f"the operator is not ready:\n{self.log()}")


class Installation:
    """A release of the chart without its pods: ServiceAccount, rights, and replicas as processes of this machine."""

    def __init__(self, cluster: Cluster, helm: Path, stack: ExitStack, namespaces: tuple[str, ...]) -> None:
        self.release = f"fairlead-{uuid.uuid4().hex[:8]}"
        self.namespace = self.release
        self.account = f"system:serviceaccount:{self.namespace}:{self.release}"
        self._cluster = cluster
        self._helm = helm
        self._stack = stack
        self._folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fairlead-operator-")))
        self._manifests = self._render(namespaces)
        self._arguments = self._command_of_the_chart()
        self._install()

    def replica(self, *arguments: str, server: str = "") -> Replica:
        """Starts one more operator, with the chart's arguments and these.

        Args:
            arguments: of the command, after those of the chart.
            server: another way to the API server, for example a proxy.
        """
        port = free_port()
        log = self._folder / f"{port}.log"
        command = [sys.executable, "-m", "fairlead", *self._arguments, "--port", str(port), *arguments]
        environment = {**os.environ, "KUBECONFIG": str(self._kubeconfig(server))}
        with log.open("wb") as file:
            process = subprocess.Popen(command, stdout=file, stderr=file, env=environment, cwd=self._folder)
        made = Replica(process, port, log)
        self._stack.callback(made.end)
        return made

    def started(self, *arguments: str, server: str = "") -> Replica:
        """The same, once it is ready."""
        made = self.replica(*arguments, server=server)
        made.until_ready()
        return made

    def _render(self, namespaces: tuple[str, ...]) -> list[dict]:
        repository, _, tag = IMAGE.rpartition(":")
        values = {
            "crds": {"install": False},
            "image": {"repository": repository, "tag": tag},
            "watchNamespaces": list(namespaces),
        }
        command = [str(self._helm), "template", self.release, str(CHART), "--namespace", self.namespace]
        done = subprocess.run(
            [*command, "--values", "-"],
            input=yaml.safe_dump(values),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return [document for document in yaml.safe_load_all(done.stdout) if document]

    def _command_of_the_chart(self) -> list[str]:
        deployment = next(each for each in self._manifests if each["kind"] == "Deployment")
        arguments: list[str] = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
        return arguments

    def _install(self) -> None:
        rights = [each for each in self._manifests if each["kind"] not in ("Deployment", "PodDisruptionBudget")]
        self._cluster.kubectl("create", "namespace", self.namespace)
        self._cluster.apply(*rights)
        self._stack.callback(self._remove, rights)
        self._token = self._cluster.kubectl("create", "token", self.release, "-n", self.namespace).strip()

    def _remove(self, rights: list[dict]) -> None:
        text = yaml.safe_dump_all(rights)
        self._cluster.kubectl("delete", "--ignore-not-found", "--wait=false", "-f", "-", stdin=text)
        self._cluster.kubectl("delete", "namespace", self.namespace, "--wait=false")

    def _kubeconfig(self, server: str) -> Path:
        config = yaml.safe_load(self._cluster.kubeconfig.read_text())
        config["users"][0]["user"] = {"token": self._token}
        if server:
            config["clusters"][0]["cluster"]["server"] = server
        path = self._folder / f"kubeconfig-{uuid.uuid4().hex[:8]}"
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(config))
        return path


Install = Callable[..., AbstractContextManager[Installation]]


@pytest.fixture(scope="session")
def install(api_server: Cluster, helm: Path) -> Install:
    """Installs the chart's rights, for all namespaces or those given, until the block ends and its replicas with it."""

    @contextmanager
    def installed(*namespaces: str) -> Iterator[Installation]:
        with ExitStack() as stack:
            yield Installation(api_server, helm, stack, namespaces)

    return installed


@pytest.fixture(scope="module")
def api(api_server: Cluster) -> Iterator[Api]:
    """Requests to the API server."""
    opened = Api(api_server)
    yield opened
    opened.close()


@pytest.fixture
def read(api: Api, namespace: str) -> Read:
    """The policy `customers` as it is now."""
    return lambda: api.get(SYNC_POLICY, namespace, "customers")


@pytest.fixture(scope="module")
def shared_operator(install: Install) -> Iterator[Replica]:
    """One operator for the module; namespaces keep its tests apart."""
    with install() as installed:
        replica = installed.started()
        yield replica
        code = replica.stop()
        assert (code, complaints(replica.log())) == (0, "")


@pytest.fixture
def operator(shared_operator: Replica) -> Iterator[Replica]:
    """The module's operator; what it wrote is shown with a test that fails."""
    before = len(shared_operator.log())
    yield shared_operator
    print(shared_operator.log()[before:])  # noqa: T201


def complaints(log: str) -> str:
    """What a healthy operator never writes: that it crashed, or lacks a right."""
    return "\n".join(line for line in log.splitlines() if "Traceback" in line or "forbidden: User" in line)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
