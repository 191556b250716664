"""The worker as a process: killed in the middle, told to stop, a system that goes away. Nothing is lost or doubled.

A real SQLite database and a real HTTP API; neither refuses duplicates, so that a record that is written twice is seen.
"""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fairlead.testing.http_faults import Fault, FaultKind
from fairlead.testing.http_system import HTTPSystem
from support.site import Site, policy, rest, stopped, system, wait_until

ROUNDS = 10
GUARD = {"guard": {"maxRecords": 10_000, "maxPercent": 100}}


@pytest.fixture
def api() -> Iterator[HTTPSystem]:
    with HTTPSystem() as made:
        yield made


@pytest.fixture
def site(tmp_path: Path, api: HTTPSystem) -> Site:
    made = Site(tmp_path)
    made.sql("erp", "DROP TABLE customer")
    made.sql("erp", "CREATE TABLE customer(id INTEGER PRIMARY KEY, email TEXT, name TEXT, note TEXT)")
    made.write("connections", rest("crm", api.url), made.database("erp"))
    made.write("policy", policy(system("crm", object="customers"), system("erp"), deletes=GUARD))
    return made


def in_crm(api: HTTPSystem) -> Counter[tuple[Any, Any]]:
    """(email, name) of every record of the CRM, as often as it is there."""
    return Counter((row["email"], row.get("name")) for row in api.store.values("customers").values())


def in_erp(site: Site) -> Counter[tuple[Any, Any]]:
    """The same of the ERP."""
    return Counter(site.sql("erp", "SELECT email, name FROM customer"))


def key_of(api: HTTPSystem, email: str) -> str:
    (key,) = (key for key, row in api.store.values("customers").items() if row["email"] == email)
    return key


