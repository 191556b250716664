"""Writes to an API: each one conditional, alone or in a batch, and what came of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal
from itertools import chain
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec
import orjson

from fairlead.connectors.base import NativeWrite, Operation, Outcome, Verdict
from fairlead.connectors.call import Call
from fairlead.connectors.jsonpage import Shape, assembled, dumped, getter
from fairlead.model.connector import Batch, Condition, ErrorClass, ErrorRule, ObjectSpec, Write
from fairlead.model.record import MISSING, Native
from fairlead.transport.answer import About, Answer, Request, failure_of
from fairlead.transport.concurrency import side_by_side
from fairlead.transport.failure import Conflicted, Failure, Gone, Lost, Misconfigured, Throttled, Transient
from fairlead.transport.http import HTTPClient

ROUNDS = 4
"""How often a record that others edit at the same time is read and judged again."""

IN_A_ROW = 5
"""Answers lost or failed in a row after which the system counts as down."""

LookUp = Callable[[Sequence[str]], Awaitable[dict[str, tuple[Native, str | None]]]]


class _Declared(msgspec.Struct, frozen=True):
    """A write as the connector declares it, and its requests."""

    spec: Write
    call: Call
    own: Call
    """Reads what the write would change."""

    @property
    def etag(self) -> bool:
        return self.spec.condition is Condition.ETAG


class _Health:
    """Whether it makes sense to send the rest of a batch."""

    def __init__(self) -> None:
        self.down: Failure | None = None
        self._lost = 0

    def saw(self, failure: Failure | None) -> None:
        """Notes what came of one request; None: an answer about a record."""
        self._lost = self._lost + 1 if isinstance(failure, Lost) else 0
        whole = failure is not None and failure.error in _OF_THE_SYSTEM and not isinstance(failure, Lost)
        if whole or self._lost >= IN_A_ROW:
            self.down = failure


_OF_THE_SYSTEM = (ErrorClass.AUTH, ErrorClass.MISCONFIGURED, ErrorClass.THROTTLED, ErrorClass.TRANSIENT)


class Writer:
    """Writes records of one object.

    Args:
        http: the Connection's client.
        spec: what the connector declares of the object.
        name: the object.
        shape: what is read of a record.
        width: how many writes are under way at a time.
        rules: the connector's reading of failures.
        look_up: reads records by key.

    Raises:
        Misconfigured: a write that needs read.byIDs, which is not declared.
    """

    def __init__(
        self,
        http: HTTPClient,
        spec: ObjectSpec,
        name: str,
        shape: Shape,
        width: int,
        rules: Sequence[ErrorRule],
        look_up: LookUp,
    ) -> None:
        self._http = http
        self._shape = shape
        self._width = width
        self._rules = rules
        self._look_up = look_up
        self._readable = spec.read.by_ids is not None
        write = spec.write
        self._create = self._declared(write.create, name)
        self._update = self._declared(write.update or write.upsert, name)
        self._upsert = self._declared(write.upsert, name)
        self._delete = self._declared(write.delete, name)
        self._batch = write.create_batch
        self._batch_call = Call(http, self._batch.method, self._batch.path, {}, name) if self._batch else None
        for declared in (self._update, self._delete):
            if declared and not declared.etag and not self._readable:
                raise Misconfigured(
                    f"{declared.call.label} needs read.byIDs to see the record just before it is written: declare it, "
                    "or write condition: ETag",
                    reason="InvalidSpec",
                )

    def _declared(self, spec: Write | None, name: str) -> _Declared | None:
        if spec is None:
            return None
        own = Call(self._http, "GET", spec.path, {}, name, ("key",))
        return _Declared(spec, Call(self._http, spec.method, spec.path, {}, name, ("key",)), own)

    async def write(self, writes: Sequence[NativeWrite]) -> list[Outcome]:
        """See `System.write`. Once the system is down, the rest is not sent."""
        health = _Health()

        async def send(group: Sequence[NativeWrite]) -> list[Outcome]:
            if health.down:
                return [_failed(write, health.down, sent=False) for write in group]
            try:
                return await self._send_group(group, health)
            except Failure as failure:
                health.saw(failure)
                return [_failed(write, failure) for write in group]

        groups = self._groups(writes)
        outcomes = list(chain.from_iterable(await side_by_side(groups, send, self._width)))
        if health.down and all(outcome.error in _OF_THE_SYSTEM and not outcome.uncertain for outcome in outcomes):
            raise health.down
        return outcomes

    def _groups(self, writes: Sequence[NativeWrite]) -> list[Sequence[NativeWrite]]:
        """Writes that share a request: creates of a batch, or the reading just before."""
        size = 1
        if writes and writes[0].operation is Operation.CREATE:
            size = self._batch.max_records if self._batch and (len(writes) > 1 or not self._create) else 1
        elif writes:
            declared = self._for(writes[0])
            size = 1 if declared.etag else self._width
        return [writes[n : n + size] for n in range(0, len(writes), size)]

    def _for(self, write: NativeWrite) -> _Declared:
        found = self._delete if write.operation is Operation.DELETE else self._update
        if found is None:
            raise Misconfigured(f"the connector declares no {write.operation.value.lower()}", reason="InvalidSpec")
        return found

    async def _send_group(self, group: Sequence[NativeWrite], health: _Health) -> list[Outcome]:
        if group[0].operation is Operation.CREATE:
            batch, call = self._batch, self._batch_call
            if batch and call and (len(group) > 1 or not (self._create or self._upsert)):
                outcomes = await self._create_batch(batch, call, group)
            else:
                outcomes = [await self._create_one(group[0])]
            health.saw(None)
            return outcomes
        declared = self._for(group[0])
        current = {} if declared.etag else await self._look_up([write.key or "" for write in group])

        async def change(write: NativeWrite) -> Outcome:
            try:
                known = None if declared.etag else current.get(write.key or "", (None, None))
                outcome = await self._change(declared, write, known)
            except Failure as failure:
                health.saw(failure)
                return _failed(write, failure)
            health.saw(None)
            return outcome

        return await side_by_side(group, change, self._width)

    # --- updates and deletes ---

    async def _change(
        self, declared: _Declared, write: NativeWrite, current: tuple[Native | None, str | None] | None
    ) -> Outcome:
        """Judges the record as it is, writes on condition that it still is, and begins anew when it is not.

        A version that is known already spares the reading: the system itself compares it. Where none is compared, the
        record is judged anew before every attempt, for it may have been edited while one waited.
        """
        if not declared.call.takes({"key": write.key or ""}):  # which does not mean that the record is gone
            return Outcome(ErrorClass.INVALID, f"{declared.call.label}: this key cannot stand in a path", key=write.key)
        version = write.version if declared.etag else None
        tried: object = version
        refusal: Failure | None = None
        rounds, attempt = 0, 0
        while rounds < ROUNDS:
            if version is None:
                record, version = current or await self._read(declared, write)
                judged = self._judged(write, record, version)
                state = version or orjson.dumps(record)
                if judged is not None:
                    return judged
                if refusal is not None and state == tried:
                    return Outcome(ErrorClass.INVALID, refusal.message, key=write.key)
                tried = state
            try:
                return await self._send(declared, write, version)
            except Conflicted as failure:
                refusal, rounds = failure, rounds + 1
            except (Transient, Throttled) as failure:
                if declared.etag:
                    raise
                attempt += 1
                await self._http.pause(failure, attempt)
            version, current = None, None
        return Outcome(ErrorClass.TRANSIENT, "the record is edited faster than it can be written", key=write.key)

    async def _read(self, declared: _Declared, write: NativeWrite) -> tuple[Native | None, str | None]:
        key = write.key or ""
        if not declared.etag:
            return (await self._look_up([key])).get(key, (None, None))
        try:
            answer = await self._http.send(declared.own.request({"key": key}, about=About.LOOKUP))
        except Gone:
            return None, None
        record = _record(answer, (self._update or declared).spec.record)
        etag = answer.headers.get("etag")
        if record is None or etag is None:
            what = "record" if record is None else "ETag"
            raise Misconfigured(
                f"{declared.own.label} gives no {what}: write condition: ReadBefore", reason="UnexpectedAnswer"
            )
        return record, etag

    def _judged(self, write: NativeWrite, record: Native | None, version: str | None) -> Outcome | None:
        """What the record as it is says about the write; None: go on."""
        if record is None:
            return Outcome(ErrorClass.GONE, "the record is not there any more", key=write.key)
        verdict = write.check(record)
        if verdict is Verdict.PROCEED:
            return None
        error, message = (None, "") if verdict is Verdict.DONE else (ErrorClass.CONFLICT, "edited meanwhile")
        return Outcome(error, message, write.key, version, self._shape.raw(record), record)

    async def _send(self, declared: _Declared, write: NativeWrite, version: str | None) -> Outcome:
        headers = {"If-Match": version} if declared.etag and version else {}
        attempts = None if declared.etag else 1
        answer = await self._http.send(self._request(declared, write, headers, About.RECORD), attempts=attempts)
        if write.operation is Operation.DELETE:
            return Outcome(key=write.key)
        return self._written(write, answer, declared.spec.record, write.key)

    def _request(self, declared: _Declared, write: NativeWrite, headers: dict[str, str], about: About) -> Request:
        spec = declared.spec
        if spec.idempotency_header:
            headers = {**headers, spec.idempotency_header: write.idempotency_key}
        body = None if write.operation is Operation.DELETE else dumped(assembled(write.values, spec.body))
        key = write.key or self._own_key(write) or ""
        return declared.call.request(
            {"key": key},
            about=about,
            body=body,
            headers=headers,
            repeatable=about is About.RECORD or spec.idempotency_header is not None,
            hidden=_texts(write.values),
        )

    # --- creates ---

    async def _create_one(self, write: NativeWrite) -> Outcome:
        declared = self._create or self._upsert
        if declared is None:
            raise Misconfigured("the connector declares no create", reason="InvalidSpec")
        if self._create:
            about, headers = About.NEW, dict[str, str]()
        else:
            about, headers = About.RECORD, {"If-None-Match": "*"} if declared.etag else {}
            if refused := await self._taken(declared, write):
                return refused
        try:
            answer = await self._http.send(self._request(declared, write, headers, about))
        except Conflicted as failure:
            return await self._there_already(write, failure)
        return self._written(write, answer, declared.spec.record, self._own_key(write))

    async def _taken(self, declared: _Declared, write: NativeWrite) -> Outcome | None:
        """An upsert must not become an update of a record that nobody knew of."""
        if self._own_key(write) is None:
            message = (
                f"the record brings no {self._shape.key_path!r}, under which it would be stored: map that attribute"
            )
            return Outcome(ErrorClass.INVALID, message)
        if declared.etag:
            return None
        there = await self._there_already(write, None)
        return there if there.stored is not None else None

    async def _there_already(self, write: NativeWrite, failure: Failure | None) -> Outcome:
        """A create that met a record: the one under its own key, or one that is not known."""
        key, message = self._own_key(write), failure.message if failure else "exists already"
        if key is not None and self._readable:
            record, etag = (await self._look_up([key])).get(key, (None, None))
            if record is not None:
                return Outcome(ErrorClass.CONFLICT, message, key, etag, self._shape.raw(record), record)
        return Outcome(ErrorClass.CONFLICT, message)

    def _own_key(self, write: NativeWrite) -> str | None:
        """The key that the values themselves bring."""
        return self._shape.key(assembled(write.values))

    def _written(self, write: NativeWrite, answer: Answer, path: str, key: str | None) -> Outcome:
        """What is known of a record that was written; nothing is taken for stored that the answer does not show."""
        record = _record(answer, path)
        found = self._shape.key(record)
        key = key or found or _located(answer)
        if key is None:
            return Outcome(
                ErrorClass.INVALID,
                "the record was created, but the answer does not tell its id: check the connector's key and "
                "write.create.record, then resync",
            )
        version = answer.headers.get("etag")
        if record is None or found != key or any(getter(path)(record) is MISSING for path in write.values):
            return Outcome(key=key, version=version)
        return Outcome(key=key, version=version, raw=self._shape.raw(record), stored=record)

    # --- batches ---

    async def _create_batch(self, batch: Batch, call: Call, group: Sequence[NativeWrite]) -> list[Outcome]:
        body = dumped(assembled({batch.body: [assembled(write.values) for write in group]}))
        hidden = [text for write in group for text in _texts(write.values)]
        request = call.request(about=About.OBJECT, body=body, repeatable=False, hidden=hidden)
        answer = await self._http.send(request)
        results = getter(batch.results)(answer.document)
        if not isinstance(results, list) or len(results) != len(group):
            count = len(results) if isinstance(results, list) else "no"
            raise Lost(f"{call.label} tells of {count} records, but {len(group)} were sent", reason="UnexpectedAnswer")
        return [self._result(batch, request, write, one) for write, one in zip(group, results, strict=True)]

    def _result(self, batch: Batch, request: Request, write: NativeWrite, result: Any) -> Outcome:
        """One result, read as if it had come alone."""
        status, record = getter(batch.status)(result), getter(batch.record)(result)
        said = getter(batch.error)(result)
        code = status if isinstance(status, int) else (201 if isinstance(record, dict) else 422)
        alone = Answer(code, {}, dumped(said) if said not in (MISSING, None) else b"", record)
        request = msgspec.structs.replace(request, about=About.NEW, hidden=_texts(write.values))
        failure = failure_of(alone, request, self._rules)
        if failure is not None:
            return _failed(write, failure)
        return self._written(write, alone, "", self._own_key(write))


def _record(answer: Answer, path: str) -> Native | None:
    found = getter(path)(answer.document)
    if isinstance(found, list) and len(found) == 1:
        found = found[0]
    return found if isinstance(found, dict) else None


def _located(answer: Answer) -> str | None:
    """The key at the end of the Location of what was created (RFC 9110 section 15.3.2)."""
    if answer.status != 201:
        return None
    path = urlsplit(answer.headers.get("location", "")).path.rstrip("/")
    return unquote(path.rpartition("/")[2]) or None


def _failed(write: NativeWrite, failure: Failure, *, sent: bool = True) -> Outcome:
    lost = sent and isinstance(failure, Lost) and write.operation is Operation.CREATE
    return Outcome(failure.error, failure.message, key=write.key, retry_after=failure.retry_after, uncertain=lost)


def _texts(values: Any) -> list[str]:
    """Every text and number among some values, as it would show in a message."""
    if isinstance(values, dict):
        return [text for value in values.values() for text in _texts(value)]
    if isinstance(values, list):
        return [text for value in values for text in _texts(value)]
    if isinstance(values, str | int | float | Decimal) and not isinstance(values, bool):
        return [str(values)]
    return []
