"""Asking: a command leaves requests for a policy's worker, and waits for what comes of them."""

from __future__ import annotations

import asyncio
import getpass
import os
import time
from collections.abc import Sequence

import msgspec

from fairlead.cli.place import Place, Refused, tell
from fairlead.model.syncpolicy import Mode
from fairlead.state.base import Store
from fairlead.state.requests import Answer, Demand, request
from fairlead.worker.exit import NEEDS_A_PERSON, NOT_TAKEN_UP, OK

_LOOK = 0.2
"""Seconds between looks for an answer."""


class Asker(msgspec.Struct, frozen=True):
    """Who asks, and how many seconds the command waits for the worker."""

    by: str
    timeout: float


class Answers(msgspec.Struct):
    """What came of several requests. `kept` counts those that no worker took up in time."""

    done: int = 0
    refused: list[str] = []
    kept: int = 0

    @property
    def code(self) -> int:
        """The exit code of the command."""
        if self.kept:
            return NOT_TAKEN_UP
        return NEEDS_A_PERSON if self.refused else OK


def user() -> str:
    """Who uses the command, as the operating system says."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a pod's user has no name
        return f"user {os.getuid()}"


async def ask(place: Place, store: Store, asker: Asker, demands: Sequence[Demand]) -> Answers:
    """Leaves requests, and waits for their answers; what was refused, and what is kept, is told.

    Raises:
        Refused: the policy's worker takes up no requests.
    """
    if place.policy.spec.mode is Mode.PLAN:
        raise Refused(f"{place.policy.id} is in mode Plan, in which its worker changes nothing: set mode: Enforce")
    requests = [request(asker.by, demand) for demand in demands]
    for each in requests:
        await store.ask(each)
    deadline = time.monotonic() + (0.0 if place.policy.spec.suspend else asker.timeout)
    answers = Answers()
    for each in requests:
        answer = await _answer(store, each.id, deadline)
        if answer is None:
            answers.kept += 1
        else:
            answers.done += answer.done
            answers.refused += answer.refused
    for line in answers.refused:
        tell(line)
    if answers.kept:
        why = "is suspended" if place.policy.spec.suspend else "has no worker that took the request up in time"
        tell(f"{place.policy.id} {why}: it is kept, and the next run takes it up")
    return answers


async def _answer(store: Store, request: str, deadline: float) -> Answer | None:
    while True:
        answer = await store.answer(request)
        if answer is not None or time.monotonic() >= deadline:
            return answer
        await asyncio.sleep(_LOOK)
