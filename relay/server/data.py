"""The message after DATA, without I/O: finds its end, undoes dot-stuffing, refuses what could smuggle.

Only CR LF ends a line and only CR LF . CR LF ends the message (RFC 5321 §2.3.8, §4.1.1.4). A message with a
bare CR, a bare LF or a NUL is refused, not repaired: the next server may take such a line end for a real one,
and what follows for commands. The reader works on blocks of any size with a few bulk operations each, because
a loop over lines costs more CPU than encrypting them. Whatever is wrong, it goes on to the real end, so that
the rest of the message is never taken for commands; it keeps nothing from then on, and gives up after a
bounded drain.
"""

from __future__ import annotations

import io

from relay.errors import MessageRefused, MessageTooLarge, RelayError

MAX_LINE_OCTETS = 1_048_576
"""Longer lines than RFC 5321 §4.5.3.1.6 allows (998) are taken, because the relay seals what it sends; what
leaves in clear is measured where that is decided. The limit keeps what others split into lines bounded."""

DRAIN_FACTOR = 2
"""A refused message is read to its end if it is at most this many times the size limit on the wire. Below it
the sender sees the refusal; past it the connection is closed. Dot-stuffing adds a third at most, so that no
message within the limit gets there."""

_END = b"\r\n.\r\n"
_CRLF = b"\r\n"


class DataReader:
    """Takes the octets after `354` in blocks.

    Args:
        max_bytes: largest message, without dot-stuffing and the final dot (RFC 1870 §6).
    """

    def __init__(self, max_bytes: int, max_line_octets: int = MAX_LINE_OCTETS) -> None:
        self._max_bytes = max_bytes
        self._max_line_octets = max_line_octets
        self._drain_octets = DRAIN_FACTOR * max_bytes + len(_END)
        self._content = io.BytesIO()
        # A line break before the first octet, so that a first line needs no rule of its own.
        self._held = _CRLF
        self._started = False
        self._octets = self._size = self._line = 0
        self._bare = self._long = False
        self._refusal: RelayError | None = None
        self.ended = False
        """The final dot was read."""
        self.rest = b""
        """What came after the final dot: the client's next commands (RFC 2920 §3.1)."""

    @property
    def exhausted(self) -> bool:
        """The drain is used up: the connection cannot be used any more, even if the end came just then."""
        return self._octets > self._drain_octets

    def feed(self, block: bytes) -> int:
        """Takes the next block; returns how many octets of message it added to what is kept."""
        chunk = self._held + block
        # One octet is found forty times as fast as five, and most blocks of a large message are base64.
        end = chunk.find(_END) if b"." in chunk else -1
        self.ended = end >= 0
        cut = end + len(_CRLF) if self.ended else len(chunk) - _undecided(chunk)
        self._held = b"" if self.ended else chunk[cut:]
        self.rest = chunk[end + len(_END) :] if self.ended else b""
        self._octets += cut
        return self._take(chunk[:cut])

    def refuse(self, error: RelayError) -> None:
        """Drops the message for a reason of the caller's; the reader goes on to its end."""
        self._refusal = self._refusal or error
        self._drop()

    def content(self) -> bytes:
        """The message, dot-unstuffed. Call it once, when `ended` or `exhausted`.

        Raises:
            MessageRefused: a bare CR or LF, a NUL, or a line over the limit.
            MessageTooLarge: over the size limit.
            RelayError: what `refuse` was called with.
        """
        if self.exhausted or not self.ended:
            raise MessageTooLarge(max_bytes=self._max_bytes)
        if self._bare:
            raise MessageRefused(reason="it holds a bare CR, a bare LF or a NUL; lines must end with CR LF")
        if self._long:
            raise MessageRefused(reason=f"a line is longer than {self._max_line_octets} octets")
        if self._size > self._max_bytes:
            raise MessageTooLarge(max_bytes=self._max_bytes)
        if self._refusal:
            raise self._refusal
        return self._content.getvalue()

    def _take(self, piece: bytes) -> int:
        """Checks and keeps a piece that starts and ends outside of CR LF and of a stuffed dot."""
        if not piece:
            return 0
        crs, lfs = piece.count(b"\r"), piece.count(b"\n")
        # `splitlines` counts CR LF once and a bare CR or LF once: one pass less than counting CR LF.
        breaks = len(piece.splitlines()) - (not piece.endswith((b"\r", b"\n")))
        if not crs == lfs == breaks or b"\0" in piece:
            self._bare = True
        # RFC 5321 §4.5.2: the first dot of every line goes, whatever follows it.
        text = piece.replace(b"\r\n.", _CRLF) if b"." in piece else piece
        if not self._started:
            self._started = True
            text = text[len(_CRLF) :]
        self._measure(text)
        return self._keep(text)

    def _measure(self, text: bytes) -> None:
        self._size += len(text)
        last = text.rfind(_CRLF)
        if last < 0:
            self._line += len(text)
        else:
            self._long |= self._line + text.find(_CRLF) > self._max_line_octets
            if len(text) > self._max_line_octets:
                self._long |= max(map(len, text.split(_CRLF))) > self._max_line_octets
            self._line = len(text) - last - len(_CRLF)
        self._long |= self._line > self._max_line_octets

    def _keep(self, text: bytes) -> int:
        if self._bare or self._long or self._refusal or self._size > self._max_bytes:
            self._drop()
            return 0
        return self._content.write(text)

    def _drop(self) -> None:
        self._content = io.BytesIO()


def _undecided(chunk: bytes) -> int:
    """How many octets at the end may still become the final dot, or a line break before a stuffed one."""
    return next((n for n in (4, 3, 2, 1) if chunk.endswith(_END[:n])), 0)
