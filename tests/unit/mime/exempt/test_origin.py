"""Tests of `relay.mime.exempt.origin`: who may send a report under an address of their own."""

from __future__ import annotations

import pytest

from relay.address import parse_mailbox
from relay.mime.exempt.origin import (
    MAX_ABUSE_TEXT_BYTES,
    MAX_FREE_BYTES,
    MAX_HEADER_BYTES,
    MAX_ORIGINAL_HEADER_BYTES,
    MAX_RECEIPT_TEXT_BYTES,
    base,
    may_send,
)
from relay.mime.exempt.reports import report
from relay.mime.headers import parse
from tests.unit.mime.exempt.samples import (
    FEEDBACK,
    HERE,
    OUTLOOK_MDN,
    POSTFIX_DSN,
    THUNDERBIRD_MDN,
    changed,
)


def _may(content: bytes, sender: str | None) -> bool:
    message = parse(content)
    found = report(message)
    assert found is not None
    return may_send(found, message, parse_mailbox(sender) if sender else None)


_CAPTURED = (HERE / "thunderbird-receipt.eml").read_bytes()


@pytest.mark.parametrize("sender", ["alice@example.org", "Alice+x@EXAMPLE.org", None])
@pytest.mark.parametrize(
    "content", [_CAPTURED, THUNDERBIRD_MDN, OUTLOOK_MDN], ids=["true", "sample", "outlook"]
)
def test_may_send_receipt_of_who_read_the_message(content: bytes, sender: str | None) -> None:
    """Thunderbird sends receipts under the address of the reader, not the null sender (B1)."""
    assert _may(content, sender)


_RECEIPTS = {
    "other author": ("From: Alice <alice@example.org>", "From: Bob <bob@example.org>"),
    "two authors": ("From: Alice <alice@example.org>", "From: alice@example.org, bob@example.org"),
    "other Sender": ("From: Alice", "Sender: bob@example.org\nFrom: Alice"),
    "unreadable author": ("From: Alice <alice@example.org>", "From: Alice"),
    "no author": ("From: Alice <alice@example.org>\n", ""),
    "other reader": ("Final-Recipient: rfc822;alice", "Final-Recipient: rfc822;bob"),
    "unreadable reader": ("rfc822;alice@example.org", "x400;alice/x@y"),
    "much text": ("This is a Return", f"{'x' * 70}\n" * (MAX_RECEIPT_TEXT_BYTES // 72) + "This is a Return"),
    "free fields outside": ("To: bob", "X-Note: " + f"\n {'x' * 70}" * (MAX_FREE_BYTES // 72) + "\nTo: bob"),
    "free fields inside and outside": (
        "Content-Type: multipart/report",
        "X-Note: " + f"\n {'x' * 70}" * (MAX_FREE_BYTES // 74) + "\nContent-Type: multipart/report",
    ),
    "long header": ("To: bob", f"Received: {'x' * 2000}\n" * (MAX_HEADER_BYTES // 2000) + "To: bob"),
    "long header that comes back": (
        "From: Bob <bob@example.com>",
        f"DKIM-Signature: {'x' * MAX_ORIGINAL_HEADER_BYTES}\nFrom: Bob <bob@example.com>",
    ),
}


@pytest.mark.parametrize("change", _RECEIPTS.values(), ids=_RECEIPTS)
def test_may_send_receipt_under_an_address_only_with_little_text_and_as_the_reader(
    change: tuple[str, str],
) -> None:
    """Who sends it is the only author and its Final-Recipient, and can hardly write anything in it."""
    content = changed(THUNDERBIRD_MDN, *change)

    assert not _may(content, "alice@example.org")
    assert _may(content, None)


@pytest.mark.parametrize("sender", ["bob@example.com", "alice@example.net", "bob@example.org"])
def test_may_send_receipt_of_another_is_false(sender: str) -> None:
    """Nobody sends the receipt of another."""
    assert not _may(THUNDERBIRD_MDN, sender)


def test_may_send_delivery_report_from_the_null_sender_alone() -> None:
    """RFC 3464 §2."""
    assert _may(POSTFIX_DSN, None)
    assert not _may(POSTFIX_DSN, "mailer-daemon@mail.example.org")


def test_may_send_abuse_report_from_the_domain_of_its_author() -> None:
    """RFC 5965 leaves the envelope open; a name has to be one of the desk that wrote it (A6)."""
    assert _may(FEEDBACK, None)
    assert _may(FEEDBACK, "noreply@example.org")
    assert not _may(FEEDBACK, "alice@example.com")
    assert not _may(changed(FEEDBACK, "From: <abusedesk@example.org>\n", ""), "noreply@example.org")


def test_may_send_abuse_report_with_much_text_from_the_null_sender_alone() -> None:
    """Four KiB for people are enough for a desk."""
    content = changed(
        FEEDBACK, "This is an email", f"{'x' * 70}\n" * (MAX_ABUSE_TEXT_BYTES // 72) + "This is"
    )

    assert _may(content, None)
    assert not _may(content, "noreply@example.org")


@pytest.mark.parametrize(
    ("key", "expected"), [("a+b@c", "a@c"), ("a@c", "a@c"), ("a+b+c@d", "a@d"), ('a"@"+b@c', 'a"@"@c')]
)
def test_base_is_the_address_without_a_sub_address(key: str, expected: str) -> None:
    """RFC 5233."""
    assert expected == base(key)
