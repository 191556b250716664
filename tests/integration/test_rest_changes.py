"""The change feed of an API: nothing is omitted, whatever the clocks, the pages and the deletes do."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from fairlead.connectors.base import Page
from fairlead.connectors.rest import SKEW, RestObject
from fairlead.testing.connector import changed, scanned
from fairlead.testing.http_faults import Fault, FaultKind
from fairlead.testing.http_system import HTTPSystem
from fairlead.transport.failure import Misconfigured
from support.rest import opened, preset, with_paging

LOOKBACK = timedelta(seconds=5)


@pytest.fixture
def system() -> Iterator[HTTPSystem]:
    with HTTPSystem() as system:
        yield system


def add(system: HTTPSystem, count: int, at: datetime | None = None) -> list[str]:
    """New records, stamped with a time."""
    stamp(system, at)
    keys = system.store.fill("customers", [{"email": f"{n}@x", "name": f"N{n}"} for n in range(count)])
    stamp(system, None)
    return keys


def edit(system: HTTPSystem, key: str, name: str, at: datetime | None = None) -> None:
    stamp(system, at)
    system.store.patch("customers", key, {"name": name})
    stamp(system, None)


def stamp(system: HTTPSystem, at: datetime | None) -> None:
    system.store.clock = (lambda: at) if at else (lambda: datetime.now(UTC))


def ago(**time: float) -> datetime:
    return datetime.now(UTC) - timedelta(**time)


def text(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def small(paging: str = "Cursor", **changes: Any) -> dict[str, Any]:
    """The preset with pages of ten."""
    param = {"Cursor": "cursor", "Page": "page", "Offset": "offset"}.get(paging)
    more = {"param": param} if param else {}
    more |= {"next": "next"} if paging == "Cursor" else {}
    spec = with_paging(type=paging, sizeParam="limit", size=10, **more)
    spec["objects"][0] |= changes
    return spec


def keys_of(pages: list[Page]) -> list[str]:
    return [key for page in pages for key in page.keys]


def deleted_of(pages: list[Page]) -> list[str]:
    return [key for page in pages for key in page.deleted]


def cursor_of(pages: list[Page], before: str) -> str:
    """Where the next reading goes on."""
    return next((page.cursor for page in reversed(pages) if page.cursor is not None), before)


async def begun(thing: RestObject) -> str:
    """The cursor after a scan."""
    cursor = (await scanned(thing))[-1].cursor
    assert cursor is not None
    return cursor


def moment(cursor: str) -> datetime:
    return datetime.fromisoformat(cursor)


# --- where the next reading begins ---


async def test_the_cursor_of_a_scan_lies_before_it(system: HTTPSystem) -> None:
    add(system, 3)
    before = datetime.now(UTC)
    async with opened(system) as thing:
        assert moment(await begun(thing)) <= before


async def test_the_newest_record_of_the_first_answer_tells_the_systems_own_time(system: HTTPSystem) -> None:
    add(system, 3, ago(seconds=60))
    newest = ago(seconds=30)
    add(system, 1, newest)
    async with opened(system) as thing:
        cursor = moment(await begun(thing))
    assert LOOKBACK <= newest - cursor < LOOKBACK + timedelta(seconds=1)


async def test_where_all_is_old_clocks_may_differ_by_five_minutes(system: HTTPSystem) -> None:
    add(system, 3, ago(days=1))
    async with opened(system) as thing:
        cursor = moment(await begun(thing))
    assert abs(datetime.now(UTC) - SKEW - LOOKBACK - cursor) < timedelta(seconds=5)


async def test_a_change_that_shows_up_late_lies_within_the_look_back(system: HTTPSystem) -> None:
    add(system, 3)
    async with opened(system) as thing:
        cursor = moment(await begun(thing))
    assert datetime.now(UTC) - cursor >= LOOKBACK


async def test_the_look_back_is_the_connectors(system: HTTPSystem) -> None:
    add(system, 3)
    async with opened(system, small(lookback="10m")) as thing:
        cursor = moment(await begun(thing))
    assert datetime.now(UTC) - cursor >= timedelta(minutes=10)


async def test_records_of_the_future_do_not_lead_the_cursor_there(system: HTTPSystem) -> None:
    add(system, 3, datetime.now(UTC) + timedelta(days=365))
    async with opened(system) as thing:
        assert moment(await begun(thing)) <= ago(seconds=4)


async def test_without_a_date_header_our_own_clock_serves_with_a_margin() -> None:
    with HTTPSystem(date=False) as system:
        add(system, 3, ago(days=1))
        async with opened(system) as thing:
            cursor = moment(await begun(thing))
    assert cursor <= datetime.now(UTC) - SKEW - LOOKBACK


async def test_a_change_that_shows_up_late_is_read_although_the_system_dates_its_answers_too_late(
    system: HTTPSystem,
) -> None:
    behind = timedelta(minutes=2)  # the clock that stamps records, behind the one that dates answers
    add(system, 1, datetime.now(UTC) - behind)
    async with opened(system) as thing:
        cursor = await begun(thing)
        (late,) = add(system, 1, datetime.now(UTC) - behind - timedelta(seconds=4))
        assert late in keys_of(await changed(thing, cursor))


async def test_without_a_feed_there_is_no_cursor(system: HTTPSystem) -> None:
    add(system, 3)
    spec = preset()
    spec["objects"][0]["read"] = {"list": spec["objects"][0]["read"]["list"]}
    spec["objects"][0]["write"] = {}
    async with opened(system, spec) as thing:
        assert [page.cursor for page in await scanned(thing)] == [None]


# --- changes ---


async def test_what_was_written_later_is_read_and_the_cursor_moves_on(system: HTTPSystem) -> None:
    keys = add(system, 5, ago(hours=1))
    async with opened(system) as thing:
        since = text(ago(minutes=30))
        edit(system, keys[3], "New", ago(minutes=10))
        pages = await changed(thing, since)
    assert (keys_of(pages), moment(cursor_of(pages, since)) > moment(since)) == ([keys[3]], True)


async def test_nothing_new_is_no_page_at_all(system: HTTPSystem) -> None:
    add(system, 5, ago(hours=1))
    async with opened(system) as thing:
        assert await changed(thing, text(ago(minutes=30))) == []


@pytest.mark.parametrize("paging", ["Cursor", "Page", "Offset", "Link"])
async def test_equal_times_at_the_border_of_a_page_lose_nothing(system: HTTPSystem, paging: str) -> None:
    keys = add(system, 35, ago(seconds=90))
    async with opened(system, small(paging)) as thing:
        assert sorted(set(keys_of(await changed(thing, text(ago(minutes=5)))))) == keys


async def test_a_record_stamped_exactly_at_the_cursor_is_read(system: HTTPSystem) -> None:
    at = ago(minutes=10).replace(microsecond=0)
    (key,) = add(system, 1, at)
    async with opened(system) as thing:
        assert keys_of(await changed(thing, text(at))) == [key]


async def test_a_cursor_is_never_later_than_its_moment(system: HTTPSystem) -> None:
    add(system, 1, at := ago(minutes=1).replace(microsecond=123_999))
    async with opened(system) as thing:
        assert LOOKBACK <= at - moment(await begun(thing)) < LOOKBACK + timedelta(milliseconds=500)


async def test_reading_on_and_on_misses_nothing_although_a_clock_steps_back(system: HTTPSystem) -> None:
    keys = add(system, 3, ago(hours=1))
    read = []
    async with opened(system) as thing:
        cursor = await begun(thing)
        for back in (0, 3, 4.5):
            edit(system, keys[0], f"{back} s ago", ago(seconds=back))
            pages = await changed(thing, cursor)
            cursor = cursor_of(pages, cursor)
            read += [name for page in pages for name in page.columns([0], ["name"])[0]]
    assert read == ["0 s ago", "3 s ago", "4.5 s ago"]


async def test_the_cursor_never_goes_back(system: HTTPSystem) -> None:
    add(system, 3)
    since = text(datetime.now(UTC))
    async with opened(system) as thing:
        add(system, 1)
        assert [page.cursor for page in await changed(thing, since)] == [None]


@pytest.mark.parametrize("cursor", ["", "yesterday", "42", "9999-99-99"])
async def test_a_cursor_that_cannot_be_read_begins_anew(system: HTTPSystem, cursor: str) -> None:
    keys = add(system, 3, ago(days=900))
    async with opened(system) as thing:
        assert keys_of(await changed(thing, cursor)) == keys


async def test_a_change_that_fails_half_way_moves_no_cursor(system: HTTPSystem) -> None:
    add(system, 35, ago(minutes=1))
    system.faults.add(Fault(FaultKind.STATUS, status=400, after=3))
    pages: list[Page] = []

    async def read(thing: RestObject) -> None:
        async for page in thing.changes(text(ago(minutes=5))):
            pages.append(page)  # noqa: PERF401 - what came before the failure counts

    async with opened(system, small()) as thing:
        with pytest.raises(Misconfigured):
            await read(thing)
    assert (len(keys_of(pages)), {page.cursor for page in pages}) == (20, {None})


async def test_by_page_the_cursor_stays_when_records_moved_under_the_reader(system: HTTPSystem) -> None:
    keys = add(system, 25, ago(minutes=2))
    read, cursors = [], []
    async with opened(system, small("Page")) as thing:
        async for page in thing.changes(text(ago(minutes=5))):
            if not read:
                edit(system, keys[0], "moves to the end", ago(minutes=1))
            read += page.keys
            cursors.append(page.cursor)
    assert (read.count(keys[0]), set(cursors)) == (2, {None})


async def test_a_list_of_changes_that_moves_while_it_is_read_by_offset_loses_nothing(system: HTTPSystem) -> None:
    keys = add(system, 35, ago(minutes=2))
    read: list[str] = []
    async with opened(system, small("Offset")) as thing:
        async for page in thing.changes(text(ago(minutes=5))):
            if not read:
                edit(system, keys[0], "moves to the end", ago(minutes=1))
            read += page.keys
    assert set(read) == set(keys)


# --- deletes ---


async def test_deletes_are_told_with_the_cursor_of_both_feeds(system: HTTPSystem) -> None:
    keys = add(system, 5, ago(hours=1))
    since = text(ago(minutes=30))
    async with opened(system) as thing:
        edit(system, keys[0], "New", ago(minutes=1))
        system.store.delete("customers", keys[4])
        pages = await changed(thing, since)
    assert (keys_of(pages), deleted_of(pages), pages[-1].cursor is not None) == ([keys[0]], [keys[4]], True)


async def test_deletes_alone_are_told_too(system: HTTPSystem) -> None:
    keys = add(system, 5, ago(hours=1))
    system.store.delete("customers", keys[4])
    async with opened(system) as thing:
        assert deleted_of(await changed(thing, text(ago(minutes=30)))) == [keys[4]]


async def test_many_deletes_come_in_pages(system: HTTPSystem) -> None:
    keys = add(system, 2500, ago(hours=1))
    for key in keys:
        system.store.delete("customers", key)
    async with opened(system) as thing:
        pages = await changed(thing, text(ago(minutes=30)))
    assert [len(page.deleted) for page in pages] == [1000, 1000, 500]
    assert sorted(deleted_of(pages)) == keys
    assert [page.cursor is not None for page in pages] == [False, False, True]


async def test_deletes_are_read_before_changes_so_that_what_came_back_is_there(system: HTTPSystem) -> None:
    add(system, 1, ago(hours=1))
    async with opened(system) as thing:
        await changed(thing, text(ago(minutes=30)))
    assert ["deleted_since" in path for _, path in system.seen] == [True, False]


async def test_the_cursor_lies_before_the_first_of_both_feeds_was_read(system: HTTPSystem) -> None:
    (key,) = add(system, 1, ago(hours=1))
    system.faults.add(Fault(FaultKind.SLOW, seconds=1.2))  # dates of HTTP are of whole seconds
    async with opened(system, small(lookback="0s")) as thing:
        before = datetime.now(UTC)
        reading = asyncio.create_task(changed(thing, text(ago(minutes=30))))
        while not system.seen:  # noqa: ASYNC110 - the server lives in a thread of its own
            await asyncio.sleep(0.001)
        edit(system, key, "while deletes are read")
        cursor = (await reading)[-1].cursor
    assert cursor is not None
    assert moment(cursor) <= before


async def test_a_tombstone_of_a_record_that_is_there_is_no_delete(system: HTTPSystem) -> None:
    keys = add(system, 2, ago(minutes=1))
    tombstones = orjson.dumps({"items": [{"id": keys[0]}, {"id": "x"}]}).decode()
    system.faults.add(Fault(FaultKind.STATUS, status=200, body=tombstones))
    async with opened(system) as thing:
        pages = await changed(thing, text(ago(minutes=30)))
    assert (keys_of(pages), deleted_of(pages)) == (keys, ["x"])


async def test_what_is_deleted_while_changes_are_read_is_told_the_next_time(system: HTTPSystem) -> None:
    keys = add(system, 35, ago(minutes=1))
    since, told, started = text(ago(minutes=5)), [], False
    async with opened(system, small()) as thing:
        for _ in range(2):
            pages = []
            async for page in thing.changes(since):
                if not started:
                    started = True
                    system.store.delete("customers", keys[0])
                pages.append(page)
            since = cursor_of(pages, since)
            told.append(deleted_of(pages))
    assert told == [[], [keys[0]]]


async def test_keys_of_deleted_records_may_stand_alone(system: HTTPSystem) -> None:
    system.faults.add(Fault(FaultKind.STATUS, status=200, body='{"items": ["a", 17]}'))
    async with opened(system) as thing:
        assert deleted_of(await changed(thing, text(ago(minutes=5)))) == ["a", "17"]


async def test_a_tombstone_without_an_id_is_told_and_not_passed_over(system: HTTPSystem) -> None:
    system.faults.add(Fault(FaultKind.STATUS, status=200, body='{"items": [{"key": "a"}]}'))
    async with opened(system) as thing:
        with pytest.raises(Misconfigured) as caught:
            await changed(thing, text(ago(minutes=5)))
    assert caught.value.reason == "KeyNotFound"
