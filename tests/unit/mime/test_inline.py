"""Tests of `relay.mime.inline`, with Python's `email` as the second opinion."""

from __future__ import annotations

import base64
import email
import email.policy
import quopri

import pysequoia
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.mime.headers import Message, parse
from relay.mime.inline import text_of, wrap
from tests.mail import RECEIVED, armor, crlf, encrypted

_TEXT = "Grüße\r\n.\r\nFrom me \r\n-- \r\n\r\nAlice"


def _message(fields: bytes, body: bytes) -> Message:
    return parse(b"From: a@b.example\r\nSubject: Lunch\r\n" + fields + b"\r\n" + body)


_UTF8 = b"Content-Type: text/plain; charset=utf-8\r\n"
_QP = b"Content-Transfer-Encoding: Quoted-Printable\r\n"
_B64 = b"Content-Transfer-Encoding: base64\r\n"

_TEXTS = {
    "no fields": (b"", b"Hi\r\n", b"Hi\r\n"),
    "empty": (b"", b"", b""),
    "MIME-Version": (b"MIME-Version: 1.0\r\n", b"Hi\r\n", b"Hi\r\n"),
    "without charset": (b"Content-Type: TEXT/Plain\r\n", b"Hi \r\n", b"Hi \r\n"),
    "7bit": (_UTF8 + b"Content-Transfer-Encoding: 7BIT\r\n", b"Hi", b"Hi"),
    "8bit": (_UTF8 + b"Content-Transfer-Encoding: 8bit\r\n", _TEXT.encode(), _TEXT.encode()),
    "8-bit octets without a label": (_UTF8, _TEXT.encode(), _TEXT.encode()),
    "any charset": (b'Content-Type: text/plain; charset="x-What.ever"\r\n', b"\xff\xfe", b"\xff\xfe"),
    "inline": (b"Content-Disposition: inline\r\n", b"Hi", b"Hi"),
    "language": (b"Content-Language: en-US\r\n", b"Hi", b"Hi"),
    "quoted-printable": (
        _UTF8 + _QP,
        b"Gr=C3=BC=c3=9Fe=20=\r\n\r\n=2E \r\n= \r\na=3D=",
        "Grüße \r\n.\r\na=".encode(),
    ),
    "base64": (_UTF8 + _B64, base64.encodebytes(_TEXT.encode()).replace(b"\n", b" \r\n"), _TEXT.encode()),
    "base64 in one line": (_UTF8 + _B64, base64.b64encode(_TEXT.encode()), _TEXT.encode()),
}


@pytest.mark.parametrize(("fields", "body", "expected"), _TEXTS.values(), ids=_TEXTS)
def test_text_of_plain_text_is_what_was_written(fields: bytes, body: bytes, expected: bytes) -> None:
    """The text is decoded and otherwise left alone: it is what a reader sees after decrypting."""
    assert expected == text_of(_message(fields, body))


_NO_TEXTS = {
    "HTML": (b"Content-Type: text/html\r\n", b"Hi"),
    "multipart": (b'Content-Type: multipart/mixed; boundary="b"\r\n', b"--b\r\n\r\nHi\r\n--b--\r\n"),
    "unreadable type": (b"Content-Type: text\xff/plain\r\n", b"Hi"),
    "two types": (_UTF8 + _UTF8, b"Hi"),
    "flowed": (b"Content-Type: text/plain; charset=utf-8; format=flowed\r\n", b"Hi \r\nyou"),
    "name": (b'Content-Type: text/plain; name="salaries.txt"\r\n', b"Hi"),
    "comment": (b"Content-Type: text/plain (salaries)\r\n", b"Hi"),
    "charset twice": (b"Content-Type: text/plain; charset=a; charset=b\r\n", b"Hi"),
    "charset with quotes": (b'Content-Type: text/plain; charset="a\\"b"\r\n', b"Hi"),
    "charset with blanks": (b'Content-Type: text/plain; charset="a b"\r\n', b"Hi"),
    "charset with words": (b"Content-Type: text/plain; charset*=utf-8''a%0D%0ABcc:b\r\n", b"Hi"),
    "empty charset": (b'Content-Type: text/plain; charset=""\r\n', b"Hi"),
    "long charset": (b"Content-Type: text/plain; charset=" + b"a" * 61 + b"\r\n", b"Hi"),
    "UTF-16": (b"Content-Type: text/plain; charset=UTF-16LE\r\n" + _B64, b"SABpAA=="),
    "attachment": (b"Content-Disposition: attachment\r\n", b"Hi"),
    "file name": (b'Content-Disposition: inline; filename="salaries.txt"\r\n', b"Hi"),
    "disposition with a comment": (b"Content-Disposition: inline (salaries)\r\n", b"Hi"),
    "unreadable disposition": (b"Content-Disposition: inline; x\r\n", b"Hi"),
    "description": (b"Content-Description: salaries\r\n", b"Hi"),
    "other field of the content": (b"Content-ID: <1@a.example>\r\n", b"Hi"),
    "binary": (_UTF8 + b"Content-Transfer-Encoding: binary\r\n", b"Hi"),
    "unknown encoding": (_UTF8 + b"Content-Transfer-Encoding: x-uuencode\r\n", b"Hi"),
    "encoding with a comment": (_UTF8 + b"Content-Transfer-Encoding: 7bit (really)\r\n", b"Hi"),
    "two encodings": (_UTF8 + _QP + _B64, b"SGkK"),
    "8 bits of unknown charset": (b"", "ü".encode()),
    "8 bits in ASCII": (b"Content-Type: text/plain; charset=US-ASCII\r\n" + _QP, b"=C3=BC"),
    "broken escape": (_UTF8 + _QP, b"a=4 b"),
    "8 bits in quoted-printable": (_UTF8 + _QP, "ü".encode()),
    "bare LF": (_UTF8 + _QP, b"a=0Ab"),
    "bare CR": (_UTF8 + _QP, b"a=0Db"),
    "bare LF in base64": (_UTF8 + _B64, base64.b64encode(b"a\nb")),
    "NUL": (_UTF8 + _B64, base64.b64encode(b"a\0b")),
    "other characters in base64": (_UTF8 + _B64, b"SG-kK"),
    "text behind base64": (_UTF8 + _B64, b"SGkK\r\n-- \r\nlist"),
    "padding inside base64": (_UTF8 + _B64, b"SGk=\r\nSGkK"),
    "unfinished base64": (_UTF8 + _B64, b"SGkKS"),
}


