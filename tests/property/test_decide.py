"""What holds for every policy, every edit and every order of reading and writing."""

from __future__ import annotations

import os
import random
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairlead.engine.arbiter import MERGED
from fairlead.engine.case import Case, Operation
from fairlead.engine.edits import PlainEdits
from fairlead.engine.fingerprint import WIDTH
from fairlead.model.syncpolicy import Edits, WhenEmpty
from support.simulation import START, Desk, World, spec_of

settings.register_profile(
    "default", max_examples=200, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("thorough", settings.get_profile("default"), max_examples=5_000, derandomize=False)
settings.load_profile(os.environ.get("FAIRLEAD_PROPERTIES", "default"))

NAMES = ("a", "b", "c", "d")
FIELDS = ("x", "y")
ACCESS = ("ReadWrite", "ReadWrite", "ReadWrite", "ReadOnly", "WriteOnly")
CONFLICT = ("SystemOfRecordWins", "LatestWins", "Priority", "Merge", "Expression", "Manual")
EXPRESSION = "values[systems[0]]"


@st.composite
def rules_of_fields(draw: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """Rules for some of the fields."""
    rules = {}
    for name in FIELDS:
        rule: dict[str, Any] = {}
        if draw(st.booleans()):
            rule["onConflict"] = draw(st.sampled_from(CONFLICT))
        if draw(st.booleans()):
            rule["systemOfRecord"] = draw(st.sampled_from(names))
        if draw(st.integers(0, 3)) == 0:
            rule["edits"] = "SystemOfRecordOnly"
        if draw(st.integers(0, 3)) == 0:
            rule["whenEmpty"] = "Keep"
        if draw(st.integers(0, 3)) == 0:
            rule["priority"] = draw(st.permutations(names))
        rules[name] = rule
    return rules


@st.composite
def policies(draw: Any, *, plain_access: bool = False, **fixed: Any) -> Any:
    """What `World` takes: a policy over two to four systems; the first is the system of record."""
    names = NAMES[: draw(st.integers(2, 4))]
    systems = []
    for number, name in enumerate(names):
        access = "ReadWrite" if plain_access else draw(st.sampled_from(ACCESS if number else ACCESS[:4]))
        mapped = FIELDS if number == 0 else draw(st.sampled_from([FIELDS, FIELDS, FIELDS[:1], FIELDS[1:]]))
        fields, archive = {f: f for f in mapped}, {"set": {"state": "archived"}}
        systems.append({"name": name, "access": access, "fields": fields, "archive": archive})
    spec: dict[str, Any] = {
        "onConflict": draw(st.sampled_from(CONFLICT)),
        "onConflictExpression": EXPRESSION,
        "firstSync": draw(st.sampled_from(["SystemOfRecordWins", "FillEmptyOnly", "Review"])),
        "deletes": {
            "propagate": draw(st.sampled_from(["FromSystemOfRecord", "FromAny", "Never"])),
            "action": draw(st.sampled_from(["Delete", "Archive"])),
            "onUpdateConflict": draw(st.sampled_from(["UpdateWins", "DeleteWins"])),
        },
        "fields": draw(rules_of_fields(names)),
    }
    return {"systems": systems, **spec, **fixed}


SYSTEM = st.sampled_from(NAMES)
EDIT = st.tuples(st.just("edit"), SYSTEM, st.sampled_from(FIELDS), st.sampled_from(["new", "new", "new", "", None]))
REVERT = st.tuples(st.just("revert"), SYSTEM, st.sampled_from(FIELDS))
READ = st.tuples(st.just("read"), SYSTEM)
DELIVER = st.tuples(st.sampled_from(["deliver", "deliver", "lose"]), SYSTEM)
OUTAGE = st.tuples(st.sampled_from(["down", "up"]), SYSTEM)
EDITS = st.lists(st.one_of(EDIT, EDIT, REVERT, READ, READ, DELIVER, DELIVER, OUTAGE), max_size=24)
DELETE = st.tuples(st.sampled_from(["delete", "create", "unarchive"]), SYSTEM)
LIVES = st.lists(st.one_of(EDIT, EDIT, REVERT, READ, READ, READ, DELIVER, DELIVER, OUTAGE, DELETE, DELETE), max_size=30)


def play(world: World, acts: list[tuple[Any, ...]]) -> World:
    """Does what users, systems and the worker do, in this order. New values are all different."""
    past: dict[str, list[Any]] = {}
    for number, (act, system, *rest) in enumerate(acts):
        if system not in world.rules.systems:
            continue
        if act == "edit":
            name, value = rest
            past.setdefault(name, []).append(world.copies[system].values.get(name) if system in world.copies else None)
            world.edit(system, name, f"{name}{number}" if value == "new" else value)
        elif act == "revert" and past.get(rest[0]):
            world.edit(system, rest[0], past[rest[0]][-1])
        elif act == "create":
            world.create(system, {name: f"{name}{number}" for name in FIELDS})
        elif act == "delete":
            world.delete(system)
        elif act == "unarchive":
            world.unarchive(system)
        elif act == "read":
            world.read(system)
        elif act in ("deliver", "lose"):
            world.deliver(system, lost=act == "lose")
        elif act in ("down", "up"):
            (world.down.add if act == "down" else world.down.discard)(system)
    return world


def edited_world(spec: Any, acts: list[tuple[Any, ...]]) -> World:
    """A world that agreed, and then was edited."""
    world = World(spec_of(**spec))
    world.agree(x="x-first", y="y-first")
    return play(world, acts)


def values_of(world: World, name: str) -> dict[str, Any]:
    """What each system that takes part says of a field."""
    return {
        system: copy.values[name]
        for system, copy in world.copies.items()
        if name in copy.values and system in world.sides and system not in world.away
    }


def assert_agreement(world: World, name: str) -> None:
    """Systems that may be written agree, as far as the field's rules want it."""
    rule = world.rules.fields[name]
    found = values_of(world, name)
    owner = found.get(rule.system_of_record) if world.rules.systems[rule.system_of_record].reads else None
    writable = {s: v for s, v in found.items() if name in world.rules.systems[s].writable}
    values = set(writable.values())
    if rule.when_empty is WhenEmpty.KEEP:
        values -= {None, ""}
        if rule.edits is Edits.SYSTEM_OF_RECORD_ONLY and not owner:
            return
    assert len(values) <= 1, (name, found)


@given(policies(firstSync="SystemOfRecordWins"), EDITS)
def test_all_systems_agree_once_edits_stop(spec: Any, acts: list[tuple[Any, ...]]) -> None:
    world = edited_world(spec, acts)
    world.rest()
    for name in set(world.rules.fields) - set(world.frozen):
        assert_agreement(world, name)


@given(policies(), LIVES)
def test_a_second_round_on_the_same_state_decides_nothing(spec: Any, acts: list[tuple[Any, ...]]) -> None:
    world = edited_world(spec, acts)
    world.rest()
    sides, findings = world.sides, list(world.findings)
    for system in world.sides:
        if system in world.copies and system not in world.away:
            decision = world.desk.decider.decide(world.case({system: world.observe(system)}))
            assert (decision.writes, decision.findings, decision.needs) == ({}, (), frozenset())
    assert (sides, findings) == (world.sides, world.findings)


@given(policies(), LIVES)
def test_an_edit_that_is_decided_at_once_is_decided_as_the_rules_would(spec: Any, acts: list[tuple[Any, ...]]) -> None:
    at_once = edited_world(spec, acts)
    at_once.rest()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PlainEdits, "decide", lambda *_: None)
        weighed = edited_world(spec, acts)
        weighed.rest()
    assert at_once.sent == weighed.sent
    assert (at_once.sides, at_once.frozen, at_once.findings) == (weighed.sides, weighed.frozen, weighed.findings)


@st.composite
def sightings(draw: Any) -> tuple[Desk, Case]:
    """One system's record as it reads now, beside what was seen of it: of some fields not everywhere, or not at all."""
    spec = draw(policies(plain_access=draw(st.booleans())))
    if draw(st.booleans()):  # else few edits were plain
        spec["fields"] = {name: {"onConflict": draw(st.sampled_from(CONFLICT))} for name in FIELDS}
    desk = Desk(spec_of(**spec))
    said = st.fixed_dictionaries({name: st.sampled_from([*["old"] * 8, "other", None]) for name in FIELDS})
    sides = {}
    for system in desk.rules.systems:
        if draw(st.sampled_from([*[True] * 9, False])):
            side = desk.side(system, **draw(said))
            width = draw(st.sampled_from([*[2] * 8, 1, 0]))  # fields that there were when it was last seen
            sides[system] = msgspec.structs.replace(side, prints=side.prints[: WIDTH * width])
    system = draw(st.sampled_from(list(desk.rules.systems)))
    values = st.fixed_dictionaries({name: st.sampled_from(["new", "old", "", None]) for name in FIELDS})
    observation = desk.read(system, draw(st.sampled_from([None, START])), **draw(values))
    untold = draw(st.sampled_from([(), (), (), *FIELDS]))
    known = {name: value for name, value in observation.record.values.items() if name not in untold}
    times = draw(st.dictionaries(st.sampled_from(FIELDS), st.sampled_from([None, START + timedelta(hours=1)])))
    record = msgspec.structs.replace(observation.record, values=known, times=times)
    bases = {name: {desk.print_of(name, "old"): "old"} for name in desk.decider.bases.fields}
    return desk, desk.case(sides, {system: msgspec.structs.replace(observation, record=record)}, bases=bases)


@settings(max_examples=1_000)
@given(sightings())
def test_whatever_was_seen_of_a_record_an_edit_is_decided_at_once_as_the_rules_would(seen: tuple[Desk, Case]) -> None:
    desk, case = seen
    at_once = PlainEdits(desk.rules, desk.decider.bases).decide(case)
    if at_once is None:
        return  # three of four
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PlainEdits, "decide", lambda *_: None)
        assert at_once == desk.decider.decide(case)


