"""Whom a Connection trusts: certificates are always verified, and messages say what to do."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from fairlead.testing.http_system import HTTPSystem, Logins
from fairlead.transport.failure import AuthRejected, Failure, Misconfigured
from fairlead.transport.secrets import DirectorySecrets
from support.rest import http_to, ref, request_to

BUNDLE = {"caBundle": ref("ca.crt", "ca")}


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def stranger() -> trustme.CA:
    return trustme.CA()


def pem(*authorities: trustme.CA) -> str:
    return "# Größtes Vertrauen\n".join(authority.cert_pem.bytes().decode() for authority in authorities)


def served(folder: Path, authority: trustme.CA, *names: str, **system: Any) -> HTTPSystem:
    """A system whose certificate has these names."""
    certificate = authority.issue_cert(*names)
    chain, key = folder / "chain.pem", folder / "key.pem"
    chain.write_bytes(b"".join(part.bytes() for part in certificate.cert_chain_pems))
    certificate.private_key_pem.write_to_path(key)
    return HTTPSystem(tls=(str(chain), str(key)), **system)


@pytest.fixture
def system(authority: trustme.CA, tmp_path: Path) -> Iterator[HTTPSystem]:
    with served(tmp_path, authority, "127.0.0.1") as system:
        yield system


async def status(system: HTTPSystem, bundle: str | None, **connection: Any) -> int:
    tls = {**({"caBundle": ref("ca.crt", "ca")} if bundle is not None else {}), **connection.pop("tls", {})}
    async with http_to(system, secrets={"ca": {"ca.crt": bundle or ""}}, tls=tls, **connection) as client:
        return (await client.send(request_to(client))).status


async def refused(system: HTTPSystem, bundle: str | None, **connection: Any) -> Failure:
    with pytest.raises(Misconfigured) as caught:
        await status(system, bundle, **connection)
    return caught.value


async def test_a_system_that_the_bundle_vouches_for_is_trusted(system: HTTPSystem, authority: trustme.CA) -> None:
    assert await status(system, pem(authority)) == 200


async def test_a_bundle_may_hold_several_authorities(
    system: HTTPSystem, authority: trustme.CA, stranger: trustme.CA
) -> None:
    assert await status(system, pem(stranger, authority)) == 200


async def test_a_bundle_may_come_from_a_config_map(system: HTTPSystem, authority: trustme.CA) -> None:
    tls = {"caBundle": {"configMapKeyRef": {"name": "ca", "key": "ca.crt"}}}
    async with http_to(system, secrets={"ca": {"ca.crt": pem(authority)}}, tls=tls) as client:
        assert (await client.send(request_to(client))).status == 200


@pytest.mark.parametrize("known", [False, True])
async def test_a_system_that_nobody_vouches_for_is_not_spoken_to(
    system: HTTPSystem, stranger: trustme.CA, *, known: bool
) -> None:
    failure = await refused(system, pem(stranger) if known else None)
    host = system.url.removeprefix("https://")
    assert (failure.reason, failure.message.startswith(f"{host} does not prove who it is (")) == ("TLSFailed", True)
    assert failure.message.endswith(
        "): set tls.caBundle to its authority, or tls.serverName to the name in its certificate"
    )
    assert list(system.seen) == []


async def test_a_certificate_for_another_name_is_refused(authority: trustme.CA, tmp_path: Path) -> None:
    with served(tmp_path, authority, "erp.example.org") as system:
        failure = await refused(system, pem(authority))
    assert (failure.reason, "IP address mismatch" in failure.message) == ("TLSFailed", True)


async def test_the_name_in_the_certificate_may_be_told(authority: trustme.CA, tmp_path: Path) -> None:
    with served(tmp_path, authority, "erp.example.org") as system:
        assert await status(system, pem(authority), tls={"serverName": "erp.example.org"}) == 200


async def test_the_told_name_must_be_in_the_certificate(authority: trustme.CA, tmp_path: Path) -> None:
    with served(tmp_path, authority, "erp.example.org") as system:
        failure = await refused(system, pem(authority), tls={"serverName": "crm.example.org"})
    assert (failure.reason, "Hostname mismatch" in failure.message) == ("TLSFailed", True)


async def test_tokens_are_fetched_under_the_same_name_and_trust(authority: trustme.CA, tmp_path: Path) -> None:
    with served(tmp_path, authority, "erp.example.org", logins=Logins(client=("id", "secret"))) as system:
        auth = {
            "oauth2": {
                "grant": "ClientCredentials",
                "tokenURL": f"{system.url}/oauth/token",
                "clientID": ref("id"),
                "clientSecret": ref("secret"),
            }
        }
        secrets = {"ca": {"ca.crt": pem(authority)}, "login": {"id": "id", "secret": "secret"}}
        tls = {**BUNDLE, "serverName": "erp.example.org"}
        async with http_to(system, auth=auth, secrets=secrets, tls=tls) as client:
            assert (await client.send(request_to(client))).status == 200


EMPTY = "-----BEGIN CERTIFICATE-----\nbad\n-----END CERTIFICATE-----"


@pytest.mark.parametrize("bundle", ["", "\n", "canary", EMPTY, "ä"])
async def test_a_bundle_that_holds_no_certificates_is_told_without_it(system: HTTPSystem, bundle: str) -> None:
    failure = await refused(system, bundle)
    assert (failure.reason, failure.message) == (
        "TLSFailed",
        "key 'ca.crt' of 'ca' (tls.caBundle) holds no PEM certificates: it must start with -----BEGIN CERTIFICATE-----",
    )


async def test_a_bundle_that_is_missing_is_named(system: HTTPSystem) -> None:
    async with http_to(system, tls=BUNDLE) as client:
        with pytest.raises(AuthRejected) as caught:
            await client.send(request_to(client))
    assert (caught.value.reason, "'ca' does not exist" in caught.value.message) == ("SecretNotFound", True)


async def test_a_bundle_that_is_replaced_counts_from_the_next_request_on(
    system: HTTPSystem, authority: trustme.CA, stranger: trustme.CA, tmp_path: Path
) -> None:
    (tmp_path / "ca").mkdir()
    (tmp_path / "ca" / "ca.crt").write_text(pem(stranger))
    async with http_to(system, tls=BUNDLE, secrets=DirectorySecrets(tmp_path)) as client:
        with pytest.raises(Misconfigured):
            await client.send(request_to(client))
        (tmp_path / "ca" / "ca.crt").write_text(pem(authority))
        assert (await client.send(request_to(client))).status == 200


async def test_https_to_a_server_of_plain_http_says_what_to_check() -> None:
    with HTTPSystem() as system:
        async with http_to(system.url.replace("http:", "https:")) as client:
            with pytest.raises(Misconfigured) as caught:
                await client.send(request_to(client))
    host = system.url.removeprefix("http://")
    assert (caught.value.reason, caught.value.message) == (
        "TLSFailed",
        f"{host} does not speak TLS as we do: check the port and scheme in spec.url",
    )


async def test_plain_http_to_a_server_of_https_says_that_it_hung_up(system: HTTPSystem) -> None:
    async with http_to(system.url.replace("https:", "http:")) as client:
        with pytest.raises(Failure) as caught:
            await client.send(request_to(client))
    hint = "if it lasts, see its log, and scheme and port of spec.url"
    assert caught.value.message == f"{system.url.removeprefix('https://')} hung up on GET /customers: {hint}"
