"""Call: one request that a connector declares, ready to be filled in."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from fairlead.connectors.template import Template, TemplateError
from fairlead.transport.answer import About, Request
from fairlead.transport.failure import Invalid, Misconfigured
from fairlead.transport.http import HTTPClient


class Call:
    """A method, a path template and query templates (names and values) over `object` and some variables.

    Args:
        http: the Connection's client.
        method: of HTTP.
        path: the path's template.
        query: parameter → template.
        object_name: the value of `object`.
        variables: what else the templates may use.

    Raises:
        Misconfigured: a template is malformed, or uses what it may not.
    """

    def __init__(
        self,
        http: HTTPClient,
        method: str,
        path: str,
        query: Mapping[str, str],
        object_name: str,
        variables: Collection[str] = (),
    ) -> None:
        names = {"object", *variables}
        try:
            self._path = Template(path, names)
            self._query = [(Template(name, names), Template(value, names)) for name, value in query.items()]
        except TemplateError as error:
            raise Misconfigured(f"the connector's template {error}", reason="InvalidSpec") from None
        self._http = http
        self._method = method
        self._object = object_name
        self.label = f"{method} {self._path.shown({'object': object_name})}"
        """What messages call it: with the object's name, without a record's values."""

    def takes(self, values: Mapping[str, str]) -> bool:
        """Whether these values can stand in the path."""
        try:
            self._path.path({"object": self._object, **values})
        except TemplateError:
            return False
        return True

    def request(
        self,
        values: Mapping[str, str] | None = None,
        *,
        about: About = About.OBJECT,
        extra: Mapping[str, str] | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        repeatable: bool = True,
        hidden: Sequence[str] = (),
    ) -> Request:
        """The request with these values.

        Args:
            values: variable → value.
            about: see `Request.about`.
            extra: query parameters besides those declared, which they replace.
            body: see `Request.body`.
            headers: see `Request.headers`.
            repeatable: see `Request.repeatable`.
            hidden: texts, besides `values`, that no message may hold.

        Raises:
            Invalid: a value cannot stand in a path.
        """
        given = {"object": self._object, **(values or {})}
        try:
            path = self._path.path(given)
        except TemplateError as error:
            raise Invalid(str(error)) from None
        query = {name.plain(given): value.plain(given) for name, value in self._query}
        url = self._http.url(path, {**query, **(extra or {})})
        never = [*(values or {}).values(), *hidden]
        return Request(self._method, url, self.label, about, body, headers or {}, repeatable, never)

    def following(self, url: str) -> Request:
        """The request for the next page, whose URL the system gave."""
        return Request(self._method, url, self.label)
