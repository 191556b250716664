"""Undoing at a person's request: the reversal of a run becomes writes like any other.

They are journaled, conditional and audited under an id of their own, so that an undo can be undone. What they bring
counts as seen in every system: the next run finds nothing to do.
"""

from __future__ import annotations

from collections.abc import Mapping

from fairlead.engine.case import UNDO, UNDONE, Operation, Write
from fairlead.model.common import counted
from fairlead.model.record import Value
from fairlead.state.base import Intent, Recollection
from fairlead.state.requests import Request, Undo
from fairlead.worker.batch import Batch
from fairlead.worker.handling import Handled, Scope
from fairlead.worker.reversal import Reversal, Reversals

_OLDER = "the request does not tell what was shown: let the worker and the command be of one version"
_OTHERWISE = "undoing it takes something else by now than was shown: look at the plan again"
_BEYOND = (
    "are more than deletes.guard lets this run do: nothing of their records was undone; undo the run again, and "
    "approve the plan with --approve"
)


async def undo(scope: Scope, request: Request, demand: Undo, batch: Batch) -> Handled:
    """Undoes a run in some records; what changed since the person looked is refused, and so is what the guard bars."""
    if not demand.shown:
        return Handled(refused=[_OLDER])
    handled, shown, wanted = Handled(), dict(demand.shown), list[Reversal]()
    for reversal in await Reversals(scope.session.rules, scope.store, demand.run).of(list(shown)):
        handled.refused += reversal.refused
        if reversal.undone:
            handled.refused.append(f"{reversal.name}: undone already, by run {reversal.undone}")
        elif reversal.mark == shown[reversal.record]:
            wanted.append(reversal)
        else:
            handled.refused.append(f"{reversal.name}: {_OTHERWISE}")
    deletes = sum(len(reversal.deletes) for reversal in wanted)
    if deletes and not demand.approved and not await scope.gate.admits(deletes):
        handled.refused.append(f"{counted(deletes, 'delete')} {_BEYOND}")
        wanted = [reversal for reversal in wanted if not reversal.deletes]
    memories = await scope.store.recall([reversal.record for reversal in wanted])
    for reversal in wanted:
        if reversal.does:
            _add(reversal, memories.get(reversal.record), request, demand, batch)
            handled.done += 1
    return handled


def _add(reversal: Reversal, memory: Recollection | None, request: Request, demand: Undo, batch: Batch) -> None:
    record, rule = reversal.record, f"{UNDO} {demand.run}, asked for by {request.by}"
    away = (memory.away if memory else frozenset()) - reversal.creates.keys()
    after = Recollection(record, dict(memory.sides), away, {}, memory.frozen, memory.bases) if memory else None
    after = after or Recollection(record, {})
    batch.memories[record] = after
    batch.commit.records.append(after)
    batch.commit.matches += [(key, record) for key in reversal.matches]
    writes = [
        *((system, _write(Operation.UPDATE, values, rule)) for system, values in reversal.updates.items()),
        *((system, _write(Operation.CREATE, values, rule)) for system, values in reversal.creates.items()),
        *((system, _write(Operation.DELETE, {}, rule)) for system in reversal.deletes),
    ]
    batch.intents += [Intent(record, system, write, run=demand.id) for system, write in writes]


def _write(operation: Operation, values: Mapping[str, Value], rule: str) -> Write:
    rules = dict.fromkeys(values, rule) if operation is Operation.UPDATE else {"": rule}
    return Write(operation, dict(values), dict.fromkeys(values, UNDONE), rules=rules)
