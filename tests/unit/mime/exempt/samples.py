"""Messages of machines as the programs named here write them, with other addresses, and a way to alter one.

The four `wkd-*.eml` beside this file are the traffic of one key submission between gpg-wks-client and
gpg-wks-server 2.2.40 (`--create`, `--receive`, `--receive`, `--receive`), untouched. The four
`thunderbird-*.eml` are what Thunderbird 140 gave to a server: a read receipt, and what its calendar sends.
"""

from __future__ import annotations

import base64
import gzip
import json
import quopri
import textwrap
from pathlib import Path

from relay.address import parse_mailbox
from relay.message import Address
from relay.mime.authors import recipients_named
from relay.mime.exempt import exemptions
from relay.mime.headers import parse
from relay.rule import Exemption
from tests.mail import armor, crlf, encrypted

HERE = Path(__file__).parent
BOB = parse_mailbox("bob@example.com")
ALICE = parse_mailbox("alice@example.org")


def exempt(content: bytes, sender: Address | None = None) -> frozenset[Exemption]:
    """What a whole message is exempt as."""
    message = parse(content)
    return exemptions(message, sender, recipients_named(message))


def changed(content: bytes, old: str, new: str) -> bytes:
    """A sample with one place altered; LF stands for CRLF."""
    before, after = (text.replace("\n", "\r\n").encode() for text in (old, new))
    assert content.count(before) >= 1, old
    return content.replace(before, after, 1)


def encoded(data: bytes) -> str:
    return "\n".join(textwrap.wrap(base64.b64encode(data).decode(), 76))


SECRET = "The merger is on Friday."
ORIGINAL = f"""\
Received: from mail.example.com by mx.example.com with ESMTP id 1A2B3C; Mon, 2 Mar 2026 10:00:00 +0000
From: Bob <bob@example.com>
To: carol@example.net
Subject: Lunch
Message-ID: <1@example.com>
MIME-Version: 1.0
Content-Type: text/plain; charset=utf-8

{SECRET}
"""
ENCRYPTED = (
    "From: bob@example.com\nTo: carol@example.net\nSubject: ...\nMIME-Version: 1.0\n"
    'Content-Type: multipart/encrypted; protocol="application/pgp-encrypted"; boundary="enc"\n\n'
    "--enc\nContent-Type: application/pgp-encrypted\n\nVersion: 1\n\n"
    f"--enc\nContent-Type: application/octet-stream\n\n{armor(encrypted()).decode()}\n--enc--\n"
)
"""An original that its own client encrypted."""

POSTFIX_DSN = crlf("""\
Received: by mail.example.org (Postfix) id 4A1; Mon,  2 Mar 2026 11:00:00 +0100 (CET)
Date: Mon,  2 Mar 2026 11:00:00 +0100 (CET)
From: MAILER-DAEMON@mail.example.org (Mail Delivery System)
Subject: Undelivered Mail Returned to Sender
To: bob@example.com
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status;
\tboundary="4A0.1772445600/mail.example.org"
Message-Id: <20260302100000.4A1@mail.example.org>

This is a MIME-encapsulated message.

--4A0.1772445600/mail.example.org
Content-Description: Notification
Content-Type: text/plain; charset=us-ascii

This is the mail system at host mail.example.org.

I'm sorry to have to inform you that your message could not
be delivered to one or more recipients. It's attached below.

                   The mail system

<carol@example.net>: host mx.example.net[192.0.2.25] said: 550 5.1.1
    <carol@example.net>: Recipient address rejected: User unknown
    (in reply to RCPT TO command)

--4A0.1772445600/mail.example.org
Content-Description: Delivery report
Content-Type: message/delivery-status

Reporting-MTA: dns; mail.example.org
X-Postfix-Queue-ID: 4A0
X-Postfix-Sender: rfc822; bob@example.com
Arrival-Date: Mon,  2 Mar 2026 11:00:00 +0100 (CET)

Final-Recipient: rfc822; carol@example.net
Original-Recipient: rfc822;carol@example.net
Action: failed
Status: 5.1.1
Remote-MTA: dns; mx.example.net
Diagnostic-Code: smtp; 550 5.1.1 <carol@example.net>: Recipient address
    rejected: User unknown

--4A0.1772445600/mail.example.org
Content-Description: Undelivered Message
Content-Type: message/rfc822

ORIGINAL
--4A0.1772445600/mail.example.org--
""").replace(b"ORIGINAL\r\n", crlf(ORIGINAL))

