"""Feed: how far a table's changes were read, told by a column that holds the time of the last change.

A row's modification value is chosen before its transaction commits, so rows may appear behind what was read already.
A value is therefore *settled* (never read again) only once it was the greatest for `LOOKBACK` seconds, and every
transaction has ended that could still come behind it. Until then its rows are read again by every run; they equal what
was seen and cost only the reading. Rows whose column is still null are told by their key, in the same way.

What is left for the resync: a row that appears with a null column and a key smaller than one that is settled, one
whose transaction ran for longer than `LONGEST_TRANSACTION`, and, in a column of local times, the hour that comes twice
a year.
"""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime

import msgspec

LOOKBACK = 5.0
"""Seconds: how far clocks may differ, and how long a transaction may run that cannot be seen."""

LONGEST_TRANSACTION = 3600.0
"""Seconds: an older transaction (a forgotten session) holds nothing up any more."""

_STEP = 1.0
"""Seconds by which a clock must fall behind before it counts as set back."""

_PROCESS = secrets.token_hex(4)
_TIME = re.compile(r"\d{4}-\d\d-\d\d").match
_BEYOND = re.compile(r"infinity$|\d{5,}-").match
_DAY, _MINUTE, _SECOND = 86400.0, 60.0, 1.0
_YEAR_2 = -62_104_060_800.0

Value = str | int | float | None
"""A modification value; None: none yet."""

Key = str | int | None


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

    def bound(self, at: float, before: int) -> float | None:
        """Up to which time nothing can appear any more that was not there at `at`, but for what is read right now.

        Args:
            at: when the database was looked at; epoch seconds by its clock.
            before: the next transaction number at that time.

        Returns:
            Epoch seconds; None when transactions may still be running that began before.
        """
        if self.now - at < LOOKBACK:
            return None
        late = self.running < before if self.oldest is None else self.oldest < at + LOOKBACK
        if late and self.now - at <= LONGEST_TRANSACTION:
            return None
        return at - LOOKBACK if self.oldest is None else at

    @property
    def age(self) -> float:
        """Seconds by which a value that is not committed yet may be behind the clock."""
        if self.oldest is not None:
            return min(max(self.now - self.oldest, 0.0), LONGEST_TRANSACTION) + LOOKBACK
        return (0.0 if self.running >= self.next else LONGEST_TRANSACTION) + 2 * LOOKBACK


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

    after: Value = None
    top: Value = None
    null_after: Key = None
    null_top: Key = None
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
        """Where to go on from: further back when the database's clock was set back since."""
        offset = moment.now - moment.steady
        same = self.process == _PROCESS
        back = self.offset - offset if same else self.at - moment.now
        if back <= _STEP:
            return self
        after: Value = None  # by how much the clock was set back is known to the same process only
        time = as_time(self.after)
        if same and time is not None:
            after = _written(time.timestamp() - back, self.after)
        return msgspec.structs.replace(
            self, after=after, at=moment.now, before=moment.next, offset=offset, process=_PROCESS
        )

    def moved(self, top: Value, null_top: Key, began: Moment, ended: Moment) -> Cursor:
        """The cursor once everything was read up to `top` and `null_top`, between two moments."""
        settled = _later(top, self.after) if top == _sure(top, began) else self.after
        bound = began.bound(self.at, self.before)
        if bound is None:
            return msgspec.structs.replace(self, after=settled)
        after = _not_after(self.top, bound)
        same = after == self.top and (top, null_top) == (self.top, self.null_top)
        return msgspec.structs.replace(
            self if same else _mark(ended),
            after=_later(after, settled),
            top=top,
            null_after=self.null_top,
            null_top=null_top,
        )


def scanned(top: Value, null_top: Key, began: Moment, ended: Moment) -> Cursor:
    """The cursor after a scan that began after these moments, between which `top` and `null_top` were read."""
    return msgspec.structs.replace(_mark(ended), after=_sure(top, began), top=top, null_top=null_top)


def _sure(top: Value, moment: Moment) -> Value:
    """Up to which value nothing can appear any more, as far as the clock tells when `top` is the greatest.

    What may still appear is not far behind the clock; in a zone that is not told, not far behind `top`.
    """
    time = _parsed(top)
    if time is None:
        return None
    if time.tzinfo:
        return _not_after(top, moment.now - moment.age)
    return _written(min(time.replace(tzinfo=UTC).timestamp(), moment.now) - moment.age, top)


def _mark(moment: Moment) -> Cursor:
    return Cursor(at=moment.now, before=moment.next, offset=moment.now - moment.steady, process=_PROCESS)


def as_time(value: object) -> datetime | None:
    """A modification value as an aware time; None when it is none (a version number, or beyond Python's calendar)."""
    time = _parsed(value)
    return time.replace(tzinfo=UTC) if time and time.tzinfo is None else time


def _parsed(value: object) -> datetime | None:
    if not isinstance(value, str) or not _TIME(value):
        return None
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        return None


def _later(value: Value, other: Value) -> Value:
    """The later one of two times; of values that are none, the first that is there."""
    time, reference = as_time(value), as_time(other)
    if value is None or (time is not None and reference is not None and time < reference):
        return other
    return value


def _not_after(value: Value, limit: float) -> Value:
    """The value, or the limit where it lies in the future: what comes before it must not be skipped."""
    if isinstance(value, str) and _BEYOND(value):
        return _written(limit, "9999-12-31")
    time = as_time(value)
    if time is not None and time.timestamp() > limit - _grain(value):
        return _written(limit, value)
    return value


def _written(seconds: float, like: Value) -> str:
    """A time in the form and zone of another one, cut to what one value stands for: it sorts before all later ones."""
    time = as_time(like)
    moment = datetime.fromtimestamp(max(seconds - _grain(like), _YEAR_2), time.tzinfo if time else UTC)
    text = moment.isoformat(sep=" ", timespec="seconds")[:19]
    if not isinstance(like, str):
        return text
    return text[:10] if len(like) == 10 else text.replace(" ", "T") if like[10:11] == "T" else text


def _grain(value: Value) -> float:
    """Seconds that one value may stand for: they must be over before it is settled."""
    return {10: _DAY, 16: _MINUTE}.get(len(value), _SECOND) if isinstance(value, str) else 0.0
