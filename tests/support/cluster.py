"""A real Kubernetes API server, and a real node, started and stopped by the project's own scripts."""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.skips import cannot_run

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "tools/cluster"
CHART = ROOT / "charts/fairlead"
BUILD_SECONDS = 3600


class Cluster:
    """A running cluster. `kubeconfig` is an administrator's."""

    def __init__(self, folder: Path, binaries: Path) -> None:
        self.folder = folder
        self.kubeconfig = folder / "kubeconfig"
        self.restarted: list[subprocess.Popen[bytes]] = []
        self.binaries = binaries
        self.environment = {
            **os.environ,
            "KUBECONFIG": str(self.kubeconfig),
            "KUBE_BIN": str(binaries),
            "OWNER": str(os.getpid()),
            "PATH": f"{os.environ['PATH']}:{binaries}",
        }

    def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        """Runs kubectl; returns what it printed, and what it complained of when `check` is off."""
        done = subprocess.run(
            ["kubectl", *arguments],
            input=stdin,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"kubectl {' '.join(arguments)}: {done.stderr}")
        return done.stdout if check else done.stdout + done.stderr

    def helm(self, *arguments: str) -> str:
        """Runs helm; returns what it printed."""
        command = [str(self.binaries / "helm"), *arguments]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, f"helm {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def load(self, image: Path) -> None:
        """Hands the tar of an image to the node."""
        command = ["ctr", "-a", str(self.folder / "containerd.sock"), "-n", "k8s.io", "images", "import", str(image)]
        subprocess.run(command, stdout=subprocess.DEVNULL, timeout=180, check=True)

    def restart_api_server(self) -> None:
        """Kills the API server and starts it again: every watch breaks, and what it remembered of the past is lost."""
        file = self.folder / "apiserver.pid"
        before = Path("/proc") / file.read_text().strip()
        command = before.joinpath("cmdline").read_bytes().decode().rstrip("\0").split("\0")
        os.kill(int(before.name), signal.SIGKILL)
        port = next(int(each.partition("=")[2]) for each in command if each.startswith("--secure-port="))
        until(lambda: _is_free(port))  # the kernel closes the sockets of a killed process a moment after the process
        log = self.folder / "apiserver.log"
        with log.open("ab") as output:
            process = subprocess.Popen(command, cwd=self.folder, stdout=output, stderr=output, start_new_session=True)
        self.restarted.append(process)
        file.write_text(f"{process.pid}\n")

        def ready() -> bool:
            assert process.poll() is None, f"the API server ended: {_end_of(log)}"
            return self.kubectl("get", "--raw", "/readyz", check=False) == "ok"

        until(ready, seconds=240, what=lambda: f"the API server is not ready: {_end_of(log)}")

    def apply(self, *documents: dict[str, Any]) -> None:
        """Applies objects."""
        self.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(documents))

    def get(self, kind: str, name: str, namespace: str) -> dict[str, Any] | None:
        """One object, or None."""
        text = self.kubectl("get", kind, name, "-n", namespace, "-o", "json", "--ignore-not-found")
        return json.loads(text) if text.strip() else None

    def wait_for(self, kind: str, name: str, namespace: str, condition: str, seconds: int = 60) -> None:
        """Waits for a condition such as `condition=Ready`, `delete` or `jsonpath=…`."""
        self.kubectl("wait", f"{kind}/{name}", "-n", namespace, f"--for={condition}", f"--timeout={seconds}s")


def until(come: Callable[[], bool], seconds: float = 60.0, what: Callable[[], str] = lambda: "it did not come") -> None:
    """Waits until something has come, or says what did not."""
    deadline = time.monotonic() + seconds
    while not come():
        assert time.monotonic() < deadline, what()
        time.sleep(0.1)


def _is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def _end_of(log: Path) -> str:
    return log.read_text(errors="replace")[-3000:]


def _script(name: str, *arguments: str) -> str:
    """What one of the scripts printed; the test cannot run when it failed."""
    done = subprocess.run(
        [SCRIPTS / name, *arguments], capture_output=True, text=True, timeout=BUILD_SECONDS, check=False
    )
    if done.returncode != 0:
        cannot_run(f"{name}: {done.stderr.strip() or 'failed'}")
    return done.stdout.strip()


def _image(name: str) -> Path:
    """The tar of an image. That it can be built is what the project promises, so a failure is no reason to skip."""
    done = subprocess.run([SCRIPTS / "image.sh", name], capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


@contextmanager
def _running(mode: str) -> Iterator[Cluster]:
    binaries = Path(_script("binaries.sh", mode))
    folder = Path(tempfile.mkdtemp(prefix=f"fairlead-{mode}-"))
    cluster = Cluster(folder, binaries)
    try:
        subprocess.run([SCRIPTS / "up.sh", folder, mode], env=cluster.environment, timeout=300, check=True)
        yield cluster
    finally:
        subprocess.run([SCRIPTS / "down.sh", folder], timeout=60, check=False)
        for process in cluster.restarted:
            process.wait(timeout=10)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def helm() -> Path:
    """The helm program."""
    return Path(_script("binaries.sh", "helm")) / "helm"


@pytest.fixture(scope="session")
def api_server() -> Iterator[Cluster]:
    """An API server with Fairlead's CRDs: objects are real, no pod runs. One for each process of the test run."""
    with _running("api") as cluster:
        cluster.kubectl("apply", "-f", str(ROOT / "crds"))
        cluster.kubectl("wait", "crd", "--all", "--for=condition=Established", "--timeout=60s")
        yield cluster


@pytest.fixture(scope="session")
def node_cluster() -> Iterator[Cluster]:
    """A whole node with the project's images, and nothing installed. Its tests share an xdist group: one is enough."""
    _script("packages.sh")
    images = [_image(name) for name in ("fairlead", "postgres")]
    with _running("node") as cluster:
        for image in images:
            cluster.load(image)
        yield cluster


@pytest.fixture
def namespace(api_server: Cluster) -> Iterator[str]:
    """A fresh namespace."""
    name = f"t-{uuid.uuid4().hex[:10]}"
    api_server.kubectl("create", "namespace", name)
    yield name
    for kind in ("syncpolicies", "connections"):
        api_server.kubectl("delete", kind, "--all", "-n", name, "--wait=false")
    api_server.kubectl("delete", "namespace", name, "--wait=false")
