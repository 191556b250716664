"""The kinds of objects that the control plane reads and writes, and where the API server keeps them."""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

Object: TypeAlias = "dict[str, Any]"
"""A Kubernetes object as JSON has it."""


class Kind(msgspec.Struct, frozen=True):
    """One kind: its API version, its name and the plural that its URLs carry."""

    api_version: str
    name: str
    plural: str
    namespaced: bool = True

    @property
    def group(self) -> str:
        """The API group; empty for the core group."""
        return self.api_version.rpartition("/")[0]

    def path(self, namespace: str | None, name: str | None = None, subresource: str | None = None) -> str:
        """The URL path of a collection, an object or a subresource; `namespace` None means all of them."""
        root = f"/apis/{self.api_version}" if self.group else f"/api/{self.api_version}"
        scope = f"/namespaces/{namespace}" if namespace and self.namespaced else ""
        return "/".join(part for part in (f"{root}{scope}/{self.plural}", name, subresource) if part)


CONNECTION = Kind("fairlead.dev/v1alpha1", "Connection", "connections")
CONNECTOR = Kind("fairlead.dev/v1alpha1", "Connector", "connectors", namespaced=False)
SYNC_POLICY = Kind("fairlead.dev/v1alpha1", "SyncPolicy", "syncpolicies")

CONFIG_MAP = Kind("v1", "ConfigMap", "configmaps")
DEPLOYMENT = Kind("apps/v1", "Deployment", "deployments")
PERSISTENT_VOLUME_CLAIM = Kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
ROLE = Kind("rbac.authorization.k8s.io/v1", "Role", "roles")
ROLE_BINDING = Kind("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings")
SECRET = Kind("v1", "Secret", "secrets")
SERVICE_ACCOUNT = Kind("v1", "ServiceAccount", "serviceaccounts")

EVENT = Kind("events.k8s.io/v1", "Event", "events")
LEASE = Kind("coordination.k8s.io/v1", "Lease", "leases")
CUSTOM_RESOURCE_DEFINITION = Kind(
    "apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions", namespaced=False
)
