"""Host: what one process shares among its policies."""

from pathlib import Path

from fairlead.connectors.base import Capabilities
from fairlead.transport.secrets import MappingSecrets
from fairlead.worker.hosting import Host
from support.policies import connection_of, policy_of


async def test_a_connection_that_no_client_can_be_made_of_is_told_by_its_system_alone(tmp_path: Path) -> None:
    connections = {
        "default/a": connection_of("a", "mssql://db/erp"),
        "default/b": connection_of("b", f"sqlite:///{tmp_path}/b.db"),
    }
    host = Host(connections, {}, lambda _: MappingSecrets({}), tmp_path / "state")
    async with host.session(policy_of([{"name": "a"}, {"name": "b"}])) as session:
        failures = await session.open()
        assert {name: failure.reason for name, failure in failures.items()} == {
            "a": "InvalidSpec",
            "b": "DatabaseNotFound",
        }
        assert session.capabilities("a") == Capabilities()
    await host.close()