class Office:
    """People who work in both systems, and what must be true of both in the end."""

    def __init__(self, site: Site, api: HTTPSystem) -> None:
        self.site, self.api = site, api
        self.expected: dict[str, str] = {}

    def work(self, number: int) -> None:
        """Adds, edits and deletes some; never the same field of the same record on both sides."""
        fresh = [(f"{number}-{n}@x", f"new {number}-{n}") for n in range(30)]
        old = sorted(self.expected)[:: max(1, len(self.expected) // 12)]
        self.api.store.fill("customers", [{"email": email, "name": name} for email, name in fresh[:15]])
        for email, name in fresh[15:]:
            self.site.sql("erp", "INSERT INTO customer(email, name) VALUES (?, ?)", email, name)
        for n, email in enumerate(old):
            value = f"{number} edited"
            if n % 4 == 0:
                self.api.store.delete("customers", key_of(self.api, email))
                del self.expected[email]
                continue
            self.expected[email] = value
            if n % 4 == 1:
                self.api.store.patch("customers", key_of(self.api, email), {"name": value})
            else:
                self.site.sql("erp", "UPDATE customer SET name = ? WHERE email = ?", value, email)
        self.expected |= dict(fresh)


def test_a_worker_that_is_killed_in_the_middle_of_its_writes_loses_and_doubles_nothing(
    site: Site, api: HTTPSystem
) -> None:
    office = Office(site, api)
    for number in range(ROUNDS):
        office.work(number)
        before = len(api.seen)
        with site.worker() as worker:
            wait_until(lambda until=before + 2 + 2 * number: len(api.seen) >= until or worker.poll() is not None)
            worker.send_signal(signal.SIGKILL)
            worker.communicate()
        # People work on only where both systems have what they look at.
        done = site.once()
        assert done.returncode == 0, done.stdout + done.stderr
        assert in_crm(api) == in_erp(site) == Counter(office.expected.items())


def test_a_worker_that_dies_again_and_again_on_the_same_work_gets_through_it(site: Site, api: HTTPSystem) -> None:
    office = Office(site, api)
    office.work(0)
    for requests in range(1, 7):
        before = len(api.seen)
        with site.worker() as worker:
            wait_until(lambda until=before + requests: len(api.seen) >= until or worker.poll() is not None)
            worker.send_signal(signal.SIGKILL)
            worker.communicate()
    assert site.once().returncode == 0
    assert in_crm(api) == in_erp(site) == Counter(office.expected.items())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_is_told_to_stop_ends_with_its_batch_and_says_how_things_are(
    site: Site, api: HTTPSystem, number: signal.Signals
) -> None:
    api.store.fill("customers", [{"email": f"{n:05}@x", "name": f"n{n}"} for n in range(6000)])
    api.faults.add(Fault(FaultKind.SLOW, method="GET", path="/customers", seconds=0.3, times=1000))
    with site.worker() as worker:
        wait_until(lambda: in_erp(site).total() > 0)
        output = stopped(worker, number)
    assert worker.returncode == 0
    assert "stopped before its end: the next run goes on" in output
    assert output.splitlines()[-1].startswith("customers")
    assert 0 < in_erp(site).total() < 6000
    api.faults.clear()
    assert site.once().returncode == 0
    assert in_crm(api) == in_erp(site)
    assert in_erp(site).total() == 6000


def test_a_worker_that_is_told_to_stop_twice_ends_at_once(site: Site, api: HTTPSystem) -> None:
    api.store.fill("customers", [{"email": "a@x", "name": "Ada"}])
    api.faults.add(Fault(FaultKind.SLOW, method="GET", path="/customers", seconds=30, times=1000))
    with site.worker() as worker:
        wait_until(lambda: api.seen)
        worker.send_signal(signal.SIGTERM)
        assert worker.stdout is not None
        assert "stopping after the current batch; once more stops at once\n" in iter(worker.stdout.readline, "")
        stopped(worker)
    assert worker.returncode == 128 + signal.SIGTERM
    api.faults.clear()
    assert site.once().returncode == 0
    assert in_erp(site) == Counter([("a@x", "Ada")])


def test_one_run_that_is_interrupted_ends_in_order(site: Site, api: HTTPSystem) -> None:
    api.store.fill("customers", [{"email": f"{n:05}@x", "name": f"n{n}"} for n in range(6000)])
    api.faults.add(Fault(FaultKind.SLOW, method="GET", path="/customers", seconds=0.3, times=1000))
    with site.worker("--once") as worker:
        wait_until(lambda: in_erp(site).total() > 0)
        output = stopped(worker, signal.SIGINT)
    assert (worker.returncode, "Traceback" in output) == (128 + signal.SIGINT, False)
    assert "stopped before its end" in output


def test_a_system_that_is_away_for_a_while_gets_everything_in_order_and_others_go_on(
    site: Site, tmp_path: Path, api: HTTPSystem
) -> None:
    site.sql("crm", "DROP TABLE customer")
    site.sql("crm", "CREATE TABLE customer(id INTEGER PRIMARY KEY, email TEXT, name TEXT, note TEXT)")
    site.write("connections", rest("shop", api.url), site.database("crm"), site.database("erp"))
    site.write("policy", policy(system("crm"), system("erp"), system("shop", object="customers"), deletes=GUARD))
    site.add("crm", "a@x", name="0")
    assert site.once().returncode == 0
    api.faults.add(Fault(FaultKind.STATUS, status=503, times=100_000))
    with site.worker() as worker:
        for value in ("1", "2", "3"):
            site.sql("crm", "UPDATE customer SET name = ? WHERE email = 'a@x'", value)
            site.add("crm", f"{value}@x", name=value)
            wait_until(lambda value=value: in_erp(site)[f"{value}@x", value] == 1 and in_erp(site)["a@x", value] == 1)
        assert in_crm(api) == Counter([("a@x", "0")])
        api.faults.clear()
        wait_until(lambda: in_crm(api) == in_erp(site))
        output = stopped(worker)
    assert worker.returncode == 0
    assert "shop: " in output
    assert in_crm(api) == Counter([("a@x", "3"), ("1@x", "1"), ("2@x", "2"), ("3@x", "3")])
