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
    """Query parameters with their values; the client encodes them. One whose only variable is absent is left out."""
    expanded = {}
    for name, template in query.items():
        if any(variable not in values for variable in variables(template)):
            continue
        expanded[name] = _EXPRESSION.sub(lambda match: values[match[1]], template)
    return expanded
