"""The hard cases of the design, settled: each bullet of section 4, on the real worker and real systems.

`crm` is an HTTP API and the system of record, `erp` a PostgreSQL table, `shop` a SQLite table; they hold customers.
Every run is a worker that starts for it and stops after it. What is thin here is looked at closely elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest

from fairlead.connectors.base import Client
from fairlead.model.bundle import decode
from fairlead.model.check import check_policy
from fairlead.model.problem import Reason
from fairlead.model.syncpolicy import SyncPolicy
from fairlead.state.base import LONGEST_OUTAGE, StateError, Store
from fairlead.state.sqlite import SQLiteStore
from fairlead.testing.http_faults import Fault, FaultKind
from fairlead.testing.http_system import HTTPSystem
from fairlead.testing.store.sample import all_conflicts, all_letters
from fairlead.transport.failure import Transient
from fairlead.worker.late import UnusableClient
from fairlead.worker.run import Kind, Outcome, Run, RunReport
from fairlead.worker.session import Session
from fairlead.worker.settlement import UNCERTAIN
from support import manifests
from support.policies import open_session
from support.rest import client_to, preset
from support.sql import PostgresWorld, SQLiteWorld
from support.stores import InPostgres

FIELDS = ("email", "name", "note")
OPEN = {"guard": {"maxRecords": 100, "maxPercent": 100}}
SOME = ("y@x", "z@x")
"""Customers that are everywhere, so that the guard's share of all is more than one."""


