"""The conflict rules, on the real worker: what is kept, what waits, what is told, and that it comes to rest."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fairlead.model.health import Measured
from fairlead.state.history import Counts
from fairlead.testing.memory_system import Fault, Traits
from fairlead.worker.report import measured
from fairlead.worker.run import Kind
from support.desk import OneRecord

TAGS = {"type": "array", "items": {"type": "string"}, "uniqueItems": True}
TEXT = {"type": "string"}
NUMBER = {"type": "number"}
MERGE = {"fields": {"x": {"onConflict": "Merge"}}}
DELTA = {"fields": {"x": {"onConflict": "Merge", "merge": "Delta"}}}
BOTH: dict[str, dict[str, Any]] = {"crm": {}, "erp": {}}

Make = Callable[..., OneRecord]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def made(schema: dict[str, Any], systems: dict[str, dict[str, Any]] = BOTH, **spec: Any) -> OneRecord:
        return OneRecord(tmp_path / "state.db", {"x": schema}, systems, **spec)

    return made


async def agreed(desk: OneRecord, value: Any) -> OneRecord:
    """Every system was met, and has this value."""
    desk.enter(next(iter(desk.systems)), x=value)
    await desk.run()
    await desk.run(Kind.RESYNC)
    return desk


async def edited(desk: OneRecord, **values: Any) -> dict[str, Any]:
    """What systems say after these edits and two runs; the second has nothing to do."""
    for system, value in values.items():
        desk.enter(system, x=value)
    await desk.run()
    before = desk.writes()
    await desk.run(Kind.RESYNC)
    assert desk.writes() == before
    return desk.values("x")


# --- Merge ---


async def test_additions_and_removals_of_both_sides_are_kept(make: Make) -> None:
    desk = await agreed(make(TAGS, **MERGE), ["a", "b"])
    assert await edited(desk, crm=["a", "b", "c"], erp=["b", "d"]) == {key: ["b", "c", "d"] for key in ("crm", "erp")}


async def test_a_merge_goes_on_from_the_merged_value(make: Make) -> None:
    desk = await agreed(make(TAGS, **MERGE), ["a"])
    await edited(desk, crm=["a", "b"], erp=["a", "c"])
    assert await edited(desk, crm=["a", "b"], erp=["a", "b", "c", "d"]) == {
        key: ["a", "b", "d"] for key in ("crm", "erp")
    }


async def test_deltas_are_summed(make: Make) -> None:
    desk = await agreed(make(NUMBER, **DELTA), 10)
    assert await edited(desk, crm=15, erp=7) == {"crm": 12, "erp": 12}


async def test_what_two_systems_changed_to_the_same_is_counted_once(make: Make) -> None:
    desk = await agreed(make(NUMBER, **DELTA), 10)
    assert await edited(desk, crm=15, erp=15) == {"crm": 15, "erp": 15}


async def test_three_deltas_of_which_two_add_up_to_the_third_are_all_counted(make: Make) -> None:
    desk = await agreed(make(NUMBER, {"crm": {}, "erp": {}, "shop": {}}, **DELTA), 0)
    assert set((await edited(desk, crm=1, erp=2, shop=3)).values()) == {6}


async def test_text_is_merged_line_by_line_and_an_overlap_waits_for_a_person(make: Make) -> None:
    desk = await agreed(make(TEXT, **MERGE), "one\ntwo\nthree")
    assert set((await edited(desk, crm="ONE\ntwo\nthree", erp="one\ntwo\nTHREE")).values()) == {"ONE\ntwo\nTHREE"}
    assert await edited(desk, crm="1\ntwo\nTHREE", erp="I\ntwo\nTHREE") == {
        "crm": "1\ntwo\nTHREE",
        "erp": "I\ntwo\nTHREE",
    }
    assert await desk.frozen() == ["x"]
    rule = "onConflict: Merge: the same lines were changed in different ways"
    values = {"crm": "1\ntwo\nTHREE", "erp": "I\ntwo\nTHREE"}
    assert (await desk.audit())[-1] == ("Frozen", rule, "", values)


async def test_systems_that_agree_again_end_the_wait(make: Make) -> None:
    desk = await agreed(make(TEXT, **MERGE), "one")
    await edited(desk, crm="two", erp="three")
    assert await edited(desk, crm="three") == {"crm": "three", "erp": "three"}
    assert await desk.frozen() == []
    assert set((await edited(desk, erp="three\n")).values()) == {"three\n"}


async def test_the_audit_has_what_each_system_said_and_what_came_of_it(make: Make) -> None:
    desk = await agreed(make(TAGS, **MERGE), ["a"])
    await edited(desk, crm=["a", "b"], erp=["c"])
    values = {"crm": ["a", "b"], "erp": ["c"], "(merged)": ["b", "c"]}
    assert (await desk.audit())[-1] == ("Conflict", "onConflict: Merge", "(merged)", values)


async def test_only_the_last_value_of_a_merged_field_is_kept(make: Make, tmp_path: Path) -> None:
    desk = await agreed(make(TAGS, **MERGE), ["emerald"])
    await edited(desk, crm=["ruby"])
    assert await desk.bases() == {"x": [["ruby"]]}
    assert b"emerald" not in (tmp_path / "state.db").read_bytes()


async def test_no_value_of_other_fields_is_kept(make: Make) -> None:
    desk = await agreed(make(TAGS), ["first"])
    assert await desk.bases() == {}


async def test_a_rule_that_is_switched_on_reads_everything_once_and_then_merges(make: Make) -> None:
    desk = await agreed(make(TAGS), ["a", "b"])
    desk.policy = desk.policy_of(BOTH, **MERGE)
    await desk.run()
    assert await desk.bases() == {"x": [["a", "b"]]}
    assert await edited(desk, crm=["a"], erp=["a", "b", "c"]) == {key: ["a", "c"] for key in ("crm", "erp")}


async def test_edits_that_are_first_seen_after_the_rule_was_switched_on_wait_for_a_person(make: Make) -> None:
    desk = await agreed(make(TAGS), ["a", "b"])
    desk.policy = desk.policy_of(BOTH, **MERGE)
    assert await edited(desk, crm=["a"], erp=["a", "b", "c"]) == {"crm": ["a"], "erp": ["a", "b", "c"]}
    assert (await desk.audit())[-1][1] == "onConflict: Merge: the value before the edit in crm is not known"
    assert await desk.frozen() == ["x"]


async def test_edits_on_both_sides_of_an_outage_are_merged(make: Make) -> None:
    desk = await agreed(make(TAGS, **MERGE), ["a"])
    desk.systems["erp"].faults = {desk.systems["erp"].calls + n: Fault.TRANSIENT for n in range(1, 9)}
    desk.enter("crm", x=["a", "b"])
    await desk.run()
    desk.systems["erp"].faults = {}
    desk.enter("erp", x=["c"])
    desk.now += 3600
    assert await edited(desk) == {key: ["b", "c"] for key in ("crm", "erp")}


@pytest.mark.parametrize("fault", [Fault.LOST, Fault.HUNG_UP])
async def test_a_count_whose_arrival_is_not_sure_is_never_counted_twice(make: Make, fault: Fault) -> None:
    desk = await agreed(make(NUMBER, traits={"erp": Traits(find=False)}, **DELTA), 10)
    desk.enter("crm", x=15)
    erp = desk.systems["erp"]
    erp.faults = {erp.calls + n: fault for n in range(1, 9)}
    await desk.run()
    erp.faults = {}
    assert desk.values("x") == {"crm": 15, "erp": 15}
    desk.enter("erp", x=18)
    desk.now += 3600
    assert await edited(desk) == {"crm": 15, "erp": 18}
    rule = "onConflict: Merge: the answer to an earlier write to erp was lost, so its count is not sure"
    assert [entry[1] for entry in await desk.audit()] == [rule]


async def test_a_merge_takes_in_what_a_read_only_system_adds(make: Make) -> None:
    desk = await agreed(make(TAGS, {"crm": {}, "erp": {}, "old": {"access": "ReadOnly"}}, **MERGE), ["a"])
    desk.enter("old", x=["a"])
    await desk.run()
    await edited(desk, crm=["a", "b"])
    assert await edited(desk, old=["a", "c"]) == {"crm": ["a", "b", "c"], "erp": ["a", "b", "c"], "old": ["a", "c"]}
    assert await edited(desk, crm=["b", "c"], old=["a", "c", "d"]) == {
        "crm": ["b", "c", "d"],
        "erp": ["b", "c", "d"],
        "old": ["a", "c", "d"],
    }


async def test_a_merge_that_would_break_the_schema_waits_for_a_person(make: Make) -> None:
    desk = await agreed(make({**TAGS, "maxItems": 2}, **MERGE), ["a"])
    await edited(desk, crm=["a", "b"], erp=["a", "c"])
    assert (await desk.audit())[-1][
        1
    ] == "onConflict: Merge: what comes of it breaks 'maxItems: 2' of the policy's schema"


# --- Expression ---


def computed(source: str) -> dict[str, Any]:
    return {"fields": {"x": {"onConflict": "Expression", "onConflictExpression": source}}}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("values[systems[0]]", 15),
        ("values.erp", 7),
        ("math.greatest(values.crm, values.erp) + 0", 15),
        ("base", 10),
        ("values.crm + values.erp - base", 12),
        ("modified.crm > modified.erp ? values.crm : values.erp", 7),
        ("null", None),
    ],
)
async def test_an_expression_computes_the_value(make: Make, source: str, expected: Any) -> None:
    desk = await agreed(make(NUMBER, **computed(source)), 10)
    assert await edited(desk, crm=15, erp=7) == {"crm": expected, "erp": expected}


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("values.shop", "'values.shop' failed: an attribute is not there; guard it with has(a.b)"),
        ("1 / 0", "'1 / 0' failed: division by zero"),
        ("'many'", "what comes of it must be a number, not text"),
        ("values.crm + 100", "what comes of it breaks 'maximum: 99' of the policy's schema"),
    ],
)
async def test_what_an_expression_cannot_decide_waits_for_a_person(make: Make, source: str, why: str) -> None:
    desk = await agreed(make({**NUMBER, "maximum": 99}, **computed(source)), 10)
    assert await edited(desk, crm=15, erp=7) == {"crm": 15, "erp": 7}
    assert (await desk.frozen(), (await desk.audit())[-1][1]) == (["x"], f"onConflict: Expression: {why}")


async def test_an_expression_that_was_mended_decides_when_the_record_changes_next(make: Make) -> None:
    desk = await agreed(make(NUMBER, **computed("1 / 0")), 10)
    await edited(desk, crm=15, erp=7)
    desk.policy = desk.policy_of(BOTH, **computed("values.crm"))
    assert await edited(desk, erp=8) == {"crm": 15, "erp": 15}
    assert await desk.frozen() == []


async def test_a_value_that_was_chosen_keeps_every_digit(make: Make) -> None:
    desk = await agreed(make(TEXT | {"type": "number"}, **computed("values.erp")), "1")
    await edited(desk, crm="2", erp="0.12345678901234567890123")
    assert desk.values("x")["erp"] == "0.12345678901234567890123"
    assert str(desk.values("x")["crm"]) == "0.12345678901234567890123"


# --- owners that depend on the record ---

REGION = {"type": "string"}
OWNED = {"when": "record.region == 'EU'", "then": "erp"}


def regional(tmp_path: Path, **rule: Any) -> OneRecord:
    fields = {"x": {"systemOfRecordWhen": OWNED, **rule}}
    return OneRecord(tmp_path / "state.db", {"x": TEXT, "region": REGION}, BOTH, fields=fields)


@pytest.mark.parametrize(("region", "winner"), [("EU", "erp"), ("US", "crm"), (None, "crm")])
async def test_the_owner_is_as_the_record_says(tmp_path: Path, region: str | None, winner: str) -> None:
    desk = regional(tmp_path)
    desk.enter("crm", x="old", region=region)
    await desk.run()
    await desk.run(Kind.RESYNC)
    assert await edited(desk, crm="by crm", erp="by erp") == dict.fromkeys(("crm", "erp"), f"by {winner}")


async def test_the_record_is_read_to_know_who_owns_the_field(tmp_path: Path) -> None:
    desk = regional(tmp_path, edits="SystemOfRecordOnly")
    desk.enter("crm", x="old", region="EU")
    await desk.run()
    await desk.run(Kind.RESYNC)
    assert await edited(desk, erp="by erp") == {"crm": "by erp", "erp": "by erp"}
    assert await edited(desk, crm="by crm") == {"crm": "by erp", "erp": "by erp"}


async def test_an_owner_that_cannot_be_told_waits_for_a_person(tmp_path: Path) -> None:
    fields = {"x": {"systemOfRecordWhen": {"when": "record.region.startsWith('E')", "then": "erp"}}}
    desk = OneRecord(tmp_path / "state.db", {"x": TEXT, "region": REGION}, BOTH, fields=fields)
    desk.enter("crm", x="old", region=None)
    await desk.run()
    await desk.run(Kind.RESYNC)
    assert await edited(desk, crm="by crm") == {"crm": "by crm", "erp": "old"}
    kind, rule, *_ = (await desk.audit())[-1]
    assert (kind, rule.startswith("systemOfRecordWhen: ")) == ("Frozen", True)
    desk.enter("crm", region="EU")
    assert await edited(desk) == {"crm": "old", "erp": "old"}
    assert await desk.frozen() == []


# --- times ---


async def test_the_time_of_a_field_counts_before_that_of_its_record(tmp_path: Path) -> None:
    timed = {"fields": {"x": {"path": "x", "modified": "x_at"}}}
    rules = {"fields": {"x": {"onConflict": "LatestWins"}}}
    desk = OneRecord(tmp_path / "state.db", {"x": TEXT}, {"crm": timed, "erp": timed}, **rules)
    desk.enter("crm", x="old", x_at="2026-01-01T00:00:00Z")
    await desk.run()
    await desk.run(Kind.RESYNC)
    desk.enter("erp", x="newer", x_at="2026-01-01T12:02:00Z")
    desk.enter("crm", x="older", x_at="2026-01-01T12:01:00Z")  # the record itself was touched last
    await desk.run()
    assert desk.values("x") == {"crm": "newer", "erp": "newer"}


@pytest.mark.parametrize("versions", [True, False])
async def test_a_write_of_ours_makes_no_edit_look_newer(tmp_path: Path, versions: bool) -> None:
    """Who wrote to a record last is all that its time tells: what was edited there is decided before it is written."""
    systems: dict[str, dict[str, Any]] = {"shop": {"fields": {}}, "crm": {}, "erp": {}}
    properties, traits = {"x": TEXT, "y": TEXT}, {name: Traits(versions=versions) for name in systems}
    spec = {"systemOfRecord": "erp", "onConflict": "LatestWins"}
    desk = OneRecord(tmp_path / "state.db", properties, systems, traits=traits, **spec)
    desk.enter("shop", x="old", y="old")
    await desk.run()
    await desk.run(Kind.RESYNC)
    desk.enter("erp", x="first")
    desk.enter("crm", x="last")
    desk.enter("shop", y="another")  # read first, so written to both
    await desk.run()
    assert desk.values("x") == dict.fromkeys(systems, "last")
    assert desk.values("y") == dict.fromkeys(systems, "another")


async def test_a_clock_that_is_ahead_is_told_once_a_run_and_stands_in_the_status(make: Make) -> None:
    ahead = Traits(skew=timedelta(minutes=30))
    desk = await agreed(make(TEXT, traits={"erp": ahead}, fields={"x": {"onConflict": "LatestWins"}}), "old")
    desk.enter("erp", x="by erp")
    desk.enter("crm", x="by crm")
    report = await desk.run()
    said = (
        "its clock is 28 minutes ahead, so its times decide nothing: LatestWins goes by priority until it is set right"
    )
    assert [(n.kind, n.record, n.rule) for n in report.tally.notes if n.kind == "ClockSkew"] == [
        ("ClockSkew", "erp", said)
    ]
    assert desk.values("x") == {"crm": "by crm", "erp": "by crm"}
    counts = Counts(1, 0, 0, 0, 0)
    status = measured(Measured(), 1, report, counts, [])
    assert [(s.name, s.reachable, s.reason) for s in status.systems] == [("crm", True, ""), ("erp", True, "ClockSkew")]
    quiet = measured(status, 1, await desk.run(), counts, [])
    assert [s.reason for s in quiet.systems] == ["", "ClockSkew"]


# --- lossy systems ---


def upper(_: str, value: object) -> object:
    return value.upper() if isinstance(value, str) else value


def cut(_: str, value: object) -> object:
    return value[:5] if isinstance(value, str) else value


@pytest.mark.parametrize("tells", [True, False])
@pytest.mark.parametrize("stored", [upper, cut])
async def test_a_lossy_field_is_told_once_and_comes_to_rest(make: Make, stored: Any, tells: bool) -> None:
    desk = await agreed(make(TEXT, stored={"erp": stored}, traits={"erp": Traits(tells=tells)}), "first value")
    kept = stored("x", "first value")
    assert await edited(desk) == {"crm": "first value", "erp": kept}
    assert await edited(desk, crm="second value") == {"crm": "second value", "erp": stored("x", "second value")}
    lossy = [entry for entry in await desk.audit() if entry[0] == "LossyField"]
    rule = "erp stores it otherwise than it was written: that counts as seen, and is not written again"
    assert lossy == [("LossyField", rule, "erp", {"(written)": "first value", "erp": kept})]


@pytest.mark.parametrize("tells", [True, False])
async def test_an_edit_in_a_lossy_system_still_counts(make: Make, tells: bool) -> None:
    desk = await agreed(make(TEXT, stored={"erp": upper}, traits={"erp": Traits(tells=tells)}), "first")
    assert await edited(desk, erp="THIRD") == {"crm": "THIRD", "erp": "THIRD"}


async def test_an_edit_between_a_write_and_the_look_at_it_is_an_edit(make: Make) -> None:
    desk = await agreed(make(TEXT, traits={"erp": Traits(tells=False)}), "first")
    erp = desk.systems["erp"]
    before = len(erp.writes)

    def edit_at_once(_: str) -> None:
        if len(erp.writes) > before:
            erp.moment = lambda _: None
            desk.enter("erp", x="by a user")

    erp.moment = edit_at_once
    desk.enter("crm", x="second")
    await desk.run()
    assert await edited(desk) == {"crm": "by a user", "erp": "by a user"}


@pytest.mark.parametrize("fault", [Fault.LOST, Fault.HUNG_UP])
async def test_what_a_lossy_system_made_of_a_write_whose_answer_was_lost_is_no_edit(make: Make, fault: Fault) -> None:
    rules = {"fields": {"x": {"onConflict": "Manual"}}}
    desk = await agreed(make(TEXT, stored={"erp": upper}, **rules), "first")
    erp = desk.systems["erp"]
    erp.faults = {erp.calls + n: fault for n in range(1, 9)}
    desk.enter("crm", x="second")
    await desk.run()
    erp.faults = {}
    desk.now += 3600
    assert await edited(desk) == {"crm": "second", "erp": "SECOND"}
    assert await desk.frozen() == []
    assert not {"Conflict", "Frozen"} & {kind for kind, *_ in await desk.audit()}
