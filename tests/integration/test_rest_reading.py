"""What the REST connector reads: lists in every way to page, single records, and searches."""

from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from fairlead.connectors.base import Page
from fairlead.connectors.rest import RestObject
from fairlead.testing.connector import scanned
from fairlead.testing.http_faults import Fault, FaultKind
from fairlead.testing.http_system import HTTPSystem
from fairlead.transport.failure import Failure, Misconfigured, Transient
from support.rest import opened, preset, with_paging

PAGING: dict[str, dict[str, Any]] = {
    "Cursor": {"type": "Cursor", "param": "cursor", "next": "next", "sizeParam": "limit", "size": 10},
    "Page": {"type": "Page", "param": "page", "sizeParam": "limit", "size": 10},
    "Offset": {"type": "Offset", "param": "offset", "sizeParam": "limit", "size": 10},
    "Link": {"type": "Link", "sizeParam": "limit", "size": 10},
}
SMALL = with_paging(**PAGING["Cursor"])


@pytest.fixture
def system() -> Iterator[HTTPSystem]:
    with HTTPSystem() as system:
        yield system


def filled(system: HTTPSystem, count: int) -> list[str]:
    return system.store.fill("customers", [{"email": f"p{n}@example.org", "name": f"Person {n}"} for n in range(count)])


def answers(system: HTTPSystem, body: Any, *, after: int = 0, times: int = 1, **fault: Any) -> None:
    """Lets the system answer 200 with a body of our own."""
    text = body if isinstance(body, str) else orjson.dumps(body).decode()
    system.faults.add(Fault(FaultKind.STATUS, status=200, body=text, after=after, times=times, **fault))


def keys_of(pages: list[Page]) -> list[str]:
    return [key for page in pages for key in page.keys]


async def scan_failure(thing: RestObject) -> Failure:
    with pytest.raises(Failure) as caught:
        await scanned(thing)
    return caught.value


def with_read(name: str, **read: Any) -> dict[str, Any]:
    """The preset with one of its reads changed."""
    spec = preset()
    reads = spec["objects"][0]["read"]
    reads[name] = {**reads.get(name, {}), **read}
    return spec


# --- lists ---


@pytest.mark.parametrize("paging", PAGING)
@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 20, 25])
async def test_a_scan_reads_every_record_once(system: HTTPSystem, paging: str, count: int) -> None:
    keys = filled(system, count)
    async with opened(system, with_paging(**PAGING[paging])) as thing:
        assert keys_of(await scanned(thing)) == keys


@pytest.mark.parametrize("paging", ["Cursor", "Offset", "Link"])
async def test_records_that_shift_while_they_are_read_are_not_passed_over(system: HTTPSystem, paging: str) -> None:
    keys = filled(system, 35)
    async with opened(system, with_paging(**PAGING[paging])) as thing:
        read, pages = [], thing.scan()
        async for page in pages:
            if not read:
                for key in keys[:3]:
                    system.store.delete("customers", key)
            read += page.keys
    assert set(keys[3:]) <= set(read)


async def test_by_page_a_record_that_was_passed_over_is_still_found_by_its_key(system: HTTPSystem) -> None:
    keys = filled(system, 20)
    async with opened(system, with_paging(**PAGING["Page"])) as thing:
        read: list[str] = []
        async for page in thing.scan():
            if not read:
                system.store.delete("customers", keys[0])
            read += page.keys
        lacking = sorted(set(keys) - set(read))
        found = await thing.fetch(lacking)
    assert (lacking, list(found.keys), list(found.deleted)) == ([keys[10]], [keys[10]], [])


async def test_pages_that_a_system_makes_smaller_than_was_asked_for_are_all_read(system: HTTPSystem) -> None:
    keys = filled(system, 2500)
    spec = with_paging(**{**PAGING["Offset"], "size": 5000})
    async with opened(system, spec) as thing:
        assert keys_of(await scanned(thing)) == keys


async def test_a_list_without_paging_is_one_page(system: HTTPSystem) -> None:
    keys = filled(system, 50)
    async with opened(system, with_read("list", paginate=None)) as thing:
        assert ([list(page.keys) for page in await scanned(thing)], len(system.seen)) == ([keys], 1)


async def test_a_page_that_comes_again_is_told(system: HTTPSystem) -> None:
    filled(system, 35)
    system.faults.add(Fault(FaultKind.REPEAT_PAGE, after=2))
    async with opened(system, with_paging(**PAGING["Page"])) as thing:
        failure = await scan_failure(thing)
    assert (type(failure), failure.reason, failure.message) == (
        Misconfigured,
        "RepeatedPage",
        "GET /customers gave the same page twice: check the parameters in paginate; does the system know them?",
    )


