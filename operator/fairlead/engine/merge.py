"""Three-way merges: what two edits of one value come to, given the value that both began with.

Every function takes (base, one, other) and is symmetric in the last two. What only one side changed is taken from it,
what both changed to the same is that (but of numbers the deltas are summed, equal ones too: who merges knows whether
they are two), and what cannot be put together without losing something is `Unmergeable`. "No value" counts as an empty
list or text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from decimal import Context, Decimal
from typing import TypeVar

import msgspec

from fairlead.engine.canonical import Kind
from fairlead.model.record import Value

Merge = Callable[[Value, Value, Value], Value]

T = TypeVar("T")

_EXACT = Context(prec=4000)
_FURTHEST = 1000
"""Lines that may differ between two texts before they count as wholly different: a comparison takes their square."""


class Unmergeable(ValueError):
    """The edits cannot be put together; the message says why, and holds no value."""


def merge_of(kind: Kind, *, delta: bool = False) -> Merge | None:
    """How values of a kind are merged; None for what cannot be. `delta` declares that a number counts something."""
    if kind.item is not None:
        return _shortened(_sets(kind.item) if kind.unique else _lists(kind.item), kind)
    if kind.name in ("number", "integer"):
        return _shortened(_sums(kind), kind, equals=False) if delta else None
    return _shortened(_text, kind) if kind.name == "string" else None


def _shortened(merge: Merge, kind: Kind, *, equals: bool = True) -> Merge:
    """What needs no merge: only one side was edited, or (`equals`) both to the same."""

    def merged(base: Value, one: Value, other: Value) -> Value:
        before, left, right = (kind.print_bytes(value) for value in (base, one, other))
        if right == before or (equals and left == right):
            return one
        return other if left == before else merge(base, one, other)

    return merged


# --- numbers ---


def _sums(kind: Kind) -> Merge:
    def merged(base: Value, one: Value, other: Value) -> Value:
        numbers = [_number(value) for value in (one, other, base)]
        total = _EXACT.subtract(_EXACT.add(numbers[0], numbers[1]), numbers[2])
        return kind.canonical(total)

    return merged


def _number(value: Value) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise Unmergeable("a side has no number, so there is no sum")
    return Decimal(value)


# --- lists ---


def _sets(item: Kind) -> Merge:
    def merged(base: Value, one: Value, other: Value) -> Value:
        before, left, right = (_keyed(value, item) for value in (base, one, other))
        both = {**left, **right}
        return _filled([both[key] for key in sorted(_members(before, left, right))], one, other)

    return merged


def _lists(item: Kind) -> Merge:
    def merged(base: Value, one: Value, other: Value) -> Value:
        before, left, right = (_keyed(value, item) for value in (base, one, other))
        members = _members(before, left, right)
        order, both = _ordered(list(before), list(left), list(right), members), {**left, **right}
        return _filled([both[key] for key in order], one, other)

    return merged


def _keyed(value: Value, item: Kind) -> dict[bytes, Value]:
    items = value or []
    if not isinstance(items, list):
        raise Unmergeable("a side has no list")
    keyed = dict(zip(item.encoded_column(items), items, strict=True))
    if len(keyed) < len(items):
        raise Unmergeable("a list holds an item twice")
    return keyed


def _members(before: dict[bytes, Value], left: dict[bytes, Value], right: dict[bytes, Value]) -> set[bytes]:
    """What both kept, and what either added."""
    return (left.keys() & right.keys()) | ((left.keys() ^ right.keys()) - before.keys())


def _filled(items: list[Value], one: Value, other: Value) -> Value:
    return items if items or (one is not None and other is not None) else None


def _ordered(
    before: Sequence[bytes], left: Sequence[bytes], right: Sequence[bytes], members: set[bytes]
) -> list[bytes]:
    """The members in an order that keeps what either side did to it; an added one stays behind its neighbour."""
    spine = _spine(before, *([key for key in side if key in members] for side in (left, right)))
    known = set(spine)
    runs = [_runs(side, known, members) for side in (left, right)]
    found: list[bytes] = []
    for anchor in (None, *spine):
        found += [anchor] if anchor is not None else []
        for run in sorted(each.get(anchor, []) for each in runs):
            found += run
    return found


def _spine(before: Sequence[bytes], left: Sequence[bytes], right: Sequence[bytes]) -> list[bytes]:
    """What both sides hold, in the order of the side that changed it."""
    shared = set(left) & set(right)
    one, other = ([key for key in side if key in shared] for side in (left, right))
    if one == other:
        return one
    kept = shared & set(before)
    was, first, second = ([key for key in order if key in kept] for order in (before, one, other))
    if first == second:  # they differ only in where they put what both added
        return min(one, other)
    if was not in (first, second):
        raise Unmergeable("the sides put the items into different orders")
    return other if first == was else one


def _runs(side: Sequence[bytes], spine: set[bytes], members: set[bytes]) -> dict[bytes | None, list[bytes]]:
    """What only this side added, by what it stands behind."""
    runs: dict[bytes | None, list[bytes]] = {}
    anchor = None
    for key in side:
        if key in spine:
            anchor = key
        elif key in members:
            runs.setdefault(anchor, []).append(key)
    return runs


# --- text, line by line ---


class _Hunk(msgspec.Struct, frozen=True, order=True):
    """Lines `start` to `end` (not included) of the base, and what a side has instead."""

    start: int
    end: int
    lines: tuple[str, ...]


def _text(base: Value, one: Value, other: Value) -> Value:
    before, left, right = (_lines(value) for value in (base, one, other))
    hunks = sorted({*_hunks(before, left), *_hunks(before, right)})
    text = "\n".join(_patched(before, hunks))
    return text if text or (one is not None and other is not None) else None


def _lines(value: Value) -> list[str]:
    if not isinstance(value, str | None):
        raise Unmergeable("a side has no text")
    return (value or "").split("\n")


def _patched(before: list[str], hunks: Sequence[_Hunk]) -> Iterator[str]:
    """The base with the hunks of both sides, which must not even touch: neither side has seen the other's lines."""
    done, touched = 0, -1
    for hunk in hunks:
        if hunk.start <= touched:
            raise Unmergeable("the same lines were changed in different ways")
        yield from before[done : hunk.start]
        yield from hunk.lines
        done = touched = hunk.end
    yield from before[done:]