@given(policies(), EDITS)
def test_no_value_is_lost_silently(spec: Any, acts: list[tuple[Any, ...]]) -> None:
    world = edited_world(spec, acts)
    world.rest()
    standing = {value for copy in world.copies.values() for value in copy.values.values()}
    assert world.entered - standing - world.told - world.silenced == set()


@given(policies(), LIVES)
def test_no_value_is_lost_silently_when_records_come_and_go(spec: Any, acts: list[tuple[Any, ...]]) -> None:
    world = edited_world(spec, acts)
    world.rest()
    standing = {value for copy in world.copies.values() for value in copy.values.values()}
    assert world.entered - standing - world.told - world.silenced == set()


@given(policies(), LIVES)
def test_only_what_may_be_written_is_written(spec: Any, acts: list[tuple[Any, ...]]) -> None:
    world = edited_world(spec, acts)
    world.rest()
    for system, write in world.sent:
        assert set(write.values) <= world.rules.systems[system].writable
        assert world.rules.systems[system].writes


@given(policies(), LIVES)
def test_a_write_only_system_is_never_a_source(spec: Any, acts: list[tuple[Any, ...]]) -> None:
    world = edited_world(spec, acts)
    world.rest()
    sources = {origin for _, write in world.sent for origin in write.origins.values()}
    assert all(world.rules.systems[source].reads for source in sources - {MERGED})


