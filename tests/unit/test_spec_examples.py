"""The examples of `docs/spec/v1alpha1/syncpolicy.md`, played on the real worker: the page is the test."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from fairlead.model import schema
from fairlead.testing.memory_system import Traits
from fairlead.worker.run import Kind, RunReport
from support.desk import OneRecord
from support.specpage import page

TEXT = page("SyncPolicy").read_text()
BLOCK = re.compile(r"^```yaml example\n(.*?)^```", re.DOTALL | re.MULTILINE)
KEYS = {"field", "rule", "policy", "systems", "record", "clocks", "stores", "before", "first", "edits"} | {
    "after",
    "waits",
    "told",
    "noted",
    "halts",
    "plans",
}
DELETED, ARCHIVED = "<deleted>", "<archived>"
STORES: dict[str, Callable[[str, object], object]] = {
    "in capitals": lambda _, value: value.upper() if isinstance(value, str) else value,
    "cut to 5 characters": lambda _, value: value[:5] if isinstance(value, str) else value,
    "as whole numbers": lambda path, value: (
        round(value) if path == "x" and isinstance(value, float | Decimal) else value
    ),
}
EXAMPLES = [
    pytest.param(yaml.safe_load(found[1]), id=f"line {TEXT[: found.start()].count(chr(10)) + 1}")
    for found in BLOCK.finditer(TEXT)
]


class Example:
    """One example, as it is written on the page."""

    def __init__(self, written: dict[str, Any], path: Path) -> None:
        assert written.keys() <= KEYS
        self.written = written
        self.systems: dict[str, dict[str, Any]] = {"crm": {}, "erp": {}, **written.get("systems", {})}
        others = {name: {"type": ["string", "null"]} for name in written.get("record", {})}
        rules = {"x": written["rule"]} if "rule" in written else {}
        self.spec = {"fields": rules, **written.get("policy", {})}
        self.desk = OneRecord(
            path,
            {"x": written.get("field", {"type": "string"}), **others},
            self.systems,
            traits={name: Traits(skew=_ahead(text)) for name, text in written.get("clocks", {}).items()},
            stored={name: STORES[text] for name, text in written.get("stores", {}).items()},
            **self.spec,
        )

    async def play(self) -> list[RunReport]:
        """Everything that happens in it; the reports of the runs after the edits."""
        await self._agree()
        reports = []
        for edits in self._edits():
            for system, value in edits.items():
                self._enter(system, value)
            reports += [await self.desk.run(), await self.desk.run(Kind.RESYNC)]
        return reports

    async def _agree(self) -> None:
        record = self.written.get("record", {})
        for system, value in self._first().items():
            self.desk.enter(system, x=value, **record)
        await self.desk.run()
        await self.desk.run(Kind.RESYNC)
        self.planned = self.desk.plan.count if self.desk.plan else 0

    def _first(self) -> dict[str, Any]:
        if "first" in self.written:
            return dict(self.written["first"])
        reading = next(n for n, s in self.systems.items() if s.get("access") != "WriteOnly")
        return {reading: self.written["before"]}

    def _edits(self) -> Iterator[dict[str, Any]]:
        edits = self.written.get("edits", [])
        yield from [edits] if isinstance(edits, dict) else edits

    def _enter(self, system: str, value: Any) -> None:
        if value == ARCHIVED:
            self.desk.enter(system, state="archived")
        elif value == DELETED:
            self.desk.delete(system)
        else:
            self.desk.enter(system, **(value if isinstance(value, dict) else {"x": value}))

    @property
    def expected(self) -> dict[str, Any]:
        """What each system is to say."""
        after = self.written["after"]
        each = isinstance(after, dict) and after.keys() == self.systems.keys()
        return dict(after) if each else dict.fromkeys(self.systems, after)

    @property
    def found(self) -> dict[str, Any]:
        """What each system says."""
        states = self.desk.values("state")
        values = {s: ARCHIVED if states[s] == "archived" else value for s, value in self.desk.values("x").items()}
        return {**dict.fromkeys(self.systems, DELETED), **values}


def _ahead(text: str) -> timedelta:
    minutes = re.fullmatch(r"(\d+) minutes ahead", text)
    assert minutes is not None
    return timedelta(minutes=int(minutes[1]))


@pytest.mark.parametrize("written", EXAMPLES)
async def test_it_is_as_the_page_says(written: dict[str, Any], tmp_path: Path) -> None:
    example = Example(written, tmp_path / "state.db")
    reports = await example.play()
    assert example.found == example.expected
    assert await example.desk.frozen() == (["x"] if written.get("waits") else [])
    assert any(report.halt for report in reports) == written.get("halts", False)
    assert example.planned == written.get("plans", 0)
    if "told" in written:
        assert list(dict.fromkeys(kind for kind, *_ in await example.desk.audit())) == written["told"]
    noted = {note.kind for report in reports for note in report.tally.notes}
    assert noted >= set(written.get("noted", []))


@pytest.mark.parametrize("written", EXAMPLES)
async def test_then_nothing_is_left_to_do(written: dict[str, Any], tmp_path: Path) -> None:
    example = Example(written, tmp_path / "state.db")
    await example.play()
    before = example.desk.writes()
    await example.desk.run()
    await example.desk.run(Kind.RESYNC)
    assert example.desk.writes() == before


@pytest.mark.parametrize("written", EXAMPLES)
def test_its_policy_is_valid(written: dict[str, Any], tmp_path: Path) -> None:
    example = Example(written, tmp_path / "state.db")
    systems = [
        {"name": name, "connection": name, "object": "things", **more, "fields": {"x": "x", **more.get("fields", {})}}
        for name, more in example.systems.items()
    ]
    manifest = {
        "apiVersion": "fairlead.dev/v1alpha1",
        "kind": "SyncPolicy",
        "metadata": {"name": "things", "namespace": "default"},
        "spec": {
            "entity": "Thing",
            "schema": {"type": "object"},
            "match": [],
            "systems": systems,
            "systemOfRecord": "crm",
            **{name: part for name, part in example.spec.items() if part},
        },
    }
    assert schema.problems("SyncPolicy", manifest) == []


RUNNING = {"entity", "trigger", "staleAfter", "suspend", "state", "worker"}
"""What of a spec says when and where it runs, and decides nothing about a record."""

NAMING = {"spec.systems[].connection", "spec.systems[].object", "spec.systems[].key", "spec.systems[].modified"}
"""What says where in a system its records are."""


def declared(path: str, node: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(path, schema) of everything below a property; a step into a list is `[]`, into a map `*`."""
    yield path, node
    for name, below in node.get("properties", {}).items():
        yield from declared(f"{path}.{name}", below)
    if isinstance(node.get("items"), dict):
        yield from declared(f"{path}[]", node["items"])
    if isinstance(node.get("additionalProperties"), dict):
        yield from declared(f"{path}.*", node["additionalProperties"])


