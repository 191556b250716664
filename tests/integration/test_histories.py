"""Histories that once went wrong, each named after what did. `tests/property/test_worker_machine.py` found them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fairlead.testing.memory_system import Fault, Traits
from fairlead.worker.run import Kind, Outcome
from support.histories import FIELDS, Act, Doing, Replay, Setting
from support.invariants import check

RUN = ("run", Doing())
SEALED = {"encryptionKey": {"secretKeyRef": {"name": "key", "key": "key"}}}


async def played(
    tmp_path: Path,
    *acts: Act,
    systems: Sequence[Any] = ("a", "b"),
    traits: dict[str, Traits] | None = None,
    lossy: dict[str, str] | None = None,
    kind: str = "text",
    **spec: Any,
) -> Replay:
    """What came of a history, at rest and after every invariant was checked. The first system is that of record."""
    named = [s if isinstance(s, dict) else {"name": s} for s in systems]
    replay = Replay(Setting(tuple(named), traits or {}, lossy or {}, spec, kind), tmp_path / "state.db")
    try:
        await replay.play(acts)
        await check(replay)
    finally:
        await replay.stop()
    return replay


def shown(replay: Replay, field: str) -> dict[str, list[object]]:
    """System → the value of a field in each of its records."""
    return {name: [row.get(field) for row in system.records.values()] for name, system in replay.systems.items()}


async def deaths_that_leave_other_than(
    expected: dict[str, list[object]], tmp_path: Path, acts: Sequence[Act], kind: Kind = Kind.CHANGES, **spec: Any
) -> list[int]:
    """The moments of a run after some acts at which its worker's death leaves other records, once changes were read."""
    found = []
    for moment in range(1, 30):
        replay = Replay(Setting(({"name": "a"}, {"name": "b"}), {}, {}, spec), tmp_path / f"{moment}.db")
        await replay.play([*acts, ("run", Doing(kind, crash=moment)), RUN])
        await replay.stop()
        if shown(replay, "m") != expected:
            found.append(moment)
    return found


async def test_a_record_that_left_its_last_system_while_it_was_met_is_created_nowhere(tmp_path: Path) -> None:
    removed = Doing(meanwhile={6: (("remove", "b", "t0"),)})
    replay = await played(tmp_path, ("add", "b", "t0", FIELDS), ("run", removed))
    assert shown(replay, "m") == {"a": [], "b": []}


async def test_an_edit_in_a_write_only_system_that_a_delete_takes_along_is_told(tmp_path: Path) -> None:
    systems = ("a", {"name": "b", "access": "WriteOnly"})
    acts = [("add", "a", "t0", FIELDS), RUN, ("remove", "a", "t0"), ("edit", "b", "t0", "x", "new")]
    replay = await played(tmp_path, *acts, systems=systems)
    assert {(f["kind"], f["field"]) for f in replay.findings} == {("Overwritten", "x"), ("Deleted", "")}


@pytest.mark.parametrize("find", [True, False], ids=["searchable", "not searchable"])
async def test_what_is_new_on_two_sides_is_linked_before_it_is_created(tmp_path: Path, find: bool) -> None:
    new = [("add", "b", "t0", FIELDS), ("add", "a", "T0", FIELDS)]
    replay = await played(tmp_path, RUN, *new, RUN, traits={"a": Traits(find=find), "b": Traits(find=find)})
    assert {name: len(system.records) for name, system in replay.systems.items()} == {"a": 1, "b": 1}


async def test_a_copy_made_while_another_system_was_not_read_yet_does_not_speak_for_the_system_it_is_in(
    tmp_path: Path,
) -> None:
    new = [("add", "b", "t0", ("x",)), ("add", "d", "t0", ("x",))]
    replay = await played(tmp_path, RUN, *new, RUN, systems="acbd", priority=["a", "c", "d", "b"])
    (value,) = shown(replay, "x")["d"]
    assert shown(replay, "x") == {name: [value] for name in "acbd"}
    assert value == "x2-abc"


async def test_a_copy_on_its_way_of_a_record_that_is_gone_gets_what_the_one_says_that_is_left(tmp_path: Path) -> None:
    removed = Doing(meanwhile={12: (("remove", "c", "t0"),)})
    acts = [("add", "c", "t0", FIELDS), ("add", "a", "t0", FIELDS), ("run", removed)]
    replay = await played(tmp_path, *acts, systems="abc", traits={name: Traits(changes=False) for name in "abc"})
    assert (shown(replay, "x"), len(replay.systems["b"].writes)) == ({"a": ["x3-abc"], "b": ["x3-abc"], "c": []}, 1)


