"""Tests of `relay.mime.packets`."""

from __future__ import annotations

import time
import tracemalloc

import pysequoia
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.mime import packets
from relay.mime.packets import EncryptedMessage, Malformed, encrypted_message, walk
from tests.mail import KEY_ID, ZERO_ID, encrypted, packet, pkesk, pkesk6, seipd, skesk

_FINGERPRINT6 = "AB" * 32
_MARKER = packet(10, b"PGP")


def _partial(tag: int, *chunks: bytes, last: bytes = b"") -> bytes:
    """A packet with partial lengths; each chunk has a power of two as its length."""
    pieces = b"".join(bytes([0xE0 | len(chunk).bit_length() - 1]) + chunk for chunk in chunks)
    return bytes([0xC0 | tag]) + pieces + bytes([len(last)]) + last


@pytest.mark.parametrize(
    ("data", "tag", "head"),
    [
        (b"\xcd\x03abc", 13, b"abc"),
        (b"\xcd\xc0\x08" + b"x" * 200, 13, b"x" * 200),
        (b"\xcd\xff\x00\x00\x00\x03abc", 13, b"abc"),
        (b"\xb4\x03abc", 13, b"abc"),
        (b"\xb5\x00\x03abc", 13, b"abc"),
        (b"\xb6\x00\x00\x00\x03abc", 13, b"abc"),
        (b"\xa3abc", 8, b"abc"),
        (b"\xcb\x01" + b"b", 11, b"b"),
    ],
)
def test_walk_every_length_form_is_read(data: bytes, tag: int, head: bytes) -> None:
    """Old and new format, one, two, four octets and indeterminate length (RFC 9580 §4.2)."""
    assert [(tag, 0, len(data), head)] == [(p.tag, p.start, p.end, p.head) for p in walk(data)]


def test_walk_partial_lengths_are_one_packet() -> None:
    """Chunks belong together, and what follows is the next packet (RFC 9580 §4.2.1.4)."""
    first = _partial(18, b"\x01" + b"x" * 511, b"y" * 1024, last=b"end")

    found = list(walk(first + b"\xcd\x01a"))

    assert [(18, 0, len(first), True), (13, len(first), len(first) + 3, False)] == [
        (p.tag, p.start, p.end, p.partial) for p in found
    ]


@pytest.mark.parametrize(
    "data",
    [
        b"\x00",
        b"hello",
        b"\xcd",
        b"\xcd\x05abc",
        b"\xcd\xff\x00\x00",
        b"\xcd\xc0",
        b"\xb5\x00",
        b"\xb4\x05abc",
        _partial(18, b"x" * 256, last=b"z"),
        _partial(18, b"x" * 512)[:-1],
        _partial(1, b"x" * 512, last=b"z"),
        _partial(18, b"x" * 512, *[b"y"] * 140_000),
    ],
)
def test_walk_octets_that_fit_no_packet_are_refused(data: bytes) -> None:
    """Truncated, oversized and chopped packets raise."""
    with pytest.raises(Malformed):
        list(walk(data))


@settings(deadline=None, max_examples=100)
@given(data=st.binary(max_size=200))
def test_walk_arbitrary_octets_give_a_seamless_row_or_raise(data: bytes) -> None:
    """Packets follow each other without gap up to the end of the data."""
    try:
        found = list(walk(data))
    except Malformed:
        return

    assert [0, *(p.end for p in found)] == [*(p.start for p in found), len(data)]


def test_walk_keeps_only_the_start_of_large_contents() -> None:
    """A message is not copied for the sake of its first octet; key material is kept whole."""
    assert [64, 5000] == [len(p.head) for p in walk(seipd(b"x" * 5000) + packet(2, b"s" * 5000))]


def test_encrypted_message_is_described_from_the_outside() -> None:
    """Key IDs in order, versions, passwords (RFC 9580 §5.1, §5.13)."""
    data = _MARKER + pkesk("00000000000000AA") + skesk() + pkesk(KEY_ID) + seipd()

    assert EncryptedMessage(("00000000000000AA", KEY_ID), (3, 3), 1, 1) == encrypted_message(data)


def test_encrypted_message_v6_names_fingerprints() -> None:
    """A v6 session key names a fingerprint (RFC 9580 §5.1.2)."""
    found = encrypted_message(pkesk6(_FINGERPRINT6) + seipd(version=2))

    assert EncryptedMessage((_FINGERPRINT6,), (6,), 0, 2) == found


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (encrypted(ZERO_ID), True),
        (encrypted(KEY_ID, ZERO_ID), True),
        (packet(1, b"\x06\x00\x19" + b"s" * 40) + seipd(version=2), True),
        (encrypted(KEY_ID), False),
    ],
)
def test_encrypted_message_anonymous_recipient_is_seen(data: bytes, expected: bool) -> None:
    """Zeros and an empty fingerprint hide the recipient (RFC 9580 §5.1.8)."""
    assert expected == encrypted_message(data).has_anonymous_recipient


