"""Single signature values, made by the library that is not asked by anything else here."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.mime.packets import PUBLIC_KEY, walk
from relay.openpgp.algorithms import Key, parse_key
from relay.openpgp.signatures import encode
from relay.openpgp.verification import HASHES, verifies
from tests.forge import mpi

_LIBRARY = {8: hashes.SHA256(), 9: hashes.SHA384(), 10: hashes.SHA512()}
_OIDS = {
    ec.SECP256R1: "082A8648CE3D030107",
    ec.SECP384R1: "052B81040022",
    ec.SECP521R1: "052B81040023",
}

Signer = Callable[[bytes, int], bytes]
"""Digest and number of the hash to the value that stands in a signature packet."""


def key(algorithm: int, material: bytes, version: int = 6) -> Key:
    length = len(material).to_bytes(4) if version == 6 else b""
    [packet] = walk(encode(PUBLIC_KEY, bytes([version]) + bytes(4) + bytes([algorithm]) + length + material))
    found = parse_key(packet)
    assert found is not None
    return found


def make_rsa(bits: int = 2048, algorithm: int = 1) -> tuple[Key, Signer]:
    private = rsa.generate_private_key(65537, bits)
    numbers = private.public_key().public_numbers()
    material = mpi(numbers.n.to_bytes(bits // 8)) + mpi(numbers.e.to_bytes(3))

    def sign(digest: bytes, hash: int) -> bytes:
        return mpi(private.sign(digest, padding.PKCS1v15(), Prehashed(_LIBRARY[hash])))

    return key(algorithm, material, 4), sign


def make_ecdsa(curve: type[ec.EllipticCurve]) -> tuple[Key, Signer]:
    private = ec.derive_private_key(1 << 200, curve())
    point = private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    def sign(digest: bytes, hash: int) -> bytes:
        r, s = decode_dss_signature(private.sign(digest, ec.ECDSA(Prehashed(_LIBRARY[hash]))))
        return mpi(r.to_bytes(66)) + mpi(s.to_bytes(66))

    return key(19, bytes.fromhex(_OIDS[curve]) + mpi(point)), sign


def make_legacy(prefix: bytes = b"\x40") -> tuple[Key, Signer]:
    private = Ed25519PrivateKey.from_private_bytes(bytes(32))
    point = mpi(prefix + private.public_key().public_bytes_raw())

    def sign(digest: bytes, _: int) -> bytes:
        value = private.sign(digest)
        return mpi(value[:32]) + mpi(value[32:])

    return key(22, bytes.fromhex("092B06010401DA470F01") + point, 4), sign


def make_ed25519() -> tuple[Key, Signer]:
    private = Ed25519PrivateKey.from_private_bytes(bytes(32))
    return key(27, private.public_key().public_bytes_raw()), lambda digest, _: private.sign(digest)


def make_ed448() -> tuple[Key, Signer]:
    private = Ed448PrivateKey.from_private_bytes(bytes(57))
    return key(28, private.public_key().public_bytes_raw()), lambda digest, _: private.sign(digest)


MAKERS = {
    "RSA": make_rsa,
    "RSA for signing": lambda: make_rsa(algorithm=3),
    "P-256": lambda: make_ecdsa(ec.SECP256R1),
    "P-384": lambda: make_ecdsa(ec.SECP384R1),
    "P-521": lambda: make_ecdsa(ec.SECP521R1),
    "EdDSA": make_legacy,
    "Ed25519": make_ed25519,
    "Ed448": make_ed448,
}


_OTHER_RSA = {1: 3, 3: 1}
"""The same values would verify, but the key is not meant for that number."""


def digest_of(hash: int) -> bytes:
    return hashlib.new(HASHES[hash], b"message").digest()


@pytest.mark.parametrize("hash", [8, 9, 10])
@pytest.mark.parametrize("name", MAKERS)
def test_verifies_a_genuine_value_alone(name: str, hash: int) -> None:
    """What the key signed verifies, unless the hash is too short for it; no other digest does."""
    made, sign = MAKERS[name]()
    digest = digest_of(hash)
    value, algorithm = sign(digest, hash), made.body[5]

    assert (name != "Ed448" or hash == 10) == verifies(made, algorithm, hash, digest, value)
    assert not verifies(made, algorithm, hash, bytes(len(digest)), value)


@pytest.mark.parametrize("name", MAKERS)
def test_verifies_nothing_that_was_altered(name: str) -> None:
    """A value that is changed, longer, shorter, empty, or of another algorithm or hash is no signature."""
    made, sign = MAKERS[name]()
    digest, algorithm = digest_of(10), made.body[5]
    value = sign(digest, 10)
    altered = [b"", value[:-1], value + b"\x00", value[:-1] + bytes([value[-1] ^ 1]), b"\xff" * len(value)]

    assert verifies(made, algorithm, 10, digest, value)
    assert [False] * len(altered) == [verifies(made, algorithm, 10, digest, bad) for bad in altered]
    assert [False, False] == [
        verifies(made, _OTHER_RSA.get(algorithm, 17), 10, digest, value),
        verifies(made, algorithm, 2, digest, value),
    ]


def test_verifies_nothing_by_a_weak_key() -> None:
    """RSA below 2048 bits signs nothing that counts (RFC 9580 §12.4)."""
    made, sign = make_rsa(1024)

    assert not verifies(made, 1, 8, digest_of(8), sign(digest_of(8), 8))


def test_verifies_nothing_by_a_point_of_another_form() -> None:
    """Only native points are used on that curve, and they begin with 0x40 (RFC 9580 §5.5.5.5)."""
    made, sign = make_legacy(b"\x41")

    assert not verifies(made, 22, 10, digest_of(10), sign(digest_of(10), 10))


@pytest.mark.parametrize(("algorithm", "material"), [
    (1, b"\x08\x00" + b"\xff" * 256 + b"\x00\x01\x00"),
    (1, b"\x08\x00" + b"\xff" * 255 + b"\xfe" + b"\x00\x11\x01\x00\x01"),
    (1, b"\xff\xff" + b"\xff" * 300),
    (19, bytes.fromhex(_OIDS[ec.SECP256R1]) + mpi(b"\x04" + bytes(64))),
    (19, bytes.fromhex(_OIDS[ec.SECP256R1]) + mpi(b"\x01")),
    (19, bytes.fromhex("092B06010401DA470F01") + mpi(b"\x40" + bytes(32))),
    (22, bytes.fromhex("092B06010401DA470F01") + mpi(b"\x41" + bytes(32))),
    (22, bytes.fromhex("092B06010401DA470F01") + mpi(b"\x40" + bytes(31))),
    (27, bytes(31)),
    (28, bytes(58)),
], ids=range(10))  # fmt: skip
def test_verifies_nothing_by_a_malformed_key(algorithm: int, material: bytes) -> None:
    """Points that lie on no curve and numbers that are no keys make no signature, and raise nothing."""
    value = mpi(b"\x01") * 2 if algorithm in {19, 22} else mpi(b"\x01")

    assert not verifies(key(algorithm, material, 4), algorithm, 10, digest_of(10), value)


_MADE = {name: MAKERS[name]() for name in ("P-256", "EdDSA", "Ed25519", "Ed448")}


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(_MADE)), st.binary(max_size=200), st.sampled_from([8, 9, 10]))
def test_verifies_never_raises(name: str, value: bytes, hash: int) -> None:
    """Arbitrary octets are no signature."""
    made, _ = _MADE[name]

    assert not verifies(made, made.body[5], hash, digest_of(hash), value)