EXIM_DSN = crlf("""\
Auto-Submitted: auto-replied
From: Mail Delivery System <Mailer-Daemon@mail.example.org>
To: bob@example.com
References: <1@example.com>
Content-Type: multipart/report; report-type=delivery-status; boundary=1772445600-eximdsn-1804289383
MIME-Version: 1.0
Subject: Mail delivery failed: returning message to sender
Message-Id: <E1-0001@mail.example.org>
Date: Mon, 02 Mar 2026 11:00:00 +0100

--1772445600-eximdsn-1804289383
Content-type: text/plain; charset=us-ascii

This message was created automatically by mail delivery software.

A message that you sent could not be delivered to one or more of its
recipients. This is a permanent error. The following address(es) failed:

  carol@example.net
    host mx.example.net [192.0.2.25]
    SMTP error from remote mail server after RCPT TO:<carol@example.net>:
    550 5.1.1 User unknown

--1772445600-eximdsn-1804289383
Content-type: message/delivery-status

Reporting-MTA: dns; mail.example.org

Action: failed
Final-Recipient: rfc822;carol@example.net
Status: 5.0.0
Remote-MTA: dns; mx.example.net
Diagnostic-Code: smtp; 550 5.1.1 User unknown

--1772445600-eximdsn-1804289383
Content-type: text/rfc822-headers

Return-path: <bob@example.com>
From: bob@example.com
Subject: Lunch


--1772445600-eximdsn-1804289383--
""")

SENDMAIL_DSN = crlf("""\
Date: Mon, 2 Mar 2026 11:00:00 GMT
From: Mail Delivery Subsystem <MAILER-DAEMON@mail.example.org>
Message-Id: <202603021000.1@mail.example.org>
To: <bob@example.com>
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status;
\tboundary="1.1772445600/mail.example.org"
Subject: Returned mail: see transcript for details
Auto-Submitted: auto-generated (failure)

This is a MIME-encapsulated message

--1.1772445600/mail.example.org

The original message was received at Mon, 2 Mar 2026 10:59:00 GMT

   ----- The following addresses had permanent fatal errors -----
<carol@example.net>

--1.1772445600/mail.example.org
Content-Type: message/delivery-status

Reporting-MTA: dns; mail.example.org
Received-From-MTA: DNS; client.example.org
Arrival-Date: Mon, 2 Mar 2026 10:59:00 GMT

Final-Recipient: RFC822; carol@example.net
Action: failed
Status: 5.1.1
Remote-MTA: DNS; mx.example.net
Diagnostic-Code: SMTP; 550 5.1.1 User unknown
Last-Attempt-Date: Mon, 2 Mar 2026 11:00:00 GMT

--1.1772445600/mail.example.org--
""")

