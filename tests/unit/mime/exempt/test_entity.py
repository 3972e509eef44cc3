"""Tests of `relay.mime.exempt.entity`."""

from __future__ import annotations

import pytest

from relay.mime.exempt.entity import decoded, is_attached, is_for_people, media_type, multipart, text
from relay.mime.headers import Message, parse
from tests.mail import crlf


def _entity(head: str, body: str = "x") -> Message:
    return parse(crlf(f"{head}\n\n{body}"))


@pytest.mark.parametrize(
    ("encoding", "body", "expected"),
    [
        ("7bit", "a=20", b"a=20"),
        ("8BIT", "ü", "ü".encode()),
        ("quoted-printable", "a=20b=\nc=C3=bc", "a bcü".encode()),
        ("Base64", "YWJj\n ZGVm\n", b"abcdef"),
        ("base64", "", b""),
        ("base64", "YWJ", None),
        ("base64", "YWJj!", None),
        ("base64", "YWI=YWI=", None),
        ("base64", "YWJj\n--\nwords", None),
        ("quoted-printable", "a=", None),
        ("quoted-printable", "a=ZZ", None),
        ("binary", "x", None),
        ("x-uuencode", "x", None),
        ("7bit (comment)", "x", None),
        ("", "x", None),
        ("7bit\nContent-Transfer-Encoding: base64", "YWJj", None),
        ("7bit", "x" * 11, None),
        ("base64", "YWJj" * 4, None),
        ("quoted-printable", "=61" * 14, None),
    ],
)
def test_decoded_body_is_that_of_its_encoding_or_none(
    encoding: str, body: str, expected: bytes | None
) -> None:
    """What is encoded wrongly, unknown or too large is not guessed (RFC 2045 §6)."""
    assert expected == decoded(_entity(f"Content-Transfer-Encoding: {encoding}", body), 10)


@pytest.mark.parametrize(
    ("head", "body", "expected"),
    [
        ("Content-Type: text/plain", "a\tb", "a\tb"),
        ("Content-Type: text/plain; charset=UTF-8; format=flowed; delsp=yes", "ü", "ü"),
        ("X: y", "a", "a"),
        (
            "Content-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: quoted-printable",
            "=FC",
            "ü",
        ),
        ("Content-Type: text/plain\nContent-Disposition: inline", "a", "a"),
        ("Content-Type: text/plain", "ü", None),
        ("Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable", "=FC", None),
        ("Content-Type: text/plain; charset=utf-7", "a", None),
        ("Content-Type: text/plain; charset=unicode-escape", "a", None),
        ("Content-Type: text/plain; charset=zip", "a", None),
        ("Content-Type: text/html", "a", None),
        ("Content-Type: text/plain; name=a", "a", None),
        ("Content-Type: text/plain\nContent-Type: text/plain", "a", None),
        ("Content-Type: text/plain\nContent-Disposition: attachment", "a", None),
        ("Content-Type: text/plain\nContent-Disposition: x y", "a", None),
        ("Content-Type: text/plain\nContent-Disposition: inline; filename=a", "a", None),
        ("Content-Type: text/plain", "a\x1b[0m", None),
        ("Content-Type: text/plain", "a\n-----BEGIN PGP MESSAGE-----", None),
    ],
)
def test_text_of_an_entity_is_what_it_says_or_none(head: str, body: str, expected: str | None) -> None:
    """Only clean text in a charset that everybody knows is text."""
    assert expected == text(_entity(head, body), "plain", 1000)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("text/plain", True),
        ("TEXT/plain; A=b", True),
        ("text/plain; c=d", False),
        ("text/plain; a=b; A=b", False),
        ("text/plain (x)", False),
        ("text/plain; a*=us-ascii''b", False),
        ("text/plain; a*0=b", False),
        ('text/plain; a="\\b"', False),
        ("text/plain; a=" + "x" * 500, False),
        ("text", True),
        ("", False),
    ],
)
def test_media_type_that_every_reader_knows_is_read(value: str, expected: bool) -> None:
    """Comments, quoted pairs and RFC 2231 leave a doubt; a parameter that nobody expects says something."""
    assert expected == (media_type(_entity(f"Content-Type: {value}"), frozenset({"a"})) is not None)


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ("X: y", False),
        ("Content-Disposition: inline", False),
        ("Content-Disposition: INLINE", False),
        ("Content-Disposition: attachment", True),
        ("Content-Disposition: ;", True),
    ],
)
def test_is_attached_is_whatever_is_not_plainly_inline(head: str, expected: bool) -> None:
    """What cannot be read may be a file."""
    assert expected == is_attached(_entity(head))


