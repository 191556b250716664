"""PostgreSQL's errors as failures. SQLSTATE decides where there is one (manual, "PostgreSQL Error Codes").

The server's primary message is repeated without what it quotes where that may be a value; DETAIL never is, since it
quotes rows.
"""

from __future__ import annotations

import re

import psycopg

from fairlead.transport.failure import AuthRejected, Failure, Misconfigured, Throttled, Transient

_QUOTED = re.compile(r'".*"', re.DOTALL)

_BY_STATE: dict[str, tuple[type[Failure], str, str]] = {
    "28": (AuthRejected, "AuthFailed", "rejects the user name or password: check the Secret of auth.basic"),
    "3D000": (Misconfigured, "DatabaseNotFound", "has no such database: check the path of spec.url"),
    "42501": (AuthRejected, "AuthFailed", "does not permit it ({said}): GRANT it to the user of auth.basic"),
    "42P01": (Misconfigured, "ObjectNotFound", "has no such table ({said}): check systems[].object"),
    "42703": (Misconfigured, "ColumnNotFound", "has no such column ({said}): check the mapped fields"),
    "428C9": (Misconfigured, "ReadOnlyColumn", "computes a column itself ({said}): map it in a ReadOnly system only"),
    "25006": (Misconfigured, "ReadOnly", "only reads (a standby?): point spec.url at the primary, or use ReadOnly"),
    "57014": (Transient, "Timeout", "took too long: is there an index on the key and on the modified column?"),
    "55P03": (Transient, "Locked", "is locked by another transaction for too long"),
    "40": (Transient, "Deadlock", "had to give way to another transaction"),
    "53100": (Transient, "DiskFull", "has no space left: free some, or enlarge its disk"),
    "53300": (Throttled, "TooManyConnections", "has no free connection: lower limits.concurrency, or allow more"),
    "53": (Transient, "OutOfResources", "is short of resources ({said})"),
    "57P": (Transient, "Unavailable", "is starting or stopping"),
    "08": (Transient, "Unavailable", "broke the connection"),
    "XX": (Transient, "Unavailable", "has an internal error ({said}): see its log"),
    "58": (Transient, "Unavailable", "has a system error ({said}): see its log"),
}

_TLS_ADVICE = (
    "does not prove who it is ({said}): give its authority in tls.caBundle and its name in tls.serverName, or, on a "
    "network that you trust, write ?sslmode=disable in spec.url"
)

_BY_TEXT: tuple[tuple[str, type[Failure], str, str], ...] = (
    (
        r"password authentication failed|no password supplied|role .* does not exist|authentication failed",
        *_BY_STATE["28"],
    ),
    (
        r"(no pg_hba\.conf entry|pg_hba\.conf rejects).*no encryption",
        Misconfigured,
        "TLSFailed",
        "lets this user not in from here without TLS: remove sslmode from spec.url, or add a line to its pg_hba.conf",
    ),
    (
        "no pg_hba.conf entry|pg_hba.conf rejects",
        AuthRejected,
        "AuthFailed",
        "lets this user not in from here: add a line to its pg_hba.conf",
    ),
    (r"database .* does not exist", *_BY_STATE["3D000"]),
    (r"too many (clients|connections)|remaining connection slots", *_BY_STATE["53300"]),
    (
        r"failed to resolve host|Name or service not known|No address associated",
        Misconfigured,
        "HostNotFound",
        "has a host name that does not resolve: check spec.url",
    ),
    ("Connection refused", Transient, "ConnectionRefused", "refuses connections: does the server run, on this port?"),
    (
        r"certificate|SSL (error|connection|negotiation|was required)|support SSL",
        Misconfigured,
        "TLSFailed",
        _TLS_ADVICE,
    ),
    (r"timeout|timed out", Transient, "Timeout", "does not answer in time: is it reachable from here?"),
)


def failure_of(error: psycopg.Error, where: str) -> Failure:
    """The failure that an error is.

    Args:
        error: as psycopg raised it.
        where: host, port and database, for the message.
    """
    said = message_of(error)
    state = error.sqlstate or ""
    for length in (5, 3, 2):
        if state and state[:length] in _BY_STATE:
            kind, reason, advice = _BY_STATE[state[:length]]
            return kind(f"{where} {advice.format(said=said)}", reason=reason)
    if state:
        return Misconfigured(f"{where} refuses the statement: {said}", reason="UnexpectedAnswer")
    for pattern, kind, reason, advice in _BY_TEXT:
        if re.search(pattern, str(error)):
            return kind(f"{where} {advice.format(said=_first_line(error))}", reason=reason)
    return Transient(f"{where} broke the connection", reason="Unavailable")


def message_of(error: psycopg.Error) -> str:
    """What the server said, with its SQLSTATE, and without values."""
    said = error.diag.message_primary or type(error).__name__
    state = error.sqlstate or ""
    if state[:2] in ("22", "P0", "38", "39"):
        said = _QUOTED.sub("…", said)
    named = error.diag.constraint_name or error.diag.column_name
    beside = f" ({named})" if named and named not in said else ""
    return f"{said}{beside}" + (f" (SQLSTATE {state})" if state else "")


def is_of_a_row(error: psycopg.Error) -> bool:
    """Whether it is the values of some row that are refused: data, constraint, view check, trigger, row security."""
    state = error.sqlstate or ""
    secured = state == "42501" and error.diag.source_function == "ExecWithCheckOptions"  # no right of the table's
    return secured or state[:2] in ("22", "23", "44", "27", "P0", "38", "39")


def is_of_the_moment(error: psycopg.Error) -> bool:
    """Whether the transaction only met another one: deadlock, serialization, lock."""
    state = error.sqlstate or ""
    return state[:2] == "40" or state == "55P03"


def _first_line(error: psycopg.Error) -> str:
    text = str(error).strip().partition("\n")[0]
    return text.rpartition("failed: ")[2] if "failed: " in text else text
