"""Paging: how a list goes on, and how it is noticed that it does not go on as it should.

The number of pages is not bounded, but no page and no cursor may come twice in one reading, so a reading ends.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Sequence
from typing import Any

import msgspec

from fairlead.connectors.jsonpage import getter
from fairlead.model.connector import Paginate, Pagination, Read
from fairlead.model.record import MISSING
from fairlead.transport.answer import Answer
from fairlead.transport.failure import Misconfigured, Transient

STEPS_BACK = 100
"""How often one reading may step back because records moved under it."""

Ask = Callable[[dict[str, str]], Awaitable[Answer]]
"""Sends the list's request with these parameters added; `Follow` asks for a URL instead."""

Follow = Callable[[str], Awaitable[Answer]]


class Chunk(msgspec.Struct, frozen=True):
    """A part of a list. The last one says so, and may be empty."""

    answer: Answer
    records: list[Any]
    last: bool


class Pager:
    """Reads one list of one object, page by page.

    Args:
        read: what the connector declares.
        label: what messages call the request.
        identity: what tells one state of a record from another, to recognise a page that comes again.
        kinds: what an item of the list may be.
    """

    def __init__(
        self, read: Read, label: str, identity: Callable[[Any], Hashable], kinds: tuple[type, ...] = (dict,)
    ) -> None:
        self._paginate = read.paginate
        self._label = label
        self._records = getter(read.records)
        self._where = read.records
        self._identity = identity
        self._kinds = kinds
        if self._paginate and self._paginate.type is Pagination.OFFSET and self._paginate.size < 2:
            raise Misconfigured(f"{label} is read by offset: write paginate.size: 2 or more", reason="InvalidSpec")

    def pages(self, ask: Ask, follow: Follow) -> AsyncIterator[Chunk]:
        """The list from its start to its end."""
        paginate = self._paginate
        if paginate is None:
            return self._whole(ask)
        return {
            Pagination.CURSOR: self._by_cursor,
            Pagination.PAGE: self._by_page,
            Pagination.OFFSET: self._by_offset,
            Pagination.LINK: self._by_link,
        }[paginate.type](paginate, ask, follow)

    async def _whole(self, ask: Ask) -> AsyncIterator[Chunk]:
        answer = await ask({})
        yield Chunk(answer, self.records(answer), last=True)

    async def _by_cursor(self, paginate: Paginate, ask: Ask, _: Follow) -> AsyncIterator[Chunk]:
        cursor, find, seen = "", getter(paginate.next or ""), _Seen(self._label, self._identity)
        while True:
            position = {paginate.param or "": cursor} if cursor else {}
            answer = await ask({**_size(paginate), **position})
            records = self.records(answer)
            following = find(answer.document)
            cursor = "" if following is MISSING or following in (None, False) else str(following)
            seen.require_new(records, cursor)
            yield Chunk(answer, records, last=not cursor)
            if not cursor:
                return

    async def _by_link(self, paginate: Paginate, ask: Ask, follow: Follow) -> AsyncIterator[Chunk]:
        answer, seen = await ask(_size(paginate)), _Seen(self._label, self._identity)
        while True:
            records, link = self.records(answer), next_link(answer.headers.get("link", ""))
            seen.require_new(records, link)
            yield Chunk(answer, records, last=not link)
            if not link:
                return
            answer = await follow(link)

    async def _by_page(self, paginate: Paginate, ask: Ask, _: Follow) -> AsyncIterator[Chunk]:
        """Page numbers, up to the first page without records.

        A short page is not taken for the last one: some systems hide records only after they counted them. Others
        answer 404 behind the last page.

        Where records are deleted meanwhile, the next ones move up and one may be passed over. What was known is then
        looked for by its key, and what is new is found by the next resync.
        """
        number, answer, seen = paginate.first, None, _Seen(self._label, self._identity)
        while True:
            try:
                answer = await ask({**_size(paginate), paginate.param or "": str(number)})
            except Misconfigured as failure:
                if answer is None or failure.reason != "ObjectNotFound":
                    raise
                yield Chunk(answer, [], last=True)
                return
            records = self.records(answer)
            seen.require_new(records)
            yield Chunk(answer, records, last=not records)
            if not records:
                return
            number += 1

    async def _by_offset(self, paginate: Paginate, ask: Ask, _: Follow) -> AsyncIterator[Chunk]:
        """Offsets, up to a page that brings nothing new. Each page begins with the last record of the one before.

        If it does not, records moved up, and the reading steps back to where it knows its way. (A system that gives
        one record at a time, whatever it was asked for, has no such overlap.)
        """
        trail: list[tuple[int, Hashable]] = []
        offset, before, steps, seen = 0, None, 0, _Seen(self._label, self._identity)
        while True:
            answer = await ask({**_size(paginate), paginate.param or "": str(offset)})
            records = self.records(answer)
            if before is not None and (not records or self._identity(records[0]) != before):
                seen.require_new(records)
                steps += 1
                self._require_calm(steps)
                offset, before = trail.pop()
                seen = _Seen(self._label, self._identity)
                continue
            fresh = records if before is None else records[1:]
            yield Chunk(answer, fresh, last=not fresh)
            if not fresh:
                return
            seen.require_new(records)
            trail.append((offset, before))
            overlap = int(len(records) > 1)
            offset, before = offset + len(records) - overlap, self._identity(records[-1]) if overlap else None

    def _require_calm(self, steps: int) -> None:
        if steps > STEPS_BACK:
            raise Transient(f"{self._label} changes faster than it can be read by offset", reason="UnstableList")

    def records(self, answer: Answer) -> list[Any]:
        """The list in an answer; null is an empty one.

        Raises:
            Misconfigured: there is no list of objects where the connector says so.
        """
        found = self._records(answer.document)
        if found is None and self._where:
            return []
        if not isinstance(found, list) or not all(isinstance(record, self._kinds) for record in found):
            where = f"at {self._where!r} in" if self._where else "as"
            raise Misconfigured(
                f"{self._label} has no list of objects {where} its answer: check the connector's records",
                reason="UnexpectedAnswer",
            )
        return found


