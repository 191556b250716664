"""Serves the HTTP test system: hangs up when a fault wants it, and ends at once."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Scope
from uvicorn.protocols.http.h11_impl import H11Protocol

_OPEN: dict[Any, asyncio.Transport] = {}
"""Both ends of a connection → the connection."""


def connection_of(scope: Scope) -> asyncio.Transport:
    """The connection on which a request came."""
    return _OPEN[tuple(scope["client"]), tuple(scope["server"])]


def config_of(app: ASGIApp, tls: tuple[str, str] | None, *, date: bool = True) -> uvicorn.Config:
    """How an application is served.

    Args:
        app: the application.
        tls: certificate chain and key, as PEM files; plain HTTP without.
        date: whether answers carry a Date header.
    """
    config = uvicorn.Config(
        app, http=_Protocol, lifespan="off", log_config=None, access_log=False, date_header=date, timeout_keep_alive=60
    )
    if tls:
        config.ssl_certfile, config.ssl_keyfile = tls
    return config


class _Protocol(H11Protocol):
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # asyncio does this only for sockets that name their protocol; without it, answers wait 40 ms for an ACK.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._ends = transport.get_extra_info("peername")[:2], transport.get_extra_info("sockname")[:2]
        _OPEN[self._ends] = transport

    def connection_lost(self, exc: Exception | None) -> None:
        _OPEN.pop(self._ends, None)
        super().connection_lost(exc)


class Server(uvicorn.Server):
    """Ends at once: uvicorn's own rests for two tenths of a second on the way, which adds up in tests."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begins to listen."""
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        await super().startup(sockets)

    async def main_loop(self) -> None:
        """Keeps the Date header true until the server is stopped."""
        tick = 0
        while not await self.on_tick(tick):
            tick += 1
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.1):
                    await self._ended.wait()

    def stop(self) -> None:
        """Ends it, from any thread."""
        self.should_exit = self.force_exit = True
        with contextlib.suppress(RuntimeError):  # it saw that by itself, and its loop is closed already
            self._loop.call_soon_threadsafe(self._ended.set)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Lets nobody in any more, then hangs up on everyone, also on who was just coming in."""
        for listener in [listener for server in self.servers for listener in server.sockets]:
            self._loop.remove_reader(listener.fileno())
        for _ in range(10):
            for connection in list(self.server_state.connections):
                connection.transport.abort()
            await asyncio.sleep(0)
        for server in self.servers:
            server.close()
        for given in sockets or []:
            given.close()
