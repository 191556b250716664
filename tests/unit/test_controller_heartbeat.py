"""The heartbeat tells a watch that went deaf from a cluster where nothing happens."""

import pytest

from fairlead.controller import heartbeat
from fairlead.controller.heartbeat import Heartbeat
from fairlead.kube.kinds import CONNECTION, DEPLOYMENT, Kind, Object


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A time that the test moves."""
    now = [1000.0]
    monkeypatch.setattr(heartbeat.time, "monotonic", lambda: now[0])
    return now


def found(version: int, uid: str = "a", namespace: str = "n") -> Object:
    return {"metadata": {"resourceVersion": str(version), "uid": uid, "namespace": namespace}}


def hear(
    beat: Heartbeat, version: int, type_: str | None = "MODIFIED", uid: str = "a", kind: Kind = CONNECTION
) -> bool:
    return beat.heard(CONNECTION, type_, found(version, uid))


def test_a_quiet_watch_is_not_deaf(clock: list[float]) -> None:
    beat = Heartbeat()
    hear(beat, 5)
    clock[0] += 10_000
    assert beat.deaf() == []


def test_a_watch_that_misses_what_was_written_is_deaf_after_a_while(clock: list[float]) -> None:
    beat = Heartbeat()
    beat.happened(CONNECTION, found(7))
    early = beat.deaf()
    clock[0] += heartbeat.PATIENCE + 1
    assert (early, beat.deaf()) == ([], ["Connection"])


def test_an_event_that_comes_late_is_as_good(clock: list[float]) -> None:
    beat = Heartbeat()
    beat.happened(CONNECTION, found(7))
    clock[0] += heartbeat.PATIENCE + 1
    hear(beat, 8)
    assert beat.deaf() == []


def test_the_time_counts_from_the_first_event_that_was_missed(clock: list[float]) -> None:
    beat = Heartbeat()
    for version in (7, 8, 9):
        beat.happened(CONNECTION, found(version))
        clock[0] += heartbeat.PATIENCE / 2
    assert beat.deaf() == ["Connection"]


def test_what_was_heard_already_is_not_waited_for(clock: list[float]) -> None:
    beat = Heartbeat()
    hear(beat, 9)
    beat.happened(CONNECTION, found(7))
    clock[0] += heartbeat.PATIENCE + 1
    assert beat.deaf() == []


def test_every_kind_has_an_ear_of_its_own(clock: list[float]) -> None:
    beat = Heartbeat()
    for kind in (CONNECTION, DEPLOYMENT):
        beat.happened(kind, found(7))
    hear(beat, 7)
    clock[0] += heartbeat.PATIENCE + 1
    assert beat.deaf() == ["Deployment"]


@pytest.mark.parametrize(("namespaces", "deaf"), [((), []), (("n", "m"), ["Connection"])])
def test_namespaces_have_ears_of_their_own_where_they_are_watched_one_by_one(
    clock: list[float], namespaces: tuple[str, ...], deaf: list[str]
) -> None:
    beat = Heartbeat(namespaces)
    beat.happened(CONNECTION, found(7, namespace="n"))
    beat.heard(CONNECTION, "MODIFIED", found(8, namespace="m"))
    clock[0] += heartbeat.PATIENCE + 1
    assert beat.deaf() == deaf


def test_the_first_list_is_no_new_beginning() -> None:
    beat = Heartbeat()
    assert [hear(beat, 5, None, "a"), hear(beat, 6, None, "b"), hear(beat, 7, "ADDED", "c")] == [False] * 3


def test_a_second_list_is_a_new_beginning_once() -> None:
    beat = Heartbeat()
    for uid in ("a", "b"):
        hear(beat, 5, None, uid)
    assert [hear(beat, 5, None, uid) for uid in ("a", "b")] == [True, False]


def test_what_was_added_since_is_known_by_the_next_list() -> None:
    beat = Heartbeat()
    hear(beat, 5, "ADDED")
    assert hear(beat, 5, None)


def test_what_was_deleted_is_no_sign_of_a_new_list() -> None:
    beat = Heartbeat()
    hear(beat, 5, None)
    hear(beat, 6, "DELETED")
    assert not hear(beat, 9, None)


def test_a_watch_that_begins_anew_has_nothing_to_wait_for(clock: list[float]) -> None:
    """What it should have told of may be gone by now."""
    beat = Heartbeat()
    hear(beat, 5, None)
    beat.happened(CONNECTION, found(9, "b"))
    hear(beat, 5, None)
    clock[0] += heartbeat.PATIENCE + 1
    assert beat.deaf() == []
