"""A network that breaks at a chosen moment: a TCP proxy before a PostgreSQL server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from psycopg.conninfo import conninfo_to_dict, make_conninfo


class Cut:
    """Breaks every connection through which `word` is sent; `passes`: whether the server still gets to see it."""

    def __init__(self, word: bytes, *, passes: bool) -> None:
        self._word = word
        self._passes = passes
        self._carrying: set[asyncio.Task[None]] = set()
        self.count = 0
        """How often it broke one."""

    def carrying(self, host: str, port: int, source: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        """Carries one more connection."""
        self._carrying.add(asyncio.create_task(self._carry(host, port, source, back)))

    async def end(self) -> None:
        """Ends all of them."""
        for task in self._carrying:
            task.cancel()
        await asyncio.gather(*self._carrying, return_exceptions=True)

    async def _carry(self, host: str, port: int, source: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        answers, server = await asyncio.open_connection(host, port)
        answering = asyncio.create_task(_copied(answers, back))
        try:
            while data := await source.read(65536):
                broken = self._word in data
                if broken:
                    self.count += 1
                    answering.cancel()
                if not broken or self._passes:
                    server.write(data)
                    await server.drain()
                if broken:
                    await asyncio.sleep(0.2)  # the server does what it was told
                    break
        finally:
            answering.cancel()
            await asyncio.gather(answering, return_exceptions=True)
            for writer in (server, back):
                writer.close()
            await asyncio.gather(server.wait_closed(), back.wait_closed(), return_exceptions=True)


async def _copied(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while data := await source.read(65536):
        target.write(data)
        await target.drain()


@asynccontextmanager
async def cut(dsn: str, word: bytes, *, passes: bool) -> AsyncIterator[tuple[str, Cut]]:
    """The DSN of a server behind such a network."""
    parts, broken = conninfo_to_dict(dsn), Cut(word, passes=passes)
    host, port = str(parts["host"]), int(str(parts["port"]))
    server = await asyncio.start_server(lambda *streams: broken.carrying(host, port, *streams), "127.0.0.1", 0)
    async with server:
        yield make_conninfo(dsn, port=server.sockets[0].getsockname()[1]), broken
        await broken.end()
