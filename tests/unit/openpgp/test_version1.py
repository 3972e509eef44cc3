"""The certificate that makes pysequoia write version 1, and its way out of the message."""

from __future__ import annotations

import hashlib

import pysequoia
import pytest

from relay.mime import packets
from relay.mime.packets import PUBLIC_KEY, PUBLIC_SUBKEY, Malformed
from relay.openpgp import version1
from relay.openpgp.signatures import encode
from tests.forge import Owner, at, mpi, raw

_CURVE25519, _KDF = bytes.fromhex("120A2B060104019755010501"), bytes.fromhex("03010807")
"""Algorithm, length of the OID, OID; hash and cipher of the key derivation (RFC 9580 §5.5.5.6)."""

_OTHER = Owner("other")


def _written(*certificates: bytes) -> bytes:
    """A binary message to these certificates, as pysequoia writes it."""
    return pysequoia.encrypt(b"text", [pysequoia.Cert.from_bytes(one) for one in certificates], armor=False)


def _silent() -> bytes:
    """A certificate without Features."""
    return _OTHER.start(_OTHER.sign(0x13, _OTHER.user_id, flags=b"\x01", claims=b"")) + _OTHER.bind()


def test_certificate_has_no_secret_that_anybody_could_know() -> None:
    """The point of its subkey is the digest of a sentence: nobody has multiplied anything to find it."""
    owner = Owner("a certificate that announces version 1", created=at(2020))
    point = b"\x40" + hashlib.sha256(b"nobody knows the secret of this point").digest()
    subkey = b"\x04" + owner.created.to_bytes(4) + _CURVE25519 + mpi(point) + _KDF

    made = encode(PUBLIC_KEY, owner.primary) + owner.sign(0x1F, flags=b"\x01")
    made += encode(PUBLIC_SUBKEY, subkey) + owner.sign(0x18, subkey, flags=b"\x04", claims=b"")

    assert made == version1.CERTIFICATE


@pytest.mark.parametrize("place", [0, 1])  # of ours
def test_without_leaves_the_session_keys_of_others(place: int) -> None:
    """Wherever its packet stands: it goes, and not an octet of the rest."""
    others = [_silent()]
    others.insert(place, version1.CERTIFICATE)
    message = _written(*others)

    cut = version1.without(message)

    assert packets.EncryptedMessage((_key_id(),), (3,), 0, 1) == packets.encrypted_message(cut)
    assert raw(cut) == [octets for number, octets in enumerate(raw(message)) if number != place]


def _key_id() -> str:
    [subkey] = [packet for packet in packets.walk(_silent()) if packet.tag == PUBLIC_SUBKEY]
    return packets.pkesk_id(packets.fingerprint(subkey))


def test_without_is_opened_by_the_owner() -> None:
    """The encrypted data do not cover the session key packets: the rest decrypts as if nothing had been."""
    secret = pysequoia.Tsk.from_bytes(_OTHER.secret(_silent(), "mail"))

    cut = version1.without(_written(_silent(), version1.CERTIFICATE))

    assert b"text" == pysequoia.decrypt(cut, secret.decryptor()).bytes


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(_written(_silent()), id="none"),
        pytest.param(_written(version1.CERTIFICATE, version1.CERTIFICATE), id="two"),
        pytest.param(b"garbage", id="no packets"),
    ],
)
def test_without_anything_but_one_raises(message: bytes) -> None:
    """Nothing is cut out of a message that is not what was ordered."""
    with pytest.raises(Malformed):
        version1.without(message)
