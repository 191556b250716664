"""REST: any JSON API that a Connector describes. Nothing in its YAML is run."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl

from fairlead.connectors.base import Attribute, Capabilities, Health, NativeWrite, Outcome, Page
from fairlead.connectors.call import Call
from fairlead.connectors.jsonpage import JSONPage, Shape, getter
from fairlead.connectors.paging import Chunk, Pager
from fairlead.connectors.restwrite import Writer
from fairlead.model.common import seconds
from fairlead.model.connection import Connection, Limits
from fairlead.model.connector import Connector, ObjectSpec, Pagination, Read
from fairlead.model.problem import near
from fairlead.model.record import MISSING, Native
from fairlead.transport.answer import About, Answer, Request
from fairlead.transport.concurrency import side_by_side
from fairlead.transport.failure import Gone, Invalid, Misconfigured
from fairlead.transport.http import HTTPClient
from fairlead.transport.secrets import Secrets

SKEW = timedelta(minutes=5)
"""How far the clock that stamps records may be behind the one that dates answers, without a change being missed."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_TOLD = 1000
"""Most deletes in one page."""

_UNFILTERED = 20
"""A page of at least this many records of which none has the value that was looked for was not filtered by it."""


class RestClient:
    """One Connection to an API. See `connectors.base.Client`.

    Args:
        connection: where it is, and as whom.
        connector: what systems of its kind can do.
        secrets: read at each use.
        http: the client, where it is not to be made from the rest.
    """

    def __init__(
        self, connection: Connection, connector: Connector, secrets: Secrets, http: HTTPClient | None = None
    ) -> None:
        spec = connector.spec
        self._connection = connection
        self._connector = connector
        self._http = http or HTTPClient(connection, secrets, headers=spec.headers, rules=spec.errors)

    async def open(
        self, object_name: str, *, paths: Sequence[str], key: str | None, modified: str | None
    ) -> RestObject:
        """See `Client.open`. Nothing is sent: whether an object named by `*` exists is seen at the first read."""
        spec = self._connector.object_named(object_name)
        if spec is None:
            known = [item.name for item in self._connector.spec.objects]
            raise Misconfigured(
                f"connector {self._connector.id} has no object {object_name!r}{near(object_name, known)}",
                reason="ObjectNotFound",
            )
        shape = Shape(key or spec.key, modified or spec.modified, paths)
        return RestObject(
            self._http, spec, object_name, shape, self._connection.spec.limits.concurrency, self._connector
        )

    def limit(self, limits: Limits) -> None:
        """See `Client.limit`."""
        self._http.limit(limits)

    async def probe(self) -> Health:
        """See `Client.probe`. One attempt: whoever probes does so again soon."""
        spec = self._connector.spec.probe
        path, _, query = spec.path.partition("?")
        url = self._http.url(path, dict(parse_qsl(query, keep_blank_values=True)))
        started = time.perf_counter()
        answer = await self._http.send(Request(spec.method, url, f"{spec.method} {path}", About.PROBE), attempts=1)
        return Health(time.perf_counter() - started, answer.budget_left)

    async def close(self) -> None:
        """See `Client.close`."""
        await self._http.close()


class _List:
    """One list of an object: its request and its paging."""

    def __init__(
        self, http: HTTPClient, read: Read, name: str, shape: Shape, *variables: str, kinds: tuple[type, ...] = (dict,)
    ) -> None:
        self._http = http
        self._call = Call(http, "GET", read.path, read.query, name, variables)
        self.label = self._call.label
        self.numbered = read.paginate is not None and read.paginate.type is Pagination.PAGE
        self._pager = Pager(read, self.label, shape.states, kinds)

    async def read(self, **values: str) -> AsyncIterator[Chunk]:
        """The list for these values of its variables."""
        url = ""

        async def ask(extra: dict[str, str]) -> Answer:
            nonlocal url
            request = self._call.request(values, extra=extra)
            url = request.url
            return await self._http.send(request)

        async def follow(link: str) -> Answer:
            nonlocal url
            url = self._http.joined(url, link)
            return await self._http.send(self._call.following(url))

        async for chunk in self._pager.pages(ask, follow):
            yield chunk


