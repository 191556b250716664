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
"""How often one reading may step back because records moved under it, besides once for every page."""

STALE = 10
"""Equal pages in a row that no shift of a list explains."""

Ask = Callable[[dict[str, str]], Awaitable[Answer]]
"""Sends the list's request with these parameters added; `Follow` asks for a URL instead."""

Follow = Callable[[str], Awaitable[Answer]]


Identities = Callable[[Sequence[Any]], list[Hashable]]
"""Of the records of a page: what tells one state of each from another."""


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
        identities: what tells one state of each record from another, to recognise a page that comes again.
        kinds: what an item of the list may be.
    """

    def __init__(self, read: Read, label: str, identities: Identities, kinds: tuple[type, ...] = (dict,)) -> None:
        self._paginate = read.paginate
        self._label = label
        self._records = getter(read.records)
        self._where = read.records
        self._identities = identities
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
        cursor, find, seen = "", getter(paginate.next or ""), _Seen(self._label, self._identities)
        while True:
            position = {paginate.param or "": cursor} if cursor else {}
            answer = await ask({**_size(paginate), **position})
            records = self.records(answer)
            following = find(answer.document)
            cursor = "" if following is MISSING or following is None or following is False else str(following)
            seen.require_new(records, cursor)
            yield Chunk(answer, records, last=not cursor)
            if not cursor:
                return

    async def _by_link(self, paginate: Paginate, ask: Ask, follow: Follow) -> AsyncIterator[Chunk]:
        answer, seen = await ask(_size(paginate)), _Seen(self._label, self._identities)
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
        number, answer, seen = paginate.first, None, _Seen(self._label, self._identities)
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
        """Offsets, up to a page that holds nothing but the last record of the one before, with which each page begins.

        While records come and go the list shifts. As long as a page has a record in common with the one before,
        nothing between them was passed over. Otherwise the reading steps back until that is so, or to the start.
        """
        offset, known, back, progress = 0, frozenset[Hashable](), 1, _Progress(self._label)
        while True:
            answer = await ask({**_size(paginate), paginate.param or "": str(offset)})
            records = self.records(answer)
            marks = self._identities(records)
            joined = not known or not known.isdisjoint(marks)
            if (len(marks) == 1 and known and joined) or (not marks and len(known) < 2):
                yield Chunk(answer, [], last=True)
                return
            fresh = [record for record, mark in zip(records, marks, strict=True) if mark not in known]
            if joined:
                if known:
                    progress.forward(same=known == frozenset(marks))
                if fresh:
                    yield Chunk(answer, fresh, last=False)
                offset, known, back = offset + max(1, len(marks) - 1), frozenset(marks), 1
            else:
                progress.back()
                offset, back = max(0, offset - back * max(1, len(known) - 1)), 2 * back
                known = known if offset else frozenset()

    def records(self, answer: Answer) -> list[Any]:
        """The list in an answer; null is an empty one.

        Raises:
            Misconfigured: there is no list of objects where the connector says so.
        """
        found = self._records(answer.document)
        if found is None and self._where:
            return []
        if not isinstance(found, list) or not set(map(type, found)).issubset(self._kinds):
            where = f"at {self._where!r} in" if self._where else "as"
            raise Misconfigured(
                f"{self._label} has no list of objects {where} its answer: check the connector's records",
                reason="UnexpectedAnswer",
            )
        return found


class _Progress:
    """Whether a reading by offset gets on."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._forward = self._back = self._stale = 0

    def forward(self, *, same: bool) -> None:
        self._forward += 1
        self._stale = self._stale + 1 if same else 0
        if self._stale == STALE:
            raise _repeated(self._label)

    def back(self) -> None:
        self._back += 1
        if self._back > STEPS_BACK + self._forward:
            raise Transient(
                f"{self._label} changes faster than it can be read by offset, or gives one record at a time",
                reason="UnstableList",
            )


class _Seen:
    """What one reading has met: two equal pages or cursors would go on forever, or lose what lies behind them."""

    def __init__(self, label: str, identities: Identities) -> None:
        self._label = label
        self._identities = identities
        self._pages: set[int] = set()
        self._cursors: set[int] = set()

    def require_new(self, records: Sequence[Any], cursor: str = "") -> None:
        if cursor and hash(cursor) in self._cursors:
            raise Misconfigured(
                f"{self._label} went back to a page that it had given already: check paginate, or ask the vendor",
                reason="CursorWentBack",
            )
        self._cursors.add(hash(cursor))
        page = hash(tuple(self._identities(records)))
        if records and page in self._pages:
            raise _repeated(self._label)
        self._pages.add(page)


def _repeated(label: str) -> Misconfigured:
    return Misconfigured(
        f"{label} gave the same page twice: check the parameters in paginate; does the system know them?",
        reason="RepeatedPage",
    )


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
