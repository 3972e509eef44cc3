"""A small TCP server for tests whose connections end with it."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

from tests.network import HOST

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def serving(serve: Serve, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Runs `serve` for every connection to a loopback port; the port.

    `serve` has to end when its reader does. A client that leaves in the middle is no error.
    """
    writers, running = set[asyncio.StreamWriter](), set[asyncio.Task[None] | None]()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        running.add(asyncio.current_task())
        with contextlib.suppress(EOFError, OSError):
            await serve(reader, writer)
        writer.transport.abort()

    server = await asyncio.start_server(connected, HOST, 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.gather(*filter(None, running))
        await server.wait_closed()
