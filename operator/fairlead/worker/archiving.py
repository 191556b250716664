"""Archiving: the writes that let a record take no part any more, and what came of them."""

from __future__ import annotations

from collections.abc import Sequence

from fairlead.connectors.base import Outcome
from fairlead.engine.canonical import ContractError
from fairlead.engine.case import Side
from fairlead.engine.fingerprint import WIDTH
from fairlead.engine.mapping import Mapping
from fairlead.transport.failure import Failure
from fairlead.worker.session import Session

NOT_ARCHIVED = (
    "it was written, and does not read as archived: write what the system makes of it into systems[].archive.set"
)


def archive_values(mapping: Mapping) -> dict[str, object]:
    """What is written to archive a record, by native attribute.

    Raises:
        ContractError: the system archives no more.
    """
    if not mapping.archive:
        raise ContractError("the system has no archive any more: declare systems[].archive, or deletes.action: Delete")
    return dict(mapping.archive)


async def active_after(session: Session, system: str, outcomes: Sequence[Outcome]) -> set[str]:
    """Keys of records that do not read as archived although that was written.

    They are read where the system did not tell; what cannot be read now comes with the next changes.
    """
    is_archived = session.rules.systems[system].mapping.is_archived
    done = [outcome for outcome in outcomes if outcome.error is None and outcome.key]
    told = {o.key: o.stored for o in done if o.key and o.stored is not None}
    silent = [o.key for o in done if o.key and o.stored is None]
    if silent:
        try:
            page = await session.systems[system].fetch(silent)
        except Failure:
            pass
        else:
            told |= dict(zip(page.keys, page.rows(range(len(page.keys))), strict=True))
    return {key for key, native in told.items() if not is_archived(native)}


def archived_side(session: Session, system: str, before: Side, outcome: Outcome) -> Side | None:
    """What is remembered of an archived record: that it is there, and its row; nothing where it is gone."""
    if outcome.error is not None:
        return None
    unseen = bytes(WIDTH * max(1, len(session.rules.fields)))
    return Side(before.key, session.readers[system].row(outcome.raw), unseen)
