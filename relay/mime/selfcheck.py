"""Looks at a finished encrypted copy before the next hop sees it, and alone turns it into a `Sealed` one.

It trusts neither the engine nor the wrapper: the templates stand here a second time on purpose, and every
octet of the output has to be a field copied from the message, a word of a template, or armour around session
keys for exactly the intended subkeys and one encrypted packet. Work is done in pieces that hold the
interpreter lock for a few milliseconds, so that a large copy can be checked in a thread.
"""

from __future__ import annotations

import binascii
import re
from functools import lru_cache
from io import BytesIO

from relay.errors import EncryptionFailed, MessageRefused
from relay.message import Address, Sealed
from relay.mime import contenttype, headers, packets
from relay.mime.headers import Message
from relay.mime.packets import EncryptedMessage
from relay.rule import Format, Headers

_MIME_VERSION = b"MIME-Version: 1.0\r\n"
_CONTENT_TYPE = re.compile(
    rb'Content-Type: multipart/encrypted; protocol="application/pgp-encrypted";\r\n'
    rb'\tboundary="(=_[0-9a-f]{38})"\r\n'
)
_BEFORE_PART = (
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
)
_BEFORE_ARMOR = b"-----BEGIN PGP MESSAGE-----\r\n\r\n"
_BEHIND_ARMOR = b"-----END PGP MESSAGE-----\r\n"
_BEHIND_PART = b"\r\n--%(boundary)b--\r\n"
_INLINE_TYPE = re.compile(rb'Content-Type: text/plain; charset="([A-Za-z0-9][A-Za-z0-9._:+()-]{0,59})"\r\n')
_SEVEN_BIT = b"Content-Transfer-Encoding: 7bit\r\n"
_NEVER_OUTSIDE = re.compile(
    r"content-.*|mime-version|bcc|resent-bcc|return-path|autocrypt-draft-state|fcc|x-mozilla-.*"
    r"|arc-.*|(.*-)?dkim-signature|domainkey-signature|hp-outer"
)
_INSIDE_ALONE = re.compile(
    r"comments|keywords|thread-topic|.*-subject|autocrypt-gossip"
    r"|user-agent|x-mailer|x-mimeole|x-originating-(?:ip|email)|x-php-originating-script|x-(?:sender|client)-ip"
)
"""Fields that do not stay outside where the header is protected."""
_ALWAYS_OUTSIDE = re.compile(
    r"(?:resent-)?(?:from|sender|reply-to|to|cc|date|message-id)|in-reply-to|references|autocrypt|received"
    r"|list-(?:id|help|subscribe|unsubscribe|unsubscribe-post|post|owner|archive)"
    r"|tls-required|auto-submitted|precedence|disposition-notification-.*|authentication-results|delivered-to"
)
_OBSCURED_SUBJECT = b"Subject: [...]\r\n"
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
    header_rule: Headers,
    format: Format = Format.PGP_MIME,
    allows_v2: bool = False,
) -> Sealed:
    """The copy as something that may leave.

    Args:
        header: outer header section, without the empty line.
        message: what was wrapped, completed and stripped.
        expected_ids: `Subkey.key_id` of every key to encrypt to; one for each PKESK packet.
        received: the relay's own trace field.
        smtputf8: whether the client asked for SMTPUTF8; kept only if the outer header needs it (RFC 6531).
        header_rule: what the rule says of the header.
        format: what the rule says of the format; inline is allowed by it, never demanded.
        allows_v2: whether every owner of a key can read version 2 of encrypted data (RFC 9580 §13.7).

    Raises:
        EncryptionFailed: anything is not as it should be; the detail says what, without content.
    """
    outer = [field.raw for field in _parsed(header)]
    _need(len(outer) > 2, "fields are missing")
    _need([field.name for field in _parsed(received)] == ["received"], "the trace field is not one Received")
    is_protected = _has_to_be_protected(header_rule, message)
    is_inline = outer[-1] == _SEVEN_BIT
    _need(not is_inline or (format is Format.INLINE and not is_protected), "inline where it must not be")
    before, behind, own = _inline(outer, message) if is_inline else _pgp_mime(outer)
    _need(outer[0] == received, "the header does not begin with the trace field")
    _check_fields(outer[1:-own], message, is_protected=is_protected)
    _need(body.startswith(before) and body.endswith(behind), "the body is not the template")
    end = len(body) - len(behind)
    checksum = _CHECKSUM.match(body, max(len(before), end - _CHECKSUM_OCTETS), end)
    found = _encrypted(_dearmored(body, len(before), checksum.start() if checksum else end))
    _need(allows_v2 or found.seipd_version == 1, "v2 data, which not every recipient can read")
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


def _pgp_mime(outer: list[bytes]) -> tuple[bytes, bytes, int]:
    """What stands before and behind the armour, and how many fields at the end of the header are ours."""
    kind = _CONTENT_TYPE.fullmatch(outer[-1])
    if not kind or outer[-2:-1] != [_MIME_VERSION]:
        raise EncryptionFailed("self-check: the Content-Type is not the template")
    before, behind = (template % {b"boundary": kind[1]} for template in (_BEFORE_PART, _BEHIND_PART))
    return before + _BEFORE_ARMOR, _BEHIND_ARMOR + behind, 2


def _inline(outer: list[bytes], message: Message) -> tuple[bytes, bytes, int]:
    """The same of a message that is nothing but an armoured block; its charset is that of the message."""
    fixed = len(outer) > 3 and (outer[-3], outer[-1]) == (_MIME_VERSION, _SEVEN_BIT)
    kind = _INLINE_TYPE.fullmatch(outer[-2])
    if not fixed or not kind:
        raise EncryptionFailed("self-check: the fields of the body are not the template")
    own = [contenttype.parse(field.value) for field in message.fields if field.name == "content-type"]
    charsets = {b"us-ascii", *(one.parameters.get("charset", "").lower().encode() for one in own if one)}
    _need(kind[1].lower() in charsets, "a charset that is not the message's")
    return _BEFORE_ARMOR, _BEHIND_ARMOR, 3


def _has_to_be_protected(rule: Headers, message: Message) -> bool:
    """Whether the Subject must not be seen: by the rule, or as an answer to another (RFC 9788 §6.1)."""
    names = {field.name for field in message.fields}
    answers = not names.isdisjoint({"in-reply-to", "references", "x-forwarded-message-id"})
    return rule is Headers.PROTECT or (rule is Headers.KEEP and answers)


def _check_fields(outer: list[bytes], message: Message, *, is_protected: bool) -> None:
    """Every field outside is one of the message, in its order; what must be hidden is, nothing is lost."""
    subjects = {field.value for field in message.fields if field.name == "subject" and field.value}
    left = outer[::-1]
    for field in message.fields:
        if _is(_NEVER_OUTSIDE, field.name):
            continue
        is_obscured = is_protected and field.name == "subject"
        is_needed = is_obscured or not is_protected or _is(_ALWAYS_OUTSIDE, field.name)
        if left and left[-1] == (_OBSCURED_SUBJECT if is_obscured else field.raw):
            left.pop()
            shows = not is_needed and (_is(_INSIDE_ALONE, field.name) or field.value in subjects)
            _need(not shows, "a field stands outside that should be inside alone")
        else:
            _need(not is_needed, "a field is missing")
    _need(not left, "the header has other fields than it should")


@lru_cache(maxsize=1024)
def _is(names: re.Pattern[str], name: str) -> bool:
    return bool(names.fullmatch(name))


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
    _need(rest == 0 or (rest > 2 and body[end - 2 : end] == b"\r\n"), "armour that ends without a whole line")
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