async def test_what_a_write_replaced_is_told_although_the_system_compares_versions(tmp_path: Path) -> None:
    acts: list[Act] = [
        ("add", "a", "t0", FIELDS),
        RUN,
        RUN,
        ("edit", "a", "t0", "x", "new"),
        RUN,
        RUN,
        ("undo", 2, False),
    ]
    silent = dict.fromkeys("ab", Traits(changes=False, versions=True, tells=False))
    replay = await played(tmp_path, *acts, traits=silent, state=SEALED)
    assert shown(replay, "x") == {"a": ["x1-abc"], "b": ["x1-abc"]}


async def test_a_delete_that_a_resync_did_not_come_to_is_told_by_the_changes_after_it(tmp_path: Path) -> None:
    acts: list[Act] = [*(("add", "a", thing, FIELDS) for thing in ("t0", "t1")), RUN, ("remove", "a", "t0")]
    left, deletes = {"a": ["t1"], "b": ["t1"]}, {"guard": {"maxPercent": 100}}
    assert await deaths_that_leave_other_than(left, tmp_path, acts, Kind.RESYNC, deletes=deletes) == []


@pytest.mark.parametrize("system", ["a", "b"])
async def test_a_worker_that_dies_in_its_first_run_leaves_nothing_to_be_created_by_the_next_resync(
    tmp_path: Path, system: str
) -> None:
    everywhere = {"a": ["t0"], "b": ["t0"]}
    assert await deaths_that_leave_other_than(everywhere, tmp_path, [("add", system, "t0", FIELDS)]) == []


@pytest.mark.parametrize("system", ["a", "b"])
async def test_what_a_split_is_to_create_is_created_although_the_worker_dies_in_between(
    tmp_path: Path, system: str
) -> None:
    everywhere = {"a": ["t0"] * 2, "b": ["t0"] * 2}
    acts = [("add", "a", "t0", FIELDS), RUN, ("split", system, "t0", True)]
    assert await deaths_that_leave_other_than(everywhere, tmp_path, acts) == []


async def test_a_create_that_was_never_sent_is_not_done_however_often_another_record_is_found_in_its_place(
    tmp_path: Path,
) -> None:
    mapped = {"fields": {"m": "m", "y": "y"}}
    silent = Traits(changes=False, deletions=False, tells=False)
    traits = {
        "a": silent,
        "b": msgspec.structs.replace(silent, unique=("m",)),
        "c": msgspec.structs.replace(silent, find=False),
    }
    acts = [("add", "a", "t0", FIELDS), ("run", Doing(crash=16)), ("split", "a", "t0", False), RUN]
    linked = [("split", "a", "t0", True), ("link", "b", "t0", "c", "t0")]
    systems = ["a", {"name": "b", **mapped}, {"name": "c", **mapped}]
    replay = await played(tmp_path, *acts, *linked, systems=systems, traits=traits)
    assert len(replay.systems["b"].records) == 1


async def test_a_create_whose_answer_was_lost_does_not_take_what_a_person_said_is_another_record(
    tmp_path: Path,
) -> None:
    silent = Traits(changes=False, deletions=False, tells=False)
    traits = dict.fromkeys("bcd", silent) | {"a": Traits(changes=False, deletions=False, unique=("m",))}
    apart = (("split", "a", "t0", False), ("link", "a", "t0", "b", "t0"))
    lost = Doing(meanwhile={4: apart}, faults={("a", 1): Fault.TRANSIENT})
    acts = [("add", "a", "t0", FIELDS), RUN, ("split", "c", "t0", True), ("run", lost)]
    deletes = {"propagate": "Never"}
    replay = await played(tmp_path, *acts, systems="abcd", traits=traits, deletes=deletes)
    assert len(replay.systems["a"].records) == 1


async def test_a_create_that_waits_for_its_system_to_be_read_survives_a_death(tmp_path: Path) -> None:
    for moment in range(1, 20):
        died = ("run", Doing(crash=moment))
        replay = await played(tmp_path / str(moment), RUN, ("add", "b", "t0", FIELDS), died)
        assert shown(replay, "m") == {"a": ["t0"], "b": ["t0"]}