async def test_a_cursor_that_leads_back_is_told(system: HTTPSystem) -> None:
    filled(system, 35)
    system.faults.add(Fault(FaultKind.BACKWARDS_CURSOR, after=1, times=9))
    async with opened(system, SMALL) as thing:
        failure = await scan_failure(thing)
    assert (type(failure), failure.reason, failure.message) == (
        Misconfigured,
        "CursorWentBack",
        "GET /customers went back to a page that it had given already: check paginate, or ask the vendor",
    )


@pytest.mark.parametrize("kind", [FaultKind.TRUNCATE, FaultKind.RESET])
async def test_half_a_page_is_asked_for_again(system: HTTPSystem, kind: FaultKind) -> None:
    keys = filled(system, 35)
    system.faults.add(Fault(kind, after=1, times=2))
    async with opened(system, SMALL) as thing:
        assert keys_of(await scanned(thing)) == keys


@pytest.mark.parametrize("kind", [FaultKind.TRUNCATE, FaultKind.RESET])
async def test_half_a_page_again_and_again_is_no_shorter_list(system: HTTPSystem, kind: FaultKind) -> None:
    filled(system, 35)
    system.faults.add(Fault(kind, after=1, times=99))
    async with opened(system, SMALL) as thing:
        assert isinstance(await scan_failure(thing), Transient)


async def test_a_web_page_in_place_of_a_list_is_told(system: HTTPSystem) -> None:
    system.faults.add(Fault(FaultKind.NOT_JSON))
    async with opened(system) as thing:
        failure = await scan_failure(thing)
    assert (failure.reason, failure.message) == (
        "NotJSON",
        "the answer to GET /customers is text/html, not JSON: check spec.url; is this the API, and not its web page?",
    )


@pytest.mark.parametrize("body", ["", "{}", '{"data": []}', '{"items": [1]}', "[]"])
async def test_an_answer_without_its_records_is_told_and_no_empty_list(system: HTTPSystem, body: str) -> None:
    answers(system, body)
    async with opened(system) as thing:
        failure = await scan_failure(thing)
    assert (failure.reason, failure.message) == (
        "UnexpectedAnswer",
        "GET /customers has no list of objects at 'items' in its answer: check the connector's records",
    )


async def test_a_record_without_an_id_is_told(system: HTTPSystem) -> None:
    answers(system, {"items": [{"id": "a"}, {"id": None}]})
    async with opened(system) as thing:
        failure = await scan_failure(thing)
    assert (failure.reason, failure.message) == (
        "KeyNotFound",
        "a record of GET /customers has no id at 'id': name the attribute that identifies a record in systems[].key",
    )


async def test_an_id_that_comes_twice_on_a_page_counts_once_by_its_later_record(system: HTTPSystem) -> None:
    answers(system, {"items": [{"id": "a", "name": "old"}, {"id": "b", "name": "B"}, {"id": "a", "name": "new"}]})
    async with opened(system) as thing:
        (page,) = await scanned(thing)
    assert (list(page.keys), page.columns([0, 1], ["name"])) == (["a", "b"], [["new", "B"]])


async def test_a_policy_may_say_which_attribute_identifies_a_record(system: HTTPSystem) -> None:
    filled(system, 2)
    async with opened(system, key="email") as thing:
        assert keys_of(await scanned(thing)) == ["p0@example.org", "p1@example.org"]


@pytest.mark.parametrize("link", ["https://evil.example.org/customers?page=2", "//evil.example.org/", "http://[::1"])
async def test_a_next_link_to_another_host_is_not_followed(system: HTTPSystem, link: str) -> None:
    answers(system, {"items": [{"id": "a"}]}, headers={"Link": f'<{link}>; rel="next"'})
    async with opened(system, with_paging(**PAGING["Link"])) as thing:
        failure = await scan_failure(thing)
    assert (failure.reason, len(system.seen)) == ("UnexpectedAnswer", 1)


async def test_an_object_that_the_connector_does_not_offer_is_told(system: HTTPSystem) -> None:
    spec = preset()
    spec["objects"][0]["name"] = "contacts"
    with pytest.raises(Misconfigured) as caught:
        async with opened(system, spec):
            pass
    assert (caught.value.reason, caught.value.message.startswith("connector api has no object 'customers'")) == (
        "ObjectNotFound",
        True,
    )


# --- records by key ---


