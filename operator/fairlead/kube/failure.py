"""What the API server answers when it does not do what was asked."""

from __future__ import annotations

from typing import Any

import msgspec
import orjson


class Status(msgspec.Struct, frozen=True):
    """The part of the API server's `Status` object that says what is wrong."""

    reason: str = ""
    message: str = ""
    details: dict[str, Any] | None = None


class ApiFailure(Exception):
    """The API server refused a request, or did not answer (`status` 0).

    Attributes:
        status: the HTTP status; 0 when no answer came.
        reason: the server's CamelCase reason (`NotFound`, `Forbidden`, `Conflict`, `Invalid`, …); may be empty.
        retry_after: seconds that the server asked to wait; None when it said nothing.
    """

    def __init__(self, action: str, status: int, reason: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(f"{action}: {message or reason or 'no answer'}")
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after = retry_after

    @property
    def refused(self) -> bool:
        """Whether the same request will be refused again: its content is at fault, not the moment."""
        return self.status in (400, 403, 405, 413, 415, 422)


def from_answer(action: str, status: int, body: bytes, retry_after: str | None) -> ApiFailure:
    """The failure that an HTTP answer stands for. `action` says what was asked, as `apply Deployment a/b`."""
    try:
        said = msgspec.convert(orjson.loads(body), Status)
    except (orjson.JSONDecodeError, msgspec.ValidationError):
        said = Status(message=f"HTTP status {status}")
    return ApiFailure(action, status, said.reason, said.message, _seconds(retry_after))


def _seconds(retry_after: str | None) -> float | None:
    return float(retry_after) if retry_after and retry_after.isdigit() else None
