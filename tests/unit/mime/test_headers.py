"""Tests of `relay.mime.headers`."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.errors import MessageRefused
from relay.mime.headers import (
    MAX_FIELDS,
    MAX_HEADER_BYTES,
    Field,
    Message,
    cut,
    has_long_line,
    parse,
    serialise,
)

_NOT_IDENTITIES = {
    "long references": b"References: " + b"<%060d@example.org> " % 1 * 20 + b"\r\n\r\nbody\r\n",
    "no space": b"Subject:x\r\n\r\nbody\r\n",
    "missing close delimiter": b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\n\r\npart\r\n',
    "binary body": b"Subject: x\r\n\r\n" + bytes(range(14, 256)) + b"\r\n",
    "blank continuation": b"Subject: x\r\n \r\n y\r\n\r\nbody\r\n",
    "8-bit header": b"Subject: \xff\xfe\xe4\r\n\r\nbody\r\n",
    "no final line end": b"Subject: x\r\n\r\nbody",
    "dot lines": b"Subject: x\r\n\r\n.\r\n..\r\n",
    "no header": b"\r\nbody\r\n",
    "no body": b"Subject: x\r\n",
    "nothing": b"",
    "empty line only": b"\r\n",
    "odd name": b"X-#!'*~.: y\r\n\r\nbody\r\n",
    "empty value": b"Subject:\r\n\r\n\r\n\r\n",
}


@pytest.mark.parametrize("content", _NOT_IDENTITIES.values(), ids=_NOT_IDENTITIES)
def test_parse_odd_message_keeps_every_octet(content: bytes) -> None:
    """What other parsers change when they write a message again stays as it was (M-06, M-07)."""
    message = parse(content)

    assert content == message.content


_line = st.binary(max_size=60).map(lambda octets: octets.translate(None, b"\r\n\0"))
_name = st.binary(min_size=1, max_size=20).map(
    lambda octets: bytes(33 + o % 94 for o in octets).replace(b":", b"-")
)
_continuation = st.tuples(st.sampled_from([b" ", b"\t"]), _line).map(b"".join)
_field = st.builds(
    lambda name, first, more: name + b":" + b"\r\n".join([first, *more]) + b"\r\n",
    _name,
    _line,
    st.lists(_continuation, max_size=3),
)


@settings(deadline=None, max_examples=100)
@given(
    raws=st.lists(_field, max_size=8),
    lines=st.lists(_line, max_size=8),
    ending=st.sampled_from([b"", b"\r\n"]),
)
def test_parse_any_fields_and_body_are_found_again(
    raws: list[bytes], lines: list[bytes], ending: bytes
) -> None:
    """Fields and body are exactly the slices that the message was put together from."""
    body = b"\r\n".join(lines) + ending
    content = b"".join(raws) + b"\r\n" + body

    message = parse(content)

    assert (raws, body, content) == ([field.raw for field in message.fields], message.body, message.content)


@settings(deadline=None, max_examples=100)
@given(content=st.binary(max_size=300))
def test_parse_arbitrary_octets_refused_or_kept(content: bytes) -> None:
    """There is no third outcome and no other exception."""
    try:
        message = parse(content)
    except MessageRefused:
        return

    assert content == message.content


@pytest.mark.parametrize(
    "content",
    [
        b"Subject: a\n\nbody\r\n",
        b"Subject: a\r\n\r\nA\nB\r\n",
        b"Subject: a\r\n\r\nA\rB\r\n",
        b"Subject: a\r\r\n\r\nbody\r\n",
        b"Subject: a\r\n\r\nbody\r",
        b"\n",
        b"Subject: a\r\n\r\n\x00\r\n",
        b"Sub\x00ject: a\r\n\r\n",
        b"Subject: a\r\n\r\n" + b"x" * (1 << 20) + b"\n",
    ],
)
def test_parse_bare_line_ends_or_nul_refused(content: bytes) -> None:
    """Only CRLF ends a line, and it is checked before anything is split (M-01 to M-04)."""
    with pytest.raises(MessageRefused):
        parse(content)


@pytest.mark.parametrize("offset", range(-3, 4))
def test_parse_line_end_across_a_piece_border_accepted(offset: int) -> None:
    """Counting in pieces counts a CRLF that lies across a border once."""
    content = b"A: b\r\n\r\n"
    content += b"x" * ((1 << 20) - len(content) + offset) + b"\r\n" + b"y" * 10

    assert content == parse(content).content


@pytest.mark.parametrize(
    "content",
    [
        b"Subject: a\r\nthis is not a header\r\n\r\nbody\r\n",
        b"hello\r\n",
        b" folded: from nothing\r\n\r\n",
        b"Bcc : hidden@example.org\r\n\r\n",
        b": no name\r\n\r\n",
        b"S\xfcbject: a\r\n\r\n",
        b"From alice@example.org Mon\r\nSubject: x\r\n\r\n",
        b"Subject: a",
        b"\x0cSubject: a\r\n\r\n",
    ],
)
def test_parse_line_that_is_no_field_refused(content: bytes) -> None:
    """A header section holds header fields and nothing else (M-10)."""
    with pytest.raises(MessageRefused):
        parse(content)


@pytest.mark.parametrize("char", ["\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"])
def test_parse_other_line_separators_stay_in_the_field(char: str) -> None:
    """No character but CRLF starts a new field (M-11)."""
    message = parse(f"Subject: x{char}Bcc: evil@example.org\r\n\r\n".encode())

    assert ["subject"] == [field.name for field in message.fields]


def test_parse_name_in_capitals_is_found_in_lower_case() -> None:
    """Field names are compared without their case, and the raw field keeps it."""
    message = parse(b"SUBJECT: Hi\r\n there\r\nTo: a@b.example\r\n\r\n")

    assert [Field("subject", b"SUBJECT: Hi\r\n there\r\n")] == message.get("subject")
    assert [b"Hi there"] == [field.value for field in message.get("subject")]


def test_parse_header_over_limit_refused() -> None:
    """Header octets are bounded, with and without an end of the header (M-13)."""
    field = b"X: " + b"y" * 900 + b"\r\n"
    header = field * (MAX_HEADER_BYTES // len(field) + 2)
    for content in (header, header + b"\r\nbody\r\n"):
        with pytest.raises(MessageRefused, match="too large"):
            parse(content)


def test_parse_too_many_fields_refused() -> None:
    """The number of fields is bounded, folded lines not counted (M-13)."""
    with pytest.raises(MessageRefused, match="too many fields"):
        parse(b"X: y\r\n" * (MAX_FIELDS + 1) + b"\r\n")

    assert MAX_FIELDS == len(parse(b"X: y\r\n z\r\n" * MAX_FIELDS + b"\r\n").fields)


def test_parse_two_thousand_recipients_accepted() -> None:
    """A long distribution list fits into the limits."""
    to = b"To: " + b",\r\n ".join(b"Some Body <user%d@a-long-domain.example.org>" % n for n in range(2000))

    assert 1 == len(parse(to + b"\r\n\r\nbody\r\n").fields)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("content-type", True),
        ("content-x-new", True),
        ("mime-version", True),
        ("subject", False),
        ("content", False),
    ],
)
def test_is_structural_covers_every_content_field(name: str, expected: bool) -> None:
    """MIME-Version and everything that begins with Content- describe the body (H-05, P-05)."""
    assert expected == Field(name, b"").is_structural


def test_message_without_separator_has_no_body() -> None:
    """A message that is only a header stays only a header."""
    assert Message((Field("subject", b"Subject: x\r\n"),), b"", has_separator=False) == parse(
        b"Subject: x\r\n"
    )


def test_serialise_gives_raw_fields_in_order() -> None:
    """A header section is its raw fields, without an empty line."""
    assert b"B: 1\r\nA: 2\r\n" == serialise(parse(b"B: 1\r\nA: 2\r\n\r\n").fields)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", False),
        (b"x" * 998, False),
        (b"x" * 999, True),
        (b"x" * 998 + b"\r\n", False),
        (b"x" * 999 + b"\r\n", True),
        (b"x" * 998 + b"\r\n" + b"x" * 998 + b"\r\n", False),
        (b"a\r\n" * 5000 + b"x" * 999 + b"\r\n", True),
        (b"a\r\n" * 5000 + b"x" * 999, True),
        (b"a\r\n" * 5000 + b"x" * 998 + b"\r\n" + b"b\r\n" * 5000, False),
        (b"\r\n" * 5000, False),
    ],
)
def test_has_long_line_at_the_limit(data: bytes, expected: bool) -> None:
    """998 octets pass, 999 do not, wherever the line stands."""
    assert expected == has_long_line(data, 998)


def test_parse_ten_thousand_nested_multiparts_is_fast() -> None:
    """Nesting costs nothing, because the body is never taken apart (M-13)."""
    level = b'Content-Type: multipart/mixed; boundary="b%d"\r\n\r\n--b%d\r\n'
    content = b"From: a@b.example\r\n" + b"".join(level % (n, n) for n in range(10_000))
    start = time.process_time()

    assert content == parse(content).content
    assert time.process_time() - start < 1


@pytest.mark.parametrize(
    ("start", "end"), [(0, 0), (3, 10), (7, 1 << 20), (1, 3_000_000), (0, (1 << 21) + 7)]
)
def test_cut_is_a_slice(start: int, end: int) -> None:
    """Copying in pieces gives the same octets."""
    data = bytes(range(251)) * 12_000

    assert data[start:end] == cut(data, start, end)
