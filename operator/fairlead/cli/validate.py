"""`fairlead validate PATH...`: everything that is wrong with resources in files, without a cluster."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import orjson

from fairlead.cli.choices import Output
from fairlead.connectors.registry import preset_documents
from fairlead.model.bundle import load
from fairlead.model.check import check, notes
from fairlead.model.common import counted
from fairlead.model.problem import Problem


class Verdict(msgspec.Struct, frozen=True):
    """What was found. `resources` counts Connections, SyncPolicies and Connectors; `notes` say what was passed over."""

    resources: int
    problems: tuple[Problem, ...]
    notes: tuple[Problem, ...]

    @property
    def valid(self) -> bool:
        """Whether there is something, and all of it can be applied."""
        return not self.problems and self.resources > 0


def validate_paths(paths: Iterable[Path], output: Output) -> int:
    """Checks files and directories, prints what was found and returns the exit code: 0 when all of it is valid."""
    verdict = validate(paths)
    print(rendered(verdict, output))  # noqa: T201 - the command's output
    return 0 if verdict.valid else 1


def validate(paths: Iterable[Path]) -> Verdict:
    """Reads files and directories and checks them, one by one and together. Never raises for what is in them."""
    bundle = load(paths, preset_documents())
    problems = sorted([*bundle.problems, *check(bundle)], key=lambda problem: (problem.file, problem.line))
    return Verdict(len(bundle.documents), tuple(problems), (*bundle.notes, *notes(bundle)))


def rendered(verdict: Verdict, output: Output) -> str:
    """`file:line: path: message` lines and a summary, or one JSON document."""
    return _json(verdict) if output is Output.JSON else _text(verdict)


def _text(verdict: Verdict) -> str:
    told = [f"note: {note}" for note in verdict.notes]
    return "\n".join([*map(str, verdict.problems), *told, _summary(verdict)])


def _summary(verdict: Verdict) -> str:
    if verdict.problems:
        return f"{counted(len(verdict.problems), 'problem')} in {counted(verdict.resources, 'resource')}"
    if not verdict.resources:
        return "no Connection, SyncPolicy or Connector was found: name the files or the directory that hold them"
    return f"{counted(verdict.resources, 'resource')}: valid"


def _json(verdict: Verdict) -> str:
    document = {
        "valid": verdict.valid,
        "resources": verdict.resources,
        "problems": [_entry(problem) for problem in verdict.problems],
        "notes": [_entry(note) for note in verdict.notes],
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