class Firm:
    """Three systems that people work in, and the policy over them.

    Attributes:
        spec: what the policy says beside its systems.
        clients: system → how the worker reaches it; may be replaced.
    """

    def __init__(self, path: Path, dsn: str, crm: HTTPSystem) -> None:
        self.path, self.crm = path, crm
        self.erp, self.shop = PostgresWorld(dsn), SQLiteWorld(path / "shop.db")
        self.clients: dict[str, Client] = {
            "crm": client_to(crm), "erp": self.erp.client, "shop": self.shop.client
        }  # fmt: skip
        self.properties: dict[str, Any] = {name: {"type": "string"} for name in FIELDS}
        self.systems = {name: self.declared(name) for name in ("crm", "erp")}
        self.spec: dict[str, Any] = {"deletes": OPEN}
        self.ahead = 0.0
        self.audit: list[tuple[str, str, str, str]] = []

    @staticmethod
    def declared(name: str, **more: Any) -> dict[str, Any]:
        """A system of the policy."""
        database = {} if name == "crm" else {"modified": "changed"}
        thing = "customers" if name == "crm" else "customer"
        return {"name": name, "connection": name, "object": thing, "fields": {f: f for f in FIELDS}, **database, **more}

    @property
    def policy(self) -> SyncPolicy:
        """As it is declared now."""
        spec = {
            "entity": "Customer",
            "schema": {"type": "object", "properties": self.properties},
            "match": [{"fields": ["email"], "normalize": ["Trim", "Lowercase"]}],
            "systems": list(self.systems.values()),
            "systemOfRecord": "crm",
            **self.spec,
        }
        return msgspec.convert({"metadata": {"name": "customers", "uid": "u"}, "spec": spec}, SyncPolicy)

    # --- people ---

    def key(self, system: str, email: str) -> str:
        """The native id of a customer."""
        if system == "crm":
            return next(k for k, row in self.crm.store.values("customers").items() if row["email"] == email)
        return str(self._sql(system, "SELECT id FROM customer WHERE email = ?", email)[0][0])

    def add(self, system: str, *emails: str, **values: str) -> None:
        """Adds customers."""
        for email in emails:
            row = {**dict.fromkeys(FIELDS), "email": email, **values}
            if system == "crm":
                self.crm.store.create("customers", row)
            else:
                self._sql(
                    system, "INSERT INTO customer(email, name, note) VALUES (?, ?, ?) RETURNING id", *row.values()
                )

    def edit(self, system: str, email: str, /, **values: str) -> None:
        """Changes a customer."""
        key = self.key(system, email)
        if system == "crm":
            self.crm.store.patch("customers", key, values)
        else:
            sets = ", ".join(f"{name} = ?" for name in values)
            self._sql(system, f"UPDATE customer SET {sets} WHERE id = ? RETURNING id", *values.values(), int(key))

    def remove(self, system: str, email: str) -> None:
        """Deletes a customer."""
        key = self.key(system, email)
        if system == "crm":
            self.crm.store.delete("customers", key)
        else:
            self._sql(system, "DELETE FROM customer WHERE id = ? RETURNING id", int(key))

    def said(self, name: str = "name", email: str = "a@x") -> dict[str, Any]:
        """System → what it says of a customer, where it has that one."""
        found: dict[str, Any] = {}
        for system in ("crm", "erp", "shop"):
            rows = {row["email"].strip().lower(): row[name] for row in self.rows(system)}
            found |= {system: rows[email]} if email in rows else {}
        return found

    def rows(self, system: str) -> list[dict[str, Any]]:
        """All customers."""
        if system == "crm":
            return list(self.crm.store.values("customers").values())
        return [
            dict(zip(FIELDS, row, strict=True)) for row in self._sql(system, "SELECT email, name, note FROM customer")
        ]

    def _sql(self, system: str, query: str, *values: Any) -> list[tuple[Any, ...]]:
        world = self.erp if system == "erp" else self.shop
        return world.sql(query.replace("?", world.place), values)

    # --- the worker ---

    def down(self, system: str) -> Client:
        """The system cannot be reached; how it was reached before."""
        before = self.clients[system]
        self.clients[system] = UnusableClient(Transient(f"{system} is down"))
        return before

    async def session(self, store: Store) -> Session:
        """The policy, open."""
        return await open_session(self.policy, self.clients, store, lambda: time.time() + self.ahead)

    async def run(self, kind: Kind = Kind.CHANGES, **more: Any) -> RunReport:
        """One run, long enough after the last that what waits is due."""
        self.ahead += 3600
        store = SQLiteStore(self.path / "state.db")
        session = await self.session(store)
        try:
            return await Run(session, kind, **more).run()
        finally:
            rows = store._db.execute("SELECT kind, field, rule, winner FROM audit WHERE system = '' ORDER BY id")
            self.audit = rows.fetchall()
            self.letters, self.conflicts = await all_letters(store), await all_conflicts(store)
            self.dead = [item.message for item in await store.undelivered(due=1e12, dead=True) if item.dead]
            await store.close()

    async def agree(self, *emails: str, **values: str) -> Firm:
        """These customers are everywhere, and the last runs had nothing to do."""
        self.add("crm", *(emails or ("a@x",)), *SOME, **{"name": "old", **values})
        for kind in (Kind.CHANGES, Kind.CHANGES, Kind.RESYNC):
            await self.run(kind)
        return self

    async def close(self) -> None:
        await self.clients["crm"].close()
        await self.erp.close()
        await self.shop.close()


@pytest.fixture
async def firm(tmp_path: Path, database: str) -> AsyncIterator[Firm]:
    with HTTPSystem() as crm:
        made = Firm(tmp_path, database, crm)
        yield made
        await made.close()


# --- First meeting ---


async def test_first_meeting_the_system_of_record_wins_and_empty_sides_are_filled(firm: Firm) -> None:
    firm.add("crm", "a@x", name="crm's")
    firm.add("erp", "a@x", name="erp's", note="erp's")
    await firm.run()
    assert (firm.said(), firm.said("note")) == ({"crm": "crm's", "erp": "crm's"}, {"crm": "erp's", "erp": "erp's"})
    assert firm.audit == [("Overwritten", "name", "firstSync: SystemOfRecordWins", "crm")]