async def test_a_run_that_halts_because_a_system_reads_empty_deletes_nothing_elsewhere(tmp_path: Path) -> None:
    setting = Setting(({"name": "a"}, {"name": "b"}, {"name": "c"}), {"a": Traits(changes=False)})
    halted = 0
    for moment in range(1, 20):
        unread = Doing(meanwhile={moment: (("remove", "a", "t0"),)}, faults={("b", 1): Fault.TRANSIENT})
        replay = Replay(setting, tmp_path / f"{moment}.db")
        await replay.play([("add", "a", "t0", FIELDS), ("run", unread)])
        before = len(replay.systems["c"].records)
        report = await replay.run(Doing())
        await replay.stop()
        assert report is not None
        if report.outcome is Outcome.HALTED:
            halted += 1
            assert len(replay.systems["c"].records) == before
    assert halted > 0


async def test_a_value_that_only_one_system_kept_since_the_first_meeting_is_told_when_it_is_replaced(
    tmp_path: Path,
) -> None:
    acts = [("add", "a", "t0", ("x",)), ("add", "b", "t0", ("x",)), RUN, ("edit", "a", "t0", "x", "new")]
    replay = await played(tmp_path, *acts, firstSync="FillEmptyOnly")
    assert shown(replay, "x") == {"a": ["x3-abc"], "b": ["x3-abc"]}
    assert [f["values"] for f in replay.findings] == [{"a": "x3-abc", "b": "x2-abc"}]


async def test_a_value_that_only_a_write_only_system_had_is_told_when_a_delete_takes_it_along(tmp_path: Path) -> None:
    systems = ("a", {"name": "b", "access": "WriteOnly"})
    acts = [("add", "a", "t0", ("x",)), ("add", "b", "t0", ("x", "y")), RUN, ("remove", "a", "t0")]
    replay = await played(tmp_path, *acts, systems=systems)
    assert shown(replay, "y") == {"a": [], "b": []}
    assert {"b": "y3-abc"} in [f["values"] for f in replay.findings]


async def test_a_record_that_cannot_be_linked_yet_is_not_created_where_it_is(tmp_path: Path) -> None:
    half_read = ("run", Doing(faults={("c", 3): Fault.THROTTLED}))
    acts = [("add", "c", "t0", ("x",)), ("add", "a", "t0", ("x",)), half_read]
    replay = await played(tmp_path, *acts, systems=("a", "b", "c"), traits={"c": Traits(page=1)})
    assert shown(replay, "x") == {"a": ["x2-abc"], "b": ["x2-abc"], "c": ["x2-abc"]}


async def test_a_record_that_was_deleted_and_inserted_anew_is_linked_again(tmp_path: Path) -> None:
    acts = [
        ("add", "b", "t0", FIELDS),
        RUN,
        ("remove", "b", "t0"),
        ("edit", "a", "t0", "y", "new"),
        ("add", "b", "t0", ()),
    ]
    for changes in (True, False):
        traits = {"b": Traits(changes=changes)}
        replay = await played(tmp_path / str(changes), *acts, traits=traits, deletes={"propagate": "FromAny"})
        assert shown(replay, "m") == {"a": ["t0"], "b": ["t0"]}
        assert shown(replay, "y") == {"a": ["y3-abc"], "b": ["y3-abc"]}


async def test_what_a_filter_excludes_is_not_created_a_second_time_where_it_is(tmp_path: Path) -> None:
    systems = ({"name": "a", "filter": 'x != "out"'}, "b")
    acts = [("add", "a", "t0", ()), ("edit", "a", "t0", "x", "out"), ("add", "b", "t0", ())]
    for changes in (True, False):
        traits = {"a": Traits(changes=changes)}
        for first in ([], [RUN]):
            path = tmp_path / f"{changes}{len(first)}"
            replay = await played(path, *first, *acts, systems=systems, traits=traits)
            assert shown(replay, "m") == {"a": ["t0"], "b": ["t0"]}