class _Seen:
    """What one reading has met: two equal pages or cursors would go on forever, or lose what lies behind them."""

    def __init__(self, label: str, identity: Callable[[Any], Hashable]) -> None:
        self._label = label
        self._identity = identity
        self._pages: set[int] = set()
        self._cursors: set[int] = set()

    def require_new(self, records: Sequence[Any], cursor: str = "") -> None:
        if cursor and hash(cursor) in self._cursors:
            raise Misconfigured(
                f"{self._label} went back to a page that it had given already: check paginate, or ask the vendor",
                reason="CursorWentBack",
            )
        self._cursors.add(hash(cursor))
        page = hash(tuple(map(self._identity, records)))
        if records and page in self._pages:
            raise Misconfigured(
                f"{self._label} gave the same page twice: check the parameters in paginate; does the system know them?",
                reason="RepeatedPage",
            )
        self._pages.add(page)


def _size(paginate: Paginate) -> dict[str, str]:
    return {paginate.size_param: str(paginate.size)} if paginate.size_param else {}


_LINK = re.compile(r'<([^<>]*)>((?:\s*;\s*[^=;,\s"<>]+(?:\s*=\s*(?:"(?:[^"\\]|\\.)*"|[^",;\s]*))?)*)')
_PARAMETER = re.compile(r';\s*([^=;,\s"<>]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^",;\s]*))')


def next_link(header: str) -> str:
    """The target of the `next` link in a Link header (RFC 8288 section 3); empty when there is none."""
    for target, parameters in _LINK.findall(header):
        relations = [quoted or plain for name, quoted, plain in _PARAMETER.findall(parameters) if name.lower() == "rel"]
        if relations and "next" in relations[0].lower().split():
            return str(target)
    return ""
