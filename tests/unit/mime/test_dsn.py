"""Tests of `relay.mime.dsn`."""

from __future__ import annotations

import email
import email.policy
from email.message import EmailMessage
from typing import cast

import pytest

from relay.address import parse_mailbox
from relay.message import Address, Released
from relay.mime.dsn import failure
from tests.mail import crlf

_OUTER = crlf(
    """\
    Received: from secret-host
    From: Alice <alice@a.example>
    To: bob@b.example,
     carol@c.example
    Subject: MARKER-subject
    X-Other: MARKER-other
    Date: Mon, 23 Nov 2026 12:00:00 +0000
    Message-ID: <m1@a.example>
    MIME-Version: 1.0
    Content-Type: multipart/encrypted; boundary="b"
    """
)


def _report(
    *failed: tuple[str, int, str], sender: str = "alice@a.example", outer: bytes = _OUTER
) -> Released:
    return failure(
        sender=parse_mailbox(sender),
        failed=[(parse_mailbox(address), code, enhanced) for address, code, enhanced in failed],
        outer_header=outer,
        hostname="relay.example",
        id="k3j2",
        date="Mon, 23 Nov 2026 12:00:05 +0000",
        message_id="<d1@relay.example>",
    )


def _parsed(report: Released) -> tuple[EmailMessage, EmailMessage, EmailMessage, EmailMessage]:
    whole = cast(
        EmailMessage,
        email.message_from_bytes(report.header + b"\r\n" + report.body, policy=email.policy.default),
    )
    text, status, returned = whole.iter_parts()
    assert not whole.defects
    return whole, cast(EmailMessage, text), cast(EmailMessage, status), cast(EmailMessage, returned)


def test_failure_is_a_multipart_report_to_the_sender() -> None:
    """The structure of RFC 6522 goes to the envelope sender alone, released by its own rule (C-29)."""
    report = _report(("bob@b.example", 550, "5.1.1"))
    whole, text, status, returned = _parsed(report)

    assert "relay.dsn" == report.rule
    assert [parse_mailbox("alice@a.example")] == list(report.recipients)
    assert ("multipart/report", "delivery-status") == (
        whole.get_content_type(),
        whole.get_param("report-type"),
    )
    assert ("alice@a.example", "auto-replied") == (whole["To"], whole["Auto-Submitted"])
    assert ("<d1@relay.example>", "Mon, 23 Nov 2026 12:00:05 +0000") == (whole["Message-ID"], whole["Date"])
    assert ["text/plain", "message/delivery-status", "text/rfc822-headers"] == [
        part.get_content_type() for part in (text, status, returned)
    ]


def test_failure_status_names_each_failed_recipient() -> None:
    """Each recipient has its own group with action and status (RFC 3464 §2.3)."""
    _, _, status, _ = _parsed(_report(("bob@b.example", 550, "5.1.1"), ("dave@d.example", 452, "")))
    groups = status.get_payload()

    assert [
        {"Reporting-MTA": "dns; relay.example"},
        {
            "Final-Recipient": "rfc822; bob@b.example",
            "Action": "failed",
            "Status": "5.1.1",
            "Diagnostic-Code": "smtp; 550 5.1.1 the next mail server refused it",
        },
        {
            "Final-Recipient": "rfc822; dave@d.example",
            "Action": "failed",
            "Status": "4.0.0",
            "Diagnostic-Code": "smtp; 452 4.0.0 the next mail server could not take it in time",
        },
    ] == [dict(group.items()) for group in groups]  # type: ignore[union-attr]  # a list for this type


def test_failure_text_tells_people_who_and_what_to_do() -> None:
    """The first part names the addresses, the reason and the id."""
    _, text, _, _ = _parsed(_report(("bob@b.example", 550, "5.1.1")))
    content = text.get_content()

    assert "<bob@b.example>: the next mail server refused it (550 5.1.1)" in content
    assert "k3j2" in content


def test_failure_returns_allow_listed_outer_fields_only() -> None:
    """No Subject, no other field, nothing of the content (C-30)."""
    report = _report(("bob@b.example", 550, "5.1.1"))
    _, _, _, returned = _parsed(report)

    assert (
        "From: Alice <alice@a.example>\r\nTo: bob@b.example,\r\n carol@c.example\r\n"
        "Date: Mon, 23 Nov 2026 12:00:00 +0000\r\nMessage-ID: <m1@a.example>\r\n"
    ).replace("\r\n", "\n") == returned.get_content().replace("\r\n", "\n")
    assert b"MARKER" not in report.header + report.body
    assert b"secret-host" not in report.body


def test_failure_names_no_other_recipient() -> None:
    """A Bcc recipient whose copy was delivered does not occur (B-03)."""
    assert b"erin" not in _report(("bob@b.example", 550, "5.1.1")).body


def test_failure_is_seven_bit_with_short_lines() -> None:
    """A report needs neither 8BITMIME nor SMTPUTF8, whatever the original header holds."""
    report = _report(
        ("bob@b.example", 550, "5.1.1"), outer="From: Älice <alice@a.example>\r\nTo: b@c.example\r\n".encode()
    )

    assert (report.header + report.body).isascii()
    assert not report.smtputf8
    assert b"To: b@c.example\r\n" in report.body


def test_failure_non_ascii_recipient_is_escaped() -> None:
    """An address beyond ASCII is a utf-8 address in a report that stays 7-bit (RFC 6533 §3)."""
    report = _report(("jörg@b.example", 550, "5.1.1"))
    _, text, status, _ = _parsed(report)

    assert (report.header + report.body).isascii()
    assert "<jörg@b.example>" in text.get_content()
    assert b"Final-Recipient: utf-8; j\\x{F6}rg@b.example\r\n" in report.body
    assert "message/delivery-status" == status.get_content_type()


def test_failure_non_ascii_sender_needs_smtputf8() -> None:
    """A report to an address beyond ASCII says that it needs SMTPUTF8."""
    report = _report(("bob@b.example", 550, "5.1.1"), sender="jörg@a.example")

    assert report.smtputf8
    assert "To: <jörg@a.example>\r\n".encode() in report.header


@pytest.mark.parametrize("text", ['"a\x85b"@x.example', '"a\u2028Bcc: x"@x.example'])
def test_failure_odd_address_injects_nothing(text: str) -> None:
    """Characters that some readers take for a line end do not reach the report."""
    report = failure(
        sender=parse_mailbox("alice@a.example"),
        failed=[(Address(text, "a", "x.example"), 550, "5.1.1")],
        outer_header=b"",
        hostname="relay.example",
        id="k3j2",
        date="now",
        message_id="<d1@relay.example>",
    )

    assert "\x85".encode() not in report.body
    assert report.body.isascii()
