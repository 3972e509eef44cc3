"""What LDAP servers answer, octet by octet."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.address import parse_mailbox
from relay.errors import KeySourceUnavailable
from relay.keys.ldap_answers import DONE, ENTRY, Refused, entry_values, need_success, read_message, read_value
from relay.keys.ldap_answers import receive as receive_message
from relay.mime.packets import certificates
from relay.openpgp.judge import Judge
from tests.fakes import FixedClock
from tests.slapd import entry, message, result, tlv
from tests.unit.keys.certs import armored, cert, fingerprint, tsk

ANN = cert("<ann@example.test>")
_MESSAGE = message(3, entry(b"pgpKey", ANN, b"two"))


def test_read_message_and_entry_values_give_what_was_written() -> None:
    """An entry goes through unchanged, with its values in order."""
    kind, body = read_message(_MESSAGE, 3)

    assert ENTRY == kind
    assert [ANN, b"two"] == entry_values(body, "pgpKey")


@pytest.mark.parametrize("name", [b"pgpKey", b"PGPKEY", b"pgpkey;binary", b"pgpKey;lang-de"])
def test_entry_values_know_the_attribute_in_any_dress(name: bytes) -> None:
    """Names have no letter case (RFC 4512 §2.5), and options are of no interest."""
    _, body = read_message(message(3, entry(name, ANN)), 3)

    assert [ANN] == entry_values(body, "pgpKey")
    assert [ANN] == entry_values(body, "pgpKey;binary")
    assert [] == entry_values(body, "pgpKeyInfo")


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        (b"", "not LDAP"),
        (b"\x30", "not LDAP"),
        (b"\x30\x00", "not LDAP"),
        (b"\x30\x80\x00\x00", "not LDAP"),
        (b"\x30\x05\x02\x01\x03", "cut off"),
        (message(4, result(DONE, 0)), "not asked"),
        (message(0, result(0x78, 0)), "ends"),
        (_MESSAGE + _MESSAGE, "not LDAP"),
    ],
)
def test_read_message_of_something_else_is_refused(octets: bytes, why: str) -> None:
    """Exactly one message, in answer to exactly this request."""
    with pytest.raises(Refused, match=why):
        read_message(octets, 3)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        tlv(0x04, b"dn"),
        tlv(0x04, b"dn") + tlv(0x30, tlv(0x04)),
        tlv(0x04, b"dn") + tlv(0x30, tlv(0x30, tlv(0x04))),
        tlv(0x04, b"dn") + tlv(0x30, tlv(0x30, tlv(0x04, b"pgpKey"), tlv(0x31))),
    ],
)
def test_entry_values_of_something_else_are_refused(body: bytes) -> None:
    """An entry whose attributes cannot be read is not one without keys."""
    with pytest.raises(Refused, match="cannot be read"):
        entry_values(body, "pgpKey")


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (result(DONE, 32), "no such object"),
        (result(DONE, 77), "result 77"),
        (result(0x61, 0), "not asked"),
        (result(0x73, 0), "another server"),
        (tlv(DONE), "not asked"),
        (tlv(DONE, tlv(0x0A)), "result 0"),
        (tlv(DONE, tlv(0x02, b"\0")), "not asked"),
    ],
)
def test_need_success_with_anything_else_is_refused(answer: bytes, why: str) -> None:
    """Only result code 0 of the operation that was asked for is success."""
    with pytest.raises(Refused, match=why):
        need_success((answer[0], answer[2:]), DONE)


def test_need_success_with_success_is_silent() -> None:
    """The usual end of an answer."""
    need_success((DONE, result(DONE, 0)[2:]), DONE)


def test_read_value_reads_armour_and_packets() -> None:
    """One value may hold several certificates in either form."""
    both = [fingerprint(ANN), fingerprint(ANN)]

    assert both == [found.fingerprint for found in read_value(ANN + ANN, "corp")]
    assert 1 == len(read_value(armored("<ann@example.test>"), "corp"))


def test_read_value_of_a_secret_key_does_not_keep_it() -> None:
    """A secret key that somebody published by mistake goes no further; it is unusable, not absent."""
    secret = bytes(tsk("<ann@example.test>"))

    assert [("(OpenPGP data that cannot be read)",)] == [
        found.user_ids for found in read_value(secret, "corp")
    ]
    assert all(found.data not in secret for found in read_value(secret, "corp"))


def test_read_value_of_endless_packets_is_unavailable() -> None:
    """Who may write his own entry does not choose how long it takes to read, nor how much memory."""
    with pytest.raises(KeySourceUnavailable, match="packets"):
        read_value(ANN + b"\xcc\x00" * 500_000, "corp")


@given(st.binary(max_size=300) | st.binary(max_size=60).map(lambda tail: ANN[: len(ANN) - len(tail)] + tail))
def test_read_value_of_any_octets_is_certificates_with_verdicts(octets: bytes) -> None:
    """Whatever stands in a value, the judge has a word for it, and it can be stored and read again."""
    found = read_value(octets, "corp")
    verdicts = Judge().judge(found, parse_mailbox("ann@example.test"), FixedClock().now())

    assert verdicts
    assert found == [again for one in found for again in certificates(one.data, "corp")]


@given(
    st.binary(max_size=80)
    | st.tuples(st.integers(0, len(_MESSAGE) - 1), st.binary(min_size=1, max_size=3)).map(
        lambda change: _MESSAGE[: change[0]] + change[1] + _MESSAGE[change[0] + len(change[1]) :]
    )
)
def test_reading_any_octets_gives_values_or_a_refusal(octets: bytes) -> None:
    """No octets of a server lead to another exception."""
    with contextlib.suppress(Refused):
        kind, body = read_message(octets, 3)
        with contextlib.suppress(Refused):
            need_success((kind, body), DONE)
        assert isinstance(entry_values(body, "pgpKey"), list)


@given(st.binary(max_size=80))
async def test_receive_of_any_octets_reads_one_message_at_most(octets: bytes) -> None:
    """What follows a message stays where it is, and no announced length is believed beyond the limit."""
    asked: list[int] = []

    async def read(count: int) -> bytes:
        asked.append(count)
        if sum(asked) > len(octets):
            raise EOFError
        return octets[sum(asked) - count : sum(asked)]

    with contextlib.suppress(Refused, EOFError):
        got = await receive_message(read, 64)
        assert len(got) == sum(asked) <= 64
        assert octets.startswith(got)
    assert max(asked) <= 127
