"""What holds for every policy and every history: on the real worker, over systems that do their worst."""

from __future__ import annotations

import copy
import os
import tempfile
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from fairlead.testing.memory_system import Fault, MemorySystem, Traits, time_path
from fairlead.worker.run import Kind
from support.histories import ARCHIVED, FIELDS, KINDS, Act, Doing, History, Replay, Setting, core, replayed
from support.invariants import check

NAMES = ("a", "b", "c", "d")
THINGS = ("t0", "t0", "t0", "t1")
VALUES = FIELDS[1:]
ACCESS = ("ReadWrite", "ReadWrite", "ReadWrite", "ReadOnly", "WriteOnly")
GUARDS = ({"maxRecords": 1, "maxPercent": 100}, {"maxRecords": 100, "maxPercent": 30})
WHEN = ("record.m == 't0'", "record.x == 'out'", "record.x < 'x5'")
"""Who owns a field may depend on the thing, on what is edited, and on what may be missing, so that nobody knows."""
CONFLICT = ("SystemOfRecordWins", "LatestWins", "Priority", "Manual", "Merge", "Expression")
SCRATCH = Path("/dev/shm") if Path("/dev/shm").is_dir() else Path(tempfile.gettempdir())  # noqa: S108 - named below


def rarely(strategy: Any, default: Any) -> Any:
    """The default, mostly; it is what examples shrink to."""
    return st.one_of(st.just(default), st.just(default), strategy)


@st.composite
def field_rules(draw: Any, names: tuple[str, ...]) -> dict[str, Any]:
    rule: dict[str, Any] = {}
    choices = {
        "onConflict": st.sampled_from(CONFLICT),
        "systemOfRecord": st.sampled_from(names),
        "edits": st.just("SystemOfRecordOnly"),
        "whenEmpty": st.just("Keep"),
        "priority": st.permutations(names),
        "systemOfRecordWhen": ownerships(names),
    }
    for name, values in choices.items():
        value = draw(rarely(values, None))
        if value is not None:
            rule[name] = value
    if "systemOfRecordWhen" in rule:
        rule.pop("systemOfRecord", None)
    return rule


def ownerships(names: tuple[str, ...]) -> Any:
    """Owners that depend on the record."""
    return st.fixed_dictionaries({"when": st.sampled_from(WHEN), "then": st.sampled_from(names)})


@st.composite
def traits(draw: Any) -> Traits:
    return Traits(
        changes=draw(st.booleans()),
        deletions=draw(st.booleans()),
        find=draw(rarely(st.just(False), True)),
        versions=draw(st.booleans()),
        timed=draw(rarely(st.sampled_from([VALUES, VALUES[:1]]), ())),
        tells=draw(st.booleans()),
        page=draw(st.sampled_from([1000, 1, 2])),
        backwards=draw(st.booleans()),
        unique=draw(st.sampled_from([(), ("m",)])),
        skew=draw(rarely(st.sampled_from([timedelta(hours=1), timedelta(hours=-1)]), timedelta())),
    )


@st.composite
def settings_of_all_kinds(draw: Any) -> Setting:
    names = NAMES[: draw(st.integers(2, 4))]
    kinds = {name: draw(traits()) for name in names}
    systems, archives = [], draw(rarely(st.just(True), False))
    for number, name in enumerate(names):
        access = draw(st.sampled_from(ACCESS if number else ACCESS[:4]))
        mapped = FIELDS if number == 0 else ("m", *draw(st.sampled_from([VALUES, VALUES, VALUES[:1], VALUES[1:]])))
        fields = {f: {"path": f, "modified": time_path(f)} if f in kinds[name].timed else f for f in mapped}
        system: dict[str, Any] = {"name": name, "access": access, "fields": fields}
        if "x" in mapped and draw(rarely(st.just(True), False)):
            system["filter"] = 'x != "out"'
            system["onLeave"] = draw(st.sampled_from(["Keep", "Delete", *(["Archive"] if archives else [])]))
        if archives:
            system["archive"] = {"set": {"state": ARCHIVED}}
        systems.append(system)
    deletes = {
        "propagate": draw(st.sampled_from(["FromSystemOfRecord", "FromAny", "Never"])),
        "onUpdateConflict": draw(st.sampled_from(["UpdateWins", "DeleteWins"])),
        "action": draw(st.sampled_from(["Archive", "Delete"])) if archives else "Delete",
        "guard": draw(rarely(st.sampled_from(GUARDS), {"maxRecords": 100, "maxPercent": 100})),
    }
    spec = {
        "onConflict": draw(st.sampled_from(CONFLICT)),
        "onConflictExpression": "values[systems[0]]",
        "firstSync": draw(rarely(st.sampled_from(["FillEmptyOnly", "Review"]), "SystemOfRecordWins")),
        "deletes": deletes,
        "fields": {name: draw(field_rules(names)) for name in VALUES},
    }
    lossy = {n: draw(rarely(st.sampled_from(["upper", "cut"]), "")) if kind.tells else "" for n, kind in kinds.items()}
    kind = draw(st.sampled_from(["text", "text", *KINDS]))
    if kind != "text" and draw(st.booleans()):
        spec["fields"]["y"] |= {"onConflict": "Merge", **({"merge": "Delta"} if kind == "number" else {})}
    return Setting(tuple(systems), kinds, lossy, spec, kind)


