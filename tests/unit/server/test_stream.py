from __future__ import annotations

import asyncio

import pytest

from relay.errors import RelayError
from relay.server.refusals import (
    AuthLineTooLong,
    BadLine,
    BareLineFeed,
    ClientTooSlow,
    LineTooLong,
    ShuttingDown,
)
from relay.server.stream import Disconnected, Stream


def stream_of(octets: bytes, *, ended: bool = True) -> Stream:
    reader = asyncio.StreamReader()
    reader.feed_data(octets)
    if ended:
        reader.feed_eof()
    return Stream(reader)


async def test_line_comes_without_its_end_and_leaves_the_rest() -> None:
    """Lines come one by one, and what is behind them waits."""
    stream = stream_of(b"one\r\n\r\ntwo\r\nrest")

    assert [b"one", b"", b"two"] == [await stream.line(100, 1) for _ in range(3)]
    assert b"rest" == await stream.block(1)
    with pytest.raises(Disconnected):
        await stream.block(1)


@pytest.mark.parametrize(
    ("octets", "error"),
    [
        (b"a\n", BareLineFeed),
        (b"a\nb\r\n", BareLineFeed),
        (b"\n\r\n", BareLineFeed),
        (b"a\rb\r\n", BadLine),
        (b"a\r\r\n", BadLine),
        (b"a\0\r\n", BadLine),
        (b"x" * 99 + b"\r\n", LineTooLong),
        (b"x" * 5000 + b"\r\n", LineTooLong),
        (b"auth " + b"x" * 5000 + b"\r\n", AuthLineTooLong),
        (b"x" * 2_000_000 + b"\r\n", Disconnected),
        (b"a\r", Disconnected),
        (b"", Disconnected),
    ],
)
async def test_line_that_is_none(octets: bytes, error: type[Exception]) -> None:
    """Every line that is not text ended by CR LF within the limit has its own error, never a line."""
    with pytest.raises(error) as caught:
        await stream_of(octets).line(100, 1)
    assert error is type(caught.value)


async def test_line_too_long_is_skipped_to_its_end() -> None:
    """After a line that was too long the next one is whole."""
    stream = stream_of(b"x" * 100_000 + b"\r\nNOOP\r\n")
    with pytest.raises(LineTooLong):
        await stream.line(100, 1)

    assert b"NOOP" == await stream.line(100, 1)


async def test_line_may_be_as_long_as_the_limit() -> None:
    """The limit counts CR LF."""
    assert 98 == len(await stream_of(b"x" * 98 + b"\r\n").line(100, 1))


async def test_block_takes_what_arrives_in_order() -> None:
    """Octets handed over directly and octets of the StreamReader come in the order of their arrival."""
    reader = asyncio.StreamReader()
    stream = Stream(reader)
    waiting = asyncio.create_task(stream.block(1))
    await asyncio.sleep(0)
    taken = [stream.take(b"first"), stream.take(b"second")]
    reader.feed_data(b"second")

    assert [True, False] == taken
    assert [b"first", b"second"] == [await waiting, await stream.block(1)]
    stream.unread(b"third")
    assert b"third" == await stream.block(1)


async def test_block_ends_with_the_connection() -> None:
    """A client that disconnects ends the wait for its next block."""
    stream = stream_of(b"", ended=False)
    waiting = asyncio.create_task(stream.block(1))
    await asyncio.sleep(0)
    stream.take(b"")

    with pytest.raises(Disconnected):
        await waiting


async def test_read_error_is_a_disconnect() -> None:
    """A reset or a broken TLS record is the end of the client, not a bug."""
    for read in (Stream.line, Stream.block):
        reader = asyncio.StreamReader()
        reader.set_exception(TimeoutError("[Errno 110] Connection timed out"))
        with pytest.raises(Disconnected):
            await (read(Stream(reader), 100, 1) if read is Stream.line else Stream(reader).block(1))


@pytest.mark.parametrize("reason", [None, ShuttingDown()])
async def test_waiting_for_a_line_ends(reason: RelayError | None) -> None:
    """A wait ends by its limit, or at once by an interruption with its reason."""
    stream = stream_of(b"NO", ended=False)
    waiting = asyncio.create_task(stream.line(100, 0.01 if reason is None else 100))
    await asyncio.sleep(0)
    if reason:
        stream.interrupt(reason)

    with pytest.raises(type(reason) if reason else ClientTooSlow):
        await waiting


async def test_interrupt_without_a_waiting_line_does_nothing() -> None:
    """Interrupting a session that is busy leaves it alone."""
    stream = stream_of(b"NOOP\r\n")
    stream.interrupt(ShuttingDown())

    assert b"NOOP" == await stream.line(100, 1)


async def test_discard_forgets_what_was_read() -> None:
    """Plaintext before TLS is gone (RFC 3207 §4.2)."""
    stream = stream_of(b"STARTTLS\r\nMAIL FROM:<evil@example.com>\r\n", ended=True)
    await stream.line(100, 1)
    stream.discard()

    with pytest.raises(Disconnected):
        await stream.line(100, 1)
