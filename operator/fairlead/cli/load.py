"""Loading what `run` and `validate` were given, and saying what is wrong with it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import orjson

from fairlead.cli.choices import Output
from fairlead.connectors.registry import preset_documents
from fairlead.model.bundle import Bundle, load
from fairlead.model.check import check
from fairlead.model.common import counted
from fairlead.model.problem import Problem
from fairlead.transport.secrets import MappingSecrets


def load_checked(paths: Sequence[Path]) -> tuple[Bundle, list[Problem]]:
    """What was declared, and everything that is wrong with it, one by one and together."""
    bundle = load(paths, preset_documents())
    return bundle, [*bundle.problems, *check(bundle)]


def load_or_explain(paths: Sequence[Path], output: Output) -> Bundle | None:
    """What was declared; None after the problems were printed."""
    bundle, problems = load_checked(paths)
    if not problems and not bundle.policies:
        problems = [Problem(message=f"no SyncPolicy in {', '.join(map(str, paths))}")]
    if not problems:
        return bundle
    explain(problems, output)
    return None


def explain(problems: Sequence[Problem], output: Output) -> None:
    """Prints problems: lines on standard error, or a document on standard output."""
    if output is Output.JSON:
        rows = [
            {"file": p.file, "line": p.line, "path": p.where, "reason": p.reason.value, "message": p.message}
            for p in problems
        ]
        print(orjson.dumps({"problems": rows}, option=orjson.OPT_INDENT_2).decode())  # noqa: T201 - the command's output
        return
    for problem in problems:
        print(problem, file=sys.stderr)  # noqa: T201
    print(f"{counted(len(problems), 'problem')}: nothing was done", file=sys.stderr)  # noqa: T201


def secrets_of(bundle: Bundle, namespace: str) -> MappingSecrets:
    """The Secrets of one namespace, as the files declare them."""
    values: Mapping[str, Mapping[str, str]] = bundle.secret_values(namespace)
    return MappingSecrets(values)
