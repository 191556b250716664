"""How requests prove who sends them, against a real server that asks for it."""

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from fairlead.testing.http_faults import Fault, FaultKind
from fairlead.testing.http_system import HTTPSystem, Logins
from fairlead.transport.answer import Answer
from fairlead.transport.exchange import Bounds
from fairlead.transport.failure import AuthRejected, Failure, Misconfigured, Throttled, Transient
from fairlead.transport.http import HTTPClient
from fairlead.transport.secrets import MappingSecrets
from support.rest import NoWaiting, http_to, ref, request_to

SECRETS = {"login": {"token": "s3cret", "user": "ann", "password": "pä:ss", "id": "cl i/ent", "secret": "s&cr=t"}}
CLIENT = ("cl+i%2Fent", "s%26cr%3Dt")
"""The client's id and secret as HTTP Basic carries them (RFC 6749 section 2.3.1)."""


@pytest.fixture
def system() -> Iterator[HTTPSystem]:
    with HTTPSystem() as system:
        yield system


async def ask(client: HTTPClient) -> Answer:
    return await client.send(request_to(client))


async def rejected(client: HTTPClient, kind: type[Failure] = AuthRejected) -> Failure:
    with pytest.raises(kind) as caught:
        await ask(client)
    return caught.value


# --- what is fixed ---

METHODS: dict[str, tuple[dict[str, Any], Logins]] = {
    "bearer": ({"bearer": {"token": ref("token")}}, Logins(bearer="s3cret")),
    "basic": ({"basic": {"username": ref("user"), "password": ref("password")}}, Logins(basic=("ann", "pä:ss"))),
    "header": (
        {"apiKey": {"in": "Header", "name": "X-Key", "value": ref("token")}},
        Logins(api_key=("X-Key", "s3cret")),
    ),
    "query": (
        {"apiKey": {"in": "Query", "name": "key", "value": ref("password")}},
        Logins(api_key=("key", "pä:ss")),
    ),
}


@pytest.mark.parametrize("method", METHODS)
async def test_who_proves_itself_comes_in(method: str) -> None:
    auth, logins = METHODS[method]
    with HTTPSystem(logins=logins) as system:
        async with http_to(system, auth=auth, secrets=SECRETS) as client:
            assert (await ask(client)).status == 200


@pytest.mark.parametrize("method", METHODS)
async def test_wrong_credentials_are_rejected_after_one_attempt(method: str) -> None:
    auth, logins = METHODS[method]
    with HTTPSystem(logins=logins) as system:
        wrong = {"login": dict.fromkeys(SECRETS["login"], "wrong")}
        async with http_to(system, auth=auth, secrets=wrong) as client:
            failure = await rejected(client)
        assert (failure.reason, failure.message, len(system.seen)) == (
            "AuthFailed",
            "GET /customers answered 401: check the Secret of the Connection's auth, and what it is allowed to do",
            1,
        )


@pytest.mark.parametrize("method", METHODS)
async def test_a_missing_secret_is_named_and_nothing_is_sent(method: str, system: HTTPSystem) -> None:
    async with http_to(system, auth=METHODS[method][0]) as client:
        failure = await rejected(client)
    assert (failure.reason, "Secret 'login' does not exist" in failure.message, len(system.seen)) == (
        "SecretNotFound",
        True,
        0,
    )


@pytest.mark.parametrize("value", ["", " s3cret", "s3\ncret", "s3crét", "s3cret\t", "s\x003"])
async def test_a_token_that_no_header_can_hold_is_told_without_it(value: str, system: HTTPSystem) -> None:
    async with http_to(system, auth=METHODS["bearer"][0], secrets={"login": {"token": value}}) as client:
        failure = await rejected(client)
    assert (failure.message, len(system.seen)) == (
        "key 'token' of Secret 'login' is empty, or holds what no header can: is it cut, or encoded twice?",
        0,
    )


async def test_a_rotated_secret_counts_from_the_next_request_on() -> None:
    values = {"login": {"token": "old"}}
    with HTTPSystem(logins=Logins(bearer="new")) as system:
        async with http_to(system, auth=METHODS["bearer"][0], secrets=MappingSecrets(values)) as client:
            await rejected(client)
            values["login"]["token"] = "new"
            assert (await ask(client)).status == 200


async def test_a_cookie_is_never_kept(system: HTTPSystem) -> None:
    system.faults.add(Fault(FaultKind.STATUS, status=200, body="{}", headers={"Set-Cookie": "session=abc; Path=/"}))
    async with http_to(system) as client:
        await ask(client)
        await ask(client)
    assert "cookie" not in system.headers[-1]


async def test_a_key_in_the_query_replaces_one_that_a_link_brings(system: HTTPSystem) -> None:
    async with http_to(system, auth=METHODS["query"][0], secrets={"login": {"password": "mine"}}) as client:
        with pytest.raises(Misconfigured):
            await client.send(request_to(client, "/nothing?x=1&key=theirs"))
    assert system.seen[-1] == ("GET", "/nothing?x=1&key=mine")


