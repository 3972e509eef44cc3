"""Which key signs and until when, from claims alone; a signature proves that the claims are genuine."""

from __future__ import annotations

from datetime import UTC, datetime

import pysequoia
import pytest

from relay.mime import packets
from relay.openpgp.signatures import encode, parse_signature
from relay.openpgp.signing import library
from relay.openpgp.signing.assessment import PROBE, KeyUnfit, SigningKey, choose, prove
from tests import keys

NOW = int(datetime(2026, 6, 1, tzinfo=UTC).timestamp())


def _names(data: bytes) -> list[str]:
    return [packets.fingerprint(packet) for packet in packets.walk(data) if packet.tag in {6, 14}]


def _chosen(name: str, *, now: int = NOW) -> SigningKey:
    data = keys.certificate(name).data
    return choose(data, keys.certificate(name).fingerprint, frozenset(_names(data)), now)


def _generated(days: int | None = None) -> bytes:
    seconds = days * 86_400 if days else None
    key = pysequoia.Tsk.generate(
        "<office@example.org>", profile=pysequoia.Profile.RFC9580, validity_seconds=seconds
    )
    return bytes(key)


def _public(secret: bytes) -> bytes:
    return library.public(secret)


@pytest.mark.parametrize("name", ["rsa3072", "curve25519", "p256", "v6", "pqc"])
def test_choose_then_prove(name: str) -> None:
    """What the key signs verifies against the certificate that was cut for readers."""
    key = _chosen(name)

    prove(key, library.sign(PROBE, library.signer(keys.secret(name), None)))

    assert key.ends is None
    assert keys.certificate(name).fingerprint == key.primary


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("expired-primary", "expired on 2025-03-01"),
        ("revoked-primary", "revoked on 2025-01-02"),
        ("future", "was created on 2040-01-01, which is in the future"),
        ("rsa1024", "RSA 1024 is too weak"),
        ("sha1", "the certificate is bound with SHA-1, which is not secure"),
        ("dsa-elgamal", "DSA is not secure"),
        ("v6-without-direct-key", "has no valid direct-key signature"),
    ],
)
def test_choose_key_that_must_not_sign_raises(name: str, expected: str) -> None:
    """The rules for a primary key are those for encrypting."""
    with pytest.raises(KeyUnfit, match=expected) as caught:
        _chosen(name)
    assert not caught.value.is_temporary


def test_choose_without_secret_raises() -> None:
    """A key whose secret is elsewhere cannot sign here."""
    with pytest.raises(KeyUnfit, match="secret part is not there"):
        choose(
            keys.certificate("curve25519").data, keys.certificate("curve25519").fingerprint, frozenset(), NOW
        )


def test_choose_garbage_raises() -> None:
    """What is no certificate cannot sign."""
    with pytest.raises(KeyUnfit):
        choose(b"garbage", "A" * 40, frozenset(), NOW)


def test_choose_ends_with_the_primary() -> None:
    """A subkey without a date of its own ends with its primary key."""
    secret = _generated(days=30)
    data = _public(secret)
    now = int(datetime.now(UTC).timestamp())

    key = choose(data, _names(data)[0], frozenset(_names(data)), now)

    assert key.ends is not None
    assert abs(key.ends - now - 30 * 86_400) < 100
    key.check_live(key.ends - 1)
    with pytest.raises(KeyUnfit, match="expired on"):
        key.check_live(key.ends)


def test_prove_signature_of_another_key_raises() -> None:
    """A signature that the key did not make proves nothing."""
    with pytest.raises(KeyUnfit, match="nobody can verify"):
        prove(_chosen("curve25519"), library.sign(PROBE, library.signer(keys.secret("rsa3072"), None)))


def test_prove_signature_over_something_else_raises() -> None:
    """Nor does one over another text."""
    with pytest.raises(KeyUnfit, match="nobody can verify"):
        prove(_chosen("curve25519"), library.sign(b"other", library.signer(keys.secret("curve25519"), None)))


@pytest.mark.parametrize("octets", [b"", b"garbage", b"\xc2\x03\x04\x00\x01", b"\xcb\x01b"])
def test_prove_garbage_raises(octets: bytes) -> None:
    """What is no signature proves nothing."""
    with pytest.raises(KeyUnfit):
        prove(_chosen("curve25519"), octets)


def test_prove_forged_binding_of_the_signing_subkey_raises() -> None:
    """A binding that somebody changed makes the key unusable, whatever it claims."""
    secret = _generated()
    data = _public(secret)
    found = list(packets.walk(data))
    place = next(
        index
        for index, packet in enumerate(found)
        if packet.tag == 14 and (parse_signature(found[index + 1].head) or _NONE).flags == 0x02
    )
    bound = found[place + 1]
    body = bound.head[:-1] + bytes([bound.head[-1] ^ 1])
    forged = data[: bound.start] + encode(2, body) + data[bound.end :]
    subkey = packets.fingerprint(found[place])
    now = int(datetime.now(UTC).timestamp())
    key = choose(forged, _names(data)[0], frozenset({subkey}), now)

    with pytest.raises(KeyUnfit, match="nobody can verify"):
        prove(key, library.sign(PROBE, library.signer(secret, None)))


class _NONE:
    flags = None


def test_choose_certificate_for_readers_has_no_other_subkey() -> None:
    """What proves a signature holds the primary key and the one that signs."""
    data = _public(_generated())
    names = _names(data)

    key = choose(data, names[0], frozenset(names), int(datetime.now(UTC).timestamp()))

    assert [names[0], key.fingerprint] == _names(key.certificate)
