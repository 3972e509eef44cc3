"""Tests of `relay.mime.exempt.returned`."""

from __future__ import annotations

import email
import email.policy

import pytest

from relay.mime import headers, structure
from relay.mime.contenttype import Parameterised
from relay.mime.exempt.returned import reduced
from relay.mime.headers import parse
from tests.mail import crlf
from tests.unit.mime.exempt.samples import (
    CRON,
    ENCRYPTED,
    EXCHANGE_DSN,
    EXIM_DSN,
    FEEDBACK,
    ORIGINAL,
    OUTLOOK_MDN,
    POSTFIX_DSN,
    SECRET,
    THUNDERBIRD_MDN,
    changed,
    google_invitation,
)

_HEADER = crlf(ORIGINAL).partition(b"\r\n\r\n")[0] + b"\r\n"


def _reduced(content: bytes) -> bytes:
    return reduced(parse(content)).content


@pytest.mark.parametrize("content", [POSTFIX_DSN, EXCHANGE_DSN, FEEDBACK], ids=["postfix", "exchange", "arf"])
def test_reduced_report_has_the_header_of_the_original_and_no_octet_of_its_body(content: bytes) -> None:
    """What comes back is the header section as it was, under the type of one (D-09, RFC 6522 §4)."""
    # The last line end of the sample's original is that of the delimiter.
    found = _reduced(content)

    assert SECRET.encode() in content
    assert SECRET.encode() not in found
    assert 1 == found.count(_HEADER)
    assert found == content.replace(crlf(ORIGINAL), _HEADER + b"\r\n").replace(
        b"Content-Type: message/rfc822", b"Content-Type: text/rfc822-headers"
    )


@pytest.mark.parametrize("content", [POSTFIX_DSN, EXCHANGE_DSN, FEEDBACK], ids=["postfix", "exchange", "arf"])
def test_reduced_report_is_whole_for_another_parser(content: bytes) -> None:
    """Python's `email` finds the same parts, without a defect, and the header as text in the third."""
    before, after = (
        email.message_from_bytes(one, policy=email.policy.default.clone(linesep="\r\n"))
        for one in (content, _reduced(content))
    )

    assert [] == [defect for part in after.walk() for defect in part.defects]
    assert list(before.items()) == list(after.items())
    first, second, third = after.get_payload()
    assert [part.as_bytes() for part in before.get_payload()[:2]] == [first.as_bytes(), second.as_bytes()]
    assert "text/rfc822-headers" == third.get_content_type()
    assert _HEADER == third.get_payload(decode=True)


@pytest.mark.parametrize("kind", ["multipart/encrypted", "text/plain"])
def test_reduced_report_of_an_encrypted_message_is_the_same_bytes(kind: str) -> None:
    """An original that is itself encrypted comes back untouched (D-10, RFC 8098 §3 d)."""
    inline = (
        "From: bob@example.com\nSubject: ...\n\n"
        + ENCRYPTED[ENCRYPTED.index("-----BEGIN") :].partition("\n--enc")[0]
    )
    original = ENCRYPTED if kind == "multipart/encrypted" else inline
    content = POSTFIX_DSN.replace(crlf(ORIGINAL), crlf(original))

    assert content == _reduced(content)


@pytest.mark.parametrize(
    "original",
    {
        "label only": ENCRYPTED.replace("Version: 1", "Version: 2").replace("--enc--", f"{SECRET}\n--enc--"),
        "clear text": f"Subject: x\nContent-Type: multipart/encrypted; protocol=x; boundary=x\n\n{SECRET}\n",
        "text beside the block": ENCRYPTED.replace("--enc--\n", f"--enc--\n{SECRET}\n"),
        "armour of words": f"Subject: x\n\n-----BEGIN PGP MESSAGE-----\n\n{SECRET}\n",
        "no type": f"Subject: x\n\n{SECRET}\n",
        "unreadable type": f"Subject: x\nContent-Type: multipart/encrypted; ;\n\n{SECRET}\n",
        "several parts": f"Subject: x\nContent-Type: multipart/mixed; boundary=x\n\n--x\n\n{SECRET}\n--x--\n",
        "a report": f"Subject: x\nContent-Type: multipart/report; boundary=x\n\n--x\n\n{SECRET}\n--x--\n",
    }.values(),
)
def test_reduced_report_of_what_is_only_called_encrypted_has_no_text(original: str) -> None:
    """The label of an original does not keep its text."""
    content = POSTFIX_DSN.replace(crlf(ORIGINAL), crlf(original))

    assert SECRET.encode() in content
    assert SECRET.encode() not in _reduced(content)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"Content-Type: message/rfc822", b"Content-Type: text/rfc822-headers"),
        (b"Content-Type: message/global", b"Content-Type: message/global-headers"),
        (b'Content-Type: message/rfc822; name="global.eml"', b"Content-Type: text/rfc822-headers"),
        (b'Content-Type: Message/Global; name="a.eml"', b"Content-Type: message/global-headers"),
        (b"content-type:\r\n message/rfc822;\r\n name=a.eml", b"content-type: text/rfc822-headers"),
        (
            b"Content-Transfer-Encoding: 8bit\r\nContent-Type: message/rfc822",
            b"Content-Transfer-Encoding: 8bit\r\nContent-Type: text/rfc822-headers",
        ),
    ],
)
def test_reduced_part_keeps_its_other_fields(old: bytes, new: bytes) -> None:
    """Only the type changes, to that of a header section in ASCII or UTF-8 (RFC 6533 §6.3)."""
    content = POSTFIX_DSN.replace(b"Content-Type: message/rfc822", old)

    assert content.replace(crlf(ORIGINAL), _HEADER + b"\r\n").replace(old, new) == _reduced(content)


@pytest.mark.parametrize(
    "original",
    [_HEADER, _HEADER + b"\r\n", _HEADER.removesuffix(b"\r\n")],
    ids=["header alone", "empty line", "no line end"],
)
def test_reduced_original_without_a_body_is_its_header(original: bytes) -> None:
    """A message of a header alone has no text to lose, however it ends."""
    found = _reduced(POSTFIX_DSN.replace(crlf(ORIGINAL), original + b"\r\n"))

    message = headers.parse(found)
    parts = structure.parts(
        Parameterised("multipart/report", {"boundary": "4A0.1772445600/mail.example.org"}), message.body
    )
    assert parts is not None
    assert (3, _HEADER) == (len(parts.parts), parts.parts[2].body)


def test_reduced_message_of_a_thousand_lines_is_short() -> None:
    """However much text comes back, none of it leaves."""
    content = POSTFIX_DSN.replace(SECRET.encode(), f"{SECRET}\r\n".encode() * 100_000)

    assert len(_reduced(content)) < 4000


def test_reduced_report_is_reduced_once() -> None:
    """What is reduced is a report still, with nothing left to take away."""
    once = reduced(parse(POSTFIX_DSN))

    assert once == reduced(once)


@pytest.mark.parametrize(
    "content",
    [
        EXIM_DSN,
        THUNDERBIRD_MDN,
        OUTLOOK_MDN,
        CRON,
        google_invitation(),
        crlf("Subject: x\n\ny\n"),
        changed(POSTFIX_DSN, "Action: failed\n", ""),
    ],
)
def test_reduced_message_without_text_of_an_original_is_the_same_bytes(content: bytes) -> None:
    """Whatever is no report with an original in it comes back as it is."""
    assert content == _reduced(content)
