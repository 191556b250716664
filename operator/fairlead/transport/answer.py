"""Answers of HTTP systems, and what those mean that are no success."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import Enum
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec
import orjson

from fairlead.model.connector import ErrorClass, ErrorRule
from fairlead.transport.backoff import http_date, retry_after
from fairlead.transport.failure import (
    BY_CLASS,
    AuthRejected,
    Conflicted,
    Failure,
    Gone,
    Invalid,
    Lost,
    Misconfigured,
    Throttled,
    Transient,
)

SAID = 200
"""Most characters that are quoted of what a system said."""

_LOOKED_AT = 20_000
"""Most characters that are looked at for that."""


_COUNT = re.compile("[0-9]{1,18}")


class About(Enum):
    """What a request is about, which decides what a refusal means.

    OBJECT: a list. LOOKUP: one record, to read it. NEW: a record that is not there yet. RECORD: one that is, to write
    it. PROBE: the system itself.
    """

    OBJECT = "object"
    NEW = "new"
    LOOKUP = "lookup"
    RECORD = "record"
    PROBE = "probe"


class Request(msgspec.Struct, frozen=True):
    """One request.

    Attributes:
        method: of HTTP.
        url: whole, percent-encoded.
        label: what messages call it: method and path template, without a record's values.
        about: what it is about.
        body: JSON, or None.
        headers: besides those that every request has.
        repeatable: sending it twice does no harm. Otherwise it is sent again only if it surely was not acted upon.
        hidden: texts of the request that no message may hold.
    """

    method: str
    url: str
    label: str
    about: About = About.OBJECT
    body: bytes | None = None
    headers: Mapping[str, str] = {}
    repeatable: bool = True
    hidden: Sequence[str] = ()


class Answer(msgspec.Struct, frozen=True):
    """What a system answered. `headers` have lower-case names; `document` is the JSON of a success."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    document: Any = None

    @property
    def date(self) -> datetime | None:
        """The system's own time, where it tells."""
        return http_date(self.headers.get("date"))

    @property
    def retry_after(self) -> float | None:
        """Seconds to wait, where the system says so."""
        return retry_after(self.headers.get("retry-after"), self.date or datetime.now(UTC))

    @property
    def budget_left(self) -> float | None:
        """Share of the system's limit that is left, by the headers that most systems send."""
        for prefix in ("ratelimit-", "x-ratelimit-"):
            limit, left = self.headers.get(prefix + "limit", ""), self.headers.get(prefix + "remaining", "")
            if _COUNT.fullmatch(limit) and _COUNT.fullmatch(left) and int(limit) > 0:
                return min(1.0, int(left) / int(limit))
        return None


def document(answer: Answer, request: Request) -> Any:
    """The JSON of a successful answer; None when it is empty, or a write's or probe's short word that is not JSON.

    Raises:
        Transient: it ends too early (reason `TruncatedAnswer`).
        Misconfigured: it is not JSON, or a web page (reason `NotJSON`).
    """
    if not answer.body:
        return None
    kind = answer.headers.get("content-type", "of no known type").partition(";")[0]
    try:
        return orjson.loads(answer.body)
    except orjson.JSONDecodeError as error:
        if "unexpected end" in error.msg or _ends_in_a_character(answer.body):
            raise Transient(cut_off(request.label), reason="TruncatedAnswer") from None
        if request.about in (About.NEW, About.RECORD, About.PROBE) and "html" not in kind:
            return None
        if "json" in kind.lower():
            place = f"line {error.lineno}, column {error.colno}"
            raise Misconfigured(
                f"the answer to {request.label} says that it is JSON and is not, at {place}: ask the vendor",
                reason="NotJSON",
            ) from None
    raise Misconfigured(
        f"the answer to {request.label} is {kind}, not JSON: check spec.url; is this the API, and not its web page?",
        reason="NotJSON",
    )