def _hunks(before: list[str], after: list[str]) -> list[_Hunk]:
    """How `after` differs from `before`."""
    head = _common(before, after)
    tail = _common(before[head:][::-1], after[head:][::-1])
    old, new = before[head : len(before) - tail], after[head : len(after) - tail]
    hunks, a, b = [], 0, 0
    for x, y in [*_matches(old, new), (len(old), len(new))]:
        if (a, b) != (x, y):
            hunks.append(_Hunk(head + a, head + x, tuple(new[b:y])))
        a, b = x + 1, y + 1
    return hunks


def _common(one: Sequence[T], other: Sequence[T]) -> int:
    """How many items both begin with."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((n for n, (x, y) in pairs if x != y), min(len(one), len(other)))


def _matches(old: list[str], new: list[str]) -> list[tuple[int, int]]:
    """Positions of a longest common subsequence, by the greedy algorithm of Myers (1986); none when it is far off.

    The two begin with different lines, or one has none.
    """
    trace = _search(old, new)
    if trace is None:
        return []
    x, y, found = len(old), len(new), []
    for steps in range(len(trace) - 1, 0, -1):
        reach, k = trace[steps - 1], x - y
        down = _comes_down(reach, k, steps)
        before = k + 1 if down else k - 1
        from_x = reach[before]
        while x > from_x + (0 if down else 1):
            x, y = x - 1, y - 1
            found.append((x, y))
        x, y = from_x, from_x - before
    return found[::-1]


def _search(old: list[str], new: list[str]) -> list[dict[int, int]] | None:
    """For each number of differing lines, how far each diagonal reaches in `old`; None when there are too many."""
    trace: list[dict[int, int]] = []
    reach: dict[int, int] = {1: 0}
    for steps in range(min(len(old) + len(new), _FURTHEST) + 1):
        now: dict[int, int] = {}
        for k in range(-steps, steps + 1, 2):
            down = _comes_down(reach, k, steps)
            x = reach[k + 1] if down else reach[k - 1] + 1
            while x < len(old) and x - k < len(new) and old[x] == new[x - k]:
                x += 1
            now[k] = x
        trace.append(now)
        if now.get(len(old) - len(new), -1) >= len(old):
            return trace
        reach = now
    return None


def _comes_down(reach: dict[int, int], k: int, steps: int) -> bool:
    """Whether the furthest way to diagonal `k` in so many steps ends with a line that only `new` has."""
    return k == -steps or (k != steps and reach[k - 1] < reach[k + 1])
