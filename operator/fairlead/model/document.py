"""Document: YAML in which every value knows its line. What kubectl reads from a file is what is read here.

YAML is taken apart by events instead of being loaded: so depth, size and aliases are bounded before anything is built,
duplicate keys are seen, and scalars mean what they mean to kubectl (YAML 1.1 booleans, dates that stay text), so that
`fairlead run` and a cluster cannot read one file differently.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path as FilePath
from typing import Any

import msgspec
import yaml

from fairlead.model.problem import Path, Problem
from fairlead.model.scalar import plain

MAX_BYTES = 3 * 1024 * 1024
"""Largest file, as the API server's largest request."""

MAX_DEPTH = 64
"""Deepest nesting."""

MAX_VALUES = 100_000
"""Most values in one file, what aliases repeat counted every time."""

_SUFFIXES = frozenset({".yaml", ".yml", ".json"})

Lines = dict[Path, int]


class Document(msgspec.Struct, frozen=True):
    """One YAML document: a mapping, and the line of each of its values."""

    file: str
    line: int
    value: dict[str, Any]
    lines: Lines

    def line_of(self, path: Path) -> int:
        """The line of a value, or of the closest one around it that is there."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.lines:
                return self.lines[path[:length]]
        return self.line

    def place(self, problem: Problem) -> Problem:
        """The problem with this document's file and line."""
        return msgspec.structs.replace(problem, file=self.file, line=self.line_of(problem.path))

    @property
    def kind(self) -> str:
        """The declared kind; empty when there is none."""
        kind = self.value.get("kind")
        return kind if isinstance(kind, str) else ""

    @property
    def api_version(self) -> str:
        """The declared apiVersion; empty when there is none."""
        version = self.value.get("apiVersion")
        return version if isinstance(version, str) else ""


class Reading(msgspec.Struct):
    """What was read, and what was wrong with it."""

    documents: list[Document] = []
    problems: list[Problem] = []


def read_paths(paths: Iterable[FilePath]) -> Reading:
    """Reads files, and directories with everything below them; never raises."""
    reading = Reading()
    for path in paths:
        files = sorted(_files(path)) if path.is_dir() else [path]
        if not files:
            reading.problems.append(Problem(message="holds no .yaml, .yml or .json file", file=str(path)))
        for file in files:
            _read_file(file, reading)
    return reading


def _files(directory: FilePath) -> Iterator[FilePath]:
    for path in directory.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(directory).parts)
        if path.suffix in _SUFFIXES and not hidden and path.is_file():
            yield path


def _read_file(path: FilePath, reading: Reading) -> None:
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        reading.problems.append(Problem(message=f"cannot be read: {error.strerror}", file=str(path)))
        return
    if len(content) > MAX_BYTES:
        reading.problems.append(Problem(message=f"is larger than {MAX_BYTES >> 20} MiB: split it", file=str(path)))
        return
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        reading.problems.append(Problem(message="is not UTF-8 text: save it as UTF-8", file=str(path), line=line))
        return
    parsed = parse(text, str(path))
    reading.documents += parsed.documents
    reading.problems += parsed.problems


def parse(text: str, file: str = "") -> Reading:
    """Reads the documents of a YAML text; what is wrong is a problem, never an exception."""
    reading = Reading()
    builder = _Builder(text, file, reading.problems)
    try:
        for document in builder.documents():
            reading.documents.append(document)
    except _Refused as refused:
        reading.problems.append(refused.problem)
    except yaml.MarkedYAMLError as error:
        reading.problems.append(_malformed(error, file))
    except (yaml.reader.ReaderError, UnicodeError) as error:
        reading.problems.append(_unreadable(error, text, file))
    return reading


def _malformed(error: yaml.MarkedYAMLError, file: str) -> Problem:
    mark = error.problem_mark or error.context_mark
    context = f" {error.context}" if error.context else ""
    line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
    return Problem(
        message=f"is not YAML: {error.problem or 'syntax error'}{context}", file=file, line=line, column=column
    )


def _unreadable(error: Exception, text: str, file: str) -> Problem:
    position = getattr(error, "position", getattr(error, "start", 0))
    return Problem(
        message="is not YAML: it holds a control character or half a character; remove it",
        file=file,
        line=text.count("\n", 0, position) + 1,
    )


