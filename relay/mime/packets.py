"""Walks OpenPGP packet headers (RFC 9580 §4.2): tags, lengths, partial lengths. No crypto, nothing verified.

It answers two questions that need no key: which certificates stand in these bytes, and is this message
encrypted, to which key IDs. What a signature says is never read here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from relay.message import Certificate

PKESK, SIGNATURE, SKESK, PUBLIC_KEY, SED, MARKER, LITERAL = 1, 2, 3, 6, 9, 10, 11
TRUST, USER_ID, PUBLIC_SUBKEY, USER_ATTRIBUTE, SEIPD, PADDING = 12, 13, 14, 17, 18, 21
SECRET_KEY, SECRET_SUBKEY, COMPRESSED, ONE_PASS_SIGNATURE = 5, 7, 8, 4
OCB_ENCRYPTED = 20
"""LibrePGP's container, reserved in RFC 9580 §10.3.2.1: never written by the relay."""

_CONTAINERS = frozenset({COMPRESSED, SED, LITERAL, SEIPD, OCB_ENCRYPTED})
"""The packets that hold content; only they may have partial lengths (RFC 9580 §4.2.1.4)."""
_HEAD_BYTES = 64
"""Of a container's body only the start is kept: it can be as large as the message."""

_MAX_CHUNKS = 1 << 17
"""Of one packet with partial lengths: 64 MB in the smallest chunks that are in use."""
_MAX_MESSAGE_PACKETS = 10_000
"""Far more session keys than a message has recipients."""

_NAMED_KEY_OCTETS = (0, 21, 33)
"""A v6 PKESK names nobody, or a v4 or v6 key by its version octet and fingerprint (RFC 9580 §5.1.2)."""

_FIRST_PARTIAL_BYTES = 512
"""The first chunk of a partial-length body is at least this long (RFC 9580 §4.2.1.4)."""


_MAX_V4_KEY_OCTETS = 0xFFFF
"""The fingerprint of a v4 key hashes its length in two octets; a longer one has no fingerprint."""


