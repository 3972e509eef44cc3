"""The certificate that an Autocrypt field carries."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relay.message import Address
from relay.mime import autocrypt, packets
from relay.mime.headers import Field, Message
from relay.openpgp.judge import Judge
from relay.openpgp.parts import Unusable
from relay.openpgp.signing.minimal import minimal
from tests import keys
from tests.fakes import FixedClock

NOW = FixedClock().now()


def _tags(name: str) -> list[int]:
    fixture = keys.fixture(name)
    data = minimal(fixture.certificate.data, fixture.address, Judge(), NOW)
    return [packet.tag for packet in packets.walk(data)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("rsa3072", [6, 13, 2, 14, 2]),
        ("two-subkeys", [6, 13, 2, 14, 2]),
        ("v6", [6, 2, 13, 2, 14, 2]),
        ("primary-for-mail", [6, 13, 2]),
    ],
)
def test_minimal_has_the_packets_of_the_specification(name: str, expected: list[int]) -> None:
    """Five packets; a version 6 key has its direct-key signature besides."""
    assert expected == _tags(name)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("sign-only", "no subkey"), ("expired-primary", "expired"), ("wrong-user-id", "has no User ID")],
)
def test_minimal_of_a_key_that_nobody_could_use_raises(name: str, expected: str) -> None:
    """Nobody is given a key that cannot be used to write back."""
    fixture = keys.fixture(name)

    with pytest.raises(Unusable, match=expected):
        minimal(fixture.certificate.data, fixture.address, Judge(), NOW)


@pytest.mark.parametrize("name", ["rsa3072", "curve25519", "two-subkeys", "v6"])
def test_minimal_can_be_used_by_who_reads_it(name: str) -> None:
    """What is written is read again: about the author, and usable for the judge."""
    fixture = keys.fixture(name)
    data = minimal(fixture.certificate.data, fixture.address, Judge(), NOW)
    written = Field("autocrypt", autocrypt.header(str(fixture.address), data))
    author = Field("from", f"From: {fixture.address}\r\n".encode())

    header = autocrypt.find(Message((author, written), b""), fixture.address)

    assert header is not None
    assert (data, fixture.address.key) == (header.certificate, header.addr.key)
    [verdict] = Judge().judge([replace(fixture.certificate, data=data)], fixture.address, NOW)
    assert (True, 1) == (verdict.usable, len(verdict.subkeys))


def test_minimal_leaves_other_user_ids_out() -> None:
    """The other addresses of the owner are nobody's business."""
    fixture = keys.fixture("revoked-user-id")
    other = Address("other@example.com", "other", "example.com")

    data = minimal(fixture.certificate.data, other, Judge(), NOW)

    assert [b"other@example.com"] == [
        packet.head.rpartition(b"<")[2].rstrip(b">") for packet in packets.walk(data) if packet.tag == 13
    ]
