"""What stands for a key that was found and cannot be read: "none" would let mail leave in clear."""

from __future__ import annotations

from relay.message import Certificate
from relay.mime import packets

_TEXT = b"(OpenPGP data that cannot be read)"
_DATA = b"\xc6\x01\x04" + bytes([0xC0 | packets.USER_ID, len(_TEXT)]) + _TEXT
"""A public key packet of version 4 with nothing in it, and a User ID that tells people what it was. It can be
stored and read again like any other certificate; the judge calls it damaged.

The octets that were found are not kept: nobody could use them, and a secret key, which people publish by
mistake, must not reach the cache.
"""


def stand_in(source: str) -> Certificate:
    """A certificate that no judge accepts, in place of one that cannot be read."""
    (certificate,) = packets.certificates(_DATA, source)
    return certificate