async def test_first_meeting_fill_empty_only_overwrites_nothing(firm: Firm) -> None:
    firm.spec["firstSync"] = "FillEmptyOnly"
    firm.add("crm", "a@x", name="crm's")
    firm.add("erp", "a@x", name="erp's", note="erp's")
    await firm.run()
    assert (firm.said(), firm.said("note")) == ({"crm": "crm's", "erp": "erp's"}, {"crm": "erp's", "erp": "erp's"})


async def test_first_meeting_under_review_waits_for_a_person_and_writes_nothing(firm: Firm) -> None:
    firm.spec["firstSync"] = "Review"
    firm.add("crm", "a@x", name="crm's")
    firm.add("erp", "a@x", name="erp's")
    await firm.run()
    firm.edit("crm", "a@x", note="another field flows")
    await firm.run()
    assert firm.said() == {"crm": "crm's", "erp": "erp's"}
    assert firm.said("note") == dict.fromkeys(("crm", "erp"), "another field flows")
    assert [c.values for c in firm.conflicts] == [{"crm": "crm's", "erp": "erp's"}]
    firm.edit("crm", "a@x", name="erp's")
    await firm.run()
    assert firm.conflicts == []


async def test_first_meeting_over_the_guard_halts_with_its_plan(firm: Firm) -> None:
    firm.spec["deletes"] = {"guard": {"maxRecords": 1, "maxPercent": 100}}
    for system in ("crm", "erp"):
        firm.add(system, "a@x", *SOME, name=f"{system}'s")
    halted = await firm.run()
    assert (halted.outcome, firm.said()["erp"]) == (Outcome.HALTED, "erp's")
    assert halted.halt is not None
    await firm.run(approved=halted.halt.plan)
    assert firm.said()["erp"] == "crm's"


async def test_first_meeting_after_the_state_was_lost_doubles_nothing(firm: Firm) -> None:
    await firm.agree()
    (firm.path / "state.db").unlink()
    firm.edit("erp", "a@x", name="erp's")
    await firm.run()
    assert (firm.said(), len(firm.rows("crm")), len(firm.rows("erp"))) == ({"crm": "old", "erp": "old"}, 3, 3)


# --- Create/create, match keys ---


async def test_create_create_of_the_same_thing_becomes_a_link(firm: Firm) -> None:
    await firm.agree("b@x")
    firm.add("crm", "a@x", name="crm's")
    firm.add("erp", " A@x", note="erp's")
    await firm.run()
    assert (len(firm.rows("crm")), len(firm.rows("erp"))) == (4, 4)
    assert (firm.said(), firm.said("note")["crm"]) == ({"crm": "crm's", "erp": "crm's"}, "erp's")


async def test_match_keys_serve_the_first_meeting_only(firm: Firm) -> None:
    await firm.agree()
    firm.edit("crm", "a@x", email="new@x")
    await firm.run()
    assert (firm.said(email="new@x"), firm.said()) == ({"crm": "old", "erp": "old"}, {})


# --- Restoring, Merge ---


async def test_restoring_reads_the_system_of_record_and_waits_for_it_alone(firm: Firm) -> None:
    firm.systems["shop"] = firm.declared("shop")
    firm.spec["fields"] = {"name": {"systemOfRecord": "shop", "edits": "SystemOfRecordOnly"}}
    await firm.agree("a@x", "b@x")
    shop = firm.down("shop")
    firm.edit("erp", "a@x", name="mine")
    firm.edit("erp", "b@x", note="new")
    await firm.run()
    assert (firm.said()["erp"], firm.said("note", "b@x")["crm"]) == ("mine", "new")
    firm.clients["shop"] = shop
    await firm.run()
    assert firm.said() == dict.fromkeys(("crm", "erp", "shop"), "old")


