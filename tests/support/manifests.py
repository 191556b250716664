"""Good and bad manifests: what `fairlead validate` and a real API server must judge alike."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

Manifest = dict[str, Any]


class Case(NamedTuple):
    """One manifest, and whether it is to be accepted."""

    name: str
    manifest: Manifest
    accepted: bool


def secret(name: str = "login", key: str = "value") -> Manifest:
    return {"secretKeyRef": {"name": name, "key": key}}


def connection() -> Manifest:
    """A valid Connection that says the least."""
    return {
        "apiVersion": "fairlead.dev/v1alpha1",
        "kind": "Connection",
        "metadata": {"name": "crm", "namespace": "default"},
        "spec": {"connector": "shop", "url": "https://api.example.com"},
    }


def full_connection() -> Manifest:
    """A valid Connection that says everything."""
    return with_values(
        connection(),
        {
            "spec.auth": {
                "oauth2": {
                    "grant": "ClientCredentials",
                    "tokenURL": "https://login.example.com/oauth/token?tenant=1",
                    "clientID": secret(key="id"),
                    "clientSecret": secret(key="secret"),
                    "scopes": ["read", "write:all"],
                }
            },
            "spec.tls": {
                "caBundle": {"configMapKeyRef": {"name": "ca", "key": "ca.crt"}},
                "serverName": "api.example.com",
            },
            "spec.limits": {"requestsPerSecond": 9.5, "burst": 20, "concurrency": 4},
            "spec.retry": {"maxAttempts": 3, "initialBackoff": "250ms", "maxBackoff": "1m30s"},
            "spec.probe": {"interval": "30s", "timeout": "5s"},
            "spec.suspend": True,
        },
    )


def database() -> Manifest:
    """A valid Connection to a database."""
    return with_values(
        connection(),
        {
            "metadata.name": "erp",
            "spec.connector": "sql",
            "spec.url": "postgresql://db.example.com:5432/erp?sslmode=verify-full",
            "spec.auth": {"basic": {"username": secret(key="user"), "password": secret(key="password")}},
        },
    )


def policy() -> Manifest:
    """A valid SyncPolicy that says the least."""
    return {
        "apiVersion": "fairlead.dev/v1alpha1",
        "kind": "SyncPolicy",
        "metadata": {"name": "customers", "namespace": "default"},
        "spec": {
            "entity": "Customer",
            "schema": {"type": "object", "properties": {"email": {"type": "string"}, "name": {"type": "string"}}},
            "match": [{"fields": ["email"], "normalize": ["Trim", "Lowercase"]}],
            "systems": [
                {
                    "name": "crm",
                    "connection": "crm",
                    "object": "contacts",
                    "fields": {"email": "properties.email", "name": "properties.name"},
                },
                {
                    "name": "erp",
                    "connection": "erp",
                    "object": "public.customer",
                    "fields": {"email": "email", "name": {"path": "name", "values": {"a": "b"}}},
                },
            ],
            "systemOfRecord": "crm",
        },
    }


def full_policy() -> Manifest:
    """A valid SyncPolicy that says everything."""
    return with_values(
        policy(),
        {
            "spec.systems.0.access": "ReadWrite",
            "spec.systems.0.key": "id",
            "spec.systems.0.modified": "properties.updated",
            "spec.systems.0.filter": "properties.stage == 'customer'",
            "spec.systems.0.onLeave": "Archive",
            "spec.systems.0.archive": {"set": {"status": "archived", "active": False, "stage": 9}},
            "spec.systems.1.archive": {"set": {"archived": True}},
            "spec.systems.0.fields.name": {"read": "first + last", "write": {"first": "name", "last": "name"}},
            "spec.priority": ["erp", "crm"],
            "spec.fields": {
                "name": {
                    "references": "people",
                    "systemOfRecord": "erp",
                    "onConflict": "Priority",
                    "edits": "SystemOfRecordOnly",
                    "whenEmpty": "Keep",
                    "priority": ["erp"],
                },
                "email": {
                    "systemOfRecordWhen": {"when": "record.name == 'x'", "then": "erp", "otherwise": "crm"},
                    "onConflict": "Expression",
                    "onConflictExpression": "values[systems[0]]",
                    "merge": "Delta",
                },
            },
            "spec.onConflict": "Manual",
            "spec.onConflictExpression": "base",
            "spec.edits": "Anywhere",
            "spec.whenEmpty": "Propagate",
            "spec.deletes": {
                "propagate": "FromAny",
                "action": "Archive",
                "onUpdateConflict": "DeleteWins",
                "guard": {"maxRecords": 0, "maxPercent": 100},
            },
            "spec.firstSync": "FillEmptyOnly",
            "spec.trigger": {"interval": "1s", "resyncSchedule": "*/5 0-6 1,15 * MON-FRI"},
            "spec.staleAfter": "1h30m",
            "spec.mode": "Plan",
            "spec.suspend": False,
            "spec.state": {
                "store": "SQLite",
                "size": "10Gi",
                "storageClassName": "fast",
                "retention": "720h",
                "encryptionKey": secret(),
            },
            "spec.worker": {
                "replicas": 1,
                "resources": {
                    "requests": {"cpu": "100m", "memory": "128Mi"},
                    "limits": {"cpu": 1, "memory": "256Mi"},
                },
            },
        },
    )


def connector() -> Manifest:
    """A valid Connector that says the least."""
    return {
        "apiVersion": "fairlead.dev/v1alpha1",
        "kind": "Connector",
        "metadata": {"name": "shop"},
        "spec": {
            "probe": {"path": "/me"},
            "objects": [{"name": "contacts", "read": {"list": {"path": "/contacts"}}}],
        },
    }


def full_connector() -> Manifest:
    """A valid Connector that says nearly everything."""
    paginate = {"type": "Cursor", "param": "after", "next": "paging.next.after", "sizeParam": "limit", "size": 100}
    write = {"body": "properties", "record": "", "idempotencyHeader": "Idempotency-Key"}
    return with_values(
        connector(),
        {
            "spec.type": "REST",
            "spec.probe": {"path": "/me?fields=id", "method": "HEAD"},
            "spec.headers": {"Accept": "application/json"},
            "spec.errors": [
                {"status": 409, "body": "exists", "class": "Conflict"},
                {"status": 423, "class": "Transient"},
            ],
            "spec.objects.0.key": "id",
            "spec.objects.0.modified": "updatedAt",
            "spec.objects.0.lookback": "10s",
            "spec.objects.0.read": {
                "list": {
                    "path": "/{object}",
                    "query": {"archived": "false"},
                    "records": "results",
                    "paginate": paginate,
                },
                "changes": {"path": "/{object}", "query": {"since": "{since}"}, "paginate": {"type": "Link"}},
                "deleted": {
                    "path": "/deleted",
                    "query": {"since": "{since}"},
                    "paginate": {"type": "Offset", "param": "o"},
                },
                "byIDs": {"path": "/{object}", "query": {"ids": "{keys}"}, "records": "results", "maxKeys": 100},
                "find": {"path": "/search", "query": {"{field}": "{value}"}, "records": "results"},
            },
            "spec.objects.0.write": {
                "create": {"method": "POST", "path": "/{object}", **write},
                "update": {"method": "PATCH", "path": "/{object}/{key}", "condition": "ETag", **write},
                "upsert": {"method": "PUT", "path": "/{object}/{key}", "condition": "ReadBefore", **write},
                "delete": {"method": "DELETE", "path": "/{object}/{key}", "condition": "ETag"},
                "createBatch": {"path": "/batch", "body": "inputs", "results": "results", "maxRecords": 50},
            },
        },
    )


def with_values(manifest: Manifest, values: dict[str, Any]) -> Manifest:
    """A copy with some values set, by dotted path."""
    changed = copy.deepcopy(manifest)
    for path, value in values.items():
        *parents, last = path.split(".")
        target: Any = changed
        for part in parents:
            target = target[int(part)] if isinstance(target, list) else target.setdefault(part, {})
        if isinstance(target, list):
            target[int(last)] = value
        else:
            target[last] = value
    return changed


def without(manifest: Manifest, path: str) -> Manifest:
    """A copy without one value."""
    changed = copy.deepcopy(manifest)
    *parents, last = path.split(".")
    target: Any = changed
    for part in parents:
        target = target[int(part)] if isinstance(target, list) else target[part]
    del target[int(last) if isinstance(target, list) else last]
    return changed


def _cases(base: Manifest, good: dict[str, dict[str, Any]], bad: dict[str, dict[str, Any]]) -> list[Case]:
    kind = base["kind"]
    return [
        Case(f"{kind}: {name}", with_values(base, values), accepted)
        for accepted, group in ((True, good), (False, bad))
        for name, values in group.items()
    ]


def _missing(base: Manifest, *paths: str) -> list[Case]:
    return [Case(f"{base['kind']}: no {path}", without(base, path), accepted=False) for path in paths]


CONNECTIONS = [
    Case("Connection: least", connection(), accepted=True),
    Case("Connection: everything", full_connection(), accepted=True),
    Case("Connection: database", database(), accepted=True),
    *_missing(connection(), "spec", "spec.url", "spec.connector", "metadata.name"),
    *_missing(full_connection(), "spec.auth.oauth2.grant", "spec.auth.oauth2.tokenURL", "spec.auth.oauth2.clientID"),
    *_missing(full_connection(), "spec.auth.oauth2.clientSecret.secretKeyRef.key", "spec.tls.caBundle.configMapKeyRef"),
    *_cases(
        connection(),
        good={
            "bearer": {"spec.auth": {"bearer": {"token": secret()}}},
            "key in a query parameter": {"spec.auth": {"apiKey": {"in": "Query", "name": "key", "value": secret()}}},
            "empty limits": {"spec.limits": {}},
            "null is not there": {"spec.tls": None, "spec.limits": {"burst": None}},
            "null takes the default": {"spec.suspend": None, "spec.retry": {"maxAttempts": None}},
            "plain http": {"spec.url": "http://crm.svc:8080/api"},
            "address of IPv6": {"spec.url": "https://[fd00::1]:8443/api"},
            "at sign in the path": {"spec.url": "https://api.example.com/users/@me"},
            "labels and annotations": {"metadata.labels": {"a": "b"}, "metadata.annotations": {"fairlead.dev/x": "y"}},
            "longest name": {"metadata.name": "a" * 253},
        },
        bad={
            "unknown field": {"spec.intervall": "1s"},
            "unknown field below": {"spec.probe": {"intervall": "1s"}},
            "unknown field at the top": {"specs": {}},
            "unknown field in metadata": {"metadata.nam": "x"},
            "upper case name": {"metadata.name": "CRM"},
            "too long a name": {"metadata.name": "a" * 254},
            "label that is no text": {"metadata.labels": {"a": 1}},
            "wrong version": {"apiVersion": "fairlead.dev/v1beta1"},
            "spec is a list": {"spec": []},
            "spec is null": {"spec": None},
            "url is a number": {"spec.url": 5},
            "url with a password": {"spec.url": "https://user:secret@api.example.com"},
            "url with a token": {"spec.url": "https://api.example.com/?access_token=abc"},
            "url with a blank": {"spec.url": "https://api.example .com"},
            "url ends with a line break": {"spec.url": "https://api.example.com\n"},
            "url with half an address": {"spec.url": "https://[::1"},
            "url with a port of letters": {"spec.url": "https://api.example.com:http"},
            "url of another scheme": {"spec.url": "ftp://api.example.com"},
            "url of a database for an API": {"spec.url": "postgresql://db/x"},
            "empty connector": {"spec.connector": ""},
            "connector with upper case": {"spec.connector": "HubSpot"},
            "no method": {"spec.auth": {}},
            "two methods": {
                "spec.auth": {
                    "bearer": {"token": secret()},
                    "basic": {"username": secret(), "password": secret()},
                }
            },
            "unknown method": {"spec.auth": {"digest": {}}},
            "a secret written out": {"spec.auth": {"bearer": {"token": "abc"}}},
            "unknown grant": {
                "spec.auth": {
                    "oauth2": {
                        "grant": "Password",
                        "tokenURL": "https://x.example.com",
                        "clientID": secret(),
                        "clientSecret": secret(),
                    }
                }
            },
            "key in a cookie": {"spec.auth": {"apiKey": {"in": "Cookie", "name": "key", "value": secret()}}},
            "header name with a colon": {"spec.auth": {"apiKey": {"in": "Header", "name": "X:", "value": secret()}}},
            "secret name with a slash": {"spec.auth": {"bearer": {"token": secret(name="a/b")}}},
            "two bundles": {
                "spec.tls": {
                    "caBundle": {
                        "configMapKeyRef": {"name": "a", "key": "b"},
                        "secretKeyRef": {"name": "a", "key": "b"},
                    }
                }
            },
            "verification off": {"spec.tls": {"insecureSkipVerify": True}},
            "no requests at all": {"spec.limits": {"requestsPerSecond": 0}},
            "burst without rate": {"spec.limits": {"burst": 3}},
            "concurrency as text": {"spec.limits": {"concurrency": "4"}},
            "concurrency with a fraction": {"spec.limits": {"concurrency": 1.5}},
            "concurrency of zero": {"spec.limits": {"concurrency": 0}},
            "concurrency true": {"spec.limits": {"concurrency": True}},
            "attempts beyond the bound": {"spec.retry": {"maxAttempts": 21}},
            "backoff without unit": {"spec.retry": {"initialBackoff": "5"}},
            "backoff as a number": {"spec.retry": {"initialBackoff": 5}},
            "backoff in days": {"spec.retry": {"maxBackoff": "1d"}},
            "initial beyond the most": {"spec.retry": {"initialBackoff": "2m"}},
            "interval below a second": {"spec.probe": {"interval": "999ms"}},
            "no time to answer": {"spec.probe": {"timeout": "0s"}},
            "suspend as text": {"spec.suspend": "true"},
        },
    ),
    *_cases(
        database(),
        good={
            "sqlite": {"spec.url": "sqlite:///demo/crm.db"},
            "sqlite absolute": {"spec.url": "sqlite:////data/crm.db"},
        },
        bad={
            "sql over http": {"spec.url": "https://db.example.com"},
            "bearer for a database": {"spec.auth": {"bearer": {"token": secret()}}},
            "user in the url": {"spec.url": "postgresql://erp@db.example.com/erp"},
            "password in the query": {"spec.url": "postgresql://db.example.com/erp?Password=x"},
            "sqlite with a host": {"spec.url": "sqlite://host/crm.db"},
            "mysql": {"spec.url": "mysql://db.example.com/erp"},
        },
    ),
]

POLICIES = [
    Case("SyncPolicy: least", policy(), accepted=True),
    Case("SyncPolicy: everything", full_policy(), accepted=True),
    *_missing(
        policy(), "spec.entity", "spec.schema", "spec.match", "spec.systems", "spec.systemOfRecord", "spec.systems.1"
    ),
    *_missing(policy(), "spec.systems.0.name", "spec.systems.0.connection", "spec.systems.0.object"),
    *_missing(policy(), "spec.systems.0.fields", "spec.match.0.fields"),
    *_cases(
        policy(),
        good={
            "no match rules": {"spec.match": []},
            "anything in the schema": {"spec.schema": {"x": [1, None, {"y": True}]}},
            "anything as a mapping": {"spec.systems.0.fields.name": 5},
            "one system only reads": {"spec.systems.0.access": "ReadOnly"},
            "one system is only written": {"spec.systems.1.access": "WriteOnly"},
            "longest name": {"metadata.name": "a" * 52},
            "several workers on a shared state": {
                "spec.worker": {"replicas": 16},
                "spec.state": {"store": "Postgres", "connection": "state"},
            },
            "resources as numbers": {"spec.worker": {"resources": {"limits": {"cpu": 2, "memory": 268435456}}}},
            "combined duration": {"spec.staleAfter": "1h0.5m3s"},
            "merge": {"spec.onConflict": "Merge", "spec.fields": {"name": {"merge": "Delta"}}},
            "expression of the policy": {"spec.onConflict": "Expression", "spec.onConflictExpression": "base"},
            "field with the policy's expression": {
                "spec.onConflictExpression": "base",
                "spec.fields": {"name": {"onConflict": "Expression"}},
            },
            "owner that depends on the record": {
                "spec.fields": {"name": {"systemOfRecordWhen": {"when": "record.email != ''", "then": "erp"}}}
            },
            "reference": {"spec.fields": {"name": {"references": "people"}}},
            "archiving where deletes arrive": {
                "spec.deletes": {"action": "Archive"},
                "spec.systems.1.archive": {"set": {"status": "archived"}},
            },
            "archiving where nothing is deleted": {"spec.deletes": {"action": "Archive", "propagate": "Never"}},
            "a first meeting that is reviewed": {"spec.firstSync": "Review"},
            "state on PostgreSQL": {"spec.state": {"store": "Postgres", "connection": "state"}},
        },
        bad={
            "unknown field": {"spec.sytems": []},
            "unknown field of a system": {"spec.systems.0.acess": "ReadOnly"},
            "name too long": {"metadata.name": "a" * 53},
            "one system": {"spec.systems": [policy()["spec"]["systems"][0]]},
            "same name twice": {"spec.systems.1.name": "crm"},
            "system name with upper case": {"spec.systems.1.name": "ERP"},
            "unknown system of record": {"spec.systemOfRecord": "crn"},
            "system of record is only written": {"spec.systems.0.access": "WriteOnly"},
            "nothing may be written": {"spec.systems.0.access": "ReadOnly", "spec.systems.1.access": "ReadOnly"},
            "unknown access": {"spec.systems.0.access": "readwrite"},
            "unknown system in priority": {"spec.priority": ["crm", "erb"]},
            "system twice in priority": {"spec.priority": ["crm", "crm"]},
            "unknown system of a field": {"spec.fields": {"name": {"systemOfRecord": "x"}}},
            "unknown system in a field's priority": {"spec.fields": {"name": {"priority": ["x"]}}},
            "empty rules of a field": {"spec.fields": {"name": {}}},
            "empty reference": {"spec.fields": {"name": {"references": ""}}},
            "reference that is no name": {"spec.fields": {"name": {"references": {"name": "people"}}}},
            "empty priority of a field": {"spec.fields": {"name": {"priority": []}}},
            "conflict rule of a later version": {"spec.onConflict": "Guess"},
            "expression without its CEL": {"spec.onConflict": "Expression"},
            "expression of a field without its CEL": {"spec.fields": {"name": {"onConflict": "Expression"}}},
            "empty expression": {"spec.onConflict": "Expression", "spec.onConflictExpression": ""},
            "unknown merge": {"spec.fields": {"name": {"onConflict": "Merge", "merge": "Sum"}}},
            "two owners of a field": {
                "spec.fields": {
                    "name": {"systemOfRecord": "erp", "systemOfRecordWhen": {"when": "true", "then": "erp"}}
                }
            },
            "unknown owner where it holds": {
                "spec.fields": {"name": {"systemOfRecordWhen": {"when": "true", "then": "x"}}}
            },
            "unknown owner elsewhere": {
                "spec.fields": {"name": {"systemOfRecordWhen": {"when": "true", "then": "erp", "otherwise": "x"}}}
            },
            "owner without a condition": {"spec.fields": {"name": {"systemOfRecordWhen": {"then": "erp"}}}},
            "no mapping": {"spec.systems.0.fields": {}},
            "null as a mapping": {"spec.systems.0.fields": None},
            "mapping is a list": {"spec.systems.0.fields": ["email"]},
            "schema as text": {"spec.schema": "object"},
            "match field twice": {"spec.match": [{"fields": ["email", "email"]}]},
            "match without fields": {"spec.match": [{"fields": []}]},
            "unknown step": {"spec.match": [{"fields": ["email"], "normalize": ["Uppercase"]}]},
            "null in a list": {"spec.priority": [None]},
            "empty filter": {"spec.systems.0.filter": ""},
            "entity with blanks": {"spec.entity": "my customer"},
            "interval below a second": {"spec.trigger": {"interval": "0.5s"}},
            "interval is a number": {"spec.trigger": {"interval": 30}},
            "schedule of four parts": {"spec.trigger": {"resyncSchedule": "0 3 * *"}},
            "empty schedule": {"spec.trigger": {"resyncSchedule": ""}},
            "stale at once": {"spec.staleAfter": "0s"},
            "archiving without saying how": {"spec.deletes": {"action": "Archive"}},
            "archiving from any without saying how": {
                "spec.deletes": {"action": "Archive", "propagate": "FromAny"},
                "spec.systems.1.archive": {"set": {"status": "archived"}},
            },
            "archiving what left without saying how": {"spec.systems.0.onLeave": "Archive"},
            "archive that sets nothing": {"spec.systems.0.archive": {"set": {}}},
            "unknown action": {"spec.deletes": {"action": "Purge"}},
            "negative guard": {"spec.deletes": {"guard": {"maxRecords": -1}}},
            "guard beyond all": {"spec.deletes": {"guard": {"maxPercent": 101}}},
            "unknown mode": {"spec.mode": "DryRun"},
            "size without unit": {"spec.state": {"size": "10"}},
            "retention of a minute": {"spec.state": {"retention": "1m"}},
            "no retention": {"spec.state": {"retention": "0d"}},
            "encryption key in the open": {"spec.state": {"encryptionKey": "secret"}},
            "unknown store": {"spec.state": {"store": "MySQL"}},
            "Postgres without a Connection": {"spec.state": {"store": "Postgres"}},
            "a Connection without Postgres": {"spec.state": {"connection": "state"}},
            "Postgres with a volume": {"spec.state": {"store": "Postgres", "connection": "state", "size": "1Gi"}},
            "Postgres with a storage class": {
                "spec.state": {"store": "Postgres", "connection": "state", "storageClassName": "fast"}
            },
            "several workers on a file": {"spec.worker": {"replicas": 2}, "spec.state": {"size": "1Gi"}},
            "no worker": {"spec.worker": {"replicas": 0}},
            "too many workers": {
                "spec.worker": {"replicas": 17},
                "spec.state": {"store": "Postgres", "connection": "state"},
            },
            "resources of another kind": {"spec.worker": {"resources": {"limits": {"gpu": 1}}}},
            "cpu that is no quantity": {"spec.worker": {"resources": {"limits": {"cpu": "much"}}}},
            "field of a later version": {"spec.trigger": {"webhooks": True}},
        },
    ),
]

CONNECTORS = [
    Case("Connector: least", connector(), accepted=True),
    Case("Connector: everything", full_connector(), accepted=True),
    *_missing(connector(), "spec.probe", "spec.objects", "spec.objects.0.read", "spec.objects.0.read.list"),
    *_cases(
        connector(),
        good={
            "any object": {"spec.objects.0.name": "*"},
            "numbered pages": {"spec.objects.0.read.list.paginate": {"type": "Page", "param": "page", "first": 0}},
        },
        bad={
            "no objects": {"spec.objects": []},
            "same object twice": {"spec.objects": connector()["spec"]["objects"] * 2},
            "path without slash": {"spec.probe.path": "me"},
            "query in a path": {"spec.objects.0.read.list.path": "/contacts?x=1"},
            "unknown paging": {"spec.objects.0.read.list.paginate": {"type": "Token"}},
            "cursor without next": {"spec.objects.0.read.list.paginate": {"type": "Cursor", "param": "after"}},
            "page without param": {"spec.objects.0.read.list.paginate": {"type": "Page"}},
            "secret header": {"spec.headers": {"Authorization": "Bearer x"}},
            "header with a line break": {"spec.headers": {"X-A": "a\r\nB: c"}},
            "error rule without condition": {"spec.errors": [{"class": "Gone"}]},
            "unknown error class": {"spec.errors": [{"status": 400, "class": "Bad"}]},
            "unknown method": {"spec.objects.0.write": {"create": {"method": "SEND", "path": "/x"}}},
            "namespace is no place for it": {"spec.namespace": "x"},
        },
    ),
]

CASES = [*CONNECTIONS, *POLICIES, *CONNECTORS]
