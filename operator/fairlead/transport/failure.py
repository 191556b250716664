"""The closed set of ways in which a system can fail, each with one meaning for the worker."""

from __future__ import annotations

from typing import ClassVar

from fairlead.model.connector import ErrorClass


class Failure(Exception):
    """A system did not do what was asked.

    The message is for a person: it says what happened and, where known, what to do. It never holds a secret, a
    query string or a record's value.
    """

    error: ClassVar[ErrorClass]

    def __init__(self, message: str, *, reason: str = "", retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        """CamelCase, where it says more than the class: `TLSFailed`, `SecretNotFound`, `ObjectNotFound`."""
        self.retry_after = retry_after
        """Seconds that the system asked to wait; None when it said nothing."""


class Transient(Failure):
    """May succeed if tried again: time-outs, connection failures, 5xx, deadlocks."""

    error = ErrorClass.TRANSIENT


class Lost(Transient):
    """The request was sent and nobody knows what became of it."""


class Throttled(Failure):
    """The system wants fewer requests."""

    error = ErrorClass.THROTTLED


class AuthRejected(Failure):
    """The credentials are missing, wrong or not enough."""

    error = ErrorClass.AUTH


class Invalid(Failure):
    """The system refuses this record; the same request will fail again."""

    error = ErrorClass.INVALID


class Gone(Failure):
    """The record is not there any more."""

    error = ErrorClass.GONE


class Conflicted(Failure):
    """The record is not as it was seen."""

    error = ErrorClass.CONFLICT


class Misconfigured(Failure):
    """What was declared cannot work with this system: a host, object, column or answer is not as declared."""

    error = ErrorClass.MISCONFIGURED


BY_CLASS: dict[ErrorClass, type[Failure]] = {
    kind.error: kind for kind in (Transient, Throttled, AuthRejected, Invalid, Gone, Conflicted, Misconfigured)
}
