"""Says whether one key vouches for another: a key change that the old key has signed is the owner's own.

RFC 7929 §5.2 lets a new key take the place of a stored one if the stored one signed it. pysequoia has no
call to verify what one certificate says of another, so it is done here and in `verification`. Hard rules:

- A revocation by the old key over the User ID counts without being verified, earlier or later than the
  certification, as in `parts`: whoever adds one can make an administrator look, and no more.
- The date of a certification is its maker's word. A thief of a key that has expired can date one back; that
  the old key was alive then is all that can be asked.
- Only the primary key certifies (RFC 9580 §10.1.5); no other signature of the old key says that the two
  belong together.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from datetime import datetime

from relay.address import user_id_key
from relay.message import Address
from relay.mime import packets
from relay.openpgp.algorithms import Key
from relay.openpgp.assessment import primary_ends
from relay.openpgp.parts import SKIPPED, Unusable, merge
from relay.openpgp.signatures import (
    CERTIFICATION_REVOCATION,
    CERTIFICATIONS,
    UNDERSTOOD,
    Signature,
    parse_signature,
)
from relay.openpgp.verification import HASHES, verifies

MAX_VERIFICATIONS = 32
"""Signatures that claim to be the old key's, for one answer; the newest first. One is honest."""

_SALT_OCTETS = {8: 16, 9: 24, 10: 32}
"""By hash (RFC 9580 §9.5)."""


def certifies(old: bytes, new: bytes, address: Address, now: datetime, copies: Sequence[bytes] = ()) -> bool:
    """Whether the primary key of `old` has certified a User ID with `address` on the certificate `new`.

    True needs a genuine signature (0x10 to 0x13) with a sound hash that is exportable, has not expired, was
    not revoked, and was made while `old` was alive; and an `old` that is not revoked. Nothing is raised for
    any octets. It takes milliseconds, and hostile octets can make it some hundred: call it in a thread.

    Args:
        now: aware.
        copies: further ones of `old`; a revocation in any of them counts.
    """
    try:
        return _certifies([old, *copies], new, address, math.floor(now.timestamp()))
    except Unusable:
        return False


def _certifies(old: Sequence[bytes], new: bytes, address: Address, now: int) -> bool:
    issuer, subject = merge(old), merge([new]).key
    ends = primary_ends(issuer, now)
    found = [(name, made) for name, made in _signatures(new, issuer.key) if _is_of(name, address)]
    if any(made.type == CERTIFICATION_REVOCATION for _, made in found):
        return False
    kept = [(name, made) for name, made in found if name is not None and _counts(made, issuer.key, ends, now)]
    kept.sort(key=lambda claim: -claim[1].created)
    return any(_is_genuine(made, issuer.key, subject, name) for name, made in kept[:MAX_VERIFICATIONS])


def _signatures(new: bytes, issuer: Key) -> Iterator[tuple[bytes | None, Signature]]:
    """What claims to be the issuer's in `new`, with the User ID it stands on; None where on none."""
    name, mark = None, bytes.fromhex(issuer.key_id)
    for packet in packets.walk(new):
        if packet.tag == packets.SIGNATURE:
            signature = parse_signature(packet.head) if mark in packet.head else None
            if signature and not signature.issuers.isdisjoint({issuer.key_id, issuer.fingerprint}):
                yield name, signature
        elif packet.tag not in SKIPPED:
            name = packet.head if packet.tag == packets.USER_ID else None


def _is_of(name: bytes | None, address: Address) -> bool:
    """Whether a signature on this User ID can be about the address: one in a wrong place can."""
    return name is None or user_id_key(name.decode("utf-8", "replace")) == address.key


def _counts(made: Signature, issuer: Key, issuer_ends: int | None, now: int) -> bool:
    return (
        made.type in CERTIFICATIONS
        and made.version == issuer.version
        and made.is_exportable
        and made.critical <= UNDERSTOOD
        and issuer.created <= made.created
        and made.is_live(now)
        and (issuer_ends is None or made.created < issuer_ends)
    )


def _is_genuine(made: Signature, issuer: Key, subject: Key, name: bytes) -> bool:
    """Whether the issuer's primary key made this signature over the subject's and the User ID (§5.2.4)."""
    salt, value = _salt_and_value(made)
    if made.hash not in HASHES or len(salt) != (_SALT_OCTETS[made.hash] if made.version == 6 else 0):
        return False
    trailer = bytes([made.version, 0xFF]) + len(made.hashed).to_bytes(4)
    user_id = b"\xb4" + len(name).to_bytes(4) + name
    message = salt + _framed(subject) + user_id + made.hashed + trailer
    digest = hashlib.new(HASHES[made.hash], message).digest()
    return made.tail[:2] == digest[:2] and verifies(issuer, made.algorithm, made.hash, digest, value)


def _salt_and_value(made: Signature) -> tuple[bytes, bytes]:
    """The salt of a v6 signature and what the algorithm made: they follow two octets of digest (§5.2.3)."""
    if made.version == 4:
        return b"", made.tail[2:]
    end = 3 + int.from_bytes(made.tail[2:3])
    return made.tail[3:end], made.tail[end:]


def _framed(key: Key) -> bytes:
    """A key as it is hashed. By its own version: so all programs do it where a v4 key signs a v6 one."""
    if key.version == 4:
        return b"\x99" + len(key.body).to_bytes(2) + key.body
    return b"\x9b" + len(key.body).to_bytes(4) + key.body