# --- OAuth 2 client credentials ---


class OAuth:
    """A system that gives tokens, and a client that asks for them."""

    def __init__(self, **logins: Any) -> None:
        self.system = HTTPSystem(logins=Logins(client=CLIENT, **logins))
        self.time = NoWaiting()

    def client(self, secrets: Mapping[str, Mapping[str, str]] = SECRETS, **more: Any) -> Any:
        auth = {
            "grant": "ClientCredentials",
            "tokenURL": f"{self.system.url}/oauth/token",
            "clientID": ref("id"),
            "clientSecret": ref("secret"),
            **more.pop("oauth2", {}),
        }
        return http_to(self.system, auth={"oauth2": auth}, secrets=secrets, time=self.time, **more)

    def fail(self, kind: FaultKind = FaultKind.STATUS, **fault: Any) -> None:
        """Lets the token endpoint fail."""
        self.system.faults.add(Fault(kind, path="/oauth", **fault))

    @property
    def asked(self) -> int:
        """How often the token endpoint was asked."""
        return sum(path == "/oauth/token" for _, path in self.system.seen)

    @property
    def served(self) -> int:
        """How often the system itself was asked."""
        return len(self.system.seen) - self.asked


@pytest.fixture
def oauth() -> Iterator[OAuth]:
    world = OAuth()
    with world.system:
        yield world


async def test_a_token_is_fetched_once_and_kept(oauth: OAuth) -> None:
    async with oauth.client() as client:
        for _ in range(5):
            await ask(client)
    assert (oauth.asked, oauth.served) == (1, 5)


async def test_scopes_are_asked_for(oauth: OAuth) -> None:
    forms = []
    issue = oauth.system.logins.issue
    oauth.system.logins = oauth.system.api.logins = Recorder(oauth.system.logins, issue, forms)  # type: ignore[assignment]
    async with oauth.client(oauth2={"scopes": ["read", "write"]}) as client:
        await ask(client)
    assert forms == [{"grant_type": ["client_credentials"], "scope": ["read write"]}]


class Recorder:
    """Logins that remember the forms that asked for tokens."""

    def __init__(self, logins: Logins, issue: Any, forms: list[Any]) -> None:
        self._logins, self._issue, self._forms = logins, issue, forms

    def issue(self, form: Any, authorization: str) -> str | None:
        self._forms.append(form)
        token: str | None = self._issue(form, authorization)
        return token

    def __getattr__(self, name: str) -> Any:
        return getattr(self._logins, name)


@pytest.mark.parametrize(("lifetime", "kept", "renewed"), [(3600.0, 3539.0, 3540.0), (100.0, 89.0, 90.0)])
async def test_a_token_is_renewed_shortly_before_its_end(lifetime: float, kept: float, renewed: float) -> None:
    world, asked = OAuth(lifetime=lifetime), []
    with world.system:
        async with world.client() as client:
            for age in (0.0, kept, renewed):
                world.time.now = 1000.0 + age
                await ask(client)
                asked.append(world.asked)
    assert asked == [1, 1, 2]


async def test_a_token_of_unknown_life_is_kept_for_five_minutes(oauth: OAuth) -> None:
    oauth.system.logins.bearer = "given"
    oauth.fail(status=200, body='{"access_token": "given", "token_type": "Bearer"}', times=9)
    asked = []
    async with oauth.client() as client:
        for age in (0.0, 269.0, 270.0):
            oauth.time.now = 1000.0 + age
            await ask(client)
            asked.append(oauth.asked)
    assert asked == [1, 1, 2]


async def test_a_rejected_token_is_renewed_once(oauth: OAuth) -> None:
    async with oauth.client() as client:
        await ask(client)
        oauth.system.logins.tokens.clear()
        answer = await ask(client)
    assert (answer.status, oauth.asked, oauth.served) == (200, 2, 3)


async def test_a_fresh_token_that_is_rejected_too_is_not_renewed_again(oauth: OAuth) -> None:
    oauth.system.faults.add(Fault(FaultKind.STATUS, path="/customers", status=401, times=9))
    async with oauth.client() as client:
        failure = await rejected(client)
    assert (failure.reason, oauth.asked, oauth.served) == ("AuthFailed", 2, 2)


async def test_many_requests_share_the_first_token(oauth: OAuth) -> None:
    async with oauth.client(limits={"concurrency": 20}) as client:
        await asyncio.gather(*(ask(client) for _ in range(20)))
    assert oauth.asked == 1


async def test_many_rejected_requests_share_one_renewal(oauth: OAuth) -> None:
    async with oauth.client(limits={"concurrency": 20}) as client:
        await ask(client)
        oauth.system.logins.tokens.clear()
        await asyncio.gather(*(ask(client) for _ in range(20)))
    assert oauth.asked == 2