class _Refused(Exception):
    """Reading cannot go on."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


class _Node(msgspec.Struct, frozen=True):
    """A value with its own line, its size (aliases counted each time) and the lines of what it holds."""

    value: Any
    line: int
    size: int = 1
    lines: Lines = {}


class _Builder:
    """Builds values from parser events."""

    def __init__(self, text: str, file: str, problems: list[Problem]) -> None:
        self._events = yaml.parse(text, Loader=yaml.CSafeLoader)
        self._file = file
        self._problems = problems
        self._anchors: dict[str, _Node] = {}
        self._left = MAX_VALUES

    def documents(self) -> Iterator[Document]:
        """Every document that is a mapping; empty ones are passed over."""
        for event in self._events:
            if not isinstance(event, yaml.DocumentStartEvent):
                continue
            self._anchors.clear()
            node = self._node(next(self._events), 0)
            if isinstance(node.value, dict):
                yield Document(self._file, node.line, node.value, node.lines)
            elif node.value is not None:
                self._note("must be a mapping with apiVersion, kind, metadata and spec", node.line)

    def _note(self, message: str, line: int, path: Path = ()) -> None:
        self._problems.append(Problem(message=message, path=path, file=self._file, line=line))

    def _refuse(self, message: str, line: int) -> _Refused:
        return _Refused(Problem(message=message, file=self._file, line=line))

    def _node(self, event: Any, depth: int) -> _Node:
        line = _line(event)
        if depth > MAX_DEPTH:
            raise self._refuse(f"is nested more than {MAX_DEPTH} deep", line)
        if isinstance(event, yaml.AliasEvent):
            node = self._alias(event.anchor or "", line)
        elif isinstance(event, yaml.ScalarEvent):
            node = _Node(self._scalar(event, line), line)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self._sequence(line, depth)
        else:
            node = self._mapping(line, depth)
        self._spend(1 if not isinstance(event, yaml.AliasEvent) else node.size, line)
        if getattr(event, "anchor", None) and not isinstance(event, yaml.AliasEvent):
            self._anchors[event.anchor] = node
        return node

    def _spend(self, size: int, line: int) -> None:
        self._left -= size
        if self._left < 0:
            raise self._refuse(f"holds more than {MAX_VALUES} values, aliases repeated: split it", line)

    def _alias(self, anchor: str, line: int) -> _Node:
        if anchor not in self._anchors:
            raise self._refuse(f"alias *{anchor} has no anchor &{anchor} before it", line)
        return msgspec.structs.replace(self._anchors[anchor], line=line, lines={})

    def _sequence(self, line: int, depth: int) -> _Node:
        items: list[Any] = []
        lines: Lines = {}
        size = 1
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            node = self._node(event, depth + 1)
            _adopt(lines, len(items), node)
            items.append(node.value)
            size += node.size
        return _Node(items, line, size, lines)

    def _mapping(self, line: int, depth: int) -> _Node:
        found: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        lines: Lines = {}
        size = 1
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            merge = _is_merge(event)
            key = "<<" if merge else self._key(event)
            node = self._node(next(self._events), depth + 1)
            size += node.size + 1
            key_line = _line(event)
            if merge:
                merged |= self._merged(node, key_line)
                continue
            if key in found:
                first = lines.get((key,), line)
                self._note(f"key {key!r} stands here twice, first in line {first}: remove one", key_line)
            _adopt(lines, key, msgspec.structs.replace(node, line=key_line))
            found[key] = node.value
        return _Node(merged | found, line, size, lines)

    def _merged(self, node: _Node, line: int) -> dict[str, Any]:
        """What `<<` brings in; of several mappings the first wins (YAML 1.1 merge key)."""
        sources = node.value if isinstance(node.value, list) else [node.value]
        if not all(isinstance(source, dict) for source in sources):
            raise self._refuse("<< takes an alias of a mapping, or a list of them", line)
        merged: dict[str, Any] = {}
        for source in reversed(sources):
            merged |= source
        return merged

    def _key(self, event: Any) -> str:
        line = _line(event)
        if not isinstance(event, yaml.ScalarEvent):
            raise self._refuse("a key must be plain text", line)
        value = self._scalar(event, line)
        if value is None or isinstance(value, bool):
            self._note(f"key {event.value!r} means {_meaning(value)} in YAML: quote it", line)
        return str(event.value)

    def _scalar(self, event: Any, line: int) -> Any:
        if event.tag is not None and event.tag.startswith("tag:yaml.org,2002:"):
            return self._tagged(event.tag.rpartition(":")[2], event.value, line)
        if event.tag is not None and event.tag != "!":
            self._note(f"tag {event.tag} means nothing here: remove it", line)
        return plain(event.value) if event.implicit[0] else event.value

    def _tagged(self, tag: str, text: str, line: int) -> Any:
        value = text if tag == "str" else plain(text)
        kinds = {"str": str, "int": int, "float": int | float, "bool": bool, "null": type(None)}
        if tag not in kinds or not isinstance(value, kinds[tag]):
            self._note(f"!!{tag} cannot be used here: write plain text, a number, true or false", line)
        return value


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 0


def _is_merge(event: Any) -> bool:
    return isinstance(event, yaml.ScalarEvent) and event.value == "<<" and event.implicit[0]


def _adopt(lines: Lines, key: str | int, node: _Node) -> None:
    lines[(key,)] = node.line
    for path, line in node.lines.items():
        lines[(key, *path)] = line


def _meaning(value: bool | None) -> str:
    return "nothing" if value is None else str(value).lower()
