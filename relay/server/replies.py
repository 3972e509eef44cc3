"""Every reply of the edge that is not a refusal, and what EHLO offers.

Refusals are in `relay/server/refusals.py` and `relay/errors.py`.

Offering ENHANCEDSTATUSCODES binds every reply but the greeting and EHLO to carry a status (RFC 2034 §4).
"""

from __future__ import annotations

from relay.message import Offers, Reply

_GROWTH = 1.376
"""Armour: 48 octets become a line of 64 characters and CR LF (1.375); the rest is for the
lengths of packets. The 1.37 of S-29 is too little: it counts line ends without CR."""

_OVERHEAD_OCTETS = 131_072
"""Outer header, MIME frame, and the packets with the session key: those for 100 RSA 4096 keys need 72 KB."""

STARTTLS = Reply(220, "0.0", "Ready to start TLS")
BYE = Reply(221, "0.0", "Bye")
LOGGED_IN = Reply(235, "7.0", "Authentication successful")
OK = Reply(250, "0.0", "OK")
SENDER_OK = Reply(250, "1.0", "Sender OK")
RECIPIENT_OK = Reply(250, "1.5", "Recipient OK")
HELP = Reply(214, "0.0", "EHLO HELO STARTTLS AUTH MAIL RCPT DATA RSET NOOP QUIT")
NOT_VERIFIED = Reply(252, "5.0", "Addresses are not verified here; send the message and see")
GO_AHEAD = Reply(354, "", "End data with <CR><LF>.<CR><LF>")


def greeting(hostname: str) -> Reply:
    """The first line of a connection."""
    return Reply(220, "", f"{hostname} ESMTP")


def helo(hostname: str) -> Reply:
    """The answer to HELO."""
    return Reply(250, "", hostname)


def ehlo(hostname: str, offers: list[str]) -> Reply:
    """The answer to EHLO."""
    *lines, last = [hostname, *offers]
    return Reply(250, "", last, tuple(lines))


def offered(max_bytes: int, *, smtputf8: bool, starttls: bool, auth: tuple[str, ...]) -> list[str]:
    """The keywords of EHLO. What is missing here is missing on purpose.

    DSN needs a next hop that keeps NOTIFY and ORCPT (RFC 3461 §5.2), CHUNKING a reader of BDAT, REQUIRETLS
    a next hop that enforces it (RFC 8689 §4), FUTURERELEASE and DELIVERBY a queue; VRFY and ETRN would tell
    strangers about addresses (RFC 5321 §7.3).
    """
    keywords = ["PIPELINING", f"SIZE {max_bytes}", "8BITMIME", "ENHANCEDSTATUSCODES"]
    keywords += ["SMTPUTF8"] if smtputf8 else []
    keywords += ["STARTTLS"] if starttls else []
    keywords += ["AUTH " + " ".join(auth)] if auth else []
    return keywords


def max_bytes(own_limit: int, offers: Offers) -> int:
    """The largest message to take: what the next hop takes, less what encryption adds (RFC 1870 §4).

    A next hop that says `SIZE 0` or no number has no fixed limit, so we never say `SIZE 0` ourselves.
    """
    if not offers.size_bytes:
        return own_limit
    return min(own_limit, max(1, int((offers.size_bytes - _OVERHEAD_OCTETS) / _GROWTH)))


def challenge(text: bytes) -> bytes:
    """A challenge of an AUTH exchange; the blank stands even before an empty one (RFC 4954 §4)."""
    return b"334 " + text + b"\r\n"


def accepted(id: str) -> Reply:
    """The final reply: from here on the message is ours."""
    return Reply(250, "0.0", f"Message accepted (id {id})")
