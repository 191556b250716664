"""REST: any JSON API that a Connector describes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import orjson

from fairlead.connectors.base import Attribute, Capabilities, Health, NativeWrite, Operation, Outcome, Page, Verdict
from fairlead.connectors.paging import pages_of
from fairlead.connectors.table import near, settled
from fairlead.connectors.template import expand, expand_query
from fairlead.model.common import seconds
from fairlead.model.connection import Connection
from fairlead.model.connector import Condition, Connector, ErrorClass, ErrorRule, ObjectSpec, Read, Write
from fairlead.model.record import MISSING, Native
from fairlead.transport.failure import AuthRejected, Failure, Misconfigured, Throttled, Transient
from fairlead.transport.http import Answer, HTTPClient
from fairlead.transport.secrets import Secrets

T = TypeVar("T")
R = TypeVar("R")

EPOCH = "1970-01-01T00:00:00Z"

_BY_STATUS = {404: ErrorClass.GONE, 410: ErrorClass.GONE, 409: ErrorClass.CONFLICT, 412: ErrorClass.CONFLICT}


class RestClient:
    """A Connection whose connector is a Connector resource. See `connectors.base.Client`."""

    def __init__(self, connection: Connection, connector: Connector, secrets: Secrets) -> None:
        self._connection = connection
        self._connector = connector
        self._http = HTTPClient(connection, secrets)

    async def open(
        self, object_name: str, *, paths: Sequence[str], key: str | None, modified: str | None
    ) -> RestObject:
        """See `Client.open`; nothing is sent yet."""
        spec = self._connector.object_named(object_name)
        if spec is None:
            names = [item.name for item in self._connector.spec.objects]
            raise Misconfigured(
                f"{self._connector.metadata.name} has no object {object_name!r}{near(object_name, names)}",
                reason="ObjectNotFound",
            )
        return RestObject(self._http, self._connector, spec, object_name, paths, key, modified)

    async def probe(self) -> Health:
        """See `Client.probe`."""
        probe = self._connector.spec.probe
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            async with asyncio.timeout(seconds(self._connection.spec.probe.timeout)):
                answer = await self._http.send(
                    probe.method, probe.path, headers=self._connector.spec.headers, attempts=1
                )
        except TimeoutError:
            raise Transient(f"{self._http.host} did not answer in time", reason="Timeout") from None
        if answer.status >= 400:
            raise Misconfigured(
                f"{self._http.host} answered HTTP {answer.status} to {probe.path}: check spec.url and spec.probe",
                reason="UnexpectedAnswer",
            )
        return Health(loop.time() - started, self._http.budget_left)

    async def close(self) -> None:
        """See `Client.close`."""
        await self._http.close()


class RestPage:
    """Parsed records. `raws` cover only what the policy maps: other attributes may change unnoticed."""

    def __init__(
        self,
        rows: Sequence[Native],
        key: str,
        paths: Sequence[str],
        *,
        modified: str | None = None,
        etags: Mapping[str, str] | None = None,
        deleted: Sequence[str] = (),
        cursor: str | None = None,
    ) -> None:
        by_key = {str(attribute(row, key)): row for row in rows}
        self._rows = list(by_key.values())
        self._modified = modified
        self._etags = etags or {}
        self.keys = list(by_key)
        self.raws = [raw_of(row, paths) for row in self._rows]
        self.deleted = deleted
        self.cursor = cursor

    def rows(self, indices: Sequence[int]) -> list[Native]:
        """See `Page.rows`."""
        return [self._rows[i] for i in indices]

    def columns(self, indices: Sequence[int], paths: Sequence[str]) -> list[list[object]]:
        """See `Page.columns`."""
        return [[attribute(self._rows[i], path) for i in indices] for path in paths]

    def versions(self, indices: Sequence[int]) -> list[str | None]:
        """See `Page.versions`: ETags come with single records only."""
        return [self._etags.get(self.keys[i]) for i in indices]

    def modified(self, indices: Sequence[int]) -> list[object]:
        """See `Page.modified`."""
        if self._modified is None:
            return [None] * len(indices)
        return [None if (v := attribute(self._rows[i], self._modified)) is MISSING else v for i in indices]


class RestObject:
    """One object of an API. See `connectors.base.System`."""

    def __init__(
        self,
        http: HTTPClient,
        connector: Connector,
        spec: ObjectSpec,
        name: str,
        paths: Sequence[str],
        key: str | None,
        modified: str | None,
    ) -> None:
        self._http = http
        self._headers = connector.spec.headers
        self._rules = connector.spec.errors
        self._spec = spec
        self._name = name
        self._paths = tuple(sorted(paths))
        self._key = key or spec.key
        self._modified = modified or spec.modified
        self._lookback = timedelta(seconds=seconds(spec.lookback))

    @property
    def capabilities(self) -> Capabilities:
        """See `System.capabilities`."""
        read, write = self._spec.read, self._spec.write
        return Capabilities(
            create=write.create is not None or write.upsert is not None,
            update=write.update is not None,
            delete=write.delete is not None,
            changes=read.changes is not None and self._modified is not None,
            deletions=read.deleted is not None,
            find=read.find is not None,
        )

    # --- reads ---

    async def scan(self) -> AsyncIterator[Page]:
        """See `System.scan`."""
        started = datetime.now(UTC)
        newest: str | None = None
        ahead: list[Native] | None = None
        async for rows in self._lists(self._spec.read.list, {}):
            if ahead is not None:
                yield self._page(ahead)
            ahead = rows
            newest = self._newest(newest, rows, started)
        cursor = orjson.dumps(newest).decode() if self.capabilities.changes else None
        yield self._page(ahead or [], cursor=cursor)

    async def changes(self, cursor: str) -> AsyncIterator[Page]:
        """See `System.changes`. The cursor moves once everything was read: an API's order is not to be relied on."""
        assert self._spec.read.changes is not None
        started = datetime.now(UTC)
        last: str | None = orjson.loads(cursor)
        newest, since = last, self._since(last)
        async for rows in self._lists(self._spec.read.changes, {"since": since}):
            newest = self._newest(newest, rows, started)
            if rows:
                yield self._page(rows)
        gone = await self._gone(since)
        text = orjson.dumps(newest).decode()
        if gone or text != cursor:
            yield RestPage([], self._key, self._paths, deleted=gone, cursor=text)

    async def _gone(self, since: str) -> list[str]:
        if self._spec.read.deleted is None:
            return []
        lists = self._lists(self._spec.read.deleted, {"since": since})
        return [str(attribute(row, self._key)) async for rows in lists for row in rows]

    def _since(self, last: str | None) -> str:
        """The last time read, less the look-back: what was committed late is read, what was seen is recognised."""
        if last is None:
            return EPOCH
        try:
            moment = datetime.fromisoformat(last)
        except ValueError:
            return last
        return (moment - self._lookback).isoformat().replace("+00:00", "Z")

    def _newest(self, newest: str | None, rows: Sequence[Native], started: datetime) -> str | None:
        """The latest modification time that nothing can come before any more."""
        if self._modified is None:
            return newest
        for row in rows:
            value = attribute(row, self._modified)
            if isinstance(value, str) and settled(value, started) and (newest is None or value > newest):
                newest = value
        return newest

    async def _lists(self, read: Read, values: Mapping[str, str]) -> AsyncIterator[list[Native]]:
        """The records of every page of a list."""
        named = {"object": self._name, **values}
        path, query = expand(read.path, named), expand_query(read.query, named)

        async def ask(address: str, parameters: Mapping[str, str]) -> Answer:
            answer = await self._http.send("GET", address, query=parameters, headers=self._headers)
            if answer.status >= 400:
                raise self._list_failure(answer, path)
            return answer

        async for answer in pages_of(
            read.paginate, ask, path, query, lambda a: self._records(a, read, path), self._key
        ):
            yield answer

    def _records(self, answer: Answer, read: Read, path: str) -> list[Native]:
        found = attribute(answer.json(path), read.records) if read.records else answer.json(path)
        if found is MISSING or not isinstance(found, list):
            where = f"at {read.records!r} of the answer" if read.records else "in the answer"
            raise Misconfigured(
                f"there is no list {where} to {path}: check `records` in the Connector", reason="UnexpectedAnswer"
            )
        for row in found:
            if not isinstance(row, dict) or attribute(row, self._key) in (MISSING, None):
                raise Misconfigured(f"a record of {path} has no {self._key!r}: check `key`", reason="UnexpectedAnswer")
        return found

    def _list_failure(self, answer: Answer, path: str) -> Failure:
        if answer.status == 404:
            return Misconfigured(f"{self._http.host} has no {path}: check the object's name", reason="ObjectNotFound")
        said = self._classified(answer)
        return Misconfigured(f"{path}: HTTP {answer.status} ({said.value})", reason="UnexpectedAnswer")

    async def fetch(self, keys: Sequence[str]) -> Page:
        """See `System.fetch`."""
        read = self._spec.read.by_ids
        if read is None:
            raise Misconfigured(f"the Connector declares no read.byIDs for {self._name}", reason="InvalidSpec")
        if read.max_keys > 1:
            return await self._fetch_many(read, keys)
        found = await _gather([lambda key=key: self._get(read, key) for key in keys])  # type: ignore[misc]
        rows = [row for row, _ in found if row is not None]
        etags = {str(attribute(row, self._key)): etag for row, etag in found if row is not None and etag}
        gone = [key for key, (row, _) in zip(keys, found, strict=True) if row is None]
        return RestPage(rows, self._key, self._paths, modified=self._modified, etags=etags, deleted=gone)

    async def _fetch_many(self, read: Read, keys: Sequence[str]) -> Page:
        chunks = [keys[start : start + read.max_keys] for start in range(0, len(keys), read.max_keys)]

        async def chunk(some: Sequence[str]) -> list[Native]:
            return [row async for rows in self._lists(read, {"keys": ",".join(some)}) for row in rows]

        rows = [row for some in await _gather([lambda c=c: chunk(c) for c in chunks]) for row in some]  # type: ignore[misc]
        here = {str(attribute(row, self._key)) for row in rows}
        gone = [key for key in keys if key not in here]
        return RestPage(rows, self._key, self._paths, modified=self._modified, deleted=gone)

    async def _get(self, read: Read, key: str) -> tuple[Native | None, str | None]:
        """One record and its ETag; (None, None) when it is gone."""
        values = {"object": self._name, "key": key, "keys": key}
        path = expand(read.path, values)
        answer = await self._http.send("GET", path, query=expand_query(read.query, values), headers=self._headers)
        if answer.status in (404, 410):
            return None, None
        if answer.status >= 400:
            raise self._list_failure(answer, expand(read.path, {**values, "key": "…"}))
        row = attribute(answer.json(path), read.records) if read.records else answer.json(path)
        if isinstance(row, list):
            row = row[0] if row else None
        return (row if isinstance(row, dict) else None), answer.headers.get("etag")

    async def find(self, path: str, values: Sequence[object]) -> Page:
        """See `System.find`."""
        read = self._spec.read.find
        assert read is not None

        async def one(value: object) -> list[Native]:
            wanted = {"field": path, "value": str(value)}
            return [row async for rows in self._lists(read, wanted) for row in rows]

        found = await _gather([lambda v=v: one(v) for v in values])  # type: ignore[misc]
        rows = [row for some in found for row in some]
        return RestPage(rows, self._key, self._paths, modified=self._modified)

    def _page(self, rows: Sequence[Native], cursor: str | None = None) -> RestPage:
        return RestPage(rows, self._key, self._paths, modified=self._modified, cursor=cursor)

    # --- writes ---

    async def write(self, writes: Sequence[NativeWrite]) -> list[Outcome]:
        """See `System.write`: side by side, as the Connection's concurrency allows."""
        batch = self._spec.write.create_batch
        if batch and writes and writes[0].operation is Operation.CREATE:
            chunks = [writes[n : n + batch.max_records] for n in range(0, len(writes), batch.max_records)]
            done = await _gather([lambda c=c: self._create_batch(c) for c in chunks])  # type: ignore[misc]
            return [outcome for some in done for outcome in some]
        return await _gather([lambda w=w: self._one(w) for w in writes])  # type: ignore[misc]

    async def _one(self, write: NativeWrite) -> Outcome:
        try:
            if write.operation is Operation.CREATE:
                return await self._create(write)
            return await self._change(write)
        except (AuthRejected, Misconfigured):
            raise
        except Failure as failure:
            lost = write.operation is Operation.CREATE and not isinstance(failure, Throttled)
            uncertain = lost and failure.reason not in ("ConnectionRefused", "ConnectTimeout")
            return Outcome(failure.error, failure.message, retry_after=failure.retry_after, uncertain=uncertain)

    async def _create(self, write: NativeWrite) -> Outcome:
        declared = self._spec.write.create or self._spec.write.upsert
        assert declared is not None
        answer = await self._send(declared, str(write.values.get(self._key, "")), write)
        if answer.status >= 400:
            return self._refused(answer, write)
        return self._stored(answer, declared, "")

    async def _change(self, write: NativeWrite) -> Outcome:
        """Re-reads the record unless the system itself compares the version that was seen."""
        deleting = write.operation is Operation.DELETE
        declared = self._spec.write.delete if deleting else self._spec.write.update
        if declared is None:
            return Outcome(
                ErrorClass.INVALID, f"the Connector declares no {write.operation.value.lower()} here", key=write.key
            )
        key, etag = write.key or "", write.version
        if declared.condition is not Condition.ETAG or etag is None:
            judged, etag = await self._judged(write, key)
            if judged is not None:
                return judged
        answer = await self._send(declared, key, write, etag if declared.condition is Condition.ETAG else None)
        if answer.status == 412:
            return await self._moved(write, key)
        if answer.status >= 400:
            return self._refused(answer, write)
        return Outcome(key=key) if deleting else self._stored(answer, declared, key)

    async def _judged(self, write: NativeWrite, key: str) -> tuple[Outcome | None, str | None]:
        """What the record as it is now says about the write (None: go on), and its ETag."""
        read = self._spec.read.by_ids
        assert read is not None
        current, etag = await self._get(read, key)
        if current is None:
            return Outcome(ErrorClass.GONE, "the record is gone", key=key), None
        verdict = write.check(current)
        if verdict is Verdict.PROCEED:
            return None, etag
        error, message = (None, "") if verdict is Verdict.DONE else (ErrorClass.CONFLICT, "edited meanwhile")
        return Outcome(error, message, key, etag, raw_of(current, self._paths), current), etag

    async def _moved(self, write: NativeWrite, key: str) -> Outcome:
        """The version seen is not the current one: perhaps only an attribute changed that nobody maps."""
        judged, etag = await self._judged(write, key)
        if judged is not None:
            return judged
        declared = self._spec.write.delete if write.operation is Operation.DELETE else self._spec.write.update
        assert declared is not None
        answer = await self._send(declared, key, write, etag)
        if answer.status == 412:
            return Outcome(ErrorClass.TRANSIENT, "the record changes faster than it can be written", key=key)
        return self._refused(answer, write) if answer.status >= 400 else self._stored(answer, declared, key)

    async def _send(self, declared: Write, key: str, write: NativeWrite, etag: str | None = None) -> Answer:
        headers = dict(self._headers)
        if etag:
            headers["If-Match"] = etag
        if declared.idempotency_header:
            headers[declared.idempotency_header] = write.idempotency_key
        body = None if write.operation is Operation.DELETE else _wrapped(declared.body, nested(write.values))
        return await self._http.send(
            declared.method,
            expand(declared.path, {"object": self._name, "key": key}),
            headers=headers,
            body=body,
            repeatable=write.operation is not Operation.CREATE or declared.idempotency_header is not None,
        )

    def _stored(self, answer: Answer, declared: Write, key: str) -> Outcome:
        row = answer.json(declared.path) if answer.body else None
        if declared.record and isinstance(row, dict):
            row = attribute(row, declared.record)
        if not isinstance(row, dict):
            return Outcome(key=key or None, version=answer.headers.get("etag"))
        found = attribute(row, self._key)
        known = key or ("" if found in (MISSING, None) else str(found))
        whole = all(attribute(row, path) is not MISSING for path in self._paths)
        return Outcome(
            key=known,
            version=answer.headers.get("etag"),
            raw=raw_of(row, self._paths) if whole else None,
            stored=row if whole else None,
        )

    async def _create_batch(self, writes: Sequence[NativeWrite]) -> list[Outcome]:
        batch = self._spec.write.create_batch
        assert batch is not None
        path = expand(batch.path, {"object": self._name})
        body = _wrapped(batch.body, [nested(write.values) for write in writes])
        try:
            answer = await self._http.send(batch.method, path, headers=self._headers, body=body, repeatable=False)
        except (AuthRejected, Misconfigured):
            raise
        except Failure as failure:
            lost = not isinstance(failure, Throttled) and failure.reason not in ("ConnectionRefused", "ConnectTimeout")
            return [Outcome(failure.error, failure.message, retry_after=failure.retry_after, uncertain=lost)] * len(
                writes
            )
        if answer.status >= 400:
            return [self._refused(answer, write) for write in writes]
        results = attribute(answer.json(path), batch.results)
        if not isinstance(results, list) or len(results) != len(writes):
            return [Outcome(ErrorClass.TRANSIENT, f"{path} did not answer for every record", uncertain=True)] * len(
                writes
            )
        return [self._result(result, batch.status, batch.record, batch.error) for result in results]

    def _result(self, result: Any, status_path: str, record_path: str, error_path: str) -> Outcome:
        status = attribute(result, status_path)
        code = status if isinstance(status, int) else 200
        if code >= 400:
            said = attribute(result, error_path)
            return Outcome(self._class_of(code, b""), str(said)[:500] if said is not MISSING else f"HTTP {code}")
        row = attribute(result, record_path)
        if not isinstance(row, dict):
            return Outcome(ErrorClass.INVALID, "the answer holds no record", uncertain=True)
        return Outcome(key=str(attribute(row, self._key)), raw=raw_of(row, self._paths), stored=row)

    def _refused(self, answer: Answer, write: NativeWrite) -> Outcome:
        return Outcome(self._classified(answer), _message(answer), key=write.key)

    def _classified(self, answer: Answer) -> ErrorClass:
        return self._class_of(answer.status, answer.body)

    def _class_of(self, status: int, body: bytes) -> ErrorClass:
        for rule in self._rules:
            if _applies(rule, status, body):
                return rule.class_
        return _BY_STATUS.get(status, ErrorClass.INVALID)

    async def attributes(self) -> Sequence[Attribute] | None:
        """See `System.attributes`: an API does not tell."""
        return None

    async def close(self) -> None:
        """The client is shared; it closes with its Connection."""


