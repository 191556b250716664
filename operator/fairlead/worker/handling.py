"""Handling: what a handler of requests works with, and what it says."""

from __future__ import annotations

import msgspec

from fairlead.state.base import Recollection, Store
from fairlead.worker.guard import Gate
from fairlead.worker.intake import Intake
from fairlead.worker.session import Session
from fairlead.worker.tally import Tally


class Scope(msgspec.Struct, frozen=True):
    """The run that takes requests up; `run` is its id, `gate` counts what it may delete."""

    session: Session
    intake: Intake
    tally: Tally
    run: str
    gate: Gate

    @property
    def store(self) -> Store:
        """The policy's store."""
        return self.session.store


class Handled(msgspec.Struct):
    """What came of a request: see `state.requests.Answer`."""

    done: int = 0
    refused: list[str] = []


class NotPossible(Exception):
    """One of several things that were asked for cannot be done; the message says why."""


def named(memory: Recollection) -> str:
    """A record as people name it, by its keys: `crm/1 = erp/7`."""
    return " = ".join(f"{system}/{side.key}" for system, side in sorted(memory.sides.items()))
