"""`make demo`: two real systems, and `fairlead run` on the files of examples/demo while people edit both.

The CRM is an HTTP API that keeps its records in a file, the ERP is a SQLite database. Everything printed between the
arrows is said by Fairlead itself; the arrows say what a person has just done in one of the systems.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[1]
FOLDER = Path(".fairlead/demo")
PORT = 18480
TOKEN = "demo"  # noqa: S105 - of a server that lives as long as the demo
PATIENCE = 15.0
"""Seconds in which two systems must agree."""


class Worker:
    """`fairlead run examples/demo`, and what it has told so far."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "fairlead", "run", "examples/demo", "--state", str(FOLDER / "state")]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._told: list[str] = []
        self._echo = threading.Thread(target=self._pass_on)
        self._echo.start()

    def _pass_on(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            print(line, end="", flush=True)
            self._told.append(line)

    def told(self, *patterns: str) -> bool:
        """Whether it has told all of this."""
        return all(any(re.search(pattern, line) for line in self._told) for pattern in patterns)

    def stop(self) -> int:
        """Stops it, as Ctrl-C does; its exit code."""
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(timeout=30)
        self._echo.join()
        return code


class CRM:
    """The CRM, as a person at its screen uses it."""

    def __init__(self) -> None:
        self._http = httpx.Client(
            base_url=f"http://127.0.0.1:{PORT}", headers={"Authorization": f"Bearer {TOKEN}"}, trust_env=False
        )

    def add(self, object_name: str, **values: object) -> None:
        """Creates a record."""
        self._http.post(f"/{object_name}", json=values).raise_for_status()

    def customer(self, email: str) -> dict[str, object] | None:
        """A customer, or None."""
        found = self._http.get("/customers", params={"email": email}).raise_for_status().json()["items"]
        return found[0] if found else None

    def edit(self, email: str, **values: object) -> None:
        """Changes a customer."""
        found = self.customer(email) or {}
        self._http.patch(f"/customers/{found['id']}", json=values).raise_for_status()

    def delete(self, email: str) -> None:
        """Deletes a customer."""
        found = self.customer(email) or {}
        self._http.delete(f"/customers/{found['id']}").raise_for_status()

    def count(self, name: str) -> int:
        """How many records there are."""
        return len(self._http.get(f"/{name}", params={"limit": 1000}).raise_for_status().json()["items"])


class ERP:
    """The ERP's database."""

    def __init__(self) -> None:
        self._database = sqlite3.connect(FOLDER / "erp.db", isolation_level=None, timeout=10)
        self._database.executescript((ROOT / "examples/demo/erp.sql").read_text())

    def edit(self, mail: str, **values: object) -> None:
        """Changes a customer."""
        sets = ", ".join(f"{name} = ?" for name in values)
        self._database.execute(f"UPDATE customer SET {sets} WHERE mail = ?", (*values.values(), mail))  # noqa: S608

    def customer(self, mail: str) -> dict[str, object] | None:
        """A customer, or None."""
        cursor = self._database.execute("SELECT * FROM customer WHERE mail = ?", (mail,))
        row = cursor.fetchone()
        return dict(zip([column[0] for column in cursor.description], row, strict=True)) if row else None


def say(text: str) -> None:
    """What a person does."""
    arrow = "\033[36m→\033[0m" if sys.stdout.isatty() else "→"
    print(f"\n{arrow} {text}", flush=True)


def wait_until(what: str, agreed: Callable[[], bool]) -> None:
    """Waits until the systems agree, or until that was told; the demo fails if it does not happen."""
    deadline = time.monotonic() + PATIENCE
    while not agreed():
        if time.monotonic() > deadline:
            sys.exit(f"demo: {what} did not happen within {PATIENCE:.0f} s")
        time.sleep(0.1)


def start_crm() -> subprocess.Popen[str]:
    """Starts the HTTP API and waits until it listens."""
    command = [sys.executable, "-m", "fairlead.testing.http_system", "--port", str(PORT), "--token", TOKEN]
    command += ["--data", str(FOLDER / "crm.db"), "--object", "customers:email", "--object", "products:sku"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    if not process.stdout.readline():
        sys.exit(f"demo: the CRM did not start; is port {PORT} in use?")
    return process


def story(crm: CRM, erp: ERP, worker: Worker) -> None:
    """What people do, and what must come of it, in the systems and in what is told, before they do the next thing."""
    wait_until("the first sync", lambda: crm.count("products") == 3 and crm.count("customers") == 4)
    wait_until("Ada's address in the ERP", lambda: erp.customer("Ada@example.com") is not None)
    wait_until("the report on it", lambda: worker.told("products .*3 created", "name of .* = erp/2 overwritten"))

    say("in the CRM: Ada gets a new phone number; in the ERP: Alan's credit is raised")
    crm.edit("Ada@example.com", contact={"phone": "+44 20 99"})
    erp.edit("alan@example.com", credit_limit=250)
    wait_until("Ada's phone in the ERP", lambda: (erp.customer("Ada@example.com") or {}).get("phone") == "+44 20 99")
    wait_until("Alan's credit in the CRM", lambda: (crm.customer("alan@example.com") or {}).get("credit") == 250)
    wait_until(
        "the report on them", lambda: worker.told("crm: (1 changed, )?1 updated", "erp: (1 changed, )?1 updated")
    )

    say("in the CRM: somebody raises Ada's credit, which the ERP owns")
    crm.edit("Ada@example.com", credit=1_000_000)
    wait_until("the reverted credit", lambda: (crm.customer("Ada@example.com") or {}).get("credit") == 5000)
    wait_until("the report on it", lambda: worker.told("edit of credit .* reverted"))

    say("in both at once: Grace's name (the CRM is the system of record), and her note (which waits for a person)")
    crm.edit("grace@example.com", name="Grace B. Hopper", note="call on Monday")
    erp.edit("grace@example.com", name="Hopper, Grace", remark="call on Friday")
    wait_until("the CRM's name", lambda: (erp.customer("grace@example.com") or {}).get("name") == "Grace B. Hopper")
    wait_until("the report on it", lambda: worker.told("conflict on name", "conflict on note"))

    say("in the CRM: Katherine is deleted")
    crm.delete("katherine@example.com")
    wait_until("the delete", lambda: erp.customer("katherine@example.com") is None)
    wait_until("the report on it", lambda: worker.told("deleted in crm"))


def main() -> int:
    """Runs the demo; its exit code."""
    os.chdir(ROOT)
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    erp, processes = ERP(), [start_crm()]
    try:
        crm = CRM()
        crm.add("customers", email="Ada@example.com", name="Ada King", credit=1)
        crm.add("customers", email="grace@example.com", name="Grace Hopper", contact={"phone": "+1 555 2"})
        crm.add("customers", email="katherine@example.com", name="Katherine Johnson", contact={"phone": "+1 555 4"})
        say("fairlead run examples/demo")
        worker = Worker()
        processes.append(worker.process)
        story(crm, erp, worker)
        return worker.stop()
    finally:
        for process in processes:
            process.terminate()
            process.wait(timeout=10)


sys.exit(main())
