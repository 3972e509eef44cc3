"""Looks at a finished encrypted copy before the next hop sees it, and alone turns it into a `Sealed` one.

It trusts neither the engine nor the wrapper: the templates stand here a second time on purpose, and every
octet of the output has to be a field copied from the message, a word of a template, or armour around session
keys for exactly the intended subkeys and one encrypted packet. Work is done in pieces that hold the
interpreter lock for a few milliseconds, so that a large copy can be checked in a thread.
"""

from __future__ import annotations

import binascii
import re
from io import BytesIO

from relay.errors import EncryptionFailed, MessageRefused
from relay.message import Address, Sealed
from relay.mime import headers, packets
from relay.mime.headers import Message
from relay.mime.packets import EncryptedMessage

_MIME_VERSION = b"MIME-Version: 1.0\r\n"
_CONTENT_TYPE = re.compile(
    rb'Content-Type: multipart/encrypted; protocol="application/pgp-encrypted";\r\n'
    rb'\tboundary="(=_[0-9a-f]{38})"\r\n'
)
_BEFORE_ARMOR = (
    b"--%(boundary)b\r\n"
    b"Content-Type: application/pgp-encrypted\r\n"
    b"Content-Description: PGP/MIME version identification\r\n"
    b"\r\n"
    b"Version: 1\r\n"
    b"\r\n"
    b"--%(boundary)b\r\n"
    b'Content-Type: application/octet-stream; name="encrypted.asc"\r\n'
    b"Content-Description: OpenPGP encrypted message\r\n"
    b'Content-Disposition: inline; filename="encrypted.asc"\r\n'
    b"\r\n"
    b"-----BEGIN PGP MESSAGE-----\r\n"
    b"\r\n"
)
_BEHIND_ARMOR = b"-----END PGP MESSAGE-----\r\n\r\n--%(boundary)b--\r\n"
_NEVER_OUTSIDE = re.compile(
    r"content-.*|mime-version|bcc|resent-bcc|return-path|autocrypt-draft-state|dkim-signature|fcc|x-mozilla-.*"
)
_MAX_LINE_CHARS = 76
_LINES_PER_PIECE = 1 << 14
_VERSION_ROWS = frozenset({(1, 3), (2, 6)})
"""SEIPD version and PKESK version (RFC 9580 §10.3.2.1)."""
_CHECKSUM = re.compile(rb"=[A-Za-z0-9+/]{4}\r\n\Z")
_CHECKSUM_OCTETS = 7
"""GnuPG 2.2 needs the CRC24 that RFC 9580 §6.1 only tolerates; 24 bits of it are all that it can hold."""


def seal(
    header: bytes,
    body: bytes,
    *,
    message: Message,
    expected_ids: frozenset[str] | tuple[str, ...],
    recipients: tuple[Address, ...],
    received: bytes,
    smtputf8: bool,
) -> Sealed:
    """The copy as something that may leave.

    Args:
        header: outer header section, without the empty line.
        message: what was wrapped, completed and stripped.
        expected_ids: `Subkey.key_id` of every key to encrypt to; one for each PKESK packet.
        received: the relay's own trace field.
        smtputf8: whether the client asked for SMTPUTF8; kept only if the outer header needs it (RFC 6531).

    Raises:
        EncryptionFailed: anything is not as it should be; the detail says what, without content.
    """
    boundary = _boundary(header, message, received)
    before, behind = (template % {b"boundary": boundary} for template in (_BEFORE_ARMOR, _BEHIND_ARMOR))
    _need(body.startswith(before) and body.endswith(behind), "the body is not the two parts of the template")
    end = len(body) - len(behind)
    checksum = _CHECKSUM.match(body, max(len(before), end - _CHECKSUM_OCTETS), end)
    found = _encrypted(_dearmored(body, len(before), checksum.start() if checksum else end))
    _need(not checksum or found.seipd_version == 1, "a checksum behind v2 data (RFC 9580 §6.1)")
    _need(found.passwords == 0, "a password can open it")
    intended = [packets.v3_pkesk_id(one) if found.seipd_version == 1 else one for one in expected_ids]
    _need(
        bool(found.pkesk_ids) and sorted(found.pkesk_ids) == sorted(intended),
        f"encrypted to {','.join(found.pkesk_ids)}, intended {','.join(sorted(intended))}",
    )
    _need(
        {(found.seipd_version, version) for version in found.pkesk_versions} <= _VERSION_ROWS,
        "session keys and data of different versions",
    )
    return Sealed(
        header=header,
        body=body,
        recipients=recipients,
        key_ids=found.pkesk_ids,
        smtputf8=smtputf8 and not header.isascii(),
    )


