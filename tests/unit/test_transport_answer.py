"""What answers mean that are no success, and what is said of them."""

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.model.connector import ErrorClass, ErrorRule
from fairlead.transport.answer import SAID, About, Answer, Request, document, failure_of, said
from fairlead.transport.failure import Failure, Lost, Misconfigured, Throttled, Transient

BY_STATUS = {
    301: "Misconfigured Misconfigured Misconfigured Misconfigured Misconfigured",
    400: "Misconfigured Misconfigured Invalid Invalid Misconfigured",
    401: "Auth Auth Auth Auth Auth",
    402: "Misconfigured Misconfigured Invalid Invalid Misconfigured",
    403: "Auth Auth Auth Auth Auth",
    404: "Misconfigured Gone Misconfigured Gone Misconfigured",
    405: "Misconfigured Misconfigured Misconfigured Misconfigured Misconfigured",
    407: "Auth Auth Auth Auth Auth",
    408: "Transient Transient Transient Transient Transient",
    409: "Conflict Conflict Conflict Conflict Conflict",
    410: "Misconfigured Gone Misconfigured Gone Misconfigured",
    412: "Conflict Conflict Conflict Conflict Conflict",
    413: "Misconfigured Misconfigured Invalid Invalid Misconfigured",
    415: "Misconfigured Misconfigured Misconfigured Misconfigured Misconfigured",
    418: "Misconfigured Misconfigured Invalid Invalid Misconfigured",
    422: "Misconfigured Misconfigured Invalid Invalid Misconfigured",
    425: "Transient Transient Transient Transient Transient",
    428: "Misconfigured Misconfigured Misconfigured Misconfigured Misconfigured",
    429: "Throttled Throttled Throttled Throttled Throttled",
    500: "Transient Transient Transient Transient Transient",
    501: "Misconfigured Misconfigured Misconfigured Misconfigured Misconfigured",
    502: "Transient Transient Transient Transient Transient",
    503: "Transient Transient Transient Transient Transient",
    504: "Transient Transient Transient Transient Transient",
    505: "Misconfigured Misconfigured Misconfigured Misconfigured Misconfigured",
    524: "Transient Transient Transient Transient Transient",
}
"""Status → class for a list, a look-up, a new record, a known record, and a probe."""

ABOUT = (About.OBJECT, About.LOOKUP, About.NEW, About.RECORD, About.PROBE)


def asked(about: About = About.OBJECT, **more: Any) -> Request:
    return Request("GET", "https://api.example.com/x?token=canary", "GET /things", about, **more)


def failed(
    status: int = 422, body: Any = None, *rules: ErrorRule, headers: dict[str, str] | None = None, **request: Any
) -> Failure:
    text = body if isinstance(body, bytes) else b"" if body is None else orjson.dumps(body)
    failure = failure_of(Answer(status, headers or {}, text), asked(**request), rules)
    assert failure is not None
    return failure


@pytest.mark.parametrize("status", BY_STATUS)
def test_a_status_means_what_http_says(status: int) -> None:
    assert " ".join(failed(status, about=about).error for about in ABOUT) == BY_STATUS[status]


@given(st.integers(300, 599), st.sampled_from(ABOUT), st.binary(max_size=200))
@settings(deadline=None)
def test_every_other_status_is_a_failure_with_a_message(status: int, about: About, body: bytes) -> None:
    assert failed(status, body, about=about).message.startswith(f"GET /things answered {status}")


@pytest.mark.parametrize("status", [200, 201, 202, 204, 207])
def test_a_success_is_no_failure(status: int) -> None:
    assert failure_of(Answer(status, {}, b""), asked(), ()) is None


@pytest.mark.parametrize("status", [500, 502, 504, 520, 599])
def test_after_a_server_error_nobody_knows_what_was_done(status: int) -> None:
    assert type(failed(status)) is Lost


def test_after_503_nothing_was_done() -> None:
    assert type(failed(503)) is Transient


def test_a_503_that_asks_for_a_pause_is_a_throttle() -> None:
    failure = failed(503, headers={"retry-after": "7"})
    assert (type(failure), failure.retry_after) == (Throttled, 7.0)


def test_a_throttle_says_how_long_the_system_asks_to_wait() -> None:
    failure = failed(429, {"message": "no good"}, headers={"retry-after": "3600"})
    assert failure.message == "GET /things answered 429 (no good): it asks to wait 3600 s"


def test_a_throttle_that_asks_for_no_pause_says_what_to_lower() -> None:
    assert failed(429, {"message": "no good"}).message == (
        "GET /things answered 429 (no good): if it lasts, lower the Connection's limits.requestsPerSecond"
    )