@pytest.mark.parametrize(
    ("encoding", "preamble", "epilogue", "expected"),
    [
        ("7bit", "", "", 1),
        ("8bit", "\nThis is a multi-part message in MIME format.\n\n", "\n\n", 1),
        ("7bit", "This is a multi-part message in MIME format. Friday\n", "", 0),
        ("7bit", "Friday\n", "", 0),
        ("7bit", "", "Friday", 0),
        ("base64", "", "", 0),
        ("binary", "", "", 0),
    ],
)
def test_multipart_with_nothing_around_its_parts_is_divided(
    encoding: str, preamble: str, epilogue: str, expected: int
) -> None:
    """Only words that programs write by themselves stand before the parts, and nothing behind them."""
    entity = _entity(
        f"Content-Type: multipart/mixed; boundary=b\nContent-Transfer-Encoding: {encoding}",
        f"{preamble}--b\n\nx\n--b--\n{epilogue}",
    )
    kind = media_type(entity, frozenset({"boundary"}))

    assert kind is not None
    assert expected == len(multipart(entity, kind) or ())


def test_is_for_people_counts_all_of_an_alternative() -> None:
    """The limit is one for the text and its HTML together."""
    parts = "--b\nContent-Type: text/plain\n\n{}\n--b\nContent-Type: text/html\n\n{}\n--b--\n"
    head = "Content-Type: multipart/alternative; boundary=b"

    assert is_for_people(_entity(head, parts.format("x" * 100, "y" * 100)), 201, 400)
    assert not is_for_people(_entity(head, parts.format("x" * 101, "y" * 101)), 201, 400)
    assert not is_for_people(_entity(head, parts.format("x" * 100, f"<img alt='{'y' * 101}'>")), 201, 400)
    assert not is_for_people(_entity(head, parts.format("x" * 100, f"<!--{'y' * 300}-->")), 201, 400)


@pytest.mark.parametrize(
    "line",
    [
        "begin 644 salary.pdf",
        "begin  644 salary.pdf",
        "begin\t0644\tsalary.pdf",
        " \tbegin 644 salary.pdf",
        "begin-base64 644 salary.pdf",
        "=ybegin line=128 size=1 name=a",
        " =ybegin\tpart=1",
        "(This file must be converted with BinHex 4.0)",
        "  (This  file must be converted with BinHex 4.0)",
        " -----BEGIN CERTIFICATE-----",
    ],
)
def test_text_with_a_file_in_it_is_none_however_many_blanks_there_are(line: str) -> None:
    """Uuencode, yEnc, BinHex and armour are files, as liberally as their readers know them (A5)."""
    assert text(_entity("Content-Type: text/plain", f"See:\n{line}\nend"), "plain", 1000) is None


@pytest.mark.parametrize("line", ["begin the work", "We begin 644 things", "(This file is new)"])
def test_text_that_only_reads_like_the_start_of_a_file_is_text(line: str) -> None:
    """Ordinary sentences stay text."""
    assert line == text(_entity("Content-Type: text/plain", line), "plain", 1000)


def test_text_of_html_with_a_file_in_an_address_is_none() -> None:
    """A `data:` address is an attachment (A4, A5)."""
    html = '<a download="a.pdf" href="data:application/pdf;base64,JVBERi0=">x</a>'

    assert text(_entity("Content-Type: text/html", html), "html", 1000) is None


@pytest.mark.parametrize(("version", "expected"), [("1.0", 1), ("1.0 (the merger)", 0), ("2.0", 0)])
def test_multipart_of_parts_with_a_version_of_mime_is_divided(version: str, expected: int) -> None:
    """Python's `email` writes MIME-Version into every part that it attaches (B4)."""
    body = f"--b\nMIME-Version: {version}\n\nx\n--b--\n"
    entity = _entity("Content-Type: multipart/mixed; boundary=b", body)
    kind = media_type(entity, frozenset({"boundary"}))

    assert kind is not None
    assert expected == len(multipart(entity, kind) or ())
