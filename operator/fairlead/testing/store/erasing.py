"""What forgetting a person leaves in each table: nothing but numbers, and fingerprints of keys."""
# ruff: noqa: D102 - a test's name is its sentence, and assert is what it says

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from fairlead.engine.case import Operation, Side, Write
from fairlead.state.audit import NEW, OLD, AuditEntry, created
from fairlead.state.base import UNLINKABLE, Commit, Conflict, DeadLetter, Intent, Recollection, Store, Undelivered
from fairlead.state.history import RunRecord
from fairlead.state.place import reservation
from fairlead.state.referring import Orphan
from fairlead.state.requests import (
    FORGOTTEN,
    Answer,
    DiscardDeadLetters,
    Link,
    Request,
    ResolveConflicts,
    RetryDeadLetters,
    Split,
    Undo,
)
from fairlead.state.tables import tables
from fairlead.testing.store.sample import KEY, all_letters, prints, recollection, update

CRM, ERP, BURIED, DOUBLE = ("crm", "PERSON-a"), ("erp", "PERSON-1"), ("erp", "PERSON-0"), ("crm", "PERSON-b")
OTHER, CHILD, SOMEBODY = ("crm", "other"), ("crm", "child"), ("erp", "somebody")
PERSON, FORMERLY, ELSE = 1, 9, 2
"""Numbers of records: the person's, that of a record which was merged into it, and somebody else's."""

LETTER = reservation(*DOUBLE)


def asked(number: int, demand: Any) -> Request:
    """A request of a known id."""
    return Request(f"{number:04}", float(number), "ada", demand)


def entry(record: int, values: dict[str, Any], system: str = "") -> AuditEntry:
    """An entry of the audit."""
    kind = "Updated" if system else "Conflict"
    return AuditEntry(3.0, "r1", record, "name", kind, "onConflict: Manual", "crm", values, system)


CREATE = Write(Operation.CREATE, {"name": "else's"}, {"name": "crm"})
MET = f"{UNLINKABLE}: {{}} matches, but is another record"

REQUESTS = [
    asked(1, RetryDeadLetters(((PERSON, "erp"), (ELSE, "erp")), (DOUBLE, OTHER))),
    asked(2, DiscardDeadLetters(((PERSON, "erp"),), (DOUBLE,))),
    asked(3, ResolveConflicts(((PERSON, "name", "m"),), value='"PERSON typed"')),
    asked(4, Undo("r1", "u", ((PERSON, "m"), (ELSE, "m")))),
    asked(5, Link(CRM, SOMEBODY)),
    asked(6, Split(DOUBLE)),
    asked(7, Split(OTHER)),
]
PERSONS = Commit(
    records=[
        Recollection(
            PERSON,
            {"crm": Side(CRM[1], 1, prints(1, 2)), "erp": Side(ERP[1], 2, prints(1, 0))},
            bases={"name": {prints(2): "PERSON base"}},
        )
    ],
    matches=[(5, PERSON), (5, LETTER)],
    tombstones=[(*BURIED, PERSON)],
    journal={
        1: [Intent(PERSON, "erp", update(name="PERSON alone"))],
        2: [Intent(PERSON, "erp", update(name="PERSON among")), Intent(ELSE, "erp", update(name="else's"))],
    },
    pending=[Undelivered(PERSON, "erp", update(name="PERSON undelivered"), 1.0, message="refused 'PERSON'", dead=True)],
    frozen=[Conflict(PERSON, "name", {"crm": "PERSON x", "erp": "PERSON y"}, 1.0)],
    dead=[DeadLetter(*DOUBLE, "Duplicate", f"matches the same record as {CRM[1]} of the same system", 1.0, (PERSON,))],
    apart=[(CRM, SOMEBODY)],
    merged=[(FORMERLY, PERSON, 2.0)],
    waiting=[CRM, ERP],
    orphans=[Orphan(*CRM, "name", "PERSON-boss"), Orphan(*CHILD, "name", CRM[1])],
    checkpoints={"crm": f'["2026-01-01",null,"{CRM[1]}"]'},
    audit=[
        entry(PERSON, {"crm": "PERSON audited"}),
        entry(PERSON, {OLD: "PERSON old", NEW: "PERSON new"}, "erp"),
        AuditEntry(1.0, "r0", FORMERLY, "", "Linked", "asked for by ada", "", {"crm": CRM[1]}),
        AuditEntry(3.0, "r1", LETTER, "", "Discarded", "ada: Duplicate", "", {"crm": DOUBLE[1]}),
    ],
    answers=[Answer("a1", 1.0, 1, ("name of crm/PERSON-a = erp/PERSON-1: no", "crm/other is no dead letter any more"))],
)
OTHERS = Commit(
    records=[recollection(ELSE, crm=Side(OTHER[1], 1, prints(3, 4)))],
    matches=[(6, ELSE)],
    tombstones=[("erp", "t", ELSE)],
    pending=[Undelivered(ELSE, "erp", CREATE, 1.0, error="Invalid", message=MET.format(ERP[1]), dead=True)],
    frozen=[Conflict(ELSE, "name", {"crm": "x", "erp": "y"}, 1.0)],
    dead=[DeadLetter("crm", "broken", "ContractBroken", "bad", 1.0)],
    apart=[(OTHER, SOMEBODY)],
    waiting=[OTHER],
    orphans=[Orphan(*OTHER, "name", "boss")],
    checkpoints={"erp": "c1"},
    audit=[entry(ELSE, {"crm": "else's"}), created(1.0, "r0", "erp", "", [PERSON, ELSE])],
    answers=[Answer("a2", 1.0, 2)],
)


