"""What a run wrote is undone: the systems hold what they held before, and the next run finds nothing to do."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from fairlead.connectors.base import Client
from fairlead.state.audit import AuditQuery
from fairlead.state.base import Commit
from fairlead.state.requests import Answer, Demand, Link, ResolveConflicts, Split, Undo, mark_of, request
from fairlead.worker.reversal import Reversals
from fairlead.worker.run import Kind, Outcome, Run, RunReport
from fairlead.worker.session import Session
from support.policies import Book, open_session, policy_of
from support.stores import Place

KEY = b"k" * 32
SEALED: dict[str, Any] = {"encryptionKey": {"secretKeyRef": {"name": "sealing", "key": "keys"}}}
MODIFIED = {"modified": "changed"}
SYSTEMS: list[dict[str, Any]] = [{"name": "crm", **MODIFIED}, {"name": "erp", **MODIFIED}, {"name": "shop", **MODIFIED}]
NO_VALUES = "it was kept without values: give state.encryptionKey to keep them from now on"


class Died(BaseException):
    """The process is gone."""


class Dying:
    """A store that dies just before or just after its nth commit, of those alone that journal writes where so asked."""

    def begin(self, nth: int, after: bool, journaling: bool = False) -> None:
        self._left, self._after, self._journaling = nth, after, journaling

    async def commit(self, commit: Commit) -> None:
        if self._journaling and not commit.journal:
            await super().commit(commit)  # type: ignore[misc]
            return
        self._left -= 1
        if self._left == 0 and not self._after:
            raise Died
        await super().commit(commit)  # type: ignore[misc]
        if self._left == 0:
            raise Died


@contextmanager
def closed(book: Book, *events: str) -> Iterator[None]:
    """A book that refuses some kinds of statements."""
    for event in events:
        book.database.execute(
            f"CREATE TRIGGER closed_{event} BEFORE {event} ON customer BEGIN SELECT raise(ABORT, 'closed'); END"
        )
    yield
    for event in events:
        book.database.execute(f"DROP TRIGGER closed_{event}")


def shorten(book: Book) -> None:
    """A book that keeps five letters of a name, from now on."""
    book.database.executescript(
        "".join(
            f"CREATE TRIGGER short_{event.split()[0]} AFTER {event} ON customer WHEN length(new.name) > 5 "
            "BEGIN UPDATE customer SET name = substr(new.name, 1, 5) WHERE id = new.id; END;"
            for event in ("INSERT", "UPDATE OF name")
        )
    )


class Firm:
    """Three books, a policy over them, and runs, each by a worker that starts for it."""

    def __init__(self, folder: Path, place: Place) -> None:
        self.place = place
        self.books = {system["name"]: Book(folder, system["name"]) for system in SYSTEMS}
        self.crm, self.erp, self.shop = self.books.values()
        self.systems = SYSTEMS
        self.spec: dict[str, Any] = {"state": SEALED, "deletes": {"guard": {"maxRecords": 100, "maxPercent": 100}}}
        self.now = 1_800_000_000.0
        self.answer: Answer | None = None
        self.report: RunReport | None = None

    async def run(self, *, asked: Demand | None = None, dying: tuple[Any, ...] | None = None) -> RunReport | None:
        """One run; None when the worker died in it."""
        self.now += 60
        store = self.place.store(Dying, *dying) if dying else self.place.store()
        clients: dict[str, Client] = {name: book.client for name, book in self.books.items()}
        session = await open_session(policy_of(self.systems, **self.spec), clients, store, lambda: self.now)
        try:
            await store.unlock([KEY] if "encryptionKey" in self.spec["state"] else [])
            ask = request("ada", asked) if asked else None
            if ask:
                await store.ask(ask)
            report = await Run(session, Kind.RESYNC).run()
            self.answer = await store.answer(ask.id) if ask else None
        except (Died, BaseExceptionGroup):
            return None
        finally:
            await store.close()
        return report

    async def did(self) -> str:
        """The id of a run that is done."""
        report = await self.run()
        assert report is not None
        return report.id

    async def shown(self, run: str) -> tuple[tuple[int, str], ...]:
        """What a person is shown of undoing a run, and all that is not to be done."""
        session = await self.open()
        try:
            reversals = [each async for page in Reversals(session.rules, session.store, run).pages() for each in page]
        finally:
            await session.store.close()
        return tuple({**dict.fromkeys(range(1, 50), ""), **{each.record: each.mark for each in reversals}}.items())

    async def undo(self, run: str, shown: tuple[tuple[int, str], ...] = (), approved: str = "", **how: Any) -> str:
        """Has a run undone, all of it or as it was shown before; the id of the run that undoes it."""
        shown = shown or await self.shown(run)
        undoing = f"{int(self.now + 61):x}-undo"
        self.report = await self.run(asked=Undo(run, undoing, shown, approved), **how)
        return undoing

    async def open(self) -> Session:
        """A session beside no worker, to look at the state."""
        clients: dict[str, Client] = {name: book.client for name, book in self.books.items()}
        session = await open_session(
            policy_of(self.systems, **self.spec), clients, self.place.store(), lambda: self.now
        )
        await session.store.unlock([KEY] if "encryptionKey" in self.spec["state"] else [])
        return session

    async def written(self, **query: Any) -> set[tuple[str, str]]:
        """(run, rule) of all that the audit says was written."""
        session = await self.open()
        try:
            found = await session.store.audit(AuditQuery(**query))
        finally:
            await session.store.close()
        return {(each.entry.run, each.entry.rule) for each in found if each.entry.system}

    async def rests(self) -> None:
        """The next run, which compares everything, writes nothing."""
        before = self.all()
        report = await self.run()
        assert report is not None
        counts = report.tally.counts()
        assert [counts[name] for name in ("created", "updated", "deleted", "failed", "conflicts")] == [0, 0, 0, 0, 0]
        assert self.all() == before

    def all(self) -> list[dict[str, tuple[Any, ...]]]:
        return [book.all() for book in self.books.values()]

    def names(self, email: str = "a@x.com") -> list[Any]:
        """The name in each system; None where there is no such record."""
        return [its.get(email, (None,))[0] for its in self.all()]

    @property
    def refused(self) -> list[str]:
        assert self.answer is not None
        return list(self.answer.refused)


@pytest.fixture
def state() -> dict[str, Any]:
    """`spec.state`; a test may ask for another one."""
    return SEALED


@pytest.fixture
async def firm(tmp_path: Path, place: Place, state: dict[str, Any]) -> AsyncIterator[Firm]:
    made = Firm(tmp_path, place)
    made.spec["state"] = state
    made.crm.add("a@x.com", name="Ada", note="n")
    made.crm.add("b@x.com", name="Bob")
    await made.did()
    yield made
    for book in made.books.values():
        await book.close()


async def test_an_edit_is_undone_in_every_system_and_stays_undone(firm: Firm) -> None:
    firm.erp.edit("a@x.com", name="Wrong")
    run = await firm.did()
    await firm.undo(run)
    assert (firm.names(), firm.refused) == (["Ada", "Ada", "Ada"], [])
    await firm.rests()
    firm.crm.edit("a@x.com", name="Ada King")
    await firm.did()
    assert firm.names() == ["Ada King"] * 3


async def test_an_undo_can_be_undone_and_that_too(firm: Firm) -> None:
    firm.crm.edit("a@x.com", name="Wrong", note="bad")
    undoing = await firm.did()
    for expected in ("Ada", "Wrong", "Ada"):
        undoing = await firm.undo(undoing)
        assert (firm.names(), firm.refused) == ([expected] * 3, [])
        await firm.rests()
    assert firm.erp.all()["a@x.com"] == ("Ada", None, "n")


async def test_undoing_twice_is_told_and_changes_nothing(firm: Firm) -> None:
    firm.crm.edit("a@x.com", name="Wrong")
    run = await firm.did()
    first = await firm.undo(run)
    await firm.undo(run)
    assert firm.refused == [f"crm/1 = erp/1 = shop/1: undone already, by run {first}"]
    assert firm.names() == ["Ada"] * 3


async def test_what_a_first_undo_left_out_is_undone_by_calling_it_again(firm: Firm) -> None:
    firm.spec["fields"] = {"name": {"onConflict": "Manual"}}
    firm.crm.edit("a@x.com", name="Wrong", note="bad")
    run = await firm.did()
    firm.erp.edit("a@x.com", name="of the ERP")
    firm.shop.edit("a@x.com", name="of the shop")
    await firm.did()
    await firm.undo(run)
    why = "it waits for a person: decide the conflict first"
    assert firm.refused == [f"name of crm/1 = erp/1 = shop/1: {why}"]
    for book in (firm.erp, firm.shop):
        book.edit("a@x.com", name="Wrong")
    firm.crm.edit("a@x.com", note="entered since")
    await firm.did()
    second = await firm.undo(run)
    assert ([its["a@x.com"] for its in firm.all()], firm.refused) == ([("Ada", None, "entered since")] * 3, [])
    await firm.rests()
    await firm.undo(run)
    assert firm.refused == [f"crm/1 = erp/1 = shop/1: undone already, by run {second}"]


async def test_what_was_undone_already_is_not_undone_again_where_somebody_enters_it_anew(firm: Firm) -> None:
    firm.crm.edit("a@x.com", name="Wrong", note="bad")
    run = await firm.did()
    firm.shop.edit("a@x.com", name="Right")
    await firm.did()
    await firm.undo(run)
    assert firm.refused == ["name of crm/1 = erp/1 = shop/1: erp changed since"]
    firm.erp.edit("a@x.com", name="Wrong", note="bad")
    await firm.did()
    await firm.undo(run)
    assert ([its["a@x.com"] for its in firm.all()], firm.refused) == ([("Ada", None, "bad")] * 3, [])
    await firm.rests()


async def test_a_copy_that_a_first_undo_left_out_is_deleted_by_calling_it_again(firm: Firm) -> None:
    firm.crm.add("c@x.com", name="Cem")
    run = await firm.did()
    firm.systems = [*SYSTEMS[:2], {**SYSTEMS[2], "access": "ReadOnly"}]
    await firm.undo(run)
    assert (firm.names("c@x.com"), firm.refused) == (
        ["Cem", None, "Cem"],
        ["the copy in shop of crm/3 = erp/3 = shop/3: nothing may be deleted there"],
    )
    firm.systems = SYSTEMS
    second = await firm.undo(run)
    assert (firm.names("c@x.com"), firm.refused) == (["Cem", None, None], [])
    await firm.rests()
    await firm.undo(run)
    assert firm.refused == [f"crm/3 = erp/3 = shop/3: undone already, by run {second}"]


async def test_what_changed_since_is_left_alone_field_by_field(firm: Firm) -> None:
    firm.crm.edit("a@x.com", name="Wrong", note="bad")
    firm.crm.edit("b@x.com", name="Wrong too")
    run = await firm.did()
    firm.shop.edit("a@x.com", name="Right")
    await firm.did()
    await firm.undo(run)
    assert firm.refused == ["name of crm/1 = erp/1 = shop/1: erp changed since"]
    assert [its["a@x.com"] for its in firm.all()] == [("Right", None, "n")] * 3
    assert firm.names("b@x.com") == ["Bob"] * 3
    await firm.rests()


async def test_an_edit_that_was_not_read_yet_is_not_lost(firm: Firm) -> None:
    firm.crm.edit("a@x.com", name="Wrong")
    run = await firm.did()
    firm.shop.edit("a@x.com", name="Right")
    await firm.undo(run)
    await firm.did()
    assert firm.names() == ["Right"] * 3
    await firm.rests()


async def test_a_field_whose_edit_cannot_be_taken_back_is_refused(firm: Firm) -> None:
    firm.systems = [{**SYSTEMS[0], "access": "ReadOnly"}, *SYSTEMS[1:]]
    firm.crm.edit("a@x.com", name="Wrong")
    run = await firm.did()
    await firm.undo(run)
    expected = "name of crm/1 = erp/1 = shop/1: crm has the value too, and may not be written: edit it there"
    assert (firm.refused, firm.names()) == ([expected], ["Wrong"] * 3)


async def test_what_a_conflict_lost_comes_back_where_it_was(firm: Firm) -> None:
    firm.crm.edit("a@x.com", name="Winner")
    firm.erp.edit("a@x.com", name="Loser")
    run = await firm.did()
    assert firm.names() == ["Winner"] * 3
    await firm.undo(run)
    assert (firm.names(), firm.refused) == (["Winner", "Loser", "Ada"], [])
    await firm.rests()
    firm.erp.edit("a@x.com", name="Settled")
    await firm.did()
    assert firm.names() == ["Settled"] * 3


async def test_where_one_system_stores_less_each_gets_its_own_value_back_and_the_edit_stays(firm: Firm) -> None:
    firm.systems = SYSTEMS[:2]
    shorten(firm.erp)
    firm.crm.edit("a@x.com", name="Ada Lovelace")
    await firm.did()
    assert firm.names()[:2] == ["Ada Lovelace", "Ada L"]
    firm.crm.edit("a@x.com", name="Wrong")
    run = await firm.did()
    await firm.undo(run)
    assert (firm.names()[:2], firm.refused) == (["Wrong", "Ada L"], [])
    await firm.rests()


async def test_an_edit_where_systems_differed_since_they_met_gives_nobody_the_value_of_another(firm: Firm) -> None:
    firm.systems = SYSTEMS[:2]
    firm.spec["firstSync"] = "FillEmptyOnly"
    firm.crm.add("c@x.com", name="of the CRM")
    firm.erp.add("c@x.com", name="of the ERP")
    await firm.did()
    firm.crm.edit("c@x.com", name="Wrong")
    undoing = await firm.did()
    for expected in ("of the ERP", "Wrong", "of the ERP"):
        undoing = await firm.undo(undoing)
        assert (firm.names("c@x.com")[:2], firm.refused) == (["Wrong", expected], [])
        await firm.rests()


@pytest.mark.parametrize("state", [SEALED, {}], ids=["sealed", "open"])
async def test_what_a_first_meeting_overwrote_comes_back_with_a_key_or_without(firm: Firm) -> None:
    firm.crm.add("c@x.com", name="of the CRM")
    firm.erp.add("c@x.com", name="of the ERP")
    run = await firm.did()
    assert firm.names("c@x.com") == ["of the CRM"] * 3
    firm.systems = [*SYSTEMS[:2], {**SYSTEMS[2], "access": "ReadOnly"}]
    await firm.undo(run)
    assert firm.names("c@x.com")[:2] == ["of the CRM", "of the ERP"]
    await firm.rests()


@pytest.mark.parametrize("state", [{}])
async def test_what_another_run_lost_is_not_what_a_plain_write_replaced(firm: Firm) -> None:
    firm.systems = SYSTEMS[:2]
    firm.crm.edit("a@x.com", name="Winner")
    firm.erp.edit("a@x.com", name="Loser")
    await firm.did()
    firm.crm.edit("a@x.com", name="Other")
    await firm.did()
    firm.crm.edit("a@x.com", name="Winner")
    run = await firm.did()
    await firm.undo(run)
    assert (firm.refused, firm.names()[:2]) == ([f"name of crm/1 = erp/1: {NO_VALUES}"], ["Winner"] * 2)


@pytest.mark.parametrize("state", [{}])
async def test_values_of_plain_writes_are_not_kept_without_a_key(firm: Firm) -> None:
    firm.crm.edit("a@x.com", name="Wrong")
    run = await firm.did()
    await firm.undo(run)
    assert (firm.refused, firm.names()) == ([f"name of crm/1 = erp/1 = shop/1: {NO_VALUES}"], ["Wrong"] * 3)


async def test_copies_that_a_run_made_are_deleted_and_not_made_again(firm: Firm) -> None:
    firm.crm.add("c@x.com", name="Cem")
    run = await firm.did()
    assert firm.names("c@x.com") == ["Cem"] * 3
    undoing = await firm.undo(run)
    assert (firm.names("c@x.com"), firm.refused) == (["Cem", None, None], [])
    await firm.rests()
    firm.crm.edit("c@x.com", name="Cem B.")
    await firm.did()
    assert firm.names("c@x.com") == ["Cem B.", None, None]
    await firm.undo(undoing)
    assert firm.refused == ["the delete of crm/3 = erp/3 = shop/3: crm changed since"]
    assert firm.names("c@x.com") == ["Cem B.", None, None]


async def test_an_undone_copy_is_made_again_by_the_undo_of_the_undo(firm: Firm) -> None:
    firm.crm.add("c@x.com", name="Cem")
    undoing = await firm.undo(await firm.did())
    await firm.undo(undoing)
    assert (firm.names("c@x.com"), firm.refused) == (["Cem"] * 3, [])
    await firm.rests()
    firm.shop.edit("c@x.com", name="Cem B.")
    await firm.did()
    assert firm.names("c@x.com") == ["Cem B."] * 3


async def test_a_copy_that_was_edited_is_not_deleted(firm: Firm) -> None:
    firm.crm.add("c@x.com", name="Cem")
    run = await firm.did()
    firm.erp.edit("c@x.com", name="Cem B.")
    edit = await firm.did()
    await firm.undo(run)
    name = "crm/3 = erp/3 = shop/3"
    since = f"it changed since (run {edit})"
    assert firm.refused == [f"the copy in {system} of {name}: {since}" for system in ("erp", "shop")]
    assert firm.names("c@x.com") == ["Cem B."] * 3


NEVER = {"propagate": "Never", "guard": {"maxRecords": 100, "maxPercent": 100}}
LAST = "nothing of the record would be left"


async def test_copies_that_are_all_that_is_left_are_not_deleted(firm: Firm) -> None:
    firm.spec["deletes"] = NEVER
    firm.crm.add("c@x.com", name="Cem")
    run = await firm.did()
    firm.crm.remove("c@x.com")
    await firm.did()
    await firm.undo(run)
    assert firm.names("c@x.com") == [None, "Cem", "Cem"]
    assert firm.refused == [f"the copy in {system} of crm/3 = erp/3 = shop/3: {LAST}" for system in ("erp", "shop")]


async def test_copies_that_an_undo_brought_back_are_not_deleted_where_they_are_all_that_is_left(firm: Firm) -> None:
    firm.spec["deletes"] = NEVER
    firm.crm.add("c@x.com", name="Cem")
    back = await firm.undo(await firm.undo(await firm.did()))
    firm.crm.remove("c@x.com")
    await firm.did()
    await firm.undo(back)
    assert firm.names("c@x.com") == [None, "Cem", "Cem"]
    assert [why.endswith(LAST) for why in firm.refused] == [True, True]


async def test_a_record_that_an_undo_brought_back_from_nowhere_is_gone_again_when_that_is_undone(firm: Firm) -> None:
    firm.crm.remove("a@x.com")
    undoing = await firm.did()
    for expected in (["Ada"] * 3, [None] * 3, ["Ada"] * 3):
        undoing = await firm.undo(undoing, approved="a plan")
        assert (firm.names(), firm.refused) == (expected, [])
        await firm.rests()


async def test_the_last_copies_of_a_record_that_was_nowhere_are_deleted_by_calling_the_undo_again(firm: Firm) -> None:
    firm.crm.remove("a@x.com")
    back = await firm.undo(await firm.did())
    firm.systems = [SYSTEMS[0], *({**system, "access": "ReadOnly"} for system in SYSTEMS[1:])]
    await firm.undo(back, approved="a plan")
    assert firm.names() == [None, "Ada", "Ada"]
    firm.systems = SYSTEMS
    await firm.undo(back, approved="a plan")
    assert (firm.names(), firm.refused) == ([None] * 3, [])
    await firm.rests()


async def test_a_record_that_a_person_entered_in_place_of_a_copy_is_not_deleted(firm: Firm) -> None:
    firm.crm.add("c@x.com", name="Cem")
    run = await firm.did()
    firm.erp.remove("c@x.com")
    gone = await firm.did()
    firm.erp.add("c@x.com", name="Cem")
    await firm.did()
    await firm.undo(run)
    assert firm.names("c@x.com") == ["Cem", "Cem", None]
    why = f"it was deleted there since (run {gone})"
    assert firm.refused == [f"the copy in erp of crm/3 = erp/3 = shop/3: {why}"]
    await firm.rests()


async def test_a_duplicate_that_a_person_put_in_place_of_a_copy_is_not_deleted(firm: Firm) -> None:
    firm.spec["firstSync"] = "FillEmptyOnly"
    firm.crm.add("c@x.com", name="Cem")
    run = await firm.did()
    key = firm.erp.add("C@X.com", name="Cem GmbH")
    await firm.did()
    report = await firm.run(asked=Link(("crm", "3"), ("erp", str(key))))
    assert (report is not None, firm.refused) == (True, [])
    linking = report.id if report else ""
    await firm.undo(run)
    assert ([*firm.erp.all()], firm.names("c@x.com")) == (["C@X.com", "a@x.com", "b@x.com", "c@x.com"], ["Cem"] * 3)
    name, why = f"crm/3 = erp/{key} = shop/3", f"a person linked the record since (run {linking})"
    assert firm.refused == [f"the copy in {system} of {name}: {why}" for system in ("erp", "shop")]


async def test_a_record_that_a_person_entered_where_the_copy_was_split_off_is_not_deleted(firm: Firm) -> None:
    firm.crm.add("c@x.com", name="Cem")
    run = await firm.did()
    await firm.run(asked=Split(("erp", "3"), create=False))
    firm.erp.edit("c@x.com", email="z@x.com")
    await firm.did()
    firm.erp.add("c@x.com", name="Cem")
    await firm.did()
    await firm.undo(run)
    assert (firm.names("c@x.com"), firm.names("z@x.com")) == (["Cem", "Cem", None], [None, "Cem", None])
    assert firm.refused == ["the copy in erp of crm/3 = erp/4 = shop/3: another one was split off since"]
    await firm.rests()


async def test_a_record_that_came_back_with_another_copy_keeps_it(firm: Firm) -> None:
    firm.spec["deletes"] = {"propagate": "FromAny", "guard": {"maxRecords": 1, "maxPercent": 100}}
    firm.crm.add("c@x.com", name="Cem")
    run = await firm.did()
    firm.spec["deletes"]["guard"]["maxRecords"] = 0
    for book in (firm.crm, firm.erp):
        book.remove("c@x.com")
    await firm.did()
    firm.erp.add("c@x.com", name="Cem")
    await firm.did()
    firm.spec["deletes"]["guard"]["maxRecords"] = 100
    await firm.undo(run)
    assert firm.names("c@x.com")[1:] == ["Cem", "Cem"]


async def test_a_copy_that_is_another_one_than_was_shown_is_not_deleted(firm: Firm) -> None:
    firm.crm.add("c@x.com", name="Cem")
    run = await firm.did()
    shown = await firm.shown(run)
    session = await firm.open()
    memory = (await session.store.recall([3]))[3]
    memory.sides["erp"] = structs.replace(memory.sides["erp"], key="99")
    await session.store.commit(Commit(records=[memory]))
    await session.store.close()
    assert {record for record, mark in await firm.shown(run) if dict(shown)[record] != mark} == {3}


OTHERWISE = "undoing it takes something else by now than was shown: look at the plan again"


async def test_a_field_that_was_shown_as_left_alone_is_left_alone(firm: Firm) -> None:
    firm.crm.edit("a@x.com", name="Wrong", note="bad")
    firm.crm.edit("b@x.com", name="Wrong too")
    run = await firm.did()
    firm.shop.edit("a@x.com", name="Right")
    await firm.did()
    shown = await firm.shown(run)
    firm.shop.edit("a@x.com", name="Wrong")
    await firm.did()
    await firm.undo(run, shown)
    assert firm.refused == [f"crm/1 = erp/1 = shop/1: {OTHERWISE}"]
    assert [its["a@x.com"] for its in firm.all()] == [("Wrong", None, "bad")] * 3
    assert firm.names("b@x.com") == ["Bob"] * 3


async def test_a_copy_that_was_shown_as_kept_is_kept(firm: Firm) -> None:
    firm.crm.add("c@x.com", name="Cem")
    run = await firm.did()
    with closed(firm.erp, "UPDATE"):
        firm.crm.edit("c@x.com", note="on its way")
        await firm.did()
        shown = await firm.shown(run)
        assert dict(shown)[3] == ""
    firm.crm.edit("c@x.com", note=None)
    await firm.did()
    later = await firm.shown(run)
    await firm.undo(run, shown)
    assert (dict(later)[3] != "", firm.names("c@x.com")) == (True, ["Cem"] * 3)
    assert firm.refused[-1] == f"crm/3 = erp/3 = shop/3: {OTHERWISE}"


async def test_a_request_that_does_not_tell_what_was_shown_does_nothing(firm: Firm) -> None:
    firm.crm.edit("a@x.com", name="Wrong")
    run = await firm.did()
    await firm.run(asked=Undo(run, "undone"))
    why = "the request does not tell what was shown: let the worker and the command be of one version"
    assert (firm.refused, firm.names()) == ([why], ["Wrong"] * 3)


async def test_deletes_beyond_the_guard_need_an_approval_whoever_asks(firm: Firm) -> None:
    firm.spec["deletes"] = {"guard": {"maxRecords": 3, "maxPercent": 100}}
    firm.crm.edit("a@x.com", name="Wrong")
    for who in "cd":
        firm.crm.add(f"{who}@x.com", name="New")
    run = await firm.did()
    await firm.undo(run)
    why = (
        "4 deletes are more than deletes.guard lets this run do: nothing of their records was undone; undo the run "
        "again, and approve the plan with --approve"
    )
    assert (firm.refused, firm.names(), firm.names("c@x.com")) == ([why], ["Ada"] * 3, ["New"] * 3)
    await firm.undo(run, approved="a plan")
    assert [firm.names(f"{who}@x.com") for who in "cd"] == [["New", None, None]] * 2


async def test_deletes_of_an_undo_and_those_that_spread_are_counted_together(firm: Firm) -> None:
    firm.spec["deletes"] = {"guard": {"maxRecords": 3, "maxPercent": 100}}
    firm.crm.add("c@x.com", name="New")
    run = await firm.did()
    firm.crm.remove("b@x.com")
    await firm.undo(run)
    assert firm.report is not None
    assert (firm.report.outcome, firm.refused) == (Outcome.HALTED, [])
    assert (firm.names("c@x.com"), firm.names("b@x.com")) == (["New", None, None], [None, "Bob", "Bob"])


async def test_what_the_guard_held_is_of_the_run_that_decided_it(firm: Firm) -> None:
    firm.spec["deletes"] = {"guard": {"maxRecords": 1, "maxPercent": 100}}
    firm.crm.remove("a@x.com")
    halted = await firm.run()
    assert halted is not None
    assert (halted.outcome, firm.names()) == (Outcome.HALTED, [None, "Ada", "Ada"])
    firm.spec["deletes"] = {"guard": {"maxRecords": 2, "maxPercent": 100}}
    await firm.did()
    assert (firm.names(), await firm.written(kind="Deleted")) == ([None] * 3, {(halted.id, "FromSystemOfRecord")})
    await firm.undo(halted.id)
    assert firm.names() == ["Ada"] * 3


async def test_a_record_that_a_run_deleted_comes_back_in_every_system(firm: Firm) -> None:
    firm.crm.remove("a@x.com")
    run = await firm.did()
    assert firm.names() == [None] * 3
    undoing = await firm.undo(run)
    assert (firm.refused, [its["a@x.com"] for its in firm.all()]) == ([], [("Ada", None, "n")] * 3)
    await firm.rests()
    firm.shop.edit("a@x.com", name="Ada King")
    await firm.did()
    assert firm.names() == ["Ada King"] * 3
    await firm.undo(undoing)
    assert firm.names() == ["Ada King"] * 3


async def test_a_deleted_record_comes_back_whole_where_one_system_had_stored_less_of_it(firm: Firm) -> None:
    shorten(firm.shop)
    firm.crm.edit("a@x.com", name="Ada Lovelace")
    await firm.did()
    firm.crm.remove("a@x.com")
    run = await firm.did()
    await firm.undo(run)
    assert (firm.names(), firm.refused) == (["Ada Lovelace", "Ada Lovelace", "Ada L"], [])
    await firm.rests()


async def test_of_a_deleted_record_the_owner_of_a_field_is_believed_and_an_empty_value_is_none(firm: Firm) -> None:
    firm.spec |= {"firstSync": "FillEmptyOnly", "fields": {"name": {"systemOfRecord": "shop"}}}
    firm.crm.add("c@x.com", name="of the CRM")
    firm.erp.add("c@x.com", name="of the ERP", note="n")
    firm.shop.add("c@x.com", name="of the shop")
    await firm.undo(await firm.did())
    firm.crm.remove("c@x.com")
    run = await firm.did()
    await firm.undo(run)
    expected = [("of the shop", None, "n"), ("of the ERP", None, "n"), ("of the shop", None, None)]
    assert [its["c@x.com"] for its in firm.all()] == expected
    await firm.rests()


@pytest.mark.parametrize(("country", "believed"), [("EU", "of the ERP"), ("US", "of the shop")])
async def test_the_owner_of_a_field_of_a_deleted_record_is_the_one_that_it_had(
    firm: Firm, country: str, believed: str
) -> None:
    owners = {"when": "record.note == 'EU'", "then": "erp", "otherwise": "shop"}
    firm.spec |= {"firstSync": "FillEmptyOnly", "fields": {"name": {"systemOfRecordWhen": owners}}}
    firm.crm.add("c@x.com", name="of the CRM", note=country)
    firm.erp.add("c@x.com", name="of the ERP", note=country)
    firm.shop.add("c@x.com", name="of the shop", note=country)
    await firm.did()
    firm.crm.remove("c@x.com")
    run = await firm.did()
    await firm.undo(run)
    assert firm.names("c@x.com") == [believed, "of the ERP", "of the shop"]


async def test_a_deleted_record_that_was_entered_anew_is_not_created_twice(firm: Firm) -> None:
    firm.crm.remove("a@x.com")
    run = await firm.did()
    firm.crm.add("a@x.com", name="Ada again")
    await firm.did()
    await firm.undo(run)
    assert len(firm.refused) == 1
    assert firm.names() == ["Ada again"] * 3


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("nth", range(1, 7))
async def test_an_undo_that_dies_is_done_once_by_the_next_run(firm: Firm, nth: int, after: bool) -> None:
    firm.crm.edit("a@x.com", name="Wrong")
    firm.crm.add("c@x.com", name="Cem")
    firm.crm.remove("b@x.com")
    run = await firm.did()
    undoing = await firm.undo(run, dying=(nth, after))
    await firm.did()
    assert [firm.names(f"{who}@x.com") for who in "abc"] == [["Ada"] * 3, ["Bob"] * 3, ["Cem", None, None]]
    assert [len(book.all()) for book in firm.books.values()] == [3, 2, 2]
    await firm.rests()
    assert {by for by, rule in await firm.written() if rule == f"undo {run}, asked for by ada"} == {undoing}


async def test_the_plan_names_each_record_once_and_what_is_not_there_plans_nothing(firm: Firm) -> None:
    for n in range(3):
        firm.crm.add(f"new{n}@x.com", name="New")
    firm.crm.edit("a@x.com", name="Wrong")
    run = await firm.did()
    store = firm.place.store()
    session = await open_session(
        policy_of(firm.systems, **firm.spec), {n: b.client for n, b in firm.books.items()}, store, lambda: firm.now
    )
    await store.unlock([KEY])
    reversals = Reversals(session.rules, store, run)
    planned = [each async for page in reversals.pages() for each in page]
    assert [(each.record, sorted(each.updates), sorted(each.deletes)) for each in planned] == [
        (1, ["crm", "erp", "shop"], []),
        *((n, [], ["erp", "shop"]) for n in (3, 4, 5)),
    ]
    assert [each async for each in Reversals(session.rules, store, "65000000-none").pages()] == []
    assert {each.entry.run for each in await store.audit(AuditQuery(kind="Updated"))} == {run}
    await store.close()


async def test_what_cannot_be_written_back_now_is_written_when_it_can(firm: Firm) -> None:
    firm.crm.edit("a@x.com", name="Wrong")
    firm.crm.add("c@x.com", name="Cem")
    run = await firm.did()
    with closed(firm.erp, "UPDATE", "DELETE"):
        undoing = await firm.undo(run)
        assert (firm.names(), firm.names("c@x.com")) == (["Ada", "Wrong", "Ada"], ["Cem", "Cem", None])
    await firm.did()
    assert (firm.names(), firm.names("c@x.com")) == (["Ada"] * 3, ["Cem", None, None])
    await firm.rests()
    await firm.undo(undoing)
    assert (firm.names(), firm.names("c@x.com"), firm.refused) == (["Wrong"] * 3, ["Cem"] * 3, [])


async def test_what_the_next_worker_sends_is_of_the_run_that_decided_it(firm: Firm) -> None:
    firm.crm.edit("a@x.com", name="Wrong")
    assert await firm.run(dying=(1, True, True)) is None
    assert firm.names() == ["Wrong", "Ada", "Ada"]
    finishing = await firm.did()
    ((run, _),) = await firm.written(field="name")
    assert (run == finishing, firm.names()) == (False, ["Wrong"] * 3)
    await firm.undo(run)
    assert (firm.refused, firm.names()) == ([], ["Ada"] * 3)


async def test_what_is_on_its_way_to_the_same_record_is_not_lost_with_an_undo_that_fails(firm: Firm) -> None:
    firm.crm.edit("a@x.com", name="Wrong")
    run = await firm.did()
    with closed(firm.erp, "UPDATE"):
        firm.crm.edit("a@x.com", note="on its way")
        await firm.did()
        await firm.undo(run)
        assert firm.refused == ["name of crm/1 = erp/1 = shop/1: something of the record is still on its way to erp"]
    await firm.did()
    assert [its["a@x.com"][2] for its in firm.all()] == ["on its way"] * 3
    await firm.rests()


async def test_what_a_run_archived_is_left_to_a_person(firm: Firm) -> None:
    firm.spec["deletes"] = {**firm.spec["deletes"], "action": "Archive"}
    fields = {"email": "email", "name": "name", "credit": "credit"}
    archiving = {"fields": fields, "archive": {"set": {"note": "archived"}}}
    firm.systems = [SYSTEMS[0], *({**system, **archiving} for system in SYSTEMS[1:])]
    firm.crm.remove("a@x.com")
    run = await firm.did()
    assert firm.erp.all()["a@x.com"][2] == "archived"
    await firm.undo(run)
    name = "crm/1 = erp/1 = shop/1"
    why = "take it out of the archive there"
    assert firm.refused == [f"the archiving in {system} of {name}: {why}" for system in ("erp", "shop")]


async def test_what_became_of_a_record_since_is_told(firm: Firm) -> None:
    firm.crm.edit("a@x.com", name="Wrong")
    run = await firm.did()
    firm.crm.remove("a@x.com")
    await firm.did()
    await firm.undo(run)
    assert firm.refused == ["name of crm/1 = erp/1 = shop/1: the record is not there any more"]
    assert firm.names() == [None] * 3


async def test_a_field_that_its_owner_alone_may_edit_is_not_given_another_value(firm: Firm) -> None:
    firm.spec["fields"] = {"name": {"edits": "SystemOfRecordOnly"}}
    firm.erp.edit("a@x.com", name="Not mine to edit")
    reverting = await firm.did()
    firm.crm.edit("a@x.com", name="Wrong")
    spreading = await firm.did()
    await firm.undo(spreading)
    assert firm.names() == ["Ada"] * 3
    await firm.undo(reverting)
    why = "only crm may edit it: change spec.fields.name.edits first"
    assert firm.refused == [f"name of crm/1 = erp/1 = shop/1: {why}"]
    await firm.rests()


# --- persons took part ---


async def resolved(firm: Firm, **how: str) -> str:
    """The run in which a person decides between a name of the CRM's and one of the ERP's."""
    firm.spec["fields"] = {"name": {"onConflict": "Manual"}}
    firm.crm.edit("a@x.com", name="of the CRM")
    firm.erp.edit("a@x.com", name="of the ERP")
    await firm.did()
    mark = mark_of({"crm": "of the CRM", "erp": "of the ERP"})
    report = await firm.run(asked=ResolveConflicts(((1, "name", mark),), **how))
    assert (report is not None, firm.refused) == (True, [])
    return report.id if report else ""


@pytest.mark.parametrize("state", [SEALED, {}], ids=["sealed", "open"])
async def test_what_a_person_resolved_is_undone_and_waits_for_nobody_again(firm: Firm) -> None:
    run = await resolved(firm, keep="erp")
    assert firm.names() == ["of the ERP"] * 3
    await firm.undo(run)
    assert (firm.names(), firm.refused) == (["of the CRM", "of the ERP", "of the ERP"], [])
    await firm.rests()
    firm.shop.edit("a@x.com", name="Settled")
    await firm.did()
    assert firm.names() == ["Settled"] * 3


@pytest.mark.parametrize("state", [SEALED, {}], ids=["sealed", "open"])
async def test_a_value_that_a_person_gave_is_undone_with_a_key_or_without(firm: Firm) -> None:
    firm.systems = SYSTEMS[:2]
    run = await resolved(firm, value='"Settled"')
    assert firm.names()[:2] == ["Settled"] * 2
    await firm.undo(run)
    assert (firm.names()[:2], firm.refused) == (["of the CRM", "of the ERP"], [])
    await firm.rests()


@pytest.mark.parametrize("state", [{}])
async def test_a_decision_that_does_not_tell_what_every_system_had_is_not_undone(firm: Firm) -> None:
    run = await resolved(firm, keep="crm")
    await firm.undo(run)
    assert firm.refused == [f"name of crm/1 = erp/1 = shop/1: {NO_VALUES}"]
    assert firm.names() == ["of the CRM"] * 3


async def split(firm: Firm, create: bool = False) -> str:
    """The run that splits the ERP's side off the first record."""
    report = await firm.run(asked=Split(("erp", "1"), create))
    assert (report is not None, firm.refused) == (True, [])
    return report.id if report else ""


