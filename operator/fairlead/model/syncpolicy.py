"""SyncPolicy: what must agree, and who owns what."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from fairlead.model.common import KeyRef, Resource, SecretValue, Spec


class Access(StrEnum):
    """What a policy may do with a system."""

    READ_WRITE = "ReadWrite"
    READ_ONLY = "ReadOnly"
    WRITE_ONLY = "WriteOnly"


class ConflictRule(StrEnum):
    """Who wins when systems changed the same field of the same record to different values."""

    SYSTEM_OF_RECORD_WINS = "SystemOfRecordWins"
    LATEST_WINS = "LatestWins"
    PRIORITY = "Priority"
    MERGE = "Merge"
    EXPRESSION = "Expression"
    MANUAL = "Manual"


class MergeMode(StrEnum):
    """How a number is merged."""

    DELTA = "Delta"


class Edits(StrEnum):
    """Where a field may be edited."""

    ANYWHERE = "Anywhere"
    SYSTEM_OF_RECORD_ONLY = "SystemOfRecordOnly"


class WhenEmpty(StrEnum):
    """What a change to "no value" does."""

    PROPAGATE = "Propagate"
    KEEP = "Keep"


class FirstSync(StrEnum):
    """Whose value stands when linked records meet for the first time and differ."""

    SYSTEM_OF_RECORD_WINS = "SystemOfRecordWins"
    FILL_EMPTY_ONLY = "FillEmptyOnly"
    REVIEW = "Review"


class Propagate(StrEnum):
    """Which deletes spread."""

    FROM_SYSTEM_OF_RECORD = "FromSystemOfRecord"
    FROM_ANY = "FromAny"
    NEVER = "Never"


class OnUpdateConflict(StrEnum):
    """A delete meets an update of the same record."""

    UPDATE_WINS = "UpdateWins"
    DELETE_WINS = "DeleteWins"


class DeleteAction(StrEnum):
    """What a delete does elsewhere."""

    DELETE = "Delete"
    ARCHIVE = "Archive"


class OnLeave(StrEnum):
    """What happens elsewhere to a record that no longer passes a system's filter."""

    KEEP = "Keep"
    ARCHIVE = "Archive"
    DELETE = "Delete"


class Mode(StrEnum):
    """Enforce writes; Plan computes and reports."""

    ENFORCE = "Enforce"
    PLAN = "Plan"


class Normalize(StrEnum):
    """Steps applied to match fields before they are compared."""

    TRIM = "Trim"
    LOWERCASE = "Lowercase"
    DIGITS_ONLY = "DigitsOnly"


class Match(Spec, frozen=True, kw_only=True):
    """Fields that make two records the same when they first meet."""

    fields: tuple[str, ...]
    normalize: tuple[Normalize, ...] = ()


class PathMapping(Spec, frozen=True, kw_only=True):
    """A canonical field that is one native attribute. `modified` is the one that holds when the field last changed."""

    path: str
    split: str | None = None
    values: dict[str, str] | None = None
    modified: str | None = None


class ExpressionMapping(Spec, frozen=True, kw_only=True):
    """A canonical field computed by CEL, and the native attributes it is written to."""

    read: str
    write: dict[str, str] = {}
    modified: str | None = None


FieldMapping = PathMapping | ExpressionMapping


class Archive(Spec, frozen=True, kw_only=True):
    """What an archived record of a system says: native attribute → text, number, true or false."""

    set: dict[str, Any]


class SystemSpec(Spec, frozen=True, kw_only=True):
    """One system taking part, under a local name.

    `key` and `modified` are for connectors that cannot know them (a table without primary key, a generic API);
    `fields` values are kept as declared; `mappings()` types them.
    """

    name: str
    connection: str
    object: str
    access: Access = Access.READ_WRITE
    key: str | None = None
    modified: str | None = None
    fields: dict[str, Any]
    filter: str | None = None
    on_leave: OnLeave = OnLeave.KEEP
    archive: Archive | None = None

    @property
    def reads(self) -> bool:
        """Whether changes made in this system count."""
        return self.access is not Access.WRITE_ONLY

    @property
    def writes(self) -> bool:
        """Whether Fairlead may write to this system."""
        return self.access is not Access.READ_ONLY

    def mappings(self) -> dict[str, FieldMapping]:
        """The declared mappings, typed.

        Raises:
            msgspec.ValidationError: a mapping is neither a path nor {path: …} nor {read: …, write: …}.
        """
        return {name: mapping_of(declared) for name, declared in self.fields.items()}