async def test_a_delete_that_is_found_while_held_writes_go_out_counts_for_the_guard(tmp_path: Path) -> None:
    deletes = {"propagate": "FromAny", "onUpdateConflict": "DeleteWins", "guard": {"maxRecords": 1, "maxPercent": 100}}
    setting = Setting(
        ({"name": "a"}, {"name": "b"}, {"name": "c"}), {"c": Traits(unique=("m",))}, {}, {"deletes": deletes}
    )
    gone = 0
    for moment in range(42, 57):
        met = Doing(meanwhile={35: (("add", "c", "t0", FIELDS),), moment: (("remove", "c", "t0"),)})
        replay = Replay(setting, tmp_path / f"{moment}.db")
        await replay.play([("add", "b", "t1", ()), ("add", "b", "t0", ("x",)), ("run", met)])
        await replay.stop()
        gone += "Deleted" in [finding["kind"] for finding in replay.findings]
        assert replay.over_guard == []
    assert gone > 0


async def test_a_record_that_is_gone_from_two_systems_at_once_is_decided(tmp_path: Path) -> None:
    acts = [("add", "a", "t0", ("x",)), ("add", "b", "t0", ("x",)), RUN, ("remove", "a", "t0"), ("remove", "b", "t0")]
    replay = await played(tmp_path, *acts, systems=("a", "b", "c"), firstSync="FillEmptyOnly")
    assert shown(replay, "m") == {"a": [], "b": [], "c": []}


async def test_the_version_of_a_row_does_not_vouch_for_an_edit_that_was_not_seen(tmp_path: Path) -> None:
    begin = [("add", "a", "t0", FIELDS), RUN, ("lag", "b"), ("edit", "a", "t0", "x", "new")]
    for moment in range(1, 25):
        edited = Doing(meanwhile={moment: (("edit", "b", "t0", "y", "new"),)})
        acts = [*begin, ("run", edited), ("edit", "a", "t0", "y", "new"), RUN]
        for tells in (True, False):
            traits = {"b": Traits(versions=True, tells=tells)}
            await played(tmp_path / f"{moment}{tells}", *acts, traits=traits)


async def test_an_edit_that_a_delete_took_along_is_met_anew_when_the_record_was_created_again(tmp_path: Path) -> None:
    deletes = {"propagate": "FromAny", "onUpdateConflict": "DeleteWins"}
    begin = [
        ("add", "a", "t0", ()),
        RUN,
        ("edit", "c", "t0", "y", "new"),
        ("remove", "b", "t0"),
        ("add", "b", "t0", ()),
    ]
    for moment in range(1, 30):
        edited = Doing(meanwhile={moment: (("edit", "c", "t0", "y", "new"),)})
        traits = {"b": Traits(changes=False)}
        acts = [*begin, ("run", edited)]
        await played(tmp_path / str(moment), *acts, systems=("a", "b", "c"), traits=traits, deletes=deletes)


async def test_records_that_were_inserted_anew_on_two_sides_are_linked_not_created(tmp_path: Path) -> None:
    systems = ("a", {"name": "b", "access": "WriteOnly"})
    anew = [act for system in "ab" for act in (("remove", system, "t0"), ("add", system, "t0", ()))]
    acts = [("add", "b", "t0", ("x",)), ("add", "a", "t0", ()), RUN, *anew, ("run", Doing(Kind.RESYNC))]
    replay = await played(tmp_path, *acts, systems=systems)
    assert shown(replay, "m") == {"a": ["t0"], "b": ["t0"]}


async def test_an_edit_in_a_write_only_system_is_told_when_another_one_is_met(tmp_path: Path) -> None:
    systems = ("a", {"name": "b", "access": "WriteOnly"}, "c")
    begin = [("add", "a", "t0", ("x", "y")), RUN, ("remove", "c", "t0"), RUN, ("edit", "b", "t0", "y", "new")]
    replay = await played(tmp_path, *begin, ("add", "c", "t0", ()), systems=systems)
    assert shown(replay, "y") == {"a": ["y2-abc"], "b": ["y2-abc"], "c": ["y2-abc"]}


async def test_a_page_that_was_read_before_our_write_is_not_taken_for_an_edit(tmp_path: Path) -> None:
    acts = [("add", "a", "t0", ()), ("add", "a", "t1", ()), RUN, ("edit", "a", "t0", "x", "new")]
    for page in (1, 2, 1000):
        for fault in ({}, {("b", 1): Fault.REPEATED}):
            path, traits = tmp_path / f"{page}{len(fault)}", {"b": Traits(page=page)}
            edited = ("edit", "b", "t0", "x", "new")
            replay = await played(path, *acts, edited, ("run", Doing(faults=fault)), traits=traits)
            assert shown(replay, "x") == {"a": ["x1-abc", None], "b": ["x1-abc", None]}
            assert [write.values for name, write in replay.writes() if name == "a"] == []


