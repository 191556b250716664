"""What errors of a PostgreSQL store mean for the worker. SQLSTATE decides (manual, "PostgreSQL Error Codes").

Only the server's primary message is repeated: DETAIL quotes rows.
"""

from __future__ import annotations

import psycopg

from fairlead.state.base import StateCorrupted, StateError, StateFull

_DAMAGED = (
    "is not as Fairlead left it ({said}): restore a backup, or drop the schema; without it every record is first met "
    "again, as spec.firstSync says, and nothing is created twice where match keys find it"
)

_BY_STATE: dict[str, tuple[type[StateError], str]] = {
    "42501": (
        StateError,
        "does not permit it ({said}): GRANT CREATE, TEMPORARY ON DATABASE to the user of the Connection",
    ),
    "53100": (StateFull, "has no space left: free some, or enlarge its disk; nothing was lost"),
    "25006": (StateError, "only reads (a standby?): point the Connection's spec.url at the primary"),
    "3F000": (StateCorrupted, _DAMAGED),
    "42P01": (StateCorrupted, _DAMAGED),
    "42703": (StateCorrupted, _DAMAGED),
    "XX001": (StateCorrupted, _DAMAGED),
    "XX002": (StateCorrupted, _DAMAGED),
    "57014": (StateError, "took too long: is the server overloaded?"),
    "55P03": (StateError, "is locked by a transaction of someone else: see pg_stat_activity"),
    "28": (StateError, "rejects the user name or password: check the Secret of the Connection's auth.basic"),
    "53": (StateError, "is short of resources ({said})"),
    "57P": (StateError, "is stopping or starting; nothing was lost, and the next run goes on"),
    "08": (StateError, "broke the connection; nothing was lost, and the next run goes on"),
}


def state_error(error: psycopg.Error, name: str) -> StateError:
    """The error that the worker understands. `name` says which state it is."""
    state = error.sqlstate or ""
    said = (error.diag.message_primary or "").strip()
    for length in (5, 3, 2):
        if state and state[:length] in _BY_STATE:
            kind, advice = _BY_STATE[state[:length]]
            return kind(f"state {name} {advice.format(said=said)}")
    if state:
        return StateError(f"state {name}: {said}")
    first = str(error).strip().partition("\n")[0]
    return StateError(f"state {name} cannot be reached ({first}); nothing was lost, and the next run tries again")
