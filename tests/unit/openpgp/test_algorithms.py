"""What key packets say of themselves."""

from __future__ import annotations

import pytest

from relay.mime.packets import PUBLIC_KEY, Packet, walk
from relay.openpgp.algorithms import Key, parse_key
from relay.openpgp.signatures import encode
from tests import keys

P256 = bytes.fromhex("082A8648CE3D030107")
CURVE25519 = bytes.fromhex("0A2B060104019755010501")
POINT = b"\x00\x08\x80"


def key(algorithm: int, material: bytes, version: int = 4) -> Key:
    length = len(material).to_bytes(4) if version == 6 else b""
    [packet] = walk(encode(PUBLIC_KEY, bytes([version]) + bytes(4) + bytes([algorithm]) + length + material))
    found = parse_key(packet)
    assert found is not None
    return found


def rsa(bits: int, claimed: int = 0, exponent_bits: int = 17) -> bytes:
    modulus = (1 << bits - 1).to_bytes(((claimed or bits) + 7) // 8)
    exponent = (1 << exponent_bits - 1).to_bytes((exponent_bits + 7) // 8)
    return (claimed or bits).to_bytes(2) + modulus + exponent_bits.to_bytes(2) + exponent


@pytest.mark.parametrize(("bits", "problem", "warning"), [
    (1024, "RSA 1024 is too weak", ""),
    (2047, "RSA 2047 is too weak", ""),
    (2048, "", "RSA 2048 is below 3072 bits"),
    (3071, "", "RSA 3071 is below 3072 bits"),
    (3072, "", ""),
    (4096, "", ""),
    (4097, "RSA 4097 is not supported: at most 4096 bits", ""),
    (16384, "RSA 16384 is not supported: at most 4096 bits", ""),
])  # fmt: skip
def test_parse_key_rsa_is_judged_by_its_length(bits: int, problem: str, warning: str) -> None:
    """RFC 9580 §12.4: below 2048 bits never, below 3072 with a warning; and not without bound."""
    found = key(1, rsa(bits))

    assert (f"RSA {bits}", True, problem, warning) == (
        found.name,
        found.can_encrypt,
        found.problem,
        found.warning,
    )


def test_parse_key_rsa_with_leading_zeros_is_counted() -> None:
    """The bit count of an MPI is not believed."""
    assert "RSA 1024 is too weak" == key(1, rsa(1024, claimed=4096)).problem


@pytest.mark.parametrize(("bits", "problem"), [
    (33, ""),
    (34, "RSA 4096 with an exponent of 34 bits is not supported"),
    (4000, "RSA 4096 with an exponent of 4000 bits is not supported"),
])  # fmt: skip
def test_parse_key_rsa_with_huge_exponent_is_refused(bits: int, problem: str) -> None:
    """An exponent that makes every verification slow is refused before anything is verified."""
    assert problem == key(1, rsa(4096, exponent_bits=bits)).problem


@pytest.mark.parametrize(("algorithm", "material", "version", "problem"), [
    (16, bytes(4), 4, "Elgamal is not secure"),
    (20, bytes(4), 4, "Elgamal is not secure"),
    (17, bytes(4), 4, "DSA is not secure"),
    (99, bytes(4), 4, "algorithm 99 is not supported"),
    (18, b"\x03\x01\x02\x03" + POINT, 4, "its curve is not supported"),
    (19, bytes.fromhex("092B2403030208010107") + POINT, 4, "Brainpool P-256 is not supported"),
    (18, bytes(4), 4, "its curve is not supported"),
    (18, CURVE25519 + POINT + b"\x03\x01\x08\x07", 4, ""),
    (18, CURVE25519 + POINT + b"\x03\x01\x08\x07", 6,
     "the legacy form of Curve25519 is forbidden in version 6"),
    (18, P256 + POINT + b"\x03\x01\x08\x07", 6, ""),
    (18, P256 + POINT + b"\x03\x01\x0a\x07", 6, "the key derivation of NIST P-256 is forbidden in version 6"),
    (18, P256 + POINT + b"\x03\x01\x0a\x07", 4, ""),
    (25, bytes(32), 4, ""),
])  # fmt: skip
def test_parse_key_algorithm_is_acceptable_or_not(
    algorithm: int, material: bytes, version: int, problem: str
) -> None:
    """RFC 9580 §12.5, §12.6, §9.2 and §11.5.1."""
    assert problem == key(algorithm, material, version).problem


@pytest.mark.parametrize(
    "body", [b"", b"\x04", b"\x03" + bytes(20), b"\x05" + bytes(20), b"\x04" + bytes(65535)]
)
def test_parse_key_unknown_version_or_length_is_none(body: bytes) -> None:
    """What is no key of a known version is skipped, not guessed."""
    assert parse_key(Packet(PUBLIC_KEY, 0, len(body), body)) is None


@pytest.mark.parametrize("name", ["rsa3072", "v6"])
def test_parse_key_fingerprint_and_key_id(name: str) -> None:
    """The key ID is the end of a v4 and the start of a v6 fingerprint (RFC 9580 §5.5.4)."""
    found = parse_key(next(walk(keys.certificate(name).data)))

    assert found is not None
    assert keys.certificate(name).fingerprint == found.fingerprint
    assert found.key_id == (found.fingerprint[-16:] if name == "rsa3072" else found.fingerprint[:16])
