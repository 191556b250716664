"""`fairlead validate PATH...`: everything that is wrong with resources in files, without a cluster."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec
import orjson

from fairlead.connectors.registry import preset_documents
from fairlead.model.bundle import Bundle, load
from fairlead.model.check import check
from fairlead.model.problem import Problem


class Output(StrEnum):
    """How the verdict is printed."""

    TEXT = "text"
    JSON = "json"


class Verdict(msgspec.Struct, frozen=True):
    """What was found; valid when there are no problems and at least one resource."""

    bundle: Bundle
    problems: tuple[Problem, ...]

    @property
    def resources(self) -> int:
        """How many Connections, SyncPolicies and Connectors were declared."""
        return len(self.bundle.documents)

    @property
    def valid(self) -> bool:
        """Whether all of it can be applied."""
        return not self.problems and self.resources > 0

    @property
    def exit_code(self) -> int:
        """0 when valid, else 1."""
        return 0 if self.valid else 1


def validate(paths: Iterable[Path]) -> Verdict:
    """Reads files and directories and checks them one by one and together. Never raises for what is in them."""
    bundle = load(paths, preset_documents())
    return Verdict(bundle, tuple(sorted(check(bundle), key=lambda problem: (problem.file, problem.line))))


def rendered(verdict: Verdict, output: Output) -> str:
    """What the command prints: `file:line: path: message` lines and a summary, or one JSON document."""
    return _json(verdict) if output is Output.JSON else _text(verdict)


def _text(verdict: Verdict) -> str:
    return "\n".join([*map(str, verdict.problems), *map(str, verdict.bundle.notes), _summary(verdict)])


def _summary(verdict: Verdict) -> str:
    if verdict.problems:
        return f"{_count(len(verdict.problems), 'problem')} in {_count(verdict.resources, 'resource')}"
    if not verdict.resources:
        return "no Connection, SyncPolicy or Connector was found: name the files or the directory that hold them"
    return f"{_count(verdict.resources, 'resource')}: valid"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _json(verdict: Verdict) -> str:
    document = {
        "valid": verdict.valid,
        "resources": verdict.resources,
        "problems": [_entry(problem) for problem in verdict.problems],
        "notes": [_entry(note) for note in verdict.bundle.notes],
    }
    return orjson.dumps(document, option=orjson.OPT_INDENT_2).decode()


def _entry(problem: Problem) -> dict[str, Any]:
    return {
        "file": problem.file,
        "line": problem.line,
        "column": problem.column,
        "path": problem.where,
        "reason": problem.reason.value,
        "message": problem.message,
    }
