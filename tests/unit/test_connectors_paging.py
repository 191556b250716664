"""How lists go on, and how it is noticed that they do not go on as they should."""

import asyncio
import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.connectors.paging import Chunk, Pager, next_link
from fairlead.model.connector import Paginate, Pagination, Read
from fairlead.transport.answer import Answer
from fairlead.transport.failure import Failure, Misconfigured, Transient

Change = Callable[[list[dict[str, Any]], int], None]
"""What happens to the records once that many requests were answered."""


class Server:
    """A list of records, paged in any way, with at most `cap` in a page."""

    def __init__(self, records: Sequence[dict[str, Any]], cap: int = 1000, change: Change | None = None) -> None:
        self.records = list(records)
        self._cap = cap
        self._change = change
        self.asked: list[dict[str, str]] = []
        self.ends_with_404 = False

    async def ask(self, query: dict[str, str]) -> Answer:
        self.asked.append(query)
        if len(self.asked) > 2000:
            raise AssertionError("this reading has no end")
        size = min(int(query.get("size", "1000")), self._cap)
        start = (int(query["page"]) - 1) * size if "page" in query else int(query.get("at", "0"))
        part = self.records[start : start + size]
        if self.ends_with_404 and start and not part:
            raise Misconfigured("GET /things answered 404", reason="ObjectNotFound")
        more = start + size < len(self.records)
        headers = {"link": f'</things?at={start + size}>; rel="next"'} if more else {}
        if self._change:
            self._change(self.records, len(self.asked))
        return Answer(200, headers, b"", {"items": part, "next": str(start + size) if more else None})

    async def follow(self, link: str) -> Answer:
        return await self.ask({"size": "3", "at": link.rpartition("=")[2]})


def identities(records: Sequence[Any]) -> list[Any]:
    return [identity(record) for record in records]


def identity(record: Any) -> Any:
    return record["id"]


def pager(kind: Pagination | None, size: int = 3, *, size_param: str | None = "size", records: str = "items") -> Pager:
    param = {Pagination.CURSOR: "at", Pagination.OFFSET: "at", Pagination.PAGE: "page"}.get(kind) if kind else None
    following = "next" if kind is Pagination.CURSOR else None
    paginate = Paginate(type=kind, param=param, next=following, size_param=size_param, size=size) if kind else None
    return Pager(Read(path="/things", records=records, paginate=paginate), "GET /things", identities)


async def chunks(pager: Pager, server: Any) -> list[Chunk]:
    return [chunk async for chunk in pager.pages(server.ask, server.follow)]


def read(pager: Pager, server: Any) -> list[Any]:
    return [identity(record) for chunk in asyncio.run(chunks(pager, server)) for record in chunk.records]


def failure_of(pager: Pager, server: Any) -> Failure:
    with pytest.raises(Failure) as caught:
        read(pager, server)
    return caught.value


def things(count: int) -> list[dict[str, Any]]:
    return [{"id": number} for number in range(count)]


# --- lists that hold still ---


@given(
    kind=st.sampled_from(Pagination),
    count=st.integers(0, 25),
    size=st.integers(2, 10),
    cap=st.integers(2, 12),
    size_param=st.sampled_from(["size", None]),
)
@settings(deadline=None, derandomize=True, max_examples=150)
def test_every_record_is_read_once_however_small_the_pages_are(
    kind: Pagination, count: int, size: int, cap: int, size_param: str | None
) -> None:
    assert read(pager(kind, size, size_param=size_param), Server(things(count), cap)) == list(range(count))


@pytest.mark.parametrize("kind", [Pagination.CURSOR, Pagination.PAGE, Pagination.LINK])
def test_a_system_may_give_one_record_at_a_time(kind: Pagination) -> None:
    assert read(pager(kind), Server(things(4), 1)) == [0, 1, 2, 3]


def test_by_offset_one_record_at_a_time_is_a_failure_and_not_the_end() -> None:
    assert failure_of(pager(Pagination.OFFSET), Server(things(4), 1)).reason == "UnstableList"