def asked(names: tuple[str, ...]) -> Any:
    """What a person says of records, conflicts, dead letters and runs."""
    system, nth = st.sampled_from(names), st.integers(0, 2)
    places = st.tuples(system, st.sampled_from(THINGS))
    two = st.permutations(names)
    same = st.tuples(two, st.sampled_from(THINGS)).map(lambda drawn: (drawn[0][0], drawn[1], drawn[0][1], drawn[1]))
    link = st.one_of(same, same, same, st.tuples(places, places).map(lambda drawn: (*drawn[0], *drawn[1])))
    how = st.sampled_from(["policy", "value", *names])
    return st.one_of(
        link.map(lambda drawn: ("link", *drawn)),
        st.tuples(st.just("split"), system, st.sampled_from(THINGS), st.sampled_from([False, False, True])),
        st.tuples(st.just("resolve"), nth, how),
        st.tuples(st.sampled_from(["retry", "discard"]), nth),
        st.tuples(st.just("undo"), st.integers(1, 4), st.booleans()),
    )


class Acts:
    """What may happen among some systems. Numbers of things are drawn first, so that histories are long and shrink.

    With `persons`, these ask the worker something, too.
    """

    def __init__(self, names: tuple[str, ...], *, persons: bool = False) -> None:
        system, thing, field = st.sampled_from(names), st.sampled_from(THINGS), st.sampled_from(VALUES)
        self.add = st.tuples(st.just("add"), system, thing, st.sampled_from([VALUES, VALUES, VALUES[:1], ()]))
        kind = st.sampled_from(["new", "new", "new", "back", "", "out"])
        edit = st.tuples(st.just("edit"), system, thing, field, kind)
        self.clash = st.tuples(
            st.permutations(names), st.integers(2, len(names)), thing, field, st.lists(kind, max_size=1)
        )
        remove = st.tuples(st.sampled_from(["remove", "remove", "archive", "unarchive"]), system, thing)
        feed = st.one_of(st.tuples(st.just("lag"), system), st.tuples(st.just("late"), system, st.booleans()))
        outage = st.tuples(st.sampled_from(["down", "up"]), system)
        self.persons = persons
        user = [edit, edit, edit, edit, self.add, remove]
        self.asked = asked(names)
        self.user = st.one_of(*user, *user, self.asked) if persons else st.one_of(*user)
        self.fault = st.tuples(st.tuples(system, st.integers(1, 6)), st.sampled_from(list(Fault)))
        self.other = st.one_of(st.tuples(st.just("wait")), feed, outage)
        words = ["user", "user", "user", "clash", "clash", "run", "run", "run", "quiet", "other", "reword"]
        self.word = st.sampled_from([*words, *(["asked"] * 2 if persons else [])])

    def acts(self, draw: Any, count: int) -> list[Act]:
        """So many acts."""
        drawn: list[Act] = []
        for _ in range(count):
            word = draw(self.word)
            if word in ("run", "quiet"):
                drawn.append(("run", self.doing(draw) if word == "run" else Doing(draw(KIND))))
            elif word == "reword":
                drawn.append((word,))
            elif word == "clash":
                drawn += self.edits(*draw(self.clash))
            else:
                drawn.append(draw({"user": self.user, "asked": self.asked, "other": self.other}[word]))
        return drawn

    def edits(self, names: Sequence[str], count: int, thing: str, field: str, first: Sequence[str]) -> list[Act]:
        """The same field is edited in several systems, so that rules must decide."""
        kinds = [*first, *["new"] * count]
        return [("edit", name, thing, field, kind) for name, kind in zip(names[:count], kinds, strict=False)]

    def doing(self, draw: Any) -> Doing:
        """A run in which users act, calls fail and the worker may die."""
        meanwhile: dict[int, tuple[Act, ...]] = {}
        for _ in range(draw(st.integers(0, 4))):
            moment = draw(st.integers(1, 40))
            meanwhile[moment] = (*meanwhile.get(moment, ()), draw(self.user))
        faults = dict(draw(self.fault) for _ in range(draw(st.integers(0, 2))))
        return Doing(
            draw(KIND), meanwhile, faults, draw(st.one_of(st.just(0), st.integers(1, 45), st.integers(46, 90)))
        )


