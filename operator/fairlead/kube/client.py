"""The control plane's client of the API server: few verbs, plain dictionaries, every call with a timeout."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import orjson
import yaml
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

from fairlead.kube.failure import ApiFailure, from_answer
from fairlead.kube.kinds import Kind, Object

MANAGER = "fairlead-operator"
"""Field manager of everything that the operator concluded or rendered."""

_TIMEOUT = 20.0
_PAGE = "500"
_MEDIA = {"PATCH": "application/apply-patch+yaml"}


async def load_configuration() -> Configuration:
    """How to reach the API server: the pod's ServiceAccount, else `KUBECONFIG` or `~/.kube/config`.

    Raises:
        ApiFailure: neither says how.
    """
    configuration = Configuration()
    try:
        if os.environ.get("KUBERNETES_SERVICE_HOST") and not os.environ.get("KUBECONFIG"):
            load_incluster_config(client_configuration=configuration)
        else:
            await load_kube_config(client_configuration=configuration, persist_config=False)
    except (ConfigException, yaml.YAMLError, OSError) as error:
        message = f"{error}; let KUBECONFIG name the kubeconfig of a cluster"
        raise ApiFailure("find the cluster", 0, "", message) from error
    return configuration


class Kube:
    """Reads and writes objects by server-side apply. Safe to share between tasks.

    Every method raises `ApiFailure` when the server refuses or does not answer in time.

    Args:
        configuration: how to reach the server.
        timeout: of each request, in seconds.
        notice: is shown every object that `get` and `apply` return.
    """

    def __init__(
        self,
        configuration: Configuration,
        timeout: float = _TIMEOUT,
        notice: Callable[[Kind, Object], None] | None = None,
    ) -> None:
        self._client = ApiClient(configuration)
        self._timeout = timeout
        self._notice = notice or (lambda _kind, _found: None)

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Object | None:
        """The object, or None when there is none."""
        try:
            found = await self._send("GET", kind.path(namespace, name), f"get {kind.name} {_named(namespace, name)}")
        except ApiFailure as failure:
            if failure.status == 404:
                return None
            raise
        self._notice(kind, found)
        return found

    async def list_all(self, kind: Kind, namespace: str | None, labels: str = "") -> AsyncIterator[Object]:
        """Every object of a namespace (None: of all), read in pages."""
        query = {"limit": _PAGE, **({"labelSelector": labels} if labels else {})}
        while True:
            page = await self._send("GET", kind.path(namespace), f"list {kind.name}", query=query)
            for item in page["items"]:
                yield {"apiVersion": kind.api_version, "kind": kind.name, **item}  # a list says it once for all
            query["continue"] = page["metadata"].get("continue", "")
            if not query["continue"]:
                return

    async def apply(self, kind: Kind, manifest: Object, *, force: bool, subresource: str | None = None) -> Object:
        """Server-side apply: what this manager says is set, what it said before and omits now is removed.

        Args:
            kind: the manifest's kind.
            manifest: name, namespace and the fields to own.
            force: take fields over that another manager owns; without it such a field is a failure with status 409.
            subresource: `status`, or None for the object itself.

        Returns:
            The object as it is now.
        """
        namespace, name = manifest["metadata"].get("namespace"), manifest["metadata"]["name"]
        found = await self._send(
            "PATCH",
            kind.path(namespace, name, subresource),
            f"apply {kind.name} {_named(namespace, name)}",
            query={"fieldManager": MANAGER, "force": str(force).lower()},
            body=manifest,
        )
        self._notice(kind, found)
        return found

    async def apply_status(self, kind: Kind, namespace: str, name: str, status: Object) -> None:
        """Makes `status` the whole of what this manager says about an object."""
        metadata = {"name": name, "namespace": namespace}
        body = {"apiVersion": kind.api_version, "kind": kind.name, "metadata": metadata, "status": status}
        await self.apply(kind, body, force=True, subresource="status")

    async def create(self, kind: Kind, manifest: Object) -> Object:
        """Creates an object that must not exist yet (status 409 if it does)."""
        namespace, name = manifest["metadata"].get("namespace"), manifest["metadata"].get("name", "")
        action = f"create {kind.name} {_named(namespace, name)}"
        return await self._send("POST", kind.path(namespace), action, body=manifest)

    async def replace(self, kind: Kind, manifest: Object) -> Object:
        """Writes an object unless it changed since it was read (status 409): its resourceVersion is compared."""
        namespace, name = manifest["metadata"].get("namespace"), manifest["metadata"]["name"]
        action = f"replace {kind.name} {_named(namespace, name)}"
        return await self._send("PUT", kind.path(namespace, name), action, body=manifest)

    async def delete(self, kind: Kind, namespace: str | None, name: str, *, uid: str) -> None:
        """Deletes the object with this uid (status 409 for another one of its name); one that is gone is as good."""
        action = f"delete {kind.name} {_named(namespace, name)}"
        try:
            await self._send("DELETE", kind.path(namespace, name), action, body={"preconditions": {"uid": uid}})
        except ApiFailure as failure:
            if failure.status != 404:
                raise

    async def close(self) -> None:
        """Closes the connections to the API server."""
        await self._client.close()

    async def _send(
        self, method: str, path: str, action: str, *, query: dict[str, str] | None = None, body: Object | None = None
    ) -> Object:
        """One request. Raises ApiFailure with status 0 when no answer comes in time."""
        try:
            async with asyncio.timeout(self._timeout):
                status, headers, content = await self._exchange(method, path, query, body)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise ApiFailure(action, 0, "", f"the API server did not answer ({type(error).__name__})") from error
        if status >= 400:
            raise from_answer(action, status, content, headers.get("Retry-After"))
        answer: Object = orjson.loads(content)
        return answer

    async def _exchange(
        self, method: str, path: str, query: dict[str, str] | None, body: Object | None
    ) -> tuple[int, Any, bytes]:
        request = await self._client.param_serialize(
            method,
            path,
            query_params=list(query.items()) if query else None,
            header_params={"Accept": "application/json", "Content-Type": _MEDIA.get(method, "application/json")},
            body=body,
            auth_settings=["BearerToken"],
        )
        answer = await self._client.call_api(*request, _request_timeout=self._timeout)
        return answer.status, answer.headers, await answer.read()


def _named(namespace: str | None, name: str) -> str:
    return f"{namespace}/{name}" if namespace else name
