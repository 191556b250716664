"""An error that nobody foresaw ends the run in which it came up, and nothing else."""

import asyncio
from pathlib import Path

import msgspec

from fairlead.model.common import KeyRef
from fairlead.model.health import Measured, PolicyReason, conclude
from fairlead.model.syncpolicy import Mode
from fairlead.transport.secrets import MappingSecrets, Secrets
from fairlead.worker.hosting import Host
from fairlead.worker.loop import PolicyLoop, work_all
from support.policies import Book, connection_of, policy_of

KEY = {"encryptionKey": {"secretKeyRef": {"name": "sealing", "key": "key"}}}
SOUND = MappingSecrets({"sealing": {"key": "a key of at least thirty-two characters"}})


class Faulty:
    """Secrets that are read with a fault of ours, and would tell a value by it."""

    sound = False

    def get(self, ref: KeyRef) -> str:
        return SOUND.get(ref) if self.sound else str({}["jane@example.com"])


async def test_an_unexpected_error_ends_its_own_run_and_no_other_policy(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    faulty, told = Faulty(), list[tuple[str, Measured]]()
    books = {name: (Book(tmp_path / name, "crm"), Book(tmp_path / name, "erp")) for name in ("one", "two")}
    connections = {
        f"{folder}/{name}": connection_of(name, f"sqlite:///{tmp_path / folder}/{name}.db")
        for folder in books
        for name in ("crm", "erp")
    }
    secrets: dict[str, Secrets] = {"one": faulty, "two": SOUND}
    host = Host(connections, {}, secrets.__getitem__, tmp_path / "state")
    stop = asyncio.Event()

    async def listener(loop: PolicyLoop, _: object) -> None:
        told.append((loop.policy.metadata.namespace, loop.measured))
        if len(told) == 2:
            faulty.sound = True
            for each in loops:
                each.request()
        if len(told) >= 4:
            stop.set()

    policy = policy_of([{"name": "crm"}, {"name": "erp"}], state=KEY)
    loops = [
        PolicyLoop(
            msgspec.structs.replace(policy, metadata=msgspec.structs.replace(policy.metadata, namespace=namespace)),
            host,
            [listener],
        )
        for namespace in books
    ]
    for crm, _ in books.values():
        crm.add("a@x.com")
    async with asyncio.timeout(20):
        await work_all(loops, stop)
    await host.close()
    found = {(namespace, conclude(measured, Mode.ENFORCE).reason) for namespace, measured in told[:2]}
    assert found == {("one", PolicyReason.RUN_FAILED), ("two", PolicyReason.IN_SYNC)}
    error = next(measured.error for namespace, measured in told if namespace == "one")
    assert error is not None
    assert "an unexpected KeyError" in error.message
    assert "jane" not in error.message
    assert {name: list(erp.all()) for name, (_, erp) in books.items()} == {"one": ["a@x.com"], "two": ["a@x.com"]}
    assert all(loop.measured.error is None for loop in loops)
    for pair in books.values():
        for book in pair:
            await book.close()