def _ends_in_a_character(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data"
    return False


def failure_of(answer: Answer, request: Request, rules: Sequence[ErrorRule]) -> Failure | None:
    """What an answer means, by the connector's rules, else by its status (RFC 9110 section 15); None for a success."""
    kind = _ruled(answer, rules)
    if kind is None and 200 <= answer.status < 300:
        return None
    failure = BY_CLASS[kind] if kind else _by_status(answer, request.about)
    return failure(
        _message(answer, request, failure), reason=_reason(answer, request, failure), retry_after=_pause(answer)
    )


def _ruled(answer: Answer, rules: Sequence[ErrorRule]) -> ErrorClass | None:
    for rule in rules:
        if rule.status in (None, answer.status) and (rule.body is None or rule.body.encode() in answer.body):
            return rule.class_
    return None


def _pause(answer: Answer) -> float | None:
    return answer.retry_after if answer.status >= 300 else None


_BY_STATUS: dict[int, type[Failure]] = {
    401: AuthRejected,
    403: AuthRejected,
    407: AuthRejected,
    408: Transient,
    409: Conflicted,
    412: Conflicted,
    425: Transient,
    429: Throttled,
    501: Misconfigured,
    505: Misconfigured,
}

_OF_THE_REQUEST = (405, 406, 411, 415, 428)
"""Statuses that say that the request, whatever record it is about, is made in a wrong way."""


def _by_status(answer: Answer, about: About) -> type[Failure]:
    status = answer.status
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if status == 503:  # by its definition nothing was done (RFC 9110 section 15.6.4); nobody knows of the others
        return Transient if answer.retry_after is None else Throttled
    if status >= 500:
        return Lost
    if status in (404, 410):
        return Gone if about in (About.RECORD, About.LOOKUP) else Misconfigured
    if 400 <= status < 500 and about in (About.NEW, About.RECORD) and status not in _OF_THE_REQUEST:
        return Invalid
    return Misconfigured


def _reason(answer: Answer, request: Request, failure: type[Failure]) -> str:
    if failure is Misconfigured and answer.status in (404, 410):
        return "UnexpectedAnswer" if request.about is About.PROBE else "ObjectNotFound"
    return {
        AuthRejected: "AuthFailed",
        Throttled: "Throttled",
        Transient: "Unavailable",
        Lost: "Unavailable",
        Misconfigured: "UnexpectedAnswer",
    }.get(failure, "")


def cut_off(label: str) -> str:
    """What is told of an answer that ends too early."""
    return f"the answer to {label} ends in the middle: if it lasts, see whether a proxy cuts it off"


def _message(answer: Answer, request: Request, failure: type[Failure]) -> str:
    start = f"{request.label} answered {answer.status}"
    if 300 <= answer.status < 400:
        return f"{start}, a redirect{_to(answer)}: write the URL that it leads to into spec.url"
    if failure is AuthRejected:
        return f"{start}: check the Secret of the Connection's auth, and what it is allowed to do"
    text = said(answer.body, request.hidden)
    start += f" ({text})" if text else ""
    if failure is Misconfigured and answer.status in (404, 410):
        return f"{start}: check systems[].object, the connector's path and spec.url"
    if failure is Misconfigured:
        return f"{start}: check the connector and spec.url"
    if failure is Throttled:
        pause, remedy = _pause(answer), "if it lasts, lower the Connection's limits.requestsPerSecond"
        start += f": {remedy}" if pause is None else f": it asks to wait {pause:.0f} s"
    if issubclass(failure, Transient) and answer.status >= 500:
        when = "probe" if request.about is About.PROBE else "run"
        start += f": the system itself failed, and is asked again with the next {when}; if it lasts, see its own log"
    return start


def _to(answer: Answer) -> str:
    """The origin that a redirect leads to; the rest of a Location may hold what is secret."""
    parts = urlsplit(answer.headers.get("location", ""))
    return f" to {parts.scheme}://{parts.hostname}" if parts.hostname else ""


def said(body: bytes, hidden: Sequence[str]) -> str:
    """What a system said of a failure, in one short line without the values that were sent."""
    try:
        text = _sentence(orjson.loads(body))
    except orjson.JSONDecodeError:
        text = body[:_LOOKED_AT].decode(errors="replace")
        text = "" if "<" in text else text
    text = " ".join(text[:_LOOKED_AT].split())
    values = {" ".join(value.split()) for value in hidden}
    shapes = {shape for value in values if len(value) > 1 for shape in (value, quote(value, safe=""))}
    for shape in sorted(shapes, key=len, reverse=True):
        if shape.casefold() in text.casefold():
            text = re.sub(re.escape(shape), "…", text, flags=re.IGNORECASE)
    return text if len(text) <= SAID else text[: SAID - 1] + "…"


def _sentence(found: Any, depth: int = 0) -> str:
    """The words meant for people in an error document, as problem details (RFC 9457) and common APIs name them."""
    if isinstance(found, str):
        return found
    if isinstance(found, list) and depth < 4:
        return "; ".join(filter(None, (_sentence(item, depth + 1) for item in found[:3])))
    if isinstance(found, dict) and depth < 4:
        for name in ("detail", "message", "error_description", "msg", "errors", "error", "title"):
            if text := _sentence(found.get(name), depth + 1):
                return text
    return ""
