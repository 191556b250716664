"""Requests: a run takes up what persons asked of its policy, each exactly once.

A handler fills a batch: what it commits, and what is to be written. That the request is answered, and so ended, is part
of the same transaction; the writes follow like those of any decision.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fairlead.state.requests import (
    Answer,
    DiscardDeadLetters,
    Link,
    Request,
    ResolveConflicts,
    RetryDeadLetters,
    Split,
    Undo,
    in_words,
)
from fairlead.worker.batch import Batch
from fairlead.worker.conflicts import resolve
from fairlead.worker.dead_letters import discard, retry
from fairlead.worker.handling import Handled, Scope
from fairlead.worker.identity import link, split
from fairlead.worker.tally import REFUSED, Note
from fairlead.worker.undoing import undo

Handler = Callable[[Scope, Request, Any, Batch], Awaitable[Handled]]

HANDLERS: Mapping[type, Handler] = {
    RetryDeadLetters: retry,
    DiscardDeadLetters: discard,
    ResolveConflicts: resolve,
    Undo: undo,
    Link: link,
    Split: split,
}
"""Kind of request → what does it. Called with the scope, the request, its demand, and the batch to be filled."""

_UNKNOWN = "this worker does not know such a request: let it and the command be of one version"


class Requests:
    """Takes up the requests of one run; `send` commits a batch and writes what is to be written."""

    def __init__(self, scope: Scope, send: Callable[[Batch], Awaitable[None]]) -> None:
        self._scope = scope
        self._send = send

    async def take_up(self) -> None:
        """Takes up all that are open, the oldest first, and tells what is refused: nobody may wait for the answer."""
        while found := await self._scope.store.requests(limit=1):
            await self._answer(found[0])

    async def _answer(self, request: Request) -> None:
        batch, handler = Batch(), HANDLERS.get(type(request.demand))
        handled = await handler(self._scope, request, request.demand, batch) if handler else Handled(0, [_UNKNOWN])
        answer = Answer(request.id, self._scope.session.clock(), handled.done, tuple(handled.refused))
        batch.commit.answers.append(answer)
        await self._send(batch)
        for why in answer.refused:
            self._scope.tally.note(Note(REFUSED, in_words(request.demand), "", why, request.by))
