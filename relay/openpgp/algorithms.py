"""Reads key packets: which algorithm, how strong, and whether mail may be encrypted to it. Verifies nothing.

The key material itself says all of this, so no signature is needed. Where a key may not be used, `problem`
is the sentence for people; what a key may be used *for* stands in signatures, not here.
"""

from __future__ import annotations

from dataclasses import dataclass

from relay.mime.packets import Packet, fingerprint

MIN_RSA_BITS = 2048
"""Below, nothing may be encrypted or believed (RFC 9580 §12.4)."""
GOOD_RSA_BITS = 3072
"""Below, RFC 9580 §12.4 says SHOULD NOT: used, with a warning."""
MAX_RSA_BITS = 4096
"""The largest that pysequoia verifies and encrypts with (the limits of the RustCrypto library `rsa`)."""
_MAX_EXPONENT_BITS = 33
"""As above. Real ones have 17 bits; a huge one makes each verification cost as much as a signature."""

_MAX_BODY_OCTETS = 65535
"""A v4 fingerprint counts the length in two octets (RFC 9580 §5.5.4.2); no real key comes near."""

_RSA = frozenset({1, 2, 3})
_RSA_SIGN_ONLY, _ELGAMAL, _DSA, _ECDH, _ECDSA, _EDDSA_LEGACY = 3, 16, 17, 18, 19, 22
_ELGAMAL_BOTH = 20
_NAMES = {
    25: "Curve25519",
    26: "Curve448",
    27: "Ed25519",
    28: "Ed448",
    30: "ML-DSA-65 + Ed25519",
    31: "ML-DSA-87 + Ed448",
    32: "SLH-DSA-SHAKE-128s",
    33: "SLH-DSA-SHAKE-128f",
    34: "SLH-DSA-SHAKE-256s",
    35: "ML-KEM-768 + X25519",
    36: "ML-KEM-1024 + X448",
}
_ENCRYPTS = frozenset({25, 26, 35, 36})

_CURVE25519_LEGACY = bytes.fromhex("2B060104019755010501")
_ED25519_LEGACY = bytes.fromhex("2B06010401DA470F01")
_CURVES = {
    _CURVE25519_LEGACY: "Curve25519",
    _ED25519_LEGACY: "Ed25519",
    bytes.fromhex("2A8648CE3D030107"): "NIST P-256",
    bytes.fromhex("2B81040022"): "NIST P-384",
    bytes.fromhex("2B81040023"): "NIST P-521",
    bytes.fromhex("2B2403030208010107"): "Brainpool P-256",
    bytes.fromhex("2B240303020801010B"): "Brainpool P-384",
    bytes.fromhex("2B240303020801010D"): "Brainpool P-512",
}
_LEGACY_CURVES = frozenset({_CURVE25519_LEGACY, _ED25519_LEGACY})
_UNSUPPORTED = "Brainpool"
"""pysequoia can neither verify nor encrypt with these curves."""
_KDF = {"256": (8, 7), "384": (9, 8), "521": (10, 9)}
"""Last digits of a curve's name → hash and cipher that a v6 key must name (RFC 9580 §11.5.1)."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key packet of a version that we know."""

    body: bytes
    version: int
    """4 or 6."""
    fingerprint: str
    """Upper-case hex (RFC 9580 §5.5.4)."""
    created: int
    """Unix time; part of the fingerprint, so nobody but the owner chose it."""
    name: str
    """Algorithm for people: `RSA 3072`."""
    can_encrypt: bool
    problem: str = ""
    """Why it may not be used, as a sentence: `RSA 1024 is too weak`; empty where it may."""
    warning: str = ""

    @property
    def key_id(self) -> str:
        """The 8-octet key ID (RFC 9580 §5.5.4), as signatures name their issuer."""
        return self.fingerprint[-16:] if self.version == 4 else self.fingerprint[:16]


def parse_key(packet: Packet) -> Key | None:
    """The key in a packet; None where its version is unknown or its length is that of no key."""
    body = packet.head
    if not 10 <= len(body) <= _MAX_BODY_OCTETS or body[0] not in {4, 6}:
        return None
    version, algorithm = body[0], body[5]
    material = body[6:] if version == 4 else body[10:]
    name, can_encrypt, problem, warning = _describe(version, algorithm, material)
    created = int.from_bytes(body[1:5])
    return Key(body, version, fingerprint(packet), created, name, can_encrypt, problem, warning)


def _describe(version: int, algorithm: int, material: bytes) -> tuple[str, bool, str, str]:
    """Name, whether it encrypts, problem, warning."""
    if algorithm in _RSA:
        return _describe_rsa(algorithm, material)
    if algorithm in {_ELGAMAL, _ELGAMAL_BOTH}:
        return "Elgamal", True, "Elgamal is not secure", ""
    if algorithm == _DSA:
        return "DSA", False, "DSA is not secure", ""
    if algorithm in {_ECDH, _ECDSA, _EDDSA_LEGACY}:
        return _describe_curve(version, algorithm, material)
    if algorithm in _NAMES:
        return _NAMES[algorithm], algorithm in _ENCRYPTS, "", ""
    return f"algorithm {algorithm}", False, f"algorithm {algorithm} is not supported", ""


def _describe_rsa(algorithm: int, material: bytes) -> tuple[str, bool, str, str]:
    modulus, rest = _integer(material)
    exponent, _ = _integer(rest)
    bits = modulus.bit_length()
    name, problem, warning = f"RSA {bits}", "", ""
    if bits < MIN_RSA_BITS:
        problem = f"{name} is too weak"
    elif bits > MAX_RSA_BITS:
        problem = f"{name} is not supported: at most {MAX_RSA_BITS} bits"
    elif exponent.bit_length() > _MAX_EXPONENT_BITS:
        problem = f"{name} with an exponent of {exponent.bit_length()} bits is not supported"
    elif bits < GOOD_RSA_BITS:
        warning = f"{name} is below {GOOD_RSA_BITS} bits"
    return name, algorithm != _RSA_SIGN_ONLY, problem, warning


def _integer(material: bytes) -> tuple[int, bytes]:
    """One MPI and what follows it (RFC 9580 §3.2); the bit count is counted, not believed."""
    octets = (int.from_bytes(material[:2]) + 7) // 8
    return int.from_bytes(material[2 : 2 + octets]), material[2 + octets :]


def _describe_curve(version: int, algorithm: int, material: bytes) -> tuple[str, bool, str, str]:
    oid = material[1 : 1 + material[0]] if material else b""
    name, encrypts = _CURVES.get(oid, ""), algorithm == _ECDH
    if not name:
        return "an unknown curve", encrypts, "its curve is not supported", ""
    if name.startswith(_UNSUPPORTED):
        return name, encrypts, f"{name} is not supported", ""
    if version == 6 and oid in _LEGACY_CURVES:  # RFC 9580 §9.2
        return name, encrypts, f"the legacy form of {name} is forbidden in version 6", ""
    if version == 6 and encrypts and tuple(material[-2:]) != _KDF[name[-3:]]:
        return name, encrypts, f"the key derivation of {name} is forbidden in version 6", ""
    return name, encrypts, "", ""