async def test_what_an_answer_leaves_out_is_asked_for_again(system: HTTPSystem) -> None:
    keys = filled(system, 5)
    answers(system, {"items": [{"id": key, "name": "first"} for key in keys[:2]]})
    async with opened(system) as thing:
        page = await thing.fetch(keys)
    assert (sorted(page.keys), list(page.deleted), [path.count("%2C") for _, path in system.seen]) == (
        keys,
        [],
        [4, 2],
    )


async def test_only_an_answer_that_brings_nothing_says_that_records_are_gone(system: HTTPSystem) -> None:
    keys = filled(system, 3)
    system.store.delete("customers", keys[1])
    async with opened(system) as thing:
        page = await thing.fetch(keys)
    assert (sorted(page.keys), list(page.deleted)) == ([keys[0], keys[2]], [keys[1]])


@pytest.mark.parametrize("others", [2, 20, 100])
async def test_a_system_that_does_not_filter_by_ids_never_makes_records_seem_gone(
    system: HTTPSystem, others: int
) -> None:
    filled(system, others)
    async with opened(system, with_read("byIDs", query={})) as thing:
        with pytest.raises(Misconfigured) as caught:
            await thing.fetch(["elsewhere"])
    assert caught.value.message == (
        "GET /customers has records that were not asked for in its answer: check read.byIDs"
    )


@pytest.mark.parametrize("body", ["{}", '{"items": {}}', '{"data": []}', ""])
async def test_an_answer_without_the_list_never_makes_records_seem_gone(system: HTTPSystem, body: str) -> None:
    answers(system, body)
    async with opened(system) as thing:
        with pytest.raises(Misconfigured) as caught:
            await thing.fetch(["a"])
    assert caught.value.message == "GET /customers has no list in its answer: check read.byIDs"


async def test_keys_are_asked_for_in_groups_that_the_system_takes(system: HTTPSystem) -> None:
    keys = filled(system, 25)
    async with opened(system, with_read("byIDs", maxKeys=10)) as thing:
        page = await thing.fetch(keys)
    assert (sorted(page.keys), sorted(path.count("%2C") for _, path in system.seen)) == (keys, [4, 9, 9])


async def test_a_key_with_a_comma_cannot_stand_in_a_list(system: HTTPSystem) -> None:
    async with opened(system) as thing:
        with pytest.raises(Misconfigured) as caught:
            await thing.fetch(["a,b"])
    assert caught.value.message == "GET /customers: a key holds a comma, which separates keys: write maxKeys: 1"


ALONE = with_read("byIDs", path="/{object}/{key}", query={}, records="", maxKeys=1)


async def test_single_records_are_read_with_their_versions(system: HTTPSystem) -> None:
    keys = filled(system, 3)
    system.store.delete("customers", keys[1])
    system.store.patch("customers", keys[2], {"name": "New"})
    async with opened(system, ALONE) as thing:
        page = await thing.fetch(keys)
    assert (list(page.keys), list(page.deleted), page.versions([0, 1])) == (
        [keys[0], keys[2]],
        [keys[1]],
        ['"1"', '"2"'],
    )


@pytest.mark.parametrize("key", ["a b", "a,b", "a/b", "ä", "?x=1", "#", "100%", "a;b", "%2e%2e", "..."])
async def test_a_key_of_any_kind_is_asked_for_as_it_is(system: HTTPSystem, key: str) -> None:
    system.store.create("customers", {"email": "a@x"}, key)
    answers(system, {"id": key, "email": "a@x"})
    async with opened(system, ALONE) as thing:
        page = await thing.fetch([key])
    assert (list(page.keys), system.seen[0][1].count("/"), "?" in system.seen[0][1]) == (
        [key],
        2 + key.count("/"),
        "?" in key,
    )


@pytest.mark.parametrize("key", ["", ".", "..", "../x", "a/.."])
async def test_of_a_key_that_cannot_be_asked_for_nobody_knows_whether_it_is_gone(system: HTTPSystem, key: str) -> None:
    async with opened(system, ALONE) as thing:
        page = await thing.fetch([key])
    assert (list(page.keys), list(page.deleted), list(system.seen)) == ([], [], [])


@pytest.mark.parametrize("body", ["{}", '{"id": null}', '{"data": {"id": "a"}}'])
async def test_an_answer_without_a_key_never_makes_the_record_seem_gone(system: HTTPSystem, body: str) -> None:
    answers(system, body)
    async with opened(system, ALONE) as thing:
        with pytest.raises(Misconfigured) as caught:
            await thing.fetch(["a"])
    assert caught.value.reason == "KeyNotFound"


