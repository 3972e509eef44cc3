"""Certificates as somebody would make them who wants the relay to stand still, with the verdict on each.

All are for `owner@example.com`. Signatures are forged where genuine ones would not cost more to refuse.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from relay.mime.packets import (
    COMPRESSED,
    LITERAL,
    MARKER,
    PUBLIC_KEY,
    PUBLIC_SUBKEY,
    SIGNATURE,
    USER_ATTRIBUTE,
    USER_ID,
    fingerprint,
    walk,
)
from relay.openpgp import parts, probe
from relay.openpgp.assessment import MAX_CHOSEN
from relay.openpgp.signatures import encode
from tests.forge import Owner, Owner6, at, hashed_key, mpi, subpacket

OWNER, OWNER6, STRANGER = Owner("owner"), Owner6("owner"), Owner("stranger")
NAME = OWNER.user_id
ORDINARY = OWNER.start() + OWNER.bind()
_TEN_MEGABYTES = 10 << 20

_LARGE = f"is larger than {parts.MAX_BYTES} octets"
_TOO_MANY_PACKETS = f"has more than {parts.MAX_PACKETS} packets"
_TOO_MANY_CHECKS = f"needs more than {probe.MAX_VERIFICATIONS} signatures to be checked"
_TOO_MANY_ON_ONE = f"has more than {parts.MAX_SELF_SIGNATURES} self-signatures on one part"
_CUT = "is damaged: it cannot be read to its end"
_UNBOUND_NAME = "its User ID <owner@example.com> has no valid self-signature"
_UNBOUND_SUBKEY = "the encryption subkey has no valid self-signature"


@dataclass(frozen=True)
class Hostile:
    """One certificate; it is made when it is needed, as some are large."""

    name: str
    make: Callable[[], bytes]
    verdict: str


# --------------------------------------------------------------------------- floods


def _claimed(count: int, size: int = 0) -> bytes:
    """Forged self-signatures on the User ID, each with that many octets of claims."""
    claims = subpacket(60, bytes(98)) * (size // 100)
    one = OWNER.sign(0x13, NAME, claims=claims, genuine=False)
    head, tail = one[:-4], one[-4:]
    return b"".join(head + (int.from_bytes(tail) ^ number).to_bytes(4) for number in range(1, count + 1))


def _by_strangers(count: int) -> bytes:
    hints = subpacket(16, bytes.fromhex(STRANGER.fingerprint[-16:]))
    one = STRANGER.sign(0x10, NAME, hints=hints, subject=OWNER.primary)
    return one * count


def _user_ids(count: int) -> bytes:
    return b"".join(encode(USER_ID, b"%d <owner@example.com>" % number) for number in range(count))


def _signed_user_ids(count: int) -> bytes:
    """User IDs that all name the address, each with forged signatures that say when the key expires."""
    forged = OWNER.sign(0x13, NAME, key_lasts=99, genuine=False)
    return b"".join(encode(USER_ID, b"%d <owner@example.com>" % number) + forged for number in range(count))


def _slow_user_ids() -> bytes:
    """Names that are long to read: many brackets, labels in other alphabets."""
    labels = ".".join(["\u0431\u04af\u0445\u0440"] * 30)
    name = ("<" * 900 + f"<owner@{labels}.example>").encode()
    return b"".join(encode(USER_ID, b"%d" % number + name) for number in range(90))


def _subkeys(count: int, *, bound: bool) -> bytes:
    made = [OWNER.subkey(created=at(2025) + number) for number in range(count)]
    if not bound:
        return b"".join(encode(PUBLIC_SUBKEY, body) for body in made)
    return b"".join(
        encode(PUBLIC_SUBKEY, body) + OWNER.sign(0x18, body, flags=b"\x0c", on=at(2025, 2)) for body in made
    )


def _silent_bindings(count: int) -> bytes:
    """Newer bindings without flags in front of a genuine one: each could overrule it."""
    body = OWNER.subkey()
    forged = [OWNER.sign(0x18, body, on=at(2025, 2) + number, genuine=False) for number in range(count)]
    return OWNER.start() + OWNER.bind(OWNER.sign(0x18, body, flags=b"\x0c"), *forged)


def _withdrawals(count: int) -> bytes:
    """Forged revocations of a User ID that says when the key expires: only a genuine one may hide it."""
    other = b"other <other@example.com>"
    stating = OWNER.sign(0x13, other, key_lasts=2_000_000_000)
    forged = [OWNER.sign(0x30, other, on=at(2025, 2) + number, genuine=False) for number in range(count)]
    return OWNER.start() + encode(USER_ID, other) + stating + b"".join(forged) + OWNER.bind()


# --------------------------------------------------------------------------- packets that do not belong


def _indeterminate(tag: int) -> bytes:
    """An old packet whose body has no length (RFC 9580 §4.2.2): it hides what follows."""
    return bytes([0x83 | tag << 2]) + b"PGP" + OWNER.sign(0x20)


def _nested(depth: int) -> bytes:
    """A binding with a signature in a signature in a signature …, each in the hashed area (v6: no limit)."""
    suffix, lengths, inner = bytes(4) + bytes(2) + b"\x10" + bytes(80), [], 0
    for _ in range(depth):
        lengths.append((inner, 12 + inner if inner else 6))
        inner = 8 + lengths[-1][1] + len(suffix)
    made = bytearray()
    for within, area in reversed(lengths):
        made += bytes([6, 0x19, 27, 8]) + area.to_bytes(4) + subpacket(2, bytes(4))
        made += b"\xff" + (within + 1).to_bytes(4) + b"\x20" if within else b""
    embedded = b"\xff" + (inner + 1).to_bytes(4) + b"\x20" + bytes(made) + suffix * depth
    flags = subpacket(27, b"\x0c")
    return OWNER6.certificate(binding=OWNER6.sign(0x18, OWNER6.subkey, claims=flags + embedded))


def _of_one_octet() -> bytes:
    """Every kind of packet that a certificate may have, with no content but a version."""
    tags = (SIGNATURE, USER_ID, PUBLIC_SUBKEY, USER_ATTRIBUTE)
    bodies = [b"", *(bytes([version]) for version in range(2, 7))]
    return ORDINARY + b"".join(encode(tag, body) for tag in tags for body in bodies)


# --------------------------------------------------------------------------- huge and slow keys


def _odd(bits: int) -> bytes:
    """An odd number of that many bits."""
    return ((1 << bits) - 1).to_bytes(bits // 8 + 1)


def _key(algorithm: int, material: bytes, version: int = 4) -> bytes:
    length = len(material).to_bytes(4) if version == 6 else b""
    return bytes([version]) + at(2025).to_bytes(4) + bytes([algorithm]) + length + material


def _rsa(bits: int, exponent: int = 65537) -> bytes:
    return _key(1, mpi(_odd(bits)) + mpi(exponent.to_bytes(9)))


def _forged_by(primary: bytes, count: int, value: bytes) -> bytes:
    """A certificate of any primary key with forged self-signatures, whose values are all looked at.

    The two octets of the digest are right, or nobody would begin to verify.
    """
    start = encode(PUBLIC_KEY, primary)
    hints = subpacket(33, primary[:1] + bytes.fromhex(fingerprint(next(walk(start)))))
    is_v6 = primary[0] == 6
    width, salt = (4, bytes(32)) if is_v6 else (2, b"")
    target = b"" if is_v6 else b"\xb4" + len(NAME).to_bytes(4) + NAME
    made = []
    for number in range(count):
        hashed = subpacket(2, (at(2025) + number).to_bytes(4))
        head = (
            bytes([primary[0], 0x1F if is_v6 else 0x13, primary[5], 10])
            + len(hashed).to_bytes(width)
            + hashed
        )
        trailer = primary[:1] + b"\xff" + len(head).to_bytes(4)
        digest = hashlib.sha512(salt + hashed_key(primary) + target + head + trailer).digest()
        tail = digest[:2] + (bytes([len(salt)]) + salt if is_v6 else b"") + value
        made.append(encode(SIGNATURE, head + len(hints).to_bytes(width) + hints + tail))
    return start + (b"" if is_v6 else encode(USER_ID, NAME)) + b"".join(made)


def _with_subkey(body: bytes) -> bytes:
    return OWNER.start() + encode(PUBLIC_SUBKEY, body) + OWNER.sign(0x18, body, flags=b"\x0c")


def _many_rsa_subkeys(count: int) -> bytes:
    """Live subkeys that take long to encrypt to, and one time more to check them all together."""
    return OWNER.start() + b"".join(
        encode(PUBLIC_SUBKEY, body) + OWNER.sign(0x18, body, flags=b"\x0c")
        for body in (_rsa(4096 - 8 * number, (1 << 33) - 1) for number in range(count))
    )


_P521 = bytes.fromhex("052B81040023")
_P521_POINT = bytes.fromhex(  # the generator, SEC 2 §2.6.1
    "0400C6858E06B70404E9CD9E3ECB662395B4429C648139053FB521F828AF606B4D3DBAA14B5E77EFE75928FE1DC127A2FFA8DE33"
    "48B3C1856A429BF97E7E31C2E5BD66011839296A789A3BC0045C8A5FB42C7D1BD998F54449579B446817AFBD17273E662C97EE72"
    "995EF42640C550B9013FAD0761353C7086A272C24088BE94769FD16650"
)
_TWO_NUMBERS = mpi(_odd(512)) * 2

HOSTILE = (
    Hostile("ten megabytes", lambda: ORDINARY + encode(60, bytes(_TEN_MEGABYTES)), _LARGE),
    Hostile("ten megabytes of markers", lambda: b"\xca\x00" * (_TEN_MEGABYTES // 2) + ORDINARY, _LARGE),
    Hostile("a key of ten megabytes", lambda: encode(PUBLIC_KEY, bytes(_TEN_MEGABYTES)), _LARGE),
    Hostile("a megabyte of markers", lambda: ORDINARY + b"\xca\x00" * 500_000, _TOO_MANY_PACKETS),
    Hostile("10000 self-signatures", lambda: ORDINARY + _claimed(10_000), _TOO_MANY_PACKETS),
    Hostile("8000 self-signatures", lambda: OWNER.start(_claimed(8000)), _TOO_MANY_ON_ONE),
    Hostile("100 self-signatures", lambda: OWNER.start(_claimed(100)) + OWNER.bind(), _TOO_MANY_CHECKS),
    Hostile("15 self-signatures of 64 kB", lambda: OWNER.start(_claimed(15, 65_000)), _UNBOUND_NAME),
    Hostile("8000 certifications", lambda: OWNER.start() + _by_strangers(8000) + OWNER.bind(), "usable"),
    Hostile("10000 User IDs", lambda: ORDINARY + _user_ids(10_000), _TOO_MANY_PACKETS),
    Hostile("9000 User IDs", lambda: ORDINARY + _user_ids(9000), "has more than 100 User IDs"),
    Hostile("99 User IDs that state an expiry", lambda: ORDINARY + _signed_user_ids(99), _TOO_MANY_CHECKS),
    Hostile("90 User IDs that are slow to read", lambda: ORDINARY + _slow_user_ids(), "usable"),
    Hostile("a User ID of a megabyte", lambda: ORDINARY + encode(USER_ID, b"<" * 1_000_000), "usable"),
    Hostile("10000 subkeys", lambda: OWNER.start() + _subkeys(10_000, bound=False), _TOO_MANY_PACKETS),
    Hostile("9000 subkeys", lambda: OWNER.start() + _subkeys(9000, bound=False), "has more than 100 subkeys"),
    Hostile("60 live subkeys", lambda: OWNER.start() + _subkeys(60, bound=True),
            f"has more than {MAX_CHOSEN} subkeys for mail"),
    Hostile("slow subkeys", lambda: _many_rsa_subkeys(MAX_CHOSEN), "usable"),
    Hostile("95 bindings without flags", lambda: _silent_bindings(95), "usable"),
    Hostile("95 revocations of a User ID", lambda: _withdrawals(95), "usable"),
    Hostile("9000 private packets", lambda: ORDINARY + encode(60, bytes(99)) * 9000, "usable"),
    Hostile("9000 experimental packets", lambda: ORDINARY + encode(63, b"") * 9000, "usable"),
    Hostile("9000 markers", lambda: ORDINARY + encode(MARKER, b"PGP") * 9000, "usable"),
    Hostile("9000 signatures of one octet", lambda: ORDINARY + encode(SIGNATURE, b"\x04") * 9000, "usable"),
    Hostile("a photo of 900 kB", lambda: ORDINARY + encode(USER_ATTRIBUTE, bytes(900_000)), "usable"),
    Hostile("packets of one octet", _of_one_octet, "usable"),
    Hostile("a literal packet", lambda: ORDINARY + encode(LITERAL, b"b\x00\x00\x00\x00\x00"),
            "is damaged: it holds a packet of type 11"),
    Hostile("a compressed packet", lambda: ORDINARY + encode(COMPRESSED, b"\x01" + bytes(999)),
            "is damaged: it holds a packet of type 8"),
    Hostile("an unknown critical packet", lambda: ORDINARY + encode(39, b""),
            "is damaged: it holds a packet of type 39"),
    Hostile("a marker without a length", lambda: ORDINARY + _indeterminate(MARKER), _CUT),
    Hostile("a User ID without a length", lambda: ORDINARY + _indeterminate(USER_ID), _CUT),
    Hostile("truncated", lambda: ORDINARY[:-1], _CUT),
    Hostile("zeros", lambda: bytes(500_000), _CUT),
    Hostile("signatures 500 deep", lambda: _nested(500), _UNBOUND_SUBKEY),
    Hostile("signatures 9000 deep", lambda: _nested(9000), "has no subkey for encrypting mail"),
    Hostile("RSA 16384", lambda: _forged_by(_rsa(16384), 60, mpi(_odd(16384))),
            "RSA 16384 is not supported: at most 4096 bits"),
    Hostile("RSA 16384 as subkey", lambda: _with_subkey(_rsa(16384)),
            "RSA 16384 is not supported: at most 4096 bits"),
    Hostile("RSA 65528 as subkey", lambda: _with_subkey(_rsa(65_528)),
            "RSA 65528 is not supported: at most 4096 bits"),
    Hostile("RSA with a huge exponent", lambda: _with_subkey(_rsa(4096, (1 << 63) + 1)),
            "RSA 4096 with an exponent of 64 bits is not supported"),
    Hostile("60 signatures of RSA 4096", lambda: _forged_by(_rsa(4096, (1 << 33) - 1), 60, mpi(_odd(4090))),
            _UNBOUND_NAME),
    Hostile("60 signatures of P-521",
            lambda: _forged_by(_key(19, _P521 + mpi(_P521_POINT)), 60, _TWO_NUMBERS), _UNBOUND_NAME),
    Hostile("60 signatures of Ed448", lambda: _forged_by(_key(28, bytes(57), 6), 60, bytes(114)),
            "has no valid direct-key signature"),
    Hostile("60 signatures of ML-DSA-87", lambda: _forged_by(_key(31, bytes(2649), 6), 60, bytes(4741)),
            "has no valid direct-key signature"),
    Hostile("30 signatures of SLH-DSA", lambda: _forged_by(_key(34, bytes(64), 6), 30, bytes(29_792)),
            "has no valid direct-key signature"),
    Hostile("a curve point of 8 kB", lambda: _with_subkey(OWNER.subkey()[:17] + mpi(_odd(65_528))),
            _UNBOUND_SUBKEY),
)  # fmt: skip

_MAX_SMALL_OCTETS = 20_000


@cache
def small() -> tuple[bytes, ...]:
    """Those that can be altered many times in a second."""
    made = (hostile.make() for hostile in HOSTILE if "megabyte" not in hostile.name)
    return tuple(data for data in made if len(data) <= _MAX_SMALL_OCTETS)
