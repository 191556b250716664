"""(d) 1,000 SyncPolicies applied: until all are reconciled, beside the same writes without an operator; its memory."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.measure import Stopwatch, arguments, resident, row

ROOT = Path(__file__).parents[1]
NAMESPACE, FLOOR = "bench", "floor"
WRITERS = 8
"""Requests in flight at a time: as many as the operator has reconcilers."""

PATIENCE = 1800.0


@contextlib.contextmanager
def api_server() -> Iterator[None]:
    """A real API server for as long as the block takes; `KUBECONFIG` names it."""
    with tempfile.TemporaryDirectory(prefix="fairlead-bench-") as folder:
        try:
            subprocess.run([ROOT / "tools/cluster/up.sh", folder], stdout=sys.stderr, check=True)
            os.environ["KUBECONFIG"] = f"{folder}/kubeconfig"
            for command in (
                ["apply", "-f", str(ROOT / "crds")],
                ["wait", "crd", "--all", "--for=condition=Established"],
            ):
                subprocess.run(["kubectl", *command], stdout=sys.stderr, check=True)
            yield
        finally:
            subprocess.run([ROOT / "tools/cluster/down.sh", folder], check=False)


@contextlib.contextmanager
def operator() -> Iterator[int]:
    """The operator as a process of its own; yields its process id."""
    command = [sys.executable, "-m", "fairlead", "operator", "--image", "none", "--no-elect", "--port", "18482"]
    with Path(os.devnull).open("w") as nowhere:
        process = subprocess.Popen([*command, "--namespace", NAMESPACE], stderr=nowhere, stdout=nowhere)
        try:
            yield process.pid
        finally:
            process.terminate()
            process.wait(timeout=60)


def connection() -> dict[str, Any]:
    """A database on this machine that answers its probes: what the policies do with it is not measured here."""
    spec = {"connector": "sql", "url": f"sqlite:///{ROOT}/.fairlead/bench.db", "probe": {"interval": "10m"}}
    return _resource("Connection", "db", spec)


def policy(number: int) -> dict[str, Any]:
    """A policy between two tables that no other one writes."""
    fields = {"id": "id", "name": "name"}
    systems = [{"name": s, "connection": "db", "object": f"{s}{number}", "fields": fields} for s in ("a", "b")]
    spec = {
        "entity": "Customer",
        "schema": {"type": "object", "properties": {"id": {"type": "integer"}, "name": {"type": "string"}}},
        "match": [{"fields": ["id"]}],
        "systems": systems,
        "systemOfRecord": "a",
    }
    return _resource("SyncPolicy", f"policy-{number:04}", spec)


def _resource(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": "fairlead.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}


async def side_by_side(calls: Iterable[Callable[[], Awaitable[object]]]) -> None:
    """Makes calls, `WRITERS` at a time."""
    waiting = iter(calls)

    async def work() -> None:
        for call in waiting:
            await call()

    async with asyncio.TaskGroup() as group:
        for _ in range(WRITERS):
            group.create_task(work())


@contextlib.asynccontextmanager
async def kube() -> AsyncIterator[Any]:
    """The client that the operator uses too."""
    from fairlead.kube.client import Kube, load_configuration  # noqa: PLC0415 - not before KUBECONFIG is set

    opened = Kube(await load_configuration())
    try:
        yield opened
    finally:
        await opened.close()


async def written(count: int) -> float:
    """The floor: what the operator left behind, written once more into another namespace by the same client."""
    from fairlead.controller.handlers import OWNED  # noqa: PLC0415
    from fairlead.kube.kinds import SYNC_POLICY  # noqa: PLC0415

    watch = Stopwatch()
    async with kube() as api:
        manifests = [(kind, _copied(found)) for kind in OWNED async for found in api.list_all(kind, NAMESPACE)]
        statuses = [_copied(found) async for found in api.list_all(SYNC_POLICY, NAMESPACE)]
        manifests = [(kind, each) for kind, each in manifests if "fairlead" in each["metadata"]["name"]]
        if len(manifests) != 6 * count:
            raise RuntimeError(f"{len(manifests)} objects run {count} policies")
        with watch.running():
            await side_by_side(
                lambda s=each: api.apply(SYNC_POLICY, _without_status(s), force=True) for each in statuses
            )
            await side_by_side(lambda k=kind, m=each: api.apply(k, m, force=True) for kind, each in manifests)
            for _ in range(2):  # on the first visit, and when the Deployment is seen
                await side_by_side(
                    lambda s=each: api.apply(SYNC_POLICY, s, force=True, subresource="status") for each in statuses
                )
    return watch.seconds


def _copied(found: dict[str, Any]) -> dict[str, Any]:
    """An object as it would be applied, in the other namespace."""
    metadata = {name: found["metadata"][name] for name in ("name", "labels") if name in found["metadata"]}
    content = {name: part for name, part in found.items() if name != "metadata"}
    return {**content, "metadata": {**metadata, "namespace": FLOOR}}


def _without_status(found: dict[str, Any]) -> dict[str, Any]:
    return {name: part for name, part in found.items() if name != "status"}


async def reconciled(count: int) -> float:
    """Seconds from the first policy applied until every one has been visited and is run by a Deployment."""
    from fairlead.kube.kinds import CONNECTION, DEPLOYMENT, SYNC_POLICY  # noqa: PLC0415

    watch = Stopwatch()
    async with kube() as api:
        await api.apply(CONNECTION, connection(), force=True)
        with watch.running():
            await side_by_side(lambda n=n: api.apply(SYNC_POLICY, policy(n), force=True) for n in range(count))
            deadline = time.monotonic() + PATIENCE
            while time.monotonic() < deadline:
                deployments = [found async for found in api.list_all(DEPLOYMENT, NAMESPACE)]
                policies = [found async for found in api.list_all(SYNC_POLICY, NAMESPACE)]
                current = [p for p in policies if p["status"]["observedGeneration"] == p["metadata"]["generation"]]
                if len(deployments) == len(current) == count:
                    return watch.elapsed
                await asyncio.sleep(0.25)
    raise RuntimeError(f"{len(current)} of {count} policies were reconciled in {PATIENCE:.0f} s")


def main() -> None:
    """Measures."""
    _, quick = arguments()
    count = 100 if quick else 1000
    (ROOT / ".fairlead").mkdir(exist_ok=True)
    (ROOT / ".fairlead/bench.db").touch()
    with api_server():
        for namespace in (NAMESPACE, FLOOR):
            subprocess.run(["kubectl", "create", "namespace", namespace], stdout=sys.stderr, check=True)
        with operator() as process:
            seconds = asyncio.run(reconciled(count))
            time.sleep(10)
            memory = resident(process)
        floor = asyncio.run(written(count))
    row(f"{count:,} policies applied until all are reconciled", seconds, floor=floor, mark="≤ 3 ×")
    print(json.dumps({"what": f"operator with {count:,} policies", "measured": f"{memory} MB", "mark": "≤ 150 MB"}))


main()
