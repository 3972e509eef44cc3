"""A certificate cut down to one mailbox still says everything about its keys, and nothing about others."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.address import parse_mailbox
from relay.clock import SystemClock
from relay.keys.trimming import only_user_id
from relay.mime import packets
from relay.mime.packets import Malformed
from relay.openpgp.judge import Judge
from tests import keys
from tests.fakes import FixedClock
from tests.unit.keys.certs import cert

BOB = "bob@example.com"


def _packet(tag: int, body: bytes) -> bytes:
    return bytes([0xC0 | tag, 0xFF]) + len(body).to_bytes(4) + body


def _signature(kind: int, mark: bytes = b"") -> bytes:
    return _packet(packets.SIGNATURE, bytes([4, kind]) + mark)


def _user_id(text: str) -> bytes:
    return _packet(packets.USER_ID, text.encode())


KEY = _packet(packets.PUBLIC_KEY, b"\x04key")
SUBKEY = _packet(packets.PUBLIC_SUBKEY, b"\x04subkey")
BINDING = _signature(0x18)


def test_only_user_id_other_user_ids_go_with_their_signatures() -> None:
    """What stays: key, the mailbox with all signatures on it, subkeys (draft-koch §5, K-08)."""
    direct, mine = _signature(0x1F), _signature(0x13, b"own") + _signature(0x10, b"third party")
    before = _user_id("Al <al@example.com>") + _signature(0x13, b"al")
    after = _user_id("bob@example.org") + _signature(0x13, b"org") + _signature(0x30, b"org")
    bob = _user_id(f"Bob <{BOB}>") + mine
    certificate = KEY + direct + before + bob + after + SUBKEY + BINDING

    assert KEY + direct + bob + SUBKEY + BINDING == only_user_id(certificate, BOB)


def test_only_user_id_every_user_id_of_the_mailbox_stays() -> None:
    """One mailbox can have several names; letter case of ASCII does not matter."""
    bobs = _user_id(BOB) + _signature(0x13) + _user_id("Rob <BOB@EXAMPLE.COM>") + _signature(0x13)

    assert KEY + bobs == only_user_id(KEY + bobs, BOB)


@pytest.mark.parametrize("kind", [0x1F, 0x20, 0x28])
@pytest.mark.parametrize("place", [_user_id("al@example.com"), _packet(packets.USER_ATTRIBUTE, b"picture")])
def test_only_user_id_signature_about_keys_stays_wherever_it_is(kind: int, place: bytes) -> None:
    """A revocation of a key that stands behind a User ID which goes is not lost."""
    certificate = KEY + _user_id(BOB) + place + _signature(0x13, b"gone") + _signature(kind) + SUBKEY

    assert KEY + _user_id(BOB) + _signature(kind) + SUBKEY == only_user_id(certificate, BOB)


def test_only_user_id_version_3_signature_is_told_by_its_own_layout() -> None:
    """The type of a version 3 signature stands one octet later (RFC 9580 §5.2.2)."""
    revocation = _packet(packets.SIGNATURE, b"\x03\x05\x20")
    other = _packet(packets.SIGNATURE, b"\x03\x20\x13")
    certificate = KEY + _user_id(BOB) + _user_id("al@example.com") + revocation + other

    assert KEY + _user_id(BOB) + revocation == only_user_id(certificate, BOB)


def test_only_user_id_unknown_packets_go_with_their_signatures() -> None:
    """Pictures, trust packets and what nobody knows go; a signature on them is not given to others."""
    unknown = _packet(60, b"?") + _signature(0x13) + _packet(packets.TRUST, b"\x00")
    picture = _packet(packets.USER_ATTRIBUTE, b"picture") + _signature(0x13)

    assert KEY + _user_id(BOB) == only_user_id(KEY + _user_id(BOB) + picture + unknown, BOB)


def test_only_user_id_without_the_mailbox_is_none() -> None:
    """A certificate for somebody else, or for nobody, is none of this mailbox."""
    for others in (b"", _user_id("al@example.com"), _user_id(f"{BOB} <al@example.com>")):
        assert only_user_id(KEY + others + SUBKEY, BOB) is None


@pytest.mark.parametrize(
    "certificate", [b"", SUBKEY, _user_id(BOB) + KEY, KEY + _user_id(BOB) + KEY, KEY[:-1]]
)
def test_only_user_id_no_certificate_is_malformed(certificate: bytes) -> None:
    """Anything but one certificate is refused."""
    with pytest.raises(Malformed):
        only_user_id(certificate, BOB)


@given(st.binary())
def test_only_user_id_any_octets_are_read_or_malformed(data: bytes) -> None:
    """No octets end otherwise, and what is kept is no longer than what was given."""
    try:
        kept = only_user_id(KEY + data, BOB)
    except Malformed:
        return

    assert kept is None or len(kept) <= len(KEY + data)


_WITH_ADDRESS = [fixture for fixture in keys.FIXTURES if fixture.name != "wrong-user-id"]


@pytest.mark.parametrize("fixture", _WITH_ADDRESS, ids=lambda fixture: fixture.name)
def test_only_user_id_verdict_of_a_fixture_stays(fixture: keys.Fixture) -> None:
    """For certificates with one mailbox nothing changes: the judge says the same after trimming."""
    certificate, now = fixture.certificate, FixedClock().now()
    trimmed = only_user_id(certificate.data, fixture.address.key)
    assert trimmed is not None

    before, after = (
        Judge().judge([replace(certificate, data=data)], fixture.address, now)[0].sentence
        for data in (certificate.data, trimmed)
    )

    assert before == after


def test_only_user_id_real_certificate_stays_usable_for_the_mailbox_alone() -> None:
    """The judge accepts what is left for its mailbox, and for no other one."""
    data = only_user_id(cert("Al <al@example.com>", f"Bob <{BOB}>"), BOB)
    assert data is not None
    certificate, now = packets.certificates(data, "test"), SystemClock().now() + timedelta(minutes=1)

    usable = {
        mailbox: Judge().judge(certificate, parse_mailbox(mailbox), now)[0].usable
        for mailbox in (BOB, "al@example.com")
    }

    assert {BOB: True, "al@example.com": False} == usable
