"""Tests of `relay.mime.autocrypt`."""

from __future__ import annotations

import base64
import textwrap
import time
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.address import parse_mailbox
from relay.message import Login
from relay.mime.autocrypt import Header, find, header, may_learn, sent_at, taught
from relay.mime.headers import Field, Message, parse
from tests.keys import certificate, secret
from tests.mail import packet

ALICE = parse_mailbox("alice@example.com")
CERT = certificate("curve25519")
HEADER = Header(ALICE, CERT.data, CERT.fingerprint)


def _field(data: bytes = CERT.data, before: str = "addr=alice@example.com; ") -> str:
    """The field as mail programs write it."""
    lines = "\r\n ".join(textwrap.wrap(base64.b64encode(data).decode(), 76))
    return f"Autocrypt: {before}keydata=\r\n {lines}\r\n"


def _message(*fields: str, author: str = "Alice <alice@example.com>") -> Message:
    return parse(f"From: {author}\r\n{''.join(fields)}\r\nx".encode())


@pytest.mark.parametrize(
    "before",
    [
        "addr=alice@example.com; ",
        "addr=Alice@EXAMPLE.com;",
        '  addr = "alice"@example.com ;\t',
        "addr=alice@example.com; _monkey=ignored; _x=1; _x=2; _; ",
        "_addr=mallory@example.com; addr=alice@example.com; ",
        "addr=alice@example.com; prefer-encrypt=nopreference; ",
        "addr=alice@example.com; prefer-encrypt=; ",
    ],
)
def test_find_the_valid_field_is_the_header(before: str) -> None:
    """Every spelling of the address and attributes that may be ignored do no harm (K-33)."""
    assert HEADER == find(_message(_field(before=before)), ALICE)


def test_find_mutual_prefers_encrypt() -> None:
    """`mutual` is the only value of `prefer-encrypt` that says something."""
    message = _message(_field(before="addr=alice@example.com; prefer-encrypt=mutual; "))

    assert Header(ALICE, CERT.data, CERT.fingerprint, True) == find(message, ALICE)


@pytest.mark.parametrize(
    "before",
    [
        "",
        "addr=; ",
        "addr=bob@example.com; ",
        "addr=alice@example.com.; prefer-encrypt=mutual; type=1; ",
        "addr=alice@example.com; type=1; ",
        "addr=alice@example.com; ; ",
        "addr=alice@example.com; addr=alice@example.com; ",
        "addr=alice@example.com; keydata=; ",
        "addr=alice@example.com, ",
        "addr=<alice@example.com>; ",
        "addr=alice@exam ple.com; ",
        "Addr=alice@example.com; ",
    ],
)
def test_find_invalid_attributes_are_nothing(before: str) -> None:
    """Another address, an unknown critical attribute or one that stands twice invalidates (K-33)."""
    assert None is find(_message(_field(before=before)), ALICE)


@pytest.mark.parametrize(
    "after", ["; _x=1", "; addr=alice@example.com", ";", "; keydata=AAAA", "!", "=", "A"]
)
def test_find_with_something_behind_the_key_is_nothing(after: str) -> None:
    """`keydata` is the last attribute, and base64 to its last octet (K-33)."""
    assert None is find(_message(_field().removesuffix("\r\n") + f"{after}\r\n"), ALICE)


def test_find_without_keydata_is_nothing() -> None:
    """A field needs a key, and an address."""
    assert None is find(_message("Autocrypt: addr=alice@example.com\r\n"), ALICE)
    assert None is find(_message("Autocrypt:\r\n"), ALICE)
    assert None is find(_message(), ALICE)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"garbage",
        CERT.data[:-1],
        CERT.data + b"x",
        CERT.data + certificate("rsa2048").data,
        CERT.data + CERT.data,
        CERT.data + packet(11, b"b\0\0\0\0\0text"),
        CERT.data + packet(1, b"\x03" + b"\0" * 9),
        packet(13, b"alice@example.com"),
        packet(6, b"\x63" + b"\0" * 40),
        secret("curve25519"),
    ],
    ids=range(11),
)
def test_find_key_data_that_is_not_one_certificate_is_nothing(data: bytes) -> None:
    """Garbage, two certificates, other packets, an unknown version or a secret key teach nothing."""
    assert None is find(_message(_field(data)), ALICE)