async def test_a_create_whose_answer_was_lost_is_not_repeated_when_it_is_decided_again(tmp_path: Path) -> None:
    traits = {"a": Traits(find=False)}
    lost = Doing(meanwhile={5: (("add", "b", "t0", ("x",)),)}, faults={("a", 2): Fault.LOST})
    replay = await played(tmp_path, ("run", lost), systems=("a", "b", "c"), traits=traits)
    assert shown(replay, "m") == {"a": ["t0"], "b": ["t0"], "c": ["t0"]}


async def test_a_create_that_never_arrived_is_sent_once_a_scan_has_told(tmp_path: Path) -> None:
    traits = {"a": Traits(find=False)}
    for moment in range(1, 40):
        acts = [RUN, ("add", "b", "t0", ("x",)), ("run", Doing(crash=moment))]
        replay = await played(tmp_path / str(moment), *acts, traits=traits)
        assert shown(replay, "m") == {"a": ["t0"], "b": ["t0"]}


@pytest.mark.parametrize("order", ["abcd", "acbd", "dcba"])
async def test_a_new_copy_is_filled_by_another_where_the_only_editor_says_nothing_in_any_order(
    tmp_path: Path, order: str
) -> None:
    owned = {"systemOfRecord": "a", "priority": ["a", "b", "c", "d"], "fields": {"y": {"edits": "SystemOfRecordOnly"}}}
    acts = [("add", "a", "t0", ("x",)), ("add", "b", "t0", ("x", "y"))]
    replay = await played(tmp_path, *acts, systems=tuple(order), **owned)
    assert shown(replay, "y") == {"a": [None], "b": ["y3-abc"], "c": ["y3-abc"], "d": ["y3-abc"]}


@pytest.mark.parametrize("access", ["ReadWrite", "WriteOnly"])
async def test_an_update_whose_answer_was_lost_does_not_hold_up_a_delete(tmp_path: Path, access: str) -> None:
    systems = ("a", {"name": "b", "access": access})
    lost = ("run", Doing(faults={("b", call): Fault.HUNG_UP for call in range(1, 6)}))
    begin = [("add", "a", "t0", ()), RUN, ("lag", "b"), ("edit", "a", "t0", "x", "new")]
    acts = [*begin, lost, ("remove", "a", "t0"), RUN]
    replay = await played(tmp_path, *acts, systems=systems)
    assert shown(replay, "m") == {"a": [], "b": []}
    assert [f["kind"] for f in replay.findings] == ["Deleted"]


async def test_a_conflict_outlives_a_delete_that_never_happens(tmp_path: Path) -> None:
    systems = ({"name": "a", "filter": 'x != "out"', "onLeave": "Delete"}, "b", "c")
    met = [("add", "b", "t0", ("x",)), ("add", "a", "t0", ("x",)), RUN, ("edit", "a", "t0", "x", "out"), RUN]
    held = {"guard": {"maxRecords": 0, "maxPercent": 100}}
    edited = ("edit", "c", "t0", "y", "new")
    replay = await played(tmp_path, *met, edited, systems=systems, firstSync="Review", deletes=held)
    assert shown(replay, "x") == {"a": ["out"], "b": ["x1-abc"], "c": ["x1-abc"]}


async def test_what_is_left_of_a_reviewed_meeting_is_not_given_to_the_only_editor(tmp_path: Path) -> None:
    systems = ("a", "b", {"name": "c", "access": "WriteOnly"})
    acts = [("add", "c", "t0", ("x",)), ("add", "b", "t0", ()), RUN, ("remove", "b", "t0")]
    owned = {"x": {"edits": "SystemOfRecordOnly"}}
    replay = await played(tmp_path, *acts, systems=systems, firstSync="Review", fields=owned)
    assert shown(replay, "x") == {"a": [None], "b": [], "c": ["x1-abc"]}


async def test_no_value_that_is_on_its_way_spares_what_a_write_only_system_was_given(tmp_path: Path) -> None:
    systems = ("a", {"name": "b", "access": "WriteOnly"})
    acts = [("add", "a", "t0", ()), RUN, ("edit", "a", "t0", "y", ""), ("edit", "b", "t0", "y", "new")]
    replay = await played(tmp_path, *acts, systems=systems, whenEmpty="Keep")
    assert shown(replay, "y") == {"a": [""], "b": ["y1-abc"]}


