"""Several `fairlead worker` processes that share one policy between two HTTP APIs, with its state in PostgreSQL."""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, cast

import httpx
import yaml
from psycopg.conninfo import conninfo_to_dict

from fairlead.model.syncpolicy import SyncPolicy
from fairlead.state.base import Intent
from fairlead.state.postgres_crew import PostgresCrew
from fairlead.testing.http_system import HTTPSystem, Logins
from fairlead.worker.delivery import Delivery
from fairlead.worker.helping import Helper
from fairlead.worker.parcel import Parcel, Share
from fairlead.worker.sharing import Sharing
from support.site import Document, environment, policy, resource, rest, system, wait_until
from support.trade import Trade

WRITES = ("POST", "PATCH", "DELETE")
LOGIN = {"username": {"secretKeyRef": {"name": "login", "key": "user"}}}
LOGIN["password"] = LOGIN["username"]
TOKEN = {"bearer": {"token": {"secretKeyRef": {"name": "api", "key": "token"}}}}
PRESET = Path(__file__).parents[2] / "operator/fairlead/connectors/presets/rest.yaml"


def known_system(data: Path) -> HTTPSystem:
    """An API that knows every worker by its token, keeps all requests in mind, and finds customers by email quickly."""
    made = HTTPSystem(data, logins=Logins(bearer="a person"))
    with closing(sqlite3.connect(data)) as database:
        database.execute("CREATE INDEX by_email ON record(object, json_extract(body, '$.\"email\"'))")
    made.api.headers = made.headers = deque(maxlen=100_000)
    return made


def plain_connector() -> Document:
    """The preset without what hides a create that is sent twice; each write is a request of its own."""
    connector: Document = yaml.safe_load(PRESET.read_text())
    write = connector["spec"]["objects"][0]["write"]
    del write["createBatch"], write["create"]["idempotencyHeader"]
    return connector