def rules() -> Iterator[tuple[str, dict[str, Any]]]:
    """Everything in a spec that decides about records, as the CRD declares it."""
    spec = schema.openapi("SyncPolicy")["properties"]["spec"]
    for name in spec["properties"].keys() - RUNNING:
        yield from ((p, n) for p, n in declared(f"spec.{name}", spec["properties"][name]) if p not in NAMING)


def said(path: str, value: Any, node: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """(path, value) of everything that a part of a spec says, by the paths of `declared`."""
    yield path, value
    if isinstance(value, list):
        for item in value:
            yield from said(f"{path}[]", item, node.get("items", {}))
    elif isinstance(value, dict):
        known, free = node.get("properties", {}), node.get("additionalProperties", {})
        for name, item in value.items():
            step, below = (name, known[name]) if name in known else ("*", free if isinstance(free, dict) else {})
            yield from said(f"{path}.{step}", item, below)


def exemplified() -> Iterator[tuple[str, Any]]:
    """(path, value) of everything that some example says."""
    node = schema.openapi("SyncPolicy")["properties"]["spec"]
    for found in BLOCK.finditer(TEXT):
        written = yaml.safe_load(found[1])
        spec = {
            "schema": written.get("field", {}),
            "systems": [{"name": name, **more} for name, more in written.get("systems", {}).items()],
            "fields": {"x": written["rule"]} if "rule" in written else {},
            **written.get("policy", {}),
        }
        yield from said("spec", spec, node)
    if REFERENCE.search(TEXT):
        yield "spec.fields.*.references", "customers"  # played by tests/integration/test_references.py


REFERENCE = re.compile(r"^```yaml reference$", re.MULTILINE)
EXEMPLIFIED = [(path, value) for path, value in exemplified() if value not in ({}, [])]


@pytest.mark.parametrize("path", sorted({path for path, _ in rules()}))
def test_every_rule_has_an_example(path: str) -> None:
    assert path in {exemplified for exemplified, _ in EXEMPLIFIED}


@pytest.mark.parametrize(("path", "choice"), sorted((p, choice) for p, n in rules() for choice in n.get("enum", ())))
def test_every_choice_has_an_example(path: str, choice: str) -> None:
    """A rule of a field and of the policy of the same name have the same choices: one example is enough."""
    name = path.rpartition(".")[2]
    assert choice in [value for exemplified, value in EXEMPLIFIED if exemplified.rpartition(".")[2] == name]
