"""What a reply of the next hop means for the client: the rules of RFC 5321 §4.2 and RFC 4954 §6. Pure.

Only a reply that judges this message (its sender, a recipient, its content) reaches the client with its
class. Everything else is a `HopFailure`, which the client reads as 451.
"""

from __future__ import annotations

import re
from enum import StrEnum

from relay.errors import LoginRefused, NextHopRefused, NextHopUnavailable

_MAX_DETAIL_CHARS = 500
_ENHANCED = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})(?=\s|$)")

_ABOUT_THE_CONNECTION = frozenset({421, 503, 530, 538})
"""Closing, out of sequence, login or encryption required: they judge the relay, not the message."""


class Reason(StrEnum):
    """Why the next hop is unavailable, for the journal."""

    UNREACHABLE = "unreachable"
    LOST = "lost"
    """The connection ended before any content was sent: the step may be tried on another connection."""
    INTERRUPTED = "interrupted"
    """The connection ended within the content, before the final dot: nothing was taken."""
    TIMEOUT = "timeout"
    TLS = "tls"
    REFUSED = "refused"
    """It answered 4xx or 5xx where no message was judged."""
    PROTOCOL = "protocol"
    """It answered something that makes no sense there."""
    LOGIN = "login"
    """It refused the login or offers no usable mechanism."""
    BUSY = "busy"
    """All connections are in use."""


class HopFailure(NextHopUnavailable):
    """The next hop cannot take mail just now, and why."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


def require_success(code: int, text: str, what: str) -> None:
    """Returns for a 2xx reply to MAIL, RCPT, DATA or the final dot.

    Args:
        code: as read from the wire, so any number.
        text: of all lines; goes to the log only.
        what: `the sender`, `the recipient` or `the message`.

    Raises:
        NextHopRefused: a 4xx or 5xx that judges this message.
        HopFailure: any other reply.
    """
    if 200 <= code <= 299:
        return
    detail = f"{code} {printable(text)}"
    if code in _ABOUT_THE_CONNECTION:
        raise HopFailure(Reason.REFUSED, detail)
    if not 400 <= code <= 599:
        raise HopFailure(Reason.PROTOCOL, detail)
    raise NextHopRefused(code, enhanced_of(code, text), what, detail)


def require_recipient(code: int, text: str) -> None:
    """As `require_success`, for RCPT, where 552 means too many recipients: temporary (RFC 5321 §4.5.3.1.10).

    Its enhanced status is kept if there is one (552 5.2.2 becomes 452 4.2.2), else it is 4.5.3.
    """
    if code != 552:
        require_success(code, text, "the recipient")
        return
    status = enhanced_of(code, text).partition(".")[2] or "5.3"
    raise NextHopRefused(452, f"4.{status}", "the recipient", f"552 {printable(text)}")


def require_login(code: int, text: str) -> None:
    """Returns for a 2xx reply to AUTH.

    535 judges the user name and password, and so does any 5xx with the status 5.7.8 (RFC 4954 §6). 534 asks
    for another mechanism, 530 and 538 for encryption, 500, 501, 503 and 504 are about the command, 432 and
    454 are temporary: none of them says that the password is wrong. The text is left out of the details,
    because a server may quote the line that it did not understand, which holds the password.

    Raises:
        LoginRefused: the user name or the password is wrong.
        HopFailure: any other reply; with `Reason.LOGIN` for 5xx.
    """
    if 200 <= code <= 299:
        return
    detail = f"AUTH: {code} {enhanced_of(code, text)}".rstrip()
    if code == 535 or (500 <= code <= 599 and enhanced_of(code, text) == "5.7.8"):
        raise LoginRefused(detail)
    if 500 <= code <= 599:
        raise HopFailure(Reason.LOGIN, detail)
    raise HopFailure(Reason.REFUSED if 400 <= code <= 499 else Reason.PROTOCOL, detail)


def enhanced_of(code: int, text: str) -> str:
    """The enhanced status at the start of a reply, or an empty string if its class is not the code's."""
    match = _ENHANCED.match(text)
    if match is None or int(match[1]) != code // 100:
        return ""
    return f"{match[1]}.{int(match[2])}.{int(match[3])}"


def printable(text: str) -> str:
    """Text of another host for our log: one line of bounded length, ASCII, no control characters."""
    kept = "".join(char if char.isprintable() else " " for char in text[:_MAX_DETAIL_CHARS])
    return kept.encode("ascii", "backslashreplace").decode("ascii")
