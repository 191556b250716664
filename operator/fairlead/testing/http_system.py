"""A small real HTTP API that keeps records in a SQLite file, for demos and tests.

    python -m fairlead.testing.http_system --port 0 --data crm.db --object customers:email --token s3cret

It speaks what the packaged connector `rest` expects:

    GET    /                            the objects
    GET    /{object}                    a list: limit and cursor | page | offset, or the Link header;
                                        updated_since, deleted_since, ids=a,b, or attribute=value
    POST   /{object}                    create; honours Idempotency-Key
    POST   /{object}/batch              create many: {"items": […]} → {"results": [{status, record | error}]}
    GET, PATCH, PUT, DELETE /{object}/{id}   one record, with ETag, If-Match and If-None-Match
    POST   /oauth/token                 client credentials grant
    PUT    /-/faults                    a list of faults to come (see `http_faults`)

An `email` without @ is refused with 422.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import binascii
import os
import secrets
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlencode

import msgspec
import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fairlead.testing.http_faults import Fault, FaultKind, Faults
from fairlead.testing.http_server import Server, config_of, connection_of
from fairlead.testing.http_store import DuplicateError, RecordStore, Row, Slice

MAX_PAGE = 1000
"""Most records in one page, whatever was asked for."""


class Logins(msgspec.Struct):
    """Credentials that are accepted; when none is set, everyone is.

    Attributes:
        bearer: a fixed token.
        api_key: (name, value) of a header or query parameter.
        basic: (user, password).
        client: (id, secret) of an OAuth 2 client.
        lifetime: seconds for which an issued token is good.
        tokens: issued token → when it expires, by the monotonic clock.
        issued: how many tokens were issued.
        in_body: accept client credentials only in the body of the token request.
    """

    bearer: str | None = None
    api_key: tuple[str, str] | None = None
    basic: tuple[str, str] | None = None
    client: tuple[str, str] | None = None
    lifetime: float = 3600.0
    tokens: dict[str, float] = {}
    issued: int = 0
    in_body: bool = False

    def accept(self, request: Request) -> bool:
        """Whether a request brings one of them."""
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme == "Bearer":
            return given == self.bearer or self.tokens.get(given, 0.0) > time.monotonic()
        if scheme == "Basic" and self.basic:
            return _basic(given) == self.basic
        if self.api_key:
            name, value = self.api_key
            return value in (request.headers.get(name), request.query_params.get(name))
        return not (self.bearer or self.basic or self.client)

    def issue(self, form: Mapping[str, Sequence[str]], authorization: str) -> str | None:
        """A new token for a client that proves itself (RFC 6749 section 2.3.1); None when it does not."""
        given = _basic(authorization.partition(" ")[2])
        if self.in_body:
            given = (form.get("client_id", [""])[0], form.get("client_secret", [""])[0])
        if self.client is None or given != self.client or form.get("grant_type") != ["client_credentials"]:
            return None
        self.issued += 1
        token = secrets.token_hex(16)
        self.tokens[token] = time.monotonic() + self.lifetime
        return token


def _basic(given: str) -> tuple[str, str]:
    try:
        user, _, password = base64.b64decode(given).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    return user, password


class RecordAPI:
    """The application. SQLite is read in the event loop: each statement is a local one of a few milliseconds."""

    def __init__(self, store: RecordStore, objects: Sequence[str], logins: Logins) -> None:
        self.store = store
        self.objects = set(objects)
        self.logins = logins
        self.faults = Faults()
        self.seen: deque[tuple[str, str]] = deque(maxlen=100_000)
        """(method, path and query) of the latest requests."""
        self.headers: deque[dict[str, str]] = deque(maxlen=1000)
        """Headers of the latest requests, by lower-case name."""
        routes = [
            Route("/", self._index),
            Route("/-/faults", self._add_faults, methods=["PUT"]),
            Route("/oauth/token", self._token, methods=["POST"]),
            Route("/{object}", self._guarded(self._list)),
            Route("/{object}", self._guarded(self._create), methods=["POST"]),
            Route("/{object}/batch", self._guarded(self._create_batch), methods=["POST"]),
            Route("/{object}/{key}", self._guarded(self._record), methods=["GET", "PATCH", "PUT", "DELETE"]),
        ]
        self.app: ASGIApp = _Failing(Starlette(routes=routes), self)

    def _guarded(self, handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def guarded(request: Request) -> Response:
            if not self.logins.accept(request):
                return _error(401, "wrong credentials")
            if request.path_params["object"] not in self.objects:
                return _error(404, "no such object")
            return await handler(request)

        return guarded

    async def _index(self, request: Request) -> Response:
        if not self.logins.accept(request):
            return _error(401, "wrong credentials")
        return _json({"objects": sorted(self.objects)}, headers={"RateLimit-Limit": "100", "RateLimit-Remaining": "91"})

    async def _add_faults(self, request: Request) -> Response:
        for fault in msgspec.json.decode(await request.body(), type=list[Fault]):
            self.faults.add(fault)
        return Response(status_code=204)

    async def _token(self, request: Request) -> Response:
        form = parse_qs((await request.body()).decode())
        token = self.logins.issue(form, request.headers.get("authorization", ""))
        if token is None:
            return _json({"error": "invalid_client"}, 401)
        return _json({"access_token": token, "token_type": "Bearer", "expires_in": self.logins.lifetime})

    # --- lists ---

    async def _list(self, request: Request) -> Response:
        query = dict(request.query_params)
        kind = request.scope.get("fault")
        if kind is FaultKind.REPEAT_PAGE:
            query = {name: value for name, value in query.items() if name not in ("cursor", "page", "offset")}
        try:
            part, read = self._part(query)
        except (ValueError, KeyError):
            return _error(400, "a parameter is malformed")
        rows = read(request.path_params["object"], msgspec.structs.replace(part, limit=part.limit + 1))
        more = len(rows) > part.limit
        rows = rows[: part.limit]
        following = _cursor(rows[-1]) if more else None
        if kind is FaultKind.BACKWARDS_CURSOR and rows:
            following = _cursor(Row("", "", "", 0))
        return self._page(request, rows, following)

    def _part(self, query: dict[str, str]) -> tuple[Slice, Callable[[str, Slice], list[Row]]]:
        limit = min(int(query.pop("limit", "100")), MAX_PAGE)
        offset = int(query.pop("offset", "0")) or (int(query.pop("page", "1")) - 1) * limit
        cursor = query.pop("cursor", None)
        after = tuple(orjson.loads(base64.urlsafe_b64decode(cursor))) if cursor else None
        deleted, since = query.pop("deleted_since", None), query.pop("updated_since", None)
        keys = query.pop("ids", None)
        if self.logins.api_key:
            query.pop(self.logins.api_key[0], None)
        part = Slice(
            since=_padded(deleted or since),
            keys=None if keys is None else keys.split(","),
            equal=query,
            after=after,
            offset=offset,
            limit=limit,
        )
        return part, self.store.select if deleted is None else self.store.deleted

    def _page(self, request: Request, rows: Sequence[Row], following: str | None) -> Response:
        headers = {}
        if following is not None:
            query = {**request.query_params, "cursor": following}
            headers["Link"] = f'<{request.url.path}?{urlencode(query)}>; rel="next"'
        tail = orjson.dumps(following)
        body = b'{"items":[' + ",".join([row.body for row in rows]).encode() + b'],"next":' + tail + b"}"
        return Response(body, media_type="application/json", headers=headers)

    # --- records ---

    async def _create(self, request: Request) -> Response:
        idempotency_key = request.headers.get("idempotency-key")
        if idempotency_key and (answer := self.store.answered(idempotency_key)):
            return Response(answer[1], answer[0], media_type="application/json")
        status, body, headers = self._created(request.path_params["object"], orjson.loads(await request.body()))
        if idempotency_key and status == 201:
            self.store.remember(idempotency_key, status, body)
        return Response(body, status, media_type="application/json", headers=headers)

    def _created(self, name: str, values: Any) -> tuple[int, bytes, dict[str, str]]:
        if refused := _refused(values):
            return 422, orjson.dumps({"message": refused}), {}
        try:
            row = self.store.create(name, values, values.get("id"))
        except DuplicateError as error:
            return 409, orjson.dumps({"message": str(error)}), {}
        return 201, row.body.encode(), {"ETag": row.etag}

    async def _create_batch(self, request: Request) -> Response:
        results = []
        for values in orjson.loads(await request.body())["items"]:
            status, body, _ = self._created(request.path_params["object"], values)
            result = orjson.loads(body)
            results.append(
                {"status": status, **({"record": result} if status == 201 else {"error": result["message"]})}
            )
        return _json({"results": results})

    async def _record(self, request: Request) -> Response:
        name, key = request.path_params["object"], request.path_params["key"]
        row = self.store.get(name, key)
        if request.method == "PUT" and row is None:
            values = orjson.loads(await request.body())
            status, body, headers = self._created(name, {**values, "id": key})
            return Response(body, status, media_type="application/json", headers=headers)
        if row is None:
            return _error(404, "no such record")
        if request.headers.get("if-match", row.etag) != row.etag or request.headers.get("if-none-match") == "*":
            return _error(412, "the record is not as it was seen")
        return await self._change(request, name, row)

    async def _change(self, request: Request, name: str, row: Row) -> Response:
        if request.method == "GET":
            return _record(row)
        if request.method == "DELETE":
            self.store.delete(name, row.key)
            return Response(status_code=204)
        values = orjson.loads(await request.body())
        if refused := _refused(values):
            return _error(422, refused)
        try:
            changed = self.store.patch(name, row.key, values)
        except DuplicateError as error:
            return _error(409, str(error))
        return _record(changed) if changed else _error(404, "no such record")


class _Failing:
    """Lets the faults happen to requests on their way to the application."""

    def __init__(self, app: ASGIApp, api: RecordAPI) -> None:
        self._app = app
        self._api = api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        self._api.seen.append((scope["method"], f"{path}?{scope['query_string'].decode()}".rstrip("?")))
        self._api.headers.append({name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]})
        fault = None if path.startswith("/-/") else self._api.faults.take(scope["method"], path)
        if fault is None:
            await self._app(scope, receive, send)
        else:
            await self._fail(fault, {**scope, "fault": fault.kind}, receive, send)

    async def _fail(self, fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
        match fault.kind:
            case FaultKind.THROTTLE | FaultKind.STATUS:
                status = 429 if fault.kind is FaultKind.THROTTLE else fault.status
                paused = {"Retry-After": fault.retry_after} if fault.retry_after is not None else {}
                await Response(fault.body, status, {**fault.headers, **paused})(scope, receive, send)
            case FaultKind.NOT_JSON:
                await Response("<html>Sign in</html>", media_type="text/html")(scope, receive, send)
            case FaultKind.ECHO:
                request = Request(scope, receive)
                parts = {"body": (await request.body()).decode(), "url": str(request.url)}
                echo = parts.get(fault.body) or request.headers.get(fault.body, "nothing")
                await _error(fault.status, f"{echo} or {echo.upper()} is not good")(scope, receive, send)
            case FaultKind.LOSE_ANSWER:
                await self._app(scope, receive, _discard)
                connection_of(scope).abort()
            case FaultKind.TRUNCATE:
                await self._app(scope, receive, _half(send))
                connection_of(scope).close()
            case FaultKind.RESET:
                await self._app(scope, receive, _half(send))
                await asyncio.sleep(0.01)  # so that the half is on its way
                transport = connection_of(scope)
                at_once = struct.pack("ii", 1, 0)  # a close with this lingering time sends RST instead of FIN
                transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
                transport.abort()
            case FaultKind.SLOW:
                await asyncio.sleep(fault.seconds)
                await self._app(scope, receive, send)
            case _:
                await self._app(scope, receive, send)


async def _discard(_: Message) -> None:
    """Takes an answer that nobody will get."""


def _half(send: Send) -> Send:
    async def sender(message: Message) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": message["body"][: len(message["body"]) // 2], "more_body": True}
        await send(message)

    return sender


def _record(row: Row) -> Response:
    return Response(row.body, media_type="application/json", headers={"ETag": row.etag})


def _json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(value), status, headers, "application/json")


def _error(status: int, message: str) -> Response:
    return _json({"message": message}, status)


def _refused(values: Any) -> str:
    if not isinstance(values, dict):
        return "a record is an object"
    email = values.get("email")
    return "email must hold an @" if isinstance(email, str) and "@" not in email else ""


def _cursor(row: Row) -> str:
    return base64.urlsafe_b64encode(orjson.dumps([row.modified, row.key])).decode()


def _padded(moment: str | None) -> str | None:
    """A time as records are stamped, so that text compares like time."""
    if moment is None:
        return None
    whole, _, fraction = moment.removesuffix("Z").partition(".")
    return f"{whole}.{fraction.ljust(6, '0')}Z"


class HTTPSystem:
    """The system, served from a thread of its own on a free port of this machine: `with HTTPSystem(…) as system`.

    Args:
        data: the SQLite file, or ":memory:".
        objects: the objects it has.
        unique: object → attributes that are unique.
        logins: who may come in.
        tls: certificate chain and key, as PEM files; plain HTTP without.
        date: whether answers carry a Date header.
    """

    def __init__(
        self,
        data: Path | str = ":memory:",
        objects: Sequence[str] = ("customers",),
        *,
        unique: Mapping[str, Sequence[str]] | None = None,
        logins: Logins | None = None,
        tls: tuple[str, str] | None = None,
        date: bool = True,
    ) -> None:
        self.store = RecordStore(data, unique)
        self.api = RecordAPI(self.store, objects, logins or Logins())
        self.logins, self.faults = self.api.logins, self.api.faults
        self.seen, self.headers = self.api.seen, self.api.headers
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self._socket.getsockname()[1]}"
        self._server = Server(config_of(self.api.app, tls, date=date))
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), name="http-system")

    def __enter__(self) -> Self:
        self._thread.start()
        while not self._server.started:
            time.sleep(0.002)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._server.stop()
        self._thread.join(10)
        self._socket.close()
        self.store.close()


def main(arguments: Sequence[str] | None = None) -> None:
    """Serves until SIGINT or SIGTERM; prints the URL once it listens."""
    parser = argparse.ArgumentParser(prog="fairlead.testing.http_system", description="A small HTTP API for trials.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--data", type=Path, required=True, help="the SQLite file that keeps the records")
    parser.add_argument(
        "--object",
        action="append",
        required=True,
        metavar="NAME[:UNIQUE,…]",
        help="an object and its unique attributes",
    )
    parser.add_argument("--token", help="the bearer token that is accepted")
    parser.add_argument("--basic", metavar="USER:PASSWORD", help="the login that is accepted")
    parser.add_argument("--api-key", metavar="NAME:VALUE", help="the header or query parameter that is accepted")
    parser.add_argument("--client", metavar="ID:SECRET", help="the OAuth 2 client that gets tokens at /oauth/token")
    parser.add_argument("--tls", nargs=2, metavar=("CERTIFICATE", "KEY"), help="PEM files; plain HTTP without")
    options = parser.parse_args(arguments)
    objects = {
        name: unique.split(",") if unique else [] for name, _, unique in (o.partition(":") for o in options.object)
    }
    store = RecordStore(options.data, objects)
    logins = Logins(options.token, _pair(options.api_key), _pair(options.basic), _pair(options.client))
    tls = tuple(options.tls) if options.tls else None
    listener = _listener(parser, options.host, options.port)
    scheme = "https" if tls else "http"
    print(f"{scheme}://{options.host}:{listener.getsockname()[1]}", flush=True)  # noqa: T201 - who started it reads this
    server = uvicorn.Server(config_of(RecordAPI(store, list(objects), logins).app, tls))
    server.run([listener])
    store.close()


def _listener(parser: argparse.ArgumentParser, host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port))
    except OSError as error:
        why = os.strerror(error.errno or 0)
        parser.error(f"cannot listen on {host}:{port} ({why}): stop what uses it, or take another --port")


def _pair(text: str | None) -> tuple[str, str] | None:
    if text is None:
        return None
    first, _, second = text.partition(":")
    return first, second


if __name__ == "__main__":
    main()
