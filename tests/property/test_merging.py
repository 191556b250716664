"""What holds for merged fields, in whatever order systems are edited, read and written: nothing is lost or doubled."""

from __future__ import annotations

import os
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.simulation import World, spec_of

settings.register_profile(
    "default", max_examples=200, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("thorough", settings.get_profile("default"), max_examples=5_000, derandomize=False)
settings.load_profile(os.environ.get("FAIRLEAD_PROPERTIES", "default"))

NAMES = ("a", "b", "c")
SYSTEM = st.sampled_from(NAMES)
STEP = st.one_of(
    st.tuples(st.just("edit"), SYSTEM, st.booleans()),
    st.tuples(st.just("edit"), SYSTEM, st.booleans()),
    st.tuples(st.just("read"), SYSTEM),
    st.tuples(st.just("deliver"), SYSTEM),
    st.tuples(st.sampled_from(["down", "up"]), SYSTEM),
)
LOSING = st.one_of(STEP, st.tuples(st.just("lose"), SYSTEM))
START = ["first", "second", "third"]


def world_of(schema: dict[str, Any], first: Any, **rule: Any) -> World:
    spec = spec_of(
        NAMES,
        named=["x"],
        schema={"type": "object", "properties": {"x": schema}},
        fields={"x": {"onConflict": "Merge", **rule}},
    )
    world = World(spec)
    world.agree(x=first)
    return world


def work(world: World, step: tuple[Any, ...]) -> None:
    act, system, *_ = step
    if act == "read":
        world.read(system)
    elif act in ("deliver", "lose"):
        world.deliver(system, lost=act == "lose")
    else:
        (world.down.add if act == "down" else world.down.discard)(system)


class Tags:
    """Users add tags of their own, and remove some that they see."""

    def __init__(self) -> None:
        self.world = world_of({"type": "array", "items": {"type": "string"}, "uniqueItems": True}, START)
        self.added = set(START)
        self.removed: set[str] = set()

    def play(self, steps: list[tuple[Any, ...]]) -> Tags:
        for number, step in enumerate(steps):
            if step[0] == "edit":
                self.edit(step[1], f"tag{number}", removes=step[2])
            else:
                work(self.world, step)
        self.world.rest()
        return self

    def edit(self, system: str, tag: str, *, removes: bool) -> None:
        tags = list(self.world.copies[system].values["x"])
        if removes and tags:
            self.removed.add(tags.pop())
        else:
            self.added.add(tag)
            tags.append(tag)
        self.world.put(system, "x", sorted(tags))

    @property
    def standing(self) -> list[set[str]]:
        return [set(copy.values["x"]) for copy in self.world.copies.values()]


@given(st.lists(STEP, max_size=24))
def test_every_tag_that_was_added_is_there_and_every_one_that_was_removed_is_not(steps: list[tuple[Any, ...]]) -> None:
    tags = Tags().play(steps)
    assert tags.standing == [tags.added - tags.removed] * len(NAMES)


@given(st.lists(LOSING, max_size=24))
def test_no_tag_that_was_added_is_lost_when_answers_are(steps: list[tuple[Any, ...]]) -> None:
    tags = Tags().play(steps)
    first = tags.standing[0]
    assert tags.standing == [first] * len(NAMES)
    assert tags.added - tags.removed <= first


class Counter:
    """Users count; every step is a power of two, so that a sum tells which steps are in it."""

    def __init__(self) -> None:
        self.world = world_of({"type": "integer"}, 0, merge="Delta")
        self.total = 0

    def play(self, steps: list[tuple[Any, ...]]) -> Counter:
        for number, step in enumerate(steps):
            if step[0] == "edit":
                amount = 2**number
                self.total += amount
                self.world.put(step[1], "x", self.world.copies[step[1]].values["x"] + amount)
            else:
                work(self.world, step)
        self.world.rest()
        return self

    @property
    def standing(self) -> list[int]:
        return [copy.values["x"] for copy in self.world.copies.values()]


@given(st.lists(STEP, max_size=24))
def test_every_count_is_counted_once(steps: list[tuple[Any, ...]]) -> None:
    counter = Counter().play(steps)
    if not counter.world.frozen:
        assert counter.standing == [counter.total] * len(NAMES)


@given(st.lists(LOSING, max_size=24))
def test_what_is_not_sure_waits_and_is_never_counted_twice(steps: list[tuple[Any, ...]]) -> None:
    counter = Counter().play(steps)
    if not counter.world.frozen:
        assert counter.standing == [counter.total] * len(NAMES)
