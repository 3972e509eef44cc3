"""Answers of web directories and key servers: whatever the octets are, a list or "cannot tell"."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.address import parse_mailbox
from relay.clock import SystemClock
from relay.errors import KeySourceUnavailable
from relay.keys.answers import MAX_CERTIFICATES, from_directory, from_exact, from_search, with_fingerprint
from relay.message import Certificate, Verdict
from relay.mime import packets
from relay.openpgp.judge import Judge
from tests.unit.keys.certs import armored, cert, fingerprint, tsk

BOB, AL = "bob@example.com", "al@example.com"
BOBS, ALS = cert(f"Bob <{BOB}>"), cert(AL)
BOTH = cert(AL, BOB, "Robert <bob@example.org>")
HTML = b"<!DOCTYPE html><html><title>Welcome</title></html>"
TINY = b"\xcc\x00" * (1 << 19)
ARMORED_TINY = (
    b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n"
    + base64.b64encode(TINY[:600_000])
    + b"\n-----END PGP PUBLIC KEY BLOCK-----\n"
)
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

Read = Callable[[bytes, str, str], list[Certificate]]
READERS: list[Read] = [from_directory, from_exact, from_search]


def _judged(found: list[Certificate]) -> list[Verdict]:
    # The certificates of this file were made a moment ago.
    return Judge().judge(found, parse_mailbox(BOB), SystemClock().now() + timedelta(minutes=1))


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("body", [BOBS, armored(BOB), b"\xef\xbb\xbf" + armored(BOB), ALS + BOBS, BOTH])
def test_read_certificate_of_the_address_is_given(read: Read, body: bytes) -> None:
    """Binary or armoured, alone or beside others': one usable certificate, one User ID (K-08, K-10)."""
    found = read(body, "web", BOB)

    assert [True] == [verdict.usable for verdict in _judged(found)]
    assert [True] == [all(BOB in user_id for user_id in certificate.user_ids) for certificate in found]
    assert packets.certificates(found[0].data, "web") == found


@pytest.mark.parametrize("read", READERS)
def test_read_several_certificates_are_all_given(read: Read) -> None:
    """A current key and older ones may stand in one answer (K-09)."""
    found = read(BOBS + cert(BOB), "web", BOB)

    assert 2 == len(found)
    assert fingerprint(BOBS) == found[0].fingerprint


@pytest.mark.parametrize("read", [from_directory, from_exact])
def test_read_exact_answer_for_others_is_given_as_unusable(read: Read) -> None:
    """A wrong file in a directory is not "there is no key": the judge says what is wrong with it."""
    found = read(ALS, "web", BOB)

    assert packets.certificates(ALS, "web") == found
    assert [f"has no User ID <{BOB}>"] == [verdict.sentence for verdict in _judged(found)]


def test_from_search_answer_for_others_is_none() -> None:
    """A search that finds what is only similar has found nothing."""
    assert [] == from_search(ALS, "server", BOB)


@pytest.mark.parametrize(
    "body", [HTML, b"", BOBS[:-1], b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n", TINY[:6]]
)
def test_from_directory_unreadable_answer_is_unusable(body: bytes) -> None:
    """A web page or half a key is neither "none" nor a key; it can be stored and read again like one."""
    found = from_directory(body, "wkd", BOB)

    assert ["is damaged: its primary key cannot be read"] == [verdict.sentence for verdict in _judged(found)]
    assert packets.certificates(found[0].data, "wkd") == found


def test_from_directory_secret_key_is_not_kept() -> None:
    """Somebody's secret key, published by mistake, goes no further."""
    secret = bytes(tsk(BOB))

    [found] = from_directory(secret, "wkd", BOB)

    assert not _judged([found])[0].usable
    assert b"bob" not in found.data


@pytest.mark.parametrize("read", [from_exact, from_search, with_fingerprint])
@pytest.mark.parametrize("body", [HTML, b"", BOBS[:-1]])
def test_read_unreadable_answer_of_a_server_is_unavailable(read: Read, body: bytes) -> None:
    """A key server that answers with a page is broken, whatever the recipient has."""
    with pytest.raises(KeySourceUnavailable, match="not a readable"):
        read(body, "server", BOB)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("body", [TINY, ARMORED_TINY, BYTE_ORDER_MARK + TINY, BYTE_ORDER_MARK + ARMORED_TINY])
def test_read_endless_packets_are_unavailable(read: Read, body: bytes) -> None:
    """A mebibyte of empty packets is not even counted to its end, in whatever dress it comes."""
    with pytest.raises(KeySourceUnavailable, match="packets"):
        read(body, "web", BOB)


@pytest.mark.parametrize("read", [from_directory, from_exact])
def test_read_too_many_certificates_are_unavailable(read: Read) -> None:
    """What stands past the limit could be a revocation, so nothing is said."""
    with pytest.raises(KeySourceUnavailable, match="certificates"):
        read(BOBS * (MAX_CERTIFICATES + 1), "web", BOB)


def test_from_search_too_many_certificates_are_cut() -> None:
    """Anyone can upload; the first ones for the address are taken, whatever stands before them."""
    found = from_search(ALS * 30 + BOBS * 30, "server", BOB)

    assert [fingerprint(BOBS)] * MAX_CERTIFICATES == [certificate.fingerprint for certificate in found]


def test_with_fingerprint_only_that_certificate_is_given() -> None:
    """The certificate is recognised by its octets, with its User IDs or without any (K-25)."""
    key_only = next(packets.walk(BOBS))
    bare = BOBS[key_only.start : key_only.end]

    found = with_fingerprint(ALS + BOTH + bare, "server", fingerprint(BOBS))

    assert packets.certificates(bare, "server") == found


def test_with_fingerprint_endless_copies_are_unavailable() -> None:
    """Thousands of copies would all be kept; what stands past a limit could be a revocation."""
    key_only = next(packets.walk(BOBS))

    with pytest.raises(KeySourceUnavailable, match="certificates"):
        with_fingerprint(BOBS[: key_only.end] * (MAX_CERTIFICATES + 1), "server", fingerprint(BOBS))


def test_with_fingerprint_empty_one_finds_nothing() -> None:
    """A certificate of an unknown version has an empty fingerprint, and is not found by that."""
    assert [] == with_fingerprint(b"\xc6\x01\x09", "server", "")


_OCTETS = st.one_of(
    st.binary(),
    st.binary().map(lambda data: BOTH[: len(data)] + data),
    st.tuples(st.integers(0, len(BOTH) - 1), st.integers(0, 255)).map(
        lambda change: BOTH[: change[0]] + bytes([change[1]]) + BOTH[change[0] + 1 :]
    ),
    st.binary().map(lambda data: armored(BOB)[: 300 + len(data)] + data),
)


@given(_OCTETS)
def test_read_any_octets_are_a_list_or_unavailable(body: bytes) -> None:
    """Nothing else comes out; what promises to be exact is never "none"; the judge has a sentence for all."""
    for read in (from_directory, from_exact, from_search, with_fingerprint):
        try:
            found = read(body, "web", BOB)
        except KeySourceUnavailable:
            continue
        assert found or read in (from_search, with_fingerprint)
        assert all(verdict.usable or verdict.sentence for verdict in _judged(found))
        assert [packets.certificates(certificate.data, "web") for certificate in found] == [
            [it] for it in found
        ]
