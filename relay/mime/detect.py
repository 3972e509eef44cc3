"""Says whether a message was already encrypted by its client, by structure and packets, never by its label.

Everything in doubt counts as plaintext and is encrypted, which does no harm: a nested part (a list footer), a
part in base64 or quoted-printable, words around the armour that clients do not write by themselves, a message
for a password only. S/MIME is not looked into and counts as plaintext too. Armour headers are accepted as
K-9, Proton and GopenPGP write them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from relay.errors import EncryptionFailed, MessageRefused
from relay.message import Address, Sealed
from relay.mime import armor, contenttype, headers, packets
from relay.mime.checks import check_clear, needs_smtputf8
from relay.mime.complete import strip
from relay.mime.headers import Field, Message, cut, serialise
from relay.mime.packets import EncryptedMessage

_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")
_DELIMITER_END = re.compile(rb"[ \t]*\r\n")
_CLOSE_END = re.compile(rb"--[ \t]*(?:\r\n|\Z)")
_VERSION_ONE = re.compile(rb"Version:[ \t]*1\s*")
_ARMOR_HEADER = re.compile(rb"(?:Version|Comment|MessageID|Hash|Charset):[\x20-\x7e]{0,200}")
_MAX_PART_HEADER_BYTES = 4000
_MAX_LEAD_BYTES = 1000
"""White space before the armour."""
_IDENTITY_ENCODINGS = frozenset({b"7bit", b"8bit"})
_VERSION_ROWS = frozenset({(1, frozenset({3})), (2, frozenset({6}))})
"""SEIPD version and PKESK versions that may stand together (RFC 9580 §10.3.2.1)."""
_WORD = re.compile(
    r"an?|and|asc|attachment|body|cryptographically|data|encrypted|file|format|gpg|identification|in|is|message"
    r"|mime|msg|multi|openpgp|parts?|pgp|pgpmime|rfc|signed|the|this|versions?|with|1|2440|3156|4880|9580|"
)
"""What preambles, part descriptions and file names of PGP/MIME consist of in every client.

Anything else could be something that the sender wrote."""
_BETWEEN_WORDS = re.compile(r"[\s./()_:-]+")


def already_encrypted(message: Message) -> EncryptedMessage | None:
    """What the whole message is encrypted to; None where any part of it may be readable.

    Two forms count: PGP/MIME exactly as RFC 3156 §4 describes it, and one armoured block as the only text of
    a text/plain message. In both the armour holds session keys for at least one key, then one SEIPD packet.
    """
    if not _is_plainly_encoded(message):
        return None
    found = message.get("content-type")
    kind = contenttype.parse(found[0].value) if found else None
    if found and not kind:
        return None
    if kind is None or kind.value == "text/plain":
        return _encrypted_block(message.body)
    part = _encrypted_part(kind, message.body)
    return _encrypted_block(part) if part is not None else None


def covers(encrypted: EncryptedMessage, subkey_ids: Iterable[str]) -> bool:
    """Whether one of these subkeys can open it, as far as one can see; a zero key ID may be anybody's."""
    named = {form for one in subkey_ids for form in (one, packets.v3_pkesk_id(one))}
    return encrypted.has_anonymous_recipient or not named.isdisjoint(encrypted.pkesk_ids)


def pass_through(
    message: Message,
    *,
    received: bytes,
    recipients: tuple[Address, ...],
    key_ids: tuple[str, ...],
    smtputf8: bool = False,
) -> Sealed:
    """The message as its client encrypted it: body and header lines byte for byte, with a Received field.

    Args:
        key_ids: what `already_encrypted` found; it is asked again, so that nothing readable is ever `Sealed`.
        smtputf8: whether the client asked for SMTPUTF8; kept only if the header needs it.

    Raises:
        EncryptionFailed: the message is not encrypted, or not to these keys.
        MessageRefused: a line is too long to be sent.
    """
    found = already_encrypted(message)
    if found is None or sorted(found.pkesk_ids) != sorted(key_ids):
        raise EncryptionFailed("a message to be passed through is not encrypted as it was said to be")
    check_clear(message)
    header = received + serialise(strip(message, sealed=False).fields)
    return Sealed(
        header=header,
        body=message.body,
        recipients=recipients,
        key_ids=found.pkesk_ids,
        passed_through=True,
        smtputf8=smtputf8 and needs_smtputf8(header),
    )


def _is_plainly_encoded(message: Message) -> bool:
    """Whether the structural fields stand once and the body is what its octets say."""
    encodings = message.get("content-transfer-encoding")
    return (
        len(message.get("content-type")) <= 1
        and len(encodings) <= 1
        and all(field.value.lower() in _IDENTITY_ENCODINGS for field in encodings)
    )


