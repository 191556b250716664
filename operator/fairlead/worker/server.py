"""The worker's HTTP port: is it alive, is it ready, and what does it measure."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from fairlead.model.health import conclude
from fairlead.worker.loop import PolicyLoop
from fairlead.worker.metrics import Metrics


def application(loops: Sequence[PolicyLoop], metrics: Metrics) -> Starlette:
    """`/healthz`, `/readyz` (one line per policy) and `/metrics`.

    An answer from `/healthz` is the proof of life: it comes from the event loop in which the policies run.
    """

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok")

    async def readyz(_: Request) -> Response:
        lines, ready = [], True
        for loop in loops:
            if loop.helping:
                lines.append(
                    f"{loop.policy.id} Helping {loop.helping} leads, and this worker delivers what it shares out"
                )
                continue
            found = conclude(loop.measured, loop.policy.spec.mode)
            ready = ready and found.ready
            lines.append(f"{loop.policy.id} {found.reason} {found.message}")
        return PlainTextResponse("\n".join(lines) + "\n", 200 if ready else 503)

    async def scrape(_: Request) -> Response:
        return Response(metrics.page(), media_type="text/plain; version=0.0.4")

    return Starlette(routes=[Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", scrape)])


def server(app: Starlette, host: str, port: int) -> uvicorn.Server:
    """An HTTP server to be awaited with `serve()`; it leaves signals to the process."""
    config = uvicorn.Config(
        app, host=host, port=port, log_config=None, access_log=False, lifespan="off", ws="none", workers=1
    )
    return _Quiet(config)


class _Quiet(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
