"""Of several replicas one leads, by a Lease; the others are ready to take over."""

import time
from collections.abc import Callable, Iterator

import pytest

from fairlead.kube.kinds import LEASE
from support.api import Api, eventually, once
from support.operator import Install, Installation, Replica
from support.proxy import proxy_to

pytestmark = pytest.mark.xdist_group("api")

QUICK = ("--lease-duration", "6")


@pytest.fixture
def installed(install: Install) -> Iterator[Installation]:
    with install() as made:
        yield made


def pair(installed: Installation, *arguments: str) -> tuple[Replica, Replica]:
    """The leader and the standby."""
    one, two = installed.started(*arguments), installed.started(*arguments)
    once(lambda: one.leads() or two.leads())
    return (one, two) if one.leads() else (two, one)


def holder(api: Api, installed: Installation) -> str:
    name: str = api.get(LEASE, installed.namespace, installed.release)["spec"]["holderIdentity"]
    return name


def handed_over(leader: Replica, standby: Replica, end: Callable[[], object]) -> tuple[float, bool]:
    """Seconds from the end of one until the other leads, and whether the first one still did."""
    started = time.monotonic()
    end()
    once(standby.leads, seconds=40)
    together = leader.leads()
    return time.monotonic() - started, together


def test_one_of_two_leads_and_both_are_ready(installed: Installation) -> None:
    leader, standby = pair(installed)
    found = [(each.leads(), each.get("/readyz").text, each.get("/healthz").text) for each in (leader, standby)]
    assert found == [(True, "ok", "ok"), (False, "ok", "ok")]


def test_a_standby_reconciles_nothing(installed: Installation) -> None:
    _, standby = pair(installed)
    assert standby.metric("fairlead_operator_resources", kind="SyncPolicy") == 0
    assert standby.metric("fairlead_operator_reconciles_total") == 0


def test_a_leader_that_is_told_to_stop_hands_over_at_once(installed: Installation) -> None:
    """Not after the 15 seconds for which the Lease is good."""
    leader, standby = pair(installed)
    seconds, together = handed_over(leader, standby, leader.process.terminate)
    assert (seconds < 10, together, leader.wait()) == (True, False, 0)


def test_a_leader_that_is_killed_is_followed_when_its_lease_has_expired(installed: Installation) -> None:
    leader, standby = pair(installed, *QUICK)
    seconds, _ = handed_over(leader, standby, leader.kill)
    assert 3.5 < seconds < 20


def test_each_change_of_leader_is_counted(api: Api, installed: Installation) -> None:
    leader, standby = pair(installed, *QUICK)
    first = holder(api, installed)
    leader.stop()
    once(standby.leads)
    spec = api.get(LEASE, installed.namespace, installed.release)["spec"]
    assert (spec["leaseTransitions"], spec["holderIdentity"] != first) == (1, True)


def test_a_leader_whose_lease_was_taken_ends(api: Api, installed: Installation) -> None:
    leader = installed.started(*QUICK)
    once(leader.leads)
    api.edit(LEASE, installed.namespace, installed.release, {"spec": {"holderIdentity": "another"}})
    assert (leader.wait(), "could not be renewed" in leader.log()) == (1, True)


def test_a_leader_that_cannot_renew_its_lease_ends_before_it_expires(api: Api, installed: Installation) -> None:
    with proxy_to(int(api.url.rpartition(":")[2])) as proxy:
        leader = installed.started(*QUICK, server=f"https://127.0.0.1:{proxy.port}")
        once(leader.leads)
        started = time.monotonic()
        proxy.cut()
        code = leader.wait()
        assert (code, time.monotonic() - started < 6) == (1, True)


def test_a_standby_that_is_told_to_stop_ends_cleanly(installed: Installation) -> None:
    leader, standby = pair(installed)
    assert (standby.stop(), leader.leads()) == (0, True)


def test_a_released_lease_names_nobody(api: Api, installed: Installation) -> None:
    leader = installed.started()
    once(leader.leads)
    leader.stop()
    eventually(lambda: api.get(LEASE, installed.namespace, installed.release)["spec"].get("holderIdentity", ""), "")