class Worker:
    """One process. Each has a token of its own, so that systems can tell who wrote."""

    def __init__(self, crew: Crew, name: str) -> None:
        self.name = name
        secrets = crew.folder / name / "secrets"
        for secret, key, value in (("api", "token", name), ("login", "user", crew.user)):
            (secrets / secret).mkdir(parents=True)
            (secrets / secret / key).write_text(value)
        for api in (crew.crm, crew.erp):
            api.logins.tokens[name] = float("inf")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._log = crew.folder / name / "log"
        folders = {"config": crew.config, "secrets": secrets, "state": crew.folder / name / "state"}
        command = [sys.executable, "-m", "fairlead", "worker", "--port", str(self.port)]
        command += [part for option, folder in folders.items() for part in (f"--{option}", str(folder))]
        with self._log.open("w") as log:
            self.process = subprocess.Popen(command, env=environment(), stdout=log, stderr=log)

    def log(self) -> list[dict[str, Any]]:
        """What it told so far."""
        lines = self._log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def events(self) -> list[str]:
        """In short."""
        return [line["event"] for line in self.log()]

    def answer(self, path: str) -> str:
        """What it says on its port; empty before it listens."""
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/{path}", timeout=5, trust_env=False).text
        except httpx.TransportError:
            return ""

    def leads(self) -> bool:
        """Whether it says that it leads."""
        return 'fairlead_worker_leads{policy="default/customers"} 1.0' in self.answer("metrics")

    def helps(self) -> bool:
        """Whether it says that it helps."""
        return " Helping " in self.answer("readyz")

    def send(self, number: signal.Signals) -> None:
        """Sends it a signal."""
        self.process.send_signal(number)

    def ended(self) -> int:
        """Its exit code, once it has ended in order."""
        self.send(signal.SIGTERM)
        return self.process.wait(60)

    def kill(self) -> None:
        """Ends it at once, whatever it does."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Crew:
    """The workers, the systems and the state."""

    def __init__(self, folder: Path, dsn: str, crm: HTTPSystem, erp: HTTPSystem) -> None:
        server = conninfo_to_dict(dsn)
        self.folder, self.crm, self.erp, self.user = folder, crm, erp, str(server["user"])
        self.config = folder / "config"
        self.config.mkdir()
        url = f"postgresql://{server['host']}:{server['port']}/{server['dbname']}?sslmode=disable"
        state = resource("Connection", "state", connector="sql", url=url, auth={"basic": LOGIN})
        apis = [rest("crm", crm.url, auth=TOKEN), rest("erp", erp.url, auth=TOKEN)]
        (self.config / "connections.yaml").write_text(yaml.safe_dump_all([*apis, state]))
        (self.config / "connectors.yaml").write_text(yaml.safe_dump(plain_connector()))
        self.declare(3)
        self.workers: list[Worker] = []

    def declare(self, replicas: int) -> None:
        """Says how many workers there are to be, as the operator renders it."""
        systems = [system(name, object="customers") for name in ("crm", "erp")]
        document: Document = policy(
            *systems,
            state={"store": "Postgres", "connection": "state"},
            worker={"replicas": replicas},
            deletes={"guard": {"maxRecords": 10_000, "maxPercent": 100}},
        )
        (self.config / "policy.yaml").write_text(yaml.safe_dump(document))

    def start(self, *names: str) -> list[Worker]:
        """Starts workers."""
        started = [Worker(self, name) for name in names]
        self.workers += started
        return started

    def leader(self) -> Worker:
        """The one that leads, as soon as one does and all others that live help."""
        living = [worker for worker in self.workers if worker.process.poll() is None]
        wait_until(lambda: sum(w.leads() for w in living) == 1 and sum(w.helps() for w in living) == len(living) - 1)
        return next(worker for worker in living if worker.leads())

    def wrote(self, worker: Worker | None = None) -> int:
        """Writes that reached a system, of one worker or of all."""
        wanted = {f"Bearer {each.name}" for each in ([worker] if worker else self.workers)}
        return sum(
            method in WRITES and headers.get("authorization") in wanted
            for api in (self.crm, self.erp)
            for (method, _), headers in zip(list(api.seen), list(api.headers), strict=False)
        )

    def agree(self, expected: dict[str, str]) -> bool:
        """Whether both systems have exactly these customers, each once."""
        return all(content(api) == Counter(expected.items()) for api in (self.crm, self.erp))

    def settle(self, expected: dict[str, str], seconds: float = 150.0) -> None:
        """Waits until both systems agree, and shows how they differ when they do not."""
        deadline = time.monotonic() + seconds
        while not self.agree(expected) and time.monotonic() < deadline:
            time.sleep(1)  # looking costs the systems' time
        assert [content(api) - Counter(expected.items()) for api in (self.crm, self.erp)] == [Counter()] * 2
        assert [Counter(expected.items()) - content(api) for api in (self.crm, self.erp)] == [Counter()] * 2

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()


class Handing:
    """In the place of `Sharing`: whatever is written is handed to a helper of its own, just after `meanwhile`."""

    def __init__(self, trade: Trade, declared: SyncPolicy, meanwhile: Callable[[], None]) -> None:
        self._trade, self._declared, self._meanwhile = trade, declared, meanwhile

    async def send(self, delivery: Delivery, head: Share, batch: Sequence[Intent]) -> None:
        """Hands a batch over, and takes in what came of it."""
        self._meanwhile()
        host = self._trade.another_host()
        session = await host.assist(self._declared)
        helper = Helper(cast("PostgresCrew", None), session, host.referring, "")
        memories = await session.store.recall([intent.record for intent in batch])
        parcel = await helper._sent(head, batch, memories, recovering=head.recovering)
        delivery.take_in(head.system, Parcel.load(parcel.dump()))
        await session.store.close()
        await host.close()


@asynccontextmanager
async def handing(trade: Trade, declared: SyncPolicy, meanwhile: Callable[[], None]) -> AsyncIterator[None]:
    """Whatever the policy writes meanwhile is sent by a helper, just after something else happened."""
    async with trade.host.session(declared) as session:
        session.sharing = cast("Sharing", Handing(trade, declared, meanwhile))
        yield
        session.sharing = None


def content(api: HTTPSystem) -> Counter[tuple[str, str]]:
    """(email, name) of every customer, as often as it is there."""
    return Counter((row["email"], row["name"]) for row in api.store.values("customers").values())
