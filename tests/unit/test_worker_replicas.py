"""How many workers a policy may have, what runs them, and how they divide what a system allows."""

from typing import Any

import pytest
import yaml

from fairlead.controller.manifests import Inputs, WorkerImage, config_hash, render, shared_limits
from fairlead.model import schema
from fairlead.model.bundle import collect, decode
from fairlead.model.check import check
from fairlead.model.connection import Limits
from fairlead.model.document import parse
from support import manifests
from support.manifests import Manifest, with_values, without

POSTGRES = {"store": "Postgres", "connection": "state"}
NEEDS_POSTGRES = (
    "spec.worker.replicas: several workers need a state that they can share: write state.store: Postgres with "
    "state.connection, or worker.replicas: 1"
)


def policy(replicas: int, **state: Any) -> Manifest:
    return with_values(manifests.policy(), {"spec.worker": {"replicas": replicas}, "spec.state": state})


def problems(manifest: Manifest) -> list[str]:
    return [str(problem) for problem in schema.problems("SyncPolicy", manifest)]


@pytest.mark.parametrize("replicas", [1, 2, 16])
def test_several_workers_may_share_a_state_in_postgresql(replicas: int) -> None:
    assert problems(policy(replicas, **POSTGRES)) == []


@pytest.mark.parametrize("state", [{}, {"store": "SQLite"}, {"size": "2Gi"}])
def test_several_workers_cannot_share_a_file(state: dict[str, Any]) -> None:
    assert problems(policy(2, **state)) == [NEEDS_POSTGRES]


def test_several_workers_cannot_share_the_default_state() -> None:
    assert problems(without(policy(3), "spec.state")) == [NEEDS_POSTGRES]


def test_one_worker_may_have_a_file() -> None:
    assert problems(policy(1)) == []


@pytest.mark.parametrize(
    ("replicas", "said"), [(0, "at least 1"), (17, "at most 16"), (1.5, "whole number"), ("3", "whole number")]
)
def test_a_senseless_number_of_workers_is_told(replicas: Any, said: str) -> None:
    (problem,) = problems(policy(replicas, **POSTGRES))
    assert problem.startswith("spec.worker.replicas: ")
    assert said in problem


def told(replicas: int, concurrency: int, mode: str = "Enforce") -> list[str]:
    """What is wrong with so many workers on Connections that permit so much at a time."""
    limits = {"spec.limits": {"concurrency": concurrency}}
    database = without(manifests.database(), "spec.auth")
    documents = [
        manifests.full_connector(),
        with_values(manifests.connection(), limits),
        with_values(database, limits),
        with_values(database, {"metadata.name": "state", "spec.limits": {"concurrency": 1}}),
        with_values(policy(replicas, **POSTGRES), {"spec.mode": mode}),
    ]
    bundle = collect(parse(yaml.safe_dump_all(documents), "f.yaml"), {})
    return [f"{problem.where}: {problem.message}" for problem in [*bundle.problems, *check(bundle)]]


def test_each_worker_gets_at_least_one_request_at_a_time() -> None:
    names = [manifests.connection()["metadata"]["name"], manifests.database()["metadata"]["name"]]
    assert told(3, 3) == []
    assert told(3, 2) == [
        f"spec.worker.replicas: Connection {name} permits 2 requests at a time, which 3 workers cannot share: raise "
        "its limits.concurrency to 3 or more, or have fewer workers"
        for name in sorted(names)
    ]


def test_a_plan_is_made_by_one_worker() -> None:
    assert told(3, 2, mode="Plan") == []


# --- what runs them ---


def inputs(manifest: Manifest, *, running: bool = True) -> Inputs:
    return Inputs(
        policy=decode("SyncPolicy", manifest),
        connections=[],
        connectors=[],
        running=running,
        worker=WorkerImage(image="fairlead"),
    )


def deployment(manifest: Manifest, *, running: bool = True) -> dict[str, Any]:
    objects = {kind.name: each for kind, each in render(inputs(manifest, running=running))}
    spec: dict[str, Any] = objects["Deployment"]["spec"]
    return spec


def test_there_are_as_many_pods_as_declared_and_all_end_before_others_begin() -> None:
    spec = deployment(policy(3, **POSTGRES))
    assert (spec["replicas"], spec["strategy"]) == (3, {"type": "Recreate"})


def test_several_workers_are_spread_over_machines() -> None:
    (spread,) = deployment(policy(3, **POSTGRES))["template"]["spec"]["topologySpreadConstraints"]
    selector = deployment(policy(3, **POSTGRES))["selector"]
    assert (spread["topologyKey"], spread["labelSelector"]) == ("kubernetes.io/hostname", selector)


def test_one_worker_is_scheduled_as_before() -> None:
    assert "topologySpreadConstraints" not in deployment(policy(1, **POSTGRES))["template"]["spec"]


def test_a_pause_ends_all_and_a_plan_needs_one() -> None:
    planned = with_values(policy(3, **POSTGRES), {"spec.mode": "Plan"})
    assert deployment(policy(3, **POSTGRES), running=False)["replicas"] == 0
    assert deployment(planned)["replicas"] == 1


def test_another_number_of_workers_starts_all_anew() -> None:
    assert config_hash(inputs(policy(2, **POSTGRES))) != config_hash(inputs(policy(3, **POSTGRES)))


# --- one budget ---


def test_workers_divide_what_a_connection_allows() -> None:
    whole = Limits(requests_per_second=12, burst=24, concurrency=9)
    assert shared_limits(whole, 3, 3) == Limits(requests_per_second=4, burst=8, concurrency=3)


def test_a_connection_without_a_rate_still_bounds_what_is_under_way() -> None:
    assert shared_limits(Limits(concurrency=7), 3, 3) == Limits(concurrency=2)


def test_workers_of_other_policies_take_their_part_of_the_rate_alone() -> None:
    whole = Limits(requests_per_second=12, burst=24, concurrency=8)
    assert shared_limits(whole, 4, 2) == Limits(requests_per_second=3, burst=6, concurrency=4)


def test_one_worker_has_all_of_it() -> None:
    whole = Limits(requests_per_second=12, burst=24, concurrency=8)
    assert shared_limits(whole, 1) == whole
