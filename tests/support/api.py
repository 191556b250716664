"""The API server as an administrator, a GitOps tool and a worker see it, without a process for every request."""

import base64
import ssl
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import httpx
import msgspec
import yaml

from fairlead.kube.kinds import EVENT, Kind
from support.cluster import Cluster

T = TypeVar("T")
Manifest = dict[str, Any]

GITOPS = "gitops"
"""Field manager of what people declare."""

PATIENCE = 20.0
"""Seconds after which something that should have happened has not."""


def eventually(read: Callable[[], T], expected: T, seconds: float = PATIENCE) -> None:
    """Waits until what is read is what is expected; fails with the difference when that does not come."""
    deadline = time.monotonic() + seconds
    while (found := read()) != expected and time.monotonic() < deadline:
        time.sleep(0.05)
    assert expected == found, f"expected {expected!r}, found {found!r}"


def once(read: Callable[[], T], seconds: float = PATIENCE) -> T:
    """Waits until something that is not empty is read, and returns it."""
    deadline = time.monotonic() + seconds
    while not (found := read()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert found, "it did not come"
    return found


class Api:
    """Requests to an API server, as its administrator."""

    def __init__(self, cluster: Cluster, url: str = "") -> None:
        config = yaml.safe_load(cluster.kubeconfig.read_text())
        server, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self.url: str = server["server"]
        self.authority = base64.b64decode(server["certificate-authority-data"]).decode()
        self._client = httpx.Client(
            base_url=url or self.url,
            verify=ssl.create_default_context(cadata=self.authority),
            headers={"Authorization": f"Bearer {user['token']}"},
            timeout=30,
            trust_env=False,
        )

    def close(self) -> None:
        """Closes the connection."""
        self._client.close()

    def get(self, kind: Kind, namespace: str, name: str) -> Manifest:
        """One object; empty when there is none."""
        answer = self._client.get(kind.path(namespace, name))
        return {} if answer.status_code == 404 else _content(answer)

    def all(self, kind: Kind, namespace: str | None = None) -> list[Manifest]:
        """The objects of a namespace, or of all."""
        items: list[Manifest] = _content(self._client.get(kind.path(namespace)))["items"]
        return items

    def apply(self, kind: Kind, namespace: str, *manifests: Manifest) -> None:
        """Declares objects in a namespace, as a GitOps tool does."""
        for manifest in manifests:
            metadata = {**manifest["metadata"], "namespace": namespace}
            body = {"apiVersion": kind.api_version, "kind": kind.name, **manifest, "metadata": metadata}
            self._apply(kind.path(namespace, metadata["name"]), body, GITOPS)

    def apply_status(self, kind: Kind, namespace: str, name: str, status: Manifest, manager: str) -> None:
        """Declares a part of the status."""
        metadata = {"name": name, "namespace": namespace}
        body = {"apiVersion": kind.api_version, "kind": kind.name, "metadata": metadata, "status": status}
        self._apply(kind.path(namespace, name, "status"), body, manager)

    def edit(
        self, kind: Kind, namespace: str, name: str, patch: Manifest, manager: str = "somebody", part: str | None = None
    ) -> Manifest:
        """Merges something into an object or its `part`: a person at work."""
        return _content(
            self._client.patch(
                kind.path(namespace, name, part),
                params={"fieldManager": manager},
                content=msgspec.json.encode(patch),
                headers={"Content-Type": "application/merge-patch+json"},
            )
        )

    def annotate(self, kind: Kind, namespace: str, name: str, **annotations: str | None) -> None:
        """Sets Fairlead's annotations; `requested_at="1"` is `fairlead.dev/requested-at: "1"`."""
        named = {f"fairlead.dev/{key.replace('_', '-')}": value for key, value in annotations.items()}
        self.edit(kind, namespace, name, {"metadata": {"annotations": named}}, GITOPS)

    def create(self, kind: Kind, namespace: str, manifest: Manifest) -> Manifest:
        """Creates an object."""
        body = {"apiVersion": kind.api_version, "kind": kind.name, **manifest}
        return _content(self._client.post(kind.path(namespace), json=body))

    def delete(self, kind: Kind, namespace: str, name: str) -> None:
        """Deletes an object, and in the background what it owns."""
        _content(self._client.delete(kind.path(namespace, name)))

    def events(self, namespace: str, name: str, reason: str = "") -> list[tuple[str, str, str]]:
        """(type, reason, note) of what was told about an object, oldest first."""
        found = [each for each in self.all(EVENT, namespace) if each["regarding"]["name"] == name]
        found.sort(key=lambda each: str(each["eventTime"]))
        return [(e["type"], e["reason"], e["note"]) for e in found if reason in ("", e["reason"])]

    def rules(self, user: str, namespace: str) -> list[Manifest]:
        """What a user may do in a namespace."""
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectRulesReview",
            "spec": {"namespace": namespace},
        }
        headers = {"Impersonate-User": user, "Impersonate-Group": "system:serviceaccounts"}
        path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
        rules: list[Manifest] = _content(self._client.post(path, json=body, headers=headers))["status"]["resourceRules"]
        return rules

    def _apply(self, path: str, body: Manifest, manager: str) -> None:
        answer = self._client.patch(
            path,
            params={"fieldManager": manager, "force": "true"},
            content=msgspec.json.encode(body),
            headers={"Content-Type": "application/apply-patch+yaml"},
        )
        _content(answer)


def condition(found: Manifest, kind: str) -> Manifest:
    """A condition of an object; empty when it does not have it."""
    conditions: Iterable[Manifest] = found.get("status", {}).get("conditions", ())
    return next((each for each in conditions if each["type"] == kind), {})


def verdict(found: Manifest, kind: str = "Ready") -> tuple[str, str]:
    """Status and reason of a condition; empty texts when the object does not have it."""
    held = condition(found, kind)
    return held.get("status", ""), held.get("reason", "")


def _content(answer: httpx.Response) -> Manifest:
    assert answer.is_success, answer.text
    content: Manifest = answer.json()
    return content