@pytest.mark.parametrize(
    "data",
    {
        "nothing": b"",
        "no data": pkesk(),
        "data first": seipd() + pkesk(),
        "literal": packet(11, b"b\x00\x00\x00\x00\x00plain"),
        "literal behind": encrypted() + packet(11, b"b\x00\x00\x00\x00\x00plain"),
        "literal before": packet(11, b"b\x00\x00\x00\x00\x00plain") + encrypted(),
        "compressed": packet(8, b"\x00plain"),
        "signed": packet(4, b"\x03") + packet(11, b"b") + packet(2, b"\x04"),
        "signature before": packet(2, b"\x04") + encrypted(),
        "without integrity (SED)": pkesk() + packet(9, b"x" * 50),
        "LibrePGP OCB": pkesk() + packet(20, b"x" * 50),
        "two messages": encrypted() + encrypted(),
        "two containers": pkesk() + seipd() + seipd(),
        "empty container": pkesk() + packet(18, b""),
        "padding with words": pkesk() + packet(21, b"plain words") + seipd(),
        "marker with words": packet(10, b"plain words") + encrypted(),
        "marker behind": encrypted() + _MARKER,
        "unknown packet": packet(63, b"plain words") + encrypted(),
        "user id": packet(13, b"plain words") + encrypted(),
        "old session key": packet(1, b"\x02" + b"x" * 50) + seipd(),
        "short session key": packet(1, b"\x03" + b"x" * 8) + seipd(),
        "truncated": encrypted()[:-1],
        "words behind": encrypted() + b"plain words",
        "too many packets": pkesk() * 9_999 + seipd() + packet(11, b"plain"),
    }.values(),
)
def test_encrypted_message_anything_else_is_refused(data: bytes) -> None:
    """Whatever is not session keys and one protected container covering the rest is refused (D-03)."""
    with pytest.raises(Malformed):
        encrypted_message(data)


def test_encrypted_message_flood_of_packets_is_bounded() -> None:
    """Millions of tiny packets cost neither memory nor time."""
    start = time.process_time()
    with pytest.raises(Malformed):
        encrypted_message(b"\xcd\x00" * 2_000_000)

    assert time.process_time() - start < 1


@pytest.mark.parametrize("profile", [pysequoia.Profile.RFC4880, pysequoia.Profile.RFC9580])
def test_encrypted_message_of_a_real_implementation(profile: pysequoia.Profile) -> None:
    """What Sequoia writes for v4 and v6 keys is understood, and names a subkey of theirs."""
    cert = pysequoia.Tsk.generate("<a@b.example>", profile=profile).extract_certificate()
    [parsed] = packets.certificates(bytes(cert), "test")
    subkeys = {
        packets.pkesk_id(packets.fingerprint(p)) for p in walk(parsed.data) if p.tag == packets.PUBLIC_SUBKEY
    }

    found = encrypted_message(pysequoia.encrypt(b"x", recipients=[cert], armor=False))

    assert parsed.fingerprint == cert.fingerprint.upper()
    assert ("<a@b.example>",) == parsed.user_ids
    assert set(found.pkesk_ids) < subkeys


def test_encrypted_message_of_a_large_real_message() -> None:
    """Partial lengths, as an implementation writes them for streams, are followed to the end."""
    cert = pysequoia.Tsk.generate("<a@b.example>").extract_certificate()
    data = pysequoia.encrypt(bytes(5_000_000), recipients=[cert], armor=False)

    assert any(p.partial for p in walk(data))
    assert 1 == len(encrypted_message(data).pkesk_ids)


def test_certificates_two_in_one_file_are_split() -> None:
    """Concatenated certificates come apart at their primary keys."""
    certs = [bytes(pysequoia.Tsk.generate(f"<{name}@b.example>").extract_certificate()) for name in "ab"]

    found = packets.certificates(b"".join(certs), "folder")

    assert certs == [certificate.data for certificate in found]
    assert ["folder", "folder"] == [certificate.source for certificate in found]


def test_certificates_secret_key_is_refused() -> None:
    """A private key in a folder of certificates is an error that names what to do."""
    with pytest.raises(Malformed, match="public key"):
        packets.certificates(bytes(pysequoia.Tsk.generate("<a@b.example>")), "folder")


@pytest.mark.parametrize("data", [b"", packet(13, b"a"), packet(13, b"a") + packet(6, b"\x04" + b"x" * 20)])
def test_certificates_without_primary_key_first_are_refused(data: bytes) -> None:
    """A certificate begins with its primary key."""
    with pytest.raises(Malformed):
        packets.certificates(data, "folder")


@pytest.mark.parametrize("tiny", [b"\xfc\x00", b"\xca\x00"], ids=["private", "marker"])
def test_certificates_of_tiny_packets_take_little_memory(tiny: bytes) -> None:
    """A file of ten megabytes is not half a gigabyte in memory, whatever it is made of."""
    data = packet(6, b"\x04" + b"x" * 20) + tiny * 50_000
    tracemalloc.start()
    try:
        packets.certificates(data, "folder")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 8 * len(data)


@pytest.mark.parametrize("between", [packet(10, b"PGP"), packet(12, b"x"), packet(21, b"xx")])
def test_certificates_packets_that_say_nothing_are_left_out(between: bytes) -> None:
    """Markers, trust and padding are no part of a certificate, wherever they stand."""
    key, name = packet(6, b"\x04" + b"x" * 20), packet(13, b"a")

    found = packets.certificates(between + key + between + name + between + key, "folder")

    assert [key + name, key] == [certificate.data for certificate in found]
    assert [("a",), ()] == [certificate.user_ids for certificate in found]


def test_certificates_unknown_version_has_no_fingerprint() -> None:
    """A key of an unknown version is kept and stays without a name."""
    assert "" == packets.certificates(packet(6, b"\x05" + b"x" * 20), "folder")[0].fingerprint
