"""Paging: how a list goes on, and how a list that goes wrong is noticed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import xxhash

from fairlead.model.connector import Paginate, Pagination
from fairlead.model.record import Native
from fairlead.transport.failure import Misconfigured
from fairlead.transport.http import Answer

Ask = Callable[[str, Mapping[str, str]], Awaitable[Answer]]


async def pages_of(
    paginate: Paginate | None,
    ask: Ask,
    path: str,
    query: Mapping[str, str],
    records: Callable[[Answer], list[Native]],
    key: str,
) -> AsyncIterator[list[Native]]:
    """The records of each page.

    Raises:
        Misconfigured: a page repeats, or a cursor comes back that was used before (`RepeatedPage`,
            `CursorWentBack`): what follows would never end.
    """
    address, parameters = path, {**query, **_size(paginate), **_first(paginate)}
    used: set[int] = set()
    before: list[object] = []
    read = 0
    while True:
        answer = await ask(address, parameters)
        rows = records(answer)
        keys: list[object] = [row.get(key) for row in rows]
        if rows and keys == before:
            raise Misconfigured(f"{path} gives the same page twice: check `paginate`", reason="RepeatedPage")
        before = keys
        read += len(rows)
        yield rows
        following = _next(paginate, answer, len(rows), read, parameters)
        if following is None:
            return
        address, parameters = following if following[0] else (path, {**parameters, **following[1]})
        place = xxhash.xxh3_64_intdigest(f"{address} {sorted(parameters.items())}".encode())
        if place in used:
            raise Misconfigured(f"the cursor of {path} went back: check `paginate`", reason="CursorWentBack")
        used.add(place)


def _size(paginate: Paginate | None) -> dict[str, str]:
    return {paginate.size_param: str(paginate.size)} if paginate and paginate.size_param else {}


def _first(paginate: Paginate | None) -> dict[str, str]:
    if paginate is None or paginate.param is None:
        return {}
    if paginate.type is Pagination.PAGE:
        return {paginate.param: str(paginate.first)}
    return {paginate.param: "0"} if paginate.type is Pagination.OFFSET else {}


def _next(
    paginate: Paginate | None, answer: Answer, count: int, read: int, parameters: Mapping[str, str]
) -> tuple[str, dict[str, str]] | None:
    """(address, {}) of the next page, or ("", parameters that change); None at the end."""
    if paginate is None:
        return None
    if paginate.type is Pagination.LINK:
        link = answer.links.get("next")
        return (link, {}) if link else None
    if paginate.type is Pagination.CURSOR:
        cursor = _at(answer.json(""), paginate.next or "next")
        return ("", {paginate.param or "cursor": str(cursor)}) if cursor not in (None, "") else None
    if count == 0 or (paginate.size_param and count < paginate.size):
        return None
    if paginate.type is Pagination.OFFSET:
        return ("", {paginate.param or "offset": str(read)})
    name = paginate.param or "page"
    return ("", {name: str(int(parameters.get(name, paginate.first)) + 1)})


def _at(value: object, path: str) -> object:
    for part in path.split("."):
        if not isinstance(value, dict) or part not in value:
            return None
        value = value[part]
    return value