async def test_what_was_met_in_place_of_a_create_is_told_when_a_delete_takes_it_along(tmp_path: Path) -> None:
    traits = {"b": Traits(unique=("m",))}
    for moment in range(13, 22):
        users = {4: ("edit", "c", "t0", "y", "out"), 12: ("add", "b", "t0", ("x", "y")), moment: ("remove", "c", "t0")}
        acts = [("add", "c", "t0", ()), ("run", Doing(meanwhile={at: (act,) for at, act in users.items()}))]
        path = tmp_path / str(moment)
        await played(path, *acts, systems=("a", "b", "c"), traits=traits, deletes={"propagate": "FromAny"})


@pytest.mark.parametrize("find", [True, False])
@pytest.mark.parametrize("kind", list(Kind))
async def test_a_create_whose_answer_was_lost_after_the_reading_is_not_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, find: bool, kind: Kind
) -> None:
    monkeypatch.setattr("fairlead.worker.delivery.backoff", lambda _: 0.0)
    acts = [("add", "c", "t0", ("x",)), ("run", Doing(kind, faults={("b", 2): Fault.LOST}))]
    replay = await played(tmp_path, *acts, systems=("a", "b", "c"), traits={"b": Traits(find=find)})
    assert shown(replay, "x") == {"a": ["x1-abc"], "b": ["x1-abc"], "c": ["x1-abc"]}


async def test_what_was_on_its_way_when_a_record_was_to_end_is_met_anew_when_it_lives_on(tmp_path: Path) -> None:
    met = [("add", "c", "t0", ("x",)), ("run", Doing(meanwhile={3: (("add", "a", "t0", ("x", "y")),)}))]
    edited = Doing(meanwhile={1: (("edit", "b", "t0", "y", "new"), ("remove", "a", "t0"))})
    acts = [*met, ("run", edited), ("edit", "b", "t0", "x", "new")]
    held = {"guard": {"maxRecords": 0, "maxPercent": 100}}
    replay = await played(tmp_path, *acts, systems=("a", "b", "c"), deletes=held)
    assert shown(replay, "x") == {"a": ["x5-abc"], "b": ["x5-abc"], "c": ["x5-abc"]}
    assert shown(replay, "y") == {"a": ["y4-abc"], "b": ["y4-abc"], "c": ["y4-abc"]}


@pytest.mark.parametrize("how", [{"access": "ReadOnly"}, {"fields": {"m": "m", "y": "y"}}])
async def test_an_undo_leaves_a_copy_that_was_edited_where_the_edit_could_not_spread(
    tmp_path: Path, how: dict[str, Any]
) -> None:
    acts = [("add", "b", "t0", ("y",)), RUN, ("edit", "a", "t0", "x", "new"), RUN, ("undo", 2, True)]
    replay = await played(tmp_path, *acts, systems=("a", {"name": "b", **how}))
    assert shown(replay, "x")["a"] == ["x2-abc"]


async def test_what_waited_for_a_person_with_a_side_that_is_split_off_meets_what_is_left(tmp_path: Path) -> None:
    manual = {"x": {"onConflict": "Manual"}}
    edits = [("down", "c"), ("edit", "b", "t0", "x", "new"), ("edit", "a", "t0", "x", "new")]
    acts = [("add", "a", "t0", ("x",)), RUN, *edits, RUN, ("split", "a", "t0", False)]
    replay = await played(tmp_path, *acts, systems=("a", "b", "c"), fields=manual)
    assert shown(replay, "x") == {"a": ["x3-abc"], "b": ["x2-abc"], "c": ["x2-abc"]}


async def test_what_was_split_off_is_not_taken_for_a_create_whose_answer_was_lost(tmp_path: Path) -> None:
    systems = ("a", "b", {"name": "c", "fields": {"m": "m", "x": "x"}}, "d")
    traits = {"b": Traits(changes=False, find=False, tells=False)}
    edited = [("edit", "b", "t0", "y", "new"), ("down", "b"), RUN, ("split", "b", "t0", False)]
    for moment in range(25, 40):
        died = Doing(Kind.RESYNC, faults={("b", 2): Fault.REFUSED}, crash=moment)
        acts = [RUN, ("add", "c", "t0", ("x",)), ("run", died), *edited]
        replay = await played(tmp_path / str(moment), *acts, systems=systems, traits=traits)
        assert set(shown(replay, "m")["b"]) == {"t0"}


