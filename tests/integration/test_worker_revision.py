"""The policy permits less than before while writes still wait: nothing else is written, and everything goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from fairlead.engine.case import Operation, Write
from fairlead.engine.rules import compile_rules
from fairlead.model.connector import ErrorClass
from fairlead.state.base import Commit, Intent, Recollection, Undelivered
from fairlead.transport.failure import Transient
from fairlead.worker.revision import revise
from fairlead.worker.run import Kind, Outcome
from support.desk import OneRecord

SYSTEMS: dict[str, dict[str, Any]] = {"crm": {}, "erp": {}}
READ_ONLY: dict[str, dict[str, Any]] = {"crm": {}, "erp": {"access": "ReadOnly"}}
TEXTS = {"x": {"type": "string"}, "y": {"type": "string"}}


def desk_of(path: Path, **spec: Any) -> OneRecord:
    return OneRecord(path / "state.db", TEXTS, SYSTEMS, **spec)


async def waiting(desk: OneRecord) -> dict[str, Write]:
    """What is undelivered, by system."""
    items = await (await desk.session()).store.undelivered_after()
    await desk.stop()
    return {item.system: item.write for item in items}


async def refused(desk: OneRecord) -> None:
    """The next writes to erp are refused, and become dead letters."""
    desk.systems["erp"].refuses = lambda _: "refused"
    await desk.run()
    desk.systems["erp"].refuses = lambda _: ""


@pytest.mark.parametrize("kind", Kind)
async def test_an_update_that_waits_is_not_written_where_the_system_became_read_only(
    tmp_path: Path, kind: Kind
) -> None:
    desk = desk_of(tmp_path)
    desk.enter("crm", x="old", y="old")
    await desk.run()
    desk.enter("crm", x="new")
    await refused(desk)
    desk.policy = desk.policy_of(READ_ONLY)
    await desk.run(kind)
    assert (desk.values("x"), await waiting(desk)) == ({"crm": "new", "erp": "old"}, {})


async def test_a_create_that_waits_is_not_done_where_the_system_became_read_only(tmp_path: Path) -> None:
    desk = desk_of(tmp_path)
    desk.enter("crm", x="new")
    await refused(desk)
    desk.policy = desk.policy_of(READ_ONLY)
    await desk.run()
    assert (desk.values("x"), await waiting(desk)) == ({"crm": "new"}, {})
    desk.policy = desk.policy_of(SYSTEMS)
    await desk.run(Kind.RESYNC)
    assert desk.values("x") == {"crm": "new", "erp": "new"}


async def test_a_delete_that_is_held_back_is_not_done_where_the_system_became_read_only(tmp_path: Path) -> None:
    none, any_ = ({"guard": {"maxRecords": number, "maxPercent": 100}} for number in (0, 100))
    desk = desk_of(tmp_path, deletes=none)
    desk.enter("crm", x="old")
    await desk.run()
    desk.delete("crm")
    assert (await desk.run()).outcome is Outcome.HALTED
    desk.policy = desk.policy_of(READ_ONLY, deletes=any_)
    assert (await desk.run()).outcome is Outcome.SUCCEEDED
    assert (desk.values("x"), await waiting(desk)) == ({"erp": "old"}, {})


async def test_what_may_have_been_sent_before_a_crash_is_not_sent_again_where_the_system_became_read_only(
    tmp_path: Path,
) -> None:
    desk = desk_of(tmp_path)
    desk.enter("crm", x="old")
    await desk.run()
    store = (await desk.session()).store
    write = Write(Operation.UPDATE, {"x": "new"}, {"x": "crm"})
    await store.commit(Commit(journal={7: [Intent(1, "erp", write, run="r")]}))
    await desk.stop()
    desk.policy = desk.policy_of(READ_ONLY)
    await desk.run()
    assert (desk.values("x"), desk.systems["erp"].writes[1:]) == ({"crm": "old", "erp": "old"}, [])


async def test_a_field_that_is_only_read_from_now_on_is_left_out_of_what_waits(tmp_path: Path) -> None:
    desk = desk_of(tmp_path)
    desk.enter("crm", x="old", y="old")
    await desk.run()
    desk.enter("crm", x="new", y="new")
    await refused(desk)
    desk.policy = desk.policy_of({"crm": {}, "erp": {"fields": {"x": {"read": "x"}}}})
    await desk.run()
    assert (desk.values("x"), desk.values("y")) == ({"crm": "new", "erp": "old"}, {"crm": "new", "erp": "new"})


async def test_a_field_that_left_the_policy_while_it_waited_stops_nothing(tmp_path: Path) -> None:
    desk = desk_of(tmp_path, fields={"y": {"onConflict": "Manual"}})
    desk.enter("crm", x="old", y="old")
    await desk.run()
    desk.enter("crm", x="new", y="new")
    desk.systems["erp"].down = Transient("erp is down")
    await desk.run()
    desk.systems["erp"].down = None
    desk.undeclare("y")
    desk.policy = desk.policy_of(SYSTEMS)
    assert [(await desk.run(kind)).outcome for kind in Kind] == [Outcome.SUCCEEDED] * 2
    assert (desk.values("x"), desk.values("y")) == ({"crm": "new", "erp": "new"}, {"crm": "new", "erp": "old"})


async def test_a_conflict_of_a_field_that_left_the_policy_waits_for_nobody(tmp_path: Path) -> None:
    desk = desk_of(tmp_path, fields={"y": {"onConflict": "Manual"}})
    desk.enter("crm", y="old")
    await desk.run()
    desk.enter("crm", y="crm's")
    desk.enter("erp", y="erp's")
    await desk.run()
    assert await desk.frozen() == ["y"]
    desk.undeclare("y")
    desk.policy = desk.policy_of(SYSTEMS)
    assert (await desk.run()).outcome is Outcome.SUCCEEDED
    assert await desk.frozen() == []


async def test_of_a_create_it_stays_known_that_it_may_have_been_done(tmp_path: Path) -> None:
    desk = desk_of(tmp_path)
    desk.enter("crm", x="new")
    await desk.run()
    store = (await desk.session()).store
    write = Write(Operation.CREATE, {"x": "new", "y": "r1"}, {"x": "crm", "y": "crm"})
    item = Undelivered(1, "erp", write, 1.0, 2.0, 1, ErrorClass.TRANSIENT.value, "no answer came", dead=True)
    await store.commit(Commit(records=[Recollection(1, {})], pending=[item]))
    await revise(store, compile_rules(desk.policy.spec), {"y": "default/others"})
    (left,) = await store.undelivered_after()
    await desk.stop()
    less = Write(Operation.CREATE, {"x": "new"}, {"x": "crm"})
    assert left == msgspec.structs.replace(item, write=less, not_before=0.0)