@pytest.mark.parametrize(("about", "when"), [(About.OBJECT, "run"), (About.RECORD, "run"), (About.PROBE, "probe")])
def test_a_server_error_says_who_failed_where_to_look_and_when_it_is_tried_again(about: About, when: str) -> None:
    assert failed(500, {"message": "boom"}, about=about).message == (
        f"GET /things answered 500 (boom): the system itself failed, and is asked again with the next {when}; "
        "if it lasts, see its own log"
    )


def test_a_retry_after_that_is_a_date_counts_by_the_systems_own_clock() -> None:
    dates = {"date": "Sun, 01 Mar 2026 12:00:00 GMT", "retry-after": "Sun, 01 Mar 2026 12:00:30 GMT"}
    assert failed(429, headers=dates).retry_after == 30.0


# --- the connector's own rules ---


def test_the_first_rule_that_matches_decides() -> None:
    rules = [
        ErrorRule(status=400, body="DUPLICATE", class_=ErrorClass.CONFLICT),
        ErrorRule(status=400, class_=ErrorClass.TRANSIENT),
        ErrorRule(body="LIMIT", class_=ErrorClass.THROTTLED),
    ]
    found = [failed(s, {"error": b}, *rules).error for s, b in ((400, "DUPLICATE"), (400, "?"), (403, "LIMIT"))]
    assert found == [ErrorClass.CONFLICT, ErrorClass.TRANSIENT, ErrorClass.THROTTLED]


def test_what_no_rule_names_goes_by_its_status() -> None:
    assert failed(401, None, ErrorRule(status=400, class_=ErrorClass.GONE)).error is ErrorClass.AUTH


def test_a_rule_finds_a_failure_behind_a_success() -> None:
    rule = ErrorRule(status=200, body='"ok":false', class_=ErrorClass.INVALID)
    assert failed(200, {"ok": False, "error": "no such field"}, rule).error is ErrorClass.INVALID


# --- documents ---


def parsed(body: bytes, kind: str = "application/json", about: About = About.OBJECT) -> Any:
    return document(Answer(200, {"content-type": kind}, body), asked(about))


def test_an_empty_answer_has_no_document() -> None:
    assert parsed(b"") is None


WHOLE = orjson.dumps({"items": [{"id": "ä1", "n": -1.5e3, "ok": True, "no": None, "s": 'q"\\ü'}], "next": None})


@pytest.mark.parametrize("length", range(1, len(WHOLE)))
def test_a_document_cut_anywhere_is_truncated_and_may_be_asked_for_again(length: int) -> None:
    with pytest.raises(Transient) as caught:
        parsed(WHOLE[:length])
    assert (caught.value.reason, caught.value.message) == (
        "TruncatedAnswer",
        "the answer to GET /things ends in the middle: if it lasts, see whether a proxy cuts it off",
    )


@pytest.mark.parametrize("about", ABOUT)
def test_a_web_page_is_no_answer_of_an_api(about: About) -> None:
    with pytest.raises(Misconfigured) as caught:
        parsed(b"<html>Sign in</html>", "text/html; charset=utf-8", about)
    assert (caught.value.reason, caught.value.message) == (
        "NotJSON",
        "the answer to GET /things is text/html, not JSON: check spec.url; is this the API, and not its web page?",
    )


