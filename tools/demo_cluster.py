"""`make demo-cluster`: Fairlead on a real Kubernetes node, from `helm install` to two systems that agree.

The node, the image, the chart and the files of examples/cluster are what a user has; every row printed is a row of
`kubectl get`, printed when it changes. The arrows say what a person has just done in one of the systems.

    demo_cluster.py [--keep]   --keep leaves the node running, and says how to reach and how to stop it
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "tools/cluster"
FOLDER = ROOT / ".fairlead/cluster"
PATIENCE = 90.0
"""Seconds in which two systems must agree: pods are started meanwhile."""

VOLATILE = frozenset({"AGE", "LAG", "LAST-SYNC", "LATENCY", "LIMIT-LEFT"})
"""Columns whose change alone is no news."""

STORY_ENDS = "503 ConflictsPending"
"""Records and status of customers when all is told: a note in conflict still waits for a person."""

_STARTED = time.monotonic()


def say(text: str) -> None:
    """A line, and when it was said."""
    print(f"{time.monotonic() - _STARTED:6.1f} s  {text}", flush=True)


def act(text: str) -> None:
    """What a person does."""
    arrow = "\033[36m→\033[0m" if sys.stdout.isatty() else "→"
    print(flush=True)
    say(f"{arrow} {text}")


def wait_until(what: str, reached: Callable[[], bool]) -> None:
    """Waits until the systems agree; the demo fails if they do not."""
    deadline = time.monotonic() + PATIENCE
    while not reached():
        if time.monotonic() > deadline:
            raise SystemExit(f"demo: {what} did not happen within {PATIENCE:.0f} s")
        time.sleep(0.3)
    say(f"  {what}")


class Node:
    """A Kubernetes node in a folder of this machine."""

    def __init__(self, binaries: str, *, keep: bool) -> None:
        owner = {} if keep else {"OWNER": str(os.getpid())}
        path = f"{os.environ['PATH']}:{binaries}"
        kubeconfig = str(FOLDER / "kubeconfig")
        self.environment = {**os.environ, "KUBE_BIN": binaries, "KUBECONFIG": kubeconfig, "PATH": path, **owner}

    def start(self) -> None:
        """Starts it, in place of what an earlier demo left."""
        self.stop()
        shutil.rmtree(FOLDER, ignore_errors=True)
        FOLDER.parent.mkdir(exist_ok=True)
        self.run(str(SCRIPTS / "up.sh"), str(FOLDER), "node")

    def load(self, image: str) -> None:
        """Hands it the tar of an image."""
        self.run("ctr", "-a", str(FOLDER / "containerd.sock"), "-n", "k8s.io", "images", "import", image)

    def stop(self) -> None:
        """Stops it and everything on it; the logs stay in the folder."""
        self.run(str(SCRIPTS / "down.sh"), str(FOLDER))

    def run(self, *command: str) -> str:
        """What a command printed; the demo fails when it fails."""
        done = subprocess.run(command, env=self.environment, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"demo: {' '.join(command)} failed: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def shown(self, command: str) -> str:
        """The same, for a command that a user would type."""
        say(f"$ {command}")
        return self.run(*shlex.split(command))

    def kubectl(self, *arguments: str) -> str:
        """What kubectl printed about the demo's namespace."""
        return self.run("kubectl", "-n", "revops", *arguments)


