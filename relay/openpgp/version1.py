"""Makes pysequoia write version 1 of encrypted data, which it has no option for.

It writes version 2 unless some certificate says that its owner cannot read that, and takes silence for
consent. So a certificate that says it is added, and its session key packet is taken out of the message again:
session key packets stand before the encrypted data and are not covered by them (RFC 9580 §10.3).
"""

from __future__ import annotations

import base64

from relay.mime.packets import PKESK, Malformed, walk

CERTIFICATE = base64.b64decode(
    b"xv8AAAAzBF4MicAWCSsGAQQB2kcPAQEHQLSnaVH83rZ/LGMQSCAxkKKvtgKyESML+wkWfx+5zixgwv8AAABkBB8WCA"
    b"AMBQJeDInAAh4BAhsBAAoJEEgrT1bLvLJs/5ABANHMvRZtznEKHb8hFgkb5NQOTdpRn7eJQNzqoTegM40AAQCcrHHu"
    b"0p8h13N0Np9L7u450v3KNxvhV2ASJ1o0p9p1AM7/AAAAOAReDInAEgorBgEEAZdVAQUBAQdABZR0H4U8TshVj9q3kA"
    b"ceNf4dAMjh4/PoKzqZl9R8UWcDAQgHwv8AAABhBBgWCAAJBQJeDInAAhsEAAoJEEgrT1bLvLJsrYkBALJFPG3Vu1yU"
    b"piQbVmu4/0guJs/x4wIcZjhdNv06mqV/AQCjAxrK0IUOXyai4gXTNgH6lWiRPKEO3n+l2NXv0ooADg=="
)
"""Announces version 1 alone (Features 0x01). Nobody can have its secret key: the point of its subkey is the
SHA-256 of a sentence, as the test shows. Its packet never leaves this process anyway."""

_SESSION_KEY = b"\x03" + bytes.fromhex("0A44B2FFE9A23309")
"""How the packet for it begins: version and key ID (RFC 9580 §5.1.1)."""


def without(message: bytes) -> bytes:
    """The binary message without the session key for `CERTIFICATE`.

    Raises:
        Malformed: there is not exactly one; then it is not version 1 either.
    """
    found = [
        packet for packet in walk(message) if packet.tag == PKESK and packet.head.startswith(_SESSION_KEY)
    ]
    if len(found) != 1:
        raise Malformed(f"{len(found)} session keys for the certificate that asks for version 1")
    return message[: found[0].start] + message[found[0].end :]
