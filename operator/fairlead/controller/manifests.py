"""What runs one policy, as Kubernetes objects. Pure: the same input gives the same manifests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Any, Literal

import msgspec
import orjson
import yaml

from fairlead.controller.levers import levers
from fairlead.kube.kinds import (
    CONFIG_MAP,
    CONNECTION,
    CONNECTOR,
    DEPLOYMENT,
    PERSISTENT_VOLUME_CLAIM,
    ROLE,
    ROLE_BINDING,
    SERVICE_ACCOUNT,
    SYNC_POLICY,
    Kind,
    Object,
)
from fairlead.model.common import KeyRef, Metadata, Resource
from fairlead.model.connection import Connection, Limits
from fairlead.model.connector import Connector
from fairlead.model.syncpolicy import StateStore, SyncPolicy

SUFFIX = "-fairlead"
"""Everything that runs policy `customers` is named `customers-fairlead`."""

MANAGED_BY = {"app.kubernetes.io/managed-by": "fairlead-operator", "app.kubernetes.io/component": "worker"}
"""Labels by which the operator finds what it owns."""

POLICY_LABEL = "fairlead.dev/policy"
CONFIG_HASH = "fairlead.dev/config-hash"
CONFIG_DIRECTORY = "/etc/fairlead/config"
SECRETS_DIRECTORY = "/etc/fairlead/secrets"
STATE_DIRECTORY = "/var/lib/fairlead"
COMMANDS = {
    "FAIRLEAD_CONFIG": CONFIG_DIRECTORY,
    "FAIRLEAD_SECRETS": SECRETS_DIRECTORY,
    "FAIRLEAD_STATE": STATE_DIRECTORY,
}
"""Environment by which `kubectl exec … -- fairlead conflicts list` needs no arguments (`cli.place`)."""

VOLUME_SIZE = "1Gi"
PORT = 8080
USER = 65532
"""User and group of the container: nobody in particular, never root."""

GRACE_PERIOD = 60
"""Seconds that a worker gets to finish the batch it is writing."""


class WorkerImage(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """What the operator was installed with for its workers.

    Attributes:
        image: the container image; its entry point is the `fairlead` command.
        pull_policy: when a node pulls the image.
        pull_secrets: names of Secrets for the registry, in each policy's namespace.
        resources: requests and limits of a worker that does not declare its own.
    """

    image: str
    pull_policy: Literal["IfNotPresent", "Always", "Never"] = "IfNotPresent"
    pull_secrets: tuple[str, ...] = ()
    resources: dict[str, dict[str, int | str]] = msgspec.field(
        default_factory=lambda: {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}}
    )


class Inputs(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the manifests of one policy follow from.

    Attributes:
        policy: the policy.
        connections: those that it uses, each once, with limits already divided (see `shared_limits`).
        connectors: the Connector resources that those Connections name.
        running: False scales the worker to none.
        worker: the operator's settings for workers.
    """

    policy: SyncPolicy
    connections: Sequence[Connection]
    connectors: Sequence[Connector]
    running: bool
    worker: WorkerImage


def render(inputs: Inputs) -> list[tuple[Kind, Object]]:
    """The objects in the order in which they are to be applied: what a pod needs comes before the Deployment."""
    return [
        (SERVICE_ACCOUNT, _service_account(inputs)),
        (ROLE, _role(inputs)),
        (ROLE_BINDING, _role_binding(inputs)),
        *([(PERSISTENT_VOLUME_CLAIM, _volume_claim(inputs))] if _on_volume(inputs) else []),
        (CONFIG_MAP, _config_map(inputs)),
        (DEPLOYMENT, _deployment(inputs)),
    ]


def owned_name(policy: str) -> str:
    """The name of everything that runs `policy`."""
    return policy + SUFFIX


