"""What the owner of a certificate says his programs can read, and what a message to him looks like then.

Everything is taken from signatures that were found genuine, the narrowest statement first: that on the User
ID by which the certificate was found, else the direct-key signature (RFC 9580 §5.2.3.10). What pysequoia
reads into silence does not count: to it, a version 4 certificate without Features can read version 2 of
encrypted data, which GnuPG and most programs of such owners cannot.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from relay.openpgp.algorithms import Key
from relay.openpgp.signatures import Signature

_LIBREPGP_OCB, _SEIPD_V2 = 0x02, 0x08
"""Bits of the Features. The first and 0x04 are reserved in RFC 9580 §5.2.3.32 and mean nothing there; GnuPG
2.3 and later set both for formats of their own."""

_AES_256, _OCB = 9, 2
"""What pysequoia writes, whatever is preferred (RFC 9580 §9.3, §9.6)."""

_POST_QUANTUM = frozenset({35, 36})
"""ML-KEM with X25519 or X448 (RFC 9980)."""

_GNUPG_KNOWS = frozenset({1, 2, 3, 17, 18, 19, 22})
"""RSA, DSA and the elliptic curves of version 4: what both GnuPG 2.2 and 2.4 read."""


def allows_v2(key: Key, said: Sequence[Signature]) -> bool:
    """Whether version 2 of encrypted data may be written to this certificate (RFC 9580 §13.7).

    Args:
        key: the primary key.
        said: genuine self-signatures, the narrowest first.
    """
    stated = next((found.features for found in said if found.features is not None), None)
    return key.version == 6 if stated is None else bool(stated & _SEIPD_V2)


def is_strong(primary: Key, chosen: Iterable[Key]) -> bool:
    """Whether it is of version 6 or post-quantum, so that its owner expects the newest form."""
    return primary.version == 6 or any(_algorithm(key) in _POST_QUANTUM for key in chosen)


def needs_sequoia(primary: Key, chosen: Iterable[Key], said: Iterable[Signature]) -> bool:
    """Whether GnuPG must not encrypt to it.

    It knows neither version 6 nor the algorithms of RFC 9580; and for owners who announce LibrePGP's OCB,
    GnuPG 2.4 writes nothing but that.
    """
    keys = [primary, *chosen]
    if any(key.version != 4 or _algorithm(key) not in _GNUPG_KNOWS for key in keys):
        return True
    return any((found.features or 0) & _LIBREPGP_OCB for found in said)


def lists_aes_256(said: Sequence[Signature]) -> bool:
    """Whether the owner lists AES-256 for version 1 of encrypted data (RFC 9580 §5.2.3.14)."""
    return _AES_256 in (_ciphers(said) or b"")


def leaves_out_aes_256(said: Sequence[Signature], *, v2: bool) -> bool:
    """Whether the owner has a list of ciphers, and what pysequoia writes is not on it (RFC 9580 §12.2).

    Args:
        v2: asks for the list of version 2 of encrypted data.
    """
    if not v2:
        return _ciphers(said) is not None and not lists_aes_256(said)
    suites = next((found.suites for found in said if found.suites is not None), None)
    return suites is not None and (_AES_256, _OCB) not in zip(suites[::2], suites[1::2], strict=False)


def _ciphers(said: Sequence[Signature]) -> bytes | None:
    return next((found.ciphers for found in said if found.ciphers is not None), None)


def _algorithm(key: Key) -> int:
    """Number of the public-key algorithm (RFC 9580 §5.5.2)."""
    return key.body[5]