def mapping_of(declared: Any) -> FieldMapping:
    """A declared mapping, typed.

    Raises:
        msgspec.ValidationError: it is neither a path nor {path: …} nor {read: …, write: …}.
    """
    if isinstance(declared, str):
        return PathMapping(path=declared)
    if not isinstance(declared, dict) or ("path" in declared) == ("read" in declared):
        raise msgspec.ValidationError("write a path, {path: some.path} or {read: CEL, write: {some.path: CEL}}")
    kind: type[FieldMapping] = PathMapping if "path" in declared else ExpressionMapping
    return msgspec.convert(declared, kind)


class Ownership(Spec, frozen=True, kw_only=True):
    """Who owns a field, where that depends on the record: `then` where the CEL in `when` is true."""

    when: str
    then: str
    otherwise: str | None = None


class FieldRuleSpec(Spec, frozen=True, kw_only=True):
    """Where a field's rules differ from the policy's."""

    references: str | None = None
    system_of_record: str | None = None
    system_of_record_when: Ownership | None = None
    on_conflict: ConflictRule | None = None
    on_conflict_expression: str | None = None
    merge: MergeMode | None = None
    edits: Edits | None = None
    when_empty: WhenEmpty | None = None
    priority: tuple[str, ...] = ()


class Guard(Spec, frozen=True, kw_only=True):
    """How many deletes and archivings one run may do before it halts for a person."""

    max_records: int = 100
    max_percent: int = 5


class Deletes(Spec, frozen=True, kw_only=True):
    """How deletes spread."""

    propagate: Propagate = Propagate.FROM_SYSTEM_OF_RECORD
    action: DeleteAction = DeleteAction.DELETE
    on_update_conflict: OnUpdateConflict = OnUpdateConflict.UPDATE_WINS
    guard: Guard = Guard()


class Trigger(Spec, frozen=True, kw_only=True):
    """When runs happen."""

    interval: str = "30s"
    resync_schedule: str = "0 3 * * *"


class StateStore(StrEnum):
    """What keeps the policy's state."""

    SQLITE = "SQLite"
    POSTGRES = "Postgres"


class State(Spec, frozen=True, kw_only=True):
    """Where the policy's state is kept. `connection` belongs to Postgres, the others to SQLite's volume."""

    store: StateStore = StateStore.SQLITE
    connection: str | None = None
    size: str | None = None
    storage_class_name: str | None = None
    retention: str = "30d"
    encryption_key: SecretValue | None = None


class Worker(Spec, frozen=True, kw_only=True):
    """The worker's pods. `resources` is as in a container: requests and limits of cpu and memory."""

    replicas: int = 1
    resources: dict[str, dict[str, int | str]] = {}


class SyncPolicySpec(Spec, frozen=True, kw_only=True):
    """The spec of a SyncPolicy; the CRD describes each field."""

    entity: str
    schema: dict[str, Any]
    match: tuple[Match, ...]
    systems: tuple[SystemSpec, ...]
    system_of_record: str
    priority: tuple[str, ...] = ()
    fields: dict[str, FieldRuleSpec] = {}
    on_conflict: ConflictRule = ConflictRule.SYSTEM_OF_RECORD_WINS
    on_conflict_expression: str | None = None
    edits: Edits = Edits.ANYWHERE
    when_empty: WhenEmpty = WhenEmpty.PROPAGATE
    deletes: Deletes = Deletes()
    first_sync: FirstSync = FirstSync.SYSTEM_OF_RECORD_WINS
    trigger: Trigger = Trigger()
    stale_after: str = "15m"
    mode: Mode = Mode.ENFORCE
    suspend: bool = False
    state: State = State()
    worker: Worker = Worker()


class SyncPolicy(Resource, frozen=True, kw_only=True):
    """What must agree between which systems, and who owns what."""

    spec: SyncPolicySpec

    def references(self) -> dict[str, str]:
        """Field → the name of the policy, in the same namespace, whose records it refers to."""
        return {name: rule.references for name, rule in self.spec.fields.items() if rule.references is not None}

    @property
    def workers(self) -> int:
        """How many share its work. A plan is made by one."""
        return self.spec.worker.replicas if self.spec.mode is Mode.ENFORCE else 1

    def connections(self) -> frozenset[str]:
        """Names of every Connection that it uses, that of its state too."""
        state = self.spec.state.connection
        return frozenset(system.connection for system in self.spec.systems) | ({state} if state else set())

    def secret_refs(self) -> tuple[KeyRef, ...]:
        """The Secret keys that its worker needs beside those of its Connections."""
        key = self.spec.state.encryption_key
        return (key.secret_key_ref,) if key else ()


REQUESTED_AT = "fairlead.dev/requested-at"
ENFORCE_REQUESTED_AT = "fairlead.dev/enforce-requested-at"
RESYNC_REQUESTED_AT = "fairlead.dev/resync-requested-at"
APPROVE = "fairlead.dev/approve"
SUSPEND_REASON = "fairlead.dev/suspend-reason"
