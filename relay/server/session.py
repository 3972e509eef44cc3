"""One connection: what arrives and leaves, TLS, and everything that can end it.

The task that aiosmtpd starts for a connection runs to its own end. A client that disconnects does not cancel
it, so that a message whose final dot was read is forwarded and its outcome known (RFC 1047).
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import traceback
from asyncio import sslproto
from collections.abc import Callable
from typing import cast

from aiosmtpd.smtp import SMTP

from relay.errors import RelayError, Unexpected
from relay.message import Client
from relay.server.dialogue import AUTH_LINE_OCTETS, Dialogue
from relay.server.limits import client_key
from relay.server.parts import Parts
from relay.server.refusals import ShuttingDown
from relay.server.settings import Endpoint, Tls
from relay.server.stream import BLOCK_OCTETS, Disconnected, Stream

_log = logging.getLogger("relay")


class Session(SMTP):
    """The protocol of one connection; see the package's docstring for what it keeps of aiosmtpd.

    Args:
        parts: as they are when the connection is made.
        endpoint: the listener that took it.
        ended: called when the connection's work is done.
    """

    def __init__(self, parts: Parts, endpoint: Endpoint, ended: Callable[[Session], None]) -> None:
        self.loop = asyncio.get_running_loop()
        # Not SMTP.__init__: it inspects the handler for each connection, which takes longer than all the rest
        # of a connection. What follows is what the methods that we keep read.
        super(SMTP, self).__init__(
            asyncio.StreamReader(limit=BLOCK_OCTETS, loop=self.loop),
            client_connected_cb=self._cb_client_connected,
            loop=self.loop,
        )
        self.transport = None
        self._original_transport = None
        self._tls_protocol = None
        self._timeout_handle = None
        self._handle_hooks = {}
        self._handler_coroutine = None
        self._parts = parts
        self._endpoint = endpoint
        self._ended = ended
        self._dialogue: Dialogue | None = None
        self._ip = ""
        self._stopping = False
        self._lost = False
        self._gone = False
        self._cut: asyncio.TimerHandle | None = None
        self.tls = ""
        self.heard = False

    # ----------------------------------------------------------------------- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """For the plain connection, and again when TLS was put under it."""
        super().connection_made(transport)
        encrypted = transport.get_extra_info("ssl_object")
        if encrypted:
            self.tls = f"{encrypted.version()} {encrypted.cipher()[0]}"
            return
        self.stream = Stream(self._reader)
        peer = transport.get_extra_info("peername")
        self._ip = peer[0] if isinstance(peer, tuple) else ""
        assert self.task is not None
        self.task.add_done_callback(self._finish)

    def data_received(self, data: bytes) -> None:
        """Octets of the client."""
        self.heard = True
        if not self.stream.take(data):
            super().data_received(data)

    def eof_received(self) -> bool | None:
        """The client will send no more; it may still read the reply (but not under TLS)."""
        self.stream.take(b"")
        self._client_gone()
        return super(SMTP, self).eof_received() and not self.tls

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is gone; what was started for it goes on."""
        self._lost = True
        if self._cut:
            self._cut.cancel()
        if self._original_transport is not None:
            self._original_transport.close()
        super(SMTP, self).connection_lost(error)
        self.stream.take(b"")
        self._client_gone()

    def _reset_timeout(self, duration: float | None = None) -> None:
        """Nothing: the one timer of aiosmtpd would count our own work; `Stream` has a timer for each wait."""

    def _client_gone(self) -> None:
        if self._dialogue and not self._gone:
            self._gone = True
            self._dialogue.client_gone()

    # ----------------------------------------------------------------------- what the server calls

    def shutdown(self) -> None:
        """Says 421 and closes as soon as no message is under way."""
        self._stopping = True
        if self._dialogue is None:
            self.cancel()
        elif self._dialogue.idle:
            self.stream.interrupt(ShuttingDown())

    def cancel(self) -> None:
        """Ends it now, whatever is under way."""
        if self.task:
            self.task.cancel()

    @property
    def task(self) -> asyncio.Task[None] | None:
        """What serves the connection; None before it is made."""
        return self._handler_coroutine

    # ----------------------------------------------------------------------- what the commands call

    async def send(self, octets: bytes) -> None:
        """Writes to the client.

        Raises:
            Disconnected: it has gone, or does not read.
        """
        if self._writer.is_closing():
            raise Disconnected
        self._writer.write(octets)
        if not self._writer.transport.get_write_buffer_size():
            return
        try:
            async with asyncio.timeout(self._parts.settings.timers.reply_seconds):
                await self._writer.drain()
        except OSError as exc:  # TimeoutError is one
            raise Disconnected from exc

    async def start_tls(self) -> None:
        """Puts TLS under the connection, as aiosmtpd does; what came in clear is thrown away.

        Raises:
            Disconnected: there was no handshake.
        """
        assert self._parts.context is not None and self.transport is not None
        self.stream.discard()
        waiter = self.loop.create_future()
        timers = self._parts.settings.timers
        self._tls_protocol = _TlsProtocol(
            self.loop,
            self,
            self._parts.context(),
            waiter,
            server_side=True,
            ssl_handshake_timeout=timers.handshake_seconds,  # type: ignore[arg-type]  # floats do
            ssl_shutdown_timeout=timers.close_seconds,
        )
        self._original_transport = self.transport
        self._original_transport.set_protocol(self._tls_protocol)
        self._tls_protocol.connection_made(self._original_transport)
        # A reader that was full of plaintext had stopped the transport.
        cast("asyncio.Transport", self._original_transport).resume_reading()
        try:
            await waiter
        except OSError as exc:
            self._record("tls_failed", reason=getattr(exc, "reason", None) or type(exc).__name__)
            raise Disconnected from exc
        if not self.tls:  # the waiter also ends without a handshake when the connection is closed
            raise Disconnected

    # ----------------------------------------------------------------------- the connection's task

    async def _handle_client(self) -> None:
        """Runs in the task that aiosmtpd starts in `connection_made`."""
        client = client_key(self._ip)
        try:
            self._parts.connections.enter(client, self._parts.settings.limits)
        except RelayError as error:
            self._turn_away(error)
            return
        try:
            await self._converse()
        except Disconnected:
            pass
        except asyncio.CancelledError:
            self._write_last(ShuttingDown())
            raise
        finally:
            self._close()
            self._gone = True
            try:
                if self._dialogue:
                    await self._dialogue.close()
            finally:
                self._parts.connections.leave(client)

    async def _converse(self) -> None:
        if self._endpoint.tls is Tls.IMPLICIT:
            # In the first step of the task, before the loop has read anything of the client.
            await self.start_tls()
        client = Client(id=secrets.token_hex(4), ip=self._ip, tls=self.tls)
        conversation = self._parts.line.connect(client)
        dialogue = self._dialogue = Dialogue(self, client, conversation, self._endpoint, self._parts)
        await dialogue.greet()
        while not dialogue.over:
            await self._next_command(dialogue)

    async def _next_command(self, dialogue: Dialogue) -> None:
        try:
            if self._stopping and dialogue.idle:
                raise ShuttingDown
            line = await self.stream.line(AUTH_LINE_OCTETS, self._parts.settings.timers.command_seconds)
            await dialogue.command(line)
        except Disconnected:
            raise
        except RelayError as error:
            await dialogue.refuse(error)
        except Exception as exc:  # noqa: BLE001  # the edge: a bug must neither leak nor lose the client
            self._report(exc, dialogue.id)
            await dialogue.abandon()
            await dialogue.refuse(Unexpected())

    def _finish(self, task: asyncio.Task[None]) -> None:
        """The last thing, even if the task was cancelled before its first step."""
        self._close()
        if not task.cancelled() and (exc := task.exception()):
            self._report(exc, self._dialogue.id if self._dialogue else "")
        self._ended(self)

    def _report(self, exc: BaseException, id: str) -> None:
        """A bug for the log: where and what class, never its message, which may quote the mail (O-02)."""
        frames = traceback.extract_tb(exc.__traceback__)
        where = " > ".join(f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames)
        name = type(exc).__name__
        self._parts.journal.record("unexpected", id=id, exception=name)
        _log.error("unexpected %s in %s: %s", name, id, where)

    def _turn_away(self, error: RelayError) -> None:
        """Too many connections. Under implicit TLS without a word: the handshake would cost too much."""
        self._record("connection_refused", reason=type(error).__name__)
        if self._endpoint.tls is not Tls.IMPLICIT:
            self._write_last(error)

    def _write_last(self, error: RelayError) -> None:
        """A reply without waiting for it to be read; nothing in the middle of a TLS handshake."""
        if self._tls_protocol is None or self.tls:
            self._writer.write(error.reply().encode())

    def _close(self) -> None:
        """Closes the connection, and cuts it a little later if the client does not play along."""
        transport = cast("asyncio.Transport", self.transport)
        if self._lost or self._cut:
            return
        if self._tls_protocol is not None and not self.tls:  # no handshake: nobody tells us of its end
            transport.abort()
            return
        transport.close()
        self._cut = self.loop.call_later(self._parts.settings.timers.close_seconds, transport.abort)

    def _record(self, event: str, reason: str) -> None:
        self._parts.journal.record(event, ip=self._ip, reason=reason)


class _TlsProtocol(sslproto.SSLProtocol):
    """TLS with a smaller buffer than asyncio's 256 KB, which every idle connection would hold."""

    max_size = 32_768