class RestObject:
    """One object of an API. See `connectors.base.System`."""

    def __init__(
        self, http: HTTPClient, spec: ObjectSpec, name: str, shape: Shape, width: int, connector: Connector
    ) -> None:
        read = spec.read
        self._http = http
        self._spec = spec
        self._shape = shape
        self._width = width
        self._lookback = timedelta(seconds=seconds(spec.lookback))
        self._list = _List(http, read.list, name, shape)
        self._changes = _List(http, read.changes, name, shape, "since") if read.changes else None
        self._deleted = (
            _List(http, read.deleted, name, shape, "since", kinds=(dict, str, int)) if read.deleted else None
        )
        self._finder = _List(http, read.find, name, shape, "field", "value") if read.find else None
        by_ids = read.by_ids
        self._by_ids = Call(http, "GET", by_ids.path, by_ids.query, name, ("key", "keys")) if by_ids else None
        self._found = getter(by_ids.records) if by_ids else getter("")
        self._writer = Writer(http, spec, name, shape, width, connector.spec.errors, self.look_up)

    @property
    def capabilities(self) -> Capabilities:
        """See `System.capabilities`."""
        read, write = self._spec.read, self._spec.write
        return Capabilities(
            create=bool(write.create or write.upsert or write.create_batch),
            update=bool(write.update or write.upsert),
            delete=write.delete is not None,
            changes=read.changes is not None,
            deletions=read.deleted is not None,
            find=read.find is not None,
        )

    # --- lists ---

    async def scan(self) -> AsyncIterator[Page]:
        """See `System.scan`."""
        bound: datetime | None = None
        async for chunk in self._list.read():
            bound = bound or self._bound(chunk)
            cursor = _text(bound) if chunk.last and self._changes else None
            yield self._page(chunk.records, self._list.label, cursor)

    async def changes(self, cursor: str) -> AsyncIterator[Page]:
        """See `System.changes`. The cursor moves when all was read: in which order an API lists is not known.

        What was deleted is read before what changed, and a record that is in both is there: it came back. The cursor
        serves both feeds, so it stays before the beginning of the first.
        """
        if self._changes is None:
            raise Misconfigured(f"{self._list.label} has no change feed: write read.changes", reason="InvalidSpec")
        since, began, cut = _parsed(cursor), time.monotonic(), _Cut(self._changes.numbered)
        gone = await self._gone(since)
        anything = bool(gone)
        async for chunk in self._changes.read(since=_text(since)):
            cut.bound = cut.bound or self._bound(chunk) - timedelta(seconds=time.monotonic() - began)
            page = self._page(chunk.records, self._changes.label)
            cut.saw(page.keys)
            for key in page.keys:
                gone.pop(key, None)
            anything = anything or bool(page.keys)
            if chunk.last and not gone:
                page.cursor = cut.cursor(since)
            if page.keys or (page.cursor and anything):
                yield page
        keys = list(gone)
        for start in range(0, len(keys), _TOLD):
            last = start + _TOLD >= len(keys)
            part = keys[start : start + _TOLD]
            yield JSONPage(self._shape, deleted=part, cursor=cut.cursor(since) if last else None)

    async def _gone(self, since: datetime) -> dict[str, None]:
        """Keys of what was deleted since, in order."""
        gone: dict[str, None] = {}
        if self._deleted is not None:
            async for chunk in self._deleted.read(since=_text(since)):
                records = [item for item in chunk.records if isinstance(item, dict)]
                gone |= dict.fromkeys(self._shape.keys(records, self._deleted.label))
                gone |= dict.fromkeys(str(item) for item in chunk.records if not isinstance(item, dict))
        return gone

    def _bound(self, first: Chunk) -> datetime:
        """The time before which a reading misses nothing, told by its first answer.

        What is written later is stamped later than the newest record of that answer. Where that record is old, the
        answer's own date serves, less what clocks may differ. The look-back covers what shows up late, by either clock.
        """
        date = first.answer.date or datetime.now(UTC) - SKEW
        newest = max(filter(None, map(self._shape.moment, first.records)), default=EPOCH)
        return min(date, max(newest, date - SKEW)) - self._lookback

    def _page(self, records: Sequence[Native], label: str, cursor: str | None = None) -> JSONPage:
        return JSONPage(self._shape, self._shape.keys(records, label), records, cursor=cursor)

    # --- some records ---

    async def fetch(self, keys: Sequence[str]) -> Page:
        """See `System.fetch`. Without read.byIDs the whole list is read."""
        if not keys:
            return JSONPage(self._shape)
        found = await self.look_up(keys) if self._by_ids else await self._in_list(keys)
        records = [record for record, _ in found.values()]
        etags = [etag for _, etag in found.values()]
        gone = [key for key in keys if key not in found and self._askable(key)]
        return JSONPage(self._shape, list(found), records, deleted=gone, etags=etags)

    def _askable(self, key: str) -> bool:
        """Whether it can be asked for: of a key that cannot, nobody knows whether it is there."""
        return self._by_ids is None or self._by_ids.takes({"key": key, "keys": key})

    async def _in_list(self, keys: Sequence[str]) -> dict[str, tuple[Native, str | None]]:
        wanted = set(keys)
        found: dict[str, tuple[Native, str | None]] = {}
        async for chunk in self._list.read():
            for record in chunk.records:
                if (key := self._shape.key(record)) in wanted:
                    found[str(key)] = (record, None)
        return found

    async def look_up(self, keys: Sequence[str]) -> dict[str, tuple[Native, str | None]]:
        """Those of `keys` that exist: the record, and its ETag where the system gives one."""
        read = self._spec.read.by_ids
        if read is None or self._by_ids is None:
            return {}
        keys = [key for key in keys if self._askable(key)]
        if read.max_keys == 1:
            alone = await side_by_side(keys, self._one, self._width)
            return {key: found for key, found in zip(keys, alone, strict=True) if found is not None}
        if any("," in key for key in keys):
            raise Misconfigured(
                f"{self._by_ids.label}: a key holds a comma, which separates keys: write maxKeys: 1",
                reason="InvalidSpec",
            )
        chunks = [keys[n : n + read.max_keys] for n in range(0, len(keys), read.max_keys)]
        groups = await side_by_side(chunks, self._some, self._width)
        return {key: (record, None) for group in groups for key, record in group.items()}

    async def _one(self, key: str) -> tuple[Native, str | None] | None:
        assert self._by_ids is not None
        try:
            answer = await self._http.send(self._by_ids.request({"key": key, "keys": key}, about=About.LOOKUP))
        except (Gone, Invalid):
            return None
        record = self._found(answer.document)
        if isinstance(record, list):
            record = record[0] if len(record) == 1 else (MISSING if record else None)
        if record is None:
            return None
        if not isinstance(record, dict):
            raise self._unexpected("no single record")
        (found,) = self._shape.keys([record], self._by_ids.label)
        return (record, answer.headers.get("etag")) if found == key else None

    def _unexpected(self, what: str) -> Misconfigured:
        label = self._by_ids.label if self._by_ids else self._list.label
        return Misconfigured(f"{label} has {what} in its answer: check read.byIDs", reason="UnexpectedAnswer")

    async def _some(self, keys: Sequence[str]) -> dict[str, Native]:
        """Asks again for what an answer left out: only an answer that brings none of them says that they are gone."""
        found: dict[str, Native] = {}
        while missing := [key for key in keys if key not in found]:
            records = await self._ask_for(missing)
            wanted = set(missing)
            named = {key: record for record in records if (key := self._shape.key(record)) in wanted}
            if not named:
                if len(records) > min(len(missing), _UNFILTERED):
                    raise self._unexpected("records that were not asked for")
                break
            found |= {str(key): record for key, record in named.items()}
        return found

    async def _ask_for(self, keys: Sequence[str]) -> list[Any]:
        assert self._by_ids is not None
        joined = ",".join(keys)
        answer = await self._http.send(self._by_ids.request({"keys": joined, "key": joined}))
        records = self._found(answer.document)
        if not isinstance(records, list):
            raise self._unexpected("no list")
        return records

    async def find(self, path: str, values: Sequence[object]) -> Page:
        """See `System.find`. Equal means equal but for case and spaces around, as systems compare.

        Raises:
            Misconfigured: the system does not filter by this attribute (reason `FilterIgnored`).
        """
        texts = list(dict.fromkeys(text for value in values if (text := _as_text(value)) is not None))

        async def search(text: str) -> list[Native]:
            return [record async for record in self._matching(path, text)]

        groups = await side_by_side(texts, search, self._width)
        records = [record for group in groups for record in group]
        return self._page(records, self._finder.label if self._finder else "")

    async def _matching(self, path: str, text: str) -> AsyncIterator[Native]:
        if self._finder is None:
            raise Misconfigured(f"{self._list.label} cannot be searched: write read.find", reason="InvalidSpec")
        async for chunk in self._finder.read(field=path, value=text):
            matching = list(_equal(chunk.records, path, text))
            if not matching and len(chunk.records) >= _UNFILTERED:
                raise Misconfigured(
                    f"{self._finder.label} gives records with other values of {path!r} than was asked for: the system "
                    "does not filter by it; check read.find",
                    reason="FilterIgnored",
                )
            for record in matching:
                yield record

    # --- writes and the rest ---

    async def write(self, writes: Sequence[NativeWrite]) -> list[Outcome]:
        """See `System.write`."""
        return await self._writer.write(writes)

    async def attributes(self) -> Sequence[Attribute] | None:
        """See `System.attributes`: an API does not tell."""
        return None

    async def close(self) -> None:
        """The client is shared; it closes with its Connection."""


