"""Reads and writes the `Autocrypt` field of a message: the key that its author hands out (Autocrypt 1.1).

Of what is read nothing is verified: whether the key may be used says the judge, whether it is kept says
`keys.autocrypt`. Whatever is in doubt teaches nothing. `Autocrypt-Gossip` is never read: it tells of other
people's keys.
"""

from __future__ import annotations

import binascii
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from relay.address import parse_mailbox
from relay.errors import MessageRefused, SenderNotAllowed
from relay.message import Address, Certificate, Login
from relay.mime import authors, contenttype, packets
from relay.mime.headers import Field, Message
from relay.senders import check_authors

_MAX_FIELD_BYTES = 16 << 10
"""Of an `Autocrypt` or `From` field as received. The text wants fields above 10 KiB ignored, so that all
programs fail alike; here that much is left to the key itself, and base64 and folding come on top."""
_MAX_KEY_BYTES = 10 << 10
_MAX_FIELDS = 10
"""One is valid, future versions may stand beside it; each can cost the walk over thousands of packets."""
_MAX_WRITTEN_BYTES = 10 << 10
"""Of a field that we write; the text wants larger ones ignored."""
_LINE_CHARS = 77
"""Of base64 in a folded line: with the blank before it 78, as RFC 5322 §2.1.1 recommends."""
_ATTRIBUTES = frozenset({b"addr", b"prefer-encrypt", b"keydata"})
_BLANKS = b" \t"
_DATE = re.compile(
    rb"(?:[A-Za-z]{3},)?[ \t]*([0-9]{1,2})[ \t]+([A-Za-z]{3})[ \t]+([0-9]{4})"
    rb"[ \t]+([0-9]{2}):([0-9]{2})(?::([0-5][0-9]|60))?[ \t]+(?:([+-])([0-9]{2})([0-9]{2})|GMT|UTC?)"
    rb"(?:[ \t]+\([^()]{0,100}\))?"
)
_MONTHS = (b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec")
_MAX_DATE_BYTES = 200
_CERTIFICATE_PACKETS = frozenset(
    {
        packets.PUBLIC_KEY,
        packets.PUBLIC_SUBKEY,
        packets.USER_ID,
        packets.USER_ATTRIBUTE,
        packets.SIGNATURE,
    }
)
"""RFC 9580 §10.1. Anything else beside them is no certificate alone."""


@dataclass(frozen=True, slots=True)
class Header:
    """The one valid `Autocrypt` field of a message."""

    addr: Address
    """Whose key it is: the author of the message."""
    certificate: bytes
    """Binary packets of exactly one certificate, without a secret key; unjudged."""
    fingerprint: str
    """Of its primary key, upper-case hex."""
    prefers_encrypt: bool = False
    """`prefer-encrypt=mutual`; any other value means nothing."""


def may_learn(login: Login | None, author: Address) -> bool:
    """Whether the address is proven to belong to the login: one of its patterns is exactly this mailbox.

    `*@b.example` lets a login write as every colleague. That does not make their addresses its own, and it
    must not be able to plant a key for them.
    """
    if login is None:
        return False
    exact = tuple(pattern for pattern in login.senders or () if pattern.rpartition("@")[0] not in {"", "*"})
    try:
        check_authors(Login(login.name, exact), [author])
    except SenderNotAllowed:
        return False
    return True


def taught(message: Message, login: Login | None) -> Header | None:
    """What a message of this login teaches about its author: `find`, where `may_learn`."""
    if not message.get("autocrypt"):  # nearly every message: do not even read who wrote it
        return None
    author = _single_author(message)
    return find(message, author) if author and may_learn(login, author) else None


def find(message: Message, author: Address) -> Header | None:
    """The only valid `Autocrypt` field about the author; None where there is no such field or more than one.

    None as well for a message that teaches nothing ("Updating Autocrypt Peer State"): a report, an automatic
    reply, one with more than one author or with another one. Nothing is raised for any octets.
    """
    fields = message.get("autocrypt")
    if not 0 < len(fields) <= _MAX_FIELDS or _is_automatic(message):
        return None
    single = _single_author(message)
    if single is None or single.key != author.key:
        return None
    headers = [header for field in fields if (header := _header(field, author))]
    return headers[0] if len(headers) == 1 else None


def sent_at(message: Message) -> datetime | None:
    """When the message says it was sent (UTC); None where that cannot be read (RFC 5322 §3.3)."""
    fields = message.get("date")
    value = fields[0].value if len(fields) == 1 else b""
    found = _DATE.fullmatch(value) if len(value) <= _MAX_DATE_BYTES else None
    if not found or found[2].lower() not in _MONTHS:
        return None
    day, year, hour, minute, second = (int(found[group] or 0) for group in (1, 3, 4, 5, 6))
    offset = timedelta(hours=int(found[8] or 0), minutes=int(found[9] or 0))
    month = _MONTHS.index(found[2].lower()) + 1
    try:
        # A leap second is 60 (RFC 5322 §3.3), which `datetime` does not know.
        local = datetime(year, month, day, hour, minute, min(second, 59), tzinfo=UTC)
        return local + offset if found[7] == b"-" else local - offset
    except (ValueError, OverflowError):
        return None


def header(addr: str, certificate: bytes) -> bytes:
    """The whole raw field, folded, its final CRLF included; `keydata` stands last.

    `prefer-encrypt` is left out: whether answers should be encrypted is for the author to say.

    Args:
        addr: the address of the author.
        certificate: binary, see `openpgp.signing.minimal`.

    Raises:
        ValueError: the address cannot stand in such a field, or the field were larger than others read.
    """
    if not addr or not addr.isascii() or not addr.isprintable() or not set(addr).isdisjoint('; "'):
        raise ValueError("has an address that cannot stand in an Autocrypt field")
    data = binascii.b2a_base64(certificate, newline=False)
    lines = [data[start : start + _LINE_CHARS] for start in range(0, len(data), _LINE_CHARS)]
    field = b"\r\n ".join([b"Autocrypt: addr=" + addr.encode() + b"; keydata=", *lines]) + b"\r\n"
    if len(field) > _MAX_WRITTEN_BYTES:
        raise ValueError(
            f"is too large for an Autocrypt field: {len(field)} octets, {_MAX_WRITTEN_BYTES} fit"
        )
    return field


# --------------------------------------------------------------------------- the message


def _is_automatic(message: Message) -> bool:
    """A report, a reply by a program, or something that cannot be told from one."""
    replied = any(not _is_by_hand(field) for field in message.get("auto-submitted"))
    kinds = [contenttype.parse(field.value) for field in message.get("content-type")]
    return replied or any(kind is None or kind.value == "multipart/report" for kind in kinds)


def _is_by_hand(field: Field) -> bool:
    """RFC 3834 §5: `no` is a person; `auto-generated` is a program that begins, with a key of its own."""
    return field.value.partition(b";")[0].strip(_BLANKS).lower() in {b"no", b"auto-generated"}


def _single_author(message: Message) -> Address | None:
    """The only mailbox in From; the text ignores Sender and Reply-To."""
    fields = message.get("from")
    if len(fields) != 1 or len(fields[0].raw) > _MAX_FIELD_BYTES:
        return None
    try:
        found = authors.author(replace(message, fields=tuple(fields)))
    except MessageRefused:
        return None
    return found[0] if len({address.key for address in found}) == 1 else None


# --------------------------------------------------------------------------- one field


def _header(field: Field, author: Address) -> Header | None:
    """What the field says of the author; None where it is invalid, or valid for somebody else."""
    if len(field.raw) > _MAX_FIELD_BYTES:
        return None
    attributes = _attributes(field.value)
    if attributes is None or not _is_about(attributes.get(b"addr", b""), author):
        return None
    certificate = _certificate(attributes[b"keydata"])
    if certificate is None:
        return None
    prefers = attributes.get(b"prefer-encrypt") == b"mutual"
    return Header(author, certificate.data, certificate.fingerprint, prefers)


def _attributes(value: bytes) -> dict[bytes, bytes] | None:
    """The attributes that Level 1 knows, with `keydata` as the last; None where the field is invalid.

    An unknown one is skipped only if its name begins with an underscore. One that stands twice is in doubt.
    """
    found: dict[bytes, bytes] = {}
    name = b""
    for piece in value.split(b";"):
        name, _, text = (part.strip(_BLANKS) for part in piece.partition(b"="))
        if name.startswith(b"_"):
            continue
        if name in found or name not in _ATTRIBUTES:
            return None
        found[name] = text
    return found if name == b"keydata" else None


def _is_about(addr: bytes, author: Address) -> bool:
    try:
        return parse_mailbox(addr.decode()).key == author.key
    except ValueError:  # no address, or no UTF-8
        return False


def _certificate(keydata: bytes) -> Certificate | None:
    """The only certificate in the key data, which may be folded anywhere."""
    try:
        data = binascii.a2b_base64(keydata.translate(None, _BLANKS), strict_mode=True)
        found = packets.certificates(data, "") if len(data) <= _MAX_KEY_BYTES else []
        known = all(packet.tag in _CERTIFICATE_PACKETS for one in found for packet in packets.walk(one.data))
    except (binascii.Error, packets.Malformed):
        return None
    return found[0] if len(found) == 1 and found[0].fingerprint and known else None
