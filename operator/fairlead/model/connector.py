"""Connector: what a kind of system can do, as data."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from fairlead.model.common import Resource, Spec

SQL = "sql"
"""The connector that needs no Connector: the scheme of a Connection's URL says which database."""


class ErrorClass(StrEnum):
    """What a failure means for the worker (design section 4, "Failures")."""

    TRANSIENT = "Transient"
    THROTTLED = "Throttled"
    AUTH = "Auth"
    INVALID = "Invalid"
    GONE = "Gone"
    CONFLICT = "Conflict"
    MISCONFIGURED = "Misconfigured"


class Pagination(StrEnum):
    """How a list goes on."""

    CURSOR = "Cursor"
    PAGE = "Page"
    OFFSET = "Offset"
    LINK = "Link"


class Paginate(Spec, frozen=True, kw_only=True):
    """How a list goes on, and where the parameters go.

    `size_param`/`size`: page size; `param`: the query parameter that takes cursor, page number or offset;
    `next`: path of the next cursor in the answer (Cursor). Link follows RFC 8288 `rel="next"`.
    """

    type: Pagination
    param: str | None = None
    next: str | None = None
    size_param: str | None = None
    size: int = 100
    first: int = 1


class Read(Spec, frozen=True, kw_only=True):
    """One way to read records. `path` and `query` are RFC 6570 level 1 templates.

    Variables: `object`, `key`, `keys` (comma separated), `since` (RFC 3339), `field`, `value`.
    `records` is the path of the list in the answer; empty when the answer is the list (or, for one, the record).
    """

    path: str
    query: dict[str, str] = {}
    records: str = ""
    paginate: Paginate | None = None
    max_keys: int = 1


class Reads(Spec, frozen=True, kw_only=True):
    """The reads an object offers; `list` is the least."""

    list: Read
    changes: Read | None = None
    deleted: Read | None = None
    by_ids: Read | None = msgspec.field(default=None, name="byIDs")
    find: Read | None = None


class Condition(StrEnum):
    """How a write is kept from overwriting a newer edit."""

    ETAG = "ETag"
    READ_BEFORE = "ReadBefore"


class Write(Spec, frozen=True, kw_only=True):
    """One way to write a record. `path` is a template over `object` and `key`.

    `body` is the path under which the record is sent (empty: the record is the body); `record` is where the
    answer holds the stored record; `idempotency_header` carries the intent's key where the system honours one.
    """

    method: str
    path: str
    body: str = ""
    record: str = ""
    condition: Condition = Condition.READ_BEFORE
    idempotency_header: str | None = None


class Batch(Spec, frozen=True, kw_only=True):
    """One request that writes many records; answers come per record, in order."""

    method: str = "POST"
    path: str
    body: str
    results: str
    max_records: int = 100
    status: str = "status"
    record: str = "record"
    error: str = "error"


class Writes(Spec, frozen=True, kw_only=True):
    """The writes an object offers; none means read only."""

    create: Write | None = None
    update: Write | None = None
    upsert: Write | None = None
    delete: Write | None = None
    create_batch: Batch | None = None


class ObjectSpec(Spec, frozen=True, kw_only=True):
    """One object of a system. `name: "*"` stands for every object not named."""

    name: str
    key: str = "id"
    modified: str | None = None
    lookback: str = "5s"
    read: Reads
    write: Writes = Writes()


class ErrorRule(Spec, frozen=True, kw_only=True):
    """First match wins; what no rule names goes by the HTTP status."""

    status: int | None = None
    body: str | None = None
    class_: ErrorClass = msgspec.field(name="class")


class ProbeRequest(Spec, frozen=True, kw_only=True):
    """A cheap request that needs valid credentials."""

    path: str
    method: str = "GET"


class ConnectorSpec(Spec, frozen=True, kw_only=True):
    """The spec of a Connector; the CRD describes each field."""

    type: str = "REST"
    probe: ProbeRequest
    headers: dict[str, str] = {}
    objects: tuple[ObjectSpec, ...]
    errors: tuple[ErrorRule, ...] = ()


class Connector(Resource, frozen=True, kw_only=True):
    """What a kind of system can do."""

    spec: ConnectorSpec

    @property
    def id(self) -> str:
        """The name: a Connector belongs to no namespace."""
        return self.metadata.name

    def object_named(self, name: str) -> ObjectSpec | None:
        """The object that a policy calls `name`; None when systems of this kind have none."""
        by_name = {item.name: item for item in self.spec.objects}
        return by_name.get(name) or by_name.get("*")
