"""Tests of `relay.mime.exempt.reports`: what makes a report of each kind, and what is dressed up as one."""

from __future__ import annotations

import pytest

from relay.mime.exempt.groups import MAX_FREE_BYTES
from relay.mime.exempt.reports import (
    MAX_ALTERNATIVE_BYTES,
    MAX_ORIGINAL_HEADER_BYTES,
    MAX_TEXT_BYTES,
    report,
)
from relay.mime.headers import parse
from relay.rule import Exemption
from tests.mail import crlf
from tests.unit.mime.exempt.samples import (
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
)


def _kind(content: bytes) -> Exemption | None:
    found = report(parse(content))
    return found.kind if found else None


_TEXT = "This is the mail system at host mail.example.org.\n"
_DSN = {
    "label only": (
        "Reporting-MTA: dns; mail.example.org\n",
        f"{SECRET}\n\nReporting-MTA: dns; mail.example.org\n",
    ),
    "no reporting MTA": ("Reporting-MTA: dns; mail.example.org\n", ""),
    "no final recipient": ("Final-Recipient: rfc822; carol@example.net\n", ""),
    "no action": ("Action: failed\n", ""),
    "no status": ("Status: 5.1.1\n", ""),
    "other action": ("Action: failed", f"Action: {SECRET}"),
    "status with words": ("Status: 5.1.1", f"Status: 5.1.1 ({SECRET})"),
    "status of no class": ("Status: 5.1.1", "Status: 3.1.1"),
    "action with a comment": ("Action: failed", f"Action: failed ({SECRET})"),
    "unregistered field": ("Action: failed\n", f"Action: failed\nNote: {SECRET}\n"),
    "field twice": ("Action: failed\n", "Action: failed\nAction: failed\n"),
    "prose as recipient": (
        "Final-Recipient: rfc822; carol@example.net",
        f"Final-Recipient: rfc822; {SECRET}",
    ),
    "prose as MTA": ("Remote-MTA: dns; mx.example.net", f"Remote-MTA: dns; {SECRET}"),
    "prose as date": ("Arrival-Date: Mon,  2 Mar 2026", f"Arrival-Date: {SECRET} Mon,  2 Mar 2026"),
    "comment in the date": ("11:00:00 +0100 (CET)\n\nFinal", "11:00:00 +0100 (THE MERGER)\n\nFinal"),
    "reply without code": ("Diagnostic-Code: smtp; 550 5.1.1", f"Diagnostic-Code: smtp; {SECRET}"),
    "long diagnostic": ("Diagnostic-Code: smtp; 550", "Diagnostic-Code: smtp; 550" + " x" * 600),
    "diagnostic in 8-bit": ("Recipient address", "Recipient addreß"),
    "long extension": ("X-Postfix-Queue-ID: 4A0", "X-Postfix-Queue-ID: " + "4" * 300),
    "many extensions": ("X-Postfix-Queue-ID: 4A0\n", "".join(f"X-{n}: {'x' * 150}\n" for n in range(60))),
    "prose behind the fields": ("    rejected: User unknown\n", f"    rejected: User unknown\n\n{SECRET}\n"),
    "line that is no field": ("Action: failed\n", f"{SECRET}\nAction: failed\n"),
    "blank line with folds": ("Action: failed\n", f"Action: failed\n \n {SECRET}\n"),
    "no recipient at all": (
        "Final-Recipient: rfc822; carol@example.net\nOriginal-Recipient: rfc822;carol@example.net\n"
        "Action: failed\nStatus: 5.1.1\nRemote-MTA: dns; mx.example.net\n"
        "Diagnostic-Code: smtp; 550 5.1.1 <carol@example.net>: Recipient address\n"
        "    rejected: User unknown\n",
        "",
    ),
    "status in base64": (
        "Content-Type: message/delivery-status\n",
        "Content-Type: message/delivery-status\nContent-Transfer-Encoding: base64\n",
    ),
    "status in quoted-printable": (
        "Content-Type: message/delivery-status\n",
        "Content-Type: message/delivery-status\nContent-Transfer-Encoding: quoted-printable\n",
    ),
    "status of another type": ("Content-Type: message/delivery-status", "Content-Type: text/plain"),
    "status of a comment": ("message/delivery-status", f"message/delivery-status ({SECRET})"),
    "other report type": ("report-type=delivery-status", "report-type=delivery-state"),
    "no report": ("multipart/report", "multipart/mixed"),
    "no report type": ("report-type=delivery-status;\n", "\n"),
    "type of another report": ("report-type=delivery-status", "report-type=disposition-notification"),
    "huge text": (_TEXT, "x" * 70 + "\n" + f"{SECRET}\n" * (MAX_TEXT_BYTES // 20)),
    "text in another charset": ("text/plain; charset=us-ascii", "text/plain; charset=utf-7"),
    "binary text": (_TEXT, "\x01\x02\x03\n"),
    "uuencoded text": (_TEXT, "begin 644 salary.pdf\n#0V%T\n`\nend\n"),
    "armoured text": (_TEXT, "-----BEGIN CERTIFICATE-----\n"),
    "text as a file": (
        "Content-Type: text/plain; charset=us-ascii\n",
        "Content-Type: text/plain; charset=us-ascii\nContent-Disposition: attachment; filename=a.txt\n",
    ),
    "text is HTML": (
        "Content-Type: text/plain; charset=us-ascii",
        "Content-Type: text/html; charset=us-ascii",
    ),
    "text is a message": ("Content-Type: text/plain; charset=us-ascii", "Content-Type: message/rfc822"),
    "text is a picture": ("Content-Type: text/plain; charset=us-ascii", "Content-Type: image/png"),
    "broken base64 text": (
        "Content-Type: text/plain; charset=us-ascii\n",
        "Content-Type: text/plain; charset=us-ascii\nContent-Transfer-Encoding: base64\n",
    ),
    "original is a file": ("Content-Type: message/rfc822", "Content-Type: application/pdf"),
    "original is text": ("Content-Type: message/rfc822", "Content-Type: text/plain"),
    "original in base64": (
        "Content-Type: message/rfc822\n",
        "Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n",
    ),
    "original without header": (
        "Received: from mail.example.com",
        f"\n{SECRET}\nReceived: from mail.example.com",
    ),
    "original begins with prose": (
        "Received: from mail.example.com",
        f"{SECRET}\nReceived: from mail.example.com",
    ),
    "original with a huge header": (
        "Subject: Lunch",
        "Subject: Lunch" + "\n x" * (MAX_ORIGINAL_HEADER_BYTES // 4),
    ),
    "original of a long hop": (
        "Subject: Lunch",
        f"Received: {'x' * 900}\n {'x' * 900}\n {'x' * 900}\nSubject: Lunch",
    ),
    "original of many hops": ("Subject: Lunch", "Received: x\n" * 51 + "Subject: Lunch"),
    "header alone with a body": ("Content-Type: message/rfc822", "Content-Type: text/rfc822-headers"),
    "external body": (
        "Content-Type: message/rfc822",
        "Content-Type: message/external-body; access-type=x",
    ),
    "fragment": ("Content-Type: message/rfc822", 'Content-Type: message/partial; id="a"; number=1; total=1'),
}


@pytest.mark.parametrize("attack", _DSN.values(), ids=_DSN)
def test_report_dressed_as_a_delivery_report_is_none(attack: tuple[str, str]) -> None:
    """A delivery report is one in each of its parts, or none (D-09)."""
    assert report(parse(changed(POSTFIX_DSN, *attack))) is None


@pytest.mark.parametrize(
    "change",
    [
        ("Content-Type: multipart/report", "content-TYPE: MultiPart/Report"),
        ("report-type=delivery-status", 'REPORT-TYPE="Delivery-Status"'),
        ("Action: failed", "ACTION: DELAYED"),
        ("Status: 5.1.1", "Status: 4.4.7"),
        (
            "Status: 5.1.1",
            f"Status: 5.1.1\nX-Supplementary-Info: <mx.example.net #5.1.1 smtp;550 {'x ' * 200}>",
        ),
        ("Diagnostic-Code: smtp; 550", "Diagnostic-Code: X-Postfix; unknown user:"),
        ("Content-Type: message/delivery-status", "Content-Type: message/global-delivery-status"),
        ("Final-Recipient: rfc822; carol@example.net", "Final-Recipient: utf-8; bücher@example.net"),
        ("This is a MIME-encapsulated message.\n", ""),
        ("    rejected: User unknown\n", "    rejected: User unknown\n\n\n\n"),
        ("Content-Type: message/rfc822", "Content-Type: message/global"),
    ],
)
def test_report_of_a_legal_variant_is_a_delivery_report(change: tuple[str, str]) -> None:
    """Letter case, quotes, the fields of other servers and their UTF-8 forms (RFC 6533) are as good."""
    assert Exemption.DSN == _kind(changed(POSTFIX_DSN, *change))


def test_report_of_many_recipients_with_little_to_say_is_a_delivery_report() -> None:
    """A hundred recipients are no doubt; a hundred long replies are (free text is limited in all)."""
    recipient = "Final-Recipient: rfc822; carol@example.net\nAction: failed\nStatus: 5.1.1\n"
    many = (recipient + "Diagnostic-Code: smtp; 550 no\n\n") * 100
    wordy = (recipient + f"Diagnostic-Code: smtp; 550 {'x' * 500}\n\n") * (MAX_FREE_BYTES // 500)

    assert Exemption.DSN == _kind(changed(POSTFIX_DSN, "Final-Recipient:", f"{many}Final-Recipient:"))
    assert report(parse(changed(POSTFIX_DSN, "Final-Recipient:", f"{wordy}Final-Recipient:"))) is None


_ALTERNATIVE = "--c9b6a8ff-f0b3-4a8b-8e2d-1b2c3d4e5f60"


@pytest.mark.parametrize(
    "attack",
    {
        "third alternative": (
            f"{_ALTERNATIVE}--",
            f"{_ALTERNATIVE}\nContent-Type: text/plain\n\nx\n{_ALTERNATIVE}--",
        ),
        "two texts": ("Content-Type: text/html", "Content-Type: text/plain"),
        "HTML as a file": (
            "Content-Type: text/html; charset=",
            "Content-Disposition: attachment\nContent-Type: text/html; charset=",
        ),
        "mixed": ("multipart/alternative; differences=Content-Type", "multipart/mixed"),
        "a multipart inside": (
            'Content-Type: text/html; charset="us-ascii"',
            "Content-Type: multipart/mixed; boundary=x",
        ),
        "text between": (
            f"{_ALTERNATIVE}\nContent-Type: text/plain",
            f"{SECRET}\n{_ALTERNATIVE}\nContent-Type: text/plain",
        ),
        "much HTML": ("<p>Delivery", "<p>" + "x" * MAX_TEXT_BYTES),
        "huge HTML": ("<p>Delivery", f"<!--{'x' * MAX_ALTERNATIVE_BYTES}--><p>Delivery"),
        "file in HTML": ("<p>Delivery", "<a href=3D'data:application/pdf;base64,JVBERi0'>x</a><p>Delivery"),
    }.values(),
)
def test_report_with_more_than_two_alternatives_for_people_is_none(attack: tuple[str, str]) -> None:
    """The text of Exchange in two forms is all that may be nested in a report."""
    assert report(parse(changed(EXCHANGE_DSN, *attack))) is None


def test_report_of_exchange_with_much_markup_is_a_delivery_report() -> None:
    """Twenty KiB of markup around few words are what Exchange writes."""
    markup = "<p style=3D'color:red'>" * 900

    assert Exemption.DSN == _kind(changed(EXCHANGE_DSN, "<p>Delivery", f"{markup}<p>Delivery"))


def test_report_says_how_much_text_is_in_it_and_of_whom_it_speaks() -> None:
    """What is for people, what is free for programs, and the recipient, for whoever judges its sender."""
    found = report(parse(THUNDERBIRD_MDN))

    assert found is not None
    free = [line for line in THUNDERBIRD_MDN.split(b"\r\n") if line.startswith((b"Reporting", b"Original"))]
    assert sum(len(line) + 2 for line in free) == found.free_bytes
    assert "alice@example.org" == found.final_recipient
    text = THUNDERBIRD_MDN[
        THUNDERBIRD_MDN.index(b"This is a") : THUNDERBIRD_MDN.index(
            b"\r\n----------mdn080601\r\nContent-Type: message"
        )
    ]
    header = THUNDERBIRD_MDN[
        THUNDERBIRD_MDN.index(b"From: Bob") : THUNDERBIRD_MDN.index(b"\r\n----------mdn080601--")
    ]
    assert (len(text), len(header)) == (found.people_bytes, found.original_header_bytes)


_MDN = {
    "label only": ("Reporting-UA: client.example.org;", f"{SECRET}\nReporting-UA: client.example.org;"),
    "no final recipient": ("Final-Recipient: rfc822;alice@example.org\n", ""),
    "no disposition": ("Disposition: manual-action/MDN-sent-manually; displayed\n", ""),
    "prose as disposition": ("sent-manually; displayed", f"sent-manually; {SECRET}"),
    "prose behind the disposition": ("; displayed\n", f"; displayed {SECRET}\n"),
    "prose as modifier": ("; displayed\n", "; displayed/the-merger-is-on-friday\n"),
    "comment": ("; displayed\n", f"; displayed ({SECRET})\n"),
    "unknown mode": ("manual-action/", "no-action/"),
    "field of a DSN": ("Final-Recipient:", "Action: failed\nFinal-Recipient:"),
    "unregistered field": ("Final-Recipient:", f"Note: {SECRET}\nFinal-Recipient:"),
    "second group": ("; displayed\n", "; displayed\n\nFinal-Recipient: rfc822;a@b.example\nDisposition: x\n"),
    "prose as id": ("Original-Message-ID: <1@example.com>", f"Original-Message-ID: {SECRET}"),
    "long user agent": ("Reporting-UA: client", "Reporting-UA: " + "x" * 200),
    "long error": ("Disposition:", f"Error: {'x ' * 101}\nDisposition:"),
    "receipt in base64": (
        'name="MDNPart2.txt"\nContent-Disposition: inline\nContent-Transfer-Encoding: 7bit',
        'name="MDNPart2.txt"\nContent-Disposition: inline\nContent-Transfer-Encoding: base64',
    ),
    "body behind the header": (
        "Message-ID: <1@example.com>\n\n-",
        f"Message-ID: <1@example.com>\n\n{SECRET}\n-",
    ),
    "prose in the header": ("Subject: Lunch\nMessage-ID", f"{SECRET}\nMessage-ID"),
    "DSN": ("report-type=disposition-notification", "report-type=delivery-status"),
}


@pytest.mark.parametrize("attack", _MDN.values(), ids=_MDN)
def test_report_dressed_as_a_read_receipt_is_none(attack: tuple[str, str]) -> None:
    """A read receipt is one in each of its fields, or none (RFC 8098 §3)."""
    assert report(parse(changed(THUNDERBIRD_MDN, *attack))) is None


@pytest.mark.parametrize(
    "change",
    [
        (
            "manual-action/MDN-sent-manually; displayed",
            "automatic-action/mdn-sent-automatically;deleted/expired",
        ),
        ("manual-action/MDN-sent-manually; displayed", "manual-action/MDN-sent-manually; processed/error"),
        ("Final-Recipient:", "MDN-Gateway: dns; gate.example.org\nFinal-Recipient:"),
    ],
)
def test_report_of_a_legal_variant_is_a_read_receipt(change: tuple[str, str]) -> None:
    """Every disposition of RFC 8098 §3.2.6 is one."""
    assert Exemption.MDN == _kind(changed(THUNDERBIRD_MDN, *change))


_FEEDBACK = {
    "label only": ("Feedback-Type: abuse\n", f"{SECRET}\nFeedback-Type: abuse\n"),
    "no type": ("Feedback-Type: abuse\n", ""),
    "no user agent": ("User-Agent: SomeGenerator/1.0\n", ""),
    "no version": ("Version: 1\n", ""),
    "prose as type": ("Feedback-Type: abuse", f"Feedback-Type: {SECRET}"),
    "prose as version": ("Version: 1\n", f"Version: 1 {SECRET}\n"),
    "unregistered field": ("Version: 1\n", f"Version: 1\nNote: {SECRET}\n"),
    "message in a field": ("Version: 1\n", "Version: 1\nDKIM-Canonicalized-Body: VGhlIG1lcmdlcg==\n"),
    "many links": (
        "Version: 1\n",
        "Version: 1\n" + ("Reported-URI: http://x.example/" + "x" * 400 + "\n") * 20,
    ),
    "long user agent": ("User-Agent: Some", "User-Agent: " + "x" * 200),
    "second group": (
        "Reported-Domain:",
        "\nFeedback-Type: abuse\nUser-Agent: x\nVersion: 1\nReported-Domain:",
    ),
    "version twice": ("Version: 1\n", "Version: 1\nVersion: 1\n"),
    "prose as address": ("Original-Rcpt-To: <user@example.org>", f"Original-Rcpt-To: {SECRET}"),
}


@pytest.mark.parametrize("attack", _FEEDBACK.values(), ids=_FEEDBACK)
def test_report_dressed_as_an_abuse_report_is_none(attack: tuple[str, str]) -> None:
    """An abuse report is one in each of its fields, or none (RFC 5965 §3)."""
    assert report(parse(changed(FEEDBACK, *attack))) is None


def test_report_of_abuse_without_the_message_is_none() -> None:
    """RFC 5965 §2 demands the third part; delivery reports and read receipts may go without."""
    start, end = (
        FEEDBACK.rindex(b"--part1_13d.2e68ed54_boundary\r\nContent-Type: message/rfc822"),
        FEEDBACK.rindex(b"--part1"),
    )

    assert report(parse(FEEDBACK[:start] + FEEDBACK[end:])) is None
    assert Exemption.MDN == _kind(OUTLOOK_MDN)


_FIELDS = b"Content-Description: Undelivered Message\r\nContent-Type: message/rfc822\r\n\r\n"


@pytest.mark.parametrize(
    ("content", "keeps", "octets"),
    [
        (POSTFIX_DSN, False, len(_FIELDS + crlf(ORIGINAL)) - 2),
        (POSTFIX_DSN.replace(crlf(ORIGINAL), crlf(ENCRYPTED)), True, len(_FIELDS + crlf(ENCRYPTED)) - 2),
        (
            EXIM_DSN,
            True,
            len(EXIM_DSN[EXIM_DSN.index(b"Content-type: text/rfc") : EXIM_DSN.rindex(b"\r\n--")]),
        ),
        (OUTLOOK_MDN, True, 0),
    ],
)
def test_report_says_what_comes_back(content: bytes, keeps: bool, octets: int) -> None:
    """A header alone and an encrypted message may stay; its octets are those of the whole part."""
    found = report(parse(content))

    assert found is not None
    assert keeps == found.keeps_original
    assert octets == found.original_bytes
