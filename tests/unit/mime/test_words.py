"""Tests of `relay.mime.words`, with Python's `email` as the second opinion."""

from __future__ import annotations

import re
import time
from base64 import b64decode
from email.charset import BASE64, QP, Charset
from email.header import Header, decode_header, make_header

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.mime.headers import parse
from relay.mime.words import decoded, encoded

_CHARACTERS = st.characters(exclude_categories=["Cs"])
_TEXT = st.text(_CHARACTERS, max_size=200)
_SHOWN = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=100)


def _value(field: bytes) -> bytes:
    """The value of the only field in a header section, read by the relay's own slicer."""
    [only] = parse(field + b"\r\n").fields
    return only.value


_VALUES = {
    "plain": (b"Lunch  at \t 12", "Lunch  at \t 12"),
    "empty": (b"", ""),
    "Q": (b"=?utf-8?q?Gr=C3=BC=c3=9Fe_=5F?=", "Grüße _"),
    "B": (b"=?UTF-8?B?R3LDvMOfZQ==?=", "Grüße"),
    "B without padding": (b"=?utf-8?B?YQ?= =?utf-8?b?YWI?=", "aab"),
    "empty words": (b"a =?utf-8?B??= =?utf-8?Q??= b", "a  b"),
    "neighbours": (b"a =?utf-8?q?b?= \t =?iso-8859-1?q?=FC?= c", "a bü c"),
    "folded neighbours": (b"=?utf-8?q?a?=\r\n =?utf-8?q?b?=\r\n c", "ab c"),
    "divided character": (b"=?utf-8?q?=C3?= =?utf-8?B?vA==?=", "ü"),
    "language": (b"=?us-ascii*en?Q?Hi?=", "Hi"),
    "inside a word": (b"a=?utf-8?q?b?=c", "abc"),
    "side by side": (b"=?utf-8?q?a?==?utf-8?q?b?=", "ab"),
    "blank inside": (b"=?utf-8?q?a b?=", "a b"),
    "question mark inside": (b"=?utf-8?q?why?_=?=", "why? ="),
    "unfinished escape": (b"=?utf-8?q?a=4?= =?utf-8?q?b=zz?=", "a=4b=zz"),
    "octet that is no character": (b"=?utf-8?q?a=FF?=", "a\ufffd"),
    "broken base64": (b"a =?utf-8?B?YWFhY?= b", "a =?utf-8?B?YWFhY?= b"),
    "not only base64": (b"=?utf-8?B?[YWFh\x7f]?= =?utf-8?B?YQ==YQ==?=", "aaaa"),
    "unknown charset": (b"=?x-none?q?=FC?= =?utf-8?q?b?=", "=?x-none?q?=FC?= b"),
    "ASCII in an unknown charset": (b"=?x-none?q?a?= =?utf-8?q?b?=", "ab"),
    "codec that is no charset": (b"=?rot13?q?a?= =?hex?q?61?= =?idna?q?=FC?=", "a61 =?idna?q?=FC?="),
    "slow codec": (b"=?punycode?q?a-b?= =?unicode_escape?q?=5Cq?=", "a-b\\q"),
    "unknown encoding": (b"=?utf-8?x?a?=", None),
    "unfinished": (b"=?utf-8?q?a =?utf-8?q?b?=", "=?utf-8?q?a b"),
    "no text": (b"=?utf-8?q?", None),
    "raw UTF-8": ("Grüße ✉".encode(), "Grüße ✉"),
    "raw Latin-1": (b"Gr\xfc\xdfe", "Grüße"),
    "raw UTF-8 beside Latin-1": ("Grü".encode() + b"\xdfe", "Grüße"),
    "raw octets beside words": (b"\xfc =?utf-8?q?=C3=BC?=", "ü ü"),
    "raw octets in a word": ("=?utf-8?q?ü?=".encode(), "=?utf-8?q?ü?="),
    "lone surrogate": (b"=?utf-7?q?+2AA-?=", "\ufffd"),
    "line end in a word": (b"=?utf-8?q?a=0D=0AB:_c?=", "a\r\nB: c"),
    "ISO-2022-JP": (b"=?ISO-2022-JP?B?GyRCJDMbKEI=?=", "こ"),
    "Windows and KOI8": (b"=?windows-1251?B?/w==?= =?koi8-r?Q?=D1?= =?koi8-u?q?=A4?=", "яяє"),
    "Latin-1 names": (b"=?iso-8859-1?q?=FC?= =?latin1?q?=FC?= =?ISO8859-1?q?=FC?=", "üüü"),
    "Thai and Hebrew": (b"=?windows-874?q?=A1?= =?iso-8859-8-i?q?=E0?=", "กא"),
}
"""A value and its text; None where it stays as it stands."""


@pytest.mark.parametrize(("value", "expected"), _VALUES.values(), ids=_VALUES)
def test_decoded_value_is_its_text(value: bytes, expected: str | None) -> None:
    """Words are decoded as mail programs do it; what is broken or unknown stays as it stands."""
    assert (value.decode("ascii") if expected is None else expected) == decoded(value)