@pytest.mark.parametrize("body", ['"a"', "17", '[{"id": "a"}, {"id": "b"}]'])
async def test_an_answer_that_is_no_single_record_is_told(system: HTTPSystem, body: str) -> None:
    answers(system, body)
    async with opened(system, ALONE) as thing:
        with pytest.raises(Misconfigured) as caught:
            await thing.fetch(["a"])
    assert caught.value.message == "GET /customers/{key} has no single record in its answer: check read.byIDs"


@pytest.mark.parametrize("body", ["", "null", "[]", '{"id": "other"}'])
async def test_no_record_or_another_one_says_that_it_is_gone(system: HTTPSystem, body: str) -> None:
    answers(system, body)
    async with opened(system, ALONE) as thing:
        assert list((await thing.fetch(["a"])).deleted) == ["a"]


async def test_one_failing_look_up_is_no_missing_record(system: HTTPSystem) -> None:
    keys = filled(system, 3)
    system.faults.add(Fault(FaultKind.STATUS, status=500, path=f"/customers/{keys[1]}", times=99))
    async with opened(system, ALONE) as thing:
        with pytest.raises(Transient):
            await thing.fetch(keys)


async def test_without_reading_by_key_the_list_is_read(system: HTTPSystem) -> None:
    keys = filled(system, 30)
    spec = with_paging(**PAGING["Cursor"])
    del spec["objects"][0]["read"]["byIDs"]
    spec["objects"][0]["write"] = {}
    async with opened(system, spec) as thing:
        page = await thing.fetch([keys[29], "elsewhere", keys[3]])
    assert (sorted(page.keys), list(page.deleted)) == ([keys[3], keys[29]], ["elsewhere"])


# --- searches ---


async def found(thing: RestObject, path: str, *values: object) -> list[str]:
    return sorted((await thing.find(path, values)).keys)


async def test_records_are_found_by_a_value(system: HTTPSystem) -> None:
    keys = filled(system, 30)
    async with opened(system, SMALL) as thing:
        assert await found(thing, "email", "p3@example.org", "p7@example.org", "nobody@x") == [keys[3], keys[7]]


async def test_many_records_with_one_value_are_all_found(system: HTTPSystem) -> None:
    keys = system.store.fill("customers", [{"email": f"{n}@x", "name": "Same"} for n in range(35)])
    async with opened(system, SMALL) as thing:
        assert await found(thing, "name", "Same") == keys


async def test_a_search_that_is_not_exact_is_narrowed_to_what_is_equal(system: HTTPSystem) -> None:
    answers(system, {"items": [{"id": n, "name": name} for n, name in enumerate(["Ann", " ANN ", "Anna", None])]})
    async with opened(system) as thing:
        assert await found(thing, "name", "ann") == ["0", "1"]


async def test_equal_values_are_looked_for_once(system: HTTPSystem) -> None:
    filled(system, 3)
    async with opened(system) as thing:
        await found(thing, "name", "Person 1", "Person 1", None, ["x"])
    assert len(system.seen) == 1


async def test_a_system_that_ignores_the_filter_is_told(system: HTTPSystem) -> None:
    filled(system, 40)
    async with opened(system, with_read("find", query={})) as thing:
        with pytest.raises(Misconfigured) as caught:
            await found(thing, "email", "nobody@x")
    assert caught.value.reason == "FilterIgnored"
    assert caught.value.message == (
        "GET /customers gives records with other values of 'email' than was asked for: the system does not filter by "
        "it; check read.find"
    )


async def test_where_few_records_are_a_filter_that_is_ignored_does_no_harm(system: HTTPSystem) -> None:
    keys = filled(system, 5)
    async with opened(system, with_read("find", query={})) as thing:
        assert await found(thing, "email", "p4@example.org", "nobody@x") == [keys[4]]


async def test_a_value_with_signs_of_its_own_stays_one_parameter(system: HTTPSystem) -> None:
    (key,) = system.store.fill("customers", [{"email": "a+b&c=d#e%2F/?@x"}])
    async with opened(system) as thing:
        assert await found(thing, "email", "a+b&c=d#e%2F/?@x") == [key]


@pytest.mark.parametrize("name", ["find", "changes"])
async def test_what_the_connector_does_not_declare_is_told(system: HTTPSystem, name: str) -> None:
    spec = preset()
    del spec["objects"][0]["read"][name]
    async with opened(system, spec) as thing:
        with pytest.raises(Misconfigured) as caught:
            await (found(thing, "email", "a@x") if name == "find" else _first_change(thing))
    assert (getattr(thing.capabilities, name), caught.value.message) == (
        False,
        f"GET /customers {'cannot be searched' if name == 'find' else 'has no change feed'}: write read.{name}",
    )


async def _first_change(thing: RestObject) -> None:
    async for _ in thing.changes("2026-01-01T00:00:00Z"):
        pass
