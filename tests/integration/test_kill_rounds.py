"""A worker that is killed at any moment, again and again, while people work in two PostgreSQL databases.

`FAIRLEAD_KILL_ROUNDS` says how often; `make prove` does 200. Nothing refuses duplicates, so one would be seen.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from support.site import Document, Site, policy, resource, system

ROUNDS = int(os.environ.get("FAIRLEAD_KILL_ROUNDS", "8"))
SETTLES = 10
"""Rounds after which the worker may come to rest, and everything is compared."""

FIELDS = ("name", "note")
STATES = {"SQLite": {"store": "SQLite"}, "Postgres": {"store": "Postgres", "connection": "crm"}}
LOGIN = {"name": "login", "key": "user"}
TABLE = (
    "CREATE TABLE {0}.customer(id serial PRIMARY KEY, email text, name text, note text, changed timestamptz DEFAULT "
    "clock_timestamp()); CREATE FUNCTION {0}.touch() RETURNS trigger LANGUAGE plpgsql AS "
    "'BEGIN new.changed = clock_timestamp(); RETURN new; END'; CREATE TRIGGER touched BEFORE UPDATE ON {0}.customer "
    "FOR EACH ROW EXECUTE FUNCTION {0}.touch()"
)
Row = tuple[Any, ...]


class Staff:
    """People who work in both systems, and what became of all that they entered."""

    def __init__(self, admin: psycopg.Connection[Any], chance: random.Random) -> None:
        self._db = admin
        self._chance = chance
        self._count = 0
        self.entered: set[str] = set()
        self.replaced: set[str] = set()
        self.deleted: set[str] = set()

    def _value(self) -> str:
        self._count += 1
        value = f"v{self._count}v"
        self.entered.add(value)
        return value

    def act(self) -> None:
        """Somebody creates, changes or deletes a customer."""
        place = self._chance.choice(("crm", "erp"))
        emails = [email for (email,) in self._db.execute(f"SELECT email FROM {place}.customer ORDER BY email")]
        dice = self._chance.random()
        if dice < 0.3 or len(emails) < 5:
            self._create(place)
        elif dice < 0.9:
            # Often one of the first: that two people change the same thing is what rules are for.
            self._change(place, self._chance.choice(emails[: 5 if dice < 0.6 else None]), self._chance.choice(FIELDS))
        else:
            self._delete(place, self._chance.choice(emails))

    def _create(self, place: str) -> None:
        values = (f"{self._count}@{place}", self._value(), self._value())
        self._db.execute(f"INSERT INTO {place}.customer(email, name, note) VALUES (%s, %s, %s)", values)

    def _change(self, place: str, email: str, field: str) -> None:
        """Changes a field, and notes what stood in it: that was replaced knowingly."""
        with self._db.transaction():
            found = self._db.execute(f"SELECT {field} FROM {place}.customer WHERE email = %s FOR UPDATE", [email])
            before = found.fetchone()
            if before is not None:
                self.replaced.add(before[0])
                values = [self._value(), email]
                self._db.execute(f"UPDATE {place}.customer SET {field} = %s WHERE email = %s", values)

    def _delete(self, place: str, email: str) -> None:
        gone = self._db.execute(f"DELETE FROM {place}.customer WHERE email = %s RETURNING name, note", [email])
        self.deleted.add(email)
        self.replaced |= {value for row in gone for value in row}


@pytest.fixture
def site(tmp_path: Path, database: str, admin: psycopg.Connection[Any]) -> Site:
    made = Site(tmp_path)
    for name in ("crm", "erp"):
        admin.execute(f"CREATE SCHEMA {name}")
        admin.execute(TABLE.format(name))
    secret: Document = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "login"}}
    user = str(conninfo_to_dict(database)["user"])
    secret["stringData"] = {"user": user}
    made.write("connections", secret, *(connection(name, database) for name in ("crm", "erp")))
    return made


def connection(name: str, dsn: str) -> Document:
    parts = conninfo_to_dict(dsn)
    url = f"postgresql://{parts['host']}:{parts['port']}/{parts['dbname']}?sslmode=disable"
    login = {"username": {"secretKeyRef": LOGIN}, "password": {"secretKeyRef": LOGIN}}
    return resource("Connection", name, connector="sql", url=url, auth={"basic": login})


def rows(admin: psycopg.Connection[Any], place: str, *columns: str) -> Counter[Row]:
    """The customers of a system, as often as they are there."""
    return Counter(admin.execute(f"SELECT {', '.join(columns)} FROM {place}.customer").fetchall())


def versions(admin: psycopg.Connection[Any]) -> list[Counter[Row]]:
    """What every row is, and which write made it so."""
    return [rows(admin, place, "email", "name", "note", "xmin::text") for place in ("crm", "erp")]


@pytest.mark.timeout(60 + 10 * ROUNDS)
@pytest.mark.parametrize("store", STATES)
def test_whatever_is_killed_when_nothing_is_lost_doubled_or_echoed(
    site: Site, admin: psycopg.Connection[Any], store: str
) -> None:
    declared = [system(name, object=f"{name}.customer", modified="changed") for name in ("crm", "erp")]
    deletes = {"propagate": "FromAny", "guard": {"maxRecords": 10_000, "maxPercent": 100}}
    site.write("policy", policy(*declared, deletes=deletes, state=STATES[store]))
    chance = random.Random(f"{store} {ROUNDS}")  # noqa: S311 - a history that can be played again
    staff = Staff(admin, chance)
    for number in range(1, ROUNDS + 1):
        with site.worker() as worker:
            until = time.monotonic() + chance.uniform(0.5, 3.0)
            while time.monotonic() < until and worker.poll() is None:
                staff.act()
                time.sleep(chance.uniform(0, 0.1))
            assert worker.poll() is None
            worker.send_signal(signal.SIGKILL)
            worker.communicate()
        if number % SETTLES == 0 or number == ROUNDS:
            comes_to_rest(site, admin)
            nothing_is_lost(site, admin, staff)
            what_was_deleted_is_gone(site, admin, staff)


def comes_to_rest(site: Site, admin: psycopg.Connection[Any]) -> None:
    """Deletes are found by a resync; the next one must have nothing to do."""
    report = resync(site)
    columns = ("email", "name", "note")
    assert rows(admin, "crm", *columns) == rows(admin, "erp", *columns), report
    assert set(rows(admin, "crm", "email").values()) == {1}
    before = versions(admin)
    resync(site)
    assert versions(admin) == before


def resync(site: Site) -> str:
    """Compares every record; what the run says of itself."""
    site.annotate("resync-requested-at", str(time.time()))
    done = site.once("--output", "json")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def nothing_is_lost(site: Site, admin: psycopg.Connection[Any], staff: Staff) -> None:
    standing = {value for row in rows(admin, "crm", *FIELDS) for value in row}
    told = set(re.findall(r"v\d+v", exported(site)))
    assert staff.entered - standing - staff.replaced - told == set()


def what_was_deleted_is_gone(site: Site, admin: psycopg.Connection[Any], staff: Staff) -> None:
    """But for what somebody edited elsewhere meanwhile: that is back, and the audit tells it."""
    lines = [json.loads(line) for line in exported(site).splitlines()]
    records = {line["sides"]["crm"]["key"]: line["id"] for line in lines if line["type"] == "record"}
    told = {line["record"] for line in lines if line["type"] == "audit" and line["kind"] == "Recreated"}
    back = {str(key): email for key, email in rows(admin, "crm", "id", "email") if email in staff.deleted}
    assert {email for key, email in back.items() if records[key] not in told} == set()


def exported(site: Site) -> str:
    """All that the policy remembers."""
    return site.fairlead("state", "export", "manifests", "--policy", "customers").stdout
