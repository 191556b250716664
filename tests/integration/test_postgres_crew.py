"""Workers that meet in a PostgreSQL state: who counts, who leads, and who may deliver what. Its clock decides."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from typing import Any, cast

import psycopg
import pytest

from fairlead.engine.case import Operation, Side, Write
from fairlead.state.base import Commit, Intent, StateLocked
from fairlead.state.postgres import PostgresStore
from fairlead.state.postgres_crew import PostgresCrew, Standing
from fairlead.testing.store import LAYOUT, prints, recollection
from fairlead.transport.failure import Failure
from fairlead.worker.delivery import Delivery
from fairlead.worker.helping import Helper
from fairlead.worker.parcel import Parcel, Share
from fairlead.worker.session import Session
from fairlead.worker.settlement import Settlement
from fairlead.worker.sharing import FIRST, Sharing
from fairlead.worker.tally import SystemTally

SCHEMA = "fairlead_default_customers"


class Meeting:
    """A state, and workers that meet there."""

    def __init__(self, dsn: str, admin: psycopg.Connection[Any], exits: AsyncExitStack) -> None:
        self._dsn = dsn
        self.admin = admin
        self._exits = exits

    async def _connect(self) -> psycopg.AsyncConnection[Any]:
        return await psycopg.AsyncConnection.connect(self._dsn, autocommit=True, prepare_threshold=None)

    def worker(self, shape: str = "shape") -> PostgresCrew:
        made = PostgresCrew(self._connect, SCHEMA, "localhost/state", shape)
        self._exits.push_async_callback(made.close)
        return made

    def store(self) -> PostgresStore:
        made = PostgresStore(self._connect, SCHEMA, "localhost/state")
        self._exits.push_async_callback(made.close)
        return made

    async def leader(self) -> tuple[PostgresCrew, PostgresStore]:
        """A worker that leads, and its store."""
        store, crew = self.store(), self.worker()
        await store.open(LAYOUT)
        await crew.lead(store.epoch)
        return crew, store

    async def helper(self, shape: str = "shape") -> PostgresCrew:
        made = self.worker(shape)
        await made.join()
        return made

    def lapse(self, *, leads: bool) -> None:
        """Lets the time of members be over, as that of one that sleeps."""
        self.admin.execute(
            f"UPDATE {SCHEMA}.crew SET until = clock_timestamp() WHERE (epoch IS NOT NULL) = %s", (leads,)
        )


@pytest.fixture
async def meeting(database: str, admin: psycopg.Connection[Any]) -> AsyncIterator[Meeting]:
    async with AsyncExitStack() as exits:
        yield Meeting(database, admin, exits)


# --- who is there ---


async def test_where_there_is_no_state_nobody_leads(meeting: Meeting) -> None:
    assert await meeting.worker().look() == Standing()


async def test_who_leads_is_known_to_all(meeting: Meeting) -> None:
    _, store = await meeting.leader()
    helper = await meeting.helper()
    standing = await helper.look()
    assert (standing.epoch, bool(standing.leader), standing.members) == (store.epoch, True, 2)


async def test_a_leader_that_leaves_is_missed_at_once(meeting: Meeting) -> None:
    leader, _ = await meeting.leader()
    helper = await meeting.helper()
    await leader.leave()
    standing = await helper.look()
    assert (standing.leader, standing.members) == ("", 1)


async def test_a_leader_whose_time_is_over_leads_no_more(meeting: Meeting) -> None:
    leader, _ = await meeting.leader()
    meeting.lapse(leads=True)
    assert (await leader.look()).leader == ""
    assert leader.fence is not None
    assert (await leader.beat(), leader.fence.open) == (False, False)


async def test_a_sign_of_life_keeps_a_member(meeting: Meeting) -> None:
    leader, _ = await meeting.leader()
    meeting.admin.execute(f"UPDATE {SCHEMA}.crew SET until = clock_timestamp() + interval '2 s'")
    assert await leader.beat()
    left = meeting.admin.execute(f"SELECT extract(epoch FROM until - clock_timestamp()) > 10 FROM {SCHEMA}.crew")
    assert left.fetchone() == (True,)


async def test_a_leader_whose_epoch_is_over_does_not_count_any_more(meeting: Meeting) -> None:
    leader, _ = await meeting.leader()
    meeting.admin.execute(f"UPDATE {SCHEMA}.meta SET value = '999' WHERE name = 'epoch'")
    assert not await leader.beat()


async def test_who_comes_back_is_another_member_with_another_fence(meeting: Meeting) -> None:
    await meeting.leader()
    helper = await meeting.helper()
    before = helper.fence
    meeting.lapse(leads=False)
    assert not await helper.beat()
    await helper.join()
    assert before is not None
    assert helper.fence is not None
    assert (before.open, helper.fence.open) == (False, True)


# --- shares ---


async def test_each_share_is_claimed_by_one(meeting: Meeting) -> None:
    leader, store = await meeting.leader()
    others = [await meeting.helper() for _ in range(4)]
    ids = await leader.offer(store.epoch, [b"%d" % n for n in range(40)])
    claims = await asyncio.gather(*(other.claim() for other in others * 10))
    assert sorted(claim.id for claim in claims if claim) == ids
    assert {claim.attempts for claim in claims if claim} == {1}


async def test_what_came_of_a_share_is_heard_by_the_leader(meeting: Meeting) -> None:
    leader, store = await meeting.leader()
    helper = await meeting.helper()
    (share,) = await leader.offer(store.epoch, [b"work"])
    claim = await helper.claim()
    assert claim is not None
    assert claim.body == b"work"
    waiting = asyncio.create_task(leader.heard(30))
    assert await helper.settle(claim.id, b"done")
    await asyncio.wait_for(waiting, 10)
    assert await leader.results([share]) == [(share, b"done")]
    await leader.forget([share])
    assert await leader.results([share]) == []


async def test_a_share_of_a_member_whose_time_is_over_goes_to_another_who_is_told(meeting: Meeting) -> None:
    leader, store = await meeting.leader()
    sleeper, other = await meeting.helper(), await meeting.helper()
    await leader.offer(store.epoch, [b"work"])
    first = await sleeper.claim()
    assert first is not None
    assert await other.claim() is None
    meeting.lapse(leads=False)
    await other.join()
    second = await other.claim()
    assert second is not None
    assert (second.id, second.attempts) == (first.id, 2)
    assert (await sleeper.settle(first.id, b"late"), await other.settle(second.id, b"done")) == (False, True)


async def test_a_member_whose_time_is_over_gets_no_share(meeting: Meeting) -> None:
    leader, store = await meeting.leader()
    sleeper = await meeting.helper()
    await leader.offer(store.epoch, [b"work"])
    meeting.lapse(leads=False)
    assert await sleeper.claim() is None


@pytest.mark.parametrize(("sent", "attempts"), [(True, 2), (False, 1)])
async def test_a_share_that_is_given_back_is_free_and_counts_as_tried_if_it_may_have_been_sent(
    meeting: Meeting, sent: bool, attempts: int
) -> None:
    leader, store = await meeting.leader()
    helper = await meeting.helper()
    await leader.offer(store.epoch, [b"work"])
    claim = await helper.claim()
    assert claim is not None
    await helper.release(claim.id, sent=sent)
    again = await leader.claim()
    assert again is not None
    assert again.attempts == attempts


async def test_who_lost_a_share_to_another_member_gives_nothing_of_it_back(meeting: Meeting) -> None:
    leader, store = await meeting.leader()
    sleeper, other, third = [await meeting.helper() for _ in range(3)]
    await leader.offer(store.epoch, [b"work"])
    first = await sleeper.claim()
    meeting.lapse(leads=False)
    await other.join()
    second = await other.claim()
    assert first is not None
    assert second is not None
    await sleeper.release(first.id, sent=False)
    await third.join()
    assert await third.claim() is None
    await other.release(second.id, sent=False)
    again = await third.claim()
    assert again is not None
    assert again.attempts == 2


async def test_only_who_was_declared_alike_delivers_for_one_another(meeting: Meeting) -> None:
    leader, store = await meeting.leader()
    other = await meeting.helper("another shape")
    await leader.offer(store.epoch, [b"work"])
    assert await other.claim() is None


async def test_a_share_of_an_earlier_epoch_is_not_delivered(meeting: Meeting) -> None:
    leader, _ = await meeting.leader()
    await leader.offer("0", [b"work"])
    assert await leader.claim() is None


# --- taking over ---


async def test_a_leader_that_sleeps_is_put_out_when_its_time_is_over(meeting: Meeting) -> None:
    _, asleep = await meeting.leader()
    other = meeting.store()
    with pytest.raises(StateLocked, match="is in use by another worker"):
        await other.open(LAYOUT)
    meeting.lapse(leads=True)
    await other.open(LAYOUT)
    assert int(other.epoch) > int(asleep.epoch)
    with pytest.raises(StateLocked):
        await asleep.meta("anything")


async def test_of_several_who_would_take_over_one_does(meeting: Meeting) -> None:
    await meeting.leader()
    meeting.lapse(leads=True)
    opened = await asyncio.gather(*(meeting.store().open(LAYOUT) for _ in range(4)), return_exceptions=True)
    assert sum(isinstance(each, StateLocked) for each in opened) == 3
    assert sum(not isinstance(each, Exception) for each in opened) == 1


async def test_whoever_holds_the_state_without_leading_is_left_alone(meeting: Meeting) -> None:
    _, first = await meeting.leader()
    await first.close()
    command = meeting.store()
    meeting.lapse(leads=True)
    await command.open(LAYOUT)
    with pytest.raises(StateLocked, match="is in use by another worker"):
        await meeting.store().open(LAYOUT)
    assert await command.meta("epoch") == command.epoch


async def test_taking_over_waits_for_those_who_deliver_for_the_one_before(meeting: Meeting) -> None:
    leader, first = await meeting.leader()
    helper = await meeting.helper()
    await leader.offer(first.epoch, [b"work"])
    claim = await helper.claim()
    assert claim is not None
    await leader.leave()
    await first.close()
    second = meeting.store()
    opening = asyncio.create_task(second.open(LAYOUT))
    await asyncio.wait([opening], timeout=1)
    assert not opening.done()
    await helper.release(claim.id, sent=True)
    await asyncio.wait_for(opening, 10)


# --- a leader that shares out a batch ---


class Slow:
    """Delivers as `Delivery` does, slowly; `last` is called when the last write of the batch is done."""

    def __init__(self, writes: int, last: Callable[[], None]) -> None:
        self._left, self._last = writes, last
        self.doubted = 0
        """How often it was told that writes may have been sent before."""

    def again(self) -> "Slow":
        self.doubted += 1
        return self

    async def deliver(self, _system: str, _operation: Operation, batch: Sequence[Intent]) -> None:
        await asyncio.sleep(0.04 * len(batch))
        self._left -= len(batch)
        if not self._left:
            self._last()


@pytest.mark.parametrize("how", ["closed", "taken"])
async def test_a_leader_whose_time_is_over_at_the_last_write_of_a_batch_does_not_go_on_with_it(
    meeting: Meeting, how: str
) -> None:
    leader, store = await meeting.leader()
    await meeting.helper()
    update = Write(Operation.UPDATE, {"name": "x"}, {"name": "crm"})
    intents = [Intent(n, "erp", update) for n in range(FIRST + 20)]

    def over() -> None:
        if how == "closed" and leader.fence is not None:
            leader.fence.close()
        elif how == "taken":  # the fence is another one by then
            meeting.admin.execute(f"UPDATE {SCHEMA}.share SET member = -1 WHERE result IS NULL")

    sharing = Sharing(leader, store)
    share = Share(1, "erp", Operation.UPDATE, [], scanned=False, recovering=False)
    with pytest.raises(StateLocked, match="away for too long"):
        await sharing.send(cast("Delivery", Slow(len(intents), over)), share, intents)


class Broken:
    """What a worker helps with that fails: it cannot open the system, or is lost while it sends."""

    references = fence = None

    def __init__(self, store: PostgresStore, *, opens: bool) -> None:
        self.store, self._opens = store, opens

    async def open(self, *systems: str) -> dict[str, Failure]:
        return {} if self._opens else {system: Failure("no such host") for system in systems}


class Losing(Helper):
    """Sends, and then another worker leads."""

    async def _sent(self, *_: Any, **__: Any) -> Parcel:
        if self._members.fence is not None:
            self._members.fence.close()
        return Parcel(Settlement(), SystemTally(), [], [], None)


@asynccontextmanager
async def helping(helper: Helper) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(helper.help(stop))
    yield
    stop.set()
    await task


@pytest.mark.parametrize(("opens", "doubted"), [(False, 0), (True, 1)], ids=["never opened", "lost while it sent"])
async def test_what_a_helper_gave_back_is_in_doubt_only_where_it_may_have_sent_it(
    meeting: Meeting, opens: bool, doubted: int
) -> None:
    leader, store = await meeting.leader()
    creates = [Intent(n, "erp", Write(Operation.CREATE, {"email": "x"}, {"email": "crm"})) for n in range(1, 46)]
    known = [recollection(n, crm=Side(f"c{n}", n, prints(n, n))) for n in range(1, 46)]
    await store.commit(Commit(records=known, journal={1: creates}))
    joined = meeting.store()
    await joined.join(())
    members = await meeting.helper()
    helper = (Losing if opens else Helper)(
        members, cast("Session", Broken(joined, opens=opens)), lambda _: nullcontext(), store.epoch
    )
    slow, sharing = Slow(len(creates), lambda: None), Sharing(leader, store)
    share = Share(1, "erp", Operation.CREATE, [], scanned=False, recovering=False)
    async with helping(helper):
        await sharing.send(cast("Delivery", slow), share, creates)
    assert (helper.lost, slow.doubted, sharing.retaken) == (1, doubted, doubted)