def _need(condition: bool, otherwise: str) -> None:
    if not condition:
        raise EncryptionFailed(f"self-check: {otherwise}")


def _boundary(header: bytes, message: Message, received: bytes) -> bytes:
    """The boundary, if the header is ours: Received, the fields of the message in order, two fixed fields."""
    outer = [field.raw for field in _parsed(header)]
    _need([field.name for field in _parsed(received)] == ["received"], "the trace field is not one Received")
    kept = [field.raw for field in message.fields if not _NEVER_OUTSIDE.fullmatch(field.name)]
    _need(outer[:-1] == [received, *kept, _MIME_VERSION], "the header has other fields than it should")
    kind = _CONTENT_TYPE.fullmatch(outer[-1])
    if not kind:
        raise EncryptionFailed("self-check: the Content-Type is not the template")
    return kind[1]


def _parsed(section: bytes) -> tuple[headers.Field, ...]:
    try:
        parsed = headers.parse(section)
    except MessageRefused as exc:
        raise EncryptionFailed(f"self-check: no header section: {exc.detail}") from exc
    _need(not parsed.has_separator, "an empty line in the header section")
    return parsed.fields


def _encrypted(data: bytes) -> EncryptedMessage:
    try:
        return packets.encrypted_message(data)
    except packets.Malformed as exc:
        raise EncryptionFailed(f"self-check: no encrypted message: {exc}") from exc


def _dearmored(body: bytes, start: int, end: int) -> bytes:
    """The octets between two offsets, as base64 in lines of one length; only the last may be shorter."""
    width = body.find(b"\r\n", start, start + _MAX_LINE_CHARS + 2) - start
    _need(end > start and width > 0 and width % 4 == 0, "armour lines that are empty or too long")
    stride = width + 2
    full, rest = divmod(end - start, stride)
    stop = start + full * stride
    # Every line ends where it should; a line end anywhere else is an octet that base64 does not have.
    _need(body[start + width : stop : stride] == b"\r" * full, "armour lines of different lengths")
    _need(body[start + width + 1 : stop : stride] == b"\n" * full, "armour lines of different lengths")
    _need(rest == 0 or body[end - 2 : end] == b"\r\n", "armour that does not end with a line end")
    data = BytesIO()
    for piece in range(start, stop, stride * _LINES_PER_PIECE):
        piece_end = min(piece + stride * _LINES_PER_PIECE, stop)
        data.write(_base64(body[piece:piece_end], (piece_end - piece) // stride, is_last=piece_end == end))
    if rest:
        data.write(_base64(body[stop:end], 1, is_last=True))
    return data.getvalue()


def _base64(text: bytes, lines: int, *, is_last: bool) -> bytes:
    chars = text.translate(None, b"\r\n")
    _need(len(chars) == len(text) - 2 * lines, "line ends inside of armour lines")
    _need(is_last or not chars.endswith(b"="), "armour that ends in the middle")
    try:
        return binascii.a2b_base64(chars, strict_mode=True)
    except binascii.Error as exc:
        raise EncryptionFailed(f"self-check: armour is not base64: {exc}") from exc
