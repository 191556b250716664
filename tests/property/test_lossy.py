"""Systems that shorten, round or re-spell what they are given: whatever is edited, the worker comes to rest."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairlead.engine.canonical import kind_of
from fairlead.testing.memory_system import Traits
from fairlead.worker.run import Kind
from support.desk import OneRecord

SCRATCH = Path("/dev/shm") if Path("/dev/shm").is_dir() else Path(tempfile.gettempdir())  # noqa: S108 - named below
SCHEMAS: dict[str, dict[str, Any]] = {
    "text": {"type": "string"},
    "number": {"type": "number"},
    "time": {"type": "string", "format": "date-time"},
    "tags": {"type": "array", "items": {"type": "string"}},
}
TEXT: dict[str, Callable[[str], object]] = {
    "as it is": lambda text: text,
    "upper case": str.upper,
    "cut": lambda text: text[:5],
    "trimmed": lambda text: " ".join(text.split()),
    "empty is null": lambda text: text or None,
}


def rounded(value: object) -> object:
    return Decimal(str(value)).quantize(Decimal("0.1"), ROUND_HALF_UP)


def lossy(texts: str) -> Callable[[str, object], object]:
    """What a system makes of each field."""

    def stored(name: str, value: object) -> object:
        if value is None or name == "id":
            return value
        if name == "number":
            return rounded(value)
        if name == "time":
            return str(value)[:19] + "Z"
        if name == "tags":
            return sorted(set(value)) if isinstance(value, list) else value
        return TEXT[texts](str(value))

    return stored


SYSTEM = st.sampled_from(["crm", "erp"])
WORDS = st.sampled_from(["Ada", "a longer text", " blanks  around ", "ÄÖÜ", "", None])
EDIT = st.one_of(
    st.tuples(SYSTEM, st.just("text"), WORDS),
    st.tuples(SYSTEM, st.just("number"), st.sampled_from([1, 2.25, 2.34, -0.05, None])),
    st.tuples(SYSTEM, st.just("time"), st.sampled_from(["2026-01-01T12:00:00.987Z", "2026-01-02T00:00:00Z", None])),
    st.tuples(SYSTEM, st.just("tags"), st.sampled_from([["b", "a", "b"], ["a"], [], None])),
)


@settings(
    max_examples=int(os.environ.get("FAIRLEAD_LOSSY", "25")),
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
@given(st.sampled_from(sorted(TEXT)), st.booleans(), st.lists(st.lists(EDIT, max_size=3), min_size=1, max_size=4))
def test_it_comes_to_rest_tells_each_field_once_and_later_edits_count(
    texts: str, tells: bool, rounds: list[list[tuple[str, str, Any]]]
) -> None:
    path = SCRATCH / f"fairlead-lossy-{os.getpid()}.db"
    try:
        asyncio.run(_play(OneRecord(path, SCHEMAS, {"crm": {}, "erp": {}}, **_kinds(texts, tells)), rounds))
    finally:
        for file in path.parent.glob(f"{path.name}*"):
            file.unlink()


def _kinds(texts: str, tells: bool) -> dict[str, Any]:
    return {"stored": {"erp": lossy(texts)}, "traits": {"erp": Traits(tells=tells)}}


async def _play(desk: OneRecord, rounds: list[list[tuple[str, str, Any]]]) -> None:
    desk.enter("crm", text="first value", number=1.25, time="2026-01-01T00:00:00.5Z", tags=["b", "a"])
    await desk.run()
    for edits in rounds:
        for system, name, value in edits:
            desk.enter(system, **{name: value})
        await desk.run()
        await desk.run(Kind.RESYNC)
        before = desk.writes()
        await desk.run()
        await desk.run(Kind.RESYNC)
        assert desk.writes() == before, "it is written again although nothing was edited"
    desk.enter("erp", text="LAST")
    await desk.run()
    await desk.run()
    assert desk.values("text") == {"crm": "LAST", "erp": "LAST"}
    for name, schema in SCHEMAS.items():  # every kind of text leaves LAST as it is
        crm, erp = (desk.values(name)[system] for system in ("crm", "erp"))
        kind = kind_of(schema)
        made = lossy("as it is")(name, kind.canonical(crm))
        assert kind.canonical(made) == kind.canonical(erp), f"{name} is neither the same nor what erp makes of it"
    assert [kind for kind, *_ in await desk.audit()].count("LossyField") <= len(SCHEMAS)
