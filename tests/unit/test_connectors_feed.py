"""The feed of a table: nothing that is committed is left unread, and what has settled is not read again."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.connectors.feed import LOOKBACK, Cursor, Moment, Value, as_time, scanned

NOON = 1_800_000_000.0


def at(seconds: float, *, oldest: float | None = None) -> Moment:
    """A moment after noon, at which the oldest running transaction, if any, began `oldest` after noon."""
    return Moment(NOON + seconds, seconds, NOON + (seconds if oldest is None else oldest))


def time(seconds: float, form: str = "%Y-%m-%d %H:%M:%S.%f+00", zone: float = 0.0) -> str:
    """A modification value of so many seconds after noon."""
    return (datetime.fromtimestamp(NOON + seconds, UTC) + timedelta(hours=zone)).strftime(form)


def followed(cursor: Cursor, top: Value, *moments: Moment) -> Cursor:
    """The cursor after runs at some moments, each of which reads up to `top`."""
    for moment in moments:
        cursor = cursor.resumed(moment).moved(top, None, moment, moment)
    return cursor


def test_a_cursor_survives_being_stored() -> None:
    cursor = Cursor("2026-01-31", 5, "k", 7, 1.5, 3, 0.5, "p")
    assert cursor == Cursor.parse(cursor.text())


@pytest.mark.parametrize("text", ["", "null", "{}", "[[]]", "no json"])
def test_a_cursor_that_cannot_be_read_begins_anew(text: str) -> None:
    assert Cursor() == Cursor.parse(text)


def test_a_value_settles_once_it_was_the_greatest_for_a_while() -> None:
    first = followed(Cursor(), time(0), at(1))
    young, old = followed(first, time(0), at(1 + LOOKBACK / 2)), followed(first, time(0), at(1 + LOOKBACK))
    assert (young.after, old.after) == (None, time(0))


def test_a_value_does_not_settle_while_a_transaction_runs_that_began_before_it() -> None:
    first = followed(Cursor(), time(0), at(1))
    held = followed(first, time(0), at(100, oldest=-5), at(200, oldest=-5))
    assert (held.after, followed(held, time(0), at(300)).after) == (None, time(0))


def test_a_session_that_was_forgotten_holds_nothing_up_for_ever() -> None:
    assert followed(Cursor(), time(0), at(1), at(4000, oldest=-5)).after == time(0)


def test_numbers_of_transactions_tell_where_their_times_cannot_be_seen() -> None:
    first = Cursor().moved(time(-20), None, Moment(NOON, 0, None, 7, 9), Moment(NOON, 0, None, 7, 9))
    held = first.moved(time(-20), None, Moment(NOON + 9, 9, None, 8, 12), Moment(NOON + 9, 9, None, 8, 12))
    free = first.moved(time(-20), None, Moment(NOON + 9, 9, None, 9, 12), Moment(NOON + 9, 9, None, 9, 12))
    assert (held.after, free.after) == (None, time(-20))


@pytest.mark.parametrize("top", [time(10**6), "infinity", "12000-01-01 00:00:00+00"])
def test_a_value_of_the_future_settles_only_up_to_now(top: str) -> None:
    after = followed(Cursor(), top, at(1), at(10), at(20)).after
    found = as_time(after)
    assert found is not None
    assert found.timestamp() < NOON + 10


def test_versions_settle_like_times() -> None:
    assert followed(Cursor(), 7, at(1), at(10)).after == 7


def test_a_set_back_clock_takes_the_cursor_back_by_as_much() -> None:
    settled = followed(Cursor(), time(0), at(1), at(10))
    back = settled.resumed(Moment(NOON - 3580, 20.0, NOON - 3580))
    assert back.after == time(-3601, "%Y-%m-%d %H:%M:%S")


def test_a_set_back_clock_after_a_restart_begins_anew() -> None:
    settled = msgspec.structs.replace(followed(Cursor(), time(0), at(1), at(10)), process="another")
    assert settled.resumed(at(-3600)).after is None


def test_a_clock_that_is_slightly_off_is_none_that_was_set_back() -> None:
    settled = followed(Cursor(), time(0), at(1), at(10))
    assert settled == settled.resumed(Moment(NOON + 19.5, 20.0, NOON + 19.5))


SECONDS = "%Y-%m-%d %H:%M:%S"


def test_a_scan_leaves_what_is_young_to_be_read_again() -> None:
    assert scanned(time(-1), 7, at(0), at(0)) == msgspec.structs.replace(
        scanned(None, 7, at(0), at(0)), after=time(-6, SECONDS), top=time(-1)
    )


def test_an_old_time_that_tells_its_zone_is_settled_at_once() -> None:
    assert scanned(time(-100), None, at(0), at(0)).after == time(-100)
    assert Cursor().moved(time(-100), None, at(0), at(0)).after == time(-100)


def test_an_old_time_that_does_not_tell_its_zone_may_be_a_young_one() -> None:
    assert scanned(time(-100, SECONDS), None, at(0), at(0)).after == time(-106, SECONDS)
    assert Cursor(at=NOON).moved(time(-100, SECONDS), None, at(0), at(0)).after is None


@pytest.mark.parametrize("text", ["20260131", "7", "2026", "infinity", "no time", "0044-03-15 BC", "2026-13-01", ""])
def test_what_is_no_time_is_none(text: str) -> None:
    assert as_time(text) is None


# --- a database that others use ---


class Database:
    """Transactions that choose a value when they begin, and show their row when they commit.

    Attributes:
        form, zone: how values are written.
        sees: whether the beginning of transactions can be seen, or only their numbers.
    """

    def __init__(self, form: str, zone: float, *, sees: bool) -> None:
        self.form, self.zone, self.sees = form, zone, sees
        self.now = self.steady = 0.0
        self.next = 1
        self.running: dict[int, tuple[float, str]] = {}
        self.committed: dict[int, str] = {}
        self.read: set[int] = set()
        self.cursor: Cursor | None = None

    def moment(self) -> Moment:
        oldest = min([self.now, *(began for began, _ in self.running.values())]) if self.sees else None
        return Moment(
            NOON + self.now,
            self.steady,
            None if oldest is None else NOON + oldest,
            min(self.running, default=self.next),
            self.next,
        )

    def begin(self, skew: float) -> None:
        self.running[self.next] = (self.now, time(self.now + skew, self.form, self.zone))
        self.next += 1

    def commit(self, which: int) -> None:
        if self.running:
            number = sorted(self.running)[which % len(self.running)]
            self.committed[number] = self.running.pop(number)[1]

    def run(self) -> None:
        """A scan at first, then what the feed tells."""
        began = self.moment()
        if self.cursor is None:
            self.read |= set(self.committed)
            self.cursor = scanned(max(self.committed.values(), default=None), None, began, began)
            return
        position = self.cursor.resumed(began)
        told = {n: v for n, v in self.committed.items() if position.after is None or v > str(position.after)}
        self.read |= set(told)
        self.cursor = position.moved(max(told.values(), default=position.top), None, began, self.moment())


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["begin", "commit", "run", "run"]),
        st.floats(0, 12),
        st.floats(-0.9 * LOOKBACK, 0.9 * LOOKBACK),
        st.integers(0, 5),
    ),
    max_size=60,
)


def lived(database: Database, steps: list[tuple[str, float, float, int]], *, skewed: bool = True) -> None:
    """Lives through some steps; at the end everything commits, and one more run reads."""
    for step, seconds, skew, which in steps:
        database.now += seconds
        database.steady += seconds
        if step == "begin":
            database.begin(skew if skewed else 0.0)
        elif step == "commit":
            database.commit(which)
        else:
            database.run()
    while database.running:
        database.commit(0)
    database.run()


@pytest.mark.parametrize("sees", [True, False])
def test_clocks_that_differ_lose_nothing_however_long_a_transaction_runs(sees: bool) -> None:
    database = Database("%Y-%m-%d %H:%M:%S.%f+00", 0.0, sees=sees)
    database.run()
    ahead, behind = [("begin", 10.0, 4.0, 0), ("commit", 0.0, 0.0, 0)], ("begin", 1.0, -4.0, 0)
    lived(database, [*ahead, ("run", 0.0, 0.0, 0), behind, ("run", 30.0, 0.0, 0), ("run", 30.0, 0.0, 0)])
    assert set(database.committed) == database.read


@settings(max_examples=300, deadline=None)
@given(STEPS, st.sampled_from(["%Y-%m-%d %H:%M:%S.%f+00", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d"]), st.booleans())
def test_nothing_that_was_committed_is_left_unread(steps: list, form: str, sees: bool) -> None:
    database = Database(form, 0.0, sees=sees)
    lived(database, steps)
    assert set(database.committed) == database.read


@settings(max_examples=100, deadline=None)
@given(STEPS, st.sampled_from([-8.0, 9.0]), st.booleans())
def test_times_of_any_zone_that_do_not_tell_it_serve_as_well(steps: list, zone: float, sees: bool) -> None:
    database = Database("%Y-%m-%d %H:%M:%S.%f", zone, sees=sees)
    lived(database, steps, skewed=False)
    assert set(database.committed) == database.read


@settings(max_examples=100, deadline=None)
@given(STEPS, STEPS, st.floats(2, 5000), st.booleans())
def test_nothing_is_left_unread_when_the_clock_is_set_back(
    before: list, after: list, seconds: float, sees: bool
) -> None:
    database = Database("%Y-%m-%d %H:%M:%S.%f+00", 0.0, sees=sees)
    lived(database, before)
    database.now -= seconds
    lived(database, after)
    assert set(database.committed) == database.read


@settings(max_examples=100, deadline=None)
@given(STEPS, st.booleans())
def test_what_has_settled_is_not_read_again(steps: list, sees: bool) -> None:
    database = Database("%Y-%m-%d %H:%M:%S.%f+00", 0.0, sees=sees)
    lived(database, steps)
    for _ in range(4):
        database.now += 2 * LOOKBACK
        database.steady += 2 * LOOKBACK
        database.run()
    database.read.clear()
    database.run()
    assert database.read == set()