def shared_limits(limits: Limits, users: int, replicas: int = 1) -> Limits:
    """One worker's part of a Connection's request budget, so that all workers together keep it.

    A connection pool cannot be divided below what a worker needs to run, so `concurrency` is divided only among the
    workers of one policy, which are refused when there are too many for it (`model.checks.remembering`).

    Args:
        limits: of the Connection.
        users: workers that use it, of all policies.
        replicas: those of this policy.
    """
    limits = msgspec.structs.replace(limits, concurrency=max(1, limits.concurrency // replicas))
    if limits.requests_per_second is None or users <= 1:
        return limits
    burst = None if limits.burst is None else max(1, limits.burst // users)
    return msgspec.structs.replace(limits, requests_per_second=limits.requests_per_second / users, burst=burst)


def config_hash(inputs: Inputs) -> str:
    """Changes exactly when a running worker must be replaced.

    Levers and the rates of requests are read again while the worker runs; `suspend` scales; the rest needs a new start.
    So does another number of workers: none may begin while one is left that has a greater part of the budgets.
    """
    policy = msgspec.to_builtins(inputs.policy.spec)
    policy.pop("suspend", None)
    connections = [
        {**_connection_spec(each), "limits": each.spec.limits.concurrency} for each in _sorted(inputs.connections)
    ]
    connectors = [msgspec.to_builtins(each.spec) for each in _sorted(inputs.connectors)]
    return digest([policy, connections, connectors])


def digest(value: Any) -> str:
    """A short name for a JSON value; equal values have equal names."""
    return blake2b(orjson.dumps(value, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()


def _metadata(inputs: Inputs) -> Object:
    policy = inputs.policy.metadata
    owner = {
        "apiVersion": SYNC_POLICY.api_version,
        "kind": SYNC_POLICY.name,
        "name": policy.name,
        "uid": policy.uid,
        "controller": True,
    }
    return {
        "name": owned_name(policy.name),
        "namespace": policy.namespace,
        "labels": _labels(policy.name),
        "ownerReferences": [owner],
    }


def _labels(policy: str) -> dict[str, str]:
    return {
        "app.kubernetes.io/name": "fairlead",
        "app.kubernetes.io/instance": policy,
        **MANAGED_BY,
        POLICY_LABEL: policy,
    }


def _object(kind: Kind, inputs: Inputs, **content: Any) -> Object:
    return {"apiVersion": kind.api_version, "kind": kind.name, "metadata": _metadata(inputs), **content}


def _service_account(inputs: Inputs) -> Object:
    return _object(SERVICE_ACCOUNT, inputs, automountServiceAccountToken=False)


def _role(inputs: Inputs) -> Object:
    def rule(resource: str, verb: str) -> Object:
        name = inputs.policy.metadata.name
        return {"apiGroups": [SYNC_POLICY.group], "resources": [resource], "resourceNames": [name], "verbs": [verb]}

    return _object(ROLE, inputs, rules=[rule("syncpolicies", "get"), rule("syncpolicies/status", "patch")])


def _role_binding(inputs: Inputs) -> Object:
    name, namespace = owned_name(inputs.policy.metadata.name), inputs.policy.metadata.namespace
    return _object(
        ROLE_BINDING,
        inputs,
        roleRef={"apiGroup": ROLE.group, "kind": ROLE.name, "name": name},
        subjects=[{"kind": SERVICE_ACCOUNT.name, "name": name, "namespace": namespace}],
    )


def _on_volume(inputs: Inputs) -> bool:
    """Whether the state needs a volume. One that is there stays when the state moves to a database."""
    return inputs.policy.spec.state.store is StateStore.SQLITE


def _volume_claim(inputs: Inputs) -> Object:
    state = inputs.policy.spec.state
    storage = {"storage": state.size or VOLUME_SIZE}
    spec: Object = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": storage}}
    if state.storage_class_name is not None:
        spec["storageClassName"] = state.storage_class_name
    return _object(PERSISTENT_VOLUME_CLAIM, inputs, spec=spec)


def _config_map(inputs: Inputs) -> Object:
    connections = _sorted(inputs.connections)
    data = {
        "policy.yaml": _yaml([_document(SYNC_POLICY, inputs.policy, msgspec.to_builtins(inputs.policy.spec))]),
        "connections.yaml": _yaml(_document(CONNECTION, each, _connection_spec(each)) for each in connections),
        "connectors.yaml": _yaml(
            _document(CONNECTOR, each, msgspec.to_builtins(each.spec)) for each in _sorted(inputs.connectors)
        ),
    }
    return _object(CONFIG_MAP, inputs, data=data)


def _connection_spec(connection: Connection) -> Object:
    """What a worker needs of a Connection; how often the operator probes it is none of its business."""
    spec: Object = msgspec.to_builtins(connection.spec)
    del spec["probe"], spec["suspend"]
    return spec


def _document(kind: Kind, resource: Resource, spec: Object) -> Object:
    metadata: Metadata = resource.metadata
    named: Object = {"name": metadata.name, "generation": metadata.generation, "uid": metadata.uid}
    if kind.namespaced:
        named["namespace"] = metadata.namespace
    if kind is SYNC_POLICY:
        named["annotations"] = levers(metadata.annotations)
    return {"apiVersion": kind.api_version, "kind": kind.name, "metadata": named, "spec": _without_none(spec)}


def _without_none(value: Any) -> Any:
    """A field that is absent, rather than null: the schema of the resources knows no null."""
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return [_without_none(item) for item in value] if isinstance(value, list | tuple) else value


def _yaml(documents: Iterable[Object]) -> str:
    return yaml.dump_all(documents, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True, width=120)


def _deployment(inputs: Inputs) -> Object:
    policy = inputs.policy.metadata
    template = {
        "metadata": {"labels": _labels(policy.name), "annotations": {CONFIG_HASH: config_hash(inputs)}},
        "spec": _pod(inputs),
    }
    spec = {
        "replicas": inputs.policy.workers if inputs.running else 0,
        "revisionHistoryLimit": 2,
        "progressDeadlineSeconds": 300,
        "strategy": {"type": "Recreate"},
        "selector": {"matchLabels": _selector(inputs)},
        "template": template,
    }
    return _object(DEPLOYMENT, inputs, spec=spec)


def _pod(inputs: Inputs) -> Object:
    name = owned_name(inputs.policy.metadata.name)
    pod: Object = {
        "serviceAccountName": name,
        "automountServiceAccountToken": True,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_PERIOD,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(inputs)],
        "volumes": _volumes(inputs, name),
    }
    if inputs.policy.workers > 1:
        pod["topologySpreadConstraints"] = [_spread(inputs)]
    if inputs.worker.pull_secrets:
        pod["imagePullSecrets"] = [{"name": each} for each in inputs.worker.pull_secrets]
    return pod


def _spread(inputs: Inputs) -> Object:
    """Workers on several machines where there are several: else they would share one's power, and its end."""
    return {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": _selector(inputs)},
    }


def _selector(inputs: Inputs) -> dict[str, str]:
    return {POLICY_LABEL: inputs.policy.metadata.name, "app.kubernetes.io/component": "worker"}


def _container(inputs: Inputs) -> Object:
    """The worker. Its pod is ready when the process works; how the policy is doing stands in the policy's status.

    A long first run, a system that is down and a tripped guard are no faults of the worker, and a pod that were not
    ready would hide them.
    """
    directories = ["--config", CONFIG_DIRECTORY, "--secrets", SECRETS_DIRECTORY, "--state", STATE_DIRECTORY]
    return {
        "name": "worker",
        "image": inputs.worker.image,
        "imagePullPolicy": inputs.worker.pull_policy,
        "args": ["worker", *directories],
        "env": [
            _downward("POD_NAMESPACE", "metadata.namespace"),
            _downward("POD_NAME", "metadata.name"),
            *({"name": name, "value": value} for name, value in COMMANDS.items()),
        ],
        "ports": [{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
        "startupProbe": _http_probe("/healthz", periodSeconds=2, failureThreshold=60),
        "livenessProbe": _http_probe("/healthz", periodSeconds=20, failureThreshold=3),
        "readinessProbe": _http_probe("/healthz", periodSeconds=5, failureThreshold=3),
        "resources": {**inputs.worker.resources, **inputs.policy.spec.worker.resources},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [
            {"name": "config", "mountPath": CONFIG_DIRECTORY, "readOnly": True},
            {"name": "secrets", "mountPath": SECRETS_DIRECTORY, "readOnly": True},
            *([{"name": "state", "mountPath": STATE_DIRECTORY}] if _on_volume(inputs) else []),
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - a path inside the container
        ],
    }


def _downward(name: str, path: str) -> Object:
    return {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}


def _http_probe(path: str, **timing: int) -> Object:
    return {"httpGet": {"path": path, "port": "http"}, "timeoutSeconds": 5, **timing}


def _volumes(inputs: Inputs, name: str) -> list[Object]:
    return [
        {"name": "config", "configMap": {"name": name}},
        {"name": "secrets", "projected": {"defaultMode": 0o440, "sources": _secret_sources(inputs)}},
        *([{"name": "state", "persistentVolumeClaim": {"claimName": name}}] if _on_volume(inputs) else []),
        {"name": "tmp", "emptyDir": {"sizeLimit": "256Mi"}},
    ]


def _secret_sources(inputs: Inputs) -> list[Object]:
    """Exactly the keys that are named, each as `<name>/<key>`.

    A Secret that is missing does not keep the pod from starting: the worker says so where people look, and sees it
    when it comes.
    """
    secrets = {*inputs.policy.secret_refs(), *(ref for each in inputs.connections for ref in each.secret_refs())}
    bundles = {ref for each in inputs.connections for ref in ca_config_maps(each)}
    return [*_projected("secret", secrets), *_projected("configMap", bundles)]


def _projected(source: str, refs: set[KeyRef]) -> list[Object]:
    names = sorted({ref.name for ref in refs})
    return [
        {
            source: {
                "name": name,
                "optional": True,
                "items": [
                    {"key": key, "path": f"{name}/{key}"} for key in sorted(ref.key for ref in refs if ref.name == name)
                ],
            }
        }
        for name in names
    ]


def ca_config_maps(connection: Connection) -> tuple[KeyRef, ...]:
    """The ConfigMap key that holds the Connection's CA bundle, if it is in one."""
    tls = connection.spec.tls
    ref = tls.ca_bundle.config_map_key_ref if tls and tls.ca_bundle else None
    return (ref,) if ref else ()


def _sorted(resources: Iterable[Any]) -> list[Any]:
    return sorted(resources, key=lambda each: str(each.metadata.name))