@pytest.mark.parametrize("body", [b"\xff\xfe", b"{'a': 1}", b"[1,]", b"[" * 5000 + b"]" * 5000, b"OK"])
def test_what_is_not_json_is_told_without_quoting_it(body: bytes) -> None:
    with pytest.raises(Misconfigured) as caught:
        parsed(body, "text/plain")
    assert caught.value.message == (
        "the answer to GET /things is text/plain, not JSON: check spec.url; is this the API, and not its web page?"
    )


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "Application/Problem+JSON"])
def test_what_says_that_it_is_json_and_is_not_is_told_by_the_place(kind: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        parsed(b'{"items":\n [}', kind)
    assert (caught.value.reason, caught.value.message) == (
        "NotJSON",
        "the answer to GET /things says that it is JSON and is not, at line 2, column 3: ask the vendor",
    )


def test_a_write_may_be_answered_by_a_word() -> None:
    assert parsed(b"OK", "text/plain", About.RECORD) is None


# --- what is said ---

DOCUMENTS = [
    ({"detail": "no such field", "title": "Bad Request"}, "no such field"),
    ({"message": "no such field"}, "no such field"),
    ({"error": {"message": "no such field"}}, "no such field"),
    ({"errors": [{"message": "a"}, {"message": "b"}]}, "a; b"),
    ({"errors": ["a", "b", "c", "d"]}, "a; b; c"),
    ([{"message": "a"}], "a"),
    ("no such field", "no such field"),
    ({"error": "invalid_scope", "error_description": "unknown scope"}, "unknown scope"),
    ({"title": "Bad Request", "status": 400}, "Bad Request"),
    ({"code": 17}, ""),
    (17, ""),
    ({"message": "two\n lines\tof  it"}, "two lines of it"),
]


@pytest.mark.parametrize(("given_", "words"), DOCUMENTS)
def test_the_words_for_people_are_found(given_: Any, words: str) -> None:
    assert said(orjson.dumps(given_), ()) == words


def test_plain_text_is_said_as_it_is() -> None:
    assert said(b"no such field", ()) == "no such field"


def test_a_web_page_says_nothing() -> None:
    assert said(b"<html><body>Internal Server Error</body></html>", ()) == ""


def test_much_text_is_cut() -> None:
    assert said(b"x" * 100_000, ()) == "x" * (SAID - 1) + "…"


@pytest.mark.parametrize(
    "echo", ["Ann Smith is taken", "ANN SMITH is taken", "ann  smith is taken", "Ann%20Smith is taken"]
)
def test_a_value_that_was_sent_is_not_repeated(echo: str) -> None:
    assert said(orjson.dumps({"message": echo}), ["Ann Smith"]) == "… is taken"


def test_of_values_within_each_other_nothing_is_left() -> None:
    assert said(b"Ann Smith is taken", ["Ann", "Ann Smith"]) == "… is taken"


def test_a_blank_value_hides_nothing() -> None:
    assert said(b"no such field", ["", " ", "\n"]) == "no such field"


@given(st.text(min_size=2, max_size=30), st.text(max_size=300), st.text(max_size=300))
@settings(deadline=None)
def test_no_value_is_ever_repeated(value: str, before: str, after: str) -> None:
    collapsed = " ".join(value.split())
    text = said(orjson.dumps({"message": before + value + after}), [value])
    assert len(collapsed) < 2 or collapsed == "…" * len(collapsed) or collapsed not in text


def test_what_the_system_said_of_a_record_is_in_the_message() -> None:
    assert failed(422, {"message": "email must hold an @"}, about=About.RECORD).message == (
        "GET /things answered 422 (email must hold an @)"
    )


def test_nothing_is_quoted_of_who_rejects_the_login() -> None:
    assert failed(401, {"message": "token abc123 is not known"}).message == (
        "GET /things answered 401: check the Secret of the Connection's auth, and what it is allowed to do"
    )


def test_a_redirect_is_told_by_its_origin_only() -> None:
    to = {"location": "https://user:pw@login.example.com/in?token=canary"}
    assert failed(302, headers=to).message == (
        "GET /things answered 302, a redirect to https://login.example.com: write the URL that it leads to into "
        "spec.url"
    )


def test_an_object_that_is_not_there_has_its_own_reason_and_advice() -> None:
    failure = failed(404)
    assert (failure.reason, failure.message) == (
        "ObjectNotFound",
        "GET /things answered 404: check systems[].object, the connector's path and spec.url",
    )


REASONS = [
    (401, "AuthFailed"),
    (429, "Throttled"),
    (500, "Unavailable"),
    (503, "Unavailable"),
    (400, "UnexpectedAnswer"),
]


@pytest.mark.parametrize(("status", "reason"), REASONS)
def test_a_failure_has_a_reason(status: int, reason: str) -> None:
    assert failed(status).reason == reason


# --- limits that are told ---


@pytest.mark.parametrize(
    ("headers", "left"),
    [
        ({"ratelimit-limit": "100", "ratelimit-remaining": "91"}, 0.91),
        ({"x-ratelimit-limit": "100", "x-ratelimit-remaining": "0"}, 0.0),
        ({"x-ratelimit-limit": "100", "x-ratelimit-remaining": "200"}, 1.0),
        ({"ratelimit-limit": "0", "ratelimit-remaining": "0"}, None),
        ({"ratelimit-limit": "100, 100;w=60", "ratelimit-remaining": "91"}, None),
        ({"ratelimit-limit": "²", "ratelimit-remaining": "²"}, None),
        ({}, None),
    ],
)
def test_the_budget_that_is_left_is_read_where_it_is_told(headers: dict[str, str], left: float | None) -> None:
    assert Answer(200, headers, b"").budget_left == left
