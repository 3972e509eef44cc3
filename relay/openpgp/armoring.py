"""Makes the ASCII armour (RFC 9580 §6) of every engine the same: CRLF, no headers, a checksum where it helps.

The checksum MUST NOT follow v2 SEIPD (§6.1) and is cut off there. On v1 it stays, which §6.1 allows for
interoperability: without it gpg 2.2 reads the END line as base64 and reports an error whenever the message
ends without padding, and older Bouncy Castle refuses it.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from io import BytesIO

from relay.mime.packets import PKESK, Malformed

_BEGIN = b"-----BEGIN PGP MESSAGE-----\n\n"
_END = b"-----END PGP MESSAGE-----\n"
_CHECKSUM = re.compile(rb"=[A-Za-z0-9+/]{4}\n\Z")
_CHECKSUM_CHARS = 6
_CHUNK_CHARS = 1 << 16


class Armour:
    """An armoured message as a library wrote it, with LF; it is not copied.

    Raises:
        Malformed: it is not exactly one armoured message without headers.
    """

    def __init__(self, text: bytes) -> None:
        if not (text.startswith(_BEGIN) and text.endswith(_END)):
            raise Malformed("what the library wrote is not an armoured message without headers")
        self._text = text
        self._stop = len(text) - len(_END)
        self.is_v2 = _session_key_version(text) != 3
        """Whether it begins as a message of version 2 does."""
        if self.is_v2 and _CHECKSUM.match(text, self._stop - _CHECKSUM_CHARS, self._stop):
            self._stop -= _CHECKSUM_CHARS

    def __len__(self) -> int:
        """The length of what `chunks` gives."""
        lines = self._text.count(b"\n", 0, self._stop) + 1
        return self._stop + len(_END) + lines

    def chunks(self) -> Iterator[bytes]:
        """The armour as it is sent, in pieces."""
        for start in range(0, self._stop, _CHUNK_CHARS):
            yield _crlf(self._text[start : min(start + _CHUNK_CHARS, self._stop)])
        yield _crlf(_END)

    def __bytes__(self) -> bytes:
        """The armour as it is sent."""
        whole = BytesIO()  # unlike a join it does not hold every piece twice
        whole.writelines(self.chunks())
        return whole.getvalue()


def _crlf(text: bytes) -> bytes:
    return text.replace(b"\n", b"\r\n")


def _session_key_version(text: bytes) -> int:
    """The version of the first PKESK: 3 goes with v1 SEIPD, 6 with v2, never mixed (RFC 9580 §10.3.2.1)."""
    try:
        head = binascii.a2b_base64(text[len(_BEGIN) : len(_BEGIN) + 12])
        tag, body = _packet_head(head)
        version = head[body]
    except (binascii.Error, IndexError) as exc:
        raise Malformed(f"no packet in the armour: {exc}") from exc
    if tag != PKESK:
        raise Malformed(f"the message begins with a packet of type {tag}")
    return version


def _packet_head(head: bytes) -> tuple[int, int]:
    """Type of the first packet and where its body begins (RFC 9580 §4.2)."""
    if not head[0] & 0x40:
        return (head[0] >> 2) & 0x0F, 1 + (1 << (head[0] & 0x03))
    length_octets = 1 if head[1] < 192 else 2 if head[1] < 224 else 5
    return head[0] & 0x3F, 1 + length_octets
