"""`fairlead matches`: which records wait because it is not sure which they are, and a person's word on it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from fairlead.cli.asking import Asker, ask
from fairlead.cli.choices import Output
from fairlead.cli.looking import looking, values_of
from fairlead.cli.output import as_json, console, table
from fairlead.cli.place import Place, Refused, Target, at_place, record_at, require, require_known, tell
from fairlead.model.record import Value
from fairlead.state.base import Store
from fairlead.state.place import Place as Where
from fairlead.state.requests import Demand, Link, Split
from fairlead.worker.doubts import Doubt, Why, doubts, ordered
from fairlead.worker.exit import OK

Said = Mapping[Where, Mapping[str, Value]]
"""Where → the match fields there, of what could be read."""

_COLUMNS = ("RECORD", "REASON", "LACKS", "MAY BE")


class Choice(msgspec.Struct, frozen=True):
    """Which doubts are listed: those of all, where nothing is named.

    Attributes:
        limit: most of them.
        after: (as SYSTEM/KEY) those that follow this record.
        values: whether the match fields are read from the systems.
    """

    reasons: tuple[str, ...] = ()
    system: str = ""
    limit: int = 50
    after: str = ""
    values: bool = True

    async def of(self, pages: AsyncIterator[list[Doubt]], start: Where = ("", "")) -> tuple[list[Doubt], str]:
        """The chosen ones behind `start`, in order, and after which there are more; a record is not torn apart."""
        chosen: list[Doubt] = []
        more = False
        async for page in pages:
            found = ordered([*chosen, *(doubt for doubt in page if doubt.place > start and self._takes(doubt))])
            last = found[: self.limit][-1].place if found else start
            chosen = [doubt for doubt in found if doubt.place <= last]
            more = more or len(chosen) < len(found)
        return chosen, "/".join(chosen[-1].place) if more else ""

    def _takes(self, doubt: Doubt) -> bool:
        return (not self.reasons or doubt.why.value in self.reasons) and self.system in (
            "",
            doubt.place[0],
            doubt.lacks,
        )


def list_matches(target: Target, choice: Choice, output: Output) -> int:
    """Prints what is in doubt."""

    async def listed(place: Place) -> int:
        if choice.system:
            require(place, "system", choice.system, "--system")
        for reason in choice.reasons:
            require_known(reason, [why.value for why in Why], "reason", "--reason")
        start = record_at(place, choice.after, "--after") if choice.after else ("", "")
        async with place.beside() as store:
            shown, following = await choice.of(doubts(store), start)
            said = await _said(place, store, shown) if choice.values else {}
        _print(shown, said, following, output)
        return OK

    return at_place(target, listed)


def show_match(target: Target, record: str, output: Output) -> int:
    """Prints one doubt with all that is known of it."""

    async def shown(place: Place) -> int:
        wanted = record_at(place, record)
        async with place.beside() as store:
            found = ordered([doubt async for page in doubts(store) for doubt in page if doubt.concerns(wanted)])
            if not found:
                raise Refused(f"{record} is in no doubt: `fairlead matches list` names what is")
            said = await _said(place, store, found)
        if output is Output.JSON:
            _print(found, said, "", output)
        else:
            console().print("\n\n".join(_page(doubt, said) for doubt in found), markup=False)
        return OK

    return at_place(target, shown)


def link_match(target: Target, one: str, other: str, asker: Asker) -> int:
    """Asks the worker to take two places for the same record."""

    def demand(place: Place) -> Demand:
        return Link(record_at(place, one), record_at(place, other))

    return _ask(target, asker, demand, f"linked {one} with {other}")


def split_match(target: Target, record: str, asker: Asker, *, create: bool) -> int:
    """Asks the worker to take a place for a record of its own."""

    def demand(place: Place) -> Demand:
        return Split(record_at(place, record), create)

    return _ask(target, asker, demand, f"{record} is a record of its own")


def _ask(target: Target, asker: Asker, demand: Callable[[Place], Demand], done: str) -> int:
    async def asked(place: Place) -> int:
        wanted = demand(place)
        async with place.beside() as store:
            answers = await ask(place, store, asker, [wanted])
        if answers.done:
            tell(done)
        return answers.code

    return at_place(target, asked)


# --- what is printed ---


async def _said(place: Place, store: Store, shown: Sequence[Doubt]) -> Said:
    wanted = [doubt.place for doubt in shown]
    wanted += [each for doubt in shown for candidate in doubt.candidates for each in candidate]
    fields = list(dict.fromkeys(name for rule in place.policy.spec.match for name in rule.fields))
    async with looking(place, store) as session:
        return await values_of(session, wanted, fields)


def _print(shown: Sequence[Doubt], said: Said, following: str, output: Output) -> None:
    if output is Output.JSON:
        document = {"matches": [_document(doubt, said) for doubt in shown], "next": following}
        print(as_json(document, indent=True))  # noqa: T201
        return
    if not shown:
        tell("nothing is in doubt")
        return
    rows = [(_named(d.place, said), d.why.value, d.lacks, _candidates(d, said)) for d in shown]
    console().print(table(_COLUMNS, rows))
    if following:
        tell(f"there is more: --after {following}")


def _document(doubt: Doubt, said: Said) -> dict[str, Any]:
    since = datetime.fromtimestamp(doubt.since, UTC).isoformat() if doubt.since is not None else None
    return {
        **_one(doubt.place, said),
        "reason": doubt.why.value,
        "message": doubt.message,
        "lacks": doubt.lacks,
        "since": since,
        "candidates": [[_one(place, said) for place in candidate] for candidate in doubt.candidates],
    }


def _one(place: Where, said: Said) -> dict[str, Any]:
    found = {"values": dict(said[place])} if place in said else {}
    return {"system": place[0], "key": place[1], **found}


def _named(place: Where, said: Said) -> str:
    values = ", ".join(f"{name}: {value}" for name, value in said.get(place, {}).items() if value is not None)
    return f"{'/'.join(place)} ({values})" if values else "/".join(place)


def _candidates(doubt: Doubt, said: Said) -> str:
    return "; ".join(" = ".join(_named(place, said) for place in candidate) for candidate in doubt.candidates)


def _page(doubt: Doubt, said: Said) -> str:
    lacking = f", not created in {doubt.lacks}" if doubt.lacks else ""
    head = f"{_named(doubt.place, said)}\n  {doubt.why.value}{lacking}: {doubt.message}"
    lines = [" = ".join(_named(place, said) for place in candidate) for candidate in doubt.candidates]
    return "\n".join([head, *(f"  may be {line}" for line in lines)])