# --------------------------------------------------------------------------- the armoured block


def _encrypted_block(text: bytes) -> EncryptedMessage | None:
    """What the only armoured block in `text` is encrypted to; None if anything else stands there."""
    lead = text[:_MAX_LEAD_BYTES]
    start = len(lead) - len(lead.lstrip())
    if not text.startswith(b"-----BEGIN PGP MESSAGE-----", start):
        return None
    try:
        block = next(armor.blocks(text), None)
        if block is None or block.start != start:
            return None
        found = packets.encrypted_message(block.data)
    except packets.Malformed:
        return None
    if text[block.end :].strip() or not all(_ARMOR_HEADER.fullmatch(line) for line in block.headers):
        return None
    row = (found.seipd_version, frozenset(found.pkesk_versions))
    return found if row in _VERSION_ROWS else None


# --------------------------------------------------------------------------- PGP/MIME


def _encrypted_part(kind: contenttype.Parameterised, body: bytes) -> bytes | None:
    """The content of the second part, if the body is exactly what RFC 3156 §4 describes."""
    boundary = kind.parameters.get("boundary", "")
    protocol = kind.parameters.get("protocol", "").lower()
    if kind.value != "multipart/encrypted" or protocol != "application/pgp-encrypted":
        return None
    if not _BOUNDARY.fullmatch(boundary):
        return None
    parts = _two_parts(body, b"--" + boundary.encode("ascii"))
    if not parts:
        return None
    version = _part_body(parts[0], "application/pgp-encrypted")
    if version is None or not _VERSION_ONE.fullmatch(version):
        return None
    return _part_body(parts[1], "application/octet-stream")


def _two_parts(body: bytes, delimiter: bytes) -> tuple[bytes, bytes] | None:
    """The two parts of a body; None if there are more or fewer, or words before, between or behind them."""
    at = _occurrences(body, delimiter)
    if len(at) != 3 or any(start and body[start - 2 : start] != b"\r\n" for start in at):
        return None
    first, second, close = at
    ends = [_DELIMITER_END.match(body, start + len(delimiter)) for start in (first, second)]
    last = _CLOSE_END.match(body, close + len(delimiter))
    if not ends[0] or not ends[1] or not last or body[last.end() :].strip():
        return None
    if first > _MAX_LEAD_BYTES or not _is_boilerplate(body[:first]):
        return None
    return body[ends[0].end() : second - 2], cut(body, ends[1].end(), close - 2)


def _occurrences(body: bytes, delimiter: bytes) -> list[int]:
    """Where the delimiter stands, up to the fourth time: one is already too many."""
    found: list[int] = []
    at = body.find(delimiter)
    while at >= 0 and len(found) < 4:
        found.append(at)
        at = body.find(delimiter, at + len(delimiter))
    return found


def _part_body(part: bytes, kind: str) -> bytes | None:
    """The content of a part of this type whose own fields say only what clients write by themselves."""
    end = part.find(b"\r\n\r\n", 0, _MAX_PART_HEADER_BYTES)
    if end < 0:
        return None
    try:
        fields = headers.parse(part[: end + 2]).fields
    except MessageRefused:
        return None
    names = [field.name for field in fields]
    if names.count("content-type") != 1 or len(set(names)) < len(names):
        return None
    return cut(part, end + 4, len(part)) if all(_is_usual(field, kind) for field in fields) else None


def _is_usual(field: Field, kind: str) -> bool:
    """Whether a field of a part is one that clients write, with nothing of the sender's in it."""
    if field.name == "content-transfer-encoding":
        return field.value.lower() in _IDENTITY_ENCODINGS
    if field.name == "content-description":
        return _is_boilerplate(field.value)
    value = contenttype.parse(field.value)
    if value is None or value.has_comment:
        return False
    if field.name == "content-type":
        return value.value == kind and _has_only(value, "name")
    return (
        field.name == "content-disposition"
        and value.value in {"inline", "attachment"}
        and _has_only(value, "filename")
    )


def _has_only(value: contenttype.Parameterised, parameter: str) -> bool:
    return set(value.parameters) <= {parameter} and _is_boilerplate(
        value.parameters.get(parameter, "").encode()
    )


def _is_boilerplate(text: bytes) -> bool:
    """Whether only words stand there that every PGP/MIME message may have."""
    if len(text) > _MAX_LEAD_BYTES or not text.isascii():
        return False
    words = _BETWEEN_WORDS.split(text.decode("ascii").lower())
    return all(_WORD.fullmatch(word) for word in words)