EXCHANGE_DSN = crlf("""\
MIME-Version: 1.0
From: <postmaster@example.org>
To: <bob@example.com>
Date: Mon, 2 Mar 2026 11:00:00 +0100
Content-Type: multipart/report; report-type=delivery-status;
\tboundary="b8a5f7ee-e9a2-4f7a-9d1c-0a1b2c3d4e5f"
X-MS-Exchange-Message-Is-Ndr:
Content-Language: en-US
Message-ID: <2f3a@example.org>
In-Reply-To: <1@example.com>
References: <1@example.com>
Subject: Undeliverable: Lunch
Auto-Submitted: auto-replied

--b8a5f7ee-e9a2-4f7a-9d1c-0a1b2c3d4e5f
Content-Type: multipart/alternative; differences=Content-Type;
\tboundary="c9b6a8ff-f0b3-4a8b-8e2d-1b2c3d4e5f60"

--c9b6a8ff-f0b3-4a8b-8e2d-1b2c3d4e5f60
Content-Type: text/plain; charset="us-ascii"
Content-Transfer-Encoding: quoted-printable

Delivery has failed to these recipients or groups:

carol@example.net<mailto:carol@example.net>
The email address you entered couldn't be found.=20

--c9b6a8ff-f0b3-4a8b-8e2d-1b2c3d4e5f60
Content-Type: text/html; charset="us-ascii"
Content-Transfer-Encoding: quoted-printable

<html>
<head><meta http-equiv=3D"Content-Type" content=3D"text/html; charset=3Dus-ascii">
</head><body><p>Delivery has failed to these recipients or groups:</p></body></html>

--c9b6a8ff-f0b3-4a8b-8e2d-1b2c3d4e5f60--

--b8a5f7ee-e9a2-4f7a-9d1c-0a1b2c3d4e5f
Content-Type: message/delivery-status

Reporting-MTA: dns;EX1.example.org
Received-From-MTA: dns;mail.example.com
Arrival-Date: Mon, 2 Mar 2026 10:00:00 +0000

Final-Recipient: rfc822;carol@example.net
Action: failed
Status: 5.1.10
Diagnostic-Code: smtp;550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient carol@example.net not found
X-Display-Name: carol@example.net

--b8a5f7ee-e9a2-4f7a-9d1c-0a1b2c3d4e5f
Content-Type: message/rfc822

ORIGINAL
--b8a5f7ee-e9a2-4f7a-9d1c-0a1b2c3d4e5f--
""").replace(b"ORIGINAL\r\n", crlf(ORIGINAL))

THUNDERBIRD_MDN = crlf("""\
Message-ID: <5e9c@example.org>
Date: Mon, 2 Mar 2026 11:00:00 +0100
MIME-Version: 1.0
From: Alice <alice@example.org>
To: bob@example.com
Subject: Read Receipt (displayed) - Lunch
References: <1@example.com>
Content-Type: multipart/report; report-type=disposition-notification; boundary="--------mdn080601"

----------mdn080601
Content-Type: text/plain; charset=UTF-8
Content-Transfer-Encoding: 7bit

This is a Return Receipt for the mail that you sent to alice@example.org.

Note: This Return Receipt only acknowledges that the message was displayed
on the recipient's computer.

----------mdn080601
Content-Type: message/disposition-notification; name="MDNPart2.txt"
Content-Disposition: inline
Content-Transfer-Encoding: 7bit

Reporting-UA: client.example.org; Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Thunderbird/128.4.0
Final-Recipient: rfc822;alice@example.org
Original-Message-ID: <1@example.com>
Disposition: manual-action/MDN-sent-manually; displayed

----------mdn080601
Content-Type: text/rfc822-headers; name="MDNPart3.txt"
Content-Transfer-Encoding: 7bit
Content-Disposition: inline

From: Bob <bob@example.com>
To: alice@example.org
Subject: Lunch
Message-ID: <1@example.com>

----------mdn080601--
""")

OUTLOOK_MDN = crlf("""\
From: Alice <alice@example.org>
To: Bob <bob@example.com>
Subject: Read: Lunch
Date: Mon, 2 Mar 2026 11:00:00 +0100
Message-ID: <9f@example.org>
MIME-Version: 1.0
Content-Type: multipart/report; report-type=disposition-notification;
\tboundary="_000_9fEX1exampleorg_"

--_000_9fEX1exampleorg_
Content-Type: text/plain; charset="us-ascii"

Your message

   To: Alice
   Subject: Lunch
   Sent: Monday, March 2, 2026 10:00:00 AM

 was read on Monday, March 2, 2026 10:59:00 AM.

--_000_9fEX1exampleorg_
Content-Type: message/disposition-notification

Reporting-UA: example.org; Microsoft Outlook 16.0
Final-recipient: RFC822; alice@example.org
Disposition: automatic-action/MDN-sent-automatically; displayed
X-MSExch-Correlation-Key: 6jg3nYvVfUSpbkVuWxyz0A==
Original-Message-ID: <1@example.com>
X-Display-Name: Alice

--_000_9fEX1exampleorg_--
""")