@pytest.mark.parametrize("kind", Pagination)
@pytest.mark.parametrize("count", [0, 2, 3, 7, 9])
def test_the_last_part_says_so_and_no_other_does(kind: Pagination, count: int) -> None:
    found = asyncio.run(chunks(pager(kind), Server(things(count))))
    assert [chunk.last for chunk in found] == [False] * (len(found) - 1) + [True]


def test_a_list_without_paging_is_read_whole() -> None:
    server = Server(things(7))
    assert (read(pager(None), server), server.asked) == (list(range(7)), [{}])


def test_a_short_page_in_the_middle_is_not_taken_for_the_end() -> None:
    class Hiding(Server):
        async def ask(self, query: dict[str, str]) -> Answer:
            answer = await super().ask(query)
            shown = [record for record in answer.document["items"] if record["id"] != 4]
            return Answer(200, {}, b"", {"items": shown})

    assert read(pager(Pagination.PAGE), Hiding(things(9))) == [0, 1, 2, 3, 5, 6, 7, 8]


@pytest.mark.parametrize("count", [5, 6])
def test_404_behind_the_last_numbered_page_is_its_end(count: int) -> None:
    server = Server(things(count))
    server.ends_with_404 = True
    assert read(pager(Pagination.PAGE), server) == list(range(count))


def test_404_for_the_first_page_is_a_failure() -> None:
    class Nowhere(Server):
        async def ask(self, _: dict[str, str]) -> Answer:
            raise Misconfigured("GET /things answered 404", reason="ObjectNotFound")

    assert failure_of(pager(Pagination.PAGE), Nowhere([])).reason == "ObjectNotFound"


def test_pages_may_be_counted_from_zero() -> None:
    class FromZero(Server):
        async def ask(self, query: dict[str, str]) -> Answer:
            return await super().ask({**query, "page": str(int(query["page"]) + 1)})

    paginate = Paginate(type=Pagination.PAGE, param="page", size_param="size", size=3, first=0)
    found = Pager(Read(path="/things", records="items", paginate=paginate), "GET /things", identities)
    assert read(found, FromZero(things(7))) == list(range(7))


def test_the_size_is_asked_for_only_where_the_connector_says_how() -> None:
    with_size, without = Server(things(1)), Server(things(1))
    read(pager(Pagination.CURSOR), with_size)
    read(pager(Pagination.CURSOR, size_param=None), without)
    assert (with_size.asked, without.asked) == ([{"size": "3"}], [{}])


def test_offsets_of_one_record_a_page_could_not_overlap() -> None:
    with pytest.raises(Misconfigured) as caught:
        pager(Pagination.OFFSET, size=1)
    assert caught.value.message == "GET /things is read by offset: write paginate.size: 2 or more"


@pytest.mark.parametrize("kind", Pagination)
def test_memory_does_not_grow_with_the_list(kind: Pagination) -> None:
    class Endless(Server):
        """Makes its records as they are asked for."""

        async def ask(self, query: dict[str, str]) -> Answer:
            start = 100 * (int(query["page"]) - 1) if "page" in query else int(query.get("at", "0"))
            end = min(start + 100, 40_000)
            more = end < 40_000
            headers = {"link": f'</things?at={end}>; rel="next"'} if more else {}
            records = [{"id": f"{number:020}", "text": "x" * 200} for number in range(start, end)]
            return Answer(200, headers, b"", {"items": records, "next": str(end) if more else None})

    async def peak() -> tuple[int, int]:
        count = 0
        tracemalloc.start()
        server = Endless([])
        async for chunk in pager(kind, 100).pages(server.ask, server.follow):
            count += len(chunk.records)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return count, found

    count, most = asyncio.run(peak())
    assert (count, most < 1_000_000) == (40_000, True)


# --- lists that move under the reader ---


