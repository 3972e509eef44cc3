"""Reads signature packets (RFC 9580 §5.2): what they claim, and who is said to have made them; unverified.

Claims are taken from the hashed area alone. The unhashed area, which anybody can change, is replaced before
a signature is passed on: it keeps the embedded signature of a signing subkey and names the issuer, no more.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

CERTIFICATIONS = frozenset({0x10, 0x11, 0x12, 0x13})
SUBKEY_BINDING, DIRECT_KEY = 0x18, 0x1F
KEY_REVOCATION, SUBKEY_REVOCATION, CERTIFICATION_REVOCATION = 0x20, 0x28, 0x30

FOR_MAIL, FOR_STORAGE = 0x04, 0x08
"""Key Flags: may encrypt communications, may encrypt storage (RFC 9580 §5.2.3.29)."""

WEAK_HASHES = {1: "MD5", 2: "SHA-1", 3: "RIPEMD-160"}
"""Hashes that carry no self-signature (RFC 9580 §9.5)."""

MAX_OCTETS = 0xFFFF
"""Of a signature packet. A v6 one could state an area of any length; the largest honest ones need half."""

_CRITICAL = 0x80
"""The bit of a subpacket type that says: whoever does not know it must not count the signature (§5.2.3.7)."""

_CREATED, _EXPIRES, _EXPORTABLE, _KEY_EXPIRES, _CIPHERS, _REVOKER, _ISSUER = 2, 3, 4, 9, 11, 12, 16
_PRIMARY, _KEY_FLAGS, _FEATURES, _EMBEDDED, _ISSUER_FINGERPRINT, _SUITES = 25, 27, 30, 32, 33, 39

UNDERSTOOD = frozenset({2, 3, 4, 5, 7, 9, 11, 12, 16, *range(21, 31), 32, 33, 34, 35, 39})
"""Subpacket types that may be critical in a certification: RFC 9580 §5.2.3.7 without notations and regular
expressions, which narrow what is certified in a way that is not judged here."""


@dataclass(frozen=True, slots=True)
class Signature:
    """What one signature packet claims."""

    version: int
    type: int
    hash: int
    created: int
    """Unix time."""
    issuers: frozenset[str]
    """Key IDs and fingerprints it names, upper-case hex, from both areas; empty where it names none."""
    hashed: bytes = b""
    """The hashed area with everything before it, as it stands in the body."""
    embedded: bytes = b""
    """The subpacket with the embedded signature, where it stands in the unhashed area."""
    tail: bytes = b""
    """What follows the unhashed area."""
    lasts_seconds: int = 0
    """Until the signature itself expires; 0: never."""
    key_lasts_seconds: int = 0
    """From the creation of the key until it expires; 0: never (RFC 9580 §5.2.3.13)."""
    flags: int | None = None
    """First octet of the Key Flags, whatever their length; None where there are none."""
    features: int | None = None
    """First octet of the Features, 0 where they are empty; None where there are none (RFC 9580 §5.2.3.32)."""
    ciphers: bytes | None = None
    """Symmetric ciphers for version 1 of encrypted data; None where none are listed (RFC 9580 §5.2.3.14)."""
    suites: bytes | None = None
    """Pairs of cipher and AEAD mode for version 2; None where none are listed (RFC 9580 §5.2.3.15)."""
    is_primary: bool = False
    """Whether the User ID that it stands on is the main one (RFC 9580 §5.2.3.27)."""
    revokers: frozenset[str] = frozenset()
    """Fingerprints of designated revokers (RFC 9580 §5.2.3.23)."""
    is_exportable: bool = True
    """False: whoever made it meant it for his own key ring alone (RFC 9580 §5.2.3.19)."""
    critical: frozenset[int] = frozenset()
    """Types of the claims without which it must not be read (RFC 9580 §5.2.3.7)."""

    @property
    def algorithm(self) -> int:
        """Number of the public-key algorithm that made it; of no version 3."""
        return self.hashed[2] if self.hashed else 0

    @property
    def identity(self) -> bytes:
        """The same for two packets that differ only in what the unhashed area says of the issuer."""
        if self.version == 3:
            return bytes([3, self.type]) + self.created.to_bytes(4)
        return b"|".join([self.hashed, self.embedded, self.tail])

    def is_live(self, now: int) -> bool:
        """Whether it was made by now and has not expired itself (RFC 9580 §5.2.3.18)."""
        return self.created <= now and (self.lapses is None or now < self.lapses)

    @property
    def lapses(self) -> int | None:
        """When the signature itself expires (Unix time); None: never."""
        return self.created + self.lasts_seconds if self.lasts_seconds else None

    def key_ends(self, created: int) -> int | None:
        """When a key that was made at `created` expires according to it; None: never (RFC 9580 §5.2.3.13)."""
        return created + self.key_lasts_seconds if self.key_lasts_seconds else None

    def packet(self, issuer: str) -> bytes:
        """The whole packet, with an unhashed area of ours that names `issuer` (a fingerprint)."""
        unhashed = self.embedded + _issuer(issuer)
        body = self.hashed + len(unhashed).to_bytes(2 if self.version == 4 else 4) + unhashed + self.tail
        return encode(2, body)


def encode(tag: int, body: bytes) -> bytes:
    """A packet with a five-octet length (RFC 9580 §4.2.1)."""
    return bytes([0xC0 | tag, 0xFF]) + len(body).to_bytes(4) + body


def _issuer(fingerprint: str) -> bytes:
    """The Issuer subpacket that old programs need for v4; Issuer Fingerprint for v6."""
    octets = bytes.fromhex(fingerprint)
    if len(octets) == 20:
        return bytes([9, _ISSUER]) + octets[-8:]
    return bytes([2 + len(octets), _ISSUER_FINGERPRINT, 6]) + octets


def parse_signature(body: bytes) -> Signature | None:
    """The signature in a packet body; None where its version is unknown, it is malformed (§5.2.5) or huge."""
    version = body[0] if len(body) <= MAX_OCTETS and body else 0
    if version == 3 and len(body) > 16:
        # Verified by nobody and good for nothing, but an old revocation must still count.
        created, issuer = int.from_bytes(body[3:7]), body[7:15].hex().upper()
        return Signature(3, body[2], body[16], created, frozenset({issuer}))
    if version not in {4, 6} or len(body) < 6:
        return None
    width = 2 if version == 4 else 4
    hashed_end = 4 + width + int.from_bytes(body[4 : 4 + width])
    unhashed_start = hashed_end + width
    unhashed_end = unhashed_start + int.from_bytes(body[hashed_end:unhashed_start])
    if unhashed_end >= len(body):
        return None
    try:
        claims = list(_subpackets(body[4 + width : hashed_end]))
        hints = list(_subpackets(body[unhashed_start:unhashed_end]))
    except ValueError:
        return None
    return _signature(body, claims, hints, body[:hashed_end], body[unhashed_end:])


_Subpackets = list[tuple[int, bytes]]


def _signature(
    body: bytes, raw_claims: _Subpackets, raw_hints: _Subpackets, hashed: bytes, tail: bytes
) -> Signature | None:
    claims, hints = _without_critical_bit(raw_claims), _without_critical_bit(raw_hints)
    last = dict(claims)  # of doubled subpackets the last one counts (RFC 9580 §5.2.3.9)
    if _CREATED not in last:  # mandatory (RFC 9580 §5.2.3.11)
        return None
    if any(len(last.get(kind, bytes(4))) != 4 for kind in (_CREATED, _EXPIRES, _KEY_EXPIRES)):
        return None
    embedded = next((value for kind, value in hints if kind == _EMBEDDED), b"")
    return Signature(
        version=body[0],
        type=body[1],
        hash=body[3],
        created=int.from_bytes(last[_CREATED]),
        issuers=frozenset(_named(kind, value) for kind, value in claims + hints) - {""},
        hashed=hashed,
        embedded=_subpacket(_EMBEDDED, embedded) if embedded else b"",
        tail=tail,
        lasts_seconds=int.from_bytes(last.get(_EXPIRES, b"")),
        key_lasts_seconds=int.from_bytes(last.get(_KEY_EXPIRES, b"")),
        flags=_first_octet(last.get(_KEY_FLAGS)),
        features=_first_octet(last.get(_FEATURES)),
        ciphers=last.get(_CIPHERS),
        suites=last.get(_SUITES),
        is_primary=bool(_first_octet(last.get(_PRIMARY))),
        revokers=frozenset(value[2:].hex().upper() for kind, value in claims if kind == _REVOKER),
        is_exportable=last.get(_EXPORTABLE) != b"\x00",
        critical=frozenset(kind & ~_CRITICAL for kind, _ in raw_claims if kind & _CRITICAL),
    )


def _first_octet(bits: bytes | None) -> int | None:
    """The first octet of flags that may have any length, none included; unstated ones are 0 (§5.2.3.29)."""
    return None if bits is None else int.from_bytes(bits[:1])


def _without_critical_bit(subpackets: _Subpackets) -> _Subpackets:
    return [(kind & ~_CRITICAL, value) for kind, value in subpackets]


def _named(kind: int, value: bytes) -> str:
    """The key that an issuer subpacket names; empty for other subpackets."""
    if kind == _ISSUER:
        return value.hex().upper()
    return value[1:].hex().upper() if kind == _ISSUER_FINGERPRINT else ""


def _subpackets(area: bytes) -> Iterator[tuple[int, bytes]]:
    """Type (with the critical bit) and value of each subpacket (RFC 9580 §5.2.3.7)."""
    offset = 0
    while offset < len(area):
        first, start = area[offset], offset + 1
        length = first
        if 192 <= first < 255:
            length, start = ((first - 192) << 8) + int.from_bytes(area[start : start + 1]) + 192, start + 1
        elif first == 255:
            length, start = int.from_bytes(area[start : start + 4]), start + 4
        offset = start + length
        if not length or offset > len(area):
            raise ValueError("a subpacket that does not fit its area")
        yield area[start], area[start + 1 : offset]


def _subpacket(kind: int, value: bytes) -> bytes:
    return b"\xff" + (len(value) + 1).to_bytes(4) + bytes([kind]) + value