FEEDBACK = crlf("""\
From: <abusedesk@example.org>
Date: Mon, 2 Mar 2026 11:00:00 +0100
Subject: FW: Earn money
To: <abuse@example.com>
Message-ID: <arf1@example.org>
MIME-Version: 1.0
Content-Type: multipart/report; report-type=feedback-report;
     boundary="part1_13d.2e68ed54_boundary"

--part1_13d.2e68ed54_boundary
Content-Type: text/plain; charset="US-ASCII"
Content-Transfer-Encoding: 7bit

This is an email abuse report for an email message received from IP
192.0.2.1 on Mon, 2 Mar 2026 10:00:00 +0000.

--part1_13d.2e68ed54_boundary
Content-Type: message/feedback-report

Feedback-Type: abuse
User-Agent: SomeGenerator/1.0
Version: 1
Original-Mail-From: <somespammer@example.net>
Original-Rcpt-To: <user@example.org>
Arrival-Date: Mon, 2 Mar 2026 10:00:00 +0000
Reporting-MTA: dns; mail.example.org
Source-IP: 192.0.2.1
Authentication-Results: mail.example.org;
               spf=fail smtp.mail=somespammer@example.com
Reported-Domain: example.net
Reported-Uri: http://example.net/earn_money.html
Reported-Uri: mailto:user@example.org

--part1_13d.2e68ed54_boundary
Content-Type: message/rfc822
Content-Disposition: inline

ORIGINAL
--part1_13d.2e68ed54_boundary--
""").replace(b"ORIGINAL\r\n", crlf(ORIGINAL))

TLS_REPORT = {
    "organization-name": "Google Inc.",
    "date-range": {"start-datetime": "2026-03-01T00:00:00Z", "end-datetime": "2026-03-01T23:59:59Z"},
    "contact-info": "smtp-tls-reporting@google.example",
    "report-id": "2026-03-01T00:00:00Z_example.com",
    "policies": [
        {
            "policy": {
                "policy-type": "sts",
                "policy-string": ["version: STSv1", "mode: testing", "mx: *.example.com", "max_age: 86400"],
                "policy-domain": "example.com",
                "mx-host": ["*.example.com"],
            },
            "summary": {"total-successful-session-count": 12, "total-failure-session-count": 1},
            "failure-details": [
                {
                    "result-type": "validation-failure",
                    "sending-mta-ip": "2001:db8::1",
                    "receiving-ip": "192.0.2.25",
                    "receiving-mx-hostname": "mx.example.com",
                    "failed-session-count": 1,
                    "failure-reason-code": "X509_V_ERR_UNHANDLED_CRITICAL_CRL_EXTENSION",
                }
            ],
        },
        {
            "policy": {
                "policy-type": "tlsa",
                "policy-string": ["3 0 1 " + "1F" * 32],
                "policy-domain": "example.com",
            },
            "summary": {"total-successful-session-count": 3, "total-failure-session-count": 0},
        },
    ],
}


def tls_report(report: object = TLS_REPORT, *, packed: bytes | None = None, kind: str = "gzip") -> bytes:
    """A report as Google sends it; with other JSON, or other octets in its place."""
    data = json.dumps(report).encode()
    packed = packed if packed is not None else (gzip.compress(data, mtime=0) if kind == "gzip" else data)
    return crlf(f"""\
From: noreply-smtp-tls-reporting@google.example
To: tlsrpt@example.com
Date: Mon, 02 Mar 2026 03:00:00 +0000
Subject: Report Domain: example.com Submitter: google.example Report-ID: <2026.03.01@google.example>
Message-ID: <tls1@google.example>
TLS-Report-Domain: example.com
TLS-Report-Submitter: google.example
MIME-Version: 1.0
Content-Type: multipart/report; boundary="000000000000abcd"; report-type=tlsrpt

--000000000000abcd
Content-Type: text/plain; charset="UTF-8"; format=flowed; delsp=yes

This is an aggregate TLS report from google.example

--000000000000abcd
Content-Type: application/tlsrpt+{kind};
\tname="google.example!example.com!1772323200!1772409599!001.json.gz"
Content-Disposition: attachment;
\tfilename="google.example!example.com!1772323200!1772409599!001.json.gz"
Content-Transfer-Encoding: base64

PACKED
--000000000000abcd--
""").replace(b"PACKED", encoded(packed).replace("\n", "\r\n").encode())


