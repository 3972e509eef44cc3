"""Tests of `relay.mime.checks`."""

from __future__ import annotations

import pytest

from relay.errors import LoopDetected, MessageRefused
from relay.mime.checks import check_clear, examine, needs_smtputf8
from relay.mime.headers import parse

_FROM = b"From: a@b.example\r\n"


def test_examine_ordinary_message_passes() -> None:
    """A message with every field once is fine, whatever the number of Received and Resent fields."""
    examine(
        parse(
            b"Received: x\r\n" * 99 + _FROM + b"To: b@c.example\r\nResent-To: d@e.example\r\n" * 1 + b"\r\nx"
        )
    )


@pytest.mark.parametrize(
    "name",
    [
        "From", "Sender", "Reply-To", "To", "Cc", "Bcc", "Message-ID", "In-Reply-To", "References", "Subject",
        "Date", "MIME-Version", "Content-Type", "Content-Transfer-Encoding",
    ],
)  # fmt: skip
def test_examine_field_twice_refused_with_its_name(name: str) -> None:
    """Fields that may stand once are refused when they stand twice, in any case (M-09)."""
    twice = f"{name}: x@y.example\r\n{name.upper()}: z@y.example\r\n".encode()
    with pytest.raises(MessageRefused) as refused:
        examine(parse((b"" if name == "From" else _FROM) + twice + b"\r\nx"))

    assert name in refused.value.reply().text


def test_examine_two_content_types_refused_even_if_one_is_encrypted() -> None:
    """A second Content-Type cannot bypass the detection of encryption (M-09)."""
    with pytest.raises(MessageRefused):
        examine(parse(_FROM + b"Content-Type: multipart/encrypted\r\nContent-Type: text/plain\r\n\r\nx"))


@pytest.mark.parametrize(
    "content", [b"\r\nbody\r\n", b"To: b@c.example\r\n\r\nx", b"Sender: a@b.example\r\n\r\nx"]
)
def test_examine_without_from_refused_with_text(content: bytes) -> None:
    """A message without author is refused and does not crash."""
    with pytest.raises(MessageRefused) as refused:
        examine(parse(content))

    assert "From" in refused.value.reply().text


@pytest.mark.parametrize(
    "value", [b"message/partial; id=a; number=1", b"Message/Partial (x)", b"message/partial;"]
)
def test_examine_fragment_refused(value: bytes) -> None:
    """Fragments are not encrypted one by one (M-14)."""
    with pytest.raises(MessageRefused, match="partial"):
        examine(parse(_FROM + b"Content-Type: " + value + b"\r\n\r\nx"))


def test_examine_hundred_received_fields_is_a_loop() -> None:
    """A message that went through a hundred servers is stopped with 554 5.4.6 (T-06)."""
    with pytest.raises(LoopDetected) as loop:
        examine(parse(b"Received: x\r\n" * 100 + _FROM + b"\r\nx"))

    assert (554, "5.4.6") == (loop.value.reply().code, loop.value.reply().enhanced)


def test_examine_long_header_line_outside_refused() -> None:
    """A header line that stays outside obeys RFC 5322 §2.1.1; one that goes inside need not."""
    with pytest.raises(MessageRefused):
        examine(parse(_FROM + b"Subject: " + b"x" * 990 + b"\r\n\r\nx"))

    examine(parse(_FROM + b"Subject: " + b"x" * 989 + b"\r\n\r\nx"))
    examine(parse(_FROM + b"Content-Type: text/plain; name=" + b"x" * 2000 + b"\r\n\r\nx"))


@pytest.mark.parametrize(
    "content", [b"\r\n" + b"x" * 999, b"Content-Type: text/" + b"x" * 990 + b"\r\n\r\nx"]
)
def test_check_clear_long_line_refused(content: bytes) -> None:
    """Lines over 998 octets do not leave in clear (M-05)."""
    with pytest.raises(MessageRefused) as refused:
        check_clear(parse(content))

    assert "998" in refused.value.reply().text


def test_check_clear_line_at_the_limit_passes() -> None:
    """998 octets are allowed."""
    check_clear(parse(b"Subject: x\r\n\r\n" + b"x" * 998 + b"\r\n"))


def test_reply_texts_fit_into_their_slot() -> None:
    """No reason is cut off on its way into the reply."""
    with pytest.raises(MessageRefused) as refused:
        check_clear(parse(b"\r\n" + b"x" * 999))

    assert refused.value.reply().text.endswith("base64")


@pytest.mark.parametrize(
    ("header", "expected"), [(b"Subject: x\r\n", False), ("Subject: ä\r\n".encode(), True)]
)
def test_needs_smtputf8_looks_at_the_header(header: bytes, expected: bool) -> None:
    """Octets over 127 in the header need SMTPUTF8 (C-14)."""
    assert expected == needs_smtputf8(header)
