"""A run over two real databases: what a user sees when systems are edited."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fairlead.connectors.sqlite import SQLiteDatabase
from fairlead.state.base import Store
from fairlead.testing.store.sample import all_conflicts, all_letters
from fairlead.worker.planning import Plan, PlannedWrite
from fairlead.worker.run import Kind, Outcome, Run, RunReport
from support.policies import Book, connection_of, open_session, policy_of
from support.stores import Place


class World:
    """Two books, `crm` (the system of record) and `erp`, and one policy over them."""

    def __init__(self, folder: Path, place: Place) -> None:
        self.place = place
        self.crm, self.erp = Book(folder, "crm"), Book(folder, "erp")
        self.now = 1_800_000_000.0
        self.store: Store | None = None

    async def run(
        self, kind: Kind = Kind.CHANGES, *, approved: str = "", plan: Plan | None = None, **spec
    ) -> RunReport:
        """One run by a worker that starts for it and stops after it."""
        systems = spec.pop("systems", [{"name": "crm", "modified": "changed"}, {"name": "erp"}])
        self.store = self.place.store(scratch=plan is not None)
        clients = {"crm": self.crm.client, "erp": self.erp.client}
        self.now += 60
        session = await open_session(policy_of(systems, **spec), clients, self.store, lambda: self.now, plan)
        try:
            return await Run(session, kind, approved=approved).run()
        finally:
            self.counts = await self.store.counts()
            self.conflicts = await all_conflicts(self.store)
            self.letters = await all_letters(self.store)
            await self.store.close()


@pytest.fixture
async def world(tmp_path: Path, place: Place) -> AsyncIterator[World]:
    made = World(tmp_path, place)
    yield made
    await made.crm.close()
    await made.erp.close()


async def test_what_only_one_system_has_is_created_in_the_other(world: World) -> None:
    world.crm.add("a@x.com", name="A", credit=10.5)
    world.erp.add("b@x.com", name="B")
    await world.run()
    assert world.erp.all() == {"a@x.com": ("A", 10.5, None), "b@x.com": ("B", None, None)}
    assert world.crm.all() == world.erp.all()


async def test_a_second_run_writes_nothing(world: World) -> None:
    world.crm.add("a@x.com", name="A")
    await world.run()
    report = await world.run(Kind.RESYNC)
    assert (report.outcome, report.tally.counts()["changed"]) == (Outcome.SUCCEEDED, 0)


async def test_records_that_match_are_linked_and_the_owner_fills_and_overwrites(world: World) -> None:
    world.crm.add("a@x.com", name="Right", note=None)
    world.erp.add("A@x.com ", name="Wrong", note="kept")
    await world.run()
    assert world.crm.all() == {"a@x.com": ("Right", None, "kept")}
    assert world.erp.all() == {"a@x.com": ("Right", None, "kept")}


async def test_an_edit_on_either_side_reaches_the_other(world: World) -> None:
    world.crm.add("a@x.com", name="A")
    await world.run()
    world.crm.edit("a@x.com", name="A1")
    world.erp.edit("a@x.com", note="from erp")
    await world.run()
    assert world.crm.all() == world.erp.all() == {"a@x.com": ("A1", None, "from erp")}


async def test_the_system_of_record_wins_a_conflict_and_the_audit_says_so(world: World) -> None:
    world.crm.add("a@x.com", name="A")
    await world.run()
    world.crm.edit("a@x.com", name="crm")
    world.erp.edit("a@x.com", name="erp")
    report = await world.run()
    assert world.erp.all()["a@x.com"][0] == "crm"
    assert [(n.kind, n.field, n.winner) for n in report.tally.notes] == [("Conflict", "name", "crm")]


async def test_a_manual_conflict_waits_and_ends_when_the_systems_agree(world: World) -> None:
    rules = {"fields": {"note": {"onConflict": "Manual"}}}
    world.crm.add("a@x.com", name="A", note="n")
    await world.run(**rules)
    world.crm.edit("a@x.com", note="x", name="A1")
    world.erp.edit("a@x.com", note="y")
    await world.run(**rules)
    assert (world.crm.all()["a@x.com"], world.erp.all()["a@x.com"]) == (("A1", None, "x"), ("A1", None, "y"))
    assert [c.values for c in world.conflicts] == [{"crm": "x", "erp": "y"}]
    world.erp.edit("a@x.com", note="x")
    await world.run(**rules)
    assert world.conflicts == []


async def test_an_edit_outside_the_owner_is_reverted(world: World) -> None:
    rules = {"fields": {"credit": {"systemOfRecord": "erp", "edits": "SystemOfRecordOnly"}}}
    world.crm.add("a@x.com", credit=1)
    await world.run(**rules)
    world.crm.edit("a@x.com", credit=999)
    await world.run(**rules)
    assert (world.crm.all()["a@x.com"][1], world.erp.all()["a@x.com"][1]) == (1, 1)


async def test_an_emptied_field_is_kept_elsewhere(world: World) -> None:
    rules = {"fields": {"note": {"whenEmpty": "Keep"}}}
    world.crm.add("a@x.com", note="n")
    await world.run(**rules)
    world.crm.edit("a@x.com", note="")
    await world.run(**rules)
    assert world.erp.all()["a@x.com"][2] == "n"


async def test_a_delete_in_the_system_of_record_spreads(world: World) -> None:
    world.crm.add("a@x.com")
    world.crm.add("b@x.com")
    await world.run()
    world.crm.remove("a@x.com")
    await world.run(Kind.RESYNC)
    assert list(world.erp.all()) == ["b@x.com"]


async def test_a_delete_elsewhere_is_kept_where_it_happened(world: World) -> None:
    world.crm.add("a@x.com")
    world.crm.add("b@x.com")
    await world.run()
    world.erp.remove("a@x.com")
    await world.run()
    world.crm.edit("a@x.com", name="edited later")
    await world.run(Kind.RESYNC)
    assert (list(world.crm.all()), list(world.erp.all())) == (["a@x.com", "b@x.com"], ["b@x.com"])


async def test_an_update_wins_over_a_delete(world: World) -> None:
    world.crm.add("a@x.com", name="A")
    world.crm.add("b@x.com", name="B")
    await world.run()
    world.crm.remove("a@x.com")
    world.erp.edit("a@x.com", name="edited")
    await world.run(Kind.RESYNC)
    assert world.crm.all()["a@x.com"][0] == world.erp.all()["a@x.com"][0] == "edited"


async def remove_fifteen_of_twenty(world: World) -> None:
    """Twenty records that both have, of which the CRM then deletes fifteen."""
    for n in range(20):
        world.crm.add(f"{n}@x.com")
    await world.run()
    for n in range(15):
        world.crm.remove(f"{n}@x.com")


async def test_the_guard_holds_deletes_back_until_their_plan_is_approved(world: World) -> None:
    await remove_fifteen_of_twenty(world)
    halted = await world.run(Kind.RESYNC)
    assert halted.halt is not None
    assert (halted.outcome, halted.halt.writes, len(world.erp.all())) == (Outcome.HALTED, 15, 20)
    released = await world.run(Kind.RESYNC, approved=halted.halt.plan)
    assert (released.outcome, len(world.erp.all())) == (Outcome.SUCCEEDED, 5)


async def test_a_plan_says_how_many_writes_the_guard_would_hold_back(world: World) -> None:
    await remove_fifteen_of_twenty(world)
    planned = await world.run(Kind.RESYNC, plan=Plan())
    assert planned.halt is not None
    assert planned.halt.message.startswith(
        "15 deletes and overwrites would be held back (limit 10): the plan names them"
    )


async def test_a_plan_names_the_id_by_which_a_system_that_reads_empty_is_then_approved(world: World) -> None:
    world.crm.add("a@x.com")
    await world.run()
    world.crm.remove("a@x.com")
    planned = await world.run(Kind.RESYNC, plan=Plan())
    assert planned.halt is not None
    released = await world.run(Kind.RESYNC, approved=planned.halt.plan)
    assert (released.outcome, world.erp.all()) == (Outcome.SUCCEEDED, {})


async def test_a_system_that_suddenly_reads_empty_deletes_nothing(world: World) -> None:
    world.crm.add("a@x.com")
    await world.run()
    world.crm.remove("a@x.com")
    report = await world.run(Kind.RESYNC)
    assert (report.outcome, list(world.erp.all())) == (Outcome.HALTED, ["a@x.com"])


async def test_a_record_that_breaks_the_contract_is_a_dead_letter_and_stops_no_other(world: World) -> None:
    world.crm.add("a@x.com", name="A")
    world.crm.add("b@x.com", name="B" * 200)
    await world.run()
    assert list(world.erp.all()) == ["a@x.com"]
    assert [(letter.reason, letter.message) for letter in world.letters] == [
        ("ContractBroken", "field name breaks 'maxLength: 120' of the policy's schema")
    ]


async def test_two_records_with_one_match_key_are_never_guessed(world: World) -> None:
    world.erp.add("a@x.com", name="one")
    world.erp.add("A@x.com", name="two")
    world.crm.add("a@x.com ", name="crm")
    await world.run()
    assert {name for name, *_ in world.erp.all().values()} == {"one", "two"}
    assert len(world.crm.all()) == 1
    assert sorted(letter.reason for letter in world.letters) == ["Ambiguous", "Duplicate"]


async def test_a_plan_writes_nothing_and_names_every_write(world: World) -> None:
    world.crm.add("a@x.com", name="A")
    plan = Plan()
    await world.run(plan=plan)
    assert world.erp.all() == {}
    assert [(w.system, w.operation) for w in plan.writes] == [("erp", "Create")]
    await world.run()
    assert list(world.erp.all()) == ["a@x.com"]


async def test_a_plan_of_an_edit_names_its_one_write(world: World) -> None:
    """Whichever side is read last: what is planned for it must not look like an edit there."""
    world.crm.add("a@x.com", name="A")
    await world.run()
    world.erp.edit("a@x.com", name="B")
    plan, resync = Plan(), Plan()
    report = await world.run(plan=plan)
    await world.run(Kind.RESYNC, plan=resync)
    assert plan.writes == resync.writes == [PlannedWrite("crm", "Update", plan.writes[0].key, ("name",))]
    assert report.tally.notes == []


async def test_a_refused_row_is_a_dead_letter_with_the_databases_own_words(world: World) -> None:
    world.erp.database.executescript(
        "CREATE TRIGGER no BEFORE INSERT ON customer WHEN new.name = 'bad' "
        "BEGIN SELECT raise(ABORT, 'no bad names'); END"
    )
    world.crm.add("a@x.com", name="bad")
    world.crm.add("b@x.com", name="good")
    report = await world.run()
    assert list(world.erp.all()) == ["b@x.com"]
    assert world.counts.dead == 1
    assert "no bad names" in report.tally.notes[0].rule
    world.crm.edit("a@x.com", name="better")
    await world.run()
    assert (sorted(world.erp.all()), world.counts.dead) == (["a@x.com", "b@x.com"], 0)


async def test_a_system_that_is_down_gets_its_writes_when_it_is_back(world: World) -> None:
    world.crm.add("a@x.com", name="A")
    await world.run()
    hidden = world.erp.path.rename(world.erp.path.with_suffix(".away"))
    await world.erp.client.close()
    world.erp.client = SQLiteDatabase(connection_of("erp", f"sqlite:///{world.erp.path}"))
    world.crm.edit("a@x.com", name="A1")
    world.crm.add("b@x.com", name="B")
    report = await world.run()
    assert (report.outcome, world.counts.pending) == (Outcome.PARTIAL, 2)
    hidden.rename(world.erp.path)
    world.now += 3600
    await world.run()
    assert (
        world.counts.pending,
        world.erp.database.execute("SELECT name FROM customer ORDER BY email").fetchall(),
    ) == (
        0,
        [("A1",), ("B",)],
    )
