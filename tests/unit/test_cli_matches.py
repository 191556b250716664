"""`fairlead matches list` shows the first of what is in doubt, in whatever order the state tells it."""

from collections.abc import AsyncIterator

from fairlead.cli.matches import Choice
from fairlead.state.place import Place as Where
from fairlead.worker.doubts import Doubt, Why


def doubt(key: str, why: Why = Why.SHARED, lacks: str = "erp") -> Doubt:
    return Doubt(("crm", key), why, "", lacks)


async def pages(*its: list[Doubt]) -> AsyncIterator[list[Doubt]]:
    for page in its:
        yield page


async def listed(choice: Choice, *its: list[Doubt], start: Where = ("", "")) -> tuple[list[str], str]:
    found, following = await choice.of(pages(*its), start)
    return [f"{each.place[1]} {each.lacks}" for each in found], following


async def test_the_first_are_shown_in_order_and_where_to_go_on() -> None:
    its = ([doubt("4"), doubt("1")], [], [doubt("3"), doubt("2")])
    assert await listed(Choice(limit=3), *its) == (["1 erp", "2 erp", "3 erp"], "crm/3")
    assert await listed(Choice(limit=3), *its, start=("crm", "3")) == (["4 erp"], "")
    assert await listed(Choice(limit=4), *its) == (["1 erp", "2 erp", "3 erp", "4 erp"], "")


async def test_a_record_is_not_torn_apart_and_a_doubt_that_comes_twice_is_shown_once() -> None:
    its = ([doubt("1"), doubt("2")], [doubt("1", lacks="shop"), doubt("1")])
    assert await listed(Choice(limit=1), *its) == (["1 erp", "1 shop"], "crm/1")


async def test_nothing_is_in_doubt() -> None:
    assert await listed(Choice()) == ([], "")


async def test_what_is_not_asked_for_is_left_out() -> None:
    its = ([doubt("1"), doubt("2", Why.HELD)], [doubt("3", Why.HELD, "shop")])
    assert await listed(Choice(reasons=("Held",), system="shop"), *its) == (["3 shop"], "")