async def test_merge_keeps_the_old_value_and_no_other_field_does(firm: Firm) -> None:
    firm.spec["fields"] = {"note": {"onConflict": "Merge"}}
    await firm.agree(name="kept nowhere", note="one\ntwo\nthree")
    state = (firm.path / "state.db").read_bytes()
    assert (b"one\\ntwo\\nthree" in state, b"kept nowhere" in state) == (True, False)
    firm.edit("crm", "a@x", note="ONE\ntwo\nthree")
    firm.edit("erp", "a@x", note="one\ntwo\nthree\nfour")
    await firm.run()
    assert firm.said("note") == dict.fromkeys(("crm", "erp"), "ONE\ntwo\nthree\nfour")


# --- The policy changes ---


async def test_the_policy_changes_a_new_field_is_first_met(firm: Firm) -> None:
    del firm.properties["note"]
    for system in firm.systems.values():
        system["fields"].pop("note")
    await firm.agree(note="crm's")
    firm.edit("erp", "a@x", note="erp's")
    firm.properties["note"] = {"type": "string"}
    firm.systems = {name: firm.declared(name) for name in firm.systems}
    await firm.run()
    assert firm.said("note") == {"crm": "crm's", "erp": "crm's"}
    assert firm.audit == [("Overwritten", "note", "firstSync: SystemOfRecordWins", "crm")]


async def test_the_policy_changes_a_removed_field_is_written_nowhere(firm: Firm) -> None:
    await firm.agree(note="n")
    del firm.properties["note"]
    for system in firm.systems.values():
        system["fields"].pop("note")
    firm.edit("crm", "a@x", name="new", note="changed")
    await firm.run()
    assert (firm.said(), firm.said("note")["erp"]) == ({"crm": "new", "erp": "new"}, "n")


async def test_the_policy_changes_a_new_system_of_record_decides_from_now_on_and_enforcing_applies_it(
    firm: Firm,
) -> None:
    firm.spec["firstSync"] = "FillEmptyOnly"
    firm.add("erp", "a@x", name="erp's")
    await firm.agree(name="crm's")
    firm.spec["systemOfRecord"] = "erp"
    await firm.run(Kind.RESYNC)
    assert firm.said() == {"crm": "crm's", "erp": "erp's"}
    await firm.run(Kind.RESYNC, enforce=True)
    assert firm.said() == {"crm": "erp's", "erp": "erp's"}
    for system in ("crm", "erp"):
        firm.edit(system, "a@x", name=f"edited in the {system}")
    await firm.run()
    assert firm.said() == dict.fromkeys(("crm", "erp"), "edited in the erp")


async def test_the_policy_changes_a_system_that_is_added_meets_all_and_one_that_is_removed_keeps_its_data(
    firm: Firm,
) -> None:
    await firm.agree()
    firm.add("shop", "A@X", name="shop's")
    firm.systems["shop"] = firm.declared("shop")
    await firm.run()
    assert (firm.said(), len(firm.rows("shop"))) == (dict.fromkeys(("crm", "erp", "shop"), "old"), 3)
    del firm.systems["shop"]
    firm.edit("crm", "a@x", name="new")
    await firm.run(Kind.RESYNC)
    assert (firm.said(), len(firm.rows("shop"))) == ({"crm": "new", "erp": "new", "shop": "old"}, 3)


# --- A record leaves the filter ---


@pytest.mark.parametrize(("on_leave", "elsewhere"), [("Keep", "old"), ("Archive", "old"), ("Delete", None)])
async def test_a_record_leaves_the_filter(firm: Firm, on_leave: str, elsewhere: str | None) -> None:
    firm.systems["crm"] |= {"filter": "note != 'lost'", "onLeave": on_leave}
    firm.systems["erp"] |= {"archive": {"set": {"note": "archived"}}}
    await firm.agree(note="won")
    firm.edit("crm", "a@x", name="new", note="lost")
    await firm.run()
    assert firm.said().get("erp") == elsewhere
    assert firm.said("note").get("erp") == {"Keep": "won", "Archive": "archived", "Delete": None}[on_leave]


