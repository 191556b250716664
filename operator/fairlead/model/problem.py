"""Problem: what is wrong with something that was declared, where, and what to write instead."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from enum import StrEnum

import msgspec

Path = tuple[str | int, ...]
"""Where a value is inside its document: `("spec", "systems", 0, "name")`."""


class Reason(StrEnum):
    """Why a resource cannot be used, in the words of its conditions."""

    INVALID_SPEC = "InvalidSpec"
    CONNECTION_NOT_FOUND = "ConnectionNotFound"
    CONNECTOR_NOT_FOUND = "ConnectorNotFound"
    POLICY_OVERLAP = "PolicyOverlap"


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong. The message says what to write instead, and never holds a secret.

    Attributes:
        path: the value's place in its document; empty for the document or file itself.
        file: the file it stands in; empty for an object that did not come from a file.
        line: counted from 1; 0 when it is not known.
        column: counted from 1; 0 but for YAML that cannot be read.
    """

    message: str
    path: Path = ()
    reason: Reason = Reason.INVALID_SPEC
    file: str = ""
    line: int = 0
    column: int = 0

    @property
    def where(self) -> str:
        """The path as people write it: `spec.systems[0].name`."""
        return path_text(self.path)

    def __str__(self) -> str:
        """`file:line: path: message`, without the parts that are not known."""
        numbers = "".join(f":{number}" for number in (self.line, self.column) if number)
        return ": ".join(part for part in (self.file + numbers, self.where, self.message) if part)


class InvalidResource(ValueError):
    """A resource cannot be used; `problems` says why."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(map(str, self.problems)))


def path_text(path: Path) -> str:
    """`spec.systems[0].fields["a.b"]` for `("spec", "systems", 0, "fields", "a.b")`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part and part.replace("_", "").replace("-", "").isalnum():
            text += f".{part}" if text else part
        else:
            text += f'["{part}"]'
    return text


def near(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the closest known one, or all of them."""
    names = sorted(set(known))
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f": did you mean {close[0]!r}?"
    return f"; known are {', '.join(names[:20])}" if names else "; there is none"
