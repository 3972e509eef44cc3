"""The one place that hands content to the next hop. It takes `Sealed` or `Released` and nothing else.

aiosmtplib's own DATA rewrites line ends and quotes dots with regular expressions over the whole message:
about 100 ms of a blocked event loop and two more copies of it for 10 MB. The content is canonical already,
so here it goes out in blocks: dots are quoted block by block, every block waits until the peer takes it, and
other clients are served in between. Two attributes of aiosmtplib's protocol that it does not publish are
needed for that; its version is pinned below the next minor one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

from aiosmtplib.protocol import SMTPProtocol

from relay.message import Outgoing, Released, Sealed

_BLOCK_BYTES = 65_536
"""Small enough to pass the loop on every fraction of a millisecond, large enough for few system calls."""

FINAL_DOT = b".\r\n"


@dataclass(frozen=True, slots=True)
class Needs:
    """What a message needs from the next hop, declared with MAIL."""

    smtputf8: bool = False
    """An address or the outer header is not ASCII (RFC 6531 §3.4)."""
    eightbit: bool = False
    """An octet is above 0x7F (RFC 6152 §3)."""
    size_bytes: int | None = None
    """Without quoted dots (RFC 1870 §3); None before the content is known."""

    def within(self, declared: Needs) -> bool:
        """Whether a MAIL that declared those needs will do; a size need not be declared."""
        return self.smtputf8 <= declared.smtputf8 and self.eightbit <= declared.eightbit


def needs_of(content: Outgoing) -> Needs:
    """What this content needs. Raises TypeError for anything that is not sealed or released."""
    _require_outgoing(content)
    size = len(content.header) + len(b"\r\n") + len(content.body)
    eightbit = not (content.header.isascii() and content.body.isascii())
    return Needs(content.smtputf8, eightbit, size)


async def put(protocol: SMTPProtocol, content: Outgoing, block_seconds: float) -> None:
    """Writes the content after a 354, except the final dot.

    Args:
        block_seconds: how long the peer may take for each block.

    Raises:
        TypeError: the content is neither sealed nor released.
        ValueError: it holds a bare CR or LF (a bug of ours); the block that holds it was not written.
        OSError: the connection ended, or a block timed out (TimeoutError).
    """
    _require_outgoing(content)
    # A next hop may refuse in the middle of the content and close. Unless a reply counts as expected,
    # aiosmtplib drops it; `execute_data_command` sets the same flag before it writes.
    protocol._response_pending = True
    for block in blocks(content):
        protocol.write(block)
        async with asyncio.timeout(block_seconds):
            await protocol._drain_helper()  # what asyncio.StreamWriter.drain awaits
        await asyncio.sleep(0)  # a fast peer never makes drain wait; the loop has others to serve


def _require_outgoing(content: Outgoing) -> None:
    if not isinstance(content, Sealed | Released):
        raise TypeError(f"only sealed or released content may leave, not {type(content).__name__}")


def blocks(content: Outgoing, block_bytes: int = _BLOCK_BYTES) -> Iterator[bytes]:
    """Header, empty line and body as they stand on the wire (RFC 5321 §4.5.2), without the final dot.

    Raises:
        ValueError: at the block that holds a bare CR or LF.
    """
    for part in (content.header, b"\r\n", content.body):
        yield from _quoted_blocks(part, block_bytes)
    if content.body and not content.body.endswith(b"\r\n"):
        yield b"\r\n"  # RFC 5321 §4.1.1.4: the final dot stands on a line of its own


def _quoted_blocks(part: bytes, block_bytes: int) -> Iterator[bytes]:
    """Canonical lines in blocks, a dot doubled where it begins a line; `part` begins a line."""
    start = 0
    while start < len(part):
        end = start + block_bytes
        if part[end - 1 : end] == b"\r":
            end += 1  # CR and LF stay together, so that a block never hides half a line end
        block = part[start:end]
        _require_canonical(block)
        if block.startswith(b".") and part[max(start - 2, 0) : start] in (b"", b"\r\n"):
            block = b"." + block
        yield block.replace(b"\r\n.", b"\r\n..")
        start = end


def _require_canonical(block: bytes) -> None:
    if not block.count(b"\r\n") == block.count(b"\r") == block.count(b"\n"):
        raise ValueError("content with a bare CR or LF reached the wire")  # SMTP smuggling
