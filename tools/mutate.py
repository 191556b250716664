"""`make mutate`: every small change of the engine's code, one after the other, must be noticed by a test.

mutmut makes the changes and runs, for each, the tests that reach its function. It wants the code in a folder whose name
is no module of Python's own (`operator` is one), so it works on a copy in .fairlead/mutants. There
`mutmut show NAME` tells what a mutant changes. A run that was stopped goes on where it was, as long as nothing changed
since.

    tools/mutate.py [PATTERN …]

Patterns choose mutants by name, for example `fairlead.engine.edits*`.

Exit code 1: fewer than 90 % of those that were tried were noticed, or, without patterns, not all were tried.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
COPY = ROOT / ".fairlead" / "mutants"
MARK = 0.9
MEMORY = 4 << 30
"""Bytes that a mutant may take: one that never ends may fill any memory before its time is over."""

_TESTS = (
    *sorted(ROOT.glob("tests/unit/test_engine_*.py")),
    ROOT / "tests/unit/test_spec_examples.py",
    *(ROOT / "tests/property" / f"test_{name}.py" for name in ("decide", "lossy", "merging", "references")),
)
_FOLDERS = ("tests", "crds", "docs", "examples")
_CONFTEST = '''"""Quick tests come first, and a failing example is not made smaller: nobody has to understand it."""

import pytest
from hypothesis import Phase, settings

settings.register_profile("mutants", phases=[Phase.explicit, Phase.generate], derandomize=True, database=None)
settings.load_profile("mutants")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: "/property/" in str(item.path))
'''
_WORDS = {None: "not run", 0: "survived", 1: "killed", 3: "killed", 33: "untested"}
"""Exit codes of pytest, and one of mutmut's, as it keeps them; any other one is of a mutant that was ended."""


def main() -> int:
    """Makes the copy, runs mutmut in it, and prints a table."""
    stamp, now = COPY / "stamp", _sum()
    if not stamp.exists() or stamp.read_text() != now:
        _make_copy()
        stamp.write_text(now)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    mutmut = [str(Path(sys.executable).with_name("mutmut")), "run", "--max-children", str(os.cpu_count() or 1)]
    subprocess.run([*mutmut, *sys.argv[1:]], cwd=COPY, check=True)
    return _told(_counted())


def _make_copy() -> None:
    shutil.rmtree(COPY, ignore_errors=True)
    COPY.mkdir(parents=True)
    shutil.copytree(ROOT / "operator", COPY / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for name in _FOLDERS:
        shutil.copytree(ROOT / name, COPY / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "README.md", COPY)
    (COPY / "conftest.py").write_text(_CONFTEST)
    (COPY / "pyproject.toml").write_text(_settings())


def _sum() -> str:
    """Of all that is copied, and of how: it changes when any of it does."""
    folders = [path for name in ("operator", *_FOLDERS) for path in (ROOT / name).rglob("*")]
    whole = hashlib.sha256()
    for path in sorted([*folders, ROOT / "README.md", ROOT / "pyproject.toml", Path(__file__)]):
        if path.is_file() and "__pycache__" not in path.parts:
            whole.update(str(path).encode() + path.read_bytes())
    return whole.hexdigest()


def _settings() -> str:
    before = (ROOT / "pyproject.toml").read_text()
    assert 'pythonpath = ["tests"]' in before
    tests = [str(path.relative_to(ROOT)) for path in _TESTS]
    return before.replace('pythonpath = ["tests"]', 'pythonpath = ["tests", "src"]') + (
        "\n[tool.mutmut]\n"
        'source_paths = ["src"]\n'
        'only_mutate = ["src/fairlead/engine/*.py"]\n'
        'also_copy = ["conftest.py", "src", "tests", "crds", "docs", "examples"]\n'
        'pytest_add_cli_args = ["-p", "no:cacheprovider", "-p", "no:xdist"]\n'
        f"pytest_add_cli_args_test_selection = {json.dumps(tests)}\n"
    )


def _counted() -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = {}
    for path in sorted(COPY.glob("mutants/src/fairlead/engine/*.py.meta")):
        codes = json.loads(path.read_text())["exit_code_by_key"].values()
        if codes:
            found[path.name.removesuffix(".py.meta")] = Counter(_WORDS.get(code, "timeout") for code in codes)
    return found


def _told(found: dict[str, Counter[str]]) -> int:
    words = ("killed", "timeout", "survived", "untested", "not run")
    total = sum(found.values(), Counter[str]())
    print("| module | mutants |", " | ".join(words), "| noticed |\n| --- | ---", "| ---" * (len(words) + 1), "|")
    for name, counts in [*found.items(), ("all", total)]:
        print(f"| {name} | {counts.total()} |", *(f"{counts[word]} |" for word in words), f"{_share(counts):.0%} |")
    unfinished = total["not run"] and not sys.argv[1:]
    return 1 if unfinished or _share(total) < MARK else 0


def _share(counts: Counter[str]) -> float:
    """Of those that were tried. A change that makes a loop endless is noticed, too."""
    return (counts["killed"] + counts["timeout"]) / max(1, counts.total() - counts["not run"])


if __name__ == "__main__":
    sys.exit(main())
