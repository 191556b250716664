"""Templates: RFC 6570 level 1, so `{name}` and nothing else; every value is percent-encoded and nothing is run."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from urllib.parse import quote, unquote

_EXPRESSION = re.compile(r"\{([^{}]*)\}")
_LITERAL = "%!#$&'()*+,/:;=?@[]~-._"
"""What RFC 6570 section 3.1 copies of a template's own text; the rest of it is percent-encoded."""


class TemplateError(ValueError):
    """A template is malformed, or a value cannot stand in its place."""


class Template:
    """A template over named variables.

    Args:
        text: the template.
        variables: the names that it may use.

    Raises:
        TemplateError: an expression is not one of the names in braces.
    """

    def __init__(self, text: str, variables: Collection[str]) -> None:
        self.text = text
        parts = _EXPRESSION.split(text)
        self._literals, self._names = parts[::2], parts[1::2]
        if any("{" in part or "}" in part for part in self._literals):
            raise TemplateError(f"{text!r} has a brace without its partner")
        for name in self._names:
            if name not in variables:
                known = ", ".join("{" + variable + "}" for variable in sorted(variables))
                raise TemplateError(f"{text!r} uses {{{name}}}; it may use {known}")

    @property
    def names(self) -> frozenset[str]:
        """The variables that it uses."""
        return frozenset(self._names)

    def path(self, values: Mapping[str, str]) -> str:
        """The template as part of a URL's path.

        Raises:
            TemplateError: a value is empty, or makes a part of the path `.` or `..`, also behind a slash of its own:
                servers, or proxies before them, would take the path for another one.
        """
        filled = self._filled([quote(text, safe=_LITERAL) for text in self._literals], values, encoded=True)
        parts = re.split(r"[/\\]", unquote(filled))
        if any(part in (".", "..") for part in parts) or not all(values[name] for name in self._names):
            raise TemplateError(f"{self.text!r} has an empty value, or one that leads elsewhere (. or ..)")
        return filled

    def plain(self, values: Mapping[str, str]) -> str:
        """The template filled in as it is, to be encoded as a whole (a query parameter)."""
        return self._filled(self._literals, values, encoded=False)

    def shown(self, values: Mapping[str, str]) -> str:
        """The template for a message: with these values, and the other variables as they stand."""
        return self._filled(
            self._literals, {name: values.get(name, f"{{{name}}}") for name in self._names}, encoded=False
        )

    def _filled(self, literals: list[str], values: Mapping[str, str], *, encoded: bool) -> str:
        parts = [literals[0]]
        for name, literal in zip(self._names, literals[1:], strict=True):
            parts += [quote(values[name], safe="") if encoded else values[name], literal]
        return "".join(parts)