@pytest.mark.parametrize(("fields", "body"), _NO_TEXTS.values(), ids=_NO_TEXTS)
def test_text_of_anything_else_stays_pgp_mime(fields: bytes, body: bytes) -> None:
    """Whatever would be lost outside of PGP/MIME, or is in doubt, is not written inline."""
    assert None is text_of(_message(fields, body))


@settings(deadline=None)
@given(st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"])), st.integers(0, 3))
def test_text_of_decodes_as_another_reader_does(text: str, ends: int) -> None:
    """Python's `email` decodes the same octets from either encoding."""
    octets = (text + "\r\n" * ends + text).encode()
    for field, body in (
        (_QP, quopri.encodestring(octets.replace(b"\r\n", b"\n")).replace(b"\n", b"\r\n")),
        (_B64, base64.encodebytes(octets).replace(b"\n", b"\r\n")),
    ):
        message = _message(_UTF8 + field, body)
        other = email.message_from_bytes(message.content)

        assert octets == other.get_payload(decode=True) == text_of(message)


@pytest.mark.parametrize("size", [2**20 - 1, 2**20, 3 * 2**20 + 1])
def test_text_of_large_text_is_decoded_in_pieces(size: int) -> None:
    """Where one piece ends and the next begins nothing is lost, whatever the length of lines."""
    octets = b"a b=\r\n" * (size // 6)
    chars = base64.b64encode(octets)
    for width in (74, 76, size):
        body = b"\r\n".join(chars[at : at + width] for at in range(0, len(chars), width))
        assert octets == text_of(_message(_UTF8 + _B64, body))
    assert octets == text_of(_message(_UTF8 + _QP, octets.replace(b"=", b"=3D=\r\n")))


def test_text_of_padding_where_a_piece_ends_is_refused() -> None:
    """Padding in the middle is found also where one piece ends there."""
    body = b"QUJD" * ((1 << 18) - 1) + b"QUI=" + b"QUJD"

    assert None is text_of(_message(_UTF8 + _B64, body))


def test_wrap_copy_is_the_armour_alone() -> None:
    """Trace, the other fields as they are, three fields of ours; the body is the block and nothing else."""
    message = parse(
        crlf(
            """\
            From: Alice <alice@a.example>
            MIME-Version: 1.0 (any)
            X-Odd:  two  spaces
            Content-Type: text/plain;
             charset=ISO-8859-15
            Content-Language: de
            Subject: Lunch
            Content-Disposition: inline
            content-transfer-encoding: base64

            SGk=
            """
        )
    )
    expected = RECEIVED + crlf(
        """\
        From: Alice <alice@a.example>
        X-Odd:  two  spaces
        Subject: Lunch
        MIME-Version: 1.0
        Content-Type: text/plain; charset="ISO-8859-15"
        Content-Transfer-Encoding: 7bit
        """
    )
    block = armor(encrypted(), eol="\r\n")

    assert b"Hi" == text_of(message)
    assert (expected, block) == wrap(message, armor(encrypted()), received=RECEIVED)
    assert (expected, block) == wrap(message, block, received=RECEIVED)


def test_wrap_without_charset_says_what_it_implies() -> None:
    """RFC 2046 §4.1.2: text without a charset is US-ASCII."""
    header, _ = wrap(parse(b"From: a@b.example\r\n\r\nHi"), armor(encrypted()), received=RECEIVED)

    assert header.endswith(
        b'Content-Type: text/plain; charset="us-ascii"\r\nContent-Transfer-Encoding: 7bit\r\n'
    )


@pytest.mark.parametrize("size", [0, 1, 3_000_000])
def test_wrap_decrypts_to_the_text(size: int) -> None:
    """What another parser takes out of the copy decrypts to the text, octet for octet."""
    key = pysequoia.Tsk.generate("<bob@b.example>")
    message = _message(
        _UTF8 + _QP,
        _TEXT.encode().replace("ü".encode(), b"=C3=BC").replace("ß".encode(), b"=C3=9F")
        + b"=\r\n"
        + b"a\r\n" * size,
    )
    text = text_of(message)
    assert text is not None
    header, body = wrap(
        message, pysequoia.encrypt(text, recipients=[key.extract_certificate()]), received=RECEIVED
    )
    read = email.message_from_bytes(header + b"\r\n" + body, policy=email.policy.default)

    assert not read.defects
    assert text == pysequoia.decrypt(read.get_payload(decode=True), key.decryptor()).bytes
    assert (_TEXT.replace("me \r", "me\r").replace("-- \r", "--\r").encode() + b"a\r\n" * size) == text
