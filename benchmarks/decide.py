"""(f) The engine alone: changed records decided in a second, on one core. Eight fields, two systems.

The floor compares the values of two records in Python and collects what differs, with no rule and nothing remembered:
how fast the machine is on the day. A ratio can be compared with that of another day, records a second cannot. There are
as many records as a page may have: the worker decides page by page.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import msgspec

from benchmarks.measure import arguments
from fairlead.engine.bases import Bases
from fairlead.engine.case import Case, Observation, Side
from fairlead.engine.decide import Decider
from fairlead.engine.fingerprint import Fingerprints
from fairlead.engine.rules import Rules, compile_rules
from fairlead.model.record import Record, Value
from fairlead.model.syncpolicy import SyncPolicySpec

T = TypeVar("T")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
PRINTS = Fingerprints(bytes(range(32)))
PROPERTIES: dict[str, dict[str, Any]] = {
    "email": {"type": "string"},
    "name": {"type": "string"},
    "phone": {"type": "string"},
    "city": {"type": "string"},
    "credit": {"type": "number"},
    "active": {"type": "boolean"},
    "tags": {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
    "notes": {"type": "string"},
}
ROUNDS = 100


def rules_of(**spec: Any) -> Rules:
    fields = {name: name for name in PROPERTIES}
    systems = [{"name": n, "connection": n, "object": "customer", "fields": fields} for n in ("crm", "erp")]
    whole = {
        "entity": "Customer",
        "schema": {"type": "object", "properties": PROPERTIES},
        "match": [],
        "systems": systems,
        "systemOfRecord": "crm",
        **spec,
    }
    return compile_rules(msgspec.convert(whole, SyncPolicySpec))


def agreed(number: int) -> dict[str, Value]:
    """What both systems last said."""
    return {
        "email": f"user{number}@example.com",
        "name": f"Name {number}",
        "phone": f"+49{number}",
        "city": f"City {number % 1000}",
        "credit": number,
        "active": True,
        "tags": ["a", "b", f"c{number}"],
        "notes": f"first line\nsecond line {number}\nthird line",
    }


def prints_of(rules: Rules, values: dict[str, Value]) -> bytes:
    fields = [rule.field for rule in rules.fields.values()]
    columns = [[field.kind.print_bytes(values[field.name])] for field in fields]
    return PRINTS.fields(columns, [field.slot for field in fields], len(fields))[0]


def side(rules: Rules, system: str, values: dict[str, Value]) -> Side:
    return Side(f"{system}-1", 1, prints_of(rules, values))


def observation(rules: Rules, system: str, values: dict[str, Value], at: datetime = NOW) -> Observation:
    return Observation(Record(f"{system}-1", values, None, at), prints_of(rules, values), 2)


def edited(number: int, rules: Rules) -> Case:
    """One field of eight was changed in one system."""
    before = agreed(number)
    name = ("email", "name", "phone", "city")[number % 4]
    system = ("crm", "erp")[number % 2]
    after = {**before, name: f"new {number}"}
    sides = {s: side(rules, s, before) for s in ("crm", "erp")}
    return Case(sides=sides, observed={system: observation(rules, system, after)}, read_at=NOW)


def rewritten(number: int, rules: Rules) -> Case:
    """Every field was changed in one system."""
    before = agreed(number)
    sides = {s: side(rules, s, before) for s in ("crm", "erp")}
    return Case(sides=sides, observed={"crm": observation(rules, "crm", agreed(-1 - number))}, read_at=NOW)


MIXED = {"fields": {"tags": {"onConflict": "Merge"}, "phone": {"onConflict": "LatestWins"}}}


def disputed(number: int, rules: Rules) -> Case:
    """One field was changed in both systems: in turn one that is merged, and one whose latest edit wins."""
    before, crm, erp = agreed(number), agreed(number), agreed(number)
    if number % 2:
        crm["tags"], erp["tags"] = ["a", "b", f"c{number}", "d"], ["b", f"c{number}"]
    else:
        crm["phone"], erp["phone"] = f"+1 {number}", f"+2 {number}"
    observed = {
        "crm": observation(rules, "crm", crm, NOW - timedelta(minutes=number % 5)),
        "erp": observation(rules, "erp", erp, NOW - timedelta(minutes=2)),
    }
    sides = {s: side(rules, s, before) for s in ("crm", "erp")}
    return Case(sides=sides, observed=observed, read_at=NOW, bases=Bases(rules).kept({}, sides, {"crm": before}))


def report(what: str, decider: Decider, cases: list[Case], mark: str) -> None:
    """The best of many rounds: other processes only ever make it slower."""
    pairs = [(agreed(number), agreed(-number)) for number in range(len(cases))]
    rounds = [(_seconds(decider.decide, cases), _seconds(_compare, pairs)) for _ in range(ROUNDS)]
    measured, floor = map(min, zip(*rounds, strict=True))
    cells = {
        "what": what,
        "measured": f"{len(cases) / measured:,.0f} records/s",
        "floor": f"{len(cases) / floor:,.0f} records/s",
        "ratio": f"{measured / floor:.1f} ×",
        "mark": mark,
    }
    print(json.dumps(cells), flush=True)


def _compare(pair: tuple[dict[str, Value], dict[str, Value]]) -> dict[str, tuple[Value, Value]]:
    before, after = pair
    return {name: (value, after[name]) for name, value in before.items() if value != after[name]}


def _seconds(work: Callable[[T], object], items: list[T]) -> float:
    started = time.process_time()
    for item in items:
        work(item)
    return time.process_time() - started


def main() -> None:
    """Decides cases that are made beforehand."""
    _, quick = arguments()
    count = 2_000 if quick else 5_000
    rules = rules_of()
    decider = Decider(rules, PRINTS)
    report(
        "decide: default rules, one of eight fields changed",
        decider,
        [edited(n, rules) for n in range(count)],
        "≥ 100,000 records/s",
    )
    mixed = rules_of(**MIXED)
    report(
        "decide: Merge and LatestWins, every fourth record in conflict",
        Decider(mixed, PRINTS),
        [disputed(n // 4, mixed) if n % 4 == 0 else edited(n, mixed) for n in range(count)],
        "≥ 40,000 records/s",
    )
    report(
        "decide: Merge and LatestWins, every record in conflict",
        Decider(mixed, PRINTS),
        [disputed(n, mixed) for n in range(count)],
        "≥ 40,000 records/s",
    )
    report("decide: default rules, all eight fields changed", decider, [rewritten(n, rules) for n in range(count)], "")


if __name__ == "__main__":
    main()