KIND = st.sampled_from([Kind.CHANGES, Kind.CHANGES, Kind.RESYNC])
REST: Act = ("rest",)
SEALED = {"encryptionKey": {"secretKeyRef": {"name": "key", "key": "key"}}}
"""The audit holds values then, so that an undo can bring them back."""
ACTS = {count: Acts(NAMES[:count]) for count in (2, 3, 4)}
ASKING = {count: Acts(NAMES[:count], persons=True) for count in (2, 3, 4)}


@st.composite
def histories(draw: Any) -> History:
    setting = draw(settings_of_all_kinds())
    acts = draw(rarely(st.just(ASKING), ACTS))[len(setting.systems)]
    begin = [draw(acts.add) for _ in range(draw(st.integers(1, 4)))]
    first: list[Act] = [("run", Doing())] if draw(st.integers(0, 2)) else []
    if acts.persons and draw(st.booleans()):
        setting = msgspec.structs.replace(setting, spec={**setting.spec, "state": SEALED})
    return History(setting, (*begin, *first, *acts.acts(draw, draw(st.integers(0, 20)))))


HISTORY = histories()
COUNT = int(os.environ.get("FAIRLEAD_HISTORIES", "150"))
SEED = int(os.environ.get("FAIRLEAD_SEED", "0"))
"""The same histories for the same seed; `make prove` takes another one each time, and says which."""


SETTINGS = settings(
    max_examples=COUNT,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    report_multiple_bugs=False,
)


