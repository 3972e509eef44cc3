"""Takes ASCII armour off (RFC 9580 §6): strict on structure, liberal on armour headers and the checksum.

Checked by alphabet, not by regular expressions, and decoded block by block, so that 50 MB hold the
interpreter lock for a few milliseconds at a time.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass

from relay.mime.packets import Malformed

_BEGIN = re.compile(rb"-----BEGIN PGP ([A-Z0-9 ,/]{1,40})-----[ \t]*\r?\n")
_HEADER = re.compile(rb"[A-Za-z0-9-]{1,40}: ?[^\r\n]{0,2000}\r?\n")
_BLANK = re.compile(rb"[ \t]*\r?\n")
_CHECKSUM = re.compile(rb"=[A-Za-z0-9+/]{4}[ \t]*\r?\n?\Z")
_BLOCK_CHARS = 1 << 20
_MAX_HEADERS = 10


@dataclass(frozen=True, slots=True)
class Block:
    """One armoured block and where it stands."""

    label: str
    """`MESSAGE`, `PUBLIC KEY BLOCK` …"""
    data: bytes
    start: int
    end: int
    """Offset behind the END line, its line end included where there is one."""
    headers: tuple[bytes, ...]
    """Armour header lines, without their line ends: `Version: …`."""
    has_checksum: bool


def blocks(text: bytes) -> Iterator[Block]:
    """Every armoured block in `text`; other lines between them are skipped.

    Raises:
        Malformed: a block without END, or with octets that are not base64.
    """
    offset = 0
    while match := _BEGIN.search(text, offset):
        block = _block(text, match)
        yield block
        offset = block.end


def _block(text: bytes, begin: re.Match[bytes]) -> Block:
    label = begin[1]
    body, headers = begin.end(), list[bytes]()
    while header := _HEADER.match(text, body):
        body = header.end()
        headers.append(header[0].rstrip(b"\r\n"))
        if len(headers) > _MAX_HEADERS:
            raise Malformed(f"more than {_MAX_HEADERS} armour headers")
    if blank := _BLANK.match(text, body):
        body = blank.end()
    tail = b"-----END PGP " + label + b"-----"
    stop = text.find(tail, body)
    if stop < 0:
        raise Malformed("armour without an END line")
    checksum = _CHECKSUM.search(text, max(body, stop - 12), stop)
    end = _line_end(text, stop + len(tail))
    data = _decode(text, body, checksum.start() if checksum else stop)
    return Block(label.decode(), data, begin.start(), end, tuple(headers), checksum is not None)


def _line_end(text: bytes, offset: int) -> int:
    """Behind the rest of the END line; anything but blanks on it is refused."""
    stop = text.find(b"\n", offset)
    end = len(text) if stop < 0 else stop + 1
    if text[offset:end].strip():
        raise Malformed("text on the END line of armour")
    return end


def _decode(text: bytes, start: int, stop: int) -> bytes:
    """The base64 between two offsets; line ends and blanks are skipped, everything else must be base64."""
    parts, rest = [], b""
    for offset in range(start, stop, _BLOCK_CHARS):
        chars = rest + text[offset : min(stop, offset + _BLOCK_CHARS)].translate(None, b" \t\r\n")
        keep = len(chars) - len(chars) % 4
        if b"=" in chars[:keep] and offset + _BLOCK_CHARS < stop:
            raise Malformed("base64 that ends in the middle")
        parts.append(_base64(chars[:keep]))
        rest = chars[keep:]
    if rest:
        raise Malformed("base64 that stops inside a group")
    return b"".join(parts)


def _base64(chars: bytes) -> bytes:
    try:
        return binascii.a2b_base64(chars, strict_mode=True)
    except binascii.Error as exc:
        raise Malformed(f"armour is not base64: {exc}") from exc
