"""Feed: how far a table's changes were read, told by a column that holds the time of the last change.

A row's modification value is chosen before its transaction commits, so rows may appear behind what was read already.
A value is therefore *settled* (never read again) only once it was the greatest for `LOOKBACK` seconds, and every
transaction that was running when it was first read has ended. Until then its rows are read again by every run; they
equal what was seen and cost only the reading. Rows whose column is still null are told by their key, in the same way.

What is left for the resync: a row that appears with a null column and a key smaller than one that is settled (random
keys), and one whose transaction ran for longer than `LONGEST_TRANSACTION`.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta

import msgspec

LOOKBACK = 5.0
"""Seconds: how far clocks may differ, and how long a transaction may run that cannot be seen."""

LONGEST_TRANSACTION = 3600.0
"""Seconds: an older transaction (a forgotten session) holds nothing up any more."""

_STEP = 1.0
"""Seconds by which a clock must fall behind before it counts as set back."""

_PROCESS = secrets.token_hex(4)


class Moment(msgspec.Struct, frozen=True):
    """What a database says of the time, and of the transactions that are running.

    Attributes:
        now: its clock, epoch seconds.
        steady: our monotonic clock at the same time.
        oldest: when its oldest running transaction began, epoch seconds; None where that cannot be seen.
        running: the smallest number of a transaction that is running, or the next one to be given.
        next: the next number to be given.
    """

    now: float
    steady: float
    oldest: float | None = None
    running: int = 0
    next: int = 0

    def ended(self, at: float, before: int) -> bool:
        """Whether all transactions have ended that were running at `at`, when `before` was the next number."""
        if self.now - at > LONGEST_TRANSACTION:
            return True
        return self.running >= before if self.oldest is None else self.oldest >= at

    @property
    def horizon(self) -> float:
        """The time before which nothing can appear any more; epoch seconds."""
        if self.oldest is not None:
            began = self.oldest
        else:
            began = self.now if self.running >= self.next else self.now - LONGEST_TRANSACTION
        return max(min(began, self.now), self.now - LONGEST_TRANSACTION) - LOOKBACK


class Cursor(msgspec.Struct, frozen=True, array_like=True):
    """A checkpoint of a table.

    Attributes:
        after: the settled modification value; None when none is.
        top: the greatest one read.
        null_after: the settled key among rows whose modification column is null.
        null_top: the greatest such key read.
        at: when `top` was first read, by the database's clock; epoch seconds.
        before: the next transaction number at that time.
        offset: how far the database's clock was ahead of `process`' steady one.
        process: whose steady clock that was.
    """

    after: str | int | float | None = None
    top: str | int | float | None = None
    null_after: str | int | None = None
    null_top: str | int | None = None
    at: float = 0.0
    before: int = 0
    offset: float = 0.0
    process: str = ""

    def text(self) -> str:
        """As the state keeps it."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """From the state. What cannot be read begins anew: that omits nothing."""
        try:
            return msgspec.json.decode(text, type=cls)
        except msgspec.DecodeError:
            return cls()

    def resumed(self, moment: Moment) -> Cursor:
        """Where to go on from now: further back when the database's clock was set back since."""
        if self.process == _PROCESS:
            back = self.offset - (moment.now - moment.steady)
        else:
            back = self.at - moment.now
            if back > _STEP:  # nobody knows by how much
                return msgspec.structs.replace(self, after=None)
        time = as_time(self.after)
        if back <= _STEP or time is None or not isinstance(self.after, str):
            return self
        earlier = time - timedelta(seconds=back)
        return msgspec.structs.replace(self, after=earlier.isoformat(sep=" "), offset=moment.now - moment.steady)

    def moved(
        self, top: str | int | float | None, null_top: str | int | None, moment: Moment
    ) -> Cursor:
        """The cursor once everything up to `top` and `null_top` was read."""
        if moment.now - self.at < LOOKBACK or not moment.ended(self.at, self.before):
            return self
        after = self.after if self.top is None else _not_after(self.top, moment.now - LOOKBACK)
        if _is_before(after, self.after):
            after = self.after
        reached = started(moment)
        if (top, null_top) == (self.top, self.null_top):  # nothing new: the same text, so that nothing is stored
            reached = self
        return msgspec.structs.replace(
            reached, after=after, top=top, null_after=self.null_top, null_top=null_top
        )


def started(moment: Moment) -> Cursor:
    """A cursor of this moment, before anything was read."""
    offset = moment.now - moment.steady
    return Cursor(at=moment.now, before=moment.next, offset=offset, process=_PROCESS)


def as_time(value: object) -> datetime | None:
    """A modification value as an aware time; None when it is none (a version number, or beyond Python's calendar)."""
    if not isinstance(value, str):
        return None
    try:
        time = datetime.fromisoformat(value)
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _is_before(value: object, other: object) -> bool:
    """Whether a time is before another; what is no time never is."""
    time, reference = as_time(value), as_time(other)
    return time is not None and reference is not None and time < reference


def _not_after(value: str | int | float, limit: float) -> str | int | float:
    """The value, or the limit where it lies in the future: nothing that comes before it may be skipped."""
    if value == "infinity":
        return written(limit, value)
    time = as_time(value)
    if time is None or time.timestamp() <= limit:
        return value
    return written(limit, value)


def written(seconds: float, like: object = "") -> str:
    """A time as text; the date alone where `like` is one."""
    text = datetime.fromtimestamp(seconds, UTC).isoformat(sep=" ")
    return text[:10] if isinstance(like, str) and len(like) == 10 else text