class Malformed(ValueError):
    """The bytes are not a sequence of OpenPGP packets."""


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet: its tag and where it stands in the bytes that were walked."""

    tag: int
    start: int
    """Offset of the packet header."""
    end: int
    """Offset behind the last octet of the body."""
    head: bytes
    """The body; of a packet that holds content only its first octets."""
    partial: bool = False


def walk(data: bytes) -> Iterator[Packet]:
    """Every packet of `data` in order; raises Malformed at the first octet that fits no packet."""
    offset = 0
    while offset < len(data):
        packet = _packet_at(data, offset)
        yield packet
        offset = packet.end


def _packet_at(data: bytes, start: int) -> Packet:
    ctb = data[start]
    if not ctb & 0x80:
        raise Malformed(f"no packet at octet {start}")
    if ctb & 0x40:
        return _new_format(data, start, ctb & 0x3F)
    return _old_format(data, start, (ctb >> 2) & 0x0F, ctb & 0x03)


def _new_format(data: bytes, start: int, tag: int) -> Packet:
    body, length, partial = _new_length(data, start + 1)
    _need(data, body + length)
    head, end = _head(data, tag, body, body + length), body + length
    is_partial, chunks = partial, 0
    if partial and (length < _FIRST_PARTIAL_BYTES or tag not in _CONTAINERS):
        raise Malformed(f"packet {tag} with a first partial chunk of {length} octets")
    while partial:
        chunk, length, partial = _new_length(data, end)
        end, chunks = chunk + length, chunks + 1
        _need(data, end)
        if chunks > _MAX_CHUNKS:
            raise Malformed(f"packet {tag} in more than {_MAX_CHUNKS} chunks")
    return Packet(tag, start, end, head, is_partial)


def _new_length(data: bytes, offset: int) -> tuple[int, int, bool]:
    """Offset of the body, its length, and whether another chunk follows (RFC 9580 §4.2.1)."""
    _need(data, offset + 1)
    first = data[offset]
    if first < 192:
        return offset + 1, first, False
    if first < 224:
        _need(data, offset + 2)
        return offset + 2, ((first - 192) << 8) + data[offset + 1] + 192, False
    if first < 255:
        return offset + 1, 1 << (first & 0x1F), True
    _need(data, offset + 5)
    return offset + 5, int.from_bytes(data[offset + 1 : offset + 5]), False


def _old_format(data: bytes, start: int, tag: int, length_type: int) -> Packet:
    if length_type == 3:  # indeterminate length (RFC 9580 §4.2.2): up to the end of the data
        return Packet(tag, start, len(data), _head(data, tag, start + 1, len(data)))
    octets = 1 << length_type
    body = start + 1 + octets
    _need(data, body)
    end = body + int.from_bytes(data[start + 1 : body])
    _need(data, end)
    return Packet(tag, start, end, _head(data, tag, body, end))


def _head(data: bytes, tag: int, start: int, end: int) -> bytes:
    return data[start : min(end, start + _HEAD_BYTES) if tag in _CONTAINERS else end]


def _need(data: bytes, end: int) -> None:
    if end > len(data):
        raise Malformed(f"packet ends at octet {end}, data at {len(data)}")


# --------------------------------------------------------------------------- certificates


def fingerprint(key: Packet) -> str:
    """Upper-case hex fingerprint of a key packet (RFC 9580 §5.5.4); empty for versions we do not know."""
    version = key.head[0] if key.head else 0
    length = len(key.head)
    if version == 4 and length <= _MAX_V4_KEY_OCTETS:
        data = b"\x99" + length.to_bytes(2) + key.head
        return hashlib.sha1(data, usedforsecurity=False).hexdigest().upper()
    if version == 6:
        return hashlib.sha256(b"\x9b" + length.to_bytes(4) + key.head).hexdigest().upper()
    return ""


def pkesk_id(key_fingerprint: str) -> str:
    """How a PKESK names this key: the key ID for v4 (RFC 9580 §5.1.1), the fingerprint for v6 (§5.1.2)."""
    return key_fingerprint[-16:] if len(key_fingerprint) == 40 else key_fingerprint


def v3_pkesk_id(identifier: str) -> str:
    """How a v3 PKESK names the key that `pkesk_id` names: a v6 key by its first octets (RFC 9580 §5.1.1)."""
    return identifier[:16]


def certificates(data: bytes, source: str) -> list[Certificate]:
    """Every certificate in binary `data`, split at its primary keys; secret keys are refused.

    Raises:
        Malformed: not packets, something before the first primary key, or a secret key.
    """
    found: list[_Certificate] = []
    for packet in walk(data):  # never all packets at once: ten megabytes can be five million of them
        if packet.tag in {SECRET_KEY, SECRET_SUBKEY}:
            raise Malformed("it holds a secret key; export the public key alone")
        if packet.tag == PUBLIC_KEY:
            found.append(_Certificate(fingerprint(packet)))
        if packet.tag not in _SAYING_NOTHING:
            if not found:
                break
            found[-1].add(packet, data)
    if not found:
        raise Malformed("it holds no OpenPGP certificate")
    return [Certificate(bytes(one.octets), one.fingerprint, tuple(one.user_ids), source) for one in found]


_SAYING_NOTHING = frozenset({MARKER, TRUST, PADDING})
"""Packets that are no part of a certificate, wherever they stand."""


@dataclass(slots=True)
class _Certificate:
    """One that is being put together."""

    fingerprint: str
    octets: bytearray = field(default_factory=bytearray)
    user_ids: list[str] = field(default_factory=list)

    def add(self, packet: Packet, data: bytes) -> None:
        self.octets += data[packet.start : packet.end]
        if packet.tag == USER_ID:
            self.user_ids.append(packet.head.decode("utf-8", "replace"))


# --------------------------------------------------------------------------- messages


@dataclass(frozen=True, slots=True)
class EncryptedMessage:
    """The outside of an encrypted message."""

    pkesk_ids: tuple[str, ...]
    """In order; zeros or an empty string for an anonymous recipient (RFC 9580 §5.1.8)."""
    pkesk_versions: tuple[int, ...]
    passwords: int
    """Number of SKESK packets."""
    seipd_version: int

    @property
    def has_anonymous_recipient(self) -> bool:
        """Whether some PKESK names no key, so that nobody can tell whom it is for."""
        return any(not identifier.strip("0") for identifier in self.pkesk_ids)


def encrypted_message(data: bytes) -> EncryptedMessage:
    """The outside of an encrypted message: PKESK and SKESK, then one SEIPD, and nothing else.

    Markers are skipped (RFC 9580 §5.8); padding is not, because outside of the encryption anything readable
    could stand in it. SED (tag 9) and LibrePGP's OCB (tag 20) do not count.

    Raises:
        Malformed: it is anything else: signed, compressed, literal, truncated, or followed by more.
    """
    found = islice(walk(data), _MAX_MESSAGE_PACKETS)
    packets = [packet for packet in found if (packet.tag, packet.head) != (MARKER, b"PGP")]
    if not packets or packets[-1].tag != SEIPD or not packets[-1].head or packets[-1].end < len(data):
        raise Malformed("it does not end with integrity-protected encrypted data")
    keys = packets[:-1]
    if any(packet.tag not in {PKESK, SKESK} for packet in keys):
        raise Malformed("it holds packets beside session keys and encrypted data")
    pkesks = [packet for packet in keys if packet.tag == PKESK]
    return EncryptedMessage(
        pkesk_ids=tuple(_pkesk_id(packet) for packet in pkesks),
        pkesk_versions=tuple(packet.head[0] for packet in pkesks),
        passwords=len(keys) - len(pkesks),
        seipd_version=packets[-1].head[0],
    )


def _pkesk_id(packet: Packet) -> str:
    """The key that a PKESK names (RFC 9580 §5.1)."""
    version = packet.head[0] if packet.head else 0
    if version == 3 and len(packet.head) > 9:
        return packet.head[1:9].hex().upper()
    if version == 6 and len(packet.head) > 1 and packet.head[1] in _NAMED_KEY_OCTETS:
        _need(packet.head, 2 + packet.head[1])
        return _named_key(packet.head[2 : 2 + packet.head[1]])
    raise Malformed(f"session key packet of version {version}")


def _named_key(identifier: bytes) -> str:
    """A key version octet and its fingerprint; empty for an anonymous recipient."""
    return pkesk_id(identifier[1:].hex().upper())