async def rows(store: Store) -> dict[str, list[dict[str, Any]]]:
    """Table → all its rows, as an export tells them."""
    found: dict[str, list[dict[str, Any]]] = {}
    async for lines in store.export():
        for line in lines.splitlines():
            row = json.loads(line)
            found.setdefault(row.pop("type"), []).append(row)
    return {name: its for name, its in found.items() if name not in ("state", "end")}


def without(mine: list[dict[str, Any]], others: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of the one list that are not in the other."""
    return [row for row in mine if row not in others]


async def fill_with_a_person(store: Store) -> None:
    """Puts rows of every table into a store: a person's, and somebody else's."""
    await store.record_run(RunRecord("r1", "Changes", 1.0, 2.0, "Succeeded", "", {"read": 3}))
    await store.erase([("crm", "who was erased before")], unseen=True)
    for commit in (PERSONS, OTHERS):
        await store.commit(commit)
    for request in REQUESTS:
        await store.ask(request)


class ErasingTests:
    """A person is forgotten table by table, and nobody else is."""

    async def test_nothing_of_a_person_is_left_in_any_table(self, store: Store) -> None:
        await fill_with_a_person(store)
        before = await rows(store)
        assert before.keys() == {table.name for table in tables({})}
        erasure = await store.erase([CRM, DOUBLE])
        after = await rows(store)
        assert b"PERSON" not in b"".join([lines async for lines in store.export()])
        assert erasure.places == {CRM, ERP, BURIED, DOUBLE}
        assert [request.id for request in erasure.ended] == ["0002", "0003", "0005", "0006"]
        gone = {name: len(without(its, after.get(name, []))) for name, its in before.items()}
        assert Counter(gone) == {
            "record": 1,
            "checkpoint": 1,
            "match": 1,  # the other one stands in the record's row
            "tombstone": 1,
            "journal": 2,
            "pending": 2,
            "conflict": 1,
            "dead": 1,
            "waiting": 2,
            "orphan": 2,
            "audit": 4,
            "run": 0,
            "base": 1,
            "apart": 2,
            "former": 0,
            "erased": 0,
            "request": 6,
            "answer": 1,
            "meta": 1,
        }

    async def test_what_is_left_of_a_person_is_numbers_and_fingerprints(self, store: Store) -> None:
        await fill_with_a_person(store)
        before = await rows(store)
        await store.erase([CRM, DOUBLE])
        new = {name: without(its, before[name]) for name, its in (await rows(store)).items()}
        assert len(new.pop("erased")) == 2 * len({CRM, ERP, BURIED, DOUBLE})
        refused = {"done": 0, "refused": [FORGOTTEN]}
        answers = [(row["id"], row["body"]) for row in new.pop("answer")]
        assert answers == [
            *((number, refused) for number in ("0002", "0003", "0005", "0006")),
            ("a1", {"done": 1, "refused": [FORGOTTEN, "crm/other is no dead letter any more"]}),
        ]
        assert [(row["id"], row["body"]["demand"]) for row in new.pop("request")] == [
            ("0001", {"kind": "RetryDeadLetters", "writes": [[ELSE, "erp"]], "records": [list(OTHER)]}),
            ("0004", {"kind": "Undo", "run": "r1", "id": "u", "shown": [[ELSE, "m"]], "approved": ""}),
        ]
        audit = [(row["record"], row["kind"], row["rule"], row["body"]) for row in new.pop("audit")]
        assert sorted(audit) == sorted(
            [
                (PERSON, "Conflict", "onConflict: Manual", {}),
                (PERSON, "Updated", "onConflict: Manual", {}),
                (FORMERLY, "Linked", "asked for by ada", {}),
                (LETTER, "Discarded", "ada: Duplicate", {}),
            ]
        )
        assert [row["body"][1] for row in new.pop("pending")] == [MET.format("(forgotten)")]
        assert [[intent[0] for intent in row["body"][""]] for row in new.pop("journal")] == [[ELSE]]
        assert new.pop("waiting") == [{"system": "crm", "key": "child"}]
        assert new.pop("meta") == [{"name": "numbered", "value": str(FORMERLY)}]
        assert {name for name, its in new.items() if its} == set()

    async def test_nothing_is_forgotten_while_a_dead_letter_may_be_the_same_person(self, store: Store) -> None:
        await fill_with_a_person(store)
        before = await rows(store)
        erasure = await store.erase([ERP])
        assert [(letter.system, letter.key) for letter in erasure.doubtful] == [DOUBLE]
        assert (erasure.places, await rows(store)) == (frozenset(), before)

    async def test_a_dead_letter_that_holds_a_match_key_may_be_the_same_person(self, store: Store) -> None:
        broken = DeadLetter(*SOMEBODY, "ContractBroken", "bad", 1.0)
        await store.commit(Commit(records=PERSONS.records, dead=[broken]))
        await store.commit(Commit(matches=[(5, PERSON), (5, reservation(*SOMEBODY))]))
        assert (await store.erase([CRM])).doubtful == (broken,)

    async def test_two_dead_letters_that_may_be_each_other_are_forgotten_together(self, store: Store) -> None:
        one, other = (DeadLetter("crm", key, "Ambiguous", "which?", 1.0) for key in "ab")
        await store.commit(Commit(dead=[one, other], matches=[(5, reservation("crm", key)) for key in "ab"]))
        assert [(await store.erase([("crm", key)])).doubtful for key in "ab"] == [(other,), (one,)]
        assert (await store.erase([("crm", "a"), ("crm", "b")])).places == {("crm", "a"), ("crm", "b")}
        assert await all_letters(store) == []

    async def test_a_dead_letter_that_is_somebody_else_stays_and_names_the_person_no_more(self, store: Store) -> None:
        await fill_with_a_person(store)
        await store.erase([CRM], keep=[DOUBLE])
        letters = {letter.key: letter.message for letter in await all_letters(store)}
        assert letters == {DOUBLE[1]: "matches the same record as (forgotten) of the same system", "broken": "bad"}
        assert await store.erased("crm", [CRM[1], DOUBLE[1]]) == {CRM[1]}

    async def test_all_open_requests_are_looked_through(self, store: Store) -> None:
        await store.commit(PERSONS)
        for number in range(1100):
            await store.ask(asked(number, Split(OTHER)))
        await store.ask(asked(2000, Split(CRM)))
        erasure = await store.erase([CRM, DOUBLE])
        assert ([each.id for each in erasure.ended], len(await store.requests(9999))) == (["2000"], 1100)

    async def test_what_is_sealed_is_looked_through_too(self, store: Store) -> None:
        await store.unlock([KEY])
        await fill_with_a_person(store)
        erasure = await store.erase([CRM, DOUBLE])
        assert [request.id for request in erasure.ended] == ["0002", "0003", "0005", "0006"]
        found = await store.undelivered(due=1e12, dead=True)
        assert [item.message for item in found] == [MET.format("(forgotten)")]

    async def test_forgetting_again_finds_nothing_and_does_no_harm(self, store: Store) -> None:
        await fill_with_a_person(store)
        await store.erase([CRM, DOUBLE])
        before = await rows(store)
        erasure = await store.erase([CRM, DOUBLE])
        assert (erasure.unknown, await rows(store)) == ((), before)

    async def test_nothing_is_forgotten_where_nothing_is_known_of_a_key(self, store: Store) -> None:
        await fill_with_a_person(store)
        before = await rows(store)
        erasure = await store.erase([CRM, DOUBLE, ("erp", "typo")])
        assert (erasure.places, erasure.unknown) == (frozenset(), (("erp", "typo"),))
        assert await rows(store) == before

    async def test_an_unseen_key_is_erased_where_it_is_meant(self, store: Store) -> None:
        assert (await store.erase([("erp", "new")], unseen=True)).places == {("erp", "new")}
        assert await store.erased("erp", ["new", "other"]) == {"new"}

    async def test_who_was_erased_can_be_taken_in_again(self, store: Store) -> None:
        await store.erase([CRM, OTHER], unseen=True)
        assert await store.readmit([CRM, SOMEBODY]) == {CRM}
        assert await store.erased("crm", [CRM[1], OTHER[1]]) == {OTHER[1]}
        assert await store.waiting("crm") == [CRM[1]]