async def test_a_record_leaves_the_filter_and_the_guard_counts_it(firm: Firm) -> None:
    firm.spec["deletes"] = {"guard": {"maxRecords": 0}}
    firm.systems["crm"] |= {"filter": "note != 'lost'", "onLeave": "Delete"}
    await firm.agree(note="won")
    firm.edit("crm", "a@x", note="lost")
    assert ((await firm.run()).outcome, firm.said()["erp"]) == (Outcome.HALTED, "old")


# --- WriteOnly, LatestWins, order of reading ---


async def test_write_only_is_no_source_and_a_resync_repairs_it(firm: Firm) -> None:
    firm.systems["erp"]["access"] = "WriteOnly"
    await firm.agree()
    firm.edit("erp", "a@x", name="strayed")
    await firm.run()
    assert firm.said() == {"crm": "old", "erp": "strayed"}
    await firm.run(Kind.RESYNC)
    assert firm.said() == {"crm": "old", "erp": "old"}
    firm.edit("erp", "a@x", name="strayed again")
    firm.edit("crm", "a@x", name="new")
    await firm.run()
    assert firm.said() == {"crm": "new", "erp": "new"}


async def test_latest_wins_by_the_systems_own_times_and_a_future_time_decides_nothing(firm: Firm) -> None:
    firm.spec["fields"] = {"name": {"onConflict": "LatestWins"}}
    await firm.agree()
    firm.edit("crm", "a@x", name="first")
    firm.edit("erp", "a@x", name="last")
    await firm.run()
    assert firm.said() == {"crm": "last", "erp": "last"}
    firm.ahead = -7200
    firm.edit("crm", "a@x", name="crm's")
    firm.edit("erp", "a@x", name="erp's")
    report = await firm.run()
    assert firm.said() == {"crm": "crm's", "erp": "crm's"}
    assert "erp" in {note.record for note in report.tally.notes if note.kind == "ClockSkew"}


async def test_order_of_reading_a_write_over_an_edit_that_was_not_read_is_a_conflict(firm: Firm) -> None:
    await firm.agree()
    store = SQLiteStore(firm.path / "state.db")
    session = await firm.session(store)
    write = session.systems["erp"].write

    async def edited_just_before(writes: Any) -> Any:
        firm.edit("erp", "a@x", name="erp's")
        session.systems["erp"].write = write  # type: ignore[method-assign]
        return await write(writes)

    session.systems["erp"].write = edited_just_before  # type: ignore[method-assign]
    firm.edit("crm", "a@x", name="crm's")
    report = await Run(session, Kind.CHANGES).run()
    await store.close()
    assert firm.said() == {"crm": "crm's", "erp": "crm's"}
    assert [(note.kind, note.winner) for note in report.tally.notes] == [("Conflict", "crm")]


# --- Deletes ---


async def test_deleted_then_created_again_is_a_create_and_no_edit_of_the_old_one(firm: Firm) -> None:
    await firm.agree(note="of the first")
    old = firm.key("erp", "a@x")
    firm.remove("crm", "a@x")
    await firm.run()
    firm.add("crm", "a@x", name="second")
    await firm.run()
    assert (firm.said(), firm.said("note")) == ({"crm": "second", "erp": "second"}, {"crm": None, "erp": None})
    assert firm.key("erp", "a@x") != old


async def test_deletes_are_archived_where_that_is_declared(firm: Firm) -> None:
    firm.spec["deletes"] = {**OPEN, "action": "Archive"}
    firm.systems["erp"] |= {"archive": {"set": {"note": "archived"}}}
    await firm.agree()
    firm.remove("crm", "a@x")
    await firm.run()
    assert (firm.said(), firm.said("note")) == ({"erp": "old"}, {"erp": "archived"})
    firm.edit("erp", "a@x", note="active")
    await firm.run()
    assert firm.said() == {"crm": "old", "erp": "old"}