ICS = crlf("""\
BEGIN:VCALENDAR
PRODID:-//Google Inc//Google Calendar 70.9054//EN
VERSION:2.0
CALSCALE:GREGORIAN
METHOD:REQUEST
BEGIN:VTIMEZONE
TZID:Europe/Berlin
BEGIN:STANDARD
TZOFFSETFROM:+0200
TZOFFSETTO:+0100
TZNAME:CET
DTSTART:19701025T030000
RRULE:FREQ=YEARLY;BYMONTH=10;BYDAY=-1SU
END:STANDARD
END:VTIMEZONE
BEGIN:VEVENT
DTSTART;TZID=Europe/Berlin:20260310T120000
DTEND;TZID=Europe/Berlin:20260310T130000
DTSTAMP:20260302T100000Z
ORGANIZER;CN="Alice, the boss":mailto:alice@example.org
UID:abc@google.example
ATTENDEE;CUTYPE=INDIVIDUAL;ROLE=REQ-PARTICIPANT;PARTSTAT=NEEDS-ACTION;RSVP=
 TRUE;CN=bob@example.com;X-NUM-GUESTS=0:mailto:bob@example.com
X-MICROSOFT-CDO-OWNERAPPTID:1
CREATED:20260302T095900Z
DESCRIPTION:We talk about the garden\\, and about lunch.
LAST-MODIFIED:20260302T100000Z
LOCATION:Room 5
SEQUENCE:0
STATUS:CONFIRMED
SUMMARY:Garden party
TRANSP:OPAQUE
BEGIN:VALARM
ACTION:DISPLAY
DESCRIPTION:Reminder
TRIGGER:-PT15M
END:VALARM
END:VEVENT
END:VCALENDAR
""")
_CALENDAR_HEAD = """\
From: Alice <alice@example.org>
To: bob@example.com
Subject: Invitation: Garden party @ Tue Mar 10, 2026
Date: Mon, 2 Mar 2026 10:00:00 +0000
Message-ID: <cal1@example.org>
MIME-Version: 1.0
"""


def google_invitation(ics: bytes = ICS, file: bytes | None = None, *, method: str = "REQUEST") -> bytes:
    """Mixed: an alternative of text, HTML and calendar, and the calendar once more as a file."""
    return (
        crlf(f"""\
{_CALENDAR_HEAD}Content-Type: multipart/mixed; boundary="outer"

--outer
Content-Type: multipart/alternative; boundary="inner"

--inner
Content-Type: text/plain; charset="UTF-8"; format=flowed; delsp=yes
Content-Transfer-Encoding: quoted-printable

Garden party
Tuesday Mar 10, 2026 =E2=8B=85 12:00 =E2=80=93 13:00
Room 5

--inner
Content-Type: text/html; charset="UTF-8"
Content-Transfer-Encoding: quoted-printable

<html><head><style>p {{ color: red }}</style></head><body><p>Garden&nbsp;party</p></body></html>

--inner
Content-Type: text/calendar; charset="UTF-8"; method={method}
Content-Transfer-Encoding: 7bit

ICS
--inner--

--outer
Content-Type: application/ics; name="invite.ics"
Content-Disposition: attachment; filename="invite.ics"
Content-Transfer-Encoding: base64

FILE
--outer--
""")
        .replace(b"ICS\r\n", ics)
        .replace(b"FILE", encoded(file or ics).replace("\n", "\r\n").encode())
    )