def _padded(octets: int) -> bytes:
    """The certificate with a User Attribute that makes it this long."""
    return CERT.data + packet(17, b"\0" * (octets - len(CERT.data) - 6))


@pytest.mark.parametrize(("octets", "taken"), [(10_240, True), (10_241, False)])
def test_find_key_data_has_a_limit(octets: int, taken: bool) -> None:
    """A key of 10 KiB is taken, one octet more is not (K-33)."""
    assert taken is (find(_message(_field(_padded(octets))), ALICE) is not None)


@pytest.mark.parametrize(("octets", "taken"), [(16_384, True), (16_385, False)])
def test_find_field_has_a_limit(octets: int, taken: bool) -> None:
    """Blanks do not make a field longer than 16 KiB."""
    blanks = " " * (octets - len(_field()))
    message = _message(_field(before=f"addr=alice@example.com; {blanks}"))

    assert taken is (find(message, ALICE) is not None)


def test_find_two_valid_fields_are_nothing() -> None:
    """Nobody can tell which of them is meant, even if they are equal (K-33)."""
    other = _field(certificate("rsa2048").data)

    assert None is find(_message(_field(), other), ALICE)
    assert None is find(_message(_field(), _field()), ALICE)


def test_find_one_valid_field_among_others_is_the_header() -> None:
    """Fields of other addresses and of future versions do not count."""
    others = [_field(before="addr=bob@example.com; "), _field(before="addr=alice@example.com; v=2; ")]

    assert HEADER == find(_message(others[0], _field(), others[1]), ALICE)


@pytest.mark.parametrize(("count", "taken"), [(9, True), (10, False)])
def test_find_among_very_many_fields_is_nothing(count: int, taken: bool) -> None:
    """The work is bounded: more than ten fields are not looked into."""
    others = [_field(before="addr=bob@example.com; ")] * count

    assert taken is (find(_message(_field(), *others), ALICE) is not None)


def test_find_gossip_is_nothing() -> None:
    """What a message says about other people's keys is never read (K-35)."""
    assert None is find(_message(_field().replace("Autocrypt:", "Autocrypt-Gossip:")), ALICE)


@pytest.mark.parametrize(
    "author",
    [
        "Bob <bob@example.com>",
        "alice@example.com, bob@example.com",
        "bob@example.com <alice@example.com>",
        "alice@example.com (",
        "",
        f"{'x' * 16_500} <alice@example.com>",
    ],
)
def test_find_with_other_or_several_authors_is_nothing(author: str) -> None:
    """Only the single mailbox in From can be taught about (K-33)."""
    assert None is find(_message(_field(), author=author), ALICE)


def test_find_with_two_from_fields_is_nothing() -> None:
    """Two fields are two authors, even if both name the same."""
    assert None is find(_message("From: alice@example.com\r\n", _field()), ALICE)


def test_find_ignores_sender_and_reply_to() -> None:
    """The text is concerned with From alone."""
    others = "Sender: bob@example.com\r\nReply-To: carol@example.com\r\n"

    assert HEADER == find(_message(others, _field()), ALICE)


@pytest.mark.parametrize(
    ("field", "taken"),
    [
        ("Content-Type: multipart/report; report-type=disposition-notification", False),
        ("Content-Type: MULTIPART/Report", False),
        ("Content-Type: multipart/report; broken", False),
        ("Content-Type: text/plain; charset=utf-8", True),
        ("Auto-Submitted: auto-replied", False),
        ("Auto-Submitted: Auto-Replied; owner=x", False),
        ("Auto-Submitted: auto-notified", False),
        ("Auto-Submitted: auto-generated", True),
        ("Auto-Submitted: No", True),
    ],
)
def test_find_in_an_automatic_message_is_nothing(field: str, taken: bool) -> None:
    """Reports and automatic replies teach nothing, ordinary messages do (K-33)."""
    assert taken is (find(_message(f"{field}\r\n", _field()), ALICE) is not None)


