"""Verifies one signature value over one digest with the key of a key packet (RFC 9580 §5.2.3.1, §5.5.5).

Only what may still be believed is here: no DSA, no weak hash. What is malformed or unknown does not verify.
"""

from __future__ import annotations

from collections.abc import Callable

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature

from relay.openpgp.algorithms import Key

HASHES = {8: "sha256", 9: "sha384", 10: "sha512"}
"""Names for hashlib of the hashes that certifications are believed with (RFC 9580 §9.5)."""

_PREHASHED = {8: hashes.SHA256(), 9: hashes.SHA384(), 10: hashes.SHA512()}
_SHA512 = 10

_RSA, _ECDSA, _EDDSA_LEGACY, _ED25519, _ED448 = frozenset({1, 3}), 19, 22, 27, 28
_ED25519_OID = bytes.fromhex("2B06010401DA470F01")
_CURVES: dict[bytes, ec.EllipticCurve] = {
    bytes.fromhex("2A8648CE3D030107"): ec.SECP256R1(),
    bytes.fromhex("2B81040022"): ec.SECP384R1(),
    bytes.fromhex("2B81040023"): ec.SECP521R1(),
}


def verifies(key: Key, algorithm: int, hash: int, digest: bytes, value: bytes) -> bool:
    """Whether `key` made the signature `value` over the digest; never raises.

    Args:
        algorithm: of the signature; must be the key's own.
        hash: number of the hash that made `digest`, one of `HASHES`.
        value: what stands behind the salt or the two octets of the digest in the signature packet.
    """
    verify = _VERIFIERS.get(algorithm)
    if key.problem or verify is None or algorithm != key.body[5] or hash not in HASHES:
        return False
    try:
        verify(key.body[6:] if key.version == 4 else key.body[10:], hash, digest, value)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, OverflowError):
        return False
    return True


def _verify_rsa(material: bytes, hash: int, digest: bytes, value: bytes) -> None:
    modulus, exponent = _integers(material, 2)
    [signature] = _integers(value, 1)
    key = rsa.RSAPublicNumbers(exponent, modulus).public_key()
    octets = signature.to_bytes((modulus.bit_length() + 7) // 8)
    key.verify(octets, digest, padding.PKCS1v15(), Prehashed(_PREHASHED[hash]))


def _verify_ecdsa(material: bytes, hash: int, digest: bytes, value: bytes) -> None:
    oid, rest = _oid(material)
    if oid not in _CURVES:
        raise ValueError("an unknown curve")
    key = ec.EllipticCurvePublicKey.from_encoded_point(_CURVES[oid], _octets(*_integers(rest, 1)))
    r, s = _integers(value, 2)
    key.verify(encode_dss_signature(r, s), digest, ec.ECDSA(Prehashed(_PREHASHED[hash])))


def _verify_eddsa_legacy(material: bytes, hash: int, digest: bytes, value: bytes) -> None:
    oid, rest = _oid(material)
    point = _octets(*_integers(rest, 1))
    if oid != _ED25519_OID or point[:1] != b"\x40":  # a prefix for native points (RFC 9580 §5.5.5.5)
        raise ValueError("an unknown curve")
    r, s = _integers(value, 2)
    Ed25519PublicKey.from_public_bytes(point[1:]).verify(r.to_bytes(32) + s.to_bytes(32), digest)


def _verify_ed25519(material: bytes, hash: int, digest: bytes, value: bytes) -> None:
    Ed25519PublicKey.from_public_bytes(material).verify(value, digest)


def _verify_ed448(material: bytes, hash: int, digest: bytes, value: bytes) -> None:
    if hash != _SHA512:  # RFC 9580 §5.2.3.5: at least 512 bits
        raise ValueError("a hash that is too short")
    Ed448PublicKey.from_public_bytes(material).verify(value, digest)


_VERIFIERS: dict[int, Callable[[bytes, int, bytes, bytes], None]] = {
    **dict.fromkeys(_RSA, _verify_rsa),
    _ECDSA: _verify_ecdsa,
    _EDDSA_LEGACY: _verify_eddsa_legacy,
    _ED25519: _verify_ed25519,
    _ED448: _verify_ed448,
}


def _integers(octets: bytes, count: int) -> list[int]:
    """Exactly so many MPIs (RFC 9580 §3.2); raises ValueError where there are more octets, or fewer."""
    found: list[int] = []
    for _ in range(count):
        end = 2 + (int.from_bytes(octets[:2]) + 7) // 8
        if len(octets) < end:
            raise ValueError("a truncated integer")
        found.append(int.from_bytes(octets[2:end]))
        octets = octets[end:]
    if octets:
        raise ValueError("more octets than integers")
    return found


def _octets(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8)


def _oid(material: bytes) -> tuple[bytes, bytes]:
    """The object identifier of a curve and what follows it (RFC 9580 §9.2)."""
    length = int.from_bytes(material[:1])
    return material[1 : 1 + length], material[1 + length :]
