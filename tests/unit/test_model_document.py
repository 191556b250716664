"""Reading YAML: places of values, and everything that can be wrong with a text."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fairlead.model import document
from fairlead.model.document import parse, read_paths
from fairlead.model.problem import Problem, near, path_text

TEXT = """\
kind: A
spec:
  list:
  - name: one
    value: 1
  - {name: two}
---
kind: B
"""


def told(text: str) -> list[str]:
    return [str(problem) for problem in parse(text, "f.yaml").problems]


def value(text: str) -> Any:
    return parse(f"v: {text}").documents[0].value["v"]


def test_every_value_knows_its_line() -> None:
    first, second = parse(TEXT).documents
    places = [("spec", "list", 0, "value"), ("spec", "list", 1, "name"), ("spec", "list"), ("kind",)]
    assert [first.line_of(place) for place in places] == [5, 6, 3, 1]
    assert second.line_of(("kind",)) == 8


def test_what_is_not_there_has_the_line_of_what_is_around_it() -> None:
    first = parse(TEXT).documents[0]
    assert [first.line_of(("spec", "list", 0, "x", "y")), first.line_of(("nothing",))] == [4, 1]


def test_empty_documents_are_passed_over() -> None:
    reading = parse("---\n---\n# nothing\n---\nkind: A\n---\n")
    assert ([found.value for found in reading.documents], reading.problems) == ([{"kind": "A"}], [])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1", 1),
        ("0x1F", 31),
        ("0777", 511),
        ("0o17", 15),
        ("-0b11", -3),
        ("08", 8),
        ("1_000", 1000),
        ("1.0", 1),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1e3", 1000),
        ("+3", 3),
        ("1e999", "1e999"),
        ("yes", True),
        ("n", False),
        ("Off", False),
        ("~", None),
        ("", None),
        ("2026-01-01", "2026-01-01"),
        ("12:30:45", "12:30:45"),
        ("1.2.3", "1.2.3"),
        ("'yes'", "yes"),
        ('"1"', "1"),
        ("!!str 5", "5"),
        ('!!int "5"', 5),
        ("500ms", "500ms"),
        (".", "."),
    ],
)
def test_plain_text_means_what_it_means_to_kubectl(text: str, expected: object) -> None:
    found = value(text)
    assert (expected, type(expected)) == (found, type(found))


def test_numbers_are_keys_by_their_text() -> None:
    assert parse("1: a").documents[0].value == {"1": "a"}


def test_anchors_aliases_and_merges_are_read() -> None:
    text = "a: &x {n: 1, m: 2}\nb: *x\nc: {<<: *x, m: 3}\nd: {<<: [{m: 4}, *x]}\n"
    expected = {"a": {"n": 1, "m": 2}, "b": {"n": 1, "m": 2}, "c": {"n": 1, "m": 3}, "d": {"n": 1, "m": 4}}
    assert expected == parse(text).documents[0].value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: 2\na: 3\n", ["f.yaml:3: key 'a' stands here twice, first in line 1: remove one"]),
        ("- a\n", ["f.yaml:1: must be a mapping with apiVersion, kind, metadata and spec"]),
        ("a: *x\n", ["f.yaml:1: alias *x has no anchor &x before it"]),
        ("a: &x [*x]\n", ["f.yaml:1: alias *x has no anchor &x before it"]),
        ("y: 1\n", ["f.yaml:1: key 'y' means true in YAML: quote it"]),
        ("~: 1\n", ["f.yaml:1: key '~' means nothing in YAML: quote it"]),
        ("[1]: 1\n", ["f.yaml:1: a key must be plain text"]),
        ("a: {<<: 1}\n", ["f.yaml:1: << takes an alias of a mapping, or a list of them"]),
        ("a: !secret x\n", ["f.yaml:1: tag !secret means nothing here: remove it"]),
        ("a: !!binary aGk=\n", ["f.yaml:1: !!binary cannot be used here: write plain text, a number, true or false"]),
        ("a: b: c\n", ["f.yaml:1:5: is not YAML: mapping values are not allowed in this context"]),
        ("\tb: 2\n", ["f.yaml:1:1: is not YAML: found character that cannot start any token"]),
        ("a: 1\nb: \x07\n", ["f.yaml:2: is not YAML: it holds a control character or half a character; remove it"]),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, expected: list[str]) -> None:
    assert expected == [problem.removesuffix(" while scanning for the next token") for problem in told(text)]


def test_documents_before_a_mistake_are_kept() -> None:
    reading = parse("kind: A\n---\na: [1\n")
    assert ([found.kind for found in reading.documents], len(reading.problems)) == (["A"], 1)


def test_aliases_cannot_explode() -> None:
    levels = "\n".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 12))
    assert [f"holds more than {document.MAX_VALUES} values" in text for text in told(f"l0: &l0 [1]\n{levels}\n")] == [
        True
    ]


@pytest.mark.parametrize("depth", [65, 5_000, 200_000])
def test_depth_is_bounded(depth: int) -> None:
    assert len(told("a: " + "[" * depth + "]" * depth)) == 1


def test_directories_are_read_in_order_without_hidden_files(tmp_path: Path) -> None:
    for name in ("b.yaml", "a/c.yml", "a/d.json", ".git/x.yaml", "note.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'{{"kind": "{name}"}}')
    assert [found.kind for found in read_paths([tmp_path]).documents] == ["a/c.yml", "a/d.json", "b.yaml"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"\xff\xfe", "is not UTF-8 text: save it as UTF-8"),
        (b"#" * (document.MAX_BYTES + 1), "is larger than 3 MiB: split it"),
    ],
)
def test_files_that_are_no_text_are_told(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(content)
    assert [expected] == [problem.message for problem in read_paths([path]).problems]


def test_a_path_that_does_not_exist_is_told(tmp_path: Path) -> None:
    path = tmp_path / "none.yaml"
    assert [f"{path}: cannot be read: No such file or directory"] == list(map(str, read_paths([path]).problems))


def test_an_empty_directory_is_told(tmp_path: Path) -> None:
    assert [problem.message for problem in read_paths([tmp_path]).problems] == ["holds no .yaml, .yml or .json file"]


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xef\xbb\xbfkind: A\n")
    assert [found.kind for found in read_paths([path]).documents] == ["A"]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (("spec", "systems", 0, "fields", "a.b"), 'spec.systems[0].fields["a.b"]'),
        ((), ""),
        (("on-leave", "x_y"), "on-leave.x_y"),
        (("", 1), '[""][1]'),
    ],
)
def test_paths_are_written_as_people_write_them(path: tuple[str | int, ...], expected: str) -> None:
    assert expected == path_text(path)


@pytest.mark.parametrize(
    ("problem", "expected"),
    [
        (Problem(message="m"), "m"),
        (Problem(message="m", path=("a",)), "a: m"),
        (Problem(message="m", file="f", line=3, path=("a",)), "f:3: a: m"),
        (Problem(message="m", file="f", line=3, column=4), "f:3:4: m"),
    ],
)
def test_problems_are_printed_with_what_is_known(problem: Problem, expected: str) -> None:
    assert expected == str(problem)


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("emial", ["email", "name"], ": did you mean 'email'?"),
        ("x", ["email", "name"], "; known are email, name"),
        ("x", [], "; there is none"),
    ],
)
def test_near_names_are_suggested(name: str, known: list[str], expected: str) -> None:
    assert expected == near(name, known)


MARKS = [
    "---",
    "- ",
    ": ",
    "\n",
    "  ",
    "&a ",
    "*a ",
    "<<: ",
    "{",
    "}",
    "[",
    "]",
    ",",
    "'",
    '"',
    "|",
    ">",
    "!",
    "!!int ",
    "#",
]
SNIPPETS = st.lists(st.sampled_from([*MARKS, "a", "kind", "1", "yes", "\t", "%", "? "]), max_size=40).map("".join)


@given(st.text() | SNIPPETS | st.text(st.characters()))
@example("\ud800")
@example("a\x00b")
@example("? [a]\n: b")
def test_no_text_raises(text: str) -> None:
    reading = parse(text, "f.yaml")
    assert all(isinstance(found, Problem) and found.message for found in reading.problems)
    assert all(isinstance(found.value, dict) for found in reading.documents)


def json_values() -> st.SearchStrategy[Any]:
    leaf = (
        st.none()
        | st.booleans()
        | st.integers(-(10**9), 10**9)
        | st.text(st.characters(categories=("L", "N", "P", "Zs")), max_size=8)
    )
    return st.recursive(leaf, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3))


KEYS = st.text("abcdefgz.-/", min_size=1, max_size=6)


@given(st.dictionaries(KEYS, json_values(), max_size=4))
def test_json_is_read_as_json(tree: dict[str, Any]) -> None:
    import json

    reading = parse(json.dumps(tree, ensure_ascii=False))
    assert ([tree], []) == ([found.value for found in reading.documents], reading.problems)


@given(st.dictionaries(KEYS, json_values(), min_size=1, max_size=4))
def test_every_value_of_a_tree_has_a_line(tree: dict[str, Any]) -> None:
    import yaml

    found = parse(yaml.safe_dump(tree)).documents[0]
    lines = [found.lines[path] for path in places(found.value, ())]
    assert all(line > 0 for line in lines)


def places(tree: Any, path: tuple[str | int, ...]) -> list[tuple[str | int, ...]]:
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [place for key, below in pairs for place in [(*path, key), *places(below, (*path, key))]]
