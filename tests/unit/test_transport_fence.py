"""A fence closes in time, for good, and just before something would leave."""

import pytest

from fairlead.transport.fence import Fence, FencedOff, running


class Clock:
    """Seconds that pass when told."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def fence(clock: Clock) -> Fence:
    return Fence(clock.now + 10, clock)


def test_a_fence_is_open_until_its_time() -> None:
    clock = Clock()
    made = fence(clock)
    clock.now += 9.9
    made.check()
    clock.now += 0.1
    with pytest.raises(FencedOff, match="another one writes in its place"):
        made.check()


def test_a_fence_that_was_closed_is_not_opened_by_a_late_extension() -> None:
    clock = Clock()
    made = fence(clock)
    clock.now += 10
    made.extend(clock.now + 10)
    assert not made.open


def test_a_fence_that_was_closed_stays_closed_when_the_clock_is_set_back() -> None:
    clock = Clock()
    made = fence(clock)
    clock.now += 10
    assert not made.open
    clock.now -= 10
    assert not made.open


def test_a_fence_that_is_extended_in_time_stays_open() -> None:
    clock = Clock()
    made = fence(clock)
    made.extend(clock.now + 20)
    clock.now += 15
    assert made.open


def test_an_extension_never_shortens() -> None:
    clock = Clock()
    made = fence(clock)
    made.extend(clock.now + 1)
    clock.now += 5
    assert made.open


def test_a_fence_can_be_closed_at_once() -> None:
    made = fence(Clock())
    made.close()
    assert not made.open


@pytest.mark.parametrize(
    ("step", "stops"),
    [
        ("http11.send_request_headers.started", True),
        ("http11.send_request_body.started", True),
        ("http2.send_request_headers.started", True),
        ("http11.send_request_body.complete", False),
        ("http11.receive_response_headers.started", False),
        ("connection.connect_tcp.started", False),
    ],
)
async def test_what_was_sent_may_still_be_answered(step: str, stops: bool) -> None:
    made = fence(Clock())
    made.close()
    stopped = False
    try:
        await made.trace(step, {})
    except FencedOff:
        stopped = True
    assert stopped == stops


def test_its_clock_goes_on() -> None:
    before = running()
    assert running() >= before
