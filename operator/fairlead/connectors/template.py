"""Templates: RFC 6570 level 1. `{name}` becomes the percent-encoded value; nothing else happens."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote

_EXPRESSION = re.compile(r"\{(\w+)\}")


def variables(template: str) -> frozenset[str]:
    """The names that a template uses."""
    return frozenset(_EXPRESSION.findall(template))


def expand(template: str, values: Mapping[str, str]) -> str:
    """The template with its values percent-encoded (unreserved characters stay): for paths."""
    return _EXPRESSION.sub(lambda match: quote(values.get(match[1], ""), safe="-._~"), template)


def expand_query(query: Mapping[str, str], values: Mapping[str, str]) -> dict[str, str]:
    """Query parameters, names too, with their values; the client encodes them. What lacks a value is left out."""
    expanded = {}
    for name, template in query.items():
        if variables(name + template) <= values.keys():
            expanded[_filled(name, values)] = _filled(template, values)
    return expanded


def _filled(template: str, values: Mapping[str, str]) -> str:
    return _EXPRESSION.sub(lambda match: values[match[1]], template)
