"""The field tables of `docs/spec`: made of the CRDs, so that the pages cannot say anything else.

`PYTHONPATH=tests python -m support.specpage` writes them after a CRD was changed; with `--check` it only compares.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fairlead.model import schema

PAGES = Path(__file__).parents[2] / "docs/spec/v1alpha1"
BEGIN, END = "<!-- fields: made of the CRD -->", "<!-- end of fields -->"
WHOLE = ("secretKeyRef", "configMapKeyRef", "conditions")
"""Objects of one shape everywhere, which the page explains once."""

WORDS = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false", "array": "list"}


def page(kind: str) -> Path:
    return PAGES / f"{kind.lower()}.md"


def table(kind: str) -> str:
    """The rows of every field of a kind."""
    properties = schema.openapi(kind)["properties"]
    head = ["| field | type | default | meaning |", "| --- | --- | --- | --- |"]
    rows = [row for part in ("spec", "status") if part in properties for row in _rows(part, properties[part], set())]
    return "\n".join([*head, *rows])


def _rows(path: str, node: dict[str, Any], required: set[str]) -> Iterator[str]:
    name = path.rpartition(".")[2].removesuffix("[]")
    must = ", required" if name in required else ""
    default = f"`{_text(node['default'])}`" if "default" in node and node.get("type") != "object" else ""
    meaning = node["description"].replace("|", "\\|")
    yield f"| `{path}` | {_type(node)}{must} | {default} | {meaning}{_bounds(node)} |"
    if name in WHOLE:
        return
    below = node.get("items", node)
    suffix = "[]" if "items" in node else ""
    if isinstance(node.get("additionalProperties"), dict):
        below, suffix = node["additionalProperties"], ".*"
    for child, sub in below.get("properties", {}).items():
        yield from _rows(f"{path}{suffix}.{child}", sub, set(below.get("required", ())))


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _type(node: dict[str, Any]) -> str:
    if "enum" in node:
        return " \\| ".join(f"`{choice}`" for choice in node["enum"])
    if isinstance(node.get("additionalProperties"), dict):
        return "map"
    if node.get("x-kubernetes-int-or-string"):
        return "text or whole number"
    return WORDS.get(node.get("type", ""), "object")


def _bounds(node: dict[str, Any]) -> str:
    low, high = node.get("minimum"), node.get("maximum")
    if low is not None and high is not None:
        return f" {low} to {high}."
    return f" At most {node['maxItems']}." if "maxItems" in node else ""


def with_table(text: str, kind: str) -> str:
    """A page with its table brought up to date."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n{table(kind)}\n{END}{rest.partition(END)[2]}"


def main() -> int:
    stale = [each for each in schema.KINDS if with_table(page(each).read_text(), each) != page(each).read_text()]
    if "--check" not in sys.argv:
        for each in stale:
            page(each).write_text(with_table(page(each).read_text(), each))
        return 0
    for each in stale:
        sys.stderr.write(f"{page(each)} differs from its CRD: write it again with `make generate`\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
