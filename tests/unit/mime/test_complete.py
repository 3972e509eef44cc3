"""Tests of `relay.mime.complete`."""

from __future__ import annotations

import pytest

from relay.mime.complete import complete, strip
from relay.mime.headers import parse


def _names(content: bytes, *, sealed: bool) -> list[str]:
    return [field.name for field in strip(parse(content), sealed=sealed).fields]


def test_complete_missing_fields_are_added_at_the_end() -> None:
    """Message-ID and Date are added with the given values, and nothing else moves (M-15)."""
    message = complete(parse(b"From: a@b.example\r\n\r\nx"), message_id="<1@relay.example>", date="now")

    assert b"From: a@b.example\r\nDate: now\r\nMessage-ID: <1@relay.example>\r\n\r\nx" == message.content


def test_complete_present_fields_are_kept() -> None:
    """The client's Message-ID and Date stay as they are (M-16)."""
    message = parse(b"message-id:<c@d.example>\r\nDATE: then\r\n\r\nx")

    assert message == complete(message, message_id="<1@relay.example>", date="now")


@pytest.mark.parametrize(
    "name",
    [
        "Bcc", "BCC", "Resent-Bcc", "Return-Path", "Autocrypt-Draft-State", "X-Mozilla-Status",
        "X-Mozilla-Status2",
        "X-Mozilla-Draft-Info", "X-Mozilla-Keys", "FCC", "X-Identity-Key", "X-Account-Key",
    ],
)  # fmt: skip
@pytest.mark.parametrize("sealed", [True, False])
def test_strip_private_field_is_gone_from_every_copy(name: str, sealed: bool) -> None:
    """Fields that are nobody's business leave neither in clear nor beside a ciphertext (M-17, M-18)."""
    content = f"A: 1\r\n{name}: x@y.example,\r\n z@y.example\r\nB: 2\r\n\r\nx".encode()

    assert ["a", "b"] == _names(content, sealed=sealed)


@pytest.mark.parametrize(("sealed", "expected"), [(True, ["a"]), (False, ["dkim-signature", "a"])])
def test_strip_dkim_signature_only_from_encrypted_copies(sealed: bool, expected: list[str]) -> None:
    """A signature goes where encrypting breaks it and stays where it is still good (T-08)."""
    assert expected == _names(b"DKIM-Signature: z=Subject:secret\r\nA: 1\r\n\r\nx", sealed=sealed)


def test_strip_leaves_everything_else_as_it_was() -> None:
    """Other fields keep their octets and their order; the body is not looked into."""
    content = b"Subject:  odd\r\n\t fold\r\nX-BCC-like: y\r\nReceived: a\r\n\r\nBcc: in the body\r\n"

    assert content == strip(parse(content), sealed=True).content