@given(policies(), LIVES)
def test_the_only_system_that_may_edit_a_field_never_takes_another_systems_value(
    spec: Any, acts: list[tuple[Any, ...]]
) -> None:
    world = edited_world(spec, acts)
    world.rest()
    owned = {n: r.system_of_record for n, r in world.rules.fields.items() if r.edits is Edits.SYSTEM_OF_RECORD_ONLY}
    for system, write in world.sent:
        if write.operation is Operation.UPDATE and world.rules.systems[system].reads:
            taken = {name for name in write.values if owned.get(name) == system and write.origins[name] != system}
            assert taken == set()


@given(policies(), EDITS)
def test_fields_that_nobody_changed_are_never_written(spec: Any, acts: list[tuple[Any, ...]]) -> None:
    world = edited_world(spec, acts)
    world.rest()
    written = {name for _, write in world.sent for name in write.values}
    assert written <= world.edited


@given(policies(), LIVES)
def test_deletes_spread_only_as_the_policy_says(spec: Any, acts: list[tuple[Any, ...]]) -> None:
    world = edited_world(spec, acts)
    world.rest()
    if any(write.ends for _, write in world.sent):
        assert any(world.rules.deletes_spread_from(system) for system in world.deleted_by_user)


@given(policies(plain_access=True, firstSync="FillEmptyOnly", fields={}), st.data())
def test_fill_empty_only_never_overwrites_a_filled_value(spec: Any, data: Any) -> None:
    world = World(spec_of(**spec))
    value = st.sampled_from(["1", "2", "", None])
    for system in world.rules.systems:
        world.create(system, {name: data.draw(value) for name in FIELDS})
    before = {system: dict(copy.values) for system, copy in world.copies.items()}
    world.rest()
    for system, values in before.items():
        for name, value_before in values.items():
            assert world.copies[system].values[name] == value_before or not value_before