@settings(deadline=None, max_examples=200)
@given(value=st.binary(max_size=300), keydata=st.binary(max_size=100))
def test_find_arbitrary_octets_never_fail(value: bytes, keydata: bytes) -> None:
    """Whatever stands in the fields, the answer is a header or nothing."""
    encoded = b" addr=alice@example.com; keydata=" + base64.b64encode(keydata)
    for raw in (value, encoded, encoded + value):
        fields = (Field("from", b"From: alice@example.com\r\n"), Field("autocrypt", b"Autocrypt:" + raw))
        found = find(Message(fields, b""), ALICE)

        assert found is None or found.addr == ALICE


@settings(deadline=None, max_examples=200)
@given(at=st.integers(0, len(CERT.data) - 1), octet=st.integers(0, 255), cut=st.integers(0, len(CERT.data)))
def test_find_damaged_certificate_never_fails(at: int, octet: int, cut: int) -> None:
    """A certificate with an octet changed or its end missing is one that can be split again, or nothing."""
    damaged = (CERT.data[:at] + bytes([octet]) + CERT.data[at + 1 :])[:cut]

    found = find(_message(_field(damaged)), ALICE)

    assert found is None or damaged == found.certificate


@settings(deadline=None, max_examples=100)
@given(value=st.text(alphabet=" \tabcdefghijklmnopqrstuvwxyzABCDEFGHIJ;=_@.,", max_size=200))
def test_find_arbitrary_attributes_never_give_a_key(value: str) -> None:
    """No text before the key makes it one of another address."""
    found = find(_message(_field(before=value)), parse_mailbox("mallory@example.com"))

    assert found is None


@pytest.mark.parametrize(
    "field",
    [
        _field(packet(6, b"\4" * 6) + packet(13, b"") * 1300),
        _field(b"\xc6\x01\x04" + b"\xcd\x00" * 5000),
        "Autocrypt: " + ";" * 16_000 + "\r\n",
        "Autocrypt: " + "_=;" * 5000 + "\r\n",
        "Autocrypt: addr=" + "(" * 16_000 + "\r\n",
    ],
)
def test_find_hostile_fields_are_fast(field: str) -> None:
    """The time is bounded for input made to be slow."""
    messages = [_message(*[field] * count) for count in (10, 60)]
    long_author = _message(field, author="(" * 900_000)
    start = time.process_time()

    assert [None] * 3 == [find(message, ALICE) for message in (*messages, long_author)]

    assert time.process_time() - start < 1


@pytest.mark.parametrize(
    ("senders", "allowed"),
    [
        (("alice@example.com",), True),
        (("bob@example.com", "Alice@Example.COM"), True),
        (("*@example.com",), False),
        (("*@example.com", "bob@example.com"), False),
        (("*@example.com", "alice@example.com"), True),
        (("bob@example.com",), False),
        (("*",), False),
        ((), False),
        (None, False),
    ],
)
def test_may_learn_needs_the_exact_mailbox(senders: tuple[str, ...] | None, allowed: bool) -> None:
    """A domain pattern, or no pattern, proves nobody's address: it would let colleagues plant keys."""
    assert allowed is may_learn(Login("alice", senders), ALICE)


def test_may_learn_without_a_login_is_no() -> None:
    """Nobody has proven anything, whatever the login's name looks like."""
    assert not may_learn(None, ALICE)
    assert not may_learn(Login("alice@example.com"), ALICE)


@pytest.mark.parametrize(
    ("login", "header"),
    [
        (Login("alice", ("alice@example.com",)), HEADER),
        (Login("alice", ("*@example.com",)), None),
        (Login("bob", ("bob@example.com",)), None),
        (None, None),
    ],
)
def test_taught_is_only_what_the_owner_says(login: Login | None, header: Header | None) -> None:
    """A valid field teaches only if its message came from the login that the address belongs to."""
    assert header == taught(_message(_field()), login)