class CRM:
    """The CRM, as a person at its screen uses it."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(
            base_url=url, headers={"Authorization": "Bearer change-me"}, trust_env=False, timeout=30
        )

    def add(self, **values: object) -> None:
        """Creates a customer."""
        self._http.post("/customers", json=values).raise_for_status()

    def edit(self, email: str, **values: object) -> None:
        """Changes a customer."""
        self._http.patch(f"/customers/{self.customer(email)['id']}", json=values).raise_for_status()

    def customer(self, email: str) -> dict[str, object]:
        """A customer; empty when there is none."""
        found = self._http.get("/customers", params={"email": email}).raise_for_status().json()["items"]
        return found[0] if found else {}

    def count(self, name: str) -> int:
        """How many records there are."""
        return len(self._http.get(f"/{name}", params={"limit": 1000}).raise_for_status().json()["items"])


@contextlib.contextmanager
def reached_crm(node: Node) -> Iterator[CRM]:
    """The CRM, through `kubectl port-forward`."""
    command = ["kubectl", "-n", "revops", "port-forward", "service/crm", ":80"]
    tunnel = subprocess.Popen(command, env=node.environment, stdout=subprocess.PIPE, text=True)
    assert tunnel.stdout is not None
    try:
        first = tunnel.stdout.readline()  # Forwarding from 127.0.0.1:PORT -> 8080
        if " from " not in first:
            raise SystemExit("demo: the CRM cannot be reached")
        yield CRM(f"http://{first.split(' from ')[1].split()[0]}")
    finally:
        tunnel.terminate()
        tunnel.wait(10)


class ERP:
    """The ERP's database, as somebody with SQL uses it."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def sql(self, statement: str) -> str:
        """What a statement gives."""
        psql = (
            "psql",
            "--username=erp",
            "--dbname=erp",
            "--no-align",
            "--tuples-only",
            "--quiet",
            "--command",
            statement,
        )
        return self._node.kubectl("exec", "deployment/erp", "--", *psql).strip()


