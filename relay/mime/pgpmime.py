"""Builds PGP/MIME (RFC 3156 §4) and clear copies around the sender's bytes; what was sent is never rewritten.

What is encrypted is the body behind its own Content-* fields, with the header in front where that is
protected (`protection`).
"""

from __future__ import annotations

import codecs
import secrets
from dataclasses import dataclass

from relay.message import Address, Released
from relay.mime import contenttype, protection
from relay.mime.checks import check_clear, needs_smtputf8
from relay.mime.complete import strip
from relay.mime.headers import Field, Message, serialise
from relay.rule import Headers

_CHUNK_BYTES = 1 << 20
_PART_ONE = (
    b"Content-Type: application/pgp-encrypted\r\n"
    b"Content-Description: PGP/MIME version identification\r\n"
    b"\r\n"
    b"Version: 1\r\n"
)
_PART_TWO = (
    b'Content-Type: application/octet-stream; name="encrypted.asc"\r\n'
    b"Content-Description: OpenPGP encrypted message\r\n"
    b'Content-Disposition: inline; filename="encrypted.asc"\r\n'
    b"\r\n"
)
"""Fixed words: the names of the sender's files are inside. No Content-Transfer-Encoding: 7bit is the default,
and clients stumble over it here."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is encrypted, and what stands outside of it."""

    payload: bytes
    outside: tuple[Field, ...]
    """Header fields, in order."""
    is_protected: bool
    """Whether the Subject is inside."""


def plan(message: Message, headers: Headers) -> Plan:
    """Divides a message, completed and stripped, into the inside and the outside of its encrypted copy."""
    inside = entity(message)
    if not protection.is_hidden(headers, message):
        outside = tuple(field for field in message.fields if not field.is_structural)
        return Plan(b"".join(_under_root(message, inside)), outside, is_protected=False)
    outside = protection.outside(message)
    if not protection.protects_itself(message):
        inside = protection.root(message, outside, inside, new_boundary())
    return Plan(b"".join(inside), outside, is_protected=True)


def _under_root(message: Message, inside: list[bytes]) -> list[bytes]:
    """A forwarded message is no root of a payload: old readers take its header for that of this message.

    RFC 9788 §4.10 forbids it.
    """
    kinds = [contenttype.parse(field.value) for field in message.get("content-type")]
    if not any(kind is None or kind.value.startswith("message/") for kind in kinds):
        return inside
    boundary = new_boundary().encode("ascii")
    head = b'Content-Type: multipart/mixed; boundary="' + boundary + b'"\r\n\r\n'
    return [head, b"--", boundary, b"\r\n", *inside, b"\r\n--", boundary, b"--\r\n"]


def entity(message: Message) -> list[bytes]:
    """The MIME entity of the body: the Content-* fields as they are, an empty line, the body as it is.

    In pieces, because a large one should not be copied more often than needed. A message without Content-Type
    gets one inside, because clients take decrypted data that does not begin with it for something other than
    a MIME entity.
    """
    fields = [field for field in message.fields if field.is_structural and field.name != "mime-version"]
    return [_missing_type(message), serialise(fields), b"\r\n", message.body]


def wrap(
    outside: tuple[Field, ...], armored: bytes, *, boundary: str, received: bytes
) -> tuple[bytes, bytes]:
    """The encrypted copy: outer header section (without the empty line) and body.

    Args:
        outside: as `plan` found it.
        armored: the encrypted payload; LF line ends become CRLF.
        received: the relay's own trace field, ended by CRLF.
    """
    kind = (
        "MIME-Version: 1.0\r\n"
        'Content-Type: multipart/encrypted; protocol="application/pgp-encrypted";\r\n'
        f'\tboundary="{boundary}"\r\n'
    ).encode("ascii")
    line = b"--" + boundary.encode("ascii")
    body = [line, b"\r\n", _PART_ONE, b"\r\n", line, b"\r\n", _PART_TWO]
    body += [*with_crlf(armored), b"\r\n", line, b"--\r\n"]
    return b"".join([received, serialise(outside), kind]), b"".join(body)


def release(
    message: Message, *, received: bytes, recipients: tuple[Address, ...], rule: str, smtputf8: bool
) -> Released:
    """The copy that leaves in clear because `rule` says so, byte for byte.

    Args:
        smtputf8: whether the client asked for SMTPUTF8; kept only if the header needs it (RFC 6531).

    Raises:
        MessageRefused: a line is longer than mail in clear may have.
    """
    check_clear(message)
    header = received + serialise(strip(message, sealed=False).fields)
    return Released(
        header=header,
        body=message.body,
        recipients=recipients,
        rule=rule,
        smtputf8=smtputf8 and needs_smtputf8(header),
    )


def new_boundary() -> str:
    """A random boundary of 40 characters that no base64 line begins with (RFC 2046 §5.1.1)."""
    return f"=_{secrets.token_hex(19)}"


def _missing_type(message: Message) -> bytes:
    """The Content-Type that RFC 2045 §5.2 implies; for 8-bit text what it most likely is."""
    if message.get("content-type"):
        return b""
    if message.get("content-transfer-encoding"):
        return b"Content-Type: text/plain\r\n"
    if message.body.isascii():
        return b"Content-Type: text/plain; charset=us-ascii\r\n"
    charset = b"utf-8" if _is_utf8(message.body) else b"unknown-8bit"  # RFC 1428 §3
    return b"Content-Type: text/plain; charset=" + charset + b"\r\nContent-Transfer-Encoding: 8bit\r\n"


def _is_utf8(data: bytes) -> bool:
    """Piece by piece, so that the text never stands in memory a second time as a whole."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for start in range(0, len(data), _CHUNK_BYTES):
            decoder.decode(data[start : start + _CHUNK_BYTES])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def with_crlf(armored: bytes) -> list[bytes]:
    """The armour in pieces with CRLF line ends; one that already has a CR is left for the self-check."""
    if b"\r" in armored:
        return [armored]
    starts = range(0, len(armored), _CHUNK_BYTES)
    return [armored[start : start + _CHUNK_BYTES].replace(b"\n", b"\r\n") for start in starts]
