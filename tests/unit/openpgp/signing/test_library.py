"""The calls into pysequoia: what they refuse is one exception, and holds nothing secret."""

from __future__ import annotations

import pytest

from relay.openpgp.signing import library
from tests import keys


@pytest.mark.parametrize("octets", [b"", b"garbage", keys.certificate("curve25519").data])
def test_signer_without_secret_key_raises(octets: bytes) -> None:
    """What holds no secret key signs nothing."""
    with pytest.raises(library.LibraryRefused):
        library.signer(octets, None)


def test_signer_with_a_password_for_an_unprotected_key_raises_without_it() -> None:
    """The reason never repeats the password, and is one line."""
    with pytest.raises(library.LibraryRefused) as caught:
        library.signer(keys.secret("curve25519"), "the password")

    assert "the password" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_public_is_the_certificate_without_secrets() -> None:
    """No secret key packet is left."""
    from relay.mime import packets

    tags = {packet.tag for packet in packets.walk(library.public(keys.secret("rsa3072")))}

    assert tags.isdisjoint({packets.SECRET_KEY, packets.SECRET_SUBKEY})


def test_verified_by_names_the_key() -> None:
    """A genuine signature names its key in upper case."""
    made = library.sign(b"text", library.signer(keys.secret("curve25519"), None))
    certificate = keys.certificate("curve25519")

    assert certificate.fingerprint == library.verified_by(b"text", made, certificate.data)


@pytest.mark.parametrize(
    ("text", "certificate"),
    [
        (b"other", keys.certificate("curve25519").data),
        (b"text", keys.certificate("p256").data),
        (b"text", b""),
    ],
)
def test_verified_by_nobody_is_empty(text: bytes, certificate: bytes) -> None:
    """Another text, another key, no key."""
    made = library.sign(b"text", library.signer(keys.secret("curve25519"), None))

    assert "" == library.verified_by(text, made, certificate)
    assert "" == library.verified_by(b"text", b"garbage", certificate)
