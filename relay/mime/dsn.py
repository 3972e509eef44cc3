"""Writes the report for recipients that failed after others had the message (RFC 3464, RFC 6522).

It says only what the sender already knows: the failed addresses, our own sentences, and a few outer header
fields. No Subject, no content, no words of other servers (RFC 3461 §4.3, §6.2).
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import NamedTuple

from relay.message import Address, Released
from relay.mime import headers
from relay.mime.pgpmime import new_boundary

_QUOTED_BACK = frozenset({"from", "to", "cc", "date", "message-id"})
_RULE = "relay.dsn"


class Failed(NamedTuple):
    """One recipient that did not get the message."""

    recipient: Address
    code: int
    """The reply code, 400 to 599."""
    enhanced: str
    """`5.1.1`, or empty where there was none."""


def failure(
    *,
    sender: Address,
    failed: Iterable[tuple[Address, int, str]],
    outer_header: bytes,
    hostname: str,
    id: str,
    date: str,
    message_id: str,
) -> Released:
    """A multipart/report to the sender; its envelope sender has to be the null sender (RFC 3461 §6.1).

    Args:
        sender: the envelope sender; there is no report for a message from the null sender.
        failed: all in one report, as `Failed` describes them.
        outer_header: of a copy that was to leave; only an allow-list of its fields is quoted.
        hostname: of the relay.
        id: log id of the transaction.
        date: as RFC 5322 §3.3 writes it.
        message_id: of the report, with its angle brackets.
    """
    boundary = new_boundary()
    recipients = tuple(Failed(*one) for one in failed)
    parts = [_text(recipients, id), _status(recipients, hostname), _returned(outer_header)]
    line = f"--{boundary}".encode("ascii")
    header = _header(sender, hostname, date, message_id, boundary)
    return Released(
        header=header,
        body=b"".join(line + b"\r\n" + part + b"\r\n" for part in parts) + line + b"--\r\n",
        recipients=(sender,),
        rule=_RULE,
        smtputf8=not header.isascii(),
    )


def _header(sender: Address, hostname: str, date: str, message_id: str, boundary: str) -> bytes:
    return _lines(
        f"From: Mail Delivery System <MAILER-DAEMON@{hostname}>",
        f"To: <{_printable(str(sender))}>",
        "Subject: Some recipients did not get your message",
        f"Date: {date}",
        f"Message-ID: {message_id}",
        "Auto-Submitted: auto-replied",  # RFC 3834 §5
        "MIME-Version: 1.0",
        "Content-Type: multipart/report; report-type=delivery-status;",
        f'\tboundary="{boundary}"',
    )


def _text(failed: tuple[Failed, ...], id: str) -> bytes:
    """The part for people."""
    names = [f"  <{_printable(str(one.recipient))}>: {_sentence(one)}" for one in failed]
    text = _lines(
        "Your message was delivered to some of its recipients, but not to these:",
        "",
        *names,
        "",
        "Do not send it again to all: the others have it. Check the addresses above and send it to",
        "these alone, or give the administrator of your mail relay this id:",
        "",
        f"  {_printable(id)}",
    )
    if text.isascii():
        return _lines("Content-Type: text/plain; charset=us-ascii", "", text.decode("ascii").rstrip("\r\n"))
    encoded = base64.encodebytes(text).decode("ascii").rstrip("\n").split("\n")
    return _lines(
        "Content-Type: text/plain; charset=utf-8", "Content-Transfer-Encoding: base64", "", *encoded
    )


def _sentence(failed: Failed) -> str:
    """Our own words for a reply; those of the next mail server stay in the log."""
    if failed.enhanced == "4.4.2":
        return f"the next mail server did not confirm it, it may have arrived ({failed.code} 4.4.2)"
    if failed.code < 500:
        return f"the next mail server could not take it in time ({failed.code} {_enhanced(failed)})"
    return f"the next mail server refused it ({failed.code} {_enhanced(failed)})"


def _status(failed: tuple[Failed, ...], hostname: str) -> bytes:
    """The part for programs (RFC 3464 §2)."""
    groups = [
        _lines(
            "",
            f"Final-Recipient: {_typed(one.recipient)}",
            "Action: failed",
            f"Status: {_enhanced(one)}",
            f"Diagnostic-Code: smtp; {one.code} {_enhanced(one)} {_sentence(one).partition(' (')[0]}",
        )
        for one in failed
    ]
    head = _lines("Content-Type: message/delivery-status", "", f"Reporting-MTA: dns; {hostname}")
    return head + b"".join(groups)


def _returned(outer_header: bytes) -> bytes:
    """The fields by which the sender recognises the message (RFC 6522 §4)."""
    # text/rfc822-headers is 7-bit; a field that is not is left out rather than rewritten.
    fields = [
        field.raw
        for field in headers.parse(outer_header).fields
        if field.name in _QUOTED_BACK and field.raw.isascii()
    ]
    return _lines("Content-Type: text/rfc822-headers", "") + b"".join(fields)


def _enhanced(failed: Failed) -> str:
    return failed.enhanced or f"{failed.code // 100}.0.0"


def _typed(address: Address) -> str:
    """The address with its type; beyond ASCII escaped, so that the report stays 7-bit (RFC 6533 §3)."""
    text = _printable(str(address))
    if address.is_ascii:
        return f"rfc822; {text}"
    escaped = "".join(char if _stands_for_itself(char) else f"\\x{{{ord(char):X}}}" for char in text)
    return f"utf-8; {escaped}"


def _stands_for_itself(char: str) -> bool:
    return "!" <= char <= "~" and char not in "\\+="


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)


def _lines(*lines: str) -> bytes:
    return "".join(f"{line}\r\n" for line in lines).encode()
