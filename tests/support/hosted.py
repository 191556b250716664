"""A policy as a worker's process hosts it, with its state where the policy says."""

from pathlib import Path
from typing import Any

import msgspec
import psycopg

from fairlead.transport.secrets import MappingSecrets
from fairlead.worker.hosting import Host
from fairlead.worker.loop import PolicyLoop
from fairlead.worker.run import Outcome
from support.policies import Book, connection_of, policy_of

ON_POSTGRES = {"store": "Postgres", "connection": "state"}
LOGIN = {"name": "login", "key": "user"}
BASIC = {"username": {"secretKeyRef": LOGIN}, "password": {"secretKeyRef": LOGIN}}
SEALING = {"encryptionKey": {"secretKeyRef": {"name": "sealing", "key": "keys"}}}


class Hosted:
    """Two books, one policy over them, and a PostgreSQL database that its state may be in."""

    def __init__(self, folder: Path, dsn: str) -> None:
        server = psycopg.conninfo.conninfo_to_dict(dsn)
        self.crm, self.erp = Book(folder, "crm"), Book(folder, "erp")
        url = f"postgresql://{server['host']}:{server['port']}/{server['dbname']}?sslmode=disable"
        self.connections = {
            f"default/{name}": connection_of(name, f"sqlite:///{folder}/{name}.db") for name in ("crm", "erp")
        } | {"default/state": connection_of("state", url, auth={"basic": BASIC})}
        self.values = {"login": {"user": str(server["user"])}}
        self.secrets = MappingSecrets(self.values)
        self.state = folder / "state"
        self.hosts: list[Host] = []

    def loop(self, annotations: dict[str, str] | None = None, **spec: Any) -> PolicyLoop:
        """The policy, as another process would run it."""
        self.hosts.append(Host(self.connections, {}, lambda _: self.secrets, self.state))
        spec = {"state": ON_POSTGRES, **spec}
        policy = policy_of([{"name": "crm"}, {"name": "erp"}], **msgspec.to_builtins(spec))
        metadata = msgspec.structs.replace(policy.metadata, annotations=annotations or {})
        return PolicyLoop(msgspec.structs.replace(policy, metadata=metadata), self.hosts[-1])

    async def close(self) -> None:
        for host in self.hosts:
            await host.close()
        await self.crm.close()
        await self.erp.close()


async def outcome(loop: PolicyLoop) -> Outcome | str:
    """How a run ended, or why there was none."""
    report = await loop.run_once()
    if report is not None:
        return report.outcome
    assert loop.measured.error is not None
    return loop.measured.error.reason