async def test_what_was_written_by_a_wrong_link_is_no_edit_after_the_split(tmp_path: Path) -> None:
    lost = ("run", Doing(faults={("a", 1): Fault.HUNG_UP}))
    acts = [("add", "a", "t0", ()), RUN, ("edit", "b", "t0", "x", "new"), lost, ("split", "a", "t0", True)]
    replay = await played(tmp_path, *acts)
    assert {name: len(system.records) for name, system in replay.systems.items()} == {"a": 2, "b": 2}


async def test_a_delete_of_an_undo_whose_answer_was_lost_is_repeated_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fairlead.worker.delivery.backoff", lambda _: 1e6)
    lost = ("run", Doing(faults={("a", 1): Fault.HUNG_UP}))
    for rule in ("DeleteWins", "UpdateWins"):
        deletes = {"propagate": "FromAny", "onUpdateConflict": rule}
        for edit in ([], [("edit", "b", "t0", "y", "new")]):
            acts = [("add", "b", "t0", ("x", "y")), RUN, ("undo", 1, True), lost, *edit]
            path = tmp_path / f"{rule}{len(edit)}"
            replay = await played(path, *acts, systems=("a", "b", "c"), deletes=deletes)
            assert {name: len(system.records) for name, system in replay.systems.items()} == {"a": 0, "b": 1, "c": 0}


async def test_a_create_that_was_given_up_ends_with_the_last_copy_of_its_record(tmp_path: Path) -> None:
    begin = [("add", "b", "t0", ()), RUN, ("split", "b", "t0", True), RUN]
    acts = [*begin, ("remove", "b", "t0"), ("discard", 0)]
    replay = await played(tmp_path, *acts, traits={"a": Traits(unique=("m",))})
    assert shown(replay, "m") == {"a": ["t0"], "b": ["t0"]}


async def test_what_is_in_doubt_is_told_beside_a_record_that_is_nowhere_but_in_a_dead_letter(tmp_path: Path) -> None:
    edited = ("run", Doing(meanwhile={14: (("edit", "a", "t0", "y", "new"),)}))
    acts = [("add", "b", "t0", ()), RUN, ("split", "a", "t0", True), edited, ("remove", "b", "t0")]
    replay = await played(tmp_path, *acts, traits={"a": Traits(unique=("m",))})
    assert shown(replay, "m") == {"a": ["t0"], "b": ["t0"]}


@pytest.mark.parametrize("how", ["a", "b", "policy", "value"])
async def test_a_value_that_did_not_compete_is_told_when_a_person_ends_the_conflict(tmp_path: Path, how: str) -> None:
    met = [("add", "a", "t0", ("x",)), ("add", "b", "t0", ("x",)), ("add", "c", "t0", ("x",)), RUN]
    edits = [("edit", "a", "t0", "x", "new"), ("edit", "b", "t0", "x", "new"), ("down", "c"), RUN, ("up", "c")]
    manual = {"x": {"onConflict": "Manual"}}
    acts = [*met, *edits, RUN, ("resolve", 0, how)]
    replay = await played(tmp_path, *acts, systems=("a", "b", "c"), firstSync="FillEmptyOnly", fields=manual)
    assert len({value for (value,) in shown(replay, "x").values()}) == 1
    (told,) = [f["values"] for f in replay.findings if f["kind"] == "Resolved"]
    assert [told[name] for name in "abc"] == ["x4-abc", "x5-abc", "x3-abc"]


async def test_what_arrived_without_an_answer_is_no_edit_after_nobody_owned_it(tmp_path: Path) -> None:
    owned = {"y": {"systemOfRecordWhen": {"when": "record.x == 'out'", "then": "a"}}}
    only_y = {"name": "b", "fields": {"m": "m", "y": "y"}}
    systems = ({"name": "a", "access": "ReadOnly"}, only_y, "c", {"name": "d", "access": "WriteOnly"})
    traits = {name: Traits(changes=False, deletions=False, tells=name in "cd") for name in "abcd"}
    begin = [("add", "b", "t0", FIELDS), ("add", "d", "t0", FIELDS), ("run", Doing(faults={("d", 2): Fault.LOST}))]
    failing = ("run", Doing(faults={("d", 1): Fault.TRANSIENT}))
    acts = [*begin, ("edit", "b", "t0", "y", "new"), ("add", "a", "t0", FIELDS), failing]
    replay = await played(tmp_path, *acts, systems=systems, traits=traits, fields=owned)
    assert shown(replay, "y") == {name: ["y6-abc"] for name in "abcd"}