PARTS = max(COUNT // 2_500, 1)
"""So many seeds share the histories: Hypothesis remembers all of a test, and each processor takes the next part."""


@pytest.mark.parametrize("part", range(PARTS))
def test_histories(part: int) -> None:
    @seed(SEED + part)
    @settings(SETTINGS, max_examples=COUNT // PARTS)
    @given(HISTORY)
    def hold(history: History) -> None:
        replayed(history, SCRATCH / f"fairlead-{os.getpid()}.db", check)

    hold()


@st.composite
def calm_histories(draw: Any) -> tuple[History, Setting]:
    """A history in which nobody acts while the worker runs; and its setting with systems and pages in another order.

    What depends on when a system is read, for want of a common clock, is left out: what leaves a filter is no longer
    read; a delete is no conflict with an edit in a system that it is not repeated in; and while a conflict waits for a
    person, a third system has either value.
    """
    setting = draw(settings_of_all_kinds())
    names = [system["name"] for system in setting.systems]
    unfiltered = [{k: v for k, v in system.items() if k not in ("filter", "onLeave")} for system in setting.systems]
    systems = [{**system, "access": system["access"].replace("ReadOnly", "ReadWrite")} for system in unfiltered]
    rules = {
        field: {name: rule[name] for name in rule if name in ("edits", "whenEmpty", "merge", "systemOfRecordWhen")}
        for field, rule in setting.spec["fields"].items()
    }
    owned = {
        "priority": names,
        "systemOfRecord": names[0],
        "firstSync": "SystemOfRecordWins",
        "onConflict": draw(st.sampled_from(["SystemOfRecordWins", "LatestWins", "Priority", "Expression"])),
        "fields": rules,
    }
    traits = {name: msgspec.structs.replace(kind, unique=()) for name, kind in setting.traits.items()}
    other = {
        name: msgspec.structs.replace(kind, page=draw(st.sampled_from([1, 2, 1000])), backwards=draw(st.booleans()))
        for name, kind in traits.items()
    }
    acts = ACTS[len(names)]
    played: list[Act] = []
    for _ in range(draw(st.integers(1, 3))):
        _, system, *rest = draw(acts.add)
        others = [name for name in names if name != system and draw(st.booleans())]
        played += [("add", name, *rest) for name in (system, *others)]
    for _ in range(draw(st.integers(0, 12))):
        word = draw(st.sampled_from(["user", "user", "clash", "rest", "rest"]))
        played += acts.edits(*draw(acts.clash)) if word == "clash" else [draw(acts.user) if word == "user" else REST]
    first = msgspec.structs.replace(setting, systems=tuple(systems), spec={**setting.spec, **owned}, traits=traits)
    return History(first, tuple(played)), msgspec.structs.replace(
        first, systems=tuple(draw(st.permutations(systems))), traits=other
    )


@seed(SEED)
@settings(SETTINGS, max_examples=max(COUNT // 10, 30))
@given(calm_histories())
def test_the_order_of_systems_records_and_pages_decides_nothing(drawn: tuple[History, Setting]) -> None:
    history, setting = drawn
    found = []
    for one in (history, History(setting, history.acts)):
        replay = replayed(one, SCRATCH / f"fairlead-{os.getpid()}.db", lambda replay: replay.rest())
        found.append({name: things(system) for name, system in replay.systems.items()})
    assert found[0] == found[1]


@st.composite
def told_histories(draw: Any) -> History:
    """A history of systems that tell every change of theirs, and take every write.

    Left out are archives and filters: what they end in one system while it is copied to the others is created by a
    resync; and pages that do not come.
    """
    history = draw(histories())
    acts = [("run", _without_skipped(act[1])) if act[0] == "run" else act for act in history.acts]
    kinds = {
        name: msgspec.structs.replace(kind, changes=True, deletions=True, find=True, unique=())
        for name, kind in history.setting.traits.items()
    }
    systems = tuple(
        {"name": system["name"], "fields": system["fields"], "access": "ReadWrite"}
        for system in history.setting.systems
    )
    spec = {**history.setting.spec, "deletes": {**history.setting.spec["deletes"], "action": "Delete"}}
    setting = msgspec.structs.replace(history.setting, systems=systems, traits=kinds, spec=spec)
    return History(setting, tuple(acts))


def _without_skipped(doing: Doing) -> Doing:
    faults = {call: fault for call, fault in doing.faults.items() if fault is not Fault.SKIPPED}
    return msgspec.structs.replace(doing, faults=faults)


@seed(SEED)
@settings(SETTINGS, max_examples=max(COUNT // 10, 30))
@given(told_histories())
def test_a_resync_finds_nothing_that_changes_did_not_tell(history: History) -> None:
    async def resync_finds_nothing(replay: Replay) -> None:
        await replay.rest(kinds=(Kind.CHANGES,))
        rows, writes, counts, _ = await replay.picture()
        if not (counts.pending or counts.dead or counts.conflicts):  # a resync tries those again
            rows = copy.deepcopy(rows)
            await replay.run(Doing(Kind.RESYNC))
            assert (await replay.picture())[:2] == (rows, writes)

    replayed(history, SCRATCH / f"fairlead-{os.getpid()}.db", resync_finds_nothing)


@seed(SEED)
@settings(SETTINGS, max_examples=max(COUNT // 10, 30))
@given(calm_histories(), KIND)
def test_a_plan_is_what_the_run_then_writes(drawn: tuple[History, Setting], kind: Kind) -> None:
    """Where systems store what they are given: what else one makes of it, no plan can know."""
    history, _ = drawn
    history = History(msgspec.structs.replace(history.setting, lossy={}), history.acts)

    async def the_run_writes_what_is_planned(replay: Replay) -> None:
        plan, before = await replay.plan(kind), {name: len(system.writes) for name, system in replay.systems.items()}
        report = await replay.run(Doing(kind))
        if report is not None and report.halt is not None:
            await replay.run(Doing(kind), approved=report.halt.plan)
        written = {name: system.writes[before[name] :] for name, system in replay.systems.items()}
        planned = [(write.system, write.operation, write.attributes) for write in plan.writes]
        done = [(n, w.operation.value, tuple(sorted(w.values))) for n, its in written.items() for w in its]
        assert sorted(planned) == sorted(done)

    replayed(history, SCRATCH / f"fairlead-{os.getpid()}.db", the_run_writes_what_is_planned)


def things(system: MemorySystem) -> list[tuple[Any, ...]]:
    """What a system has, whatever its keys are. No value is an empty one, and spelling is a lossy system's."""
    rows = [{name: core(row[name]) for name in (*FIELDS, "state") if row.get(name)} for row in system.records.values()]
    return sorted(tuple(row.items()) for row in rows)