@settings(deadline=None)
@given(
    _SHOWN,
    st.sampled_from(
        ["utf-8", "utf-16-le", "iso-8859-15", "windows-1252", "koi8-r", "gb18030", "iso-2022-jp"]
    ),
    st.sampled_from([QP, BASE64]),
)
def test_decoded_words_of_another_writer_are_read(text: str, charset: str, encoding: int) -> None:
    """What Python's `email` writes is read back, in any charset, folded over several lines."""
    kind = Charset(charset)
    kind.header_encoding = encoding
    text = text.encode(charset, "ignore").decode(charset)
    written = Header(text, kind, maxlinelen=76).encode(linesep="\r\n")

    assert text.strip(" ") == decoded(written.encode("ascii")).strip(" ")


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(["=?utf-8?q?YQ_?=", "=?utf-8?b?YQ?=", "=?iso-8859-1?Q?=C3=BC?=", "a", "b\tc"]))
)
def test_decoded_agrees_with_another_reader(pieces: list[str]) -> None:
    """Words and text in any order mean the same to Python's `email`."""
    value = " ".join(pieces)

    assert str(make_header(decode_header(value))) == decoded(value.encode("ascii"))


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_decoded_never_fails(value: bytes) -> None:
    """Any octets give a text that can be written again."""
    text = decoded(value)

    assert text == text.encode("utf-8").decode("utf-8")
    assert b"=?" in value or b"\r\n" in value or not value.isascii() or text == value.decode("ascii")


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from([b"=?", b"utf-8", b"utf-7", b"?", b"b", b"Q", b"?=", b"=", b"+2AA-", b"\xff", b" "])
    )
)
def test_decoded_never_fails_near_words(pieces: list[bytes]) -> None:
    """Broken words do no harm either."""
    text = decoded(b"".join(pieces))

    assert text == text.encode("utf-8").decode("utf-8")


@pytest.mark.parametrize(
    "piece",
    [
        b"=?",
        b"=?a?q?",
        b"=?utf-8?q?a",
        b"=?utf-8?q?=41?= ",
        b"=?utf-7?b?+?=",
        b"=",
        b"?",
        b" ",
        b"=?=?q?",
        b"\xff",
    ],
)
def test_decoded_time_is_linear(piece: bytes) -> None:
    """A field of a megabyte is read in about a second, whatever stands in it."""
    value = piece * ((1 << 20) // len(piece))
    start = time.process_time()
    decoded(value)

    assert time.process_time() - start < 5


def test_decoded_long_word_time_is_linear() -> None:
    """One unfinished word of a megabyte is no trouble."""
    start = time.process_time()
    for text in (b"a" * 1_000_000, b"=" * 1_000_000, b"? " * 500_000, b"+AAA-" * 200_000):
        decoded(b"=?utf-7?q?" + text)
        decoded(b"=?utf-7?q?" + text + b"?=")

    assert time.process_time() - start < 10


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Lunch  at 12", b"Subject: Lunch  at 12\r\n"),
        ("", b"Subject:\r\n"),
        ("a" * 69, b"Subject: " + b"a" * 69 + b"\r\n"),
        ("ab " * 30 + "c", b"Subject: " + b" ".join([b"ab"] * 23) + b"\r\n ab ab ab ab ab ab ab c\r\n"),
        ("Grüße", b"Subject: =?utf-8?b?R3LDvMOfZQ==?=\r\n"),
        ("a\r\nBcc: b", b"Subject: =?utf-8?b?YQ0KQmNjOiBi?=\r\n"),
        (" a", b"Subject: =?utf-8?b?IGE=?=\r\n"),
        ("=?x?q?a?=", b"Subject: =?utf-8?b?PT94P3E/YT89?=\r\n"),
    ],
)
def test_encoded_field_has_words_only_where_it_needs_them(text: str, expected: bytes) -> None:
    """ASCII stays as it is and is folded; everything else becomes words that hold every character."""
    assert expected == encoded("Subject", text)


@settings(deadline=None)
@given(st.sampled_from(["Subject", "Thread-Topic", "X" * 74]), _TEXT | st.text("a =?\t", max_size=300))
def test_encoded_is_one_field_that_reads_back(name: str, text: str) -> None:
    """One field with lines of at most 78 octets, whose text is what was written, for both readers."""
    field = encoded(name, text)
    lines = field.split(b"\r\n")

    assert text == decoded(_value(field))
    assert b"" == lines.pop()
    assert all(line.startswith(b" ") or line.startswith(b"\t") for line in lines[1:])
    assert all(line.strip() and line == line.rstrip() for line in lines)
    assert all(len(line) <= (76 if b"=?utf-8?b?" in line else 78) for line in lines)
    if "=?utf-8?b?" in (value := _value(field).decode("ascii")):
        assert text == str(make_header(decode_header(value)))


@settings(deadline=None)
@given(_TEXT)
def test_encoded_words_hold_whole_characters(text: str) -> None:
    """Each word can be read alone (RFC 2047 §5), as some programs do it."""
    words = re.findall(rb"=\?utf-8\?b\?([^?]*)\?=", encoded("Subject", "ü" + text))

    assert "ü" + text == "".join(b64decode(word).decode("utf-8") for word in words)


def test_encoded_lone_surrogate_becomes_a_question_mark() -> None:
    """A text that no charset can hold is written all the same."""
    assert b"Subject: =?utf-8?b?Pw==?=\r\n" == encoded("Subject", "\ud800")
