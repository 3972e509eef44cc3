"""The edge on loopback ports with a recording line behind it, and a client that speaks raw SMTP to it."""

from __future__ import annotations

import asyncio
import base64
import ssl
from dataclasses import dataclass, field

from relay.budget import Budget
from relay.server.limits import Connections, Logins
from relay.server.listener import Server
from relay.server.parts import Parts
from relay.server.settings import Endpoint, Limits, Settings, Timers, Tls
from tests.fakes import FixedClock, ListJournal, RecordingLine

PLAIN = "AUTH PLAIN " + base64.b64encode(b"\0alice\0s3cret").decode()


@dataclass
class Edge:
    """A running server and everything around it."""

    server_context: ssl.SSLContext
    client_context: ssl.SSLContext
    limits: Limits = field(default_factory=lambda: Limits(message_bytes=100_000))
    timers: Timers = field(default_factory=Timers)
    line: RecordingLine = field(default_factory=RecordingLine)
    journal: ListJournal = field(default_factory=ListJournal)
    clock: FixedClock = field(default_factory=FixedClock)
    budget: Budget = field(default_factory=lambda: Budget(100_000_000))

    def __post_init__(self) -> None:
        self.connections = Connections()
        self.logins = Logins(self.clock)
        self.server = Server(
            Parts(
                settings=Settings("relay.example", self.limits, self.timers),
                line=self.line,
                budget=self.budget,
                journal=self.journal,
                connections=self.connections,
                logins=self.logins,
                context=lambda: self.server_context,
            )
        )
        self._peers: list[Peer] = []

    async def listen(self, tls: Tls = Tls.NONE, *, auth: bool = False) -> int:
        """Opens a listener; returns its port."""
        return await self.server.open(Endpoint("127.0.0.1", 0, tls=tls, auth=auth))

    async def dial(self, port: int, *, tls: bool = False) -> Peer:
        """A client connection, before the greeting."""
        context = self.client_context if tls else None
        name = "relay.example" if tls else None
        peer = Peer(*await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name))
        self._peers.append(peer)
        return peer

    async def start(self, tls: Tls = Tls.NONE, *, auth: bool = False) -> Peer:
        """A new listener and a client that was greeted and said EHLO (under TLS, if the listener has it)."""
        peer = await self.dial(await self.listen(tls, auth=auth), tls=tls is Tls.IMPLICIT)
        await peer.reply()
        if tls is Tls.STARTTLS:
            await peer.ask("STARTTLS")
            await peer.upgrade(self.client_context)
        await peer.ask("EHLO client.example")
        return peer

    async def stop(self) -> None:
        """Ends everything."""
        for peer in self._peers:
            peer.cut()
        await self.server.shutdown(5)


class Peer:
    """An SMTP client without manners: it sends what it is told."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def send(self, octets: bytes) -> None:
        self.writer.write(octets)
        await self.writer.drain()

    async def reply(self) -> str:
        """The next reply, lines joined by newlines; empty if the connection was closed."""
        lines: list[str] = []
        while not lines or lines[-1][3:4] == "-":
            try:
                line = await asyncio.wait_for(self._reader.readline(), 10)
            except ConnectionError:
                line = b""
            if not line:
                return "\n".join(lines)
            lines.append(line.decode().removesuffix("\r\n"))
        return "\n".join(lines)

    async def ask(self, command: str) -> str:
        """Sends one command and returns the reply."""
        await self.send(command.encode() + b"\r\n")
        return await self.reply()

    async def begin(self, recipient: str = "bob@example.org") -> str:
        """MAIL, RCPT and DATA; returns the reply to DATA."""
        await self.ask("MAIL FROM:<alice@example.com>")
        await self.ask(f"RCPT TO:<{recipient}>")
        return await self.ask("DATA")

    async def closed(self) -> bool:
        """Whether the server closes the connection without another word."""
        return await self.reply() == ""

    async def upgrade(self, context: ssl.SSLContext) -> None:
        """The client's side of STARTTLS."""
        protocol = self.writer.transport.get_protocol()
        transport = await asyncio.get_running_loop().start_tls(
            self.writer.transport, protocol, context, server_hostname="relay.example"
        )
        self._reader._transport = transport  # type: ignore[attr-defined]  # asyncio has no call for it in 3.11
        self.writer._transport = transport  # type: ignore[attr-defined]
        protocol._replace_writer(self.writer)  # type: ignore[attr-defined]

    def cut(self) -> None:
        """Disconnects without QUIT."""
        self.writer.transport.abort()