def test_taught_of_an_ordinary_message_is_nothing() -> None:
    """A message without the field, or without a single author, teaches nothing."""
    login = Login("alice", ("alice@example.com",))

    assert None is taught(_message(), login)
    assert None is taught(_message(_field(), author="alice@example.com, bob@example.com"), login)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Tue, 24 Nov 2026 05:30:07 +0100", datetime(2026, 11, 24, 4, 30, 7, tzinfo=UTC)),
        ("24 Nov 2026 05:30 -0330", datetime(2026, 11, 24, 9, 0, tzinfo=UTC)),
        ("Tue,  3 NOV 2026\r\n 23:59:60 GMT (UTC)", datetime(2026, 11, 3, 23, 59, 59, tzinfo=UTC)),
        ("31 Feb 2026 05:30:07 +0000", None),
        ("24 Nov 2026 05:30:61 +0000", None),
        ("24 Nov 2026 25:30:07 +0000", None),
        ("24 Foo 2026 05:30:07 +0000", None),
        ("01 Jan 0001 00:00:00 +0100", None),
        ("31 Dec 9999 23:59:59 -0100", None),
        ("24 Nov 2026 05:30:07 EST", None),
        ("24 Nov 2026", None),
        ("", None),
    ],
)
def test_sent_at_is_the_date_in_utc(value: str, expected: datetime | None) -> None:
    """Zones are taken off; what is no date that there is cannot be read (RFC 5322 §3.3)."""
    assert expected == sent_at(_message(f"Date: {value}\r\n"))


def test_sent_at_of_none_or_two_dates_is_unknown() -> None:
    """Without a date, or with two, nobody knows."""
    date = "Date: Tue, 24 Nov 2026 05:30:07 +0100\r\n"

    assert None is sent_at(_message())
    assert None is sent_at(_message(date, date))


@settings(deadline=None, max_examples=200)
@given(
    value=st.from_regex(r"\d{1,2} (Jan|Feb|Dec) \d{4} \d\d:\d\d:\d\d [+-]\d{4}", fullmatch=True) | st.text()
)
def test_sent_at_arbitrary_text_never_fails(value: str) -> None:
    """Every value gives a moment in UTC or nothing."""
    found = sent_at(Message((Field("date", f"Date: {value}".encode()),), b""))

    assert found is None or found.tzinfo is UTC


# --------------------------------------------------------------------------- writing


def test_header_is_read_again() -> None:
    """What the relay writes about an author is valid, and says nothing about his preference."""
    assert HEADER == find(_message(header("alice@example.com", CERT.data).decode()), ALICE)


def test_header_is_folded_with_the_key_last() -> None:
    """Lines of at most 78 characters, each ended by CRLF (RFC 5322 §2.1.1)."""
    written = header("alice@example.com", CERT.data)

    assert written.startswith(b"Autocrypt: addr=alice@example.com; keydata=\r\n ")
    assert written.endswith(b"\r\n")
    assert max(len(line) for line in written.split(b"\r\n")) <= 78
    assert written.count(b"\n") == written.count(b"\r\n")


@given(st.binary(min_size=1, max_size=7000))
def test_header_any_key_data_fits_its_lines(data: bytes) -> None:
    """Whatever the length: the base64 is whole, and no line is too long or empty."""
    lines = header("alice@example.com", data).removesuffix(b"\r\n").split(b"\r\n")

    assert data == base64.b64decode(b"".join(line.strip() for line in lines[1:]))
    assert [True] * len(lines) == [1 < len(line) <= 78 for line in lines]


@pytest.mark.parametrize(
    "addr",
    ["grüße@example.com", "a;b@example.com", '"a b"@example.com', "a@example.com\r\nBcc: x@y.example", ""],
)
def test_header_address_that_others_could_misread_raises(addr: str) -> None:
    """Nothing is written that ends the attribute, or the field."""
    with pytest.raises(ValueError, match="address"):
        header(addr, CERT.data)


@pytest.mark.parametrize(("octets", "is_written"), [(7300, True), (8000, False)])
def test_header_larger_than_others_read_raises(octets: int, is_written: bool) -> None:
    """Autocrypt 1.1: fields above 10 KiB are ignored, so none is made."""
    if is_written:
        assert len(header("alice@example.com", bytes(octets))) <= 10_240
        return
    with pytest.raises(ValueError, match="too large"):
        header("alice@example.com", bytes(octets))
