"""The spec pages: every example is valid, and every field is the CRD's."""

import re
from pathlib import Path

import pytest

from fairlead.controller.conditions import Reason as OperatorReason
from fairlead.model import schema
from fairlead.model.bundle import collect
from fairlead.model.check import check
from fairlead.model.connection import ConnectionReason
from fairlead.model.document import parse
from fairlead.model.health import PolicyReason
from support.specpage import PAGES, page, with_table

BLOCK = re.compile(r"^```yaml\n(.*?)^```", re.DOTALL | re.MULTILINE)
EXAMPLES = [
    pytest.param(found.group(1), id=f"{path.name}:{path.read_text()[: found.start()].count(chr(10)) + 1}")
    for path in sorted(PAGES.glob("*.md"))
    for found in BLOCK.finditer(path.read_text())
]


@pytest.mark.parametrize("text", EXAMPLES)
def test_every_example_is_valid(text: str) -> None:
    bundle = collect(parse(text), {})
    assert [*bundle.problems, *check(bundle)] == []


@pytest.mark.parametrize("kind", schema.KINDS)
def test_field_table_is_that_of_the_crd(kind: str) -> None:
    text = page(kind).read_text()
    assert with_table(text, kind) == text, "write it again: make generate"


@pytest.mark.parametrize(
    ("name", "reasons"),
    [
        ("connection.md", list(ConnectionReason)),
        ("syncpolicy.md", [*PolicyReason, *set(OperatorReason) - {OperatorReason.NOT_PROBED}]),
    ],
)
def test_every_reason_is_explained(name: str, reasons: list[str]) -> None:
    text = (PAGES / name).read_text()
    assert [str(reason) for reason in reasons if f"`{reason}`" not in text] == []


def test_every_kind_has_a_page() -> None:
    assert {f"{kind.lower()}.md" for kind in schema.KINDS} == {path.name for path in Path(PAGES).glob("*.md")}