def _equal(records: Sequence[Any], path: str, text: str) -> Iterator[Native]:
    get = getter(path)
    for record in records:
        value = get(record)
        found = None if value is MISSING else _as_text(value)
        if found is not None and found.strip().casefold() == text.strip().casefold():
            yield record


def _as_text(value: object) -> str | None:
    """A value as it stands in a query; None for what cannot be looked for."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return format(value, "f")
    return str(value) if isinstance(value, str | int | float) else None


def _text(moment: datetime) -> str:
    """RFC 3339 in UTC, to the millisecond and never later than the moment."""
    whole = moment.astimezone(UTC).replace(tzinfo=None)
    return whole.isoformat(timespec="milliseconds" if whole.microsecond else "seconds") + "Z"


def _parsed(cursor: str) -> datetime:
    """A cursor's time. One that cannot be read begins anew: that omits nothing."""
    try:
        moment = datetime.fromisoformat(cursor)
    except ValueError:
        return EPOCH
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


class _Cut:
    """Up to where one reading of changes is whole.

    Args:
        numbered: the list is read by page numbers. A record that comes twice was edited meanwhile and moved to its
            end: then the others moved up, and one may have been passed over. So all keys of the reading are kept.
    """

    def __init__(self, numbered: bool) -> None:
        self.bound: datetime | None = None
        self._numbered = numbered
        self._seen: set[str] = set()
        self._moved = False

    def saw(self, keys: Sequence[str]) -> None:
        if self._numbered:
            self._moved = self._moved or not self._seen.isdisjoint(keys)
            self._seen.update(keys)

    def cursor(self, since: datetime) -> str | None:
        """The next cursor, where it moves on: never back, and not when records moved while they were read."""
        if self.bound is None or self.bound <= since or self._moved or _text(self.bound) == _text(since):
            return None
        return _text(self.bound)