async def test_what_one_system_had_before_an_undone_merge_takes_nothing_from_another_one(tmp_path: Path) -> None:
    clash: list[Act] = [("edit", "a", "t0", "y", "new"), ("edit", "b", "t0", "y", "new")]
    acts = [("add", "a", "t0", FIELDS), RUN, *clash, RUN, *clash, ("undo", 1, False)]
    merge = {"y": {"onConflict": "Merge"}}
    replay = await played(tmp_path, *acts, kind="tags", fields=merge)
    assert shown(replay, "y") == {name: [["y4-abc", "y5-abc", "y6-abc"]] for name in "ab"}


async def test_an_owner_that_is_found_at_last_and_says_nothing_keeps_nobody_apart(tmp_path: Path) -> None:
    rule = {"whenEmpty": "Keep", "systemOfRecordWhen": {"when": "record.x < 'x5'", "then": "a"}}
    begin = [("add", "a", "t0", ()), RUN, ("edit", "b", "t0", "y", "new"), RUN]
    clash = [("edit", name, "t0", field, "new") for name, field in (("b", "y"), ("c", "y"), ("a", "x"))]
    replay = await played(tmp_path, *begin, *clash, systems="abcd", fields={"y": rule})
    assert shown(replay, "y") == {name: ["y2-abc"] for name in "abcd"}


async def test_a_lossy_system_keeps_an_edit_that_is_undone_elsewhere(tmp_path: Path) -> None:
    edit, undo = ("edit", "a", "t0", "x", "new"), ("undo", 1, False)
    replay = await played(tmp_path, ("add", "b", "t0", ("x",)), RUN, edit, RUN, undo, lossy={"a": "upper"})
    assert shown(replay, "x") == {"a": ["X2-ABC"], "b": ["x1-abc"]}


async def test_an_edit_that_was_never_seen_is_told_when_its_record_is_deleted_elsewhere(tmp_path: Path) -> None:
    """After a split the others meet anew in what was under way between them and the side that left."""
    edit = ("edit", "a", "t0", "x", "new")
    acts = [("add", "a", "t0", ("x",)), RUN, ("down", "b"), edit, RUN, ("remove", "b", "t0")]
    replay = await played(
        tmp_path,
        *acts,
        ("edit", "c", "t0", "x", "new"),
        ("split", "a", "t0", False),
        systems=("a", "b", "c"),
        traits={name: Traits(changes=False, deletions=False) for name in "abc"},
        deletes={"propagate": "FromAny", "guard": {"maxRecords": 100, "maxPercent": 100}},
    )
    assert shown(replay, "x") == {"a": ["x2-abc"], "b": [], "c": []}
    assert [f["values"] for f in replay.findings if f["kind"] == "Overwritten"] == [{"c": "x3-abc"}]


async def test_a_record_that_left_two_filters_at_once_is_not_waited_for_in_either(tmp_path: Path) -> None:
    """To decide about one, the other is looked at, which has left, too: its edits elsewhere must not wait for ever."""
    left = {"filter": 'x != "out"', "onLeave": "Delete"}
    systems = [{"name": "a", "access": "ReadOnly", **left}, "b", {"name": "c", **left}, "d"]
    edit = ("edit", "a", "t0", "x", "new")
    replay = await played(
        tmp_path,
        ("add", "a", "t0", FIELDS),
        ("run", Doing(meanwhile={3: (edit,)})),
        edit,
        RUN,
        edit,
        ("edit", "b", "t0", "x", "new"),
        ("edit", "a", "t0", "x", "out"),
        ("edit", "c", "t0", "x", "out"),
        systems=systems,
        traits={name: Traits(changes=False, deletions=False, tells=False) for name in "abcd"},
        fields={"x": {"systemOfRecord": "b", "edits": "SystemOfRecordOnly"}},
    )
    assert shown(replay, "x") == {"a": ["out"], "b": ["x6-abc"], "c": ["out"], "d": ["x6-abc"]}