@given(
    count=st.integers(1, 25),
    size=st.integers(2, 6),
    deletes=st.lists(st.tuples(st.integers(1, 8), st.integers(0, 24)), max_size=6),
    inserts=st.lists(st.tuples(st.integers(1, 8), st.integers(0, 24)), max_size=6),
)
@settings(deadline=None, derandomize=True, max_examples=200)
def test_by_offset_no_record_is_passed_over_while_others_come_and_go(
    count: int, size: int, deletes: list[tuple[int, int]], inserts: list[tuple[int, int]]
) -> None:
    gone: set[int] = set()

    def change(records: list[dict[str, Any]], request: int) -> None:
        for when, where in deletes:
            if when == request and records:
                gone.add(records.pop(where % len(records))["id"])
        for number, (when, where) in enumerate(inserts):
            if when == request:
                records.insert(where % (len(records) + 1), {"id": 1000 + 100 * number + request})

    found = read(pager(Pagination.OFFSET, size), Server(things(count), change=change))
    assert set(range(count)) - gone <= set(found)


def test_by_offset_a_list_that_never_holds_still_is_given_up() -> None:
    def change(records: list[dict[str, Any]], request: int) -> None:
        records[:] = [{"id": 100 * request + n} for n in range(10)]

    failure = failure_of(pager(Pagination.OFFSET), Server(things(10), change=change))
    assert (type(failure), failure.reason, failure.message) == (
        Transient,
        "UnstableList",
        "GET /things changes faster than it can be read by offset, or gives one record at a time",
    )


def test_by_offset_a_delete_at_the_start_costs_one_more_request_however_long_the_list_is() -> None:
    def change(records: list[dict[str, Any]], request: int) -> None:
        if request == 150:
            del records[0]

    still, moved = Server(things(1000)), Server(things(1000), change=change)
    pages = pager(Pagination.OFFSET, 6)
    assert (read(pages, still), set(read(pages, moved))) == (list(range(1000)), set(range(1000)))
    assert len(moved.asked) - len(still.asked) <= 2


def test_by_offset_a_list_that_shrinks_while_it_is_read_is_read_to_its_end() -> None:
    def change(records: list[dict[str, Any]], request: int) -> None:
        if request % 3 == 0:
            del records[0]

    server = Server(things(100), change=change)
    assert set(range(40, 100)) <= set(read(pager(Pagination.OFFSET, 10), server))


# --- lists that lead astray ---


class Answers:
    """Gives the same answers whatever is asked."""

    def __init__(self, *documents: Any, link: str = "") -> None:
        self._documents = list(documents)
        self._link = link

    async def ask(self, _: dict[str, str]) -> Answer:
        document = self._documents.pop(0) if len(self._documents) > 1 else self._documents[0]
        return Answer(200, {"link": self._link}, b"", document)

    async def follow(self, _: str) -> Answer:
        return await self.ask({})


REPEATED = "GET /things gave the same page twice: check the parameters in paginate; does the system know them?"
WENT_BACK = "GET /things went back to a page that it had given already: check paginate, or ask the vendor"


@pytest.mark.parametrize("kind", [Pagination.PAGE, Pagination.OFFSET])
def test_a_page_that_comes_again_is_told(kind: Pagination) -> None:
    failure = failure_of(pager(kind), Answers({"items": things(3)}))
    assert (failure.reason, failure.message) == ("RepeatedPage", REPEATED)


def test_a_cursor_that_comes_again_is_told() -> None:
    one, two = ({"items": [{"id": n}], "next": cursor} for n, cursor in ((1, "b"), (2, "a")))
    failure = failure_of(pager(Pagination.CURSOR), Answers(one, two, {"items": [{"id": 3}], "next": "b"}))
    assert (failure.reason, failure.message) == ("CursorWentBack", WENT_BACK)


def test_a_link_that_comes_again_is_told() -> None:
    failure = failure_of(pager(Pagination.LINK), Answers({"items": []}, link='</things?at=3>; rel="next"'))
    assert (failure.reason, failure.message) == ("CursorWentBack", WENT_BACK)