async def linked(firm: Firm) -> str:
    """The run that links it with what is left in the CRM."""
    report = await firm.run(asked=Link(("crm", "1"), ("erp", "1")))
    assert (report is not None, firm.refused) == (True, [])
    return report.id if report else ""


async def test_a_split_is_no_write_and_is_told(firm: Firm) -> None:
    await firm.undo(await split(firm))
    assert firm.refused == ["the split of erp/1: link the two again with `fairlead matches link`"]
    await firm.rests()


async def test_what_a_link_overwrote_is_undone_and_the_link_is_told(firm: Firm) -> None:
    await split(firm)
    firm.erp.edit("a@x.com", name="of the ERP")
    await firm.did()
    run = await linked(firm)
    assert firm.names() == ["Ada"] * 3
    await firm.undo(run)
    assert firm.names() == ["Ada", "of the ERP", "Ada"]
    name = "crm/1 = erp/1 = shop/1"
    assert firm.refused == [f"the link of {name}: split off what is another one with `fairlead matches split`"]
    await firm.rests()


async def test_copies_that_a_split_made_are_deleted(firm: Firm) -> None:
    await split(firm)
    firm.erp.edit("a@x.com", email="z@x.com")
    await firm.did()
    run = await split(firm, create=True)
    assert firm.names("z@x.com") == ["Ada"] * 3
    await firm.undo(run)
    assert (firm.names(), firm.names("z@x.com")) == (["Ada", None, "Ada"], [None, "Ada", None])
    assert firm.refused == ["the split of crm/3 = erp/1 = shop/3: link the two again with `fairlead matches link`"]
    await firm.rests()


