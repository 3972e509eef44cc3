"""What signature packets claim, and how they are passed on."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.mime.packets import walk
from relay.openpgp.signatures import MAX_OCTETS, Signature, parse_signature
from tests.forge import MDC_ONLY, Owner, Owner6, at, subpacket

OWNER, OWNER6 = Owner("owner"), Owner6("owner")
MONTH = 30 * 86400


def parsed(packet: bytes) -> Signature:
    [found] = walk(packet)
    signature = parse_signature(found.head)
    assert signature is not None
    return signature


def binding(**claims: object) -> bytes:
    return OWNER.sign(0x18, OWNER.subkey(), **claims)  # type: ignore[arg-type]


def test_parse_signature_reads_the_hashed_area() -> None:
    """Dates, flags, hash and issuer are found."""
    found = parsed(binding(on=at(2025, 3), flags=b"\x0c\x04", key_lasts=MONTH, lasts=9, digest=10))

    assert (0x18, 10, at(2025, 3), MONTH, 9, 0x0C, 1) == (
        found.type,
        found.hash,
        found.created,
        found.key_lasts_seconds,
        found.lasts_seconds,
        found.flags,
        found.features,
    )
    assert {OWNER.fingerprint[-16:]} == found.issuers


def test_parse_signature_ignores_claims_in_the_unhashed_area() -> None:
    """Anybody can write there (RFC 9580 §13.13)."""
    hints = subpacket(27, b"\x0c") + subpacket(9, bytes(4)) + subpacket(2, bytes(4)) + subpacket(30, b"\x09")

    found = parsed(binding(claims=b"", key_lasts=MONTH, hints=hints))

    assert (None, MONTH, OWNER.created, None) == (
        found.flags,
        found.key_lasts_seconds,
        found.created,
        found.features,
    )


def test_packet_replaces_the_unhashed_area() -> None:
    """Only the issuer and an embedded signature are passed on."""
    embedded, junk = subpacket(32, b"embedded"), subpacket(30, b"\x09")

    passed = parsed(binding(hints=junk + embedded + junk)).packet(OWNER.fingerprint)

    assert junk not in passed
    assert b"embedded" in passed
    assert {OWNER.fingerprint[-16:]} == parsed(passed).issuers


def test_parse_signature_variants_have_one_identity() -> None:
    """Changing what the unhashed area says of the issuer does not make another signature."""
    variants = [
        parsed(binding(hints=hints)) for hints in (b"", subpacket(16, bytes(8)), subpacket(100, b"x"))
    ]

    assert len({variant.identity for variant in variants}) == 1
    assert variants[0].identity != parsed(binding(flags=b"\x04")).identity


def test_parse_signature_last_of_doubled_subpackets_counts() -> None:
    """RFC 9580 §5.2.3.9."""
    assert parsed(binding(claims=subpacket(27, b"\x0c"), flags=b"\x08")).flags == 8


@pytest.mark.parametrize("kind", [2, 3, 9])
@pytest.mark.parametrize("octets", [0, 3, 5, 9])
def test_parse_signature_time_of_another_length_is_none(kind: int, octets: int) -> None:
    """Times have four octets (RFC 9580 §3.5); others would name moments that no calendar has."""
    [found] = walk(binding(claims=subpacket(kind, b"\xff" * octets)))

    assert parse_signature(found.head) is None


def test_parse_signature_of_a_huge_packet_is_none() -> None:
    """A version 6 signature may state any length; what no program makes is not taken apart."""
    [found] = walk(OWNER6.sign(0x18, OWNER6.subkey, claims=subpacket(100, bytes(99)) * 700))

    assert len(found.head) > MAX_OCTETS
    assert parse_signature(found.head) is None


@pytest.mark.parametrize(("value", "exportable"), [(b"\x00", False), (b"\x01", True), (None, True)])
def test_parse_signature_says_whether_it_may_leave(value: bytes | None, exportable: bool) -> None:
    """A local certification says so (RFC 9580 §5.2.3.19)."""
    claims = b"" if value is None else subpacket(4, value)

    assert exportable == parsed(binding(claims=claims)).is_exportable


def test_parse_signature_names_what_must_be_understood() -> None:
    """Critical subpackets are told apart, and read like others (RFC 9580 §5.2.3.7)."""
    found = parsed(
        binding(claims=subpacket(0x80 | 27, b"\x04") + subpacket(100, b"") + subpacket(0x80 | 101, b""))
    )

    assert ({27, 101}, 4) == (found.critical, found.flags)


def test_parse_signature_names_its_algorithm() -> None:
    """22 is EdDSA in its legacy form."""
    assert 22 == parsed(binding()).algorithm


@pytest.mark.parametrize(("lasts", "ends"), [(0, None), (9, 9)])
def test_lapses_and_key_ends_are_moments_or_never(lasts: int, ends: int | None) -> None:
    """A duration of 0 means for ever, for the signature and for the key (RFC 9580 §5.2.3.13)."""
    found = parsed(binding(on=at(2025, 3), lasts=lasts, key_lasts=lasts))

    assert ends == (None if found.lapses is None else found.lapses - at(2025, 3))
    assert ends == found.key_ends(0)


def test_parse_signature_version_3_names_its_issuer() -> None:
    """An old revocation is read, so that it counts."""
    body = b"\x03\x05\x20" + at(2025).to_bytes(4) + bytes(range(8)) + b"\x01\x02" + b"xx" + b"\x00\x08\x80"

    found = parse_signature(body)

    assert found is not None
    assert (0x20, at(2025), {"0001020304050607"}) == (found.type, found.created, found.issuers)


@pytest.mark.parametrize("body", [
    b"", b"\x04", b"\x05" + bytes(30), b"\x04\x18\x16\x08\xff\xff", bytes([4, 0x18, 22, 8, 0, 0, 0, 0, 1, 2]),
    bytes([4, 0x18, 22, 8, 0, 2, 200, 2, 0, 0, 1, 2]), bytes([4, 0x18, 22, 8, 0, 1, 0, 0, 0, 1, 2]),
], ids=range(7))  # fmt: skip
def test_parse_signature_malformed_is_none(body: bytes) -> None:
    """Unknown versions, broken lengths and a missing creation time make no signature."""
    assert parse_signature(body) is None


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=80), st.sampled_from([b"\x04\x18\x16\x08", b"\x06\x18\x1b\x08", b"\x03\x05", b""]))
def test_parse_signature_never_raises(body: bytes, start: bytes) -> None:
    """Arbitrary octets give a signature or None."""
    found = parse_signature(start + body)

    assert found is None or found.version in {3, 4, 6}


@pytest.mark.parametrize(("seconds", "live"), [(-1, False), (0, True), (9, True), (10, False)])
def test_is_live_from_creation_until_expiry(seconds: int, live: bool) -> None:
    """A signature counts from the second it was made to the one before it expires."""
    found = parsed(binding(lasts=10, claims=MDC_ONLY))

    assert live == found.is_live(OWNER.created + seconds)
