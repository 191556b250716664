"""Requests: what a person asks of a policy's worker, and what came of it.

A command leaves a request in the policy's store, beside the worker that holds it. The worker takes up each exactly
once: its effect and its answer are one transaction. A new kind is one struct here, and one handler in
`worker.requests`.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from hashlib import blake2b
from typing import Any, TypeAlias

import msgspec

from fairlead.model.record import Value
from fairlead.state import codec
from fairlead.state.place import Place, naming


class RetryDeadLetters(msgspec.Struct, frozen=True, tag=True, tag_field="kind"):
    """Try dead letters again, in the run that takes this up.

    Attributes:
        writes: (record, system) of writes that failed for good.
        records: (system, key) of records that could not be taken in.
    """

    writes: tuple[tuple[int, str], ...] = ()
    records: tuple[tuple[str, str], ...] = ()


class DiscardDeadLetters(msgspec.Struct, frozen=True, tag=True, tag_field="kind"):
    """Give dead letters up. The attributes are those of `RetryDeadLetters`."""

    writes: tuple[tuple[int, str], ...] = ()
    records: tuple[tuple[str, str], ...] = ()


class ResolveConflicts(msgspec.Struct, frozen=True, tag=True, tag_field="kind"):
    """Decide fields that wait for a person. Exactly one of `keep`, `value` and `owner` says how.

    Attributes:
        conflicts: (record, field, `mark_of` the values that the person decided by).
        keep: the system whose value stands.
        value: the value that stands, as JSON.
        owner: the system of record's value stands.
    """

    conflicts: tuple[tuple[int, str, str], ...]
    keep: str = ""
    value: str = ""
    owner: bool = False


class Undo(msgspec.Struct, frozen=True, tag=True, tag_field="kind"):
    """Undo a run in some records, as a person was shown.

    Attributes:
        run: the run that is undone.
        id: what the audit names the run that undoes it.
        shown: (record, `Reversal.mark` of what was shown of it): nothing else is done. An older version did not tell.
        approved: the plan whose deletes a person approved, be they more than the guard allows; empty where nobody did.
    """

    run: str
    id: str
    shown: tuple[tuple[int, str], ...] = ()
    approved: str = ""


class Link(msgspec.Struct, frozen=True, tag=True, tag_field="kind"):
    """Two places are the same record: (system, key) each, of two systems.

    What has no record joins that of the other, two records become one, and a dead letter takes the place of what it
    was a duplicate of. What differs then is a first meeting.
    """

    one: tuple[str, str]
    other: tuple[str, str]


class Split(msgspec.Struct, frozen=True, tag=True, tag_field="kind"):
    """A place is a record of its own, and not again that which it was, or might have been: (system, key).

    Attributes:
        create: it, and what it leaves, is created in the systems that lack it; else a person links it, or it waits.
    """

    place: tuple[str, str]
    create: bool = False


class Unknown(msgspec.Struct, frozen=True):
    """A kind that this version does not know."""


Demand: TypeAlias = RetryDeadLetters | DiscardDeadLetters | ResolveConflicts | Undo | Link | Split
"""The kinds of request. Each holds at most some hundreds of things: a command that has more makes several requests."""


class Request(msgspec.Struct, frozen=True):
    """One request.

    Attributes:
        id: in the order of time.
        at: epoch seconds.
        by: who asks, for the audit.
    """

    id: str
    at: float
    by: str
    demand: Demand | Unknown


class Answer(msgspec.Struct, frozen=True):
    """What came of a request.

    Attributes:
        request: its id.
        at: epoch seconds.
        done: how many things were done.
        refused: of each other thing, why it was not done; nothing of it was changed.
    """

    request: str
    at: float
    done: int = 0
    refused: tuple[str, ...] = ()


FORGOTTEN = "what this was about is forgotten"
"""Refusal of what a person asked of a record that was erased meanwhile."""


def request(by: str, demand: Demand) -> Request:
    """A new request."""
    now = time.time()
    return Request(f"{int(now * 1000):012x}-{secrets.token_hex(4)}", now, by, demand)


_IN_WORDS: Mapping[type, str] = {
    ResolveConflicts: "resolve conflicts",
    RetryDeadLetters: "try dead letters again",
    DiscardDeadLetters: "discard dead letters",
    Unknown: "do what another version knows",
}


def in_words(demand: Demand | Unknown) -> str:
    """What is asked for, as people say it: to `link crm/1 with erp/7`."""
    match demand:
        case Link(one, other):
            return f"link {'/'.join(one)} with {'/'.join(other)}"
        case Split(place):
            return f"split {'/'.join(place)} off"
        case Undo(run):
            return f"undo run {run}"
        case _:
            return _IN_WORDS[type(demand)]


def mark_of(values: Mapping[str, Value]) -> str:
    """A fingerprint of what systems say."""
    return blake2b(codec.dump(sorted(values.items())), digest_size=8).hexdigest()


def without(asked: Request, records: AbstractSet[int], places: AbstractSet[Place]) -> Request | None:
    """A request without what it says of some records, known by their numbers or native keys; None when that is all.

    What is not understood is taken to be about them.
    """
    demand: Demand | None
    match asked.demand:
        case RetryDeadLetters() | DiscardDeadLetters() as letters:
            writes = tuple(each for each in letters.writes if each[0] not in records)
            rest = tuple(place for place in letters.records if place not in places)
            demand = msgspec.structs.replace(letters, writes=writes, records=rest) if writes or rest else None
        case ResolveConflicts() as resolving:
            conflicts = tuple(each for each in resolving.conflicts if each[0] not in records)
            demand = msgspec.structs.replace(resolving, conflicts=conflicts) if conflicts else None
        case Undo() as undo:
            shown = tuple(each for each in undo.shown if each[0] not in records)
            demand = msgspec.structs.replace(undo, shown=shown) if shown else None
        case Link(one, other):
            demand = None if places & {one, other} else asked.demand
        case Split(place):
            demand = None if place in places else asked.demand
        case Unknown():
            demand = None
    return msgspec.structs.replace(asked, demand=demand) if demand is not None else None


def without_names(answer: Answer, places: Iterable[Place]) -> Answer:
    """An answer that names none of these records; how many things were refused it tells as before."""
    named = naming("/".join(place) for place in places)
    refused = tuple(FORGOTTEN if named.search(line) else line for line in answer.refused)
    return msgspec.structs.replace(answer, refused=refused)


# --- as a store holds them ---


class _Asked(msgspec.Struct, frozen=True):
    by: str
    demand: Demand


class _AskedOtherwise(msgspec.Struct, frozen=True):
    by: str


class _Said(msgspec.Struct, frozen=True):
    done: int
    refused: tuple[str, ...]


def kind_of(asked: Request) -> str:
    """The name of a request's kind."""
    return type(asked.demand).__name__


def request_body(asked: Request) -> bytes:
    """A request without what the other columns of its row hold."""
    return msgspec.json.encode({"by": asked.by, "demand": asked.demand})


def request_of(id_: str, at: float, body: bytes) -> Request:
    """The request of such a body; the demand of another version may be `Unknown`."""
    try:
        asked = msgspec.json.decode(body, type=_Asked)
    except msgspec.ValidationError:
        return Request(id_, at, msgspec.json.decode(body, type=_AskedOtherwise).by, Unknown())
    return Request(id_, at, asked.by, asked.demand)


def answer_body(answer: Answer) -> bytes:
    """An answer without what the other columns of its row hold."""
    return msgspec.json.encode(_Said(answer.done, answer.refused))


def answer_of(row: tuple[Any, ...], body: bytes) -> Answer:
    """The answer of such a body; `row` is (request, at)."""
    said = msgspec.json.decode(body, type=_Said)
    return Answer(row[0], row[1], said.done, said.refused)