async def test_a_record_that_was_split_since_keeps_what_left_it(firm: Firm) -> None:
    ((run, _),) = await firm.written(kind="Created")
    await split(firm)
    await firm.undo(run, approved="a plan")
    assert firm.names() == ["Ada", "Ada", None]
    assert firm.refused == ["the copy in erp of crm/1 = shop/1: it is not there any more"]
    await firm.rests()


@pytest.mark.parametrize("match", [[{"fields": ["email"]}], []], ids=["matched", "unmatched"])
async def test_what_was_written_to_a_record_that_is_another_one_since_stays(
    firm: Firm, match: list[dict[str, Any]]
) -> None:
    firm.spec["match"] = match
    await split(firm)
    firm.erp.edit("a@x.com", email="z@x.com")
    await firm.did()
    run = await split(firm, create=True)
    undoing = await firm.undo(run)
    await linked(firm)
    before = firm.all()
    await firm.undo(undoing)
    why = "it is a part of another record since, or that of it: split them first, or mend it by hand"
    assert (firm.refused, firm.all()) == ([f"what the run wrote of crm/1 = erp/1 = shop/1: {why}"], before)
    await firm.rests()


async def test_a_forgotten_person_does_not_come_back(firm: Firm) -> None:
    firm.crm.remove("a@x.com")
    run = await firm.did()
    store = firm.place.store()
    session = await open_session(
        policy_of(firm.systems, **firm.spec), {n: b.client for n, b in firm.books.items()}, store, lambda: firm.now
    )
    await session.store.unlock([KEY])
    await session.store.erase([("erp", "1")])
    await store.close()
    await firm.undo(run)
    assert (len(firm.refused), firm.names()) == (1, [None] * 3)