def attribute(row: Any, path: str) -> Any:
    """The value at a dotted path, or MISSING."""
    for part in path.split("."):
        if not isinstance(row, dict) or part not in row:
            return MISSING
        row = row[part]
    return row


def raw_of(row: Native, paths: Sequence[str]) -> bytes:
    """Bytes of what the policy maps of a record."""
    values = [attribute(row, path) for path in paths]
    return orjson.dumps([None if v is MISSING else [v] for v in values], option=orjson.OPT_SORT_KEYS)


def nested(values: Mapping[str, object]) -> dict[str, object]:
    """`{"a.b": 1}` as `{"a": {"b": 1}}`."""
    whole: dict[str, Any] = {}
    for path, value in values.items():
        *parents, last = path.split(".")
        inner = whole
        for part in parents:
            inner = inner.setdefault(part, {})
        inner[last] = value
    return whole


def _wrapped(path: str, body: object) -> object:
    for part in reversed(path.split(".")) if path else ():
        body = {part: body}
    return body


def _applies(rule: ErrorRule, status: int, body: bytes) -> bool:
    if rule.status is not None and rule.status != status:
        return False
    return rule.body is None or rule.body.encode() in body


def _message(answer: Answer) -> str:
    """The system's own words, cut short."""
    try:
        said = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return f"HTTP {answer.status}"
    for path in ("message", "error.message", "error", "detail", "title"):
        text = attribute(said, path)
        if isinstance(text, str):
            return f"HTTP {answer.status}: {text[:500]}"
    return f"HTTP {answer.status}"


async def _gather(calls: Sequence[Callable[[], Awaitable[R]]]) -> list[R]:
    """Results of calls made side by side; the Connection's budget bounds how many are under way."""
    results: list[Any] = [None] * len(calls)
    waiting = iter(range(len(calls)))

    async def work() -> None:
        for n in waiting:
            results[n] = await calls[n]()

    try:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(min(len(calls), 32)):
                tasks.create_task(work())
    except* Failure as group:
        raise group.exceptions[0] from None
    return results