class Watch:
    """Prints rows of `kubectl get` when they change: `with Watch(node): …`."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._stop = threading.Event()
        self._known: dict[str, list[str]] = {}
        self._widths: dict[str, list[int]] = {}
        self._thread = threading.Thread(target=self._watch, name="watch")

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.5):
            for kind in ("connections", "syncpolicies"):
                with contextlib.suppress(SystemExit):
                    self._look(kind)

    def _look(self, kind: str) -> None:
        header, *rows = self._node.kubectl("get", kind).splitlines() or [""]
        starts = [at for at, letter in enumerate(header) if letter != " " and (at == 0 or header[at - 1] == " ")]
        ends = [*starts[1:], None]

        def cells(line: str) -> list[str]:
            return [line[start:end].strip() for start, end in zip(starts, ends, strict=True)]

        names, *table = map(cells, (header, *rows))
        self._widen(kind, [names, *table])
        for row in table:
            told = dict(zip(names, row, strict=True))
            news = [cell for name, cell in told.items() if name not in VOLATILE]
            if not told["READY"] or self._known.get(f"{kind}/{row[0]}") == news:
                continue
            if not any(name.startswith(f"{kind}/") for name in self._known):
                self._print(kind, names)
            self._known[f"{kind}/{row[0]}"] = news
            self._print(kind, row)

    def _widen(self, kind: str, table: list[list[str]]) -> None:
        """Columns are as wide as they ever were, and as most reasons are."""
        widths = self._widths.setdefault(kind, [18 if cell == "STATUS" else 0 for cell in table[0]])
        widths[:] = [
            max(width, *map(len, column)) for width, column in zip(widths, zip(*table, strict=True), strict=True)
        ]

    def _print(self, kind: str, row: list[str]) -> None:
        cells = (cell.ljust(width) for cell, width in zip(row, self._widths[kind], strict=True))
        say("    " + "   ".join(cells).rstrip())


def install(node: Node) -> None:
    """A cluster with Fairlead, and what examples/cluster declares."""
    say(f"starting a Kubernetes node in {FOLDER.relative_to(ROOT)}")
    node.start()
    say(f"it is ready: {node.run('kubectl', 'get', 'nodes', '--no-headers').strip()}")
    for name in ("fairlead", "postgres"):
        node.load(node.run(str(SCRIPTS / "image.sh"), name).strip())
    say("it has the images: fairlead, built from this folder, and postgres")
    node.shown("helm install fairlead charts/fairlead --namespace fairlead-system --create-namespace --wait")
    for line in node.shown("kubectl apply -f examples/cluster").splitlines():
        say(f"    {line}")


def story(node: Node, crm: CRM, erp: ERP) -> None:
    """What people do, and what must come of it."""

    def credit() -> object:
        return crm.customer("alan@example.com").get("credit")

    wait_until("the CRM, which was empty, has the ERP's customers", lambda: crm.count("customers") == 3)
    wait_until("and its products", lambda: crm.count("products") == 3)

    act("in the CRM: Ada gets a new phone number; in the ERP: Alan's credit is raised")
    crm.edit("ada@example.com", contact={"phone": "+44 20 99"})
    erp.sql("UPDATE customer SET credit_limit = 250 WHERE mail = 'alan@example.com'")
    phone = "SELECT phone FROM customer WHERE mail = 'ada@example.com'"
    wait_until("the ERP has Ada's phone number", lambda: erp.sql(phone) == "+44 20 99")
    wait_until("the CRM has Alan's credit", lambda: credit() == 250)

    act("in the CRM: somebody raises Alan's credit, which the ERP owns")
    crm.edit("alan@example.com", credit=1_000_000)
    wait_until("it is put back", lambda: credit() == 250)

    act("in both at once: Grace's name (the CRM is the system of record), and her note (which waits for a person)")
    patch = "kubectl patch syncpolicy customers --namespace revops --type merge --patch "
    node.shown(patch + """'{"spec": {"suspend": true}}'""")
    node.kubectl("wait", "pod", "-l", "fairlead.dev/policy=customers", "--for=delete", "--timeout=60s")
    crm.edit("grace@example.com", name="Grace B. Hopper", note="call on Monday")
    erp.sql("UPDATE customer SET name = 'G. Hopper', remark = 'call on Friday' WHERE mail = 'grace@example.com'")
    node.shown(patch + """'{"spec": {"suspend": false}}'""")
    name = "SELECT name FROM customer WHERE mail = 'grace@example.com'"
    wait_until("the ERP has the CRM's name", lambda: erp.sql(name) == "Grace B. Hopper")
    conflicts = "jsonpath={.status.worker.conflicts}"
    wait_until("the note is a conflict", lambda: node.kubectl("get", "sp", "customers", "-o", conflicts) == "1")

    act("the worker of customers is killed while 500 customers are entered in the ERP")
    new = "SELECT format('c%s@example.com', n), format('Customer %s', n) FROM generate_series(1, 500) n"
    erp.sql("INSERT INTO customer (mail, name) " + new)
    node.kubectl("delete", "pod", "-l", "fairlead.dev/policy=customers", "--force", "--grace-period=0")
    wait_until("the CRM has each of them once", lambda: crm.count("customers") == 503)
    told = "jsonpath={.status.worker.records} {.status.summary.status}"
    wait_until("and its status says so", lambda: node.kubectl("get", "sp", "customers", "-o", told) == STORY_ENDS)


def explain_failure(node: Node) -> None:
    """What a person would look at next."""
    for command in (
        ("get", "pods,connections,syncpolicies", "-o", "wide"),
        ("get", "events", "--sort-by=.lastTimestamp"),
        ("logs", "-l", "app.kubernetes.io/component=worker", "--tail=10", "--prefix"),
        ("logs", "-n", "fairlead-system", "-l", "app.kubernetes.io/name=fairlead", "--tail=5", "--prefix"),
    ):
        with contextlib.suppress(SystemExit):
            lines = [line[:500] for line in node.kubectl(*command).splitlines()]
            print("", f"$ kubectl {' '.join(command)}", *lines, sep="\n", file=sys.stderr)


def main() -> int:
    """Runs the demo; its exit code."""
    keep = sys.argv[1:] == ["--keep"]
    if sys.argv[1:] and not keep:
        sys.exit(__doc__)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    if subprocess.run([SCRIPTS / "prepare.sh"], check=False).returncode != 0:
        return 1
    binaries = subprocess.run([SCRIPTS / "binaries.sh", "node"], stdout=subprocess.PIPE, text=True, check=True).stdout
    node, whole = Node(binaries.strip(), keep=keep), False
    try:
        install(node)
        with Watch(node):
            node.kubectl("rollout", "status", "deployment/crm", "deployment/erp", "--timeout=90s")
            with reached_crm(node) as crm:
                story(node, crm, ERP(node))
        print(flush=True)
        print(node.shown("kubectl get connections,syncpolicies --namespace revops"), flush=True)
        whole = True
    except SystemExit:
        explain_failure(node)
        raise
    finally:
        if keep and whole:
            say(f"the node stays: export KUBECONFIG={FOLDER}/kubeconfig; stop it with tools/cluster/down.sh {FOLDER}")
        else:
            node.stop()
            say(f"the node is stopped; its logs are in {FOLDER.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