def test_a_page_that_comes_again_under_a_new_cursor_is_told() -> None:
    documents = [{"items": things(2), "next": str(n)} for n in range(5)]
    assert failure_of(pager(Pagination.CURSOR), Answers(*documents)).reason == "RepeatedPage"


def test_empty_pages_on_the_way_are_no_repetition() -> None:
    documents = [{"items": [], "next": "a"}, {"items": [], "next": "b"}, {"items": things(1), "next": None}]
    assert read(pager(Pagination.CURSOR), Answers(*documents)) == [0]


@pytest.mark.parametrize("ending", [None, "", False])
def test_a_cursor_that_is_nothing_ends_the_list(ending: Any) -> None:
    assert read(pager(Pagination.CURSOR), Answers({"items": things(2), "next": ending})) == [0, 1]


def test_a_cursor_that_is_missing_ends_the_list() -> None:
    assert read(pager(Pagination.CURSOR), Answers({"items": things(2)})) == [0, 1]


def test_zero_is_a_cursor() -> None:
    documents = [{"items": [{"id": 1}], "next": 0}, {"items": [{"id": 2}], "next": None}]
    assert read(pager(Pagination.CURSOR), Answers(*documents)) == [1, 2]


@pytest.mark.parametrize("document", [None, {}, {"data": []}, {"items": {}}, {"items": "x"}, {"items": [1]}, []])
def test_an_answer_without_the_list_is_told(document: Any) -> None:
    failure = failure_of(pager(Pagination.CURSOR), Answers(document))
    assert (failure.reason, failure.message) == (
        "UnexpectedAnswer",
        "GET /things has no list of objects at 'items' in its answer: check the connector's records",
    )


def test_a_list_that_is_null_is_empty() -> None:
    assert read(pager(Pagination.CURSOR), Answers({"items": None})) == []


def test_an_answer_that_should_be_the_list_itself_is_told() -> None:
    assert failure_of(pager(None, records=""), Answers({"items": []})).message == (
        "GET /things has no list of objects as its answer: check the connector's records"
    )


# --- Link headers ---

LINKS = [
    ("", ""),
    ('</x?page=2>; rel="next"', "/x?page=2"),
    ("</x?page=2>; rel=next", "/x?page=2"),
    ("</x>;rel=next", "/x"),
    ('</a>; rel="prev", </b>; rel="next", </c>; rel="last"', "/b"),
    ('</a>; rel="last"; title="x", </b>; title="a, b; rel=prev"; rel="next"', "/b"),
    ('</a>; title="; rel=next"; rel="prev"', ""),
    ('</a>; rel="prev next"', "/a"),
    ('</a>; REL="NEXT"', "/a"),
    ('</a>; rel="prev"; rel="next"', ""),
    ("</a,b;c?d=[1,2]>; rel=next", "/a,b;c?d=[1,2]"),
    ('</a>; flag; rel="next"', "/a"),
    ('</a>; xrel="next"', ""),
    ('</a>; title="say \\"hi\\""; rel="next"', "/a"),
    ("rel=next", ""),
    ("<>; rel=next", ""),
    ("garbage", ""),
]


@pytest.mark.parametrize(("header", "target"), LINKS)
def test_the_next_link_is_read_as_rfc_8288_says(header: str, target: str) -> None:
    assert next_link(header) == target


@pytest.mark.timeout(5)
@pytest.mark.parametrize("piece", ["<", "<a>;", "<a>;b=", '<a>;b="', '<a>;b="\\', "; ", '";', "<a>; x"])
def test_no_header_takes_long(piece: str) -> None:
    assert next_link(piece * (60_000 // len(piece))) == ""


@given(st.text(st.sampled_from('<>;,="\\ relnxtREL?&/'), max_size=80))
@settings(deadline=None)
def test_no_header_breaks_it(header: str) -> None:
    assert isinstance(next_link(header), str)