@given(policies(), LIVES, st.randoms(use_true_random=False))
def test_the_decision_does_not_depend_on_any_order(
    spec: Any, acts: list[tuple[Any, ...]], chance: random.Random
) -> None:
    world = edited_world(spec, acts)
    observed = {system: world.observe(system) for system in world.copies}
    gone = frozenset(world.sides) - frozenset(world.copies)
    create_in = frozenset(system for system, rule in world.rules.systems.items() if rule.creates)
    case = world.case(observed, deleted=gone, create_in=create_in)
    assert world.desk.decider.decide(_shuffled(case, chance)) == world.desk.decider.decide(case)


def _shuffled(case: Case, chance: random.Random) -> Case:
    def shuffle(mapping: dict[str, Any]) -> dict[str, Any]:
        items = list(mapping.items())
        chance.shuffle(items)
        return dict(items)

    return Case(
        sides=shuffle(case.sides),
        observed=shuffle(case.observed),
        read_at=case.read_at,
        away=case.away,
        pending=shuffle(case.pending),
        frozen=case.frozen,
        competing=shuffle(case.competing),
        deleted=case.deleted,
        create_in=case.create_in,
        unsure=case.unsure,
        bases=shuffle(case.bases),
    )


@given(
    policies(plain_access=True, fields={}, firstSync="SystemOfRecordWins"),
    st.data(),
)
def test_a_conflict_ends_the_same_in_whatever_order_the_systems_are_read(spec: Any, data: Any) -> None:
    world = World(spec_of(**spec))
    world.agree(x="first")
    editors = data.draw(st.lists(st.sampled_from(sorted(world.rules.systems)), unique=True, min_size=1))
    for system in editors:
        world.edit(system, "x", f"by-{system}")
    editors = [system for system in editors if "x" in world.copies[system].values]
    steps = st.lists(st.tuples(st.sampled_from(["read", "deliver", "lose"]), SYSTEM), max_size=12)
    play(world, data.draw(steps))
    world.rest()
    rule = world.rules.fields["x"]
    if not editors:
        return
    expected = {
        "SystemOfRecordWins": min(editors, key=rule.priority.index),
        "Priority": min(editors, key=rule.priority.index),
        "Expression": min(editors, key=rule.priority.index),
        "LatestWins": editors[-1],
    }
    if rule.on_conflict.value in expected:
        assert set(values_of(world, "x").values()) == {f"by-{expected[rule.on_conflict.value]}"}
    elif len(editors) > 1:
        assert world.frozen.keys() == {"x"}


@given(policies(firstSync="SystemOfRecordWins"), EDITS)
def test_the_systems_only_editor_stands_everywhere(spec: Any, acts: list[tuple[Any, ...]]) -> None:
    world = edited_world(spec, acts)
    world.rest()
    for name, rule in world.rules.fields.items():
        owner = world.rules.systems[rule.system_of_record]
        if rule.edits is not Edits.SYSTEM_OF_RECORD_ONLY or not owner.reads or not owner.maps(name):
            continue
        wanted = world.copies[owner.name].values[name]
        if rule.when_empty is WhenEmpty.KEEP and not wanted:
            continue
        found = {s: v for s, v in values_of(world, name).items() if name in world.rules.systems[s].writable}
        assert set(found.values()) <= {wanted}


@given(policies(), st.data())
def test_a_page_of_newcomers_is_created_as_each_of_them_would_be_decided(spec: Any, data: Any) -> None:
    desk = Desk(spec_of(**spec))
    source = data.draw(st.sampled_from([name for name, rule in desk.rules.systems.items() if rule.reads]))
    targets = [name for name, rule in desk.rules.systems.items() if rule.creates and name != source]
    said = st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, st.sampled_from(["1", "2", "", None])))
    times = st.sampled_from([None, START, START + timedelta(days=1)])
    observed = [desk.read(source, at=data.draw(times), **values) for values in data.draw(st.lists(said, max_size=4))]
    records, creatable = [o.record for o in observed], desk.decider.creatable(source, targets)
    page = {target: desk.decider.creates(source, records, target) for target in creatable}
    decided = [desk.decide({}, {source: o}, create_in=frozenset(targets)).writes for o in observed]
    assert [{target: page[target][n] for target in creatable} for n in range(len(observed))] == decided
