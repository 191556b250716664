"""Selection: which of many things a command is about, found in pages beside the worker, shown, and confirmed."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator, Callable, Container, Mapping, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from fairlead.cli.choices import Output
from fairlead.cli.output import as_json, console, table
from fairlead.cli.place import Misused, Place, Refused, parted, record_at, require, tell
from fairlead.model.common import counted, seconds
from fairlead.state.base import Recollection, Store
from fairlead.worker.report import duration

T = TypeVar("T")

CHUNK = 200
"""Things in one request."""


class Selection(msgspec.Struct, frozen=True):
    """What the command line said. Empty texts choose everything."""

    record: str = ""
    system: str = ""
    field: str = ""
    reason: str = ""
    older_than: str = ""
    everything: bool = False

    @property
    def narrow(self) -> bool:
        """Whether there is a filter."""
        return any((self.record, self.system, self.field, self.reason, self.older_than))

    def require(self) -> None:
        """Sees that it was said which things are meant: never everything by accident.

        Raises:
            Misused: it was not.
        """
        if not (self.narrow or self.everything):
            raise Misused("say which: --record, another filter (see --help), or --all")

    def before(self) -> float:
        """What began before this time (epoch seconds) is old enough.

        Raises:
            Misused: `older_than` is no duration.
        """
        try:
            return time.time() - (seconds(self.older_than) if self.older_than else 0.0)
        except ValueError as error:
            raise Misused(f"--older-than: {error}") from None

    def fits(self, system: str, fields: Container[str], since: float) -> bool:
        """Whether what is about these fields of a system, and began then (epoch seconds), passes the filters."""
        named = self.system in ("", system) and (not self.field or self.field in fields)
        return named and since <= self.before()

    def place(self) -> tuple[str, str]:
        """(system, key) of `record`, which was checked."""
        return parted(self.record)

    def check(self, place: Place) -> None:
        """Sees that what is named exists.

        Raises:
            Refused: it does not.
        """
        if self.system:
            require(place, "system", self.system, "--system")
        if self.field:
            require(place, "field", self.field, "--field")
        if self.record:
            record_at(place, self.record, "--record")


async def record_of(store: Store, selection: Selection) -> int | None:
    """The number of the record that is named; None where that is not known."""
    system, key = selection.place()
    try:
        found = await store.lookup(system, [key])
    except KeyError:  # a system that no run has met
        return None
    return found.records[0]


def keys_of(memory: Recollection | None) -> dict[str, str]:
    """System → native key."""
    return {system: side.key for system, side in sorted(memory.sides.items())} if memory else {}


def joined(keys: Mapping[str, str]) -> str:
    """A record as people name it: `crm/1 = erp/7`."""
    return " = ".join(f"{system}/{key}" for system, key in keys.items())


def age(since: float) -> str:
    """How long ago it was (epoch seconds), for people; a clock that is set back makes it no less than nothing."""
    return duration(max(0.0, time.time() - since))


class Listing(Generic[T]):
    """Shows many things: a table of the first ones, or a document of all.

    Args:
        name: of the list in the document, in the plural; `columns` are the table's.
        row: the cells of one thing.
        document: the same for machines.
    """

    def __init__(
        self, name: str, columns: Sequence[str], row: Callable[[T], Sequence[str]], document: Callable[[T], object]
    ) -> None:
        self._name = name
        self._columns = columns
        self._row = row
        self._document = document

    async def show(
        self, pages: AsyncIterator[list[T]], output: Output, limit: int, about: Mapping[str, str] | None = None
    ) -> int:
        """Prints the list, in a document after what is said `about` all of it; returns how many things there are."""
        return await (self._as_json(pages, about or {}) if output is Output.JSON else self._as_table(pages, limit))

    async def _as_json(self, pages: AsyncIterator[list[T]], about: Mapping[str, str]) -> int:
        total = 0
        head = "".join(f"{as_json(name)}: {as_json(text)}, " for name, text in about.items())
        write(f'{{{head}"{self._name}": [')
        async for page in pages:
            for item in page:
                write(f"{',' if total else ''}\n{as_json(self._document(item))}")
                total += 1
        write("]}\n")
        return total

    async def _as_table(self, pages: AsyncIterator[list[T]], limit: int) -> int:
        rows: list[Sequence[str]] = []
        total = 0
        async for page in pages:
            rows += [self._row(item) for item in page[: max(0, limit - len(rows))]]
            total += len(page)
        if rows:
            console().print(table(self._columns, rows))
        if total > len(rows):
            tell(f"… and {total - len(rows):,} more: see --limit, --output json, and the filters")
        return total


def write(text: str) -> None:
    """Writes to standard output as it is."""
    sys.stdout.write(text)


def shown(document: object) -> None:
    """Prints one document for machines."""
    write(as_json(document, indent=True) + "\n")


def confirm(what: str, count: int, *, yes: bool, always: bool = False) -> None:
    """Makes sure that a person means it, where that is much.

    Args:
        what: what is about to happen, with its number.
        count: of things.
        yes: it was said on the command line.
        always: it is to be confirmed of one thing too.

    Raises:
        Refused: nobody said so.
    """
    if yes or (count == 1 and not always):
        return
    if not sys.stdin.isatty():
        raise Refused(f"this would {what}: say --yes if that is meant")
    tell(f"{what}? [y/N]")
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Refused("nothing was changed")


def chunks(items: Sequence[T]) -> list[tuple[T, ...]]:
    """The items of each request."""
    return [tuple(items[start : start + CHUNK]) for start in range(0, len(items), CHUNK)]


def number_of(count: int, noun: str) -> str:
    """`1,200 conflicts`."""
    return counted(count, noun) if count < 1000 else f"{count:,} {noun}s"


def plain(value: Any) -> str:
    """A value on one line, as JSON."""
    return as_json(value)
