"""The systems of examples/cluster on the node, as the people who use them see them."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from support.cluster import Cluster

NAMESPACE = "revops"
PATIENCE = 240.0
"""Seconds; other tests take the processor meanwhile."""


def wait_until(reached: Callable[[], bool], what: str) -> None:
    """Returns once it is so, and fails when that takes too long."""
    deadline = time.monotonic() + PATIENCE
    while not reached():
        assert time.monotonic() < deadline, f"{what}: not within {PATIENCE:.0f} s"
        time.sleep(0.2)


class CRM:
    """The HTTP API."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(
            base_url=url, headers={"Authorization": "Bearer change-me"}, trust_env=False, timeout=60
        )

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def records(self, name: str) -> list[dict[str, Any]]:
        """All records of an object."""
        found: list[dict[str, Any]] = []
        cursor: str | None = ""
        while cursor is not None:
            page = self._http.get(f"/{name}", params={"limit": 1000, **({"cursor": cursor} if cursor else {})})
            found += page.raise_for_status().json()["items"]
            cursor = page.json()["next"]
        return found

    def record(self, name: str, email: str) -> dict[str, Any]:
        """The one record with this email; empty when there is none."""
        found = self._http.get(f"/{name}", params={"email": email}).raise_for_status().json()["items"]
        assert len(found) <= 1, found
        return dict(found[0]) if found else {}

    def enter(self, name: str, records: list[dict[str, Any]]) -> None:
        """Creates records."""
        for start in range(0, len(records), 100):
            answer = self._http.post(f"/{name}/batch", json={"items": records[start : start + 100]})
            assert {each["status"] for each in answer.raise_for_status().json()["results"]} == {201}

    def edit(self, name: str, email: str, **values: object) -> None:
        """Changes a record."""
        self._http.patch(f"/{name}/{self.record(name, email)['id']}", json=values).raise_for_status()

    def delete(self, name: str, email: str) -> None:
        """Deletes a record."""
        self._http.delete(f"/{name}/{self.record(name, email)['id']}").raise_for_status()

    def fail(self, **fault: object) -> None:
        """Adds a fault to come; see `fairlead.testing.http_faults`."""
        self._http.put("/-/faults", json=[fault]).raise_for_status()


class Company:
    """The cluster, and both systems."""

    def __init__(self, cluster: Cluster, crm: CRM) -> None:
        self.cluster = cluster
        self.crm = crm

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Runs kubectl in the company's namespace."""
        return self.cluster.kubectl("-n", NAMESPACE, *arguments, stdin=stdin)

    def sql(self, statement: str) -> str:
        """What a statement gives in the ERP: rows as lines, columns between bars."""
        psql = ("psql", "--username=erp", "--dbname=erp", "--no-align", "--tuples-only", "--quiet")
        return self.kubectl("exec", "deployment/erp", "--", *psql, "--command", statement).strip()

    @contextmanager
    def locked(self, table: str) -> Iterator[None]:
        """Lets nobody write to a table of the ERP."""
        command = [
            "kubectl",
            "-n",
            NAMESPACE,
            "exec",
            "-i",
            "deployment/erp",
            "--",
            "psql",
            "--username=erp",
            "--quiet",
        ]
        with subprocess.Popen(
            [*command, "--dbname=erp", "--no-align", "--tuples-only"],
            env=self.cluster.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as psql:
            assert psql.stdin is not None
            assert psql.stdout is not None
            psql.stdin.write(f"BEGIN; LOCK TABLE {table} IN SHARE MODE; SELECT 'locked';\n")
            psql.stdin.flush()
            assert psql.stdout.readline() == "locked\n"
            try:
                yield
            finally:
                psql.stdin.close()

    def status(self, kind: str, name: str) -> dict[str, Any]:
        """The status of a resource; empty when it is not there."""
        return dict((self.cluster.get(kind, name, NAMESPACE) or {}).get("status", {}))

    def condition(self, kind: str, name: str, condition: str = "Ready") -> tuple[str, str]:
        """Status and reason of a condition; empty when it is absent."""
        found = self.status(kind, name).get("conditions", [])
        return next(((each["status"], each["reason"]) for each in found if each["type"] == condition), ("", ""))

    def worker(self, policy: str) -> dict[str, Any]:
        """The one pod of a policy's worker; empty when there is none."""
        text = self.kubectl("get", "pods", "-l", f"fairlead.dev/policy={policy}", "-o", "json")
        pods = json_items(text)
        assert len(pods) <= 1, [pod["metadata"]["name"] for pod in pods]
        return pods[0] if pods else {}

    def kill_worker(self, policy: str) -> None:
        """SIGKILL to the worker's process, sent by the machine that the node is on."""
        uid = self.worker(policy)["metadata"]["uid"]
        (process,) = [each for each in _processes() if f"pod{uid}/" in _read(each / "cgroup") and _works(each)]
        os.kill(int(process.name), signal.SIGKILL)


def _processes() -> list[Path]:
    return [each for each in Path("/proc").iterdir() if each.name.isdigit()]


def _works(process: Path) -> bool:
    return "fairlead\0worker" in _read(process / "cmdline")


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""


def json_items(text: str) -> list[dict[str, Any]]:
    """The items of a list that kubectl printed as JSON."""
    items: list[dict[str, Any]] = json.loads(text)["items"]
    return items


@contextmanager
def forwarded(cluster: Cluster, service: str) -> Iterator[str]:
    """The URL at which this machine reaches a Service of the company."""
    command = ["kubectl", "-n", NAMESPACE, "port-forward", f"service/{service}", ":80"]
    with subprocess.Popen(command, env=cluster.environment, stdout=subprocess.PIPE, text=True) as tunnel:
        assert tunnel.stdout is not None
        try:
            yield "http://" + tunnel.stdout.readline().split(" from ")[1].split()[0]
        finally:
            tunnel.terminate()
