"""The operator's probes and metrics over HTTP, on the library that kopf brings along."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from fairlead.controller.metrics import CONTENT_TYPE, Metrics

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Check = Callable[[], str]
"""What is wrong, in one line; empty when nothing is."""


@asynccontextmanager
async def serving(port: int, alive: Check, ready: Check, metrics: Metrics) -> AsyncIterator[None]:
    """Serves /healthz (liveness), /readyz and /metrics on all addresses while the context is open."""
    app = web.Application()
    app.router.add_get("/healthz", _answer(alive))
    app.router.add_get("/readyz", _answer(ready))
    app.router.add_get("/metrics", _scrape(metrics))
    runner = web.AppRunner(app, access_log=None, keepalive_timeout=5.0, shutdown_timeout=2.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, port=port).start()
        yield
    finally:
        await runner.cleanup()


def _answer(check: Check) -> Handler:
    async def handle(_: web.Request) -> web.Response:
        wrong = check()
        return web.Response(text=wrong or "ok", status=503 if wrong else 200)

    return handle


def _scrape(metrics: Metrics) -> Handler:
    async def handle(_: web.Request) -> web.Response:
        return web.Response(body=metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    return handle