def outlook_invitation(text: str = "We talk about the garden, and about lunch.", ics: bytes = ICS) -> bytes:
    """An alternative of a text, which is the description, and the calendar in base64."""
    return (
        crlf(f"""\
{_CALENDAR_HEAD}Content-Type: multipart/alternative;
\tboundary="_000_AM0PR"

--_000_AM0PR
Content-Type: text/plain; charset="us-ascii"

TEXT

--_000_AM0PR
Content-Type: text/calendar; charset="utf-8"; method=REQUEST
Content-Transfer-Encoding: base64

ICS
--_000_AM0PR--
""")
        .replace(b"TEXT", text.encode())
        .replace(b"ICS", encoded(ics).replace("\n", "\r\n").encode())
    )


def exchange_invitation(text: str, html: str, ics: bytes) -> bytes:
    """As Outlook sends through Exchange: text, HTML, both in quoted-printable, and calendar."""
    delimiter = b"\r\n--_000_AM0PR\r\nContent-Type: text/calendar"
    content = outlook_invitation(encoded_words(text), ics).replace(
        b'charset="us-ascii"\r\n', b'charset="us-ascii"\r\nContent-Transfer-Encoding: quoted-printable\r\n'
    )
    head = 'Content-Type: text/html; charset="us-ascii"\r\nContent-Transfer-Encoding: quoted-printable'
    more = f"\r\n--_000_AM0PR\r\n{head}\r\n\r\n{encoded_words(html)}\r\n"
    return content.replace(delimiter, more.encode() + delimiter)


def encoded_words(text: str) -> str:
    """A text in quoted-printable, with CRLF."""
    return quopri.encodestring(text.encode()).decode().replace("\n", "\r\n")


def nextcloud_invitation(ics: bytes = ICS, *, text: str = "Alice invited you to Garden party") -> bytes:
    """Mixed: an alternative of text and HTML, and the calendar object as an attachment."""
    return crlf(f"""\
{_CALENDAR_HEAD}Content-Type: multipart/mixed; boundary=outer

--outer
Content-Type: multipart/alternative; boundary=inner

--inner
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: quoted-printable

{text}
--inner
Content-Type: text/html; charset=utf-8
Content-Transfer-Encoding: quoted-printable

<p>Alice invited you to Garden party</p>
--inner--

--outer
Content-Type: text/calendar; name=event.ics; method=REQUEST
Content-Transfer-Encoding: base64
Content-Disposition: attachment; name=event.ics; filename=event.ics

ICS
--outer--
""").replace(b"ICS\r\n--", encoded(ics).replace("\n", "\r\n").encode() + b"\r\n--")


def bare_calendar(ics: bytes = ICS, *, method: str = "REQUEST") -> bytes:
    """The calendar object as the whole message."""
    head = _CALENDAR_HEAD + f"Content-Type: text/calendar; method={method}; charset=UTF-8\n\n"
    return crlf(head) + ics


CRON = crlf("""\
From: "(Cron Daemon)" <root@host.example.org>
To: root@example.org
Subject: Cron <root@host> /usr/local/bin/backup
Date: Mon, 2 Mar 2026 03:00:01 +0000
Message-ID: <cron1@host.example.org>
MIME-Version: 1.0
Content-Type: text/plain; charset=UTF-8
Content-Transfer-Encoding: 8bit
Auto-Submitted: auto-generated

backup: 3 files skipped
""")

LIST = crlf("""\
From: Carol <carol@example.net>
To: garden@lists.example.org
Subject: [garden] Roses
Date: Mon, 2 Mar 2026 10:00:00 +0000
Message-ID: <list1@example.net>
MIME-Version: 1.0
Content-Type: text/plain; charset=UTF-8
Precedence: list
List-Id: Friends of the garden <garden.lists.example.org>
List-Unsubscribe: <mailto:garden-leave@lists.example.org>
List-Post: <mailto:garden@lists.example.org>
List-Help: <mailto:garden-request@lists.example.org?subject=help>

Which roses?
""")
LIST_SENDER = parse_mailbox("garden-bounces@lists.example.org")
