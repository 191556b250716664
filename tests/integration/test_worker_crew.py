"""Several workers share one policy: real processes, a real PostgreSQL, real HTTP APIs that refuse no duplicates."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from fairlead.testing.http_faults import Fault, FaultKind
from fairlead.testing.http_system import HTTPSystem
from support.crew import Crew, known_system
from support.site import wait_until

SLOWLY = 0.1
"""Seconds that a system takes for a write, so that there is something to share."""


@pytest.fixture
def crew(tmp_path: Path, database: str) -> Iterator[Crew]:
    with known_system(tmp_path / "crm.db") as crm, known_system(tmp_path / "erp.db") as erp:
        made = Crew(tmp_path, database, crm, erp)
        yield made
        made.close()


def slow(*apis: HTTPSystem) -> None:
    for api in apis:
        for method in ("POST", "PATCH"):
            api.faults.add(Fault(FaultKind.SLOW, method=method, seconds=SLOWLY, times=100_000))


def customers(start: int, end: int) -> dict[str, str]:
    return {f"{n:05}@x": f"n{n}" for n in range(start, end)}


def fill(api: HTTPSystem, some: dict[str, str]) -> None:
    api.store.fill("customers", [{"email": email, "name": name} for email, name in some.items()])


def edit(api: HTTPSystem, some: dict[str, str]) -> None:
    keys = {row["email"]: key for key, row in api.store.values("customers").items()}
    for email, name in some.items():
        api.store.patch("customers", keys[email], {"name": name})


def test_three_workers_share_what_takes_long_in_both_directions(crew: Crew) -> None:
    expected = customers(0, 2000)
    slow(crew.crm, crew.erp)
    crew.start("a", "b", "c")
    leader = crew.leader()
    fill(crew.crm, customers(0, 1400))
    fill(crew.erp, customers(1400, 2000))
    crew.settle(expected)
    changed = {email: f"crm {email}" for email in list(expected)[:300]}
    edit(crew.crm, changed)
    other = {email: f"erp {email}" for email in list(expected)[300:600]}
    edit(crew.erp, other)
    crew.settle(expected | changed | other)
    assert all(crew.wrote(worker) > 0 for worker in crew.workers)
    assert 'fairlead_workers{policy="default/customers"} 3.0' in leader.answer("metrics")
    assert [worker.ended() for worker in crew.workers] == [0, 0, 0]


def test_workers_that_are_killed_lose_and_double_nothing(crew: Crew) -> None:
    """First one that helps, then the one that leads, each in the middle of its writes."""
    slow(crew.erp)
    crew.start("a", "b", "c")
    leader = crew.leader()
    fill(crew.crm, customers(0, 400))
    helper = next(worker for worker in crew.workers if worker is not leader)
    wait_until(lambda: crew.wrote(helper) > 10)
    helper.kill()
    assert not crew.agree(customers(0, 400))
    crew.settle(customers(0, 400))
    before = crew.wrote(leader)
    fill(crew.crm, customers(400, 800))
    wait_until(lambda: crew.wrote(leader) > before + 10)
    leader.kill()
    assert not crew.agree(customers(0, 800))
    crew.settle(customers(0, 800))
    (last,) = (worker for worker in crew.workers if worker not in (leader, helper))
    assert last.leads()


@pytest.mark.parametrize("leads", [False, True], ids=["helping", "leading"])
def test_a_worker_that_was_stopped_for_too_long_writes_nothing_more_and_comes_back(crew: Crew, leads: bool) -> None:
    expected = customers(0, 600)
    slow(crew.erp)
    crew.start("a", "b", "c")
    leader = crew.leader()
    fill(crew.crm, expected)
    sleeper = leader if leads else next(worker for worker in crew.workers if worker is not leader)
    wait_until(lambda: crew.wrote(sleeper) > 10)
    sleeper.send(signal.SIGSTOP)
    assert not crew.agree(expected)
    crew.settle(expected)
    others = [worker for worker in crew.workers if worker is not sleeper]
    wait_until(lambda: any(worker.leads() for worker in others))
    before = crew.wrote(sleeper)
    sleeper.send(signal.SIGCONT)
    wait_until(sleeper.helps)
    assert sleeper is not crew.leader()
    assert (crew.wrote(sleeper), crew.agree(expected)) == (before, True)
    assert sleeper.ended() == 0


def test_a_policy_goes_on_with_fewer_and_with_more_workers(crew: Crew) -> None:
    """As the operator does it: all end, then as many begin as there are to be."""
    slow(crew.erp)
    for round_, count in enumerate((3, 1, 2)):
        fill(crew.crm, customers(300 * round_, 300 * round_ + 300))
        crew.declare(count)
        before = crew.wrote()
        workers = crew.start(*(f"{count}-{n}" for n in range(count)))
        wait_until(lambda before=before: crew.wrote() > before + 20)
        if round_ < 2:
            assert [worker.ended() for worker in workers] == [0] * count
    crew.settle(customers(0, 900))
    assert crew.leader() in workers


def test_a_worker_that_finds_the_state_held_waits_and_says_by_whom(crew: Crew) -> None:
    crew.declare(1)
    (alone,) = crew.start("alone")
    wait_until(lambda: "InSync" in alone.answer("readyz"))
    crew.declare(2)
    (second,) = crew.start("second")
    holder = f"is in use by another worker (process {alone.process.pid} on "
    wait_until(lambda: holder in second.answer("readyz"))
    assert alone.ended() == 0
    wait_until(second.leads)
    wait_until(lambda: "InSync" in second.answer("readyz"))


def test_the_state_of_a_shared_policy_keeps_no_values_of_what_was_shared(
    crew: Crew, admin: psycopg.Connection[Any]
) -> None:
    expected = customers(0, 500)
    slow(crew.erp)
    crew.start("a", "b")
    helper = next(worker for worker in crew.workers if worker is not crew.leader())
    fill(crew.crm, expected)
    crew.settle(expected)
    assert crew.wrote(helper) > 0
    wait_until(lambda: admin.execute("SELECT count(*) FROM fairlead_default_customers.share").fetchone() == (0,))
    assert [worker.ended() for worker in crew.workers] == [0, 0]
    assert admin.execute("SELECT count(*) FROM fairlead_default_customers.crew").fetchone() == (0,)
