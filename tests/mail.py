"""Builds messages and OpenPGP packets for tests: small, exact, and without the code under test.

The packets are well-formed on their outside only; nobody can decrypt them. Where that matters, tests use a
real OpenPGP implementation.
"""

from __future__ import annotations

import base64
import textwrap

KEY_ID = "0123456789ABCDEF"
BOUNDARY = "=_" + "0a" * 19
RECEIVED = (
    b"Received: from client.example ([192.0.2.1])\r\n\tby relay.example with ESMTPSA id T1;\r\n\tnow\r\n"
)
ZERO_ID = "0" * 16


def packet(tag: int, body: bytes) -> bytes:
    """A new-format packet with a five-octet length."""
    return bytes([0xC0 | tag, 0xFF]) + len(body).to_bytes(4) + body


def pkesk(key_id: str = KEY_ID) -> bytes:
    """A v3 session key packet for a v4 key."""
    return packet(1, b"\x03" + bytes.fromhex(key_id) + b"\x12" + b"s" * 40)


def pkesk6(fingerprint: str) -> bytes:
    """A v6 session key packet for a v6 key."""
    key = b"\x06" + bytes.fromhex(fingerprint)
    return packet(1, b"\x06" + bytes([len(key)]) + key + b"\x19" + b"s" * 40)


def skesk() -> bytes:
    """A session key packet for a password."""
    return packet(3, b"\x04\x09\x03\x08" + b"saltsalt" + b"\x60")


def seipd(octets: bytes = b"\x9c" * 200, version: int = 1) -> bytes:
    """Integrity-protected encrypted data."""
    return packet(18, bytes([version]) + octets)


def encrypted(*key_ids: str) -> bytes:
    """The packets of an encrypted message."""
    return b"".join(pkesk(key_id) for key_id in key_ids or (KEY_ID,)) + seipd()


def armor(data: bytes, *, label: str = "MESSAGE", headers: str = "", eol: str = "\n") -> bytes:
    """ASCII armour with lines of 64 characters and no checksum."""
    lines = textwrap.wrap(base64.b64encode(data).decode(), 64)
    text = "\n".join([f"-----BEGIN PGP {label}-----", *headers.splitlines(), "", *lines])
    return f"{text}\n-----END PGP {label}-----\n".replace("\n", eol).encode()


def crlf(text: str) -> bytes:
    """The text with CRLF line ends, without what indents it in a test."""
    return textwrap.dedent(text).lstrip("\n").replace("\n", "\r\n").encode()
