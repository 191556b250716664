"""Of several replicas one leads, by a Lease; the others are ready to take over."""

import time
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from fairlead.kube.kinds import LEASE
from support.api import Api, Manifest, once
from support.operator import Install, Installation, Replica
from support.proxy import proxy_to

pytestmark = pytest.mark.xdist_group("api")

QUICK = ("--lease-duration", "6")


@pytest.fixture
def installed(install: Install) -> Iterator[Installation]:
    with install() as made:
        yield made


def lease(api: Api, installed: Installation) -> Manifest:
    spec: Manifest = api.get(LEASE, installed.namespace, installed.release)["spec"]
    return spec


def pair(installed: Installation, *arguments: str) -> tuple[Replica, Replica]:
    """The leader and the standby, started together."""
    one, two = installed.replica(*arguments), installed.replica(*arguments)
    for each in (one, two):
        each.until_ready()
    once(lambda: one.leads() or two.leads())
    return (one, two) if one.leads() else (two, one)


# --- the standby ---


@pytest.fixture
def standby(api: Api, installed: Installation) -> Replica:
    """A replica that waits for a leader which does not end."""
    spec = {"holderIdentity": "another", "leaseDurationSeconds": 3600}
    api.create(LEASE, installed.namespace, {"metadata": {"name": installed.release}, "spec": spec})
    return installed.started()


def test_a_standby_is_alive_ready_and_reconciles_nothing(standby: Replica) -> None:
    found = [standby.get(path).text for path in ("/healthz", "/readyz")]
    visits = standby.metric("fairlead_operator_reconciles_total")
    assert (found, standby.leads(), visits) == (["ok", "ok"], False, 0)


def test_a_standby_that_is_told_to_stop_ends_cleanly(api: Api, installed: Installation, standby: Replica) -> None:
    assert (standby.stop(), lease(api, installed)["holderIdentity"]) == (0, "another")


# --- a leader that is told to stop ---


class HandOver(NamedTuple):
    """What was seen when one of two replicas was told to stop."""

    seconds: float
    together: bool
    code: int
    before: Manifest
    after: Manifest


@pytest.fixture(scope="module")
def hand_over(api: Api, install: Install) -> Iterator[HandOver]:
    with install() as installed:
        leader, standby = pair(installed)
        before, started = lease(api, installed), time.monotonic()
        leader.process.terminate()
        once(standby.leads)
        seconds, together = time.monotonic() - started, leader.leads()
        yield HandOver(seconds, together, leader.wait(), before, lease(api, installed))


def test_a_leader_that_is_told_to_stop_hands_over_at_once(hand_over: HandOver) -> None:
    """Not after the 15 seconds for which its Lease would be good."""
    assert (hand_over.seconds < 10, hand_over.code) == (True, 0)


def test_two_never_lead_together(hand_over: HandOver) -> None:
    assert not hand_over.together


def test_a_change_of_leader_is_counted(hand_over: HandOver) -> None:
    changes = hand_over.after["leaseTransitions"] - hand_over.before["leaseTransitions"]
    assert (changes, hand_over.before["holderIdentity"] == hand_over.after["holderIdentity"]) == (1, False)


def test_a_leader_that_stops_gives_its_lease_back(api: Api, installed: Installation) -> None:
    leader = installed.started()
    once(leader.leads)
    leader.stop()
    assert lease(api, installed).get("holderIdentity", "") == ""


# --- a leader that is lost ---


def test_a_leader_that_is_killed_is_followed_when_its_lease_has_expired(installed: Installation) -> None:
    leader, standby = pair(installed, *QUICK)
    leader.kill()
    started = time.monotonic()
    once(standby.leads, seconds=40)
    assert 3.5 < time.monotonic() - started < 20


def test_a_leader_whose_lease_was_taken_ends(api: Api, installed: Installation) -> None:
    leader = installed.started(*QUICK)
    once(leader.leads)
    api.edit(LEASE, installed.namespace, installed.release, {"spec": {"holderIdentity": "another"}})
    assert (leader.wait(), "could not be renewed" in leader.log()) == (1, True)


def test_a_leader_that_cannot_renew_its_lease_ends_before_it_expires(api: Api, installed: Installation) -> None:
    with proxy_to(int(api.url.rpartition(":")[2])) as proxy:
        slow = ("--lease-duration", "15")  # a third of it is left to end in, on a busy machine, too
        leader = installed.started(*slow, server=f"https://127.0.0.1:{proxy.port}")
        once(lambda: leader.leads() and leader.get("/readyz").is_success)
        started = time.monotonic()
        proxy.cut()
        assert (leader.wait(), time.monotonic() - started < 15) == (1, True)
        assert "could not be renewed" in leader.log()
