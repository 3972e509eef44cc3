from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from relay.server.settings import Endpoint, Tls
from tests.unit.server.edge import Edge


async def test_shutdown_tells_idle_clients(edge: Edge) -> None:
    """A client without a message gets 421 4.3.2, and nobody connects any more (S-28)."""
    peer = await edge.start()
    port = peer.writer.get_extra_info("peername")[1]
    stop = asyncio.create_task(edge.server.shutdown(60))

    assert (await peer.reply()).startswith("421 4.3.2 ")
    assert await peer.closed()
    await stop
    with pytest.raises(ConnectionError):
        await edge.dial(port)


async def test_shutdown_lets_a_message_finish(edge: Edge) -> None:
    """A transaction goes on to its reply, and 421 comes behind it."""
    peer = await edge.start()
    await peer.ask("MAIL FROM:<>")
    stop = asyncio.create_task(edge.server.shutdown(5))
    await asyncio.sleep(0)
    replies = [await peer.ask(line) for line in ("RCPT TO:<b@example.org>", "DATA", "a\r\n.")]

    assert ["250", "354", "250"] == [reply[:3] for reply in replies]
    assert (await peer.reply()).startswith("421 4.3.2 ")
    await stop


async def test_shutdown_cancels_what_takes_too_long(edge: Edge) -> None:
    """After the drain a message that is not finished is cancelled; the client is told to come back."""
    edge.line.hold = asyncio.Event()
    peer = await edge.start()
    await peer.begin()
    await peer.send(b"a\r\n.\r\n")
    await edge.line.holding.wait()
    await edge.server.shutdown(0.05)

    assert (await peer.reply()).startswith("421 4.3.2 ")
    assert ["data", "close"] == edge.line.calls[-2:]


@pytest.mark.parametrize("tls", [Tls.IMPLICIT, Tls.STARTTLS])
async def test_shutdown_during_a_handshake(edge: Edge, tls: Tls) -> None:
    """A connection between plain and TLS is cut without a word in the middle."""
    peer = await edge.dial(await edge.listen(tls))
    if tls is Tls.STARTTLS:
        await peer.reply()
        await peer.ask("STARTTLS")
    await asyncio.sleep(0.01)
    await edge.server.shutdown(0.05)

    assert await peer.closed()


async def test_shutdown_of_a_connection_that_has_not_begun(edge: Edge) -> None:
    """A connection that was accepted in the last moment is ended, too."""
    peer = await edge.dial(await edge.listen())
    await edge.server.shutdown(5)

    assert (await peer.reply())[:3] in ("220", "421", "")


async def test_listener_with_tls_needs_a_context(edge: Edge) -> None:
    """A listener that could not encrypt is refused before it listens."""
    edge.server.parts = replace(edge.server.parts, context=None)

    with pytest.raises(ValueError, match="context"):
        await edge.server.open(Endpoint("127.0.0.1", 0, tls=Tls.STARTTLS))


async def test_no_session_is_left_behind(edge: Edge) -> None:
    """A connection that ended is forgotten, with its place."""
    peer = await edge.start()
    tasks = [session.task for session in edge.server._sessions]
    await peer.ask("QUIT")
    await asyncio.gather(*filter(None, tasks))
    await asyncio.sleep(0)

    assert set() == edge.server._sessions
    assert 0 == edge.connections._per_client.total()
