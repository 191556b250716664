"""Elects one leader among the operator's replicas by a Lease (KEP-589, as client-go and controller-runtime do).

Own code rather than `kubernetes.aio.leaderelection`, which neither releases the Lease on a clean stop (the standby
would wait 15 s at every upgrade), nor bounds a request that hangs, nor survives one that is cut off.
"""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime

import msgspec
import structlog

from fairlead.kube.client import Kube
from fairlead.kube.failure import ApiFailure
from fairlead.kube.kinds import LEASE, Object

log = structlog.get_logger(__name__)


class LeadershipLost(Exception):
    """The Lease could not be renewed in time: another replica may lead from now on, so this process must end."""


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds, as in client-go.

    Attributes:
        lease: how long others wait after the last renewal that they saw.
        deadline: after how long without renewal the leader gives up; less than `lease`, so that it stops first.
        retry: time between attempts.
    """

    lease: int = 15
    deadline: float = 10.0
    retry: float = 2.0

    @classmethod
    def of(cls, lease: int) -> Timing:
        """The same proportions for another duration."""
        return cls(lease=lease, deadline=lease * 2 / 3, retry=lease * 2 / 15)


class Election:
    """One candidate.

    Args:
        kube: the API server.
        namespace: where the Lease is.
        name: of the Lease; candidates for the same work share it.
        identity: of this candidate; no two may have the same.
        timing: how fast.
    """

    def __init__(self, kube: Kube, namespace: str, name: str, identity: str, timing: Timing | None = None) -> None:
        self._kube = kube
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._timing = timing or Timing()
        self._seen = ""
        self._seen_at = 0.0
        self._holder = ""
        self.leading = False

    async def acquire(self) -> None:
        """Returns once this candidate leads."""
        while not await self._attempt():  # noqa: ASYNC110 - the event is at the API server
            await asyncio.sleep(self._timing.retry * random.uniform(1.0, 1.2))  # noqa: S311 - jitter
        self.leading = True
        log.info("leading", identity=self._identity)

    async def hold(self) -> None:
        """Renews for as long as that works.

        Raises:
            LeadershipLost: it did not work for `deadline` seconds.
        """
        renewed = _now()
        while True:
            await asyncio.sleep(self._timing.retry)
            if await self._attempt():
                renewed = _now()
            elif _now() - renewed >= self._timing.deadline or self._taken():
                self.leading = False
                raise LeadershipLost(f"Lease {self._namespace}/{self._name} could not be renewed")

    async def release(self) -> None:
        """Lets another candidate lead at once. Failing to do so only makes it wait."""
        if not self.leading:
            return
        self.leading = False
        try:
            async with asyncio.timeout(self._timing.retry):
                lease = await self._kube.get(LEASE, self._namespace, self._name)
                if lease and _holder(lease) == self._identity:
                    await self._kube.replace(LEASE, lease | {"spec": _spec("", 1, lease)})
        except (ApiFailure, TimeoutError) as error:
            log.warning("lease not released", error=str(error))

    async def _attempt(self) -> bool:
        """Takes or renews the Lease, if it may be; a request that hangs counts as failed."""
        try:
            async with asyncio.timeout(max(self._timing.deadline / 3, 0.5)):
                return await self._take()
        except (ApiFailure, TimeoutError) as error:
            log.warning("lease attempt failed", error=str(error) or type(error).__name__)
            return False

    async def _take(self) -> bool:
        """One compare-and-swap: the API server refuses it (409) when another candidate was faster."""
        lease = await self._kube.get(LEASE, self._namespace, self._name)
        spec = _spec(self._identity, self._timing.lease, lease)
        if lease is None:
            metadata = {"name": self._name, "namespace": self._namespace}
            manifest = {"apiVersion": LEASE.api_version, "kind": LEASE.name, "metadata": metadata, "spec": spec}
            await self._kube.create(LEASE, manifest)
            return True
        self._observe(lease)
        if not self._free(lease):
            return False
        await self._kube.replace(LEASE, lease | {"spec": spec})
        return True

    def _observe(self, lease: Object) -> None:
        """Notes when the Lease last changed by this process's clock: clocks of other machines are not trusted."""
        version = str(lease["metadata"]["resourceVersion"])
        if version != self._seen:
            self._seen, self._seen_at, self._holder = version, _now(), _holder(lease)

    def _free(self, lease: Object) -> bool:
        if self._holder in ("", self._identity):
            return True
        return _now() - self._seen_at > float(lease["spec"].get("leaseDurationSeconds") or self._timing.lease)

    def _taken(self) -> bool:
        return self._holder not in ("", self._identity)


def _holder(lease: Object) -> str:
    return lease["spec"].get("holderIdentity") or ""


def _spec(identity: str, duration: int, before: Object | None) -> Object:
    """The Lease's next content; the count of transitions grows with every change of leader."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    old: Object = before["spec"] if before else {}
    same = (old.get("holderIdentity") or "") == identity
    transitions = old.get("leaseTransitions", 0) + (0 if same or not identity else 1)
    return {
        "holderIdentity": identity,
        "leaseDurationSeconds": duration,
        "acquireTime": old.get("acquireTime", now) if same else now,
        "renewTime": now,
        "leaseTransitions": transitions if before else 0,
    }


def _now() -> float:
    return asyncio.get_running_loop().time()
