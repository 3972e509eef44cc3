"""What the client sends, as command lines and as blocks of a message, each limited in octets and seconds."""

from __future__ import annotations

import asyncio

from relay.errors import RelayError
from relay.server.refusals import AuthLineTooLong, BadLine, BareLineFeed, ClientTooSlow, LineTooLong

BLOCK_OCTETS = 65_536
"""One read; up to twice as much waits in the StreamReader before the client is made to wait."""

_MAX_SKIPPED_OCTETS = 1_048_576
"""An overlong line is skipped to its end only so far."""


class Disconnected(Exception):
    """The client has gone, or will send no more."""


class Stream:
    """Reads from one client.

    Only CR LF ends a line (RFC 5321 §2.3.8). A line with a bare LF raises at once and for good, because the
    client and we do not agree on where the next command begins.
    """

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._buffer = bytearray()
        self._arrival: asyncio.Future[bytes] | None = None
        self._timer: asyncio.Timeout | None = None
        self._reason: RelayError = ClientTooSlow()

    async def line(self, max_octets: int, seconds: float) -> bytes:
        """The next line, without its CR LF.

        Args:
            max_octets: CR LF included.

        Raises:
            BareLineFeed, BadLine: a bare LF; a bare CR or a NUL in a complete line.
            LineTooLong, AuthLineTooLong: it was skipped up to its end.
            ClientTooSlow: it was not complete in time.
            RelayError: what `interrupt` was called with.
            Disconnected: it will never be complete.
        """
        end = self._buffer.find(b"\n")
        if end < 0:
            end = await self._wait_for_line(max_octets, seconds)
        line = bytes(self._buffer[: end + 1])
        del self._buffer[: end + 1]
        if not line.endswith(b"\r\n"):
            raise BareLineFeed
        if len(line) > max_octets:
            raise AuthLineTooLong if line[:5].upper() == b"AUTH " else LineTooLong
        line = line[:-2]
        if b"\r" in line or b"\0" in line:
            raise BadLine
        return line

    def ahead(self, max_octets: int) -> list[bytes]:
        """The complete lines that have arrived behind the present one (RFC 2920), without CR LF, not taken.

        Args:
            max_octets: how far to look.
        """
        end = self._buffer.rfind(b"\n", 0, max_octets)
        return (
            [line.removesuffix(b"\r") for line in bytes(self._buffer[:end]).split(b"\n")] if end >= 0 else []
        )

    async def _wait_for_line(self, max_octets: int, seconds: float) -> int:
        """Reads until a line is complete; returns where it ends."""
        try:
            async with asyncio.timeout(seconds) as self._timer:
                return await self._read_line(max_octets)
        except TimeoutError as exc:
            raise self._reason from exc
        finally:
            self._timer = None

    async def _read_line(self, max_octets: int) -> int:
        skipped, end = 0, -1
        while end < 0:
            if len(self._buffer) > max_octets:
                # What stays is one octet too long, so that the line is known to be; its last one may be a CR.
                skipped += len(self._buffer) - max_octets - 1
                del self._buffer[max_octets:-1]
            if skipped > _MAX_SKIPPED_OCTETS:
                raise Disconnected
            start = len(self._buffer)
            self._buffer += await self._read()
            end = self._buffer.find(b"\n", start)
        return end

    async def block(self, seconds: float) -> bytes:
        """Some octets, at least one. Raises ClientTooSlow and Disconnected."""
        if self._buffer:
            block = bytes(self._buffer)
            self._buffer.clear()
            return block
        try:
            async with asyncio.timeout(seconds):
                return await self._arriving()
        except TimeoutError as exc:
            raise ClientTooSlow from exc

    async def _arriving(self) -> bytes:
        """What arrives next, without the two copies that the StreamReader would make of it."""
        if self._reader._buffer or self._reader.at_eof() or self._reader.exception():  # type: ignore[attr-defined]
            return await self._read()
        self._arrival = asyncio.get_running_loop().create_future()
        try:
            return await self._arrival
        finally:
            self._arrival = None

    def take(self, octets: bytes) -> bool:
        """Offers octets that have just arrived, none at their end; false: they are for the StreamReader."""
        if self._arrival is None or self._arrival.done():
            return False
        if octets:
            self._arrival.set_result(octets)
        else:
            self._arrival.set_exception(Disconnected())
        return True

    def unread(self, octets: bytes) -> None:
        """Puts octets back in front of everything."""
        self._buffer[:0] = octets

    def discard(self) -> None:
        """Forgets what was received and not yet read (RFC 3207 §4.2)."""
        self._buffer.clear()

    def interrupt(self, reason: RelayError) -> None:
        """Makes a `line` that is waiting raise `reason` now."""
        if self._timer and not self._timer.expired():
            self._reason = reason
            self._timer.reschedule(asyncio.get_running_loop().time())

    async def _read(self) -> bytes:
        try:
            octets = await self._reader.read(BLOCK_OCTETS)
        except OSError as exc:  # a reset, or broken TLS records
            raise Disconnected from exc
        if not octets:
            raise Disconnected
        return octets