async def test_a_cancelled_renewal_is_done_by_the_next_request(oauth: OAuth) -> None:
    oauth.fail(FaultKind.SLOW, seconds=0.3)
    async with oauth.client() as client:
        task = asyncio.create_task(ask(client))
        while not oauth.asked:  # noqa: ASYNC110 - the server lives in a thread of its own
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.wait([task])
        assert (await ask(client)).status == 200


async def test_an_endpoint_that_takes_the_client_in_the_body_only_is_asked_so_from_then_on() -> None:
    world = OAuth(in_body=True)
    world.system.logins.client = (SECRETS["login"]["id"], SECRETS["login"]["secret"])
    with world.system:
        async with world.client() as client:
            await ask(client)
            world.system.logins.tokens.clear()
            await ask(client)
    assert world.asked == 3


async def test_a_rejected_client_is_told_with_what_to_check(oauth: OAuth) -> None:
    async with oauth.client({"login": {"id": "someone", "secret": "canary"}}) as client:
        failure = await rejected(client)
    assert failure.message == (
        "the token endpoint at 127.0.0.1 rejects the client (401): check the Secrets of clientID and clientSecret, "
        "and scopes"
    )
    assert (failure.reason, oauth.served) == ("AuthFailed", 0)


@pytest.mark.parametrize(("status", "kind"), [(500, Transient), (503, Transient), (429, Throttled)])
async def test_an_endpoint_that_is_busy_is_asked_again(oauth: OAuth, status: int, kind: type[Failure]) -> None:
    oauth.fail(status=status, times=2)
    async with oauth.client() as client:
        assert (await ask(client)).status == 200
    assert (oauth.asked, len(oauth.time.waits)) == (3, 2)


async def test_an_endpoint_that_stays_down_is_named(oauth: OAuth) -> None:
    oauth.fail(status=502, times=9)
    async with oauth.client() as client:
        failure = await rejected(client, Transient)
    assert (failure.reason, failure.message) == ("Unavailable", "the token endpoint at 127.0.0.1 answered 502")


async def test_a_pause_that_the_endpoint_asks_for_is_kept(oauth: OAuth) -> None:
    oauth.fail(FaultKind.THROTTLE, retry_after="0")
    oauth.fail(FaultKind.THROTTLE, retry_after="7")
    async with oauth.client(retry={"maxAttempts": 3, "initialBackoff": "1ms", "maxBackoff": "10s"}) as client:
        await ask(client)
    assert max(oauth.time.waits) == 7.0


async def test_a_token_that_got_lost_leaves_no_doubt_about_a_create(oauth: OAuth) -> None:
    oauth.fail(FaultKind.LOSE_ANSWER)
    async with oauth.client() as client:
        create = request_to(client, method="POST", body=b'{"email": "a@x"}', repeatable=False)
        assert (await client.send(create)).status == 201


@pytest.mark.parametrize(
    "body",
    [
        "<html>Sign in</html>",
        "[]",
        "{}",
        '{"access_token": null}',
        '{"access_token": 17}',
        '{"access_token": ""}',
        '{"access_token": "a\\nb"}',
        '{"access_token": "ä"}',
        '{"access_token": "t", "expires_in": "soon"}',
        '{"access_token": "t", "expires_in": 1e999}',
    ],
)
async def test_what_is_no_token_is_told_without_it(oauth: OAuth, body: str) -> None:
    oauth.fail(status=200, body=body)
    async with oauth.client() as client:
        failure = await rejected(client, Misconfigured)
    assert (failure.reason, failure.message) == (
        "UnexpectedAnswer",
        "what 127.0.0.1 answered is no OAuth 2 token: check auth.oauth2.tokenURL",
    )


async def test_a_token_endpoint_that_is_not_there_is_told(oauth: OAuth) -> None:
    async with oauth.client(oauth2={"tokenURL": f"{oauth.system.url}/nowhere/token"}) as client:
        failure = await rejected(client, Misconfigured)
    assert failure.message == "the token endpoint at 127.0.0.1 answered 405: check auth.oauth2.tokenURL"


async def test_a_token_answer_without_end_is_not_read_to_its_end(oauth: OAuth) -> None:
    oauth.fail(status=200, body="x" * 100_000)
    async with oauth.client(bounds=Bounds(size=1000)) as client:
        failure = await rejected(client, Misconfigured)
    assert failure.reason == "AnswerTooLarge"


async def test_a_silent_token_endpoint_is_named(oauth: OAuth) -> None:
    oauth.fail(FaultKind.SLOW, seconds=0.2, times=9)
    async with oauth.client(bounds=Bounds(silence=0.02)) as client:
        failure = await rejected(client, Transient)
    assert (failure.reason, failure.message) == (
        "Timeout",
        f"the token endpoint at {oauth.system.url.removeprefix('http://')} was silent for 0.02 s",
    )