def test_one_field_of_one_object_belongs_to_one_policy() -> None:
    policies = [manifests.policy(), manifests.with_values(manifests.policy(), {"metadata.name": "leads"})]
    connections = {
        f"default/{each['metadata']['name']}": decode("Connection", each)
        for each in (manifests.connection(), manifests.without(manifests.database(), "spec.auth"))
    }
    connectors = {"shop": decode("Connector", manifests.full_connector())}
    decoded = [decode("SyncPolicy", policy) for policy in policies]
    for policy in decoded:
        found = check_policy(policy, connections, connectors, decoded)
        assert {problem.reason for problem in found} == {Reason.POLICY_OVERLAP}


async def test_retention_a_system_that_was_away_longer_than_tombstones_last_is_first_met_again(firm: Firm) -> None:
    await firm.agree()
    erp = firm.down("erp")
    firm.edit("erp", "a@x", name="erp's")
    for _ in range(4):
        firm.ahead += LONGEST_OUTAGE / 3
        await firm.run()
    firm.clients["erp"] = erp
    await firm.run()
    assert (firm.said(), len(firm.rows("erp"))) == ({"crm": "old", "erp": "old"}, 3)
    assert firm.audit == [("Overwritten", "name", "firstSync: SystemOfRecordWins", "crm")]


# --- what is sent, and when ---


async def test_a_create_whose_answer_was_lost_is_never_repeated_blindly(firm: Firm) -> None:
    spec = preset()
    del spec["objects"][0]["read"]["find"], spec["objects"][0]["write"]["createBatch"]
    del spec["objects"][0]["write"]["create"]["idempotencyHeader"]
    await firm.agree()
    await firm.clients["crm"].close()
    firm.clients["crm"] = client_to(firm.crm, spec)
    firm.crm.faults.add(Fault(FaultKind.LOSE_ANSWER, times=9, method="POST"))
    firm.add("erp", "b@x", name="new")
    await firm.run()
    assert (len(firm.rows("crm")), firm.dead) == (4, [UNCERTAIN])
    await firm.run()
    assert (len(firm.rows("crm")), firm.dead, firm.said(email="b@x")) == (4, [], {"crm": "new", "erp": "new"})


async def test_cursors_lose_nothing_that_a_long_transaction_commits_late(firm: Firm, database: str) -> None:
    await firm.agree()
    late = await psycopg.AsyncConnection.connect(database)
    await late.execute("INSERT INTO customer(email, name) VALUES ('late@x', 'late')")
    firm.add("erp", "soon@x", name="soon")
    await firm.run()
    await firm.run()
    assert (firm.said(email="soon@x")["crm"], firm.said(email="late@x")) == ("soon", {})
    await late.commit()
    await late.close()
    await firm.run()
    assert firm.said(email="late@x") == {"crm": "late", "erp": "late"}


async def test_cursors_lose_nothing_of_many_rows_of_the_same_moment_or_of_none(firm: Firm) -> None:
    await firm.agree()
    series = "SELECT 'm' || n || '@x', 'many', {} FROM generate_series(1, 1200) n"
    for when in ("now()", "NULL"):
        rows = series.format(when).replace("'m'", f"'{when[:2]}'")
        firm.erp.sql(f"INSERT INTO customer(email, name, changed) {rows}")
        await firm.run()
    assert len(firm.rows("crm")) == 2403


async def test_fencing_a_worker_whose_state_was_taken_over_writes_nothing(firm: Firm, state_database: str) -> None:
    await firm.agree()
    place = InPostgres(state_database, "fencing")
    store = place.store()
    session = await firm.session(store)
    await Run(session, Kind.CHANGES).run()
    with psycopg.connect(state_database, autocommit=True) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND pid <> pg_backend_pid()"
        )
    other = place.store()
    await firm.session(other)
    firm.edit("crm", "a@x", name="new")
    with pytest.raises(StateError):
        await Run(session, Kind.CHANGES).run()
    assert firm.said() == {"crm": "new", "erp": "old"}
    await store.close()
    await other.close()
