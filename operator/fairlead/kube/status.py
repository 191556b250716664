"""A worker's only words to the API server: its own policy's status and levers.

Plain httpx on purpose: the kubernetes package takes 44 MB of memory, more than the rest of an idle worker.
"""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import Any

import httpx
import orjson

from fairlead.kube.failure import ApiFailure, from_answer

MANAGER = "fairlead-worker"
"""Field manager of everything that a worker measured."""

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where Kubernetes mounts a pod's token and the cluster's CA."""

_TIMEOUT = httpx.Timeout(10.0)
_LEVERS = "fairlead.dev/"


class StatusWriter:
    """Applies a SyncPolicy's measured status, and reads its levers, as the pod's ServiceAccount.

    Args:
        server: the API server's URL.
        directory: holds `token` and `ca.crt`. The token is read for every request, so its rotation goes unnoticed.
    """

    def __init__(self, server: str, directory: Path = SERVICE_ACCOUNT) -> None:
        self._token = directory / "token"
        context = ssl.create_default_context(cafile=str(directory / "ca.crt"))
        self._client = httpx.AsyncClient(base_url=server, verify=context, timeout=_TIMEOUT, trust_env=False)

    @classmethod
    def in_cluster(cls) -> StatusWriter | None:
        """The writer of this pod; None outside a cluster, where nobody reads a status."""
        host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
        if not host or not (SERVICE_ACCOUNT / "token").is_file():
            return None
        return cls(f"https://{f'[{host}]' if ':' in host else host}:{port}")

    async def apply(self, policy_namespace: str, policy_name: str, status: dict[str, Any]) -> None:
        """Makes `status` the whole of what this worker says; fields it said before and omits now disappear.

        Raises:
            ApiFailure: the server refused or did not answer; `status` 404 means that the policy is gone.
        """
        body = {
            "apiVersion": "fairlead.dev/v1alpha1",
            "kind": "SyncPolicy",
            "metadata": {"name": policy_name, "namespace": policy_namespace},
            "status": status,
        }
        await self._send(
            "PATCH",
            f"{_path(policy_namespace, policy_name)}/status?fieldManager={MANAGER}&force=true",
            content=orjson.dumps(body),
            headers={"Content-Type": "application/apply-patch+yaml"},
        )

    async def measured(self, policy_namespace: str, policy_name: str) -> dict[str, Any]:
        """`status.worker`, as the last worker left it; empty when there was none.

        Raises:
            ApiFailure: see `apply`.
        """
        answer = await self._send("GET", _path(policy_namespace, policy_name), headers={})
        found: dict[str, Any] = (orjson.loads(answer.content).get("status") or {}).get("worker") or {}
        return found

    async def levers(self, policy_namespace: str, policy_name: str) -> dict[str, str]:
        """The policy's `fairlead.dev/` annotations as they are now; a mounted ConfigMap may be a minute behind.

        Raises:
            ApiFailure: see `apply`.
        """
        answer = await self._send(
            "GET",
            _path(policy_namespace, policy_name),
            headers={"Accept": "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"},
        )
        annotations: dict[str, str] = orjson.loads(answer.content)["metadata"].get("annotations") or {}
        return {name: value for name, value in annotations.items() if name.startswith(_LEVERS)}

    async def close(self) -> None:
        """Closes the connection to the API server."""
        await self._client.aclose()

    async def _send(self, method: str, url: str, *, headers: dict[str, str], content: bytes = b"") -> httpx.Response:
        action = f"{method} {url.partition('?')[0]}"
        headers["Authorization"] = f"Bearer {self._token.read_text().strip()}"
        try:
            answer = await self._client.request(method, url, headers=headers, content=content)
        except httpx.HTTPError as error:
            raise ApiFailure(action, 0, "", f"the API server did not answer ({type(error).__name__})") from error
        if answer.is_error:
            raise from_answer(action, answer.status_code, answer.content, answer.headers.get("Retry-After"))
        return answer


def _path(namespace: str, name: str) -> str:
    return f"/apis/fairlead.dev/v1alpha1/namespaces/{namespace}/syncpolicies/{name}"
