"""Opens the ports, knows the sessions, and ends them in order."""

from __future__ import annotations

import asyncio
import logging

from relay.server.parts import Parts
from relay.server.session import Session
from relay.server.settings import Endpoint, Tls

_BACKLOG = 1024


class Server:
    """All listeners of the relay and the connections they took.

    Args:
        parts: for new connections. Assign another value to reload: open connections keep what they have.
    """

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self._listeners: list[asyncio.Server] = []
        self._sessions: set[Session] = set()

    async def open(self, endpoint: Endpoint) -> int:
        """Starts to listen; returns the port, 0 for a unix socket.

        Raises:
            OSError: the address cannot be bound.
        """
        if endpoint.tls is not Tls.NONE and self.parts.context is None:
            raise ValueError("a listener with TLS needs a context")
        # At DEBUG aiosmtpd would write what clients send (O-01), whatever level the application chose.
        logging.getLogger("mail.log").setLevel(logging.WARNING)
        listener = await self._listen(endpoint)
        self._listeners.append(listener)
        return 0 if endpoint.path else int(listener.sockets[0].getsockname()[1])

    async def _listen(self, endpoint: Endpoint) -> asyncio.Server:
        def accept() -> Session:
            session = Session(self.parts, endpoint, self._sessions.discard)
            self._sessions.add(session)
            return session

        loop = asyncio.get_running_loop()
        if endpoint.path:
            return await loop.create_unix_server(accept, endpoint.path, backlog=_BACKLOG)
        return await loop.create_server(accept, endpoint.host or None, endpoint.port, backlog=_BACKLOG)

    async def shutdown(self, drain_seconds: float) -> None:
        """Stops listening, says 421 to idle clients, and lets messages under way finish.

        Args:
            drain_seconds: what is not finished by then is cancelled.
        """
        for listener in self._listeners:
            listener.close()
        for session in list(self._sessions):
            session.shutdown()
        await self._wait(drain_seconds)
        while self._sessions:  # one that was accepted just now has not begun yet
            await asyncio.sleep(0)
            for session in list(self._sessions):
                session.cancel()
            await self._wait(None)
        for listener in self._listeners:
            await listener.wait_closed()
        self._listeners.clear()

    async def _wait(self, seconds: float | None) -> None:
        tasks = [session.task for session in self._sessions if session.task]
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)
